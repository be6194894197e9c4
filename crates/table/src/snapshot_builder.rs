//! Builds a snapshot from lists of removed, added and restored files: writes its manifests, and proposes a commit.
//!
//! Only manifests that contain a removed file, or that the caller names, are rewritten, and rewritten manifests are merged. Files
//! are recorded, then written, then committed by the caller. All kinds of snapshots go this way: appends, deletes, overwrites and
//! rewrites. Start reading at [`SnapshotChanges`] and [`build_snapshot`]. Spec: "Snapshots", "Manifests", "Manifest Lists".

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap, HashSet};

use esker_format::{
    AvroCodec, DataContentType, DataFile, Extra, MAIN_BRANCH, ManifestContent, ManifestEntry, ManifestFile, ManifestListWriter,
    ManifestProjection, ManifestStatus, ManifestWriter, NewManifest, NewManifestList, OPERATION, Operation, PartitionSpecRef,
    Snapshot, SnapshotReference, TableMetadata, TableRequirement, TableUpdate, branch_at,
};
use esker_types::now_ms;
use futures::future::BoxFuture;
use uuid::Uuid;

use crate::properties::MANIFEST_BYTES;
use crate::{
    LiveFile, Manifests, PartitionKey, PartitionTypes, Result, TableError, load_manifests, metadata_dir, partition_types,
};

/// The changes of a new snapshot: the files that it removes, adds and restores, and the manifests that it rewrites.
#[derive(Debug, Clone)]
pub struct SnapshotChanges {
    /// The operation in the snapshot's summary; `replace` if the rows stay the same.
    pub operation: Operation,
    /// The name of the branch that gets the snapshot.
    pub branch: String,
    /// The paths of the data files to remove, each with the number of its entries to remove. A file that was added twice has two
    /// entries.
    pub removed: HashMap<String, usize>,
    /// The delete files to remove.
    pub removed_deletes: HashSet<DeleteKey>,
    /// The data files to add, with the ids of their partition specs.
    pub added: Vec<(i32, DataFile)>,
    /// The paths of manifests to rewrite even if none of their files is removed. Their entries are sorted by partition.
    ///
    /// It is no conflict if the branch no longer has such a manifest.
    pub rewritten_manifests: HashSet<String>,
    /// The delete files to add, with the ids of their partition specs. They get the sequence number of the new snapshot.
    pub added_deletes: Vec<(i32, DataFile)>,
    /// The data sequence number of the added data files; `None` for files with new rows, which get that of the new snapshot.
    ///
    /// A rewrite of existing rows gives the sequence number of the snapshot that it read. So equality deletes that were committed
    /// since then still apply to the rewritten rows.
    pub starting_sequence_number: Option<i64>,
    /// The data and delete files to restore, which an earlier snapshot of the table had. They keep their sequence numbers.
    pub restored_files: Vec<LiveFile>,
    /// Entries of the snapshot's summary besides the usual counts.
    pub summary: BTreeMap<String, String>,
}

/// The identity of a delete file: its path, and for a deletion vector the offset of its blob, because a file may contain several.
pub type DeleteKey = (String, Option<i64>);

/// Returns the identity of a delete file.
pub fn delete_key(file: &DataFile) -> DeleteKey {
    (file.file_path.clone(), file.content_offset)
}

/// A snapshot whose manifests and manifest list are written, ready to be committed.
#[derive(Debug, Clone)]
pub struct BuiltSnapshot {
    /// The requirements of the commit: the table's UUID and the head of the branch.
    pub requirements: Vec<TableRequirement>,
    /// The updates of the commit: the snapshot, and the branch that points at it.
    pub updates: Vec<TableUpdate>,
    /// The locations of the manifests and of the manifest list that were written.
    pub written: Vec<String>,
}

/// A callback that records the locations of files before they are written, so that a crash leaves no unknown file.
pub type RecordPaths<'a> = &'a (dyn Fn(Vec<String>) -> BoxFuture<'static, Result<()>> + Send + Sync);

/// Returns the target size of a table's manifests, in bytes.
pub fn manifest_bytes(metadata: &TableMetadata) -> u64 {
    MANIFEST_BYTES.of(&metadata.properties)
}

/// Builds a snapshot on the head that the branch has in `metadata`, or the first snapshot of `main`.
///
/// Manifests that contain a removed file, or that [`SnapshotChanges::rewritten_manifests`] names, are merged and rewritten. All
/// others stay, so files that were appended since `rewrite` was planned are kept. `record` gets the locations of all new files
/// before the first is written. Nothing is committed: the caller commits the requirements and updates of the result.
///
/// Spec: "Snapshots", "Manifests", "Sequence Number Inheritance".
///
/// # Errors
///
/// - Returns [`TableError::Conflict`] if a file to remove is not live, or if a branch other than `main` has no snapshot.
/// - Returns [`TableError::Invalid`] if `main` and `current-snapshot-id` differ, if the head names neither a manifest list nor
///   manifests, if the metadata lacks a partition spec, or if `next-row-id` leaves no row ids.
/// - Returns [`TableError::File`] if a manifest list or manifest cannot be read or decoded, and [`TableError::Unsupported`] if one
///   is encrypted.
/// - Returns [`TableError::Format`] if a new file cannot be encoded, and [`TableError::Storage`] if it cannot be written.
/// - Returns the error of `record`, if it fails; nothing is written then.
pub async fn build_snapshot(
    source: &Manifests,
    metadata: &TableMetadata,
    rewrite: &SnapshotChanges,
    record: RecordPaths<'_>,
) -> Result<BuiltSnapshot> {
    let no_snapshot = || TableError::Conflict(format!("branch {} has no snapshot", rewrite.branch));
    let head = metadata.snapshot_for_ref(&rewrite.branch).map(AsRef::as_ref);
    if rewrite.branch == MAIN_BRANCH
        && let Some(head) = head
        && metadata.current_snapshot_id != Some(head.snapshot_id)
    {
        let current = metadata.current_snapshot_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        let what = format!(
            "refs has main at snapshot {}, but current-snapshot-id, which readers use, is {current}; set main to either first",
            head.snapshot_id
        );
        return Err(TableError::Invalid(what));
    }
    if head.is_none() && rewrite.branch != MAIN_BRANCH {
        return Err(no_snapshot());
    }
    let existing_manifests = match head {
        Some(head) => load_manifests(source, head).await?,
        None => Vec::new(),
    };
    let TouchedManifests { kept, mut by_kind, removed, bytes_per_entry, rewritten_counts: counts } =
        partition_manifests(source, metadata, existing_manifests.clone(), rewrite, &HashSet::new()).await?;
    if !rewrite.rewritten_manifests.is_empty() {
        by_kind.iter_mut().for_each(|(_, spec, entries)| entries.sort_by(|a, b| partition(a, *spec).cmp(&partition(b, *spec))));
    }
    let max_entries = max_entries(metadata, bytes_per_entry);

    let all = added(rewrite).into_iter().chain(by_kind).chain(restored_entries(&rewrite.restored_files));
    let parts = |(content, spec_id, entries)| split(entries, max_entries).map(move |entries| (content, spec_id, entries));
    let drafts: Vec<ManifestDraft> = all.flat_map(parts).collect();
    let new = NewSnapshot::onto(metadata, head);
    let paths = new.paths(metadata, drafts.len());
    record(paths.all()).await?;

    let mut manifests =
        write_manifests(source, metadata, new.snapshot_id, &existing_manifests, paths.manifests.iter().zip(drafts)).await?;
    let (created, kept_count) = (manifests.len(), kept.len());
    manifests.extend(kept);

    let mut summary = summary(head, rewrite, &removed);
    if !rewrite.rewritten_manifests.is_empty() {
        let (replaced, entries) = counts;
        let manifest_counts = [("created", created), ("kept", kept_count), ("replaced", replaced)];
        summary.extend(manifest_counts.map(|(what, n)| (format!("manifests-{what}"), n.to_string())));
        summary.insert("entries-processed".to_owned(), entries.to_string());
    }
    let written = paths.all();
    let snapshot = new.write(source, metadata, paths.list, manifests, summary).await?;
    let (requirements, updates) = onto_branch(metadata, &rewrite.branch, snapshot);
    Ok(BuiltSnapshot { requirements, updates, written })
}

/// Makes the entries of added files, grouped by content and partition spec.
fn added(rewrite: &SnapshotChanges) -> Vec<ManifestDraft> {
    let mut drafts: Vec<ManifestDraft> = Vec::new();
    for (content, files, sequence_number) in [
        (ManifestContent::Data, &rewrite.added, rewrite.starting_sequence_number),
        (ManifestContent::Deletes, &rewrite.added_deletes, None),
    ] {
        let mut by_spec: BTreeMap<i32, Vec<ManifestEntry>> = BTreeMap::new();
        for (spec, file) in files {
            by_spec.entry(*spec).or_default().push(added_entry(file.clone(), sequence_number));
        }
        drafts.extend(by_spec.into_iter().map(|(spec_id, entries)| (content, spec_id, entries)));
    }
    drafts
}

/// Makes the entry of an added file. With `None`, the file inherits the sequence number of the new snapshot.
pub(crate) const fn added_entry(data_file: DataFile, sequence_number: Option<i64>) -> ManifestEntry {
    ManifestEntry { status: ManifestStatus::Added, snapshot_id: None, sequence_number, file_sequence_number: None, data_file }
}

/// Writes each draft as a manifest to its location.
///
/// `existing_manifests` are manifests that the table has already. The header of one gives the type of a partition column that was
/// dropped.
pub(crate) async fn write_manifests(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshot_id: i64,
    existing_manifests: &[ManifestFile],
    drafts: impl Iterator<Item = (&String, ManifestDraft)>,
) -> Result<Vec<ManifestFile>> {
    let mut specs: HashMap<i32, (PartitionSpecRef, PartitionTypes)> = HashMap::new();
    let mut written = Vec::new();
    for (name, (content, spec_id, entries)) in drafts {
        let (spec, types) = match specs.entry(spec_id) {
            MapEntry::Occupied(spec) => spec.into_mut(),
            MapEntry::Vacant(place) => place.insert(spec_with_types(source, metadata, spec_id, existing_manifests).await?),
        };
        let mut writer = ManifestWriter::new(&NewManifest {
            format_version: metadata.format_version,
            content,
            schema: metadata.current_schema(),
            spec,
            types,
            snapshot_id: Some(snapshot_id),
            codec: AvroCodec::Deflate,
        })?;
        for entry in entries {
            match entry.status {
                ManifestStatus::Added => writer.added(&entry.data_file, entry.sequence_number)?,
                ManifestStatus::Existing => writer.existing(&entry)?,
                ManifestStatus::Deleted => writer.deleted(&entry)?,
            }
        }
        let (bytes, manifest) = writer.finish(name.clone())?;
        source.storage().write(name, bytes.into()).await?;
        written.push(manifest);
    }
    Ok(written)
}

/// Returns a partition spec of the table and the types of its partition values.
///
/// If no schema of the table has a partition column any more, its type is taken from the header of one of the spec's `manifests`.
async fn spec_with_types(
    source: &Manifests,
    metadata: &TableMetadata,
    spec_id: i32,
    manifests: &[ManifestFile],
) -> Result<(PartitionSpecRef, PartitionTypes)> {
    let spec = metadata.partition_spec_by_id(spec_id);
    let spec = spec.ok_or_else(|| TableError::Invalid(format!("partition spec {spec_id} does not exist")))?;
    let mut types = partition_types(metadata, spec_id);
    if types.contains(&None)
        && let Some(manifest) = manifests.iter().find(|manifest| manifest.partition_spec_id == spec_id)
    {
        let manifest = source.as_written(manifest, &ManifestProjection::default()).await?;
        for (ty, field) in types.iter_mut().zip(spec.fields()).filter(|(ty, _)| ty.is_none()) {
            let own = manifest.header.partition.iter().find(|column| column.field_id == field.field_id);
            *ty = own.and_then(|column| column.value_type.clone());
        }
    }
    Ok((spec.clone(), types))
}

/// Makes the entries of restored files, grouped by content and partition spec.
fn restored_entries(files: &[LiveFile]) -> Vec<ManifestDraft> {
    let mut by_kind: BTreeMap<(ManifestContent, i32), Vec<ManifestEntry>> = BTreeMap::new();
    for live in files {
        let entry = ManifestEntry {
            status: ManifestStatus::Existing,
            snapshot_id: Some(live.snapshot_id),
            sequence_number: Some(live.sequence_number),
            file_sequence_number: live.file_sequence_number,
            data_file: DataFile { first_row_id: live.first_row_id, ..live.file.clone() },
        };
        let content = match live.file.content {
            DataContentType::Data => ManifestContent::Data,
            _ => ManifestContent::Deletes,
        };
        by_kind.entry((content, live.spec_id)).or_default().push(entry);
    }
    by_kind.into_iter().map(draft).collect()
}

/// Returns the number of entries of a manifest that has the table's target size.
pub(crate) fn max_entries(metadata: &TableMetadata, bytes_per_entry: u64) -> usize {
    usize::try_from(manifest_bytes(metadata) / bytes_per_entry.max(1)).unwrap_or(usize::MAX).max(1)
}

/// Makes a draft of a group of entries.
fn draft(((content, spec_id), entries): ((ManifestContent, i32), Vec<ManifestEntry>)) -> ManifestDraft {
    (content, spec_id, entries)
}

/// The approximate size in bytes of a manifest without entries, mostly its schemas.
const MANIFEST_HEADER: u64 = 2500;

/// A manifest to be written: its content, the id of its partition spec, and its entries.
///
/// Entries that exist or are deleted keep their sequence numbers and first row ids. Spec: "First Row ID Inheritance".
pub(crate) type ManifestDraft = (ManifestContent, i32, Vec<ManifestEntry>);

fn partition(entry: &ManifestEntry, spec_id: i32) -> PartitionKey<'_> {
    PartitionKey::new(spec_id, &entry.data_file.partition)
}

/// Splits a list of entries into parts of at most `max_entries` entries.
pub(crate) fn split(entries: Vec<ManifestEntry>, max_entries: usize) -> impl Iterator<Item = Vec<ManifestEntry>> {
    let mut entries = entries.into_iter();
    std::iter::from_fn(move || {
        let part: Vec<ManifestEntry> = entries.by_ref().take(max_entries).collect();
        (!part.is_empty()).then_some(part)
    })
}

/// The manifests of the head, divided into those that a rewrite keeps and the entries of those that it replaces.
pub(crate) struct TouchedManifests {
    /// The manifests that stay as they are.
    pub(crate) kept: Vec<ManifestFile>,
    /// The entries of the rewritten manifests, grouped by content and spec, so that many small manifests become few.
    pub(crate) by_kind: Vec<ManifestDraft>,
    /// The removed data and delete files, with the ids of their partition specs.
    pub(crate) removed: Vec<(i32, DataFile)>,
    /// The average size in bytes of an entry in the rewritten manifests.
    pub(crate) bytes_per_entry: u64,
    /// The number of rewritten manifests, and of their entries. Manifests without live files that the caller names count as well:
    /// nothing of them is written again.
    rewritten_counts: (usize, usize),
}

/// Divides the manifests of the head into those that stay and those that are rewritten, because they contain a removed file or the
/// caller names them.
///
/// `untouched` are the paths of manifests that have no removed file. The others are read one by one until all removed files are
/// found.
pub(crate) async fn partition_manifests(
    source: &Manifests,
    metadata: &TableMetadata,
    manifests: Vec<ManifestFile>,
    rewrite: &SnapshotChanges,
    untouched: &HashSet<&str>,
) -> Result<TouchedManifests> {
    let mut missing: HashMap<&str, usize> = rewrite.removed.iter().map(|(path, n)| (path.as_str(), *n)).collect();
    let mut missing_deletes: HashSet<&DeleteKey> = rewrite.removed_deletes.iter().collect();
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    let mut by_kind: BTreeMap<(ManifestContent, i32), Vec<ManifestEntry>> = BTreeMap::new();
    let (mut bytes, mut entries_seen) = (0_u64, 0_u64);
    let (mut counts, mut named_without_files) = ((0, 0), 0);
    for mut file in manifests {
        let is_named = rewrite.rewritten_manifests.contains(&file.manifest_path);
        let deletes = file.content == ManifestContent::Deletes;
        if !file.has_added_files() && !file.has_existing_files() {
            // A manifest without live files only records removals by older snapshots, whose own manifest lists keep it. Counts are
            // statistics and may be wrong, so the entries decide; wrong counts are cleared and counted again.
            if !source.as_written(&file, &ManifestProjection::default()).await?.entries.iter().any(ManifestEntry::is_alive) {
                named_without_files += usize::from(is_named);
                continue;
            }
            (file.added_files_count, file.added_rows_count) = (None, None);
        }
        let is_all_found = if deletes { missing_deletes.is_empty() } else { missing.is_empty() };
        if !is_named && (is_all_found || untouched.contains(file.manifest_path.as_str())) {
            kept.push(file);
            continue;
        }
        let manifest = source.load(metadata, &file).await?;
        bytes += file.manifest_length.unsigned_abs();
        entries_seen += manifest.entries.len() as u64;
        let mut goes = |data: &DataFile| match deletes {
            true => missing_deletes.remove(&delete_key(data)),
            false => take_one(&mut missing, &data.file_path),
        };
        let going: Vec<bool> = manifest.entries.iter().map(|e| e.is_alive() && goes(&e.data_file)).collect();
        if !is_named && !going.contains(&true) {
            kept.push(file);
            continue;
        }
        counts = (counts.0 + 1, counts.1 + manifest.entries.len());
        let entries = by_kind.entry((file.content, file.partition_spec_id)).or_default();
        // Entries that are DELETED already are left out, because they belong to an older snapshot.
        for (entry, goes) in manifest.entries.iter().zip(going).filter(|(entry, _)| entry.is_alive()) {
            let mut entry = existing_entry(entry, &file);
            if goes {
                removed.push((file.partition_spec_id, entry.data_file.clone()));
                entry.status = ManifestStatus::Deleted;
            }
            entries.push(entry);
        }
    }
    let missing = missing.into_keys().chain(missing_deletes.into_iter().map(|(path, _)| path.as_str())).next();
    if let Some(path) = missing {
        return Err(TableError::Conflict(format!("{path} was removed from the table since the plan was made")));
    }
    let headers = counts.0 as u64 * MANIFEST_HEADER;
    let bytes_per_entry = bytes.saturating_sub(headers).checked_div(entries_seen).unwrap_or(1024);
    Ok(TouchedManifests {
        kept,
        by_kind: by_kind.into_iter().map(draft).collect(),
        removed,
        bytes_per_entry,
        rewritten_counts: (counts.0 + named_without_files, counts.1),
    })
}

/// Makes the entry of a file that stays, with what it inherited from its manifest.
fn existing_entry(entry: &ManifestEntry, manifest: &ManifestFile) -> ManifestEntry {
    ManifestEntry {
        status: ManifestStatus::Existing,
        snapshot_id: entry.snapshot_id.or(Some(manifest.added_snapshot_id)),
        sequence_number: entry.sequence_number.or(Some(manifest.sequence_number)),
        file_sequence_number: entry.file_sequence_number.or(Some(manifest.sequence_number)),
        data_file: entry.data_file.clone(),
    }
}

/// Takes one entry of a path off the number of entries that are left to find. Returns false if there is none.
fn take_one(left: &mut HashMap<&str, usize>, path: &str) -> bool {
    let Some(n) = left.get_mut(path) else { return false };
    *n -= 1;
    if *n == 0 {
        left.remove(path);
    }
    true
}

/// The numbers of a snapshot that is being built.
#[derive(Debug)]
pub(crate) struct NewSnapshot {
    pub(crate) snapshot_id: i64,
    /// The id of the parent snapshot.
    parent: Option<i64>,
    sequence_number: i64,
    /// The time of the snapshot, in milliseconds since the Unix epoch.
    timestamp_ms: i64,
}

/// The locations of the metadata files of a new snapshot.
#[derive(Debug)]
pub(crate) struct Paths {
    pub(crate) manifests: Vec<String>,
    pub(crate) list: String,
}

impl Paths {
    /// Returns all locations, the manifest list last.
    pub(crate) fn all(&self) -> Vec<String> {
        self.manifests.iter().chain([&self.list]).cloned().collect()
    }
}

impl NewSnapshot {
    /// Starts a snapshot on `head`. Its time is not before that of the head, nor before the last change of the metadata.
    pub(crate) fn onto(metadata: &TableMetadata, head: Option<&Snapshot>) -> Self {
        Self::with_id(metadata, head, fresh_snapshot_id(metadata))
    }

    /// Starts a snapshot on `head` that has an id already.
    pub(crate) fn with_id(metadata: &TableMetadata, head: Option<&Snapshot>, snapshot_id: i64) -> Self {
        let newest = head.map_or(0, |head| head.timestamp_ms);
        Self {
            snapshot_id,
            parent: head.map(|head| head.snapshot_id),
            sequence_number: metadata.next_sequence_number(),
            timestamp_ms: now_ms().max(newest).max(metadata.last_updated_ms),
        }
    }

    /// Chooses fresh locations for the manifest list and for `manifests` manifests.
    pub(crate) fn paths(&self, metadata: &TableMetadata, manifests: usize) -> Paths {
        let (dir, attempt) = (metadata_dir(&metadata.location, &metadata.properties), Uuid::now_v7());
        Paths {
            manifests: (0..manifests).map(|i| format!("{dir}/{attempt}-m{i}.avro")).collect(),
            list: format!("{dir}/snap-{}-1-{attempt}.avro", self.snapshot_id),
        }
    }

    /// Writes the manifest list and returns the snapshot.
    ///
    /// If the table has row lineage, the row ids that the list assigns become the snapshot's range. Spec: "Row Lineage".
    pub(crate) async fn write(
        self,
        source: &Manifests,
        metadata: &TableMetadata,
        list: String,
        manifests: Vec<ManifestFile>,
        summary: BTreeMap<String, String>,
    ) -> Result<Snapshot> {
        Ok(self.write_listed(source, metadata, list, manifests, summary).await?.0)
    }

    /// Writes the manifest list like [`Self::write`]. Returns the manifests as they are listed, too.
    pub(crate) async fn write_listed(
        self,
        source: &Manifests,
        metadata: &TableMetadata,
        list: String,
        manifests: Vec<ManifestFile>,
        summary: BTreeMap<String, String>,
    ) -> Result<(Snapshot, Vec<ManifestFile>)> {
        let first = (metadata.format_version >= 3).then(|| metadata.next_row_id.unwrap_or(0));
        let first_row_id = match first.map(i64::try_from).transpose() {
            Ok(first) => first,
            Err(_) => return Err(TableError::Invalid("next-row-id of the table is too large: no row ids are left".to_owned())),
        };
        let mut writer = ManifestListWriter::new(NewManifestList {
            format_version: metadata.format_version,
            snapshot_id: self.snapshot_id,
            parent_snapshot_id: self.parent,
            sequence_number: self.sequence_number,
            first_row_id,
            codec: AvroCodec::Deflate,
        })?;
        for manifest in manifests {
            let manifest = if metadata.format_version >= 2 { with_counts(source, manifest).await? } else { manifest };
            writer.add(&manifest)?;
        }
        let (next, listed) = (writer.next_row_id(), writer.manifests().to_vec());
        source.storage().write(&list, writer.finish()?.into()).await?;
        let added = first_row_id.zip(next).and_then(|(first, next)| u64::try_from(next.checked_sub(first)?).ok());
        let snapshot = Snapshot {
            snapshot_id: self.snapshot_id,
            parent_snapshot_id: self.parent,
            sequence_number: (metadata.format_version >= 2).then_some(self.sequence_number),
            timestamp_ms: self.timestamp_ms,
            manifest_list: Some(list),
            manifests: None,
            summary: Some(summary),
            schema_id: Some(metadata.current_schema_id),
            first_row_id: first,
            added_rows: added,
            key_id: None,
            extra: Extra::default(),
        };
        Ok((snapshot, listed))
    }
}

/// Fills in the counts of a manifest that has none, by reading the manifest.
///
/// Manifest lists of format version 1 need not have counts. Later versions require them, and row ids are assigned by them. An
/// encrypted manifest is returned without counts.
async fn with_counts(source: &Manifests, mut manifest: ManifestFile) -> Result<ManifestFile> {
    let files = [manifest.existing_files_count, manifest.added_files_count, manifest.deleted_files_count];
    let rows = [manifest.existing_rows_count, manifest.added_rows_count, manifest.deleted_rows_count];
    if manifest.key_metadata.is_some() || files.iter().chain(&rows).all(Option::is_some) {
        return Ok(manifest);
    }
    let (mut files, mut rows) = ([0; 3], [0_u64; 3]);
    for entry in &source.as_written(&manifest, &ManifestProjection::default()).await?.entries {
        let at = match entry.status {
            ManifestStatus::Existing => 0,
            ManifestStatus::Added => 1,
            ManifestStatus::Deleted => 2,
        };
        files[at] += 1;
        rows[at] = rows[at].saturating_add(entry.data_file.rows().unwrap_or(0));
    }
    [manifest.existing_files_count, manifest.added_files_count, manifest.deleted_files_count] = files.map(Some);
    [manifest.existing_rows_count, manifest.added_rows_count, manifest.deleted_rows_count] = rows.map(Some);
    Ok(manifest)
}

/// Makes the requirements and updates that set a snapshot as the head of a branch.
///
/// The requirements fail the commit if the branch moved meanwhile.
pub(crate) fn onto_branch(
    metadata: &TableMetadata,
    branch: &str,
    snapshot: Snapshot,
) -> (Vec<TableRequirement>, Vec<TableUpdate>) {
    let (snapshot_id, parent) = (snapshot.snapshot_id, snapshot.parent_snapshot_id);
    let reference = match metadata.refs.get(branch) {
        Some(own) => SnapshotReference { snapshot_id, ..own.clone() },
        None => branch_at(snapshot_id),
    };
    let same_table = metadata.table_uuid.map(|uuid| TableRequirement::AssertTableUuid { uuid });
    let same_head = TableRequirement::AssertRefSnapshotId { name: branch.to_owned(), snapshot_id: parent };
    let requirements = same_table.into_iter().chain([same_head]).collect();
    let updates =
        vec![TableUpdate::AddSnapshot { snapshot }, TableUpdate::SetSnapshotRef { ref_name: branch.to_owned(), reference }];
    (requirements, updates)
}

/// Chooses a random snapshot id that the table does not have.
fn fresh_snapshot_id(metadata: &TableMetadata) -> i64 {
    loop {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        let id = i64::from_be_bytes((high ^ low).to_be_bytes()) & i64::MAX;
        if id != 0 && metadata.snapshots.get(id).is_none() {
            return id;
        }
    }
}

/// The counts of a set of files in a snapshot's summary.
///
/// Spec: "Optional Snapshot Summary Fields".
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

/// Adds up the counts of files.
fn counts<'a>(files: impl Iterator<Item = &'a DataFile>) -> Counts {
    let mut sum = Counts::default();
    for file in files {
        sum.bytes += file.content_size_in_bytes.map_or_else(|| file.size(), i64::unsigned_abs);
        let records = file.rows().unwrap_or(0);
        match file.content {
            DataContentType::Data => (sum.data_files, sum.records) = (sum.data_files + 1, sum.records + records),
            DataContentType::EqualityDeletes => {
                sum.equality_delete_files += 1;
                sum.equality_deletes += records;
            }
            DataContentType::PositionDeletes => {
                let vector = file.is_deletion_vector();
                sum.vectors += u64::from(vector);
                sum.position_delete_files += u64::from(!vector);
                sum.position_deletes += records;
            }
        }
        sum.delete_files = sum.equality_delete_files + sum.position_delete_files + sum.vectors;
    }
    sum
}

/// The summary keys of the changes that a snapshot makes, without the totals.
///
/// Spec: "Optional Snapshot Summary Fields".
pub(crate) const COUNTS: [&str; 19] = [
    "added-data-files",
    "deleted-data-files",
    "added-records",
    "deleted-records",
    "added-files-size",
    "removed-files-size",
    "added-delete-files",
    "removed-delete-files",
    "added-position-delete-files",
    "removed-position-delete-files",
    "added-equality-delete-files",
    "removed-equality-delete-files",
    "added-dvs",
    "removed-dvs",
    "added-position-deletes",
    "removed-position-deletes",
    "added-equality-deletes",
    "removed-equality-deletes",
    "changed-partition-count",
];

/// Builds the summary of the new snapshot: the changes that it makes, and the totals of `previous` with these changes.
pub(crate) fn summary(
    previous: Option<&Snapshot>,
    rewrite: &SnapshotChanges,
    removed: &[(i32, DataFile)],
) -> BTreeMap<String, String> {
    let added = rewrite.added.iter().chain(&rewrite.added_deletes).map(|(spec, file)| (*spec, file));
    let added = added.chain(rewrite.restored_files.iter().map(|live| (live.spec_id, &live.file)));
    let removed = removed.iter().map(|(spec, file)| (*spec, file));
    let plus = counts(added.clone().map(|(_, file)| file));
    let minus = counts(removed.clone().map(|(_, file)| file));
    let partitions: HashSet<_> = removed.chain(added).map(|(spec, file)| PartitionKey::new(spec, &file.partition)).collect();
    let mut properties = rewrite.summary.clone();
    let values = [
        plus.data_files,
        minus.data_files,
        plus.records,
        minus.records,
        plus.bytes,
        minus.bytes,
        plus.delete_files,
        minus.delete_files,
        plus.position_delete_files,
        minus.position_delete_files,
        plus.equality_delete_files,
        minus.equality_delete_files,
        plus.vectors,
        minus.vectors,
        plus.position_deletes,
        minus.position_deletes,
        plus.equality_deletes,
        minus.equality_deletes,
        partitions.len() as u64,
    ];
    for (key, value) in COUNTS.into_iter().zip(values) {
        if value > 0 || key.ends_with("data-files") {
            properties.insert(key.to_owned(), value.to_string());
        }
    }
    let total = |key: &str| match previous {
        Some(previous) => previous.summary_value(key).and_then(|v| v.parse::<u64>().ok()),
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
        // If the head's writer kept no totals, they stay unknown. A wrong number would be worse.
        if let Some(sum) = total(key).and_then(|before| before.checked_add(plus)) {
            properties.insert(key.to_owned(), sum.saturating_sub(minus).to_string());
        }
    }
    properties.insert(OPERATION.to_owned(), rewrite.operation.as_str().to_owned());
    properties
}

#[cfg(test)]
mod tests {
    use esker_format::DataFileFormat;
    use esker_storage::Storage;
    use futures::executor::block_on;

    use super::*;
    use crate::deletes::tests::metadata;
    use crate::manifests::tests::writer;

    /// Manifest lists of format version 1 may leave counts out, and an upgraded table keeps its manifests.
    #[test]
    fn missing_manifest_counts_are_filled_in() {
        let (dir, metadata) = (tempfile::tempdir().expect("a directory"), metadata());
        let path = format!("file://{}/m.avro", dir.path().display());
        let mut writer = writer(&metadata, 1);
        let file = |rows: i64| DataFile::new(DataContentType::Data, format!("f{rows}"), DataFileFormat::Parquet, rows, 1);
        for rows in [3, 4] {
            writer.added(&file(rows), None).expect("added");
        }
        let old = ManifestEntry { snapshot_id: Some(6), ..added_entry(file(5), None) };
        writer.existing(&old).expect("existing");
        writer.deleted(&ManifestEntry { data_file: file(10), ..old.clone() }).expect("deleted");
        let (bytes, right) = writer.finish(path.clone()).expect("a manifest");
        let storage = Storage::local();
        block_on(storage.write(&path, bytes.into())).expect("written");
        let source = Manifests::new(storage, 1 << 20);
        assert_eq!([right.existing_rows_count, right.added_rows_count, right.deleted_rows_count], [5, 7, 10].map(Some));
        let uncounted = ManifestFile {
            existing_files_count: None,
            added_files_count: None,
            deleted_files_count: None,
            existing_rows_count: None,
            added_rows_count: None,
            deleted_rows_count: None,
            ..right.clone()
        };
        assert_eq!(block_on(with_counts(&source, uncounted)).expect("counted"), right);
        // A manifest with all counts is not read.
        let elsewhere = ManifestFile { manifest_path: format!("{path}.gone"), ..right };
        assert_eq!(block_on(with_counts(&source, elsewhere.clone())).expect("as it is"), elsewhere);
    }
}
