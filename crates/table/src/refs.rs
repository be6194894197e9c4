//! References and the ancestry of snapshots.

use std::collections::BTreeMap;

use esker_format::{SnapshotRef, SnapshotReference, TableMetadata, TableRequirement};

/// Iterates over a snapshot and its ancestors, the newest first.
///
/// It ends at the first snapshot whose parent is not in the metadata. It returns at most as many snapshots as the table has, so
/// that parents that form a cycle end as well.
pub fn ancestors<'a>(metadata: &'a TableMetadata, from: Option<&'a SnapshotRef>) -> impl Iterator<Item = &'a SnapshotRef> {
    let parent = |s: &&'a SnapshotRef| s.parent_snapshot_id.and_then(|id| metadata.snapshots.get(id));
    std::iter::successors(from, parent).take(metadata.snapshots.len())
}

/// Returns the requirements that each reference still points at its snapshot.
pub fn requirement_for_refs(refs: &BTreeMap<String, SnapshotReference>) -> Vec<TableRequirement> {
    refs.iter()
        .map(|(name, reference)| TableRequirement::AssertRefSnapshotId {
            name: name.clone(),
            snapshot_id: Some(reference.snapshot_id),
        })
        .collect()
}
