//! Reads the bytes of one file, through the block cache if the file is opened with it.
//!
//! The Parquet decoder asks [`CachedFile`] for byte ranges. `read_through_cache` maps each range to the parts that serve it: a
//! whole column chunk if much of it is wanted, otherwise its 1 MiB segments. Missing parts are merged into few requests
//! (`fetch_plan.rs`). For a scan, the decoder gets a footer view (`footer_view.rs`) that places cached forms of chunks at addresses
//! of `VIRTUAL_BASE` and more; `read_forms` serves those addresses. A chunk or page that a scan finds in the cache again is
//! decompressed in the background.
//!
//! Start with `get_byte_ranges` and `read_through_cache`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::Fields;
use bytes::Bytes;
use esker_storage::StorageError;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use crate::cache::{BlockCache, Pages};
use crate::fetch_plan::{SEGMENT, WHOLE_FILE, join, requests, segments};
use crate::file_slice::FileSlice;
use crate::footer::Footer;
use crate::footer_cache::FooterCache;
use crate::footer_view::{FooterView, ScanRequest};
use crate::forms::{CachedForm, CachedForms, VIRTUAL_BASE, virtual_address};
use crate::layout::{Chunks, chunk_bytes, leaves, row_groups_in};
use crate::{FieldNames, ReadError, ReadStats};

/// Concurrent requests for one file.
const REQUESTS: usize = 8;

/// The bytes of one file, as the Parquet decoder's reader. Cheap to clone.
///
/// Reads are counted in [`ReadStats`]. [`Reader::cached_file`](crate::Reader::cached_file) makes one that reads through the block
/// cache.
#[derive(Clone)]
pub struct CachedFile {
    /// The cache that the file's footer and its views come from.
    pub(crate) footers: FooterCache,
    /// The name mapping of the file's table.
    pub(crate) names: Arc<FieldNames>,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) object: Path,
    pub(crate) path: Arc<str>,
    pub(crate) size: u64,
    pub(crate) remote: bool,
    pub(crate) stats: Arc<ReadStats>,
    /// All bytes of the file, if it is small and read without the block cache.
    pub(crate) whole: Option<FileSlice>,
    /// The cache that keeps what is read; none for files that are read once.
    pub(crate) blocks: Option<BlockCache>,
    /// The request of the scan that reads the file; none for callers that choose row groups themselves.
    pub(crate) request: Option<Arc<ScanRequest>>,
    /// The chunks that the footer view has in a cached form, by their virtual base address.
    pub(crate) forms: Arc<CachedForms>,
}

impl fmt::Debug for CachedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedFile").field("path", &self.path).field("size", &self.size).finish_non_exhaustive()
    }
}

impl CachedFile {
    /// Sets the scan's request: [`get_metadata`](AsyncFileReader::get_metadata) then returns the scan's footer view.
    ///
    /// Clones of one request share the cached forms, so that a scan may open the file with one reader and decode it with another.
    #[must_use]
    pub fn for_scan(mut self, wanted: ScanRequest) -> Self {
        self.forms = wanted.shared_forms().unwrap_or_default();
        self.request = Some(Arc::new(wanted));
        self
    }

    /// Returns the file's columns with field ids, from the file or from the table's name mapping.
    pub(crate) fn identified(&self, fields: &Fields) -> crate::Result<Fields> {
        self.names.identify(fields).map_err(|what| ReadError::unsupported(&self.path, what))
    }

    /// Returns the file's footer, parsed and stripped of statistics that can't be trusted.
    pub(crate) async fn footer(&self) -> parquet::errors::Result<Footer> {
        self.footers.load(&self.path, self.size, &mut self.clone(), &self.stats).await
    }

    /// Builds the footer view for a scan.
    ///
    /// The cached forms that the view describes stay in memory while this file is open, even if the cache evicts them.
    async fn show(&mut self, wanted: &ScanRequest) -> parquet::errors::Result<Arc<ParquetMetaData>> {
        let kept = self.footer().await?;
        self.identified(kept.metadata.schema().fields()).map_err(|e| ParquetError::External(Box::new(e)))?;
        let footer = kept.of(wanted.may_hold_nan);
        let groups = row_groups_in(footer, wanted.split.as_ref());
        let columns = leaves(footer, &wanted.columns);
        let chunks: Vec<(usize, usize)> = groups.iter().flat_map(|g| columns.iter().map(|c| (*g, *c))).collect();
        let (mut forms, mut at) = (HashMap::new(), BTreeMap::new());
        // Another reader of the same scan may have opened the file already. Its view stays valid as long as it is at work: both
        // must see the same forms.
        let before = wanted.shared_forms();
        for of in chunks {
            let chunk = chunk_bytes(footer.row_group(of.0).column(of.1));
            let address = virtual_address(chunk.start);
            let found = match (&before, &self.blocks) {
                (Some(before), _) => before.get(&address).cloned(),
                (None, Some(blocks)) => blocks.cached_form(&self.path, &chunk).await,
                (None, None) => None,
            };
            if let Some(found) = found {
                at.insert(address, found.clone());
                forms.insert(of, found);
            }
        }
        self.forms = Arc::new(at);
        wanted.share_forms(&self.forms);
        if forms.is_empty() && groups.len() == footer.num_row_groups() && !wanted.all_pages {
            return Ok(footer.clone());
        }
        let mut known: Vec<((usize, usize), u64)> = forms.iter().map(|(of, form)| (*of, form.version())).collect();
        known.sort_unstable();
        let (file, columns, nan, all_pages) = (self.path.clone(), wanted.columns.clone(), wanted.may_hold_nan, wanted.all_pages);
        self.footers.view(footer, FooterView { file, groups, columns, nan, all_pages, forms: known }, &forms).await
    }

    /// Returns the bytes of ranges of which some are virtual addresses of chunks in a cached form.
    ///
    /// Bytes that the cached forms hold are counted as cached; the others are read from the file.
    async fn read_forms(mut self, ranges: Vec<Range<u64>>) -> parquet::errors::Result<Vec<Bytes>> {
        let mut stored = Vec::with_capacity(ranges.len());
        for range in &ranges {
            stored.push(match self.form(range)? {
                Some((base, form)) => form.stored(base, range)?,
                None => Some(range.clone()),
            });
        }
        let wanted: Vec<Range<u64>> = stored.iter().flatten().cloned().collect();
        let mut found = match wanted.is_empty() {
            true => Vec::new(),
            false => self.get_byte_ranges(wanted).await?,
        }
        .into_iter();
        let mut all = Vec::with_capacity(ranges.len());
        for (range, stored) in ranges.iter().zip(stored) {
            let missing = || ParquetError::General("the store returned fewer ranges than requested".to_owned());
            let window = match stored {
                Some(stored) => Some(FileSlice { start: stored.start, bytes: found.next().ok_or_else(missing)? }),
                None => None,
            };
            all.push(match (self.form(range)?, window) {
                (Some((base, form)), window) => {
                    let counted = if window.is_none() { range.end - range.start } else { 0 };
                    ReadStats::add(&self.stats.cached_bytes, counted);
                    form.slice(base, range, window)?
                }
                (None, window) => window.ok_or_else(missing)?.bytes,
            });
        }
        Ok(all)
    }

    /// Returns the virtual base address and the cached form of a virtual range; none for a range of the file.
    fn form(&self, range: &Range<u64>) -> parquet::errors::Result<Option<(u64, &CachedForm)>> {
        if range.start < VIRTUAL_BASE {
            return Ok(None);
        }
        let found = self.forms.range(..=range.start).next_back();
        let (base, form) = found.ok_or_else(|| ParquetError::EOF(format!("no chunk is addressed at {}", range.start)))?;
        Ok(Some((*base, form)))
    }

    /// Turns an error of the store into one with the file's location.
    async fn failed(&self, end: u64, error: object_store::Error) -> ParquetError {
        let error = StorageError::for_range(&self.path, (self.store.as_ref(), &self.object), end, error).await;
        ParquetError::External(Box::new(ReadError::from(error)))
    }

    /// Fetches a range with one request, and counts it.
    async fn fetch(&self, range: Range<u64>) -> parquet::errors::Result<FileSlice> {
        ReadStats::add(&self.stats.requests, 1);
        ReadStats::add(&self.stats.bytes_read, range.end.saturating_sub(range.start));
        let Range { start, end } = range;
        match self.store.get_range(&self.object, range).await {
            Ok(bytes) => Ok(FileSlice { start, bytes }),
            Err(e) => Err(self.failed(end, e).await),
        }
    }

    /// Returns the parts that serve a range.
    ///
    /// This is the whole chunk if at least half of it is wanted, if it is small or if it is cached already; otherwise it is the
    /// chunk's segments.
    fn parts(&self, blocks: &BlockCache, chunks: Option<&Chunks>, range: &Range<u64>) -> Vec<Range<u64>> {
        if self.size <= WHOLE_FILE {
            return Vec::from([Range { start: 0, end: self.size }]);
        }
        let Some(chunk) = chunks.and_then(|chunks| chunks.around(range)) else { return vec![range.clone()] };
        let (wanted, all) = (range.end - range.start, chunk.end - chunk.start);
        if all <= SEGMENT || wanted * 2 >= all || blocks.is_in_memory(&self.path, &chunk) {
            vec![chunk]
        } else {
            segments(&chunk, range)
        }
    }

    /// Has a whole chunk decompressed in the background, since a scan found it in the cache.
    fn schedule_decompression(&self, blocks: &BlockCache, footer: &Footer, part: &Range<u64>, bytes: &Bytes) {
        if let (Some(chunk), true) = (footer.chunks.whole(part), self.request.is_some()) {
            blocks.decompressor().decompress_chunk(&self.path, part, footer.metadata.metadata(), chunk.of, bytes);
        }
    }

    /// Has pages decompressed in the background that a scan found in cached segments of their chunks.
    async fn schedule_page_decompression(
        &self,
        blocks: &BlockCache,
        footer: &Footer,
        found: impl Iterator<Item = (&Range<u64>, &Bytes)>,
    ) {
        let mut pages: BTreeMap<(usize, usize), Pages> = BTreeMap::new();
        for (range, bytes) in found {
            if let (Some(chunk), true) = (footer.chunks.at(range.start), self.request.is_some()) {
                pages.entry(chunk.of).or_default().push((range.clone(), bytes.clone()));
            }
        }
        for (of, pages) in pages {
            blocks.decompressor().decompress_pages(&self.path, footer.metadata.metadata(), of, pages).await;
        }
    }

    /// Returns the bytes of some ranges from the block cache, after fetching and caching the parts that it lacks.
    async fn read_through_cache(&self, blocks: &BlockCache, ranges: Vec<Range<u64>>) -> parquet::errors::Result<Vec<Bytes>> {
        let footer = self.footers.get(&self.path).await;
        let chunks = footer.as_ref().map(|footer| &footer.chunks);
        let mut found: HashMap<Range<u64>, Bytes> = HashMap::new();
        let mut missing = Vec::new();
        let plans: Vec<Vec<Range<u64>>> = ranges.iter().map(|range| self.parts(blocks, chunks, range)).collect();
        for part in plans.iter().flatten() {
            if found.contains_key(part) || missing.contains(part) {
                continue;
            }
            match blocks.get(&self.path, part).await {
                Some(bytes) => {
                    ReadStats::add(&self.stats.cached_bytes, bytes.len() as u64);
                    if let Some(footer) = &footer {
                        self.schedule_decompression(blocks, footer, part, &bytes);
                    }
                    found.insert(part.clone(), bytes);
                }
                None => missing.push(part.clone()),
            }
        }
        missing.sort_by_key(|part| (part.start, part.end));
        let wanted = requests(&missing);
        let fetches: Vec<_> = wanted.into_iter().map(|range| self.fetch(range)).collect();
        let slices: Vec<FileSlice> = futures::stream::iter(fetches).buffered(REQUESTS).try_collect().await?;
        for part in missing.iter().cloned() {
            // `join` copies: a slice in the cache would keep its neighbours in memory.
            let bytes = join(&slices, &part)?;
            blocks.insert(&self.path, &part, bytes.clone(), self.remote).await;
            found.insert(part, bytes);
        }
        let slice = |part: &Range<u64>| FileSlice { start: part.start, bytes: found[part].clone() };
        let assemble = |(range, parts): (&Range<u64>, &Vec<Range<u64>>)| match parts.as_slice() {
            [part] => slice(part).range(range),
            parts => join(&parts.iter().map(slice).collect::<Vec<_>>(), range),
        };
        let all: Vec<Bytes> = ranges.iter().zip(&plans).map(assemble).collect::<parquet::errors::Result<_>>()?;
        if let Some(footer) = &footer {
            // A chunk that is cached whole is decompressed whole, not page by page.
            let again = |((range, parts), bytes)| {
                let parts: &Vec<Range<u64>> = parts;
                let fresh = parts.iter().any(|part| missing.contains(part) || footer.chunks.whole(part).is_some());
                (!fresh).then_some((range, bytes))
            };
            self.schedule_page_decompression(blocks, footer, ranges.iter().zip(&plans).zip(&all).filter_map(again)).await;
        }
        Ok(all)
    }
}

impl AsyncFileReader for CachedFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            let mut all = self.get_byte_ranges(vec![range]).await?;
            all.pop().ok_or_else(|| ParquetError::General("the store returned no bytes for the range".to_owned()))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        if ranges.iter().any(|r| r.start >= VIRTUAL_BASE) {
            return self.clone().read_forms(ranges).boxed();
        }
        if let Some(outside) = ranges.iter().find(|r| r.start > r.end || r.end > self.size) {
            let what = ParquetError::EOF(format!("bytes {outside:?} of a file of {}", self.size));
            return futures::future::ready(Err(what)).boxed();
        }
        if let Some(whole) = &self.whole {
            let slices = ranges.iter().map(|range| whole.range(range)).collect();
            return futures::future::ready(slices).boxed();
        }
        let this = self.clone();
        async move {
            match &this.blocks {
                Some(blocks) => this.read_through_cache(blocks, ranges).await,
                None => {
                    ReadStats::add(&this.stats.requests, 1);
                    ReadStats::add(&this.stats.bytes_read, ranges.iter().map(|r| r.end - r.start).sum());
                    match this.store.get_ranges(&this.object, &ranges).await {
                        Ok(all) => Ok(all),
                        Err(e) => Err(this.failed(ranges.iter().map(|r| r.end).max().unwrap_or(0), e).await),
                    }
                }
            }
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            match self.request.clone() {
                Some(wanted) => self.show(&wanted).await,
                None => Ok(self.footer().await?.metadata.metadata().clone()),
            }
        }
        .boxed()
    }
}
