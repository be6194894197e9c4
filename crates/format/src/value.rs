//! Single values: constants such as bounds, partition values and defaults. A value carries its type.
//!
//! Equality, order and hash are Java's. The binary form of bounds is here, see [`Value::from_bytes`] and [`Value::to_bytes`]; the
//! JSON form is in `json::value`, the Avro form in `avro::value`. Conversions between types never lose information: they return
//! `None` instead.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use uuid::Uuid;

use crate::types::{PrimitiveType, Type};

/// A value that is not null.
///
/// Two values are equal where Java's `StructLikeWrapper` finds them equal: all NaNs are one value, -0.0 and 0.0 are two. Values of
/// two types are never equal; [`Value::promoted`] converts a value to the type that its column has now.
#[derive(Debug, Clone)]
pub enum Value {
    /// A `boolean`.
    Boolean(bool),
    /// An `int`.
    Int(i32),
    /// A `long`.
    Long(i64),
    /// A `float`.
    Float(f32),
    /// A `double`.
    Double(f64),
    /// A `decimal`.
    Decimal {
        /// The number without its decimal point.
        unscaled: i128,
        /// The number of digits after the decimal point.
        scale: u32,
    },
    /// A `date`, in days since 1970-01-01.
    Date(i32),
    /// A `time`, in microseconds since midnight.
    Time(i64),
    /// A `timestamp`, in microseconds since 1970-01-01 00:00.
    Timestamp(i64),
    /// A `timestamptz`, in microseconds since 1970-01-01 00:00 UTC.
    Timestamptz(i64),
    /// A `timestamp_ns`, in nanoseconds since 1970-01-01 00:00.
    TimestampNs(i64),
    /// A `timestamptz_ns`, in nanoseconds since 1970-01-01 00:00 UTC.
    TimestamptzNs(i64),
    /// A `string`.
    String(Box<str>),
    /// A `uuid`.
    Uuid(Uuid),
    /// A `fixed`.
    Fixed(Box<[u8]>),
    /// A `binary`.
    Binary(Box<[u8]>),
    /// A struct: its values in the order of its fields.
    Struct(Tuple),
    /// A list: its elements in order.
    List(Box<[Option<Self>]>),
    /// A map: its entries in the order in which they are stored.
    Map(Box<[(Self, Option<Self>)]>),
}

/// Values by position, such as those of a partition; `None` is null.
pub type Tuple = Box<[Option<Value>]>;

/// Maps a float to an integer whose order is that of Java's `Double.compare`: -0.0 before 0.0, all NaNs equal and last.
fn total_order_key(value: f64) -> i64 {
    let bits = if value.is_nan() { f64::NAN } else { value }.to_bits().cast_signed();
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

impl Value {
    /// Returns the rank of the value's type, which orders values of different types.
    const fn kind(&self) -> u8 {
        match self {
            Self::Boolean(_) => 0,
            Self::Int(_) => 1,
            Self::Long(_) => 2,
            Self::Float(_) => 3,
            Self::Double(_) => 4,
            Self::Decimal { .. } => 5,
            Self::Date(_) => 6,
            Self::Time(_) => 7,
            Self::Timestamp(_) => 8,
            Self::Timestamptz(_) => 9,
            Self::TimestampNs(_) => 10,
            Self::TimestamptzNs(_) => 11,
            Self::String(_) => 12,
            Self::Uuid(_) => 13,
            Self::Fixed(_) => 14,
            Self::Binary(_) => 15,
            Self::Struct(_) => 16,
            Self::List(_) => 17,
            Self::Map(_) => 18,
        }
    }

    /// Returns `true` if the value is a float or double NaN.
    pub const fn is_nan(&self) -> bool {
        match self {
            Self::Float(v) => v.is_nan(),
            Self::Double(v) => v.is_nan(),
            _ => false,
        }
    }

    /// Returns `true` if a field of type `ty` can have the value: type, precision, length, and nulls of required fields fit.
    pub fn fits_type(&self, ty: &Type) -> bool {
        match (self, ty) {
            (Self::Struct(values), Type::Struct(ty)) => {
                let fits = |(value, field): (&Option<Self>, _)| of_field(value.as_ref(), field);
                values.len() == ty.fields().len() && values.iter().zip(ty.fields()).all(fits)
            }
            (Self::List(items), Type::List(ty)) => items.iter().all(|item| of_field(item.as_ref(), &ty.element_field)),
            (Self::Map(entries), Type::Map(ty)) => {
                let fits = |(key, value): &(Self, Option<Self>)| {
                    key.fits_type(&ty.key_field.field_type) && of_field(value.as_ref(), &ty.value_field)
                };
                entries.iter().all(fits)
            }
            (value, Type::Primitive(ty)) => value.is_of_primitive(ty),
            _ => false,
        }
    }

    fn is_of_primitive(&self, ty: &PrimitiveType) -> bool {
        use PrimitiveType as P;
        match (self, ty) {
            (Self::Decimal { unscaled, scale }, P::Decimal { precision, scale: of }) => {
                scale == of && 10_u128.checked_pow(*precision).is_none_or(|limit| unscaled.unsigned_abs() < limit)
            }
            (Self::Fixed(bytes), P::Fixed(length)) => bytes.len() as u64 == *length,
            (Self::Boolean(_), P::Boolean)
            | (Self::Int(_), P::Int)
            | (Self::Long(_), P::Long)
            | (Self::Float(_), P::Float)
            | (Self::Double(_), P::Double)
            | (Self::Date(_), P::Date)
            | (Self::Time(_), P::Time)
            | (Self::Timestamp(_), P::Timestamp)
            | (Self::Timestamptz(_), P::Timestamptz)
            | (Self::TimestampNs(_), P::TimestampNs)
            | (Self::TimestamptzNs(_), P::TimestamptzNs)
            | (Self::String(_), P::String)
            | (Self::Uuid(_), P::Uuid)
            | (Self::Binary(_), P::Binary) => true,
            _ => false,
        }
    }

    /// Converts the value to the type `to`, to which its column was promoted. Returns `None` if the promotion does not exist or the
    /// value does not fit.
    ///
    /// Spec: "Schema Evolution".
    pub fn promoted(&self, to: &PrimitiveType) -> Option<Self> {
        use PrimitiveType as P;
        match (self, to) {
            (Self::Int(v), P::Long) => Some(Self::Long((*v).into())),
            (Self::Float(v), P::Double) => Some(Self::Double((*v).into())),
            (Self::Date(v), P::Timestamp) => i64::from(*v).checked_mul(MICROS_A_DAY).map(Self::Timestamp),
            (Self::Date(v), P::TimestampNs) => i64::from(*v).checked_mul(MICROS_A_DAY * 1000).map(Self::TimestampNs),
            (value, to) => value.is_of_primitive(to).then(|| value.clone()),
        }
    }

    /// Converts the value to the type `to`, by promotion or by its reverse.
    ///
    /// The reverse is needed after a table was set back to a schema from before a promotion. Returns `None` if the conversion would
    /// lose information.
    pub fn converted_to(&self, to: &PrimitiveType) -> Option<Self> {
        use PrimitiveType as P;
        let narrowed = || match (self, to) {
            (Self::Long(v), P::Int) => i32::try_from(*v).ok().map(Self::Int),
            (Self::Double(v), P::Float) => {
                let narrow = *v as f32;
                (total_order_key(narrow.into()) == total_order_key(*v)).then_some(Self::Float(narrow))
            }
            _ => None,
        };
        self.promoted(to).or_else(narrowed)
    }

    /// Converts a partition value, as a manifest has it, to the type `to`.
    ///
    /// Accepts promotions and their reverses, and other types that writers use for the same value, such as a date for a
    /// number of months. Returns `None` if the conversion would lose information.
    pub fn partition_value_as(&self, to: &PrimitiveType) -> Option<Self> {
        use PrimitiveType as P;
        let same = || match (self, to) {
            (Self::Date(v), P::Int) => Some(Self::Int(*v)),
            (Self::Int(v), P::Date) => Some(Self::Date(*v)),
            (Self::Long(v), P::Date) => i32::try_from(*v).ok().map(Self::Date),
            (Self::Long(v), P::Time) => Some(Self::Time(*v)),
            (Self::Long(v), P::Timestamp) => Some(Self::Timestamp(*v)),
            (Self::Long(v), P::Timestamptz) => Some(Self::Timestamptz(*v)),
            (Self::Long(v), P::TimestampNs) => Some(Self::TimestampNs(*v)),
            (Self::Long(v), P::TimestamptzNs) => Some(Self::TimestamptzNs(*v)),
            (Self::Timestamp(v), P::Timestamptz) => Some(Self::Timestamptz(*v)),
            (Self::Timestamptz(v), P::Timestamp) => Some(Self::Timestamp(*v)),
            (Self::Binary(v) | Self::Fixed(v), P::String) => std::str::from_utf8(v).ok().map(|text| Self::String(text.into())),
            (Self::Binary(v) | Self::Fixed(v), P::Uuid) => Uuid::from_slice(v).ok().map(Self::Uuid),
            (Self::Binary(v), P::Fixed(length)) => (v.len() as u64 == *length).then(|| Self::Fixed(v.clone())),
            (Self::Fixed(v), P::Binary) => Some(Self::Binary(v.clone())),
            (Self::String(v), P::Binary) => Some(Self::Binary(v.as_bytes().into())),
            _ => None,
        };
        self.converted_to(to).or_else(same)
    }

    /// Decodes a bound. Returns `None` if a column of type `ty` cannot have it.
    ///
    /// Bounds from before a promotion of their column are recognised by their length ("Schema Evolution").
    ///
    /// Spec: Appendix D, "Binary single-value serialization".
    pub fn from_bytes(ty: &PrimitiveType, bytes: &[u8]) -> Option<Self> {
        use PrimitiveType as P;
        let whole = || Self::integer_from_bytes(ty, bytes);
        let value = match ty {
            P::Boolean => return <[u8; 1]>::try_from(bytes).ok().map(|[byte]| Self::Boolean(byte != 0)),
            P::Int => whole().and_then(|v| i32::try_from(v).ok()).map(Self::Int),
            P::Date => whole().and_then(|v| i32::try_from(v).ok()).map(Self::Date),
            P::Long => whole().map(Self::Long),
            P::Time => whole().map(Self::Time),
            P::Timestamp => whole().map(Self::Timestamp),
            P::Timestamptz => whole().map(Self::Timestamptz),
            P::TimestampNs => whole().map(Self::TimestampNs),
            P::TimestamptzNs => whole().map(Self::TimestamptzNs),
            P::Float => bytes.try_into().ok().map(f32::from_le_bytes).map(Self::Float),
            P::Double => match bytes.len() {
                4 => bytes.try_into().ok().map(f32::from_le_bytes).map(|v| Self::Double(v.into())),
                _ => bytes.try_into().ok().map(f64::from_le_bytes).map(Self::Double),
            },
            P::String => std::str::from_utf8(bytes).ok().map(|text| Self::String(text.into())),
            P::Uuid => Uuid::from_slice(bytes).ok().map(Self::Uuid),
            P::Fixed(_) => return Some(Self::Fixed(bytes.into())),
            P::Binary => Some(Self::Binary(bytes.into())),
            P::Decimal { scale, .. } => unscaled(bytes).map(|unscaled| Self::Decimal { unscaled, scale: *scale }),
            P::Unknown | P::Geometry { .. } | P::Geography { .. } | P::Other(_) => None,
        };
        value.filter(|value| value.is_of_primitive(ty))
    }

    /// Decodes a bound as [`Value::from_bytes`] does, for the types whose values are whole numbers. Returns `None` for other types.
    #[inline]
    pub fn integer_from_bytes(ty: &PrimitiveType, bytes: &[u8]) -> Option<i64> {
        use PrimitiveType as P;
        let four = || Some(i64::from(i32::from_le_bytes(bytes.try_into().ok()?)));
        let eight = || Some(i64::from_le_bytes(bytes.try_into().ok()?));
        match ty {
            P::Int | P::Date => four(),
            P::Long => eight().or_else(four),
            P::Time | P::Timestamptz | P::TimestamptzNs => eight(),
            P::Timestamp => eight().or_else(|| four()?.checked_mul(MICROS_A_DAY)),
            P::TimestampNs => eight().or_else(|| four()?.checked_mul(MICROS_A_DAY * 1000)),
            _ => None,
        }
    }

    /// Returns the number, if the value is an integer, a date, a time or a timestamp, in the unit of its type.
    #[inline]
    pub const fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Int(v) | Self::Date(v) => Some(*v as i64),
            Self::Long(v)
            | Self::Time(v)
            | Self::Timestamp(v)
            | Self::Timestamptz(v)
            | Self::TimestampNs(v)
            | Self::TimestamptzNs(v) => Some(*v),
            _ => None,
        }
    }

    /// Encodes the value as a bound. Returns `None` for structs, lists and maps, which have no such form.
    ///
    /// Spec: Appendix D, "Binary single-value serialization".
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::Boolean(v) => vec![u8::from(*v)],
            Self::Int(v) | Self::Date(v) => v.to_le_bytes().into(),
            Self::Long(v)
            | Self::Time(v)
            | Self::Timestamp(v)
            | Self::Timestamptz(v)
            | Self::TimestampNs(v)
            | Self::TimestamptzNs(v) => v.to_le_bytes().into(),
            Self::Float(v) => v.to_le_bytes().into(),
            Self::Double(v) => v.to_le_bytes().into(),
            Self::Decimal { unscaled, .. } => {
                let (bytes, from) = minimal_be_bytes(*unscaled);
                bytes[from..].to_vec()
            }
            Self::String(v) => v.as_bytes().into(),
            Self::Uuid(v) => v.as_bytes().into(),
            Self::Fixed(v) | Self::Binary(v) => v.to_vec(),
            Self::Struct(_) | Self::List(_) | Self::Map(_) => return None,
        })
    }
}

const MICROS_A_DAY: i64 = 86_400_000_000;

fn of_field(value: Option<&Value>, field: &crate::NestedFieldRef) -> bool {
    value.map_or(!field.required, |value| value.fits_type(&field.field_type))
}

/// Decodes a big-endian two's-complement integer. Returns `None` if it is empty or does not fit into 128 bits.
pub(crate) fn unscaled(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let fill = if first.cast_signed() < 0 { 0xff } else { 0 };
    // Some writers pad to a length. The padding must not change the number.
    let cut = bytes.len().saturating_sub(16);
    let kept = &bytes[cut..];
    let same_sign = (kept[0].cast_signed() < 0) == (first.cast_signed() < 0);
    if bytes[..cut].iter().any(|byte| *byte != fill) || !same_sign {
        return None;
    }
    let mut whole = [fill; 16];
    whole[16 - kept.len()..].copy_from_slice(kept);
    Some(i128::from_be_bytes(whole))
}

/// Encodes an integer as big-endian two's complement. Also returns the index of the first byte that is needed.
pub(crate) fn minimal_be_bytes(value: i128) -> ([u8; 16], usize) {
    // A byte is redundant if it only repeats the sign, and the next byte has the sign too.
    let same = if value < 0 { value.leading_ones() } else { value.leading_zeros() };
    (value.to_be_bytes(), (same.saturating_sub(1) as usize / 8).min(15))
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Orders values as the specification orders bounds: texts, bytes and UUIDs by their unsigned bytes, null first.
impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) | (Self::Date(a), Self::Date(b)) => a.cmp(b),
            (Self::Long(a), Self::Long(b))
            | (Self::Time(a), Self::Time(b))
            | (Self::Timestamp(a), Self::Timestamp(b))
            | (Self::Timestamptz(a), Self::Timestamptz(b))
            | (Self::TimestampNs(a), Self::TimestampNs(b))
            | (Self::TimestamptzNs(a), Self::TimestamptzNs(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => total_order_key((*a).into()).cmp(&total_order_key((*b).into())),
            (Self::Double(a), Self::Double(b)) => total_order_key(*a).cmp(&total_order_key(*b)),
            (Self::Decimal { unscaled: a, scale: s }, Self::Decimal { unscaled: b, scale: t }) => s.cmp(t).then(a.cmp(b)),
            (Self::String(a), Self::String(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Self::Uuid(a), Self::Uuid(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Self::Fixed(a), Self::Fixed(b)) | (Self::Binary(a), Self::Binary(b)) => a.cmp(b),
            (Self::Struct(a), Self::Struct(b)) | (Self::List(a), Self::List(b)) => a.cmp(b),
            (Self::Map(a), Self::Map(b)) => a.cmp(b),
            _ => self.kind().cmp(&other.kind()),
        }
    }
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind().hash(state);
        match self {
            Self::Boolean(v) => v.hash(state),
            Self::Int(v) | Self::Date(v) => v.hash(state),
            Self::Long(v)
            | Self::Time(v)
            | Self::Timestamp(v)
            | Self::Timestamptz(v)
            | Self::TimestampNs(v)
            | Self::TimestamptzNs(v) => v.hash(state),
            Self::Float(v) => total_order_key((*v).into()).hash(state),
            Self::Double(v) => total_order_key(*v).hash(state),
            Self::Decimal { unscaled, scale } => (unscaled, scale).hash(state),
            Self::String(v) => v.hash(state),
            Self::Uuid(v) => v.hash(state),
            Self::Fixed(v) | Self::Binary(v) => v.hash(state),
            Self::Struct(v) | Self::List(v) => v.hash(state),
            Self::Map(v) => v.hash(state),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Some writers use other Avro types: DuckDB a date for `month`, others bytes for text.
    #[test]
    fn a_partition_has_its_type_whatever_it_was_written_as() {
        use PrimitiveType as P;
        let text = |v: &str| Value::String(v.into());
        for (value, ty, expected) in [
            (Value::Date(600), P::Int, Some(Value::Int(600))),
            (Value::Long(19_000), P::Date, Some(Value::Date(19_000))),
            (Value::Long(1 << 40), P::Date, None),
            (Value::Int(7), P::Long, Some(Value::Long(7))),
            (Value::Long(5), P::Timestamptz, Some(Value::Timestamptz(5))),
            (Value::Binary((*b"ab").into()), P::String, Some(text("ab"))),
            (Value::Binary((*b"\xff").into()), P::String, None),
            (Value::Fixed(Box::new([0; 16])), P::Uuid, Some(Value::Uuid(Uuid::nil()))),
            (text("x"), P::Int, None),
        ] {
            assert_eq!(value.partition_value_as(&ty), expected, "{value:?} as {ty}");
        }
    }

    #[test]
    fn floats_are_equal_as_java_finds_them_equal() {
        let nans = [f64::NAN, -f64::NAN, f64::from_bits(0x7ff8_0000_0000_0001)].map(Value::Double);
        assert_eq!(HashSet::from(nans).len(), 1);
        assert_eq!(HashSet::from([0.0, -0.0].map(Value::Float)).len(), 2);
        let mut sorted = [f64::NAN, f64::INFINITY, 0.0, -0.0, -1.0, f64::NEG_INFINITY].map(Value::Double);
        sorted.sort();
        let expected = [f64::NEG_INFINITY, -1.0, -0.0, 0.0, f64::INFINITY, f64::NAN].map(Value::Double);
        assert_eq!(sorted, expected);
        assert_ne!(Value::Int(1), Value::Date(1));
    }

    /// The expected bytes are those of Java's `Conversions.toByteBuffer`.
    #[test]
    fn bytes_are_those_of_the_specification() {
        let decimal = |unscaled| Value::Decimal { unscaled, scale: 2 };
        for (value, bytes) in [
            (Value::Boolean(true), &[1][..]),
            (Value::Int(84202), &[234, 72, 1, 0]),
            (Value::Long(200), &[200, 0, 0, 0, 0, 0, 0, 0]),
            (Value::Float(-4.5), &[0, 0, 144, 192]),
            (Value::Double(6.0), &[0, 0, 0, 0, 0, 0, 24, 64]),
            (Value::Date(1000), &[232, 3, 0, 0]),
            (Value::Timestamp(400_000), &[128, 26, 6, 0, 0, 0, 0, 0]),
            (Value::String("ABC".into()), &[65, 66, 67]),
            (decimal(0), &[0]),
            (decimal(127), &[127]),
            (decimal(128), &[0, 128]),
            (decimal(-128), &[128]),
            (decimal(-129), &[255, 127]),
            (decimal(1420), &[5, 140]),
        ] {
            assert_eq!(value.to_bytes().as_deref(), Some(bytes), "{value:?}");
        }
    }

    #[test]
    fn bounds_of_promoted_columns_tell_their_type_by_their_length() {
        use PrimitiveType as P;
        let of = |ty, bytes: &[u8]| Value::from_bytes(&ty, bytes);
        assert_eq!(of(P::Long, &[1, 0, 0, 0]), Some(Value::Long(1)));
        assert_eq!(of(P::Double, &0.1_f32.to_le_bytes()), Some(Value::Double(0.1_f32.into())));
        assert_eq!(of(P::Timestamp, &[1, 0, 0, 0]), Some(Value::Timestamp(MICROS_A_DAY)));
        assert_eq!(of(P::TimestampNs, &[1, 0, 0, 0]), Some(Value::TimestampNs(MICROS_A_DAY * 1000)));
        assert_eq!(of(P::TimestampNs, &i32::MAX.to_le_bytes()), None, "no timestamp of nanoseconds is so late");
        assert_eq!(of(P::Timestamp, &i32::MAX.to_le_bytes()), None, "nor is one of microseconds");
        assert_eq!(of(P::Int, &[1, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(of(P::Timestamptz, &[1, 0, 0, 0]), None);
        assert_eq!(of(P::String, &[0xe2, 0x82]), None, "cut inside a character");
        assert_eq!(of(P::Decimal { precision: 3, scale: 0 }, &[0x03, 0xe8]), None, "1000 has four digits");
        assert_eq!(of(P::Decimal { precision: 3, scale: 0 }, &[]), None);
        // A number that is padded to a length is the same number.
        let mut padded = vec![0xff; 20];
        padded[19] = 0x9c;
        assert_eq!(of(P::Decimal { precision: 3, scale: 0 }, &padded), Some(Value::Decimal { unscaled: -100, scale: 0 }));
        padded[1] = 0;
        assert_eq!(of(P::Decimal { precision: 38, scale: 0 }, &padded), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(int in any::<i32>(), long in any::<i64>(), wide in any::<i128>(), double in any::<f64>(), text in ".*") {
            use PrimitiveType as P;
            let wide = wide % 10_i128.pow(38);
            for (ty, value) in [
                (P::Int, Value::Int(int)),
                (P::Date, Value::Date(int)),
                (P::Long, Value::Long(long)),
                (P::Time, Value::Time(long)),
                (P::TimestamptzNs, Value::TimestamptzNs(long)),
                (P::Double, Value::Double(double)),
                (P::Decimal { precision: 38, scale: 7 }, Value::Decimal { unscaled: wide, scale: 7 }),
                (P::String, Value::String(text.as_str().into())),
                (P::Binary, Value::Binary(text.as_bytes().into())),
            ] {
                let bytes = value.to_bytes().expect("bytes");
                prop_assert_eq!(Value::from_bytes(&ty, &bytes), Some(value), "{}", ty);
            }
            prop_assert_eq!(16 - minimal_be_bytes(wide).1 as u32, (1..16).find(|n| wide == wide << (128 - 8 * n) >> (128 - 8 * n)).unwrap_or(16));
        }
    }
}
