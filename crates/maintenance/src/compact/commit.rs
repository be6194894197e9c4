//! The commits of a compaction. Both are a [`Rebase`]: they are computed on the table as it is at the commit point.
//!
//! [`GroupCommit`] replaces files. Position deletes that landed since the planned snapshot follow their rows into the new files.
//! Equality deletes that landed since need no mapping. The new files take the data sequence number of the planned snapshot, so
//! newer equality deletes apply to them. [`ConvertCommit`] replaces deletes. In both, a delete is removed only if it applies to no
//! live file on that very state.
//!
//! Spec: "Sequence Number Inheritance", "Scan Planning".

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use esker_catalog::{Actor, Catalog, CatalogError, CommitRecords, LoadedTable, Proposal, Rebase};
use esker_format::{DataFile, Operation, Snapshot, TableMetadata};
use esker_storage::Location;
use esker_table::{
    DeleteIndex, DeleteKey, DeleteKind, LiveFile, LiveFiles, RowsToDelete, SnapshotChanges, TableError, ancestors,
    build_snapshot, dangling, delete_key, has_deletes, load_live,
};
use esker_types::{CodedError, JobId};
use esker_write::{WriteError, write_deletes};
use futures::future::BoxFuture;
use tokio::task::spawn_blocking;

use super::kept_moves::KeptMoves;
use super::row_mapping::{ByNumber, RowMapping};
use crate::context::JobContext;
use crate::{MaintenanceError, Result};

/// A group whose new files are written.
#[derive(Debug)]
pub(crate) struct WrittenGroup {
    /// Number of the group in the plan.
    pub(crate) group: usize,
    /// The replaced files; their indexes are the input numbers of the row mapping.
    pub(crate) removed: Vec<LiveFile>,
    /// The new files; their indexes are the output numbers of the row mapping.
    pub(crate) added: Vec<DataFile>,
    /// Id of the partition spec of the new files.
    pub(crate) spec_id: i32,
    pub(crate) row_mapping: RowMapping,
}

/// The commit that replaces the files of some groups.
#[derive(Debug)]
pub(crate) struct GroupCommit {
    pub(crate) context: JobContext,
    pub(crate) branch: String,
    /// Id of the snapshot that was read.
    pub(crate) start: i64,
    /// Sequence number of the snapshot that was read, which becomes the data sequence number of the new files.
    pub(crate) sequence_number: i64,
    /// Shared with the caller, which commits each group alone if they can't be committed together.
    pub(crate) groups: Vec<Arc<WrittenGroup>>,
    /// True if deletes that apply to no file any more are removed too.
    pub(crate) drop_dangling: bool,
    /// The mapping of the rows that is kept for late commits.
    pub(crate) moves: Option<KeptMoves>,
    pub(crate) summary: BTreeMap<String, String>,
}

/// The effects of a compaction's commit, which are known only at the commit point.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CommitEffects {
    /// Number of row positions that were deleted meanwhile and whose deletes were carried over.
    pub(crate) late_deletes: u64,
    /// Number of delete files and deletion vectors that were removed.
    pub(crate) removed_deletes: u64,
}

impl Rebase for GroupCommit {
    type Effect = CommitEffects;

    fn propose<'a>(&'a self, table: &'a LoadedTable) -> Proposed<'a, CommitEffects> {
        Box::pin(async move {
            let metadata = &table.metadata;
            let head = head(metadata, &self.branch, self.start)?;
            let (changes, effects) = self.rewrite(metadata, head).await.map_err(into_catalog_error)?;
            let mut proposal = propose(&self.context, table, &changes).await?;
            if let Some(moves) = &self.moves {
                moves.add_to(&mut proposal, &table.row);
            }
            Ok((proposal, effects))
        })
    }
}

/// The future of a proposal with its effect.
pub(crate) type Proposed<'a, E> = BoxFuture<'a, esker_catalog::Result<(Proposal, E)>>;

/// Returns the head of a branch, which must descend from the snapshot that was read.
///
/// On a branch that was moved back, deletes that the rewrite applied may never have happened.
///
/// # Errors
///
/// Returns [`CatalogError::Conflict`] if the branch is gone or was moved back.
fn head<'a>(metadata: &'a TableMetadata, branch: &str, start: i64) -> esker_catalog::Result<&'a Snapshot> {
    let head = metadata.snapshot_for_ref(branch);
    let head = head.ok_or_else(|| CatalogError::Conflict(format!("branch {branch} has no snapshot")))?;
    if ancestors(metadata, Some(head)).any(|s| s.snapshot_id == start) {
        return Ok(head.as_ref());
    }
    Err(CatalogError::Conflict(format!("branch {branch} was moved back before snapshot {start}, which the rewrite read")))
}

/// Turns an error into the catalog's, for its way through the sequencer. Its code stays the same.
pub(crate) fn into_catalog_error(error: MaintenanceError) -> CatalogError {
    match error {
        MaintenanceError::Catalog(e) => e,
        MaintenanceError::Table(e) | MaintenanceError::Write(WriteError::Table(e)) => e.into(),
        MaintenanceError::Storage(e) | MaintenanceError::Write(WriteError::Storage(e)) => e.into(),
        other => CodedError::new(other).into(),
    }
}

/// Builds the snapshot of a job's changes, as a proposal for the sequencer.
///
/// The new manifests are recorded as pending outputs of the job before they are written.
pub(crate) async fn propose(
    context: &JobContext,
    table: &LoadedTable,
    rewrite: &SnapshotChanges,
) -> esker_catalog::Result<Proposal> {
    propose_for(&context.catalog, context.job, &context.actor, table, rewrite).await
}

/// Builds the snapshot of a job's changes, like [`propose`], without the context of a running job.
pub(crate) async fn propose_for(
    catalog: &Catalog,
    job: JobId,
    actor: &Actor,
    table: &LoadedTable,
    rewrite: &SnapshotChanges,
) -> esker_catalog::Result<Proposal> {
    let (recorder, table_id) = (catalog.clone(), table.row.id);
    let record = move |paths: Vec<String>| -> BoxFuture<'static, esker_table::Result<()>> {
        let catalog = recorder.clone();
        Box::pin(async move {
            let recorded = catalog.record_outputs(table_id, Some(job), &paths).await;
            recorded.map_err(|e| TableError::Caller(CodedError::new(e)))
        })
    };
    let rewritten = build_snapshot(catalog.manifests(), &table.metadata, rewrite, &record).await?;
    catalog.failpoint("compact-before-commit").await;
    let restored = rewrite.restored_files.iter().flat_map(|live| Location::all_spellings(&live.file.file_path)).collect();
    let outputs = rewrite.added.iter().chain(&rewrite.added_deletes).map(|(_, file)| file.file_path.clone());
    let settled_outputs = outputs.chain(rewritten.written).collect();
    Ok(Proposal {
        restore: None,
        requirements: rewritten.requirements,
        updates: rewritten.updates,
        records: CommitRecords { settled_outputs, restored, ..CommitRecords::default() },
        actor: actor.clone(),
    })
}

impl GroupCommit {
    /// Computes the changes of the commit on a head of the branch.
    async fn rewrite(&self, metadata: &TableMetadata, head: &Snapshot) -> Result<(SnapshotChanges, CommitEffects)> {
        let removed: HashSet<String> = self.groups.iter().flat_map(|g| &g.removed).map(|f| f.file.file_path.clone()).collect();
        let added: Vec<(i32, DataFile)> =
            self.groups.iter().flat_map(|g| g.added.iter().map(|f| (g.spec_id, f.clone()))).collect();
        // The catalog's cache of live files has no entry for this state: it may not be in a metadata file yet. The entries of all
        // files are read only if there are deletes or rows without row ids: there may be a commit for each group.
        let manifests = self.context.catalog.manifests();
        let deletes = has_deletes(manifests, head).await?;
        let unnumbered = self.without_row_ids(metadata);
        let live = match deletes || !unnumbered.is_empty() {
            true => load_live(manifests, metadata, head).await?,
            false => LiveFiles::default(),
        };
        let numbered = |f: &&LiveFile| f.first_row_id.is_some() && unnumbered.contains(f.file.file_path.as_str());
        if let Some(file) = live.data.iter().find(numbered) {
            let what = format!("the rows of {} were given row ids since the plan was made", file.file.file_path);
            return Err(TableError::Conflict(what).into());
        }
        let late = self.map_late_deletes(metadata, &live).await?;
        let late_deletes = late.iter().map(|d| d.positions.len()).sum();
        let added_deletes = write_deletes(&self.context.destination(), metadata, late).await?;
        let removed_deletes = self.deletes_to_remove(metadata, live, &removed, &added);
        let effects = CommitEffects { late_deletes, removed_deletes: removed_deletes.len() as u64 };
        let changes = SnapshotChanges {
            operation: Operation::Replace,
            branch: self.branch.clone(),
            removed: removed.into_iter().map(|path| (path, 1)).collect(),
            removed_deletes,
            added,
            rewritten_manifests: HashSet::new(),
            restored_files: Vec::new(),
            added_deletes,
            starting_sequence_number: Some(self.sequence_number),
            summary: self.summary.clone(),
        };
        Ok((changes, effects))
    }

    /// Returns the replaced files whose rows had no row ids when they were read, in a table of format version 3.
    fn without_row_ids(&self, metadata: &TableMetadata) -> HashSet<&str> {
        if metadata.format_version < 3 {
            return HashSet::new();
        }
        let removed = self.groups.iter().flat_map(|g| &g.removed);
        removed.filter(|f| f.first_row_id.is_none()).map(|f| f.file.file_path.as_str()).collect()
    }

    /// Maps the position deletes that landed after the snapshot that was read to the rows' positions in the new files.
    ///
    /// Equality deletes that landed meanwhile need no mapping: they are newer than the data sequence number of the new files, so
    /// they apply.
    async fn map_late_deletes(&self, metadata: &TableMetadata, live: &LiveFiles) -> Result<Vec<RowsToDelete>> {
        let is_late =
            |d: &&esker_table::LiveDelete| d.entry.sequence_number > self.sequence_number && d.kind != DeleteKind::Equality;
        let late = LiveFiles { deletes: live.deletes.iter().filter(is_late).cloned().collect(), ..LiveFiles::default() };
        let mut to_delete = Vec::new();
        if late.deletes.is_empty() {
            return Ok(to_delete);
        }
        let index = DeleteIndex::new(&late.deletes, metadata)?;
        for group in &self.groups {
            let positions = self.context.reader.deleted_positions(&group.removed, &index, &self.context.counters.reads).await?;
            if positions.is_empty() {
                continue;
            }
            let numbered = group.removed.iter().enumerate();
            let by_number: ByNumber =
                numbered.filter_map(|(n, f)| Some((n, positions.get(&f.file.file_path)?.clone()))).collect();
            // The mapping of sorted rows is read from disk, which must not block the thread that serves requests.
            let mapped = group.clone();
            let followed = spawn_blocking(move || mapped.row_mapping.follow(&by_number)).await??;
            for (output, positions) in followed {
                let file = &group.added[output];
                let (path, partition) = (file.file_path.clone(), file.partition.clone());
                to_delete.push(RowsToDelete { path, spec_id: group.spec_id, partition, positions });
            }
        }
        Ok(to_delete)
    }

    /// Returns the deletes to remove, judged on the very state that the commit is based on.
    ///
    /// These are deletes about replaced files alone. With `drop_dangling`, deletes that apply to no file after the replacement
    /// follow.
    fn deletes_to_remove(
        &self,
        metadata: &TableMetadata,
        mut live: LiveFiles,
        removed: &HashSet<String>,
        added: &[(i32, DataFile)],
    ) -> HashSet<DeleteKey> {
        let about_removed =
            |d: &&esker_table::LiveDelete| d.entry.file.referenced_data_file.as_ref().is_some_and(|path| removed.contains(path));
        let mut go: HashSet<DeleteKey> = live.deletes.iter().filter(about_removed).map(|d| delete_key(&d.entry.file)).collect();
        if self.drop_dangling && !live.deletes.is_empty() {
            live.data.retain(|f| !removed.contains(&f.file.file_path));
            let fresh = |(spec_id, file): &(i32, DataFile)| LiveFile {
                file: file.clone(),
                spec_id: *spec_id,
                sequence_number: self.sequence_number,
                file_sequence_number: None,
                snapshot_id: 0,
                first_row_id: None,
            };
            let fresh: Vec<LiveFile> = added.iter().map(fresh).collect();
            go.extend(dangling(&live, &fresh, metadata).into_iter().map(|i| delete_key(&live.deletes[i].entry.file)));
        }
        go
    }
}

/// The commit of a conversion of deletes: it replaces deletes by deletion vectors or position deletes, and rewrites no data file.
#[derive(Debug)]
pub(crate) struct ConvertCommit {
    pub(crate) context: JobContext,
    pub(crate) branch: String,
    /// Id of the snapshot that was read.
    pub(crate) start: i64,
    /// Sequence number of the snapshot that was read.
    pub(crate) sequence_number: i64,
    /// The deleted positions of every data file of the plan, by its location.
    pub(crate) files: HashMap<String, RowsToDelete>,
    /// The deletes that the positions replace.
    pub(crate) covered: HashSet<DeleteKey>,
    /// True if deletes that apply to no file any more are removed too.
    pub(crate) drop_dangling: bool,
    pub(crate) summary: BTreeMap<String, String>,
}

impl Rebase for ConvertCommit {
    type Effect = CommitEffects;

    fn propose<'a>(&'a self, table: &'a LoadedTable) -> Proposed<'a, CommitEffects> {
        Box::pin(async move {
            let metadata = &table.metadata;
            let head = head(metadata, &self.branch, self.start)?;
            let (changes, effects) = self.rewrite(metadata, head).await.map_err(into_catalog_error)?;
            Ok((propose(&self.context, table, &changes).await?, effects))
        })
    }
}

impl ConvertCommit {
    /// Computes the changes of the commit on a head of the branch.
    async fn rewrite(&self, metadata: &TableMetadata, head: &Snapshot) -> Result<(SnapshotChanges, CommitEffects)> {
        let live = load_live(self.context.catalog.manifests(), metadata, head).await?;
        let index = DeleteIndex::new(&live.deletes, metadata)?;
        // A delete is removed only if its deletes in every file that it can apply to, as the table is now, were converted.
        let mut needed: HashSet<usize> = HashSet::new();
        for file in live.data.iter().filter(|f| !self.files.contains_key(&f.file.file_path)) {
            needed.extend(index.all(file));
        }
        let covered =
            |(i, d): &(usize, &esker_table::LiveDelete)| self.covered.contains(&delete_key(&d.entry.file)) && !needed.contains(i);
        let mut removed_deletes: HashSet<DeleteKey> =
            live.deletes.iter().enumerate().filter(covered).map(|(_, d)| delete_key(&d.entry.file)).collect();
        // Positions that were deleted in a file meanwhile are added to those found; a new vector replaces the one before it.
        let alive: Vec<LiveFile> = live.data.iter().filter(|f| self.files.contains_key(&f.file.file_path)).cloned().collect();
        let mut late = LiveFiles::default();
        // A vector also supersedes position delete files. In format version 2, later position delete files stay next to the new
        // ones.
        let vectors = metadata.format_version >= 3;
        let is_late = |d: &&esker_table::LiveDelete| {
            let positional = if vectors { d.kind != DeleteKind::Equality } else { d.kind == DeleteKind::DeletionVector };
            positional && d.entry.sequence_number > self.sequence_number
        };
        late.deletes = live.deletes.iter().filter(is_late).cloned().collect();
        let late_index = DeleteIndex::new(&late.deletes, metadata)?;
        let late = self.context.reader.deleted_positions(&alive, &late_index, &self.context.counters.reads).await?;
        let mut late_deletes = 0;
        let mut to_delete = Vec::new();
        for file in &alive {
            let path = &file.file.file_path;
            let Some(found) = self.files.get(path) else { continue };
            let mut found = found.clone();
            if let Some(positions) = late.get(path) {
                let before = found.positions.len();
                found.positions |= positions;
                late_deletes += positions.len().saturating_sub(before);
            }
            if found.positions.is_empty() {
                continue;
            }
            if let Some(vector) = index.vector(file) {
                removed_deletes.insert(delete_key(&live.deletes[vector].entry.file));
            }
            to_delete.push(found);
        }
        let added_deletes = write_deletes(&self.context.destination(), metadata, to_delete).await?;
        if self.drop_dangling {
            removed_deletes.extend(dangling(&live, &[], metadata).into_iter().map(|i| delete_key(&live.deletes[i].entry.file)));
        }
        let effects = CommitEffects { late_deletes, removed_deletes: removed_deletes.len() as u64 };
        let changes = SnapshotChanges {
            operation: Operation::Replace,
            branch: self.branch.clone(),
            removed: HashMap::new(),
            removed_deletes,
            added: Vec::new(),
            rewritten_manifests: HashSet::new(),
            restored_files: Vec::new(),
            added_deletes,
            starting_sequence_number: Some(self.sequence_number),
            summary: self.summary.clone(),
        };
        Ok((changes, effects))
    }
}
