//! Converts between Arrow arrays and single Iceberg values, in both directions.
//!
//! No conversion changes a value: a value that does not fit is an error or none, never null. [`values_of`] reads arrays;
//! [`literal_array`] and [`values_array`] make them.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int32Array, Int64Array, LargeBinaryArray, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
    TimestampNanosecondArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options, concat};
use arrow::datatypes::{
    ArrowTimestampType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;
use esker_format::{MAX_DECIMAL_PRECISION, NestedFieldRef, PrimitiveType, Type, Value};

use crate::{ReadError, Result, arrow_type};

/// Casts an array to another type without changing any value.
///
/// A cast to the null type makes every value null.
///
/// # Errors
///
/// Returns the [`ArrowError`] of the cast, mostly [`ArrowError::CastError`], if a value does not fit the type, or if Arrow has no
/// such cast.
pub fn cast_exactly(array: &ArrayRef, to: &DataType) -> std::result::Result<ArrayRef, ArrowError> {
    const EXACT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };
    match (array.data_type(), to) {
        (from, to) if from == to => Ok(array.clone()),
        (_, DataType::Null) => Ok(new_null_array(to, array.len())),
        // Arrow's cast multiplies without an overflow check: late days would become early nanoseconds.
        (DataType::Date32, DataType::Timestamp(TimeUnit::Microsecond, None)) => {
            timestamps::<TimestampMicrosecondType>(array, 86_400_000_000)
        }
        (DataType::Date32, DataType::Timestamp(TimeUnit::Nanosecond, None)) => {
            timestamps::<TimestampNanosecondType>(array, 86_400_000_000_000)
        }
        _ => cast_with_options(array, to, &EXACT),
    }
}

/// Converts days to timestamps; `in_a_day` is the number of their units in a day.
fn timestamps<T: ArrowTimestampType>(days: &ArrayRef, in_a_day: i64) -> std::result::Result<ArrayRef, ArrowError> {
    let of = |day: i32| {
        let too_far = || ArrowError::CastError(format!("day {day} does not fit {}", T::DATA_TYPE));
        i64::from(day).checked_mul(in_a_day).ok_or_else(too_far)
    };
    Ok(Arc::new(days.as_primitive::<Date32Type>().try_unary::<_, T, ArrowError>(of)?))
}

/// Returns the values of an array as values of an Iceberg type, in order; none for null.
///
/// Any array is all null as type `unknown`.
///
/// # Errors
///
/// Returns [`ReadError::Values`] if the array does not hold values of the type. Returns [`ReadError::Undecodable`] for variants,
/// geometries, geographies and types without an Arrow counterpart, at any depth.
pub fn values_of(array: &ArrayRef, ty: &Type) -> Result<Vec<Option<Value>>> {
    let failed = |source| ReadError::Values { ty: ty.clone(), source };
    let disagree = || failed(ArrowError::SchemaError(format!("an array of {} holds no such values", array.data_type())));
    let valid = |i: usize| array.is_valid(i);
    match ty {
        Type::Primitive(primitive) => of_primitive(array, primitive),
        Type::Struct(ty) => {
            let structs = array.as_struct_opt().filter(|s| s.num_columns() == ty.fields().len()).ok_or_else(disagree)?;
            let column = |(column, field): (&ArrayRef, &NestedFieldRef)| values_of(column, &field.field_type);
            let columns = structs.columns().iter().zip(ty.fields()).map(column).collect::<Result<Vec<_>>>()?;
            let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
            let row = |i: usize| {
                // The fields of a null row are skipped.
                let fields = columns.iter_mut().map(|column| column.next().flatten()).collect();
                valid(i).then_some(Value::Struct(fields))
            };
            Ok((0..structs.len()).map(row).collect())
        }
        Type::List(ty) => {
            let lists = array.as_list_opt::<i32>().ok_or_else(disagree)?;
            let offsets = Offsets::new(lists.value_offsets());
            let items = values_of(&offsets.of(lists.values()), &ty.element_field.field_type)?;
            let of = |i: usize| items[offsets.range(i)].into();
            Ok((0..lists.len()).map(|i| valid(i).then(|| Value::List(of(i)))).collect())
        }
        Type::Map(ty) => {
            let maps = array.as_map_opt().ok_or_else(disagree)?;
            let offsets = Offsets::new(maps.value_offsets());
            let keys = values_of(&offsets.of(maps.keys()), &ty.key_field.field_type)?;
            let values = values_of(&offsets.of(maps.values()), &ty.value_field.field_type)?;
            let of = |i: usize| {
                let range = offsets.range(i);
                let pairs = keys[range.clone()].iter().cloned().zip(values[range].iter().cloned());
                // Arrow has no null keys.
                pairs.filter_map(|(key, value)| Some((key?, value))).collect()
            };
            Ok((0..maps.len()).map(|i| valid(i).then(|| Value::Map(of(i)))).collect())
        }
        Type::Variant => Err(ReadError::undecodable(None, ty)),
    }
}

/// Returns one value of an array; none if it is null or the array has no such row.
///
/// # Errors
///
/// Returns the errors of [`values_of`].
pub fn value_at(array: &ArrayRef, row: usize, ty: &Type) -> Result<Option<Value>> {
    match row < array.len() {
        true => Ok(values_of(&array.slice(row, 1), ty)?.pop().flatten()),
        false => Ok(None),
    }
}

/// The places of lists' items. A slice of lists still has the items of the whole array.
struct Offsets<'a> {
    all: &'a [i32],
    first: usize,
}

impl<'a> Offsets<'a> {
    fn new(all: &'a [i32]) -> Self {
        Self { all, first: Self::at(all.first()) }
    }

    /// Returns an offset as an index. Arrow's offsets ascend from 0.
    fn at(offset: Option<&i32>) -> usize {
        offset.map_or(0, |offset| offset.unsigned_abs() as usize)
    }

    /// Returns the items of all lists of the slice.
    fn of(&self, items: &ArrayRef) -> ArrayRef {
        items.slice(self.first, Self::at(self.all.last()) - self.first)
    }

    /// Returns the places of one list's items among those that [`of`](Self::of) returns.
    fn range(&self, i: usize) -> Range<usize> {
        Self::at(self.all.get(i)) - self.first..Self::at(self.all.get(i + 1)) - self.first
    }
}

/// Returns the values of an array of a primitive type.
fn of_primitive(array: &ArrayRef, ty: &PrimitiveType) -> Result<Vec<Option<Value>>> {
    use PrimitiveType as P;
    let of = Type::Primitive(ty.clone());
    if matches!(ty, P::Unknown) {
        return Ok(vec![None; array.len()]);
    }
    let cast = cast_exactly(array, &arrow_type(&of)?).map_err(|source| ReadError::Values { ty: of.clone(), source })?;
    macro_rules! each {
        ($array:expr, $value:expr) => {
            $array.iter().map(|v| v.map($value)).collect()
        };
    }
    let bytes = |v: &[u8]| -> Box<[u8]> { v.into() };
    Ok(match ty {
        P::Boolean => each!(cast.as_boolean(), Value::Boolean),
        P::Int => each!(cast.as_primitive::<Int32Type>(), Value::Int),
        P::Long => each!(cast.as_primitive::<Int64Type>(), Value::Long),
        P::Float => each!(cast.as_primitive::<Float32Type>(), Value::Float),
        P::Double => each!(cast.as_primitive::<Float64Type>(), Value::Double),
        P::Decimal { scale, .. } => {
            each!(cast.as_primitive::<Decimal128Type>(), |unscaled| Value::Decimal { unscaled, scale: *scale })
        }
        P::Date => each!(cast.as_primitive::<Date32Type>(), Value::Date),
        P::Time => each!(cast.as_primitive::<Time64MicrosecondType>(), Value::Time),
        P::Timestamp => each!(cast.as_primitive::<TimestampMicrosecondType>(), Value::Timestamp),
        P::Timestamptz => each!(cast.as_primitive::<TimestampMicrosecondType>(), Value::Timestamptz),
        P::TimestampNs => each!(cast.as_primitive::<TimestampNanosecondType>(), Value::TimestampNs),
        P::TimestamptzNs => each!(cast.as_primitive::<TimestampNanosecondType>(), Value::TimestamptzNs),
        P::String => each!(cast.as_string::<i32>(), |v| Value::String(v.into())),
        // Every value of the cast array has 16 bytes.
        P::Uuid => cast.as_fixed_size_binary().iter().map(|v| Value::from_bytes(ty, v?)).collect(),
        P::Fixed(_) => match cast.as_fixed_size_binary_opt() {
            Some(array) => each!(array, |v| Value::Fixed(bytes(v))),
            None => each!(cast.as_binary::<i64>(), |v| Value::Fixed(bytes(v))),
        },
        P::Binary => each!(cast.as_binary::<i64>(), |v| Value::Binary(bytes(v))),
        P::Unknown | P::Geometry { .. } | P::Geography { .. } | P::Other(_) => return Err(ReadError::undecodable(None, &of)),
    })
}

/// Returns a value as an array of length one of Arrow type `to`; none if the value does not fit the type.
///
/// It serves constants (identity partition values, defaults) and the bounds that scans prune by. Structs, lists and maps are not
/// supported; [`Defaults`](crate::Defaults) makes them.
pub fn literal_array(value: &Value, to: &DataType) -> Option<ArrayRef> {
    at_once(&[Some(value)], to)
}

/// Returns values as an array of Arrow type `to`. A value that is missing or does not fit the type is null.
///
/// None if no array of the type can be made.
pub fn values_array(values: &[Option<Value>], to: &DataType) -> Option<ArrayRef> {
    if values.iter().all(Option::is_none) {
        return Some(new_null_array(to, values.len()));
    }
    let values: Vec<Option<&Value>> = values.iter().map(Option::as_ref).collect();
    // A value that does not fit is null; the others stay.
    at_once(&values, to).or_else(|| {
        let one =
            |value: &Option<&Value>| value.and_then(|value| literal_array(value, to)).unwrap_or_else(|| new_null_array(to, 1));
        let arrays: Vec<ArrayRef> = values.iter().map(one).collect();
        concat(&arrays.iter().map(AsRef::as_ref).collect::<Vec<_>>()).ok()
    })
}

/// Returns values of one Iceberg type as an array of Arrow type `to`; none if any of them does not fit.
fn at_once(values: &[Option<&Value>], to: &DataType) -> Option<ArrayRef> {
    /// Unwraps the values if all are of one kind.
    macro_rules! all {
        ($kind:ident, $v:ident => $value:expr) => {
            values
                .iter()
                .map(|value| match value {
                    None => Some(None),
                    Some(Value::$kind($v)) => Some(Some($value)),
                    Some(_) => None,
                })
                .collect::<Option<Vec<_>>>()?
        };
    }
    let array: ArrayRef = match values.iter().find_map(|value| *value)? {
        Value::Boolean(_) => Arc::new(BooleanArray::from(all!(Boolean, v => *v))),
        Value::Int(_) => Arc::new(Int32Array::from(all!(Int, v => *v))),
        Value::Long(_) => Arc::new(Int64Array::from(all!(Long, v => *v))),
        Value::Float(_) => Arc::new(Float32Array::from(all!(Float, v => *v))),
        Value::Double(_) => Arc::new(Float64Array::from(all!(Double, v => *v))),
        Value::Decimal { scale: first, .. } => {
            let of = |value: &Option<&Value>| match value {
                None => Some(None),
                Some(Value::Decimal { unscaled, scale }) if scale == first => Some(Some(*unscaled)),
                Some(_) => None,
            };
            let (widest, scale) = (u8::try_from(MAX_DECIMAL_PRECISION).ok()?, i8::try_from(*first).ok()?);
            let unscaled = Decimal128Array::from(values.iter().map(of).collect::<Option<Vec<_>>>()?);
            Arc::new(unscaled.with_precision_and_scale(widest, scale).ok()?)
        }
        Value::Date(_) => Arc::new(Date32Array::from(all!(Date, v => *v))),
        Value::Time(_) => Arc::new(Time64MicrosecondArray::from(all!(Time, v => *v))),
        Value::Timestamp(_) => Arc::new(TimestampMicrosecondArray::from(all!(Timestamp, v => *v))),
        Value::Timestamptz(_) => Arc::new(TimestampMicrosecondArray::from(all!(Timestamptz, v => *v)).with_timezone("+00:00")),
        Value::TimestampNs(_) => Arc::new(TimestampNanosecondArray::from(all!(TimestampNs, v => *v))),
        Value::TimestamptzNs(_) => Arc::new(TimestampNanosecondArray::from(all!(TimestamptzNs, v => *v)).with_timezone("+00:00")),
        Value::String(_) => Arc::new(StringArray::from(all!(String, v => v.as_ref()))),
        Value::Uuid(_) => fixed(&all!(Uuid, v => &v.as_bytes()[..]))?,
        Value::Fixed(_) => fixed(&all!(Fixed, v => v.as_ref()))?,
        Value::Binary(_) => Arc::new(LargeBinaryArray::from(all!(Binary, v => v.as_ref()))),
        Value::Struct(_) | Value::List(_) | Value::Map(_) => return None,
    };
    cast_exactly(&array, to).ok().filter(|cast| cast.null_count() == array.null_count())
}

/// Returns byte strings of equal length as an array; none if their lengths differ.
fn fixed(values: &[Option<&[u8]>]) -> Option<ArrayRef> {
    let length = values.iter().flatten().next().map_or(0, |value| value.len());
    let array = FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.iter().copied(), i32::try_from(length).ok()?);
    Some(Arc::new(array.ok()?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int8Array, ListArray, NullArray, StringViewArray, StructArray};
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::datatypes::Field;
    use esker_format::{ListType, NestedField, StructType};
    use proptest::prelude::*;

    use super::*;

    fn texts(values: &[Option<&str>]) -> Vec<Option<Value>> {
        values.iter().map(|v| v.map(|v| Value::String(v.into()))).collect()
    }

    #[test]
    fn fields_of_lists_in_structs_are_found_in_slices_too() {
        let offsets = OffsetBuffer::from_lengths([1, 2, 0, 1]);
        let items: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("b"), Some("c")]));
        let item = Arc::new(Field::new("element", DataType::Utf8, true));
        let valid = NullBuffer::from(vec![true, true, false, true]);
        let lists = ListArray::new(item, offsets, items, Some(valid));
        let field = Field::new("l", lists.data_type().clone(), true);
        let valid = NullBuffer::from(vec![false, true, true, true]);
        let structs: ArrayRef = Arc::new(StructArray::new(vec![field].into(), vec![Arc::new(lists)], Some(valid)));
        let list = ListType::new(2, PrimitiveType::String, false);
        let ty = StructType::new(vec![Arc::new(NestedField::optional(1, "l", list))]).into();
        let of = |values: Option<&[Option<&str>]>| {
            Some(Value::Struct([values.map(|values| Value::List(texts(values).into()))].into()))
        };
        let expected = [None, of(Some(&[None, Some("b")])), of(None), of(Some(&[Some("c")]))];
        assert_eq!(values_of(&structs, &ty).expect("values"), expected);
        assert_eq!(values_of(&structs.slice(1, 2), &ty).expect("values"), expected[1..3]);
        for (row, expected) in expected.into_iter().enumerate() {
            assert_eq!(value_at(&structs, row, &ty).expect("a value"), expected);
        }
        assert_eq!(value_at(&structs, 4, &ty).expect("no row"), None);
    }

    #[test]
    fn other_arrays_of_the_same_values_are_read_and_what_does_not_fit_is_refused() {
        let views: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), None]));
        assert_eq!(values_of(&views, &PrimitiveType::String.into()).expect("texts"), texts(&[Some("a"), None]));
        let small: ArrayRef = Arc::new(Int8Array::from(vec![-7]));
        assert_eq!(values_of(&small, &PrimitiveType::Long.into()).expect("longs"), [Some(Value::Long(-7))]);
        let large: ArrayRef = Arc::new(Int64Array::from(vec![1 << 40]));
        assert!(values_of(&large, &PrimitiveType::Int.into()).is_err());
        let nothing: ArrayRef = Arc::new(NullArray::new(2));
        assert_eq!(values_of(&nothing, &PrimitiveType::Unknown.into()).expect("nulls"), [None, None]);
        let error = values_of(&nothing, &PrimitiveType::named("geometry").into()).expect_err("refused").to_string();
        assert!(error.contains("geometry"), "{error}");
    }

    #[test]
    fn a_value_that_the_array_can_not_hold_is_none_and_never_null() {
        let of = |value, to: &DataType| literal_array(&value, to).map(|array| array.null_count());
        assert_eq!(of(Value::Long(1 << 40), &DataType::Int32), None);
        assert_eq!(of(Value::Date(i32::MAX), &DataType::Timestamp(TimeUnit::Nanosecond, None)), None);
        assert_eq!(of(Value::Date(i32::MAX), &DataType::Timestamp(TimeUnit::Microsecond, None)), None);
        assert_eq!(of(Value::Date(1), &DataType::Timestamp(TimeUnit::Microsecond, None)), Some(0));
        assert_eq!(of(Value::Decimal { unscaled: 1000, scale: 0 }, &DataType::Decimal128(3, 0)), None);
        assert_eq!(of(Value::Fixed([1, 2].into()), &DataType::FixedSizeBinary(3)), None);
        assert_eq!(of(Value::Fixed([].into()), &DataType::FixedSizeBinary(0)), Some(0));
        assert_eq!(of(Value::List([].into()), &DataType::Int32), None);
    }

    proptest! {
        #[test]
        fn a_value_as_an_array_is_the_same_value(int: i32, long: i64, wide: i128, float: f32, double: f64, text in ".*", id: [u8; 16]) {
            use PrimitiveType as P;
            let wide = wide % 10_i128.pow(38);
            for (ty, value) in [
                (P::Boolean, Value::Boolean(int > 0)),
                (P::Int, Value::Int(int)),
                (P::Long, Value::Long(long)),
                (P::Float, Value::Float(float)),
                (P::Double, Value::Double(double)),
                (P::Decimal { precision: 38, scale: 5 }, Value::Decimal { unscaled: wide, scale: 5 }),
                (P::Decimal { precision: 9, scale: 2 }, Value::Decimal { unscaled: wide % 1_000_000_000, scale: 2 }),
                (P::Date, Value::Date(int)),
                (P::Time, Value::Time(long)),
                (P::Timestamp, Value::Timestamp(long)),
                (P::Timestamptz, Value::Timestamptz(long)),
                (P::TimestampNs, Value::TimestampNs(long)),
                (P::TimestamptzNs, Value::TimestamptzNs(long)),
                (P::String, Value::String(text.as_str().into())),
                (P::Uuid, Value::from_bytes(&P::Uuid, &id).expect("a UUID")),
                (P::Fixed(16), Value::Fixed(id.into())),
                (P::Binary, Value::Binary(text.as_bytes().into())),
            ] {
                let ty = Type::Primitive(ty);
                let array = literal_array(&value, &arrow_type(&ty).expect("a type")).expect("an array");
                prop_assert_eq!(values_of(&array, &ty).expect("a value"), [Some(value)], "{}", ty);
            }
        }
    }
}
