//! Every path that the metadata of one table leads to: its files of data, deletes, metadata and statistics.
//!
//! No such file is deleted, and none is an orphan.

use std::collections::HashSet;

use esker_table::visit_reachable;

use crate::moves::metadata_files;
use crate::{Catalog, LoadedTable, PathSet, Result};

/// Collects every path that a table's metadata leads to: through snapshots, metadata log, statistics and the current metadata
/// file.
///
/// # Errors
///
/// Returns [`Table`](crate::CatalogError::Table) if a manifest list or manifest can't be read or decoded or is encrypted, and
/// [`Spill`](crate::CatalogError::Spill) if the disk for large sets fails.
pub async fn referenced_paths(catalog: &Catalog, table: &LoadedTable) -> Result<PathSet> {
    let mut referenced = catalog.path_set();
    visit_referenced(catalog, table, |path| referenced.insert(path)).await?;
    Ok(referenced.finish()?)
}

/// Calls `visit` with each path that a table's metadata leads to; some paths come more than once.
pub(crate) async fn visit_referenced(catalog: &Catalog, table: &LoadedTable, mut visit: impl FnMut(&str)) -> Result<()> {
    let metadata = &table.metadata;
    let snapshots: Vec<_> = metadata.snapshots.iter().cloned().collect();
    visit_reachable(catalog.manifests(), metadata, &snapshots, &HashSet::new(), &mut visit).await?;
    metadata_files(table).iter().for_each(|path| visit(path));
    // Entries of snapshots that are gone count too: only the commit that removes a snapshot drops its statistics.
    metadata.statistics.iter().for_each(|s| visit(&s.statistics_path));
    metadata.partition_statistics.iter().for_each(|s| visit(&s.statistics_path));
    Ok(())
}
