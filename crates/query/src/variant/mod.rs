//! `VARIANT` in SQL: parts that are taken out of variants, variants that are made of other values, and JSON, which clients see.
//!
//! `cast` converts variants to other types, `make` the other way. `prune`, `project` and `scan` let a scan read only the parts
//! that a statement needs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::error::ArrowError;
use esker_read::{is_variant, variant_at};

mod cast;
mod functions;
mod json;
mod make;
mod path;
mod project;
mod prune;
mod scan;

pub(crate) use cast::Extract;
pub(crate) use functions::{extract, field_of_variant, functions};
pub(crate) use make::of_values;
pub(crate) use path::Path;
pub(crate) use project::PartsIntoScans;
pub(crate) use prune::Conditions;
pub(crate) use scan::ShreddedPart;

/// Returns true if a type is a variant, or contains one.
pub(crate) fn holds_variant(ty: &DataType) -> bool {
    match ty {
        ty if is_variant(ty) => true,
        DataType::Struct(fields) => fields.iter().any(|field| holds_variant(field.data_type())),
        DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => holds_variant(item.data_type()),
        _ => false,
    }
}

/// Returns a field as clients see it, with texts in the place of variants.
pub(crate) fn json_field(field: &FieldRef) -> FieldRef {
    if !holds_variant(field.data_type()) {
        return field.clone();
    }
    let mut metadata = field.metadata().clone();
    if is_variant(field.data_type()) {
        // The field holds texts, which Arrow's extension type for variants does not describe.
        metadata.retain(|key, _| !key.starts_with("ARROW:extension:"));
    }
    Arc::new(Field::clone(field).with_data_type(json_type(field.data_type())).with_metadata(metadata))
}

/// Returns a type with texts in the place of variants.
fn json_type(ty: &DataType) -> DataType {
    match ty {
        ty if is_variant(ty) => DataType::Utf8,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(json_field).collect()),
        DataType::List(item) => DataType::List(json_field(item)),
        DataType::Map(entries, sorted) => DataType::Map(json_field(entries), *sorted),
        other => other.clone(),
    }
}

/// Returns a column as clients see it, with JSON in the place of variants.
pub(crate) fn as_json(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    Ok(match array.data_type() {
        ty if !holds_variant(ty) => array.clone(),
        ty if is_variant(ty) => Arc::new(texts(array.as_struct())),
        DataType::Struct(fields) => Arc::new(json_struct(fields, array.as_struct())?),
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            Arc::new(ListArray::try_new(
                json_field(item),
                list.offsets().clone(),
                as_json(list.values())?,
                list.nulls().cloned(),
            )?)
        }
        DataType::Map(entries, sorted) => {
            let map = array.as_map();
            let pairs = json_struct(map.entries().fields(), map.entries())?;
            Arc::new(MapArray::try_new(json_field(entries), map.offsets().clone(), pairs, map.nulls().cloned(), *sorted)?)
        }
        _ => array.clone(),
    })
}

/// Returns a struct with JSON in the place of variants.
fn json_struct(fields: &Fields, array: &StructArray) -> Result<StructArray, ArrowError> {
    let columns = array.columns().iter().map(as_json).collect::<Result<Vec<_>, _>>()?;
    StructArray::try_new(fields.iter().map(json_field).collect(), columns, array.nulls().cloned())
}

/// Formats variants as JSON, one text for each row; null stays null.
fn texts(array: &StructArray) -> StringArray {
    (0..array.len()).map(|row| array.is_valid(row).then(|| json::text(variant_at(array, row)))).collect()
}
