//! Subqueries in places where DataFusion does not execute them: arguments of aggregates and windows, sort orders, conditions of
//! joins, `VALUES`.
//!
//! The result of such a subquery becomes a column of a projection below the node, where DataFusion executes it. Start with
//! [`below`].

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, Subquery, Values, cast};

/// Prefix of the name of a column that holds the result of a subquery. The number of the subquery follows.
const ANSWER: &str = "\u{1f}answer ";

/// A function that makes the subqueries of a projection or a filter executable.
type Ask<'a> = &'a dyn Fn(LogicalPlan) -> Result<LogicalPlan>;

/// Moves the subqueries of a node below it. `ask` is given each projection or filter that then holds subqueries.
pub(super) fn below(plan: LogicalPlan, ask: Ask<'_>) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Join(join) => in_join(join, ask),
        LogicalPlan::Values(values) => in_values(values),
        LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) | LogicalPlan::Sort(_) => in_node(plan, ask),
        plan => Ok(plan),
    }
}

/// Moves the subqueries of an aggregate, a window or a sort into a projection below it.
fn in_node(plan: LogicalPlan, ask: Ask<'_>) -> Result<LogicalPlan> {
    let (Some(mut input), columns) = (plan.inputs().first().map(|input| (*input).clone()), plan.schema().columns()) else {
        return Ok(plan);
    };
    let (names, sorts) = (NamePreserver::new(&plan), matches!(plan, LogicalPlan::Sort(_)));
    let aggregates = matches!(plan, LogicalPlan::Aggregate(_));
    // An order may name columns that are not selected.
    let below = match &input {
        LogicalPlan::Projection(selected) if sorts => Some(selected.input.as_ref().clone()),
        _ => None,
    };
    let [mut answers, mut lower] = [Vec::new(), Vec::new()];
    let made = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let mut made = extract_subqueries(expr, input.schema(), ("", &mut answers))?;
        if let Some(below) = &below {
            made = made.transform_data(|expr| extract_subqueries(expr, below.schema(), ("lower ", &mut lower)))?;
        }
        Ok(if made.transformed && !sorts { made.update_data(|expr| name.restore(expr)) } else { made })
    })?;
    if let (LogicalPlan::Projection(selected), Some(below), false) = (&input, below, lower.is_empty()) {
        let answered = lower.iter().map(|answer| Expr::Column(Column::new_unqualified(answer.schema_name().to_string())));
        let selected: Vec<Expr> = selected.expr.iter().cloned().chain(answered).collect();
        input = LogicalPlanBuilder::from(ask(with_columns(below, lower)?)?).project(selected)?.build()?;
    } else if answers.is_empty() {
        return Ok(made.data);
    }
    let expressions = made.data.expressions();
    let input = if answers.is_empty() { input } else { ask(with_columns(input, answers)?)? };
    let made = made.data.with_new_exprs(expressions, vec![input])?;
    if aggregates { Ok(made) } else { LogicalPlanBuilder::from(made).project(columns.into_iter().map(Expr::Column))?.build() }
}

/// Writes `VALUES` with subqueries as a union, in which each row is a plan of its own.
fn in_values(values: Values) -> Result<LogicalPlan> {
    let asks = |expr: &Expr| expr.exists(|e| Ok(subquery(e).is_some())).unwrap_or(false);
    if !values.values.iter().flatten().any(asks) {
        return Ok(LogicalPlan::Values(values));
    }
    let one = |row: Vec<Expr>| {
        let fields = values.schema.fields().iter();
        let named = row.into_iter().zip(fields).map(|(value, field)| cast(value, field.data_type().clone()).alias(field.name()));
        LogicalPlanBuilder::empty(true).project(named)?.build()
    };
    let mut rows = values.values.into_iter().map(one);
    let Some(first) = rows.next() else { return LogicalPlanBuilder::empty(false).build() };
    rows.try_fold(first?, |all, row| LogicalPlanBuilder::from(all).union(row?)?.build())
}

/// Moves the subqueries of a join's condition: into a filter above an inner join, and into projections below other joins.
fn in_join(join: Join, ask: Ask<'_>) -> Result<LogicalPlan> {
    let asks = |expr: &Expr| expr.exists(|e| Ok(is_asked(e))).unwrap_or(false);
    if !join.filter.as_ref().is_some_and(asks) {
        return Ok(LogicalPlan::Join(join));
    }
    let columns = join.schema.columns();
    let (conditions, rest): (Vec<Expr>, Vec<Expr>) =
        join.filter.clone().map(split_conjunction_owned).unwrap_or_default().into_iter().partition(asks);
    if join.join_type == JoinType::Inner {
        let join = joined(&join, join.left.clone(), join.right.clone(), conjunction(rest))?;
        let kept = conjunction(conditions).map(|kept| Filter::try_new(kept, Arc::new(join.clone()))).transpose()?;
        return kept.map_or(Ok(join), |kept| ask(LogicalPlan::Filter(kept)));
    }
    let [mut left, mut right] = [Vec::new(), Vec::new()];
    let mut filter = rest;
    for condition in conditions {
        let condition = extract_subqueries(condition, join.left.schema(), ("left ", &mut left))?.data;
        filter.push(extract_subqueries(condition, join.right.schema(), ("right ", &mut right))?.data);
    }
    let wide = |input: &Arc<LogicalPlan>, answers: Vec<Expr>| match answers.is_empty() {
        true => Ok(Arc::clone(input)),
        false => Ok::<_, datafusion::error::DataFusionError>(Arc::new(ask(with_columns(input.as_ref().clone(), answers)?)?)),
    };
    let (left, right) = (wide(&join.left, left)?, wide(&join.right, right)?);
    let made = joined(&join, left, right, conjunction(filter))?;
    LogicalPlanBuilder::from(made).project(columns.into_iter().map(Expr::Column))?.build()
}

/// Returns a join with other inputs and another condition.
fn joined(join: &Join, left: Arc<LogicalPlan>, right: Arc<LogicalPlan>, filter: Option<Expr>) -> Result<LogicalPlan> {
    let (on, constraint) = (join.on.clone(), join.join_constraint);
    Ok(LogicalPlan::Join(Join::try_new(
        left,
        right,
        on,
        filter,
        join.join_type,
        constraint,
        join.null_equality,
        join.null_aware,
    )?))
}

/// Projects a plan to its columns and some more.
fn with_columns(input: LogicalPlan, more: Vec<Expr>) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    LogicalPlanBuilder::from(input).project(columns.into_iter().chain(more))?.build()
}

/// Replaces the subqueries that need no other columns than those of `schema` by columns for their results.
///
/// Adds these subqueries to `answers`, under the names of the columns. `of` is part of the names.
fn extract_subqueries(expr: Expr, schema: &DFSchema, (of, answers): (&str, &mut Vec<Expr>)) -> Result<Transformed<Expr>> {
    expr.transform_down(|expr| {
        if !is_asked(&expr) || !is_of(&expr, schema) {
            return Ok(Transformed::no(expr));
        }
        let mut known = answers.iter().filter_map(|answer| match answer {
            Expr::Alias(alias) if *alias.expr == expr => Some(alias.name.clone()),
            _ => None,
        });
        let name = known.next().unwrap_or_else(|| format!("{ANSWER}{of}{}", answers.len()));
        if !answers.iter().any(|answer| matches!(answer, Expr::Alias(alias) if alias.name == name)) {
            answers.push(expr.alias(&name));
        }
        Ok(Transformed::new(Expr::Column(Column::new_unqualified(name)), true, TreeNodeRecursion::Jump))
    })
}

/// Returns the subquery of an expression, or `None` if the expression is not one.
fn subquery(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::SetComparison(SetComparison { subquery, .. })
        | Expr::Exists(Exists { subquery, .. })
        | Expr::ScalarSubquery(subquery) => Some(subquery),
        _ => None,
    }
}

/// Returns true if an expression is a subquery that DataFusion executes by a join. It computes a single value that is the same
/// for all rows anywhere.
fn is_asked(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarSubquery(subquery) => !subquery.outer_ref_columns.is_empty(),
        other => subquery(other).is_some(),
    }
}

/// Returns true if all columns that an expression and its subquery name in the rows around it are in `schema`.
fn is_of(expr: &Expr, schema: &DFSchema) -> bool {
    let Some(subquery) = subquery(expr) else { return false };
    let mut named: HashSet<&Column> = expr.column_refs();
    for outer in &subquery.outer_ref_columns {
        let _ = outer.apply(|e| {
            if let Expr::OuterReferenceColumn(_, column) = e {
                named.insert(column);
            }
            Ok(TreeNodeRecursion::Continue)
        });
    }
    !expr.contains_outer() && named.into_iter().all(|column| schema.has_column(column))
}
