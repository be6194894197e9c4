//! Puts column chunks that are read again into their cached forms, in the background.
//!
//! A chunk is decompressed as a whole ([`Decompressor::decompress_chunk`]), or with the pages that lookups want decompressed
//! ([`Decompressor::decompress_pages`]). One task at a time does this work. What exceeds its queue is dropped, and tried again when
//! a scan wants it again.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaData;
use tokio::sync::Semaphore;

use super::key::BlockKey;
use super::memory::{Block, MemoryCache};
use crate::forms::{CachedForm, RepackedChunk, UncompressedChunk};
use crate::layout::chunk_bytes;

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

/// Pages as byte ranges of their file, with the bytes as stored.
pub(crate) type Pages = Vec<(Range<u64>, Bytes)>;

/// Decompresses column chunks and pages, and caches them in memory.
#[derive(Debug)]
pub(crate) struct Decompressor {
    memory: MemoryCache,
    /// Chunks and pages that were decompressed lately, including those that the cache did not admit.
    tried: Cache<BlockKey, ()>,
    /// Places in the queue of chunks that wait for decompression.
    waiting: Arc<Semaphore>,
    /// Pages that wait for decompression, by chunk.
    gathered: Mutex<HashMap<BlockKey, Pages>>,
    /// The permit of the one task that decompresses.
    decompressing: Semaphore,
}

impl Decompressor {
    /// Creates a decompressor that caches chunks in `memory`.
    pub(super) fn new(memory: MemoryCache) -> Self {
        let tried = Cache::builder().max_capacity(TRIED).time_to_live(RETRY_AFTER).build();
        let (waiting, decompressing) = (Arc::new(Semaphore::new(WAITING)), Semaphore::new(1));
        Self { memory, tried, waiting, gathered: Mutex::new(HashMap::new()), decompressing }
    }

    /// Decompresses a column chunk in the background, to replace the chunk as stored.
    ///
    /// A full cache admits the chunk only if it is wanted more often than the entries it would evict. Otherwise the chunk stays
    /// as stored and is not tried again for ten minutes.
    pub(crate) fn decompress_chunk(
        self: &Arc<Self>,
        file: &Arc<str>,
        part: &Range<u64>,
        footer: &Arc<ParquetMetaData>,
        (group, column): (usize, usize),
        bytes: &Bytes,
    ) {
        let chunk = footer.row_group(group).column(column);
        let largest = self.largest();
        let worth = chunk.compression() != Compression::UNCOMPRESSED
            && chunk.uncompressed_size() > chunk.compressed_size()
            && chunk.uncompressed_size().unsigned_abs() <= largest;
        let key = BlockKey::form(file, part);
        if !worth || self.tried.contains_key(&key) {
            return;
        }
        let Ok(place) = self.waiting.clone().try_acquire_owned() else { return };
        let (this, footer, bytes) = (self.clone(), footer.clone(), bytes.clone());
        tokio::spawn(async move {
            this.tried.insert(key.clone(), ()).await;
            let turn = this.decompressing.acquire().await;
            let plain =
                tokio::task::spawn_blocking(move || UncompressedChunk::of(&footer, (group, column), bytes, largest)).await;
            if let Ok(Some(plain)) = plain {
                this.memory.insert(key, Block::Form(CachedForm::Uncompressed(Arc::new(plain)))).await;
            }
            drop((turn, place));
        });
    }

    /// Decompresses some pages of a column chunk in the background; the chunk as stored stays cached.
    ///
    /// Pages of a chunk are gathered for a moment and decompressed together, because each change of a chunk's form makes a new
    /// footer view.
    pub(crate) async fn decompress_pages(
        self: &Arc<Self>,
        file: &Arc<str>,
        footer: &Arc<ParquetMetaData>,
        of: (usize, usize),
        pages: Pages,
    ) {
        let chunk = footer.row_group(of.0).column(of.1);
        if !matches!(chunk.compression(), Compression::ZSTD(_)) || footer.offset_index().is_none() {
            return;
        }
        let chunk = BlockKey::form(file, &chunk_bytes(chunk));
        let is_new = |page: &Range<u64>| !self.tried.contains_key(&BlockKey::form(file, page));
        let mut pages: Pages = pages.into_iter().filter(|(page, _)| is_new(page)).collect();
        let (taken, first) = {
            let mut gathered = self.gathered();
            let first = !gathered.contains_key(&chunk);
            if pages.is_empty() || first && gathered.len() >= WAITING {
                return;
            }
            let gathered = gathered.entry(chunk.clone()).or_default();
            pages.truncate(GATHERED.saturating_sub(gathered.len()));
            let taken: Vec<BlockKey> = pages.iter().map(|(page, _)| BlockKey::form(file, page)).collect();
            gathered.append(&mut pages);
            (taken, first)
        };
        for page in taken {
            self.tried.insert(page, ()).await;
        }
        if first {
            tokio::spawn(self.clone().decompress_gathered(chunk, footer.clone(), of));
        }
    }

    /// Decompresses the pages gathered for a chunk, and caches the chunk's new form.
    async fn decompress_gathered(self: Arc<Self>, key: BlockKey, footer: Arc<ParquetMetaData>, of: (usize, usize)) {
        tokio::time::sleep(GATHER).await;
        let turn = self.decompressing.acquire().await;
        let pages = self.gathered().remove(&key).unwrap_or_default();
        let limit = usize::try_from(self.largest()).unwrap_or(usize::MAX);
        let before = match self.memory.get(&key).await {
            Some(Block::Form(CachedForm::Repacked(repacked))) => Some(repacked),
            Some(_) => return,
            None => None,
        };
        let decompress = move || {
            let before = before.map_or_else(|| RepackedChunk::of(&footer, of).map(Arc::new), Some)?;
            before.with_decompressed_pages(footer.row_group(of.0).column(of.1), &pages, limit)
        };
        if let Ok(Some(repacked)) = tokio::task::spawn_blocking(decompress).await {
            self.memory.insert(key, Block::Form(CachedForm::Repacked(Arc::new(repacked)))).await;
        }
        drop(turn);
    }

    /// Returns the greatest number of bytes that one chunk in a cached form may take.
    fn largest(&self) -> u64 {
        self.memory.policy().max_capacity().unwrap_or(0) / SHARE
    }

    fn gathered(&self) -> MutexGuard<'_, HashMap<BlockKey, Pages>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
