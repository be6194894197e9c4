//! What of rows is in files. Columns of type `unknown` are not, at any depth (specification, Appendix A, "Parquet").

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema as ArrowSchema, SchemaRef};
use esker_format::{NestedFieldRef, PrimitiveType, Schema, Type};

use crate::{Result, WriteError};

/// An error if a table has a column that no file can hold, or none that a file has.
pub(crate) fn check_writable(schema: &Schema) -> Result<()> {
    let columns = schema.as_struct().fields();
    columns.iter().try_for_each(|field| check(field, schema))?;
    match columns.first() {
        Some(first) if columns.iter().all(is_unknown) => Err(refused(first, schema)),
        _ => Ok(()),
    }
}

fn refused(field: &NestedFieldRef, schema: &Schema) -> WriteError {
    let column = schema.name_by_field_id(field.id).unwrap_or(&field.name).to_owned();
    WriteError::Unwritable { column, ty: field.field_type.as_ref().clone() }
}

fn is_unknown(field: &NestedFieldRef) -> bool {
    matches!(field.field_type.as_ref(), Type::Primitive(PrimitiveType::Unknown))
}

fn check(field: &NestedFieldRef, schema: &Schema) -> Result<()> {
    use PrimitiveType as P;
    let children = field.field_type.children();
    let holdable = match field.field_type.as_ref() {
        Type::Primitive(P::Geometry { .. } | P::Geography { .. } | P::Other(_)) | Type::Variant => false,
        Type::Primitive(_) => true,
        // A struct that holds nothing is none of Parquet's.
        Type::Struct(_) => children.iter().any(|child| !is_unknown(child)),
        Type::List(_) | Type::Map(_) => children.iter().all(|child| !is_unknown(child)),
    };
    match holdable {
        true => children.into_iter().try_for_each(|child| check(child, schema)),
        false => Err(refused(field, schema)),
    }
}

/// The columns that files of rows with these columns have.
pub(crate) fn stored_schema(schema: &SchemaRef) -> SchemaRef {
    match schema.fields().iter().any(|field| has_unknown(field.data_type())) {
        true => Arc::new(ArrowSchema::new(stored_fields(schema.fields()))),
        false => schema.clone(),
    }
}

/// Columns of rows as files have them.
pub(crate) fn stored_columns(columns: &[ArrayRef]) -> Vec<ArrayRef> {
    columns.iter().filter(|column| *column.data_type() != DataType::Null).map(stored).collect()
}

fn has_unknown(ty: &DataType) -> bool {
    match ty {
        DataType::Null => true,
        DataType::Struct(fields) => fields.iter().any(|field| has_unknown(field.data_type())),
        DataType::List(item) | DataType::Map(item, _) => has_unknown(item.data_type()),
        _ => false,
    }
}

fn stored_fields(fields: &Fields) -> Fields {
    fields.iter().filter(|field| *field.data_type() != DataType::Null).map(stored_field).collect()
}

fn stored_field(field: &FieldRef) -> FieldRef {
    let ty = match field.data_type() {
        ty if !has_unknown(ty) => return field.clone(),
        DataType::Struct(fields) => DataType::Struct(stored_fields(fields)),
        DataType::List(item) => DataType::List(stored_field(item)),
        DataType::Map(entries, sorted) => DataType::Map(stored_field(entries), *sorted),
        other => other.clone(),
    };
    Arc::new(Field::clone(field).with_data_type(ty))
}

/// A column that is not of type `unknown` itself.
fn stored(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        ty if !has_unknown(ty) => array.clone(),
        DataType::Struct(_) => Arc::new(stored_struct(array.as_struct())),
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Arc::new(ListArray::new(stored_field(item), offsets, stored(list.values()), nulls))
        }
        DataType::Map(entries, sorted) => {
            let map = array.as_map();
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(MapArray::new(stored_field(entries), offsets, stored_struct(map.entries()), nulls, *sorted))
        }
        _ => array.clone(),
    }
}

fn stored_struct(array: &StructArray) -> StructArray {
    StructArray::new(stored_fields(array.fields()), stored_columns(array.columns()), array.nulls().cloned())
}
