//! The forms other than the stored one in which column chunks are cached.
//!
//! A chunk that is read again is kept without compression ([`UncompressedChunk`]), or with some of its pages decompressed
//! ([`RepackedChunk`]). Either form is a valid chunk of a Parquet file at a virtual address (`address.rs`). Start with
//! [`CachedForm`]; `footer_view.rs` describes the forms to the decoder.

mod address;
mod repacked;
mod uncompressed;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::OffsetIndexMetaData;

use crate::file_slice::FileSlice;

pub(crate) use address::{VIRTUAL_BASE, virtual_address};
pub(crate) use repacked::RepackedChunk;
pub(crate) use uncompressed::UncompressedChunk;

/// A column chunk in another form than it is stored in.
#[derive(Debug, Clone)]
pub(crate) enum CachedForm {
    /// The chunk without compression.
    Uncompressed(Arc<UncompressedChunk>),
    /// The chunk with some pages decompressed.
    Repacked(Arc<RepackedChunk>),
}

/// Chunks in cached forms, by virtual base address.
pub(crate) type CachedForms = BTreeMap<u64, CachedForm>;

impl CachedForm {
    /// Returns the bytes held in memory.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Uncompressed(plain) => plain.len(),
            Self::Repacked(repacked) => repacked.len(),
        }
    }

    /// Returns a number that tells two forms of the same chunk apart.
    pub(crate) fn version(&self) -> u64 {
        match self {
            Self::Uncompressed(_) => 0,
            Self::Repacked(repacked) => repacked.version(),
        }
    }

    /// Returns the chunk's footer entry, changed to describe this form.
    pub(crate) fn described(&self, chunk: &ColumnChunkMetaData) -> parquet::errors::Result<ColumnChunkMetaData> {
        match self {
            Self::Uncompressed(plain) => plain.described(chunk),
            Self::Repacked(repacked) => repacked.described(chunk),
        }
    }

    /// Returns the chunk's offset index, changed to this form.
    pub(crate) fn located(&self, chunk: &ColumnChunkMetaData, rows: i64, pages: &OffsetIndexMetaData) -> OffsetIndexMetaData {
        match self {
            Self::Uncompressed(plain) => plain.located(chunk, rows, pages),
            Self::Repacked(repacked) => repacked.located(chunk, rows, pages),
        }
    }

    /// Returns the range of the file that a range of this form needs; none if all bytes are cached.
    ///
    /// `range` is a virtual range of a chunk whose base address is `base`.
    pub(crate) fn stored(&self, base: u64, range: &Range<u64>) -> parquet::errors::Result<Option<Range<u64>>> {
        match self {
            Self::Uncompressed(_) => Ok(None),
            Self::Repacked(repacked) => repacked.stored(base, range),
        }
    }

    /// Returns a virtual range of this form. `stored` are the bytes of the file that [`stored`](Self::stored) asked for.
    pub(crate) fn slice(&self, base: u64, range: &Range<u64>, stored: Option<FileSlice>) -> parquet::errors::Result<Bytes> {
        match self {
            Self::Uncompressed(plain) => plain.slice(base, range),
            Self::Repacked(repacked) => repacked.slice(base, range, stored),
        }
    }
}
