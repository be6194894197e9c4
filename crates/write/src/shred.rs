//! A variant taken apart: what is exactly of the type of a column goes into that, the rest stays a variant.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;
use esker_read::{column_of_variants, is_of_type, variant_at};
use parquet::variant::{Variant, VariantBuilderExt, VariantValueArrayBuilder};

type Result<T> = std::result::Result<T, ArrowError>;

/// A value of a part in each row; none where there is no such part.
type Values<'a> = [Option<Variant<'a, 'a>>];

/// The type of a variant's column whose parts are of a type.
pub(crate) fn column_type(ty: &DataType) -> DataType {
    let mut fields = vec![Field::new("metadata", DataType::BinaryView, false)];
    fields.extend(pair(ty));
    DataType::Struct(fields.into())
}

/// The two columns of a part.
fn pair(ty: &DataType) -> [Field; 2] {
    [Field::new("value", DataType::BinaryView, true), Field::new("typed_value", typed(ty), true)]
}

fn typed(ty: &DataType) -> DataType {
    let part = |name: &str, ty: &DataType| Field::new(name, DataType::Struct(pair(ty).into_iter().collect()), false);
    match ty {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| part(field.name(), field.data_type())).collect()),
        DataType::List(item) => DataType::List(Arc::new(part("element", item.data_type()))),
        other => other.clone(),
    }
}

/// Variants as a column whose parts are of a type.
pub(crate) fn shredded(variants: &StructArray, ty: &DataType) -> Result<ArrayRef> {
    let values: Vec<Option<Variant<'_, '_>>> =
        (0..variants.len()).map(|row| (variants.is_valid(row)).then(|| variant_at(variants, row))).collect();
    let (value, part) = parts(&values, ty)?;
    let DataType::Struct(fields) = column_type(ty) else {
        return Err(ArrowError::SchemaError("a variant is a struct".to_owned()));
    };
    let nulls = variants.nulls().cloned();
    Ok(Arc::new(StructArray::try_new(fields, vec![variants.column(0).clone(), value, part], nulls)?))
}

/// The two columns of a part: what is not of its type, and what is.
fn parts(values: &Values<'_>, ty: &DataType) -> Result<(ArrayRef, ArrayRef)> {
    match ty {
        DataType::Struct(fields) => objects(values, fields),
        DataType::List(item) => arrays(values, item.data_type()),
        ty => {
            let mut rest = VariantValueArrayBuilder::new(values.len());
            let fitting: Vec<Option<&Variant<'_, '_>>> =
                values.iter().map(|v| v.as_ref().filter(|v| is_of_type(v, ty))).collect();
            for (value, fitting) in values.iter().zip(&fitting) {
                match value {
                    Some(value) if fitting.is_none() => rest.append_value(value.clone()),
                    _ => rest.append_null(),
                }
            }
            Ok((Arc::new(rest.build()?), column_of_variants(&fitting, ty)?))
        }
    }
}

fn pair_of(value: ArrayRef, part: ArrayRef, ty: &DataType) -> Result<ArrayRef> {
    Ok(Arc::new(StructArray::try_new(pair(ty).into_iter().collect(), vec![value, part], None)?))
}

/// Objects, of which some fields have columns and the others stay.
fn objects(values: &Values<'_>, fields: &Fields) -> Result<(ArrayRef, ArrayRef)> {
    let apart: HashSet<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    let mut rest = VariantValueArrayBuilder::new(values.len());
    for value in values {
        match value {
            None => rest.append_null(),
            Some(value @ Variant::Object(object)) => match object.iter().any(|(name, _)| !apart.contains(name)) {
                false => rest.append_null(),
                true => {
                    let mut builder = rest.builder_ext(value.metadata());
                    let mut left = builder.try_new_object()?;
                    for (name, value) in object.iter().filter(|(name, _)| !apart.contains(name)) {
                        left.insert_bytes(name, value);
                    }
                    left.finish();
                }
            },
            Some(value) => rest.append_value(value.clone()),
        }
    }
    let field = |field: &Arc<Field>| {
        let own: Vec<Option<Variant<'_, '_>>> = values
            .iter()
            .map(|value| if let Some(Variant::Object(object)) = value { object.get(field.name()) } else { None })
            .collect();
        let (value, part) = parts(&own, field.data_type())?;
        pair_of(value, part, field.data_type())
    };
    let columns = fields.iter().map(field).collect::<Result<Vec<_>>>()?;
    let are: NullBuffer = values.iter().map(|value| matches!(value, Some(Variant::Object(_)))).collect::<Vec<_>>().into();
    let DataType::Struct(inner) = typed(&DataType::Struct(fields.clone())) else {
        return Err(ArrowError::SchemaError("objects are structs".to_owned()));
    };
    Ok((Arc::new(rest.build()?), Arc::new(StructArray::try_new_with_length(inner, columns, Some(are), values.len())?)))
}

fn arrays(values: &Values<'_>, ty: &DataType) -> Result<(ArrayRef, ArrayRef)> {
    let mut rest = VariantValueArrayBuilder::new(values.len());
    let (mut items, mut lengths) = (Vec::new(), Vec::with_capacity(values.len()));
    for value in values {
        let before = items.len();
        match value {
            None => rest.append_null(),
            Some(Variant::List(list)) => {
                items.extend(list.iter().map(Some));
                rest.append_null();
            }
            Some(value) => rest.append_value(value.clone()),
        }
        lengths.push(items.len() - before);
    }
    let (value, part) = parts(&items, ty)?;
    let DataType::List(element) = typed(&DataType::new_list(ty.clone(), true)) else {
        return Err(ArrowError::SchemaError("arrays are lists".to_owned()));
    };
    let are: NullBuffer = values.iter().map(|value| matches!(value, Some(Variant::List(_)))).collect::<Vec<_>>().into();
    let list = ListArray::try_new(element, OffsetBuffer::from_lengths(lengths), pair_of(value, part, ty)?, Some(are))?;
    Ok((Arc::new(rest.build()?), Arc::new(list)))
}
