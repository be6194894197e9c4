//! The bytes of one file, through the block cache.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

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
use parquet::file::metadata::ParquetMetaData;

use crate::blocks::BlockCache;
use crate::{ReadStats, Reader};

/// Files of up to so many bytes are fetched with one request.
pub(crate) const WHOLE_FILE: u64 = 256 << 10;

/// A column chunk of which little is wanted is fetched and kept in segments of so many bytes.
const SEGMENT: u64 = 1 << 20;

/// Wanted bytes this close to one another are fetched with one request.
const GAP: u64 = 256 << 10;

/// Bytes of one request; more are several, at the same time.
const REQUEST: u64 = 8 << 20;

/// Requests for one file at the same time.
const REQUESTS: usize = 8;

/// The bytes of one file, counted.
#[derive(Clone)]
pub struct Input {
    pub(crate) reader: Reader,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) object: Path,
    pub(crate) path: Arc<str>,
    pub(crate) size: u64,
    pub(crate) remote: bool,
    pub(crate) stats: Arc<ReadStats>,
    /// Whether the file may hold NaN in float columns.
    pub(crate) nan: bool,
    /// The whole file, where it is small and not kept.
    pub(crate) whole: Option<Bytes>,
    /// Where what is read is kept.
    pub(crate) blocks: Option<BlockCache>,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("path", &self.path).field("size", &self.size).finish_non_exhaustive()
    }
}

/// The column chunks of a file, in order.
#[derive(Debug, Clone)]
pub(crate) struct Chunks(Arc<[Range<u64>]>);

impl Chunks {
    pub(crate) fn of(footer: &ParquetMetaData) -> Self {
        let columns = footer.row_groups().iter().flat_map(|g| g.columns()).map(|c| c.byte_range());
        let mut chunks: Vec<Range<u64>> = columns.map(|(start, len)| start..start.saturating_add(len)).collect();
        chunks.sort_by_key(|c| c.start);
        Self(chunks.into())
    }

    /// The chunk that a range lies in.
    fn around(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let at = self.0.partition_point(|c| c.start <= range.start).checked_sub(1)?;
        (range.end <= self.0[at].end).then(|| self.0[at].clone())
    }
}

/// Part of a file in memory. A footer may claim any range.
fn slice(bytes: &Bytes, start: u64, range: &Range<u64>) -> parquet::errors::Result<Bytes> {
    let at = |n: u64| usize::try_from(n.checked_sub(start)?).ok().filter(|n| *n <= bytes.len());
    match (at(range.start), at(range.end)) {
        (Some(from), Some(to)) if from <= to => Ok(bytes.slice(from..to)),
        _ => Err(ParquetError::EOF(format!("bytes {range:?} of {} at {start}", bytes.len()))),
    }
}

/// The segments of a chunk that a range touches.
fn segments(chunk: &Range<u64>, range: &Range<u64>) -> Vec<Range<u64>> {
    let (first, last) = ((range.start - chunk.start) / SEGMENT, (range.end.max(range.start + 1) - 1 - chunk.start) / SEGMENT);
    let segment = |i: u64| chunk.start + i * SEGMENT..(chunk.start + (i + 1) * SEGMENT).min(chunk.end);
    (first..=last).map(segment).collect()
}

/// Requests for some parts, which are in order: neighbours together, none too large, none for the same bytes.
fn requests(parts: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut requests: Vec<Range<u64>> = Vec::new();
    for part in parts {
        match requests.last_mut() {
            Some(last) if part.start <= last.end + GAP && part.end - last.start <= REQUEST => last.end = last.end.max(part.end),
            last => {
                // A chunk and a segment of it may both be wanted.
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

impl Input {
    /// For a file that may hold NaN in float columns: its footer's statistics then say nothing of the greatest values.
    #[must_use]
    pub const fn with_nan(mut self, nan: bool) -> Self {
        self.nan = nan;
        self
    }

    fn failed(&self, error: object_store::Error) -> ParquetError {
        let uri = self.path.to_string();
        let error = match error {
            object_store::Error::NotFound { .. } => StorageError::NotFound { uri },
            source => StorageError::Io { uri, source },
        };
        ParquetError::External(Box::new(error))
    }

    async fn fetch(&self, range: Range<u64>) -> parquet::errors::Result<Bytes> {
        ReadStats::add(&self.stats.requests, 1);
        ReadStats::add(&self.stats.bytes_read, range.end.saturating_sub(range.start));
        self.store.get_range(&self.object, range).await.map_err(|e| self.failed(e))
    }

    /// The parts that serve a range: a chunk as a whole where much of it is wanted or it is here already, else its segments.
    fn parts(&self, blocks: &BlockCache, chunks: Option<&Chunks>, range: &Range<u64>) -> Vec<Range<u64>> {
        if self.size <= WHOLE_FILE {
            return Vec::from([Range { start: 0, end: self.size }]);
        }
        let Some(chunk) = chunks.and_then(|chunks| chunks.around(range)) else { return vec![range.clone()] };
        let (wanted, all) = (range.end - range.start, chunk.end - chunk.start);
        if all <= SEGMENT || wanted * 2 >= all || blocks.has(&self.path, &chunk) { vec![chunk] } else { segments(&chunk, range) }
    }

    async fn through(&self, blocks: &BlockCache, ranges: Vec<Range<u64>>) -> parquet::errors::Result<Vec<Bytes>> {
        let chunks = self.reader.chunks(&self.path).await;
        let mut found: HashMap<Range<u64>, Bytes> = HashMap::new();
        let mut missing = Vec::new();
        let plans: Vec<Vec<Range<u64>>> = ranges.iter().map(|range| self.parts(blocks, chunks.as_ref(), range)).collect();
        for part in plans.iter().flatten() {
            if found.contains_key(part) || missing.contains(part) {
                continue;
            }
            match blocks.get(&self.path, part).await {
                Some(bytes) => {
                    ReadStats::add(&self.stats.cached_bytes, bytes.len() as u64);
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
        for part in missing {
            // A copy: what is kept must not hold on to its neighbours.
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
        ranges.iter().zip(&plans).map(assemble).collect()
    }
}

/// The bytes of a range out of pieces in order that cover it.
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

impl AsyncFileReader for Input {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            let mut all = self.get_byte_ranges(vec![range]).await?;
            all.pop().ok_or_else(|| ParquetError::General("no bytes for a range".to_owned()))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
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
                Some(blocks) => this.through(blocks, ranges).await,
                None => {
                    ReadStats::add(&this.stats.requests, 1);
                    ReadStats::add(&this.stats.bytes_read, ranges.iter().map(|r| r.end - r.start).sum());
                    this.store.get_ranges(&this.object, &ranges).await.map_err(|e| this.failed(e))
                }
            }
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        let this = self.clone();
        async move {
            let reader = this.reader.clone();
            match this.nan {
                true => reader.footer_with_nan(this).await,
                false => Ok(reader.footer_of(this).await?.metadata().clone()),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Requests cover every part, in order, none larger than allowed unless it is joined from none.
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
