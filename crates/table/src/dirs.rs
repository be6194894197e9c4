//! The directories that new files of a table are written to.

use std::collections::BTreeMap;

use esker_format::TableMetadata;

/// Returns the directory of the metadata files and manifests of a table or view.
///
/// It is `write.metadata.path`, or else `metadata` in `location`. It has no slash at its end.
pub fn metadata_dir(location: &str, properties: &BTreeMap<String, String>) -> String {
    dir(location, properties, "write.metadata.path", "metadata")
}

/// Returns the directory of a table's data files.
///
/// It is `write.data.path`, or else `data` in the table's location. It has no slash at its end.
pub fn data_dir(metadata: &TableMetadata) -> String {
    dir(&metadata.location, &metadata.properties, "write.data.path", "data")
}

fn dir(location: &str, properties: &BTreeMap<String, String>, property: &str, default: &str) -> String {
    match properties.get(property) {
        Some(dir) => dir.trim_end_matches('/').to_owned(),
        None => format!("{}/{default}", location.trim_end_matches('/')),
    }
}
