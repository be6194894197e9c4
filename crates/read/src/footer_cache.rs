//! Caches the footers of files, and the footer views of scans.
//!
//! Files of a table never change, so no entry is ever stale. A footer is corrected once, before it is cached (`footer.rs`).

use std::collections::HashMap;
use std::sync::Arc;

use moka::future::Cache;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use crate::ReadStats;
use crate::footer::Footer;
use crate::footer_view::{FooterView, build_footer_view};
use crate::forms::CachedForm;

/// Bytes fetched with the first request for a footer; most footers and their page indexes fit.
const FOOTER_HINT: usize = 128 << 10;

/// Caches footers and footer views. Cheap to clone; clones share the cache.
#[derive(Debug, Clone)]
pub(crate) struct FooterCache {
    /// Parsed footers by the location of the file.
    footers: Cache<Arc<str>, Footer>,
    /// Footer views, by all that a view depends on.
    views: Cache<Arc<FooterView>, Arc<ParquetMetaData>>,
}

impl FooterCache {
    /// Creates an empty cache. Footers and footer views take up to `bytes` each.
    pub(crate) fn new(bytes: u64) -> Self {
        let weight = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let footers = Cache::builder()
            .weigher(move |path: &Arc<str>, f: &Footer| weight(path.len() + f.metadata.metadata().memory_size()))
            .max_capacity(bytes)
            .build();
        let views = Cache::builder()
            .weigher(move |_: &Arc<FooterView>, f: &Arc<ParquetMetaData>| weight(f.memory_size()))
            .max_capacity(bytes)
            .build();
        Self { footers, views }
    }

    /// Returns a file's footer if it is cached.
    pub(crate) async fn get(&self, path: &str) -> Option<Footer> {
        self.footers.get(path).await
    }

    /// Returns a file's footer, with its page index. Reads it from `file` unless it is cached.
    ///
    /// `size` is the file's length in bytes.
    pub(crate) async fn load(
        &self,
        path: &Arc<str>,
        size: u64,
        file: &mut impl AsyncFileReader,
        stats: &ReadStats,
    ) -> parquet::errors::Result<Footer> {
        if let Some(found) = self.get(path).await {
            ReadStats::add(&stats.footer_hits, 1);
            return Ok(found);
        }
        let loaded = ParquetMetaDataReader::new()
            .with_prefetch_hint(Some(FOOTER_HINT))
            .with_page_index_policy(PageIndexPolicy::Optional)
            .load_and_finish(file, size)
            .await?;
        let footer = Footer::new(loaded)?;
        self.footers.insert(path.clone(), footer.clone()).await;
        Ok(footer)
    }

    /// Returns the footer view of a scan. Builds it only if the cache has no equal one.
    ///
    /// `forms` are the cached forms of chunks by row group and column.
    pub(crate) async fn view(
        &self,
        footer: &ParquetMetaData,
        view: FooterView,
        forms: &HashMap<(usize, usize), CachedForm>,
    ) -> parquet::errors::Result<Arc<ParquetMetaData>> {
        let key = Arc::new(view);
        if let Some(found) = self.views.get(&key).await {
            return Ok(found);
        }
        let built = Arc::new(build_footer_view(footer, &key, forms)?);
        self.views.insert(key, built.clone()).await;
        Ok(built)
    }
}
