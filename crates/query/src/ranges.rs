//! Bounds and null counts of columns, as manifests have them for files.
//!
//! `FileBounds` has them for one file, as statistics for the optimiser. `FileRanges` has them for many files, for pruning. Where
//! a file has no bounds of a column, its partition may imply some. Bounds are not values: they may be wider. Spec: "Scan
//! Planning". Start reading at `bounds`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, ScalarValue};
use esker_format::{PartitionField, PartitionSpecRef, PrimitiveType, TableMetadata, Transform, Type, Value};
use esker_read::{field_id, literal_array, values_array, values_of};
use esker_table::{ColumnBounds, LiveFile, PartitionKey, PlannableFile, source_range};

/// The least value that a column can have by a file's partition, and the greatest if there is one.
type PartitionRange = (Value, Option<Value>);

/// The least and the greatest value of a column, as far as they are known.
type Bounds = (Option<Value>, Option<Value>);

/// Returns the values between which a column of a file lies, by its bounds or else by its partition.
fn bounds(file: &impl PlannableFile, ty: &Type, id: i32, partition: Option<&PartitionRange>) -> Bounds {
    let own = of_column(file, ty, id);
    // Bounds leave NaN out, and NaN is greater than every number: without a count of zero there is no maximum.
    let no_nans = !matches!(ty, Type::Primitive(PrimitiveType::Float | PrimitiveType::Double)) || own.no_nans();
    let low = own.lower.or_else(|| partition.map(|(low, _)| low.clone()));
    let high = own.upper.or_else(|| partition.and_then(|(_, high)| high.clone()));
    let number = |value: &Value| !value.is_nan();
    (low.filter(number), high.filter(number).filter(|_| no_nans))
}

/// Returns the bounds of a column that the manifest holds.
fn of_column(file: &impl PlannableFile, ty: &Type, id: i32) -> ColumnBounds {
    let Type::Primitive(ty) = ty else { return ColumnBounds::default() };
    ColumnBounds::of(file.stats(id), ty)
}

/// Returns the number of nulls in a column, if the manifest counts all of the column's rows.
fn nulls(file: &impl PlannableFile, id: i32) -> Option<u64> {
    let (stats, rows) = (file.stats(id)?, file.rows()?);
    stats.null_count.filter(|nulls| stats.value_count == Some(rows) && *nulls <= rows)
}

/// The bounds and counts of one file.
pub(crate) struct FileBounds<'a> {
    file: &'a LiveFile,
    metadata: &'a TableMetadata,
}

impl<'a> FileBounds<'a> {
    pub(crate) fn new(metadata: &'a TableMetadata, file: &'a LiveFile) -> Self {
        Self { file, metadata }
    }

    /// Returns the values between which a column lies, as scalars of a type.
    fn of(&self, id: i32, to: &DataType) -> (Option<ScalarValue>, Option<ScalarValue>) {
        let Some(field) = self.metadata.current_schema().field_by_id(id) else { return (None, None) };
        let partition = partition_range(self.metadata, self.file, id);
        let (low, high) = bounds(self.file, &field.field_type, id, partition.as_ref());
        let value = |value: Option<Value>| scalar(&value?, to);
        (value(low), value(high))
    }

    /// Returns a column's statistics for the optimiser, and for pruning while a query runs.
    ///
    /// DataFusion prunes a file by bounds that are called "exact". But it also takes a column for constant if its bounds are one
    /// value, or if it counts nothing but nulls. So the count of nulls is never exact.
    pub(crate) fn statistics(&self, field: &Field) -> ColumnStatistics {
        let mut statistics = ColumnStatistics::new_unknown();
        let (Some(id), ty) = (field_id(field), field.data_type()) else { return statistics };
        let ordered = !is_float(ty)
            && !matches!(ty, DataType::Utf8View | DataType::BinaryView | DataType::FixedSizeBinary(_) | DataType::Boolean);
        let precise = |value| if ordered { Precision::Exact(value) } else { Precision::Inexact(value) };
        let (low, high) = self.of(id, ty);
        // DataFusion cannot count the values of a range of all 64 bits. Nothing lies below the least value, so no pruning is
        // lost.
        let low = low.filter(|low| !is_least(low));
        statistics.min_value = low.map_or(Precision::Absent, precise);
        statistics.max_value = high.map_or(Precision::Absent, precise);
        let nulls = nulls(self.file, id).and_then(|n| usize::try_from(n).ok());
        statistics.null_count = nulls.map_or(Precision::Absent, Precision::Inexact);
        statistics
    }
}

fn scalar(value: &Value, to: &DataType) -> Option<ScalarValue> {
    ScalarValue::try_from_array(&literal_array(value, to)?, 0).ok()
}

/// Checks for the least value of a 64-bit type.
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

/// The bounds and counts of some files.
pub(crate) struct FileRanges<'a, F> {
    schema: SchemaRef,
    metadata: &'a TableMetadata,
    files: &'a [F],
}

impl<'a, F: PlannableFile> FileRanges<'a, F> {
    pub(crate) const fn new(schema: SchemaRef, metadata: &'a TableMetadata, files: &'a [F]) -> Self {
        Self { schema, metadata, files }
    }

    /// Returns the lower or the upper bounds of a column, one for each file.
    fn values(&self, column: &Column, pick: fn(Bounds) -> Option<Value>) -> Option<ArrayRef> {
        let field = self.schema.field_with_name(&column.name).ok()?;
        let id = field_id(field)?;
        let ty = self.metadata.current_schema().field_by_id(id)?.field_type.as_ref();
        let mut partitions = PartitionRanges::new(self.metadata, id);
        let values = self.files.iter().map(|file| pick(bounds(file, ty, id, partitions.of(file))));
        values_array(&values.collect::<Vec<_>>(), field.data_type())
    }

    /// Checks that a file holds none of some values of a column, because each of them is in another bucket.
    fn in_other_buckets(&self, file: &F, id: i32, values: &[Value]) -> bool {
        let Some(spec) = self.metadata.partition_spec_by_id(file.spec_id()) else { return false };
        spec.fields().iter().zip(file.partition()).any(|(field, bucket)| {
            let (transform @ Transform::Bucket(_), Some(bucket @ Value::Int(_))) = (field.transform(), bucket) else {
                return false;
            };
            let elsewhere = |value| matches!(transform.apply(Some(value)), Ok(Some(other)) if other != *bucket);
            field.source_id() == Some(id) && values.iter().all(elsewhere)
        })
    }
}

/// Returns the range of a column that a file's partition implies.
fn partition_range(metadata: &TableMetadata, file: &impl PlannableFile, id: i32) -> Option<PartitionRange> {
    let spec = metadata.partition_spec_by_id(file.spec_id())?;
    let source = &metadata.current_schema().field_by_id(id)?.field_type;
    let range = |(field, value): (&PartitionField, &Option<Value>)| {
        (field.source_id() == Some(id)).then(|| source_range(field.transform(), source, value.as_ref()?))?
    };
    // If several partition fields are of one column, the last one that implies a range counts.
    spec.fields().iter().zip(file.partition()).rev().find_map(range)
}

/// The ranges of a column that the partitions of files imply, computed once for each partition.
struct PartitionRanges<'a> {
    metadata: &'a TableMetadata,
    id: i32,
    /// True if any partition spec has a field of the column.
    any: bool,
    known: HashMap<PartitionKey<'a>, Option<PartitionRange>>,
}

impl<'a> PartitionRanges<'a> {
    fn new(metadata: &'a TableMetadata, id: i32) -> Self {
        let of_column = |spec: &PartitionSpecRef| spec.fields().iter().any(|field| field.source_id() == Some(id));
        Self { metadata, id, any: metadata.partition_specs.iter().any(of_column), known: HashMap::new() }
    }

    fn of(&mut self, file: &'a impl PlannableFile) -> Option<&PartitionRange> {
        if !self.any {
            return None;
        }
        let range = self.known.entry(file.partition_key()).or_insert_with(|| partition_range(self.metadata, file, self.id));
        range.as_ref()
    }
}

/// Converts a literal of a filter to a value of the table's column.
///
/// Returns `None` if the literal's type is not the one that queries see the column with.
fn value_of(literal: &ScalarValue, field: &Field, ty: &Type) -> Option<Value> {
    if literal.data_type() != *field.data_type() {
        return None;
    }
    values_of(&literal.to_array().ok()?, ty).ok()?.pop()?
}

impl<F: PlannableFile> PruningStatistics for FileRanges<'_, F> {
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
        Some(Arc::new(self.files.iter().map(|file| nulls(file, id)).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.files.iter().map(PlannableFile::rows).collect::<UInt64Array>()))
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let field = self.schema.field_with_name(&column.name).ok()?;
        let id = field_id(field)?;
        let ty = self.metadata.current_schema().field_by_id(id)?.field_type.as_ref();
        let values: Vec<Value> = values.iter().map(|value| value_of(value, field, ty)).collect::<Option<_>>()?;
        Some(self.files.iter().map(|file| self.in_other_buckets(file, id, &values).then_some(false)).collect())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{Expr, col, lit};
    use datafusion::prelude::SessionContext;
    use esker_format::{BoundBytes, DataContentType, DataFile, DataFileFormat, NestedField, PrimitiveType};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn metadata(fields: &[NestedField], spec: serde_json::Value) -> TableMetadata {
        let field = |f: &NestedField| json!({"id": f.id, "name": f.name, "required": false, "type": f.field_type.to_string()});
        let json = json!({
            "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "file:///t",
            "last-sequence-number": 1, "last-updated-ms": 1, "last-column-id": 9, "last-partition-id": 1000,
            "current-schema-id": 0, "default-spec-id": 0, "default-sort-order-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": fields.iter().map(field).collect::<Vec<_>>()}],
            "partition-specs": [{"spec-id": 0, "fields": spec}], "sort-orders": [{"order-id": 0, "fields": []}],
        });
        TableMetadata::from_json(json.to_string().as_bytes()).expect("metadata")
    }

    /// A file of ten rows.
    fn file(entry: impl FnOnce(&mut DataFile)) -> LiveFile {
        let mut file = DataFile::new(DataContentType::Data, "file:///t/f.parquet", DataFileFormat::Parquet, 10, 1);
        entry(&mut file);
        LiveFile { file, spec_id: 0, sequence_number: 1, file_sequence_number: None, snapshot_id: 1, first_row_id: None }
    }

    fn is_kept(metadata: &TableMetadata, file: LiveFile, filter: Expr) -> bool {
        let schema = crate::table::columns(metadata.current_schema());
        let condition = crate::prune::condition(&SessionContext::new().state(), &schema, &[filter]).expect("a condition");
        crate::prune::files(condition.as_ref(), &schema, metadata, vec![file]).expect("files").len() == 1
    }

    fn kept(entry: impl FnOnce(&mut DataFile), filter: Expr) -> bool {
        let fields = [NestedField::optional(1, "i", PrimitiveType::Long), NestedField::optional(2, "f", PrimitiveType::Double)];
        is_kept(&metadata(&fields, json!([])), file(entry), filter)
    }

    fn of_column<T, M: FromIterator<(i32, T)>>(id: i32, one: T) -> Option<M> {
        Some([(id, one)].into_iter().collect())
    }

    #[test]
    fn nulls_are_known_only_where_all_values_are_counted() {
        let with = |rows: i64, values: Option<i64>, nulls: Option<i64>, filter: Expr| {
            kept(
                |file| {
                    file.record_count = rows;
                    file.value_counts = values.and_then(|n| of_column(1, n));
                    file.null_value_counts = nulls.and_then(|n| of_column(1, n));
                },
                filter,
            )
        };
        let (null, not_null) = (|| col("i").is_null(), || col("i").is_not_null());
        assert!(!with(10, Some(10), Some(0), null()) && !with(10, Some(10), Some(10), not_null()));
        assert!(with(10, Some(10), Some(3), null()) && with(10, Some(10), Some(3), not_null()));
        for (rows, values, nulls) in [
            (10, Some(10), None),
            (10, None, Some(10)),
            (10, None, Some(0)),
            (10, Some(7), Some(0)),
            (10, Some(10), Some(11)),
            (-1, Some(10), Some(0)),
            (-1, Some(10), Some(10)),
        ] {
            let kept = [null(), not_null()].into_iter().all(|filter| with(rows, values, nulls, filter));
            assert!(kept, "{rows} {values:?} {nulls:?}");
        }
    }

    #[test]
    fn bounds_that_can_not_be_leave_nothing_out() {
        let with = |low: Value, high: Value, filter: Expr| {
            let id = if matches!(low, Value::Long(_)) { 1 } else { 2 };
            kept(
                |file| {
                    file.value_counts = of_column(id, 10);
                    file.null_value_counts = of_column(id, 0);
                    file.nan_value_counts = of_column(2, 0);
                    file.lower_bounds = of_column(id, BoundBytes::of(&low).expect("a bound"));
                    file.upper_bounds = of_column(id, BoundBytes::of(&high).expect("a bound"));
                },
                filter,
            )
        };
        assert!(!with(Value::Long(1), Value::Long(5), col("i").gt(lit(5_i64))));
        assert!(with(Value::Long(5), Value::Long(1), col("i").gt(lit(5_i64))), "inverted");
        assert!(!with(Value::Double(1.0), Value::Double(5.0), col("f").gt(lit(5.0))));
        assert!(with(Value::Double(f64::NAN), Value::Double(5.0), col("f").lt(lit(1.0))), "NaN");
        assert!(with(Value::Double(1.0), Value::Double(f64::NAN), col("f").gt(lit(5.0))), "NaN");
        // The two zeros are equal.
        for (bound, literal) in [(0.0, -0.0), (-0.0, 0.0)] {
            assert!(with(Value::Double(bound), Value::Double(bound), col("f").eq(lit(literal))), "{bound} {literal}");
        }
    }

    #[test]
    fn without_a_count_of_nan_there_is_no_maximum() {
        let with = |nans: Option<i64>| {
            kept(
                |file| {
                    file.value_counts = of_column(2, 10);
                    file.null_value_counts = of_column(2, 0);
                    file.lower_bounds = of_column(2, BoundBytes::of(&Value::Double(0.0)).expect("a bound"));
                    file.upper_bounds = of_column(2, BoundBytes::of(&Value::Double(1.0)).expect("a bound"));
                    file.nan_value_counts = nans.and_then(|n| of_column(2, n));
                },
                col("f").gt(lit(5.0)),
            )
        };
        assert!(!with(Some(0)));
        assert!(with(Some(1)) && with(None));
    }

    #[test]
    fn a_file_of_another_bucket_is_left_out_whatever_type_it_is_made_of() {
        let decimal = PrimitiveType::Decimal { precision: 9, scale: 2 };
        for (ty, value, literal) in [
            (PrimitiveType::Long, Value::Long(34), ScalarValue::from(34_i64)),
            (PrimitiveType::String, Value::String("iceberg".into()), ScalarValue::Utf8View(Some("iceberg".to_owned()))),
            (PrimitiveType::Timestamp, Value::Timestamp(7), ScalarValue::TimestampMicrosecond(Some(7), None)),
            (
                PrimitiveType::Uuid,
                Value::Uuid(Uuid::from_u128(7)),
                ScalarValue::FixedSizeBinary(16, Some(Uuid::from_u128(7).into_bytes().to_vec())),
            ),
            (decimal, Value::Decimal { unscaled: 1420, scale: 2 }, ScalarValue::Decimal128(Some(1420), 9, 2)),
        ] {
            let (fields, transform) = ([NestedField::optional(1, "c", ty.clone())], Transform::Bucket(100));
            let metadata =
                metadata(&fields, json!([{"name": "b", "source-id": 1, "field-id": 1000, "transform": transform.to_string()}]));
            let Ok(Some(Value::Int(own))) = transform.apply(Some(&value)) else { panic!("{ty} has a bucket") };
            let in_bucket = |bucket| file(|file| file.partition = [Some(Value::Int(bucket))].into());
            let filter = || col("c").eq(Expr::Literal(literal.clone(), None));
            assert!(is_kept(&metadata, in_bucket(own), filter()), "{ty}");
            assert!(!is_kept(&metadata, in_bucket((own + 1) % 100), filter()), "{ty}");
        }
    }
}
