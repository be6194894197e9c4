use std::collections::BTreeMap;

use iceberg::TableRequirement;
use iceberg::spec::{MAIN_BRANCH, SnapshotRef, SnapshotReference, SnapshotRetention, TableMetadata};

use crate::{Result, TableError};

/// A snapshot and those that it was made from, the newest first. Parents that lead round in a circle end where all have been.
pub fn ancestors<'a>(metadata: &'a TableMetadata, from: Option<&'a SnapshotRef>) -> impl Iterator<Item = &'a SnapshotRef> {
    let parent = |s: &&'a SnapshotRef| s.parent_snapshot_id().and_then(|id| metadata.snapshot_by_id(id));
    std::iter::successors(from, parent).take(metadata.snapshots().len())
}

/// Every branch and tag of the table, `main` included.
///
/// The `iceberg` crate looks a reference up by name only, so this goes through the metadata's JSON form.
pub fn refs(metadata: &TableMetadata) -> Result<BTreeMap<String, SnapshotReference>> {
    #[derive(serde::Deserialize)]
    struct Refs {
        #[serde(default)]
        refs: BTreeMap<String, SnapshotReference>,
    }
    let invalid = |e: serde_json::Error| TableError::Invalid(e.to_string());
    let json = serde_json::to_vec(metadata).map_err(invalid)?;
    let mut found: Refs = serde_json::from_slice(&json).map_err(invalid)?;
    if let (Some(id), false) = (metadata.current_snapshot_id(), found.refs.contains_key(MAIN_BRANCH)) {
        let main = SnapshotReference::new(id, SnapshotRetention::branch(None, None, None));
        found.refs.insert(MAIN_BRANCH.to_owned(), main);
    }
    Ok(found.refs)
}

/// The requirements that every reference is still where it was.
pub fn requirement_for_refs(refs: &BTreeMap<String, SnapshotReference>) -> Vec<TableRequirement> {
    refs.iter()
        .map(|(name, reference)| TableRequirement::RefSnapshotIdMatch {
            r#ref: name.clone(),
            snapshot_id: Some(reference.snapshot_id),
        })
        .collect()
}
