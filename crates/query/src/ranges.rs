//! Minima, maxima and null counts of columns, as manifests have them for files: for pruning, and as statistics for the optimiser.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, ScalarValue};
use esker_read::{field_id, literal_array};
use esker_table::{ColumnBounds, LiveFile, source_range};
use iceberg::spec::{Datum, Literal, PrimitiveType, TableMetadata, Transform, Type};
use iceberg::transform::create_transform_function;

/// What a manifest says about a file.
pub(crate) struct FileBounds<'a> {
    file: &'a LiveFile,
    metadata: &'a TableMetadata,
    /// Ranges that its partition values imply for source columns.
    partition: HashMap<i32, (Datum, Option<Datum>)>,
}

/// The least and the greatest value of a column, as far as they are known.
type Bounds = (Option<ScalarValue>, Option<ScalarValue>);

impl<'a> FileBounds<'a> {
    pub(crate) fn new(metadata: &'a TableMetadata, file: &'a LiveFile) -> Self {
        Self { file, metadata, partition: partition_ranges(metadata, file) }
    }

    fn column(&self, id: i32) -> ColumnBounds {
        match self.metadata.current_schema().field_by_id(id).map(|f| f.field_type.as_ref()) {
            Some(Type::Primitive(ty)) => ColumnBounds::of(&self.file.file, id, ty),
            _ => ColumnBounds::default(),
        }
    }

    /// What all values of a column lie between.
    fn of(&self, id: i32, to: &DataType) -> Bounds {
        let (own, partition) = (self.column(id), self.partition.get(&id));
        let low = own.lower.as_ref().or_else(|| partition.map(|(low, _)| low));
        let high = own.upper.as_ref().or_else(|| partition.and_then(|(_, high)| high.as_ref()));
        let value = |datum: Option<&Datum>| scalar(datum.filter(|datum| !datum.is_nan())?, to);
        // Bounds leave NaN out, and NaN is greater than every number: without a count of zero there is no maximum.
        let no_nans = !is_float(to) || own.no_nans();
        (value(low), value(high).filter(|_| no_nans))
    }

    /// How many rows of a column are null, if the manifest counts every row of it.
    fn nulls(&self, id: i32) -> Option<u64> {
        let (own, rows) = (self.column(id), self.file.file.record_count());
        own.nulls.filter(|nulls| own.values == Some(rows) && *nulls <= rows)
    }

    /// What is known of a column for the optimiser, and to prune by while a query runs. "Exact" is what DataFusion calls bounds that it may prune a file by; it
    /// would also take a column for constant whose bounds are one value, or that counts nothing but nulls. So the count of nulls never
    /// is exact.
    pub(crate) fn statistics(&self, field: &Field) -> ColumnStatistics {
        let mut statistics = ColumnStatistics::new_unknown();
        let (Some(id), ty) = (field_id(field), field.data_type()) else { return statistics };
        let ordered = !is_float(ty)
            && !matches!(ty, DataType::Utf8View | DataType::BinaryView | DataType::FixedSizeBinary(_) | DataType::Boolean);
        let precise = |value| if ordered { Precision::Exact(value) } else { Precision::Inexact(value) };
        let (low, high) = self.of(id, ty);
        // DataFusion can't count the values of a range of all 64 bits. There is nothing below the least to leave out.
        let low = low.filter(|low| !is_least(low));
        statistics.min_value = low.map_or(Precision::Absent, precise);
        statistics.max_value = high.map_or(Precision::Absent, precise);
        let nulls = self.nulls(id).and_then(|n| usize::try_from(n).ok());
        statistics.null_count = nulls.map_or(Precision::Absent, Precision::Inexact);
        statistics
    }
}

fn scalar(datum: &Datum, to: &DataType) -> Option<ScalarValue> {
    let array = literal_array(datum.data_type(), datum.literal(), to)?;
    ScalarValue::try_from_array(&array, 0).ok()
}

fn is_least(value: &ScalarValue) -> bool {
    matches!(
        value,
        ScalarValue::Int64(Some(i64::MIN))
            | ScalarValue::TimestampMicrosecond(Some(i64::MIN), _)
            | ScalarValue::TimestampNanosecond(Some(i64::MIN), _)
    )
}

fn is_float(ty: &DataType) -> bool {
    matches!(ty, DataType::Float32 | DataType::Float64)
}

/// What manifests say about some files.
pub(crate) struct FileRanges<'a> {
    schema: SchemaRef,
    metadata: &'a TableMetadata,
    files: Vec<FileBounds<'a>>,
}

impl<'a> FileRanges<'a> {
    pub(crate) fn new(schema: SchemaRef, metadata: &'a TableMetadata, files: &'a [LiveFile]) -> Self {
        Self { schema, metadata, files: files.iter().map(|file| FileBounds::new(metadata, file)).collect() }
    }

    fn values(&self, column: &Column, of: impl Fn(Bounds) -> Option<ScalarValue>) -> Option<ArrayRef> {
        let field = self.schema.field_with_name(&column.name).ok()?;
        let (id, to) = (field_id(field)?, field.data_type());
        let null = ScalarValue::try_from(to).ok()?;
        let values = self.files.iter().map(|file| of(file.of(id, to)).unwrap_or_else(|| null.clone()));
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
        self.values(column, |(low, _)| low)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |(_, high)| high)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let id = field_id(self.schema.field_with_name(&column.name).ok()?)?;
        Some(Arc::new(self.files.iter().map(|file| file.nulls(id)).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.files.iter().map(|f| Some(f.file.file.record_count())).collect::<UInt64Array>()))
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let id = field_id(self.schema.field_with_name(&column.name).ok()?)?;
        let ty = self.metadata.current_schema().field_by_id(id).map(|f| f.field_type.as_ref());
        let Some(Type::Primitive(ty)) = ty else { return None };
        let values: Vec<Datum> = values.iter().map(|v| datum(v, ty)).collect::<Option<_>>()?;
        Some(self.files.iter().map(|file| self.in_other_buckets(file.file, id, &values).then_some(false)).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use datafusion::logical_expr::{Expr, col, lit};
    use datafusion::prelude::SessionContext;
    use iceberg::spec::{
        DataContentType, DataFileBuilder, DataFileFormat, FormatVersion, NestedField, PartitionSpec, Schema, SortOrder, Struct,
        TableMetadataBuilder,
    };

    use super::*;

    fn metadata() -> TableMetadata {
        let schema = Schema::builder()
            .with_fields([
                NestedField::optional(1, "i", Type::Primitive(PrimitiveType::Long)).into(),
                NestedField::optional(2, "f", Type::Primitive(PrimitiveType::Double)).into(),
            ])
            .build()
            .expect("a schema");
        let (spec, order) = (PartitionSpec::unpartition_spec().into_unbound(), SortOrder::unsorted_order());
        let built = TableMetadataBuilder::new(schema, spec, order, "file:///t".to_owned(), FormatVersion::V2, HashMap::new());
        built.expect("a builder").build().expect("metadata").metadata
    }

    /// A file of ten rows.
    fn file(entry: impl FnOnce(&mut DataFileBuilder)) -> LiveFile {
        let mut builder = DataFileBuilder::default();
        builder.content(DataContentType::Data).file_path("file:///t/f.parquet".to_owned()).file_format(DataFileFormat::Parquet);
        builder.partition(Struct::empty()).record_count(10).file_size_in_bytes(1);
        entry(&mut builder);
        let file = builder.build().expect("a file");
        LiveFile { file, spec_id: 0, sequence_number: 1, file_sequence_number: None, snapshot_id: 1, first_row_id: None }
    }

    fn kept(entry: impl FnOnce(&mut DataFileBuilder), filter: Expr) -> bool {
        let (metadata, file) = (metadata(), file(entry));
        let ids: Vec<i32> = metadata.current_schema().as_struct().fields().iter().map(|f| f.id).collect();
        let schema = esker_read::target_schema(metadata.current_schema(), &ids).expect("a schema");
        let condition = crate::prune::condition(&SessionContext::new().state(), &schema, &[filter]).expect("a condition");
        crate::prune::files(condition.as_ref(), &schema, &metadata, &[file]).expect("files").len() == 1
    }

    fn counts(id: i32, n: u64) -> HashMap<i32, u64> {
        HashMap::from([(id, n)])
    }

    #[test]
    fn nulls_are_known_only_where_all_values_are_counted() {
        let with = |values: Option<u64>, nulls: Option<u64>, filter: Expr| {
            kept(
                |file| {
                    values.map(|n| file.value_counts(counts(1, n)));
                    nulls.map(|n| file.null_value_counts(counts(1, n)));
                },
                filter,
            )
        };
        let (null, not_null) = (|| col("i").is_null(), || col("i").is_not_null());
        assert!(!with(Some(10), Some(0), null()) && !with(Some(10), Some(10), not_null()));
        assert!(with(Some(10), Some(3), null()) && with(Some(10), Some(3), not_null()));
        for (values, nulls) in [(Some(10), None), (None, Some(10)), (None, Some(0)), (Some(7), Some(0)), (Some(10), Some(11))] {
            assert!(with(values, nulls, null()) && with(values, nulls, not_null()), "{values:?} {nulls:?}");
        }
    }

    #[test]
    fn bounds_that_can_not_be_leave_nothing_out() {
        let with = |low: Datum, high: Datum, filter: Expr| {
            let (id, low, high) = (if matches!(low.data_type(), PrimitiveType::Long) { 1 } else { 2 }, low, high);
            kept(
                |file| {
                    file.value_counts(counts(id, 10)).null_value_counts(counts(id, 0)).nan_value_counts(counts(2, 0));
                    file.lower_bounds(HashMap::from([(id, low)])).upper_bounds(HashMap::from([(id, high)]));
                },
                filter,
            )
        };
        assert!(!with(Datum::long(1), Datum::long(5), col("i").gt(lit(5_i64))));
        assert!(with(Datum::long(5), Datum::long(1), col("i").gt(lit(5_i64))), "inverted");
        assert!(!with(Datum::double(1.0), Datum::double(5.0), col("f").gt(lit(5.0))));
        assert!(with(Datum::double(f64::NAN), Datum::double(5.0), col("f").lt(lit(1.0))), "NaN");
        assert!(with(Datum::double(1.0), Datum::double(f64::NAN), col("f").gt(lit(5.0))), "NaN");
        // The two zeros are equal.
        for (bound, literal) in [(0.0, -0.0), (-0.0, 0.0)] {
            assert!(with(Datum::double(bound), Datum::double(bound), col("f").eq(lit(literal))), "{bound} {literal}");
        }
    }

    #[test]
    fn without_a_count_of_nan_there_is_no_maximum() {
        let with = |nans: Option<u64>| {
            kept(
                |file| {
                    file.value_counts(counts(2, 10)).null_value_counts(counts(2, 0));
                    file.lower_bounds(HashMap::from([(2, Datum::double(0.0))]));
                    file.upper_bounds(HashMap::from([(2, Datum::double(1.0))]));
                    nans.map(|n| file.nan_value_counts(counts(2, n)));
                },
                col("f").gt(lit(5.0)),
            )
        };
        assert!(!with(Some(0)));
        assert!(with(Some(1)) && with(None));
    }
}
