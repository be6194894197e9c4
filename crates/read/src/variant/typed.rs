//! Converts variant values to typed columns, without changing any value.
//!
//! Spec: Parquet, "Variant Shredding", Shredded Value Types.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;

use super::value::VariantValue;

type Result<T> = std::result::Result<T, ArrowError>;

/// Returns the unscaled value of a decimal of exactly this scale and at most this precision.
///
/// A decimal of another scale is another value: it prints differently.
fn decimal(value: VariantValue<'_>, precision: u8, scale: i8) -> Option<i128> {
    let VariantValue::Decimal { unscaled, scale: own } = value else { return None };
    let fits = u8::try_from(scale) == Ok(own) && unscaled.unsigned_abs() < 10_u128.checked_pow(precision.into())?;
    fits.then_some(unscaled)
}

/// Checks that a column of an Arrow type can hold a value unchanged.
///
/// Integers of any width are one kind of value. Spec: Parquet, "Variant Binary Encoding", exact numeric.
pub fn is_of_type(value: VariantValue<'_>, ty: &DataType) -> bool {
    use VariantValue as V;
    match (ty, value) {
        (DataType::Int8, V::Integer(v)) => i8::try_from(v).is_ok(),
        (DataType::Int16, V::Integer(v)) => i16::try_from(v).is_ok(),
        (DataType::Int32, V::Integer(v)) => i32::try_from(v).is_ok(),
        (DataType::Decimal128(precision, scale), value) => decimal(value, *precision, *scale).is_some(),
        (DataType::Timestamp(TimeUnit::Microsecond, zone), V::Timestamp { zoned, .. })
        | (DataType::Timestamp(TimeUnit::Nanosecond, zone), V::TimestampNs { zoned, .. }) => zone.is_some() == zoned,
        (DataType::Boolean, V::Boolean(_))
        | (DataType::Int64, V::Integer(_))
        | (DataType::Float32, V::Float(_))
        | (DataType::Float64, V::Double(_))
        | (DataType::Date32, V::Date(_))
        | (DataType::Time64(TimeUnit::Microsecond), V::Time(_))
        | (DataType::Utf8, V::String(_))
        | (DataType::Binary, V::Binary(_))
        | (DataType::FixedSizeBinary(16), V::Uuid(_)) => true,
        _ => false,
    }
}

/// Checks that a shredded field may have a column of an Arrow type.
///
/// Spec: Parquet, "Variant Shredding", Shredded Value Types.
pub fn can_be_shredded(ty: &DataType) -> bool {
    let number = ty.is_signed_integer() || matches!(ty, DataType::Float32 | DataType::Float64 | DataType::Decimal128(..));
    let time = matches!(ty, DataType::Date32 | DataType::Time64(TimeUnit::Microsecond))
        || matches!(ty, DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _));
    let bytes = matches!(ty, DataType::Utf8 | DataType::Binary | DataType::FixedSizeBinary(16));
    number || time || bytes || *ty == DataType::Boolean
}

/// Returns values as a column of an Arrow type; missing values and those of other types are null.
///
/// # Errors
///
/// Returns [`ArrowError::SchemaError`] if shredded fields can't have the type, and [`ArrowError::InvalidArgumentError`] if its
/// precision or scale is invalid.
pub fn typed_column(values: &[Option<VariantValue<'_>>], ty: &DataType) -> Result<ArrayRef> {
    use VariantValue as V;
    /// Unwraps the values of one kind.
    macro_rules! of {
        ($kind:pat => $made:expr) => {
            values.iter().map(|value| match value {
                Some($kind) => $made,
                _ => None,
            })
        };
    }
    Ok(match ty {
        DataType::Boolean => Arc::new(of!(V::Boolean(v) => Some(*v)).collect::<BooleanArray>()),
        DataType::Int8 => Arc::new(of!(V::Integer(v) => i8::try_from(*v).ok()).collect::<Int8Array>()),
        DataType::Int16 => Arc::new(of!(V::Integer(v) => i16::try_from(*v).ok()).collect::<Int16Array>()),
        DataType::Int32 => Arc::new(of!(V::Integer(v) => i32::try_from(*v).ok()).collect::<Int32Array>()),
        DataType::Int64 => Arc::new(of!(V::Integer(v) => Some(*v)).collect::<Int64Array>()),
        DataType::Decimal128(precision, scale) => {
            let array = values.iter().map(|v| decimal((*v)?, *precision, *scale)).collect::<Decimal128Array>();
            Arc::new(array.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Float32 => Arc::new(of!(V::Float(v) => Some(*v)).collect::<Float32Array>()),
        DataType::Float64 => Arc::new(of!(V::Double(v) => Some(*v)).collect::<Float64Array>()),
        DataType::Date32 => Arc::new(of!(V::Date(v) => Some(*v)).collect::<Date32Array>()),
        DataType::Time64(TimeUnit::Microsecond) => Arc::new(of!(V::Time(v) => Some(*v)).collect::<Time64MicrosecondArray>()),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let array = of!(V::Timestamp { micros, .. } => Some(*micros)).collect::<TimestampMicrosecondArray>();
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            let array = of!(V::TimestampNs { nanos, .. } => Some(*nanos)).collect::<TimestampNanosecondArray>();
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        DataType::Utf8 => Arc::new(of!(V::String(v) => Some(*v)).collect::<StringArray>()),
        DataType::Binary => Arc::new(of!(V::Binary(v) => Some(*v)).collect::<BinaryArray>()),
        DataType::FixedSizeBinary(16) => {
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(of!(V::Uuid(v) => Some(*v)), 16)?)
        }
        other => return Err(ArrowError::SchemaError(format!("a shredded field can't be of type {other}"))),
    })
}
