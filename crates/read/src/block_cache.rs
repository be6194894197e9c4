//! Parts of files that were read once: in memory, and for remote stores on local disk too. Files of a table never change, so a part is
//! never stale.

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

use crate::disk_cache::DiskCache;
use crate::footer_view::CachedForm;
use crate::repacked::RepackedChunk;
use crate::uncompressed::UncompressedChunk;

/// Chunks that wait to be decompressed, one after the other: others are tried when they are wanted again.
const WAITING: usize = 64;

/// How long pages of a chunk are gathered, and how many at most.
const GATHER: Duration = Duration::from_millis(10);
const GATHERED: usize = 1000;

/// Chunks and pages that are remembered as tried, and for how long.
const TRIED: u64 = 100_000;
const AGAIN: Duration = Duration::from_secs(600);

/// The part of the cache that one chunk without compression may take: one in so many.
const SHARE: u64 = 8;

/// What a block cache may take.
#[derive(Debug, Clone, Default)]
pub struct BlockOptions {
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// A directory of the cache's own and the bytes it may hold; none keeps nothing on disk.
    pub disk: Option<(PathBuf, u64)>,
}

/// Keeps parts of files, for every warehouse of a server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BlockCache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    memory: Cache<BlockKey, Block>,
    /// Chunks and pages that were decompressed lately, whether the cache took them or not.
    tried: Cache<BlockKey, ()>,
    waiting: Arc<Semaphore>,
    /// Pages that wait to be decompressed, by chunk.
    gathered: Mutex<HashMap<BlockKey, Pages>>,
    decompressing: Semaphore,
    disk: Option<DiskCache>,
    counters: Counters,
}

/// Where pages are in their file, and their bytes.
pub(crate) type Pages = Vec<(Range<u64>, Bytes)>;

#[derive(Debug, Clone)]
enum Block {
    Stored(Bytes),
    Other(CachedForm),
}

impl Block {
    fn len(&self) -> usize {
        match self {
            Self::Stored(bytes) => bytes.len(),
            Self::Other(CachedForm::Plain(plain)) => plain.len(),
            Self::Other(CachedForm::Relaid(relaid)) => relaid.len(),
        }
    }
}

/// A part of a file: parts of one file overlap only where a column chunk is kept whole and in segments, told apart by their ends. A chunk
/// in another form is another part than the chunk as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey {
    pub(crate) file: Arc<str>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) other: bool,
}

#[derive(Debug, Default)]
struct Counters {
    memory_hits: AtomicU64,
    disk_hits: AtomicU64,
    misses: AtomicU64,
}

/// What a block cache has done and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockUsage {
    /// Parts found in memory.
    pub memory_hits: u64,
    /// Parts found on disk.
    pub disk_hits: u64,
    /// Parts fetched from the store.
    pub misses: u64,
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

impl BlockCache {
    /// Finds what an earlier process left on disk.
    pub fn open(options: &BlockOptions) -> std::io::Result<Self> {
        let weigher = |key: &BlockKey, block: &Block| u32::try_from(key.file.len() + block.len()).unwrap_or(u32::MAX);
        let memory = Cache::builder().weigher(weigher).max_capacity(options.memory_bytes).build();
        let tried = Cache::builder().max_capacity(TRIED).time_to_live(AGAIN).build();
        let (waiting, decompressing) = (Arc::new(Semaphore::new(WAITING)), Semaphore::new(1));
        let gathered = Mutex::new(HashMap::new());
        let disk = options.disk.as_ref().map(|(dir, bytes)| DiskCache::open(dir, *bytes)).transpose()?;
        Ok(Self {
            inner: Arc::new(Inner { memory, tried, waiting, gathered, decompressing, disk, counters: Counters::default() }),
        })
    }

    /// What it has done and holds.
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

    /// Whether a part is in memory.
    pub(crate) fn has(&self, file: &Arc<str>, part: &Range<u64>) -> bool {
        self.inner.memory.contains_key(&key(file, part))
    }

    /// A part, if it is here.
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

    /// A column chunk in another form, if it is kept in one.
    pub(crate) async fn form(&self, file: &Arc<str>, chunk: &Range<u64>) -> Option<CachedForm> {
        let Block::Other(form) = self.inner.memory.get(&other(file, chunk)).await? else { return None };
        self.inner.counters.memory_hits.fetch_add(1, Relaxed);
        if let CachedForm::Plain(_) = form {
            // It need not be kept as it is stored, too.
            self.inner.memory.invalidate(&key(file, chunk)).await;
        }
        Some(form)
    }

    /// Decompresses a column chunk in the background, to be kept in place of the chunk as it is stored. Where the cache is full, it takes
    /// what is wanted more often than what would have to go; otherwise the chunk stays as it is for a while.
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
                inner.memory.insert(key, Block::Other(CachedForm::Plain(Arc::new(plain)))).await;
            }
            drop((turn, place));
        });
    }

    /// Decompresses some pages of a column chunk in the background, to be kept beside the chunk as it is stored. Pages of a chunk are
    /// gathered for a while, as each time its file's footer is made anew.
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

    /// Keeps a part. `bytes` hold no more memory than they show.
    pub(crate) async fn put(&self, file: &Arc<str>, part: &Range<u64>, bytes: Bytes, remote: bool) {
        let key = key(file, part);
        if let (Some(disk), true) = (&self.inner.disk, remote) {
            disk.write(key.clone(), bytes.clone());
        }
        self.inner.memory.insert(key, Block::Stored(bytes)).await;
    }
}

impl Inner {
    /// Bytes that one chunk in another form may take.
    fn largest(&self) -> u64 {
        self.memory.policy().max_capacity().unwrap_or(0) / SHARE
    }

    fn gathered(&self) -> MutexGuard<'_, HashMap<BlockKey, Pages>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the gathered pages of a chunk.
async fn unpack(inner: Arc<Inner>, key: BlockKey, footer: Arc<ParquetMetaData>, of: (usize, usize)) {
    tokio::time::sleep(GATHER).await;
    let turn = inner.decompressing.acquire().await;
    let pages = inner.gathered().remove(&key).unwrap_or_default();
    let limit = usize::try_from(inner.largest()).unwrap_or(usize::MAX);
    let before = match inner.memory.get(&key).await {
        Some(Block::Other(CachedForm::Relaid(relaid))) => Some(relaid),
        Some(_) => return,
        None => None,
    };
    let keeping = move || {
        let before = before.map_or_else(|| RepackedChunk::of(&footer, of).map(Arc::new), Some)?;
        before.keeping(footer.row_group(of.0).column(of.1), &pages, limit)
    };
    if let Ok(Some(relaid)) = tokio::task::spawn_blocking(keeping).await {
        inner.memory.insert(key, Block::Other(CachedForm::Relaid(Arc::new(relaid)))).await;
    }
    drop(turn);
}

fn key(file: &Arc<str>, part: &Range<u64>) -> BlockKey {
    BlockKey { file: file.clone(), start: part.start, end: part.end, other: false }
}

/// The key of a part in another form than it is stored in.
fn other(file: &Arc<str>, part: &Range<u64>) -> BlockKey {
    BlockKey { other: true, ..key(file, part) }
}
