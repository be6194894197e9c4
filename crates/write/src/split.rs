//! Rows by the partition that they belong to.

use std::collections::HashMap;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use esker_table::PartitionKey;
use iceberg::arrow::{PartitionValueCalculator, arrow_struct_to_literal};
use iceberg::spec::{Literal, PartitionSpec, Schema, Struct};

use crate::{Result, WriteError};

/// Splits rows by a partition spec. Partitions are those that Java tells apart: 0.0 and -0.0 are two.
pub(crate) struct Splitter {
    spec_id: i32,
    /// The partition of every row, where there is but one.
    only: Struct,
    calculator: Option<PartitionValueCalculator>,
}

impl Splitter {
    pub(crate) fn new(schema: &Schema, spec: &PartitionSpec) -> Result<Self> {
        let calculator = match spec.is_unpartitioned() {
            true => None,
            false => Some(PartitionValueCalculator::try_new(spec, schema)?),
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
        let values = arrow_struct_to_literal(&calculator.calculate(batch)?, calculator.partition_type())?;
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
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Float64Array, StringArray};
    use arrow::datatypes::Float64Type;
    use esker_read::target_schema;
    use iceberg::spec::{NestedField, PrimitiveType, Transform, Type, UnboundPartitionSpec};

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

    #[test]
    fn a_void_field_has_a_value_that_is_none() {
        let parts = parts(&[(1, Transform::Void)]);
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].0, Struct::from_iter([None]));
    }
}
