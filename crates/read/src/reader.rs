//! Opens Parquet files through shared caches and streams their rows.
//!
//! A [`Reader`] lives as long as the server and owns the caches. [`Reader::open`] gives an [`OpenFile`]: a parsed footer and the
//! file's bytes. [`OpenFile::stream`] yields rows and fetches while it decodes. [`OpenFile::fetch`] fetches row groups to be
//! decoded later, for rewrites. Data files never change, so no cache entry is ever stale.

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

use crate::cache::BlockCache;
use crate::cached_file::{CachedFile, WHOLE_FILE};
use crate::decode_errors::{catch_panics, panic_as_parquet_error, row_count, row_count_mismatch};
use crate::deletes::{DeletedPositions, selection};
use crate::footer::Footer;
use crate::footer_view::{CachedForm, FooterView, build_footer_view};
use crate::row_group_decoder::{FetchedRowGroups, FileSlice};
use crate::{BatchAdapter, FieldNames, ReadError, Result, field_id};

/// Bytes fetched with the first request for a footer; most footers and their page indexes fit.
const FOOTER_HINT: usize = 128 << 10;

/// Counters of the cost of reads, shared by all tasks of a scan.
#[derive(Debug, Default)]
pub struct ReadStats {
    /// Number of data and delete files opened.
    pub files_opened: AtomicU64,
    /// Bytes fetched from storage: footers, pages and delete files.
    pub bytes_read: AtomicU64,
    /// Bytes found in the block cache, in memory or on disk.
    pub cached_bytes: AtomicU64,
    /// Number of footers found in the footer cache.
    pub footer_hits: AtomicU64,
    /// Number of requests to the storage for bytes of files.
    pub requests: AtomicU64,
    /// Number of row groups that statistics ruled out.
    pub row_groups_pruned: AtomicU64,
}

impl ReadStats {
    /// Adds `n` to a counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// Opens Parquet files through shared caches. Cheap to clone; clones share the caches.
#[derive(Debug, Clone)]
pub struct Reader {
    storage: Storage,
    /// Parsed footers by the location of the file.
    footers: Cache<String, Footer>,
    /// Footer views, by all that a view depends on.
    footer_views: Cache<Arc<FooterView>, Arc<ParquetMetaData>>,
    /// Positions in position delete files and deletion vectors, by location (and offset of the vector).
    positions: Cache<String, Arc<DeletedPositions>>,
    /// Positions that equality deletes delete from a data file, by the caller's key.
    equality_positions: Cache<String, Arc<RoaringTreemap>>,
    blocks: BlockCache,
    /// The name mapping of the table whose files are read.
    names: Arc<FieldNames>,
}

impl Reader {
    /// Creates a reader with empty caches.
    ///
    /// The caches of footers, footer views and delete files take up to `cache_bytes` each. Cached reads of data go through
    /// `blocks`. Entries never go stale, because files of a table never change.
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
        Self { storage, footers, footer_views: shown, positions, equality_positions: keyed, blocks, names: Arc::default() }
    }

    /// Returns a reader for files of one table, with that table's name mapping.
    ///
    /// Files without field ids can be read only through a name mapping. Spec: "Column Projection".
    #[must_use]
    pub fn with_name_mapping(&self, metadata: &TableMetadata) -> Self {
        Self { names: Arc::new(FieldNames::of(metadata)), ..self.clone() }
    }

    /// Returns the name mapping, which gives ids to the columns of files without field ids.
    pub fn names(&self) -> &Arc<FieldNames> {
        &self.names
    }

    /// Returns the storage that files are read from.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Returns the block cache that cached reads go through.
    pub fn blocks(&self) -> &BlockCache {
        &self.blocks
    }

    /// Returns the bytes of a file, read through the block cache.
    ///
    /// `size` is the file's length in bytes from its manifest entry, so that no request has to ask for it. Nothing is fetched
    /// yet.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Storage`] if the path is no location that the storage can hold.
    pub fn cached_file(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<CachedFile> {
        let mut input = self.uncached_file(path, size, stats)?;
        input.blocks = Some(self.blocks.clone());
        Ok(input)
    }

    /// Returns the bytes of a file without caching what is read, for jobs that read a file once.
    fn uncached_file(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<CachedFile> {
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
            request: None,
            forms: Arc::default(),
        })
    }

    /// Returns a file's footer with its page index, from the cache if it is there.
    ///
    /// `size` is the file's length in bytes.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Storage`] if the footer can't be fetched, and [`ReadError::Parquet`] if it can't be parsed.
    pub async fn footer(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<Arc<ParquetMetaData>> {
        let found = self.footer_of(self.cached_file(path, size, stats)?).await.map_err(|e| unwrap_parquet_error(path, e))?;
        Ok(found.metadata.metadata().clone())
    }

    /// Returns the footer of an input, parsed and stripped of statistics that can't be trusted.
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

    /// Returns a file's footer if it is in the cache.
    pub(crate) async fn cached_footer(&self, path: &str) -> Option<Footer> {
        self.footers.get(path).await
    }

    /// Returns the footer view of a scan. Builds it only if the cache has no equal one.
    pub(crate) async fn footer_view(
        &self,
        footer: &ParquetMetaData,
        shown: FooterView,
        forms: &HashMap<(usize, usize), CachedForm>,
    ) -> parquet::errors::Result<Arc<ParquetMetaData>> {
        let key = Arc::new(shown);
        if let Some(found) = self.footer_views.get(&key).await {
            return Ok(found);
        }
        let made = Arc::new(build_footer_view(footer, &key, forms)?);
        self.footer_views.insert(key, made.clone()).await;
        Ok(made)
    }

    /// Opens a file that is read once: no bytes of it go into the block cache.
    ///
    /// A file of at most 256 KiB is fetched with one request. `size` is the file's length in bytes.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open_whole`](Self::open_whole).
    pub async fn open(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<OpenFile> {
        self.open_whole(path, size, WHOLE_FILE, stats).await
    }

    /// Opens a file, and fetches all of it with one request if it has at most `whole` bytes.
    ///
    /// No bytes of the file go into the block cache. `size` is the file's length in bytes.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Storage`] if bytes can't be fetched and [`ReadError::Parquet`] if the footer can't be parsed. Returns
    /// [`ReadError::Unsupported`] if the file has no field ids and the table no usable name mapping.
    pub async fn open_whole(&self, path: &str, size: u64, whole: u64, stats: &Arc<ReadStats>) -> Result<OpenFile> {
        let mut input = self.uncached_file(path, size, stats)?;
        if size <= whole {
            // One request replaces two: one for the footer and one for the pages.
            input.whole = Some(input.get_bytes(0..size).await.map_err(|e| unwrap_parquet_error(path, e))?);
        }
        self.opened(input).await
    }

    /// Opens a file through the block cache, which keeps the bytes read for later queries.
    ///
    /// `size` is the file's length in bytes.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open_whole`](Self::open_whole).
    pub async fn open_cached(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<OpenFile> {
        self.opened(self.cached_file(path, size, stats)?).await
    }

    async fn opened(&self, input: CachedFile) -> Result<OpenFile> {
        ReadStats::add(&input.stats.files_opened, 1);
        let metadata = self.footer_of(input.clone()).await.map_err(|e| unwrap_parquet_error(&input.path, e))?.metadata;
        let fields = input.identified(metadata.schema().fields())?;
        Ok(OpenFile { metadata, fields, file: input })
    }

    /// Returns the positions that equality deletes delete from a file, if they are cached under `key`.
    ///
    /// See [`keep_keyed_positions`](Self::cache_equality_positions).
    pub async fn cached_equality_positions(&self, key: &str) -> Option<Arc<RoaringTreemap>> {
        self.equality_positions.get(key).await
    }

    /// Caches the positions that equality deletes delete from a data file.
    ///
    /// The key must name the data file and every equality delete that applies to it. [`digest`](crate::digest) makes such keys.
    pub async fn cache_equality_positions(&self, key: String, positions: Arc<RoaringTreemap>) {
        self.equality_positions.insert(key, positions).await;
    }

    /// Returns the positions cached under `key`, or those that `read` yields, and caches them.
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

/// Unwraps a [`ReadError`] from the Parquet error that carried it through the decoder.
///
/// Any other error becomes [`ReadError::Parquet`].
pub(crate) fn unwrap_parquet_error(path: &str, error: ParquetError) -> ReadError {
    match error {
        ParquetError::External(e) => match e.downcast::<ReadError>() {
            Ok(read) => *read,
            Err(e) => ReadError::Parquet { path: path.to_owned(), source: ParquetError::External(e) },
        },
        source => ReadError::Parquet { path: path.to_owned(), source },
    }
}

type Builder = ParquetRecordBatchStreamBuilder<CachedFile>;

/// The selection of rows and columns for a scan of one open file.
#[derive(Debug)]
pub struct FileScan {
    /// Converts batches to the target schema, whose columns are also the projection.
    pub adapter: Arc<BatchAdapter>,
    /// Indexes of the row groups to read, in order; none reads all.
    pub row_groups: Option<Vec<usize>>,
    /// Positions of rows in the file that the scan skips.
    pub deleted: Option<Arc<RoaringTreemap>>,
    /// Greatest number of rows in a batch.
    pub batch_size: usize,
}

/// A file whose footer was read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OpenFile {
    pub(crate) metadata: ArrowReaderMetadata,
    /// The file's columns with field ids, from the file itself or from the name mapping.
    fields: Fields,
    pub(crate) file: CachedFile,
}

/// The columns of one file that a scan decodes.
#[derive(Debug, Clone)]
pub struct Projection {
    pub(crate) mask: ProjectionMask,
    /// The projected columns with field ids, in the file's order.
    pub(crate) fields: Fields,
}

impl OpenFile {
    /// Returns the footer.
    pub fn footer(&self) -> &Arc<ParquetMetaData> {
        self.metadata.metadata()
    }

    /// Checks that the file has as many rows as its manifest entry counts.
    ///
    /// Otherwise position deletes and row ids would refer to other rows.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Damaged`] if the two numbers differ.
    pub fn check_records(&self, records: u64) -> Result<()> {
        let rows = self.footer().file_metadata().num_rows();
        match u64::try_from(rows) == Ok(records) {
            true => Ok(()),
            false => Err(ReadError::damaged(&self.file.path, format!("it has {rows} rows, and its manifest says {records}"))),
        }
    }

    /// Returns the file's top-level columns, with field ids, in the file's order.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Streams some top-level columns, by index, without converting them to a table's schema.
    pub(crate) fn raw_stream(self, roots: &[usize]) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), roots.iter().copied());
        let row_groups: Vec<usize> = (0..self.footer().num_row_groups()).collect();
        let rows = row_count(self.footer(), &row_groups);
        self.decoded(mask, row_groups, rows, |builder| builder)
    }

    /// Streams the decoded batches of some row groups, which must yield `expected` rows in total.
    ///
    /// An error names the file and the column. A panic of the decoder, or another number of rows, is an error.
    fn decoded(
        self,
        mask: ProjectionMask,
        row_groups: Vec<usize>,
        expected: u64,
        with: impl FnOnce(Builder) -> Builder,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.file.clone(), self.metadata.clone());
        let builder = with(builder.with_projection(mask.clone()).with_row_groups(row_groups.clone()));
        let stream = builder.build().map_err(|source| ReadError::Parquet { path: self.file.path.to_string(), source })?;
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
                    None => row_count_mismatch(rows, expected),
                };
                Some((Err(read.0.blame(&read.1, &read.2, error).await), (None, rows)))
            }
        };
        Ok(unfold((Some(catch_panics(stream, panic_as_parquet_error)), 0), next).boxed())
    }

    /// Returns the projection onto those columns of the file that the adapter's target has, by field id.
    pub fn projection(&self, adapter: &BatchAdapter) -> Projection {
        let wanted: Vec<i32> = adapter.target().fields().iter().filter_map(|f| field_id(f)).collect();
        let is_wanted = |f: &FieldRef| field_id(f).is_some_and(|id| wanted.contains(&id));
        let roots: Vec<usize> = (0..self.fields.len()).filter(|i| is_wanted(&self.fields[*i])).collect();
        let fields = roots.iter().map(|i| self.fields[*i].clone()).collect();
        Projection { mask: ProjectionMask::roots(self.metadata.parquet_schema(), roots), fields }
    }

    /// Returns the positions of the rows of each row group, in the file's order.
    pub fn row_ranges(&self) -> Vec<Range<u64>> {
        row_group_rows(self.footer())
    }

    /// Fetches neighbouring row groups with one request.
    ///
    /// The request covers all columns. The result can be decoded on any thread, without an async runtime.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Storage`] if the bytes can't be fetched, and [`ReadError::Parquet`] if the footer claims bytes beyond
    /// the file's end.
    pub async fn fetch(&self, row_groups: Range<usize>) -> Result<FetchedRowGroups> {
        let bounds = row_groups.clone().filter_map(|i| {
            let columns = self.footer().row_group(i).columns().iter().map(|c| c.byte_range());
            columns.map(|(start, len)| (start, start + len)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        });
        let (start, end) = bounds.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((0, 0));
        let mut input = self.file.clone();
        let bytes = if end > start {
            input.get_bytes(start..end).await.map_err(|e| unwrap_parquet_error(&self.file.path, e))?
        } else {
            Bytes::new()
        };
        Ok(FetchedRowGroups {
            path: self.file.path.to_string(),
            metadata: self.metadata.clone(),
            row_groups,
            window: FileSlice { start, bytes },
        })
    }

    /// Streams the selected rows in the file's order, converted to the adapter's target schema.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Parquet`] if the decoder refuses the selection. Items of the stream are [`ReadError::Storage`],
    /// [`ReadError::Decoding`], [`ReadError::Panicked`] or [`ReadError::Arrow`] errors; the stream ends after the first that the
    /// decoder reports.
    pub fn stream(self, scan: FileScan) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let path = self.file.path.to_string();
        let Projection { mask, fields } = self.projection(&scan.adapter);
        let ranges = row_group_rows(self.footer());
        let row_groups = scan.row_groups.unwrap_or_else(|| (0..ranges.len()).collect());
        let chosen: Vec<Range<u64>> = row_groups.iter().map(|i| ranges[*i].clone()).collect();
        let selected = scan.deleted.as_ref().map(|deleted| selection(&chosen, deleted));
        let rows = selected.as_ref().map_or_else(|| row_count(self.footer(), &row_groups), |rows| rows.row_count() as u64);
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

/// Returns the rows of each row group as a range of positions in the file, in the file's order.
pub fn row_group_rows(footer: &ParquetMetaData) -> Vec<Range<u64>> {
    let mut start = 0;
    let range = |rows: i64| {
        let range = start..start + rows.unsigned_abs();
        start = range.end;
        range
    };
    footer.row_groups().iter().map(|g| g.num_rows()).map(range).collect()
}
