use std::sync::Arc;

use iceberg::io::FileIO;
use iceberg::spec::{Manifest, ManifestFile};
use moka::future::Cache;

use crate::Result;

/// What a manifest entry weighs in memory, measured on entries with bounds for some twenty columns.
pub const ENTRY_BYTES: usize = 2500;

/// Reads manifests, each once: they never change, so a parsed one is kept by its path. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Manifests {
    io: FileIO,
    parsed: Cache<String, Arc<Manifest>>,
}

impl Manifests {
    /// Keeps parsed manifests of up to about `cache_bytes`.
    pub fn new(io: FileIO, cache_bytes: u64) -> Self {
        let weight = |path: &String, m: &Arc<Manifest>| {
            u32::try_from(path.len() + (m.entries().len() + 1) * ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        Self { io, parsed: Cache::builder().weigher(weight).max_capacity(cache_bytes).build() }
    }

    /// Where manifests are read from and written to.
    pub fn io(&self) -> &FileIO {
        &self.io
    }

    /// A manifest, with what its entries inherit from the manifest list.
    pub async fn load(&self, file: &ManifestFile) -> Result<Arc<Manifest>> {
        if let Some(found) = self.parsed.get(&file.manifest_path).await {
            return Ok(found);
        }
        let manifest = Arc::new(file.load_manifest(&self.io).await?);
        self.parsed.insert(file.manifest_path.clone(), manifest.clone()).await;
        Ok(manifest)
    }
}
