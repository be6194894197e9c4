//! The undo of a compaction: the files that it replaced take the place of its own again, with the sequence numbers that they had.
//!
//! The rows of the table stay the same. Equality deletes that landed since apply to the old files as they do to the new. Position
//! deletes that landed since do not: they name rows of the new files, and the row mapping is not stored. An undo is refused if
//! there are any, or if a file of the job is not in the table any more. The deletes that hid rows of the old files must come back
//! with them or still be live. Without them, deleted rows would be visible again. Start reading at [`reverse`].

use std::collections::{BTreeMap, HashSet};

use esker_catalog::{Actor, Catalog, LoadedTable, Rebase, deletion};
use esker_format::{DataContentType, ManifestStatus, Operation, Snapshot, SnapshotRef, TableMetadata};
use esker_state::{Job, QuarantineState};
use esker_storage::Location;
use esker_table::{
    DeleteIndex, DeleteKey, DeleteKind, LiveDelete, LiveFile, LiveFiles, SnapshotChanges, ancestors, delete_key, load_live,
    visit_changes,
};
use esker_types::{Principal, TableId, format_count, is_or_are};

use super::commit::{Proposed, into_catalog_error, propose_for};
use crate::Result;
use crate::erase::erased;
use crate::undone::{check_stored, nothing_to_undo, refused, swept};

/// The changes of a job's snapshots to a table.
#[derive(Debug, Default)]
struct JobChanges {
    branch: String,
    /// Locations of the data files that the job added.
    added: HashSet<String>,
    /// The deletes that the job added.
    added_deletes: HashSet<DeleteKey>,
    /// The data and delete files that the job removed.
    removed: Vec<LiveFile>,
    /// The deletes that hid rows of the removed files and that the job kept. Each has one of those files and the id of the job's
    /// snapshot.
    needed: BTreeMap<DeleteKey, (String, i64)>,
}

/// Undoes a compaction, in one commit. Returns the number of files that are in the table again.
///
/// # Errors
///
/// - Returns [`Refused`](crate::MaintenanceError::Refused) if a snapshot of the job was expired, or if a file that is needed was
///   deleted or erased.
/// - Returns [`Table`](crate::MaintenanceError::Table) if manifests of the job's snapshots can't be read.
/// - Returns [`State`](crate::MaintenanceError::State) if the database fails, and [`Storage`](crate::MaintenanceError::Storage) if
///   the storage does not answer.
/// - Returns [`Catalog`](crate::MaintenanceError::Catalog) if the commit fails, or if files of a failed commit can't be settled. If
///   the table has changed so that rows would be lost, or deleted rows visible again, its source is
///   [`CatalogError::Carried`](esker_catalog::CatalogError::Carried) with the code
///   [`ErrorCode::Refused`](esker_types::ErrorCode::Refused).
pub(crate) async fn reverse(catalog: &Catalog, table: &LoadedTable, job: &Job, principal: &Principal) -> Result<u64> {
    let effect = effect(catalog, &table.metadata, job).await?;
    check_there(catalog, table.row.id, job, &effect.removed).await?;
    let files = effect.removed.len() as u64;
    let reversal =
        UndoCommit { catalog: catalog.clone(), job: job.clone(), effect, actor: Actor::server_for(principal.to_string()) };
    let committed = catalog.commit_rebase(table.row.id, reversal).await;
    let left = catalog.state().outputs().of_job(job.id).await?;
    if !left.is_empty() {
        deletion::settle_outputs(catalog, table.row.id, &left, "written by an undo and not committed").await?;
    }
    committed?;
    Ok(files)
}

/// Checks that a job is a compaction that can be undone on the table as it is.
///
/// # Errors
///
/// - Returns [`Refused`](crate::MaintenanceError::Refused) with the reason if the job can't be undone.
/// - Returns [`Table`](crate::MaintenanceError::Table) if manifests of the job's snapshots or of the branch can't be read, or if a
///   data file has two deletion vectors.
/// - Returns [`State`](crate::MaintenanceError::State) if the database fails, and [`Storage`](crate::MaintenanceError::Storage) if
///   the storage does not answer.
pub(crate) async fn check_reversible(catalog: &Catalog, table: &LoadedTable, job: &Job) -> Result<()> {
    if job.kind != "compact" {
        return refused(format!("job {} is of the kind {}, which can't be undone", job.id, job.kind));
    }
    if let Some(by) = &job.undone_by {
        return refused(format!("job {} is undone already, by {by}", job.id));
    }
    let effect = effect(catalog, &table.metadata, job).await?;
    check_there(catalog, table.row.id, job, &effect.removed).await?;
    let reversal = UndoCommit { catalog: catalog.clone(), job: job.clone(), effect, actor: Actor::default() };
    reversal.rewrite(table).await.map(drop)
}

/// Reads the changes of a job's snapshots from their manifests.
async fn effect(catalog: &Catalog, metadata: &TableMetadata, job: &Job) -> Result<JobChanges> {
    let source = catalog.manifests();
    let branch = job.plan.as_ref().and_then(|plan| plan["options"]["branch"].as_str()).unwrap_or("main").to_owned();
    let mut effect = JobChanges { branch, ..JobChanges::default() };
    let id = job.id.to_string();
    let of_job = |s: &Snapshot| s.summary_value("esker.job-id") == Some(id.as_str());
    let snapshots: Vec<_> = metadata.snapshots.iter().filter(|s| of_job(s)).collect();
    let committed = job.outcome.as_ref().and_then(|o| o["commits"].as_u64());
    if committed == Some(0) && snapshots.is_empty() {
        return nothing_to_undo(job, "it rewrote no file");
    }
    let (committed, there) = (committed.unwrap_or(1).max(1), snapshots.len() as u64);
    if there < committed {
        let made = format_count(committed, "snapshot");
        return refused(format!("job {id} made {made}, of which the table still has {there}: the others were expired"));
    }
    for snapshot in snapshots {
        let before = effect.removed.len();
        visit_changes(source, metadata, snapshot, |named| match (named.status(), named.file().content) {
            (ManifestStatus::Existing, _) => {}
            (ManifestStatus::Added, DataContentType::Data) => drop(effect.added.insert(named.file().file_path.clone())),
            (ManifestStatus::Added, _) => drop(effect.added_deletes.insert(delete_key(named.file()))),
            (ManifestStatus::Deleted, _) => effect.removed.push(named.live()),
        })
        .await?;
        effect.needed.extend(applied(catalog, metadata, snapshot, &effect.removed[before..]).await?);
    }
    let removed: HashSet<DeleteKey> = effect.removed.iter().map(|f| delete_key(&f.file)).collect();
    effect.needed.retain(|key, _| !removed.contains(key));
    // A file that one commit of the job added and another removed was not in the table before the job.
    let (added, added_deletes) = (effect.added.clone(), effect.added_deletes.clone());
    let own = |f: &LiveFile| added.contains(&f.file.file_path) || added_deletes.contains(&delete_key(&f.file));
    let passing: Vec<LiveFile> = effect.removed.extract_if(.., |f| own(f)).collect();
    for file in passing {
        effect.added.remove(&file.file.file_path);
        effect.added_deletes.remove(&delete_key(&file.file));
    }
    Ok(effect)
}

/// Returns the deletes that applied to the data files which a snapshot removed, just before it: those that it kept and those that
/// it removed.
async fn applied(
    catalog: &Catalog,
    metadata: &TableMetadata,
    snapshot: &Snapshot,
    removed: &[LiveFile],
) -> Result<BTreeMap<DeleteKey, (String, i64)>> {
    let id = snapshot.snapshot_id;
    let mut before = load_live(catalog.manifests(), metadata, snapshot).await?;
    before.deletes.retain(|d| d.entry.snapshot_id != id);
    let delete = |file: &LiveFile| Some(LiveDelete { kind: DeleteKind::of(&file.file)?, entry: file.clone() });
    before.deletes.extend(removed.iter().filter_map(delete));
    let index = DeleteIndex::new(&before.deletes, metadata)?;
    let mut found = BTreeMap::new();
    for file in removed.iter().filter(|f| f.file.content == DataContentType::Data) {
        for at in index.all(file) {
            found.entry(delete_key(&before.deletes[at].entry.file)).or_insert_with(|| (file.file.file_path.clone(), id));
        }
    }
    Ok(found)
}

/// Checks that every file is still in storage, that none is being deleted, and that no erasure is about to remove any.
async fn check_there(catalog: &Catalog, table: TableId, job: &Job, files: &[LiveFile]) -> Result<()> {
    let quarantine = catalog.state().quarantine().of_table(table).await?;
    let deleting = quarantine.into_iter().filter(|d| d.state == QuarantineState::Deleting);
    let going: HashSet<String> = deleting.map(|d| Location::normalize(&d.record.path)).collect();
    let paths: HashSet<&str> = files.iter().map(|f| f.file.file_path.as_str()).collect();
    if let Some(path) = paths.iter().find(|path| going.contains(&Location::normalize(path))) {
        return Err(swept(job, &format!("{path} is being deleted")));
    }
    let erased = erased(catalog, table).await?;
    if let Some((path, by)) = paths.iter().find_map(|path| Some((path, erased.get(&Location::normalize(path))?))) {
        return refused(format!("{path} holds rows that job {by} erased"));
    }
    check_stored(catalog, job, &paths.into_iter().map(str::to_owned).collect::<Vec<_>>()).await
}

/// The commit of an undo.
struct UndoCommit {
    catalog: Catalog,
    job: Job,
    effect: JobChanges,
    actor: Actor,
}

impl Rebase for UndoCommit {
    type Effect = ();

    fn propose<'a>(&'a self, table: &'a LoadedTable) -> Proposed<'a, ()> {
        Box::pin(async move {
            let rewrite = self.rewrite(table).await.map_err(into_catalog_error)?;
            Ok((propose_for(&self.catalog, self.job.id, &self.actor, table, &rewrite).await?, ()))
        })
    }
}

impl UndoCommit {
    /// Computes the changes of the undo on the table as it is, or refuses.
    async fn rewrite(&self, table: &LoadedTable) -> Result<SnapshotChanges> {
        let (metadata, effect, id) = (&table.metadata, &self.effect, self.job.id);
        let Some(head) = metadata.snapshot_for_ref(&effect.branch) else {
            return refused(format!("{} has no branch {}", table.row.name, effect.branch));
        };
        let live = load_live(self.catalog.manifests(), metadata, head).await?;
        let own: Vec<&LiveFile> = live.data.iter().filter(|f| effect.added.contains(&f.file.file_path)).collect();
        if own.len() < effect.added.len() {
            let (n, of) = (effect.added.len() - own.len(), effect.added.len());
            let of = format_count(of as u64, "file");
            let are = is_or_are(n as u64);
            return refused(format!("of the {of} that job {id} wrote, {n} {are} not in the table since: replaced or deleted"));
        }
        let is_later =
            |d: &&LiveDelete| d.kind != DeleteKind::Equality && !effect.added_deletes.contains(&delete_key(&d.entry.file));
        let later = LiveFiles { deletes: live.deletes.iter().filter(is_later).cloned().collect(), ..LiveFiles::default() };
        let index = DeleteIndex::new(&later.deletes, metadata)?;
        if let Some(file) = own.iter().find(|file| !index.all(file).is_empty()) {
            let path = &file.file.file_path;
            return refused(format!("rows of {path}, which job {id} wrote, were deleted since, and their origin is not stored"));
        }
        let there: HashSet<DeleteKey> = live.deletes.iter().map(|d| delete_key(&d.entry.file)).collect();
        if let Some((path, _)) = effect.added_deletes.iter().find(|key| !there.contains(*key)) {
            return refused(format!("the deletes in {path}, which job {id} wrote, were replaced since"));
        }
        let restored: HashSet<&str> = effect.removed.iter().map(|f| f.file.file_path.as_str()).collect();
        if let Some(file) = live.data.iter().find(|f| restored.contains(f.file.file_path.as_str())) {
            return refused(format!("{}, which job {id} replaced, is in the table again already", file.file.file_path));
        }
        if let Some((key, (path, after))) = effect.needed.iter().find(|(key, _)| !there.contains(*key)) {
            let by = self.dropped_by(metadata, head, *after, key).await?;
            return refused(format!(
                "the delete file {}, which hid rows of {path}, was dropped since by {by}: the rows would be visible again",
                key.0
            ));
        }
        let undone = BTreeMap::from([
            ("engine-name".to_owned(), "esker".to_owned()),
            ("engine-version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("esker.undone-job-id".to_owned(), id.to_string()),
        ]);
        Ok(SnapshotChanges {
            operation: Operation::Replace,
            branch: effect.branch.clone(),
            removed: effect.added.iter().map(|path| (path.clone(), 1)).collect(),
            removed_deletes: effect.added_deletes.clone(),
            added: Vec::new(),
            rewritten_manifests: HashSet::new(),
            added_deletes: Vec::new(),
            starting_sequence_number: None,
            restored_files: effect.removed.clone(),
            summary: undone,
        })
    }

    /// Names the snapshot that dropped a delete: the oldest after the job's snapshot, on the head's line, from which on it is not
    /// live.
    async fn dropped_by(&self, metadata: &TableMetadata, head: &SnapshotRef, after: i64, key: &DeleteKey) -> Result<String> {
        let mut dropped = None;
        for snapshot in ancestors(metadata, Some(head)).take_while(|s| s.snapshot_id != after) {
            let live = load_live(self.catalog.manifests(), metadata, snapshot).await?;
            if live.deletes.iter().any(|d| delete_key(&d.entry.file) == *key) {
                break;
            }
            dropped = Some(snapshot);
        }
        Ok(dropped.map_or_else(
            || "a snapshot that is not there any more".to_owned(),
            |s| match s.operation() {
                Some(operation) => format!("snapshot {} ({operation})", s.snapshot_id),
                None => format!("snapshot {}", s.snapshot_id),
            },
        ))
    }
}
