//! Rows by the partition that they belong to.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StructArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Fields};
use esker_read::transformed;
use esker_table::PartitionKey;
use iceberg::arrow::record_batch_projector::RecordBatchProjector;
use iceberg::arrow::{arrow_struct_to_literal, type_to_arrow_type};
use iceberg::spec::{Literal, PartitionSpec, Schema, Struct, StructType, Type};
use iceberg::transform::{BoxedTransformFunction, create_transform_function};

use crate::{Result, WriteError};

/// Splits rows by a partition spec. Partitions are those that Java tells apart: 0.0 and -0.0 are two.
pub(crate) struct Splitter {
    spec_id: i32,
    /// The partition of every row, where there is but one.
    only: Struct,
    calculator: Option<Calculator>,
}

/// Works out the partition values of rows.
struct Calculator {
    sources: RecordBatchProjector,
    functions: Vec<BoxedTransformFunction>,
    partition_type: StructType,
    fields: Fields,
}

impl Calculator {
    fn new(schema: &Schema, spec: &PartitionSpec) -> Result<Self> {
        let ids: Vec<i32> = spec.fields().iter().map(|field| field.source_id).collect();
        let functions = spec.fields().iter().map(|field| create_transform_function(&field.transform));
        let partition_type = spec.partition_type(schema)?;
        let DataType::Struct(fields) = type_to_arrow_type(&Type::Struct(partition_type.clone()))? else {
            return Err(WriteError::Refused(format!("partition spec {} makes no struct", spec.spec_id())));
        };
        Ok(Self {
            sources: RecordBatchProjector::from_iceberg_schema(Arc::new(schema.clone()), &ids)?,
            functions: functions.collect::<iceberg::Result<_>>()?,
            partition_type,
            fields,
        })
    }

    fn values(&self, batch: &RecordBatch) -> Result<Vec<Option<Literal>>> {
        let sources = self.sources.project_column(batch.columns())?;
        let made = sources.into_iter().zip(&self.functions).map(|(column, function)| transformed(function, column));
        let made: Vec<ArrayRef> = made.collect::<esker_read::Result<_>>()?;
        let made: ArrayRef = Arc::new(StructArray::try_new(self.fields.clone(), made, None)?);
        Ok(arrow_struct_to_literal(&made, &self.partition_type)?)
    }
}

impl Splitter {
    pub(crate) fn new(schema: &Schema, spec: &PartitionSpec) -> Result<Self> {
        let calculator = match spec.is_unpartitioned() {
            true => None,
            false => Some(Calculator::new(schema, spec)?),
        };
        // A field of the void transform has a value as well: none.
        let only = spec.fields().iter().map(|_| None).collect();
        Ok(Self { spec_id: spec.spec_id(), only, calculator })
    }

    /// Some rows by partition, in the order in which they came.
    pub(crate) fn split(&self, batch: &RecordBatch) -> Result<Vec<(PartitionKey<'static>, RecordBatch)>> {
        let Some(calculator) = &self.calculator else {
            return Ok(vec![(PartitionKey::new(self.spec_id, &self.only).into_owned(), batch.clone())]);
        };
        let values = calculator.values(batch)?;
        let mut places: HashMap<PartitionKey<'_>, usize> = HashMap::new();
        let mut parts: Vec<(PartitionKey<'_>, Vec<u32>)> = Vec::new();
        for (row, value) in values.iter().enumerate() {
            let Some(Literal::Struct(value)) = value else {
                return Err(WriteError::Refused("a row without partition values".to_owned()));
            };
            let key = PartitionKey::new(self.spec_id, value);
            let place = *places.entry(key.clone()).or_insert_with(|| {
                parts.push((key, Vec::new()));
                parts.len() - 1
            });
            parts[place].1.push(u32::try_from(row).unwrap_or(u32::MAX));
        }
        let part = |(key, rows): (PartitionKey<'_>, Vec<u32>)| {
            let rows = match rows.len() == batch.num_rows() {
                true => batch.clone(),
                false => take_record_batch(batch, &UInt32Array::from(rows))?,
            };
            Ok((key.into_owned(), rows))
        };
        parts.into_iter().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Float64Array, LargeBinaryArray, StringArray};
    use arrow::datatypes::Float64Type;
    use esker_read::target_schema;
    use iceberg::spec::{NestedField, PrimitiveType, Transform, UnboundPartitionSpec};

    use super::*;

    fn schema() -> Schema {
        let field = |id, name: &str, ty| NestedField::optional(id, name, Type::Primitive(ty)).into();
        let fields = [field(1, "x", PrimitiveType::Double), field(2, "p", PrimitiveType::String)];
        Schema::builder().with_fields(fields).build().expect("a schema")
    }

    fn parts(transforms: &[(i32, Transform)]) -> Vec<(Struct, Vec<Option<f64>>)> {
        let mut spec = UnboundPartitionSpec::builder();
        for (source, transform) in transforms {
            spec = spec.add_partition_field(*source, format!("f{source}"), *transform).expect("a field");
        }
        let spec = spec.build().bind(schema()).expect("a spec");
        let x: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(0.0), Some(-0.0), Some(f64::NAN), Some(-f64::NAN), None, Some(0.0)]));
        let p: ArrayRef = Arc::new(StringArray::from(vec![Some("null"), Some("a"), None, None, Some("null"), None]));
        let batch = RecordBatch::try_new(target_schema(&schema(), &[1, 2]).expect("a schema"), vec![x, p]).expect("a batch");
        let parts = Splitter::new(&schema(), &spec).expect("a splitter").split(&batch).expect("parts");
        let xs = |batch: &RecordBatch| batch.column(0).as_primitive::<Float64Type>().iter().collect();
        parts.iter().map(|(key, rows)| (key.values().clone(), xs(rows))).collect()
    }

    #[test]
    fn both_zeros_have_a_partition_each_and_every_nan_the_same() {
        let sizes: Vec<usize> = parts(&[(1, Transform::Identity)]).iter().map(|(_, xs)| xs.len()).collect();
        assert_eq!(sizes, [2, 1, 2, 1]);
        let negative = &parts(&[(1, Transform::Identity)])[1];
        assert!(negative.1[0].expect("a value").is_sign_negative());
        assert!(
            matches!(&negative.0[0], Some(Literal::Primitive(iceberg::spec::PrimitiveLiteral::Double(v))) if v.is_sign_negative())
        );
    }

    #[test]
    fn rows_without_a_value_are_apart_from_those_whose_value_is_null() {
        let sizes: Vec<usize> = parts(&[(2, Transform::Truncate(4))]).iter().map(|(_, xs)| xs.len()).collect();
        assert_eq!(sizes, [2, 1, 3]);
    }

    /// Specification, "Truncate Transform Details": of binary, `v.subarray(0, L)`.
    #[test]
    fn bytes_are_cut_to_their_partition() {
        let field = NestedField::optional(1, "b", Type::Primitive(PrimitiveType::Binary)).into();
        let schema = Schema::builder().with_fields([field]).build().expect("a schema");
        let spec = UnboundPartitionSpec::builder().add_partition_field(1, "p", Transform::Truncate(2)).expect("a field");
        let spec = spec.build().bind(schema.clone()).expect("a spec");
        let bytes: ArrayRef =
            Arc::new(LargeBinaryArray::from_opt_vec(vec![Some(&[1, 2, 3]), Some(&[1, 2, 9]), Some(&[255]), None, Some(&[])]));
        let batch = RecordBatch::try_new(target_schema(&schema, &[1]).expect("a schema"), vec![bytes]).expect("a batch");
        let parts = Splitter::new(&schema, &spec).expect("a splitter").split(&batch).expect("parts");
        let found: Vec<_> = parts.iter().map(|(key, rows)| (key.values()[0].clone(), rows.num_rows())).collect();
        let of = |bytes: &[u8]| Some(Literal::binary(bytes.to_vec()));
        assert_eq!(found, [(of(&[1, 2]), 2), (of(&[255]), 1), (None, 1), (of(&[]), 1)]);
    }

    #[test]
    fn a_void_field_has_a_value_that_is_none() {
        let parts = parts(&[(1, Transform::Void)]);
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].0, Struct::from_iter([None]));
    }
}
