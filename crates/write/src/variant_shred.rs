//! Shreds variants: values of exactly a column's type go into that column, all others stay in `value`.
//!
//! A shredding type is an Arrow type without the `value`/`typed_value` pairs: a struct for objects with shredded fields, a list
//! for arrays, or a primitive. [`column_type`] adds the pairs. Spec: Parquet, "Variant Shredding".

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryViewBuilder, ListArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;
use esker_read::{Variant, VariantBuilder, VariantItems, VariantValue, is_of_type, typed_column, variant_at};

type Result<T> = std::result::Result<T, ArrowError>;

/// The value of a shredded field in each row; none in rows without it.
type Values<'a> = [Option<Variant<'a>>];

/// Returns the type of a variant column in files that is shredded to `ty`.
pub(crate) fn column_type(ty: &DataType) -> DataType {
    let mut fields = vec![Field::new("metadata", DataType::BinaryView, false)];
    fields.extend(pair(ty));
    DataType::Struct(fields.into())
}

/// Returns the two columns of a value that is shredded to `ty`.
fn pair(ty: &DataType) -> [Field; 2] {
    [Field::new("value", DataType::BinaryView, true), Field::new("typed_value", typed(ty), true)]
}

/// Returns the type of the column `typed_value` for a value that is shredded to `ty`.
fn typed(ty: &DataType) -> DataType {
    let part = |name: &str, ty: &DataType| Field::new(name, DataType::Struct(pair(ty).into_iter().collect()), false);
    match ty {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| part(field.name(), field.data_type())).collect()),
        DataType::List(item) => DataType::List(Arc::new(part("element", item.data_type()))),
        other => other.clone(),
    }
}

/// Shreds an array of variants to `ty`.
pub(crate) fn shredded(variants: &StructArray, ty: &DataType) -> Result<ArrayRef> {
    let values: Vec<Option<Variant<'_>>> =
        (0..variants.len()).map(|row| (variants.is_valid(row)).then(|| variant_at(variants, row))).collect();
    let (value, part) = parts(&values, ty)?;
    let DataType::Struct(fields) = column_type(ty) else {
        return Err(ArrowError::SchemaError("a shredded variant is no struct".to_owned()));
    };
    let nulls = variants.nulls().cloned();
    Ok(Arc::new(StructArray::try_new(fields, vec![variants.column(0).clone(), value, part], nulls)?))
}

/// Returns the columns `value` and `typed_value` of some values.
fn parts(values: &Values<'_>, ty: &DataType) -> Result<(ArrayRef, ArrayRef)> {
    match ty {
        DataType::Struct(fields) => objects(values, fields),
        DataType::List(item) => arrays(values, item.data_type()),
        ty => {
            let fitting: Vec<Option<VariantValue<'_>>> =
                values.iter().map(|value| value.map(Variant::get).filter(|value| is_of_type(*value, ty))).collect();
            let mut rest = BinaryViewBuilder::with_capacity(values.len());
            for (value, fitting) in values.iter().zip(&fitting) {
                rest.append_option(value.filter(|_| fitting.is_none()).map(Variant::bytes));
            }
            Ok((Arc::new(rest.finish()), typed_column(&fitting, ty)?))
        }
    }
}

/// Puts the columns `value` and `typed_value` into a struct.
fn pair_of(value: ArrayRef, part: ArrayRef, ty: &DataType) -> Result<ArrayRef> {
    Ok(Arc::new(StructArray::try_new(pair(ty).into_iter().collect(), vec![value, part], None)?))
}

/// Shreds objects: some fields get columns, the others stay in `value`.
fn objects(values: &Values<'_>, fields: &Fields) -> Result<(ArrayRef, ArrayRef)> {
    let apart: HashSet<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    let objects: Vec<_> =
        values.iter().map(|value| if let VariantValue::Object(of) = (*value)?.get() { Some(of) } else { None }).collect();
    let (mut rest, mut builder) = (BinaryViewBuilder::with_capacity(values.len()), VariantBuilder::default());
    for (value, object) in values.iter().zip(&objects) {
        let Some((value, object)) = value.zip(*object) else {
            rest.append_option(value.map(Variant::bytes));
            continue;
        };
        builder.begin_with(value.metadata());
        let mut left = builder.begin();
        let mut is_empty = true;
        for (name, value) in object.iter().filter(|(name, _)| !apart.contains(name)) {
            is_empty = false;
            builder.field(&mut left, name);
            builder.add_bytes(value);
        }
        builder.end_object(left);
        rest.append_option((!is_empty).then(|| builder.finish().1));
    }
    let field = |field: &Arc<Field>| {
        let own: Vec<Option<Variant<'_>>> = objects.iter().map(|object| object.as_ref()?.get(field.name())).collect();
        let (value, part) = parts(&own, field.data_type())?;
        pair_of(value, part, field.data_type())
    };
    let columns = fields.iter().map(field).collect::<Result<Vec<_>>>()?;
    let are: NullBuffer = objects.iter().map(Option::is_some).collect::<Vec<_>>().into();
    let DataType::Struct(inner) = typed(&DataType::Struct(fields.clone())) else {
        return Err(ArrowError::SchemaError("shredded objects are no struct".to_owned()));
    };
    Ok((Arc::new(rest.finish()), Arc::new(StructArray::try_new_with_length(inner, columns, Some(are), values.len())?)))
}

/// Shreds the items of arrays.
fn arrays(values: &Values<'_>, ty: &DataType) -> Result<(ArrayRef, ArrayRef)> {
    let arrays: Vec<_> =
        values.iter().map(|value| if let VariantValue::Array(of) = (*value)?.get() { Some(of) } else { None }).collect();
    let mut rest = BinaryViewBuilder::with_capacity(values.len());
    values
        .iter()
        .zip(&arrays)
        .for_each(|(value, array)| rest.append_option(value.filter(|_| array.is_none()).map(Variant::bytes)));
    let items: Vec<Option<Variant<'_>>> = arrays.iter().flatten().flat_map(|array| array.iter()).map(Some).collect();
    let (value, part) = parts(&items, ty)?;
    let DataType::List(element) = typed(&DataType::new_list(ty.clone(), true)) else {
        return Err(ArrowError::SchemaError("shredded arrays are no list".to_owned()));
    };
    let are: NullBuffer = arrays.iter().map(Option::is_some).collect::<Vec<_>>().into();
    let lengths = OffsetBuffer::from_lengths(arrays.iter().map(|array| array.map_or(0, VariantItems::len)));
    let list = ListArray::try_new(element, lengths, pair_of(value, part, ty)?, Some(are))?;
    Ok((Arc::new(rest.finish()), Arc::new(list)))
}
