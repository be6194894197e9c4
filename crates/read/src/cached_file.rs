//! Reads the bytes of one file, through the block cache if the file is opened with it.
//!
//! The Parquet decoder asks [`CachedFile`] for byte ranges. `through` maps each range to the parts that serve it: a whole column
//! chunk if much of it is wanted, otherwise its 1 MiB segments. Missing parts are merged into few requests. For a scan, the
//! decoder gets a footer view (`footer_view.rs`) that places cached forms of chunks at addresses of `VIRTUAL_BASE` and more;
//! `of_forms` serves those addresses. A chunk or page that a scan finds in the cache again is decompressed in the background.
//!
//! Start with `get_byte_ranges` and `through`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Weak};

use arrow::datatypes::Fields;
use bytes::{Bytes, BytesMut};
use esker_storage::StorageError;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use crate::cache::{BlockCache, Pages};
use crate::footer::Footer;
use crate::footer_view::{CachedForm, CachedForms, FooterView, ScanRequest, leaves, row_groups_in};
use crate::forms::uncompressed::{VIRTUAL_BASE, virtual_address};
use crate::row_group_decoder::FileSlice;
use crate::{ReadError, ReadStats, Reader};

/// Files of at most so many bytes are fetched and cached whole, with one request.
pub(crate) const WHOLE_FILE: u64 = 256 << 10;

/// Size in bytes of the segments in which a column chunk is fetched if little of it is wanted.
const SEGMENT: u64 = 1 << 20;

/// Wanted ranges at most so many bytes apart are fetched with one request.
const GAP: u64 = 256 << 10;

/// Greatest size of a request in bytes. Larger ranges become several concurrent requests.
const REQUEST: u64 = 8 << 20;

/// Concurrent requests for one file.
const REQUESTS: usize = 8;

/// The bytes of one file, as the Parquet decoder's reader. Cheap to clone.
///
/// Reads are counted in [`ReadStats`]. [`Reader::cached_file`] makes one that reads through the block cache.
#[derive(Clone)]
pub struct CachedFile {
    pub(crate) reader: Reader,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) object: Path,
    pub(crate) path: Arc<str>,
    pub(crate) size: u64,
    pub(crate) remote: bool,
    pub(crate) stats: Arc<ReadStats>,
    /// All bytes of the file, if it is small and read without the block cache.
    pub(crate) whole: Option<Bytes>,
    /// The cache that keeps what is read; none for files that are read once.
    pub(crate) blocks: Option<BlockCache>,
    /// The request of the scan that reads the file; none for callers that choose row groups themselves.
    pub(crate) request: Option<Arc<ScanRequest>>,
    /// The chunks that the footer view has in a cached form, by their virtual base address.
    pub(crate) forms: Arc<CachedForms>,
}

impl fmt::Debug for CachedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("path", &self.path).field("size", &self.size).finish_non_exhaustive()
    }
}

/// The column chunks of a file, ordered by their first byte.
#[derive(Debug, Clone)]
pub(crate) struct Chunks(Arc<[Chunk]>);

/// A column chunk: its bytes in the file and its place in the footer.
#[derive(Debug, Clone)]
struct Chunk {
    bytes: Range<u64>,
    /// Index of the row group and of the column.
    of: (usize, usize),
}

impl Chunks {
    /// Lists the column chunks of a footer.
    pub(crate) fn of(footer: &ParquetMetaData) -> Self {
        let groups = footer.row_groups().iter().enumerate();
        let columns = groups.flat_map(|(g, group)| group.columns().iter().enumerate().map(move |(c, chunk)| ((g, c), chunk)));
        let chunk = |(of, chunk): ((usize, usize), &ColumnChunkMetaData)| {
            let (start, len) = chunk.byte_range();
            Chunk { bytes: start..start.saturating_add(len), of }
        };
        let mut chunks: Vec<Chunk> = columns.map(chunk).collect();
        chunks.sort_by_key(|c| c.bytes.start);
        Self(chunks.into())
    }

    /// Returns the last chunk that begins at or before an offset.
    fn at(&self, offset: u64) -> Option<&Chunk> {
        self.0.get(self.0.partition_point(|c| c.bytes.start <= offset).checked_sub(1)?)
    }

    /// Returns the chunk whose bytes are exactly `part`.
    fn whole(&self, part: &Range<u64>) -> Option<&Chunk> {
        self.at(part.start).filter(|chunk| chunk.bytes == *part)
    }

    /// Returns the bytes of the chunk that contains a range.
    fn around(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let chunk = &self.at(range.start)?.bytes;
        (range.end <= chunk.end).then(|| chunk.clone())
    }
}

/// Returns a range of a file from bytes that begin at `start` in it.
///
/// A range outside the bytes is an error, as a damaged footer may claim any range.
fn slice(bytes: &Bytes, start: u64, range: &Range<u64>) -> parquet::errors::Result<Bytes> {
    let at = |n: u64| usize::try_from(n.checked_sub(start)?).ok().filter(|n| *n <= bytes.len());
    match (at(range.start), at(range.end)) {
        (Some(from), Some(to)) if from <= to => Ok(bytes.slice(from..to)),
        _ => Err(ParquetError::EOF(format!("bytes {range:?} of {} at {start}", bytes.len()))),
    }
}

/// Returns the segments of a chunk that a range touches.
fn segments(chunk: &Range<u64>, range: &Range<u64>) -> Vec<Range<u64>> {
    let (first, last) = ((range.start - chunk.start) / SEGMENT, (range.end.max(range.start + 1) - 1 - chunk.start) / SEGMENT);
    let segment = |i: u64| chunk.start + i * SEGMENT..(chunk.start + (i + 1) * SEGMENT).min(chunk.end);
    (first..=last).map(segment).collect()
}

/// Merges parts, sorted by start, into requests.
///
/// Requests are sorted, don't overlap and have at most `REQUEST` bytes each.
fn requests(parts: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut requests: Vec<Range<u64>> = Vec::new();
    for part in parts {
        match requests.last_mut() {
            Some(last) if part.start <= last.end + GAP && part.end - last.start <= REQUEST => last.end = last.end.max(part.end),
            last => {
                // Both a chunk and a segment of it may be wanted.
                let mut start = last.map_or(part.start, |last| part.start.max(last.end));
                if start >= part.end {
                    continue;
                }
                while part.end - start > REQUEST {
                    requests.push(start..start + REQUEST);
                    start += REQUEST;
                }
                requests.push(start..part.end);
            }
        }
    }
    requests
}

impl CachedFile {
    /// Sets the scan's request: [`get_metadata`](AsyncFileReader::get_metadata) then returns the scan's footer view.
    ///
    /// Clones of one request share the cached forms, so that a scan may open the file with one reader and decode it with another.
    #[must_use]
    pub fn for_scan(mut self, wanted: ScanRequest) -> Self {
        self.forms = lock(&wanted).upgrade().unwrap_or_default();
        self.request = Some(Arc::new(wanted));
        self
    }

    /// Returns the file's columns with field ids, from the file or from the table's name mapping.
    pub(crate) fn identified(&self, fields: &Fields) -> crate::Result<Fields> {
        self.reader.names().identify(fields).map_err(|what| ReadError::unsupported(&self.path, what))
    }

    /// Builds the footer view for a scan.
    ///
    /// The cached forms that the view describes stay in memory while this file is open, even if the cache evicts them.
    async fn show(&mut self, wanted: &ScanRequest) -> parquet::errors::Result<Arc<ParquetMetaData>> {
        let kept = self.reader.footer_of(self.clone()).await?;
        self.identified(kept.metadata.schema().fields()).map_err(|e| ParquetError::External(Box::new(e)))?;
        let footer = kept.of(wanted.may_hold_nan);
        let groups = row_groups_in(footer, wanted.split.as_ref());
        let columns = leaves(footer, &wanted.columns);
        let chunks: Vec<(usize, usize)> = groups.iter().flat_map(|g| columns.iter().map(|c| (*g, *c))).collect();
        let (mut forms, mut at) = (HashMap::new(), BTreeMap::new());
        // Another reader of the same scan may have opened the file already. Its view stays valid as long as it is at work: both
        // must see the same forms.
        let before = lock(wanted).upgrade();
        for of in chunks {
            let (start, length) = footer.row_group(of.0).column(of.1).byte_range();
            let found = match (&before, &self.blocks) {
                (Some(before), _) => before.get(&virtual_address(start)).cloned(),
                (None, Some(blocks)) => blocks.form(&self.path, &(start..start.saturating_add(length))).await,
                (None, None) => None,
            };
            if let Some(found) = found {
                at.insert(virtual_address(start), found.clone());
                forms.insert(of, found);
            }
        }
        self.forms = Arc::new(at);
        *lock(wanted) = Arc::downgrade(&self.forms);
        if forms.is_empty() && groups.len() == footer.num_row_groups() && !wanted.all_pages {
            return Ok(footer.clone());
        }
        let mut known: Vec<((usize, usize), u64)> = forms.iter().map(|(of, form)| (*of, form.version())).collect();
        known.sort_unstable();
        let (file, columns, nan, all_pages) = (self.path.clone(), wanted.columns.clone(), wanted.may_hold_nan, wanted.all_pages);
        self.reader.footer_view(footer, FooterView { file, groups, columns, nan, all_pages, forms: known }, &forms).await
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
    async fn fetch(&self, range: Range<u64>) -> parquet::errors::Result<Bytes> {
        ReadStats::add(&self.stats.requests, 1);
        ReadStats::add(&self.stats.bytes_read, range.end.saturating_sub(range.start));
        let end = range.end;
        match self.store.get_range(&self.object, range).await {
            Ok(bytes) => Ok(bytes),
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
        if all <= SEGMENT || wanted * 2 >= all || blocks.has(&self.path, &chunk) { vec![chunk] } else { segments(&chunk, range) }
    }

    /// Has a whole chunk decompressed in the background, since a scan found it in the cache.
    fn schedule_decompression(&self, blocks: &BlockCache, footer: &Footer, part: &Range<u64>, bytes: &Bytes) {
        if let (Some(chunk), true) = (footer.chunks.whole(part), self.request.is_some()) {
            blocks.decompress(&self.path, part, footer.metadata.metadata(), chunk.of, bytes);
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
            blocks.unpack(&self.path, footer.metadata.metadata(), of, pages).await;
        }
    }

    /// Returns the bytes of some ranges from the block cache, after fetching and caching the parts that it lacks.
    async fn read_through_cache(&self, blocks: &BlockCache, ranges: Vec<Range<u64>>) -> parquet::errors::Result<Vec<Bytes>> {
        let footer = self.reader.cached_footer(&self.path).await;
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
        let fetches =
            wanted.iter().cloned().map(|range| async move { Ok::<_, ParquetError>((range.start, self.fetch(range).await?)) });
        let fetches: Vec<_> = fetches.collect();
        let pieces: Vec<(u64, Bytes)> = futures::stream::iter(fetches).buffered(REQUESTS).try_collect().await?;
        for part in missing.iter().cloned() {
            // `join` copies: a slice in the cache would keep its neighbours in memory.
            let bytes = join(&pieces, &part)?;
            blocks.put(&self.path, &part, bytes.clone(), self.remote).await;
            found.insert(part, bytes);
        }
        let assemble = |(range, parts): (&Range<u64>, &Vec<Range<u64>>)| match parts.as_slice() {
            [part] => slice(&found[part], part.start, range),
            parts => {
                let pieces: Vec<(u64, Bytes)> = parts.iter().map(|part| (part.start, found[part].clone())).collect();
                join(&pieces, range)
            }
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

/// Locks the cached forms that clones of a request share.
fn lock(wanted: &ScanRequest) -> std::sync::MutexGuard<'_, Weak<CachedForms>> {
    wanted.shared_forms.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Copies a range out of pieces that cover it. The pieces are sorted by their start.
fn join(pieces: &[(u64, Bytes)], range: &Range<u64>) -> parquet::errors::Result<Bytes> {
    let mut out = BytesMut::with_capacity(usize::try_from(range.end - range.start).unwrap_or(0));
    let mut at = range.start;
    let first = pieces.partition_point(|(start, _)| *start <= at).saturating_sub(1);
    for (start, bytes) in &pieces[first.min(pieces.len())..] {
        let end = (start + bytes.len() as u64).min(range.end);
        if *start <= at && at < end {
            out.extend_from_slice(&slice(bytes, *start, &(at..end))?);
            at = end;
        }
    }
    if at == range.end { Ok(out.freeze()) } else { Err(ParquetError::EOF(format!("bytes {range:?} end at {at}"))) }
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
            let slices = ranges.iter().map(|range| slice(whole, 0, range)).collect();
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
                None => Ok(self.reader.footer_of(self.clone()).await?.metadata.metadata().clone()),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Requests cover every part, are sorted, don't overlap and are not larger than `REQUEST`.
        #[test]
        fn requests_cover_the_parts(gaps in proptest::collection::vec((0_u64..1 << 20, 1_u64..20 << 20), 0..20)) {
            let mut at = 0;
            let parts: Vec<Range<u64>> = gaps.iter().map(|(gap, len)| { let s = at + gap; at = s + len; s..at }).collect();
            let requests = requests(&parts);
            proptest::prop_assert!(requests.iter().all(|r| r.end - r.start <= REQUEST));
            proptest::prop_assert!(requests.windows(2).all(|w| w[0].end <= w[1].start));
            for part in &parts {
                let mut at = part.start;
                for r in &requests {
                    if r.start <= at && at < r.end {
                        at = r.end.min(part.end);
                    }
                }
                proptest::prop_assert_eq!(at, part.end);
            }
        }

        #[test]
        fn segments_cover_the_range_within_the_chunk(start in 0_u64..1 << 22, len in 1_u64..1 << 23, a in 0_u64..1 << 23, b in 0_u64..1 << 23) {
            let chunk = start..start + len;
            let (a, b) = (start + a % len, start + b % len);
            let range = a.min(b)..a.max(b) + 1;
            let segments = segments(&chunk, &range);
            proptest::prop_assert!(segments[0].start <= range.start && segments[segments.len() - 1].end >= range.end);
            proptest::prop_assert!(segments.iter().all(|s| s.start >= chunk.start && s.end <= chunk.end && s.start < s.end));
            proptest::prop_assert!(segments.windows(2).all(|w| w[0].end == w[1].start));
        }
    }
}
