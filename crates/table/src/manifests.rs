//! Reading and caching of manifest lists and manifests.
//!
//! [`Manifests`] decodes a manifest into columns ([`ManifestBatch`]) and caches them. Callers take the columns (`batch`) or rows
//! made of them ([`Manifests::load`]). Two things are added to the file's content: entries inherit numbers from the manifest list,
//! and partition values are converted to the types that their columns have now. Start reading at [`Manifests::batch`].

use std::sync::Arc;

use bytes::Bytes;
use esker_format::{
    ManifestBatch, ManifestContent, ManifestEntry, ManifestFile, ManifestHeader, ManifestProjection, Snapshot, TableMetadata,
    Tuple, UnknownFields, decode_manifest, manifest_list_version, read_manifest_header, read_manifest_list,
};
use esker_storage::Storage;
use moka::future::Cache;

use crate::{PartitionTypes, Result, TableError, partition_types};

/// A decoded manifest, as rows. The entries have the values that they inherit from the manifest list.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The metadata in the header of the manifest's file.
    pub header: ManifestHeader,
    /// The entries, in the order of the file.
    pub entries: Vec<ManifestEntry>,
}

/// The cache key of a decoded manifest.
///
/// The path alone is not enough, because entries inherit from the manifest list. A writer whose commit failed lists the same
/// manifest again, with another sequence number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ManifestKey {
    path: String,
    sequence_number: i64,
    added_snapshot_id: i64,
    first_row_id: Option<i64>,
}

/// A reader of manifests with a cache of decoded ones. Cheap to clone; clones share the cache.
///
/// A cached manifest is kept as columns, with the fields that were asked for so far.
#[derive(Debug, Clone)]
pub struct Manifests {
    storage: Storage,
    decoded: Cache<ManifestKey, Arc<ManifestBatch>>,
}

impl Manifests {
    /// Creates a reader. Its cache holds decoded manifests of about `cache_bytes` bytes in memory.
    pub fn new(storage: Storage, cache_bytes: u64) -> Self {
        let weight =
            |key: &ManifestKey, batch: &Arc<ManifestBatch>| u32::try_from(key.path.len() + batch.memory()).unwrap_or(u32::MAX);
        Self { storage, decoded: Cache::builder().weigher(weight).max_capacity(cache_bytes).build() }
    }

    /// Returns the storage that manifests are read from and written to.
    pub const fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Loads all fields of a manifest's entries.
    ///
    /// Entries have the values that they inherit from the manifest list. Partition values have the types that the table has now, so
    /// that a partition stays the same one when its column is promoted.
    ///
    /// Spec: "Sequence Number Inheritance", "First Row ID Inheritance".
    ///
    /// # Errors
    ///
    /// Returns [`TableError::File`] if the manifest cannot be read or decoded, and [`TableError::Unsupported`] if it is encrypted.
    pub async fn load(&self, metadata: &TableMetadata, file: &ManifestFile) -> Result<Manifest> {
        self.load_fields(metadata, file, &ManifestProjection::all()).await
    }

    /// Loads a manifest like [`Manifests::load`], with at least the fields of `wanted`.
    ///
    /// # Errors
    ///
    /// Returns [`TableError::File`] if the manifest cannot be read or decoded, and [`TableError::Unsupported`] if it is encrypted.
    pub async fn load_fields(
        &self,
        metadata: &TableMetadata,
        file: &ManifestFile,
        wanted: &ManifestProjection,
    ) -> Result<Manifest> {
        let batch = self.batch(file, wanted).await?;
        let mut manifest = Manifest::of(&batch);
        if let Some(partitions) = converted_partitions(metadata, file, &batch) {
            for (row, entry) in manifest.entries.iter_mut().enumerate() {
                if let Some(at) = batch.partition_index(row) {
                    entry.data_file.partition = partitions[at].clone();
                }
            }
        }
        Ok(manifest)
    }

    /// Loads a manifest without converting its partition values, for callers that need only paths and numbers.
    pub(crate) async fn as_written(&self, file: &ManifestFile, wanted: &ManifestProjection) -> Result<Manifest> {
        Ok(Manifest::of(self.batch(file, wanted).await?.as_ref()))
    }

    /// Loads a manifest as columns, with at least the fields of `wanted`.
    ///
    /// Entries have the values that they inherit from the manifest list. Partition values are as they were written.
    pub(crate) async fn batch(&self, file: &ManifestFile, wanted: &ManifestProjection) -> Result<Arc<ManifestBatch>> {
        let key = ManifestKey::of(file);
        let found = self.decoded.get(&key).await;
        let wanted = match &found {
            Some(found) if found.projection().covers(wanted) => return Ok(found.clone()),
            Some(found) => found.projection().and(wanted),
            None => wanted.clone(),
        };
        let bytes = self.read(&file.manifest_path, file.key_metadata.is_some()).await?;
        let mut batch = decode_manifest(&bytes, &wanted).map_err(|e| TableError::file(&file.manifest_path, e))?;
        batch.inherit(file);
        let batch = Arc::new(batch);
        self.decoded.insert(key, batch.clone()).await;
        Ok(batch)
    }

    /// Reads the manifest list of a snapshot, or the headers of the manifests that version 1 names in the metadata.
    ///
    /// Spec: "Manifest Lists", "Snapshots".
    pub(crate) async fn list(&self, snapshot: &Snapshot) -> Result<Vec<ManifestFile>> {
        if let Some(path) = &snapshot.manifest_list {
            let bytes = self.read(path, snapshot.key_id.is_some()).await?;
            return read_manifest_list(&bytes).map_err(|e| TableError::file(path, e));
        }
        let Some(paths) = &snapshot.manifests else {
            let what = format!("snapshot {} names neither a manifest list nor manifests", snapshot.snapshot_id);
            return Err(TableError::Invalid(what));
        };
        let mut manifests = Vec::with_capacity(paths.len());
        for path in paths {
            let bytes = self.read(path, false).await?;
            let header = read_manifest_header(&bytes).map_err(|e| TableError::file(path, e))?;
            manifests.push(manifest_without_list(path, bytes.len(), &header, snapshot.snapshot_id));
        }
        Ok(manifests)
    }

    /// Reads a manifest list and the format version in its header, which is `None` if the header has none.
    ///
    /// Spec: "Manifest Lists".
    pub(crate) async fn list_with_version(&self, path: &str) -> Result<(Option<u8>, Vec<ManifestFile>)> {
        let bytes = self.read(path, false).await?;
        let version = manifest_list_version(&bytes).map_err(|e| TableError::file(path, e))?;
        Ok((version, read_manifest_list(&bytes).map_err(|e| TableError::file(path, e))?))
    }

    async fn read(&self, path: &str, is_encrypted: bool) -> Result<Bytes> {
        if is_encrypted {
            return Err(TableError::Unsupported(format!("{path} is encrypted, and Esker has no keys to decrypt it")));
        }
        self.storage.read(path).await.map_err(|e| TableError::file(path, e))
    }
}

/// Describes a manifest that version 1 names in the metadata instead of a manifest list. Its counts are unknown.
///
/// Spec: "Snapshots", field `manifests`.
fn manifest_without_list(path: &str, length: usize, header: &ManifestHeader, snapshot_id: i64) -> ManifestFile {
    ManifestFile {
        manifest_path: path.to_owned(),
        manifest_length: i64::try_from(length).unwrap_or(i64::MAX),
        partition_spec_id: header.partition_spec_id,
        content: ManifestContent::Data,
        sequence_number: 0,
        min_sequence_number: 0,
        added_snapshot_id: snapshot_id,
        added_files_count: None,
        existing_files_count: None,
        deleted_files_count: None,
        added_rows_count: None,
        existing_rows_count: None,
        deleted_rows_count: None,
        partitions: None,
        key_metadata: None,
        first_row_id: None,
        extra: UnknownFields::default(),
    }
}

impl Manifest {
    fn of(batch: &ManifestBatch) -> Self {
        Self { header: batch.header().clone(), entries: batch.entries() }
    }
}

/// Converts the partitions of a manifest to the field order of the table's spec and to the types that the table has now.
///
/// Returns `None` if the manifest has them in this form already. The result has the order of [`ManifestBatch::partitions`].
pub(crate) fn converted_partitions(metadata: &TableMetadata, file: &ManifestFile, batch: &ManifestBatch) -> Option<Box<[Tuple]>> {
    let types = partition_types(metadata, file.partition_spec_id);
    let places = field_positions(metadata, file, batch.header());
    if places.is_none() && has_types(batch.header(), &types) {
        return None;
    }
    let brought = |values: &Tuple| {
        let mut values = places.as_ref().map_or_else(|| values.clone(), |places| reordered(values, places));
        convert_partition(&mut values, &types);
        values
    };
    Some(batch.partitions().iter().map(brought).collect())
}

/// Maps each field of the table's spec to its position among a manifest's partition values.
///
/// Returns `None` if the manifest has the order of the spec. An inner `None` is a field that the manifest lacks.
fn field_positions(metadata: &TableMetadata, file: &ManifestFile, header: &ManifestHeader) -> Option<Vec<Option<usize>>> {
    let spec = metadata.partition_spec_by_id(file.partition_spec_id)?;
    let own = || header.partition.iter().map(|column| column.field_id);
    if own().eq(spec.fields().iter().map(|field| field.field_id)) {
        return None;
    }
    Some(spec.fields().iter().map(|field| own().position(|id| id == field.field_id)).collect())
}

/// Reorders partition values. A field without a position becomes null.
fn reordered(values: &Tuple, places: &[Option<usize>]) -> Tuple {
    places.iter().map(|place| values.get((*place)?).cloned().flatten()).collect()
}

/// Checks that a manifest's partition values have these types, so that none of them must be converted.
fn has_types(header: &ManifestHeader, types: &PartitionTypes) -> bool {
    header.partition.iter().zip(types).all(|(column, ty)| ty.is_none() || column.value_type == *ty)
}

/// Converts partition values to the types that their columns have now. A value that cannot be converted without loss stays as it
/// is.
pub(crate) fn convert_partition(values: &mut Tuple, types: &PartitionTypes) {
    for (value, ty) in values.iter_mut().zip(types) {
        if let (Some(own), Some(ty)) = (value.as_ref(), ty)
            && let Some(brought) = own.partition_value_as(ty)
        {
            *value = Some(brought);
        }
    }
}

impl ManifestKey {
    fn of(file: &ManifestFile) -> Self {
        Self {
            path: file.manifest_path.clone(),
            sequence_number: file.sequence_number,
            added_snapshot_id: file.added_snapshot_id,
            first_row_id: file.first_row_id,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use esker_format::{AvroCodec, DataContentType, DataFile, DataFileFormat, ManifestWriter, NewManifest};
    use futures::executor::block_on;

    use super::*;
    use crate::deletes::tests::metadata;

    /// Encodes a manifest of data files without partitions, written by snapshot 7.
    pub(crate) fn writer(metadata: &TableMetadata, format_version: u8) -> ManifestWriter {
        let new = NewManifest {
            format_version,
            content: ManifestContent::Data,
            schema: metadata.current_schema(),
            spec: metadata.partition_spec_by_id(0).expect("a spec"),
            types: &[],
            snapshot_id: Some(7),
            codec: AvroCodec::Deflate,
        };
        ManifestWriter::new(&new).expect("a writer")
    }

    /// Checks a manifest that a writer lists again after its first commit failed, as Java does, with the sequence number of the
    /// next try.
    #[test]
    fn a_manifest_that_is_listed_again_inherits_from_the_list_that_is_asked() {
        let (dir, metadata) = (tempfile::tempdir().expect("a directory"), metadata());
        let path = format!("file://{}/m.avro", dir.path().display());
        let mut writer = writer(&metadata, 2);
        writer.added(&DataFile::new(DataContentType::Data, "f", DataFileFormat::Parquet, 1, 1), None).expect("added");
        let (bytes, manifest) = writer.finish(path.clone()).expect("a manifest");
        let storage = Storage::local();
        block_on(storage.write(&path, bytes.into())).expect("written");
        let source = Manifests::new(storage, 1 << 20);
        let number = |n: i64| {
            let listed = ManifestFile { sequence_number: n, min_sequence_number: n, ..manifest.clone() };
            block_on(source.load(&metadata, &listed)).expect("a manifest").entries[0].sequence_number
        };
        assert_eq!(number(3), Some(3));
        assert_eq!(number(4), Some(4));
        assert_eq!(number(3), Some(3));
    }
}
