//! Scan planning: which files a reader has to read for a filter, with which deletes, and what is left to filter.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_format::{Columns, DataFile, ManifestProjection, Operation, Schema, SnapshotRef, TableMetadata};

use crate::residual::Residuals;
use crate::{DeleteIndex, Expr, LiveFile, Manifests, Result, SnapshotFiles, TableError};

/// One file to be read.
#[derive(Debug, Clone)]
pub struct ScanTask {
    /// The file.
    pub file: DataFile,
    /// The id of the partition spec that the file was written by.
    pub spec_id: i32,
    /// The row id of its first row, inherited ones included, where the table has row lineage.
    pub first_row_id: Option<i64>,
    /// The delete files that may apply to it, as positions in [`ScanPlan::deletes`].
    pub deletes: Vec<usize>,
    /// What is left to filter.
    pub residual: Arc<Expr>,
}

/// The files to be read.
#[derive(Debug, Clone, Default)]
pub struct ScanPlan {
    /// Data files.
    pub tasks: Vec<ScanTask>,
    /// Delete files with their partition specs; each is there once.
    pub deletes: Vec<(i32, DataFile)>,
}

impl ScanTask {
    fn new(live: LiveFile, deletes: Vec<usize>, residual: Arc<Expr>) -> Self {
        Self { file: live.file, spec_id: live.spec_id, first_row_id: live.first_row_id, deletes, residual }
    }
}

/// What of files a plan asks for: what a filter looks at, and what is said of columns that the answer is to tell.
pub fn projection(filter: &Expr, told: impl IntoIterator<Item = i32>) -> ManifestProjection {
    ManifestProjection::planning(Columns::of(filter.predicates().iter().map(|predicate| predicate.field)))
        .and(&ManifestProjection::reading(Columns::of(told)))
}

/// Plans a scan of a snapshot's files, which were given what [`projection`] says.
///
/// `min_rows` is a wish: once the files planned hold so
/// many rows, and no filter or delete can take any away, the rest is left out.
pub fn plan_scan(
    metadata: &TableMetadata,
    schema: &Schema,
    files: &SnapshotFiles,
    filter: &Expr,
    min_rows: Option<u64>,
) -> Result<ScanPlan> {
    let index = DeleteIndex::new(&files.deletes, metadata)?;
    let mut residuals = Residuals::new(metadata, schema, filter);
    let mut plan = ScanPlan::default();
    // Where a delete file stands in the plan.
    let mut placed: BTreeMap<usize, usize> = BTreeMap::new();
    let mut certain_rows: u64 = 0;
    'planned: for run in files.runs() {
        let (left, matching) = residuals.of(&run)?;
        for file in matching {
            let live = file.live();
            let applying = index.all(&live);
            let mut deletes = Vec::with_capacity(applying.len());
            for delete in applying {
                deletes.push(*placed.entry(delete).or_insert_with(|| {
                    let entry = &files.deletes[delete].entry;
                    plan.deletes.push((entry.spec_id, entry.file.clone()));
                    plan.deletes.len() - 1
                }));
            }
            if deletes.is_empty() && *left == Expr::True {
                certain_rows = certain_rows.saturating_add(live.file.rows().unwrap_or(0));
            }
            plan.tasks.push(ScanTask::new(live, deletes, left.clone()));
            if min_rows.is_some_and(|wanted| certain_rows >= wanted) {
                break 'planned;
            }
        }
    }
    Ok(plan)
}

/// Plans a scan of what was appended after the snapshot `start` up to and including `end`.
///
/// Snapshots that are no appends (overwrites, rewrites) add no rows to such a scan, as in Java's incremental append scan.
pub async fn plan_appended(
    source: &Manifests,
    metadata: &TableMetadata,
    schema: &Schema,
    start: i64,
    end: &SnapshotRef,
    filter: &Expr,
    wanted: &ManifestProjection,
) -> Result<ScanPlan> {
    let mut appends = Vec::new();
    let mut at = Some(end);
    loop {
        match at {
            Some(snapshot) if snapshot.snapshot_id == start => break,
            Some(snapshot) => {
                if snapshot.is(Operation::Append) {
                    appends.push(snapshot);
                }
                at = snapshot.parent_snapshot_id.and_then(|id| metadata.snapshots.get(id));
                // The start may have expired; its child still knows it.
                if at.is_none() && snapshot.parent_snapshot_id == Some(start) {
                    break;
                }
            }
            None => {
                let what = format!("start-snapshot-id {start} is not an ancestor of end-snapshot-id {}", end.snapshot_id);
                return Err(TableError::Filter(what));
            }
        }
    }
    let mut plan = ScanPlan::default();
    // From the appends themselves, the oldest first: what a later compaction rewrote was appended all the same.
    for snapshot in appends.into_iter().rev() {
        let files = SnapshotFiles::added_by(source, metadata, snapshot, wanted).await?;
        let mut residuals = Residuals::new(metadata, schema, filter);
        for run in files.runs() {
            let (left, matching) = residuals.of(&run)?;
            plan.tasks.extend(matching.iter().map(|file| ScanTask::new(file.live(), Vec::new(), left.clone())));
        }
    }
    Ok(plan)
}
