//! Write activity: the partitions whose rows were changed a moment ago, which a compaction leaves alone.
//!
//! A running MERGE, UPDATE or DELETE has read files, and its own conflict check fails if a rewrite replaced them before it commits.
//! Appends and upserts by equality deletes read no files, so they are no reason to wait.

use std::collections::HashMap;

use esker_format::{DataContentType, ManifestStatus, Operation, Snapshot, SnapshotRef, TableMetadata};
use esker_table::{EntryRef, Manifests, PartitionKey, PlannableFile, ancestors, visit_changes};

use crate::Result;

/// The time of the last change of rows of each partition, in milliseconds since the Unix epoch.
pub(crate) type LastChanges = HashMap<PartitionKey<'static>, i64>;

/// Decides from a snapshot's summary whether it changed rows, other than by an append or an upsert; `None` if it has no operation.
///
/// Spec: "Optional Snapshot Summary Fields".
fn summary_changes_rows(snapshot: &Snapshot) -> Option<bool> {
    snapshot.operation()?;
    let some = |key: &str| snapshot.summary_value(key).and_then(|v| v.parse::<u64>().ok()).is_some_and(|n| n > 0);
    let upsert = some("added-equality-deletes") || some("added-equality-delete-files");
    let changed = ["deleted-data-files", "added-position-deletes", "added-position-delete-files", "added-dvs"];
    Some(!snapshot.is(Operation::Replace) && !upsert && changed.iter().any(|key| some(key)))
}

/// Checks whether a manifest entry that a snapshot wrote changed rows. It decides for snapshots whose summary has no operation.
fn entry_changed_rows(named: EntryRef<'_>) -> bool {
    named.status() == ManifestStatus::Deleted || named.file().content == DataContentType::PositionDeletes
}

/// Returns the partitions in which rows were changed by `head` or its ancestors since `since_ms`, in milliseconds since the Unix
/// epoch.
///
/// # Errors
///
/// Returns [`MaintenanceError::Table`](crate::MaintenanceError::Table) if the manifest list or a manifest of a snapshot that
/// changed rows can't be read.
pub(crate) async fn last_changes(
    source: &Manifests,
    metadata: &TableMetadata,
    head: &SnapshotRef,
    since_ms: i64,
) -> Result<LastChanges> {
    let mut changed = LastChanges::new();
    for snapshot in ancestors(metadata, Some(head)).take_while(|s| s.timestamp_ms >= since_ms) {
        let by_summary = summary_changes_rows(snapshot);
        if by_summary == Some(false) {
            continue;
        }
        visit_changes(source, metadata, snapshot, |named| {
            if by_summary.is_some() || entry_changed_rows(named) {
                let key = named.partition_key();
                let last = changed.entry(key.into_owned()).or_insert(i64::MIN);
                *last = (*last).max(snapshot.timestamp_ms);
            }
        })
        .await?;
    }
    Ok(changed)
}
