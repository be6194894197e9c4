//! The files of other tables that lie in the places of a table. None of them is an orphan, in whichever location it lies.
//!
//! To read all metadata of all tables for each scan would cost too much. So the catalog keeps an *extent* for each table: the
//! directories in which its files lie. A commit adds only the directories of its new snapshots. Only tables whose extent overlaps
//! the searched places are read in full. Start reading at [`referenced_by_others`].

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use esker_format::SnapshotRef;
use esker_state::{TabularKind, TabularRow};
use esker_storage::Location;
use esker_table::visit_reachable;
use esker_types::TableId;

use crate::referenced::visit_referenced;
use crate::{Catalog, CatalogError, LoadedTable, PathSet, Result};

/// Number of tables and views that are read from the database at once.
const ROWS_AT_ONCE: u32 = 1_000;

/// Maximum number of directories in an extent. Beyond it, their parents take their place.
const DIRECTORIES: usize = 256;

/// The directories in which the files of one table lie.
///
/// It is kept in memory, and a commit adds only the directories of its snapshots, so that no other snapshot is read again.
#[derive(Debug, Default)]
pub(crate) struct Extent {
    /// URI of the metadata file that the extent describes.
    metadata_location: String,
    /// Ids of the snapshots whose files have all been visited.
    visited_snapshots: HashSet<i64>,
    /// The location of the table, and directories outside it.
    directories: BTreeSet<Location>,
}

/// The extents of a warehouse's tables, by table.
pub(crate) type Extents = HashMap<TableId, Arc<Extent>>;

/// Collects the paths within some places that tables other than `own` lead to.
///
/// Dropped tables that can be brought back count. A view counts with its current metadata file.
///
/// # Errors
///
/// Returns [`Elsewhere`](CatalogError::Elsewhere) if another table can't be read and has, had or may have files in these places.
/// A table that can't be read and lies elsewhere is logged. Returns [`State`](CatalogError::State) if the database fails, and
/// [`Spill`](CatalogError::Spill) if the disk for large sets fails.
pub async fn referenced_by_others(catalog: &Catalog, own: TableId, within: &[Location]) -> Result<PathSet> {
    let mut found = catalog.path_set();
    let inside = |path: &str| Location::parse(path).is_ok_and(|at| within.iter().any(|place| at.is_inside(place)));
    // A table may be dropped or brought back meanwhile, so the dropped ones are listed before the living ones, and again at the end.
    let (mut known, mut rows, mut after, mut is_end) = (HashSet::new(), dropped_rows(catalog).await?, None, false);
    loop {
        for row in rows.into_iter().filter(|row| known.insert(row.id) && row.id != own) {
            if inside(&row.metadata_location) {
                found.insert(&row.metadata_location);
            }
            if row.kind == TabularKind::View {
                continue;
            }
            let add = async {
                if !extent(catalog, &row).await?.directories.iter().any(|d| within.iter().any(|place| place.overlaps(d))) {
                    return Ok(());
                }
                let table = catalog.load_row(row.clone()).await?;
                let add = |path: &str| {
                    if inside(path) {
                        found.insert(path);
                    }
                };
                visit_referenced(catalog, &table, add).await
            };
            let Err(error) = add.await else { continue };
            let places = own_places(catalog, &row).await?;
            if places.iter().any(|at| within.iter().any(|place| place.overlaps(at))) {
                return Err(CatalogError::Elsewhere { table: row.name.to_string(), source: Box::new(error) });
            }
            // The unreadable table is not known to have files in these places, so its error stops nothing.
            tracing::warn!(table = %row.name, %error, "a table can't be read; it has no known files in the searched places");
        }
        if is_end {
            break;
        }
        rows = catalog.state().tables().page(None, catalog.warehouse(), after, ROWS_AT_ONCE).await?;
        after = rows.last().map(|row| row.id);
        if after.is_none() {
            (rows, is_end) = (dropped_rows(catalog).await?, true);
        }
    }
    with_extents(catalog, |all| all.retain(|id, _| known.contains(id)));
    Ok(found.finish()?)
}

/// Returns the rows of the dropped tables that can be brought back.
async fn dropped_rows(catalog: &Catalog) -> Result<Vec<TabularRow>> {
    Ok(catalog.dropped_tables().await?.into_iter().map(|dropped| dropped.row).collect())
}

/// Returns the places that a table has or had, and its extent as of the last time that it could be read.
async fn own_places(catalog: &Catalog, row: &TabularRow) -> Result<Vec<Location>> {
    let mut places = catalog.state().tables().places_of(row.id).await?;
    places.push(row.location.clone());
    let kept = with_extents(catalog, |all| all.get(&row.id).cloned()).unwrap_or_default();
    Ok(places.iter().filter_map(|place| Location::parse(place).ok()).chain(kept.directories.iter().cloned()).collect())
}

/// Locks the extents of the warehouse and passes them to a function.
fn with_extents<T>(catalog: &Catalog, with: impl FnOnce(&mut Extents) -> T) -> T {
    with(&mut catalog.inner.extents.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Returns the extent of a table, brought up to date with its current metadata file.
async fn extent(catalog: &Catalog, row: &TabularRow) -> Result<Arc<Extent>> {
    let kept = with_extents(catalog, |all| all.get(&row.id).cloned()).unwrap_or_default();
    if kept.metadata_location == row.metadata_location {
        return Ok(kept);
    }
    let table = catalog.load_row(row.clone()).await?;
    let extent = Arc::new(extended(catalog, &table, &kept).await?);
    with_extents(catalog, |all| all.insert(row.id, extent.clone()));
    Ok(extent)
}

/// Adds the directories of new snapshots to an extent.
async fn extended(catalog: &Catalog, table: &LoadedTable, kept: &Extent) -> Result<Extent> {
    let metadata = &table.metadata;
    let fresh: Vec<SnapshotRef> =
        metadata.snapshots.iter().filter(|s| !kept.visited_snapshots.contains(&s.snapshot_id)).cloned().collect();
    // Many files share a directory, so each directory is parsed once.
    let mut directories: HashSet<String> = HashSet::new();
    let mut add = |path: &str| {
        let directory = path.rsplit_once('/').map_or(path, |(directory, _)| directory);
        if !directories.contains(directory) {
            directories.insert(directory.to_owned());
        }
    };
    visit_reachable(catalog.manifests(), metadata, &fresh, &kept.visited_snapshots, &mut add).await?;
    metadata.metadata_log.iter().for_each(|log| add(&log.metadata_file));
    metadata.statistics.iter().for_each(|s| add(&s.statistics_path));
    metadata.partition_statistics.iter().for_each(|s| add(&s.statistics_path));
    let own = Location::parse(&table.row.location).ok();
    let parsed = directories.iter().filter_map(|directory| Location::parse(directory).ok());
    let outside = parsed.filter(|at| !own.as_ref().is_some_and(|own| at.is_inside(own)));
    let all = kept.directories.iter().cloned().chain(own.clone()).chain(outside).collect();
    let seen = metadata.snapshots.iter().map(|s| s.snapshot_id).collect();
    Ok(Extent {
        metadata_location: table.row.metadata_location.clone(),
        visited_snapshots: seen,
        directories: bounded(all, DIRECTORIES),
    })
}

/// Reduces directories to at most `most`, by taking their parents instead. A bucket has no parent.
fn bounded(mut directories: BTreeSet<Location>, most: usize) -> BTreeSet<Location> {
    while directories.len() > most {
        let outer: BTreeSet<Location> = directories.iter().map(|d| d.parent().unwrap_or_else(|| d.clone())).collect();
        if outer == directories {
            break;
        }
        directories = outer;
    }
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_directories_are_taken_for_what_encloses_them() {
        let at = |uri: String| Location::parse(&uri).expect("valid");
        let many: BTreeSet<Location> = (0..30).map(|i| at(format!("s3://b/t/day={i}"))).collect();
        assert_eq!(bounded(many.clone(), 30), many);
        assert_eq!(bounded(many.clone(), 29), BTreeSet::from([at("s3://b/t".to_owned())]));
        let buckets: BTreeSet<Location> = (0..30).map(|i| at(format!("s3://b{i}/t/x"))).collect();
        assert_eq!(bounded(buckets, 7), (0..30).map(|i| at(format!("s3://b{i}"))).collect(), "nothing encloses a bucket");
    }
}
