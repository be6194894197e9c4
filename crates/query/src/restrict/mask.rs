//! The actions of column masks on Arrow arrays.
//!
//! Spec: REST OpenAPI document, `ReadRestrictions`, `Action` (apache/iceberg #13879). Each action keeps the type of its field.

use std::iter::repeat_n;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, ListArray, MapArray, StringArray, StringViewArray, StructArray,
    new_empty_array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Date32Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType};
use datafusion::error::{DataFusionError, Result};
use datafusion::scalar::ScalarValue;
use esker_access::MaskAction;
use esker_format::{PrimitiveType, Type};
use esker_types::hex;
use sha2::{Digest, Sha256};

use super::Salt;
use super::nested::unexpected;
use crate::calendar::{date_of, first_day};

/// The value that `mask-to-fixed-value` has for strings.
const FIXED_TEXT: &str = "XXXXXXXX";

/// `POINT EMPTY` in little-endian Well-Known Binary: both coordinates are NaN.
const EMPTY_POINT: [u8; 21] = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xF8, 0x7F, 0, 0, 0, 0, 0, 0, 0xF8, 0x7F];

/// The metadata of a variant without names, in version 1.
const EMPTY_VARIANT_METADATA: [u8; 3] = [1, 0, 0];

/// The value of a variant that is an object without fields.
const EMPTY_VARIANT_OBJECT: [u8; 3] = [2, 0, 0];

/// Microseconds of a day.
const DAY_MICROS: i64 = 86_400_000_000;

/// Returns masked values of a type. NULL stays NULL, but for `mask-to-fixed-value`.
///
/// # Errors
///
/// Returns [`DataFusionError::Internal`] if the array is of another type than its field, and [`DataFusionError::ArrowError`] if
/// Arrow can't build an array.
pub(super) fn masked(action: MaskAction, ty: &Type, array: &ArrayRef, salt: &Salt) -> Result<ArrayRef> {
    match action {
        MaskAction::MaskAlphanum => texts(array, |text| text.chars().map(redacted).collect()),
        MaskAction::ShowFirst4 => {
            texts(array, |text| text.chars().enumerate().map(|(at, c)| if at < 4 { c } else { redacted(c) }).collect())
        }
        MaskAction::ShowLast4 => texts(array, |text| {
            let shown_from = text.chars().count().saturating_sub(4);
            text.chars().enumerate().map(|(at, c)| if at >= shown_from { c } else { redacted(c) }).collect()
        }),
        MaskAction::MaskToFixedValue => fixed(ty, array.data_type(), array.len()),
        MaskAction::ReplaceWithNull => Ok(new_null_array(array.data_type(), array.len())),
        MaskAction::TruncateToYear => truncated(array, first_of_year),
        MaskAction::TruncateToMonth => truncated(array, first_of_month),
        MaskAction::Sha256Global => hashed(array, &[]),
        MaskAction::Sha256QueryLocal => hashed(array, salt.bytes()),
    }
}

/// Returns what `mask-alphanum` shows of a character.
const fn redacted(c: char) -> char {
    match c {
        '0'..='9' => 'n',
        '(' | ')' | ',' | '.' | '-' | '@' => c,
        _ => 'x',
    }
}

/// Replaces each string.
fn texts(array: &ArrayRef, shown: impl Fn(&str) -> String) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().iter().map(|text| text.map(&shown)).collect::<StringViewArray>()),
        DataType::Utf8 => Arc::new(array.as_string::<i32>().iter().map(|text| text.map(&shown)).collect::<StringArray>()),
        _ => return Err(unexpected(array)),
    })
}

/// Returns the first day of the year of a day, both since 1970-01-01.
fn first_of_year(day: i64) -> i64 {
    first_day(date_of(day).0, 1)
}

/// Returns the first day of the month of a day, both since 1970-01-01.
fn first_of_month(day: i64) -> i64 {
    let (year, month, _) = date_of(day);
    first_day(year, month)
}

/// Replaces each date or timestamp by the beginning of a day. What is too early for the type becomes NULL.
fn truncated(array: &ArrayRef, first: impl Fn(i64) -> i64) -> Result<ArrayRef> {
    let of_day = |value: i64, per_day: i64| first(value.div_euclid(per_day)).checked_mul(per_day);
    let ty = array.data_type().clone();
    Ok(match ty {
        DataType::Date32 => {
            Arc::new(array.as_primitive::<Date32Type>().unary_opt::<_, Date32Type>(|day| i32::try_from(first(day.into())).ok()))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>();
            Arc::new(micros.unary_opt::<_, TimestampMicrosecondType>(|v| of_day(v, DAY_MICROS)).with_data_type(ty))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let nanos = array.as_primitive::<TimestampNanosecondType>();
            Arc::new(nanos.unary_opt::<_, TimestampNanosecondType>(|v| of_day(v, DAY_MICROS * 1000)).with_data_type(ty))
        }
        _ => return Err(unexpected(array)),
    })
}

/// Replaces each value by its SHA-256 hash, or the first bytes of it. `salt` is hashed before the value.
fn hashed(array: &ArrayRef, salt: &[u8]) -> Result<ArrayRef> {
    let digest = |bytes: &[u8]| -> [u8; 32] { Sha256::new().chain_update(salt).chain_update(bytes).finalize().into() };
    Ok(match array.data_type() {
        DataType::Utf8 | DataType::Utf8View => return texts(array, |text| hex(&digest(text.as_bytes()))),
        DataType::Int32 => Arc::new(array.as_primitive::<Int32Type>().unary::<_, Int32Type>(|v| {
            let [a, b, c, d, ..] = digest(&v.to_le_bytes());
            i32::from_le_bytes([a, b, c, d])
        })),
        DataType::Int64 => Arc::new(array.as_primitive::<Int64Type>().unary::<_, Int64Type>(|v| {
            let [a, b, c, d, e, f, g, h, ..] = digest(&v.to_le_bytes());
            i64::from_le_bytes([a, b, c, d, e, f, g, h])
        })),
        DataType::BinaryView => {
            Arc::new(array.as_binary_view().iter().map(|bytes| bytes.map(digest)).collect::<BinaryViewArray>())
        }
        DataType::Binary => Arc::new(array.as_binary::<i32>().iter().map(|bytes| bytes.map(digest)).collect::<BinaryArray>()),
        _ => return Err(unexpected(array)),
    })
}

/// Returns the fixed value of a type `length` times.
fn fixed(ty: &Type, arrow: &DataType, length: usize) -> Result<ArrayRef> {
    use PrimitiveType as P;
    Ok(match (ty, arrow) {
        (Type::Primitive(P::Geometry { .. } | P::Geography { .. }), _) => return bytes(&EMPTY_POINT, arrow, length),
        (Type::Primitive(P::Fixed(size)), DataType::Binary | DataType::BinaryView) => {
            return bytes(&vec![0_u8; usize::try_from(*size).map_err(|_| wrong(arrow))?], arrow, length);
        }
        (Type::Primitive(_), _) => zero(arrow)?.to_array_of_size(length)?,
        (Type::Variant, DataType::Struct(fields)) => {
            let part = |bytes: [u8; 3]| Arc::new(BinaryViewArray::from_iter_values(repeat_n(bytes, length))) as ArrayRef;
            let parts = vec![part(EMPTY_VARIANT_METADATA), part(EMPTY_VARIANT_OBJECT)];
            Arc::new(StructArray::try_new(fields.clone(), parts, None)?)
        }
        (Type::Struct(ty), DataType::Struct(fields)) if ty.fields().len() == fields.len() => {
            if fields.is_empty() {
                return Ok(Arc::new(StructArray::new_empty_fields(length, None)));
            }
            let parts = ty.fields().iter().zip(fields).map(|(field, arrow)| fixed(&field.field_type, arrow.data_type(), length));
            Arc::new(StructArray::try_new(fields.clone(), parts.collect::<Result<_>>()?, None)?)
        }
        (Type::List(_), DataType::List(item)) => {
            let none = new_empty_array(item.data_type());
            Arc::new(ListArray::try_new(item.clone(), OffsetBuffer::new_zeroed(length), none, None)?)
        }
        (Type::Map(_), DataType::Map(entries, ordered)) => {
            let none = new_empty_array(entries.data_type()).as_struct().clone();
            Arc::new(MapArray::try_new(entries.clone(), OffsetBuffer::new_zeroed(length), none, None, *ordered)?)
        }
        _ => return Err(wrong(arrow)),
    })
}

/// Returns bytes `length` times.
fn bytes(value: &[u8], arrow: &DataType, length: usize) -> Result<ArrayRef> {
    Ok(match arrow {
        DataType::BinaryView => Arc::new(BinaryViewArray::from_iter_values(repeat_n(value, length))),
        DataType::Binary => Arc::new(BinaryArray::from_iter_values(repeat_n(value, length))),
        _ => return Err(wrong(arrow)),
    })
}

/// Returns the fixed value of a primitive type.
fn zero(arrow: &DataType) -> Result<ScalarValue> {
    Ok(match arrow {
        DataType::Null => ScalarValue::Null,
        DataType::Boolean => ScalarValue::Boolean(Some(false)),
        DataType::Int32 => ScalarValue::Int32(Some(0)),
        DataType::Int64 => ScalarValue::Int64(Some(0)),
        DataType::Float32 => ScalarValue::Float32(Some(0.0)),
        DataType::Float64 => ScalarValue::Float64(Some(0.0)),
        DataType::Decimal128(precision, scale) => ScalarValue::Decimal128(Some(0), *precision, *scale),
        DataType::Date32 => ScalarValue::Date32(Some(0)),
        DataType::Time64(TimeUnit::Microsecond) => ScalarValue::Time64Microsecond(Some(0)),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => ScalarValue::TimestampMicrosecond(Some(0), zone.clone()),
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => ScalarValue::TimestampNanosecond(Some(0), zone.clone()),
        DataType::Utf8 => ScalarValue::Utf8(Some(FIXED_TEXT.to_owned())),
        DataType::Utf8View => ScalarValue::Utf8View(Some(FIXED_TEXT.to_owned())),
        DataType::Binary => ScalarValue::Binary(Some(Vec::new())),
        DataType::BinaryView => ScalarValue::BinaryView(Some(Vec::new())),
        DataType::FixedSizeBinary(size) => {
            ScalarValue::FixedSizeBinary(*size, Some(vec![0; usize::try_from(*size).map_err(|_| wrong(arrow))?]))
        }
        _ => return Err(wrong(arrow)),
    })
}

/// Builds the error for a type that no field has.
fn wrong(arrow: &DataType) -> DataFusionError {
    DataFusionError::Internal(format!("there is no fixed value of the type {arrow}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Date32Array, Int32Array, Int64Array, TimestampMicrosecondArray, TimestampNanosecondArray};
    use esker_catalog::refused_type;
    use esker_format::{ListType, NestedField, StructType};
    use esker_read::variant_type;

    use super::*;

    fn strings(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringViewArray::from_iter(values.iter().copied()))
    }

    fn of(action: MaskAction, ty: PrimitiveType, array: &ArrayRef) -> ArrayRef {
        let ty = Type::from(ty);
        assert_eq!(refused_type(&ty, action), None);
        let made = masked(action, &ty, array, &Salt::fresh()).expect("masked");
        assert_eq!((made.data_type(), made.len()), (array.data_type(), array.len()));
        made
    }

    fn shown(action: MaskAction, text: &str) -> String {
        let made = of(action, PrimitiveType::String, &strings(&[Some(text), None]));
        assert!(made.is_null(1), "{action}");
        made.as_string_view().value(0).to_owned()
    }

    /// The examples of the specification, and what its rules say of short and of other texts.
    #[test]
    fn parts_of_strings_are_redacted_by_character() {
        assert_eq!(shown(MaskAction::MaskAlphanum, "prashant010696@gmail.com"), "xxxxxxxxnnnnnn@xxxxx.xxx");
        assert_eq!(shown(MaskAction::ShowFirst4, "prashant010696@gmail.com"), "prasxxxxnnnnnn@xxxxx.xxx");
        assert_eq!(shown(MaskAction::ShowLast4, "4111-1111-1111-4444"), "nnnn-nnnn-nnnn-4444");
        assert_eq!(shown(MaskAction::MaskAlphanum, "(A), b: ü٣\u{1F600}"), "(x),xxxxxxx");
        for action in [MaskAction::ShowFirst4, MaskAction::ShowLast4] {
            for text in ["", "abc", "ab12", "üü\u{1F600}ü"] {
                assert_eq!(shown(action, text), text, "{action}");
            }
        }
        assert_eq!(shown(MaskAction::ShowFirst4, "üü\u{1F600}ü9"), "üü\u{1F600}ün");
        assert_eq!(shown(MaskAction::ShowLast4, "9üü\u{1F600}ü"), "nüü\u{1F600}ü");
        let narrow: ArrayRef = Arc::new(StringArray::from(vec![Some("a1"), None]));
        let made = of(MaskAction::MaskAlphanum, PrimitiveType::String, &narrow);
        assert_eq!((made.as_string::<i32>().value(0), made.is_null(1)), ("xn", true));
    }

    #[test]
    fn dates_and_timestamps_are_truncated_in_utc() {
        let day = |year, month, day| first_day(year, month) + day - 1;
        let days = [day(2024, 7, 15), day(1969, 12, 31), day(-44, 3, 15)].map(|day| i32::try_from(day).ok());
        let dates: ArrayRef = Arc::new(Date32Array::from_iter(days.into_iter().chain([None])));
        let first = |action| {
            let made = of(action, PrimitiveType::Date, &dates);
            assert!(made.is_null(3));
            made.as_primitive::<Date32Type>().values()[..3].iter().map(|day| date_of((*day).into())).collect::<Vec<_>>()
        };
        assert_eq!(first(MaskAction::TruncateToYear), [(2024, 1, 1), (1969, 1, 1), (-44, 1, 1)]);
        assert_eq!(first(MaskAction::TruncateToMonth), [(2024, 7, 1), (1969, 12, 1), (-44, 3, 1)]);

        let micros = TimestampMicrosecondArray::from(vec![day(2024, 7, 15) * DAY_MICROS + 5, -1]).with_timezone("UTC");
        let made = of(MaskAction::TruncateToMonth, PrimitiveType::Timestamptz, &(Arc::new(micros) as ArrayRef));
        let expected = [day(2024, 7, 1) * DAY_MICROS, day(1969, 12, 1) * DAY_MICROS];
        assert_eq!(made.as_primitive::<TimestampMicrosecondType>().values()[..], expected);
        // The beginning of 1677 is no timestamp in nanoseconds.
        let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![0, i64::MIN]));
        let made = of(MaskAction::TruncateToYear, PrimitiveType::TimestampNs, &nanos);
        assert_eq!((made.as_primitive::<TimestampNanosecondType>().value(0), made.is_null(1)), (0, true));
    }

    /// The digests in hexadecimal are those of NIST's examples.
    #[test]
    fn hashes_are_sha_256_of_the_specified_bytes() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(shown(MaskAction::Sha256Global, "abc"), abc);
        assert_eq!(shown(MaskAction::Sha256Global, ""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let binary: ArrayRef = Arc::new(BinaryViewArray::from_iter([Some(b"abc".as_slice()), None]));
        let made = of(MaskAction::Sha256Global, PrimitiveType::Binary, &binary);
        assert_eq!((hex(made.as_binary_view().value(0)).as_str(), made.is_null(1)), (abc, true));

        let start = |bytes: &[u8]| -> [u8; 8] { Sha256::digest(bytes)[..8].try_into().expect("8 bytes") };
        let ints: ArrayRef = Arc::new(Int32Array::from(vec![Some(42), None]));
        let made = of(MaskAction::Sha256Global, PrimitiveType::Int, &ints);
        let [a, b, c, d, ..] = start(&[42, 0, 0, 0]);
        assert_eq!((made.as_primitive::<Int32Type>().value(0), made.is_null(1)), (i32::from_le_bytes([a, b, c, d]), true));
        let longs: ArrayRef = Arc::new(Int64Array::from(vec![-1]));
        let made = of(MaskAction::Sha256Global, PrimitiveType::Long, &longs);
        assert_eq!(made.as_primitive::<Int64Type>().value(0), i64::from_le_bytes(start(&[0xFF; 8])));
    }

    #[test]
    fn a_salted_hash_is_the_same_within_a_statement_alone() {
        let (array, ty) = (strings(&[Some("abc"), Some("abc")]), Type::from(PrimitiveType::String));
        let made = |salt: &Salt| masked(MaskAction::Sha256QueryLocal, &ty, &array, salt).expect("masked");
        let (one, other) = (Salt::fresh(), Salt::fresh());
        let first = made(&one);
        assert_eq!(first.as_string_view().value(0), first.as_string_view().value(1));
        assert_eq!(first.as_ref(), made(&one).as_ref());
        assert_ne!(first.as_ref(), made(&other).as_ref());
        let salted = [one.bytes(), b"abc"].concat();
        assert_eq!(first.as_string_view().value(0), hex(&Sha256::digest(salted)));
    }

    #[test]
    fn fixed_values_hide_nulls_too() {
        let text = of(MaskAction::MaskToFixedValue, PrimitiveType::String, &strings(&[Some("a"), None]));
        assert_eq!(text.as_ref(), strings(&[Some("XXXXXXXX"), Some("XXXXXXXX")]).as_ref());
        let one = |ty: PrimitiveType, arrow: &DataType| {
            let made = of(MaskAction::MaskToFixedValue, ty, &new_null_array(arrow, 2));
            assert_eq!(made.null_count(), 0, "{arrow}");
            ScalarValue::try_from_array(&made, 1).expect("a value")
        };
        let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        assert_eq!(one(PrimitiveType::Timestamptz, &micros), ScalarValue::TimestampMicrosecond(Some(0), Some("UTC".into())));
        assert_eq!(one(PrimitiveType::Double, &DataType::Float64), ScalarValue::Float64(Some(0.0)));
        assert_eq!(one(PrimitiveType::Date, &DataType::Date32), ScalarValue::Date32(Some(0)));
        let decimal = PrimitiveType::Decimal { precision: 9, scale: 2 };
        assert_eq!(one(decimal, &DataType::Decimal128(9, 2)), ScalarValue::Decimal128(Some(0), 9, 2));
        assert_eq!(one(PrimitiveType::Uuid, &DataType::FixedSizeBinary(16)), ScalarValue::FixedSizeBinary(16, Some(vec![0; 16])));
        assert_eq!(one(PrimitiveType::Binary, &DataType::BinaryView), ScalarValue::BinaryView(Some(Vec::new())));
        let point = one(PrimitiveType::Geometry { crs: None }, &DataType::BinaryView);
        assert_eq!(point, ScalarValue::BinaryView(Some(EMPTY_POINT.to_vec())));
    }

    #[test]
    fn fixed_values_of_nested_types_are_empty() {
        let list = ListType::new(3, PrimitiveType::Long, false);
        let fields = vec![
            Arc::new(NestedField::optional(1, "a", PrimitiveType::Long)),
            Arc::new(NestedField::optional(2, "l", list)),
            Arc::new(NestedField::optional(4, "v", Type::Variant)),
        ];
        let ty = Type::from(StructType::new(fields));
        let field = |name: &str, ty: DataType| arrow::datatypes::Field::new(name, ty, true);
        let arrow = DataType::Struct(
            vec![field("a", DataType::Int64), field("l", DataType::new_list(DataType::Int64, true)), field("v", variant_type())]
                .into(),
        );
        let made = masked(MaskAction::MaskToFixedValue, &ty, &new_null_array(&arrow, 3), &Salt::fresh()).expect("masked");
        let made = made.as_struct();
        assert_eq!((made.len(), made.null_count(), made.data_type()), (3, 0, &arrow));
        assert_eq!(made.column(0).as_primitive::<Int64Type>().values()[..], [0, 0, 0]);
        assert_eq!(made.column(1).as_list::<i32>().value_length(2), 0);
        let variant = made.column(2).as_struct();
        assert_eq!(variant.column(0).as_binary_view().value(0), EMPTY_VARIANT_METADATA);
        assert_eq!(variant.column(1).as_binary_view().value(0), EMPTY_VARIANT_OBJECT);
    }
}
