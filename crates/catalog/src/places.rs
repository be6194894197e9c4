//! The directories in which tables and views have files.
//!
//! Files stay where they were written, even if the table's location or path properties change. So a table keeps a record of its
//! *places*: its location, its earlier locations, and the paths that its properties named. No other table's metadata may come to
//! lie there, and the sweep deletes a file only inside the places of its table.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use esker_state::TabularRow;
use esker_storage::Location;
use esker_types::TableId;

use crate::{Catalog, LoadedTable, Result};

/// Table properties that name directories for files, instead of those below the location.
pub(crate) const PATH_PROPERTIES: [&str; 4] = [DATA_PATHS[0], DATA_PATHS[1], DATA_PATHS[2], "write.metadata.path"];

/// Table properties that name the directory for data files, in the order in which writers look for them.
///
/// Present releases of the reference implementation refuse the second and the third. Earlier ones write there if the first is not
/// set.
pub(crate) const DATA_PATHS: [&str; 3] = ["write.data.path", "write.object-storage.path", "write.folder-storage.path"];

/// Table property that names a class, which writers load and ask for the path of each data file.
pub(crate) const LOCATION_PROVIDER: &str = "write.location-provider.impl";

/// Checks whether a table property decides in which directory or under which path files are written.
pub(crate) fn decides_paths(property: &str) -> bool {
    PATH_PROPERTIES.contains(&property) || property == LOCATION_PROVIDER
}

/// A directory in which a table or view has files, or had them.
#[derive(Debug, Clone)]
pub struct Place {
    /// Row of the table or view that the place belongs to.
    pub owner: Arc<TabularRow>,
    /// The directory.
    pub directory: Location,
    /// `true` if the owner was dropped and can be brought back.
    pub dropped: bool,
}

impl Place {
    /// Checks whether the place is the owner's present location.
    pub fn is_location(&self) -> bool {
        Location::parse(&self.owner.location).is_ok_and(|location| location == self.directory)
    }

    /// Describes the place for a message.
    pub fn describe(&self) -> String {
        let name = &self.owner.name;
        match self.is_location() {
            true => format!("the location of {name}"),
            false => format!("a place where {name} has or had files"),
        }
    }
}

/// Lists the places that metadata names, without duplicates; the location comes first.
pub(crate) fn places_in_metadata(location: &str, properties: &BTreeMap<String, String>) -> Vec<String> {
    let paths = PATH_PROPERTIES.iter().filter_map(|key| properties.get(*key)).map(String::as_str);
    let mut named: Vec<String> = Vec::new();
    for place in std::iter::once(location).chain(paths).map(Location::normalize) {
        if !named.contains(&place) {
            named.push(place);
        }
    }
    named
}

/// Returns the places of a table, sorted: those that its metadata names now and those that it had.
///
/// # Errors
///
/// Returns [`State`](crate::CatalogError::State) if the database fails.
pub async fn places_of(catalog: &Catalog, table: &LoadedTable) -> Result<Vec<Location>> {
    let mut places = places_in_metadata(&table.metadata.location, &table.metadata.properties);
    places.extend(catalog.state().tables().places_of(table.row.id).await?);
    let mut places: Vec<Location> = places.iter().filter_map(|place| Location::parse(place).ok()).collect();
    places.sort();
    places.dedup();
    Ok(places)
}

impl Catalog {
    /// Returns the places of all tables and views of the warehouse, in no order.
    ///
    /// Dropped tables that can be brought back count.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn places(&self) -> Result<Vec<Place>> {
        let living = self.tables_and_views().await?.into_iter().map(|row| (row, false));
        let dropped = self.dropped_tables().await?.into_iter().map(|dropped| (dropped.row, true));
        let owners: HashMap<TableId, (Arc<TabularRow>, bool)> =
            living.chain(dropped).map(|(row, dropped)| (row.id, (Arc::new(row), dropped))).collect();
        let mut places = Vec::new();
        for (owner, dropped) in owners.values() {
            let at = Location::parse(&owner.location).ok();
            places.extend(at.map(|at| Place { owner: owner.clone(), directory: at, dropped: *dropped }));
        }
        for (id, place) in self.state().tables().places(self.warehouse()).await? {
            let (Some((owner, dropped)), Ok(at)) = (owners.get(&id), Location::parse(&place)) else { continue };
            let place = Place { owner: owner.clone(), directory: at, dropped: *dropped };
            if !place.is_location() {
                places.push(place);
            }
        }
        Ok(places)
    }
}
