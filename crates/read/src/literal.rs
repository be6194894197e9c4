use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int32Array, Int64Array, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow::datatypes::DataType;
use iceberg::spec::{PrimitiveLiteral, PrimitiveType};

/// A literal as an array of one value, of the Arrow type `to`; `None` where the two do not fit.
///
/// Serves constants (identity partition values, defaults) and the minima and maxima that scans are pruned by.
pub fn literal_array(from: &PrimitiveType, literal: &PrimitiveLiteral, to: &DataType) -> Option<ArrayRef> {
    let array: ArrayRef = match (from, literal) {
        (_, PrimitiveLiteral::Boolean(v)) => Arc::new(BooleanArray::from(vec![*v])),
        // A date that was promoted to a timestamp since.
        (
            PrimitiveType::Date
            | PrimitiveType::Timestamp
            | PrimitiveType::Timestamptz
            | PrimitiveType::TimestampNs
            | PrimitiveType::TimestamptzNs,
            PrimitiveLiteral::Int(v),
        ) => Arc::new(Date32Array::from(vec![*v])),
        (_, PrimitiveLiteral::Int(v)) => Arc::new(Int32Array::from(vec![*v])),
        (PrimitiveType::Time, PrimitiveLiteral::Long(v)) => Arc::new(Time64MicrosecondArray::from(vec![*v])),
        (PrimitiveType::Timestamp, PrimitiveLiteral::Long(v)) => Arc::new(TimestampMicrosecondArray::from(vec![*v])),
        (PrimitiveType::Timestamptz, PrimitiveLiteral::Long(v)) => {
            Arc::new(TimestampMicrosecondArray::from(vec![*v]).with_timezone("+00:00"))
        }
        (PrimitiveType::TimestampNs, PrimitiveLiteral::Long(v)) => Arc::new(TimestampNanosecondArray::from(vec![*v])),
        (PrimitiveType::TimestamptzNs, PrimitiveLiteral::Long(v)) => {
            Arc::new(TimestampNanosecondArray::from(vec![*v]).with_timezone("+00:00"))
        }
        (_, PrimitiveLiteral::Long(v)) => Arc::new(Int64Array::from(vec![*v])),
        (_, PrimitiveLiteral::Float(v)) => Arc::new(Float32Array::from(vec![v.0])),
        (_, PrimitiveLiteral::Double(v)) => Arc::new(Float64Array::from(vec![v.0])),
        (_, PrimitiveLiteral::String(v)) => Arc::new(StringArray::from(vec![v.as_str()])),
        (PrimitiveType::Fixed(_), PrimitiveLiteral::Binary(v)) => {
            Arc::new(FixedSizeBinaryArray::try_from_iter([v.as_slice()].into_iter()).ok()?)
        }
        (_, PrimitiveLiteral::Binary(v)) => Arc::new(BinaryArray::from(vec![v.as_slice()])),
        (PrimitiveType::Decimal { precision, scale }, PrimitiveLiteral::Int128(v)) => {
            let (precision, scale) = (u8::try_from(*precision).ok()?, i8::try_from(*scale).ok()?);
            Arc::new(Decimal128Array::from(vec![*v]).with_precision_and_scale(precision, scale).ok()?)
        }
        (PrimitiveType::Uuid, PrimitiveLiteral::UInt128(v)) => {
            Arc::new(FixedSizeBinaryArray::try_from_iter([v.to_be_bytes()].into_iter()).ok()?)
        }
        _ => return None,
    };
    if array.data_type() == to { Some(array) } else { arrow::compute::cast(&array, to).ok() }
}
