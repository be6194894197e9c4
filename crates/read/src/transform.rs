//! Applies partition and sort transforms to whole Arrow columns.
//!
//! Each value becomes what [`Transform::apply`] makes of it alone. Spec: "Partition Transforms".

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, GenericBinaryArray, GenericStringArray, Int32Array, OffsetSizeTrait,
    PrimitiveArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampNanosecondType,
};
use esker_format::{Transform, raw};

use crate::{ReadError, Result};

/// Applies a transform to every value of a column. Nulls stay null.
///
/// Spec: "Partition Transforms".
///
/// # Errors
///
/// Returns [`ReadError::Transform`] if the transform is unknown, or does not apply to the column's type. Returns
/// [`ReadError::Format`] if a value has no result: a truncated decimal or an hour out of range, or if a dictionary or view
/// can't be flattened.
pub fn array(transform: &Transform, column: &ArrayRef) -> Result<ArrayRef> {
    let made = match transform {
        Transform::Identity => return Ok(column.clone()),
        Transform::Void => return Ok(new_null_array(column.data_type(), column.len())),
        _ if matches!(column.data_type(), DataType::Dictionary(_, _) | DataType::Utf8View | DataType::BinaryView) => {
            return array(transform, &flat(transform, column)?);
        }
        Transform::Bucket(buckets) => bucketed(column, *buckets).map(|made| Arc::new(made) as ArrayRef),
        Transform::Truncate(width) => truncated(transform, column, *width)?,
        Transform::Year => days(column).map(|days| Arc::new(days.unary::<_, Int32Type>(raw::year_of_day)) as ArrayRef),
        Transform::Month => days(column).map(|days| Arc::new(days.unary::<_, Int32Type>(raw::month_of_day)) as ArrayRef),
        Transform::Day => days(column).map(|days| Arc::new(days) as ArrayRef),
        Transform::Hour => hours(transform, column)?,
        Transform::Unknown(_) => None,
    };
    made.ok_or_else(|| ReadError::Transform { transform: transform.clone(), ty: column.data_type().clone() })
}

/// Returns the values of a dictionary or a view in a plain array.
fn flat(transform: &Transform, column: &ArrayRef) -> Result<ArrayRef> {
    let to = match column.data_type() {
        DataType::Dictionary(_, values) => values,
        DataType::Utf8View => &DataType::Utf8,
        _ => &DataType::LargeBinary,
    };
    cast(column, to).map_err(|error| invalid(transform, format!("{} values can't be read: {error}", column.data_type())))
}

/// Makes the error for a value that has no result under a transform.
fn outside(transform: &Transform, value: impl std::fmt::Display) -> ReadError {
    invalid(transform, format!("it takes no value like {value}"))
}

/// Makes the error for a transform of values that are not valid.
fn invalid(transform: &Transform, why: String) -> ReadError {
    esker_format::FormatError::Invalid { what: format!("transform {transform}"), why }.into()
}

fn bucketed(column: &ArrayRef, buckets: u32) -> Option<Int32Array> {
    fn whole<T: ArrowPrimitiveType<Native = i64>>(column: &ArrayRef, buckets: u32) -> Int32Array {
        column.as_primitive::<T>().unary(|v| raw::bucket(raw::hash_whole(v), buckets))
    }
    let int = |v: i32| raw::bucket(raw::hash_whole(v.into()), buckets);
    let nanos = |v: i64| raw::bucket(raw::hash_nanos(v), buckets);
    let bytes = |v: Option<&[u8]>| Some(raw::bucket(raw::hash_bytes(v?), buckets));
    let text = |v: Option<&str>| bytes(v.map(str::as_bytes));
    Some(match column.data_type() {
        DataType::Int32 => column.as_primitive::<Int32Type>().unary(int),
        DataType::Date32 => column.as_primitive::<Date32Type>().unary(int),
        DataType::Int64 => whole::<Int64Type>(column, buckets),
        DataType::Time64(TimeUnit::Microsecond) => whole::<Time64MicrosecondType>(column, buckets),
        DataType::Timestamp(TimeUnit::Microsecond, _) => whole::<TimestampMicrosecondType>(column, buckets),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => column.as_primitive::<TimestampNanosecondType>().unary(nanos),
        DataType::Decimal128(_, _) => {
            column.as_primitive::<Decimal128Type>().unary(|v| raw::bucket(raw::hash_unscaled(v), buckets))
        }
        DataType::Utf8 => column.as_string::<i32>().iter().map(text).collect(),
        DataType::LargeUtf8 => column.as_string::<i64>().iter().map(text).collect(),
        DataType::Binary => column.as_binary::<i32>().iter().map(bytes).collect(),
        DataType::LargeBinary => column.as_binary::<i64>().iter().map(bytes).collect(),
        DataType::FixedSizeBinary(_) => column.as_fixed_size_binary().iter().map(bytes).collect(),
        _ => return None,
    })
}

fn truncated(transform: &Transform, column: &ArrayRef, width: u32) -> Result<Option<ArrayRef>> {
    fn texts<O: OffsetSizeTrait>(column: &GenericStringArray<O>, width: u32) -> GenericStringArray<O> {
        column.iter().map(|v| Some(raw::truncated_text(v?, width))).collect()
    }
    fn bytes<O: OffsetSizeTrait>(column: &GenericBinaryArray<O>, width: u32) -> GenericBinaryArray<O> {
        column.iter().map(|v| Some(raw::truncated_bytes(v?, width))).collect()
    }
    Ok(Some(match column.data_type() {
        DataType::Int32 => {
            Arc::new(column.as_primitive::<Int32Type>().unary::<_, Int32Type>(|v| raw::truncated_int(v, width))) as ArrayRef
        }
        DataType::Int64 => Arc::new(column.as_primitive::<Int64Type>().unary::<_, Int64Type>(|v| raw::truncated_long(v, width))),
        DataType::Decimal128(_, _) => {
            let cut = |v: i128| raw::truncated_unscaled(v, width).ok_or_else(|| outside(transform, v));
            let made: PrimitiveArray<Decimal128Type> = column.as_primitive::<Decimal128Type>().try_unary(cut)?;
            Arc::new(made.with_data_type(column.data_type().clone()))
        }
        DataType::Utf8 => Arc::new(texts(column.as_string::<i32>(), width)),
        DataType::LargeUtf8 => Arc::new(texts(column.as_string::<i64>(), width)),
        DataType::Binary => Arc::new(bytes(column.as_binary::<i32>(), width)),
        DataType::LargeBinary => Arc::new(bytes(column.as_binary::<i64>(), width)),
        _ => return Ok(None),
    }))
}

/// Returns the days of dates or timestamps, as days since 1970-01-01; none for other types.
fn days(column: &ArrayRef) -> Option<PrimitiveArray<Date32Type>> {
    Some(match column.data_type() {
        DataType::Date32 => column.as_primitive::<Date32Type>().clone(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().unary(raw::day_of_micros)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            column.as_primitive::<TimestampNanosecondType>().unary(|v| raw::day_of_micros(v.div_euclid(1000)))
        }
        _ => return None,
    })
}

fn hours(transform: &Transform, column: &ArrayRef) -> Result<Option<ArrayRef>> {
    let hour = |micros: i64| raw::hour_of_micros(micros).ok_or_else(|| outside(transform, micros));
    let made: Int32Array = match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => column.as_primitive::<TimestampMicrosecondType>().try_unary(hour)?,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            column.as_primitive::<TimestampNanosecondType>().try_unary(|v| hour(v.div_euclid(1000)))?
        }
        _ => return Ok(None),
    };
    Ok(Some(Arc::new(made)))
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, DictionaryArray, LargeStringArray, StringArray, StringViewArray};
    use arrow::compute::concat;
    use esker_format::{PrimitiveType, Type, Value};
    use proptest::prelude::*;

    use super::*;
    use crate::{arrow_type, literal_array, values_of};

    /// Returns a column of some values, with a null before each and one at the end.
    fn column(ty: &PrimitiveType, values: &[Value]) -> ArrayRef {
        let to = arrow_type(&ty.clone().into()).expect("a type");
        let null = new_null_array(&to, 1);
        let made: Vec<ArrayRef> = values.iter().map(|value| literal_array(value, &to).expect("an array")).collect();
        let parts: Vec<&dyn Array> =
            made.iter().flat_map(|value| [null.as_ref(), value.as_ref()]).chain([null.as_ref()]).collect();
        concat(&parts).expect("a column")
    }

    const ALL: [Transform; 9] = [
        Transform::Identity,
        Transform::Void,
        Transform::Bucket(7),
        Transform::Bucket(i32::MAX as u32),
        Transform::Truncate(5),
        Transform::Year,
        Transform::Month,
        Transform::Day,
        Transform::Hour,
    ];

    /// Checks that every transform makes of a column, and of slices of it, what it makes of each value.
    fn same(ty: PrimitiveType, values: &[Value]) -> std::result::Result<(), TestCaseError> {
        let column = column(&ty, values);
        let source = Type::Primitive(ty);
        for transform in ALL {
            let Some(result) = transform.result_type(&source) else {
                prop_assert!(array(&transform, &column).is_err(), "{} of {}", transform, source);
                continue;
            };
            let expected: std::result::Result<Vec<Option<Value>>, _> =
                values.iter().map(|value| transform.apply(Some(value))).collect();
            let Ok(expected) = expected else {
                prop_assert!(array(&transform, &column).is_err(), "{} of {}", transform, source);
                continue;
            };
            let with_nulls: Vec<_> = expected.into_iter().flat_map(|made| [None, made]).chain([None]).collect();
            for from in 0..2 {
                let made = array(&transform, &column.slice(from, column.len() - from)).expect("made");
                prop_assert_eq!(made.data_type(), &arrow_type(&result).expect("a type"), "{} of {}", transform, source);
                prop_assert_eq!(&values_of(&made, &result).expect("values"), &with_nulls[from..], "{} of {}", transform, source);
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn columns_become_what_their_values_become(
            ints in proptest::collection::vec(any::<i32>(), 0..4),
            longs in proptest::collection::vec(any::<i64>(), 0..4),
            wide in proptest::collection::vec(any::<i128>(), 0..4),
            texts in proptest::collection::vec(".{0,8}", 0..4),
            ids in proptest::collection::vec(any::<[u8; 16]>(), 0..4),
        ) {
            use PrimitiveType as P;
            let of = |value: fn(i64) -> Value| longs.iter().map(|v| value(*v)).collect::<Vec<_>>();
            let ints_of = |value: fn(i32) -> Value| ints.iter().map(|v| value(*v)).collect::<Vec<_>>();
            let bytes = |value: fn(Box<[u8]>) -> Value| ids.iter().map(|v| value((*v).into())).collect::<Vec<_>>();
            same(P::Int, &ints_of(Value::Int))?;
            same(P::Date, &ints_of(Value::Date))?;
            same(P::Long, &of(Value::Long))?;
            same(P::Time, &of(Value::Time))?;
            same(P::Timestamp, &of(Value::Timestamp))?;
            same(P::Timestamptz, &of(Value::Timestamptz))?;
            same(P::TimestampNs, &of(Value::TimestampNs))?;
            same(P::TimestamptzNs, &of(Value::TimestamptzNs))?;
            same(P::Boolean, &ints_of(|v| Value::Boolean(v > 0)))?;
            same(P::Double, &of(|v| Value::Double(f64::from_bits(v.cast_unsigned()))))?;
            let decimals: Vec<_> = wide.iter().map(|v| Value::Decimal { unscaled: v % 10_i128.pow(38), scale: 3 }).collect();
            same(P::Decimal { precision: 38, scale: 3 }, &decimals)?;
            same(P::String, &texts.iter().map(|v| Value::String(v.as_str().into())).collect::<Vec<_>>())?;
            same(P::Binary, &texts.iter().map(|v| Value::Binary(v.as_bytes().into())).collect::<Vec<_>>())?;
            same(P::Fixed(16), &bytes(Value::Fixed))?;
            same(P::Uuid, &ids.iter().filter_map(|v| Value::from_bytes(&P::Uuid, v)).collect::<Vec<_>>())?;
        }
    }

    #[test]
    fn other_arrays_of_the_same_values_become_the_same() {
        let texts = [Some("iceberg"), None, Some("日本語です"), Some("")];
        let plain: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        let others: [ArrayRef; 3] = [
            Arc::new(LargeStringArray::from(texts.to_vec())),
            Arc::new(StringViewArray::from(texts.to_vec())),
            Arc::new(texts.into_iter().collect::<DictionaryArray<Int32Type>>()),
        ];
        for transform in [Transform::Bucket(16), Transform::Truncate(3)] {
            let expected = array(&transform, &plain).expect("made");
            for other in &others {
                let made = array(&transform, other).expect("made");
                assert_eq!(&cast(&made, expected.data_type()).expect("cast"), &expected, "{}", other.data_type());
            }
        }
    }

    #[test]
    fn what_can_not_be_made_is_refused_by_name() {
        let column: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
        let error = |transform| array(&transform, &column).expect_err("refused").to_string();
        assert_eq!(error(Transform::Unknown("zorder[2]".into())), "transform zorder[2] can't be applied to Boolean values");
        assert_eq!(error(Transform::Bucket(3)), "transform bucket[3] can't be applied to Boolean values");
        let late: ArrayRef = Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![None, Some(i64::MAX)]));
        let error = array(&Transform::Hour, &late).expect_err("no such hour").to_string();
        assert!(error.starts_with("transform hour: "), "{error}");
    }
}
