//! DataFusion's rules for logical plans, restricted where they are wrong.
//!
//! - Two rules take fields of structs out near the scan, so that it reads no others. Above nodes with several inputs they leave
//!   nodes without their columns, so that a join on an expression of a field is refused. Here fields are taken out only below
//!   such nodes.
//! - Of two equal projections, one on the other, `optimize_projections` drops one, so that `x + 1` of `x + 1` is computed once. Here
//!   no column that is computed from a column of its own name keeps that name below a projection.
//! - A join by `IS NOT DISTINCT FROM` takes nulls for equal in all of its keys. Two rules add keys of other comparisons, which no
//!   null fits. Here such a join keeps its keys.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, NullEquality};
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};
use datafusion::optimizer::{Optimizer, OptimizerConfig, OptimizerRule};

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// Returns all rules in DataFusion's order, some of them restricted.
pub(crate) fn rules() -> Vec<Rule> {
    let kept = |rule: Rule| -> Rule {
        match rule.name() {
            "extract_leaf_expressions" | "push_down_leaf_projections" => {
                Arc::new(RestrictedRule { inner: rule, from: Exclusion::Above(is_joint) })
            }
            "eliminate_cross_join" => Arc::new(RestrictedRule { inner: rule, from: Exclusion::Above(joins_nulls) }),
            "extract_equijoin_predicate" => Arc::new(RestrictedRule { inner: rule, from: Exclusion::At(joins_nulls) }),
            "optimize_projections" => Arc::new(ProjectionsApart(rule)),
            _ => rule,
        }
    };
    Optimizer::new().rules.into_iter().map(kept).collect()
}

/// The nodes to which a rule is not applied.
#[derive(Debug)]
enum Exclusion {
    /// The nodes that the function selects.
    At(fn(&LogicalPlan) -> bool),
    /// The nodes that the function selects, and all nodes above them.
    Above(fn(&LogicalPlan) -> bool),
}

/// A rule that is not applied to some nodes.
#[derive(Debug)]
struct RestrictedRule {
    inner: Rule,
    from: Exclusion,
}

/// Checks whether a node has several inputs.
fn is_joint(plan: &LogicalPlan) -> bool {
    plan.inputs().len() > 1
}

/// Checks whether a node is a join that takes null keys for equal.
fn joins_nulls(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(join) if join.null_equality == NullEquality::NullEqualsNull && !join.on.is_empty())
}

impl OptimizerRule for RestrictedRule {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match self.from {
            Exclusion::At(left_out) => plan.transform_up_with_subqueries(|node| match left_out(&node) {
                true => Ok(Transformed::no(node)),
                false => self.inner.rewrite(node, config),
            }),
            Exclusion::Above(left_out) => plan.transform_down_with_subqueries(|node| {
                if node.exists(|node| Ok(left_out(node)))? {
                    return Ok(Transformed::no(node));
                }
                let mut done = match self.inner.apply_order() {
                    None => self.inner.rewrite(node, config)?,
                    Some(_) => node.transform_down_with_subqueries(|node| self.inner.rewrite(node, config))?,
                };
                done.tnr = TreeNodeRecursion::Jump;
                Ok(done)
            }),
        }
    }
}

/// A rule that takes two equal projections for one, applied to plans where no such two differ.
#[derive(Debug)]
struct ProjectionsApart(Rule);

impl OptimizerRule for ProjectionsApart {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let apart = plan.transform_down_with_subqueries(|node| match set_apart(&node)? {
            Some(apart) => Ok(Transformed::yes(apart)),
            None => Ok(Transformed::no(node)),
        })?;
        let mut done = self.0.rewrite(apart.data, config)?;
        done.transformed |= apart.transformed;
        Ok(done)
    }
}

/// Gives the columns of a projection other names if a projection is on it and it computes a column from one of the same name.
///
/// Returns `None` if there is nothing to do, as in a plan that it returned.
fn set_apart(node: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Projection(above) = node else { return Ok(None) };
    let LogicalPlan::Projection(below) = above.input.as_ref() else { return Ok(None) };
    let used: HashSet<&Column> = below.expr.iter().flat_map(Expr::column_refs).collect();
    let is_taken_again = |(column, expr): (Column, &Expr)| used.contains(&column) && *expr != Expr::Column(column);
    if !below.schema.columns().into_iter().zip(&below.expr).any(is_taken_again) {
        return Ok(None);
    }
    // The projection above gets no name again either, or it would have to be set apart next.
    let is_free = |name: &String| {
        used.iter().all(|column| column.name != *name) && above.schema.fields().iter().all(|field| field.name() != name)
    };
    let names = (0_usize..).map(|number| format!("__column_{number}"));
    let names: Vec<String> = names.filter(is_free).take(below.expr.len()).collect();
    let renamed = below.expr.iter().zip(&names).map(|(expr, name)| expr.clone().alias(name)).collect();
    let renamed = LogicalPlan::Projection(Projection::try_new(renamed, below.input.clone())?);
    let by_new_names = |expr: &Expr| {
        let name = NamePreserver::new_for_projection().save(expr);
        let found = expr.clone().transform(|part| match &part {
            Expr::Column(column) => {
                let at = below.schema.index_of_column(column)?;
                Ok(Transformed::yes(Expr::Column(Column::from_name(names[at].clone()))))
            }
            _ => Ok(Transformed::no(part)),
        });
        found.data().map(|expr| name.restore(expr))
    };
    let exprs = above.expr.iter().map(by_new_names).collect::<Result<Vec<_>>>()?;
    let apart = Projection::try_new_with_schema(exprs, Arc::new(renamed), above.schema.clone())?;
    Ok(Some(LogicalPlan::Projection(apart)))
}
