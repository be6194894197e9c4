//! Opens Parquet files through shared caches.
//!
//! A [`Reader`] lives as long as the server and owns the caches. [`Reader::open`] gives an [`OpenFile`] (`open_file.rs`): a
//! parsed footer and the file's bytes. Data files never change, so no cache entry is ever stale.

use std::collections::HashSet;
use std::sync::Arc;

use esker_format::TableMetadata;
use esker_storage::{ClosedFiles, Location, Scheme, Storage};
use esker_types::catch_panic;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use roaring::RoaringTreemap;

use crate::cache::BlockCache;
use crate::cached_file::CachedFile;
use crate::delete_cache::DeleteCache;
use crate::fetch_plan::WHOLE_FILE;
use crate::file_slice::FileSlice;
use crate::footer_cache::FooterCache;
use crate::open_file::OpenFile;
use crate::{FieldNames, ReadError, ReadStats, Result};

/// Opens Parquet files through shared caches. Cheap to clone; clones share the caches.
///
/// ```
/// # use std::collections::HashMap;
/// # use arrow::array::{Int64Array, RecordBatch};
/// # use arrow::datatypes::{DataType, Field, Schema};
/// # use parquet::arrow::ArrowWriter;
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
///
/// use esker_read::{BlockCache, BlockOptions, ReadStats, Reader};
/// use esker_storage::{Location, Storage};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("a.parquet");
/// # let field_id = HashMap::from([("PARQUET:field_id".to_owned(), "1".to_owned())]);
/// # let schema = Schema::new(vec![Field::new("id", DataType::Int64, false).with_metadata(field_id)]);
/// # let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(vec![1, 2, 3]))])?;
/// # let mut writer = ArrowWriter::try_new(std::fs::File::create(&path)?, batch.schema(), None)?;
/// # writer.write(&batch)?;
/// # writer.close()?;
/// # let size = std::fs::metadata(&path)?.len();
/// # let file = Location::from_path(&path)?.to_string();
/// let blocks = BlockCache::open(&BlockOptions { memory_bytes: 64 << 20, disk: None }).await?;
/// let reader = Reader::new(Storage::local(), 16 << 20, blocks);
///
/// // The path and the size of a file are those of its manifest entry.
/// let open = reader.open(&file, size, &Arc::new(ReadStats::default())).await?;
/// assert_eq!(open.footer().file_metadata().num_rows(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Reader {
    storage: Storage,
    footers: FooterCache,
    pub(crate) deletes: DeleteCache,
    blocks: BlockCache,
    /// The name mapping of the table whose files are read.
    names: Arc<FieldNames>,
    /// The files that are not opened, for a reader that may not open all.
    closed: Option<Arc<dyn ClosedFiles>>,
}

impl Reader {
    /// Creates a reader with empty caches.
    ///
    /// The caches of footers, footer views and delete files take up to `cache_bytes` each. Cached reads of data go through
    /// `blocks`. Entries never go stale, because files of a table never change.
    pub fn new(storage: Storage, cache_bytes: u64, blocks: BlockCache) -> Self {
        let (footers, deletes) = (FooterCache::new(cache_bytes), DeleteCache::new(cache_bytes));
        Self { storage, footers, deletes, blocks, names: Arc::default(), closed: None }
    }

    /// Returns a reader for files of one table, with that table's name mapping.
    ///
    /// Files without field ids can be read only through a name mapping. Spec: "Column Projection".
    #[must_use]
    pub fn with_name_mapping(&self, metadata: &TableMetadata) -> Self {
        Self { names: Arc::new(FieldNames::of(metadata)), ..self.clone() }
    }

    /// Returns a reader that does not open some files: those of other tables, for whoever may not read their rows.
    #[must_use]
    pub fn with_closed(&self, closed: Arc<dyn ClosedFiles>) -> Self {
        Self { closed: Some(closed), ..self.clone() }
    }

    /// Returns those of some files, given by their paths, that are closed to this reader.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Places`] if that can't be looked up.
    pub async fn closed_among<'a>(&'a self, paths: &'a [&'a str]) -> Result<HashSet<&'a str>> {
        match &self.closed {
            Some(closed) => closed.closed_among(paths).await.map_err(ReadError::Places),
            None => Ok(HashSet::new()),
        }
    }

    /// Checks that a file is not closed to this reader.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Closed`] if it is, and [`ReadError::Places`] if that can't be looked up.
    pub async fn check_open(&self, path: &str) -> Result<()> {
        match self.closed_among(&[path]).await?.is_empty() {
            true => Ok(()),
            false => Err(ReadError::Closed { path: path.to_owned() }),
        }
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
    /// yet. Closed files are not looked up here: [`check_open`](Self::check_open) does that.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Storage`] if the path is no location that the storage can hold, or if its store can't be opened.
    pub fn cached_file(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<CachedFile> {
        Ok(CachedFile { blocks: Some(self.blocks.clone()), ..self.uncached_file(path, size, stats)? })
    }

    /// Returns the bytes of a file without caching what is read, for jobs that read a file once.
    fn uncached_file(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<CachedFile> {
        let (store, object) = self.storage.object(path)?;
        let remote = Location::parse(path)?.scheme() != Scheme::File;
        Ok(CachedFile {
            footers: self.footers.clone(),
            names: self.names.clone(),
            store,
            object,
            path: path.into(),
            size,
            remote,
            stats: stats.clone(),
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
    /// Returns the errors of [`check_open`](Self::check_open) and [`cached_file`](Self::cached_file), [`ReadError::Storage`] if the
    /// footer can't be fetched, and [`ReadError::Parquet`] if it can't be parsed.
    pub async fn footer(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<Arc<ParquetMetaData>> {
        self.check_open(path).await?;
        let found = self.cached_file(path, size, stats)?.footer().await.map_err(|e| ReadError::parquet(path, e))?;
        Ok(found.metadata.metadata().clone())
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
    /// Returns the errors of [`footer`](Self::footer), and [`ReadError::Unsupported`] if the file has no field ids and the table
    /// has no usable name mapping.
    pub async fn open_whole(&self, path: &str, size: u64, whole: u64, stats: &Arc<ReadStats>) -> Result<OpenFile> {
        self.check_open(path).await?;
        let mut file = self.uncached_file(path, size, stats)?;
        if size <= whole {
            // One request replaces two: one for the footer and one for the pages.
            let bytes = file.get_bytes(0..size).await.map_err(|e| ReadError::parquet(path, e))?;
            file.whole = Some(FileSlice { start: 0, bytes });
        }
        OpenFile::open(file).await
    }

    /// Opens a file through the block cache, which keeps the bytes read for later queries.
    ///
    /// `size` is the file's length in bytes.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open_whole`](Self::open_whole).
    pub async fn open_cached(&self, path: &str, size: u64, stats: &Arc<ReadStats>) -> Result<OpenFile> {
        self.check_open(path).await?;
        OpenFile::open(self.cached_file(path, size, stats)?).await
    }

    /// Returns the positions that equality deletes delete from a file, if they are cached under `key`.
    ///
    /// See [`cache_equality_positions`](Self::cache_equality_positions).
    pub async fn cached_equality_positions(&self, key: &str) -> Option<Arc<RoaringTreemap>> {
        self.deletes.equality_positions(key).await
    }

    /// Caches the positions that equality deletes delete from a data file.
    ///
    /// The key must name the data file and every equality delete that applies to it. [`digest`](crate::digest) makes such keys.
    pub async fn cache_equality_positions(&self, key: String, positions: Arc<RoaringTreemap>) {
        self.deletes.insert_equality_positions(key, positions).await;
    }

    /// Adds the file and the column to a decoder's error on a file of `size` bytes.
    ///
    /// Reads the file's columns again, one after the other.
    pub async fn blame(&self, path: &str, size: u64, error: ParquetError) -> ReadError {
        match catch_panic(self.open(path, size, &Arc::new(ReadStats::default()))).await {
            Ok(Ok(open)) => {
                let row_groups: Vec<usize> = (0..open.footer().num_row_groups()).collect();
                open.blame(&ProjectionMask::all(), &row_groups, error).await
            }
            Ok(Err(other)) => other,
            Err(panic) => ReadError::damaged(path, format!("its footer can't be read: {panic}")),
        }
    }
}
