//! Builds the footer that a scan reads.
//!
//! Such a footer view holds only the row groups of the scan's split. It describes a chunk that has a cached form in that form, at
//! a virtual address (`VIRTUAL_BASE` in `uncompressed.rs`). So Parquet's own decoder can read the cache, and what it reads is
//! still a valid Parquet file. Start with [`build_footer_view`]; [`CachedForm`] is what the cache holds.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, OffsetIndexBuilder, ParquetMetaData, ParquetMetaDataBuilder, RowGroupMetaData,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::OffsetIndexMetaData;

use crate::forms::repacked::RepackedChunk;
use crate::forms::uncompressed::UncompressedChunk;
use crate::row_group_decoder::FileSlice;

/// The part of a file that a scan reads.
///
/// Clones share the cached forms of the file's chunks: a scan may open a file with one reader and decode it with another.
#[derive(Debug, Clone, Default)]
pub struct ScanRequest {
    /// Field ids of the table's columns that are read.
    pub columns: Arc<[i32]>,
    /// Byte range of the file: row groups that begin in it are read. None reads all.
    pub split: Option<Range<u64>>,
    /// True if float columns may hold NaN: maxima in the footer are then ignored.
    pub may_hold_nan: bool,
    /// True if no page may be skipped: the footer view then has no page index.
    pub all_pages: bool,
    /// The cached forms of the last footer view, alive as long as a reader of the scan holds them.
    pub(crate) shared_forms: Arc<Mutex<Weak<CachedForms>>>,
}

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
    /// Returns a number that tells two forms of the same chunk apart.
    pub(crate) fn version(&self) -> u64 {
        match self {
            Self::Uncompressed(_) => 0,
            Self::Repacked(relaid) => relaid.version(),
        }
    }

    /// Returns the chunk's footer entry, changed to describe this form.
    fn described(&self, chunk: &ColumnChunkMetaData) -> parquet::errors::Result<ColumnChunkMetaData> {
        match self {
            Self::Uncompressed(plain) => plain.described(chunk),
            Self::Repacked(relaid) => relaid.described(chunk),
        }
    }

    /// Returns the chunk's offset index, changed to this form.
    fn located(&self, chunk: &ColumnChunkMetaData, rows: i64, pages: &OffsetIndexMetaData) -> OffsetIndexMetaData {
        match self {
            Self::Uncompressed(plain) => plain.located(chunk, rows, pages),
            Self::Repacked(relaid) => relaid.located(chunk, rows, pages),
        }
    }

    /// Returns the range of the file that a range of this form needs; none if all bytes are cached.
    ///
    /// `range` is a virtual range of a chunk whose base address is `base`.
    pub(crate) fn stored(&self, base: u64, range: &Range<u64>) -> parquet::errors::Result<Option<Range<u64>>> {
        match self {
            Self::Uncompressed(_) => Ok(None),
            Self::Repacked(relaid) => relaid.stored(base, range),
        }
    }

    /// Returns a virtual range of this form. `stored` are the bytes of the file that [`stored`](Self::stored) asked for.
    pub(crate) fn slice(&self, base: u64, range: &Range<u64>, stored: Option<FileSlice>) -> parquet::errors::Result<Bytes> {
        match self {
            Self::Uncompressed(plain) => plain.slice(base, range),
            Self::Repacked(relaid) => relaid.slice(base, range, stored),
        }
    }
}

impl ScanRequest {
    /// Requests some columns of a whole file.
    pub fn columns(columns: Arc<[i32]>) -> Self {
        Self { columns, ..Self::default() }
    }
}

/// All that a footer view depends on: the key under which views are cached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FooterView {
    pub(crate) file: Arc<str>,
    /// Indexes of the row groups, ascending.
    pub(crate) groups: Vec<usize>,
    /// Field ids of the columns that are read; the view has no page index for others.
    pub(crate) columns: Arc<[i32]>,
    pub(crate) nan: bool,
    pub(crate) all_pages: bool,
    /// Row group, column and version of each chunk in a cached form, ascending.
    pub(crate) forms: Vec<((usize, usize), u64)>,
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
    leaves.filter(|leaf| field_of(footer, *leaf).is_some_and(|id| ids.contains(&id))).collect()
}

/// Returns the field id of the top-level column that a leaf belongs to.
fn field_of(footer: &ParquetMetaData, leaf: usize) -> Option<i32> {
    let about = footer.file_metadata().schema_descr().get_column_root(leaf).get_basic_info();
    about.has_id().then(|| about.id())
}

/// Builds a footer view. `forms` are the cached forms by row group and column.
pub(crate) fn build_footer_view(
    footer: &ParquetMetaData,
    shown: &FooterView,
    forms: &HashMap<(usize, usize), CachedForm>,
) -> parquet::errors::Result<ParquetMetaData> {
    let column_index = footer.column_index().filter(|_| !shown.all_pages);
    let offset_index = footer.offset_index().filter(|_| !shown.all_pages);
    let indexed = column_index.is_some() && offset_index.is_some();
    let chunk = |group: usize, column: usize, chunk: &ColumnChunkMetaData| {
        let chunk = forms.get(&(group, column)).map_or_else(|| Ok(chunk.clone()), |form| form.described(chunk))?;
        match indexed {
            true => Ok(chunk),
            // Otherwise the scan would load the page index from the file, which has the pages at their stored places.
            false => chunk
                .into_builder()
                .set_column_index_offset(None)
                .set_column_index_length(None)
                .set_offset_index_offset(None)
                .set_offset_index_length(None)
                .build(),
        }
    };
    let group = |group: &usize| {
        let about = footer.row_group(*group);
        let columns = about.columns().iter().enumerate().map(|(i, c)| chunk(*group, i, c));
        about.clone().into_builder().set_column_metadata(columns.collect::<parquet::errors::Result<_>>()?).build()
    };
    let groups: Vec<RowGroupMetaData> = shown.groups.iter().map(group).collect::<parquet::errors::Result<_>>()?;
    let is_read = |leaf: usize| field_of(footer, leaf).is_none_or(|id| shown.columns.contains(&id));
    let located = |group: &usize, pages: &Vec<Vec<OffsetIndexMetaData>>| {
        let about = footer.row_group(*group);
        let column = |(column, pages): (usize, &OffsetIndexMetaData)| match forms.get(&(*group, column)) {
            Some(form) => form.located(about.column(column), about.num_rows(), pages),
            None if is_read(column) => pages.clone(),
            None => OffsetIndexBuilder::new().build(),
        };
        pages[*group].iter().enumerate().map(column).collect::<Vec<_>>()
    };
    let offsets = offset_index.filter(|_| indexed).map(|pages| shown.groups.iter().map(|g| located(g, pages)).collect());
    let bounded = |(column, pages): (usize, &ColumnIndexMetaData)| match is_read(column) {
        true => pages.clone(),
        false => ColumnIndexMetaData::NONE,
    };
    let bounds = |pages: &Vec<Vec<ColumnIndexMetaData>>| {
        shown.groups.iter().map(|g| pages[*g].iter().enumerate().map(bounded).collect()).collect()
    };
    let bounds = column_index.filter(|_| indexed).map(bounds);

    let file = footer.file_metadata();
    let rows = groups.iter().map(RowGroupMetaData::num_rows).sum();
    let (created_by, pairs) = (file.created_by().map(str::to_owned), file.key_value_metadata().cloned());
    let file = FileMetaData::new(file.version(), rows, created_by, pairs, file.schema_descr_ptr(), file.column_orders().cloned());
    let built = ParquetMetaDataBuilder::new(file).set_row_groups(groups);
    Ok(built.set_column_index(bounds).set_offset_index(offsets).build())
}
