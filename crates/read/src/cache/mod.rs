//! Caches parts of files: in memory, and for remote stores on local disk too.
//!
//! A part is a byte range of a file: a column chunk, a 1 MiB segment of one, or a whole small file. Files of a table never
//! change, so a part is never stale. A column chunk that is read again takes a cached form (see `footer_view.rs`): decompressed
//! as a whole ([`BlockCache::decompress`]) or with the pages that lookups want decompressed ([`BlockCache::unpack`]). One
//! background task at a time does this work. What exceeds its queue is dropped, and tried again when a scan wants it again.

mod disk;

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaData;
use tokio::sync::Semaphore;

use crate::footer_view::CachedForm;
use crate::forms::repacked::RepackedChunk;
use crate::forms::uncompressed::UncompressedChunk;
use disk::DiskCache;

/// Column chunks that may wait for decompression. More are dropped, and tried when they are wanted again.
const WAITING: usize = 64;

/// Time for which wanted pages of a chunk are gathered before they are decompressed together.
const GATHER: Duration = Duration::from_millis(10);
/// Greatest number of pages gathered for one chunk.
const GATHERED: usize = 1000;

/// Number of chunks and pages that are remembered as tried.
const TRIED: u64 = 100_000;
/// Time after which a chunk or page that was tried may be tried again.
const RETRY_AFTER: Duration = Duration::from_secs(600);

/// Divisor of the cache's capacity: one chunk in a cached form takes an eighth at most.
const SHARE: u64 = 8;

/// The limits of a block cache.
#[derive(Debug, Clone, Default)]
pub struct BlockOptions {
    /// Greatest number of bytes held in memory.
    pub memory_bytes: u64,
    /// A directory that only this cache uses, and the bytes it may hold; none caches nothing on disk.
    pub disk: Option<(PathBuf, u64)>,
}

/// Caches parts of files for every warehouse of a server. Cheap to clone; clones share the cache.
///
/// A part is a byte range of a file, usually a column chunk.
#[derive(Debug, Clone)]
pub struct BlockCache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    memory: Cache<BlockKey, Block>,
    /// Chunks and pages that were decompressed lately, including those that the cache did not admit.
    tried: Cache<BlockKey, ()>,
    /// Places in the queue of chunks that wait for decompression.
    waiting: Arc<Semaphore>,
    /// Pages that wait for decompression, by chunk.
    gathered: Mutex<HashMap<BlockKey, Pages>>,
    /// The permit of the one task that decompresses.
    decompressing: Semaphore,
    disk: Option<DiskCache>,
    counters: Counters,
}

/// Pages as byte ranges of their file, with the bytes as stored.
pub(crate) type Pages = Vec<(Range<u64>, Bytes)>;

/// An entry of the memory cache.
#[derive(Debug, Clone)]
enum Block {
    /// A part as the file stores it.
    Stored(Bytes),
    /// A column chunk in a cached form.
    Form(CachedForm),
}

impl Block {
    fn len(&self) -> usize {
        match self {
            Self::Stored(bytes) => bytes.len(),
            Self::Form(CachedForm::Uncompressed(plain)) => plain.len(),
            Self::Form(CachedForm::Repacked(relaid)) => relaid.len(),
        }
    }
}

/// The key of a part: a byte range of a file, and whether the part is in a cached form.
///
/// Parts of one file overlap only if a column chunk is cached both whole and in segments; their ends differ then.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey {
    pub(crate) file: Arc<str>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// True for the part in a cached form, false for the part as stored.
    pub(crate) is_form: bool,
}

#[derive(Debug, Default)]
struct Counters {
    memory_hits: AtomicU64,
    disk_hits: AtomicU64,
    misses: AtomicU64,
}

/// Counters and sizes of a block cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockUsage {
    /// Number of parts found in memory since the start.
    pub memory_hits: u64,
    /// Number of parts found on disk since the start.
    pub disk_hits: u64,
    /// Number of parts that had to be fetched from the store since the start.
    pub misses: u64,
    /// Bytes held in memory now.
    pub memory_bytes: u64,
    /// Bytes held on disk now, checksums included.
    pub disk_bytes: u64,
}

impl BlockCache {
    /// Opens the cache, with the parts that an earlier process left on disk.
    ///
    /// Blocks the thread while it lists the directory.
    ///
    /// # Errors
    ///
    /// Returns the I/O error if the directory can't be created or listed.
    pub fn open(options: &BlockOptions) -> std::io::Result<Self> {
        let weigher = |key: &BlockKey, block: &Block| u32::try_from(key.file.len() + block.len()).unwrap_or(u32::MAX);
        let memory = Cache::builder().weigher(weigher).max_capacity(options.memory_bytes).build();
        let tried = Cache::builder().max_capacity(TRIED).time_to_live(RETRY_AFTER).build();
        let (waiting, decompressing) = (Arc::new(Semaphore::new(WAITING)), Semaphore::new(1));
        let gathered = Mutex::new(HashMap::new());
        let disk = options.disk.as_ref().map(|(dir, bytes)| DiskCache::open(dir, *bytes)).transpose()?;
        Ok(Self {
            inner: Arc::new(Inner { memory, tried, waiting, gathered, decompressing, disk, counters: Counters::default() }),
        })
    }

    /// Returns the counters and sizes of the cache.
    pub fn usage(&self) -> BlockUsage {
        let counters = &self.inner.counters;
        BlockUsage {
            memory_hits: counters.memory_hits.load(Relaxed),
            disk_hits: counters.disk_hits.load(Relaxed),
            misses: counters.misses.load(Relaxed),
            memory_bytes: self.inner.memory.weighted_size(),
            disk_bytes: self.inner.disk.as_ref().map_or(0, DiskCache::bytes),
        }
    }

    /// Checks that a part is in memory as stored.
    pub(crate) fn has(&self, file: &Arc<str>, part: &Range<u64>) -> bool {
        self.inner.memory.contains_key(&key(file, part))
    }

    /// Returns a part as stored, from memory or from disk. A part from disk goes into memory too.
    pub(crate) async fn get(&self, file: &Arc<str>, part: &Range<u64>) -> Option<Bytes> {
        let (inner, key) = (&self.inner, key(file, part));
        if let Some(Block::Stored(bytes)) = inner.memory.get(&key).await {
            inner.counters.memory_hits.fetch_add(1, Relaxed);
            return Some(bytes);
        }
        let found = match &inner.disk {
            Some(disk) => disk.read(&key).await,
            None => None,
        };
        match &found {
            Some(bytes) => {
                inner.counters.disk_hits.fetch_add(1, Relaxed);
                inner.memory.insert(key, Block::Stored(bytes.clone())).await;
            }
            None => {
                inner.counters.misses.fetch_add(1, Relaxed);
            }
        }
        found
    }

    /// Returns a column chunk in its cached form, if it has one.
    pub(crate) async fn form(&self, file: &Arc<str>, chunk: &Range<u64>) -> Option<CachedForm> {
        let Block::Form(form) = self.inner.memory.get(&other(file, chunk)).await? else { return None };
        self.inner.counters.memory_hits.fetch_add(1, Relaxed);
        if let CachedForm::Uncompressed(_) = form {
            // The uncompressed form holds all of the chunk: the stored form is of no more use.
            self.inner.memory.invalidate(&key(file, chunk)).await;
        }
        Some(form)
    }

    /// Decompresses a column chunk in the background, to replace the chunk as stored.
    ///
    /// A full cache admits the chunk only if it is wanted more often than the entries it would evict. Otherwise the chunk stays
    /// as stored and is not tried again for ten minutes.
    pub(crate) fn decompress(
        &self,
        file: &Arc<str>,
        part: &Range<u64>,
        footer: &Arc<ParquetMetaData>,
        (group, column): (usize, usize),
        bytes: &Bytes,
    ) {
        let chunk = footer.row_group(group).column(column);
        let largest = self.inner.largest();
        let worth = chunk.compression() != Compression::UNCOMPRESSED
            && chunk.uncompressed_size() > chunk.compressed_size()
            && chunk.uncompressed_size().unsigned_abs() <= largest;
        let key = other(file, part);
        if !worth || self.inner.tried.contains_key(&key) {
            return;
        }
        let Ok(place) = self.inner.waiting.clone().try_acquire_owned() else { return };
        let (inner, footer, bytes) = (self.inner.clone(), footer.clone(), bytes.clone());
        tokio::spawn(async move {
            inner.tried.insert(key.clone(), ()).await;
            let turn = inner.decompressing.acquire().await;
            let plain =
                tokio::task::spawn_blocking(move || UncompressedChunk::of(&footer, (group, column), bytes, largest)).await;
            if let Ok(Some(plain)) = plain {
                inner.memory.insert(key, Block::Form(CachedForm::Uncompressed(Arc::new(plain)))).await;
            }
            drop((turn, place));
        });
    }

    /// Decompresses some pages of a column chunk in the background; the chunk as stored stays cached.
    ///
    /// Pages of a chunk are gathered for a moment and decompressed together, because each change of a chunk's form makes a new
    /// footer view.
    pub(crate) async fn unpack(&self, file: &Arc<str>, footer: &Arc<ParquetMetaData>, of: (usize, usize), pages: Pages) {
        let chunk = footer.row_group(of.0).column(of.1);
        if !matches!(chunk.compression(), Compression::ZSTD(_)) || footer.offset_index().is_none() {
            return;
        }
        let (start, length) = chunk.byte_range();
        let chunk = other(file, &(start..start.saturating_add(length)));
        let mut pages: Pages = pages.into_iter().filter(|(page, _)| !self.inner.tried.contains_key(&other(file, page))).collect();
        let (taken, first) = {
            let mut gathered = self.inner.gathered();
            let first = !gathered.contains_key(&chunk);
            if pages.is_empty() || first && gathered.len() >= WAITING {
                return;
            }
            let gathered = gathered.entry(chunk.clone()).or_default();
            pages.truncate(GATHERED.saturating_sub(gathered.len()));
            let taken: Vec<BlockKey> = pages.iter().map(|(page, _)| other(file, page)).collect();
            gathered.append(&mut pages);
            (taken, first)
        };
        for page in taken {
            self.inner.tried.insert(page, ()).await;
        }
        if first {
            tokio::spawn(unpack(self.inner.clone(), chunk, footer.clone(), of));
        }
    }

    /// Caches a part as stored, on disk too if the store is remote.
    ///
    /// `bytes` must own their memory alone: a slice would keep its neighbours alive beyond the cache's limit.
    pub(crate) async fn put(&self, file: &Arc<str>, part: &Range<u64>, bytes: Bytes, remote: bool) {
        let key = key(file, part);
        if let (Some(disk), true) = (&self.inner.disk, remote) {
            disk.write(key.clone(), bytes.clone());
        }
        self.inner.memory.insert(key, Block::Stored(bytes)).await;
    }
}

impl Inner {
    /// Returns the greatest number of bytes that one chunk in a cached form may take.
    fn largest(&self) -> u64 {
        self.memory.policy().max_capacity().unwrap_or(0) / SHARE
    }

    fn gathered(&self) -> MutexGuard<'_, HashMap<BlockKey, Pages>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decompresses the pages gathered for a chunk, and caches the chunk's new form.
async fn unpack(inner: Arc<Inner>, key: BlockKey, footer: Arc<ParquetMetaData>, of: (usize, usize)) {
    tokio::time::sleep(GATHER).await;
    let turn = inner.decompressing.acquire().await;
    let pages = inner.gathered().remove(&key).unwrap_or_default();
    let limit = usize::try_from(inner.largest()).unwrap_or(usize::MAX);
    let before = match inner.memory.get(&key).await {
        Some(Block::Form(CachedForm::Repacked(relaid))) => Some(relaid),
        Some(_) => return,
        None => None,
    };
    let keeping = move || {
        let before = before.map_or_else(|| RepackedChunk::of(&footer, of).map(Arc::new), Some)?;
        before.with_decompressed_pages(footer.row_group(of.0).column(of.1), &pages, limit)
    };
    if let Ok(Some(relaid)) = tokio::task::spawn_blocking(keeping).await {
        inner.memory.insert(key, Block::Form(CachedForm::Repacked(Arc::new(relaid)))).await;
    }
    drop(turn);
}

/// Returns the key of a part as stored.
fn key(file: &Arc<str>, part: &Range<u64>) -> BlockKey {
    BlockKey { file: file.clone(), start: part.start, end: part.end, is_form: false }
}

/// Returns the key of a part in a cached form.
fn other(file: &Arc<str>, part: &Range<u64>) -> BlockKey {
    BlockKey { is_form: true, ..key(file, part) }
}
