use std::collections::{BTreeMap, HashMap};

use esker_types::now_ms;
use iceberg::spec::{MAIN_BRANCH, ManifestContentType, ManifestStatus, Operation, Snapshot, Summary, TableMetadata};
use uuid::Uuid;

use crate::header::Header;
use crate::producer::{fresh_snapshot_id, manifest_writer, onto_branch, write_list};
use crate::{Manifests, Record, Result, Rewritten, TableError, load_manifests, metadata_dir};

/// Builds an `append` snapshot on the head of `main` with the data files that a staged snapshot added: what Java calls a
/// cherry-pick. The staged snapshot stays as it is.
///
/// Only an append can be taken over: what an overwrite removed was decided on another state of the table.
pub async fn cherry_pick(
    source: &Manifests,
    metadata: &TableMetadata,
    staged: &Snapshot,
    record: Record<'_>,
) -> Result<Rewritten> {
    let staged_id = staged.snapshot_id();
    if staged.summary().operation != Operation::Append {
        let operation = staged.summary().operation.as_str();
        let what = format!("snapshot {staged_id} is a {operation}; only an append can be taken over once main has moved on");
        return Err(TableError::Unsupported(what));
    }
    let mut by_spec = BTreeMap::new();
    let of_staged = load_manifests(source, metadata, staged).await?;
    for file in &of_staged {
        if file.added_snapshot_id != staged_id || file.content != ManifestContentType::Data {
            continue;
        }
        let manifest = source.load(metadata, file).await?;
        let added = manifest.entries().iter().filter(|e| e.status() == ManifestStatus::Added);
        let files: &mut Vec<_> = by_spec.entry(file.partition_spec_id).or_default();
        files.extend(added.map(|e| e.data_file().clone()));
    }
    let head = metadata.current_snapshot();
    let (snapshot_id, sequence_number) = (fresh_snapshot_id(metadata), metadata.next_sequence_number());
    let (dir, attempt) = (metadata_dir(metadata.location(), metadata.properties()), Uuid::now_v7());
    let names: Vec<String> = (0..by_spec.len()).map(|i| format!("{dir}/{attempt}-m{i}.avro")).collect();
    let list_path = format!("{dir}/snap-{snapshot_id}-1-{attempt}.avro");
    let written: Vec<String> = names.iter().cloned().chain([list_path.clone()]).collect();
    record(written.clone()).await?;

    let io = source.io();
    let mut manifests = Vec::new();
    for ((spec_id, files), path) in by_spec.into_iter().zip(&names) {
        let header = Header::of(source, metadata, spec_id, &of_staged).await?;
        let mut writer = manifest_writer(io, path, snapshot_id, &header, metadata, ManifestContentType::Data)?;
        for file in files {
            let first_row_id = file.first_row_id();
            writer.add_file(header.entry(file, first_row_id)?, sequence_number)?;
        }
        manifests.push(writer.write_manifest_file().await?);
    }
    if let Some(head) = head {
        manifests.extend(load_manifests(source, metadata, head).await?);
    }
    let parent = head.map(|h| h.snapshot_id());
    let numbers = (snapshot_id, parent, sequence_number);
    let row_range = write_list(io, &list_path, metadata, numbers, manifests).await?;
    let snapshot = Snapshot::builder()
        .with_snapshot_id(snapshot_id)
        .with_parent_snapshot_id(parent)
        .with_sequence_number(sequence_number)
        .with_timestamp_ms(now_ms().max(metadata.last_updated_ms()))
        .with_manifest_list(list_path)
        .with_summary(summary(head.map(|h| h.summary()), staged))
        .with_schema_id(metadata.current_schema_id());
    let snapshot = match row_range {
        Some((first, added)) => snapshot.with_row_range(first, added).build(),
        None => snapshot.build(),
    };
    let (requirements, updates) = onto_branch(metadata, MAIN_BRANCH, snapshot)?;
    Ok(Rewritten { requirements, updates, written })
}

/// What the staged snapshot added, on the totals of the head; and where it came from, so that it is taken over once only.
fn summary(head: Option<&Summary>, staged: &Snapshot) -> Summary {
    let mut properties: HashMap<String, String> = staged.summary().additional_properties.clone();
    properties.retain(|key, _| !key.starts_with("total-"));
    for (total, added) in [
        ("total-records", "added-records"),
        ("total-data-files", "added-data-files"),
        ("total-files-size", "added-files-size"),
        ("total-delete-files", ""),
        ("total-position-deletes", ""),
        ("total-equality-deletes", ""),
    ] {
        let number = |summary: &Summary, key: &str| summary.additional_properties.get(key).and_then(|v| v.parse::<u64>().ok());
        let before = head.map_or(Some(0), |head| number(head, total));
        // A writer that kept no totals leaves them unknown; a wrong number would be worse.
        if let Some(sum) = before.and_then(|before| before.checked_add(number(staged.summary(), added).unwrap_or(0))) {
            properties.insert(total.to_owned(), sum.to_string());
        }
    }
    if let Some(wap) = properties.remove("wap.id") {
        properties.insert("published-wap-id".to_owned(), wap);
    }
    properties.insert("source-snapshot-id".to_owned(), staged.snapshot_id().to_string());
    Summary { operation: Operation::Append, additional_properties: properties }
}
