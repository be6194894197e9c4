//! Virtual addresses of column chunks in a cached form, and their entries in the footer.
//!
//! The footer view describes such a chunk at a virtual address beyond the end of any file. A reader asks for bytes by address, so
//! the address alone distinguishes a cached form from the chunk as stored. The pages of a chunk move with it. So the footer view
//! gets the chunk's sizes and its offset index anew.

use parquet::column::page::Page;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnChunkMetaDataBuilder, OffsetIndexBuilder};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;

/// The lowest virtual address. Chunks in a cached form are addressed here and above, beyond the end of any file.
pub(crate) const VIRTUAL_BASE: u64 = 1 << 62;

/// Number of bits by which the start of a chunk in its file is shifted to the left for its virtual address.
///
/// A chunk can thus grow by a factor of 2^20 in its cached form before it overlaps the next.
pub(super) const SHIFT: u32 = 20;

/// Greatest end of a chunk, as an exclusive byte offset in its file, for which the chunk may take a cached form.
pub(super) const MAX_CHUNK_END: u64 = 1 << (61 - SHIFT);

/// Returns the virtual base address of the chunk that begins at `start` in its file.
///
/// A damaged footer may claim any start. A start beyond [`MAX_CHUNK_END`] gets an address that no chunk in a cached form has.
pub(crate) fn virtual_address(start: u64) -> u64 {
    VIRTUAL_BASE.saturating_add(start.saturating_mul(1 << SHIFT))
}

/// Returns a chunk's footer entry, moved to its virtual address.
///
/// `length` is the length of the cached form in bytes, and `dictionary_bytes` that of its dictionary page; 0 without one.
pub(super) fn relocated(
    chunk: &ColumnChunkMetaData,
    length: u64,
    dictionary_bytes: u64,
) -> parquet::errors::Result<ColumnChunkMetaDataBuilder> {
    let at = i64::try_from(virtual_address(chunk.byte_range().0))?;
    // If the footer has no dictionary offset, the data page offset is that of the first page, of whichever kind.
    let (dictionary, data) = match chunk.dictionary_page_offset() {
        Some(_) => (Some(at), at + i64::try_from(dictionary_bytes)?),
        None => (None, at),
    };
    Ok(chunk
        .clone()
        .into_builder()
        .set_total_compressed_size(i64::try_from(length)?)
        .set_index_page_offset(None)
        .set_dictionary_page_offset(dictionary)
        .set_data_page_offset(data))
}

/// Returns a chunk's offset index with the addresses and lengths that its data pages have in a cached form.
///
/// `moved_pages` yields the address and the length in bytes of each data page, in order. `rows` is the chunk's number of rows, and
/// `pages` is the offset index of the chunk as stored.
pub(super) fn offset_index(
    moved_pages: impl Iterator<Item = (u64, u64)>,
    rows: i64,
    pages: &OffsetIndexMetaData,
) -> OffsetIndexMetaData {
    let mut index = OffsetIndexBuilder::new();
    let first_rows: Vec<i64> = pages.page_locations().iter().map(|p| p.first_row_index).chain([rows]).collect();
    let string_bytes = pages.unencoded_byte_array_data_bytes();
    for (i, (address, length)) in moved_pages.enumerate() {
        index.append_row_count(first_rows[i + 1] - first_rows[i]);
        let address = i64::try_from(address).unwrap_or(i64::MAX);
        index.append_offset_and_size(address, i32::try_from(length).unwrap_or(i32::MAX));
        index.append_unencoded_byte_array_data_bytes(string_bytes.and_then(|s| s.get(i).copied()));
    }
    index.build()
}

/// Removes the statistics from a page header: readers use those of the page index.
pub(super) fn without_statistics(mut page: Page) -> Page {
    if let Page::DataPage { statistics, .. } | Page::DataPageV2 { statistics, .. } = &mut page {
        *statistics = None;
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_no_file_has_shares_no_address_with_a_chunk() {
        let greatest = virtual_address(MAX_CHUNK_END);
        assert_eq!((virtual_address(0), greatest), (VIRTUAL_BASE, VIRTUAL_BASE + (1 << 61)));
        for start in [MAX_CHUNK_END + 1, 1 << 44, (1 << 44) + 5, u64::MAX] {
            assert!(virtual_address(start) > greatest, "{start}");
        }
    }
}
