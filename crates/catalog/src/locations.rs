use std::collections::BTreeMap;

use esker_format::TableMetadata;
use esker_state::NamespaceRow;
use esker_storage::Location;
use esker_table::properties::METADATA_GZIP;
use esker_table::{data_dir, metadata_dir};
use esker_types::{TableId, TableName};
use uuid::Uuid;

use crate::{Catalog, CatalogError, Place, Result, recovery};

/// Table properties that name directories of their own.
pub(crate) const PATH_PROPERTIES: [&str; 2] = [DATA_PATH, "write.metadata.path"];

const DATA_PATH: &str = "write.data.path";

/// A name as a directory: what is not plain becomes `_`. Uniqueness comes from the suffix, not from the name.
fn plain(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    name.chars().map(keep).take(64).collect()
}

impl Catalog {
    /// Where a new table goes if the client does not say.
    pub(crate) async fn default_location(&self, name: &TableName) -> Result<Location> {
        let namespace = self.state().namespace(self.warehouse(), &name.namespace).await?;
        let base = Location::parse(&self.namespace_location(&namespace))?;
        // A dropped table's files may still lie there, so that a name alone is not enough.
        let suffix = Uuid::new_v4().simple().to_string();
        Ok(base.join(&format!("{}-{}", plain(&name.name), &suffix[..8])))
    }

    /// Where a namespace's tables go: its own `location`, or its place in the warehouse. Trino puts tables only where it is
    /// told by the namespace.
    pub fn namespace_location(&self, namespace: &NamespaceRow) -> String {
        match namespace.properties.get("location") {
            Some(location) => location.clone(),
            None => {
                let levels: Vec<String> = namespace.name.levels().iter().map(|l| plain(l)).collect();
                self.options().location.join(&levels.join("/")).to_string()
            }
        }
    }

    /// Whether files may be read from and written to a location.
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

    /// Whether a table may have this metadata's location and path properties: allowed, and nobody else's.
    pub(crate) async fn check_metadata_locations(&self, metadata: &TableMetadata, own: Option<TableId>) -> Result<()> {
        self.check_locations(&metadata.location, &metadata.properties, own).await
    }

    /// Whether a table or view may lie there. Where another has its location, nothing else may; where another has or had other files, no
    /// location, whose orphans would be looked for there, and no metadata. Data may: writers put the table's name into the paths of a
    /// `write.data.path` that tables share.
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
            if let Some(place) = others.iter().find(|place| at.overlaps(&place.at) && (!shared || place.is_location())) {
                let (what, name) = (place.what(), &place.owner.name);
                let way_out = match place.is_location() {
                    true => "choose a place of its own".to_owned(),
                    false => format!("choose a place of its own, or drop {name} for good first"),
                };
                let key = key.map_or_else(String::new, |key| format!("{key}: "));
                let reason = format!("{key}it overlaps with {}, {what}; {way_out}", place.at);
                return Err(CatalogError::Location { location: at.to_string(), reason });
            }
        }
        Ok(())
    }

    /// Makes the directories of a local table: engines write into them without making them.
    pub(crate) async fn make_directories(&self, metadata: &TableMetadata) -> Result<()> {
        for dir in [metadata_dir(&metadata.location, &metadata.properties), data_dir(metadata)] {
            self.storage().make_directory(&Location::parse(&dir)?).await?;
        }
        Ok(())
    }

    /// The path of a table's next metadata file.
    pub(crate) fn next_metadata_path(metadata: &TableMetadata, previous: Option<&str>) -> Result<String> {
        Self::metadata_path(&metadata.location, &metadata.properties, previous)
    }

    /// The path of the metadata file that follows `previous`, of a table or view: `{dir}/{version}-{uuid}[.gz].metadata.json`.
    pub(crate) fn metadata_path(location: &str, properties: &BTreeMap<String, String>, previous: Option<&str>) -> Result<String> {
        let version = previous.and_then(recovery::version);
        let version = version.map_or(0, |v| v + 1);
        let gzip = if METADATA_GZIP.of(properties) { ".gz" } else { "" };
        let dir = metadata_dir(location, properties);
        Ok(format!("{dir}/{version:05}-{}{gzip}.metadata.json", Uuid::now_v7()))
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn directories_hold_no_character_that_an_engine_could_misread() {
        assert_eq!(plain("a b/c%20..*é?"), "a_b_c_20_____");
    }
}
