//! Turns equality deletes into row positions.
//!
//! Deletes that compare the same columns form a [`KeySet`]. The keys of its delete files go into a hash table with the newest
//! sequence number of each key. Each data file's keys are then looked up: a row is deleted if its key was deleted after the file
//! was written. Keys that exceed the budget are partitioned by hash and spilled to disk, together with the data files' keys, and
//! joined partition by partition.
//!
//! Start with [`EqualityDeletes::positions`]. Spec: "Equality Delete Files", "Scan Planning".

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::row::Rows;
use esker_format::TableMetadata;
use esker_table::{LiveDelete, LiveFile};
use esker_types::{Panicked, saturating_total};
use futures::stream::{StreamExt, TryStreamExt};
use roaring::RoaringTreemap;
use tokio::task::JoinError;

use super::key_columns::KeyColumns;
use super::keys::{KeyTable, hash};
use super::positional::check_readable;
use super::spill::{Partition, Partitions, SpilledKey};
use crate::{ReadError, ReadStats, Reader, Result};

/// Number of files whose keys are read concurrently.
const CONCURRENCY: usize = 4;

/// Delete files of at most so many bytes are read concurrently, larger ones one after the other.
const SMALL: u64 = 1 << 20;

/// The memory that keys of equality deletes may take, and the directory they are spilled to.
#[derive(Debug, Clone)]
pub struct EqualityBudget {
    /// Greatest number of bytes of keys in memory.
    pub bytes: usize,
    /// The directory for spilled keys; created if it does not exist.
    pub dir: PathBuf,
    /// True to read files through the block cache, for later queries.
    pub use_block_cache: bool,
}

/// The equality deletes that apply to some data files of one partition.
#[derive(Debug)]
pub struct EqualityDeletes {
    /// One set for each combination of compared columns.
    sets: Vec<KeySet>,
}

/// Equality deletes that compare the same columns.
#[derive(Debug)]
struct KeySet {
    columns: Arc<KeyColumns>,
    deletes: Vec<LiveDelete>,
}

/// Reads the file at `path` in a task of its own, so that several reads use several threads.
async fn spawned<T: Send + 'static>(path: &str, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(work).await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(payload)) => Err(ReadError::Panicked { path: path.to_owned(), panic: Panicked::of(payload.as_ref()) }),
        // The runtime shuts down.
        Err(Err(cancelled)) => Err(ReadError::Spill(io::Error::other(cancelled))),
    }
}

/// Runs file operations on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(io::Error::other)??)
}

/// Appends copies of a batch's keys.
fn append(collected: &mut Vec<Box<[u8]>>, keys: &Rows) {
    collected.extend(keys.iter().map(|key| key.data().into()));
}

impl EqualityDeletes {
    /// Groups deletes by the columns that they compare. Reads no file.
    ///
    /// # Errors
    ///
    /// - Returns the error of [`check_readable`].
    /// - Returns [`ReadError::Damaged`] if a delete file has no equality ids.
    /// - Returns [`ReadError::Unsupported`] if a delete file compares a column that is unknown, is inside a list or a map, or has a
    ///   type without equality.
    /// - Returns [`ReadError::Undecodable`] if a column has a type without an Arrow counterpart, [`ReadError::Format`] if the
    ///   columns don't form a schema, and [`ReadError::Arrow`] if Arrow can't encode them as keys.
    pub fn new(metadata: &TableMetadata, deletes: Vec<LiveDelete>) -> Result<Self> {
        let mut by_ids: BTreeMap<Vec<i32>, Vec<LiveDelete>> = BTreeMap::new();
        for delete in deletes {
            check_readable(&delete)?;
            let file = &delete.entry.file;
            let mut ids = file.equality_ids.clone().unwrap_or_default();
            if ids.is_empty() {
                return Err(ReadError::damaged(&file.file_path, "an equality delete file without equality ids"));
            }
            ids.sort_unstable();
            by_ids.entry(ids).or_default().push(delete);
        }
        let set = |(ids, deletes): (Vec<i32>, Vec<LiveDelete>)| {
            let path = deletes.first().map_or("", |d| d.entry.file.file_path.as_str());
            Ok(KeySet { columns: Arc::new(KeyColumns::new(metadata, &ids, path)?), deletes })
        };
        Ok(Self { sets: by_ids.into_iter().map(set).collect::<Result<_>>()? })
    }

    /// Returns the deleted positions of each data file that has any, by path.
    ///
    /// Keys that exceed the budget are split by hash and spilled, and so are the data files' keys. The time is linear in rows and
    /// deletes either way. Spec: "Scan Planning".
    ///
    /// # Errors
    ///
    /// - Returns [`ReadError::Unsupported`] if a delete file lacks a compared column, or if a file has no field ids and the table
    ///   has no usable name mapping.
    /// - Returns [`ReadError::Spill`] if the spill directory fails, or if the runtime shuts down.
    /// - Returns [`ReadError::Storage`], [`ReadError::Parquet`], [`ReadError::Decoding`], [`ReadError::Panicked`] or
    ///   [`ReadError::Arrow`] if a file can't be fetched, decoded or converted.
    pub async fn positions(
        mut self,
        reader: &Reader,
        metadata: &Arc<TableMetadata>,
        files: &[LiveFile],
        budget: &EqualityBudget,
        stats: &Arc<ReadStats>,
    ) -> Result<HashMap<String, RoaringTreemap>> {
        let mut found: HashMap<String, RoaringTreemap> = HashMap::new();
        for set in std::mem::take(&mut self.sets) {
            let newest = set.newest();
            let under = |f: &&LiveFile| newest > f.sequence_number;
            let files: Vec<LiveFile> = files.iter().filter(under).cloned().collect();
            match set.read(reader, metadata, budget, stats).await? {
                Some(table) => {
                    let table = Arc::new(table);
                    let one = |file: LiveFile| {
                        let (columns, table, reader) = (set.columns.clone(), table.clone(), reader.clone());
                        let (metadata, stats, keep) = (metadata.clone(), stats.clone(), budget.use_block_cache);
                        let path = file.file.file_path.clone();
                        let probe = async move { columns.probe(&table, &reader, &metadata, &file, keep, &stats).await };
                        async move { spawned(&path, probe).await.map(|deleted| (path, deleted)) }
                    };
                    let mut probes = futures::stream::iter(files).map(one).buffer_unordered(CONCURRENCY);
                    while let Some((path, deleted)) = probes.try_next().await? {
                        *found.entry(path).or_default() |= deleted;
                    }
                }
                None => {
                    for (path, deleted) in set.spilled(reader, metadata, files, budget, stats).await? {
                        *found.entry(path).or_default() |= deleted;
                    }
                }
            }
        }
        found.retain(|_, deleted| !deleted.is_empty());
        Ok(found)
    }
}

impl KeySet {
    /// Returns the newest sequence number among the deletes.
    fn newest(&self) -> i64 {
        self.deletes.iter().map(|d| d.entry.sequence_number).max().unwrap_or(i64::MIN)
    }

    /// Reads the keys of all delete files into memory; none if they exceed the budget.
    ///
    /// Small delete files are read concurrently, large ones one after the other and batch by batch.
    async fn read(
        &self,
        reader: &Reader,
        metadata: &Arc<TableMetadata>,
        budget: &EqualityBudget,
        stats: &Arc<ReadStats>,
    ) -> Result<Option<KeyTable>> {
        let (bytes, keep) = (budget.bytes, budget.use_block_cache);
        let mut table = KeyTable::new();
        let (small, large): (Vec<&LiveDelete>, Vec<&LiveDelete>) =
            self.deletes.iter().partition(|d| d.entry.file.size() <= SMALL);
        let one = |delete: LiveDelete| {
            let (columns, reader, metadata, stats) = (self.columns.clone(), reader.clone(), metadata.clone(), stats.clone());
            let path = delete.entry.file.file_path.clone();
            let read = async move {
                let mut keys: Vec<Box<[u8]>> = Vec::new();
                let mut batches = columns.read(&reader, &delete.entry, &metadata, keep, &stats).await?;
                while let Some((batch, _)) = batches.next().await? {
                    append(&mut keys, &batch);
                }
                Ok::<_, ReadError>((delete.entry.sequence_number, keys))
            };
            async move { spawned(&path, read).await }
        };
        let small: Vec<LiveDelete> = small.into_iter().cloned().collect();
        let mut read = futures::stream::iter(small).map(one).buffer_unordered(CONCURRENCY);
        while let Some((sequence_number, keys)) = read.try_next().await? {
            table.insert_keys(&keys, sequence_number);
            if table.memory() > bytes {
                return Ok(None);
            }
        }
        for delete in large {
            let sequence_number = delete.entry.sequence_number;
            let mut batches = self.columns.read(reader, &delete.entry, metadata, keep, stats).await?;
            while let Some((keys, _)) = batches.next().await? {
                if table.memory() > bytes {
                    return Ok(None);
                }
                table.insert_batch(&keys, sequence_number);
            }
        }
        Ok(Some(table))
    }

    /// Spills the keys of delete files and data files by hash, and joins them partition by partition.
    ///
    /// Returns the deleted positions by path. Files are written and read on threads that may block.
    async fn spilled(
        &self,
        reader: &Reader,
        metadata: &TableMetadata,
        files: Vec<LiveFile>,
        budget: &EqualityBudget,
        stats: &Arc<ReadStats>,
    ) -> Result<HashMap<String, RoaringTreemap>> {
        // An entry in memory takes its key and about thirty bytes. Half of the budget is left for tables that double when they
        // grow. A delete file without a record count is assumed to have one delete a byte.
        let count = |d: &LiveDelete| d.entry.file.rows().unwrap_or_else(|| d.entry.file.size());
        let deletes = saturating_total(self.deletes.iter().map(count));
        let width = self.columns.maker.width();
        let estimate = deletes.saturating_mul(width as u64 + 64);
        let n = usize::try_from(estimate / (budget.bytes as u64 / 2).max(1)).unwrap_or(usize::MAX).clamp(2, 512);
        let dir = budget.dir.clone();
        let (mut keys, mut rows) = blocking(move || Ok((Partitions::create(&dir, n)?, Partitions::create(&dir, n)?))).await?;
        for delete in &self.deletes {
            let sequence_number = delete.entry.sequence_number.cast_unsigned();
            let mut batches = self.columns.read(reader, &delete.entry, metadata, budget.use_block_cache, stats).await?;
            while let Some((batch, _)) = batches.next().await? {
                keys = blocking(move || keys.with_all(&batch, sequence_number, 0)).await?;
            }
        }
        for (i, file) in (0..).zip(&files) {
            let mut batches = self.columns.read(reader, file, metadata, budget.use_block_cache, stats).await?;
            while let Some((batch, start)) = batches.next().await? {
                rows = blocking(move || rows.with_all(&batch, i, start)).await?;
            }
        }
        let (keys, rows) = blocking(move || Ok((keys.finish()?, rows.finish()?))).await?;
        let mut found: HashMap<String, RoaringTreemap> = HashMap::new();
        let files: Arc<[LiveFile]> = files.into();
        for (keys, rows) in keys.into_iter().zip(rows) {
            let files = files.clone();
            for (path, deleted) in blocking(move || join(keys, rows, &files)).await? {
                *found.entry(path).or_default() |= deleted;
            }
        }
        Ok(found)
    }
}

/// Looks up the rows of one partition among its deletes; returns the deleted positions by path.
fn join(mut keys: Partition, mut rows: Partition, files: &[LiveFile]) -> io::Result<HashMap<String, RoaringTreemap>> {
    let mut record = SpilledKey { key: Vec::new(), a: 0, b: 0 };
    let mut table = KeyTable::new();
    while keys.next(&mut record)? {
        table.insert(hash(&record.key), &record.key, record.a.cast_signed());
    }
    let mut found: HashMap<String, RoaringTreemap> = HashMap::new();
    while rows.next(&mut record)? {
        let file = &files[usize::try_from(record.a).unwrap_or(usize::MAX)];
        if table.get(hash(&record.key), &record.key).is_some_and(|newest| newest > file.sequence_number) {
            found.entry(file.file.file_path.clone()).or_default().insert(record.b);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
    use esker_format::{DataContentType, DataFile, DataFileFormat, NestedField, NewTable, PrimitiveType, Schema, create};
    use esker_storage::Storage;
    use esker_table::DeleteKind;
    use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
    use uuid::Uuid;

    use super::*;
    use crate::{BlockCache, BlockOptions};

    /// Writes a file of ids, as a data file or as equality deletes.
    fn file(dir: &Path, name: &str, ids: Vec<i64>, (content, sequence_number): (DataContentType, i64)) -> LiveFile {
        let id = [(PARQUET_FIELD_ID_META_KEY.to_owned(), "1".to_owned())];
        let schema = Arc::new(ArrowSchema::new(vec![Field::new("id", DataType::Int64, false).with_metadata(id.into())]));
        let (records, path) = (ids.len().try_into().expect("a count"), dir.join(name));
        let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), None).expect("a writer");
        writer.write(&RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(ids))]).expect("rows")).expect("written");
        let bytes = writer.into_inner().expect("closed");
        std::fs::write(&path, &bytes).expect("written");
        let (path, size) = (format!("file://{}", path.display()), bytes.len().try_into().expect("a size"));
        let mut file = DataFile::new(content, path.as_str(), DataFileFormat::Parquet, records, size);
        file.equality_ids = (content == DataContentType::EqualityDeletes).then(|| vec![1]);
        LiveFile { file, spec_id: 0, sequence_number, file_sequence_number: None, snapshot_id: 1, first_row_id: None }
    }

    #[tokio::test]
    async fn a_read_that_panics_is_an_error_with_the_file_and_the_panic() {
        let error = spawned::<()>("file:///t/d", async { panic!("a bug") }).await.expect_err("a panic");
        assert!(matches!(&error, ReadError::Panicked { path, .. } if path == "file:///t/d"), "{error}");
        assert!(error.to_string().contains("a bug"), "{error}");
    }

    /// Spec: "Data File Fields": `equality_ids` is required for equality deletes.
    #[test]
    fn equality_deletes_without_ids_are_damaged() {
        let schema = Schema::new(0, vec![NestedField::required(1, "id", PrimitiveType::Long).into()]).expect("a schema");
        let metadata = create(NewTable::of(schema, "file:///t"), Uuid::nil(), 0).expect("metadata");
        let file = DataFile::new(DataContentType::EqualityDeletes, "file:///t/d", DataFileFormat::Parquet, 1, 1);
        for equality_ids in [None, Some(Vec::new())] {
            let file = DataFile { equality_ids, ..file.clone() };
            let (spec_id, sequence_number, snapshot_id) = (0, 2, 1);
            let entry = LiveFile { file, spec_id, sequence_number, file_sequence_number: None, snapshot_id, first_row_id: None };
            let deletes = vec![LiveDelete { entry, kind: DeleteKind::Equality }];
            let error = EqualityDeletes::new(&metadata, deletes).expect_err("no ids");
            assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn keys_that_exceed_the_budget_delete_the_same_rows() {
        use DataContentType::{Data, EqualityDeletes as Equality};
        let dir = tempfile::tempdir().expect("a directory");
        let schema = Schema::new(0, vec![NestedField::required(1, "id", PrimitiveType::Long).into()]).expect("a schema");
        let metadata = Arc::new(create(NewTable::of(schema, "file:///t"), Uuid::nil(), 0).expect("metadata"));
        let every = |n: usize| (0..20_000).step_by(n).collect::<Vec<i64>>();
        let file = |name: &str, ids, about| file(dir.path(), name, ids, about);
        let data = [file("old", every(1), (Data, 1)), file("new", every(1), (Data, 3))];
        let deletes = [file("first", every(3), (Equality, 2)), file("second", every(1000), (Equality, 4))];
        let deletes = deletes.map(|entry| LiveDelete { entry, kind: DeleteKind::Equality });
        let blocks = BlockCache::open(&BlockOptions { memory_bytes: 1 << 20, disk: None }).await.expect("a cache");
        let reader = Reader::new(Storage::local(), 1 << 20, blocks);
        // A row's position is its id. Deletes apply to rows that were written before them.
        let expected = [
            (data[0].file.file_path.clone(), every(1).into_iter().filter(|id| id % 3 == 0 || id % 1000 == 0).collect::<Vec<_>>()),
            (data[1].file.file_path.clone(), every(1000)),
        ];
        for (bytes, is_spilled) in [(64 << 20, false), (32 << 10, true)] {
            let spill = dir.path().join(format!("spill-{bytes}"));
            let budget = EqualityBudget { bytes, dir: spill.clone(), use_block_cache: false };
            let deletes = EqualityDeletes::new(&metadata, deletes.to_vec()).expect("deletes");
            let found = deletes.positions(&reader, &metadata, &data, &budget, &Arc::default()).await.expect("positions");
            assert_eq!((spill.exists(), found.len()), (is_spilled, 2));
            for (path, ids) in &expected {
                assert!(found[path].iter().map(u64::cast_signed).eq(ids.iter().copied()), "{path}");
            }
        }
    }
}
