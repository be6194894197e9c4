//! Functions of one argument and one result that rules put into plans. Nobody calls them by name.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

/// What such a function does.
pub(super) trait Unary: std::fmt::Debug + PartialEq + Eq + std::hash::Hash + Send + Sync + 'static {
    /// Its name in plans.
    fn name(&self) -> &str;
    /// What it makes of a field.
    fn field(&self, input: &FieldRef) -> Result<Field>;
    /// What it makes of values.
    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef>;
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Function<T> {
    inner: T,
    signature: Signature,
}

/// The function of an expression.
pub(super) fn call<T: Unary>(inner: T, expr: Expr) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Function { inner, signature })).call(vec![expr])
}

/// Whether an expression is a call of a function with this name.
pub(super) fn is_call(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::ScalarFunction(function) if function.func.name() == name)
}

impl<T: Unary> ScalarUDFImpl for Function<T> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let input = Arc::new(Field::new("", arguments.first().cloned().unwrap_or(DataType::Null), true));
        Ok(self.inner.field(&input)?.data_type().clone())
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let input = arguments.arg_fields.first().cloned().unwrap_or_else(|| Arc::new(Field::new("", DataType::Null, true)));
        Ok(Arc::new(self.inner.field(&input)?.with_name(self.inner.name())))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
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
