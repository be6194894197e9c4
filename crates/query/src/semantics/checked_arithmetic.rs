//! Arithmetic that fails if a result is out of range. DataFusion's operators on integers wrap around, and those on decimals
//! return more digits than the type has.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowNativeTypeOp, AsArray, Datum, PrimitiveArray, new_empty_array};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{
    ArrowPrimitiveType, DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, FieldRef, Int8Type, Int16Type, Int32Type,
    Int64Type,
};
use arrow::error::ArrowError;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::function::{Unary, call, null_if_untyped};

/// The function for `+`, `-` or `*`, which checks its result.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    op: Operator,
    signature: Signature,
}

/// Least unscaled value that has more than 38 digits.
const TOO_MANY: u128 = 10_u128.pow(38);

/// Replaces an operation that wraps around by one that fails. The operands are rewritten already.
pub(super) fn rewrite(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let exact = |expr: &Expr| expr.get_type(schema).map(|ty| ty.is_integer() || matches!(ty, DataType::Decimal128(_, _)));
    let signed = |expr: &Expr| expr.get_type(schema).map(|ty| ty.is_signed_integer());
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Plus | Operator::Minus | Operator::Multiply), right })
            if exact(&left)? && exact(&right)? =>
        {
            let signature = Signature::any(2, Volatility::Immutable);
            let function = Arc::new(ScalarUDF::new_from_impl(Checked { op, signature }));
            Transformed::yes(function.call(vec![*left, *right]))
        }
        Expr::Negative(operand) if signed(&operand)? => Transformed::yes(call(Counterpart::Negative, *operand)),
        Expr::ScalarFunction(ScalarFunction { func, mut args })
            if func.name() == "abs" && args.len() == 1 && signed(&args[0])? =>
        {
            Transformed::yes(call(Counterpart::Absolute, args.remove(0)))
        }
        expr => Transformed::no(expr),
    })
}

/// The functions `-x` and `abs(x)` of integers. The least integer of a type has no positive counterpart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Counterpart {
    Negative,
    Absolute,
}

impl Counterpart {
    /// Evaluates the function for an array of one integer type.
    fn each<T: ArrowPrimitiveType>(self, values: &ArrayRef) -> Result<ArrayRef> {
        let one = |v: T::Native| match self {
            Self::Absolute if v.is_ge(T::Native::ZERO) => Ok(v),
            _ => v
                .neg_checked()
                .map_err(|_| DataFusionError::Execution(format!("out of the range of {}: {} {v:?}", T::DATA_TYPE, self.sign()))),
        };
        let made: PrimitiveArray<T> = values.as_primitive::<T>().try_unary(one)?;
        Ok(Arc::new(made))
    }

    /// Returns the operation as the error shows it.
    fn sign(self) -> &'static str {
        match self {
            Self::Negative => "-",
            Self::Absolute => "abs",
        }
    }
}

impl Unary for Counterpart {
    fn name(&self) -> &'static str {
        match self {
            Self::Negative => "checked_negative",
            Self::Absolute => "checked_abs",
        }
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        Ok(Field::new("", input.data_type().clone(), input.is_nullable()))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        match values.data_type() {
            DataType::Int8 => self.each::<Int8Type>(values),
            DataType::Int16 => self.each::<Int16Type>(values),
            DataType::Int32 => self.each::<Int32Type>(values),
            DataType::Int64 => self.each::<Int64Type>(values),
            other => Err(DataFusionError::Internal(format!("{} of {other}", self.name()))),
        }
    }
}

impl Checked {
    /// Computes the operation, and checks decimals of 38 digits. Arrow checks the others.
    fn apply(&self, left: &dyn Datum, right: &dyn Datum) -> std::result::Result<ArrayRef, ArrowError> {
        let made = match self.op {
            Operator::Plus => numeric::add(left, right),
            Operator::Minus => numeric::sub(left, right),
            _ => numeric::mul(left, right),
        }?;
        if let DataType::Decimal128(DECIMAL128_MAX_PRECISION, _) = made.data_type() {
            let values = made.as_primitive::<Decimal128Type>();
            // Null slots may hold any value, so nulls are looked at if a slot is too large.
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
        if let Some(null) = null_if_untyped(&arguments)? {
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
