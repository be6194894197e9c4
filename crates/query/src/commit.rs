//! Commits of added and removed rows, through a table's commit sequencer.
//!
//! The commit is computed on the table as it is at the commit point. Positions that were found in one snapshot hold as long as
//! their data files are live. If another commit makes the statement's result wrong, the statement starts again. Spec: "Commit
//! Conflict Resolution and Retry". Start reading at `RowChange::remove`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use esker_catalog::{Actor, CatalogError, CommitRecords, LoadedTable, Proposal, Rebase};
use esker_format::{DataFile, MAIN_BRANCH, Operation, TableMetadata};
use esker_read::{ReadStats, Reader};
use esker_table::{
    DeleteIndex, DeleteKey, LiveFile, LiveFiles, RowsToDelete, SnapshotChanges, SnapshotFiles, build_snapshot, delete_key,
    load_live,
};
use esker_types::{Coded, CodedError};
use esker_write::{WriteError, write_deletes};
use futures::future::BoxFuture;
use roaring::RoaringTreemap;

use crate::target::{Uncommitted, WriteTarget};
use crate::{QueryError, prune};

/// A change of a table's rows: data files to add, and rows to remove.
#[derive(Debug)]
pub(crate) struct RowChange {
    pub(crate) target: WriteTarget,
    pub(crate) uncommitted: Uncommitted,
    pub(crate) actor: Actor,
    /// New data files, each with the id of its partition spec.
    pub(crate) added: Vec<(i32, DataFile)>,
    /// The rows to remove; `None` for an insert, which commutes with every other change.
    pub(crate) removal: Option<Removal>,
}

/// Rows to remove, found in one snapshot.
#[derive(Debug)]
pub(crate) struct Removal {
    /// Id of the snapshot in which the rows were found.
    pub(crate) base: i64,
    /// The live files of that snapshot.
    pub(crate) base_files: Arc<SnapshotFiles>,
    /// Positions of the rows to remove, by path of their data file.
    pub(crate) positions: HashMap<String, RoaringTreemap>,
    /// The statement's condition, as far as statistics can check it; `None` if every row may match.
    pub(crate) condition: Option<Arc<dyn PhysicalExpr>>,
    /// The schema of the columns in `condition`.
    pub(crate) schema: SchemaRef,
    /// True under serializable isolation: a row that another commit added and that fits the condition restarts the statement.
    pub(crate) serializable: bool,
    /// True for an update, which writes the rows again: one that another commit deleted meanwhile must not come back.
    pub(crate) update: bool,
}

impl Rebase for RowChange {
    type Effect = ();

    fn propose<'a>(&'a self, table: &'a LoadedTable) -> BoxFuture<'a, esker_catalog::Result<(Proposal, ())>> {
        Box::pin(async move {
            let metadata = &table.metadata;
            let rewrite = self.rewrite(metadata).await?;
            let uncommitted = self.uncommitted.clone();
            let record = move |paths: Vec<String>| -> BoxFuture<'static, esker_table::Result<()>> {
                let uncommitted = uncommitted.clone();
                Box::pin(async move { Ok(uncommitted.record(paths).await?) })
            };
            let rewritten = build_snapshot(self.target.catalog.manifests(), metadata, &rewrite, &record).await?;
            let outputs = rewrite.added.iter().chain(&rewrite.added_deletes).map(|(_, file)| file.file_path.clone());
            let settled_outputs = outputs.chain(rewritten.written).collect();
            let proposal = Proposal {
                restore: None,
                requirements: rewritten.requirements,
                updates: rewritten.updates,
                records: CommitRecords { settled_outputs, ..CommitRecords::default() },
                actor: self.actor.clone(),
            };
            Ok((proposal, ()))
        })
    }
}

fn conflict(what: String) -> CatalogError {
    CatalogError::Conflict(what)
}

/// Wraps an error so that it keeps its code on its way through the catalog.
fn carried(e: impl Coded + Send + Sync + 'static) -> CatalogError {
    CodedError::new(e).into()
}

impl RowChange {
    /// Computes the change of the table as `metadata` describes it.
    async fn rewrite(&self, metadata: &TableMetadata) -> esker_catalog::Result<SnapshotChanges> {
        let mut rewrite = SnapshotChanges {
            operation: Operation::Append,
            branch: MAIN_BRANCH.to_owned(),
            removed: HashMap::new(),
            removed_deletes: HashSet::new(),
            added: self.added.clone(),
            rewritten_manifests: HashSet::new(),
            restored_files: Vec::new(),
            added_deletes: Vec::new(),
            starting_sequence_number: None,
            summary: BTreeMap::from([("engine-name".to_owned(), "esker".to_owned())]),
        };
        if let Some(removal) = &self.removal {
            self.remove(metadata, removal, &mut rewrite).await?;
        }
        Ok(rewrite)
    }

    /// Adds the removal of rows to the change.
    ///
    /// A data file is removed if all of its rows go; otherwise delete files or deletion vectors are written.
    async fn remove(
        &self,
        metadata: &TableMetadata,
        removal: &Removal,
        rewrite: &mut SnapshotChanges,
    ) -> esker_catalog::Result<()> {
        let manifests = self.target.catalog.manifests();
        let head = metadata.snapshot_for_ref(MAIN_BRANCH);
        let live = match head {
            Some(head) => load_live(manifests, metadata, head).await?,
            None => LiveFiles::default(),
        };
        if head.map(|h| h.snapshot_id) != Some(removal.base) {
            check_concurrent_commits(metadata, removal, &live)?;
        }
        let by_path: HashMap<&str, &LiveFile> = live.data.iter().map(|f| (f.file.file_path.as_str(), f)).collect();
        let repeated = live.duplicate_paths();
        let mut files = Vec::new();
        for path in removal.positions.keys() {
            let file = by_path.get(path.as_str());
            files.push((*file.ok_or_else(|| conflict(format!("another commit rewrote or removed {path}")))?).clone());
        }
        let index = DeleteIndex::new(&live.deletes, metadata)?;
        let before = match metadata.format_version {
            ..3 => HashMap::new(),
            // A deletion vector holds all positions that are deleted from its file, so it includes the earlier ones.
            _ => earlier(&self.target.reader, &files, &index).await?,
        };
        let mut to_delete = Vec::new();
        for file in &files {
            let path = file.file.file_path.as_str();
            let Some(found) = removal.positions.get(path) else { continue };
            let mut positions = found.clone();
            if let Some(before) = before.get(path) {
                positions |= before;
            }
            let replaced = index.vector(file).map(|at| delete_key(&live.deletes[at].entry.file));
            let whole = file.file.rows() == Some(positions.len());
            rewrite.removed_deletes.extend(replaced);
            match whole {
                true => drop(rewrite.removed.insert(path.to_owned(), repeated.get(path).copied().unwrap_or(1))),
                false => to_delete.push(RowsToDelete {
                    path: path.to_owned(),
                    spec_id: file.spec_id,
                    partition: file.file.partition.clone(),
                    positions,
                }),
            }
        }
        rewrite.added_deletes =
            write_deletes(&self.uncommitted.destination(), metadata, to_delete).await.map_err(|e| match e {
                WriteError::Table(e) => e.into(),
                WriteError::Storage(e) => e.into(),
                e => carried(e),
            })?;
        rewrite.operation = if self.added.is_empty() { Operation::Delete } else { Operation::Overwrite };
        Ok(())
    }
}

/// Reads the positions that are deleted already, by path of the data file.
async fn earlier(
    reader: &Reader,
    files: &[LiveFile],
    index: &DeleteIndex<'_>,
) -> esker_catalog::Result<HashMap<String, RoaringTreemap>> {
    let stats = Arc::new(ReadStats::default());
    reader.deleted_positions(files, index, &stats).await.map_err(carried)
}

/// Checks that the commits since the rows were found leave the statement's result right.
///
/// It follows the reference implementation's `validateNoConflictingDataFiles` and `validateNoConflictingDeleteFiles`.
fn check_concurrent_commits(metadata: &TableMetadata, removal: &Removal, live: &LiveFiles) -> esker_catalog::Result<()> {
    if removal.serializable {
        let known: HashSet<String> = removal.base_files.iter().map(|file| file.path()).collect();
        let fresh: Vec<LiveFile> = live.data.iter().filter(|f| !known.contains(&f.file.file_path)).cloned().collect();
        let fits = prune::files(removal.condition.as_ref(), &removal.schema, metadata, fresh);
        let fits = fits.map_err(|e| carried(QueryError::from(e)))?;
        if let Some(file) = fits.first() {
            return Err(conflict(format!("another commit added {}, which may hold rows that match", file.file.file_path)));
        }
    }
    if removal.update {
        let deletes: HashSet<DeleteKey> = removal.base_files.deletes.iter().map(|d| delete_key(&d.entry.file)).collect();
        let is_late = |d: &&esker_table::LiveDelete| !deletes.contains(&delete_key(&d.entry.file));
        let late = LiveFiles { deletes: live.deletes.iter().filter(is_late).cloned().collect(), ..LiveFiles::default() };
        let index = DeleteIndex::new(&late.deletes, metadata)?;
        let touched = live.data.iter().find(|f| removal.positions.contains_key(&f.file.file_path) && index.any(f));
        if let Some(file) = touched {
            return Err(conflict(format!("another commit deleted rows of {}", file.file.file_path)));
        }
    }
    Ok(())
}
