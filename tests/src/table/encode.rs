//! Encodes data files and delete files, and derives the entry of a data file from its footer.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema as ArrowSchema};
use esker_format::{BoundBytes, DataContentType, DataFile, DataFileFormat, PrimitiveType, Schema, Value};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use parquet::file::statistics::Statistics;

/// Returns a required column with its field id.
fn field(name: &str, ty: DataType, id: i32) -> Field {
    Field::new(name, ty, false).with_metadata([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into())
}

/// Encodes rows as a Parquet file. Returns its bytes and its footer.
pub(super) fn parquet(rows: &RecordBatch, properties: WriterProperties) -> (Vec<u8>, ParquetMetaData) {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties)).expect("a writer");
    writer.write(rows).expect("written");
    let footer = writer.close().expect("closed");
    (bytes, footer)
}

/// Returns the entry of a Parquet file, with counts and bounds from its footer.
///
/// NaN are counted in the rows, because a footer does not count them. `bytes` is the size of the file.
pub(super) fn data_file_entry(
    path: &str,
    rows: &RecordBatch,
    bytes: usize,
    footer: &ParquetMetaData,
    schema: &Schema,
) -> DataFile {
    let (mut sizes, mut values, mut nulls) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let (mut lower, mut upper): (BTreeMap<i32, Value>, BTreeMap<i32, Value>) = Default::default();
    for chunk in footer.row_groups().iter().flat_map(|group| group.columns()) {
        let info = chunk.column_descr().self_type().get_basic_info();
        let id = if info.has_id() { info.id() } else { continue };
        *sizes.entry(id).or_insert(0) += chunk.compressed_size();
        *values.entry(id).or_insert(0) += chunk.num_values();
        let Some(statistics) = chunk.statistics() else { continue };
        if let Some(count) = statistics.null_count_opt() {
            *nulls.entry(id).or_insert(0) += i64::try_from(count).expect("a count");
        }
        let Some(ty) = schema.field_by_id(id).and_then(|field| field.field_type.as_primitive()) else { continue };
        let of = |bytes: Option<&[u8]>, exact: bool| statistics_value(ty, statistics, bytes.filter(|_| exact)?);
        if let Some(low) = of(statistics.min_bytes_opt(), statistics.min_is_exact()) {
            let known = lower.entry(id).or_insert_with(|| low.clone());
            if low < *known {
                *known = low;
            }
        }
        if let Some(high) = of(statistics.max_bytes_opt(), statistics.max_is_exact()) {
            let known = upper.entry(id).or_insert_with(|| high.clone());
            if high > *known {
                *known = high;
            }
        }
    }
    let mut nans = BTreeMap::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        count_nans(field, column, &mut nans);
    }
    let bounds = |of: BTreeMap<i32, Value>| Some(of.into_iter().filter_map(|(id, v)| Some((id, BoundBytes::of(&v)?))).collect());
    let count = footer.file_metadata().num_rows();
    DataFile {
        column_sizes: Some(sizes.into_iter().collect()),
        value_counts: Some(values.into_iter().collect()),
        null_value_counts: Some(nulls.into_iter().collect()),
        nan_value_counts: Some(nans.into_iter().collect()),
        lower_bounds: bounds(lower),
        upper_bounds: bounds(upper),
        split_offsets: Some(footer.row_groups().iter().filter_map(|group| group.file_offset()).collect()),
        ..DataFile::new(DataContentType::Data, path, DataFileFormat::Parquet, count, bytes as i64)
    }
}

/// Reads a value of a footer's statistics as a value of an Iceberg type.
fn statistics_value(ty: &PrimitiveType, statistics: &Statistics, bytes: &[u8]) -> Option<Value> {
    match (ty, statistics) {
        (PrimitiveType::Decimal { scale, .. }, Statistics::Int32(_)) => {
            Some(Value::Decimal { unscaled: i32::from_le_bytes(bytes.try_into().ok()?).into(), scale: *scale })
        }
        (PrimitiveType::Decimal { scale, .. }, Statistics::Int64(_)) => {
            Some(Value::Decimal { unscaled: i64::from_le_bytes(bytes.try_into().ok()?).into(), scale: *scale })
        }
        _ => Value::from_bytes(ty, bytes),
    }
}

/// Counts the NaN of a float column, or of those inside a struct, by field id.
fn count_nans(field: &Field, column: &ArrayRef, into: &mut BTreeMap<i32, i64>) {
    let found = match column.data_type() {
        DataType::Float32 => column.as_primitive::<Float32Type>().iter().flatten().filter(|v| v.is_nan()).count(),
        DataType::Float64 => column.as_primitive::<Float64Type>().iter().flatten().filter(|v| v.is_nan()).count(),
        DataType::Struct(inner) => {
            inner.iter().zip(column.as_struct().columns()).for_each(|(field, column)| count_nans(field, column, into));
            return;
        }
        _ => return,
    };
    if let Some(id) = field.metadata().get(PARQUET_FIELD_ID_META_KEY).and_then(|id| id.parse().ok()) {
        into.insert(id, found as i64);
    }
}

/// Encodes a position delete file. `places` are paths of data files with positions, in order.
pub(super) fn deleted_positions(places: &[(&str, i64)]) -> Vec<u8> {
    let schema =
        ArrowSchema::new(vec![field("file_path", DataType::Utf8, 2_147_483_546), field("pos", DataType::Int64, 2_147_483_545)]);
    let paths = StringArray::from_iter_values(places.iter().map(|(path, _)| *path));
    let columns: Vec<ArrayRef> = vec![Arc::new(paths), Arc::new(Int64Array::from_iter_values(places.iter().map(|(_, at)| *at)))];
    parquet(&RecordBatch::try_new(Arc::new(schema), columns).expect("a batch"), WriterProperties::default()).0
}

/// Encodes an equality delete file for values of `id`, which has the field id 1.
pub(super) fn deleted_ids(ids: &[i64]) -> Vec<u8> {
    let schema = ArrowSchema::new(vec![field("id", DataType::Int64, 1)]);
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids.to_vec()))];
    parquet(&RecordBatch::try_new(Arc::new(schema), columns).expect("a batch"), WriterProperties::default()).0
}
