//! [`KnownLeases`]: what a server knows of the leases of commits, in memory.
//!
//! What is known may be wrong: another server may have taken the lease meanwhile. Then a commit goes to a server that does not take
//! it, or competes with others; neither changes its outcome.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker_state::{CommitLease, LEASE_TIME};
use esker_types::TableId;
use tokio::time::Instant;
use uuid::Uuid;

/// The time for which nothing is sent to a server that did not answer.
const SILENT_TIME: Duration = Duration::from_secs(30);

/// The time within which a second lost swap of a table shows that servers compete for it.
///
/// Two losses in a row would show less: of two servers, the one that lost is ahead of the other the next time, so they lose by turns.
const LOSS_TIME: Duration = Duration::from_secs(10);

/// The number of leases, or of lost swaps, from which on those that have ended are forgotten.
const MAX_IDLE: usize = 1024;

/// The commits that this server sent to others and got from them, since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForwardCounts {
    /// Commits that another server made for this one.
    pub committed: u64,
    /// Commits that another server refused.
    pub refused: u64,
    /// Commits that another server did not take or did not answer, so that this one found out and made them.
    pub unanswered: u64,
    /// Commits of other servers that this one took.
    pub received: u64,
}

/// A lease as it was learnt, with the time from which on it does not count.
#[derive(Debug)]
struct KnownLease {
    lease: CommitLease,
    until: Instant,
}

/// What is known, under one lock.
#[derive(Debug, Default)]
struct Known {
    leases: HashMap<TableId, KnownLease>,
    /// Servers that did not answer, with the time from which on something is sent to them again.
    silent: HashMap<Uuid, Instant>,
    /// Tables of which a swap was lost, with the time until which a second loss counts.
    losses: HashMap<TableId, Instant>,
    counts: ForwardCounts,
}

/// The leases that a server knows of, and the servers that it does not reach.
#[derive(Debug, Default)]
pub(crate) struct KnownLeases(Mutex<Known>);

impl KnownLeases {
    /// Locks what is known.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the lease of a table, which was learnt or used just now.
    pub(super) fn note(&self, lease: CommitLease, now: Instant) {
        let mut known = self.known();
        if known.leases.len() >= MAX_IDLE {
            known.leases.retain(|_, known| known.until > now);
        }
        known.leases.insert(lease.table, KnownLease { lease, until: now + LEASE_TIME });
    }

    /// Forgets the lease of a table: it is not what it was.
    pub(crate) fn forget(&self, table: TableId) {
        self.known().leases.remove(&table);
    }

    /// Notes that a server did not answer. Nothing is sent to it for [`SILENT_TIME`].
    pub(super) fn note_silent(&self, server: Uuid, now: Instant) {
        let mut known = self.known();
        known.silent.retain(|_, until| *until > now);
        known.silent.insert(server, now + SILENT_TIME);
    }

    /// Notes that this server lost a swap of a table. Returns whether it is the second one within [`LOSS_TIME`].
    pub(super) fn note_loss(&self, table: TableId, now: Instant) -> bool {
        let mut known = self.known();
        if known.losses.len() >= MAX_IDLE {
            known.losses.retain(|_, until| *until > now);
        }
        known.losses.insert(table, now + LOSS_TIME).is_some_and(|until| until > now)
    }

    /// Checks whether a lease of a table is known that has not ended, whoever holds it.
    pub(super) fn knows(&self, table: TableId, now: Instant) -> bool {
        self.known().leases.get(&table).is_some_and(|known| known.until > now)
    }

    /// Returns the lease of a table that another server than `own` holds, if something may be sent to that one.
    pub(super) fn of_another(&self, table: TableId, own: Uuid, now: Instant) -> Option<CommitLease> {
        let known = self.known();
        let lease = &known.leases.get(&table).filter(|known| known.until > now)?.lease;
        let is_silent = known.silent.get(&lease.server).is_some_and(|until| *until > now);
        (lease.server != own && !is_silent).then(|| lease.clone())
    }

    /// Counts a commit.
    pub(super) fn count(&self, add: impl FnOnce(&mut ForwardCounts)) {
        add(&mut self.known().counts);
    }

    /// Returns the numbers of commits since the start.
    pub(super) fn counts(&self) -> ForwardCounts {
        self.known().counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(server: Uuid) -> CommitLease {
        CommitLease { table: TableId::fresh(), server, address: "there:8182".to_owned(), term: 1 }
    }

    #[test]
    fn a_lease_of_another_server_is_used_until_it_ends_and_while_that_one_answers() {
        let (leases, own, other, now) = (KnownLeases::default(), Uuid::from_u128(1), Uuid::from_u128(2), Instant::now());
        let (theirs, ours) = (lease(other), lease(own));
        let to = |now| leases.of_another(theirs.table, own, now);
        assert!(!leases.knows(theirs.table, now));
        leases.note(theirs.clone(), now);
        leases.note(ours.clone(), now);
        assert_eq!(to(now), Some(theirs.clone()));
        assert!(leases.knows(ours.table, now) && leases.of_another(ours.table, own, now).is_none(), "its own");
        assert!(leases.knows(theirs.table, now) && !leases.knows(theirs.table, now + LEASE_TIME), "it ends");
        assert_eq!(to(now + LEASE_TIME), None);

        leases.note_silent(other, now);
        assert!(leases.knows(theirs.table, now) && to(now).is_none(), "it did not answer");
        let later = now + SILENT_TIME;
        leases.note(theirs.clone(), later);
        assert_eq!(to(later), Some(theirs.clone()), "it is tried again");
        leases.forget(theirs.table);
        assert!(!leases.knows(theirs.table, later));
    }

    #[test]
    fn a_second_loss_of_a_table_counts_for_a_time() {
        let (leases, table, now) = (KnownLeases::default(), TableId::fresh(), Instant::now());
        assert!(!leases.note_loss(table, now), "the first");
        assert!(!leases.note_loss(TableId::fresh(), now), "of another table");
        let second = now + LOSS_TIME / 2;
        assert!(leases.note_loss(table, second));
        assert!(!leases.note_loss(table, second + LOSS_TIME), "the first again");
    }

    #[test]
    fn leases_and_losses_that_have_ended_are_forgotten() {
        let (leases, now) = (KnownLeases::default(), Instant::now());
        assert!((0..MAX_IDLE).all(|_| !leases.note_loss(TableId::fresh(), now)));
        leases.note_loss(TableId::fresh(), now + LOSS_TIME);
        assert_eq!(leases.known().losses.len(), 1);
        (0..MAX_IDLE).for_each(|_| leases.note(lease(Uuid::nil()), now));
        leases.note(lease(Uuid::nil()), now + LEASE_TIME);
        assert_eq!(leases.known().leases.len(), 1);
    }
}
