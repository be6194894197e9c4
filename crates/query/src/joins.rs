//! Joins whose other side is read whole where a null in it matters.

use std::sync::Arc;

use datafusion::common::NullEquality;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, HashJoinExecBuilder};

/// A hash join tells its other side which keys it holds, and rows with others are left out there. A null is never among them: so a join in
/// which nulls are equal (`INTERSECT`, `EXCEPT`, `IS NOT DISTINCT FROM`) or tell something (`NOT IN`) must tell nothing.
#[derive(Debug)]
pub(crate) struct NullKeys;

impl PhysicalOptimizerRule for NullKeys {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| match plan.downcast_ref::<HashJoinExec>() {
            Some(join)
                if !join.dynamic_expressions_produced().is_empty()
                    && (join.null_equality() == NullEquality::NullEqualsNull || join.null_aware) =>
            {
                // The filter is part of the state.
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
