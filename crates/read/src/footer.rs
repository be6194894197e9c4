//! Parsed Parquet footers, corrected before anything reads them.
//!
//! Statistics that can't be trusted are removed (`trusted_statistics.rs`). The embedded Arrow schema is removed, because the
//! Parquet types and field ids decide. 96-bit timestamps are read as microseconds.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ARROW_SCHEMA_META_KEY;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Type;
use parquet::file::metadata::{ColumnChunkMetaData, FileMetaData, ParquetMetaData, ParquetMetaDataBuilder, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;

use crate::layout::Chunks;
use crate::trusted_statistics::trusted;

/// A parsed and corrected footer with its page index. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Footer {
    pub(crate) metadata: ArrowReaderMetadata,
    /// The footer without the maxima of float columns, if the file has float columns.
    ///
    /// NaN is greater than every maximum, and statistics leave it out.
    with_nan: Option<Arc<ParquetMetaData>>,
    /// The file's column chunks, for the block cache.
    pub(crate) chunks: Chunks,
}

impl Footer {
    /// Corrects a footer that was loaded.
    pub(crate) fn new(loaded: ParquetMetaData) -> parquet::errors::Result<Self> {
        let loaded = Arc::new(without_arrow_schema(trusted(loaded)?));
        let chunks = Chunks::of(&loaded);
        let with_nan = without_float_max(&loaded).map(Arc::new);
        let metadata = ArrowReaderMetadata::try_new(loaded.clone(), ArrowReaderOptions::new())?;
        let metadata = match in_microseconds(&metadata) {
            Some(schema) => ArrowReaderMetadata::try_new(loaded, ArrowReaderOptions::new().with_schema(schema))?,
            None => metadata,
        };
        Ok(Self { metadata, with_nan, chunks })
    }

    /// Returns the footer. With `nan`, its statistics also hold if the file contains NaN.
    pub(crate) fn of(&self, nan: bool) -> &Arc<ParquetMetaData> {
        self.with_nan.as_ref().filter(|_| nan).unwrap_or_else(|| self.metadata.metadata())
    }
}

/// Returns the file's columns with 96-bit timestamps as microseconds; none if it has no such columns.
///
/// As nanoseconds, 64 bits end in the year 2262.
fn in_microseconds(metadata: &ArrowReaderMetadata) -> Option<SchemaRef> {
    fn of(field: &FieldRef, leaf: &mut usize, columns: &[ColumnDescPtr]) -> FieldRef {
        let mut inner = |field: &FieldRef| of(field, leaf, columns);
        let ty = match field.data_type() {
            DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
            DataType::List(item) => DataType::List(inner(item)),
            DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
            other => {
                let wide = columns.get(*leaf).is_some_and(|column| column.physical_type() == Type::INT96);
                *leaf += 1;
                if wide { DataType::Timestamp(TimeUnit::Microsecond, None) } else { other.clone() }
            }
        };
        Arc::new(Field::clone(field).with_data_type(ty))
    }
    let columns = metadata.parquet_schema().columns();
    if columns.iter().all(|column| column.physical_type() != Type::INT96) {
        return None;
    }
    let mut leaf = 0;
    let fields: Vec<FieldRef> = metadata.schema().fields().iter().map(|field| of(field, &mut leaf, columns)).collect();
    Some(Arc::new(Schema::new(fields)))
}

/// Returns a footer without maxima of float columns; none if it has no float columns.
///
/// A reader that orders NaN as the greatest value would otherwise skip row groups and pages that contain NaN.
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

/// Removes the embedded Arrow schema: it is one writer's view, while Parquet types and field ids are the table's.
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

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, TimestampMicrosecondArray};
    use arrow::datatypes::TimestampMicrosecondType;
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::data_type::{Int96, Int96Type};
    use parquet::file::metadata::ParquetMetaDataReader;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// In nanoseconds, 64 bits end in 2262.
    #[test]
    fn timestamps_of_96_bits_are_read_whatever_their_year() {
        let root = Arc::new(parse_message_type("message m { required int96 t = 1; }").expect("a schema"));
        let mut writer = SerializedFileWriter::new(Vec::new(), root, Arc::default()).expect("a writer");
        let mut group = writer.next_row_group().expect("a row group");
        let mut column = group.next_column().expect("a column").expect("a column");
        // 9999-12-31 and 0001-01-01 as Julian day numbers.
        let days = [5_373_484, 1_721_426].map(|day| Int96::from(vec![0, 0, day]));
        column.typed::<Int96Type>().write_batch(&days, None, None).expect("written");
        column.close().and_then(|()| group.close()).expect("closed");
        let bytes = Bytes::from(writer.into_inner().expect("closed"));

        let loaded = ParquetMetaDataReader::new().parse_and_finish(&bytes).expect("a footer");
        let footer = Footer::new(loaded).expect("a footer");
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, footer.metadata).build().expect("a reader");
        let batches: Vec<_> = reader.collect::<Result<_, _>>().expect("rows");
        let expected = TimestampMicrosecondArray::from(vec![253_402_214_400_000_000, -62_135_596_800_000_000]);
        assert_eq!(batches[0].column(0).as_primitive::<TimestampMicrosecondType>(), &expected);
    }
}
