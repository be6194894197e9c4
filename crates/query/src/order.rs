//! Keeps the order that a statement asks for, where the planner would lose it.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;

use crate::plan_inputs::RECOMPUTED;

/// DataFusion's rule that marks the order that a plan must have, applied below the node that runs subqueries first.
///
/// The rule takes a node with several inputs for one that keeps no order. The rules after it would then drop the sort.
#[derive(Debug)]
pub(crate) struct BelowSubqueries(pub(crate) Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for BelowSubqueries {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if plan.downcast_ref::<ScalarSubqueryExec>().is_none() {
            return self.0.optimize(plan, config);
        }
        let inputs =
            plan.children().into_iter().map(|input| self.optimize(Arc::clone(input), config)).collect::<Result<Vec<_>>>()?;
        Arc::clone(&plan).replace_children(inputs, RECOMPUTED)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}
