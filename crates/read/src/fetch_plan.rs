//! Plans the requests for wanted byte ranges of a file, and cuts the ranges out of the answers.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use parquet::errors::ParquetError;

use crate::file_slice::FileSlice;

/// Files of at most so many bytes are fetched and cached whole, with one request.
pub(crate) const WHOLE_FILE: u64 = 256 << 10;

/// Size in bytes of the segments in which a column chunk is fetched if little of it is wanted.
pub(crate) const SEGMENT: u64 = 1 << 20;

/// Wanted ranges at most so many bytes apart are fetched with one request.
const GAP: u64 = 256 << 10;

/// Greatest size of a request in bytes. Larger ranges become several concurrent requests.
const REQUEST: u64 = 8 << 20;

/// Returns the segments of a chunk that a range touches.
pub(crate) fn segments(chunk: &Range<u64>, range: &Range<u64>) -> Vec<Range<u64>> {
    let (first, last) = ((range.start - chunk.start) / SEGMENT, (range.end.max(range.start + 1) - 1 - chunk.start) / SEGMENT);
    let segment = |i: u64| chunk.start + i * SEGMENT..(chunk.start + (i + 1) * SEGMENT).min(chunk.end);
    (first..=last).map(segment).collect()
}

/// Merges parts, sorted by start, into requests.
///
/// Requests are sorted, don't overlap and have at most `REQUEST` bytes each.
pub(crate) fn requests(parts: &[Range<u64>]) -> Vec<Range<u64>> {
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

/// Copies a range out of slices of the file that cover it. The slices are sorted by their start.
pub(crate) fn join(slices: &[FileSlice], range: &Range<u64>) -> parquet::errors::Result<Bytes> {
    let mut out = BytesMut::with_capacity(usize::try_from(range.end - range.start).unwrap_or(0));
    let mut at = range.start;
    let first = slices.partition_point(|slice| slice.start <= at).saturating_sub(1);
    for slice in &slices[first.min(slices.len())..] {
        let end = slice.end().min(range.end);
        if slice.start <= at && at < end {
            out.extend_from_slice(&slice.range(&(at..end))?);
            at = end;
        }
    }
    if at == range.end { Ok(out.freeze()) } else { Err(ParquetError::EOF(format!("bytes {range:?} end at {at}"))) }
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
