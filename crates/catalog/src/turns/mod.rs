//! Turns: a client whose commit was late is next, so that nobody starves.
//!
//! A commit is late if the table moved after its client loaded it. Such a commit is refused with 409, and its client loads the
//! table, computes the commit again and sends it. Where many clients commit to one table, most are late again. So the answer to a
//! late commit is held back until its client's turn comes, in the order of arrival. While the client loads and computes, other
//! commits that add snapshots wait, for a short and bounded time. The client checks everything itself as ever, so no result
//! changes. No load waits.
//!
//! Turns are of one server and in memory. A commit that goes to another server takes turns there (`forward/mod.rs`). The pointer
//! swap alone decides which commit wins. Reasons and figures are in `docs/decisions/0077-late-commits-take-turns.md`. Start reading
//! at [`CommitTurns::admit`] and [`Pass::late`]; the rules of one table are in `table_turns.rs`.

#[cfg(test)]
mod model;
mod table_turns;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker_types::{Principal, TableId};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, timeout_at};

pub(crate) use table_turns::Writer;

use table_turns::{Admission, TableTurns};

/// The number of tables from which on those without turns are forgotten. A turn whose client is gone is noticed by others only.
const MAX_IDLE_TABLES: usize = 1024;

/// The settings of the turns at tables.
#[derive(Debug, Clone, Copy)]
pub struct TurnOptions {
    /// Maximum time from the answer 409 to the client's next commit. During it, other commits may wait. Zero: there are no turns.
    pub turn: Duration,
    /// Maximum time from the answer 409 to the client's next load. Then the turn is over.
    pub return_within: Duration,
    /// Maximum time that a refused commit waits for its turn, and that another commit waits for the turns of others.
    pub wait: Duration,
    /// Maximum number of refused commits that wait at one table. More are answered at once, without a turn. Twice as many commits
    /// wait for turns in all; more go on at once.
    pub waiters: usize,
}

/// The number of turns since the start of the server, by their ends, and of those who wait now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TurnCounts {
    /// Turns in which the client committed, or was refused for another reason than being late.
    pub used: u64,
    /// Turns in which the client's commit was late all the same, because another server or a running commit was first.
    pub late: u64,
    /// Turns whose client did not come back in time.
    pub expired: u64,
    /// Refused commits that were answered without a turn: too many waited, or for too long.
    pub without: u64,
    /// Seconds that refused commits have waited for their turns.
    pub wait_seconds: f64,
    /// Refused commits that wait now.
    pub waiting: usize,
}

/// The turns at one table, with the signal that they changed.
#[derive(Debug, Default)]
struct Entry {
    turns: TableTurns,
    changed: Arc<Notify>,
}

impl Entry {
    /// Checks whether so many commits wait that others go on at once. The commit queues bound those.
    fn is_crowded(&self, options: &TurnOptions) -> bool {
        // Whoever waits owns the signal as well.
        Arc::strong_count(&self.changed) > options.waiters.saturating_mul(2)
    }
}

/// The turns at all tables.
#[derive(Debug, Default)]
struct Tables {
    /// Tables at which somebody has a turn or waits for one.
    by_id: HashMap<TableId, Entry>,
    counts: TurnCounts,
    /// `true` once the server stops: then nobody waits any more.
    is_closed: bool,
}

/// The turns at the tables of a warehouse, on this server.
#[derive(Debug)]
pub(crate) struct CommitTurns {
    options: TurnOptions,
    tables: Mutex<Tables>,
    /// Number of commits that have arrived. It orders those that wait.
    arrivals: AtomicU64,
}

impl CommitTurns {
    /// Makes the turns of a warehouse, at which nobody waits yet.
    pub(crate) fn new(options: TurnOptions) -> Self {
        Self { options, tables: Mutex::default(), arrivals: AtomicU64::new(0) }
    }

    /// Locks the turns at all tables.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks whether there are turns at all.
    fn is_off(&self) -> bool {
        self.options.turn.is_zero()
    }

    /// Returns the number of a commit that arrives now.
    fn next_arrival(&self) -> u64 {
        self.arrivals.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets a commit go on once no other client computes its commit again.
    ///
    /// `writer` is `None` for a change that is computed at the commit point. It can't be late, and waits for the time of one turn
    /// at most.
    pub(crate) async fn admit(&self, table: TableId, writer: Option<Writer>) -> Pass<'_> {
        let wait = if writer.is_some() { self.options.wait } else { self.options.turn };
        let gives_up = Instant::now() + wait;
        let mut pass = Pass { turns: self, table, arrival: self.next_arrival(), writer, holds_turn: false };
        loop {
            let now = Instant::now();
            let next = self.tables().at(table, now, &self.options, |entry| {
                let admission = match entry.turns.admit(pass.writer.as_ref(), now, &self.options) {
                    Admission::Waits(_) if entry.is_crowded(&self.options) => Admission::Passes,
                    admission => admission,
                };
                (admission, entry.changed.clone().notified_owned())
            });
            match next {
                Some((Admission::Waits(until), changed)) if now < gives_up => wait_for(changed, until.min(gives_up)).await,
                Some((Admission::HoldsTurn, _)) => {
                    pass.holds_turn = true;
                    return pass;
                }
                _ => return pass,
            }
        }
    }

    /// Notes that a principal loads a table, as a client does when its turn has come. Nobody waits here.
    pub(crate) fn note_load(&self, table: TableId, principal: &Principal) {
        let is_principal = |name: &str| principal.to_string() == name;
        self.tables().at(table, Instant::now(), &self.options, |entry| entry.turns.note_load(is_principal));
    }

    /// Answers everybody who waits, now and from now on: the server stops.
    pub(crate) fn close(&self) {
        let mut tables = self.tables();
        tables.is_closed = true;
        for entry in tables.by_id.values() {
            entry.changed.notify_waiters();
        }
    }

    /// Counts the turns since the start, and those who wait now.
    pub(crate) fn counts(&self) -> TurnCounts {
        let tables = self.tables();
        let waiting = tables.by_id.values().map(|entry| entry.turns.waiting()).sum();
        TurnCounts { waiting, ..tables.counts }
    }

    /// Ends the turn of a writer whose commit has ended, and tells those who wait.
    fn end(&self, table: TableId, writer: &Writer) {
        self.tables().at(table, Instant::now(), &self.options, |entry| {
            entry.turns.end(writer);
            entry.changed.notify_waiters();
        });
    }

    /// Lets a refused commit wait for its turn. Returns `None` if it is to be answered now.
    fn enter(&self, pass: &mut Pass<'_>) -> Option<Place<'_>> {
        let (writer, now, had_turn) = (pass.writer.clone()?, Instant::now(), std::mem::take(&mut pass.holds_turn));
        let mut tables = self.tables();
        if had_turn {
            tables.counts.late += 1;
            let options = &self.options;
            let again = tables.at(pass.table, now, options, |entry| {
                let again = entry.turns.repeat(&writer, now);
                if !again {
                    entry.turns.end(&writer);
                }
                entry.changed.notify_waiters();
                again
            });
            if again == Some(true) {
                return None;
            }
            // It had two turns, so it is behind all others now.
            pass.arrival = self.next_arrival();
        }
        if tables.is_closed {
            return None;
        }
        tables.forget_idle(now, &self.options);
        let Tables { by_id, counts, .. } = &mut *tables;
        if !by_id.entry(pass.table).or_default().turns.wait(pass.arrival, writer, &self.options) {
            counts.without += 1;
            return None;
        }
        Some(Place { turns: self, table: pass.table, arrival: pass.arrival, since: now })
    }
}

impl Tables {
    /// Runs a function on the turns at a table, if there are any and the server does not stop.
    ///
    /// A turn whose time is over is ended first.
    fn at<T>(&mut self, table: TableId, now: Instant, options: &TurnOptions, run: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        if self.is_closed {
            return None;
        }
        let entry = self.by_id.get_mut(&table)?;
        self.counts.expired += u64::from(expire(table, entry, now, options));
        let result = run(entry);
        if entry.turns.is_idle() {
            self.by_id.remove(&table);
        }
        Some(result)
    }

    /// Forgets the tables at which nobody has a turn, if there are many.
    fn forget_idle(&mut self, now: Instant, options: &TurnOptions) {
        let Self { by_id, counts, .. } = self;
        if by_id.len() >= MAX_IDLE_TABLES {
            by_id.retain(|table, entry| {
                counts.expired += u64::from(expire(*table, entry, now, options));
                !entry.turns.is_idle()
            });
        }
    }
}

/// Ends the turn at a table if its time is over, and tells those who wait. Returns whether it was.
fn expire(table: TableId, entry: &mut Entry, now: Instant, options: &TurnOptions) -> bool {
    let Some(writer) = entry.turns.expire(now, options) else { return false };
    let Writer { principal, snapshot } = writer;
    tracing::info!(table_id = %table, principal, snapshot_id = snapshot, "a client did not commit again in its turn");
    entry.changed.notify_waiters();
    true
}

/// Waits until the turns change, or until a time.
async fn wait_for(changed: OwnedNotified, until: Instant) {
    // Whoever waits looks again in either case.
    drop(timeout_at(until, changed).await);
}

/// The permission of a commit to go on. If it is that of the client whose turn it is, the turn ends with it.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    turns: &'a CommitTurns,
    table: TableId,
    /// Number of the commit's arrival.
    arrival: u64,
    /// Writer of the commit; `None` for a change that is computed at the commit point.
    writer: Option<Writer>,
    holds_turn: bool,
}

impl Pass<'_> {
    /// Waits until it is the turn of a client whose commit was refused as late. The client is then told of the refusal.
    pub(crate) async fn late(mut self) {
        let turns = self.turns;
        if turns.is_off() {
            return;
        }
        if let Some(place) = turns.enter(&mut self) {
            place.wait().await;
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.holds_turn
            && let Some(writer) = &self.writer
        {
            self.turns.end(self.table, writer);
            self.turns.tables().counts.used += 1;
        }
    }
}

/// The place of a refused commit among those that wait. It is given up if the client goes away.
struct Place<'a> {
    turns: &'a CommitTurns,
    table: TableId,
    arrival: u64,
    since: Instant,
}

impl Place<'_> {
    /// Waits for the turn, for at most [`TurnOptions::wait`].
    async fn wait(self) {
        let options = &self.turns.options;
        let gives_up = self.since + options.wait;
        loop {
            let now = Instant::now();
            let next = self.turns.tables().at(self.table, now, options, |entry| {
                let Some(until) = entry.turns.poll(self.arrival, now, options) else {
                    // The others learn when this turn ends by itself.
                    entry.changed.notify_waiters();
                    return None;
                };
                Some((entry.changed.clone().notified_owned(), until))
            });
            match next {
                Some(Some((changed, until))) if now < gives_up => wait_for(changed, until.min(gives_up)).await,
                Some(Some(_)) => {
                    self.turns.tables().counts.without += 1;
                    return;
                }
                // The turn has come, or the server stops.
                Some(None) | None => return,
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut tables = self.turns.tables();
        tables.counts.wait_seconds += (now - self.since).as_secs_f64();
        tables.at(self.table, now, &self.turns.options, |entry| {
            if entry.turns.leave(self.arrival) {
                entry.changed.notify_waiters();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    /// Times that no test waits for.
    const NEVER: Duration = Duration::from_secs(3600);

    fn turns() -> CommitTurns {
        CommitTurns::new(TurnOptions { turn: NEVER, return_within: NEVER, wait: NEVER, waiters: 2 })
    }

    fn writer(snapshot: i64) -> Option<Writer> {
        Some(Writer { principal: "etl".to_owned(), snapshot })
    }

    #[tokio::test]
    async fn a_refused_client_is_answered_when_the_one_before_it_has_committed() {
        let (turns, table) = (turns(), TableId::fresh());
        turns.admit(table, writer(1)).await.late().await;
        let mut second = pin!(turns.admit(table, writer(2)).await.late());
        assert!(poll!(second.as_mut()).is_pending());
        turns.note_load(table, &Principal::Token("etl".to_owned()));
        let mut stranger = pin!(turns.admit(table, writer(3)));
        assert!(poll!(stranger.as_mut()).is_pending(), "the first client computes its commit again");
        let first = turns.admit(table, writer(1)).await;
        assert!(poll!(second.as_mut()).is_pending() && poll!(stranger.as_mut()).is_pending());
        drop(first);
        second.await;
        drop(stranger.await);
        let counts = turns.counts();
        assert_eq!((counts.used, counts.late, counts.expired, counts.without, counts.waiting), (1, 0, 0, 0, 0));
    }

    #[tokio::test]
    async fn who_waits_for_a_table_holds_up_no_other_table_and_no_load() {
        let (turns, table) = (turns(), TableId::fresh());
        turns.admit(table, writer(1)).await.late().await;
        let mut second = pin!(turns.admit(table, writer(2)).await.late());
        assert!(poll!(second.as_mut()).is_pending());
        let other = TableId::fresh();
        turns.admit(other, writer(3)).await.late().await;
        drop(turns.admit(other, writer(3)).await);
        turns.admit(other, writer(4)).await.late().await;
        assert!(poll!(second.as_mut()).is_pending());
    }

    #[tokio::test]
    async fn everybody_is_answered_when_the_server_stops() {
        let (turns, table) = (turns(), TableId::fresh());
        turns.admit(table, writer(1)).await.late().await;
        let mut second = pin!(turns.admit(table, writer(2)).await.late());
        assert!(poll!(second.as_mut()).is_pending());
        turns.note_load(table, &Principal::Token("etl".to_owned()));
        let mut third = pin!(turns.admit(table, writer(3)));
        assert!(poll!(third.as_mut()).is_pending());
        turns.close();
        second.await;
        third.await.late().await;
    }

    #[tokio::test]
    async fn a_client_that_goes_away_gives_up_its_place_and_a_full_table_holds_nobody_back() {
        let (turns, table) = (turns(), TableId::fresh());
        turns.admit(table, writer(1)).await.late().await;
        let mut second = Box::pin(turns.admit(table, writer(2)).await.late());
        let mut third = Box::pin(turns.admit(table, writer(3)).await.late());
        assert!(poll!(second.as_mut()).is_pending() && poll!(third.as_mut()).is_pending());
        turns.admit(table, writer(4)).await.late().await;
        assert_eq!((turns.counts().without, turns.counts().waiting), (1, 2));
        drop(second);
        assert_eq!(turns.counts().waiting, 1);
        drop(turns.admit(table, writer(1)).await);
        third.await;
    }

    #[tokio::test]
    async fn commits_wait_for_a_client_in_a_bounded_number() {
        let (turns, table) = (turns(), TableId::fresh());
        turns.admit(table, writer(1)).await.late().await;
        turns.note_load(table, &Principal::Token("etl".to_owned()));
        let mut waiting: Vec<_> = (2..6).map(|i| Box::pin(turns.admit(table, writer(i)))).collect();
        for other in &mut waiting {
            assert!(poll!(other.as_mut()).is_pending());
        }
        drop(turns.admit(table, writer(6)).await);
        assert!(poll!(waiting[0].as_mut()).is_pending());
        drop(turns.admit(table, writer(1)).await);
        for other in waiting {
            drop(other.await);
        }
    }

    #[tokio::test]
    async fn a_client_that_was_late_in_its_turn_is_next_once_more_and_then_last() {
        let (turns, table) = (turns(), TableId::fresh());
        turns.admit(table, writer(1)).await.late().await;
        let mut second = pin!(turns.admit(table, writer(2)).await.late());
        assert!(poll!(second.as_mut()).is_pending());
        // Another server was first.
        turns.admit(table, writer(1)).await.late().await;
        assert!(poll!(second.as_mut()).is_pending());
        let mut first = pin!(turns.admit(table, writer(1)).await.late());
        assert!(poll!(first.as_mut()).is_pending());
        second.await;
        assert!(poll!(first.as_mut()).is_pending());
        drop(turns.admit(table, writer(2)).await);
        first.await;
        assert_eq!(turns.counts().late, 2);
    }
}
