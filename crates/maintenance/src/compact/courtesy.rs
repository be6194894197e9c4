//! Partitions whose rows are being changed are left alone for a while.
//!
//! A MERGE, UPDATE or DELETE reads files, and fails by its own check if a rewrite replaced them before it commits. Appends
//! and upserts by equality deletes don't read, and are no reason to wait.

use std::collections::HashMap;

use esker_table::{Manifests, PartitionKey, load_manifests};
use iceberg::spec::{Snapshot, TableMetadata};

use crate::Result;

/// When rows of a partition were last changed, in milliseconds since the epoch.
pub(crate) type Changed = HashMap<PartitionKey<'static>, i64>;

/// What of a snapshot's summary tells a change of rows from an append or an upsert.
fn changes_rows(snapshot: &Snapshot) -> bool {
    let summary = snapshot.summary();
    let count = |key: &str| summary.additional_properties.get(key).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
    if summary.operation.as_str() == "replace" || count("added-equality-deletes") > 0 || count("added-equality-delete-files") > 0
    {
        return false;
    }
    ["deleted-data-files", "added-position-deletes", "added-position-delete-files", "added-dvs"].iter().any(|key| count(key) > 0)
}

/// The partitions in which rows were changed on the way to `head` since `since_ms`.
pub(crate) async fn changed(source: &Manifests, metadata: &TableMetadata, head: &Snapshot, since_ms: i64) -> Result<Changed> {
    let mut changed = Changed::new();
    let mut at = Some(head.snapshot_id());
    while let Some(snapshot) = at.and_then(|id| metadata.snapshot_by_id(id)).filter(|s| s.timestamp_ms() >= since_ms) {
        at = snapshot.parent_snapshot_id();
        if !changes_rows(snapshot) {
            continue;
        }
        for file in load_manifests(source, metadata, snapshot).await? {
            if file.added_snapshot_id != snapshot.snapshot_id() {
                continue;
            }
            let manifest = source.load(metadata, &file).await?;
            for entry in manifest.entries().iter().filter(|e| e.snapshot_id() == Some(snapshot.snapshot_id())) {
                let key = PartitionKey::new(file.partition_spec_id, entry.data_file().partition());
                let last = changed.entry(key.into_owned()).or_insert(i64::MIN);
                *last = (*last).max(snapshot.timestamp_ms());
            }
        }
    }
    Ok(changed)
}
