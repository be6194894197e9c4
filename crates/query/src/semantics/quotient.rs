//! Quotients of decimals, with Spark's number of digits and rounded. Arrow's have four digits more than the dividend, and cut the
//! rest.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array};
use arrow::compute::binary;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, i256};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    binary_expr, cast, lit,
};
use datafusion::scalar::ScalarValue;

use super::function::null_if_untyped;

/// Digits after the point that a quotient keeps if it has more than 38 digits in all.
const LEAST_SCALE: i16 = 6;
/// Least unscaled value that has more than 38 digits.
const TOO_MANY: u128 = 10_u128.pow(38);

/// The function for `left / right` of decimals.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Quotient {
    signature: Signature,
}

/// Returns the quotient of two decimals.
pub(super) fn call(left: Expr, right: Expr) -> Expr {
    let signature = Signature::any(2, Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Quotient { signature })).call(vec![left, right])
}

/// Returns the quotient of two decimals, or of a decimal and an integer. Returns `None` for other types.
pub(super) fn divided(left: &Expr, right: &Expr, (l, r): (DataType, DataType)) -> Option<Expr> {
    if !l.is_decimal() && !r.is_decimal() {
        return None;
    }
    let decimal = |expr: &Expr, ty: DataType| match ty {
        DataType::Decimal128(..) => Some(expr.clone()),
        // A literal is a decimal of as many digits as it is written with.
        DataType::Int64 if let Expr::Literal(ScalarValue::Int64(Some(value)), _) = expr => {
            let digits = value.unsigned_abs().checked_ilog10().map_or(1, |log| log + 1);
            Some(lit(ScalarValue::Decimal128(Some(i128::from(*value)), u8::try_from(digits).ok()?, 0)))
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 => Some(cast(expr.clone(), DataType::Decimal128(10, 0))),
        DataType::Int64 | DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            Some(cast(expr.clone(), DataType::Decimal128(20, 0)))
        }
        _ => None,
    };
    Some(call(decimal(left, l)?, decimal(right, r)?))
}

/// Name of the function for `/` in texts of Spark and DuckDB, where a quotient of integers has a fraction.
pub(crate) const FRACTION: &str = "\u{1f}fraction";

/// The placeholder for a quotient that keeps the fraction of integers. It stands in plans until types are known.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Fraction {
    signature: Signature,
}

/// Returns the function of the name [`FRACTION`].
pub(super) fn fraction() -> ScalarUDF {
    ScalarUDF::new_from_impl(Fraction { signature: Signature::any(2, Volatility::Immutable) })
}

/// Rewrites a call of [`FRACTION`]: integers are divided as doubles, other types as `/` divides them.
pub(super) fn rewrite_fraction(args: &[Expr], schema: &DFSchema) -> Result<Option<Expr>> {
    let [left, right] = args else { return Ok(None) };
    let types = (left.get_type(schema)?, right.get_type(schema)?);
    if types.0.is_integer() && types.1.is_integer() {
        let double = |expr: &Expr| cast(expr.clone(), DataType::Float64);
        return Ok(Some(binary_expr(double(left), Operator::Divide, double(right))));
    }
    Ok(Some(divided(left, right, types).unwrap_or_else(|| binary_expr(left.clone(), Operator::Divide, right.clone()))))
}

impl ScalarUDFImpl for Fraction {
    fn name(&self) -> &'static str {
        FRACTION
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(DataFusionError::Internal("the placeholder of a quotient is left in the plan".to_owned()))
    }
}

/// Returns the precision and scale of a quotient, by Spark's `DecimalPrecision`.
fn digits((p, s): (u8, i8), (q, t): (u8, i8)) -> (u8, i8) {
    let (p, s, q, t) = (i16::from(p), i16::from(s), i16::from(q), i16::from(t));
    let scale = LEAST_SCALE.max(s + q + 1);
    let whole = p - s + t;
    let most = i16::from(DECIMAL128_MAX_PRECISION);
    let scale = if whole + scale <= most { scale } else { (most - whole).max(LEAST_SCALE.min(scale)) };
    let narrow = |v: i16| i8::try_from(v.clamp(0, most)).unwrap_or(i8::MAX);
    (narrow(whole + scale).max(1).unsigned_abs(), narrow(scale))
}

/// Returns the precision and scale of a decimal type. Fails for other types.
fn shape(ty: &DataType) -> Result<(u8, i8)> {
    match ty {
        DataType::Decimal128(precision, scale) => Ok((*precision, *scale)),
        other => Err(DataFusionError::Internal(format!("a quotient of {other}"))),
    }
}

/// Computes `left * 10^power / right`, and rounds halves away from zero. Returns `None` on overflow.
fn rounded(left: i128, right: i128, power: u32) -> Option<i128> {
    if let Some(left) = 10_i128.checked_pow(power).and_then(|ten| left.checked_mul(ten)) {
        let (quotient, rest) = (left.checked_div(right)?, left.checked_rem(right)?);
        let up = rest.unsigned_abs() >= right.unsigned_abs() - rest.unsigned_abs();
        return if up && rest != 0 { quotient.checked_add(left.signum() * right.signum()) } else { Some(quotient) };
    }
    let left = i256::from_i128(left).checked_mul(i256::from_i128(10).checked_pow(power)?)?;
    let wide = i256::from_i128(right);
    let (quotient, rest) = (left.checked_div(wide)?, left.checked_rem(wide)?);
    let (rest, wide) = (rest.wrapping_abs(), wide.wrapping_abs());
    let sign = if left.is_negative() == (right < 0) { 1 } else { -1 };
    let up = rest != i256::ZERO && rest >= wide - rest;
    let quotient = if up { quotient.checked_add(i256::from_i128(sign))? } else { quotient };
    quotient.to_i128()
}

/// Divides decimals row by row. `to` is the precision and scale of the result.
fn quotient(left: &Decimal128Array, right: &Decimal128Array, to: (u8, i8)) -> Result<ArrayRef> {
    let (s, t) = (i16::from(left.scale()), i16::from(right.scale()));
    let power = u32::try_from(i16::from(to.1) - s + t).unwrap_or(0);
    if right.iter().zip(left.iter()).any(|(r, l)| r == Some(0) && l.is_some()) {
        return Err(arrow::error::ArrowError::DivideByZero.into());
    }
    // Slots of nulls hold any value. A zero there must not divide, and an overflow there does not count.
    let made: Decimal128Array = binary(left, right, |l, r| match r {
        0 => 0,
        r => rounded(l, r, power).filter(|v| v.unsigned_abs() < TOO_MANY).unwrap_or(i128::MAX),
    })?;
    if made.iter().flatten().any(|v| v == i128::MAX) {
        let what = format!("a quotient has more than 38 digits, {} of them after the point", to.1);
        return Err(DataFusionError::Execution(what));
    }
    Ok(Arc::new(made.with_precision_and_scale(to.0, to.1)?))
}

impl ScalarUDFImpl for Quotient {
    fn name(&self) -> &'static str {
        "decimal_quotient"
    }

    fn display_name(&self, arguments: &[Expr]) -> Result<String> {
        Ok(match arguments {
            [left, right] => format!("{left} / {right}"),
            _ => self.name().to_owned(),
        })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::Null, other] | [other, DataType::Null] => Ok(other.clone()),
            [left, right] => {
                let (precision, scale) = digits(shape(left)?, shape(right)?);
                Ok(DataType::Decimal128(precision, scale))
            }
            _ => Err(DataFusionError::Internal("a quotient takes two values".to_owned())),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(null) = null_if_untyped(&arguments)? {
            return Ok(null);
        }
        let scalar = arguments.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let to = shape(arguments.return_field.data_type())?;
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [left, right] = arrays.as_slice() else {
            return Err(DataFusionError::Internal("a quotient takes two values".to_owned()));
        };
        let made = quotient(left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>(), to)?;
        Ok(match scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?),
            false => ColumnarValue::Array(made),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_have_as_many_digits_as_sparks() {
        // spark-sql 4.0: SELECT typeof(CAST(1 AS DECIMAL(p, s)) / CAST(1 AS DECIMAL(q, t))).
        assert_eq!(digits((10, 2), (10, 2)), (23, 13));
        assert_eq!(digits((38, 10), (38, 10)), (38, 6));
        assert_eq!(digits((20, 0), (2, 1)), (27, 6));
    }

    #[test]
    fn quotients_are_rounded_and_fail_beyond_38_digits() {
        for (left, right, power, expected) in [
            (1, 3, 6, Some(333_333)),
            (2, 3, 6, Some(666_667)),
            (-2, 3, 6, Some(-666_667)),
            (1, 2, 0, Some(1)),
            (-1, 2, 0, Some(-1)),
            (0, 7, 3, Some(0)),
            (10_i128.pow(37), 3 * 10_i128.pow(37), 6, Some(333_333)),
            (-2 * 10_i128.pow(37), 3 * 10_i128.pow(37), 6, Some(-666_667)),
            (10_i128.pow(37), 1, 6, None),
        ] {
            assert_eq!(rounded(left, right, power), expected, "{left} * 10^{power} / {right}");
        }
    }
}
