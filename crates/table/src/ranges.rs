//! The range of a source column's values that a partition value allows.
//!
//! With these ranges one pruning mechanism, over minima and maxima of columns, serves partitions too. Start reading at
//! [`source_range`]. Spec: "Partition Transforms".

use esker_format::{PrimitiveType, Transform, Type, Value};

/// Returns the smallest and largest value of the source column for which the transform gives `value`.
///
/// Both ends are inclusive. The largest is `None` if there is none, as for truncated strings. The result is `None` if the transform
/// keeps no order (bucket, void) or if a bound cannot be represented. `source` is the present type of the column.
///
/// Spec: "Partition Transforms".
pub fn source_range(transform: &Transform, source: &Type, value: &Value) -> Option<(Value, Option<Value>)> {
    let Type::Primitive(source) = source else { return None };
    match transform {
        Transform::Identity => {
            // The caller may scan with an older schema, from before the column was promoted.
            let value = value.converted_to(source)?;
            Some((low_zero(value.clone()), Some(high_zero(value))))
        }
        Transform::Truncate(width) => truncated_range(*width, value.converted_to(source)?),
        Transform::Year | Transform::Month | Transform::Day | Transform::Hour => {
            let (Value::Int(ordinal) | Value::Date(ordinal)) = value else { return None };
            time_range(transform, source, *ordinal)
        }
        Transform::Bucket(_) | Transform::Void | Transform::Unknown(_) => None,
    }
}

fn truncated_range(width: u32, low: Value) -> Option<(Value, Option<Value>)> {
    let high = match &low {
        Value::Int(v) => Some(Value::Int(v.checked_add(i32::try_from(width).ok()?.checked_sub(1)?)?)),
        Value::Long(v) => Some(Value::Long(v.checked_add(i64::from(width) - 1)?)),
        Value::Decimal { unscaled, scale } => {
            Some(Value::Decimal { unscaled: unscaled.checked_add(i128::from(width) - 1)?, scale: *scale })
        }
        // A longer string with the same prefix is greater, and there is no longest.
        Value::String(_) | Value::Binary(_) => None,
        _ => return None,
    };
    Some((low, high))
}

/// Replaces a zero lower bound by -0.0. Engines differ in whether -0.0 is less than 0.0 or equal to it.
pub(crate) fn low_zero(bound: Value) -> Value {
    with_zero(bound, -0.0)
}

/// Replaces a zero upper bound by 0.0. Engines differ in whether -0.0 is less than 0.0 or equal to it.
pub(crate) fn high_zero(bound: Value) -> Value {
    with_zero(bound, 0.0)
}

/// Replaces a value that is -0.0 or 0.0 by `zero`.
fn with_zero(value: Value, zero: f32) -> Value {
    match value {
        Value::Float(v) => Value::Float(if v == 0.0 { zero } else { v }),
        Value::Double(v) => Value::Double(if v == 0.0 { zero.into() } else { v }),
        value => value,
    }
}

const DAY_MICROS: i64 = 86_400_000_000;

/// Returns the range of a time transform's ordinal `v`, which counts years, months, days or hours from 1970.
fn time_range(transform: &Transform, source: &PrimitiveType, v: i32) -> Option<(Value, Option<Value>)> {
    if *transform == Transform::Hour {
        let low = i64::from(v).checked_mul(DAY_MICROS / 24)?;
        return micros_range(source, low, low.checked_add(DAY_MICROS / 24)?);
    }
    let (low, high) = match transform {
        Transform::Year => (first_day(v.checked_add(1970)?, 0)?, first_day(v.checked_add(1971)?, 0)?),
        Transform::Month => {
            let day = |months: i32| first_day(1970 + months.div_euclid(12), months.rem_euclid(12));
            (day(v)?, day(v.checked_add(1)?)?)
        }
        _ => (v, v.checked_add(1)?),
    };
    match source {
        PrimitiveType::Date => Some((Value::Date(low), Some(Value::Date(high - 1)))),
        _ => micros_range(source, i64::from(low).checked_mul(DAY_MICROS)?, i64::from(high).checked_mul(DAY_MICROS)?),
    }
}

/// Returns the first day of a month (0 to 11), in days since 1970-01-01.
fn first_day(year: i32, month0: i32) -> Option<i32> {
    let date = chrono::NaiveDate::from_ymd_opt(year, u32::try_from(month0).ok()? + 1, 1)?;
    let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1)?;
    i32::try_from(date.signed_duration_since(epoch).num_days()).ok()
}

/// Returns the range from `low` to just before `high` (microseconds since 1970) as values of the type `source`.
fn micros_range(source: &PrimitiveType, low: i64, high: i64) -> Option<(Value, Option<Value>)> {
    let both = |of: fn(i64) -> Value, scale: i64| Some((of(low.checked_mul(scale)?), Some(of(high.checked_mul(scale)? - 1))));
    match source {
        PrimitiveType::Timestamp => both(Value::Timestamp, 1),
        PrimitiveType::Timestamptz => both(Value::Timestamptz, 1),
        PrimitiveType::TimestampNs => both(Value::TimestampNs, 1000),
        PrimitiveType::TimestamptzNs => both(Value::TimestamptzNs, 1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_partition_value_becomes_the_range_of_its_column() {
        let range = |transform, source: PrimitiveType, value: Value| source_range(&transform, &source.into(), &value);
        let some = |low: Value, high: Value| Some((low, Some(high)));
        let day = |text: &str| Value::Date(days(text));
        assert_eq!(range(Transform::Identity, PrimitiveType::Int, Value::Int(7)), some(Value::Int(7), Value::Int(7)));
        assert_eq!(range(Transform::Identity, PrimitiveType::Long, Value::Int(7)), some(Value::Long(7), Value::Long(7)));
        let of_day = range(Transform::Day, PrimitiveType::Date, Value::Date(31));
        assert_eq!(of_day, some(day("1970-02-01"), day("1970-02-01")));
        // Older writers store days as plain integers.
        assert_eq!(range(Transform::Day, PrimitiveType::Date, Value::Int(31)), of_day);
        let of_month = range(Transform::Month, PrimitiveType::Date, Value::Int(-1));
        assert_eq!(of_month, some(day("1969-12-01"), day("1969-12-31")));
        assert_eq!(range(Transform::Year, PrimitiveType::Date, Value::Int(2)), some(day("1972-01-01"), day("1972-12-31")));
        let hour = 3_600_000_000;
        assert_eq!(
            range(Transform::Hour, PrimitiveType::Timestamp, Value::Int(1)),
            some(Value::Timestamp(hour), Value::Timestamp(2 * hour - 1))
        );
        assert_eq!(range(Transform::Truncate(10), PrimitiveType::Int, Value::Int(-10)), some(Value::Int(-10), Value::Int(-1)));
        assert_eq!(range(Transform::Bucket(4), PrimitiveType::Int, Value::Int(1)), None);
        let abc = Value::String("abc".into());
        assert_eq!(range(Transform::Truncate(3), PrimitiveType::String, abc.clone()), Some((abc, None)));
    }

    fn days(text: &str) -> i32 {
        let date: chrono::NaiveDate = text.parse().expect("a date");
        let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
        i32::try_from(date.signed_duration_since(epoch).num_days()).expect("a day")
    }

    proptest! {
        /// Checks that a value lies in the range that its partition value gives.
        #[test]
        fn a_value_is_in_the_range_of_its_partition(v in any::<i32>(), scale in 1_i64..100_000_000_000, which in 0_usize..6) {
            let micros = i64::from(v).wrapping_mul(scale);
            let transform = [
                Transform::Identity, Transform::Truncate(7), Transform::Year, Transform::Month, Transform::Day, Transform::Hour,
            ][which].clone();
            for (ty, value) in [
                (PrimitiveType::Int, Value::Int(v)),
                (PrimitiveType::Long, Value::Long(micros)),
                (PrimitiveType::Decimal { precision: 30, scale: 2 }, Value::Decimal { unscaled: micros.into(), scale: 2 }),
                (PrimitiveType::Date, Value::Date(v % 10_000_000)),
                (PrimitiveType::Timestamp, Value::Timestamp(micros)),
                (PrimitiveType::TimestamptzNs, Value::TimestamptzNs(micros)),
                (PrimitiveType::String, Value::String(format!("{micros}").into())),
                (PrimitiveType::Uuid, Value::Uuid(uuid::Uuid::from_u128(micros.unsigned_abs().into()))),
            ] {
                let Ok(Some(part)) = transform.apply(Some(&value)) else { continue };
                let Some((low, high)) = source_range(&transform, &ty.clone().into(), &part) else { continue };
                prop_assert!(low <= value && high.is_none_or(|high| value <= high), "{} {} {:?}", transform, ty, value);
            }
        }
    }
}
