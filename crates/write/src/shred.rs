//! A variant taken apart: what is exactly of the type of a column goes into that, the rest stays a variant.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, ListArray, StringArray, StructArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use arrow::error::ArrowError;
use esker_read::variant_at;
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
            let fitting: Vec<Option<&Variant<'_, '_>>> = values.iter().map(|v| v.as_ref().filter(|v| is_of(v, ty))).collect();
            for (value, fitting) in values.iter().zip(&fitting) {
                match value {
                    Some(value) if fitting.is_none() => rest.append_value(value.clone()),
                    _ => rest.append_null(),
                }
            }
            Ok((Arc::new(rest.build()?), column(&fitting, ty)?))
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

/// An integer.
fn whole(value: &Variant<'_, '_>) -> Option<i64> {
    match value {
        Variant::Int8(v) => Some((*v).into()),
        Variant::Int16(v) => Some((*v).into()),
        Variant::Int32(v) => Some((*v).into()),
        Variant::Int64(v) => Some(*v),
        _ => None,
    }
}

/// A decimal with so many digits in all and after the point, if it has no more.
fn decimal(value: &Variant<'_, '_>, precision: u8, scale: i8) -> Option<i128> {
    let (unscaled, own) = match value {
        Variant::Decimal4(v) => (i128::from(v.integer()), v.scale()),
        Variant::Decimal8(v) => (i128::from(v.integer()), v.scale()),
        Variant::Decimal16(v) => (v.integer(), v.scale()),
        _ => return None,
    };
    let more = u8::try_from(scale).ok()?.checked_sub(own)?;
    let made = unscaled.checked_mul(10_i128.checked_pow(more.into())?)?;
    (made.unsigned_abs() < 10_u128.checked_pow(precision.into())?).then_some(made)
}

/// Whether a column of a type holds a value as it is. Integers of any width are one kind of value (Parquet, "exact numeric").
fn is_of(value: &Variant<'_, '_>, ty: &DataType) -> bool {
    let fits = |least: i64, most: i64| whole(value).is_some_and(|v| (least..=most).contains(&v));
    match (ty, value) {
        (DataType::Boolean, Variant::BooleanTrue | Variant::BooleanFalse) => true,
        (DataType::Int8, _) => fits(i8::MIN.into(), i8::MAX.into()),
        (DataType::Int16, _) => fits(i16::MIN.into(), i16::MAX.into()),
        (DataType::Int32, _) => fits(i32::MIN.into(), i32::MAX.into()),
        (DataType::Int64, _) => whole(value).is_some(),
        (DataType::Decimal128(precision, scale), _) => decimal(value, *precision, *scale).is_some(),
        (DataType::Float32, Variant::Float(_)) | (DataType::Float64, Variant::Double(_)) => true,
        (DataType::Date32, Variant::Date(_)) | (DataType::Time64(TimeUnit::Microsecond), Variant::Time(_)) => true,
        (DataType::Timestamp(TimeUnit::Microsecond, zone), Variant::TimestampMicros(_)) => zone.is_some(),
        (DataType::Timestamp(TimeUnit::Microsecond, zone), Variant::TimestampNtzMicros(_)) => zone.is_none(),
        (DataType::Timestamp(TimeUnit::Nanosecond, zone), Variant::TimestampNanos(v)) => {
            zone.is_some() && v.timestamp_nanos_opt().is_some()
        }
        (DataType::Timestamp(TimeUnit::Nanosecond, zone), Variant::TimestampNtzNanos(v)) => {
            zone.is_none() && v.and_utc().timestamp_nanos_opt().is_some()
        }
        (DataType::Utf8, Variant::String(_) | Variant::ShortString(_)) => true,
        (DataType::Binary, Variant::Binary(_)) | (DataType::FixedSizeBinary(16), Variant::Uuid(_)) => true,
        _ => false,
    }
}

/// Whether parts can have a column of a type.
pub(crate) fn can_be(ty: &DataType) -> bool {
    match ty {
        DataType::Boolean | DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => true,
        DataType::Float32 | DataType::Float64 | DataType::Date32 | DataType::Utf8 | DataType::Binary => true,
        DataType::Decimal128(..) | DataType::Time64(TimeUnit::Microsecond) | DataType::FixedSizeBinary(16) => true,
        DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _) => true,
        _ => false,
    }
}

/// Values that are all of a type.
fn column(values: &[Option<&Variant<'_, '_>>], ty: &DataType) -> Result<ArrayRef> {
    let own = || values.iter().copied();
    macro_rules! whole {
        ($array:ty, $to:ty) => {
            Arc::new(own().map(|v| <$to>::try_from(whole(v?)?).ok()).collect::<$array>())
        };
    }
    Ok(match ty {
        DataType::Boolean => Arc::new(own().map(|v| Some(matches!(v?, Variant::BooleanTrue))).collect::<BooleanArray>()),
        DataType::Int8 => whole!(Int8Array, i8),
        DataType::Int16 => whole!(Int16Array, i16),
        DataType::Int32 => whole!(Int32Array, i32),
        DataType::Int64 => whole!(Int64Array, i64),
        DataType::Decimal128(precision, scale) => {
            let array = own().map(|v| decimal(v?, *precision, *scale)).collect::<Decimal128Array>();
            Arc::new(array.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Float32 => {
            Arc::new(own().map(|v| if let Variant::Float(v) = v? { Some(*v) } else { None }).collect::<Float32Array>())
        }
        DataType::Float64 => {
            Arc::new(own().map(|v| if let Variant::Double(v) = v? { Some(*v) } else { None }).collect::<Float64Array>())
        }
        DataType::Date32 => {
            let days = |v: &Variant<'_, '_>| {
                let days = v.as_naive_date()?.signed_duration_since(chrono::NaiveDate::default()).num_days();
                i32::try_from(days).ok()
            };
            Arc::new(own().map(|v| days(v?)).collect::<Date32Array>())
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            let micros = |v: &Variant<'_, '_>| match v {
                Variant::Time(v) => v.signed_duration_since(chrono::NaiveTime::MIN).num_microseconds(),
                _ => None,
            };
            Arc::new(own().map(|v| micros(v?)).collect::<Time64MicrosecondArray>())
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = |v: &Variant<'_, '_>| match v {
                Variant::TimestampMicros(v) => Some(v.timestamp_micros()),
                Variant::TimestampNtzMicros(v) => Some(v.and_utc().timestamp_micros()),
                _ => None,
            };
            Arc::new(own().map(|v| micros(v?)).collect::<TimestampMicrosecondArray>().with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            let nanos = |v: &Variant<'_, '_>| match v {
                Variant::TimestampNanos(v) => v.timestamp_nanos_opt(),
                Variant::TimestampNtzNanos(v) => v.and_utc().timestamp_nanos_opt(),
                _ => None,
            };
            Arc::new(own().map(|v| nanos(v?)).collect::<TimestampNanosecondArray>().with_timezone_opt(zone.clone()))
        }
        DataType::Utf8 => {
            let text = |v: &Variant<'_, '_>| v.as_string().map(str::to_owned);
            Arc::new(own().map(|v| text(v?)).collect::<StringArray>())
        }
        DataType::Binary => {
            Arc::new(own().map(|v| if let Variant::Binary(v) = v? { Some(*v) } else { None }).collect::<BinaryArray>())
        }
        DataType::FixedSizeBinary(16) => {
            let ids = own().map(|v| if let Variant::Uuid(v) = v? { Some(*v.as_bytes()) } else { None });
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids, 16)?)
        }
        other => return Err(ArrowError::SchemaError(format!("{other} is no type of a variant's part"))),
    })
}
