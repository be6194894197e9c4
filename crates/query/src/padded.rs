//! Keeps the optimiser from taking columns for constant where they get other values.
//!
//! Sides of outer joins and grouping sets are filled up with nulls, and unions join different rows. DataFusion takes a column
//! that is constant below such a node for constant above it, and drops sorts by it. Here a `Padded` node below hides constants
//! and orders. Inputs of windows are hidden too, because for several windows DataFusion drops sorts by other columns than the
//! constant one.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Statistics};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PhysicalExpr, PlanProperties, ReplaceChildrenOptions,
};

use crate::plan_inputs::{RECOMPUTED, replaced};

/// The rule that adds `Padded` nodes; it comes before all rules that rely on constants.
#[derive(Debug)]
pub(crate) struct Padding;

impl PhysicalOptimizerRule for Padding {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            let padded = padded(&plan);
            replaced(plan, |at, input| {
                let varies = padded[at.min(1)] && !input.equivalence_properties().constants().is_empty();
                varies.then(|| Arc::new(Padded::new(Arc::clone(input))) as _)
            })
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "padding"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Returns the type of a join of any kind.
fn join_type(plan: &Arc<dyn ExecutionPlan>) -> Option<JoinType> {
    let hash = || plan.downcast_ref::<HashJoinExec>().map(|join| *join.join_type());
    let nested = || plan.downcast_ref::<NestedLoopJoinExec>().map(|join| *join.join_type());
    let merge = || plan.downcast_ref::<SortMergeJoinExec>().map(SortMergeJoinExec::join_type);
    hash().or_else(nested).or_else(merge)
}

/// Returns whether constants are to be hidden: those of the first input of a node, and those of its other inputs.
fn padded(plan: &Arc<dyn ExecutionPlan>) -> [bool; 2] {
    let sets = |aggregate: &AggregateExec| !aggregate.group_expr().is_single();
    let window = plan.downcast_ref::<WindowAggExec>().is_some() || plan.downcast_ref::<BoundedWindowAggExec>().is_some();
    if window || plan.downcast_ref::<UnionExec>().is_some() || plan.downcast_ref::<AggregateExec>().is_some_and(sets) {
        return [true, true];
    }
    match join_type(plan) {
        Some(JoinType::Left) => [false, true],
        Some(JoinType::Right) => [true, false],
        Some(JoinType::Full) => [true, true],
        _ => [false, false],
    }
}

/// A node that passes on the rows of its input, and hides the input's constants and orders.
#[derive(Debug)]
struct Padded {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl Padded {
    fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let equivalences = EquivalenceProperties::new(input.schema());
        let properties = Arc::new(PlanProperties::clone(input.properties()).with_eq_properties(equivalences));
        Self { input, properties }
    }
}

impl DisplayAs for Padded {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PaddedExec")
    }
}

impl ExecutionPlan for Padded {
    fn name(&self) -> &'static str {
        "PaddedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| DataFusionError::Internal("it has one input".to_owned()))?;
        Ok(Arc::new(Self::new(input)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, RECOMPUTED)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _arguments: &StatisticsArgs) -> Result<Arc<Statistics>> {
        inputs.first().cloned().ok_or_else(|| DataFusionError::Internal("it has one input".to_owned()))
    }

    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(filters, &self.children())
    }

    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(result))
    }
}
