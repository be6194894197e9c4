use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::stream::{StreamExt, TryStreamExt};
use iceberg::spec::{
    DataContentType, DataFile, DataFileFormat, FormatVersion, Manifest, ManifestContentType, ManifestFile, ManifestList,
    Snapshot, TableMetadata,
};

use crate::{Manifests, Result};

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

impl LiveDelete {
    /// Whether this delete file may hold deletes of rows in `data` (spec, "Scan Planning").
    pub fn applies_to(&self, data: &LiveFile, unpartitioned: &impl Fn(i32) -> bool) -> bool {
        let same_partition = self.entry.spec_id == data.spec_id && self.entry.file.partition() == data.file.partition();
        match self.kind {
            DeleteKind::Position | DeleteKind::DeletionVector => {
                let aimed_elsewhere = self.entry.file.referenced_data_file().is_some_and(|path| path != data.file.file_path());
                data.sequence_number <= self.entry.sequence_number && same_partition && !aimed_elsewhere
            }
            // An equality delete under an unpartitioned spec applies to the whole table.
            DeleteKind::Equality => {
                data.sequence_number < self.entry.sequence_number && (same_partition || unpartitioned(self.entry.spec_id))
            }
        }
    }
}

impl LiveFiles {
    /// For each data file, by position in `data`, the positions in `deletes` of those that may apply to it.
    pub fn deletes_by_file(&self, metadata: &TableMetadata) -> HashMap<usize, Vec<usize>> {
        if self.deletes.is_empty() {
            return HashMap::new();
        }
        let unpartitioned = |spec: i32| metadata.partition_spec_by_id(spec).is_some_and(|s| s.is_unpartitioned());
        let mut by_file = HashMap::new();
        for (d, data) in self.data.iter().enumerate() {
            let applying: Vec<usize> =
                (0..self.deletes.len()).filter(|&i| self.deletes[i].applies_to(data, &unpartitioned)).collect();
            if !applying.is_empty() {
                by_file.insert(d, applying);
            }
        }
        by_file
    }
}

/// A snapshot's manifest list.
pub async fn load_manifests(manifests: &Manifests, metadata: &TableMetadata, snapshot: &Snapshot) -> Result<Vec<ManifestFile>> {
    let bytes = manifests.io().new_input(snapshot.manifest_list())?.read().await?;
    // A table upgraded from version 1 may still point at lists written as version 1: their Avro schema decides.
    let list = match ManifestList::parse_with_version(&bytes, metadata.format_version()) {
        Ok(list) => list,
        Err(_) if metadata.format_version() > FormatVersion::V1 => {
            let older = if metadata.format_version() == FormatVersion::V3 { FormatVersion::V2 } else { FormatVersion::V1 };
            ManifestList::parse_with_version(&bytes, older)
                .or_else(|_| ManifestList::parse_with_version(&bytes, FormatVersion::V1))?
        }
        Err(e) => return Err(e.into()),
    };
    Ok(list.consume_entries().into_iter().collect())
}

/// Everything alive in a snapshot.
pub async fn load_live(source: &Manifests, metadata: &TableMetadata, snapshot: &Snapshot) -> Result<LiveFiles> {
    let manifests = load_manifests(source, metadata, snapshot).await?;
    let mut read =
        futures::stream::iter(manifests.clone()).map(|m| load_one(source.clone(), m).boxed()).buffered(MANIFEST_CONCURRENCY);
    let mut live = LiveFiles { manifests, ..LiveFiles::default() };
    while let Some((file, manifest)) = read.try_next().await? {
        live.add_manifest(&file, &manifest);
    }
    Ok(live)
}

/// Owns what it borrows elsewhere, so that it can run beside others in one stream.
pub(crate) async fn load_one(manifests: Manifests, file: ManifestFile) -> Result<(ManifestFile, Arc<Manifest>)> {
    let manifest = manifests.load(&file).await?;
    Ok((file, manifest))
}

impl LiveFiles {
    /// Adds the live entries of one manifest.
    pub fn add_manifest(&mut self, file: &ManifestFile, manifest: &Manifest) {
        for entry in manifest.entries().iter().filter(|e| e.is_alive()) {
            let live = LiveFile {
                file: entry.data_file().clone(),
                spec_id: file.partition_spec_id,
                sequence_number: entry.sequence_number().unwrap_or(file.sequence_number),
                file_sequence_number: entry.file_sequence_number,
                snapshot_id: entry.snapshot_id().unwrap_or(file.added_snapshot_id),
            };
            let kind = match (live.file.content_type(), live.file.file_format()) {
                (DataContentType::Data, _) => {
                    debug_assert_eq!(file.content, ManifestContentType::Data);
                    self.data.push(live);
                    continue;
                }
                (DataContentType::EqualityDeletes, _) => DeleteKind::Equality,
                (DataContentType::PositionDeletes, DataFileFormat::Puffin) => DeleteKind::DeletionVector,
                (DataContentType::PositionDeletes, _) => DeleteKind::Position,
            };
            self.deletes.push(LiveDelete { entry: live, kind });
        }
    }
}
