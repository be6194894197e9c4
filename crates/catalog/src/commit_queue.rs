//! The queues of the commits that wait for the turns of their tables.
//!
//! A commit waits as a [`QueuedChange`], which hides the type of its effect from the batch and answers its caller. Start reading at
//! [`CommitQueue`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use esker_format::{Snapshot, TableUpdate};
use esker_types::TableId;
use futures::future::BoxFuture;
use tokio::sync::{OwnedMutexGuard, oneshot};

use crate::{CatalogError, Committed, LoadedTable, Proposal, Rebase, Result};

/// Maximum number of commits that wait for one table before a client's commit is refused.
///
/// Each waiting commit holds a task and the content of its request. So many wait only where commits come faster than the storage
/// or the database takes batches, and the last of them would get no turn in time anyway.
const MAX_WAITING: usize = 1000;

/// A commit in a queue, whatever its effect.
pub(crate) trait QueuedChange: Send {
    /// Computes the proposal on a state of the table. It is borrowed if a replay has the same one.
    fn propose<'p: 't, 't>(&'p mut self, table: &'t LoadedTable) -> BoxFuture<'t, Result<Cow<'p, Proposal>>>;

    /// Returns the snapshots that a client sent; none for a change that is computed.
    fn sent_snapshots(&self) -> Vec<&Snapshot> {
        Vec::new()
    }

    /// Answers the caller. The caller may be gone; the commit stands.
    fn answer(self: Box<Self>, result: Result<Committed>);

    /// Returns the number of commits that may wait before this one is refused.
    fn max_waiting(&self) -> usize;
}

/// A commit whose requirements and updates came from a client.
pub(crate) struct FixedChange {
    pub(crate) proposal: Proposal,
    pub(crate) done: oneshot::Sender<Result<Committed>>,
}

impl QueuedChange for FixedChange {
    fn propose<'p: 't, 't>(&'p mut self, _table: &'t LoadedTable) -> BoxFuture<'t, Result<Cow<'p, Proposal>>> {
        Box::pin(std::future::ready(Ok(Cow::Borrowed(&self.proposal))))
    }

    fn sent_snapshots(&self) -> Vec<&Snapshot> {
        let sent = self.proposal.updates.iter().filter_map(|update| match update {
            TableUpdate::AddSnapshot { snapshot } => Some(snapshot),
            _ => None,
        });
        sent.collect()
    }

    fn answer(self: Box<Self>, result: Result<Committed>) {
        drop(self.done.send(result));
    }

    fn max_waiting(&self) -> usize {
        MAX_WAITING
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
    fn max_waiting(&self) -> usize {
        usize::MAX
    }
}

/// A commit that waits, with the number by which its caller takes it back.
pub(crate) struct PendingCommit {
    ticket: u64,
    pub(crate) change: Box<dyn QueuedChange>,
}

/// The commits that wait for one table. The task that holds `turn` takes all of them as one batch.
#[derive(Default)]
pub(crate) struct CommitQueue {
    waiting: Mutex<Vec<PendingCommit>>,
    tickets: AtomicU64,
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
}

impl CommitQueue {
    fn waiting(&self) -> MutexGuard<'_, Vec<PendingCommit>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a commit to the queue, and returns its ticket.
    ///
    /// # Errors
    ///
    /// Returns [`QueueFull`](CatalogError::QueueFull) if too many commits wait.
    pub(crate) fn enter(&self, table: TableId, change: Box<dyn QueuedChange>) -> Result<u64> {
        let mut waiting = self.waiting();
        if waiting.len() >= change.max_waiting() {
            return Err(CatalogError::QueueFull { table: format!("table {table}"), waiting: waiting.len() });
        }
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        waiting.push(PendingCommit { ticket, change });
        Ok(ticket)
    }

    /// Takes everything that waits, as one batch.
    pub(crate) fn take_batch(&self) -> Vec<PendingCommit> {
        std::mem::take(&mut *self.waiting())
    }

    /// Removes a commit from the queue if no batch has taken it; `None` if one has.
    pub(crate) fn take_back(&self, ticket: u64) -> Option<PendingCommit> {
        let mut waiting = self.waiting();
        let at = waiting.iter().position(|pending| pending.ticket == ticket)?;
        Some(waiting.remove(at))
    }
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
#[derive(Default)]
pub(crate) struct CommitQueues {
    queues: Mutex<HashMap<TableId, Arc<CommitQueue>>>,
}

impl std::fmt::Debug for CommitQueues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommitQueues").finish_non_exhaustive()
    }
}

impl CommitQueues {
    /// Returns the queue of a table.
    pub(crate) fn queue(&self, table: TableId) -> Arc<CommitQueue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        // A queue that only this map owns has no waiting commit.
        if queues.len() >= 1024 {
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        queues.entry(table).or_default().clone()
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
        let mut change = FixedChange { proposal: Proposal::default(), done: oneshot::channel().0 };
        let at = std::ptr::from_ref(&change.proposal);
        for _ in 0..2 {
            let proposal = change.propose(&table).await.expect("computed");
            assert!(matches!(proposal, Cow::Borrowed(proposal) if std::ptr::eq(proposal, at)));
        }
    }

    #[tokio::test]
    async fn a_table_that_is_held_keeps_its_turn_however_many_others_are_written() {
        let (queues, id) = (CommitQueues::default(), TableId::fresh());
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
        let (queue, table) = (CommitQueue::default(), TableId::fresh());
        let fixed = || FixedChange { proposal: Proposal::default(), done: oneshot::channel().0 };
        let tickets: Vec<u64> = (0..MAX_WAITING).map(|_| queue.enter(table, Box::new(fixed())).expect("room")).collect();
        let refused = queue.enter(table, Box::new(fixed())).expect_err("full");
        // 429, which every client takes for a change that was not begun.
        assert_eq!((refused.code(), refused.code().http()), (ErrorCode::TooBusy, 429));
        assert!(refused.to_string().contains(&format!("table {table}")), "{refused}");
        let work = RebasedChange { rebase: Work::default(), effect: 0, done: oneshot::channel().0 };
        queue.enter(table, Box::new(work)).expect("never refused");
        assert!(queue.take_back(tickets[0]).is_some() && queue.take_back(tickets[0]).is_none());
        assert!(queue.take_back(tickets[1]).is_some());
        queue.enter(table, Box::new(fixed())).expect("room again");
        assert_eq!(queue.take_batch().len(), MAX_WAITING);
    }
}
