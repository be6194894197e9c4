use std::sync::Arc;

use iceberg::io::FileIO;
use iceberg::spec::{Manifest, ManifestFile, TableMetadata};
use moka::future::Cache;

use crate::partition::{has_types, with_types};
use crate::{PartitionTypes, Result, TableError, partition_types};

/// What a manifest entry weighs in memory, measured on entries with bounds for some twenty columns.
pub const ENTRY_BYTES: usize = 2500;

/// What a parsed manifest depends on. Not its file alone: entries inherit from the manifest list, and a writer whose commit failed
/// lists the same manifest again, with another sequence number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    path: String,
    sequence_number: i64,
    added_snapshot_id: i64,
    /// The types that its partition values were brought to; none for those that it is written with.
    types: Option<PartitionTypes>,
}

/// Reads manifests, each once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Manifests {
    io: FileIO,
    parsed: Cache<Key, Arc<Manifest>>,
}

impl Manifests {
    /// Keeps parsed manifests of up to about `cache_bytes`.
    pub fn new(io: FileIO, cache_bytes: u64) -> Self {
        let weight = |key: &Key, m: &Arc<Manifest>| {
            u32::try_from(key.path.len() + (m.entries().len() + 1) * ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        Self { io, parsed: Cache::builder().weigher(weight).max_capacity(cache_bytes).build() }
    }

    /// Where manifests are read from and written to.
    pub fn io(&self) -> &FileIO {
        &self.io
    }

    /// A manifest, with what its entries inherit from the manifest list, and with partition values of the types that the table has now:
    /// a partition is the same one before and after its column was promoted.
    pub async fn load(&self, metadata: &TableMetadata, file: &ManifestFile) -> Result<Arc<Manifest>> {
        let written = self.as_written(file).await?;
        let types = partition_types(metadata, file.partition_spec_id);
        if has_types(&written, &types) {
            return Ok(written);
        }
        let key = Key { types: Some(types.clone()), ..Key::of(file) };
        if let Some(found) = self.parsed.get(&key).await {
            return Ok(found);
        }
        let manifest = Arc::new(with_types(&written, &types)?);
        self.parsed.insert(key, manifest.clone()).await;
        Ok(manifest)
    }

    /// A manifest with partition values as they were written: for who asks after paths and numbers alone.
    pub(crate) async fn as_written(&self, file: &ManifestFile) -> Result<Arc<Manifest>> {
        let key = Key::of(file);
        if let Some(found) = self.parsed.get(&key).await {
            return Ok(found);
        }
        let manifest = Arc::new(file.load_manifest(&self.io).await.map_err(|e| TableError::file(&file.manifest_path, e))?);
        self.parsed.insert(key, manifest.clone()).await;
        Ok(manifest)
    }
}

impl Key {
    fn of(file: &ManifestFile) -> Self {
        Self {
            path: file.manifest_path.clone(),
            sequence_number: file.sequence_number,
            added_snapshot_id: file.added_snapshot_id,
            types: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat, ManifestWriterBuilder, Struct};

    use super::*;
    use crate::deletes::tests::metadata;

    /// A manifest of one file that a writer lists again after its first commit failed, as Java does: with the number of the next try.
    #[test]
    fn a_manifest_that_is_listed_again_inherits_from_the_list_that_is_asked() {
        let (io, metadata) = (FileIO::new_with_memory(), metadata());
        let written = async {
            let output = io.new_output("memory:///m.avro").expect("an output");
            let spec = metadata.partition_spec_by_id(0).expect("a spec").as_ref().clone();
            let builder = ManifestWriterBuilder::new(output, Some(7), metadata.current_schema().clone(), spec);
            let mut writer = builder.build_v2_data();
            let mut file = DataFileBuilder::default();
            file.content(DataContentType::Data).file_path("f".to_owned()).file_format(DataFileFormat::Parquet);
            file.partition(Struct::empty()).record_count(1).file_size_in_bytes(1);
            writer.add_file(file.build().expect("a file"), -1).expect("added");
            writer.write_manifest_file().await.expect("a manifest")
        };
        let manifest = block_on(written);
        let source = Manifests::new(io.clone(), 1 << 20);
        let number = |n: i64| {
            let listed = ManifestFile { sequence_number: n, min_sequence_number: n, ..manifest.clone() };
            let manifest = block_on(source.load(&metadata, &listed)).expect("a manifest");
            manifest.entries()[0].sequence_number()
        };
        assert_eq!(number(3), Some(3));
        assert_eq!(number(4), Some(4));
        assert_eq!(number(3), Some(3));
    }
}
