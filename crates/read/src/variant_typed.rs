//! Values of variants as columns of Arrow's types, each as it is.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;
use parquet::variant::Variant;

type Result<T> = std::result::Result<T, ArrowError>;

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
pub fn is_of_type(value: &Variant<'_, '_>, ty: &DataType) -> bool {
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
pub fn can_be_part(ty: &DataType) -> bool {
    let number = ty.is_signed_integer() || matches!(ty, DataType::Float32 | DataType::Float64 | DataType::Decimal128(..));
    let time = matches!(ty, DataType::Date32 | DataType::Time64(TimeUnit::Microsecond))
        || matches!(ty, DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _));
    let bytes = matches!(ty, DataType::Utf8 | DataType::Binary | DataType::FixedSizeBinary(16));
    number || time || bytes || *ty == DataType::Boolean
}

/// Values that are all of a type, as a column of it.
pub fn column_of_variants(values: &[Option<&Variant<'_, '_>>], ty: &DataType) -> Result<ArrayRef> {
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
