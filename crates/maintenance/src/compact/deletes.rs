//! Resolution of deletes: the positions of the deleted rows of some data files, by deletes of every kind.
//!
//! Spec: "Scan Planning", "Position Delete Files", "Equality Delete Files".

use std::collections::HashMap;
use std::sync::Arc;

use esker_format::TableMetadata;
use esker_read::{EqualityBudget, EqualityDeletes, ReadStats, Reader};
use esker_table::{DeleteIndex, LiveFile, LiveFiles};
use roaring::RoaringTreemap;

use crate::Result;
use crate::context::JobContext;

/// Deleted positions by location of the data file.
pub(crate) type ByPath = HashMap<String, RoaringTreemap>;

/// Resolves the deletes of some data files within a quarter of the job's memory.
///
/// Returns the positions that position deletes and deletion vectors delete, and those that equality deletes delete. Equality
/// deletes are applied partition by partition.
pub(crate) async fn resolve(
    context: &JobContext,
    metadata: &Arc<TableMetadata>,
    live: &LiveFiles,
    files: &[LiveFile],
) -> Result<(ByPath, ByPath)> {
    let bytes = usize::try_from(context.limits.bytes / 4).unwrap_or(usize::MAX);
    let budget = EqualityBudget { bytes, dir: context.limits.spill_dir.clone(), use_block_cache: false };
    resolve_within(&context.reader, &budget, &context.counters.reads, metadata, live, files).await
}

/// Resolves the deletes of some data files like [`resolve`], within a budget and outside of a job.
pub(crate) async fn resolve_within(
    reader: &Reader,
    budget: &EqualityBudget,
    stats: &Arc<ReadStats>,
    metadata: &Arc<TableMetadata>,
    live: &LiveFiles,
    files: &[LiveFile],
) -> Result<(ByPath, ByPath)> {
    if live.deletes.is_empty() {
        return Ok((ByPath::new(), ByPath::new()));
    }
    let index = DeleteIndex::new(&live.deletes, metadata)?;
    let positional = reader.deleted_positions(files, &index, stats).await?;
    let mut by_equality = ByPath::new();
    for (files, deletes) in index.equality_by_partition(files) {
        let equality = EqualityDeletes::new(metadata, deletes)?;
        by_equality.extend(equality.positions(reader, metadata, &files, budget, stats).await?);
    }
    Ok((positional, by_equality))
}

/// Merges two sets of deleted positions.
pub(crate) fn union(mut a: ByPath, b: ByPath) -> ByPath {
    for (path, positions) in b {
        *a.entry(path).or_default() |= positions;
    }
    a
}
