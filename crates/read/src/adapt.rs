use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema as ArrowSchema, SchemaRef};
use arrow::error::ArrowError;
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::{Literal, Schema, Struct, Transform, Type};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::{Result, literal_array};

/// The Arrow schema of some top-level columns of a table, in the order given; fields carry their ids.
pub fn target_schema(schema: &Schema, field_ids: &[i32]) -> Result<SchemaRef> {
    let all = schema_to_arrow_schema(schema)?;
    let by_id: HashMap<i32, &FieldRef> = all.fields().iter().filter_map(|f| Some((field_id(f)?, f))).collect();
    let fields: Vec<FieldRef> = field_ids.iter().filter_map(|id| by_id.get(id).copied().cloned()).collect();
    Ok(Arc::new(ArrowSchema::new(fields)))
}

/// The Iceberg field id of an Arrow field, where it has one.
pub fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

/// Brings a file's batches into the target schema, by field id: columns renamed, reordered, added (null, default or
/// partition value) and promoted, inside structs, lists and maps too.
#[derive(Debug, Clone)]
pub struct Adapter {
    target: SchemaRef,
    /// One-value arrays for columns that a file may lack.
    constants: HashMap<i32, ArrayRef>,
}

impl Adapter {
    /// For files of one partition: a column that a file lacks takes its identity partition value, or else its initial
    /// default, or else null (spec, "Column Projection").
    pub fn new(target: SchemaRef, schema: &Schema, partition: Option<(&iceberg::spec::PartitionSpec, &Struct)>) -> Self {
        let mut constants = HashMap::new();
        let mut put = |id: i32, literal: &Literal| {
            let ty = schema.field_by_id(id).map(|f| f.field_type.as_ref());
            let field = target.fields().iter().find(|f| field_id(f) == Some(id));
            if let (Some(Type::Primitive(ty)), Some(field), Literal::Primitive(literal)) = (ty, field, literal)
                && let Some(array) = literal_array(ty, literal, field.data_type())
            {
                constants.insert(id, array);
            }
        };
        for field in schema.as_struct().fields() {
            if let Some(default) = &field.initial_default {
                put(field.id, default);
            }
        }
        if let Some((spec, values)) = partition {
            for (field, value) in spec.fields().iter().zip(values.iter()) {
                if let (Transform::Identity, Some(value)) = (field.transform, value) {
                    put(field.source_id, value);
                }
            }
        }
        Self { target, constants }
    }

    /// What batches look like afterwards.
    pub fn target(&self) -> &SchemaRef {
        &self.target
    }

    /// One batch.
    pub fn adapt(&self, batch: &RecordBatch) -> std::result::Result<RecordBatch, ArrowError> {
        let (schema, rows) = (batch.schema(), batch.num_rows());
        let column = |field: &FieldRef| {
            let id = field_id(field);
            match schema.fields().iter().position(|f| id.is_some() && field_id(f) == id) {
                Some(i) => convert_column(batch.column(i), schema.field(i), field),
                None => match id.and_then(|id| self.constants.get(&id)) {
                    Some(value) => repeat(value, rows),
                    None => Ok(new_null_array(field.data_type(), rows)),
                },
            }
        };
        let columns = self.target.fields().iter().map(column).collect::<std::result::Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.target.clone(), columns, &options)
    }
}

fn repeat(value: &ArrayRef, rows: usize) -> std::result::Result<ArrayRef, ArrowError> {
    let indices = arrow::array::UInt32Array::from(vec![0; rows]);
    arrow::compute::take(value, &indices, None)
}

/// Whether a column can be taken as it is, nested names and ids included.
fn same(from: &Field, to: &Field) -> bool {
    let all = |a: &Fields, b: &Fields| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name() == b.name() && field_id(a) == field_id(b) && same(a, b))
    };
    match (from.data_type(), to.data_type()) {
        (DataType::Struct(a), DataType::Struct(b)) => all(a, b),
        (DataType::List(a), DataType::List(b)) => a.name() == b.name() && same(a, b),
        (DataType::Map(_, _), DataType::Map(_, _)) => false,
        (a, b) => a == b,
    }
}

/// A file's column, nested ones included, as the table has it: children are found by field id.
pub fn convert_column(array: &ArrayRef, from: &Field, to: &Field) -> std::result::Result<ArrayRef, ArrowError> {
    if same(from, to) && array.data_type() == to.data_type() {
        return Ok(array.clone());
    }
    match (from.data_type(), to.data_type()) {
        (DataType::Struct(source), DataType::Struct(target)) => {
            let structs = downcast::<StructArray>(array)?;
            Ok(Arc::new(convert_struct(structs, source, target)?))
        }
        (DataType::List(source), DataType::List(target)) => {
            let list = downcast::<ListArray>(array)?;
            let values = convert_column(list.values(), source, target)?;
            Ok(Arc::new(ListArray::try_new(target.clone(), list.offsets().clone(), values, list.nulls().cloned())?))
        }
        (DataType::Map(source, _), DataType::Map(target, sorted)) => {
            let map = downcast::<MapArray>(array)?;
            let (DataType::Struct(source), DataType::Struct(fields)) = (source.data_type(), target.data_type()) else {
                return Err(ArrowError::SchemaError("a map without entries".to_owned()));
            };
            let entries = convert_struct(map.entries(), source, fields)?;
            let map = MapArray::try_new(target.clone(), map.offsets().clone(), entries, map.nulls().cloned(), *sorted)?;
            Ok(Arc::new(map))
        }
        _ => cast(array, to.data_type()),
    }
}

fn convert_struct(array: &StructArray, source: &Fields, target: &Fields) -> std::result::Result<StructArray, ArrowError> {
    let child = |field: &FieldRef| match source.iter().position(|f| field_id(f).is_some() && field_id(f) == field_id(field)) {
        Some(i) => convert_column(array.column(i), &source[i], field),
        None => Ok(new_null_array(field.data_type(), array.len())),
    };
    let children = target.iter().map(child).collect::<std::result::Result<Vec<_>, _>>()?;
    StructArray::try_new(target.clone(), children, array.nulls().cloned())
}

fn downcast<T: 'static>(array: &ArrayRef) -> std::result::Result<&T, ArrowError> {
    array.as_any().downcast_ref().ok_or_else(|| ArrowError::SchemaError("array and type disagree".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, Int64Array, StringArray};
    use iceberg::spec::{NestedField, PrimitiveType};

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

        let struct_type = Type::Struct(iceberg::spec::StructType::new(vec![
            NestedField::optional(5, "b", Type::Primitive(PrimitiveType::String)).into(),
            NestedField::optional(4, "a", Type::Primitive(PrimitiveType::Long)).into(),
        ]));
        let schema = Schema::builder()
            .with_fields([
                NestedField::optional(1, "added", Type::Primitive(PrimitiveType::String)).into(),
                NestedField::optional(2, "new_name", Type::Primitive(PrimitiveType::Long)).into(),
                NestedField::optional(3, "s", struct_type).into(),
                NestedField::optional(6, "defaulted", Type::Primitive(PrimitiveType::String))
                    .with_initial_default(Literal::string("x"))
                    .into(),
            ])
            .build()
            .expect("a schema");
        let target = target_schema(&schema, &[6, 1, 2, 3]).expect("a target");
        let adapted = Adapter::new(target, &schema, None).adapt(&batch).expect("adapted");
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
