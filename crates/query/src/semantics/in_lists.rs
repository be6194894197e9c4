//! Writes `IN` lists so that DataFusion's simplifier cannot change their meaning.
//!
//! The simplifier intersects and subtracts lists by the text of their items, and so loses a column or a null in one. It takes an
//! empty list for true or false, although the value may be null. Here a list keeps constants that are not null, and every other
//! item becomes a comparison of its own.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::error::Result;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, lit};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

use super::constant::constant;
use super::literal_position::{always, never};
use super::plans::rewrite_expressions;

/// Number of constants up to which a `NOT IN` becomes comparisons. The simplifier would do the same later.
const FEW: usize = 3;

/// The analyzer rule for `IN` lists. It runs after type coercion.
#[derive(Debug)]
pub(super) struct InLists;

impl AnalyzerRule for InLists {
    fn name(&self) -> &'static str {
        "in_lists"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| rewrite_expressions(plan, rewrite)).data()
    }
}

/// Rewrites one expression, whose operands are rewritten already.
fn rewrite(expr: Expr) -> Result<Transformed<Expr>> {
    Ok(match expr {
        Expr::InList(list) if !list.expr.is_volatile() => Transformed::yes(plain(list)?),
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => match (*left, *right) {
            (Expr::InList(left), Expr::InList(right)) if left.expr == right.expr && !left.expr.is_volatile() => {
                Transformed::yes(merged(left, op, right))
            }
            (left, right) => Transformed::no(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))),
        },
        expr => Transformed::no(expr),
    })
}

/// Writes an `IN` list as a list of the constants that are not null, and a comparison with every other item.
fn plain(InList { expr, list, negated }: InList) -> Result<Expr> {
    let (mut values, mut others, mut null) = (Vec::new(), Vec::new(), false);
    for item in list {
        match constant(&item)? {
            Some(value) if value.is_null() => null = true,
            Some(value) => values.push(lit(value)),
            None => others.push(item),
        }
    }
    if negated && values.len() <= FEW {
        others.append(&mut values);
    }
    let unknown = null.then(|| lit(ScalarValue::Boolean(None)));
    let among = (!values.is_empty()).then(|| expr.as_ref().clone().in_list(values, negated));
    let compared = others.into_iter().map(|item| match negated {
        true => expr.as_ref().clone().not_eq(item),
        false => expr.as_ref().clone().eq(item),
    });
    let parts = among.into_iter().chain(compared).chain(unknown);
    let made = if negated { conjunction(parts) } else { disjunction(parts) };
    Ok(made.unwrap_or_else(|| lit(negated)))
}

/// Merges two lists of constants that are combined by `AND` or `OR` and are about the same expression.
fn merged(mut left: InList, op: Operator, mut right: InList) -> Expr {
    let kept = |from: &mut InList, other: &InList, common: bool| from.list.retain(|item| other.list.contains(item) == common);
    match (op, left.negated, right.negated) {
        (Operator::And, false, false) | (Operator::Or, true, true) => kept(&mut left, &right, true),
        (Operator::And, false, true) => kept(&mut left, &right, false),
        (Operator::And, true, false) => {
            std::mem::swap(&mut left, &mut right);
            kept(&mut left, &right, false);
        }
        _ => return Expr::BinaryExpr(BinaryExpr::new(Box::new(Expr::InList(left)), op, Box::new(Expr::InList(right)))),
    }
    match (left.list.is_empty(), left.negated) {
        (false, _) => Expr::InList(left),
        (true, true) => always(*left.expr),
        (true, false) => never(*left.expr),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::tree_node::TreeNode;
    use datafusion::logical_expr::col;

    use super::*;

    fn of(expr: Expr) -> String {
        expr.transform_up(rewrite).data().expect("rewritten").to_string()
    }

    fn numbers(values: &[i64]) -> Vec<Expr> {
        values.iter().map(|v| lit(*v)).collect()
    }

    #[test]
    fn a_null_or_a_column_in_a_list_stays_what_it_is() {
        let with = |mut list: Vec<Expr>, more: Expr, negated| {
            list.push(more);
            of(col("a").in_list(list, negated))
        };
        let null = || lit(ScalarValue::Int64(None));
        assert_eq!(with(numbers(&[1, 2]), null(), false), "a IN ([Int64(1), Int64(2)]) OR Boolean(NULL)");
        assert_eq!(with(numbers(&[1]), null(), true), "a != Int64(1) AND Boolean(NULL)");
        assert_eq!(with(vec![], null(), true), "Boolean(NULL)");
        assert_eq!(with(numbers(&[1, 2]), col("b"), false), "a IN ([Int64(1), Int64(2)]) OR a = b");
        let many = numbers(&[1, 2, 3, 4]);
        assert_eq!(with(many, col("b"), true), "a NOT IN ([Int64(1), Int64(2), Int64(3), Int64(4)]) AND a != b");
    }

    #[test]
    fn lists_that_leave_nothing_leave_null_for_null() {
        let any = |values: &[i64]| col("a").in_list(numbers(values), false);
        let none = |values: &[i64]| col("a").in_list(numbers(values), true);
        assert_eq!(of(any(&[1, 2]).and(any(&[3]))), "a IS NULL AND Boolean(NULL)");
        assert_eq!(of(any(&[1, 2]).and(any(&[2, 3]))), "a IN ([Int64(2)])");
        assert_eq!(of(none(&[1, 2, 3, 4]).or(none(&[5, 6, 7, 8]))), "a IS NOT NULL OR Boolean(NULL)");
        assert_eq!(of(none(&[1, 2, 3, 4, 9]).or(none(&[9, 6, 7, 8]))), "a NOT IN ([Int64(9)])");
        assert_eq!(of(any(&[1, 5]).and(none(&[1, 2, 3, 4]))), "a IN ([Int64(5)])");
        assert_eq!(of(none(&[1, 2, 3, 4]).and(any(&[1, 2]))), "a IS NULL AND Boolean(NULL)");
        assert_eq!(of(none(&[1]).or(none(&[2]))), "a != Int64(1) OR a != Int64(2)");
    }
}
