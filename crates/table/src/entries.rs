//! What a snapshot's manifests say, for who asks after more than what is alive: what a snapshot did, where files are named, of which specs
//! and how many they are. Nothing above this crate reads lists or manifests itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use esker_format::{
    ColumnStats, DataFile, ManifestContent, ManifestEntry, ManifestFile, ManifestProjection, ManifestStatus, Snapshot,
    TableMetadata, Value,
};

use crate::{LiveFile, Manifest, Manifests, Outline, Planned, Result};

/// A file as a manifest names it.
#[derive(Debug, Clone, Copy)]
pub struct NamedFile<'a> {
    manifest: &'a ManifestFile,
    entry: &'a ManifestEntry,
}

impl<'a> NamedFile<'a> {
    /// Whether it was added, is there still, or was taken out.
    pub const fn status(&self) -> ManifestStatus {
        self.entry.status
    }

    /// Whether it is part of the snapshot.
    pub fn is_alive(&self) -> bool {
        self.entry.is_alive()
    }

    /// The file.
    pub const fn file(&self) -> &'a DataFile {
        &self.entry.data_file
    }

    /// The file with its numbers.
    pub fn live(&self) -> LiveFile {
        LiveFile::of(self.manifest, self.entry.clone())
    }
}

impl Planned for NamedFile<'_> {
    fn spec_id(&self) -> i32 {
        self.manifest.partition_spec_id
    }

    fn partition(&self) -> &[Option<Value>] {
        &self.entry.data_file.partition
    }

    fn rows(&self) -> Option<u64> {
        self.entry.data_file.rows()
    }

    fn stats(&self, field_id: i32) -> Option<ColumnStats<'_>> {
        self.entry.data_file.stats(field_id)
    }
}

/// A manifest, and the snapshots that lead to it.
#[derive(Debug, Clone)]
pub struct HeldManifest {
    /// Their ids, in the order in which the table lists them.
    pub snapshots: Vec<i64>,
    file: ManifestFile,
}

/// The files of a manifest.
#[derive(Debug)]
pub struct NamedFiles<'a> {
    file: &'a ManifestFile,
    manifest: Manifest,
}

impl HeldManifest {
    /// Its URI.
    pub fn path(&self) -> &str {
        &self.file.manifest_path
    }

    /// What it names, with what is asked for of each.
    pub async fn files(
        &self,
        source: &Manifests,
        metadata: &TableMetadata,
        wanted: &ManifestProjection,
    ) -> Result<NamedFiles<'_>> {
        Ok(NamedFiles { file: &self.file, manifest: source.load_some(metadata, &self.file, wanted).await? })
    }
}

impl NamedFiles<'_> {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = NamedFile<'_>> {
        self.manifest.entries.iter().map(|entry| NamedFile { manifest: self.file, entry })
    }
}

/// The manifests of all snapshots, each once, in the order in which the table's snapshots lead to them.
pub async fn held_manifests(source: &Manifests, metadata: &TableMetadata) -> Result<Vec<HeldManifest>> {
    let mut found: Vec<HeldManifest> = Vec::new();
    let mut at: HashMap<String, usize> = HashMap::new();
    for snapshot in &metadata.snapshots {
        let id = snapshot.snapshot_id;
        for file in source.list(snapshot).await? {
            match at.entry(file.manifest_path.clone()) {
                Entry::Occupied(known) => found[*known.get()].snapshots.push(id),
                Entry::Vacant(new) => {
                    new.insert(found.len());
                    found.push(HeldManifest { snapshots: vec![id], file });
                }
            }
        }
    }
    Ok(found)
}

/// What a snapshot did: `visit` is told each file that the manifests that it wrote say it added or took out.
pub async fn visit_changes(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshot: &Snapshot,
    mut visit: impl FnMut(NamedFile<'_>),
) -> Result<()> {
    let id = snapshot.snapshot_id;
    for manifest in source.list(snapshot).await?.iter().filter(|manifest| manifest.added_snapshot_id == id) {
        let read = source.load(metadata, manifest).await?;
        let own = read.entries.iter().filter(|entry| entry.snapshot_id == Some(id));
        own.for_each(|entry| visit(NamedFile { manifest, entry }));
    }
    Ok(())
}

/// How many files a snapshot's manifests say they name that are alive; those that do not say it count for none.
pub async fn named_files(source: &Manifests, snapshot: &Snapshot) -> Result<u64> {
    let manifests = source.list(snapshot).await?;
    let counts = manifests.iter().flat_map(|m| [m.added_files_count, m.existing_files_count]).flatten();
    Ok(esker_types::total(counts))
}

/// Whether a snapshot has any deletes.
pub async fn has_deletes(source: &Manifests, snapshot: &Snapshot) -> Result<bool> {
    Ok(source.list(snapshot).await?.iter().any(|manifest| manifest.content == ManifestContent::Deletes))
}

/// The first manifest of a snapshot that is of a partition spec that the table has not, and the spec.
pub async fn of_unknown_spec(source: &Manifests, metadata: &TableMetadata, snapshot: &Snapshot) -> Result<Option<(String, i32)>> {
    let unknown = |manifest: &ManifestFile| metadata.partition_spec_by_id(manifest.partition_spec_id).is_none();
    let found = source.list(snapshot).await?.into_iter().find(unknown);
    Ok(found.map(|manifest| (manifest.manifest_path, manifest.partition_spec_id)))
}

/// The file that a snapshot's manifests are listed in; in version 1 there may be none.
pub fn list_of(snapshot: &Snapshot) -> Option<&str> {
    snapshot.manifest_list.as_deref()
}

impl Outline {
    /// The manifests, with the partition spec that the files of each are of.
    pub fn specs(&self) -> impl Iterator<Item = (&str, i32)> {
        self.manifests.iter().map(|(path, (_, manifest))| (path.as_str(), manifest.partition_spec_id))
    }
}
