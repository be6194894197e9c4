use iceberg::spec::TableMetadata;

/// Where a table's metadata files and manifests go: `write.metadata.path`, or `metadata` in its location. Without a slash at the end.
pub fn metadata_dir(metadata: &TableMetadata) -> String {
    dir(metadata, "write.metadata.path", "metadata")
}

/// Where a table's data files go: `write.data.path`, or `data` in its location. Without a slash at the end.
pub fn data_dir(metadata: &TableMetadata) -> String {
    dir(metadata, "write.data.path", "data")
}

fn dir(metadata: &TableMetadata, property: &str, default: &str) -> String {
    match metadata.properties().get(property) {
        Some(dir) => dir.trim_end_matches('/').to_owned(),
        None => format!("{}/{default}", metadata.location().trim_end_matches('/')),
    }
}
