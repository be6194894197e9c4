//! The commit path: one queue a table, drained as one batch, one metadata file and one compare-and-swap a batch.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use esker_format::{At, OPERATION, TableMetadata, TableRequirement, TableUpdate};
use esker_state::{NewEvent, NewQuarantine, Outbox, StateError, Swap, TableRow};
use esker_storage::Location;
use esker_table::properties::{DELETE_METADATA, METADATA_VERSIONS};
use esker_types::{Coded, TableId, TableName, caught, now_ms};
use flate2::Compression;
use flate2::read::GzEncoder;
use futures::future::BoxFuture;
use serde_json::json;
use tokio::sync::{OwnedMutexGuard, oneshot};
use tracing::Instrument;

use crate::actor::receipt;
use crate::cache::listed;
use crate::moves::{left_behind, metadata_files, with_left_behind};
use crate::readable::check_numbers;
use crate::restore::{Restored, restore};
use crate::{Actor, Catalog, CatalogError, LoadedTable, RequestOutcome, Result, places};

/// Times that a batch is replayed after another server process won the race.
const MAX_REPLAYS: usize = 10;

/// Requirements and updates, with what belongs in the same transaction.
#[derive(Debug, Clone, Default)]
pub struct Proposal {
    /// What must hold.
    pub requirements: Vec<TableRequirement>,
    /// What changes.
    pub updates: Vec<TableUpdate>,
    /// Snapshots to bring back; the updates are those of [`Restored::updates`] then.
    pub restore: Option<Box<Restored>>,
    /// Files that this leaves unreferenced.
    pub quarantine: Vec<NewQuarantine>,
    /// Recorded outputs that become part of the table.
    pub settled_outputs: Vec<String>,
    /// Files that belonged to the table before and do again.
    pub restored: Vec<String>,
    /// Who makes the change.
    pub actor: Actor,
}

/// A change that is worked out anew on the table as it is at the commit point, so that concurrent appends never make it fail.
pub trait Rebase: Send + Sync {
    /// The change on this state. Called again if the state changes before the swap.
    fn propose<'a>(&'a self, table: &'a LoadedTable) -> BoxFuture<'a, Result<Proposal>>;
}

/// A change to a table.
#[derive(Clone)]
pub enum Change {
    /// As a client sent it.
    Fixed(Box<Proposal>),
    /// As maintenance makes it.
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

/// A table after a commit, with how many commits shared its metadata file.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The table, with the final metadata of the whole batch.
    pub table: LoadedTable,
    /// Commits in the batch.
    pub batch: usize,
}

struct Pending {
    ticket: u64,
    change: Change,
    done: oneshot::Sender<Result<Committed>>,
}

/// One table's queue. Whoever holds `turn` takes everything that waits.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Vec<Pending>>,
    tickets: AtomicU64,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Vec<Pending>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, change: Change, done: oneshot::Sender<Result<Committed>>) -> u64 {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        self.waiting().push(Pending { ticket, change, done });
        ticket
    }

    /// Takes a commit back that nobody has begun; none: it was begun.
    fn take_back(&self, ticket: u64) -> Option<Pending> {
        let mut waiting = self.waiting();
        let at = waiting.iter().position(|pending| pending.ticket == ticket)?;
        Some(waiting.remove(at))
    }
}

/// Keeps commits to a table out while it lives.
///
/// The queue is kept as well: one that nobody holds may be forgotten, and the next commit would get another turn than this one.
pub(crate) struct Held {
    _turn: OwnedMutexGuard<()>,
    _queue: Arc<Queue>,
}

/// The queues of the tables that are being written.
#[derive(Default)]
pub(crate) struct Sequencers {
    queues: Mutex<HashMap<TableId, Arc<Queue>>>,
}

impl std::fmt::Debug for Sequencers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sequencers").finish_non_exhaustive()
    }
}

impl Sequencers {
    fn queue(&self, table: TableId) -> Arc<Queue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        // A queue that only this map holds has nobody waiting.
        if queues.len() >= 1024 {
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        queues.entry(table).or_default().clone()
    }
}

impl Catalog {
    /// Commits a change to a table; concurrent ones share a metadata file.
    pub async fn commit(&self, name: &TableName, change: Change) -> Result<Committed> {
        let row = self.state().table(self.warehouse(), name).await?;
        self.commit_to(row.id, change).await
    }

    /// Commits to a table by its entry, whatever its name is by now.
    pub async fn commit_to(&self, id: TableId, change: Change) -> Result<Committed> {
        let queue = self.inner.sequencers.queue(id);
        let wait = self.patience(&change);
        let (done, answer) = oneshot::channel();
        let ticket = queue.enter(change, done);
        let this = self.clone();
        // A task of its own: a client that goes away must not cut a commit in two.
        let turn = async move {
            match tokio::time::timeout(wait, queue.turn.clone().lock_owned()).await {
                Ok(_turn) => {
                    let batch = std::mem::take(&mut *queue.waiting());
                    if !batch.is_empty() {
                        this.run_batch(id, batch).await;
                    }
                }
                // Whoever has the turn may have taken this commit along; then its answer is on the way.
                Err(_) => {
                    if let Some(pending) = queue.take_back(ticket) {
                        drop(pending.done.send(Err(busy(&id, wait))));
                    }
                }
            }
        };
        tokio::spawn(turn.instrument(tracing::info_span!("commit", table_id = %id)));
        // Once for the turn, once for the work.
        match tokio::time::timeout(wait * 2, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(unknown(&id, "the commit was not answered".to_owned())),
            Err(_) => Err(unknown(&id, format!("it was begun and did not end in {} s", wait.as_secs()))),
        }
    }

    /// How long a change waits. What maintenance works out is hours of work that nobody sends again.
    fn patience(&self, change: &Change) -> Duration {
        match change {
            Change::Fixed(_) => self.options().commit_wait,
            Change::Rebased(_) => self.options().commit_wait * 10,
        }
    }

    /// Keeps commits to a table out while the guard lives. The one deleting function checks and marks under it.
    pub(crate) async fn hold_commits(&self, table: TableId) -> Result<Held> {
        let (queue, wait) = (self.inner.sequencers.queue(table), self.options().commit_wait);
        match tokio::time::timeout(wait, queue.turn.clone().lock_owned()).await {
            Ok(turn) => Ok(Held { _turn: turn, _queue: queue }),
            Err(_) => Err(busy(&table, wait)),
        }
    }

    async fn run_batch(&self, id: TableId, batch: Vec<Pending>) {
        let changes: Vec<Change> = batch.iter().map(|p| p.change.clone()).collect();
        let outcome = self.try_batch(id, &changes).await;
        for (pending, result) in batch.into_iter().zip(outcome) {
            // A receiver that is gone is a client that went away; the commit stands.
            drop(pending.done.send(result));
        }
    }

    /// One result for each change.
    async fn try_batch(&self, id: TableId, changes: &[Change]) -> Vec<Result<Committed>> {
        for _ in 0..MAX_REPLAYS {
            match self.replay(id, changes).await {
                Ok(Some(results)) => return results,
                Ok(None) => {}
                Err(e) => return spread(e, changes.len()),
            }
        }
        let lost = format!("other servers kept committing to the table for {MAX_REPLAYS} attempts");
        spread(CatalogError::Conflict(lost), changes.len())
    }

    /// Applies the changes to the table as it is now. `None` means that the swap was lost, and the table has to be read again.
    async fn replay(&self, id: TableId, changes: &[Change]) -> Result<Option<Vec<Result<Committed>>>> {
        let row = self.state().table_by_id(id).await?;
        let row = row.ok_or_else(|| StateError::NoSuchTable(id.to_string()))?;
        self.check_not_behind(&row).await?;
        let current = self.load_row(row).await?;
        let mut working = current.clone();
        let (mut quarantines, mut settled) = (Vec::new(), Vec::new());
        // What each change that had an effect was.
        let mut effects: Vec<Proposal> = Vec::new();
        let mut idle: Vec<Actor> = Vec::new();
        let mut results: Vec<Result<()>> = Vec::with_capacity(changes.len());
        for change in changes {
            let base = effects.is_empty().then_some(current.row.metadata_location.as_str());
            // A bug that one change meets fails that change, not those that share its batch.
            let applied = caught(self.apply_change(&working, base, change)).await;
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
                self.state().insert_receipt(receipt).await?;
            }
        } else if !self.publish(&current, &mut working, quarantines, settled, &effects, &idle).await? {
            return Ok(None);
        }
        let committed = Committed { table: working, batch: changes.len() };
        Ok(Some(results.into_iter().map(|r| r.map(|()| committed.clone())).collect()))
    }

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

    /// A snapshot whose manifest list is in quarantine would soon point at nothing.
    async fn check_references(&self, updates: &[TableUpdate]) -> Result<()> {
        for update in updates {
            let TableUpdate::AddSnapshot { snapshot } = update else { continue };
            for file in listed(snapshot) {
                let (quarantined, going) = self.state().quarantined_among(&Location::names(&file)).await?;
                if !quarantined.is_empty() || !going.is_empty() {
                    let what = format!("snapshot {} refers to {file}, which is being deleted", snapshot.snapshot_id);
                    return Err(CatalogError::Conflict(what));
                }
            }
        }
        Ok(())
    }

    /// Metadata files that fell out of the metadata log, where the table says that they go (specification of the table
    /// properties `write.metadata.delete-after-commit.enabled` and `write.metadata.previous-versions-max`).
    fn outdated_metadata(&self, before: &LoadedTable, after: &TableMetadata) -> Vec<NewQuarantine> {
        let properties = &after.properties;
        // How many are to be kept is not known where that can't be read.
        let wanted = DELETE_METADATA.of(properties) && METADATA_VERSIONS.checked(properties).is_ok();
        if !wanted || !before.row.owned {
            return Vec::new();
        }
        let kept: HashSet<String> =
            with_left_behind(after.metadata_log.iter().map(|log| log.metadata_file.clone()).collect()).into_iter().collect();
        let due_ms = now_ms().saturating_add(self.options().grace_ms);
        let reason = "it fell out of the metadata log (write.metadata.previous-versions-max)";
        let now = &before.row.metadata_location;
        let gone = metadata_files(before).into_iter().filter(|file| file != now && !kept.contains(file));
        gone.map(|file| before.row.quarantine(file, None, reason, None, due_ms)).collect()
    }

    /// Writes the metadata file that `working` gets, and says what has to be swapped.
    pub(crate) async fn write_next(
        &self,
        current: &LoadedTable,
        working: &mut LoadedTable,
        quarantines: Vec<NewQuarantine>,
        mut settled_outputs: Vec<String>,
        updates: &[TableUpdate],
    ) -> Result<Swap> {
        let from = current.row.metadata_location.clone();
        let to = Self::next_metadata_path(&working.metadata, Some(&from))?;
        working.json = current.json.next(&current.metadata, &working.metadata, updates)?;
        settled_outputs.extend(self.write_following(&current.row, &to, working.json.bytes().clone()).await?);
        working.row.location = Location::parse(&working.metadata.location)?.to_string();
        working.row.metadata_location.clone_from(&to);
        // The places before the commit, too: a database that an earlier release made knows the location only.
        let [before, after] = [&current.metadata, &working.metadata].map(|m| places::named(&m.location, &m.properties));
        let places: Vec<String> = before.into_iter().chain(after).collect();
        let places = if places.iter().all(|place| *place == current.row.location) { Vec::new() } else { places };
        Ok(Swap {
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

    /// Writes the metadata file and swaps the pointer. `false`: somebody else was first.
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
        // Those of commits without effect, too: once the pointer has moved, nothing more may fail.
        let actors = effects.iter().map(|e| &e.actor).chain(idle);
        let along = Outbox {
            events: effects.iter().map(|e| self.update_event(current, working, e, &e.actor)).collect(),
            receipts: actors.filter_map(|actor| receipt(actor, &RequestOutcome::of(&working.row))).collect(),
        };
        match self.state().publish(self.warehouse(), std::slice::from_ref(&swap), &[], &along).await {
            Ok(true) => {
                self.remember_metadata(&swap.to, working.metadata.clone(), working.json.clone()).await;
                self.failpoint("commit-after-swap").await;
                self.notify_change();
                Ok(true)
            }
            Ok(false) => {
                self.discard(&current.row, &swap.to, "a commit that another server overtook").await;
                Ok(false)
            }
            Err(e) => {
                // A file whose fate nobody knows is kept.
                if !matches!(e, StateError::Ambiguous(_)) {
                    self.discard(&current.row, &swap.to, "a commit that the state database refused").await;
                }
                Err(CatalogError::of_publishing(e, &current.row.name))
            }
        }
    }

    /// What the out-box tells of a commit.
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

    /// Records and writes a metadata file of a table or view.
    pub(crate) async fn write_metadata_file(&self, row: &TableRow, uri: &str, json: Bytes) -> Result<()> {
        let mut bytes = json;
        if uri.ends_with(".gz.metadata.json") {
            let mut gzip = Vec::new();
            GzEncoder::new(bytes.as_ref(), Compression::default())
                .read_to_end(&mut gzip)
                .map_err(|e| CatalogError::MetadataInvalid { uri: uri.to_owned(), reason: e.to_string() })?;
            bytes = gzip.into();
        }
        self.state().record_outputs(self.warehouse(), row.id, None, &[uri.to_owned()]).await?;
        if let Err(e) = self.storage().write(uri, bytes).await {
            // A store that did not answer may have it all the same.
            self.discard(row, uri, "a metadata file that could not be written").await;
            return Err(e.into());
        }
        Ok(())
    }

    /// Hands a metadata file that never became current to the deleting function. A failure leaves the recorded intent,
    /// which the next start settles.
    pub(crate) async fn discard(&self, row: &TableRow, uri: &str, reason: &str) {
        let files = std::iter::once(uri.to_owned()).chain(left_behind(row, uri));
        let quarantines: Vec<NewQuarantine> = files.map(|file| row.quarantine(file, None, reason, None, now_ms())).collect();
        if let Err(error) = self.state().quarantine(&quarantines).await {
            tracing::warn!(%error, uri, "a metadata file was left behind");
        }
    }
}

/// One commit on one state of a table. `base` is the metadata file that the state came from; none for a state that an earlier commit of the
/// same batch made. `None` means that nothing changes.
fn apply(metadata: &TableMetadata, base: Option<&str>, proposal: &Proposal) -> Result<Option<TableMetadata>> {
    proposal.requirements.iter().try_for_each(|requirement| requirement.check(metadata))?;
    check_numbers(&proposal.updates)?;
    Ok(esker_format::apply(metadata, &proposal.updates, At { now_ms: now_ms(), metadata_file: base })?)
}

fn busy(table: &impl ToString, wait: Duration) -> CatalogError {
    CatalogError::Busy(format!("table {}", table.to_string()), wait.as_secs())
}

/// The end of a commit that was begun was not seen.
pub(crate) fn unknown(table: &impl ToString, reason: String) -> CatalogError {
    CatalogError::StateUnknown { table: table.to_string(), reason }
}

/// The same failure for every commit of a batch.
fn spread(error: CatalogError, n: usize) -> Vec<Result<Committed>> {
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
        let held = Held { _turn: queue.turn.clone().lock_owned().await, _queue: queue };
        for _ in 0..3000 {
            sequencers.queue(TableId::fresh());
        }
        assert!(sequencers.queue(id).turn.try_lock().is_err(), "the same turn");
        drop(held);
        assert!(sequencers.queue(id).turn.try_lock().is_ok());
    }
}
