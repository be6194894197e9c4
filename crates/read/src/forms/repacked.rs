//! The cached form of a column chunk with some pages decompressed: those that lookups read again and again.
//!
//! In this form the pages follow one another without gaps. A page is as stored, or a Zstandard frame of raw blocks. To decompress
//! such a frame is to copy it, and any Parquet reader can read the chunk, whole or by page. Bytes of pages as stored are fetched
//! from the file when they are wanted. Spec: RFC 8878, section 3.1.1.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::{Bytes, BytesMut};
use parquet::basic::Compression;
use parquet::column::page::{CompressedPage, Page, PageReader, PageWriter};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};

use crate::forms::uncompressed::{LARGEST, offset_index, relocated, virtual_address, without_statistics};
use crate::row_group_decoder::FileSlice;

/// Greatest number of bytes in a raw block (RFC 8878, section 3.1.1.2.4).
const RAW_BLOCK: usize = 128 << 10;

/// The version of the next form that is made in this process.
static MADE: AtomicU64 = AtomicU64::new(1);

/// A column chunk with some of its pages decompressed in memory.
#[derive(Debug, Clone)]
pub(crate) struct RepackedChunk {
    /// A number that differs from that of the same chunk with other pages decompressed.
    version: u64,
    /// The dictionary page, if there is one, then the data pages; without gaps.
    pieces: Vec<Piece>,
    /// True if the first piece is a dictionary page.
    dictionary: bool,
}

/// A page of the chunk with its header.
#[derive(Debug, Clone)]
struct Piece {
    /// The page's bytes in the file.
    stored: Range<u64>,
    /// Offset of the page in this form, from the beginning of the chunk.
    at: u64,
    /// The page in a frame of raw blocks; none if it is as stored.
    kept: Option<Bytes>,
}

impl Piece {
    /// Returns the length of the page in this form, in bytes.
    fn len(&self) -> u64 {
        self.kept.as_ref().map_or(self.stored.end - self.stored.start, |bytes| bytes.len() as u64)
    }
}

impl RepackedChunk {
    /// Returns the form of a chunk with no page decompressed yet.
    ///
    /// None if the chunk is not compressed with Zstandard, or if the page index does not describe all of its bytes.
    pub(crate) fn of(footer: &ParquetMetaData, (group, column): (usize, usize)) -> Option<Self> {
        let chunk = footer.row_group(group).column(column);
        let pages = footer.offset_index()?.get(group)?.get(column)?.page_locations();
        let (start, length) = chunk.byte_range();
        let end = start.checked_add(length).filter(|end| *end <= LARGEST)?;
        let page = |offset: i64, size: i32| {
            let offset = u64::try_from(offset).ok()?;
            Some(offset..offset.checked_add(u64::try_from(size).ok()?)?)
        };
        let pages: Vec<Range<u64>> = pages.iter().map(|p| page(p.offset, p.compressed_page_size)).collect::<Option<_>>()?;
        let first = pages.first()?.start;
        let dictionary = first != start;
        let stored: Vec<Range<u64>> = dictionary.then_some(start..first).into_iter().chain(pages).collect();
        let follow = stored.windows(2).all(|pair| pair[0].end == pair[1].start) && stored.iter().all(|p| p.start < p.end);
        let whole = follow && stored[0].start == start && stored[stored.len() - 1].end == end;
        let pieces = stored.into_iter().map(|stored| Piece { at: stored.start - start, stored, kept: None }).collect();
        (whole && matches!(chunk.compression(), Compression::ZSTD(_))).then_some(Self { version: 0, pieces, dictionary })
    }

    /// Returns this form with more pages decompressed, as long as it takes at most `limit` bytes.
    ///
    /// `pages` are byte ranges of the file with their bytes. A page that compression did not shrink stays as stored. None if no
    /// page was added.
    pub(crate) fn with_decompressed_pages(
        &self,
        chunk: &ColumnChunkMetaData,
        pages: &[(Range<u64>, Bytes)],
        limit: usize,
    ) -> Option<Self> {
        let (mut pieces, mut held) = (self.pieces.clone(), self.len());
        let mut kept_some = false;
        for (stored, bytes) in pages {
            let Ok(i) = pieces.binary_search_by_key(&stored.start, |piece| piece.stored.start) else { continue };
            if pieces[i].stored != *stored || pieces[i].kept.is_some() {
                continue;
            }
            // The scan itself will report a page that can't be read.
            let Ok(Some(kept)) = unpacked(chunk, stored, bytes.clone()) else { continue };
            if held + kept.len() <= limit {
                held += kept.len();
                pieces[i].kept = Some(kept);
                kept_some = true;
            }
        }
        let mut at = 0;
        for piece in &mut pieces {
            piece.at = at;
            at += piece.len();
        }
        let version = MADE.fetch_add(1, Relaxed);
        kept_some.then_some(Self { version, pieces, dictionary: self.dictionary })
    }

    /// Returns a number that tells this form from others of the same chunk.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Returns the bytes held in memory.
    pub(crate) fn len(&self) -> usize {
        let kept: usize = self.pieces.iter().filter_map(|piece| piece.kept.as_ref()).map(Bytes::len).sum();
        kept + self.pieces.len() * size_of::<Piece>()
    }

    /// Returns the chunk's footer entry, changed to describe this form.
    pub(crate) fn described(&self, chunk: &ColumnChunkMetaData) -> parquet::errors::Result<ColumnChunkMetaData> {
        let dictionary = if self.dictionary { self.pieces[0].len() } else { 0 };
        relocated(chunk, self.pieces.iter().map(Piece::len).sum(), dictionary)?.build()
    }

    /// Returns the chunk's offset index, changed to this form.
    pub(crate) fn located(&self, chunk: &ColumnChunkMetaData, rows: i64, pages: &OffsetIndexMetaData) -> OffsetIndexMetaData {
        let at = virtual_address(chunk.byte_range().0);
        let data = &self.pieces[usize::from(self.dictionary)..];
        offset_index(data.iter().map(|piece| (at + piece.at, piece.len())), rows, pages)
    }

    /// Returns the pieces that a virtual range touches, for a chunk whose base address is `base`.
    fn within(&self, base: u64, range: &Range<u64>) -> parquet::errors::Result<&[Piece]> {
        let outside = || ParquetError::EOF(format!("bytes {range:?} of a chunk that is addressed at {base}"));
        let (from, to) = (range.start.checked_sub(base).ok_or_else(outside)?, range.end.checked_sub(base).ok_or_else(outside)?);
        let first = self.pieces.partition_point(|piece| piece.at <= from).checked_sub(1).ok_or_else(outside)?;
        let end = self.pieces.partition_point(|piece| piece.at < to).max(first + 1);
        let last = &self.pieces[end - 1];
        if from <= to && to <= last.at + last.len() { Ok(&self.pieces[first..end]) } else { Err(outside()) }
    }

    /// Returns the range of the file that a virtual range needs; none if all of its pages are in memory.
    pub(crate) fn stored(&self, base: u64, range: &Range<u64>) -> parquet::errors::Result<Option<Range<u64>>> {
        let pieces = self.within(base, range)?;
        let mut stored = pieces.iter().filter(|piece| piece.kept.is_none()).map(|piece| &piece.stored);
        let first = stored.next();
        Ok(first.map(|first| first.start..stored.next_back().unwrap_or(first).end))
    }

    /// Returns a virtual range of this form. `stored` are the bytes that [`stored`](Self::stored) asked for.
    pub(crate) fn slice(&self, base: u64, range: &Range<u64>, stored: Option<FileSlice>) -> parquet::errors::Result<Bytes> {
        let pieces = self.within(base, range)?;
        let piece = |piece: &Piece| match (&piece.kept, &stored) {
            (Some(kept), _) => Ok(kept.clone()),
            (None, Some(window)) => window.slice(piece.stored.start, Some(usize::try_from(piece.len())?)),
            (None, None) => Err(ParquetError::EOF(format!("bytes {:?}", piece.stored))),
        };
        let bytes = match pieces {
            [one] => piece(one)?,
            several => {
                let mut joined = BytesMut::new();
                for one in several {
                    joined.extend_from_slice(&piece(one)?);
                }
                joined.freeze()
            }
        };
        let window = FileSlice { start: base + pieces[0].at, bytes };
        window.slice(range.start, Some(usize::try_from(range.end - range.start)?))
    }
}

/// Returns a page with its header, decompressed and framed as raw blocks.
///
/// None if the page is no larger that way: then there is nothing to decompress.
fn unpacked(chunk: &ColumnChunkMetaData, stored: &Range<u64>, bytes: Bytes) -> parquet::errors::Result<Option<Bytes>> {
    let length = bytes.len();
    // A chunk that consists of this page only.
    let alone = chunk
        .clone()
        .into_builder()
        .set_index_page_offset(None)
        .set_dictionary_page_offset(None)
        .set_data_page_offset(i64::try_from(stored.start)?)
        .set_total_compressed_size(i64::try_from(length)?)
        .build()?;
    let window = FileSlice { start: stored.start, bytes };
    let mut reader = SerializedPageReader::new(Arc::new(window), &alone, usize::MAX, None)?;
    let Some(mut page) = reader.get_next_page()? else { return Ok(None) };
    let size = page.buffer().len();
    let levels = match &page {
        Page::DataPageV2 { is_compressed: false, .. } => return Ok(None),
        Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => (def_levels_byte_len + rep_levels_byte_len) as usize,
        _ => 0,
    };
    let (Page::DataPage { buf, .. } | Page::DataPageV2 { buf, .. } | Page::DictionaryPage { buf, .. }) = &mut page;
    *buf = framed(&buf[..levels], &buf[levels..]);
    let mut sink = TrackedWrite::new(Vec::with_capacity(size + (length >> 3) + 64));
    SerializedPageWriter::new(&mut sink).write_page(CompressedPage::new(without_statistics(page), size))?;
    let mut bytes = sink.into_inner()?;
    bytes.shrink_to_fit();
    Ok((bytes.len() > length).then(|| bytes.into()))
}

/// Returns levels followed by values in a Zstandard frame of raw blocks. Levels are never compressed.
///
/// Spec: RFC 8878, section 3.1.1.
fn framed(levels: &[u8], values: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(levels.len() + values.len() + 9 + 3 * values.len().div_ceil(RAW_BLOCK));
    out.extend_from_slice(levels);
    if let Ok(length) = u32::try_from(values.len())
        && length > 0
    {
        out.extend_from_slice(&0xFD2F_B528_u32.to_le_bytes());
        // A frame of a single segment; its size follows in four bytes.
        out.push(0b1010_0000);
        out.extend_from_slice(&length.to_le_bytes());
        let blocks = values.chunks(RAW_BLOCK);
        let last = blocks.len() - 1;
        for (i, block) in blocks.enumerate() {
            // A size of at most 128 KiB takes 18 bits. The three bits below are the block type (0 is raw) and the flag of the
            // last block.
            let header = (block.len() as u32) << 3 | u32::from(i == last);
            out.extend_from_slice(&header.to_le_bytes()[..3]);
            out.extend_from_slice(block);
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use arrow::compute::concat_batches;
    use esker_storage::Storage;
    use parquet::arrow::arrow_reader::RowSelection;
    use parquet::basic::{Encoding, ZstdLevel};
    use parquet::file::properties::{WriterProperties, WriterVersion};

    use super::*;
    use crate::forms::uncompressed::VIRTUAL_BASE;
    use crate::forms::uncompressed::tests::{read, rows, written};
    use crate::{BlockCache, BlockOptions, Reader, ScanRequest};

    const ROWS: i64 = 600_000;

    /// Counts the chunks of a footer view that have decompressed pages.
    fn relaid(shown: &ParquetMetaData) -> usize {
        let chunks = shown.row_groups().iter().flat_map(|group| group.columns());
        chunks.filter(|c| c.byte_range().0 >= VIRTUAL_BASE && c.compression() != Compression::UNCOMPRESSED).count()
    }

    /// Selects `n` rows at each of some places.
    fn chosen(places: &[usize], n: usize) -> (RowSelection, Vec<Range<usize>>) {
        let ranges: Vec<_> = places.iter().map(|place| *place..(place + n).min(ROWS as usize)).collect();
        (RowSelection::from_consecutive_ranges(ranges.iter().cloned(), ROWS as usize), ranges)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn pages_that_are_read_again_are_kept_decompressed_and_hold_the_same_rows() {
        let (dir, rows) = (tempfile::tempdir().expect("a directory"), rows(ROWS, 100_000));
        for (version, page_rows) in [(WriterVersion::PARQUET_1_0, 5_000), (WriterVersion::PARQUET_2_0, 40_000)] {
            let properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(ZstdLevel::default()))
                .set_writer_version(version)
                .set_data_page_row_count_limit(page_rows)
                .set_dictionary_enabled(false)
                .set_encoding(Encoding::PLAIN)
                .set_column_dictionary_enabled("c2".into(), true)
                .set_dictionary_page_size_limit(4 << 20);
            let bytes = written(&rows, properties);
            let path = dir.path().join(format!("{page_rows}.parquet"));
            std::fs::write(&path, &bytes).expect("written");
            let (path, size) = (format!("file://{}", path.display()), bytes.len() as u64);
            let blocks = BlockCache::open(&BlockOptions { memory_bytes: 64 << 20, disk: None }).expect("a cache");
            let reader = Reader::new(Storage::local(), 16 << 20, blocks);
            let wanted = ScanRequest::columns(Arc::new([1, 2, 3, 4, 5]));
            let same = async |places: &[usize], n: usize| {
                let (selection, ranges) = chosen(places, n);
                let (some, footer) = read(&reader, &path, size, &wanted, Some(selection)).await;
                let expected: Vec<_> = ranges.iter().map(|r| rows.slice(r.start, r.len())).collect();
                let expected = concat_batches(&rows.schema(), &expected).expect("one batch");
                assert_eq!(some.columns(), expected.columns(), "{places:?}");
                relaid(&footer)
            };
            // The first page is among them: from its position a reader infers that there is a dictionary.
            for places in [[3, 120_001, 599_990], [60_000, 61_000, 200_004], [5_100, 10_200, 333_333]] {
                let mut kept = 0;
                for _ in 0..200 {
                    kept = same(&places, 10).await;
                    if kept == 5 {
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                assert!(kept == 5, "{kept} chunks with pages kept, {page_rows} rows a page, {places:?}");
            }
            // Decompressed pages are read alone, and together with pages as stored.
            for place in (0..ROWS as usize).step_by(33_331) {
                same(&[place], 7_000).await;
                same(&[place / 2, place + 20], 5).await;
            }
            // The whole chunk is read as one without gaps, until it is decompressed as a whole.
            for _ in 0..5 {
                let (all, _) = read(&reader, &path, size, &wanted, None).await;
                assert_eq!(all.columns(), rows.columns());
                let hidden = ScanRequest { all_pages: true, ..ScanRequest::columns(Arc::new([1, 2, 3, 4, 5])) };
                let (all, footer) = read(&reader, &path, size, &hidden, None).await;
                assert!(footer.offset_index().is_none());
                assert_eq!(all.columns(), rows.columns());
            }
            same(&[0, 77_777], 1).await;
        }
    }
}
