use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use esker_format::{DataContentType, ManifestEntry, ManifestFile, ManifestProjection, SnapshotRef, TableMetadata};
use esker_types::{Coded, ErrorCode};
use futures::FutureExt;
use futures::stream::{StreamExt, TryStreamExt};

use crate::live::MANIFEST_CONCURRENCY;
use crate::{Manifest, Manifests, Result, TableError, load_manifests};

/// Manifest lists read at the same time.
const LISTS: usize = 16;

/// What a reachable file is.
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

/// Files by URI, with their kind and, where metadata tells, their size in bytes.
pub type ReachableFiles = BTreeMap<String, (FileKind, Option<u64>)>;

/// Every file that some snapshots lead to.
#[derive(Debug, Clone, Default)]
pub struct Reachable {
    /// The files.
    pub files: ReachableFiles,
    /// The highest data sequence number of the data and delete files among them.
    pub newest: i64,
}

/// What some snapshots lead to without a manifest being opened: manifest lists, manifests, statistics.
#[derive(Debug, Clone, Default)]
pub struct Outline {
    /// The files.
    pub files: ReachableFiles,
    /// The manifests among them, by path, each with a snapshot that leads to it.
    pub manifests: BTreeMap<String, (i64, ManifestFile)>,
}

/// A manifest list or manifest that can't be read, and not for a while only.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Unread {
    /// The snapshot that leads to it.
    pub snapshot_id: i64,
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub error: String,
    /// Nothing is: it is encrypted, or of a kind that is not read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsupported: bool,
}

impl Unread {
    /// Of an error that is not a passing one.
    pub fn of(snapshot_id: i64, path: String, error: &TableError) -> Self {
        Self { snapshot_id, path, error: error.to_string(), unsupported: error.code() == ErrorCode::Unsupported }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { snapshot_id, path, error, .. } = self;
        match error.contains(path.as_str()) {
            true => write!(f, "snapshot {snapshot_id}: {error}"),
            false => write!(f, "snapshot {snapshot_id}: {path}: {error}"),
        }
    }
}

/// What can't be read ends a walk, or is left out and told.
enum Lenience<'a> {
    None,
    Tell(&'a mut Vec<Unread>),
}

impl Lenience<'_> {
    fn take(&mut self, snapshot_id: i64, path: &str, error: TableError) -> Result<()> {
        match self {
            Self::Tell(unread)
                if matches!(error.code(), ErrorCode::DataMissing | ErrorCode::DataInvalid | ErrorCode::Unsupported) =>
            {
                unread.push(Unread::of(snapshot_id, path.to_owned(), &error));
                Ok(())
            }
            _ => Err(TableError::OfSnapshot { snapshot_id, source: Box::new(error) }),
        }
    }
}

/// Reads the manifest lists of the given snapshots. Manifests in `skip` do not appear.
pub async fn outline(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshots: &[SnapshotRef],
    skip: &HashSet<String>,
) -> Result<Outline> {
    outline_with(source, metadata, snapshots, skip, &mut Lenience::None).await
}

/// Reads the manifest lists of the given snapshots as far as they can be read.
pub async fn outline_as_far(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshots: &[SnapshotRef],
    skip: &HashSet<String>,
) -> Result<(Outline, Vec<Unread>)> {
    let mut unread = Vec::new();
    let found = outline_with(source, metadata, snapshots, skip, &mut Lenience::Tell(&mut unread)).await?;
    Ok((found, unread))
}

async fn outline_with(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshots: &[SnapshotRef],
    skip: &HashSet<String>,
    lenience: &mut Lenience<'_>,
) -> Result<Outline> {
    let mut found = Outline::default();
    let size = |bytes: i64| u64::try_from(bytes).ok();
    let lists: Vec<_> = snapshots.iter().map(|snapshot| load_manifests(source, snapshot).boxed()).collect();
    let mut lists = futures::stream::iter(lists).buffered(LISTS);
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
    /// Takes out of some files what this leads to, by the one spelling of each place. Of `files`, data and delete files have sequence numbers of `newest` at most: a manifest
    /// that has none as old as that can hold none of them and is not opened; and once all are out, no other is.
    pub async fn take_out(
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
        let mut read = futures::stream::iter(old).map(|m| paths(source.clone(), m).boxed()).buffered(MANIFEST_CONCURRENCY);
        while left > 0
            && let Some(manifest) = read.try_next().await?
        {
            visit_alive(&manifest, &mut |entry| left -= take(&entry.data_file.file_path));
        }
        Ok(())
    }
}

/// Walks the given snapshots. Manifests in `skip` are not opened, and neither they nor their files appear.
pub async fn reachable(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshots: &[SnapshotRef],
    skip: &HashSet<String>,
) -> Result<Reachable> {
    walk(source, metadata, snapshots, skip, Lenience::None).await
}

/// Walks the given snapshots as far as they can be read. Neither what can't be read nor what only that leads to is among the files.
pub async fn reachable_as_far(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshots: &[SnapshotRef],
    skip: &HashSet<String>,
) -> Result<(Reachable, Vec<Unread>)> {
    let mut unread = Vec::new();
    let mut found = walk(source, metadata, snapshots, skip, Lenience::Tell(&mut unread)).await?;
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
    mut lenience: Lenience<'_>,
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

/// Walks the given snapshots and keeps nothing: `visit` is told each file, some more than once.
///
/// Manifests that one of the snapshots `seen` added are not opened: who saw all that those lead to knows what is in them.
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
    visit_entries(source, manifests, &mut Lenience::None, |entry| visit(&entry.data_file.file_path)).await
}

/// Owns what it borrows elsewhere, so that it can run beside others in one stream.
async fn paths(manifests: Manifests, file: ManifestFile) -> Result<Manifest> {
    manifests.as_written(&file, &ManifestProjection::paths()).await
}

async fn visit_entries(
    source: &Manifests,
    manifests: BTreeMap<String, (i64, ManifestFile)>,
    lenience: &mut Lenience<'_>,
    mut visit: impl FnMut(&ManifestEntry),
) -> Result<()> {
    let read = manifests.into_iter().map(|(path, (snapshot_id, manifest))| {
        let source = source.clone();
        async move { (snapshot_id, path, paths(source, manifest).await) }.boxed()
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

/// In a function of its own: the body of an asynchronous one is compiled where it is awaited, as that crate is.
#[inline(never)]
fn visit_alive(manifest: &Manifest, visit: &mut impl FnMut(&ManifestEntry)) {
    // An entry of status DELETED records a removal; it does not keep the file (as in Java's reachable file cleanup).
    manifest.entries.iter().filter(|e| e.is_alive()).for_each(visit);
}
