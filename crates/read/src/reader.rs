use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Fields};
use bytes::Bytes;
use esker_format::TableMetadata;
use esker_storage::{Location, Scheme, Storage};
use futures::stream::{BoxStream, StreamExt, unfold};
use moka::future::Cache;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use roaring::RoaringTreemap;

use crate::block_cache::BlockCache;
use crate::cached_file::{CachedFile, WHOLE_FILE};
use crate::decode_errors::{caught_stream, of_panic, other_rows, rows_of};
use crate::deletes::{DeletedPositions, selection};
use crate::fetched::{FetchedRowGroups, FileSlice};
use crate::footer::Footer;
use crate::footer_view::{CachedForm, FooterView, show};
use crate::{BatchAdapter, FieldNames, ReadError, Result, field_id};

/// Bytes fetched with the first request for a footer, which most footers and their page indexes fit in.
const FOOTER_HINT: usize = 128 << 10;

/// What a scan cost. Shared by the scan's tasks.
#[derive(Debug, Default)]
pub struct ReadStats {
    /// Data and delete files opened.
    pub files_opened: AtomicU64,
    /// Bytes read from storage: footers, pages, delete files.
    pub bytes_read: AtomicU64,
    /// Bytes found in the block cache.
    pub cached_bytes: AtomicU64,
    /// Footers found in the cache.
    pub footer_hits: AtomicU64,
    /// Requests for bytes of files.
    pub requests: AtomicU64,
    /// Row groups that statistics ruled out.
    pub row_groups_pruned: AtomicU64,
}

impl ReadStats {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// Opens Parquet files through shared caches. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    storage: Storage,
    footers: Cache<String, Footer>,
    shown: Cache<Arc<FooterView>, Arc<ParquetMetaData>>,
    positions: Cache<String, Arc<DeletedPositions>>,
    keyed: Cache<String, Arc<RoaringTreemap>>,
    blocks: BlockCache,
    /// Of the table that files are of.
    names: Arc<FieldNames>,
}

impl Reader {
    /// With caches of parsed footers and of delete files of up to `cache_bytes` each. Files of a table never change, so an
    /// entry is never stale. What queries read goes through `blocks`.
    pub fn new(storage: Storage, cache_bytes: u64, blocks: BlockCache) -> Self {
        let weight = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let footers = Cache::builder()
            .weigher(move |path: &String, f: &Footer| weight(path.len() + f.metadata.metadata().memory_size()))
            .max_capacity(cache_bytes)
            .build();
        let shown = Cache::builder()
            .weigher(move |_: &Arc<FooterView>, f: &Arc<ParquetMetaData>| weight(f.memory_size()))
            .max_capacity(cache_bytes)
            .build();
        let positions = Cache::builder()
            .weigher(move |_: &String, p: &Arc<DeletedPositions>| {
                weight(p.iter().map(|(path, set)| path.len() + set.serialized_size()).sum())
            })
            .max_capacity(cache_bytes)
            .build();
        let keyed = Cache::builder()
            .weigher(move |key: &String, set: &Arc<RoaringTreemap>| weight(key.len() + set.serialized_size()))
            .max_capacity(cache_bytes)
            .build();
        Self { storage, footers, shown, positions, keyed, blocks, names: Arc::default() }
    }

    /// The reader for files of a table, which may have no field ids where the table maps names to them.
    #[must_use]
    pub fn naming(&self, metadata: &TableMetadata) -> Self {
        Self { names: Arc::new(FieldNames::of(metadata)), ..self.clone() }
    }

    /// What the names of columns stand for in files without field ids.
    pub fn names(&self) -> &Arc<FieldNames> {
        &self.names
    }

    /// The storage that files are read from.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The cache that queries' reads go through.
    pub fn blocks(&self) -> &BlockCache {
        &self.blocks
    }

    /// The bytes of a file of `size` bytes (as its manifest says, so that no request asks for it). What is read is kept.
    pub fn cached_file(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<CachedFile> {
        let mut input = self.unkept(path, size, stats)?;
        input.blocks = Some(self.blocks.clone());
        Ok(input)
    }

    /// The bytes of a file, of which nothing is kept: for jobs that read a file once.
    fn unkept(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<CachedFile> {
        let (store, object) = self.storage.object(path)?;
        let remote = Location::parse(path)?.scheme() != Scheme::File;
        let (reader, path, stats) = (self.clone(), path.into(), stats.clone());
        Ok(CachedFile {
            reader,
            store,
            object,
            path,
            size,
            remote,
            stats,
            whole: None,
            blocks: None,
            wanted: None,
            forms: Arc::default(),
        })
    }

    /// The footer of a file with its page index.
    pub async fn footer(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<Arc<ParquetMetaData>> {
        let found = self.footer_of(self.cached_file(path, size, stats)?).await.map_err(|e| lift(path, e))?;
        Ok(found.metadata.metadata().clone())
    }

    pub(crate) async fn footer_of(&self, mut input: CachedFile) -> parquet::errors::Result<Footer> {
        if let Some(found) = self.footers.get(input.path.as_ref()).await {
            ReadStats::add(&input.stats.footer_hits, 1);
            return Ok(found);
        }
        let (path, size) = (input.path.to_string(), input.size);
        let loaded = ParquetMetaDataReader::new()
            .with_prefetch_hint(Some(FOOTER_HINT))
            .with_page_index_policy(PageIndexPolicy::Optional)
            .load_and_finish(&mut input, size)
            .await?;
        let footer = Footer::new(loaded)?;
        self.footers.insert(path, footer.clone()).await;
        Ok(footer)
    }

    /// The footer of a file, if it was read.
    pub(crate) async fn cached_footer(&self, path: &str) -> Option<Footer> {
        self.footers.get(path).await
    }

    /// A footer as a scan is shown it; made once.
    pub(crate) async fn footer_view(
        &self,
        footer: &ParquetMetaData,
        shown: FooterView,
        forms: &HashMap<(usize, usize), CachedForm>,
    ) -> parquet::errors::Result<Arc<ParquetMetaData>> {
        let key = Arc::new(shown);
        if let Some(found) = self.shown.get(&key).await {
            return Ok(found);
        }
        let made = Arc::new(show(footer, &key, forms)?);
        self.shown.insert(key, made.clone()).await;
        Ok(made)
    }

    /// Opens a data file that is read once.
    pub async fn open(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<OpenFile> {
        self.open_whole(path, size, WHOLE_FILE, stats).await
    }

    /// Opens a file, and fetches all of it with one request if it is no larger than `whole` bytes.
    pub async fn open_whole(&self, path: &str, size: u64, whole: u64, stats: &Arc<ReadStats>) -> Result<OpenFile> {
        let mut input = self.unkept(path, size, stats)?;
        if size <= whole {
            // One request instead of one for the footer and one for the pages.
            input.whole = Some(input.get_bytes(0..size).await.map_err(|e| lift(path, e))?);
        }
        self.opened(input).await
    }

    /// Opens a data file whose parts are kept for the next query.
    pub async fn open_cached(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<OpenFile> {
        self.opened(self.cached_file(path, size, stats)?).await
    }

    async fn opened(&self, input: CachedFile) -> Result<OpenFile> {
        ReadStats::add(&input.stats.files_opened, 1);
        let metadata = self.footer_of(input.clone()).await.map_err(|e| lift(&input.path, e))?.metadata;
        let fields = input.identified(metadata.schema().fields())?;
        Ok(OpenFile { metadata, fields, input })
    }

    /// What equality deletes were found to delete from a file, if it was kept under that key.
    pub async fn keyed_positions(&self, key: &str) -> Option<Arc<RoaringTreemap>> {
        self.keyed.get(key).await
    }

    /// Keeps what equality deletes delete from a file. The key names the file and all of the deletes.
    pub async fn keep_keyed_positions(&self, key: String, positions: Arc<RoaringTreemap>) {
        self.keyed.insert(key, positions).await;
    }

    pub(crate) async fn positions(
        &self,
        key: String,
        read: impl Future<Output = Result<DeletedPositions>>,
    ) -> Result<Arc<DeletedPositions>> {
        if let Some(found) = self.positions.get(&key).await {
            return Ok(found);
        }
        let positions = Arc::new(read.await?);
        self.positions.insert(key, positions.clone()).await;
        Ok(positions)
    }
}

/// A storage error that travelled through the Parquet decoder comes out as itself.
pub(crate) fn lift(path: &str, error: ParquetError) -> ReadError {
    match error {
        ParquetError::External(e) => match e.downcast::<ReadError>() {
            Ok(read) => *read,
            Err(e) => ReadError::Parquet { path: path.to_owned(), source: ParquetError::External(e) },
        },
        source => ReadError::Parquet { path: path.to_owned(), source },
    }
}

type Builder = ParquetRecordBatchStreamBuilder<CachedFile>;

/// How to scan an open file.
#[derive(Debug)]
pub struct FileScan {
    /// Brings batches into the schema wanted; its columns are the projection.
    pub adapter: Arc<BatchAdapter>,
    /// Row groups to read; all if none.
    pub row_groups: Option<Vec<usize>>,
    /// Positions not to return.
    pub deleted: Option<Arc<RoaringTreemap>>,
    /// Rows in a batch, at most.
    pub batch_size: usize,
}

/// A file whose footer is read.
#[derive(Debug, Clone)]
pub struct OpenFile {
    pub(crate) metadata: ArrowReaderMetadata,
    /// The file's columns, with ids.
    fields: Fields,
    pub(crate) input: CachedFile,
}

/// What is decoded of a file.
#[derive(Debug, Clone)]
pub struct Projection {
    pub(crate) mask: ProjectionMask,
    /// The columns, with ids, in the order of the file.
    pub(crate) fields: Fields,
}

impl OpenFile {
    /// The footer.
    pub fn footer(&self) -> &Arc<ParquetMetaData> {
        self.metadata.metadata()
    }

    /// An error if the file has other rows than its manifest says: deletes by position and row ids would be about others.
    pub fn check_records(&self, records: u64) -> Result<()> {
        let rows = self.footer().file_metadata().num_rows();
        match u64::try_from(rows) == Ok(records) {
            true => Ok(()),
            false => Err(ReadError::damaged(&self.input.path, format!("it has {rows} rows, and its manifest says {records}"))),
        }
    }

    /// The file's own columns, with field ids.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The rows of some columns as the file has them.
    pub(crate) fn raw_stream(self, roots: &[usize]) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), roots.iter().copied());
        let row_groups: Vec<usize> = (0..self.footer().num_row_groups()).collect();
        let rows = rows_of(self.footer(), &row_groups);
        self.decoded(mask, row_groups, rows, |builder| builder)
    }

    /// What is decoded of some row groups, which is so many rows; errors name file and column, panics are errors.
    fn decoded(
        self,
        mask: ProjectionMask,
        row_groups: Vec<usize>,
        expected: u64,
        with: impl FnOnce(Builder) -> Builder,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.input.clone(), self.metadata.clone());
        let builder = with(builder.with_projection(mask.clone()).with_row_groups(row_groups.clone()));
        let stream = builder.build().map_err(|source| ReadError::Parquet { path: self.input.path.to_string(), source })?;
        let read = Arc::new((self, mask, row_groups));
        let next = move |(stream, rows): (Option<BoxStream<'static, _>>, u64)| {
            let read = read.clone();
            async move {
                let mut stream = stream?;
                let error = match stream.next().await {
                    Some(Ok(batch)) => {
                        let rows = rows + RecordBatch::num_rows(&batch) as u64;
                        return Some((Ok(batch), (Some(stream), rows)));
                    }
                    Some(Err(error)) => error,
                    None if rows == expected => return None,
                    None => other_rows(rows, expected),
                };
                Some((Err(read.0.blame(&read.1, &read.2, error).await), (None, rows)))
            }
        };
        Ok(unfold((Some(caught_stream(stream, of_panic)), 0), next).boxed())
    }

    /// The columns of the file that the adapter's schema wants.
    pub fn projection(&self, adapter: &BatchAdapter) -> Projection {
        let wanted: Vec<i32> = adapter.target().fields().iter().filter_map(|f| field_id(f)).collect();
        let is_wanted = |f: &FieldRef| field_id(f).is_some_and(|id| wanted.contains(&id));
        let roots: Vec<usize> = (0..self.fields.len()).filter(|i| is_wanted(&self.fields[*i])).collect();
        let fields = roots.iter().map(|i| self.fields[*i].clone()).collect();
        Projection { mask: ProjectionMask::roots(self.metadata.parquet_schema(), roots), fields }
    }

    /// The positions of the rows of each row group.
    pub fn row_ranges(&self) -> Vec<Range<u64>> {
        row_group_rows(self.footer())
    }

    /// The bytes of some neighbouring row groups, fetched with one request; they can be decoded on any thread then.
    pub async fn fetch(&self, row_groups: Range<usize>) -> Result<FetchedRowGroups> {
        let bounds = row_groups.clone().filter_map(|i| {
            let columns = self.footer().row_group(i).columns().iter().map(|c| c.byte_range());
            columns.map(|(start, len)| (start, start + len)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        });
        let (start, end) = bounds.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((0, 0));
        let mut input = self.input.clone();
        let bytes =
            if end > start { input.get_bytes(start..end).await.map_err(|e| lift(&self.input.path, e))? } else { Bytes::new() };
        Ok(FetchedRowGroups {
            path: self.input.path.to_string(),
            metadata: self.metadata.clone(),
            row_groups,
            window: FileSlice { start, bytes },
        })
    }

    /// The rows, in the file's order, in the adapter's schema.
    pub fn stream(self, scan: FileScan) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let path = self.input.path.to_string();
        let Projection { mask, fields } = self.projection(&scan.adapter);
        let ranges = row_group_rows(self.footer());
        let row_groups = scan.row_groups.unwrap_or_else(|| (0..ranges.len()).collect());
        let chosen: Vec<Range<u64>> = row_groups.iter().map(|i| ranges[*i].clone()).collect();
        let selected = scan.deleted.as_ref().map(|deleted| selection(&chosen, deleted));
        let rows = selected.as_ref().map_or_else(|| rows_of(self.footer(), &row_groups), |rows| rows.row_count() as u64);
        let stream = self.decoded(mask, row_groups, rows, |builder| {
            let builder = builder.with_batch_size(scan.batch_size);
            match selected {
                Some(rows) => builder.with_row_selection(rows),
                None => builder,
            }
        })?;
        let adapter = scan.adapter;
        let adapt =
            move |batch: Result<RecordBatch>| adapter.adapt(&batch?, &fields).map_err(|error| ReadError::arrow(&path, error));
        Ok(stream.map(adapt).boxed())
    }
}

/// The rows of each row group, as ranges of positions in the file.
pub fn row_group_rows(footer: &ParquetMetaData) -> Vec<Range<u64>> {
    let mut start = 0;
    let range = |rows: i64| {
        let range = start..start + rows.unsigned_abs();
        start = range.end;
        range
    };
    footer.row_groups().iter().map(|g| g.num_rows()).map(range).collect()
}
