//! The section `[cache]`: caches in memory and on local disk.

use std::path::{Path, PathBuf};

use esker_read::BlockOptions;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::server::memory_bytes;

/// The section `[cache]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Size in bytes of each metadata cache of each warehouse. There is one for parsed metadata, one for manifests, one for Parquet
    /// footers and one for delete files.
    pub bytes: u64,
    /// Size in bytes of the memory cache of column chunks, for all warehouses together; default: an eighth of the memory of the
    /// machine or its container.
    pub block_bytes: Option<u64>,
    /// Size in bytes of the disk cache of column chunks, for warehouses in remote stores; 0: no disk cache.
    pub disk_bytes: u64,
    /// The directory of the disk cache; default: `cache` in the data directory.
    #[schema(value_type = Option<String>)]
    pub disk_dir: Option<PathBuf>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { bytes: 64 << 20, block_bytes: None, disk_bytes: 8 << 30, disk_dir: None }
    }
}

impl CacheConfig {
    /// Returns the options of the cache of column chunks; `dir` is the data directory.
    pub(crate) fn block_options(&self, dir: &Path) -> BlockOptions {
        let place = self.disk_dir.clone().unwrap_or_else(|| dir.join("cache"));
        let disk = (self.disk_bytes > 0).then_some((place, self.disk_bytes));
        BlockOptions { memory_bytes: self.block_bytes.unwrap_or_else(|| memory_bytes() / 8), disk }
    }
}
