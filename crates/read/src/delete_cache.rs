//! Caches deleted positions: those in delete files, and those that equality deletes come to.
//!
//! Files of a table never change, so no entry is ever stale.

use std::sync::Arc;

use esker_table::DeletedPositions;
use moka::future::Cache;
use roaring::RoaringTreemap;

use crate::Result;

/// Caches deleted positions. Cheap to clone; clones share the cache.
#[derive(Debug, Clone)]
pub(crate) struct DeleteCache {
    /// Positions in position delete files and deletion vectors, by location (and offset of the vector).
    positional: Cache<String, Arc<DeletedPositions>>,
    /// Positions that equality deletes delete from a data file, by the caller's key.
    equality: Cache<String, Arc<RoaringTreemap>>,
}

impl DeleteCache {
    /// Creates an empty cache. Positions of either kind take up to `bytes`.
    pub(crate) fn new(bytes: u64) -> Self {
        let weight = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let positional = Cache::builder()
            .weigher(move |_: &String, p: &Arc<DeletedPositions>| {
                weight(p.iter().map(|(path, set)| path.len() + set.serialized_size()).sum())
            })
            .max_capacity(bytes)
            .build();
        let equality = Cache::builder()
            .weigher(move |key: &String, set: &Arc<RoaringTreemap>| weight(key.len() + set.serialized_size()))
            .max_capacity(bytes)
            .build();
        Self { positional, equality }
    }

    /// Returns the positions in a delete file that are cached under `key`, or those that `read` yields, and caches them.
    pub(crate) async fn positions(
        &self,
        key: String,
        read: impl Future<Output = Result<DeletedPositions>>,
    ) -> Result<Arc<DeletedPositions>> {
        if let Some(found) = self.positional.get(&key).await {
            return Ok(found);
        }
        let positions = Arc::new(read.await?);
        self.positional.insert(key, positions.clone()).await;
        Ok(positions)
    }

    /// Returns the positions that equality deletes delete from a data file, if they are cached under `key`.
    pub(crate) async fn equality_positions(&self, key: &str) -> Option<Arc<RoaringTreemap>> {
        self.equality.get(key).await
    }

    /// Caches the positions that equality deletes delete from a data file.
    pub(crate) async fn insert_equality_positions(&self, key: String, positions: Arc<RoaringTreemap>) {
        self.equality.insert(key, positions).await;
    }
}
