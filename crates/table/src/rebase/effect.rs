//! The effect of a snapshot: the files that are live in it alone, and those that are live in the one before it alone.
//!
//! The difference of the two sets decides, not the status of entries: some writers drop a manifest without entries for what they
//! removed. Only manifests that one of the two lists alone has are read. Start reading at [`effect_of`] and [`changes_between`].

use std::collections::{HashMap, HashSet};

use esker_format::{
    DataContentType, DataFile, ManifestContent, ManifestEntry, ManifestFile, ManifestProjection, ManifestStatus, Snapshot,
    TableMetadata, UNASSIGNED_SEQUENCE_NUMBER,
};
use futures::FutureExt;
use futures::stream::{Stream, StreamExt, TryStreamExt};

use super::MergeRule;
use crate::live::MANIFEST_CONCURRENCY;
use crate::{
    DeleteKey, DeleteKind, LiveDelete, LiveFile, LiveFiles, Manifest, Manifests, PartitionKey, Refusal, Result, delete_key,
};

/// The first row id from which [`load_as_sent`] counts: ids that entries inherit are negative, and those that they have are not.
const INHERITED_ROW_IDS: i64 = i64::MIN;

/// The maximum number of live files in the manifests that two lists do not share.
///
/// Comparing them takes memory, and holds up the table. So many differ after a rewrite of the manifests of a very large table.
const MAX_COMPARED_FILES: u64 = 1_000_000;

/// The maximum number of these manifests.
///
/// Reading them holds up the table too. A client that took hours may come after tens of thousands of commits.
const MAX_COMPARED_MANIFESTS: usize = 10_000;

/// The maximum total size in bytes of the manifests that a client's snapshot and the one before it do not share.
///
/// Their entries are in memory with all statistics of columns, which take many times as much.
const MAX_LOADED_BYTES: u64 = 128 << 20;

/// A file that a snapshot adds.
#[derive(Debug, Clone)]
pub(super) struct AddedFile {
    /// The id of the partition spec of the file.
    pub(super) spec_id: i32,
    /// The data or delete file, without a first row id.
    pub(super) file: DataFile,
    /// The data sequence number that the writer gave to older rows; `None` if the file has that of its commit.
    pub(super) sequence_number: Option<i64>,
}

impl AddedFile {
    /// Returns the file as it is live in the snapshot that adds it. Its first row id is left out.
    pub(super) fn live(&self, snapshot: &Snapshot) -> LiveFile {
        let number = snapshot.sequence_number();
        LiveFile {
            file: self.file.clone(),
            spec_id: self.spec_id,
            sequence_number: self.sequence_number.unwrap_or(number),
            file_sequence_number: Some(number),
            snapshot_id: snapshot.snapshot_id,
            first_row_id: None,
        }
    }
}

/// The files that a snapshot adds to the one before it, and those that it removes.
#[derive(Debug, Default)]
pub(super) struct Effect {
    /// The new manifests that have nothing but added files. Any later list may have them: their entries inherit the numbers.
    pub(super) taken: Vec<ManifestFile>,
    /// The files of the manifests in `taken`.
    pub(super) taken_files: Vec<AddedFile>,
    /// The added files of the other new manifests.
    pub(super) fresh_files: Vec<AddedFile>,
    /// The data and delete files that are live before the snapshot and not in it.
    pub(super) removed: Vec<LiveFile>,
    /// The paths of the new manifests that are not in `taken`.
    pub(super) superseded: Vec<String>,
}

impl Effect {
    /// Iterates over all added files.
    pub(super) fn added(&self) -> impl Iterator<Item = &AddedFile> {
        self.taken_files.iter().chain(&self.fresh_files)
    }

    /// Leaves out some of the added delete files. The manifests of deletes that have none but added files are not taken any more.
    pub(super) fn leave_out(&mut self, deletes: &HashSet<DeleteKey>) {
        if deletes.is_empty() {
            return;
        }
        let is_delete = |added: &AddedFile| DeleteKind::of(&added.file).is_some();
        for file in std::mem::take(&mut self.taken) {
            match file.content {
                ManifestContent::Data => self.taken.push(file),
                ManifestContent::Deletes => self.superseded.push(file.manifest_path),
            }
        }
        for added in std::mem::take(&mut self.taken_files) {
            match is_delete(&added) {
                true => self.fresh_files.push(added),
                false => self.taken_files.push(added),
            }
        }
        let goes = |added: &AddedFile| is_delete(added) && deletes.contains(&delete_key(&added.file));
        self.fresh_files.retain(|added| !goes(added));
        // A file of several vectors stays while one of them counts.
        let used: HashSet<&str> = self.fresh_files.iter().map(|added| added.file.file_path.as_str()).collect();
        let unused: HashSet<&String> =
            deletes.iter().map(|(path, _)| path).filter(|path| !used.contains(path.as_str())).collect();
        self.superseded.extend(unused.into_iter().cloned());
    }
}

/// Finds the effect of `snapshot`, whose manifest list is `after`, on the snapshot before it, whose list is `before`.
///
/// # Errors
///
/// - Returns [`TableError::NotMerged`](crate::TableError::NotMerged) if a new manifest is not one of the snapshot's own, is
///   encrypted or has a spec that the table lacks; if a file that is carried over is not live before, or has other numbers; if an
///   added file has a sequence number that its snapshot can't give; or if too many files have to be compared.
/// - Returns the errors of [`Manifests::load`].
pub(super) async fn effect_of(
    source: &Manifests,
    metadata: &TableMetadata,
    before: &[ManifestFile],
    after: &[ManifestFile],
    snapshot: &Snapshot,
) -> Result<Effect> {
    let mut only_before: HashMap<&str, &ManifestFile> = before.iter().map(|file| (file.manifest_path.as_str(), file)).collect();
    let mut new = Vec::new();
    for file in after {
        match only_before.remove(file.manifest_path.as_str()) {
            None => new.push(file),
            Some(kept) if has_same_entries(kept, file) => {}
            Some(_) => {
                let what = format!("snapshot {} lists {} with other numbers", snapshot.snapshot_id, file.manifest_path);
                return Err(MergeRule::Manifest.refuse(what).into());
            }
        }
    }
    check_size(only_before.values().chain(&new).copied())?;
    check_bytes(only_before.values().chain(&new).copied())?;
    new.iter().try_for_each(|file| check_manifest(metadata, file, snapshot))?;
    let (mut missing, mut effect, mut compared) = (MissingFiles::default(), Effect::default(), 0);
    // The bounds of paths tell which data file a delete file is about.
    let (of_data, of_deletes) = (ManifestProjection::files(), ManifestProjection::all());
    let wanted = |file: &ManifestFile| if file.content == ManifestContent::Data { &of_data } else { &of_deletes };
    let gone: Vec<&ManifestFile> = before.iter().filter(|file| only_before.contains_key(file.manifest_path.as_str())).collect();
    let reads: Vec<_> = gone.iter().copied().map(|file| source.load_fields(metadata, file, wanted(file)).boxed()).collect();
    let mut reads = futures::stream::iter(reads).buffered(MANIFEST_CONCURRENCY);
    for file in gone {
        let Some(manifest) = reads.try_next().await? else { break };
        count_compared(&mut compared, manifest.entries.len())?;
        let live = manifest.entries.into_iter().filter(ManifestEntry::is_alive);
        live.for_each(|entry| missing.add(LiveFile::of(file, entry)));
    }
    let reads: Vec<_> = new.iter().copied().map(|file| load_as_sent(source, metadata, file).boxed()).collect();
    let mut reads = futures::stream::iter(reads).buffered(MANIFEST_CONCURRENCY);
    for file in new {
        let Some(manifest) = reads.try_next().await? else { break };
        count_compared(&mut compared, manifest.entries.len())?;
        add_manifest(metadata, file, manifest, snapshot, &mut missing, &mut effect)?;
    }
    effect.removed = missing.into_files();
    Ok(effect)
}

/// Checks that the entries of a manifest inherit the same from two lists.
///
/// All else that a list says of a manifest is summed up from its entries. Writers leave out some of it, and a merge lists the
/// manifest as the head does.
fn has_same_entries(before: &ManifestFile, after: &ManifestFile) -> bool {
    let inherited = |file: &ManifestFile| (file.content, file.partition_spec_id, file.sequence_number, file.added_snapshot_id);
    let has_same_ids = before.first_row_id.is_none() || before.first_row_id == after.first_row_id;
    inherited(before) == inherited(after) && has_same_ids
}

/// The live files of replaced manifests that no new manifest has carried over yet.
#[derive(Default)]
struct MissingFiles(HashMap<LiveKey, Vec<LiveFile>>);

impl MissingFiles {
    /// Adds a file of a replaced manifest.
    fn add(&mut self, live: LiveFile) {
        self.0.entry(live_key(&live)).or_default().push(live);
    }

    /// Takes a file off that is carried over with its partition, numbers and row ids. Returns false if there is none.
    ///
    /// Statistics may differ: some writers carry over a part of them. A merge has the entry of the head.
    fn take(&mut self, after: &LiveFile) -> bool {
        let Some(files) = self.0.get_mut(&live_key(after)) else { return false };
        let is_same = |before: &LiveFile| {
            let has_same_ids = before.first_row_id.is_none() || before.first_row_id == after.first_row_id;
            PartitionKey::of(before) == PartitionKey::of(after) && has_same_ids
        };
        let Some(at) = files.iter().position(is_same) else { return false };
        files.swap_remove(at);
        true
    }

    /// Returns the files that are missing, by path.
    fn into_files(self) -> Vec<LiveFile> {
        let mut files: Vec<LiveFile> = self.0.into_values().flatten().collect();
        files.sort_by_cached_key(|live| delete_key(&live.file));
        files
    }
}

/// Checks that a new manifest is one of the snapshot's own, and can be read.
pub(super) fn check_manifest(metadata: &TableMetadata, file: &ManifestFile, snapshot: &Snapshot) -> Result<()> {
    let (path, id) = (&file.manifest_path, snapshot.snapshot_id);
    let refused = |rule: MergeRule, why: String| -> Result<()> { Err(rule.refuse(why).into()) };
    if file.key_metadata.is_some() {
        return refused(MergeRule::Encryption, format!("{path} is encrypted"));
    }
    if file.added_snapshot_id != id {
        return refused(MergeRule::Manifest, format!("{path} is new in snapshot {id}, and {} added it", file.added_snapshot_id));
    }
    if metadata.partition_spec_by_id(file.partition_spec_id).is_none() {
        return refused(MergeRule::PartitionSpec, format!("{path} has partition spec {}", file.partition_spec_id));
    }
    let claim = snapshot.sequence_number();
    if metadata.format_version > 1 && (file.sequence_number != claim || claim <= 0) {
        return refused(MergeRule::SequenceNumber, format!("{path} has the sequence number {}", file.sequence_number));
    }
    Ok(())
}

/// Adds the files of a new manifest to the effect, and takes those that it carries over off the missing ones.
fn add_manifest(
    metadata: &TableMetadata,
    file: &ManifestFile,
    manifest: Manifest,
    snapshot: &Snapshot,
    missing: &mut MissingFiles,
    effect: &mut Effect,
) -> Result<()> {
    let mut added = Vec::new();
    let mut is_plain = true;
    for entry in manifest.entries {
        let path = &entry.data_file.file_path;
        if (entry.data_file.content == DataContentType::Data) != (file.content == ManifestContent::Data) {
            let what = format!("{} lists {path} among files of another kind", file.manifest_path);
            return Err(MergeRule::Manifest.refuse(what).into());
        }
        match entry.status {
            ManifestStatus::Deleted => is_plain = false,
            ManifestStatus::Existing => {
                is_plain = false;
                let what = format!("{} carries over {path}, which is not live before it in this form", file.manifest_path);
                if !missing.take(&LiveFile::of(file, entry)) {
                    return Err(MergeRule::ExistingFile.refuse(what).into());
                }
            }
            ManifestStatus::Added => {
                is_plain &= inherits(metadata, entry.sequence_number, &entry);
                let sequence_number = starting_number(metadata, snapshot, &entry)?;
                let data_file = DataFile { first_row_id: None, ..entry.data_file };
                added.push(AddedFile { spec_id: file.partition_spec_id, file: data_file, sequence_number });
            }
        }
    }
    if is_plain && is_counted(file, &added) {
        effect.taken.push(file.clone());
        effect.taken_files.append(&mut added);
    } else {
        effect.superseded.push(file.manifest_path.clone());
        effect.fresh_files.append(&mut added);
    }
    Ok(())
}

/// Checks that the list has the right counts of a manifest of added files alone. Counts that it lacks are filled in later.
///
/// Row ids are assigned by these counts: with too few, files of another commit would get the same ones. Readers skip a manifest
/// without files.
fn is_counted(file: &ManifestFile, added: &[AddedFile]) -> bool {
    let rows = added.iter().try_fold(0_u64, |sum, added| sum.checked_add(added.file.rows()?));
    let is = |count: Option<u64>, right: Option<u64>| count.is_none_or(|count| Some(count) == right);
    let nothing_else = is(file.existing_files_count, Some(0)) && is(file.existing_rows_count, Some(0));
    nothing_else && is(file.added_files_count, Some(added.len() as u64)) && is(file.added_rows_count, rows)
}

/// Loads a manifest so that values that its entries inherit differ from those that they have.
///
/// An inherited sequence number is [`UNASSIGNED_SEQUENCE_NUMBER`], an inherited first row id is missing. Version 1 has neither.
pub(super) async fn load_as_sent(source: &Manifests, metadata: &TableMetadata, file: &ManifestFile) -> Result<Manifest> {
    if metadata.format_version == 1 {
        return source.load(metadata, file).await;
    }
    let has_row_ids = metadata.format_version >= 3 && file.content == ManifestContent::Data;
    let first_row_id = has_row_ids.then_some(INHERITED_ROW_IDS);
    let sent = ManifestFile { sequence_number: UNASSIGNED_SEQUENCE_NUMBER, first_row_id, ..file.clone() };
    let mut manifest = source.load(metadata, &sent).await?;
    for entry in &mut manifest.entries {
        entry.data_file.first_row_id = entry.data_file.first_row_id.filter(|id| *id >= 0);
    }
    Ok(manifest)
}

/// Checks that an added entry, as [`load_as_sent`] returns it, inherits all that its commit gives to it.
///
/// `sequence_number` is the data sequence number of the entry.
pub(super) fn inherits(metadata: &TableMetadata, sequence_number: Option<i64>, entry: &ManifestEntry) -> bool {
    let inherited = |number: Option<i64>| number.is_none_or(|number| number == UNASSIGNED_SEQUENCE_NUMBER);
    let numbers = metadata.format_version == 1 || inherited(sequence_number) && inherited(entry.file_sequence_number);
    numbers && entry.data_file.first_row_id.is_none()
}

/// Returns the data sequence number of older rows in an added file, or `None` if the file has that of its commit.
///
/// A number that equals the claim of the snapshot counts as inherited.
fn starting_number(metadata: &TableMetadata, snapshot: &Snapshot, entry: &ManifestEntry) -> Result<Option<i64>> {
    let claim = snapshot.sequence_number();
    match entry.sequence_number {
        _ if metadata.format_version == 1 => Ok(None),
        None | Some(UNASSIGNED_SEQUENCE_NUMBER) => Ok(None),
        Some(number) if number == claim => Ok(None),
        Some(number) if number < claim && entry.data_file.content == DataContentType::Data => Ok(Some(number)),
        Some(number) => {
            let what = format!("{} has the sequence number {number} in a commit of {claim}", entry.data_file.file_path);
            Err(MergeRule::SequenceNumber.refuse(what).into())
        }
    }
}

/// The files that are live in one of two snapshots alone.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes {
    /// The files that only the later one has.
    pub(super) added: LiveFiles,
    /// The files that only the earlier one has.
    pub(super) removed: LiveFiles,
}

/// The identity of a live entry: the file, its partition spec and its data sequence number.
type LiveKey = (DeleteKey, i32, i64);

/// Finds the files that are live in one of two snapshots alone, given their manifest lists. Statistics of columns are left out.
///
/// # Errors
///
/// Returns [`TableError::NotMerged`](crate::TableError::NotMerged) if too many files have to be compared, and the errors of
/// [`Manifests::load`].
pub(super) async fn changes_between(
    source: &Manifests,
    metadata: &TableMetadata,
    before: &[ManifestFile],
    after: &[ManifestFile],
) -> Result<Changes> {
    let [in_before, in_after] = [before, after].map(|list| list.iter().map(identity).collect::<HashSet<_>>());
    let only_before: Vec<&ManifestFile> = before.iter().filter(|file| !in_after.contains(&identity(file))).collect();
    let only_after: Vec<&ManifestFile> = after.iter().filter(|file| !in_before.contains(&identity(file))).collect();
    check_size(only_before.iter().chain(&only_after).copied())?;
    let (mut earlier, mut compared): (HashMap<LiveKey, Vec<LiveFile>>, u64) = (HashMap::new(), 0);
    let mut reads = live_files_of(source, metadata, only_before);
    while let Some(files) = reads.try_next().await? {
        count_compared(&mut compared, files.len())?;
        files.into_iter().for_each(|live| earlier.entry(live_key(&live)).or_default().push(live));
    }
    let mut changes = Changes::default();
    let mut reads = live_files_of(source, metadata, only_after);
    while let Some(files) = reads.try_next().await? {
        count_compared(&mut compared, files.len())?;
        for live in files {
            if earlier.get_mut(&live_key(&live)).and_then(Vec::pop).is_none() {
                add_live(&mut changes.added, live);
            }
        }
    }
    earlier.into_values().flatten().for_each(|live| add_live(&mut changes.removed, live));
    Ok(changes)
}

/// Checks that some manifests are no more than may be compared, and have no more live files by the counts of their lists.
fn check_size<'a>(manifests: impl Iterator<Item = &'a ManifestFile>) -> std::result::Result<(), Refusal> {
    let live = |file: &ManifestFile| [file.added_files_count, file.existing_files_count].into_iter().flatten().sum::<u64>();
    let (manifests, files) =
        manifests.fold((0_usize, 0_u64), |(manifests, files), file| (manifests + 1, files.saturating_add(live(file))));
    if manifests > MAX_COMPARED_MANIFESTS {
        let what = format!("{manifests} manifests have to be compared, and {MAX_COMPARED_MANIFESTS} are the most that are");
        return Err(MergeRule::TooManyFiles.refuse(what));
    }
    check_files(files)
}

/// Checks that manifests are not too large to be in memory with all that they say of their files.
pub(super) fn check_bytes<'a>(manifests: impl Iterator<Item = &'a ManifestFile>) -> std::result::Result<(), Refusal> {
    let bytes = manifests.map(|file| file.manifest_length.unsigned_abs()).fold(0, u64::saturating_add);
    if bytes <= MAX_LOADED_BYTES {
        return Ok(());
    }
    let what = format!("it replaces and adds manifests of {bytes} bytes, and {MAX_LOADED_BYTES} are the most that are compared");
    Err(MergeRule::TooManyFiles.refuse(what))
}

/// Checks that files are no more than may be compared.
fn check_files(files: u64) -> std::result::Result<(), Refusal> {
    if files <= MAX_COMPARED_FILES {
        return Ok(());
    }
    let what = format!("{files} files have to be compared, and {MAX_COMPARED_FILES} are the most that are");
    Err(MergeRule::TooManyFiles.refuse(what))
}

/// Adds the files of a manifest that was read to those that are compared. The counts of lists may be missing or wrong.
fn count_compared(compared: &mut u64, files: usize) -> std::result::Result<(), Refusal> {
    *compared = compared.saturating_add(files as u64);
    check_files(*compared)
}

/// Returns the identity of a manifest in a list: its path, and the sequence number that its entries inherit.
fn identity(file: &ManifestFile) -> (&str, i64) {
    (file.manifest_path.as_str(), file.sequence_number)
}

/// Returns the identity of a live entry.
fn live_key(live: &LiveFile) -> LiveKey {
    (delete_key(&live.file), live.spec_id, live.sequence_number)
}

/// Loads the live files of each of some manifests in order, several manifests at a time, without statistics of columns.
pub(super) fn live_files_of<'a>(
    source: &'a Manifests,
    metadata: &'a TableMetadata,
    manifests: Vec<&'a ManifestFile>,
) -> impl Stream<Item = Result<Vec<LiveFile>>> + Send + Unpin {
    let reads: Vec<_> = manifests.into_iter().map(|file| live_files(source, metadata, file).boxed()).collect();
    futures::stream::iter(reads).buffered(MANIFEST_CONCURRENCY)
}

/// Loads the live files of a manifest, without statistics of columns.
async fn live_files(source: &Manifests, metadata: &TableMetadata, file: &ManifestFile) -> Result<Vec<LiveFile>> {
    let entries = source.load_fields(metadata, file, &ManifestProjection::files()).await?.entries;
    Ok(entries.into_iter().filter(ManifestEntry::is_alive).map(|entry| LiveFile::of(file, entry)).collect())
}

/// Adds a file to the data files or to the deletes.
fn add_live(files: &mut LiveFiles, live: LiveFile) {
    match DeleteKind::of(&live.file) {
        Some(kind) => files.deletes.push(LiveDelete { entry: live, kind }),
        None => files.data.push(live),
    }
}
