//! Parsed footers, and what is changed in them before anybody reads them.

use parquet::arrow::ARROW_SCHEMA_META_KEY;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Type;
use parquet::file::metadata::{ColumnChunkMetaData, FileMetaData, ParquetMetaData, ParquetMetaDataBuilder, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;
use std::sync::Arc;

use crate::input::Chunks;

/// A parsed footer, page index included.
#[derive(Debug, Clone)]
pub(crate) struct Footer {
    pub(crate) metadata: ArrowReaderMetadata,
    /// The same without what it says of the greatest floats, where it has any: NaN is greater and left out.
    with_nan: Option<Arc<ParquetMetaData>>,
    pub(crate) chunks: Chunks,
}

impl Footer {
    pub(crate) fn new(loaded: ParquetMetaData) -> parquet::errors::Result<Self> {
        let loaded = Arc::new(without_arrow_schema(loaded));
        let chunks = Chunks::of(&loaded);
        let with_nan = without_float_max(&loaded).map(Arc::new);
        let metadata = ArrowReaderMetadata::try_new(loaded, ArrowReaderOptions::new())?;
        Ok(Self { metadata, with_nan, chunks })
    }

    /// The footer; for a file that may hold NaN, one whose statistics hold for NaN too.
    pub(crate) fn of(&self, nan: bool) -> &Arc<ParquetMetaData> {
        self.with_nan.as_ref().filter(|_| nan).unwrap_or_else(|| self.metadata.metadata())
    }
}

/// A footer without maxima of floats; none if it has no floats. A reader to whom NaN is the greatest would otherwise leave out row
/// groups and pages that hold some.
fn without_float_max(footer: &ParquetMetaData) -> Option<ParquetMetaData> {
    let is_float = |chunk: &ColumnChunkMetaData| matches!(chunk.column_type(), Type::FLOAT | Type::DOUBLE);
    if !footer.row_groups().iter().any(|g| g.columns().iter().any(is_float)) {
        return None;
    }
    let chunk = |chunk: &ColumnChunkMetaData| {
        let statistics = match chunk.statistics() {
            Some(Statistics::Float(s)) => Statistics::float(s.min_opt().copied(), None, None, s.null_count_opt(), false),
            Some(Statistics::Double(s)) => Statistics::double(s.min_opt().copied(), None, None, s.null_count_opt(), false),
            _ => return Ok(chunk.clone()),
        };
        chunk.clone().into_builder().set_statistics(statistics).build()
    };
    let group = |group: &RowGroupMetaData| {
        let columns = group.columns().iter().map(chunk).collect::<parquet::errors::Result<Vec<_>>>()?;
        group.clone().into_builder().set_column_metadata(columns).build()
    };
    let groups: Vec<RowGroupMetaData> = footer.row_groups().iter().map(group).collect::<parquet::errors::Result<_>>().ok()?;
    let pages = footer.column_index().map(|groups| {
        let group = |(group, columns): (&Vec<ColumnIndexMetaData>, &RowGroupMetaData)| {
            let column = |(index, chunk): (&ColumnIndexMetaData, &ColumnChunkMetaData)| match is_float(chunk) {
                true => ColumnIndexMetaData::NONE,
                false => index.clone(),
            };
            group.iter().zip(columns.columns()).map(column).collect()
        };
        groups.iter().zip(footer.row_groups()).map(group).collect()
    });
    Some(
        ParquetMetaDataBuilder::new(footer.file_metadata().clone())
            .set_row_groups(groups)
            .set_column_index(pages)
            .set_offset_index(footer.offset_index().cloned())
            .build(),
    )
}

/// The embedded Arrow schema is one writer's view; the Parquet types and field ids are the table's.
fn without_arrow_schema(loaded: ParquetMetaData) -> ParquetMetaData {
    let file = loaded.file_metadata();
    let Some(pairs) = file.key_value_metadata() else { return loaded };
    if pairs.iter().all(|pair| pair.key != ARROW_SCHEMA_META_KEY) {
        return loaded;
    }
    let kept = pairs.iter().filter(|pair| pair.key != ARROW_SCHEMA_META_KEY).cloned().collect();
    let (created_by, orders) = (file.created_by().map(str::to_owned), file.column_orders().cloned());
    let schema = file.schema_descr_ptr();
    let file = FileMetaData::new(file.version(), file.num_rows(), created_by, Some(kept), schema, orders);
    ParquetMetaDataBuilder::new(file)
        .set_row_groups(loaded.row_groups().to_vec())
        .set_column_index(loaded.column_index().cloned())
        .set_offset_index(loaded.offset_index().cloned())
        .build()
}
