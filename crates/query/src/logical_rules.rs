//! DataFusion's rules for logical plans, restricted where they are wrong.
//!
//! - Two rules take fields of structs out near the scan, so that it reads no others. Above nodes with several inputs they leave
//!   nodes without their columns, so that a join on an expression of a field is refused. Here fields are taken out only below
//!   such nodes.
//! - A join by `IS NOT DISTINCT FROM` takes nulls for equal in all of its keys. Two rules add keys of other comparisons, which no
//!   null fits. Here such a join keeps its keys.

use std::sync::Arc;

use datafusion::common::NullEquality;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
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
