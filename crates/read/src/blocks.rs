//! Parts of files that were read once: in memory, and for remote stores on local disk too. Files of a table never change, so a part is
//! never stale.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use moka::future::Cache;

use crate::disk::Disk;

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
    memory: Cache<Key, Bytes>,
    disk: Option<Disk>,
    counters: Counters,
}

/// A part of a file: parts of one file overlap only where a column chunk is kept whole and in segments, told apart by their ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) file: Arc<str>,
    pub(crate) start: u64,
    pub(crate) end: u64,
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
        let weigher = |key: &Key, bytes: &Bytes| u32::try_from(key.file.len() + bytes.len()).unwrap_or(u32::MAX);
        let memory = Cache::builder().weigher(weigher).max_capacity(options.memory_bytes).build();
        let disk = options.disk.as_ref().map(|(dir, bytes)| Disk::open(dir, *bytes)).transpose()?;
        Ok(Self { inner: Arc::new(Inner { memory, disk, counters: Counters::default() }) })
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
        if let Some(bytes) = inner.memory.get(&key).await {
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
                inner.memory.insert(key, bytes.clone()).await;
            }
            None => {
                inner.counters.misses.fetch_add(1, Relaxed);
            }
        }
        found
    }

    /// Keeps a part. `bytes` hold no more memory than they show.
    pub(crate) async fn put(&self, file: &Arc<str>, part: &Range<u64>, bytes: Bytes, remote: bool) {
        let key = key(file, part);
        if let (Some(disk), true) = (&self.inner.disk, remote) {
            disk.write(key.clone(), bytes.clone());
        }
        self.inner.memory.insert(key, bytes).await;
    }
}

fn key(file: &Arc<str>, part: &Range<u64>) -> Key {
    Key { file: file.clone(), start: part.start, end: part.end }
}
