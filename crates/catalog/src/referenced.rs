use esker_table::visit_reachable;

use crate::moves::metadata_files;
use crate::{Catalog, LoadedTable, PathSet, Result};

/// Everything that a table's metadata leads to: what its snapshots reach, the metadata log, the current metadata file. What is in
/// here is never deleted and never an orphan.
pub async fn referenced_paths(catalog: &Catalog, table: &LoadedTable) -> Result<PathSet> {
    let metadata = &table.metadata;
    let snapshots: Vec<_> = metadata.snapshots().cloned().collect();
    let mut referenced = catalog.path_set();
    let source = catalog.manifests();
    visit_reachable(source, metadata, &snapshots, |path| referenced.insert(path)).await?;
    referenced.extend(metadata_files(table).iter().map(String::as_str));
    // Those of snapshots that are gone too: whoever removes a snapshot decides about them.
    referenced.extend(metadata.statistics_iter().map(|s| s.statistics_path.as_str()));
    referenced.extend(metadata.partition_statistics_iter().map(|s| s.statistics_path.as_str()));
    Ok(referenced.finish()?)
}
