//! Converts batches of a file to a table's schema.
//!
//! [`BatchAdapter`] is the entry point for whole batches; `defaults.rs` converts single columns and has the values of missing
//! ones. Spec: "Column Projection".

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Fields, SchemaRef};
use arrow::error::ArrowError;
use esker_format::{PartitionSpec, Schema, Value};

use crate::Defaults;
use crate::defaults::position;

/// Converts a file's batches to a target schema, matching fields by id.
///
/// Renames, reorders and promotes columns, inside structs, lists and maps too. A column that the file lacks gets its partition
/// value, its initial default or null. Spec: "Column Projection".
#[derive(Debug, Clone)]
pub struct BatchAdapter {
    target: SchemaRef,
    defaults: Defaults,
}

impl BatchAdapter {
    /// Creates an adapter for files of one partition.
    ///
    /// `schema` is the table schema that has the target's fields, with their defaults. Without a partition, columns that a file
    /// lacks get their defaults only.
    pub fn new(target: SchemaRef, schema: &Schema, partition: Option<(&PartitionSpec, &[Option<Value>])>) -> Self {
        let defaults = Defaults::new(schema, target.fields(), partition);
        Self { target, defaults }
    }

    /// Returns the schema of converted batches.
    pub fn target(&self) -> &SchemaRef {
        &self.target
    }

    /// Converts one batch, whose columns are those `fields` of the file, in order.
    ///
    /// # Errors
    ///
    /// - Returns [`ArrowError::SchemaError`] if the file lacks a required column that has no value of its own (see
    ///   [`Defaults::of`]), or if an array has another type than its field.
    /// - Returns [`ArrowError::NotYetImplemented`] if the Arrow type can't hold a default or partition value.
    /// - Returns [`ArrowError::CastError`] if a value does not fit the target type, or if Arrow can't cast to that type.
    /// - Returns [`ArrowError::InvalidArgumentError`] if a required field of the target has nulls.
    /// - Returns an [`ArrowError::ExternalError`] with a [`InvalidVariant`](crate::InvalidVariant) if bytes are not a valid
    ///   variant.
    pub fn adapt(&self, batch: &RecordBatch, fields: &Fields) -> Result<RecordBatch, ArrowError> {
        let rows = batch.num_rows();
        let column = |field: &FieldRef| match position(fields, field) {
            Some(i) => self.defaults.convert(batch.column(i), &fields[i], field),
            None => self.defaults.rows(field, rows, None),
        };
        let columns = self.target.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.target.clone(), columns, &options)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, Int32Array, Int64Array, StringArray, StructArray};
    use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
    use esker_format::{DefaultValue, NestedField, PrimitiveType, StructType};
    use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

    use super::*;
    use crate::target_schema;

    fn with_id(name: &str, ty: DataType, id: i32) -> Field {
        Field::new(name, ty, true).with_metadata([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into())
    }

    #[test]
    fn columns_are_found_by_id_promoted_renamed_and_added() {
        let inner = DataType::Struct(vec![with_id("a", DataType::Int32, 4)].into());
        let file = ArrowSchema::new(vec![with_id("old_name", DataType::Int32, 2), with_id("s", inner.clone(), 3)]);
        let nested = StructArray::try_new(
            vec![with_id("a", DataType::Int32, 4)].into(),
            vec![Arc::new(Int32Array::from(vec![7, 8]))],
            None,
        );
        let batch = RecordBatch::try_new(
            Arc::new(file),
            vec![Arc::new(Int32Array::from(vec![1, 2])), Arc::new(nested.expect("a struct"))],
        )
        .expect("a batch");

        let struct_type = StructType::new(vec![
            NestedField::optional(5, "b", PrimitiveType::String).into(),
            NestedField::optional(4, "a", PrimitiveType::Long).into(),
        ]);
        let x = DefaultValue::of(&PrimitiveType::String.into(), &Value::String("x".into()));
        let defaulted = NestedField { initial_default: x, ..NestedField::optional(6, "defaulted", PrimitiveType::String) };
        let fields = vec![
            NestedField::optional(1, "added", PrimitiveType::String).into(),
            NestedField::optional(2, "new_name", PrimitiveType::Long).into(),
            NestedField::optional(3, "s", struct_type).into(),
            defaulted.into(),
        ];
        let schema = Schema::new(0, fields).expect("a schema");
        let target = target_schema(&schema, &[6, 1, 2, 3]).expect("a target");
        let adapted = BatchAdapter::new(target, &schema, None).adapt(&batch, batch.schema().fields()).expect("adapted");
        let names: Vec<_> = adapted.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["defaulted", "added", "new_name", "s"]);
        assert_eq!(adapted.column(0).as_ref(), &StringArray::from(vec!["x", "x"]) as &dyn Array);
        assert_eq!(adapted.column(1).null_count(), 2);
        assert_eq!(adapted.column(2).as_ref(), &Int64Array::from(vec![1, 2]) as &dyn Array);
        let s = adapted.column(3).as_any().downcast_ref::<StructArray>().expect("a struct");
        assert_eq!(s.column(0).null_count(), 2);
        assert_eq!(s.column(1).as_ref(), &Int64Array::from(vec![7, 8]) as &dyn Array);
    }
}
