//! A contiguous part of a file in memory, addressed by offsets in the file.
//!
//! Offsets come from footers and page headers, which may be damaged: bytes outside the slice are an error.

use std::ops::Range;

use bytes::{Buf, Bytes};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

/// A contiguous part of a file in memory, addressed by offsets in the file.
#[derive(Debug, Clone)]
pub struct FileSlice {
    /// Offset in the file of the first byte.
    pub(crate) start: u64,
    pub(crate) bytes: Bytes,
}

impl FileSlice {
    /// Returns the offset in the file after the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Returns `length` bytes from offset `start` of the file, or all that follow it.
    ///
    /// Bytes outside the slice are an error.
    pub(crate) fn slice(&self, start: u64, length: Option<usize>) -> parquet::errors::Result<Bytes> {
        let outside = || ParquetError::EOF(format!("bytes at {start} of a part that begins at {}", self.start));
        let from = start.checked_sub(self.start).and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= self.bytes.len());
        let from = from.ok_or_else(outside)?;
        let to = length.map_or(Some(self.bytes.len()), |n| from.checked_add(n)).filter(|to| *to <= self.bytes.len());
        Ok(self.bytes.slice(from..to.ok_or_else(outside)?))
    }

    /// Returns a range of the file. A range outside the slice, or one that ends before it begins, is an error.
    pub(crate) fn range(&self, range: &Range<u64>) -> parquet::errors::Result<Bytes> {
        let backwards = || ParquetError::EOF(format!("bytes {range:?} of a part that begins at {}", self.start));
        let length = range.end.checked_sub(range.start).ok_or_else(backwards)?;
        self.slice(range.start, Some(usize::try_from(length)?))
    }
}

impl Length for FileSlice {
    fn len(&self) -> u64 {
        self.end()
    }
}

impl ChunkReader for FileSlice {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(self.slice(start, None)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.slice(start, Some(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_outside_the_slice_are_errors() {
        let slice = FileSlice { start: 10, bytes: Bytes::from_static(b"abcd") };
        assert_eq!(slice.range(&(11..13)).expect("inside"), "bc");
        assert_eq!(slice.range(&(14..14)).expect("the end"), "");
        for (start, end) in [(9, 11), (13, 15), (15, 15), (12, 11), (0, u64::MAX)] {
            slice.range(&Range { start, end }).expect_err("outside");
        }
    }
}
