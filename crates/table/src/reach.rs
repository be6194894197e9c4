//! The files that snapshots refer to: manifest lists, manifests, data files, delete files and statistics.
//!
//! An [`Outline`] comes from the manifest lists alone and is cheap; [`Reachable`] opens every manifest. An expiry collects the
//! files of the expired snapshots and removes those that the kept ones refer to ([`Outline::subtract_from`]). The functions that
//! end in `_lenient` go on when a file is missing or damaged, and return such files ([`UnreadableFile`]). Start reading at
//! [`reachable`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use esker_format::{DataContentType, ManifestEntry, ManifestFile, ManifestProjection, SnapshotRef, TableMetadata};
use esker_types::{Coded, ErrorCode};
use futures::FutureExt;
use futures::stream::{StreamExt, TryStreamExt};

use crate::live::MANIFEST_CONCURRENCY;
use crate::{Manifest, Manifests, Result, TableError, load_manifests};

/// The number of manifest lists that are read at the same time.
const LIST_CONCURRENCY: usize = 16;

/// The kind of a reachable file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A data file.
    Data,
    /// A delete file of any kind.
    Delete,
    /// A manifest.
    Manifest,
    /// A manifest list.
    ManifestList,
    /// A statistics or partition statistics file.
    Statistics,
}

/// Files by location, with their kind and their size in bytes if the metadata has it.
pub type ReachableFiles = BTreeMap<String, (FileKind, Option<u64>)>;

/// Every file that a set of snapshots refers to.
#[derive(Debug, Clone, Default)]
pub struct Reachable {
    /// The files of all kinds.
    pub files: ReachableFiles,
    /// The highest data sequence number of the data and delete files; `i64::MAX` if one has none.
    pub newest: i64,
}

/// The files that a set of snapshots refers to, as far as manifest lists name them: manifest lists, manifests and statistics.
///
/// No manifest is opened for it, so data and delete files are not included.
#[derive(Debug, Clone, Default)]
pub struct Outline {
    /// The manifest lists, manifests and statistics files.
    pub files: ReachableFiles,
    /// The manifests, by location, each with the id of a snapshot that refers to it.
    pub manifests: BTreeMap<String, (i64, ManifestFile)>,
}

/// A manifest list or manifest that cannot be read, for a lasting reason.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct UnreadableFile {
    /// The id of a snapshot that refers to the file.
    pub snapshot_id: i64,
    /// The location of the file; empty if the snapshot names neither a manifest list nor manifests.
    pub path: String,
    /// The error's text.
    pub error: String,
    /// True if the file is not damaged, but encrypted or of a kind that Esker does not support.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsupported: bool,
    /// True if the storage denies the file or can't hold its location: that says nothing about the file's content.
    #[serde(skip)]
    pub denied: bool,
}

impl UnreadableFile {
    /// Creates the record of a file from a lasting error.
    pub fn of(snapshot_id: i64, path: String, error: &TableError) -> Self {
        let (unsupported, denied) = match error.code() {
            ErrorCode::Unsupported => (true, false),
            code => (false, !is_of_content(code)),
        };
        Self { snapshot_id, path, error: error.to_string(), unsupported, denied }
    }
}

impl fmt::Display for UnreadableFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { snapshot_id, path, error, .. } = self;
        match error.contains(path.as_str()) {
            true => write!(f, "snapshot {snapshot_id}: {error}"),
            false => write!(f, "snapshot {snapshot_id}: {path}: {error}"),
        }
    }
}

/// Checks that an error says that a file is missing, damaged or unsupported.
fn is_of_content(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::DataMissing | ErrorCode::DataInvalid | ErrorCode::Unsupported)
}

/// The treatment of files that cannot be read.
enum OnUnreadable<'a> {
    /// The first error ends the walk.
    Fail,
    /// Files that are missing, damaged, unsupported or outside the warehouse are left out and recorded here. Other errors end the
    /// walk.
    Record(&'a mut Vec<UnreadableFile>),
    /// Files are left out and recorded here for every lasting reason; transient errors end the walk.
    RecordLasting(&'a mut Vec<UnreadableFile>),
}

impl OnUnreadable<'_> {
    /// Records an error, or returns it if it ends the walk. `path` is the file's location if the error does not have it.
    fn take(&mut self, snapshot_id: i64, path: &str, error: TableError) -> Result<()> {
        let unread = match self {
            // `BadRequest` is the code of a location outside the warehouse. The request is not at fault: a client committed it earlier.
            Self::Record(unread) if is_of_content(error.code()) || error.code() == ErrorCode::BadRequest => unread,
            Self::RecordLasting(unread) if !error.code().is_transient() => unread,
            _ => return Err(TableError::Snapshot { snapshot_id, source: Box::new(error) }),
        };
        let path = if let TableError::File { path, .. } = &error { path.clone() } else { path.to_owned() };
        unread.push(UnreadableFile::of(snapshot_id, path, &error));
        Ok(())
    }
}

/// Reads the manifest lists of the given snapshots.
///
/// Manifests whose locations are in `skip` are left out of the result.
///
/// # Errors
///
/// Returns [`TableError::Snapshot`] around what [`load_manifests`] returns: the manifest list of a snapshot cannot be read or
/// decoded, is encrypted, or is not named.
pub async fn outline(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshots: &[SnapshotRef],
    skip: &HashSet<String>,
) -> Result<Outline> {
    outline_with(source, metadata, snapshots, skip, &mut OnUnreadable::Fail).await
}

/// Reads the manifest lists of the given snapshots, and returns those that cannot be read for any lasting reason.
///
/// Manifests whose locations are in `skip` are left out of the result. This is for reports: nobody knows what a list leads to that
/// the storage denies, so nothing may be deleted by this outline.
///
/// # Errors
///
/// Returns [`TableError::Snapshot`] for a transient error.
pub async fn outline_lenient(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshots: &[SnapshotRef],
    skip: &HashSet<String>,
) -> Result<(Outline, Vec<UnreadableFile>)> {
    let mut unread = Vec::new();
    let found = outline_with(source, metadata, snapshots, skip, &mut OnUnreadable::RecordLasting(&mut unread)).await?;
    Ok((found, unread))
}

async fn outline_with(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshots: &[SnapshotRef],
    skip: &HashSet<String>,
    lenience: &mut OnUnreadable<'_>,
) -> Result<Outline> {
    let mut found = Outline::default();
    let size = |bytes: i64| u64::try_from(bytes).ok();
    let lists: Vec<_> = snapshots.iter().map(|snapshot| load_manifests(source, snapshot).boxed()).collect();
    let mut lists = futures::stream::iter(lists).buffered(LIST_CONCURRENCY);
    for snapshot in snapshots {
        let id = snapshot.snapshot_id;
        let list = match lists.next().await.unwrap_or_else(|| Ok(Vec::new())) {
            Ok(list) => list,
            Err(error) => {
                lenience.take(id, snapshot.manifest_list.as_deref().unwrap_or_default(), error)?;
                continue;
            }
        };
        if let Some(path) = &snapshot.manifest_list {
            found.files.insert(path.clone(), (FileKind::ManifestList, None));
        }
        for manifest in list.into_iter().filter(|manifest| !skip.contains(&manifest.manifest_path)) {
            let length = size(manifest.manifest_length);
            found.files.insert(manifest.manifest_path.clone(), (FileKind::Manifest, length));
            found.manifests.insert(manifest.manifest_path.clone(), (id, manifest));
        }
        if let Some(stats) = metadata.statistics_for_snapshot(id) {
            found.files.insert(stats.statistics_path.clone(), (FileKind::Statistics, size(stats.file_size_in_bytes)));
        }
        if let Some(stats) = metadata.partition_statistics_for_snapshot(id) {
            found.files.insert(stats.statistics_path.clone(), (FileKind::Statistics, size(stats.file_size_in_bytes)));
        }
    }
    Ok(found)
}

impl Outline {
    /// Removes from `files` everything that the snapshots of this outline refer to.
    ///
    /// `place` normalizes a location, so that different spellings of one place compare as equal. The data and delete files in
    /// `files` must have sequence numbers of at most `newest`. A manifest whose files are all newer is not opened, and no manifest
    /// is opened once all data and delete files are removed.
    ///
    /// # Errors
    ///
    /// Returns [`TableError::File`] if a manifest cannot be read or decoded, and [`TableError::Unsupported`] if one is encrypted.
    /// `files` may then have lost a part of the referenced files.
    pub async fn subtract_from(
        &self,
        source: &Manifests,
        files: &mut ReachableFiles,
        newest: i64,
        place: fn(&str) -> String,
    ) -> Result<()> {
        let mut at: HashMap<String, Vec<String>> = HashMap::new();
        for path in files.keys() {
            at.entry(place(path)).or_default().push(path.clone());
        }
        let is_content = |(kind, _): &(FileKind, Option<u64>)| matches!(kind, FileKind::Data | FileKind::Delete);
        let mut left = files.values().filter(|file| is_content(file)).count();
        let mut take = |path: &str| -> usize {
            let paths = at.remove(&place(path)).unwrap_or_default();
            paths.iter().filter_map(|path| files.remove(path)).filter(is_content).count()
        };
        self.files.keys().for_each(|path| left -= take(path));
        let old: Vec<ManifestFile> =
            self.manifests.values().map(|(_, m)| m).filter(|m| m.min_sequence_number <= newest).cloned().collect();
        let mut read = futures::stream::iter(old).map(|m| read_paths(source.clone(), m).boxed()).buffered(MANIFEST_CONCURRENCY);
        while left > 0
            && let Some(manifest) = read.try_next().await?
        {
            visit_alive(&manifest, &mut |entry| left -= take(&entry.data_file.file_path));
        }
        Ok(())
    }
}

/// Collects every file that the given snapshots refer to.
///
/// Manifests whose locations are in `skip` are not opened; neither they nor their files are in the result.
///
/// # Errors
///
/// Returns [`TableError::Snapshot`] if a manifest list or manifest of a snapshot cannot be read or decoded or is encrypted, or if a
/// snapshot names no manifests at all.
pub async fn reachable(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshots: &[SnapshotRef],
    skip: &HashSet<String>,
) -> Result<Reachable> {
    walk(source, metadata, snapshots, skip, OnUnreadable::Fail).await
}

/// Collects every file that the given snapshots refer to, and returns the manifest lists and manifests that cannot be read.
///
/// Unreadable files are not in the result, nor are files that only they refer to. `skip` works as in [`reachable`].
///
/// # Errors
///
/// Returns [`TableError::Snapshot`] if the storage denies a manifest list or manifest, does not answer or fails otherwise. Files
/// that are missing, damaged, unsupported (encrypted) or outside the warehouse are returned instead, and so are snapshots that name
/// no manifests at all.
pub async fn reachable_lenient(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshots: &[SnapshotRef],
    skip: &HashSet<String>,
) -> Result<(Reachable, Vec<UnreadableFile>)> {
    let mut unread = Vec::new();
    let mut found = walk(source, metadata, snapshots, skip, OnUnreadable::Record(&mut unread)).await?;
    for file in &unread {
        found.files.remove(&file.path);
    }
    Ok((found, unread))
}

async fn walk(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshots: &[SnapshotRef],
    skip: &HashSet<String>,
    mut lenience: OnUnreadable<'_>,
) -> Result<Reachable> {
    let Outline { files, manifests } = outline_with(source, metadata, snapshots, skip, &mut lenience).await?;
    let mut found = Reachable { files, newest: 0 };
    visit_entries(source, manifests, &mut lenience, |entry| {
        let kind = match entry.data_file.content {
            DataContentType::Data => FileKind::Data,
            _ => FileKind::Delete,
        };
        found.files.insert(entry.data_file.file_path.clone(), (kind, Some(entry.data_file.size())));
        found.newest = found.newest.max(entry.sequence_number.unwrap_or(i64::MAX));
    })
    .await?;
    Ok(found)
}

/// Calls `visit` with the location of every file that the given snapshots refer to, some more than once.
///
/// It collects nothing, so the memory does not grow with the number of data files. Manifests that a snapshot in `seen` added are
/// not opened: the caller visited their files when it visited that snapshot.
///
/// # Errors
///
/// Returns what [`reachable`] returns.
pub async fn visit_reachable(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshots: &[SnapshotRef],
    seen: &HashSet<i64>,
    mut visit: impl FnMut(&str),
) -> Result<()> {
    let Outline { files, mut manifests } = outline(source, metadata, snapshots, &HashSet::new()).await?;
    files.keys().for_each(|path| visit(path));
    manifests.retain(|_, (_, manifest)| !seen.contains(&manifest.added_snapshot_id));
    visit_entries(source, manifests, &mut OnUnreadable::Fail, |entry| visit(&entry.data_file.file_path)).await
}

/// Reads the paths and numbers of a manifest's entries. It owns its arguments, so that many calls can run in one stream.
async fn read_paths(manifests: Manifests, file: ManifestFile) -> Result<Manifest> {
    manifests.as_written(&file, &ManifestProjection::paths()).await
}

/// Calls `visit` for the live entries of the manifests. It reads several manifests at the same time.
async fn visit_entries(
    source: &Manifests,
    manifests: BTreeMap<String, (i64, ManifestFile)>,
    lenience: &mut OnUnreadable<'_>,
    mut visit: impl FnMut(&ManifestEntry),
) -> Result<()> {
    let read = manifests.into_iter().map(|(path, (snapshot_id, manifest))| {
        let source = source.clone();
        async move { (snapshot_id, path, read_paths(source, manifest).await) }.boxed()
    });
    let mut read = futures::stream::iter(read).buffered(MANIFEST_CONCURRENCY);
    while let Some((snapshot_id, path, manifest)) = read.next().await {
        match manifest {
            Ok(manifest) => visit_alive(&manifest, &mut visit),
            Err(error) => lenience.take(snapshot_id, &path, error)?,
        }
    }
    Ok(())
}

/// Calls `visit` for the live entries of a manifest.
///
/// It is a function of its own because an async body is compiled in the crate that awaits it, with that crate's optimization level.
#[inline(never)]
fn visit_alive(manifest: &Manifest, visit: &mut impl FnMut(&ManifestEntry)) {
    // An entry of status DELETED records a removal and does not keep the file, as in Java's reachable file cleanup.
    manifest.entries.iter().filter(|e| e.is_alive()).for_each(visit);
}

#[cfg(test)]
mod tests {
    use esker_storage::{Location, Storage, StorageOptions};
    use futures::executor::block_on;
    use serde_json::json;

    use super::*;

    /// Returns a table with one snapshot that names no manifests and one whose manifest list lies outside the warehouse.
    fn damaged_table(outside: &str) -> TableMetadata {
        let snapshot =
            |id: i64| json!({"snapshot-id": id, "sequence-number": id, "timestamp-ms": id, "summary": {"operation": "append"}});
        let mut far = snapshot(2);
        far["manifest-list"] = outside.into();
        let json = json!({
            "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "file:///t",
            "last-sequence-number": 2, "last-updated-ms": 9, "last-column-id": 1, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "p", "required": false, "type": "int"}]}],
            "default-spec-id": 0, "last-partition-id": 999, "partition-specs": [{"spec-id": 0, "fields": []}],
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}], "current-snapshot-id": 2,
            "snapshots": [snapshot(1), far], "refs": {"main": {"snapshot-id": 2, "type": "branch"}},
        });
        serde_json::from_value(json).expect("metadata")
    }

    #[test]
    fn a_lenient_walk_goes_on_past_lists_outside_the_warehouse_and_snapshots_without_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Location::from_path(&dir.path().join("w")).expect("a location");
        let outside = Location::from_path(&dir.path().join("elsewhere/list.avro")).expect("a location").to_string();
        let storage = Storage::open(StorageOptions { roots: vec![root], ..StorageOptions::default() }).expect("storage");
        let (source, metadata) = (Manifests::new(storage, 1 << 20), damaged_table(&outside));
        let snapshots: Vec<SnapshotRef> = metadata.snapshots.iter().cloned().collect();

        let walked = block_on(reachable_lenient(&source, &metadata, &snapshots, &HashSet::new()));
        let (found, mut unread) = walked.expect("no error ends it");
        unread.sort_by_key(|file| file.snapshot_id);
        let unread: Vec<_> = unread.iter().map(|file| (file.snapshot_id, file.path.as_str(), file.unsupported)).collect();
        assert_eq!(unread, [(1, "", false), (2, outside.as_str(), false)]);
        assert!(found.files.is_empty(), "{found:?}");
        // What decides that a file may be deleted is not lenient.
        for snapshot in &snapshots {
            block_on(reachable(&source, &metadata, std::slice::from_ref(snapshot), &HashSet::new())).expect_err("not known");
        }
    }
}
