//! Builds the footer that a scan reads.
//!
//! Such a footer view holds only the row groups of the scan's split. It describes a chunk that has a cached form in that form, at
//! a virtual address (`VIRTUAL_BASE` in `forms/address.rs`). So Parquet's own decoder can read the cache, and what it reads is
//! still a valid Parquet file. Start with [`build_footer_view`].

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, OffsetIndexBuilder, ParquetMetaData, ParquetMetaDataBuilder, RowGroupMetaData,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::OffsetIndexMetaData;

use crate::forms::{CachedForm, CachedForms};
use crate::layout::root_field_id;

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
    forms: Arc<Mutex<Weak<CachedForms>>>,
}

impl ScanRequest {
    /// Requests some columns of a whole file.
    pub fn columns(columns: Arc<[i32]>) -> Self {
        Self { columns, ..Self::default() }
    }

    /// Returns the cached forms of the scan's last footer view, if a reader still holds them.
    pub(crate) fn shared_forms(&self) -> Option<Arc<CachedForms>> {
        self.forms.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    /// Shares the cached forms of a new footer view with the clones of this request.
    pub(crate) fn share_forms(&self, forms: &Arc<CachedForms>) {
        *self.forms.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(forms);
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
    let is_read = |leaf: usize| root_field_id(footer, leaf).is_none_or(|id| shown.columns.contains(&id));
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
