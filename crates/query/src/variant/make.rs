//! From the types of SQL to variants.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use esker_read::{VariantBuilder, VariantRows, VariantValue, check_variant, is_variant, variant_at, variant_of_column};

use super::holds_variant;
use crate::error_wording::sql_type;

/// Values as variants; null stays null, and is a variant's `null` within lists, structs and maps.
pub(crate) fn of_values(array: &ArrayRef) -> Result<ArrayRef> {
    if is_variant(array.data_type()) {
        return Ok(array.clone());
    }
    let source = Source::of(array)?;
    // With what is around it, a variant may be too deep.
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

/// Values in one of the few Arrow types that variants have values of.
enum Source {
    Plain(ArrayRef),
    List(ArrayRef, Box<Source>),
    Struct(ArrayRef, Vec<(String, Source)>),
    Map(ArrayRef, ArrayRef, Box<Source>),
}

impl Source {
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
                    return Err(DataFusionError::Plan(format!("a variant's object has field {} once", twice.name())));
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
            D::Map(..) => Err(DataFusionError::Plan(format!("{}: a variant's fields have texts for names", sql_type(ty)))),
            ty => Err(DataFusionError::Plan(format!("a variant holds no values of type {}", sql_type(ty)))),
        }
    }

    fn array(&self) -> &ArrayRef {
        match self {
            Self::Plain(array) | Self::List(array, _) | Self::Struct(array, _) | Self::Map(array, ..) => array,
        }
    }

    fn add(&self, row: usize, builder: &mut VariantBuilder) -> Result<()> {
        // Arrays without a type have no nulls that Arrow counts.
        if self.array().is_null(row) || self.array().data_type().is_null() {
            builder.add(VariantValue::Null);
            return Ok(());
        }
        match self {
            Self::Plain(array) => builder.add(plain(array, row)?),
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
                        return Err(DataFusionError::Execution(format!("a variant's object has field {name} once")));
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

fn plain(array: &ArrayRef, row: usize) -> Result<VariantValue<'_>> {
    Ok(match array.data_type() {
        ty if is_variant(ty) => variant_at(array.as_struct(), row).get(),
        // Zeros before the point, which variants write out.
        DataType::Decimal128(_, scale @ ..0) => {
            let unscaled = array.as_primitive::<Decimal128Type>().value(row);
            let whole = 10_i128.checked_pow(scale.unsigned_abs().into()).and_then(|ten| unscaled.checked_mul(ten));
            let unscaled = whole.filter(|whole| whole.unsigned_abs() < 10_u128.pow(38));
            VariantValue::Decimal { unscaled: unscaled.ok_or_else(|| too_long(array))?, scale: 0 }
        }
        _ => variant_of_column(array, row)?,
    })
}

fn too_long(array: &ArrayRef) -> DataFusionError {
    DataFusionError::Execution(format!("a number of type {} has more than 38 digits", sql_type(array.data_type())))
}
