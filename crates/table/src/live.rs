use futures::FutureExt;
use futures::stream::{StreamExt, TryStreamExt};
use iceberg::spec::{
    DataContentType, DataFile, DataFileFormat, FormatVersion, Manifest, ManifestContentType, ManifestEntry, ManifestFile,
    ManifestList, Snapshot, TableMetadata,
};

use crate::{Manifests, Result, TableError};

/// Manifests read at the same time.
const MANIFEST_CONCURRENCY: usize = 8;

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
        Some(match (file.content_type(), file.file_format()) {
            (DataContentType::Data, _) => return None,
            (DataContentType::EqualityDeletes, _) => Self::Equality,
            (DataContentType::PositionDeletes, DataFileFormat::Puffin) => Self::DeletionVector,
            (DataContentType::PositionDeletes, _) => Self::Position,
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
    /// A manifest's entry, with what it inherits from the manifest list; its first row id as [`first_row_ids`] has it.
    pub fn of(manifest: &ManifestFile, entry: &ManifestEntry, first_row_id: Option<i64>) -> Self {
        Self {
            file: entry.data_file().clone(),
            spec_id: manifest.partition_spec_id,
            sequence_number: entry.sequence_number().unwrap_or(manifest.sequence_number),
            file_sequence_number: entry.file_sequence_number,
            snapshot_id: entry.snapshot_id().unwrap_or(manifest.added_snapshot_id),
            first_row_id,
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

/// A snapshot's manifest list.
pub async fn load_manifests(manifests: &Manifests, metadata: &TableMetadata, snapshot: &Snapshot) -> Result<Vec<ManifestFile>> {
    let path = snapshot.manifest_list();
    list_of(manifests, metadata, path).await.map_err(|e| TableError::file(path, e))
}

async fn list_of(manifests: &Manifests, metadata: &TableMetadata, path: &str) -> iceberg::Result<Vec<ManifestFile>> {
    let bytes = manifests.io().new_input(path)?.read().await?;
    // A table upgraded from version 1 may still point at lists written as version 1: their Avro schema decides.
    let list = match ManifestList::parse_with_version(&bytes, metadata.format_version()) {
        Ok(list) => list,
        Err(_) if metadata.format_version() > FormatVersion::V1 => {
            let older = if metadata.format_version() == FormatVersion::V3 { FormatVersion::V2 } else { FormatVersion::V1 };
            ManifestList::parse_with_version(&bytes, older)
                .or_else(|_| ManifestList::parse_with_version(&bytes, FormatVersion::V1))?
        }
        Err(e) => return Err(e),
    };
    Ok(list.consume_entries().into_iter().collect())
}

/// Everything alive in a snapshot.
pub async fn load_live(source: &Manifests, metadata: &TableMetadata, snapshot: &Snapshot) -> Result<LiveFiles> {
    let manifests = load_manifests(source, metadata, snapshot).await?;
    let read: Vec<_> = manifests.iter().map(|file| source.load(metadata, file).boxed()).collect();
    let mut read = futures::stream::iter(read).buffered(MANIFEST_CONCURRENCY);
    let mut live = LiveFiles::default();
    for file in &manifests {
        if let Some(manifest) = read.try_next().await? {
            live.add_manifest(file, &manifest);
        }
    }
    drop(read);
    Ok(LiveFiles { manifests, ..live })
}

impl LiveFiles {
    /// Adds the live entries of one manifest.
    pub fn add_manifest(&mut self, file: &ManifestFile, manifest: &Manifest) {
        for (entry, first_row_id) in manifest.entries().iter().zip(first_row_ids(file, manifest)).filter(|(e, _)| e.is_alive()) {
            let live = LiveFile::of(file, entry, first_row_id);
            match DeleteKind::of(&live.file) {
                Some(kind) => self.deletes.push(LiveDelete { entry: live, kind }),
                None => {
                    debug_assert_eq!(file.content, ManifestContentType::Data);
                    self.data.push(live);
                }
            }
        }
    }
}

/// The first row id of each entry of a manifest: its own, or else inherited from the manifest, entry after entry.
///
/// See the specification, "First Row ID Inheritance". The `iceberg` crate reads the field and leaves the inheriting to its callers.
pub fn first_row_ids(file: &ManifestFile, manifest: &Manifest) -> Vec<Option<i64>> {
    let mut next = file.first_row_id.and_then(|id| i64::try_from(id).ok());
    let of_entry = |entry: &iceberg::spec::ManifestEntryRef| match (entry.data_file().first_row_id(), next) {
        (Some(own), _) => Some(own),
        (None, Some(inherited)) if entry.is_alive() && entry.content_type() == DataContentType::Data => {
            next = Some(inherited.saturating_add_unsigned(entry.record_count()));
            Some(inherited)
        }
        _ => None,
    };
    manifest.entries().iter().map(of_entry).collect()
}
