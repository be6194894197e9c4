//! The cached form of a column chunk without compression, for chunks that are read again.
//!
//! Its pages are those of the file, decompressed, each with its header.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::page::{CompressedPage, PageReader, PageWriter};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};

use super::address::{MAX_CHUNK_END, SHIFT, offset_index, relocated, virtual_address, without_statistics};
use crate::file_slice::FileSlice;

/// The pages of a column chunk without compression, each with its header.
#[derive(Debug)]
pub(crate) struct UncompressedChunk {
    bytes: Bytes,
    /// Length in bytes of the dictionary page, which comes first; 0 if there is none.
    dictionary: u64,
    /// Offset and length in bytes of each data page.
    pages: Vec<(u64, usize)>,
}

impl UncompressedChunk {
    /// Decompresses a chunk. None if it would take more than `limit` bytes or does not match its description.
    ///
    /// `bytes` are the chunk as stored.
    pub(crate) fn of(footer: &ParquetMetaData, (group, column): (usize, usize), bytes: Bytes, limit: u64) -> Option<Self> {
        let chunk = footer.row_group(group).column(column);
        let (start, length) = chunk.byte_range();
        if bytes.len() as u64 != length || start.saturating_add(length) > MAX_CHUNK_END {
            return None;
        }
        let limit = limit.min((length << SHIFT).saturating_sub(1));
        let plain = Self::decompressed(chunk, footer.row_group(group).num_rows(), bytes, limit).ok()??;
        let known = footer.offset_index().map(|groups| groups.get(group)?.get(column).map(|c| c.page_locations().len()));
        known.is_none_or(|n| n == Some(plain.pages.len())).then_some(plain)
    }

    /// Decompresses the pages of a chunk; none beyond `limit` bytes, or if a dictionary page is not the first.
    fn decompressed(chunk: &ColumnChunkMetaData, rows: i64, bytes: Bytes, limit: u64) -> Result<Option<Self>, ParquetError> {
        let window = FileSlice { start: chunk.byte_range().0, bytes };
        let rows = usize::try_from(rows)?;
        let mut reader = SerializedPageReader::new(Arc::new(window), chunk, rows, None)?;
        let claimed = u64::try_from(chunk.uncompressed_size())?.min(limit);
        let mut sink = TrackedWrite::new(Vec::with_capacity(usize::try_from(claimed)?));
        let mut writer = SerializedPageWriter::new(&mut sink);
        let (mut dictionary, mut pages, mut at) = (0, Vec::new(), 0);
        while let Some(page) = reader.get_next_page()? {
            let is_dictionary = page.is_dictionary_page();
            let page = without_statistics(page);
            let size = page.buffer().len();
            let written = writer.write_page(CompressedPage::new(page, size))?;
            let length = written.bytes_written;
            at += length;
            match is_dictionary {
                true if dictionary > 0 || !pages.is_empty() => return Ok(None),
                true => dictionary = length,
                false => pages.push((written.offset, usize::try_from(length)?)),
            }
            if at > limit {
                return Ok(None);
            }
        }
        let mut bytes = sink.into_inner()?;
        bytes.shrink_to_fit();
        Ok(Some(Self { bytes: bytes.into(), dictionary, pages }))
    }

    /// Returns the bytes held in memory.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns a virtual range of the chunk, whose base address is `base`.
    pub(crate) fn slice(&self, base: u64, range: &Range<u64>) -> parquet::errors::Result<Bytes> {
        FileSlice { start: base, bytes: self.bytes.clone() }.range(range)
    }

    /// Returns the chunk's footer entry, changed to describe this form.
    pub(crate) fn described(&self, chunk: &ColumnChunkMetaData) -> parquet::errors::Result<ColumnChunkMetaData> {
        let length = self.bytes.len() as u64;
        let moved = relocated(chunk, length, self.dictionary)?;
        moved.set_compression(Compression::UNCOMPRESSED).set_total_uncompressed_size(i64::try_from(length)?).build()
    }

    /// Returns the chunk's offset index, changed to this form.
    pub(crate) fn located(&self, chunk: &ColumnChunkMetaData, rows: i64, pages: &OffsetIndexMetaData) -> OffsetIndexMetaData {
        let at = virtual_address(chunk.byte_range().0);
        offset_index(self.pages.iter().map(|(offset, length)| (at + offset, *length as u64)), rows, pages)
    }
}
