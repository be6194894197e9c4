use std::collections::BTreeMap;

use esker_format::TableMetadata;

/// Where the metadata files and manifests of a table or view go: `write.metadata.path`, or `metadata` in its location. Without a slash at the end.
pub fn metadata_dir(location: &str, properties: &BTreeMap<String, String>) -> String {
    dir(location, properties, "write.metadata.path", "metadata")
}

/// Where a table's data files go: `write.data.path`, or `data` in its location. Without a slash at the end.
pub fn data_dir(metadata: &TableMetadata) -> String {
    dir(&metadata.location, &metadata.properties, "write.data.path", "data")
}

fn dir(location: &str, properties: &BTreeMap<String, String>, property: &str, default: &str) -> String {
    match properties.get(property) {
        Some(dir) => dir.trim_end_matches('/').to_owned(),
        None => format!("{}/{default}", location.trim_end_matches('/')),
    }
}
