//! Rules of snapshots, references and encryption keys.
//!
//! Spec: "Snapshots", "Snapshot References", "Encryption Keys".

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Rule, Violation};
use crate::{EncryptedKey, MAIN_BRANCH, Operation, Snapshot, SnapshotReference, TableMetadata};

/// Returns the violations in the table's snapshots, references and keys.
pub(super) fn check(metadata: &TableMetadata) -> Vec<Violation> {
    let mut found: Vec<Violation> = Vec::new();
    for snapshot in &metadata.snapshots {
        let what = format!("snapshot {}", snapshot.snapshot_id);
        let snapshot_id = Some(snapshot.snapshot_id);
        let violation = |(rule, why)| Violation { snapshot_id, ..Violation::new(rule, what.clone(), why) };
        found.extend(of_snapshot(metadata, snapshot).map(violation));
    }
    for key in &metadata.encryption_keys {
        let what = format!("encryption key {}", key.key_id);
        found.extend(of_key(metadata, key).map(|why| Violation::new(Rule::EncryptionKey, what, why)));
    }
    for (name, reference) in &metadata.refs {
        let kind = if reference.is_branch() { "branch" } else { "tag" };
        let what = format!("{kind} {name}");
        found.extend(of_reference(metadata, name, reference).map(|(rule, why)| Violation::new(rule, what.clone(), why)));
    }
    found
}

fn of_key(metadata: &TableMetadata, key: &EncryptedKey) -> Option<String> {
    if metadata.format_version < 3 {
        return Some("it needs format version 3".to_owned());
    }
    let decoded = STANDARD.decode(&key.encrypted_key_metadata);
    decoded.err().map(|error| format!("encrypted-key-metadata is not Base64: {error}"))
}

const OPERATIONS: [&str; 4] =
    [Operation::Append.as_str(), Operation::Replace.as_str(), Operation::Overwrite.as_str(), Operation::Delete.as_str()];

fn of_snapshot(metadata: &TableMetadata, snapshot: &Snapshot) -> impl Iterator<Item = (Rule, String)> {
    let version = metadata.format_version;
    let number = snapshot.sequence_number();
    let sequence = (version > 1 && number > metadata.last_sequence_number).then(|| {
        (Rule::SequenceNumber, format!("its sequence-number {number} is above the table's, {}", metadata.last_sequence_number))
    });
    let has_list = snapshot.manifest_list.is_some() || (version == 1 && snapshot.manifests.is_some());
    let list = (!has_list).then(|| (Rule::ManifestList, "it has no manifest-list".to_owned()));
    let both = (snapshot.manifest_list.is_some() && snapshot.manifests.is_some())
        .then(|| (Rule::Manifests, "it has both manifests and a manifest-list".to_owned()));
    let operation = match snapshot.operation() {
        None if version > 1 => Some((Rule::Operation, "its summary has no operation".to_owned())),
        Some(name) if !OPERATIONS.contains(&name) => {
            Some((Rule::Operation, format!("its operation {name} is not one of {}", OPERATIONS.join(", "))))
        }
        _ => None,
    };
    let schema = snapshot.schema_id.filter(|id| metadata.schema_by_id(*id).is_none());
    let schema = schema.map(|id| (Rule::SnapshotSchema, format!("it is of schema {id}, which the table has not")));
    let key = snapshot.key_id.as_ref().filter(|id| metadata.encryption_keys.iter().all(|key| key.key_id != **id));
    let key = key.map(|id| (Rule::EncryptionKey, format!("its key-id is {id}, but encryption-keys has no {id}")));
    // Snapshots from before an upgrade have no row ids.
    let lineage = match (snapshot.first_row_id, snapshot.added_rows, metadata.next_row_id) {
        (Some(first), Some(rows), Some(next)) if version >= 3 && first.saturating_add(rows) > next => Some((
            Rule::RowLineage,
            format!("its row ids end at {}, above the table's next-row-id, {next}", first.saturating_add(rows)),
        )),
        (Some(_), None, _) if version >= 3 => Some((Rule::RowLineage, "it has a first-row-id but no added-rows".to_owned())),
        _ => None,
    };
    [sequence, list, both, operation, schema, key, lineage].into_iter().flatten()
}

fn of_reference(metadata: &TableMetadata, name: &str, reference: &SnapshotReference) -> impl Iterator<Item = (Rule, String)> {
    let id = reference.snapshot_id;
    let there = metadata.snapshots.get(id).is_none().then(|| (Rule::ReferenceExists, format!("snapshot {id} does not exist")));
    let main = match name == MAIN_BRANCH {
        true if !reference.is_branch() => Some((Rule::Main, "main must be a branch".to_owned())),
        true if metadata.current_snapshot_id != Some(id) => {
            Some((Rule::Main, format!("main is at {id}, but current-snapshot-id is another snapshot")))
        }
        _ => None,
    };
    let ages = [
        ("min-snapshots-to-keep", reference.min_snapshots_to_keep.map(i64::from)),
        ("max-snapshot-age-ms", reference.max_snapshot_age_ms),
        ("max-ref-age-ms", reference.max_ref_age_ms),
    ];
    let of_branches = &ages[..2];
    let misplaced = of_branches.iter().find(|(_, value)| value.is_some() && !reference.is_branch());
    let misplaced = misplaced.map(|(key, _)| (Rule::Retention, format!("{key} is only for branches")));
    let none = ages.iter().find(|(_, value)| value.is_some_and(|value| value <= 0));
    let retention = none.map(|(key, _)| (Rule::Retention, format!("{key} must be greater than 0"))).or(misplaced);
    [there, main, retention].into_iter().flatten()
}
