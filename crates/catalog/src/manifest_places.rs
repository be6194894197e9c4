//! Refuses snapshots that name the manifest list of another table, unless their writer may read that table as a whole.
//!
//! Whoever reads a table by SQL reads every file that its snapshots name. So a table of one's own with the manifest list of
//! another one would show the other's rows, without the privilege to read them and without its row filters and column masks.
//! The path of the list is in the metadata, which restricted callers get. Start reading at [`Catalog::check_lists_of_others`].

use esker_format::{Snapshot, TableMetadata, TableUpdate};
use esker_storage::Location;
use esker_types::TableId;

use crate::cache::manifest_list_paths;
use crate::places::places_in_metadata;
use crate::{Authority, Catalog, CatalogError, Result};

/// Returns the locations of the manifest lists of snapshots. A path that is no location is left out, because nothing reads it.
pub(crate) fn lists_of<'a>(snapshots: impl Iterator<Item = &'a Snapshot>) -> Vec<Location> {
    snapshots.flat_map(manifest_list_paths).filter_map(|path| Location::parse(&path).ok()).collect()
}

/// Returns the locations of the manifest lists that updates add and that lie outside of the places which the metadata names.
pub(crate) fn new_lists_outside(metadata: &TableMetadata, updates: &[TableUpdate]) -> Vec<Location> {
    let places = places_in_metadata(&metadata.location, &metadata.properties);
    let places: Vec<Location> = places.iter().filter_map(|place| Location::parse(place).ok()).collect();
    let new = updates.iter().filter_map(|update| match update {
        TableUpdate::AddSnapshot { snapshot } => Some(snapshot),
        _ => None,
    });
    let mut lists = lists_of(new);
    lists.retain(|list| !places.iter().any(|place| list.is_inside(place)));
    lists
}

impl Catalog {
    /// Checks that manifest lists lie in no place of another table whose rows the caller may not all read. Dropped tables count.
    ///
    /// # Errors
    ///
    /// Returns [`Location`](CatalogError::Location) if one does, and [`State`](CatalogError::State) if the database fails.
    pub(crate) async fn check_lists_of_others(
        &self,
        lists: Vec<Location>,
        own: Option<TableId>,
        authority: &Authority,
    ) -> Result<()> {
        if lists.is_empty() || !authority.is_limited() {
            return Ok(());
        }
        let mut places = self.places().await?;
        places.retain(|place| Some(place.owner.id) != own);
        for list in lists {
            let is_hidden =
                places.iter().any(|place| list.is_inside(&place.directory) && !self.shows_all(&place.owner, authority));
            if is_hidden {
                let reason =
                    "it is a manifest list of another table, whose rows the caller may not all read; write files of your own";
                return Err(CatalogError::Location { location: list.to_string(), reason: reason.to_owned() });
            }
        }
        Ok(())
    }
}
