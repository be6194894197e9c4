use std::collections::HashMap;

use esker_format::{DataContentType, DataFile, ManifestEntry, ManifestFile, Snapshot, TableMetadata};
use futures::FutureExt;
use futures::stream::{StreamExt, TryStreamExt};

use crate::{Manifest, Manifests, Result};

/// Manifests read at the same time.
pub(crate) const MANIFEST_CONCURRENCY: usize = 8;

/// What kind of deletes a delete file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeleteKind {
    /// Row positions in a Parquet, Avro or ORC file.
    Position,
    /// Values of the equality columns.
    Equality,
    /// A deletion vector in a Puffin file (format version 3).
    DeletionVector,
}

impl DeleteKind {
    /// What a file of a manifest deletes; none if it is a data file.
    pub fn of(file: &DataFile) -> Option<Self> {
        Some(match file.content {
            DataContentType::Data => return None,
            DataContentType::EqualityDeletes => Self::Equality,
            DataContentType::PositionDeletes if file.is_deletion_vector() => Self::DeletionVector,
            DataContentType::PositionDeletes => Self::Position,
        })
    }
}

/// A live data file with the sequence numbers that decide which deletes apply.
#[derive(Debug, Clone)]
pub struct LiveFile {
    /// The manifest's entry.
    pub file: DataFile,
    /// The partition spec it was written under.
    pub spec_id: i32,
    /// Its data sequence number.
    pub sequence_number: i64,
    /// Its file sequence number.
    pub file_sequence_number: Option<i64>,
    /// The snapshot that added it.
    pub snapshot_id: i64,
    /// The row id of its first row, where the table has row lineage.
    pub first_row_id: Option<i64>,
}

impl LiveFile {
    /// A manifest's entry.
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

/// A live delete file.
#[derive(Debug, Clone)]
pub struct LiveDelete {
    /// The entry.
    pub entry: LiveFile,
    /// What it holds.
    pub kind: DeleteKind,
}

/// What is alive in one snapshot.
#[derive(Debug, Clone, Default)]
pub struct LiveFiles {
    /// Data files.
    pub data: Vec<LiveFile>,
    /// Delete files of every kind.
    pub deletes: Vec<LiveDelete>,
    /// The snapshot's manifests.
    pub manifests: Vec<ManifestFile>,
}

impl LiveFiles {
    /// Paths of the data files that have more than one entry, as after a file was added twice, with how many. Readers see their rows as
    /// often.
    pub fn repeated(&self) -> HashMap<&str, usize> {
        let mut entries: HashMap<&str, usize> = HashMap::with_capacity(self.data.len());
        self.data.iter().for_each(|live| *entries.entry(live.file.file_path.as_str()).or_default() += 1);
        entries.retain(|_, n| *n > 1);
        entries
    }
}

/// A snapshot's manifests.
pub async fn load_manifests(manifests: &Manifests, snapshot: &Snapshot) -> Result<Vec<ManifestFile>> {
    manifests.list(snapshot).await
}

/// Everything alive in a snapshot.
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
    /// Adds the live entries of one manifest.
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
