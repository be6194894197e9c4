use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use esker_format::{ManifestFile, ManifestProjection, Snapshot, TableMetadata};
use esker_storage::{Storage, StorageError};
use esker_table::properties::TARGET_FILE_BYTES;
use esker_table::{
    LiveFiles, ManifestSummary, Manifests, MetadataJson, PartitionTypes, SnapshotFiles, TableError, TableFacts,
    all_partition_types, collect_facts, load_live, load_manifests, partition_types,
};
use flate2::read::GzDecoder;
use futures::FutureExt;
use futures::stream::{StreamExt, TryStreamExt};
use moka::future::Cache;

use crate::{Catalog, CatalogError, LoadedTable, Result};

/// The manifests that a snapshot lists, and the types that partition values have: those change when a column is promoted.
type FilesKey = (Vec<String>, Vec<(i32, PartitionTypes)>);

/// What a snapshot's files are known by: the file that lists its manifests, or the manifests, where version 1 lists them itself.
pub(crate) fn listed(snapshot: &Snapshot) -> Vec<String> {
    match &snapshot.manifest_list {
        Some(list) => vec![list.clone()],
        None => snapshot.manifests.clone().unwrap_or_default(),
    }
}

/// What the sum over a manifest's files depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SummaryKey {
    path: String,
    /// What entries inherit: a writer whose commit failed lists a manifest again, with another number.
    sequence_number: i64,
    /// The size that files are small beside.
    target: u64,
    types: PartitionTypes,
}

/// Parsed metadata files and manifest lists. Both are immutable and named uniquely, so entries are never stale.
#[derive(Debug)]
pub(crate) struct Caches {
    metadata: Cache<String, (Arc<TableMetadata>, MetadataJson)>,
    files: Cache<FilesKey, Arc<SnapshotFiles>>,
    summaries: Cache<SummaryKey, Arc<ManifestSummary>>,
    pub(crate) manifests: Manifests,
}

impl Caches {
    pub(crate) fn new(bytes: u64, storage: Storage) -> Self {
        let weight = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            metadata: Cache::builder()
                .weigher(move |_: &String, (_, json): &(Arc<TableMetadata>, MetadataJson)| weight(json.bytes().len() as u64 * 3))
                .max_capacity(bytes)
                .build(),
            files: Cache::builder()
                .weigher(move |_: &FilesKey, files: &Arc<SnapshotFiles>| weight(files.memory() as u64))
                .max_capacity(bytes)
                .build(),
            summaries: Cache::builder()
                .weigher(move |_: &SummaryKey, summary: &Arc<ManifestSummary>| weight(summary.bytes() as u64))
                .max_capacity(bytes / 4)
                .build(),
            manifests: Manifests::new(storage, bytes),
        }
    }
}

/// Manifests summed up at the same time.
const SUMMARIES: usize = 8;

/// A file that is missing keeps its meaning.
fn gone(error: TableError) -> CatalogError {
    match esker_storage::storage_cause(&error) {
        Some(StorageError::NotFound { uri }) => CatalogError::Storage(StorageError::NotFound { uri: uri.clone() }),
        _ => error.into(),
    }
}

impl Catalog {
    /// The metadata in a file, parsed and as it is there, uncompressed.
    pub async fn metadata_at(&self, uri: &str) -> Result<(Arc<TableMetadata>, MetadataJson)> {
        if let Some(found) = self.inner.caches.metadata.get(uri).await {
            return Ok(found);
        }
        let json = self.json_at(uri).await?;
        let invalid = |reason| CatalogError::MetadataInvalid { uri: uri.to_owned(), reason };
        let metadata = TableMetadata::from_json(&json).map_err(|e| invalid(e.to_string()))?;
        let entry = (Arc::new(metadata), MetadataJson::read(json).map_err(|e| invalid(e.to_string()))?);
        self.inner.caches.metadata.insert(uri.to_owned(), entry.clone()).await;
        Ok(entry)
    }

    /// A metadata file, uncompressed.
    pub async fn json_at(&self, uri: &str) -> Result<Bytes> {
        let bytes = self.storage().read(uri).await?;
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return Ok(bytes);
        }
        let invalid = |e: std::io::Error| CatalogError::MetadataInvalid { uri: uri.to_owned(), reason: e.to_string() };
        let mut json = Vec::new();
        GzDecoder::new(bytes.as_ref()).read_to_end(&mut json).map_err(invalid)?;
        Ok(json.into())
    }

    pub(crate) async fn remember_metadata(&self, uri: &str, metadata: Arc<TableMetadata>, json: MetadataJson) {
        self.inner.caches.metadata.insert(uri.to_owned(), (metadata, json)).await;
    }

    /// The warehouse's manifests.
    pub fn manifests(&self) -> &Manifests {
        &self.inner.caches.manifests
    }

    /// What is alive in a snapshot of a table, as rows: for who looks at every file.
    pub async fn live(&self, table: &LoadedTable, snapshot: &Snapshot) -> Result<LiveFiles> {
        load_live(self.manifests(), &table.metadata, snapshot).await.map_err(gone)
    }

    /// The live files of a snapshot of a table, with what is asked for of them, or more.
    pub async fn files(
        &self,
        table: &LoadedTable,
        snapshot: &Snapshot,
        wanted: &ManifestProjection,
    ) -> Result<Arc<SnapshotFiles>> {
        let key = (listed(snapshot), all_partition_types(&table.metadata));
        // Filters take turns: what one asked for stays for the next.
        let wanted = match self.inner.caches.files.get(&key).await {
            Some(found) if found.covers(wanted) => return Ok(found),
            Some(found) => found.projection().and(wanted),
            None => wanted.clone(),
        };
        let files = SnapshotFiles::load(self.manifests(), &table.metadata, snapshot, &wanted).await.map_err(gone)?;
        let files = Arc::new(files);
        self.inner.caches.files.insert(key, files.clone()).await;
        Ok(files)
    }

    /// The facts of a table's current snapshot. A manifest that was looked at before is not opened again.
    pub async fn facts(&self, table: &LoadedTable) -> Result<TableFacts> {
        let (metadata, target) = (&table.metadata, TARGET_FILE_BYTES.of(&table.metadata.properties));
        let manifests = match metadata.current_snapshot() {
            Some(snapshot) => load_manifests(self.manifests(), snapshot).await.map_err(gone)?,
            None => Vec::new(),
        };
        let summaries: Vec<_> =
            manifests.into_iter().map(|file| self.clone().summary(metadata.clone(), file, target).boxed()).collect();
        let summaries: Vec<_> = futures::stream::iter(summaries).buffered(SUMMARIES).try_collect().await?;
        let mut facts = collect_facts(metadata, &summaries, table.json.bytes().len() as u64)?;
        facts.bad_properties.extend((self.options().check_policy)(&facts.policy_properties));
        Ok(facts)
    }

    async fn summary(
        self,
        metadata: Arc<TableMetadata>,
        file: ManifestFile,
        target: u64,
    ) -> Result<(ManifestFile, Arc<ManifestSummary>)> {
        let types = partition_types(&metadata, file.partition_spec_id);
        let (path, sequence_number) = (file.manifest_path.clone(), file.sequence_number);
        let key = SummaryKey { path, sequence_number, target, types };
        if let Some(found) = self.inner.caches.summaries.get(&key).await {
            return Ok((file, found));
        }
        let manifest = self.manifests().load_some(&metadata, &file, &ManifestProjection::files()).await.map_err(gone)?;
        let summary = Arc::new(ManifestSummary::new(&file, manifest, target));
        self.inner.caches.summaries.insert(key, summary.clone()).await;
        Ok((file, summary))
    }
}
