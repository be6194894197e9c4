//! The geometry of a Parquet file, as its footer describes it.
//!
//! These functions say which rows and bytes belong to which row group, column chunk and leaf column. They do no I/O and change
//! nothing.

use std::ops::Range;
use std::sync::Arc;

use esker_types::saturating_total;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

/// The column chunks of a file, ordered by their first byte.
#[derive(Debug, Clone)]
pub(crate) struct Chunks(Arc<[Chunk]>);

/// A column chunk: its bytes in the file and its place in the footer.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    bytes: Range<u64>,
    /// Index of the row group and of the column.
    pub(crate) of: (usize, usize),
}

impl Chunks {
    /// Lists the column chunks of a footer.
    pub(crate) fn of(footer: &ParquetMetaData) -> Self {
        let groups = footer.row_groups().iter().enumerate();
        let columns = groups.flat_map(|(g, group)| group.columns().iter().enumerate().map(move |(c, chunk)| ((g, c), chunk)));
        let mut chunks: Vec<Chunk> = columns.map(|(of, chunk)| Chunk { bytes: chunk_bytes(chunk), of }).collect();
        chunks.sort_by_key(|c| c.bytes.start);
        Self(chunks.into())
    }

    /// Returns the last chunk that begins at or before an offset.
    pub(crate) fn at(&self, offset: u64) -> Option<&Chunk> {
        self.0.get(self.0.partition_point(|c| c.bytes.start <= offset).checked_sub(1)?)
    }

    /// Returns the chunk whose bytes are exactly `part`.
    pub(crate) fn whole(&self, part: &Range<u64>) -> Option<&Chunk> {
        self.at(part.start).filter(|chunk| chunk.bytes == *part)
    }

    /// Returns the bytes of the chunk that contains a range.
    pub(crate) fn around(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let chunk = &self.at(range.start)?.bytes;
        (range.end <= chunk.end).then(|| chunk.clone())
    }
}

/// Returns the bytes of a column chunk in its file.
pub(crate) fn chunk_bytes(chunk: &ColumnChunkMetaData) -> Range<u64> {
    let (start, length) = chunk.byte_range();
    start..start.saturating_add(length)
}

/// Returns the bytes from the first column chunk of some row groups to the last; an empty range if there are none.
pub(crate) fn row_group_bytes(footer: &ParquetMetaData, row_groups: Range<usize>) -> Range<u64> {
    let chunks = row_groups.flat_map(|group| footer.row_group(group).columns().iter().map(chunk_bytes));
    chunks.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
}

/// Returns the number of rows of some row groups.
pub(crate) fn row_count(footer: &ParquetMetaData, row_groups: &[usize]) -> u64 {
    saturating_total(row_groups.iter().map(|group| footer.row_group(*group).num_rows().unsigned_abs()))
}

/// Returns the rows of each row group as a range of positions in the file, in the file's order.
pub fn row_group_rows(footer: &ParquetMetaData) -> Vec<Range<u64>> {
    let mut start = 0;
    let range = |rows: i64| {
        let range = start..start + rows.unsigned_abs();
        start = range.end;
        range
    };
    footer.row_groups().iter().map(|g| g.num_rows()).map(range).collect()
}

/// Returns the indexes of the row groups that begin in a byte range of the file; all without a range.
pub fn row_groups_in(footer: &ParquetMetaData, part: Option<&Range<u64>>) -> Vec<usize> {
    let begins = |i: &usize| {
        let first = footer.row_group(*i).columns().first().map_or(0, |c| c.byte_range().0);
        part.is_none_or(|part| part.contains(&first))
    };
    (0..footer.num_row_groups()).filter(begins).collect()
}

/// Returns the indexes of the leaf columns that belong to top-level columns with some field ids.
pub(crate) fn leaves(footer: &ParquetMetaData, ids: &[i32]) -> Vec<usize> {
    let leaves = 0..footer.file_metadata().schema_descr().num_columns();
    leaves.filter(|leaf| root_field_id(footer, *leaf).is_some_and(|id| ids.contains(&id))).collect()
}

/// Returns the field id of the top-level column that a leaf belongs to.
pub(crate) fn root_field_id(footer: &ParquetMetaData, leaf: usize) -> Option<i32> {
    let about = footer.file_metadata().schema_descr().get_column_root(leaf).get_basic_info();
    about.has_id().then(|| about.id())
}
