use std::collections::BTreeMap;

use esker_format::{SnapshotRef, SnapshotReference, TableMetadata, TableRequirement};

/// A snapshot and those that it was made from, the newest first. Parents that lead round in a circle end where all have been.
pub fn ancestors<'a>(metadata: &'a TableMetadata, from: Option<&'a SnapshotRef>) -> impl Iterator<Item = &'a SnapshotRef> {
    let parent = |s: &&'a SnapshotRef| s.parent_snapshot_id.and_then(|id| metadata.snapshots.get(id));
    std::iter::successors(from, parent).take(metadata.snapshots.len())
}

/// The requirements that every reference is still where it was.
pub fn requirement_for_refs(refs: &BTreeMap<String, SnapshotReference>) -> Vec<TableRequirement> {
    refs.iter()
        .map(|(name, reference)| TableRequirement::AssertRefSnapshotId {
            name: name.clone(),
            snapshot_id: Some(reference.snapshot_id),
        })
        .collect()
}
