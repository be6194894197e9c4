//! Scan planning: the files that a filter needs, the deletes that apply to each, and the residual filter of each.
//!
//! A plan goes over runs of files: files of one partition that are next to each other in a manifest. The partition decides the
//! residual once for a run, the bounds then rule out single files. Start reading at [`plan_scan`]. Spec: "Scan Planning".

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_format::{ColumnSet, DataFile, ManifestProjection, Operation, Schema, SnapshotRef, TableMetadata};

use crate::residual::Residuals;
use crate::{DeleteIndex, Expr, LiveFile, Manifests, Result, SnapshotFiles, TableError};

/// One data file to be read, with the deletes and the filter to apply.
#[derive(Debug, Clone)]
pub struct ScanTask {
    /// The data file.
    pub file: DataFile,
    /// The id of the partition spec that the file was written under.
    pub spec_id: i32,
    /// The row id of the file's first row, explicit or inherited, if the table has row lineage.
    pub first_row_id: Option<i64>,
    /// The delete files that may apply to the file, as positions in [`ScanPlan::deletes`].
    pub deletes: Vec<usize>,
    /// The filter that is left to apply to the file's rows; [`Expr::True`] if every row matches.
    pub residual: Arc<Expr>,
}

/// The data files to be read, and the delete files that apply to them.
#[derive(Debug, Clone, Default)]
pub struct ScanPlan {
    /// The data files, in the order of the manifests.
    pub tasks: Vec<ScanTask>,
    /// The delete files with the ids of their partition specs. Each file occurs once.
    pub deletes: Vec<(i32, DataFile)>,
}

impl ScanTask {
    fn new(live: LiveFile, deletes: Vec<usize>, residual: Arc<Expr>) -> Self {
        Self { file: live.file, spec_id: live.spec_id, first_row_id: live.first_row_id, deletes, residual }
    }
}

/// Returns the fields of manifest entries that a plan needs.
///
/// These are the counts and bounds of the filter's columns, and all statistics of the columns in `reported`, which the caller
/// passes on.
pub fn projection(filter: &Expr, reported: impl IntoIterator<Item = i32>) -> ManifestProjection {
    ManifestProjection::planning(ColumnSet::of(filter.predicates().iter().map(|predicate| predicate.field)))
        .and(&ManifestProjection::reading(ColumnSet::of(reported)))
}

/// Plans a scan of the files of a snapshot. `files` must be loaded with the fields that [`projection`] returns.
///
/// `min_rows` is a hint. Once the planned files certainly have that many rows after filter and deletes, further files are left out.
///
/// Spec: "Scan Planning".
///
/// # Errors
///
/// Returns [`TableError::Invalid`] if a data file has two deletion vectors, if a deletion vector names no data file, or if the
/// metadata lacks a partition spec.
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
    // Maps a position in `files.deletes` to a position in `plan.deletes`.
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

/// Plans an incremental scan of the rows that were appended after the snapshot `start`, up to and including `end`.
///
/// Snapshots that are no appends (overwrites, rewrites) contribute no rows, as in Java's incremental append scan. No deletes apply.
///
/// # Errors
///
/// - Returns [`TableError::Filter`] if `start` is not an ancestor of `end`.
/// - Returns [`TableError::File`] if a manifest list or manifest cannot be read or decoded.
/// - Returns [`TableError::Unsupported`] if one of them is encrypted.
/// - Returns [`TableError::Invalid`] if an append names neither a manifest list nor manifests, or the metadata lacks a partition
///   spec.
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
                // The start may have expired; its child still names it as its parent.
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
    // Read the manifests of the appends themselves, the oldest first: a later compaction does not change what was appended.
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
