//! The position of a literal among the values of another type: at a value, between two, below all or above all.
//!
//! A comparison with the literal becomes a comparison with a value of the column's type. Statistics can prune by it, and no value
//! is rounded. Start with [`position_of`] and [`compared`].

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::logical_expr::{Expr, Operator, binary_expr, lit};
use datafusion::scalar::ScalarValue;

use super::instant::{nanoseconds, unit_nanoseconds};

/// Nanoseconds in a day.
const DAY: i128 = 86_400_000_000_000;

/// The position of a literal among the values of a type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LiteralPosition {
    /// The literal is this value.
    At(ScalarValue),
    /// The literal is greater than this value and less than the next.
    After(ScalarValue),
    /// The literal is less than every value.
    Below,
    /// The literal is greater than every value.
    Above,
}

/// Returns the position of a number among integers or decimals, or of a point in time among dates or timestamps.
///
/// Returns `None` for other literals and types.
pub(super) fn position_of(value: &ScalarValue, to: &DataType) -> Option<LiteralPosition> {
    let (digits, scale) = match nanoseconds(value) {
        Some(instant) => return at_instant(instant, to),
        None => exact(value)?,
    };
    let (target, low, high) = match to {
        DataType::Int8 => (0, i128::from(i8::MIN), i128::from(i8::MAX)),
        DataType::Int16 => (0, i128::from(i16::MIN), i128::from(i16::MAX)),
        DataType::Int32 => (0, i128::from(i32::MIN), i128::from(i32::MAX)),
        DataType::Int64 => (0, i128::from(i64::MIN), i128::from(i64::MAX)),
        DataType::Decimal128(precision, scale) => {
            let most = 10_i128.checked_pow(u32::from(*precision))?.checked_sub(1)?;
            (*scale, -most, most)
        }
        _ => return None,
    };
    let shift = i32::from(target) - i32::from(scale);
    let power = 10_i128.checked_pow(shift.unsigned_abs());
    let (floor, exact) = match (shift >= 0, power) {
        (true, Some(power)) => match digits.checked_mul(power) {
            Some(v) => (v, true),
            None => return Some(if digits < 0 { LiteralPosition::Below } else { LiteralPosition::Above }),
        },
        (false, Some(power)) => (digits.div_euclid(power), digits.rem_euclid(power) == 0),
        // The scales differ by more than 38 digits.
        (true, None) if digits != 0 => return Some(if digits < 0 { LiteralPosition::Below } else { LiteralPosition::Above }),
        (true, None) => (0, true),
        (false, None) => (if digits < 0 { -1 } else { 0 }, digits == 0),
    };
    place(floor, exact, (low, high), |v| match to {
        DataType::Int8 => i8::try_from(v).ok().map(|v| ScalarValue::Int8(Some(v))),
        DataType::Int16 => i16::try_from(v).ok().map(|v| ScalarValue::Int16(Some(v))),
        DataType::Int32 => i32::try_from(v).ok().map(|v| ScalarValue::Int32(Some(v))),
        DataType::Int64 => i64::try_from(v).ok().map(|v| ScalarValue::Int64(Some(v))),
        DataType::Decimal128(p, s) => Some(ScalarValue::Decimal128(Some(v), *p, *s)),
        _ => None,
    })
}

/// Returns a number as an unscaled integer and its scale.
fn exact(value: &ScalarValue) -> Option<(i128, i8)> {
    Some(match value {
        ScalarValue::Int8(Some(v)) => (i128::from(*v), 0),
        ScalarValue::Int16(Some(v)) => (i128::from(*v), 0),
        ScalarValue::Int32(Some(v)) => (i128::from(*v), 0),
        ScalarValue::Int64(Some(v)) => (i128::from(*v), 0),
        ScalarValue::UInt8(Some(v)) => (i128::from(*v), 0),
        ScalarValue::UInt16(Some(v)) => (i128::from(*v), 0),
        ScalarValue::UInt32(Some(v)) => (i128::from(*v), 0),
        ScalarValue::UInt64(Some(v)) => (i128::from(*v), 0),
        ScalarValue::Decimal128(Some(v), _, scale) => (*v, *scale),
        _ => return None,
    })
}

/// Returns the position of an instant among dates or timestamps. The instant is in nanoseconds since the Unix epoch.
pub(super) fn at_instant(instant: i128, to: &DataType) -> Option<LiteralPosition> {
    let long = (i128::from(i64::MIN), i128::from(i64::MAX));
    let (unit, range) = match to {
        DataType::Date32 => (DAY, (i128::from(i32::MIN), i128::from(i32::MAX))),
        DataType::Timestamp(unit, _) => (unit_nanoseconds(*unit), long),
        _ => return None,
    };
    let (floor, exact) = (instant.div_euclid(unit), instant.rem_euclid(unit) == 0);
    place(floor, exact, range, |v| match to {
        DataType::Date32 => i32::try_from(v).ok().map(|v| ScalarValue::Date32(Some(v))),
        DataType::Timestamp(unit, zone) => {
            let (v, zone) = (Some(i64::try_from(v).ok()?), zone.clone());
            Some(match unit {
                TimeUnit::Second => ScalarValue::TimestampSecond(v, zone),
                TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(v, zone),
                TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(v, zone),
                TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(v, zone),
            })
        }
        _ => None,
    })
}

/// Returns the position of a literal from its unscaled `floor` in the target type.
///
/// `exact` is true if the literal equals the floor. `low` and `high` are the bounds of the type.
fn place(
    floor: i128,
    exact: bool,
    (low, high): (i128, i128),
    make: impl Fn(i128) -> Option<ScalarValue>,
) -> Option<LiteralPosition> {
    if floor < low {
        return Some(LiteralPosition::Below);
    }
    if floor > high {
        return Some(LiteralPosition::Above);
    }
    let value = make(floor)?;
    Some(if exact { LiteralPosition::At(value) } else { LiteralPosition::After(value) })
}

/// Returns true if an operator is a comparison.
pub(super) fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Returns a condition that is false, or null if the expression is null.
pub(super) fn never(expr: Expr) -> Expr {
    expr.is_null().and(lit(ScalarValue::Boolean(None)))
}

/// Returns a condition that is true, or null if the expression is null.
pub(super) fn always(expr: Expr) -> Expr {
    expr.is_not_null().or(lit(ScalarValue::Boolean(None)))
}

/// Compares an expression with a literal at a position among the values of its type. Returns `None` if the operator is no
/// comparison.
pub(super) fn compared(expr: Expr, op: Operator, fit: LiteralPosition) -> Option<Expr> {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    let with = |expr: Expr, op, value: ScalarValue| binary_expr(expr, op, lit(value));
    Some(match (fit, op) {
        (LiteralPosition::At(value), Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom) => {
            with(expr, op, value)
        }
        (_, IsDistinctFrom) => lit(true),
        (_, IsNotDistinctFrom) => lit(false),
        (_, Eq) => never(expr),
        (_, NotEq) => always(expr),
        (LiteralPosition::After(value), Lt | LtEq) => with(expr, LtEq, value),
        (LiteralPosition::After(value), Gt | GtEq) => with(expr, Gt, value),
        (LiteralPosition::Below, Lt | LtEq) | (LiteralPosition::Above, Gt | GtEq) => never(expr),
        (LiteralPosition::Below, Gt | GtEq) | (LiteralPosition::Above, Lt | LtEq) => always(expr),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(v: i128, scale: i8) -> ScalarValue {
        ScalarValue::Decimal128(Some(v), 38, scale)
    }

    #[test]
    fn numbers_find_their_place_among_integers_and_decimals() {
        let int = |v| ScalarValue::Int32(Some(v));
        let cases = [
            (decimal(15, 1), DataType::Int32, LiteralPosition::After(int(1))),
            (decimal(-15, 1), DataType::Int32, LiteralPosition::After(int(-2))),
            (decimal(20, 1), DataType::Int32, LiteralPosition::At(int(2))),
            (ScalarValue::Int64(Some(3_000_000_000)), DataType::Int32, LiteralPosition::Above),
            (ScalarValue::Int64(Some(-3_000_000_000)), DataType::Int32, LiteralPosition::Below),
            (decimal(i128::from(i32::MAX) * 10 + 1, 1), DataType::Int32, LiteralPosition::After(int(i32::MAX))),
            (decimal(i128::from(i32::MIN) * 10 - 1, 1), DataType::Int32, LiteralPosition::Below),
            (decimal(1005, 3), DataType::Decimal128(10, 2), LiteralPosition::After(ScalarValue::Decimal128(Some(100), 10, 2))),
            (decimal(1, 38), DataType::Int32, LiteralPosition::After(int(0))),
            (decimal(i128::MAX / 10, 0), DataType::Decimal128(38, 10), LiteralPosition::Above),
        ];
        for (value, to, expected) in cases {
            assert_eq!(position_of(&value, &to), Some(expected), "{value} among {to}");
        }
    }

    #[test]
    fn points_in_time_find_their_place_among_dates_and_timestamps() {
        let micros = |v| ScalarValue::TimestampMicrosecond(Some(v), None);
        let nanos = |v| ScalarValue::TimestampNanosecond(Some(v), None);
        let us = DataType::Timestamp(TimeUnit::Microsecond, None);
        let ns = DataType::Timestamp(TimeUnit::Nanosecond, None);
        assert_eq!(position_of(&nanos(-1), &us), Some(LiteralPosition::After(micros(-1))));
        assert_eq!(position_of(&nanos(2000), &us), Some(LiteralPosition::At(micros(2))));
        assert_eq!(position_of(&micros(i64::MAX), &ns), Some(LiteralPosition::Above));
        assert_eq!(position_of(&micros(i64::MIN), &ns), Some(LiteralPosition::Below));
        assert_eq!(position_of(&ScalarValue::Date32(Some(-1)), &us), Some(LiteralPosition::At(micros(-86_400_000_000))));
        assert_eq!(position_of(&micros(-1), &DataType::Date32), Some(LiteralPosition::After(ScalarValue::Date32(Some(-1)))));
        assert_eq!(position_of(&ScalarValue::Date32(Some(i32::MAX)), &us), Some(LiteralPosition::Above));
    }
}
