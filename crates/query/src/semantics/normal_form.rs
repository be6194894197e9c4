//! Comparison keys of floats and intervals: one zero, one NaN, and one form of each length.
//!
//! Arrow orders floats by their bits: -0.0 is less than 0.0, and a NaN with a sign is less than all numbers. It orders intervals
//! by their months, then by their days. The rule `ComparisonKeys` puts the functions of this file into plans.

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use esker_read::{normalize_nan, normalize_nan_and_zero};

use super::function::{Unary, call, is_call};

const NAME: &str = "comparison_key";

/// The function that gives equal values one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Normal {
    /// Gives one form to all NaNs, to both zeros, and to intervals of one length.
    Key,
    /// Gives one form to all NaNs, and to intervals of one length. Zeros keep their signs.
    Nan,
}

/// Returns the comparison key of an expression of floats or intervals.
pub(super) fn key(expr: Expr) -> Expr {
    if is_key(&expr) { expr } else { call(Normal::Key, expr) }
}

/// Returns an expression that Arrow orders right.
///
/// All NaNs are one value, the greatest, and zeros keep their signs. An interval has the months and days that its hours make.
pub(super) fn ordered(expr: Expr) -> Expr {
    if is_key(&expr) || is_call(&expr, Normal::Nan.name()) { expr } else { call(Normal::Nan, expr) }
}

/// Returns true if an expression is a comparison key, with or without an alias.
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
            Self::Key => normalize_nan_and_zero(values)?,
            Self::Nan => normalize_nan(values)?,
        })
    }
}
