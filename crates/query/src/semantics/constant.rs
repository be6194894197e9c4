//! Constant folding: the values of expressions that name no columns.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::scalar::ScalarValue;

use super::{checked_arithmetic, made_size};

/// Returns the value of an expression that is the same for every row and in every statement. Returns `None` for other
/// expressions.
pub(super) fn constant(expr: &Expr) -> Result<Option<ScalarValue>> {
    if let Expr::Literal(value, _) = expr {
        return Ok(Some(value.clone()));
    }
    if !is_constant(expr)? {
        return Ok(None);
    }
    let schema = Arc::new(DFSchema::empty());
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(schema.clone()).build());
    let exact = simplifier.coerce(expr.clone(), &schema)?.transform_up(|expr| checked_arithmetic::rewrite(expr, &schema))?.data;
    let folded = made_size::folding(|| simplifier.simplify(exact))?;
    Ok(match folded {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    })
}

/// Returns true if an expression consists of literals, operators and immutable functions.
fn is_constant(expr: &Expr) -> Result<bool> {
    let mut constant = true;
    expr.apply(|expr| {
        constant &= match expr {
            Expr::Literal(..)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::BinaryExpr(_)
            | Expr::Negative(_)
            | Expr::Alias(_)
            | Expr::Case(_)
            | Expr::Not(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_) => true,
            Expr::ScalarFunction(function) => function.func.signature().volatility == Volatility::Immutable,
            _ => false,
        };
        Ok(if constant { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(constant)
}
