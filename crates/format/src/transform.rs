//! What partition and sort fields make of values (specification, "Partition Transforms", Appendix B).

use std::fmt;

use crate::value::shortest;
use crate::{FormatError, PrimitiveType, Result, Type, Value};

/// What a partition or sort field makes of its source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Transform {
    /// The value itself.
    Identity,
    /// A hash, modulo so many.
    Bucket(u32),
    /// Cut to a width.
    Truncate(u32),
    /// Years since 1970.
    Year,
    /// Months since 1970-01.
    Month,
    /// Days since 1970-01-01.
    Day,
    /// Hours since 1970-01-01 00:00.
    Hour,
    /// Always null.
    Void,
    /// One that nobody knows yet, as metadata spells it. It is kept and never prunes; who must write by it refuses it by name.
    Unknown(Box<str>),
}

impl Transform {
    /// By its name in metadata, as Java reads it.
    pub fn named(name: &str) -> Self {
        let lower = name.to_ascii_lowercase();
        let width = |prefix: &str| {
            let digits = lower.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']')?;
            digits.parse::<u32>().ok().filter(|width| *width > 0 && *width <= i32::MAX as u32)
        };
        match lower.as_str() {
            "identity" => Self::Identity,
            "year" => Self::Year,
            "month" => Self::Month,
            "day" => Self::Day,
            "hour" => Self::Hour,
            "void" => Self::Void,
            _ => match (width("bucket"), width("truncate")) {
                (Some(buckets), _) => Self::Bucket(buckets),
                (_, Some(width)) => Self::Truncate(width),
                _ => Self::Unknown(name.into()),
            },
        }
    }

    /// The type of what it makes of a type; none if it takes no such values.
    pub fn result_type(&self, source: &Type) -> Option<Type> {
        use PrimitiveType as P;
        if matches!(self, Self::Void) {
            return Some(source.clone());
        }
        let Type::Primitive(ty) = source else { return None };
        let of_days = matches!(ty, P::Date | P::Timestamp | P::Timestamptz | P::TimestampNs | P::TimestamptzNs);
        let result = match self {
            Self::Identity => match ty {
                P::Geometry { .. } | P::Geography { .. } | P::Other(_) => return None,
                ty => ty.clone(),
            },
            Self::Bucket(_) => match ty {
                P::Boolean | P::Float | P::Double | P::Unknown | P::Geometry { .. } | P::Geography { .. } | P::Other(_) => {
                    return None;
                }
                _ => P::Int,
            },
            Self::Truncate(_) => match ty {
                P::Int | P::Long | P::Decimal { .. } | P::String | P::Binary => ty.clone(),
                _ => return None,
            },
            Self::Year | Self::Month if of_days => P::Int,
            Self::Day if of_days => P::Date,
            Self::Hour if of_days && *ty != P::Date => P::Int,
            _ => return None,
        };
        Some(result.into())
    }

    /// What it makes of a value. Of null it makes null.
    pub fn apply(&self, value: Option<&Value>) -> Result<Option<Value>> {
        let Some(value) = value else { return Ok(None) };
        let made = match self {
            Self::Identity => Some(value.clone()),
            Self::Void => return Ok(None),
            Self::Bucket(buckets) => hash(value).map(|hash| bucket(hash, *buckets)),
            Self::Truncate(width) => truncated(value, *width),
            Self::Year => day_of(value).map(|day| Value::Int(civil(day).0 - 1970)),
            Self::Month => day_of(value).map(|day| {
                let (year, month) = civil(day);
                Value::Int((year - 1970) * 12 + month - 1)
            }),
            Self::Day => day_of(value).map(Value::Date),
            Self::Hour => match value {
                Value::Date(_) => None,
                value => micros_of(value).and_then(|v| i32::try_from(v.div_euclid(3_600_000_000)).ok()).map(Value::Int),
            },
            Self::Unknown(_) => None,
        };
        let made =
            made.ok_or_else(|| FormatError::invalid(format!("transform {self}"), format!("it takes no value like {value:?}")));
        made.map(Some)
    }

    /// Whether equal results mean equal values only: by an identity a column's value is known.
    pub const fn is_identity(&self) -> bool {
        matches!(self, Self::Identity)
    }

    /// Whether greater values never make lesser results.
    pub const fn preserves_order(&self) -> bool {
        !matches!(self, Self::Void | Self::Bucket(_) | Self::Unknown(_))
    }
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity",
            Self::Year => "year",
            Self::Month => "month",
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Void => "void",
            Self::Unknown(name) => name,
            Self::Bucket(buckets) => return write!(f, "bucket[{buckets}]"),
            Self::Truncate(width) => return write!(f, "truncate[{width}]"),
        })
    }
}

/// The hash of a value (specification, Appendix B); none for types that have none.
fn hash(value: &Value) -> Option<i32> {
    let whole = |v: i64| murmur3(&v.to_le_bytes());
    Some(match value {
        Value::Int(v) | Value::Date(v) => whole((*v).into()),
        Value::Long(v) | Value::Time(v) | Value::Timestamp(v) | Value::Timestamptz(v) => whole(*v),
        Value::TimestampNs(v) | Value::TimestamptzNs(v) => whole(v.div_euclid(1000)),
        Value::Decimal { unscaled, .. } => murmur3(&shortest(*unscaled)),
        Value::String(v) => murmur3(v.as_bytes()),
        Value::Uuid(v) => murmur3(v.as_bytes()),
        Value::Fixed(v) | Value::Binary(v) => murmur3(v),
        Value::Boolean(_) | Value::Float(_) | Value::Double(_) | Value::Struct(_) | Value::List(_) | Value::Map(_) => {
            return None;
        }
    })
}

fn bucket(hash: i32, buckets: u32) -> Value {
    Value::Int(((hash & i32::MAX).cast_unsigned() % buckets).cast_signed())
}

/// MurmurHash3, 32 bits for x86, with the seed 0 (Austin Appleby; public domain).
fn murmur3(bytes: &[u8]) -> i32 {
    let mixed = |k: u32| k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let mut h = 0_u32;
    let (blocks, tail) = bytes.as_chunks::<4>();
    for block in blocks {
        h = (h ^ mixed(u32::from_le_bytes(*block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    if !tail.is_empty() {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        h ^= mixed(u32::from_le_bytes(last));
    }
    h ^= bytes.len() as u32;
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    (h ^ (h >> 16)).cast_signed()
}

/// A value cut to a width. The least numbers wrap as Java's do, so that rows come into the partition that every engine looks in.
fn truncated(value: &Value, width: u32) -> Option<Value> {
    Some(match value {
        Value::Int(v) => {
            let width = width.cast_signed();
            Value::Int(v.wrapping_sub(v.rem_euclid(width)))
        }
        Value::Long(v) => Value::Long(v.wrapping_sub(v.rem_euclid(width.into()))),
        Value::Decimal { unscaled, scale } => {
            Value::Decimal { unscaled: unscaled.checked_sub(unscaled.rem_euclid(width.into()))?, scale: *scale }
        }
        Value::String(v) => {
            let end = v.char_indices().nth(width as usize).map_or(v.len(), |(at, _)| at);
            Value::String(v[..end].into())
        }
        Value::Binary(v) => Value::Binary(v[..v.len().min(width as usize)].into()),
        _ => return None,
    })
}

fn micros_of(value: &Value) -> Option<i64> {
    match value {
        Value::Timestamp(v) | Value::Timestamptz(v) => Some(*v),
        Value::TimestampNs(v) | Value::TimestamptzNs(v) => Some(v.div_euclid(1000)),
        _ => None,
    }
}

fn day_of(value: &Value) -> Option<i32> {
    match value {
        Value::Date(days) => Some(*days),
        value => i32::try_from(micros_of(value)?.div_euclid(86_400_000_000)).ok(),
    }
}

/// The year and the month of a day since 1970-01-01, of every day that 32 bits hold (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`). Libraries of dates end before.
fn civil(days: i32) -> (i32, i32) {
    let z = i64::from(days) + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as i32, month as i32)
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, NaiveDate};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    /// The test values of Appendix B.
    #[test]
    fn hashes_are_those_of_the_specification() {
        let uuid = Uuid::parse_str("f79c3e09-677c-4bbd-a479-3f349cb785e7").expect("a UUID");
        for (value, expected) in [
            (Value::Int(34), 2_017_239_379),
            (Value::Long(34), 2_017_239_379),
            (Value::Decimal { unscaled: 1420, scale: 2 }, -500_754_589),
            (Value::Date(17_486), -653_330_422),
            (Value::Time(81_068_000_000), -662_762_989),
            (Value::Timestamp(1_510_871_468_000_000), -2_047_944_441),
            (Value::Timestamp(1_510_871_468_000_001), -1_207_196_810),
            (Value::Timestamptz(1_510_871_468_000_000), -2_047_944_441),
            (Value::TimestampNs(1_510_871_468_000_000_000), -2_047_944_441),
            (Value::TimestampNs(1_510_871_468_000_001_000), -1_207_196_810),
            (Value::TimestamptzNs(1_510_871_468_000_001_000), -1_207_196_810),
            (Value::String("iceberg".into()), 1_210_000_089),
            (Value::Uuid(uuid), 1_488_055_340),
            (Value::Fixed([0, 1, 2, 3].into()), -188_683_207),
            (Value::Binary([0, 1, 2, 3].into()), -188_683_207),
        ] {
            assert_eq!(hash(&value), Some(expected), "{value:?}");
        }
        assert_eq!(Transform::Bucket(16).apply(Some(&Value::Int(34))).expect("made"), Some(Value::Int(3)));
        assert!(Transform::Bucket(16).apply(Some(&Value::Double(1.0))).is_err());
        assert_eq!(Transform::Bucket(16).apply(None).expect("made"), None);
    }

    /// The examples of "Truncate Transform Details".
    #[test]
    fn values_are_cut_as_the_specification_says() {
        let decimal = |unscaled| Value::Decimal { unscaled, scale: 2 };
        for (width, value, expected) in [
            (10, Value::Int(1), Value::Int(0)),
            (10, Value::Int(-1), Value::Int(-10)),
            (10, Value::Long(1), Value::Long(0)),
            (10, Value::Long(-1), Value::Long(-10)),
            (50, decimal(1065), decimal(1050)),
            (50, decimal(-1), decimal(-50)),
            (3, Value::String("iceberg".into()), Value::String("ice".into())),
            (3, Value::String("日本語です".into()), Value::String("日本語".into())),
            (3, Value::Binary([1, 2, 3, 4, 5].into()), Value::Binary([1, 2, 3].into())),
            (10, Value::Int(i32::MIN), Value::Int(i32::MIN.wrapping_sub(2))),
        ] {
            assert_eq!(Transform::Truncate(width).apply(Some(&value)).expect("made"), Some(expected), "{value:?}");
        }
    }

    #[test]
    fn times_before_1970_are_in_the_year_month_day_and_hour_that_they_are_in() {
        let second = Value::Timestamp(-1);
        for (transform, expected) in [
            (Transform::Year, Value::Int(-1)),
            (Transform::Month, Value::Int(-1)),
            (Transform::Day, Value::Date(-1)),
            (Transform::Hour, Value::Int(-1)),
        ] {
            assert_eq!(transform.apply(Some(&second)).expect("made"), Some(expected.clone()), "{transform}");
            assert_eq!(transform.apply(Some(&Value::TimestamptzNs(-1))).expect("made"), Some(expected), "{transform}");
        }
        assert_eq!(Transform::Month.apply(Some(&Value::Date(17_501))).expect("made"), Some(Value::Int(575)));
        assert!(Transform::Hour.apply(Some(&Value::Date(0))).is_err());
    }

    #[test]
    fn names_are_printed_as_they_were_read() {
        for name in [
            "identity",
            "bucket[16]",
            "truncate[4]",
            "year",
            "month",
            "day",
            "hour",
            "void",
            "zorder[2]",
            "bucket[0]",
            "bucket",
            "",
        ] {
            assert_eq!(Transform::named(name).to_string(), name);
        }
        assert!(matches!(Transform::named("bucket[0]"), Transform::Unknown(_)));
        assert_eq!(Transform::named("YEAR"), Transform::Year);
    }

    proptest! {
        #[test]
        fn days_are_of_the_months_that_a_calendar_says(days in -90_000_000_i32..90_000_000) {
            let day = NaiveDate::default() + chrono::TimeDelta::days(days.into());
            prop_assert_eq!(civil(days), (day.year(), day.month() as i32));
        }
    }
}
