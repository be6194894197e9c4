//! Filters that go down a physical plan where columns of two tables have one name. DataFusion finds a column below by its name, the first
//! that has it, so that a condition on one table would leave out rows of the other. Here no filter passes through such a place.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use crate::padded::Padding;

type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// DataFusion's rules for physical plans: those that push filters down are kept from mistaking columns, and all from mistaking constants.
pub(crate) fn rules() -> Vec<Rule> {
    let apart =
        |rule: Rule| -> Rule { if rule.name().starts_with("FilterPushdown") { Arc::new(ByPlace { inner: rule }) } else { rule } };
    let first: Rule = Arc::new(Padding);
    std::iter::once(first).chain(PhysicalOptimizer::new().rules.into_iter().map(apart)).collect()
}

#[derive(Debug)]
struct ByPlace {
    inner: Rule,
}

impl PhysicalOptimizerRule for ByPlace {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let walled = plan.transform_down(wall).data()?;
        let pushed = self.inner.optimize(walled, config)?;
        let open = |plan: Arc<dyn ExecutionPlan>| match plan.downcast_ref::<Wall>() {
            Some(wall) => Ok(Transformed::yes(Arc::clone(&wall.input))),
            None => Ok(Transformed::no(plan)),
        };
        pushed.transform_up(open).data()
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn schema_check(&self) -> bool {
        self.inner.schema_check()
    }
}

fn has_namesakes(schema: &Schema) -> bool {
    let mut seen = HashSet::with_capacity(schema.fields().len());
    !schema.fields().iter().all(|field| seen.insert(field.name()))
}

/// A node whose inputs let no filter through where two of their columns have one name. A projection to other names knows the places of
/// columns, and so does a join below it.
fn wall(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    if plan.downcast_ref::<Wall>().is_some() {
        return Ok(Transformed::no(plan));
    }
    let by_place = plan.downcast_ref::<ProjectionExec>().is_some() && !has_namesakes(&plan.schema());
    let mistaken = |input: &Arc<dyn ExecutionPlan>| {
        has_namesakes(&input.schema()) && !(by_place && input.downcast_ref::<HashJoinExec>().is_some())
    };
    replaced(plan, |_, input| mistaken(input).then(|| Arc::new(Wall { input: Arc::clone(input) }) as _))
}

/// A node with others in the place of some of its inputs.
pub(crate) fn replaced(
    plan: Arc<dyn ExecutionPlan>,
    other: impl Fn(usize, &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>>,
) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let inputs = plan.children();
    let others: Vec<_> = inputs.iter().enumerate().map(|(at, input)| other(at, input)).collect();
    if others.iter().all(Option::is_none) {
        return Ok(Transformed::no(plan));
    }
    let made = others.into_iter().zip(inputs).map(|(other, input)| other.unwrap_or_else(|| Arc::clone(input)));
    let made = made.collect();
    Ok(Transformed::yes(plan.with_new_children(made)?))
}

/// What lets no filter through, while filters are pushed down.
#[derive(Debug)]
struct Wall {
    input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for Wall {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wall")
    }
}

impl ExecutionPlan for Wall {
    fn name(&self) -> &'static str {
        "Wall"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| DataFusionError::Internal("a wall has one input".to_owned()))?;
        Ok(Arc::new(Self { input }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
