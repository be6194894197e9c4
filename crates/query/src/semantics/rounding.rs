//! `round`, `trunc`, `ceil` and `floor` of decimals. The result is a decimal with the digits that are left.
//!
//! DataFusion's functions declare one type and return another, cannot hold 100 in the type of 99.99, or return doubles.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, FieldRef};
use arrow::error::ArrowError;
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::scalar::ScalarValue;

use super::constant::constant;
use super::function::{Unary, call};

/// The direction in which a decimal is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum RoundingMode {
    /// To the nearest value; halves away from zero.
    Round,
    /// Towards zero.
    Cut,
    /// Towards positive infinity.
    Up,
    /// Towards negative infinity.
    Down,
}

/// The function that rounds a decimal to `digits` after the point. A negative number counts digits before the point.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Rounding {
    way: RoundingMode,
    digits: i32,
}

/// Rewrites a call of `round`, `trunc`, `ceil` or `floor` of a decimal; returns `None` for other calls.
///
/// Fails if the number of digits is not a constant.
pub(super) fn rewrite_rounding(name: &str, args: &[Expr], schema: &DFSchema) -> Result<Option<Expr>> {
    let way = match name {
        "round" => RoundingMode::Round,
        "trunc" => RoundingMode::Cut,
        "ceil" => RoundingMode::Up,
        "floor" => RoundingMode::Down,
        _ => return Ok(None),
    };
    let Some((value, digits)) = args.split_first() else { return Ok(None) };
    if !matches!(value.get_type(schema)?, DataType::Decimal128(..)) {
        return Ok(None);
    }
    let digits = match digits {
        [] => 0,
        [digits] => match constant(digits)?.map(|value| value.cast_to(&DataType::Int32)).transpose()? {
            Some(ScalarValue::Int32(Some(digits))) => digits,
            _ => return Err(DataFusionError::Plan(format!("{name} of a decimal takes a constant for its digits, not {digits}"))),
        },
        _ => return Ok(None),
    };
    Ok(Some(call(Rounding { way, digits }, value.clone())))
}

impl Rounding {
    /// Returns precision and scale of the result for a decimal with the given precision and scale.
    fn shape(&self, precision: u8, scale: i8) -> (u8, i8) {
        let left = i8::try_from(self.digits.clamp(0, i32::from(scale.max(0)))).unwrap_or(scale);
        if left >= scale && self.digits >= 0 {
            return (precision, scale);
        }
        // One digit more: 99.99 becomes 100.
        let whole = i16::from(precision) - i16::from(scale) + 1;
        let precision = (whole + i16::from(left)).clamp(1, i16::from(DECIMAL128_MAX_PRECISION));
        (u8::try_from(precision).unwrap_or(DECIMAL128_MAX_PRECISION), left)
    }

    /// Rounds one unscaled value; returns `None` if the result has more than 38 digits.
    fn one(&self, value: i128, scale: i8) -> Option<i128> {
        let gone = u32::try_from(i32::from(scale).saturating_sub(self.digits)).ok()?;
        // A decimal has at most 38 digits. Rounded to a higher one, it is 0, or a unit that does not fit.
        let Some(unit) = 10_i128.checked_pow(gone) else {
            let away = matches!((self.way, value.signum()), (RoundingMode::Up, 1) | (RoundingMode::Down, -1));
            return if away { None } else { Some(0) };
        };
        let (quotient, rest) = (value / unit, value % unit);
        let up = match self.way {
            RoundingMode::Round => rest.unsigned_abs() >= unit.unsigned_abs() - rest.unsigned_abs() && rest != 0,
            RoundingMode::Cut => false,
            RoundingMode::Up => rest > 0,
            RoundingMode::Down => rest < 0,
        };
        let units = if up { quotient + value.signum() } else { quotient };
        // Rounding before the point counts in larger units: multiply back to ones.
        units.checked_mul(10_i128.checked_pow(u32::try_from(-self.digits.min(0)).ok()?)?)
    }
}

impl Unary for Rounding {
    fn name(&self) -> &'static str {
        match self.way {
            RoundingMode::Round => "round_decimal",
            RoundingMode::Cut => "trunc_decimal",
            RoundingMode::Up => "ceil_decimal",
            RoundingMode::Down => "floor_decimal",
        }
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        let DataType::Decimal128(precision, scale) = *input.data_type() else {
            return Err(DataFusionError::Internal(format!("{} of {}", self.name(), input.data_type())));
        };
        let (precision, scale) = self.shape(precision, scale);
        Ok(Field::new("", DataType::Decimal128(precision, scale), input.is_nullable()))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let values = values.as_primitive::<Decimal128Type>();
        let (from, (precision, scale)) = (values.scale(), self.shape(values.precision(), values.scale()));
        if i32::from(from) <= self.digits {
            return Ok(Arc::new(values.clone()));
        }
        let beyond = || ArrowError::ArithmeticOverflow(format!("a result has more than {precision} digits"));
        let fits = |v: &i128| v.unsigned_abs() < 10_u128.pow(u32::from(precision));
        let made: Decimal128Array = values.try_unary(|v| self.one(v, from).filter(fits).ok_or_else(beyond))?;
        Ok(Arc::new(made.with_precision_and_scale(precision, scale)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(way: RoundingMode, digits: i32, value: i128, (precision, scale): (u8, i8)) -> Option<String> {
        let values = Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale).expect("a type");
        let made = Rounding { way, digits }.apply(&(Arc::new(values) as ArrayRef)).ok()?;
        Some(made.as_primitive::<Decimal128Type>().value_as_string(0))
    }

    #[test]
    fn decimals_are_rounded_as_postgresql_does() {
        // SELECT round(x, n), trunc(x, n), ceil(x), floor(x) of numeric.
        for (way, digits, value, ty, expected) in [
            (RoundingMode::Round, 1, 255, (3, 2), Some("2.6")),
            (RoundingMode::Round, 1, -255, (3, 2), Some("-2.6")),
            (RoundingMode::Round, 1, 254, (3, 2), Some("2.5")),
            (RoundingMode::Round, 0, 9_999, (4, 2), Some("100")),
            (RoundingMode::Round, 5, 255, (3, 2), Some("2.55")),
            (RoundingMode::Round, -2, 15_000, (5, 2), Some("200")),
            (RoundingMode::Round, -2, 14_999, (5, 2), Some("100")),
            (RoundingMode::Round, -40, 14_999, (5, 2), Some("0")),
            (RoundingMode::Cut, 1, -259, (3, 2), Some("-2.5")),
            (RoundingMode::Up, 0, 9_999_999_999, (10, 2), Some("100000000")),
            (RoundingMode::Up, 0, -9_999_999_999, (10, 2), Some("-99999999")),
            (RoundingMode::Down, 0, -9_999_999_999, (10, 2), Some("-100000000")),
            (RoundingMode::Down, 0, 100, (10, 2), Some("1")),
            (RoundingMode::Round, 0, 10_i128.pow(38) - 1, (38, 1), Some("10000000000000000000000000000000000000")),
            (RoundingMode::Round, -1, 10_i128.pow(38) - 1, (38, 0), None),
        ] {
            assert_eq!(made(way, digits, value, ty).as_deref(), expected, "{way:?} {digits} {value} {ty:?}");
        }
    }
}
