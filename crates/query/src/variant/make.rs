//! Conversions from the types of SQL to variants, for `CAST(… AS VARIANT)`. Start with [`of_values`].

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use esker_read::{VariantBuilder, VariantRows, VariantValue, check_variant, is_variant, variant_at, variant_of_column};

use super::holds_variant;
use crate::error_wording::sql_type;

/// Makes variants of the values of an array; null stays null.
///
/// A null inside a list, struct or map becomes a variant's `null`. Fails for types of which variants have no values.
pub(crate) fn of_values(array: &ArrayRef) -> Result<ArrayRef> {
    if is_variant(array.data_type()) {
        return Ok(array.clone());
    }
    let source = Source::of(array)?;
    // A variant inside other values may be too deep together with them.
    let is_deep = holds_variant(array.data_type());
    let mut made = VariantRows::default();
    for row in 0..array.len() {
        if array.is_null(row) {
            made.append_null();
            continue;
        }
        let mut builder = VariantBuilder::default();
        source.add(row, &mut builder)?;
        let (names, value) = builder.finish();
        if is_deep {
            check_variant(&names, &value)
                .map_err(|what| DataFusionError::Execution(format!("no variant can be made: {what}")))?;
        }
        made.append((names, value));
    }
    Ok(made.finish()?)
}

/// An array whose values are read row by row, in one of the Arrow types of which variants have values.
enum Source {
    /// Values that are not nested, or variants.
    Plain(ArrayRef),
    /// The lists, and their items.
    List(ArrayRef, Box<Source>),
    /// The structs, and their fields by name.
    Struct(ArrayRef, Vec<(String, Source)>),
    /// The maps, their keys as texts, and their values.
    Map(ArrayRef, ArrayRef, Box<Source>),
}

impl Source {
    /// Casts an array to such a type. Fails if there is none.
    fn of(array: &ArrayRef) -> Result<Self> {
        use DataType as D;
        let ty = array.data_type();
        let of = |to: DataType| {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            Ok::<_, DataFusionError>(Self::Plain(cast_with_options(array, &to, &options)?))
        };
        match ty {
            ty if is_variant(ty) => Ok(Self::Plain(array.clone())),
            D::Null | D::Boolean | D::Float32 | D::Float64 | D::Decimal128(..) | D::Date32 | D::FixedSizeBinary(16) => {
                Ok(Self::Plain(array.clone()))
            }
            D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::UInt8 | D::UInt16 | D::UInt32 => of(D::Int64),
            D::UInt64 => of(D::Decimal128(20, 0)),
            D::Float16 => of(D::Float32),
            D::Decimal32(precision, scale) | D::Decimal64(precision, scale) => of(D::Decimal128(*precision, *scale)),
            D::Date64 => of(D::Date32),
            D::Time32(_) | D::Time64(_) => of(D::Time64(TimeUnit::Microsecond)),
            D::Timestamp(TimeUnit::Nanosecond, _) => Ok(Self::Plain(array.clone())),
            D::Timestamp(_, zone) => of(D::Timestamp(TimeUnit::Microsecond, zone.clone())),
            D::Utf8 | D::LargeUtf8 | D::Utf8View => of(D::Utf8View),
            D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => of(D::BinaryView),
            D::Dictionary(_, values) => Self::of(&cast_with_options(array, values, &CastOptions::default())?),
            D::LargeList(item) | D::FixedSizeList(item, _) => {
                Self::of(&cast_with_options(array, &D::List(item.clone()), &CastOptions::default())?)
            }
            D::List(_) => Ok(Self::List(array.clone(), Box::new(Self::of(array.as_list::<i32>().values())?))),
            D::Struct(fields) => {
                let mut names = HashSet::new();
                if let Some(twice) = fields.iter().find(|field| !names.insert(field.name())) {
                    return Err(DataFusionError::Plan(format!("an object of a variant can't have field {} twice", twice.name())));
                }
                let columns = fields.iter().zip(array.as_struct().columns());
                let parts = columns.map(|(field, column)| Ok((field.name().clone(), Self::of(column)?)));
                Ok(Self::Struct(array.clone(), parts.collect::<Result<_>>()?))
            }
            D::Map(..) if array.as_map().keys().data_type().is_string() => {
                let map = array.as_map();
                let keys = cast_with_options(map.keys(), &D::Utf8View, &CastOptions::default())?;
                Ok(Self::Map(array.clone(), keys, Box::new(Self::of(map.values())?)))
            }
            D::Map(..) => Err(DataFusionError::Plan(format!("{}: the fields of a variant need texts as names", sql_type(ty)))),
            ty => Err(DataFusionError::Plan(format!("a variant holds no values of type {}", sql_type(ty)))),
        }
    }

    /// Returns the array of the outermost values.
    fn array(&self) -> &ArrayRef {
        match self {
            Self::Plain(array) | Self::List(array, _) | Self::Struct(array, _) | Self::Map(array, ..) => array,
        }
    }

    /// Appends the value of a row to a variant.
    fn add(&self, row: usize, builder: &mut VariantBuilder) -> Result<()> {
        // Arrow counts no nulls in an array of the null type.
        if self.array().is_null(row) || self.array().data_type().is_null() {
            builder.add(VariantValue::Null);
            return Ok(());
        }
        match self {
            Self::Plain(array) => builder.add(leaf_value(array, row)?),
            Self::List(array, items) => {
                let offsets = array.as_list::<i32>().value_offsets();
                let mut list = builder.begin();
                for item in offsets[row] as usize..offsets[row + 1] as usize {
                    builder.item(&mut list);
                    items.add(item, builder)?;
                }
                builder.end_array(list);
            }
            Self::Struct(_, fields) => {
                let mut object = builder.begin();
                for (name, field) in fields {
                    builder.field(&mut object, name);
                    field.add(row, builder)?;
                }
                builder.end_object(object);
            }
            Self::Map(array, keys, values) => {
                let offsets = array.as_map().value_offsets();
                let (keys, mut names, mut object) = (keys.as_string_view(), HashSet::new(), builder.begin());
                for entry in offsets[row] as usize..offsets[row + 1] as usize {
                    let name = keys.value(entry);
                    if !names.insert(name) {
                        return Err(DataFusionError::Execution(format!("an object of a variant can't have field {name} twice")));
                    }
                    builder.field(&mut object, name);
                    values.add(entry, builder)?;
                }
                builder.end_object(object);
            }
        }
        Ok(())
    }
}

/// Returns a value that is not nested, or a variant, as the value of a variant.
fn leaf_value(array: &ArrayRef, row: usize) -> Result<VariantValue<'_>> {
    Ok(match array.data_type() {
        ty if is_variant(ty) => variant_at(array.as_struct(), row).get(),
        // A negative scale stands for zeros before the point. Variants have no such scale, so the zeros are written out.
        DataType::Decimal128(_, scale @ ..0) => {
            let unscaled = array.as_primitive::<Decimal128Type>().value(row);
            let whole = 10_i128.checked_pow(scale.unsigned_abs().into()).and_then(|ten| unscaled.checked_mul(ten));
            let unscaled = whole.filter(|whole| whole.unsigned_abs() < 10_u128.pow(38));
            VariantValue::Decimal { unscaled: unscaled.ok_or_else(|| too_long(array))?, scale: 0 }
        }
        _ => variant_of_column(array, row)?,
    })
}

/// Returns the error for a number of more than 38 digits.
fn too_long(array: &ArrayRef) -> DataFusionError {
    DataFusionError::Execution(format!("a number of type {} has more than 38 digits", sql_type(array.data_type())))
}
