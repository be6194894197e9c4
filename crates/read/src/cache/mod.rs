//! Caches parts of files: in memory, and for remote stores on local disk too.
//!
//! A part is a byte range of a file: a column chunk, a 1 MiB segment of one, or a whole small file. Files of a table never
//! change, so a part is never stale. `memory.rs` and `disk.rs` hold parts, by the keys of `key.rs`. A column chunk that is read
//! again takes a cached form (`forms/`), which `decompress.rs` makes in the background.
//!
//! Start with [`BlockCache`].

mod decompress;
mod disk;
mod key;
mod memory;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use crate::forms::CachedForm;
use decompress::Decompressor;
use disk::DiskCache;
use key::BlockKey;
use memory::{Block, MemoryCache, memory_cache};

pub(crate) use decompress::Pages;

/// The limits of a block cache.
#[derive(Debug, Clone, Default)]
pub struct BlockOptions {
    /// Greatest number of bytes held in memory.
    pub memory_bytes: u64,
    /// A directory that only this cache uses, and the greatest number of bytes in it. With `None`, nothing is cached on disk.
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
    memory: MemoryCache,
    decompressor: Arc<Decompressor>,
    disk: Option<DiskCache>,
    counters: Counters,
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
    /// # Errors
    ///
    /// Returns the I/O error if the directory can't be created or listed.
    pub async fn open(options: &BlockOptions) -> std::io::Result<Self> {
        let memory = memory_cache(options.memory_bytes);
        let decompressor = Arc::new(Decompressor::new(memory.clone()));
        let disk = match &options.disk {
            Some((dir, bytes)) => Some(DiskCache::open(dir, *bytes).await?),
            None => None,
        };
        Ok(Self { inner: Arc::new(Inner { memory, decompressor, disk, counters: Counters::default() }) })
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

    /// Returns the decompressor, which puts column chunks into their cached forms in the background.
    pub(crate) fn decompressor(&self) -> &Arc<Decompressor> {
        &self.inner.decompressor
    }

    /// Checks that a part is in memory as stored.
    pub(crate) fn is_in_memory(&self, file: &Arc<str>, part: &Range<u64>) -> bool {
        self.inner.memory.contains_key(&BlockKey::stored(file, part))
    }

    /// Returns a part as stored, from memory or from disk; `None` if it is in neither. A part from disk goes into memory too.
    pub(crate) async fn get(&self, file: &Arc<str>, part: &Range<u64>) -> Option<Bytes> {
        let (inner, key) = (&self.inner, BlockKey::stored(file, part));
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
    pub(crate) async fn cached_form(&self, file: &Arc<str>, chunk: &Range<u64>) -> Option<CachedForm> {
        let Block::Form(form) = self.inner.memory.get(&BlockKey::form(file, chunk)).await? else { return None };
        self.inner.counters.memory_hits.fetch_add(1, Relaxed);
        if let CachedForm::Uncompressed(_) = form {
            // The uncompressed form holds all of the chunk, so the chunk as stored is no longer needed in memory.
            self.inner.memory.invalidate(&BlockKey::stored(file, chunk)).await;
        }
        Some(form)
    }

    /// Caches a part as stored, on disk too if the store is remote.
    ///
    /// `bytes` must own their memory alone: a slice would keep its neighbours alive beyond the cache's limit.
    pub(crate) async fn insert(&self, file: &Arc<str>, part: &Range<u64>, bytes: Bytes, remote: bool) {
        let key = BlockKey::stored(file, part);
        if let (Some(disk), true) = (&self.inner.disk, remote) {
            disk.write(key.clone(), bytes.clone());
        }
        self.inner.memory.insert(key, Block::Stored(bytes)).await;
    }
}
