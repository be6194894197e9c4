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

use super::address::{MAX_CHUNK_END, offset_index, relocated, virtual_address, without_statistics};
use crate::file_slice::FileSlice;

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
        let end = start.checked_add(length).filter(|end| *end <= MAX_CHUNK_END)?;
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
            (None, Some(window)) => window.range(&piece.stored),
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
        FileSlice { start: base + pieces[0].at, bytes }.range(range)
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
