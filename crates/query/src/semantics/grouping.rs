//! Grouping sets of expressions, written as grouping sets of columns that hold the values of the expressions.
//!
//! A later rule that rewrites such an expression would put an alias around the whole set to keep its name. DataFusion does not
//! recognise a grouping set under an alias.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, HashMap};
use datafusion::error::Result;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::AnalyzerRule;

/// The analyzer rule for grouping sets. It runs before all rules that rewrite expressions.
#[derive(Debug)]
pub(super) struct GroupingSets;

impl AnalyzerRule for GroupingSets {
    fn name(&self) -> &'static str {
        "grouping_sets"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Aggregate(aggregate) if matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]) => {
                by_columns(aggregate)
            }
            plan => Ok(Transformed::no(plan)),
        })
        .data()
    }
}

/// Computes the expressions of an aggregate's grouping set in a projection below it, and groups by their columns.
fn by_columns(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let mut keys: HashMap<Expr, Expr> = HashMap::new();
    let mut values = Vec::new();
    for expr in grouping_set_to_exprlist(&aggregate.group_expr)? {
        if !matches!(expr, Expr::Column(_)) && !keys.contains_key(expr) {
            let name = expr.schema_name().to_string();
            values.push(expr.clone().alias(&name));
            keys.insert(expr.clone(), Expr::Column(Column::new_unqualified(name)));
        }
    }
    if keys.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let Aggregate { input, group_expr, aggr_expr, .. } = aggregate;
    let columns = input.schema().columns().into_iter().map(Expr::Column).chain(values);
    let input = LogicalPlanBuilder::from(Arc::unwrap_or_clone(input)).project(columns)?.build()?;
    let column = |expr: Expr| keys.get(&expr).cloned().unwrap_or(expr);
    let all = |exprs: Vec<Expr>| exprs.into_iter().map(column).collect::<Vec<_>>();
    let set = |expr: Expr| match expr {
        Expr::GroupingSet(GroupingSet::Rollup(exprs)) => Expr::GroupingSet(GroupingSet::Rollup(all(exprs))),
        Expr::GroupingSet(GroupingSet::Cube(exprs)) => Expr::GroupingSet(GroupingSet::Cube(all(exprs))),
        Expr::GroupingSet(GroupingSet::GroupingSets(sets)) => {
            Expr::GroupingSet(GroupingSet::GroupingSets(sets.into_iter().map(all).collect()))
        }
        expr => expr,
    };
    // `grouping(x)` names a key, so its argument changes with the key. Its own name stays.
    let names_keys = |expr: Expr| {
        let name = expr.schema_name().to_string();
        let made = expr.transform_down(|expr| match expr {
            Expr::AggregateFunction(mut function) if function.func.name() == "grouping" => {
                function.params.args = all(function.params.args);
                Ok(Transformed::yes(Expr::AggregateFunction(function)))
            }
            expr => Ok(Transformed::no(expr)),
        })?;
        Ok(if made.transformed { made.data.alias(name) } else { made.data })
    };
    let aggr_expr = aggr_expr.into_iter().map(names_keys).collect::<Result<Vec<_>>>()?;
    let made = Aggregate::try_new(Arc::new(input), group_expr.into_iter().map(set).collect(), aggr_expr)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(made)))
}
