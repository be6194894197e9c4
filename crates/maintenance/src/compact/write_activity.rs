//! Partitions whose rows are being changed are left alone for a while.
//!
//! A MERGE, UPDATE or DELETE reads files, and fails by its own check if a rewrite replaced them before it commits. Appends
//! and upserts by equality deletes don't read, and are no reason to wait.

use std::collections::HashMap;

use esker_format::{DataContentType, ManifestStatus, Operation, Snapshot, SnapshotRef, TableMetadata};
use esker_table::{EntryRef, Manifests, PartitionKey, PlannableFile, ancestors, visit_changes};

use crate::Result;

/// When rows of a partition were last changed, in milliseconds since the epoch.
pub(crate) type Changed = HashMap<PartitionKey<'static>, i64>;

/// What of a snapshot's summary tells a change of rows from an append or an upsert; none if its writer left out what it did.
fn changes_rows(snapshot: &Snapshot) -> Option<bool> {
    snapshot.operation()?;
    let some = |key: &str| snapshot.summary_value(key).and_then(|v| v.parse::<u64>().ok()).is_some_and(|n| n > 0);
    let upsert = some("added-equality-deletes") || some("added-equality-delete-files");
    let changed = ["deleted-data-files", "added-position-deletes", "added-position-delete-files", "added-dvs"];
    Some(!snapshot.is(Operation::Replace) && !upsert && changed.iter().any(|key| some(key)))
}

/// Whether what a snapshot did to a file changed rows, where nothing but its manifests tells.
fn changed_rows(named: EntryRef<'_>) -> bool {
    named.status() == ManifestStatus::Deleted || named.file().content == DataContentType::PositionDeletes
}

/// The partitions in which rows were changed on the way to `head` since `since_ms`.
pub(crate) async fn changed(source: &Manifests, metadata: &TableMetadata, head: &SnapshotRef, since_ms: i64) -> Result<Changed> {
    let mut changed = Changed::new();
    for snapshot in ancestors(metadata, Some(head)).take_while(|s| s.timestamp_ms >= since_ms) {
        let told = changes_rows(snapshot);
        if told == Some(false) {
            continue;
        }
        visit_changes(source, metadata, snapshot, |named| {
            if told.is_some() || changed_rows(named) {
                let key = named.partition_key();
                let last = changed.entry(key.into_owned()).or_insert(i64::MIN);
                *last = (*last).max(snapshot.timestamp_ms);
            }
        })
        .await?;
    }
    Ok(changed)
}
