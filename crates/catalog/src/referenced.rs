use std::collections::HashSet;

use esker_table::visit_reachable;

use crate::moves::metadata_files;
use crate::{Catalog, LoadedTable, PathSet, Result};

/// Everything that a table's metadata leads to: what its snapshots reach, the metadata log, the current metadata file. What is in
/// here is never deleted and never an orphan.
pub async fn referenced_paths(catalog: &Catalog, table: &LoadedTable) -> Result<PathSet> {
    let mut referenced = catalog.path_set();
    visit_referenced(catalog, table, |path| referenced.insert(path)).await?;
    Ok(referenced.finish()?)
}

/// Tells each path that a table's metadata leads to, some more than once.
pub(crate) async fn visit_referenced(catalog: &Catalog, table: &LoadedTable, mut visit: impl FnMut(&str)) -> Result<()> {
    let metadata = &table.metadata;
    let snapshots: Vec<_> = metadata.snapshots.iter().cloned().collect();
    visit_reachable(catalog.manifests(), metadata, &snapshots, &HashSet::new(), &mut visit).await?;
    metadata_files(table).iter().for_each(|path| visit(path));
    // Those of snapshots that are gone too: whoever removes a snapshot decides about them.
    metadata.statistics.iter().for_each(|s| visit(&s.statistics_path));
    metadata.partition_statistics.iter().for_each(|s| visit(&s.statistics_path));
    Ok(())
}
