use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap, HashSet};

use esker_types::now_ms;
use futures::future::BoxFuture;
use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileBuilderError, DataFileFormat, FormatVersion, MAIN_BRANCH,
    ManifestContentType, ManifestFile, ManifestListWriter, ManifestWriter, ManifestWriterBuilder, Operation, Snapshot,
    SnapshotReference, SnapshotRetention, Summary, TableMetadata,
};
use iceberg::{TableRequirement, TableUpdate};
use uuid::Uuid;

use crate::header::Header;
use crate::live::first_row_ids;
use crate::properties::MANIFEST_BYTES;
use crate::{LiveFile, Manifests, PartitionKey, Result, TableError, load_manifests, metadata_dir, refs};

/// Files that go and files that come, in one snapshot.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// What the snapshot says that it does: `replace` where the rows stay the same.
    pub operation: Operation,
    /// The branch that gets the snapshot.
    pub branch: String,
    /// Paths of the data files that go.
    pub removed: HashSet<String>,
    /// The delete files that go.
    pub removed_deletes: HashSet<DeleteKey>,
    /// The data files that come, with their partition spec.
    pub added: Vec<(i32, DataFile)>,
    /// Manifests that are written anew though no file of theirs goes, with their entries put in the order of their partitions. One
    /// that is gone is no conflict.
    pub regrouped: HashSet<String>,
    /// The delete files that come, with their partition spec. They take the new snapshot's sequence number.
    pub added_deletes: Vec<(i32, DataFile)>,
    /// The data sequence number that new data files take: for the same rows in other files that of the snapshot the rewrite read, so
    /// that equality deletes that landed since still apply to them; none for new rows, whose number is the new snapshot's.
    pub starting_sequence_number: Option<i64>,
    /// Data and delete files that belonged to the table before and do again, with the numbers that they had.
    pub revived: Vec<LiveFile>,
    /// What the snapshot's summary says beside the usual counts.
    pub summary: BTreeMap<String, String>,
}

/// What names a delete file: its path, and for a deletion vector its place in the file, which may hold several.
pub type DeleteKey = (String, Option<i64>);

/// The name of a delete file.
pub fn delete_key(file: &DataFile) -> DeleteKey {
    (file.file_path().to_owned(), file.content_offset())
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

/// Called with the paths of files before they are written.
pub type Record<'a> = &'a (dyn Fn(Vec<String>) -> BoxFuture<'static, Result<()>> + Send + Sync);

/// The size that a table's manifests aim at.
pub fn manifest_bytes(metadata: &TableMetadata) -> u64 {
    MANIFEST_BYTES.of(metadata.properties())
}

/// Builds a snapshot on top of the head of the branch as `metadata` has it, or the first one of `main`.
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
    let gone = || TableError::Conflict(format!("branch {} has no snapshot", rewrite.branch));
    let head = metadata.snapshot_for_ref(&rewrite.branch).map(AsRef::as_ref);
    if head.is_none() && rewrite.branch != MAIN_BRANCH {
        return Err(gone());
    }
    let snapshot_id = fresh_snapshot_id(metadata);
    let attempt = Uuid::now_v7();
    let dir = metadata_dir(metadata.location(), metadata.properties());

    let there = match head {
        Some(head) => load_manifests(source, metadata, head).await?,
        None => Vec::new(),
    };
    let Touched { kept, mut by_kind, removed, bytes_per_entry, counts } =
        touched(source, metadata, there.clone(), rewrite).await?;
    if !rewrite.regrouped.is_empty() {
        by_kind.iter_mut().for_each(|(_, spec, entries)| entries.sort_by(|a, b| a.partition(*spec).cmp(&b.partition(*spec))));
    }
    let most = usize::try_from(manifest_bytes(metadata) / bytes_per_entry.max(1)).unwrap_or(usize::MAX).max(1);

    let all = added(rewrite).into_iter().chain(by_kind).chain(revived(&rewrite.revived));
    let parts = |(content, spec_id, entries)| split(entries, most).map(move |entries| (content, spec_id, entries));
    let drafts: Vec<Draft> = all.flat_map(parts).collect();
    let names: Vec<String> = (0..drafts.len()).map(|i| format!("{dir}/{attempt}-m{i}.avro")).collect();
    let list_path = format!("{dir}/snap-{snapshot_id}-1-{attempt}.avro");
    let written: Vec<String> = names.iter().cloned().chain([list_path.clone()]).collect();
    record(written.clone()).await?;

    let mut manifests = write_manifests(source, metadata, snapshot_id, &there, names.into_iter().zip(drafts)).await?;
    let (created, kept_count) = (manifests.len(), kept.len());
    manifests.extend(kept);

    let mut summary = summary(head.map(Snapshot::summary), rewrite, &removed);
    if !rewrite.regrouped.is_empty() {
        let (replaced, entries) = counts;
        let told = [("created", created), ("kept", kept_count), ("replaced", replaced)];
        let told = told.map(|(what, n)| (format!("manifests-{what}"), n.to_string()));
        summary.additional_properties.extend(told);
        summary.additional_properties.insert("entries-processed".to_owned(), entries.to_string());
    }
    let sequence_number = metadata.next_sequence_number();
    let parent = head.map(Snapshot::snapshot_id);
    let newest = head.map_or(0, Snapshot::timestamp_ms);
    let row_range = write_list(io, &list_path, metadata, (snapshot_id, parent, sequence_number), manifests).await?;
    let snapshot = Snapshot::builder()
        .with_snapshot_id(snapshot_id)
        .with_parent_snapshot_id(parent)
        .with_sequence_number(sequence_number)
        .with_timestamp_ms(now_ms().max(newest).max(metadata.last_updated_ms()))
        .with_manifest_list(list_path)
        .with_summary(summary)
        .with_schema_id(metadata.current_schema_id());
    let snapshot = match row_range {
        Some((first, added)) => snapshot.with_row_range(first, added).build(),
        None => snapshot.build(),
    };
    let (requirements, updates) = onto_branch(metadata, &rewrite.branch, snapshot)?;
    Ok(Rewritten { requirements, updates, written })
}

/// The entries of files that come, by what they are and their spec.
fn added(rewrite: &Rewrite) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    for (content, files, sequence_number) in [
        (ManifestContentType::Data, &rewrite.added, rewrite.starting_sequence_number),
        (ManifestContentType::Deletes, &rewrite.added_deletes, None),
    ] {
        let mut by_spec: BTreeMap<i32, Vec<Entry>> = BTreeMap::new();
        for (spec, file) in files {
            by_spec.entry(*spec).or_default().push(Entry::Added(file.clone(), sequence_number));
        }
        drafts.extend(by_spec.into_iter().map(|(spec_id, entries)| (content, spec_id, entries)));
    }
    drafts
}

/// Writes manifests under their names, all of a spec under one header, whatever schema their entries came under.
async fn write_manifests(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshot_id: i64,
    there: &[ManifestFile],
    drafts: impl Iterator<Item = (String, Draft)>,
) -> Result<Vec<ManifestFile>> {
    let mut headers: HashMap<i32, Header> = HashMap::new();
    let mut written = Vec::new();
    for (name, (content, spec_id, entries)) in drafts {
        let header = match headers.entry(spec_id) {
            MapEntry::Occupied(header) => header.into_mut(),
            MapEntry::Vacant(place) => place.insert(Header::of(source, metadata, spec_id, there).await?),
        };
        let mut writer = manifest_writer(source.io(), &name, snapshot_id, header, metadata, content)?;
        for entry in entries {
            entry.write(header, &mut writer)?;
        }
        written.push(writer.write_manifest_file().await?);
    }
    Ok(written)
}

/// The entries of files that come back, by what they are and their spec.
fn revived(files: &[LiveFile]) -> Vec<Draft> {
    let mut by_kind: BTreeMap<(bool, i32), Vec<Entry>> = BTreeMap::new();
    for live in files {
        let entry = Entry::Existing {
            file: live.file.clone(),
            first_row_id: live.first_row_id,
            added_by: live.snapshot_id,
            sequence_number: live.sequence_number,
            file_sequence_number: live.file_sequence_number,
        };
        by_kind.entry((live.file.content_type() != DataContentType::Data, live.spec_id)).or_default().push(entry);
    }
    by_kind.into_iter().map(draft).collect()
}

fn draft(((deletes, spec_id), entries): ((bool, i32), Vec<Entry>)) -> Draft {
    (if deletes { ManifestContentType::Deletes } else { ManifestContentType::Data }, spec_id, entries)
}

/// About what a manifest takes that names no file: its schemas, mostly.
const MANIFEST_HEADER: u64 = 2500;

/// A manifest to be written: its content, its partition spec and its entries.
type Draft = (ManifestContentType, i32, Vec<Entry>);

/// An entry to be written. Existing and deleted ones keep their numbers, first row id included (spec, "First Row ID Inheritance").
enum Entry {
    Added(DataFile, Option<i64>),
    Existing { file: DataFile, first_row_id: Option<i64>, added_by: i64, sequence_number: i64, file_sequence_number: Option<i64> },
    Deleted { file: DataFile, first_row_id: Option<i64>, sequence_number: i64, file_sequence_number: Option<i64> },
}

impl Entry {
    fn partition(&self, spec_id: i32) -> PartitionKey<'_> {
        match self {
            Self::Added(file, _) | Self::Existing { file, .. } | Self::Deleted { file, .. } => {
                PartitionKey::new(spec_id, file.partition())
            }
        }
    }

    fn write(self, header: &Header, writer: &mut ManifestWriter) -> Result<()> {
        match self {
            Self::Added(file, number) => {
                let first_row_id = file.first_row_id();
                writer.add_file(header.entry(file, first_row_id)?, number.unwrap_or(-1))?;
            }
            Self::Existing { file, first_row_id, added_by, sequence_number, file_sequence_number } => {
                writer.add_existing_file(header.entry(file, first_row_id)?, added_by, sequence_number, file_sequence_number)?;
            }
            Self::Deleted { file, first_row_id, sequence_number, file_sequence_number } => {
                writer.add_delete_file(header.entry(file, first_row_id)?, sequence_number, file_sequence_number)?;
            }
        }
        Ok(())
    }
}

fn split(entries: Vec<Entry>, most: usize) -> impl Iterator<Item = Vec<Entry>> {
    let mut entries = entries.into_iter();
    std::iter::from_fn(move || {
        let part: Vec<Entry> = entries.by_ref().take(most).collect();
        (!part.is_empty()).then_some(part)
    })
}

/// What a rewrite changes about the manifests of the head.
struct Touched {
    /// Manifests that stay as they are.
    kept: Vec<ManifestFile>,
    /// The entries of the others, by content and spec, so that what many small manifests held is written as few.
    by_kind: Vec<Draft>,
    /// The files that go, data and deletes, with their partition specs.
    removed: Vec<(i32, DataFile)>,
    /// What an entry weighs in a manifest of this table.
    bytes_per_entry: u64,
    /// Manifests that are written anew, and their entries.
    counts: (usize, usize),
}

async fn touched(
    source: &Manifests,
    metadata: &TableMetadata,
    manifests: Vec<ManifestFile>,
    rewrite: &Rewrite,
) -> Result<Touched> {
    let mut missing: HashSet<&str> = rewrite.removed.iter().map(String::as_str).collect();
    let mut missing_deletes: HashSet<&DeleteKey> = rewrite.removed_deletes.iter().collect();
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    let mut by_kind: BTreeMap<(bool, i32), Vec<Entry>> = BTreeMap::new();
    let (mut bytes, mut entries_seen) = (0_u64, 0_u64);
    let mut counts = (0, 0);
    for file in manifests {
        let deletes = file.content == ManifestContentType::Deletes;
        if !file.has_added_files() && !file.has_existing_files() {
            // Only records of removals by older snapshots, whose own manifest lists keep it.
            continue;
        }
        let regrouped = rewrite.regrouped.contains(&file.manifest_path);
        if !regrouped && if deletes { missing_deletes.is_empty() } else { missing.is_empty() } {
            kept.push(file);
            continue;
        }
        let manifest = source.load(metadata, &file).await?;
        bytes += file.manifest_length.unsigned_abs();
        entries_seen += manifest.entries().len() as u64;
        let mut goes = |data: &DataFile| match deletes {
            true => missing_deletes.remove(&delete_key(data)),
            false => missing.remove(data.file_path()),
        };
        let going: Vec<bool> = manifest.entries().iter().map(|e| e.is_alive() && goes(e.data_file())).collect();
        if !regrouped && !going.contains(&true) {
            kept.push(file);
            continue;
        }
        counts = (counts.0 + 1, counts.1 + manifest.entries().len());
        let entries = by_kind.entry((deletes, file.partition_spec_id)).or_default();
        // Entries that were DELETED already are left out: they belong to an older snapshot.
        for ((entry, first_row_id), goes) in manifest.entries().iter().zip(first_row_ids(&file, &manifest)).zip(going) {
            if !entry.is_alive() {
                continue;
            }
            let data = entry.data_file().clone();
            let sequence_number = entry.sequence_number().unwrap_or(file.sequence_number);
            let file_sequence_number = entry.file_sequence_number.or(Some(file.sequence_number));
            entries.push(if goes {
                removed.push((file.partition_spec_id, data.clone()));
                Entry::Deleted { file: data, first_row_id, sequence_number, file_sequence_number }
            } else {
                let added_by = entry.snapshot_id().unwrap_or(file.added_snapshot_id);
                Entry::Existing { file: data, first_row_id, added_by, sequence_number, file_sequence_number }
            });
        }
    }
    let missing = missing.into_iter().chain(missing_deletes.into_iter().map(|(path, _)| path.as_str())).next();
    if let Some(path) = missing {
        return Err(TableError::Conflict(format!("{path} was removed from the table since the plan was made")));
    }
    let headers = counts.0 as u64 * MANIFEST_HEADER;
    let bytes_per_entry = bytes.saturating_sub(headers).checked_div(entries_seen).unwrap_or(1024);
    Ok(Touched { kept, by_kind: by_kind.into_iter().map(draft).collect(), removed, bytes_per_entry, counts })
}

/// What an entry lacks that is built anew.
pub(crate) fn incomplete(error: DataFileBuilderError) -> TableError {
    TableError::Invalid(error.to_string())
}

/// A builder of the same entry.
pub(crate) fn copy_of(file: &DataFile) -> DataFileBuilder {
    let mut builder = DataFileBuilder::default();
    builder
        .content(file.content_type())
        .file_path(file.file_path().to_owned())
        .file_format(file.file_format())
        .partition(file.partition().clone())
        .record_count(file.record_count())
        .file_size_in_bytes(file.file_size_in_bytes())
        .column_sizes(file.column_sizes().clone())
        .value_counts(file.value_counts().clone())
        .null_value_counts(file.null_value_counts().clone())
        .nan_value_counts(file.nan_value_counts().clone())
        .lower_bounds(file.lower_bounds().clone())
        .upper_bounds(file.upper_bounds().clone())
        .key_metadata(file.key_metadata().map(<[u8]>::to_vec))
        .split_offsets(file.split_offsets().map(<[i64]>::to_vec))
        .equality_ids(file.equality_ids())
        .first_row_id(file.first_row_id())
        .referenced_data_file(file.referenced_data_file())
        .content_offset(file.content_offset())
        .content_size_in_bytes(file.content_size_in_bytes());
    if let Some(id) = file.sort_order_id() {
        builder.sort_order_id(id);
    }
    builder
}

/// Writes a manifest list. Returns the range of row ids it assigned, where the table has row lineage.
pub(crate) async fn write_list(
    io: &FileIO,
    path: &str,
    metadata: &TableMetadata,
    (snapshot_id, parent, sequence_number): (i64, Option<i64>, i64),
    manifests: Vec<ManifestFile>,
) -> Result<Option<(u64, u64)>> {
    let output = io.new_output(path)?.writer().await?;
    let first = metadata.next_row_id();
    let mut list = match metadata.format_version() {
        FormatVersion::V1 => ManifestListWriter::v1(output, snapshot_id, parent),
        FormatVersion::V2 => ManifestListWriter::v2(output, snapshot_id, parent, sequence_number),
        FormatVersion::V3 => ManifestListWriter::v3(output, snapshot_id, parent, sequence_number, Some(first)),
    };
    list.add_manifests(manifests.into_iter())?;
    let next = list.next_row_id();
    list.close().await?;
    Ok(next.map(|next| (first, next - first)))
}

/// A snapshot as the new head of a branch, if nobody else was first.
pub(crate) fn onto_branch(
    metadata: &TableMetadata,
    branch: &str,
    snapshot: Snapshot,
) -> Result<(Vec<TableRequirement>, Vec<TableUpdate>)> {
    let (snapshot_id, parent) = (snapshot.snapshot_id(), snapshot.parent_snapshot_id());
    let retention = refs(metadata)?.remove(branch).map_or(SnapshotRetention::branch(None, None, None), |r| r.retention);
    let requirements = vec![
        TableRequirement::UuidMatch { uuid: metadata.uuid() },
        TableRequirement::RefSnapshotIdMatch { r#ref: branch.to_owned(), snapshot_id: parent },
    ];
    let reference = SnapshotReference::new(snapshot_id, retention);
    let updates =
        vec![TableUpdate::AddSnapshot { snapshot }, TableUpdate::SetSnapshotRef { ref_name: branch.to_owned(), reference }];
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

pub(crate) fn manifest_writer(
    io: &FileIO,
    path: &str,
    snapshot_id: i64,
    header: &Header,
    metadata: &TableMetadata,
    content: ManifestContentType,
) -> Result<ManifestWriter> {
    let (schema, spec) = (header.schema.clone(), header.spec.clone());
    let builder = ManifestWriterBuilder::new(io.new_output(path)?, Some(snapshot_id), schema, spec);
    Ok(match (metadata.format_version(), content) {
        (FormatVersion::V1, _) => builder.build_v1(),
        (FormatVersion::V2, ManifestContentType::Data) => builder.build_v2_data(),
        (FormatVersion::V2, ManifestContentType::Deletes) => builder.build_v2_deletes(),
        (FormatVersion::V3, ManifestContentType::Data) => builder.build_v3_data(),
        (FormatVersion::V3, ManifestContentType::Deletes) => builder.build_v3_deletes(),
    })
}

/// What a snapshot's summary counts of some files (spec, "Optional Snapshot Summary Fields").
#[derive(Default)]
struct Counts {
    data_files: u64,
    records: u64,
    bytes: u64,
    delete_files: u64,
    position_delete_files: u64,
    equality_delete_files: u64,
    vectors: u64,
    position_deletes: u64,
    equality_deletes: u64,
}

fn counts<'a>(files: impl Iterator<Item = &'a DataFile>) -> Counts {
    let mut sum = Counts::default();
    for file in files {
        sum.bytes += file.content_size_in_bytes().map_or(file.file_size_in_bytes(), i64::unsigned_abs);
        let records = file.record_count();
        match (file.content_type(), file.file_format()) {
            (DataContentType::Data, _) => (sum.data_files, sum.records) = (sum.data_files + 1, sum.records + records),
            (DataContentType::EqualityDeletes, _) => {
                sum.equality_delete_files += 1;
                sum.equality_deletes += records;
            }
            (DataContentType::PositionDeletes, format) => {
                let vector = format == DataFileFormat::Puffin;
                sum.vectors += u64::from(vector);
                sum.position_delete_files += u64::from(!vector);
                sum.position_deletes += records;
            }
        }
        sum.delete_files = sum.equality_delete_files + sum.position_delete_files + sum.vectors;
    }
    sum
}

fn summary(previous: Option<&Summary>, rewrite: &Rewrite, removed: &[(i32, DataFile)]) -> Summary {
    let added = rewrite.added.iter().chain(&rewrite.added_deletes).map(|(spec, file)| (*spec, file));
    let added = added.chain(rewrite.revived.iter().map(|live| (live.spec_id, &live.file)));
    let removed = removed.iter().map(|(spec, file)| (*spec, file));
    let plus = counts(added.clone().map(|(_, file)| file));
    let minus = counts(removed.clone().map(|(_, file)| file));
    let partitions: HashSet<_> = removed.chain(added).map(|(spec, file)| PartitionKey::new(spec, file.partition())).collect();
    let mut properties: HashMap<String, String> = rewrite.summary.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    for (key, value) in [
        ("added-data-files", plus.data_files),
        ("deleted-data-files", minus.data_files),
        ("added-records", plus.records),
        ("deleted-records", minus.records),
        ("added-files-size", plus.bytes),
        ("removed-files-size", minus.bytes),
        ("added-delete-files", plus.delete_files),
        ("removed-delete-files", minus.delete_files),
        ("added-position-delete-files", plus.position_delete_files),
        ("removed-position-delete-files", minus.position_delete_files),
        ("removed-equality-delete-files", minus.equality_delete_files),
        ("added-dvs", plus.vectors),
        ("removed-dvs", minus.vectors),
        ("added-position-deletes", plus.position_deletes),
        ("removed-position-deletes", minus.position_deletes),
        ("removed-equality-deletes", minus.equality_deletes),
        ("changed-partition-count", partitions.len() as u64),
    ] {
        if value > 0 || key.ends_with("data-files") {
            properties.insert(key.to_owned(), value.to_string());
        }
    }
    let total = |key: &str| match previous {
        Some(previous) => previous.additional_properties.get(key).and_then(|v| v.parse::<u64>().ok()),
        None => Some(0),
    };
    for (key, plus, minus) in [
        ("total-data-files", plus.data_files, minus.data_files),
        ("total-records", plus.records, minus.records),
        ("total-files-size", plus.bytes, minus.bytes),
        ("total-delete-files", plus.delete_files, minus.delete_files),
        ("total-position-deletes", plus.position_deletes, minus.position_deletes),
        ("total-equality-deletes", plus.equality_deletes, minus.equality_deletes),
    ] {
        // A writer that kept no totals leaves them unknown; a wrong number would be worse.
        if let Some(sum) = total(key).and_then(|before| before.checked_add(plus)) {
            properties.insert(key.to_owned(), sum.saturating_sub(minus).to_string());
        }
    }
    Summary { operation: rewrite.operation.clone(), additional_properties: properties }
}
