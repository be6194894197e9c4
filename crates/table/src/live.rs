//! The live files of a snapshot as rows, with the sequence numbers that decide which deletes apply.
//!
//! Jobs and commits look at every file, so they take rows. A scan plan takes columns instead (`files`).

use std::collections::HashMap;

use esker_format::{DataContentType, DataFile, ManifestEntry, ManifestFile, Snapshot, TableMetadata};
use futures::FutureExt;
use futures::stream::{StreamExt, TryStreamExt};

use crate::{Manifest, Manifests, PartitionKey, Result};

/// The number of manifests that are read at the same time.
pub(crate) const MANIFEST_CONCURRENCY: usize = 8;

/// The kind of deletes that a delete file contains.
///
/// Spec: "Delete Formats".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeleteKind {
    /// A position delete file: file paths and row positions in Parquet, Avro or ORC.
    Position,
    /// An equality delete file: values of the equality columns.
    Equality,
    /// A deletion vector in a Puffin file (format version 3).
    DeletionVector,
}

impl DeleteKind {
    /// Returns the kind of a delete file, or `None` for a data file.
    pub fn of(file: &DataFile) -> Option<Self> {
        Some(match file.content {
            DataContentType::Data => return None,
            DataContentType::EqualityDeletes => Self::Equality,
            DataContentType::PositionDeletes if file.is_deletion_vector() => Self::DeletionVector,
            DataContentType::PositionDeletes => Self::Position,
        })
    }
}

/// A live data or delete file, with the sequence numbers that decide which deletes apply.
#[derive(Debug, Clone)]
pub struct LiveFile {
    /// The file as its manifest entry describes it.
    pub file: DataFile,
    /// The id of the partition spec that the file was written under.
    pub spec_id: i32,
    /// The data sequence number of the file, inherited from the manifest if the entry has none.
    pub sequence_number: i64,
    /// The file sequence number of the file, if it is known.
    pub file_sequence_number: Option<i64>,
    /// The id of the snapshot that added the file.
    pub snapshot_id: i64,
    /// The row id of the file's first row, if the table has row lineage.
    pub first_row_id: Option<i64>,
}

impl LiveFile {
    /// Creates a live file from a manifest entry, which inherits missing numbers from the manifest.
    ///
    /// Spec: "Sequence Number Inheritance".
    pub fn of(manifest: &ManifestFile, entry: ManifestEntry) -> Self {
        Self {
            spec_id: manifest.partition_spec_id,
            sequence_number: entry.sequence_number.unwrap_or(manifest.sequence_number),
            file_sequence_number: entry.file_sequence_number,
            snapshot_id: entry.snapshot_id.unwrap_or(manifest.added_snapshot_id),
            first_row_id: entry.data_file.first_row_id,
            file: entry.data_file,
        }
    }
}

impl<'a> PartitionKey<'a> {
    /// Returns the partition of a data or delete file.
    pub fn of(file: &'a LiveFile) -> Self {
        Self::new(file.spec_id, &file.file.partition)
    }
}

/// A live delete file.
#[derive(Debug, Clone)]
pub struct LiveDelete {
    /// The delete file.
    pub entry: LiveFile,
    /// The kind of deletes in the file.
    pub kind: DeleteKind,
}

/// The live files of one snapshot, as rows.
#[derive(Debug, Clone, Default)]
pub struct LiveFiles {
    /// The data files, in the order of the manifests.
    pub data: Vec<LiveFile>,
    /// The delete files of every kind, in the order of the manifests.
    pub deletes: Vec<LiveDelete>,
    /// The manifests of the snapshot, in the order of the manifest list.
    pub manifests: Vec<ManifestFile>,
}

impl LiveFiles {
    /// Returns the paths of the data files that have more than one live entry, with the number of entries.
    ///
    /// A file gets several entries when it is added several times. Readers then see its rows as often.
    pub fn duplicate_paths(&self) -> HashMap<&str, usize> {
        let mut entries: HashMap<&str, usize> = HashMap::with_capacity(self.data.len());
        self.data.iter().for_each(|live| *entries.entry(live.file.file_path.as_str()).or_default() += 1);
        entries.retain(|_, n| *n > 1);
        entries
    }
}

/// Reads the manifest list of a snapshot, or the headers of the manifests that version 1 names in the metadata.
///
/// # Errors
///
/// - Returns [`TableError::File`](crate::TableError::File) if the manifest list cannot be read or decoded, or a manifest that the
///   snapshot names itself.
/// - Returns [`TableError::Unsupported`](crate::TableError::Unsupported) if the manifest list is encrypted.
/// - Returns [`TableError::Invalid`](crate::TableError::Invalid) if the snapshot names neither a manifest list nor manifests.
pub async fn load_manifests(manifests: &Manifests, snapshot: &Snapshot) -> Result<Vec<ManifestFile>> {
    manifests.list(snapshot).await
}

/// Loads all live files of a snapshot as rows.
///
/// It reads every manifest, some at the same time. Scan plans use [`SnapshotFiles`](crate::SnapshotFiles) instead.
///
/// # Errors
///
/// - Returns [`TableError::File`](crate::TableError::File) if the manifest list or a manifest cannot be read or decoded.
/// - Returns [`TableError::Unsupported`](crate::TableError::Unsupported) if one of them is encrypted.
/// - Returns [`TableError::Invalid`](crate::TableError::Invalid) if the snapshot names neither a manifest list nor manifests.
pub async fn load_live(source: &Manifests, metadata: &TableMetadata, snapshot: &Snapshot) -> Result<LiveFiles> {
    let manifests = load_manifests(source, snapshot).await?;
    let read: Vec<_> = manifests.iter().map(|file| source.load(metadata, file).boxed()).collect();
    let mut read = futures::stream::iter(read).buffered(MANIFEST_CONCURRENCY);
    let mut live = LiveFiles::default();
    for file in &manifests {
        if let Some(manifest) = read.try_next().await? {
            live.add_manifest(file, manifest);
        }
    }
    drop(read);
    Ok(LiveFiles { manifests, ..live })
}

impl LiveFiles {
    /// Adds the live entries of one manifest. `manifests` stays as it is.
    pub fn add_manifest(&mut self, file: &ManifestFile, manifest: Manifest) {
        for entry in manifest.entries.into_iter().filter(ManifestEntry::is_alive) {
            let live = LiveFile::of(file, entry);
            match DeleteKind::of(&live.file) {
                Some(kind) => self.deletes.push(LiveDelete { entry: live, kind }),
                None => self.data.push(live),
            }
        }
    }
}
