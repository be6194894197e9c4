//! Parts of files that were read once: in memory, and for remote stores on local disk too. Files of a table never change, so a part is
//! never stale.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaData;
use tokio::sync::Semaphore;

use crate::disk::Disk;
use crate::plain::Plain;

/// Chunks that wait to be decompressed, one after the other: others are tried when they are wanted again.
const WAITING: usize = 64;

/// Chunks that are remembered as tried, and for how long.
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
    memory: Cache<Key, Block>,
    /// Chunks that were decompressed lately, whether the cache took them or not.
    tried: Cache<Key, ()>,
    waiting: Arc<Semaphore>,
    decompressing: Semaphore,
    disk: Option<Disk>,
    counters: Counters,
}

#[derive(Debug, Clone)]
enum Block {
    Stored(Bytes),
    Plain(Arc<Plain>),
}

impl Block {
    fn len(&self) -> usize {
        match self {
            Self::Stored(bytes) => bytes.len(),
            Self::Plain(plain) => plain.len(),
        }
    }
}

/// A part of a file: parts of one file overlap only where a column chunk is kept whole and in segments, told apart by their ends. A chunk
/// without compression is another part than the chunk as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) file: Arc<str>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) plain: bool,
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
        let weigher = |key: &Key, block: &Block| u32::try_from(key.file.len() + block.len()).unwrap_or(u32::MAX);
        let memory = Cache::builder().weigher(weigher).max_capacity(options.memory_bytes).build();
        let tried = Cache::builder().max_capacity(TRIED).time_to_live(AGAIN).build();
        let (waiting, decompressing) = (Arc::new(Semaphore::new(WAITING)), Semaphore::new(1));
        let disk = options.disk.as_ref().map(|(dir, bytes)| Disk::open(dir, *bytes)).transpose()?;
        Ok(Self { inner: Arc::new(Inner { memory, tried, waiting, decompressing, disk, counters: Counters::default() }) })
    }

    /// What it has done and holds.
    pub fn usage(&self) -> BlockUsage {
        let counters = &self.inner.counters;
        BlockUsage {
            memory_hits: counters.memory_hits.load(Relaxed),
            disk_hits: counters.disk_hits.load(Relaxed),
            misses: counters.misses.load(Relaxed),
            memory_bytes: self.inner.memory.weighted_size(),
            disk_bytes: self.inner.disk.as_ref().map_or(0, Disk::bytes),
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

    /// A column chunk without compression, if it is kept so. It need not be kept as it is stored, too.
    pub(crate) async fn plain(&self, file: &Arc<str>, chunk: &Range<u64>) -> Option<Arc<Plain>> {
        let stored = key(file, chunk);
        match self.inner.memory.get(&Key { plain: true, ..stored.clone() }).await? {
            Block::Plain(plain) => {
                self.inner.memory.invalidate(&stored).await;
                self.inner.counters.memory_hits.fetch_add(1, Relaxed);
                Some(plain)
            }
            Block::Stored(_) => None,
        }
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
        let largest = self.inner.memory.policy().max_capacity().unwrap_or(0) / SHARE;
        let worth = chunk.compression() != Compression::UNCOMPRESSED
            && chunk.uncompressed_size() > chunk.compressed_size()
            && chunk.uncompressed_size().unsigned_abs() <= largest;
        let key = Key { plain: true, ..key(file, part) };
        if !worth || self.inner.tried.contains_key(&key) {
            return;
        }
        let Ok(place) = self.inner.waiting.clone().try_acquire_owned() else { return };
        let (inner, footer, bytes) = (self.inner.clone(), footer.clone(), bytes.clone());
        tokio::spawn(async move {
            inner.tried.insert(key.clone(), ()).await;
            let turn = inner.decompressing.acquire().await;
            let plain = tokio::task::spawn_blocking(move || Plain::of(&footer, (group, column), bytes, largest)).await;
            if let Ok(Some(plain)) = plain {
                inner.memory.insert(key, Block::Plain(Arc::new(plain))).await;
            }
            drop((turn, place));
        });
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

fn key(file: &Arc<str>, part: &Range<u64>) -> Key {
    Key { file: file.clone(), start: part.start, end: part.end, plain: false }
}
