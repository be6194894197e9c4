//! Arithmetic that fails where a result is out of range. DataFusion's operators on integers wrap around, and leave decimals with more
//! digits than their type has.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Datum, new_empty_array};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type};
use arrow::error::ArrowError;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::function::of_untyped_null;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    op: Operator,
    signature: Signature,
}

/// Beyond the greatest decimal of 38 digits.
const TOO_MANY: u128 = 10_u128.pow(38);

/// `left op right` of integers of one type, or of decimals.
pub(super) fn call(left: Expr, op: Operator, right: Expr) -> Expr {
    let signature = Signature::any(2, Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Checked { op, signature })).call(vec![left, right])
}

/// Whether an operator wraps around.
pub(super) fn wraps(op: Operator) -> bool {
    matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply)
}

impl Checked {
    fn apply(&self, left: &dyn Datum, right: &dyn Datum) -> std::result::Result<ArrayRef, ArrowError> {
        let made = match self.op {
            Operator::Plus => numeric::add(left, right),
            Operator::Minus => numeric::sub(left, right),
            _ => numeric::mul(left, right),
        }?;
        if let DataType::Decimal128(DECIMAL128_MAX_PRECISION, _) = made.data_type() {
            let values = made.as_primitive::<Decimal128Type>();
            // What null slots hold does not count, but is looked at only if something is found.
            let beyond = |v: &i128| v.unsigned_abs() >= TOO_MANY;
            if values.values().iter().any(beyond) && values.iter().flatten().any(|v| beyond(&v)) {
                return Err(ArrowError::ArithmeticOverflow("a result has more than 38 digits".to_owned()));
            }
        }
        Ok(made)
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &'static str {
        match self.op {
            Operator::Plus => "checked_add",
            Operator::Minus => "checked_subtract",
            _ => "checked_multiply",
        }
    }

    fn display_name(&self, arguments: &[Expr]) -> Result<String> {
        Ok(match arguments {
            [left, right] => format!("{left} {} {right}", self.op),
            _ => self.name().to_owned(),
        })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::Null, other] | [other, DataType::Null] => Ok(other.clone()),
            [left @ DataType::Decimal128(..), right] => {
                Ok(self.apply(&new_empty_array(left), &new_empty_array(right))?.data_type().clone())
            }
            _ => Ok(arguments.first().cloned().unwrap_or(DataType::Null)),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(null) = of_untyped_null(&arguments)? {
            return Ok(null);
        }
        let out_of_range = |error: ArrowError| match error {
            ArrowError::ArithmeticOverflow(what) => {
                DataFusionError::Execution(format!("out of the range of {}: {what}", arguments.return_field.data_type()))
            }
            other => other.into(),
        };
        Ok(match arguments.args.as_slice() {
            [ColumnarValue::Array(l), ColumnarValue::Array(r)] => ColumnarValue::Array(self.apply(l, r).map_err(out_of_range)?),
            [ColumnarValue::Array(l), ColumnarValue::Scalar(r)] => {
                ColumnarValue::Array(self.apply(l, &r.to_scalar()?).map_err(out_of_range)?)
            }
            [ColumnarValue::Scalar(l), ColumnarValue::Array(r)] => {
                ColumnarValue::Array(self.apply(&l.to_scalar()?, r).map_err(out_of_range)?)
            }
            [ColumnarValue::Scalar(l), ColumnarValue::Scalar(r)] => {
                let made = self.apply(&l.to_scalar()?, &r.to_scalar()?).map_err(out_of_range)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?)
            }
            _ => return Err(DataFusionError::Internal(format!("{} takes two values", self.name()))),
        })
    }
}
