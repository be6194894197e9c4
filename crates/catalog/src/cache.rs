//! Caches of metadata files, file lists of snapshots, manifest summaries and manifests, and the reading of metadata through them.
//!
//! Metadata files and manifests never change and have unique paths, so a cached entry is never stale. Only the knowledge that a
//! file in an object store is there can be, for ten seconds. Each cache is bounded in bytes.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use esker_format::{ManifestFile, ManifestProjection, Snapshot, TableMetadata};
use esker_storage::{Location, Scheme, Storage, StorageError};
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

/// The maximum size in bytes of a metadata file that a client names, and of any metadata after its decompression.
///
/// Whoever may write to the warehouse can put a file there that a few kilobytes of GZIP stand for.
const MAX_METADATA_BYTES: u64 = 1 << 30;

/// The key of a cached file list: the manifest list, or the manifests, and the types of partition values.
///
/// These types change when a column is promoted.
type FilesKey = (Vec<String>, Vec<(i32, PartitionTypes)>);

/// Returns the paths that identify the files of a snapshot: its manifest list, or the manifests that version 1 lists in the
/// snapshot.
///
/// Spec: "Snapshots", fields `manifest-list` and `manifests`.
pub(crate) fn manifest_list_paths(snapshot: &Snapshot) -> Vec<String> {
    match &snapshot.manifest_list {
        Some(list) => vec![list.clone()],
        None => snapshot.manifests.clone().unwrap_or_default(),
    }
}

/// The inputs of a manifest's summary.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SummaryKey {
    path: String,
    /// Sequence number that entries inherit.
    ///
    /// A writer whose commit failed may list the same manifest again with another number.
    sequence_number: i64,
    /// Target size of data files, in bytes. The summary counts files as small by it.
    target_file_bytes: u64,
    types: PartitionTypes,
}

/// Time for which a metadata file in an object store counts as there after it was read, written or looked for.
///
/// Each look is a request to the store, which costs several times as much as the rest of a load.
const METADATA_FILE_KNOWN: Duration = Duration::from_secs(10);

/// The metadata files in object stores that were there a moment ago. A local file is never among them: a look costs one `stat`.
#[derive(Debug)]
struct KnownFiles(Cache<String, ()>);

impl KnownFiles {
    fn new(bytes: u64) -> Self {
        let weigher = |uri: &String, (): &()| u32::try_from(uri.len()).unwrap_or(u32::MAX);
        Self(Cache::builder().weigher(weigher).max_capacity(bytes).time_to_live(METADATA_FILE_KNOWN).build())
    }

    /// Checks whether a file was there a moment ago.
    async fn contains(&self, uri: &str) -> bool {
        self.0.get(uri).await.is_some()
    }

    /// Remembers that a file is there.
    async fn insert(&self, uri: &str) {
        if Location::parse(uri).is_ok_and(|location| location.scheme() != Scheme::File) {
            self.0.insert(uri.to_owned(), ()).await;
        }
    }
}

/// The caches of one warehouse.
#[derive(Debug)]
pub(crate) struct Caches {
    metadata: Cache<String, (Arc<TableMetadata>, MetadataJson)>,
    known_files: KnownFiles,
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
            known_files: KnownFiles::new(bytes / 64),
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

/// Number of manifests that are summarised at the same time.
const CONCURRENT_SUMMARIES: usize = 8;

/// Converts an error of the layer below. A missing file becomes [`StorageError::NotFound`], whatever wrapped it.
fn keep_not_found(error: TableError) -> CatalogError {
    match esker_storage::storage_cause(&error) {
        Some(StorageError::NotFound { uri }) => CatalogError::Storage(StorageError::NotFound { uri: uri.clone() }),
        _ => error.into(),
    }
}

/// Decompresses a file of GZIP.
///
/// # Errors
///
/// Returns the error of a damaged file, and one if there are more than `most` bytes.
fn gunzipped(bytes: &[u8], most: u64) -> std::io::Result<Vec<u8>> {
    let mut found = Vec::new();
    GzDecoder::new(bytes).take(most.saturating_add(1)).read_to_end(&mut found)?;
    match found.len() as u64 > most {
        true => Err(std::io::Error::other(format!("it decompresses to more than {most} bytes"))),
        false => Ok(found),
    }
}

impl Catalog {
    /// Returns the metadata in a file, parsed and as uncompressed JSON.
    ///
    /// # Errors
    ///
    /// Returns [`Storage`](CatalogError::Storage) if the file is missing or can't be read, and
    /// [`MetadataInvalid`](CatalogError::MetadataInvalid) if it can't be decompressed or parsed.
    pub async fn metadata_at(&self, uri: &str) -> Result<(Arc<TableMetadata>, MetadataJson)> {
        if let Some(found) = self.inner.caches.metadata.get(uri).await {
            return Ok(found);
        }
        let json = self.json_at(uri).await?;
        self.inner.caches.known_files.insert(uri).await;
        let invalid = |reason| CatalogError::MetadataInvalid { uri: uri.to_owned(), reason };
        let metadata = TableMetadata::from_json(&json).map_err(|e| invalid(e.to_string()))?;
        let entry = (Arc::new(metadata), MetadataJson::read(json).map_err(|e| invalid(e.to_string()))?);
        self.inner.caches.metadata.insert(uri.to_owned(), entry.clone()).await;
        Ok(entry)
    }

    /// Reads a metadata file, and decompresses it if its first bytes are those of GZIP.
    ///
    /// # Errors
    ///
    /// Returns [`Storage`](CatalogError::Storage) if the file is missing or can't be read, and
    /// [`MetadataInvalid`](CatalogError::MetadataInvalid) if it can't be decompressed, or not to less than a gibibyte.
    pub async fn json_at(&self, uri: &str) -> Result<Bytes> {
        let bytes = self.storage().read(uri).await?;
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return Ok(bytes);
        }
        let json = gunzipped(&bytes, MAX_METADATA_BYTES);
        json.map(Bytes::from).map_err(|e| CatalogError::MetadataInvalid { uri: uri.to_owned(), reason: e.to_string() })
    }

    /// Checks that a metadata file that a client names is not too large to be read. One that does not exist is left to the reader.
    ///
    /// # Errors
    ///
    /// Returns [`Storage`](CatalogError::Storage) if the storage fails, and [`MetadataInvalid`](CatalogError::MetadataInvalid) if the
    /// file is too large.
    pub(crate) async fn check_metadata_size(&self, uri: &str) -> Result<()> {
        match self.storage().size(uri).await? {
            Some(bytes) if bytes > MAX_METADATA_BYTES => {
                let reason = format!("it has {bytes} bytes, and no metadata file has more than {MAX_METADATA_BYTES}");
                Err(CatalogError::MetadataInvalid { uri: uri.to_owned(), reason })
            }
            _ => Ok(()),
        }
    }

    /// Caches the metadata of a file that was just written.
    pub(crate) async fn cache_metadata(&self, uri: &str, metadata: Arc<TableMetadata>, json: MetadataJson) {
        self.inner.caches.metadata.insert(uri.to_owned(), (metadata, json)).await;
        self.inner.caches.known_files.insert(uri).await;
    }

    /// Checks in storage that the metadata file of a table exists, whatever the cache of metadata holds.
    ///
    /// A client's load calls this, so that a lost metadata file is noticed early: at once in a local warehouse, and within ten
    /// seconds in an object store.
    ///
    /// # Errors
    ///
    /// Returns [`MetadataGone`](CatalogError::MetadataGone) if the file is not there, and [`Storage`](CatalogError::Storage) if its
    /// location is not allowed or the storage fails.
    pub async fn check_metadata_file(&self, table: &LoadedTable) -> Result<()> {
        let (uri, known) = (&table.row.metadata_location, &self.inner.caches.known_files);
        if known.contains(uri).await {
            return Ok(());
        }
        if self.storage().size(uri).await?.is_none() {
            return Err(CatalogError::MetadataGone { table: table.row.name.to_string(), uri: uri.clone() });
        }
        known.insert(uri).await;
        Ok(())
    }

    /// Returns the cache through which manifests are read.
    pub fn manifests(&self) -> &Manifests {
        &self.inner.caches.manifests
    }

    /// Loads the live files of a snapshot as rows, for callers that visit every file.
    ///
    /// # Errors
    ///
    /// Returns [`Storage`](CatalogError::Storage) if the manifest list or a manifest is missing. Returns
    /// [`Table`](CatalogError::Table) if one can't be read or decoded or is encrypted, or if the snapshot names none.
    pub async fn live_files(&self, table: &LoadedTable, snapshot: &Snapshot) -> Result<LiveFiles> {
        load_live(self.manifests(), &table.metadata, snapshot).await.map_err(keep_not_found)
    }

    /// Returns the live files of a snapshot from the cache, or loads them, with at least the manifest fields in `wanted`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Catalog::live_files`].
    pub async fn snapshot_files(
        &self,
        table: &LoadedTable,
        snapshot: &Snapshot,
        wanted: &ManifestProjection,
    ) -> Result<Arc<SnapshotFiles>> {
        let key = (manifest_list_paths(snapshot), all_partition_types(&table.metadata));
        // Queries with different filters alternate, so the fields that an earlier query needed stay loaded.
        let wanted = match self.inner.caches.files.get(&key).await {
            Some(found) if found.covers(wanted) => return Ok(found),
            Some(found) => found.projection().and(wanted),
            None => wanted.clone(),
        };
        let files = SnapshotFiles::load(self.manifests(), &table.metadata, snapshot, &wanted).await.map_err(keep_not_found)?;
        let files = Arc::new(files);
        self.inner.caches.files.insert(key, files.clone()).await;
        Ok(files)
    }

    /// Computes the facts of a table's current snapshot. Summaries of manifests are cached, so no manifest is opened twice.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Catalog::live_files`].
    pub async fn facts(&self, table: &LoadedTable) -> Result<TableFacts> {
        let (metadata, target) = (&table.metadata, TARGET_FILE_BYTES.of(&table.metadata.properties));
        let manifests = match metadata.current_snapshot() {
            Some(snapshot) => load_manifests(self.manifests(), snapshot).await.map_err(keep_not_found)?,
            None => Vec::new(),
        };
        let summaries: Vec<_> =
            manifests.into_iter().map(|file| self.clone().summary(metadata.clone(), file, target).boxed()).collect();
        let summaries: Vec<_> = futures::stream::iter(summaries).buffered(CONCURRENT_SUMMARIES).try_collect().await?;
        let mut facts = collect_facts(metadata, &summaries, table.json.bytes().len() as u64);
        facts.bad_properties.extend((self.options().check_policy)(&facts.policy_properties));
        Ok(facts)
    }

    /// Returns the summary of a manifest, from the cache or by reading it.
    async fn summary(
        self,
        metadata: Arc<TableMetadata>,
        file: ManifestFile,
        target: u64,
    ) -> Result<(ManifestFile, Arc<ManifestSummary>)> {
        let types = partition_types(&metadata, file.partition_spec_id);
        let (path, sequence_number) = (file.manifest_path.clone(), file.sequence_number);
        let key = SummaryKey { path, sequence_number, target_file_bytes: target, types };
        if let Some(found) = self.inner.caches.summaries.get(&key).await {
            return Ok((file, found));
        }
        let manifest =
            self.manifests().load_fields(&metadata, &file, &ManifestProjection::files()).await.map_err(keep_not_found)?;
        let summary = Arc::new(ManifestSummary::new(&file, manifest, target));
        self.inner.caches.summaries.insert(key, summary.clone()).await;
        Ok((file, summary))
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::read::GzEncoder;

    use super::*;

    #[test]
    fn a_few_bytes_of_gzip_stand_for_no_more_than_may_be_read() {
        let mut gzip = Vec::new();
        GzEncoder::new([b' '; 10_000].as_slice(), Compression::default()).read_to_end(&mut gzip).expect("compressed");
        assert!(gzip.len() < 100, "{}", gzip.len());
        assert_eq!(gunzipped(&gzip, 10_000).expect("within the limit").len(), 10_000);
        let refused = gunzipped(&gzip, 9_999).expect_err("too large").to_string();
        assert!(refused.contains("more than 9999 bytes"), "{refused}");
        assert!(gunzipped(&gzip[..20], 10_000).is_err(), "cut");
    }

    #[tokio::test]
    async fn a_local_file_is_looked_for_each_time() {
        let known = KnownFiles::new(1000);
        for uri in ["file:///w/00000.metadata.json", "s3://b/00000.metadata.json"] {
            known.insert(uri).await;
            assert_eq!(known.contains(uri).await, uri.starts_with("s3:"), "{uri}");
        }
    }
}
