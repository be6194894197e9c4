//! What a partition value says about the values of its source column.

use iceberg::spec::{Datum, Literal, PrimitiveLiteral, PrimitiveType, Transform, Type};

use crate::partition::promoted;

/// The smallest and largest value that the source column can have where the transform gave `value`; `None` where the transform
/// says nothing about order (bucket, void) or the bound can't be named.
///
/// Lets one pruning mechanism, over minima and maxima of columns, serve partitions too.
pub fn source_range(transform: Transform, source: &Type, value: &Literal) -> Option<(Datum, Option<Datum>)> {
    let Type::Primitive(source) = source else { return None };
    let Literal::Primitive(value) = value else { return None };
    // The schema may be an older one, from before the column was promoted.
    let of_source = promoted(value, source).filter(|_| matches!(transform, Transform::Identity | Transform::Truncate(_)));
    let value = of_source.as_ref().unwrap_or(value);
    match (transform, value) {
        (Transform::Identity, value) => {
            let datum = datum(source, value)?;
            Some((low_zero(datum.clone()), Some(high_zero(datum))))
        }
        (Transform::Truncate(width), PrimitiveLiteral::Int(v)) => {
            let high = v.checked_add(i32::try_from(width).ok()?.checked_sub(1)?)?;
            Some((Datum::int(*v), Some(Datum::int(high))))
        }
        (Transform::Truncate(width), PrimitiveLiteral::Long(v)) => {
            let high = v.checked_add(i64::from(width) - 1)?;
            Some((Datum::long(*v), Some(Datum::long(high))))
        }
        (Transform::Truncate(_), PrimitiveLiteral::String(v)) => Some((Datum::string(v), None)),
        (Transform::Year | Transform::Month | Transform::Day | Transform::Hour, PrimitiveLiteral::Int(v)) => {
            time_range(transform, source, *v)
        }
        _ => None,
    }
}

/// A value with its type; none where it is not of that type.
pub(crate) fn datum(source: &PrimitiveType, value: &PrimitiveLiteral) -> Option<Datum> {
    Some(match (source, value) {
        (PrimitiveType::Boolean, PrimitiveLiteral::Boolean(v)) => Datum::bool(*v),
        (PrimitiveType::Int, PrimitiveLiteral::Int(v)) => Datum::int(*v),
        (PrimitiveType::Long, PrimitiveLiteral::Long(v)) => Datum::long(*v),
        (PrimitiveType::Float, PrimitiveLiteral::Float(v)) => Datum::float(v.0),
        (PrimitiveType::Double, PrimitiveLiteral::Double(v)) => Datum::double(v.0),
        (PrimitiveType::Date, PrimitiveLiteral::Int(v)) => Datum::date(*v),
        (PrimitiveType::Timestamp, PrimitiveLiteral::Long(v)) => Datum::timestamp_micros(*v),
        (PrimitiveType::Timestamptz, PrimitiveLiteral::Long(v)) => Datum::timestamptz_micros(*v),
        (PrimitiveType::TimestampNs, PrimitiveLiteral::Long(v)) => Datum::timestamp_nanos(*v),
        (PrimitiveType::TimestamptzNs, PrimitiveLiteral::Long(v)) => Datum::timestamptz_nanos(*v),
        (PrimitiveType::String, PrimitiveLiteral::String(v)) => Datum::string(v),
        (PrimitiveType::Time, PrimitiveLiteral::Long(v)) => Datum::time_micros(*v).ok()?,
        (PrimitiveType::Decimal { .. }, PrimitiveLiteral::Int128(v)) => {
            Datum::try_from_bytes(&v.to_be_bytes(), source.clone()).ok()?
        }
        (PrimitiveType::Uuid, PrimitiveLiteral::UInt128(v)) => Datum::uuid(uuid::Uuid::from_u128(*v)),
        (PrimitiveType::Binary, PrimitiveLiteral::Binary(v)) => Datum::binary(v.clone()),
        (PrimitiveType::Fixed(_), PrimitiveLiteral::Binary(v)) => Datum::fixed(v.clone()),
        _ => return None,
    })
}

/// A lower bound that both zeros are above: engines differ in whether -0.0 is less than 0.0 or equal to it.
pub(crate) fn low_zero(bound: Datum) -> Datum {
    match bound.literal() {
        PrimitiveLiteral::Float(v) if v.0 == 0.0 => Datum::float(-0.0_f32),
        PrimitiveLiteral::Double(v) if v.0 == 0.0 => Datum::double(-0.0_f64),
        _ => bound,
    }
}

/// An upper bound that both zeros are below: engines differ in whether -0.0 is less than 0.0 or equal to it.
pub(crate) fn high_zero(bound: Datum) -> Datum {
    match bound.literal() {
        PrimitiveLiteral::Float(v) if v.0 == 0.0 => Datum::float(0.0_f32),
        PrimitiveLiteral::Double(v) if v.0 == 0.0 => Datum::double(0.0_f64),
        _ => bound,
    }
}

const DAY_MICROS: i64 = 86_400_000_000;

/// The range of a time transform's ordinal `v`, counted from 1970 in its unit.
fn time_range(transform: Transform, source: &PrimitiveType, v: i32) -> Option<(Datum, Option<Datum>)> {
    if transform == Transform::Hour {
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
        PrimitiveType::Date => Some((Datum::date(low), Some(Datum::date(high - 1)))),
        _ => micros_range(source, i64::from(low).checked_mul(DAY_MICROS)?, i64::from(high).checked_mul(DAY_MICROS)?),
    }
}

fn first_day(year: i32, month0: i32) -> Option<i32> {
    let date = chrono::NaiveDate::from_ymd_opt(year, u32::try_from(month0).ok()? + 1, 1)?;
    let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1)?;
    i32::try_from(date.signed_duration_since(epoch).num_days()).ok()
}

fn micros_range(source: &PrimitiveType, low: i64, high: i64) -> Option<(Datum, Option<Datum>)> {
    let both = |of: fn(i64) -> Datum, scale: i64| Some((of(low.checked_mul(scale)?), Some(of(high.checked_mul(scale)? - 1))));
    match source {
        PrimitiveType::Timestamp => both(Datum::timestamp_micros, 1),
        PrimitiveType::Timestamptz => both(Datum::timestamptz_micros, 1),
        PrimitiveType::TimestampNs => both(Datum::timestamp_nanos, 1000),
        PrimitiveType::TimestamptzNs => both(Datum::timestamptz_nanos, 1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(transform: Transform, source: PrimitiveType, value: Literal) -> Option<(String, Option<String>)> {
        let (low, high) = source_range(transform, &Type::Primitive(source), &value)?;
        Some((low.to_human_string(), high.map(|h| h.to_human_string())))
    }

    #[test]
    fn a_partition_value_becomes_the_range_of_its_column() {
        let some = |low: &str, high: &str| Some((low.to_owned(), Some(high.to_owned())));
        assert_eq!(range(Transform::Identity, PrimitiveType::Int, Literal::int(7)), some("7", "7"));
        assert_eq!(range(Transform::Day, PrimitiveType::Date, Literal::int(31)), some("1970-02-01", "1970-02-01"));
        assert_eq!(range(Transform::Month, PrimitiveType::Date, Literal::int(-1)), some("1969-12-01", "1969-12-31"));
        assert_eq!(range(Transform::Year, PrimitiveType::Date, Literal::int(2)), some("1972-01-01", "1972-12-31"));
        assert_eq!(
            range(Transform::Hour, PrimitiveType::Timestamp, Literal::int(1)),
            some("1970-01-01 01:00:00", "1970-01-01 01:59:59.999999")
        );
        assert_eq!(range(Transform::Truncate(10), PrimitiveType::Int, Literal::int(-10)), some("-10", "-1"));
        assert_eq!(range(Transform::Bucket(4), PrimitiveType::Int, Literal::int(1)), None);
        let text = source_range(Transform::Truncate(3), &Type::Primitive(PrimitiveType::String), &Literal::string("abc"));
        assert_eq!(text, Some((Datum::string("abc"), None)), "what is longer is greater, and there is no longest");
    }

    #[test]
    fn a_value_of_any_type_is_a_range_of_its_own() {
        let nanos = |v: i64| Literal::Primitive(PrimitiveLiteral::Long(v));
        let values = [
            (PrimitiveType::Boolean, Literal::bool(true)),
            (PrimitiveType::Int, Literal::int(-7)),
            (PrimitiveType::Long, Literal::long(7)),
            (PrimitiveType::Float, Literal::float(1.5)),
            (PrimitiveType::Double, Literal::double(-1.5)),
            (PrimitiveType::Date, Literal::date(-1)),
            (PrimitiveType::Time, Literal::time(1)),
            (PrimitiveType::Timestamp, Literal::timestamp(-1)),
            (PrimitiveType::Timestamptz, Literal::timestamptz(1)),
            (PrimitiveType::TimestampNs, nanos(1)),
            (PrimitiveType::TimestamptzNs, nanos(-1)),
            (PrimitiveType::String, Literal::string("null")),
            (PrimitiveType::Uuid, Literal::uuid(uuid::Uuid::from_u128(1))),
            (PrimitiveType::Fixed(2), Literal::fixed([0, 255])),
            (PrimitiveType::Binary, Literal::binary([255])),
            (PrimitiveType::Decimal { precision: 9, scale: 2 }, Literal::decimal(-1)),
        ];
        for (ty, value) in values {
            let range = source_range(Transform::Identity, &Type::Primitive(ty.clone()), &value);
            let (low, high) = range.unwrap_or_else(|| panic!("{ty}"));
            assert_eq!((low.data_type(), &Literal::Primitive(low.literal().clone())), (&ty, &value));
            assert_eq!(high, Some(low));
        }
    }
}
