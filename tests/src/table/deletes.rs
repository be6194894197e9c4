//! Deletes rows of a test's table: by position, with deletion vectors, and by equality.

use std::collections::{BTreeMap, HashMap, HashSet};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use esker_format::{DataContentType, DataFile, DataFileFormat, TableMetadata, Tuple};
use esker_table::{DeleteKind, LiveDelete, LiveFile, LiveFiles, encode_puffin};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use roaring::RoaringTreemap;

use super::commit::Additions;
use super::{Row, TestTable, new_path, partition};

/// The path of a data file, and positions of rows in it.
type Deleted = (String, RoaringTreemap);

/// The granularity of position delete files in a table of format version 2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PositionDeleteScope {
    /// One delete file for each data file, with `referenced_data_file` set.
    #[default]
    File,
    /// One delete file for each partition.
    Partition,
}

impl TestTable<'_> {
    /// Deletes rows of a data file of an unpartitioned table by position.
    pub async fn delete_positions(&self, data_path: &str, positions: &[i64]) {
        let file = self.position_deletes(data_path, positions, []).await;
        self.delete_by(file).await;
    }

    /// Commits an equality delete file on `id`, with content that can't be read: for tests that only see it refused.
    pub async fn delete_equal(&self) {
        let path = new_path(&self.metadata().await, "-eq.parquet");
        let file = self.store(path, b"PAR1".to_vec(), DataContentType::EqualityDeletes, 1).await;
        self.delete_by(DataFile { equality_ids: Some(vec![1]), ..file }).await;
    }

    /// Commits one delete file.
    async fn delete_by(&self, file: DataFile) {
        let metadata = self.metadata().await;
        let prepared = self.prepare(&metadata, Additions::of(&metadata, [], [file]), "delete").await;
        self.commit(&prepared).await;
    }

    /// Deletes all rows of some ids by position, with deletion vectors in format version 3. Retries until the commit succeeds.
    pub async fn delete_by_position(&self, ids: &HashSet<i64>, scope: PositionDeleteScope) {
        loop {
            let metadata = self.metadata().await;
            let live = self.live(&metadata).await;
            let mut additions = Additions::default();
            let mut found = Vec::new();
            for file in &live.data {
                let positions = self.positions(file, ids).await;
                if !positions.is_empty() {
                    found.push((file.clone(), positions));
                }
            }
            if found.is_empty() {
                return;
            }
            match metadata.format_version {
                3 => self.write_vectors(&metadata, &live, found, &mut additions).await,
                _ => self.write_positions(&metadata, found, scope, &mut additions).await,
            }
            if self.try_commit(&metadata, additions, "delete").await {
                return;
            }
        }
    }

    /// Deletes by equality on `id` and adds rows, in one commit. Returns the partition spec's id.
    ///
    /// `keys` are ids with their partitions; an unpartitioned table ignores the partitions. Equality deletes do not apply to rows
    /// of the same commit. Retries until the commit succeeds.
    pub async fn upsert(&self, keys: &[(i64, i32)], rows: &[Row]) -> i32 {
        loop {
            let metadata = self.metadata().await;
            let spec = metadata.default_partition_spec();
            let mut additions = Additions::default();
            let mut by_partition: BTreeMap<Option<i32>, Vec<i64>> = BTreeMap::new();
            for (id, p) in keys {
                by_partition.entry((!spec.is_unpartitioned()).then_some(*p)).or_default().push(*id);
            }
            for (p, ids) in by_partition {
                additions.deletes.push((spec.spec_id(), self.equality_deletes(&ids, partition(p)).await));
            }
            self.write_rows(&metadata, rows, &mut additions).await;
            if self.try_commit(&metadata, additions, "overwrite").await {
                return spec.spec_id();
            }
        }
    }

    /// Returns the positions of rows of some ids in a data file, including deleted rows.
    async fn positions(&self, file: &LiveFile, ids: &HashSet<i64>) -> RoaringTreemap {
        let bytes = self.storage.read(&file.file.file_path).await.expect("a data file");
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("a footer").build().expect("a reader");
        let mut positions = RoaringTreemap::new();
        let mut at = 0;
        for batch in reader {
            let batch = batch.expect("a batch");
            for id in batch.column_by_name("id").expect("ids").as_primitive::<Int64Type>().values() {
                if ids.contains(id) {
                    positions.insert(at);
                }
                at += 1;
            }
        }
        positions
    }

    /// Writes deletion vectors into one Puffin file. Each contains the positions of the vector that it replaces.
    pub(super) async fn write_vectors(
        &self,
        metadata: &TableMetadata,
        live: &LiveFiles,
        found: Vec<(LiveFile, RoaringTreemap)>,
        additions: &mut Additions,
    ) {
        let mut vectors = Vec::new();
        for (file, mut positions) in found.iter().cloned() {
            let about = |d: &&LiveDelete| {
                d.kind == DeleteKind::DeletionVector && d.entry.file.referenced_data_file.as_ref() == Some(&file.file.file_path)
            };
            if let Some(before) = live.deletes.iter().find(about) {
                let entry = &before.entry.file;
                let start = entry.content_offset.expect("an offset") as u64;
                let end = start + entry.content_size_in_bytes.expect("a size") as u64;
                let blob = self.storage.read_range(&entry.file_path, start..end).await.expect("a vector");
                positions |= esker_table::decode_vector(&blob).expect("a vector");
                additions.replaced.insert((entry.file_path.clone(), entry.content_offset));
            }
            vectors.push((file.file.file_path.clone(), positions));
        }
        let (bytes, places) = encode_puffin(&vectors).expect("a file");
        let path = new_path(metadata, "-dv.puffin");
        let size = bytes.len() as i64;
        self.storage.write(&path, bytes.into()).await.expect("written");
        for (((file, _), (about, positions)), (offset, length)) in found.into_iter().zip(vectors).zip(places) {
            let (content, format) = (DataContentType::PositionDeletes, DataFileFormat::Puffin);
            let vector = DataFile {
                partition: file.file.partition,
                referenced_data_file: Some(about),
                content_offset: Some(offset as i64),
                content_size_in_bytes: Some(length as i64),
                ..DataFile::new(content, path.clone(), format, positions.len() as i64, size)
            };
            additions.deletes.push((file.spec_id, vector));
        }
    }

    /// Writes position delete files, at the granularity of `scope`.
    pub(super) async fn write_positions(
        &self,
        metadata: &TableMetadata,
        found: Vec<(LiveFile, RoaringTreemap)>,
        scope: PositionDeleteScope,
        additions: &mut Additions,
    ) {
        let mut groups: HashMap<(i32, Tuple, Option<String>), Vec<Deleted>> = HashMap::new();
        for (file, positions) in found {
            let path = file.file.file_path;
            let own = (scope == PositionDeleteScope::File).then(|| path.clone());
            groups.entry((file.spec_id, file.file.partition, own)).or_default().push((path, positions));
        }
        for ((spec, partition, own), mut files) in groups {
            files.sort_by(|a, b| a.0.cmp(&b.0));
            let places: Vec<(&str, i64)> =
                files.iter().flat_map(|(path, set)| set.iter().map(move |p| (path.as_str(), p as i64))).collect();
            let file = self.deletes_at(metadata, &places, partition).await;
            additions.deletes.push((spec, DataFile { referenced_data_file: own, ..file }));
        }
    }
}
