//! Minima, maxima and null counts of columns, as manifests have them for files: for pruning, and as statistics for the optimiser.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, ScalarValue};
use esker_read::{field_id, literal_array};
use esker_table::{LiveFile, source_range};
use iceberg::spec::{Datum, Literal, PrimitiveType, TableMetadata, Transform, Type};
use iceberg::transform::create_transform_function;

/// What manifests say about some files.
pub(crate) struct FileRanges<'a> {
    schema: SchemaRef,
    metadata: &'a TableMetadata,
    files: &'a [&'a LiveFile],
    /// For each file, ranges that its partition values imply for source columns.
    partitions: Vec<HashMap<i32, (Datum, Option<Datum>)>>,
}

fn scalar(datum: &Datum, to: &DataType) -> Option<ScalarValue> {
    let array = literal_array(datum.data_type(), datum.literal(), to)?;
    ScalarValue::try_from_array(&array, 0).ok()
}

fn is_float(ty: &DataType) -> bool {
    matches!(ty, DataType::Float32 | DataType::Float64)
}

impl<'a> FileRanges<'a> {
    pub(crate) fn new(schema: SchemaRef, metadata: &'a TableMetadata, files: &'a [&'a LiveFile]) -> Self {
        let partitions = files.iter().map(|file| partition_ranges(metadata, file)).collect();
        Self { schema, metadata, files, partitions }
    }

    fn values(&self, column: &Column, bound: impl Fn(usize, i32) -> Option<Datum>) -> Option<ArrayRef> {
        let field = self.schema.field_with_name(&column.name).ok()?;
        let (id, to) = (field_id(field)?, field.data_type());
        let null = ScalarValue::try_from(to).ok()?;
        let value = |i: usize| scalar(&bound(i, id)?, to);
        let values: Vec<ScalarValue> = (0..self.files.len()).map(|i| value(i).unwrap_or_else(|| null.clone())).collect();
        ScalarValue::iter_to_array(values).ok()
    }

    /// Whether none of some values of a column can be in a file, because each would be in another bucket.
    fn in_other_buckets(&self, file: &LiveFile, id: i32, values: &[Datum]) -> bool {
        let Some(spec) = self.metadata.partition_spec_by_id(file.spec_id) else { return false };
        spec.fields().iter().zip(file.file.partition().iter()).any(|(field, bucket)| {
            let (Transform::Bucket(_), Some(Literal::Primitive(bucket))) = (field.transform, bucket) else { return false };
            let Ok(function) = create_transform_function(&field.transform) else { return false };
            let elsewhere = |value| matches!(function.transform_literal(value), Ok(Some(b)) if b.literal() != bucket);
            field.source_id == id && values.iter().all(elsewhere)
        })
    }
}

fn partition_ranges(metadata: &TableMetadata, file: &LiveFile) -> HashMap<i32, (Datum, Option<Datum>)> {
    let Some(spec) = metadata.partition_spec_by_id(file.spec_id) else { return HashMap::new() };
    let range = |(field, value): (&iceberg::spec::PartitionField, Option<&Literal>)| {
        let source = metadata.current_schema().field_by_id(field.source_id)?;
        Some((field.source_id, source_range(field.transform, &source.field_type, value?)?))
    };
    spec.fields().iter().zip(file.file.partition().iter()).filter_map(range).collect()
}

/// A literal of a filter as a value of an Iceberg column, for the types that buckets are made of most.
fn datum(value: &ScalarValue, ty: &PrimitiveType) -> Option<Datum> {
    Some(match (ty, value) {
        (PrimitiveType::Int, ScalarValue::Int32(Some(v))) => Datum::int(*v),
        (PrimitiveType::Long, ScalarValue::Int64(Some(v))) => Datum::long(*v),
        (PrimitiveType::Date, ScalarValue::Date32(Some(v))) => Datum::date(*v),
        (
            PrimitiveType::String,
            ScalarValue::Utf8(Some(v)) | ScalarValue::Utf8View(Some(v)) | ScalarValue::LargeUtf8(Some(v)),
        ) => Datum::string(v),
        _ => return None,
    })
}

impl PruningStatistics for FileRanges<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |i, id| {
            let of_partition = || self.partitions[i].get(&id).map(|(low, _)| low.clone());
            self.files[i].file.lower_bounds().get(&id).cloned().or_else(of_partition)
        })
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        let float = is_float(self.schema.field_with_name(&column.name).ok()?.data_type());
        self.values(column, |i, id| {
            let file = &self.files[i].file;
            // Bounds leave NaN out, and NaN is greater than every number: without a count of zero there is no maximum.
            if float && file.nan_value_counts().get(&id) != Some(&0) {
                return None;
            }
            let of_partition = || self.partitions[i].get(&id).and_then(|(_, high)| high.clone());
            file.upper_bounds().get(&id).cloned().or_else(of_partition)
        })
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let id = field_id(self.schema.field_with_name(&column.name).ok()?)?;
        let counts = self.files.iter().map(|f| f.file.null_value_counts().get(&id).copied());
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.files.iter().map(|f| Some(f.file.record_count())).collect::<UInt64Array>()))
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let id = field_id(self.schema.field_with_name(&column.name).ok()?)?;
        let ty = self.metadata.current_schema().field_by_id(id).map(|f| f.field_type.as_ref());
        let Some(Type::Primitive(ty)) = ty else { return None };
        let values: Vec<Datum> = values.iter().map(|v| datum(v, ty)).collect::<Option<_>>()?;
        Some(self.files.iter().map(|file| self.in_other_buckets(file, id, &values).then_some(false)).collect())
    }
}

/// What the manifest says about a column of a file. Exact where bounds are attained values: numbers, dates and times, and no row deleted
/// since. Strings' bounds may be cut, and floats' leave NaN out.
pub(crate) fn column_statistics(
    metadata: &TableMetadata,
    file: &LiveFile,
    field: &Field,
    rows: Precision<usize>,
    untouched: bool,
) -> ColumnStatistics {
    let mut statistics = ColumnStatistics::new_unknown();
    let (Some(id), ty) = (field_id(field), field.data_type()) else { return statistics };
    // Every row that is left has the partition's value, in the file or not.
    match identity_value(metadata, file, id) {
        Some(None) => {
            statistics.null_count = rows;
            return statistics;
        }
        Some(Some(literal)) => {
            if let Some(value) = constant_value(metadata, id, &literal, ty) {
                statistics.null_count = Precision::Exact(0);
                statistics.min_value = Precision::Exact(value.clone());
                statistics.max_value = Precision::Exact(value);
                return statistics;
            }
        }
        None => {}
    }
    let attained = untouched
        && matches!(
            ty,
            DataType::Boolean
                | DataType::Int32
                | DataType::Int64
                | DataType::Date32
                | DataType::Time64(_)
                | DataType::Timestamp(_, _)
                | DataType::Decimal128(_, _)
        );
    let precise = |value| if attained { Precision::Exact(value) } else { Precision::Inexact(value) };
    let no_nan = !is_float(ty) || file.file.nan_value_counts().get(&id) == Some(&0);
    let bound = |bounds: &HashMap<i32, Datum>| bounds.get(&id).and_then(|datum| scalar(datum, ty)).map(precise);
    statistics.min_value = bound(file.file.lower_bounds()).unwrap_or(Precision::Absent);
    if no_nan {
        statistics.max_value = bound(file.file.upper_bounds()).unwrap_or(Precision::Absent);
    }
    if let Some(nulls) = file.file.null_value_counts().get(&id).and_then(|n| usize::try_from(*n).ok()) {
        statistics.null_count = if untouched { Precision::Exact(nulls) } else { Precision::Inexact(nulls) };
    }
    statistics
}

/// The value of a column that a file is partitioned by as it is; inside, none if that is null.
fn identity_value(metadata: &TableMetadata, file: &LiveFile, id: i32) -> Option<Option<Literal>> {
    let spec = metadata.partition_spec_by_id(file.spec_id)?;
    let mut fields = spec.fields().iter().zip(file.file.partition().iter());
    let (_, value) = fields.find(|(field, _)| field.source_id == id && field.transform == Transform::Identity)?;
    Some(value.cloned())
}

fn constant_value(metadata: &TableMetadata, id: i32, literal: &Literal, to: &DataType) -> Option<ScalarValue> {
    let Type::Primitive(ty) = metadata.current_schema().field_by_id(id)?.field_type.as_ref() else { return None };
    let Literal::Primitive(literal) = literal else { return None };
    ScalarValue::try_from_array(&literal_array(ty, literal, to)?, 0).ok()
}
