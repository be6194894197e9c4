use std::collections::{BTreeMap, HashSet};

use futures::FutureExt;
use futures::stream::{StreamExt, TryStreamExt};
use iceberg::spec::{DataContentType, Manifest, SnapshotRef, TableMetadata};

use crate::live::load_one;
use crate::{Manifests, Result, load_manifests};

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

/// Every file that some snapshots lead to, by URI, with its kind and, where metadata tells, its size in bytes.
#[derive(Debug, Clone, Default)]
pub struct Reachable {
    /// The files.
    pub files: BTreeMap<String, (FileKind, Option<u64>)>,
}

/// Walks the given snapshots. Manifests in `skip` are not opened, and neither they nor their files appear.
pub async fn reachable(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshots: &[SnapshotRef],
    skip: &HashSet<String>,
) -> Result<Reachable> {
    let mut found = Reachable::default();
    let keep = |path: &str, kind, bytes| {
        found.files.insert(path.to_owned(), (kind, bytes));
    };
    visit_reachable(source, metadata, snapshots, skip, keep).await?;
    Ok(found)
}

/// The same, without keeping what is found: `visit` is told each file, some more than once.
pub async fn visit_reachable(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshots: &[SnapshotRef],
    skip: &HashSet<String>,
    mut visit: impl FnMut(&str, FileKind, Option<u64>),
) -> Result<()> {
    let mut manifests = BTreeMap::new();
    let lists: Vec<_> = snapshots.iter().map(|snapshot| load_manifests(source, metadata, snapshot).boxed()).collect();
    let mut lists = futures::stream::iter(lists).buffered(LISTS);
    for snapshot in snapshots {
        let list = lists.try_next().await?.unwrap_or_default();
        visit(snapshot.manifest_list(), FileKind::ManifestList, None);
        for manifest in list {
            if !skip.contains(&manifest.manifest_path) {
                manifests.insert(manifest.manifest_path.clone(), manifest);
            }
        }
        let id = snapshot.snapshot_id();
        if let Some(stats) = metadata.statistics_for_snapshot(id) {
            visit(&stats.statistics_path, FileKind::Statistics, u64::try_from(stats.file_size_in_bytes).ok());
        }
        if let Some(stats) = metadata.partition_statistics_for_snapshot(id) {
            visit(&stats.statistics_path, FileKind::Statistics, u64::try_from(stats.file_size_in_bytes).ok());
        }
    }
    for (path, manifest) in &manifests {
        visit(path, FileKind::Manifest, u64::try_from(manifest.manifest_length).ok());
    }
    let mut read = futures::stream::iter(manifests.into_values()).map(|m| load_one(source.clone(), m).boxed()).buffered(8);
    while let Some((_, manifest)) = read.try_next().await? {
        visit_manifest(&manifest, &mut visit);
    }
    Ok(())
}

/// In a function of its own: the body of an asynchronous one is compiled where it is awaited, as that crate is.
#[inline(never)]
fn visit_manifest(manifest: &Manifest, visit: &mut impl FnMut(&str, FileKind, Option<u64>)) {
    // An entry of status DELETED records a removal; it does not keep the file (as in Java's reachable file cleanup).
    for entry in manifest.entries().iter().filter(|e| e.is_alive()) {
        let kind = match entry.content_type() {
            DataContentType::Data => FileKind::Data,
            _ => FileKind::Delete,
        };
        visit(entry.file_path(), kind, Some(entry.file_size_in_bytes()));
    }
}
