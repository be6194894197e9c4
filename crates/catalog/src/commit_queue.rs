//! The queues of the commits that wait for the turns of their tables.
//!
//! A commit waits as a [`QueuedChange`], which hides the type of its effect from the batch and answers its caller.
//! [`QueueOptions`] bound the queues. Start reading at [`CommitQueue`].

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use esker_format::Snapshot;
use esker_state::ReceiptKey;
use esker_types::TableId;
use futures::future::BoxFuture;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{CatalogError, Committed, LoadedTable, Proposal, Rebase, Result};

/// The bounds of the commit queues of a warehouse.
#[derive(Debug, Clone, Copy)]
pub struct QueueOptions {
    /// Maximum number of commits that wait for one table before a client's commit is refused.
    ///
    /// Each waiting commit holds a task and the content of its request. So many wait only where commits come faster than the
    /// storage or the database takes batches, and the last of them would get no turn in time anyway.
    pub per_table: usize,
    /// Maximum number of clients' commits and transactions that wait or are under way at all tables.
    pub total: usize,
    /// Maximum number of commits that share one metadata file and one transaction of the database.
    ///
    /// Changes to the database come one after the other, so a batch without bound at one table would hold up all others.
    pub batch: usize,
}

/// A commit in a queue, whatever its effect.
pub(crate) trait QueuedChange: Send {
    /// Computes the proposal on a state of the table. It is borrowed if a replay has the same one.
    fn propose<'p: 't, 't>(&'p mut self, table: &'t LoadedTable) -> BoxFuture<'t, Result<Cow<'p, Proposal>>>;

    /// Returns the snapshots that a client sent; none for a change that is computed.
    fn sent_snapshots(&self) -> Vec<&Snapshot> {
        Vec::new()
    }

    /// Returns the identity of a client's request, if it may be repeated; none for a change that is computed.
    fn request(&self) -> Option<&ReceiptKey> {
        None
    }

    /// Returns the term of the lease in which another server sent the change; none for a change of this server.
    fn term(&self) -> Option<i64> {
        None
    }

    /// Answers the caller. The caller may be gone; the commit stands.
    fn answer(self: Box<Self>, result: Result<Committed>);

    /// Checks whether the change is refused if too many wait. A client sends a refused one again.
    fn may_be_refused(&self) -> bool;
}

/// A commit whose requirements and updates came from a client.
pub(crate) struct FixedChange {
    pub(crate) proposal: Proposal,
    /// Term of the lease in which another server sent the commit.
    pub(crate) term: Option<i64>,
    pub(crate) done: oneshot::Sender<Result<Committed>>,
}

impl QueuedChange for FixedChange {
    fn propose<'p: 't, 't>(&'p mut self, _table: &'t LoadedTable) -> BoxFuture<'t, Result<Cow<'p, Proposal>>> {
        Box::pin(std::future::ready(Ok(Cow::Borrowed(&self.proposal))))
    }

    fn sent_snapshots(&self) -> Vec<&Snapshot> {
        self.proposal.added_snapshots().collect()
    }

    fn request(&self) -> Option<&ReceiptKey> {
        self.proposal.actor.receipt.as_ref()
    }

    fn term(&self) -> Option<i64> {
        self.term
    }

    fn answer(self: Box<Self>, result: Result<Committed>) {
        drop(self.done.send(result));
    }

    fn may_be_refused(&self) -> bool {
        true
    }
}

/// A commit that is computed at the commit point, with the effect of its last proposal.
pub(crate) struct RebasedChange<R: Rebase> {
    pub(crate) rebase: R,
    pub(crate) effect: R::Effect,
    pub(crate) done: oneshot::Sender<Result<(Committed, R::Effect)>>,
}

impl<R: Rebase> QueuedChange for RebasedChange<R> {
    fn propose<'p: 't, 't>(&'p mut self, table: &'t LoadedTable) -> BoxFuture<'t, Result<Cow<'p, Proposal>>> {
        Box::pin(async move {
            let (proposal, effect) = self.rebase.propose(table).await?;
            self.effect = effect;
            Ok(Cow::Owned(proposal))
        })
    }

    fn answer(self: Box<Self>, result: Result<Committed>) {
        let Self { effect, done, .. } = *self;
        drop(done.send(result.map(|committed| (committed, effect))));
    }

    /// Such a change may hold hours of work, so it is never refused. One job runs a table, and admission limits the queries.
    fn may_be_refused(&self) -> bool {
        false
    }
}

/// A commit that waits, with the number by which its caller takes it back.
pub(crate) struct PendingCommit {
    ticket: u64,
    pub(crate) change: Box<dyn QueuedChange>,
    /// Its place among the commits of the warehouse, until it is answered; `None` if it is never refused.
    _place: Option<OwnedSemaphorePermit>,
}

/// The commits that wait for one table. The task that holds `turn` takes the oldest ones as one batch.
pub(crate) struct CommitQueue {
    waiting: Mutex<VecDeque<PendingCommit>>,
    tickets: AtomicU64,
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    options: QueueOptions,
    places: Arc<Semaphore>,
}

impl CommitQueue {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<PendingCommit>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a commit to the queue, and returns its ticket.
    ///
    /// # Errors
    ///
    /// Returns [`QueueFull`](CatalogError::QueueFull) if too many commits wait for the table, or too many are in the warehouse.
    pub(crate) fn enter(&self, table: TableId, change: Box<dyn QueuedChange>) -> Result<u64> {
        let mut waiting = self.waiting();
        let place = match change.may_be_refused() {
            true if waiting.len() >= self.options.per_table => {
                return Err(CatalogError::QueueFull { what: format!("table {table}"), waiting: waiting.len() });
            }
            true => Some(place(&self.places, &self.options)?),
            false => None,
        };
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        waiting.push_back(PendingCommit { ticket, change, _place: place });
        Ok(ticket)
    }

    /// Takes the oldest commits, as one batch.
    pub(crate) fn take_batch(&self) -> Vec<PendingCommit> {
        let mut waiting = self.waiting();
        let n = waiting.len().min(self.options.batch);
        waiting.drain(..n).collect()
    }

    /// Removes a commit from the queue if no batch has taken it; `None` if one has.
    pub(crate) fn take_back(&self, ticket: u64) -> Option<PendingCommit> {
        let mut waiting = self.waiting();
        let at = waiting.iter().position(|pending| pending.ticket == ticket)?;
        waiting.remove(at)
    }

    /// Checks whether a commit still waits.
    pub(crate) fn holds(&self, ticket: u64) -> bool {
        self.waiting().iter().any(|pending| pending.ticket == ticket)
    }
}

/// Takes a place among the commits of a warehouse.
fn place(places: &Arc<Semaphore>, options: &QueueOptions) -> Result<OwnedSemaphorePermit> {
    let full = |_| CatalogError::QueueFull { what: "the warehouse".to_owned(), waiting: options.total };
    places.clone().try_acquire_owned().map_err(full)
}

/// A guard that holds back commits to a table while it lives.
///
/// It owns the queue as well. The map may drop a queue that nothing else owns, and the next commit would then get a turn of
/// another queue.
pub(crate) struct CommitHold {
    pub(crate) _turn: OwnedMutexGuard<()>,
    pub(crate) _queue: Arc<CommitQueue>,
}

/// The commit queues of the tables that are being written.
pub(crate) struct CommitQueues {
    queues: Mutex<HashMap<TableId, Arc<CommitQueue>>>,
    options: QueueOptions,
    /// One permit for each client's commit that may still be taken in.
    places: Arc<Semaphore>,
}

impl std::fmt::Debug for CommitQueues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommitQueues").finish_non_exhaustive()
    }
}

impl CommitQueues {
    /// Makes the queues of a warehouse, all of them empty.
    pub(crate) fn new(options: QueueOptions) -> Self {
        let options = QueueOptions { total: options.total.min(Semaphore::MAX_PERMITS), ..options };
        Self { queues: Mutex::default(), options, places: Arc::new(Semaphore::new(options.total)) }
    }

    /// Returns the queue of a table.
    pub(crate) fn queue(&self, table: TableId) -> Arc<CommitQueue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        // A queue that only this map owns has no waiting commit.
        if queues.len() >= 1024 {
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        let new = || {
            let (waiting, tickets, turn) = (Mutex::default(), AtomicU64::default(), Arc::default());
            Arc::new(CommitQueue { waiting, tickets, turn, options: self.options, places: self.places.clone() })
        };
        queues.entry(table).or_insert_with(new).clone()
    }

    /// Takes a place for a transaction over several tables.
    ///
    /// # Errors
    ///
    /// Returns [`QueueFull`](CatalogError::QueueFull) if too many commits are in the warehouse.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit> {
        place(&self.places, &self.options)
    }

    /// Returns the number of clients' commits and transactions that wait or are under way.
    pub(crate) fn taken(&self) -> usize {
        self.options.total.saturating_sub(self.places.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use esker_format::TableMetadata;
    use esker_state::{TabularKind, TabularRow};
    use esker_table::MetadataJson;
    use esker_types::{Coded, ErrorCode, NamespaceName, TableName};
    use uuid::Uuid;

    use super::*;
    use crate::Actor;

    /// A change whose effect is the number of times that it was computed.
    #[derive(Default)]
    struct Work(AtomicU64);

    impl Rebase for Work {
        type Effect = u64;

        fn propose<'a>(&'a self, _table: &'a LoadedTable) -> BoxFuture<'a, Result<(Proposal, u64)>> {
            let effect = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            Box::pin(async move { Ok((Proposal { actor: Actor::internal("test"), ..Proposal::default() }, effect)) })
        }
    }

    fn table() -> LoadedTable {
        let json = serde_json::json!({
            "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "file:///w/t",
            "last-sequence-number": 0, "last-updated-ms": 1, "last-column-id": 1, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "id", "required": false, "type": "long"}]}],
            "default-spec-id": 0, "last-partition-id": 999, "default-sort-order-id": 0,
            "partition-specs": [{"spec-id": 0, "fields": []}], "sort-orders": [{"order-id": 0, "fields": []}],
        });
        let bytes = Bytes::from(json.to_string());
        let row = TabularRow {
            id: TableId::fresh(),
            warehouse: 1,
            kind: TabularKind::Table,
            name: TableName::new(NamespaceName::new(vec!["n".to_owned()]).expect("valid"), "t").expect("valid"),
            table_uuid: Uuid::nil(),
            location: "file:///w/t".to_owned(),
            metadata_location: "file:///w/t/metadata/0.metadata.json".to_owned(),
            owned: true,
            protected: false,
        };
        let metadata = Arc::new(TableMetadata::from_json(&bytes).expect("metadata"));
        LoadedTable { row, metadata, json: MetadataJson::read(bytes).expect("JSON") }
    }

    #[tokio::test]
    async fn the_effect_is_that_of_the_proposal_that_was_committed() {
        let (table, (done, answer)) = (table(), oneshot::channel());
        let mut change = Box::new(RebasedChange { rebase: Work::default(), effect: 0, done });
        for replay in 0..3 {
            let proposal = change.propose(&table).await.expect("computed");
            assert!(matches!(proposal, Cow::Owned(_)), "replay {replay} computes its own");
        }
        change.answer(Ok(Committed { table, batch: 1, merged: None }));
        let (committed, effect) = answer.await.expect("answered").expect("committed");
        assert_eq!((committed.batch, effect), (1, 3));
    }

    #[tokio::test]
    async fn the_proposal_of_a_client_is_not_copied_for_a_replay() {
        let table = table();
        let mut change = FixedChange { proposal: Proposal::default(), term: None, done: oneshot::channel().0 };
        let at = std::ptr::from_ref(&change.proposal);
        for _ in 0..2 {
            let proposal = change.propose(&table).await.expect("computed");
            assert!(matches!(proposal, Cow::Borrowed(proposal) if std::ptr::eq(proposal, at)));
        }
    }

    /// Bounds that the tests reach.
    const BOUNDS: QueueOptions = QueueOptions { per_table: 20, total: 30, batch: 8 };

    fn fixed() -> Box<FixedChange> {
        Box::new(FixedChange { proposal: Proposal::default(), term: None, done: oneshot::channel().0 })
    }

    #[tokio::test]
    async fn a_table_that_is_held_keeps_its_turn_however_many_others_are_written() {
        let (queues, id) = (CommitQueues::new(BOUNDS), TableId::fresh());
        let queue = queues.queue(id);
        let held = CommitHold { _turn: queue.turn.clone().lock_owned().await, _queue: queue };
        for _ in 0..3000 {
            queues.queue(TableId::fresh());
        }
        assert!(queues.queue(id).turn.try_lock().is_err(), "the same turn");
        drop(held);
        assert!(queues.queue(id).turn.try_lock().is_ok());
    }

    #[test]
    fn a_full_queue_refuses_clients_until_it_has_room_and_takes_maintenance() {
        let (queues, table) = (CommitQueues::new(BOUNDS), TableId::fresh());
        let queue = queues.queue(table);
        let tickets: Vec<u64> = (0..BOUNDS.per_table).map(|_| queue.enter(table, fixed()).expect("room")).collect();
        let refused = queue.enter(table, fixed()).expect_err("full");
        // 429, which every client takes for a change that was not begun.
        assert_eq!((refused.code(), refused.code().http()), (ErrorCode::TooBusy, 429));
        assert!(refused.to_string().contains(&format!("table {table}")), "{refused}");
        let work = RebasedChange { rebase: Work::default(), effect: 0, done: oneshot::channel().0 };
        queue.enter(table, Box::new(work)).expect("never refused");
        assert!(queue.take_back(tickets[0]).is_some() && queue.take_back(tickets[0]).is_none());
        assert!(queue.take_back(tickets[1]).is_some());
        queue.enter(table, fixed()).expect("room again");
        assert_eq!(queues.taken(), BOUNDS.per_table - 1, "a place is given back with its commit");
    }

    #[test]
    fn a_hot_table_leaves_no_more_room_to_others_than_the_warehouse_has() {
        let (queues, hot, other) = (CommitQueues::new(BOUNDS), TableId::fresh(), TableId::fresh());
        while queues.queue(hot).enter(hot, fixed()).is_ok() {}
        for _ in 0..10 {
            queues.queue(other).enter(other, fixed()).expect("the hot table has no more than its own part");
        }
        let refused = queues.queue(other).enter(other, fixed()).expect_err("full");
        assert_eq!(refused.code().http(), 429);
        assert!(refused.to_string().contains("the warehouse") && queues.place().is_err(), "{refused}");
        drop(queues.queue(hot).take_batch());
        drop(queues.place().expect("answered commits give back their places"));
    }

    #[test]
    fn a_batch_is_bounded_and_has_the_oldest_commits() {
        let (queues, table) = (CommitQueues::new(BOUNDS), TableId::fresh());
        let queue = queues.queue(table);
        let tickets: Vec<u64> = (0..BOUNDS.per_table).map(|_| queue.enter(table, fixed()).expect("room")).collect();
        let mut taken = Vec::new();
        for expected in [8, 8, 4, 0] {
            let batch = queue.take_batch();
            assert_eq!(batch.len(), expected);
            taken.extend(batch.iter().map(|pending| pending.ticket));
            assert!(tickets.iter().all(|ticket| queue.holds(*ticket) != taken.contains(ticket)));
        }
        assert_eq!(taken, tickets);
    }
}
