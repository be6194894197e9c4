//! Splits batches of rows by partition.
//!
//! Partition values are computed per column, rows with equal values are grouped, and only the first row of a group is decoded to
//! a key. Spec: "Partitioning", "Partition Transforms".

use std::collections::HashMap;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::Fields;
use arrow::row::{Row, RowConverter, SortField};
use esker_format::{PartitionField, PartitionSpec, PrimitiveType, Schema, Transform, Tuple, Type, Value};
use esker_read::{column_at, column_path, normalize_nan, transform, value_at};
use esker_table::PartitionKey;

use crate::{Result, WriteError};

/// Splits rows by a partition spec.
///
/// Values are equal as in Java: 0.0 and -0.0 are two partitions, all NaNs are one.
pub(crate) struct Splitter {
    spec_id: i32,
    /// Computes each partition field, in the spec's order; none for a void field, which is always null.
    fields: Vec<Option<PartitionFieldValues>>,
}

/// Computes the values of a partition field.
struct PartitionFieldValues {
    /// The name of the partition field.
    name: String,
    /// The path of the source column, as [`column_at`] takes it.
    source: Vec<usize>,
    transform: Transform,
    ty: Type,
}

impl PartitionFieldValues {
    /// Finds the source column of a partition field.
    fn new(schema: &Schema, columns: &Fields, field: &PartitionField) -> Result<Self> {
        let refused = |what: &str| WriteError::Refused(format!("partition field {}: {what}", field.name()));
        let transform = field.transform().clone();
        let unknown = || refused(&format!("rows can't be partitioned by transform {transform}"));
        let source_id = field.source_id().ok_or_else(unknown)?;
        let source = schema.field_by_id(source_id).ok_or_else(|| refused("the schema lacks its source column"))?;
        let ty = transform.result_type(&source.field_type).ok_or_else(unknown)?;
        let way = column_path(columns, source_id).ok_or_else(|| refused("its source column is in a list or map"))?;
        Ok(Self { name: field.name().to_owned(), source: way, transform, ty })
    }

    /// Returns the value in a row; an error if the field's type can't hold it.
    ///
    /// Truncation rounds down, so the least decimals of a type can get one digit more than the type holds.
    fn value(&self, array: &ArrayRef, row: usize) -> Result<Option<Value>> {
        let value = value_at(array, row, &self.ty)?;
        match (&self.ty, &value) {
            (Type::Primitive(PrimitiveType::Decimal { precision, .. }), Some(Value::Decimal { unscaled, .. }))
                if unscaled.unsigned_abs() >= 10_u128.saturating_pow(*precision) =>
            {
                let (name, ty, transform) = (&self.name, &self.ty, &self.transform);
                Err(WriteError::Refused(format!(
                    "partition field {name}: {transform} makes a value with more digits than {ty} holds"
                )))
            }
            _ => Ok(value),
        }
    }

    /// Applies the transform to the source column of a batch.
    fn values(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        Ok(transform::array(&self.transform, &column_at(batch, &self.source)?)?)
    }
}

impl Splitter {
    /// Prepares splitting for rows with these `columns`, of a table with `schema`.
    pub(crate) fn new(schema: &Schema, columns: &Fields, spec: &PartitionSpec) -> Result<Self> {
        let maker = |field: &PartitionField| match field.transform() {
            Transform::Void => Ok(None),
            _ => PartitionFieldValues::new(schema, columns, field).map(Some),
        };
        let fields = spec.fields().iter().map(maker).collect::<Result<_>>()?;
        Ok(Self { spec_id: spec.spec_id(), fields })
    }

    /// Returns the rows of each partition, in their order.
    ///
    /// Partitions are in the order of their first rows.
    pub(crate) fn split(&self, batch: &RecordBatch) -> Result<Vec<(PartitionKey<'static>, RecordBatch)>> {
        let values = |maker: &Option<PartitionFieldValues>| maker.as_ref().map(|maker| maker.values(batch)).transpose();
        let made: Vec<Option<ArrayRef>> = self.fields.iter().map(values).collect::<Result<_>>()?;
        let parts = group_equal_rows(&made.iter().flatten().cloned().collect::<Vec<_>>(), batch.num_rows())?;
        let part = |rows: Vec<u32>| {
            let first = rows.first().map_or(0, |row| *row as usize);
            let key = PartitionKey::new(self.spec_id, &self.values_of(&made, first)?).into_owned();
            let rows = match rows.len() == batch.num_rows() {
                true => batch.clone(),
                false => take_record_batch(batch, &UInt32Array::from(rows))?,
            };
            Ok((key, rows))
        };
        parts.into_iter().map(part).collect()
    }

    /// Returns the partition values of a row.
    fn values_of(&self, made: &[Option<ArrayRef>], row: usize) -> Result<Tuple> {
        let value = |(maker, array): (&Option<PartitionFieldValues>, &Option<ArrayRef>)| -> Result<Option<Value>> {
            match (maker, array) {
                (Some(maker), Some(array)) => maker.value(array, row),
                _ => Ok(None),
            }
        };
        self.fields.iter().zip(made).map(value).collect()
    }
}

/// Groups the numbers of rows with equal values. Groups are in the order of their first rows.
fn group_equal_rows(columns: &[ArrayRef], rows: usize) -> Result<Vec<Vec<u32>>> {
    let numbers = 0..u32::try_from(rows).map_err(|_| WriteError::Refused(format!("a batch of {rows} rows is too large")))?;
    if columns.is_empty() {
        return Ok(vec![numbers.collect()]);
    }
    let columns = columns.iter().map(normalize_nan).collect::<std::result::Result<Vec<_>, _>>()?;
    let types = columns.iter().map(|column| SortField::new(column.data_type().clone()));
    let keys = RowConverter::new(types.collect())?.convert_columns(&columns)?;
    let mut places: HashMap<Row<'_>, usize> = HashMap::new();
    let mut parts: Vec<Vec<u32>> = Vec::new();
    // Neighbouring rows are in the same partition more often than not.
    let mut last: Option<(Row<'_>, usize)> = None;
    for (number, key) in numbers.zip(&keys) {
        let place = match last {
            Some((same, place)) if same == key => place,
            _ => *places.entry(key).or_insert_with(|| {
                parts.push(Vec::new());
                parts.len() - 1
            }),
        };
        parts[place].push(number);
        last = Some((key, place));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, FixedSizeBinaryArray, Float64Array, LargeBinaryArray, StringArray, TimestampNanosecondArray};
    use arrow::datatypes::Float64Type;
    use esker_format::{NestedField, UnboundPartitionField};
    use esker_read::target_schema;

    use super::*;

    fn schema(columns: &[(&str, PrimitiveType)]) -> Schema {
        let column = |(id, (name, ty)): (i32, &(&str, PrimitiveType))| Arc::new(NestedField::optional(id, name, ty.clone()));
        Schema::new(0, (1..).zip(columns).map(column).collect()).expect("a schema")
    }

    fn spec(transforms: &[(i32, Transform)]) -> PartitionSpec {
        let field =
            |(source, transform): &(i32, Transform)| UnboundPartitionField::new(*source, format!("f{source}"), transform.clone());
        PartitionSpec::new(0, transforms.iter().map(field).collect())
    }

    /// Splits columns, whose ids are 1 and up; returns each partition with its rows.
    fn split(schema: &Schema, transforms: &[(i32, Transform)], columns: Vec<ArrayRef>) -> Vec<(Tuple, RecordBatch)> {
        let ids: Vec<i32> = (1..).take(columns.len()).collect();
        let batch = RecordBatch::try_new(target_schema(schema, &ids).expect("a schema"), columns).expect("a batch");
        let splitter = Splitter::new(schema, batch.schema().fields(), &spec(transforms)).expect("a splitter");
        let parts = splitter.split(&batch).expect("parts");
        parts.into_iter().map(|(key, rows)| (key.values().into(), rows)).collect()
    }

    #[test]
    fn a_partition_value_that_its_type_does_not_hold_is_refused_by_name() {
        let schema = schema(&[("d", PrimitiveType::Decimal { precision: 5, scale: 0 })]);
        let of = |value: i128| {
            let array = arrow::array::Decimal128Array::from(vec![value]).with_precision_and_scale(5, 0).expect("decimals");
            let batch =
                RecordBatch::try_new(target_schema(&schema, &[1]).expect("a schema"), vec![Arc::new(array)]).expect("a batch");
            let spec = spec(&[(1, Transform::Truncate(10))]);
            Splitter::new(&schema, batch.schema().fields(), &spec).expect("a splitter").split(&batch)
        };
        of(-99_990).expect("a partition");
        let error = of(-99_999).expect_err("-100000").to_string();
        assert_eq!(error, "partition field f1: truncate[10] makes a value with more digits than decimal(5, 0) holds");
    }

    fn parts(transforms: &[(i32, Transform)]) -> Vec<(Tuple, Vec<Option<f64>>)> {
        let x: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(0.0), Some(-0.0), Some(f64::NAN), Some(-f64::NAN), None, Some(0.0)]));
        let p: ArrayRef = Arc::new(StringArray::from(vec![Some("null"), Some("a"), None, None, Some("null"), None]));
        let schema = schema(&[("x", PrimitiveType::Double), ("p", PrimitiveType::String)]);
        let xs = |batch: RecordBatch| batch.column(0).as_primitive::<Float64Type>().iter().collect();
        split(&schema, transforms, vec![x, p]).into_iter().map(|(key, rows)| (key, xs(rows))).collect()
    }

    #[test]
    fn both_zeros_have_a_partition_each_and_every_nan_the_same() {
        let parts = parts(&[(1, Transform::Identity)]);
        assert_eq!(parts.iter().map(|(_, xs)| xs.len()).collect::<Vec<_>>(), [2, 1, 2, 1]);
        assert!(parts[1].1[0].expect("a value").is_sign_negative());
        assert!(matches!(&parts[1].0[0], Some(Value::Double(v)) if v.is_sign_negative()));
    }

    #[test]
    fn rows_without_a_value_are_apart_from_those_whose_value_is_null() {
        let sizes: Vec<usize> = parts(&[(2, Transform::Truncate(4))]).iter().map(|(_, xs)| xs.len()).collect();
        assert_eq!(sizes, [2, 1, 3]);
    }

    /// Specification, "Truncate Transform Details": of binary, `v.subarray(0, L)`.
    #[test]
    fn bytes_are_cut_to_their_partition() {
        let bytes: ArrayRef =
            Arc::new(LargeBinaryArray::from_opt_vec(vec![Some(&[1, 2, 3]), Some(&[1, 2, 9]), Some(&[255]), None, Some(&[])]));
        let parts = split(&schema(&[("b", PrimitiveType::Binary)]), &[(1, Transform::Truncate(2))], vec![bytes]);
        let found: Vec<_> = parts.into_iter().map(|(key, rows)| (key[0].clone(), rows.num_rows())).collect();
        let of = |bytes: &[u8]| Some(Value::Binary(bytes.into()));
        assert_eq!(found, [(of(&[1, 2]), 2), (of(&[255]), 1), (None, 1), (of(&[]), 1)]);
    }

    #[test]
    fn uuids_and_nanoseconds_have_partitions() {
        let schema = schema(&[("u", PrimitiveType::Uuid), ("t", PrimitiveType::TimestampNs)]);
        let ids = [[7_u8; 16], [9; 16], [7; 16]];
        let uuids: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter(ids.iter()).expect("UUIDs"));
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1, 2, 86_400_000_000_001]));
        let parts = split(&schema, &[(1, Transform::Identity), (2, Transform::Day)], vec![uuids, times]);
        let uuid = |id: usize| Value::from_bytes(&PrimitiveType::Uuid, &ids[id]);
        let found: Vec<Tuple> = parts.into_iter().map(|(key, _)| key).collect();
        let expected = [(0, 0), (1, 0), (0, 1)].map(|(id, day)| Tuple::from([uuid(id), Some(Value::Date(day))]));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_void_field_has_a_value_that_is_none_whatever_it_was_made_of() {
        let parts = parts(&[(1, Transform::Void), (99, Transform::Void)]);
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].0, Tuple::from([None, None]));
    }

    #[test]
    fn what_can_not_be_parted_is_refused_by_name() {
        let schema = schema(&[("x", PrimitiveType::Double)]);
        let columns = target_schema(&schema, &[1]).expect("a schema");
        let error = |field| {
            let spec = spec(&[field]);
            Splitter::new(&schema, columns.fields(), &spec).map(drop).expect_err("refused").to_string()
        };
        let unknown = Transform::Unknown("zorder[2]".into());
        assert_eq!(error((1, unknown)), "partition field f1: rows can't be partitioned by transform zorder[2]");
        assert_eq!(error((1, Transform::Day)), "partition field f1: rows can't be partitioned by transform day");
        assert_eq!(error((9, Transform::Day)), "partition field f9: the schema lacks its source column");
    }
}
