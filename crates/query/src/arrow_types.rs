//! Arrow types of queries, inside the engine and at its border to clients.
//!
//! Within a plan, columns have the types that the Parquet decoder produces fastest (`scan_schema`). Results have types that every
//! client can read (`client_schema`).

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::{select, variant};

/// Returns the schema with the type of every top-level field replaced.
fn map_schema(schema: &Schema, ty: impl Fn(&DataType) -> DataType) -> SchemaRef {
    let field = |f: &FieldRef| Arc::new(f.as_ref().clone().with_data_type(ty(f.data_type())));
    let fields: Vec<FieldRef> = schema.fields().iter().map(field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Returns the type with the types of its direct children replaced.
fn map_children(ty: &DataType, map: fn(&DataType) -> DataType) -> DataType {
    let child = |f: &FieldRef| Arc::new(Field::clone(f).with_data_type(map(f.data_type())));
    match ty {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(child).collect()),
        DataType::List(item) => DataType::List(child(item)),
        DataType::LargeList(item) => DataType::LargeList(child(item)),
        DataType::Map(entries, sorted) => DataType::Map(child(entries), *sorted),
        other => other.clone(),
    }
}

/// Returns the type that the Parquet decoder produces for a column, so that a scan converts nothing.
fn decoder_type(ty: &DataType) -> DataType {
    match ty {
        DataType::LargeBinary => DataType::Binary,
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some("UTC".into())),
        other => map_children(other, decoder_type),
    }
}

/// Returns a type with the names that DataFusion's functions give to the fields of lists and maps, without field ids.
///
/// DataFusion accepts two lists as values of one type only if these fields are alike.
fn with_function_names(ty: &DataType) -> DataType {
    match ty {
        DataType::List(item) => DataType::new_list(with_function_names(item.data_type()), true),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let named = |at: usize, name: &str| Field::new(name, with_function_names(pair[at].data_type()), at == 1);
                let pair = DataType::Struct(vec![named(0, "key"), named(1, "value")].into());
                DataType::Map(Arc::new(Field::new("entries", pair, false)), *sorted)
            }
            _ => ty.clone(),
        },
        DataType::Struct(_) => map_children(ty, with_function_names),
        other => other.clone(),
    }
}

/// Returns the schema with the field names that DataFusion's functions give to lists and maps.
pub(crate) fn schema_with_function_names(schema: &Schema) -> SchemaRef {
    map_schema(schema, with_function_names)
}

/// Returns a table's schema for a scan.
///
/// Strings and binaries of the top level become views, which are sliced rather than copied.
pub(crate) fn scan_schema(schema: &Schema) -> SchemaRef {
    map_schema(schema, |ty| match decoder_type(ty) {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Binary => DataType::BinaryView,
        other => other,
    })
}

/// Returns the type without views, at every depth.
fn plain_type(ty: &DataType) -> DataType {
    match ty {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::ListView(item) => DataType::List(Arc::new(Field::clone(item).with_data_type(plain_type(item.data_type())))),
        other => map_children(other, plain_type),
    }
}

/// Returns a result's schema with the names of its columns that readers see, as a table stores them. The types stay the same.
pub(crate) fn with_shown_names(schema: &Schema) -> SchemaRef {
    let named = |f: &FieldRef| Arc::new(f.as_ref().clone().with_name(select::shown(f.name())));
    Arc::new(Schema::new_with_metadata(schema.fields().iter().map(named).collect::<Vec<_>>(), schema.metadata().clone()))
}

/// Returns a result's schema for clients, many of which cannot read views.
///
/// Variants become JSON text. Several fields may have the same name.
pub(crate) fn client_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<FieldRef> = with_shown_names(schema).fields().iter().map(variant::json_field).collect();
    map_schema(&Schema::new_with_metadata(fields, schema.metadata().clone()), plain_type)
}

/// Converts a batch to the schema that [`client_schema`] made of its own.
///
/// # Errors
///
/// Returns an [`ArrowError`] if a value does not fit its field's type, or if the columns do not fit the schema.
pub(crate) fn to_client_batch(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |(column, field): (&ArrayRef, &FieldRef)| {
        let column = &variant::as_json(column)?;
        match column.data_type() == field.data_type() {
            true => Ok(column.clone()),
            // A value that does not fit is an error, not a null.
            false => cast_with_options(column, field.data_type(), &CastOptions { safe: false, ..CastOptions::default() }),
        }
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}
