//! Floats and intervals as keys: one zero, one NaN, one form of each length. Arrow orders floats by their bits, so that -0.0 is less than
//! 0.0, and a NaN with a sign less than all; intervals by their months, then by their days.

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use esker_read::{one_nan, one_nan_and_zero};

use super::function::{Unary, call, is_call};

const NAME: &str = "comparison_key";

/// What is made one: NaNs, and zeros as well where they are to be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Normal {
    Key,
    Nan,
}

/// The key of an expression of floats or intervals.
pub(super) fn key(expr: Expr) -> Expr {
    if is_key(&expr) { expr } else { call(Normal::Key, expr) }
}

/// An expression that Arrow orders right: its NaNs are one, the greatest, and zeros keep their signs; an interval has the months and days
/// that its hours make.
pub(super) fn ordered(expr: Expr) -> Expr {
    if is_key(&expr) || is_call(&expr, Normal::Nan.name()) { expr } else { call(Normal::Nan, expr) }
}

/// Whether an expression is such a key.
pub(super) fn is_key(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_key(&alias.expr),
        expr => is_call(expr, NAME),
    }
}

impl Unary for Normal {
    fn name(&self) -> &str {
        match self {
            Self::Key => NAME,
            Self::Nan => "one_nan",
        }
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        Ok(Field::new(self.name(), input.data_type().clone(), input.is_nullable()))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        Ok(match self {
            Self::Key => one_nan_and_zero(values)?,
            Self::Nan => one_nan(values)?,
        })
    }
}
