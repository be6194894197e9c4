//! The locations of tables, views and namespaces, and the paths of metadata files.
//!
//! A location must lie in the warehouse or in an allowed location. It must not overlap a place of another table: each file
//! belongs to one table. Only data paths may be shared. Start reading at [`Catalog::check_locations`].

use std::collections::BTreeMap;

use esker_format::TableMetadata;
use esker_state::NamespaceRow;
use esker_storage::Location;
use esker_table::properties::METADATA_GZIP;
use esker_table::{data_dir, metadata_dir};
use esker_types::{TableId, TableName};
use uuid::Uuid;

use crate::places::{DATA_PATH, PATH_PROPERTIES, Place};
use crate::{Catalog, CatalogError, Result};

/// Converts a name to a directory name. Characters other than ASCII letters, digits, `_` and `-` become `_`.
///
/// The name is cut after 64 characters. It need not be unique, because the location of a table has a random suffix.
fn directory_name(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    name.chars().map(keep).take(64).collect()
}

impl Catalog {
    /// Chooses the location of a new table: the namespace's location, then the table's name with a random suffix.
    pub(crate) async fn default_location(&self, name: &TableName) -> Result<Location> {
        let namespace = self.state().namespaces().get(self.warehouse(), &name.namespace).await?;
        let base = Location::parse(&self.namespace_location(&namespace))?;
        // The files of a dropped table of this name may still be there, so the name alone is not enough.
        let suffix = Uuid::new_v4().simple().to_string();
        Ok(base.join(&format!("{}-{}", directory_name(&name.name), &suffix[..8])))
    }

    /// Returns the location in which a namespace's tables are created.
    ///
    /// It is the `location` property of the namespace, or a directory of the warehouse named after its levels. Trino creates
    /// tables only in the location that the namespace gives.
    pub fn namespace_location(&self, namespace: &NamespaceRow) -> String {
        match namespace.properties.get("location") {
            Some(location) => location.clone(),
            None => {
                let levels: Vec<String> = namespace.name.levels().iter().map(|l| directory_name(l)).collect();
                self.options().location.join(&levels.join("/")).to_string()
            }
        }
    }

    /// Checks that a location lies in the warehouse or in an allowed location.
    pub(crate) fn check_allowed(&self, location: &Location) -> Result<()> {
        let options = self.options();
        let allowed = std::iter::once(&options.location).chain(&options.allowed_locations);
        if allowed.into_iter().any(|outer| location.is_inside(outer)) {
            return Ok(());
        }
        Err(CatalogError::Location {
            location: location.to_string(),
            reason: format!(
                "it is outside the warehouse {} and every location in warehouses.{}.allowed_locations",
                options.location, options.warehouse
            ),
        })
    }

    /// Checks that a table may have the location and the path properties of this metadata.
    pub(crate) async fn check_metadata_locations(&self, metadata: &TableMetadata, own: Option<TableId>) -> Result<()> {
        self.check_locations(&metadata.location, &metadata.properties, own).await
    }

    /// Checks that a table or view may have this location and these path properties.
    ///
    /// Nothing may overlap the location of another table or view. A location or metadata path may not overlap a place with other
    /// files of another table, because orphans are looked for in a location. A `write.data.path` may: writers put the table's
    /// name into its paths.
    pub(crate) async fn check_locations(
        &self,
        location: &str,
        properties: &BTreeMap<String, String>,
        own: Option<TableId>,
    ) -> Result<()> {
        let mut wanted = vec![(None, Location::parse(location)?)];
        for key in PATH_PROPERTIES {
            if let Some(path) = properties.get(key) {
                wanted.push((Some(key), Location::parse(path)?));
            }
        }
        for (_, at) in &wanted {
            self.check_allowed(at)?;
        }
        let places = self.places().await?;
        let others: Vec<&Place> = places.iter().filter(|place| !place.dropped && Some(place.owner.id) != own).collect();
        for (key, at) in wanted {
            let shared = key == Some(DATA_PATH);
            if let Some(place) = others.iter().find(|place| at.overlaps(&place.directory) && (!shared || place.is_location())) {
                let (what, name) = (place.describe(), &place.owner.name);
                let way_out = match place.is_location() {
                    true => "choose a place of its own".to_owned(),
                    false => format!("choose a place of its own, or drop {name} for good first"),
                };
                let key = key.map_or_else(String::new, |key| format!("{key}: "));
                let reason = format!("{key}it overlaps with {}, {what}; {way_out}", place.directory);
                return Err(CatalogError::Location { location: at.to_string(), reason });
            }
        }
        Ok(())
    }

    /// Creates the directories of a table in a local warehouse: engines write into them without creating them.
    pub(crate) async fn make_directories(&self, metadata: &TableMetadata) -> Result<()> {
        for dir in [metadata_dir(&metadata.location, &metadata.properties), data_dir(metadata)] {
            self.storage().make_directory(&Location::parse(&dir)?).await?;
        }
        Ok(())
    }

    /// Returns the path of the metadata file that follows `previous`, for a table.
    pub(crate) fn next_metadata_path(metadata: &TableMetadata, previous: Option<&str>) -> Result<String> {
        Self::metadata_path(&metadata.location, &metadata.properties, previous)
    }

    /// Returns the path of the metadata file that follows `previous`, for a table or view.
    ///
    /// It is `{dir}/{version}-{uuid}[.gz].metadata.json`. The version begins at 0, and the UUID makes the path unique.
    ///
    /// Spec: "Metastore Tables".
    pub(crate) fn metadata_path(location: &str, properties: &BTreeMap<String, String>, previous: Option<&str>) -> Result<String> {
        let version = previous.and_then(version);
        let version = version.map_or(0, |v| v + 1);
        let gzip = if METADATA_GZIP.of(properties) { ".gz" } else { "" };
        let dir = metadata_dir(location, properties);
        Ok(format!("{dir}/{version:05}-{}{gzip}.metadata.json", Uuid::now_v7()))
    }
}

/// Returns the number that a metadata file's name begins with: `00012-….metadata.json`, or `v12.metadata.json`.
///
/// Spec: "Metastore Tables" and "File System Tables".
pub(crate) fn version(uri: &str) -> Option<u64> {
    let name = uri.rsplit('/').next()?.trim_start_matches('v');
    let end = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
    name[..end].parse().ok()
}

/// Checks whether metadata may belong to a table that was entered with a UUID.
///
/// Metadata of version 1 may lack a UUID, or may have lacked it when the table was entered.
pub(crate) fn belongs_to_entry(metadata: &TableMetadata, entered: Uuid) -> bool {
    entered.is_nil() || metadata.table_uuid.is_none_or(|own| own == entered)
}

#[cfg(test)]
mod tests {
    use super::directory_name;

    #[test]
    fn directories_hold_no_character_that_an_engine_could_misread() {
        assert_eq!(directory_name("a b/c%20..*é?"), "a_b_c_20_____");
    }
}
