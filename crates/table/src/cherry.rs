//! Cherry-picks: the data files of a staged snapshot (write-audit-publish) as a new append on `main`.

use std::collections::BTreeMap;

use esker_format::{MAIN_BRANCH, ManifestContent, ManifestEntry, ManifestStatus, Operation, Snapshot, TableMetadata};

use crate::snapshot_builder::{ManifestDraft, NewSnapshot, added_entry, onto_branch, write_manifests};
use crate::{BuiltSnapshot, Manifests, RecordPaths, Result, TableError, load_manifests};

/// Builds an `append` snapshot on the head of `main` with the data files that a staged snapshot added.
///
/// Java calls this a cherry-pick. The staged snapshot stays as it is. Only an append can be picked, because the files that an
/// overwrite removes were chosen on another state of the table. `record` gets the paths of the new manifests and of the manifest
/// list before they are written.
///
/// # Errors
///
/// - Returns [`TableError::Unsupported`] if the staged snapshot is no append, or if a manifest list or manifest is encrypted.
/// - Returns [`TableError::File`] if a manifest list or manifest cannot be read or decoded.
/// - Returns [`TableError::Invalid`] if the staged snapshot or the head names neither a manifest list nor manifests, or if the
///   metadata lacks a partition spec or leaves no row ids.
/// - Returns [`TableError::Format`] if a new file cannot be encoded, and [`TableError::Storage`] if it cannot be written.
/// - Returns the error of `record`, if it fails; nothing is written then.
pub async fn cherry_pick(
    source: &Manifests,
    metadata: &TableMetadata,
    staged: &Snapshot,
    record: RecordPaths<'_>,
) -> Result<BuiltSnapshot> {
    let staged_id = staged.snapshot_id;
    if !staged.is(Operation::Append) {
        let operation = staged.operation().map_or_else(|| "of an unknown kind".to_owned(), |operation| format!("a {operation}"));
        let what = format!("snapshot {staged_id} is {operation}; only an append can be cherry-picked once main has moved on");
        return Err(TableError::Unsupported(what));
    }
    let mut by_spec: BTreeMap<i32, Vec<ManifestEntry>> = BTreeMap::new();
    let of_staged = load_manifests(source, staged).await?;
    for file in &of_staged {
        if file.added_snapshot_id != staged_id || file.content != ManifestContent::Data {
            continue;
        }
        let manifest = source.load(metadata, file).await?;
        let added = manifest.entries.iter().filter(|entry| entry.status == ManifestStatus::Added);
        let entries = by_spec.entry(file.partition_spec_id).or_default();
        entries.extend(added.map(|entry| added_entry(entry.data_file.clone(), None)));
    }
    let head = metadata.current_snapshot().map(AsRef::as_ref);
    let new = NewSnapshot::onto(metadata, head);
    let paths = new.paths(metadata, by_spec.len());
    let written = paths.all();
    record(written.clone()).await?;

    let drafts = by_spec.into_iter().map(|(spec_id, entries)| -> ManifestDraft { (ManifestContent::Data, spec_id, entries) });
    let drafts = paths.manifests.iter().zip(drafts);
    let mut manifests = write_manifests(source, metadata, new.snapshot_id, &of_staged, drafts).await?;
    if let Some(head) = head {
        manifests.extend(load_manifests(source, head).await?);
    }
    let snapshot = new.write(source, metadata, paths.list, manifests, summary(head, staged)).await?;
    let (requirements, updates) = onto_branch(metadata, MAIN_BRANCH, snapshot);
    Ok(BuiltSnapshot { requirements, updates, written })
}

/// Builds the summary: the counts of the staged snapshot, and the totals of the head plus these counts.
///
/// `source-snapshot-id` and `published-wap-id` name the staged snapshot, so that it is picked only once.
/// Spec: "Optional Snapshot Summary Fields".
fn summary(head: Option<&Snapshot>, staged: &Snapshot) -> BTreeMap<String, String> {
    let mut properties = staged.summary.clone().unwrap_or_default();
    properties.retain(|key, _| !key.starts_with("total-"));
    for (total, added) in [
        ("total-records", "added-records"),
        ("total-data-files", "added-data-files"),
        ("total-files-size", "added-files-size"),
        ("total-delete-files", ""),
        ("total-position-deletes", ""),
        ("total-equality-deletes", ""),
    ] {
        let number = |snapshot: &Snapshot, key: &str| snapshot.summary_value(key).and_then(|v| v.parse::<u64>().ok());
        let before = head.map_or(Some(0), |head| number(head, total));
        // If the head's writer kept no totals, they stay unknown. A wrong number would be worse.
        if let Some(sum) = before.and_then(|before| before.checked_add(number(staged, added).unwrap_or(0))) {
            properties.insert(total.to_owned(), sum.to_string());
        }
    }
    if let Some(wap) = properties.remove("wap.id") {
        properties.insert("published-wap-id".to_owned(), wap);
    }
    properties.insert("source-snapshot-id".to_owned(), staged.snapshot_id.to_string());
    properties
}
