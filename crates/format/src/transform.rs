//! Partition transforms: the functions that partition and sort fields apply to a source value.
//!
//! Spec: "Partition Transforms", Appendix B (hashes).

use std::fmt;

use crate::{FormatError, PrimitiveType, Result, Type, Value, raw};

/// A function that a partition or sort field applies to its source value.
///
/// Spec: "Partition Transforms".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Transform {
    /// Returns the value unchanged.
    Identity,
    /// Returns the hash of the value, modulo this number of buckets.
    Bucket(u32),
    /// Truncates the value to this width.
    Truncate(u32),
    /// Extracts the year, as years since 1970.
    Year,
    /// Extracts the month, as months since 1970-01.
    Month,
    /// Extracts the day, as days since 1970-01-01.
    Day,
    /// Extracts the hour, as hours since 1970-01-01 00:00.
    Hour,
    /// Returns null for every value.
    Void,
    /// A transform that this version of Esker does not define, as metadata spells it.
    ///
    /// It is kept and never prunes. Code that must compute partition values rejects it by name.
    Unknown(Box<str>),
}

impl Transform {
    /// Returns the transform that metadata calls `name`, as Java parses it: case does not matter.
    ///
    /// A name that is not defined, or a width that is no positive `i32`, becomes [`Transform::Unknown`].
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

    /// Returns the type of the results for values of type `source`, or `None` if the transform does not accept that type.
    ///
    /// Spec: "Partition Transforms".
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

    /// Applies the transform to a value. Null stays null.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](FormatError::Invalid) if the transform is unknown, does not accept values of that type, or its result
    /// does not fit. Results that do not fit are an hour beyond 32 bits and a truncated decimal beyond 128 bits.
    pub fn apply(&self, value: Option<&Value>) -> Result<Option<Value>> {
        let Some(value) = value else { return Ok(None) };
        let made = match self {
            Self::Identity => Some(value.clone()),
            Self::Void => return Ok(None),
            Self::Bucket(buckets) => hash(value).map(|hash| Value::Int(raw::bucket(hash, *buckets))),
            Self::Truncate(width) => truncated(value, *width),
            Self::Year => day_of(value).map(|day| Value::Int(raw::year_of_day(day))),
            Self::Month => day_of(value).map(|day| Value::Int(raw::month_of_day(day))),
            Self::Day => day_of(value).map(Value::Date),
            Self::Hour => match value {
                Value::Date(_) => None,
                value => micros_of(value).and_then(raw::hour_of_micros).map(Value::Int),
            },
            Self::Unknown(_) => None,
        };
        let made =
            made.ok_or_else(|| FormatError::invalid(format!("transform {self}"), format!("it takes no value like {value:?}")));
        made.map(Some)
    }

    /// Returns `true` if the partition value determines the source value, so that a scan may take the column from the partition.
    pub const fn is_identity(&self) -> bool {
        matches!(self, Self::Identity)
    }

    /// Returns `true` if a greater value never has a lesser result.
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

/// Hashes a value for the bucket transform. Returns `None` for types that the transform does not accept.
///
/// Spec: Appendix B.
fn hash(value: &Value) -> Option<i32> {
    Some(match value {
        Value::Int(v) | Value::Date(v) => raw::hash_whole((*v).into()),
        Value::Long(v) | Value::Time(v) | Value::Timestamp(v) | Value::Timestamptz(v) => raw::hash_whole(*v),
        Value::TimestampNs(v) | Value::TimestamptzNs(v) => raw::hash_nanos(*v),
        Value::Decimal { unscaled, .. } => raw::hash_unscaled(*unscaled),
        Value::String(v) => raw::hash_bytes(v.as_bytes()),
        Value::Uuid(v) => raw::hash_bytes(v.as_bytes()),
        Value::Fixed(v) | Value::Binary(v) => raw::hash_bytes(v),
        Value::Boolean(_) | Value::Float(_) | Value::Double(_) | Value::Struct(_) | Value::List(_) | Value::Map(_) => {
            return None;
        }
    })
}

fn truncated(value: &Value, width: u32) -> Option<Value> {
    Some(match value {
        Value::Int(v) => Value::Int(raw::truncated_int(*v, width)),
        Value::Long(v) => Value::Long(raw::truncated_long(*v, width)),
        Value::Decimal { unscaled, scale } => {
            Value::Decimal { unscaled: raw::truncated_unscaled(*unscaled, width)?, scale: *scale }
        }
        Value::String(v) => Value::String(raw::truncated_text(v, width).into()),
        Value::Binary(v) => Value::Binary(raw::truncated_bytes(v, width).into()),
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
        value => micros_of(value).map(raw::day_of_micros),
    }
}

#[cfg(test)]
mod tests {
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
}
