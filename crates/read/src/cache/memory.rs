//! The memory of a block cache: parts of files as stored, and column chunks in a cached form.

use bytes::Bytes;
use moka::future::Cache;

use super::key::BlockKey;
use crate::forms::CachedForm;

/// An entry of the memory cache.
#[derive(Debug, Clone)]
pub(super) enum Block {
    /// A part as the file stores it.
    Stored(Bytes),
    /// A column chunk in a cached form.
    Form(CachedForm),
}

/// The entries in memory. Cheap to clone; clones share the entries.
pub(super) type MemoryCache = Cache<BlockKey, Block>;

/// Creates an empty cache of at most `bytes`.
pub(super) fn memory_cache(bytes: u64) -> MemoryCache {
    let weigher = |key: &BlockKey, block: &Block| {
        let held = match block {
            Block::Stored(bytes) => bytes.len(),
            Block::Form(form) => form.len(),
        };
        u32::try_from(key.file.len() + held).unwrap_or(u32::MAX)
    };
    Cache::builder().weigher(weigher).max_capacity(bytes).build()
}
