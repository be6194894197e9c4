//! Functions of one argument that rules put into plans. Statements cannot call them by name.
//!
//! A function implements [`Unary`]; [`call`] makes the expression that calls it.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;

/// A function of one argument.
pub(super) trait Unary: std::fmt::Debug + PartialEq + Eq + std::hash::Hash + Send + Sync + 'static {
    /// Returns the function's name in plans.
    fn name(&self) -> &str;
    /// Returns the field of the result for the field of the argument. Fails for types that the function does not take.
    fn field(&self, input: &FieldRef) -> Result<Field>;
    /// Evaluates the function for an array; the result has as many rows.
    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef>;
    /// Returns true if a scan may evaluate the function, wherever the plan has it. Such a function must not fail for any value.
    fn is_for_scans(&self) -> bool {
        false
    }
}

/// The implementation of DataFusion's function trait for a [`Unary`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct UnaryFunction<T> {
    /// The function.
    pub(super) inner: T,
    signature: Signature,
}

/// Returns a call of the function on an expression.
pub(super) fn call<T: Unary>(inner: T, expr: Expr) -> Expr {
    called(inner, expr, Volatility::Immutable)
}

/// Returns a call that the optimizer keeps although its argument is a constant. The function is declared volatile.
pub(super) fn call_unfolded<T: Unary>(inner: T, expr: Expr) -> Expr {
    called(inner, expr, Volatility::Volatile)
}

fn called<T: Unary>(inner: T, expr: Expr, volatility: Volatility) -> Expr {
    let signature = Signature::any(1, volatility);
    Arc::new(ScalarUDF::new_from_impl(UnaryFunction { inner, signature })).call(vec![expr])
}

/// Returns true if an expression is a call of the function `name`.
pub(super) fn is_call(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::ScalarFunction(function) if function.func.name() == name)
}

/// Returns the null of a function's result type if an argument is a null without a type; else `None`.
///
/// The optimizer puts such nulls into calls that were planned before: for an aggregate of no rows, and for columns of rows that
/// an outer join adds.
pub(crate) fn null_if_untyped(arguments: &ScalarFunctionArgs) -> Result<Option<ColumnarValue>> {
    if !arguments.args.iter().any(|value| value.data_type().is_null()) {
        return Ok(None);
    }
    Ok(Some(ColumnarValue::Scalar(ScalarValue::try_from(arguments.return_field.data_type())?)))
}

impl<T: Unary> ScalarUDFImpl for UnaryFunction<T> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [] | [DataType::Null] => Ok(DataType::Null),
            [input, ..] => Ok(self.inner.field(&Arc::new(Field::new("", input.clone(), true)))?.data_type().clone()),
        }
    }

    fn placement(&self, arguments: &[ExpressionPlacement]) -> ExpressionPlacement {
        match arguments {
            [ExpressionPlacement::Column | ExpressionPlacement::MoveTowardsLeafNodes] if self.inner.is_for_scans() => {
                ExpressionPlacement::MoveTowardsLeafNodes
            }
            _ => ExpressionPlacement::KeepInPlace,
        }
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let made = match arguments.arg_fields.first() {
            Some(input) if !input.data_type().is_null() => self.inner.field(input)?,
            _ => Field::new("", DataType::Null, true),
        };
        Ok(Arc::new(made.with_name(self.inner.name())))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(null) = null_if_untyped(&arguments)? {
            return Ok(null);
        }
        match arguments.args.into_iter().next() {
            Some(ColumnarValue::Array(values)) => Ok(ColumnarValue::Array(self.inner.apply(&values)?)),
            Some(ColumnarValue::Scalar(value)) => {
                let values = self.inner.apply(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?))
            }
            None => Ok(ColumnarValue::Scalar(ScalarValue::Null)),
        }
    }
}
