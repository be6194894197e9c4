//! Keeps the dynamic filters of hash joins from losing rows with null keys.

use std::sync::Arc;

use datafusion::common::NullEquality;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, HashJoinExecBuilder};

/// A rule that removes the dynamic filter of hash joins in which nulls matter.
///
/// A hash join passes the keys that it holds as a filter to its other side, where rows with other keys are left out. A null is
/// never among these keys. So a join in which nulls are equal (`INTERSECT`, `EXCEPT`, `IS NOT DISTINCT FROM`) or decide the
/// result (`NOT IN`) must have no such filter.
#[derive(Debug)]
pub(crate) struct NullKeys;

impl PhysicalOptimizerRule for NullKeys {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| match plan.downcast_ref::<HashJoinExec>() {
            Some(join)
                if !join.dynamic_expressions_produced().is_empty()
                    && (join.null_equality() == NullEquality::NullEqualsNull || join.null_aware) =>
            {
                // The dynamic filter is part of the state, so a reset removes it.
                Ok(Transformed::yes(HashJoinExecBuilder::from(join).reset_state().build_exec()?))
            }
            _ => Ok(Transformed::no(plan)),
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "null_keys"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
