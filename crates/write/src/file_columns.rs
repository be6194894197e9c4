//! Converts rows to the columns that files store.
//!
//! Columns of type `unknown` are left out at any depth. Variants are shredded if the job asks for it. All other columns are
//! stored as they are. Spec: Appendix A, "Parquet"; Parquet, "Variant Shredding".

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema as ArrowSchema, SchemaRef};
use arrow::error::ArrowError;
use esker_format::{NestedFieldRef, PrimitiveType, Schema, Type};
use esker_read::is_variant;

use crate::shredding::Shredding;
use crate::{Result, WriteError};

/// Checks that files can hold every column of a table.
///
/// A schema whose columns all have type `unknown` can't be written either: a file needs a column. The error is
/// [`WriteError::Unwritable`].
pub(crate) fn check_writable(schema: &Schema) -> Result<()> {
    let columns = schema.as_struct().fields();
    columns.iter().try_for_each(|field| check(field, schema))?;
    match columns.first() {
        Some(first) if columns.iter().all(is_unknown) => Err(refused(first, schema)),
        _ => Ok(()),
    }
}

/// Makes the error for a column that no file can hold.
fn refused(field: &NestedFieldRef, schema: &Schema) -> WriteError {
    let column = schema.name_by_field_id(field.id).unwrap_or(&field.name).to_owned();
    WriteError::Unwritable { column, ty: field.field_type.as_ref().clone() }
}

/// Checks that a field has type `unknown`.
fn is_unknown(field: &NestedFieldRef) -> bool {
    matches!(field.field_type.as_ref(), Type::Primitive(PrimitiveType::Unknown))
}

/// Checks that files can hold a field and its descendants.
fn check(field: &NestedFieldRef, schema: &Schema) -> Result<()> {
    use PrimitiveType as P;
    let children = field.field_type.children();
    let holdable = match field.field_type.as_ref() {
        Type::Primitive(P::Other(_)) => false,
        Type::Primitive(_) | Type::Variant => true,
        // Parquet has no groups without fields.
        Type::Struct(_) => children.iter().any(|child| !is_unknown(child)),
        Type::List(_) | Type::Map(_) => children.iter().all(|child| !is_unknown(child)),
    };
    match holdable {
        true => children.into_iter().try_for_each(|child| check(child, schema)),
        false => Err(refused(field, schema)),
    }
}

/// The conversion of rows to the columns that files store.
#[derive(Debug, Clone)]
pub(crate) struct FileColumns {
    /// The columns that files store.
    pub(crate) schema: SchemaRef,
    shredding: Shredding,
}

impl FileColumns {
    /// Derives the stored columns of rows with the schema `rows`.
    pub(crate) fn new(rows: &SchemaRef, shredding: Shredding) -> Result<Self> {
        let made = Self { schema: rows.clone(), shredding };
        let schema = match rows.fields().iter().any(|field| made.is_converted(field)) {
            true => Arc::new(ArrowSchema::new(made.fields(rows.fields())?)),
            false => rows.clone(),
        };
        Ok(Self { schema, ..made })
    }

    /// Converts columns of rows to the columns that files store.
    pub(crate) fn columns(&self, fields: &Fields, columns: &[ArrayRef]) -> std::result::Result<Vec<ArrayRef>, ArrowError> {
        let kept = fields.iter().zip(columns).filter(|(field, _)| *field.data_type() != DataType::Null);
        kept.map(|(field, column)| self.column(field, column)).collect()
    }

    /// Checks that a field is stored otherwise than it is in rows.
    fn is_converted(&self, field: &Field) -> bool {
        match field.data_type() {
            DataType::Null => true,
            ty if is_variant(ty) => self.shredding.of(field).is_some(),
            DataType::Struct(fields) => fields.iter().any(|field| self.is_converted(field)),
            DataType::List(item) | DataType::Map(item, _) => self.is_converted(item),
            _ => false,
        }
    }

    /// Returns the stored fields of some fields.
    fn fields(&self, fields: &Fields) -> std::result::Result<Fields, ArrowError> {
        fields.iter().filter(|field| *field.data_type() != DataType::Null).map(|field| self.field(field)).collect()
    }

    /// Returns the stored field of a field.
    fn field(&self, field: &FieldRef) -> std::result::Result<FieldRef, ArrowError> {
        let ty = match field.data_type() {
            _ if !self.is_converted(field) => return Ok(field.clone()),
            ty if is_variant(ty) => self.shredding.type_of(field),
            DataType::Struct(fields) => DataType::Struct(self.fields(fields)?),
            DataType::List(item) => DataType::List(self.field(item)?),
            DataType::Map(entries, sorted) => DataType::Map(self.field(entries)?, *sorted),
            other => other.clone(),
        };
        Ok(Arc::new(Field::clone(field).with_data_type(ty)))
    }

    /// Converts a column that is not of type `unknown` itself.
    fn column(&self, field: &FieldRef, array: &ArrayRef) -> std::result::Result<ArrayRef, ArrowError> {
        Ok(match array.data_type() {
            _ if !self.is_converted(field) => array.clone(),
            ty if is_variant(ty) => self.shredding.shredded(field, array)?,
            DataType::Struct(fields) => Arc::new(self.children(fields, array.as_struct())?),
            DataType::List(item) => {
                let list = array.as_list::<i32>();
                let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
                Arc::new(ListArray::try_new(self.field(item)?, offsets, self.column(item, list.values())?, nulls)?)
            }
            DataType::Map(entries, sorted) => {
                let map = array.as_map();
                let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
                let pairs = self.children(map.entries().fields(), map.entries())?;
                Arc::new(MapArray::try_new(self.field(entries)?, offsets, pairs, nulls, *sorted)?)
            }
            _ => array.clone(),
        })
    }

    /// Converts the children of a struct.
    fn children(&self, fields: &Fields, array: &StructArray) -> std::result::Result<StructArray, ArrowError> {
        let columns = self.columns(fields, array.columns())?;
        StructArray::try_new(self.fields(fields)?, columns, array.nulls().cloned())
    }
}
