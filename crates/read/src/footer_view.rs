//! A file's footer as a scan is shown it: the row groups of its part of the file only, and column chunks that are kept in another form
//! than they are stored in as they are kept.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, OffsetIndexBuilder, ParquetMetaData, ParquetMetaDataBuilder, RowGroupMetaData,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::OffsetIndexMetaData;

use crate::fetched::FileSlice;
use crate::repacked::RepackedChunk;
use crate::uncompressed::UncompressedChunk;

/// What a scan reads of a file.
#[derive(Debug, Clone, Default)]
pub struct ScanRequest {
    /// The field ids of the table's columns that are read.
    pub columns: Arc<[i32]>,
    /// Bytes of the file; of its row groups, those that begin there are read. All if none.
    pub part: Option<Range<u64>>,
    /// Whether the file may hold NaN in float columns: its footer's statistics then say nothing of the greatest values.
    pub nan: bool,
    /// Whether some pages can't be left out: the footer is shown without page index then.
    pub all_pages: bool,
    /// What of the file was shown in another form: a scan may open it with one reader and decode with another.
    pub(crate) shown: Arc<Mutex<Weak<CachedForms>>>,
}

/// A column chunk in another form than it is stored in.
#[derive(Debug, Clone)]
pub(crate) enum CachedForm {
    /// Without compression.
    Plain(Arc<UncompressedChunk>),
    /// With some pages decompressed.
    Relaid(Arc<RepackedChunk>),
}

/// Chunks in such forms, by where they are addressed.
pub(crate) type CachedForms = BTreeMap<u64, CachedForm>;

impl CachedForm {
    /// Tells it from other forms of the same chunk.
    pub(crate) fn version(&self) -> u64 {
        match self {
            Self::Plain(_) => 0,
            Self::Relaid(relaid) => relaid.version(),
        }
    }

    fn described(&self, chunk: &ColumnChunkMetaData) -> parquet::errors::Result<ColumnChunkMetaData> {
        match self {
            Self::Plain(plain) => plain.described(chunk),
            Self::Relaid(relaid) => relaid.described(chunk),
        }
    }

    fn located(&self, chunk: &ColumnChunkMetaData, rows: i64, pages: &OffsetIndexMetaData) -> OffsetIndexMetaData {
        match self {
            Self::Plain(plain) => plain.located(chunk, rows, pages),
            Self::Relaid(relaid) => relaid.located(chunk, rows, pages),
        }
    }

    /// The bytes of the file that are wanted for an address range of it, which is addressed at `base`; none if they are kept.
    pub(crate) fn stored(&self, base: u64, range: &Range<u64>) -> parquet::errors::Result<Option<Range<u64>>> {
        match self {
            Self::Plain(_) => Ok(None),
            Self::Relaid(relaid) => relaid.stored(base, range),
        }
    }

    /// An address range of it, with the bytes of the file that are wanted for that.
    pub(crate) fn slice(&self, base: u64, range: &Range<u64>, stored: Option<FileSlice>) -> parquet::errors::Result<Bytes> {
        match self {
            Self::Plain(plain) => plain.slice(base, range),
            Self::Relaid(relaid) => relaid.slice(base, range, stored),
        }
    }
}

impl ScanRequest {
    /// Some columns of all of a file.
    pub fn columns(columns: Arc<[i32]>) -> Self {
        Self { columns, ..Self::default() }
    }
}

/// A footer as it is shown: with chunks in other forms by row group and column, in order, and the versions of those.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FooterView {
    pub(crate) file: Arc<str>,
    pub(crate) groups: Vec<usize>,
    /// The field ids of the columns that are read; of others, it does not tell the pages.
    pub(crate) columns: Arc<[i32]>,
    pub(crate) nan: bool,
    pub(crate) all_pages: bool,
    pub(crate) forms: Vec<((usize, usize), u64)>,
}

/// The row groups that begin in some bytes of a file; all if none are given.
pub fn row_groups_in(footer: &ParquetMetaData, part: Option<&Range<u64>>) -> Vec<usize> {
    let begins = |i: &usize| {
        let first = footer.row_group(*i).columns().first().map_or(0, |c| c.byte_range().0);
        part.is_none_or(|part| part.contains(&first))
    };
    (0..footer.num_row_groups()).filter(begins).collect()
}

/// The leaf columns of the columns with some field ids.
pub(crate) fn leaves(footer: &ParquetMetaData, ids: &[i32]) -> Vec<usize> {
    let leaves = 0..footer.file_metadata().schema_descr().num_columns();
    leaves.filter(|leaf| field_of(footer, *leaf).is_some_and(|id| ids.contains(&id))).collect()
}

/// The field id of the column that a leaf belongs to.
fn field_of(footer: &ParquetMetaData, leaf: usize) -> Option<i32> {
    let about = footer.file_metadata().schema_descr().get_column_root(leaf).get_basic_info();
    about.has_id().then(|| about.id())
}

/// The footer in that form.
pub(crate) fn show(
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
            // Or the scan would look for the page index in the file, which tells where pages are there.
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
