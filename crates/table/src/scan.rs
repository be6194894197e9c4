//! Scan planning: which files a reader has to read for a filter, with which deletes, and what is left to filter.

use std::collections::BTreeMap;

use esker_format::{DataFile, ManifestContent, ManifestStatus, Operation, Schema, SnapshotRef, TableMetadata};

use crate::{DeleteIndex, Expr, LiveFile, LiveFiles, Manifests, Result, TableError, load_manifests, residual};

/// One file to be read.
#[derive(Debug, Clone)]
pub struct ScanTask {
    /// The file.
    pub file: DataFile,
    /// Its partition spec.
    pub spec_id: i32,
    /// The row id of its first row, inherited ones included, where the table has row lineage.
    pub first_row_id: Option<i64>,
    /// The delete files that may apply to it, as positions in [`ScanPlan::deletes`].
    pub deletes: Vec<usize>,
    /// What is left to filter.
    pub residual: Expr,
}

/// The files to be read.
#[derive(Debug, Clone, Default)]
pub struct ScanPlan {
    /// Data files.
    pub tasks: Vec<ScanTask>,
    /// Delete files with their partition specs; each is there once.
    pub deletes: Vec<(i32, DataFile)>,
}

/// Plans a scan of what is alive in a snapshot. `min_rows` is a wish: once the files planned hold so many rows, and no filter or
/// delete can take any away, the rest is left out.
pub fn plan_scan(
    metadata: &TableMetadata,
    schema: &Schema,
    live: &LiveFiles,
    filter: &Expr,
    min_rows: Option<u64>,
) -> Result<ScanPlan> {
    let index = DeleteIndex::new(live, metadata)?;
    let mut plan = ScanPlan::default();
    // Where a delete file stands in the plan.
    let mut placed: BTreeMap<usize, usize> = BTreeMap::new();
    let mut certain_rows: u64 = 0;
    for data in &live.data {
        let left = file_residual(metadata, schema, data, filter)?;
        if left == Expr::False {
            continue;
        }
        let applying = index.all(data);
        let mut deletes = Vec::with_capacity(applying.len());
        for delete in applying {
            deletes.push(*placed.entry(delete).or_insert_with(|| {
                let entry = &live.deletes[delete].entry;
                plan.deletes.push((entry.spec_id, entry.file.clone()));
                plan.deletes.len() - 1
            }));
        }
        if deletes.is_empty() && left == Expr::True {
            certain_rows = certain_rows.saturating_add(data.file.rows().unwrap_or(0));
        }
        let (file, spec_id, first_row_id) = (data.file.clone(), data.spec_id, data.first_row_id);
        plan.tasks.push(ScanTask { file, spec_id, first_row_id, deletes, residual: left });
        if min_rows.is_some_and(|wanted| certain_rows >= wanted) {
            break;
        }
    }
    Ok(plan)
}

fn file_residual(metadata: &TableMetadata, schema: &Schema, data: &LiveFile, filter: &Expr) -> Result<Expr> {
    let spec = metadata
        .partition_spec_by_id(data.spec_id)
        .ok_or_else(|| TableError::Invalid(format!("partition spec {} does not exist", data.spec_id)))?;
    Ok(residual(filter, schema, spec, &data.file))
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
        for file in load_manifests(source, snapshot).await? {
            if file.content != ManifestContent::Data || file.added_snapshot_id != snapshot.snapshot_id {
                continue;
            }
            let manifest = source.load(metadata, &file).await?;
            for entry in manifest.entries.iter().filter(|entry| entry.status == ManifestStatus::Added) {
                let spec = metadata.partition_spec_by_id(file.partition_spec_id);
                let spec = spec.ok_or_else(|| TableError::Invalid(format!("no partition spec {}", file.partition_spec_id)))?;
                let left = residual(filter, schema, spec, &entry.data_file);
                if left != Expr::False {
                    let (data, spec_id) = (entry.data_file.clone(), file.partition_spec_id);
                    let first_row_id = data.first_row_id;
                    plan.tasks.push(ScanTask { file: data, spec_id, first_row_id, deletes: Vec::new(), residual: left });
                }
            }
        }
    }
    Ok(plan)
}
