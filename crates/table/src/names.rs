use iceberg::spec::{DEFAULT_SCHEMA_NAME_MAPPING, NameMapping, TableMetadata};

/// Which fields the names of columns stand for, in files without field ids (spec, "Name Mapping"), if the table says. One that can't be
/// parsed only matters to files that need it: the error is why.
pub fn name_mapping(metadata: &TableMetadata) -> Option<Result<NameMapping, String>> {
    let text = metadata.properties().get(DEFAULT_SCHEMA_NAME_MAPPING)?;
    Some(serde_json::from_str(text).map_err(|e| format!("{DEFAULT_SCHEMA_NAME_MAPPING} can't be read: {e}")))
}
