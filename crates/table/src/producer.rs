use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use esker_types::now_ms;
use futures::future::BoxFuture;
use iceberg::io::FileIO;
use iceberg::spec::{
    DataFile, FormatVersion, MAIN_BRANCH, Manifest, ManifestContentType, ManifestFile, ManifestListWriter, ManifestWriter,
    ManifestWriterBuilder, Operation, PartitionSpec, SchemaRef, Snapshot, SnapshotReference, SnapshotRetention, Summary,
    TableMetadata,
};
use iceberg::{TableRequirement, TableUpdate};
use uuid::Uuid;

use crate::{Manifests, Result, TableError, load_manifests, metadata_dir, refs};

/// Data files to be replaced by others that hold the same rows.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// Paths of the files that go.
    pub removed: HashSet<String>,
    /// The files that come, with their partition spec.
    pub added: Vec<(i32, DataFile)>,
    /// The data sequence number that the new files take: that of the snapshot the rewrite read, so that equality deletes
    /// that landed since still apply to them.
    pub starting_sequence_number: i64,
    /// What the snapshot's summary says beside the usual counts.
    pub summary: BTreeMap<String, String>,
}

/// A snapshot ready to be committed.
#[derive(Debug, Clone)]
pub struct Rewritten {
    /// What must hold.
    pub requirements: Vec<TableRequirement>,
    /// What changes.
    pub updates: Vec<TableUpdate>,
    /// The manifests and the manifest list that were written.
    pub written: Vec<String>,
}

/// A manifest of the old snapshot, parsed.
type Source = (ManifestFile, Arc<Manifest>);

/// Called with the paths of files before they are written.
pub type Record<'a> = &'a (dyn Fn(Vec<String>) -> BoxFuture<'static, Result<()>> + Send + Sync);

/// Builds a `replace` snapshot on top of the head of `main` as `metadata` has it.
///
/// Appends that landed since the rewrite was planned stay as they are: only manifests that hold a replaced file are written anew.
/// A replaced file that is no longer alive is a [`TableError::Conflict`].
pub async fn rewrite_snapshot(
    source: &Manifests,
    metadata: &TableMetadata,
    rewrite: &Rewrite,
    record: Record<'_>,
) -> Result<Rewritten> {
    let io = source.io();
    if metadata.format_version() == FormatVersion::V3 {
        return Err(TableError::Unsupported("rewriting a format version 3 table needs row lineage".to_owned()));
    }
    let head = metadata.current_snapshot().ok_or_else(|| TableError::Conflict("the table has no snapshot".to_owned()))?;
    let snapshot_id = fresh_snapshot_id(metadata);
    let attempt = Uuid::now_v7();
    let dir = metadata_dir(metadata.location(), metadata.properties());
    let path = |name: String| format!("{dir}/{name}");

    let mut kept = Vec::new();
    // By partition spec and schema, so that what many small manifests held is written as one.
    let mut touched: BTreeMap<(i32, i32), Vec<Source>> = BTreeMap::new();
    let mut missing: HashSet<&str> = rewrite.removed.iter().map(String::as_str).collect();
    let mut removed_files = Vec::new();
    for file in load_manifests(source, metadata, head).await? {
        if file.content != ManifestContentType::Data {
            kept.push(file);
            continue;
        }
        if !file.has_added_files() && !file.has_existing_files() {
            // Only records of removals by older snapshots, whose own manifest lists keep it.
            continue;
        }
        let manifest = source.load(&file).await?;
        let before = removed_files.len();
        for entry in manifest.entries().iter().filter(|e| e.is_alive()) {
            if missing.remove(entry.file_path()) {
                removed_files.push(entry.data_file().clone());
            }
        }
        if removed_files.len() > before {
            touched.entry((file.partition_spec_id, manifest.metadata().schema_id())).or_default().push((file, manifest));
        } else {
            kept.push(file);
        }
    }
    if let Some(path) = missing.iter().next() {
        return Err(TableError::Conflict(format!("{path} was removed from the table since the plan was made")));
    }

    let mut by_spec: BTreeMap<i32, Vec<&DataFile>> = BTreeMap::new();
    for (spec, file) in &rewrite.added {
        by_spec.entry(*spec).or_default().push(file);
    }
    let names: Vec<String> = (0..touched.len() + by_spec.len()).map(|i| path(format!("{attempt}-m{i}.avro"))).collect();
    let list_path = path(format!("snap-{snapshot_id}-1-{attempt}.avro"));
    let written: Vec<String> = names.iter().cloned().chain([list_path.clone()]).collect();
    record(written.clone()).await?;

    let mut names = names.into_iter();
    let mut next = || names.next().ok_or_else(|| TableError::Invalid("a manifest without a name".to_owned()));
    let mut manifests = Vec::new();
    for (spec_id, files) in &by_spec {
        let spec = metadata
            .partition_spec_by_id(*spec_id)
            .ok_or_else(|| TableError::Invalid(format!("partition spec {spec_id} does not exist")))?;
        let mut writer = data_writer(io, &next()?, snapshot_id, metadata.current_schema().clone(), spec, metadata)?;
        for file in files {
            writer.add_file((*file).clone(), rewrite.starting_sequence_number)?;
        }
        manifests.push(writer.write_manifest_file().await?);
    }
    for sources in touched.values() {
        manifests.push(filter_manifests(io, &next()?, snapshot_id, metadata, sources, &rewrite.removed).await?);
    }
    manifests.extend(kept);

    let sequence_number = metadata.next_sequence_number();
    let output = io.new_output(&list_path)?.writer().await?;
    let parent = Some(head.snapshot_id());
    let mut list = match metadata.format_version() {
        FormatVersion::V1 => ManifestListWriter::v1(output, snapshot_id, parent),
        _ => ManifestListWriter::v2(output, snapshot_id, parent, sequence_number),
    };
    list.add_manifests(manifests.into_iter())?;
    list.close().await?;

    let added: Vec<&DataFile> = rewrite.added.iter().map(|(_, f)| f).collect();
    let snapshot = Snapshot::builder()
        .with_snapshot_id(snapshot_id)
        .with_parent_snapshot_id(parent)
        .with_sequence_number(sequence_number)
        .with_timestamp_ms(now_ms().max(head.timestamp_ms()).max(metadata.last_updated_ms()))
        .with_manifest_list(list_path)
        .with_summary(summary(head.summary(), &added, &removed_files, &rewrite.summary))
        .with_schema_id(metadata.current_schema_id())
        .build();
    let (requirements, updates) = onto_main(metadata, snapshot)?;
    Ok(Rewritten { requirements, updates, written })
}

/// A snapshot as the new head of `main`, if nobody else was first.
pub(crate) fn onto_main(metadata: &TableMetadata, snapshot: Snapshot) -> Result<(Vec<TableRequirement>, Vec<TableUpdate>)> {
    let (snapshot_id, parent) = (snapshot.snapshot_id(), snapshot.parent_snapshot_id());
    let main = refs(metadata)?.remove(MAIN_BRANCH).map_or(SnapshotRetention::branch(None, None, None), |r| r.retention);
    let requirements = vec![
        TableRequirement::UuidMatch { uuid: metadata.uuid() },
        TableRequirement::RefSnapshotIdMatch { r#ref: MAIN_BRANCH.to_owned(), snapshot_id: parent },
    ];
    let reference = SnapshotReference::new(snapshot_id, main);
    let updates =
        vec![TableUpdate::AddSnapshot { snapshot }, TableUpdate::SetSnapshotRef { ref_name: MAIN_BRANCH.to_owned(), reference }];
    Ok((requirements, updates))
}

pub(crate) fn fresh_snapshot_id(metadata: &TableMetadata) -> i64 {
    loop {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        let id = i64::from_be_bytes((high ^ low).to_be_bytes()) & i64::MAX;
        if id != 0 && metadata.snapshot_by_id(id).is_none() {
            return id;
        }
    }
}

pub(crate) fn data_writer(
    io: &FileIO,
    path: &str,
    snapshot_id: i64,
    schema: SchemaRef,
    spec: &PartitionSpec,
    metadata: &TableMetadata,
) -> Result<ManifestWriter> {
    let builder = ManifestWriterBuilder::new(io.new_output(path)?, Some(snapshot_id), schema, spec.clone());
    Ok(match metadata.format_version() {
        FormatVersion::V1 => builder.build_v1(),
        _ => builder.build_v2_data(),
    })
}

/// Some manifests of one spec and schema as one, with the replaced files as DELETED and every other live file as EXISTING.
/// Entries that were DELETED already are left out: they belong to an older snapshot.
async fn filter_manifests(
    io: &FileIO,
    path: &str,
    snapshot_id: i64,
    metadata: &TableMetadata,
    sources: &[Source],
    removed: &HashSet<String>,
) -> Result<ManifestFile> {
    let (_, first) = sources.first().ok_or_else(|| TableError::Invalid("no manifest to filter".to_owned()))?;
    // The schema and spec that the manifests were written with: bounds of dropped columns survive.
    let (schema, spec) = (first.metadata().schema().clone(), first.metadata().partition_spec());
    let mut writer = data_writer(io, path, snapshot_id, schema, spec, metadata)?;
    for (file, manifest) in sources {
        for entry in manifest.entries().iter().filter(|e| e.is_alive()) {
            let sequence_number = entry.sequence_number().unwrap_or(file.sequence_number);
            let file_sequence_number = entry.file_sequence_number.or(Some(file.sequence_number));
            if removed.contains(entry.file_path()) {
                writer.add_delete_file(entry.data_file().clone(), sequence_number, file_sequence_number)?;
            } else {
                let added_by = entry.snapshot_id().unwrap_or(file.added_snapshot_id);
                writer.add_existing_file(entry.data_file().clone(), added_by, sequence_number, file_sequence_number)?;
            }
        }
    }
    Ok(writer.write_manifest_file().await?)
}

fn summary(previous: &Summary, added: &[&DataFile], removed: &[DataFile], extra: &BTreeMap<String, String>) -> Summary {
    let sum = |files: &mut dyn Iterator<Item = &DataFile>, of: fn(&DataFile) -> u64| files.map(of).sum::<u64>();
    let (added_rows, removed_rows) =
        (sum(&mut added.iter().copied(), DataFile::record_count), sum(&mut removed.iter(), DataFile::record_count));
    let (added_bytes, removed_bytes) =
        (sum(&mut added.iter().copied(), DataFile::file_size_in_bytes), sum(&mut removed.iter(), DataFile::file_size_in_bytes));
    let (added_files, removed_files) = (added.len() as u64, removed.len() as u64);
    let partitions: HashSet<_> = removed.iter().map(DataFile::partition).collect();
    let mut properties: HashMap<String, String> = extra.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    for (key, value) in [
        ("added-data-files", added_files),
        ("deleted-data-files", removed_files),
        ("added-records", added_rows),
        ("deleted-records", removed_rows),
        ("added-files-size", added_bytes),
        ("removed-files-size", removed_bytes),
        ("changed-partition-count", partitions.len() as u64),
    ] {
        properties.insert(key.to_owned(), value.to_string());
    }
    let total = |key: &str| previous.additional_properties.get(key).and_then(|v| v.parse::<u64>().ok());
    for (key, plus, minus) in [
        ("total-data-files", added_files, removed_files),
        ("total-records", added_rows, removed_rows),
        ("total-files-size", added_bytes, removed_bytes),
        ("total-delete-files", 0, 0),
        ("total-position-deletes", 0, 0),
        ("total-equality-deletes", 0, 0),
    ] {
        // A writer that kept no totals leaves them unknown; a wrong number would be worse.
        if let Some(before) = total(key) {
            properties.insert(key.to_owned(), (before + plus).saturating_sub(minus).to_string());
        }
    }
    Summary { operation: Operation::Replace, additional_properties: properties }
}
