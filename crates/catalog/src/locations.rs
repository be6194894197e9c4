//! The locations of tables, views and namespaces, and the paths of metadata files.
//!
//! A location must lie in the warehouse or in an allowed location. It must not overlap a place of another table: each file
//! belongs to one table. Data paths are shared only where the configuration allows it, or where they were shared before. Start
//! reading at [`Catalog::check_locations`].

use std::collections::BTreeMap;

use esker_access::{Privilege, Required};
use esker_format::TableMetadata;
use esker_state::{NamespaceRow, PlaceClaim};
use esker_storage::Location;
use esker_table::properties::METADATA_GZIP;
use esker_table::{data_dir, metadata_dir};
use esker_types::{Millis, TableId, TableName, now_ms};
use futures::TryStreamExt;
use uuid::Uuid;

use crate::places::{DATA_PATHS, LOCATION_PROVIDER, PATH_PROPERTIES, Place, claim};
use crate::{Authority, Catalog, CatalogError, Result};

/// The age in milliseconds from which a metadata file is not that of a creation which is tried again.
const LEFT_AFTER_MS: Millis = 3_600_000;

/// The origin of the properties that are checked. What a table had before goes on working.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PathsOrigin<'a> {
    /// The entry is created.
    Created,
    /// The entry comes from another catalog, and its files exist.
    Registered,
    /// The entry is changed, and had these properties before.
    Changed(&'a BTreeMap<String, String>),
}

impl PathsOrigin<'_> {
    /// Checks whether the entry had this value of a property before the change.
    fn had(self, key: &str, value: &str) -> bool {
        matches!(self, Self::Changed(before) if before.get(key).is_some_and(|old| old == value))
    }

    /// Checks whether the entry may go on sharing the data path in this property with another one.
    fn may_share(self, key: &str, value: &str) -> bool {
        DATA_PATHS.contains(&key) && (matches!(self, Self::Registered) || self.had(key, value))
    }
}

/// Returns the characters of a name, with `_` for each that is no ASCII letter, digit, `_` or `-`.
fn plain_characters(name: &str) -> impl Iterator<Item = char> {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' })
}

/// Converts a name to a directory name of plain characters.
///
/// The name is cut after 64 characters. It need not be unique, because the location of a table has a random suffix.
fn directory_name(name: &str) -> String {
    plain_characters(name).take(64).collect()
}

/// Checks that a directory is named after a table or view, with a random suffix: 8 digits by Esker, or 32 by Trino.
fn is_default_directory(directory: &str, name: &str) -> bool {
    let is_random =
        |suffix: &str| matches!(suffix.len(), 8 | 32) && suffix.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    // Trino cuts no name.
    let names = [directory_name(name), plain_characters(name).collect()];
    names.iter().any(|name| {
        let suffix = directory.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('-'));
        suffix.is_some_and(is_random)
    })
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

    /// Checks that the creator of a table or view chooses its location, for which it needs
    /// [`ChooseLocation`](Privilege::ChooseLocation).
    ///
    /// It does not if [`Catalog::default_location`] could have chosen the location for this name, and nothing has lain there: Trino
    /// puts new tables and views below the location of the namespace itself, with a longer suffix. With access control off, nobody
    /// needs anything.
    ///
    /// # Errors
    ///
    /// Returns [`State`](CatalogError::State) if the database fails, and [`Storage`](CatalogError::Storage) if storage does.
    pub(crate) async fn chooses_location(
        &self,
        creator: &Authority,
        namespace: &NamespaceRow,
        name: &str,
        location: &str,
    ) -> Result<bool> {
        if !creator.is_decided() {
            return Ok(false);
        }
        let Ok(base) = Location::parse(&self.namespace_location(namespace)) else { return Ok(true) };
        let directory = location.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let at = Location::parse(location).ok().filter(|at| is_default_directory(directory, name) && *at == base.join(directory));
        let Some(at) = at else { return Ok(true) };
        let key = namespace.name.key();
        // Nothing is looked up for whoever may choose.
        let may_choose = creator.decides(&self.namespace_path(&key), Required::privilege(Privilege::ChooseLocation));
        Ok(!may_choose && self.had_files(&at).await?)
    }

    /// Checks that a table or view was at a location before: one that was dropped can come back to it, or has left its metadata.
    ///
    /// Whoever creates a table there would get credentials for the rows of the earlier one. A location that is in use counts as
    /// free, because nothing else is created there in any case.
    async fn had_files(&self, at: &Location) -> Result<bool> {
        if self.find_place(at, |place| !place.dropped).await?.is_some() {
            return Ok(false);
        }
        if self.find_place(at, |place| place.dropped).await?.is_some() {
            return Ok(true);
        }
        let directory = Location::parse(&metadata_dir(&at.to_string(), &BTreeMap::new()))?;
        let (mut files, before) = (self.storage().list(&directory), now_ms().saturating_sub(LEFT_AFTER_MS));
        while let Some(file) = files.try_next().await? {
            // A table that is being created has manifests here already, and a failed attempt has left metadata.
            if file.uri.contains(".metadata.json") && file.modified_ms < before {
                return Ok(true);
            }
        }
        Ok(false)
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

    /// Checks that a table may have the location and the path properties of this metadata. Returns the claims to these places.
    pub(crate) async fn check_metadata_locations(
        &self,
        metadata: &TableMetadata,
        own: Option<TableId>,
        origin: PathsOrigin<'_>,
        authority: &Authority,
    ) -> Result<Vec<PlaceClaim>> {
        self.check_locations(&metadata.location, &metadata.properties, own, origin, authority).await
    }

    /// Checks that a table or view may have this location and these properties that decide paths.
    ///
    /// Nothing may overlap the location of another table or view. A location or metadata path may not overlap a place with other
    /// files of another table, because orphans are looked for in a location. Nor may a data path, unless the warehouse allows shared
    /// ones or the entry had it before. Nothing may overlap the directory of Esker's own files. The error names no entry that the
    /// caller may not see.
    ///
    /// Returns the claims to these places: another entry may get one of them before this one is published.
    pub(crate) async fn check_locations(
        &self,
        location: &str,
        properties: &BTreeMap<String, String>,
        own: Option<TableId>,
        origin: PathsOrigin<'_>,
        authority: &Authority,
    ) -> Result<Vec<PlaceClaim>> {
        self.check_location_provider(properties, origin)?;
        let mut wanted = vec![(None, Location::parse(location)?, false)];
        for key in PATH_PROPERTIES {
            if let Some(path) = properties.get(key) {
                let shared = DATA_PATHS.contains(&key) && self.options().shared_data_paths || origin.may_share(key, path);
                wanted.push((Some(key), Location::parse(path)?, shared));
            }
        }
        for (_, at, _) in &wanted {
            self.check_allowed(at)?;
            if at.overlaps(&self.own_directory()) {
                let reason = "it overlaps with the directory of Esker's own files; choose a place of its own".to_owned();
                return Err(CatalogError::Location { location: at.to_string(), reason });
            }
        }
        let claims = wanted.iter().map(|(_, at, shared)| claim(at, *shared)).collect();
        for (key, at, shared) in wanted {
            let taken = match shared {
                true => self.find_location_of_another(&at, own).await?,
                false => self.find_place(&at, |place| !place.dropped && Some(place.owner.id) != own).await?,
            };
            if let Some(place) = taken {
                return Err(self.overlap_error(key, &at, &place, authority));
            }
        }
        Ok(claims)
    }

    /// Builds the error of a location or path that overlaps a place of another entry. `key` is the property of the path.
    fn overlap_error(&self, key: Option<&str>, at: &Location, place: &Place, authority: &Authority) -> CatalogError {
        if !authority.sees(&self.tabular_path(&place.owner.name.namespace.key(), &place.owner)) {
            let reason = "it overlaps with the location of another table; choose a place of its own".to_owned();
            return CatalogError::Location { location: at.to_string(), reason };
        }
        let (what, name) = (place.describe(), &place.owner.name);
        let way_out = match (place.is_location(), key) {
            (true, _) => "choose a place of its own".to_owned(),
            (false, Some(key)) if DATA_PATHS.contains(&key) => format!(
                "choose a place of its own, drop {name} for good first, or set warehouses.{}.shared_data_paths",
                self.options().warehouse
            ),
            (false, _) => format!("choose a place of its own, or drop {name} for good first"),
        };
        let key = key.map_or_else(String::new, |key| format!("{key}: "));
        let reason = format!("{key}it overlaps with {}, {what}; {way_out}", place.directory);
        CatalogError::Location { location: at.to_string(), reason }
    }

    /// Refuses a class for the paths of data files that the configuration does not allow: whoever writes the table loads the class.
    fn check_location_provider(&self, properties: &BTreeMap<String, String>, origin: PathsOrigin<'_>) -> Result<()> {
        let options = self.options();
        let Some(class) = properties.get(LOCATION_PROVIDER) else { return Ok(()) };
        if origin.had(LOCATION_PROVIDER, class) || options.allowed_location_providers.contains(class) {
            return Ok(());
        }
        let what = format!(
            "{LOCATION_PROVIDER} = {class} is not allowed: writers load and run the class; leave the property out, or list the class \
             in warehouses.{}.allowed_location_providers",
            options.warehouse
        );
        Err(CatalogError::Invalid(what))
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
    use std::collections::BTreeMap;

    use super::{PathsOrigin, directory_name, is_default_directory};
    use crate::places::decides_paths;

    #[test]
    fn directories_hold_no_character_that_an_engine_could_misread() {
        assert_eq!(directory_name("a b/c%20..*é?"), "a_b_c_20_____");
    }

    #[test]
    fn a_directory_as_esker_or_trino_names_it_has_the_name_and_a_random_suffix() {
        let (esker, trino, long) = ("0a1b2c3d", "0a1b2c3d0a1b2c3d0a1b2c3d0a1b2c3d", "n".repeat(70));
        for (directory, name) in [
            (format!("t-{esker}"), "t"),
            (format!("t-{trino}"), "t"),
            (format!("a_b-{esker}"), "a.b"),
            (format!("{}-{esker}", &long[..64]), long.as_str()),
            (format!("{long}-{trino}"), long.as_str()),
        ] {
            assert!(is_default_directory(&directory, name), "{directory} of {name}");
        }
        let (upper, short) = (trino.to_uppercase(), &trino[1..]);
        for directory in
            ["t", "t-", esker, &format!("u-{esker}"), &format!("t-{upper}"), &format!("t-{short}"), &format!("t{trino}")]
        {
            assert!(!is_default_directory(directory, "t"), "{directory}");
        }
        assert!(!is_default_directory(&format!("a.b-{trino}"), "a.b"), "a name chooses no characters");
    }

    #[test]
    fn a_changed_table_may_share_the_data_path_that_it_had_and_no_other() {
        let before = BTreeMap::from(
            [("write.data.path", "s3://b/x"), ("write.metadata.path", "s3://b/m")]
                .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let changed = PathsOrigin::Changed(&before);
        assert!(changed.may_share("write.data.path", "s3://b/x"));
        assert!(!changed.may_share("write.data.path", "s3://b/y"), "another value");
        assert!(!changed.may_share("write.folder-storage.path", "s3://b/x"), "it was in another property");
        assert!(!changed.may_share("write.metadata.path", "s3://b/m"), "metadata paths are never shared");
        assert!(PathsOrigin::Registered.may_share("write.object-storage.path", "s3://b/x"));
        assert!(!PathsOrigin::Created.may_share("write.data.path", "s3://b/x"));
    }

    #[test]
    fn the_properties_that_decide_paths_are_those_of_the_reference_implementation() {
        for key in ["data.path", "metadata.path", "object-storage.path", "folder-storage.path", "location-provider.impl"] {
            assert!(decides_paths(&format!("write.{key}")), "{key}");
        }
        assert!(!decides_paths("write.object-storage.enabled"));
    }
}
