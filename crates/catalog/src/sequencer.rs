//! The commit path: one queue per table; all commits that wait become one batch, one metadata file and one compare-and-swap.
//!
//! The states of a commit:
//!
//! ```text
//!         queued ------- no turn in time ------------------------------------> answered: Busy
//!           | turn: everything in the queue becomes one batch
//!           v
//! +---> applied -------- a check of this commit fails -----------------------> answered: its own error
//! |         |  `-------- no commit of the batch changes anything ------------> answered: Ok, receipts stored, no file
//! |         v
//! |    file written ---- the storage or the database fails ------------------> answered: error, file to quarantine
//! |         | publish: one database transaction
//! |         |`---------- unknown: the database did not confirm --------------> answered: StateUnknown, file kept
//! +---------+ lost: another server was first, file to quarantine; at the tenth time --> answered: Conflict
//!           v
//!    pointer swapped ---------------------------------------------------------> answered: Ok
//! ```
//!
//! The row's pointer alone decides which metadata file counts. Each file is recorded as a pending output before it is written, so
//! that a crash leaves no unknown file. A caller that waits too long gets `StateUnknown` while its commit goes on.
//!
//! Start reading at [`Catalog::commit_to`], then `run_batch`, `replay` and `publish`. Spec: "Optimistic Concurrency".

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use esker_format::{CommitContext, OPERATION, TableMetadata, TableRequirement, TableUpdate};
use esker_state::{NewEvent, NewQuarantine, Outbox, PointerSwap, StateError, TabularRow};
use esker_storage::Location;
use esker_table::properties::{DELETE_METADATA, METADATA_VERSIONS};
use esker_types::{Coded, TableId, TableName, catch_panic, now_ms};
use flate2::Compression;
use flate2::read::GzEncoder;
use futures::future::BoxFuture;
use serde_json::json;
use tokio::sync::{OwnedMutexGuard, oneshot};
use tracing::Instrument;

use crate::actor::receipt;
use crate::cache::manifest_list_paths;
use crate::moves::{copy_path_of_next, metadata_files, with_copies};
use crate::readable::check_numbers;
use crate::restore::{Restored, restore};
use crate::{Actor, Catalog, CatalogError, LoadedTable, RequestOutcome, Result, places};

/// Maximum number of times that a batch is applied, if other servers keep winning the race.
const MAX_REPLAYS: usize = 10;

/// The requirements and updates of one commit, with what is recorded in the same transaction.
#[derive(Debug, Clone, Default)]
pub struct Proposal {
    /// Conditions that the table must meet.
    pub requirements: Vec<TableRequirement>,
    /// Changes to the metadata, in order.
    pub updates: Vec<TableUpdate>,
    /// Snapshots to bring back. If set, `updates` must be those of [`Restored::updates`].
    pub restore: Option<Box<Restored>>,
    /// Files that the change leaves unreferenced, to be put into quarantine.
    pub quarantine: Vec<NewQuarantine>,
    /// Paths of pending outputs that become part of the table.
    pub settled_outputs: Vec<String>,
    /// Paths of files that belong to the table again, to be released from quarantine.
    pub restored: Vec<String>,
    /// Author of the change, with the idempotency key of the request.
    pub actor: Actor,
}

/// A change that is computed on the table as it is at the commit point.
///
/// Concurrent appends therefore never make it fail.
pub trait Rebase: Send + Sync {
    /// Computes the change on this state of the table. Called again if the pointer swap is lost.
    ///
    /// # Errors
    ///
    /// Returns the error of the implementation. It fails this commit, not the others of its batch.
    fn propose<'a>(&'a self, table: &'a LoadedTable) -> BoxFuture<'a, Result<Proposal>>;
}

/// A change to one table.
#[derive(Clone)]
pub enum Change {
    /// Requirements and updates as a client sent them.
    Fixed(Box<Proposal>),
    /// A change that is computed at the commit point, as maintenance does.
    Rebased(Arc<dyn Rebase>),
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(proposal) => f.debug_tuple("Fixed").field(proposal).finish(),
            Self::Rebased(_) => f.write_str("Rebased"),
        }
    }
}

/// A table after a commit, with the size of the batch.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The table with the metadata after the whole batch.
    pub table: LoadedTable,
    /// Number of commits in the batch, including those that failed or changed nothing.
    pub batch: usize,
}

/// A commit in a queue, with the channel for its answer.
struct PendingCommit {
    ticket: u64,
    change: Change,
    done: oneshot::Sender<Result<Committed>>,
}

/// The commits that wait for one table. The task that holds `turn` takes all of them as one batch.
#[derive(Default)]
struct CommitQueue {
    waiting: Mutex<Vec<PendingCommit>>,
    tickets: AtomicU64,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl CommitQueue {
    fn waiting(&self) -> MutexGuard<'_, Vec<PendingCommit>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, change: Change, done: oneshot::Sender<Result<Committed>>) -> u64 {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        self.waiting().push(PendingCommit { ticket, change, done });
        ticket
    }

    /// Removes a commit from the queue if no batch has taken it; `None` if one has.
    fn take_back(&self, ticket: u64) -> Option<PendingCommit> {
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
    _turn: OwnedMutexGuard<()>,
    _queue: Arc<CommitQueue>,
}

/// The commit queues of the tables that are being written.
#[derive(Default)]
pub(crate) struct Sequencers {
    queues: Mutex<HashMap<TableId, Arc<CommitQueue>>>,
}

impl std::fmt::Debug for Sequencers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sequencers").finish_non_exhaustive()
    }
}

impl Sequencers {
    fn queue(&self, table: TableId) -> Arc<CommitQueue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        // A queue that only this map owns has no waiting commit.
        if queues.len() >= 1024 {
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        queues.entry(table).or_default().clone()
    }
}

impl Catalog {
    /// Commits a change to a table by name. Concurrent commits may share one metadata file.
    ///
    /// The commit goes on if the caller stops waiting for it.
    ///
    /// Spec: "Optimistic Concurrency", and "Commit Conflict Resolution and Retry".
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if no table has this name, and the errors of [`Catalog::commit_to`].
    pub async fn commit(&self, name: &TableName, change: Change) -> Result<Committed> {
        let row = self.table(name).await?;
        self.commit_to(row.id, change).await
    }

    /// Commits a change to a table by its id, which stays the same if the table is renamed.
    ///
    /// # Errors
    ///
    /// - Returns [`Format`](CatalogError::Format) if a requirement does not hold or an update breaks a rule, and
    ///   [`Invalid`](CatalogError::Invalid) if other engines could not read the result.
    /// - Returns [`Conflict`](CatalogError::Conflict) if a snapshot's manifest list is in quarantine, or other servers won the
    ///   race ten times.
    /// - Returns [`Location`](CatalogError::Location) if the table may not have files at a new location.
    /// - Returns [`Busy`](CatalogError::Busy) if the commit got no turn in time, and [`Behind`](CatalogError::Behind) if storage
    ///   has states that the database does not have.
    /// - Returns [`StateUnknown`](CatalogError::StateUnknown) if the outcome could not be observed.
    /// - Returns [`Batch`](CatalogError::Batch) if another error failed the whole batch, [`Panicked`](CatalogError::Panicked) if
    ///   the change panicked, or the error of [`Rebase::propose`].
    /// - Returns [`State`](CatalogError::State), [`Storage`](CatalogError::Storage), [`MetadataGone`](CatalogError::MetadataGone)
    ///   or [`MetadataInvalid`](CatalogError::MetadataInvalid) if the table can't be read or written.
    pub async fn commit_to(&self, id: TableId, change: Change) -> Result<Committed> {
        let queue = self.inner.sequencers.queue(id);
        let wait = self.turn_timeout(&change);
        let (done, answer) = oneshot::channel();
        let ticket = queue.enter(change, done);
        let this = self.clone();
        // The commit runs in a task of its own: a client that disconnects must not cut it in two.
        let turn = async move {
            match tokio::time::timeout(wait, queue.turn.clone().lock_owned()).await {
                Ok(_turn) => {
                    let batch = std::mem::take(&mut *queue.waiting());
                    if !batch.is_empty() {
                        this.run_batch(id, batch).await;
                    }
                }
                // The task that has the turn may have taken this commit into its batch; then its answer is on the way.
                Err(_) => {
                    if let Some(pending) = queue.take_back(ticket) {
                        drop(pending.done.send(Err(busy(&id, wait))));
                    }
                }
            }
        };
        tokio::spawn(turn.instrument(tracing::info_span!("commit", table_id = %id)));
        // One wait for the turn, one for the work.
        match tokio::time::timeout(wait * 2, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(state_unknown(&id, "the task that ran the commit ended without an answer".to_owned())),
            Err(_) => Err(state_unknown(&id, format!("it was started and did not end within {} s", wait.as_secs()))),
        }
    }

    /// Returns how long a change waits for its turn.
    ///
    /// A rebased change waits longer: it may hold hours of work that no client sends again.
    fn turn_timeout(&self, change: &Change) -> Duration {
        match change {
            Change::Fixed(_) => self.options().commit_wait,
            Change::Rebased(_) => self.options().commit_wait * 10,
        }
    }

    /// Holds back commits to a table while the guard lives. The sweep checks and marks files under it.
    pub(crate) async fn hold_commits(&self, table: TableId) -> Result<CommitHold> {
        let (queue, wait) = (self.inner.sequencers.queue(table), self.options().commit_wait);
        match tokio::time::timeout(wait, queue.turn.clone().lock_owned()).await {
            Ok(turn) => Ok(CommitHold { _turn: turn, _queue: queue }),
            Err(_) => Err(busy(&table, wait)),
        }
    }

    /// Runs a batch and answers each of its commits.
    async fn run_batch(&self, id: TableId, batch: Vec<PendingCommit>) {
        let changes: Vec<Change> = batch.iter().map(|p| p.change.clone()).collect();
        let outcome = self.try_batch(id, &changes).await;
        for (pending, result) in batch.into_iter().zip(outcome) {
            // The receiver is gone if the client disconnected; the commit stands.
            drop(pending.done.send(result));
        }
    }

    /// Applies a batch until its swap succeeds or it fails. Returns one result per change, in order.
    async fn try_batch(&self, id: TableId, changes: &[Change]) -> Vec<Result<Committed>> {
        for _ in 0..MAX_REPLAYS {
            match self.replay(id, changes).await {
                Ok(Some(results)) => return results,
                Ok(None) => {}
                Err(e) => return fail_batch(e, changes.len()),
            }
        }
        let lost = format!("other servers kept committing to the table for {MAX_REPLAYS} attempts");
        fail_batch(CatalogError::Conflict(lost), changes.len())
    }

    /// Applies the changes to the table as it is now, and publishes the result.
    ///
    /// Returns one result per change, or `None` if the swap was lost and the table must be read again.
    async fn replay(&self, id: TableId, changes: &[Change]) -> Result<Option<Vec<Result<Committed>>>> {
        let row = self.state().tables().by_id(id).await?;
        let row = row.ok_or_else(|| StateError::NoSuchTable(id.to_string()))?;
        self.check_not_behind(&row).await?;
        let current = self.load_row(row).await?;
        let mut working = current.clone();
        let (mut quarantines, mut settled) = (Vec::new(), Vec::new());
        // The proposals of the changes that had an effect.
        let mut effects: Vec<Proposal> = Vec::new();
        let mut idle: Vec<Actor> = Vec::new();
        let mut results: Vec<Result<()>> = Vec::with_capacity(changes.len());
        for change in changes {
            let base = effects.is_empty().then_some(current.row.metadata_location.as_str());
            // A panic in one change fails that change, not the others of its batch.
            let applied = catch_panic(self.apply_change(&working, base, change)).await;
            match applied.unwrap_or_else(|panic| Err(CatalogError::Panicked(panic))) {
                Ok((Some(metadata), mut proposal)) => {
                    working.metadata = Arc::new(metadata);
                    quarantines.append(&mut proposal.quarantine);
                    settled.append(&mut proposal.settled_outputs);
                    effects.push(proposal);
                    results.push(Ok(()));
                }
                Ok((None, proposal)) => {
                    idle.push(proposal.actor);
                    results.push(Ok(()));
                }
                Err(e) => results.push(Err(e)),
            }
        }
        if effects.is_empty() {
            for receipt in idle.iter().filter_map(|actor| receipt(actor, &RequestOutcome::of(&working.row))) {
                self.state().outbox().insert_receipt(receipt).await?;
            }
        } else if !self.publish(&current, &mut working, quarantines, settled, &effects, &idle).await? {
            return Ok(None);
        }
        let committed = Committed { table: working, batch: changes.len() };
        Ok(Some(results.into_iter().map(|r| r.map(|()| committed.clone())).collect()))
    }

    /// Computes the metadata after one change, and runs every check on it. The metadata is `None` if nothing changes.
    ///
    /// `base` is as in [`apply`]. The returned proposal includes the outdated metadata files as quarantine.
    pub(crate) async fn apply_change(
        &self,
        table: &LoadedTable,
        base: Option<&str>,
        change: &Change,
    ) -> Result<(Option<TableMetadata>, Proposal)> {
        let mut proposal = match change {
            Change::Fixed(proposal) => proposal.as_ref().clone(),
            Change::Rebased(rebase) => rebase.propose(table).await?,
        };
        self.check_references(&proposal.updates).await?;
        let moves = proposal.updates.iter().any(|u| match u {
            TableUpdate::SetLocation { .. } => true,
            TableUpdate::SetProperties { updates } => {
                crate::locations::PATH_PROPERTIES.iter().any(|key| updates.contains_key(*key))
            }
            _ => false,
        });
        let metadata = match &proposal.restore {
            Some(restored) => restore(&table.metadata, base, restored)?,
            None => apply(&table.metadata, base, &proposal)?,
        };
        if let Some(after) = &metadata {
            self.check_readable(&table.metadata, after, &proposal.updates).await?;
        }
        if let (Some(metadata), true) = (&metadata, moves) {
            self.check_metadata_locations(metadata, Some(table.row.id)).await?;
            self.make_directories(metadata).await?;
        }
        if let Some(metadata) = &metadata {
            proposal.quarantine.extend(self.outdated_metadata(table, metadata));
        }
        Ok((metadata, proposal))
    }

    /// Refuses a snapshot whose manifest list is in quarantine: it would soon point to a deleted file.
    async fn check_references(&self, updates: &[TableUpdate]) -> Result<()> {
        for update in updates {
            let TableUpdate::AddSnapshot { snapshot } = update else { continue };
            for file in manifest_list_paths(snapshot) {
                let (quarantined, going) = self.state().quarantine().quarantined_among(&Location::recorded_names(&file)).await?;
                if !quarantined.is_empty() || !going.is_empty() {
                    let what = format!("snapshot {} refers to {file}, which is being deleted", snapshot.snapshot_id);
                    return Err(CatalogError::Conflict(what));
                }
            }
        }
        Ok(())
    }

    /// Lists the metadata files that fell out of the metadata log, if the table asks for their deletion.
    ///
    /// Spec: table properties `write.metadata.delete-after-commit.enabled` and `write.metadata.previous-versions-max`.
    fn outdated_metadata(&self, before: &LoadedTable, after: &TableMetadata) -> Vec<NewQuarantine> {
        let properties = &after.properties;
        // If the number of versions to keep can't be parsed, no file is outdated.
        let wanted = DELETE_METADATA.of(properties) && METADATA_VERSIONS.get_valid(properties).is_ok();
        if !wanted || !before.row.owned {
            return Vec::new();
        }
        let kept: HashSet<String> =
            with_copies(after.metadata_log.iter().map(|log| log.metadata_file.clone()).collect()).into_iter().collect();
        let due_ms = now_ms().saturating_add(self.options().grace_ms);
        let reason = "it fell out of the metadata log (write.metadata.previous-versions-max)";
        let now = &before.row.metadata_location;
        let gone = metadata_files(before).into_iter().filter(|file| file != now && !kept.contains(file));
        gone.map(|file| before.row.quarantine(file, None, reason, None, due_ms)).collect()
    }

    /// Writes the next metadata file, updates `working` to it, and returns the pointer swap that publishes it.
    pub(crate) async fn write_next(
        &self,
        current: &LoadedTable,
        working: &mut LoadedTable,
        quarantines: Vec<NewQuarantine>,
        mut settled_outputs: Vec<String>,
        updates: &[TableUpdate],
    ) -> Result<PointerSwap> {
        let from = current.row.metadata_location.clone();
        let to = Self::next_metadata_path(&working.metadata, Some(&from))?;
        working.json = current.json.next(&current.metadata, &working.metadata, updates)?;
        settled_outputs.extend(self.write_following(&current.row, &to, working.json.bytes().clone()).await?);
        working.row.location = Location::parse(&working.metadata.location)?.to_string();
        working.row.metadata_location.clone_from(&to);
        // The places before the commit are recorded too: a database of an earlier release holds only the location.
        let [before, after] =
            [&current.metadata, &working.metadata].map(|m| places::places_in_metadata(&m.location, &m.properties));
        let places: Vec<String> = before.into_iter().chain(after).collect();
        let places = if places.iter().all(|place| *place == current.row.location) { Vec::new() } else { places };
        Ok(PointerSwap {
            id: current.row.id,
            from,
            to,
            location: working.row.location.clone(),
            places,
            quarantine: quarantines,
            settled_outputs,
            restored: Vec::new(),
        })
    }

    /// Writes the metadata file and swaps the pointer, with events and receipts, in one transaction.
    ///
    /// Returns `false` if another server was first.
    async fn publish(
        &self,
        current: &LoadedTable,
        working: &mut LoadedTable,
        quarantines: Vec<NewQuarantine>,
        settled: Vec<String>,
        effects: &[Proposal],
        idle: &[Actor],
    ) -> Result<bool> {
        let updates: Vec<TableUpdate> = effects.iter().flat_map(|e| e.updates.iter().cloned()).collect();
        let mut swap = self.write_next(current, working, quarantines, settled, &updates).await?;
        swap.restored = effects.iter().flat_map(|e| e.restored.iter().cloned()).collect();
        self.failpoint("commit-before-swap").await;
        // Receipts of commits without effect go into the same transaction: once the pointer has moved, nothing more may fail.
        let actors = effects.iter().map(|e| &e.actor).chain(idle);
        let along = Outbox {
            events: effects.iter().map(|e| self.update_event(current, working, e, &e.actor)).collect(),
            receipts: actors.filter_map(|actor| receipt(actor, &RequestOutcome::of(&working.row))).collect(),
        };
        match self.state().tables().publish(self.warehouse(), std::slice::from_ref(&swap), &[], &along).await {
            Ok(true) => {
                self.remember_metadata(&swap.to, working.metadata.clone(), working.json.clone()).await;
                self.failpoint("commit-after-swap").await;
                self.notify_change();
                Ok(true)
            }
            Ok(false) => {
                self.discard(&current.row, &swap.to, "the commit lost the race against another server").await;
                Ok(false)
            }
            Err(e) => {
                // The commit may have been applied, so its file is kept.
                if !matches!(e, StateError::Ambiguous(_)) {
                    self.discard(&current.row, &swap.to, "the state database refused the commit").await;
                }
                Err(CatalogError::of_publishing(e, &current.row.name))
            }
        }
    }

    /// Builds the outbox event `table.updated` of one commit.
    pub(crate) fn update_event(&self, before: &LoadedTable, after: &LoadedTable, proposal: &Proposal, actor: &Actor) -> NewEvent {
        let action = |update: &TableUpdate| serde_json::to_value(update).ok().map(|v| v["action"].clone());
        let snapshots = proposal.updates.iter().filter_map(|update| match update {
            TableUpdate::AddSnapshot { snapshot } => {
                let summary = snapshot.summary.iter().flatten().filter(|(key, _)| *key != OPERATION);
                Some(json!({
                    "snapshot-id": snapshot.snapshot_id,
                    "parent-snapshot-id": snapshot.parent_snapshot_id,
                    "sequence-number": snapshot.sequence_number(),
                    "operation": snapshot.operation(),
                    "summary": summary.collect::<BTreeMap<_, _>>(),
                }))
            }
            _ => None,
        });
        let data = json!({
            "table-id": after.row.id, "table-uuid": after.row.table_uuid,
            "previous-metadata-location": before.row.metadata_location, "metadata-location": after.row.metadata_location,
            "updates": proposal.updates.iter().filter_map(action).collect::<Vec<_>>(),
            "snapshots": snapshots.collect::<Vec<_>>(),
        });
        self.event(actor, "table.updated", &after.row.name, data)
    }

    /// Records a metadata file as a pending output, and then writes it. It is compressed if its name ends with
    /// `.gz.metadata.json`.
    ///
    /// Spec: "Naming for GZIP compressed Metadata JSON files".
    pub(crate) async fn write_metadata_file(&self, row: &TabularRow, uri: &str, json: Bytes) -> Result<()> {
        let mut bytes = json;
        if uri.ends_with(".gz.metadata.json") {
            let mut gzip = Vec::new();
            GzEncoder::new(bytes.as_ref(), Compression::default())
                .read_to_end(&mut gzip)
                .map_err(|e| CatalogError::MetadataInvalid { uri: uri.to_owned(), reason: e.to_string() })?;
            bytes = gzip.into();
        }
        self.record_outputs(row.id, None, &[uri.to_owned()]).await?;
        if let Err(e) = self.storage().write(uri, bytes).await {
            // A store that did not answer may hold the file all the same.
            self.discard(row, uri, "the metadata file could not be written").await;
            return Err(e.into());
        }
        Ok(())
    }

    /// Puts a metadata file that never became current into quarantine, due at once.
    ///
    /// If that fails, its pending output stays recorded, and a server settles it once this one has stopped.
    pub(crate) async fn discard(&self, row: &TabularRow, uri: &str, reason: &str) {
        let files = std::iter::once(uri.to_owned()).chain(copy_path_of_next(row, uri));
        let quarantines: Vec<NewQuarantine> = files.map(|file| row.quarantine(file, None, reason, None, now_ms())).collect();
        if let Err(error) = self.state().quarantine().add(&quarantines).await {
            tracing::warn!(%error, uri, "a metadata file could not be quarantined; it is reclaimed once this server has stopped");
        }
    }
}

/// Computes the metadata after one commit on one state of the table. `None` means that nothing changes.
///
/// `base` is the metadata file of that state, which goes into the metadata log. It is `None` for a state that an earlier commit
/// of the same batch made.
fn apply(metadata: &TableMetadata, base: Option<&str>, proposal: &Proposal) -> Result<Option<TableMetadata>> {
    proposal.requirements.iter().try_for_each(|requirement| requirement.check(metadata))?;
    check_numbers(&proposal.updates)?;
    Ok(esker_format::apply(metadata, &proposal.updates, CommitContext { now_ms: now_ms(), metadata_file: base })?)
}

/// Builds the error for a commit that got no turn in time.
fn busy(table: &impl ToString, wait: Duration) -> CatalogError {
    CatalogError::Busy(format!("table {}", table.to_string()), wait.as_secs())
}

/// Builds the error for a commit that was started and whose end was not seen.
pub(crate) fn state_unknown(table: &impl ToString, reason: String) -> CatalogError {
    CatalogError::StateUnknown { table: table.to_string(), reason }
}

/// Copies the failure of a batch to each of its commits; the first gets the original error.
fn fail_batch(error: CatalogError, n: usize) -> Vec<Result<Committed>> {
    let (code, message) = (error.code(), error.to_string());
    let others = (1..n).map(|_| Err(CatalogError::Batch { code, message: message.clone() }));
    let mut results: Vec<_> = others.collect();
    results.insert(0, Err(error));
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_table_that_is_held_keeps_its_turn_however_many_others_are_written() {
        let (sequencers, id) = (Sequencers::default(), TableId::fresh());
        let queue = sequencers.queue(id);
        let held = CommitHold { _turn: queue.turn.clone().lock_owned().await, _queue: queue };
        for _ in 0..3000 {
            sequencers.queue(TableId::fresh());
        }
        assert!(sequencers.queue(id).turn.try_lock().is_err(), "the same turn");
        drop(held);
        assert!(sequencers.queue(id).turn.try_lock().is_ok());
    }
}
