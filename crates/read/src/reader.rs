use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use esker_storage::{Storage, StorageError};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use futures::{FutureExt, TryFutureExt};
use moka::future::Cache;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use roaring::RoaringTreemap;

use crate::adapt::field_id;
use crate::deletes::{Positions, selection};
use crate::fetched::{Fetched, Window};
use crate::{Adapter, ReadError, Result};

/// Bytes fetched with the first request for a footer, which most footers fit in.
const FOOTER_HINT: usize = 64 << 10;

/// Files of up to so many bytes are fetched with one request.
const WHOLE_FILE: u64 = 256 << 10;

/// What a scan cost. Shared by the scan's tasks.
#[derive(Debug, Default)]
pub struct ReadStats {
    /// Data and delete files opened.
    pub files_opened: AtomicU64,
    /// Bytes read from storage: footers, pages, delete files.
    pub bytes_read: AtomicU64,
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
    footers: Cache<String, ArrowReaderMetadata>,
    positions: Cache<String, Arc<Positions>>,
}

impl Reader {
    /// With caches of parsed footers and delete files of up to `cache_bytes` each. Files of a table never change, so an
    /// entry is never stale.
    pub fn new(storage: Storage, cache_bytes: u64) -> Self {
        let weight = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let footers = Cache::builder()
            .weigher(move |path: &String, m: &ArrowReaderMetadata| weight(path.len() + m.metadata().memory_size()))
            .max_capacity(cache_bytes)
            .build();
        let positions = Cache::builder()
            .weigher(move |_: &String, p: &Arc<Positions>| {
                weight(p.iter().map(|(path, set)| path.len() + set.serialized_size()).sum())
            })
            .max_capacity(cache_bytes)
            .build();
        Self { storage, footers, positions }
    }

    /// The storage that files are read from.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Opens a data file of `size` bytes (as its manifest says, so that no request asks for it).
    pub async fn open(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<OpenFile> {
        self.open_whole(path, size, WHOLE_FILE, stats).await
    }

    /// The same, fetching the whole file with one request if it is no larger than `whole` bytes.
    pub async fn open_whole(&self, path: &str, size: u64, whole: u64, stats: &Arc<ReadStats>) -> Result<OpenFile> {
        ReadStats::add(&stats.files_opened, 1);
        let (store, object) = self.storage.object(path)?;
        let mut input = Input { store, object, path: path.to_owned(), size, stats: stats.clone(), whole: None };
        if size <= whole {
            // One request instead of one for the footer and one for the pages.
            input.whole = Some(input.get_bytes(0..size).await.map_err(|e| lift(path, e))?);
        }
        let metadata = match self.footers.get(path).await {
            Some(metadata) => {
                ReadStats::add(&stats.footer_hits, 1);
                metadata
            }
            None => {
                // The embedded Arrow schema is one writer's view; the Parquet types and field ids are the table's.
                let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
                let mut input = input.clone();
                let footer = ArrowReaderMetadata::load_async(&mut input, options).await;
                let metadata = footer.map_err(|e| lift(path, e))?;
                self.footers.insert(path.to_owned(), metadata.clone()).await;
                metadata
            }
        };
        Ok(OpenFile { metadata, input })
    }

    pub(crate) async fn positions(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<Arc<Positions>> {
        if let Some(found) = self.positions.get(path).await {
            return Ok(found);
        }
        let positions = Arc::new(self.read_positions(path, size, stats).await?);
        self.positions.insert(path.to_owned(), positions.clone()).await;
        Ok(positions)
    }
}

/// A storage error that travelled through the Parquet decoder comes out as itself.
pub(crate) fn lift(path: &str, error: ParquetError) -> ReadError {
    match error {
        ParquetError::External(e) => match e.downcast::<StorageError>() {
            Ok(storage) => ReadError::Storage(*storage),
            Err(e) => ReadError::Parquet { path: path.to_owned(), source: ParquetError::External(e) },
        },
        source => ReadError::Parquet { path: path.to_owned(), source },
    }
}

/// How to scan an open file.
#[derive(Debug)]
pub struct FileScan {
    /// Brings batches into the schema wanted; its columns are the projection.
    pub adapter: Arc<Adapter>,
    /// Row groups to read; all if none.
    pub row_groups: Option<Vec<usize>>,
    /// Positions not to return.
    pub deleted: Option<Arc<RoaringTreemap>>,
    /// Rows in a batch, at most.
    pub batch_size: usize,
}

/// A file whose footer is read.
#[derive(Debug)]
pub struct OpenFile {
    metadata: ArrowReaderMetadata,
    input: Input,
}

impl OpenFile {
    /// The footer.
    pub fn footer(&self) -> &Arc<ParquetMetaData> {
        self.metadata.metadata()
    }

    /// The file's own Arrow schema, with field ids.
    pub fn file_schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// The footer with Parquet and Arrow schema, as statistics converters want it.
    pub fn reader_metadata(&self) -> &ArrowReaderMetadata {
        &self.metadata
    }

    pub(crate) fn raw_stream(self, roots: &[usize]) -> Result<ParquetRecordBatchStream<Input>> {
        let path = self.input.path.clone();
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), roots.iter().copied());
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.input, self.metadata);
        builder.with_projection(mask).build().map_err(|source| ReadError::Parquet { path, source })
    }

    /// The columns of the file that the adapter's schema wants.
    pub fn projection(&self, adapter: &Adapter) -> Result<ProjectionMask> {
        let fields = self.metadata.schema().fields();
        if !fields.is_empty() && fields.iter().all(|f| field_id(f).is_none()) {
            return Err(ReadError::unsupported(&self.input.path, "a Parquet file without field ids can't be read yet"));
        }
        let wanted: Vec<i32> = adapter.target().fields().iter().filter_map(|f| field_id(f)).collect();
        let roots = fields.iter().enumerate().filter(|(_, f)| field_id(f).is_some_and(|id| wanted.contains(&id)));
        Ok(ProjectionMask::roots(self.metadata.parquet_schema(), roots.map(|(i, _)| i)))
    }

    /// The footer with the page index, where the file has one.
    pub async fn page_index(&self) -> Result<Arc<ParquetMetaData>> {
        let footer = self.footer().as_ref().clone();
        let mut reader = ParquetMetaDataReader::new_with_metadata(footer).with_page_index_policy(PageIndexPolicy::Optional);
        let mut input = self.input.clone();
        reader.load_page_index(&mut input).await.map_err(|e| lift(&self.input.path, e))?;
        let loaded = reader.finish().map_err(|e| lift(&self.input.path, e))?;
        Ok(Arc::new(loaded))
    }

    /// The positions of the rows of each row group.
    pub fn row_ranges(&self) -> Vec<Range<u64>> {
        row_group_rows(self.footer())
    }

    /// The bytes of some neighbouring row groups, fetched with one request; they can be decoded on any thread then.
    pub async fn fetch(&self, row_groups: Range<usize>) -> Result<Fetched> {
        let bounds = row_groups.clone().filter_map(|i| {
            let columns = self.footer().row_group(i).columns().iter().map(|c| c.byte_range());
            columns.map(|(start, len)| (start, start + len)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        });
        let (start, end) = bounds.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((0, 0));
        let mut input = self.input.clone();
        let bytes =
            if end > start { input.get_bytes(start..end).await.map_err(|e| lift(&self.input.path, e))? } else { Bytes::new() };
        Ok(Fetched {
            path: self.input.path.clone(),
            metadata: self.metadata.clone(),
            row_groups,
            window: Window { start, bytes },
        })
    }

    /// The rows, in the file's order, in the adapter's schema.
    pub fn stream(self, scan: FileScan) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let path = self.input.path.clone();
        let mask = self.projection(&scan.adapter)?;

        let footer = self.metadata.metadata().clone();
        let row_groups = scan.row_groups.unwrap_or_else(|| (0..footer.num_row_groups()).collect());
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.input, self.metadata)
            .with_projection(mask)
            .with_batch_size(scan.batch_size);
        if let Some(deleted) = &scan.deleted {
            let ranges = row_group_rows(&footer);
            let chosen: Vec<Range<u64>> = row_groups.iter().map(|i| ranges[*i].clone()).collect();
            builder = builder.with_row_selection(selection(&chosen, deleted));
        }
        let stream =
            builder.with_row_groups(row_groups).build().map_err(|source| ReadError::Parquet { path: path.clone(), source })?;
        let adapter = scan.adapter;
        let adapt = move |batch: std::result::Result<RecordBatch, ParquetError>| {
            let batch = batch.map_err(|e| lift(&path, e))?;
            adapter.adapt(&batch).map_err(|source| ReadError::Arrow { path: path.clone(), source })
        };
        Ok(stream.map(adapt).boxed())
    }
}

/// The rows of each row group, as ranges of positions in the file.
pub(crate) fn row_group_rows(footer: &ParquetMetaData) -> Vec<Range<u64>> {
    let mut start = 0;
    let range = |rows: i64| {
        let range = start..start + rows.unsigned_abs();
        start = range.end;
        range
    };
    footer.row_groups().iter().map(|g| g.num_rows()).map(range).collect()
}

/// The bytes of one file, counted.
#[derive(Clone)]
pub(crate) struct Input {
    store: Arc<dyn ObjectStore>,
    object: Path,
    path: String,
    size: u64,
    stats: Arc<ReadStats>,
    /// The whole file, where it is small.
    whole: Option<Bytes>,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("path", &self.path).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Input {
    fn failed(&self, error: object_store::Error) -> ParquetError {
        let error = match error {
            object_store::Error::NotFound { .. } => StorageError::NotFound { uri: self.path.clone() },
            source => StorageError::Io { uri: self.path.clone(), source },
        };
        ParquetError::External(Box::new(error))
    }
}

/// Part of a file in memory. A footer may claim any range.
fn slice(whole: &Bytes, range: Range<u64>) -> parquet::errors::Result<Bytes> {
    let at = |n: u64| usize::try_from(n).ok().filter(|n| *n <= whole.len());
    match (at(range.start), at(range.end)) {
        (Some(start), Some(end)) if start <= end => Ok(whole.slice(start..end)),
        _ => Err(ParquetError::EOF(format!("bytes {range:?} of a file of {}", whole.len()))),
    }
}

impl AsyncFileReader for Input {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        if let Some(whole) = &self.whole {
            return futures::future::ready(slice(whole, range)).boxed();
        }
        ReadStats::add(&self.stats.requests, 1);
        ReadStats::add(&self.stats.bytes_read, range.end - range.start);
        let this = self.clone();
        async move { this.store.get_range(&this.object, range).await.map_err(|e| this.failed(e)) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        if let Some(whole) = &self.whole {
            let slices = ranges.into_iter().map(|range| slice(whole, range)).collect();
            return futures::future::ready(slices).boxed();
        }
        ReadStats::add(&self.stats.requests, 1);
        ReadStats::add(&self.stats.bytes_read, ranges.iter().map(|r| r.end - r.start).sum());
        let this = self.clone();
        async move { this.store.get_ranges(&this.object, &ranges).await.map_err(|e| this.failed(e)) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        let size = self.size;
        let metadata_options = options.map(|o| o.metadata_options().clone());
        ParquetMetaDataReader::new()
            .with_prefetch_hint(Some(FOOTER_HINT))
            .with_metadata_options(metadata_options)
            .load_and_finish(self, size)
            .map_ok(Arc::new)
            .boxed()
    }
}
