//! Manifest entries for callers that need more than the live files of a snapshot.
//!
//! Such callers ask which files a snapshot added or removed, and which snapshots and manifests name a file. Others need the
//! partition specs of the manifests, or the number of files. Nothing above this crate reads manifest lists or manifests itself,
//! except for the files that `tests/it/layering.rs` lists.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use esker_format::{
    ColumnStats, DataFile, ManifestContent, ManifestEntry, ManifestFile, ManifestProjection, ManifestStatus, Snapshot,
    TableMetadata, Value,
};

use crate::{LiveFile, Manifest, Manifests, Outline, PlannableFile, Result};

/// An entry of a manifest, live or not.
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'a> {
    manifest: &'a ManifestFile,
    entry: &'a ManifestEntry,
}

impl<'a> EntryRef<'a> {
    /// Returns the status of the entry: added, existing or deleted.
    pub const fn status(&self) -> ManifestStatus {
        self.entry.status
    }

    /// Returns true if the file is part of the snapshot: the entry's status is not deleted.
    pub fn is_alive(&self) -> bool {
        self.entry.is_alive()
    }

    /// Returns the file.
    pub const fn file(&self) -> &'a DataFile {
        &self.entry.data_file
    }

    /// Returns a copy of the file with its sequence numbers.
    pub fn live(&self) -> LiveFile {
        LiveFile::of(self.manifest, self.entry.clone())
    }
}

impl PlannableFile for EntryRef<'_> {
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

/// A manifest, and the snapshots whose manifest lists name it.
#[derive(Debug, Clone)]
pub struct ReferencedManifest {
    /// The ids of the snapshots, in the order of the table's metadata.
    pub snapshots: Vec<i64>,
    file: ManifestFile,
}

/// The decoded entries of a manifest.
#[derive(Debug)]
pub struct ManifestEntries<'a> {
    file: &'a ManifestFile,
    manifest: Manifest,
}

impl ReferencedManifest {
    /// Returns the location of the manifest.
    pub fn path(&self) -> &str {
        &self.file.manifest_path
    }

    /// Reads the entries of the manifest, with at least the fields of `wanted`.
    ///
    /// # Errors
    ///
    /// Returns [`TableError::File`](crate::TableError::File) if the manifest cannot be read or decoded, and
    /// [`TableError::Unsupported`](crate::TableError::Unsupported) if it is encrypted.
    pub async fn files(
        &self,
        source: &Manifests,
        metadata: &TableMetadata,
        wanted: &ManifestProjection,
    ) -> Result<ManifestEntries<'_>> {
        Ok(ManifestEntries { file: &self.file, manifest: source.load_fields(metadata, &self.file, wanted).await? })
    }
}

impl ManifestEntries<'_> {
    /// Iterates over the entries, in the order of the manifest.
    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'_>> {
        self.manifest.entries.iter().map(|entry| EntryRef { manifest: self.file, entry })
    }
}

/// Lists the manifests of all snapshots, each once, in the order in which the table's snapshots first name them.
///
/// # Errors
///
/// - Returns [`TableError::File`](crate::TableError::File) if a manifest list cannot be read or decoded, or a manifest that a
///   snapshot of format version 1 names itself.
/// - Returns [`TableError::Unsupported`](crate::TableError::Unsupported) if a manifest list is encrypted.
/// - Returns [`TableError::Invalid`](crate::TableError::Invalid) if a snapshot names neither a manifest list nor manifests.
pub async fn referenced_manifests(source: &Manifests, metadata: &TableMetadata) -> Result<Vec<ReferencedManifest>> {
    let mut found: Vec<ReferencedManifest> = Vec::new();
    let mut at: HashMap<String, usize> = HashMap::new();
    for snapshot in &metadata.snapshots {
        let id = snapshot.snapshot_id;
        for file in source.list(snapshot).await? {
            match at.entry(file.manifest_path.clone()) {
                Entry::Occupied(known) => found[*known.get()].snapshots.push(id),
                Entry::Vacant(new) => {
                    new.insert(found.len());
                    found.push(ReferencedManifest { snapshots: vec![id], file });
                }
            }
        }
    }
    Ok(found)
}

/// Calls `visit` for each file that a snapshot added or removed.
///
/// It reads the manifests that the snapshot wrote, and passes the entries that have the snapshot's id.
///
/// # Errors
///
/// - Returns [`TableError::File`](crate::TableError::File) if the manifest list or a manifest cannot be read or decoded.
/// - Returns [`TableError::Unsupported`](crate::TableError::Unsupported) if one of them is encrypted.
/// - Returns [`TableError::Invalid`](crate::TableError::Invalid) if the snapshot names neither a manifest list nor manifests.
pub async fn visit_changes(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshot: &Snapshot,
    mut visit: impl FnMut(EntryRef<'_>),
) -> Result<()> {
    let id = snapshot.snapshot_id;
    for manifest in source.list(snapshot).await?.iter().filter(|manifest| manifest.added_snapshot_id == id) {
        let read = source.load(metadata, manifest).await?;
        let own = read.entries.iter().filter(|entry| entry.snapshot_id == Some(id));
        own.for_each(|entry| visit(EntryRef { manifest, entry }));
    }
    Ok(())
}

/// Counts the live files of a snapshot by the counts in its manifest list. Data and delete files count alike.
///
/// A manifest without counts adds nothing.
///
/// # Errors
///
/// Returns the errors of [`load_manifests`](crate::load_manifests).
pub async fn count_live_files(source: &Manifests, snapshot: &Snapshot) -> Result<u64> {
    let manifests = source.list(snapshot).await?;
    let counts = manifests.iter().flat_map(|m| [m.added_files_count, m.existing_files_count]).flatten();
    Ok(esker_types::saturating_total(counts))
}

/// Checks that a snapshot has a delete manifest.
///
/// # Errors
///
/// Returns the errors of [`load_manifests`](crate::load_manifests).
pub async fn has_deletes(source: &Manifests, snapshot: &Snapshot) -> Result<bool> {
    Ok(source.list(snapshot).await?.iter().any(|manifest| manifest.content == ManifestContent::Deletes))
}

/// Finds the first manifest of a snapshot whose partition spec the table lacks. Returns its location and the spec's id.
///
/// # Errors
///
/// Returns the errors of [`load_manifests`](crate::load_manifests).
pub async fn find_unknown_spec(
    source: &Manifests,
    metadata: &TableMetadata,
    snapshot: &Snapshot,
) -> Result<Option<(String, i32)>> {
    let unknown = |manifest: &ManifestFile| metadata.partition_spec_by_id(manifest.partition_spec_id).is_none();
    let found = source.list(snapshot).await?.into_iter().find(unknown);
    Ok(found.map(|manifest| (manifest.manifest_path, manifest.partition_spec_id)))
}

/// Returns the location of a snapshot's manifest list. A snapshot of format version 1 may have none.
pub fn list_location(snapshot: &Snapshot) -> Option<&str> {
    snapshot.manifest_list.as_deref()
}

impl Outline {
    /// Iterates over the manifests: the location and the partition spec id of each.
    pub fn specs(&self) -> impl Iterator<Item = (&str, i32)> {
        self.manifests.iter().map(|(path, (_, manifest))| (path.as_str(), manifest.partition_spec_id))
    }
}
