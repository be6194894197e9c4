//! DataFusion's rules for physical plans, restricted where they are wrong.
//!
//! Filter pushdown finds a filter's column below by its name, the first that has it, so that a condition on one table would leave
//! out rows of another. Here no filter passes nodes where two columns have one name. Projection pushdown takes the output of any
//! join for its left columns and then its right ones, which is wrong for some joins. Here no projection passes these. `Wall`
//! nodes stop the rules, and are removed afterwards. Start reading at `rules`.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::JoinType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::projection::{ProjectionExec, try_embed_projection};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties, ReplaceChildrenOptions,
};

use crate::order::BelowSubqueries;
use crate::padded::Padding;
use crate::plan_inputs::{Plan, RECOMPUTED, replaced};
use crate::variant::PartsIntoScans;

type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// Returns two rules of Esker's own and all of DataFusion's, in its order, some of them restricted.
///
/// Rules that push down do not mistake columns, no rule mistakes constants, and the order that is asked for is kept.
pub(crate) fn rules() -> Vec<Rule> {
    let apart = |rule: Rule| -> Rule {
        match rule.name() {
            name if name.starts_with("FilterPushdown") => Arc::new(WalledRule { inner: rule, wall: namesakes, after: Ok }),
            "ProjectionPushdown" => Arc::new(WalledRule { inner: rule, wall: one_sided, after: embedded }),
            "OutputRequirements" => Arc::new(BelowSubqueries(rule)),
            _ => rule,
        }
    };
    let first: [Rule; 2] = [Arc::new(PartsIntoScans), Arc::new(Padding)];
    first.into_iter().chain(PhysicalOptimizer::new().rules.into_iter().map(apart)).collect()
}

/// A rule that runs while walls stop it at some places.
#[derive(Debug)]
struct WalledRule {
    inner: Rule,
    /// Puts walls below a node.
    wall: fn(Plan) -> Result<Transformed<Plan>>,
    /// Changes the plan once the walls are removed.
    after: fn(Plan) -> Result<Plan>,
}

impl PhysicalOptimizerRule for WalledRule {
    fn optimize(&self, plan: Plan, config: &ConfigOptions) -> Result<Plan> {
        let walled = plan.transform_down(self.wall).data()?;
        let pushed = self.inner.optimize(walled, config)?;
        let open = |plan: Plan| match plan.downcast_ref::<Wall>() {
            Some(wall) => Ok(Transformed::yes(Arc::clone(&wall.input))),
            None => Ok(Transformed::no(plan)),
        };
        (self.after)(pushed.transform_up(open).data()?)
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn schema_check(&self) -> bool {
        self.inner.schema_check()
    }
}

/// Checks whether two columns have the same name.
fn has_namesakes(schema: &Schema) -> bool {
    let mut seen = HashSet::with_capacity(schema.fields().len());
    !schema.fields().iter().all(|field| seen.insert(field.name()))
}

/// Puts walls before those inputs of a node in which two columns have one name.
///
/// A projection with distinct names refers to columns by their place, and so does a hash join below it: no wall is needed there.
fn namesakes(plan: Plan) -> Result<Transformed<Plan>> {
    let by_place = plan.downcast_ref::<ProjectionExec>().is_some() && !has_namesakes(&plan.schema());
    walled(plan, |input| has_namesakes(&input.schema()) && !(by_place && input.downcast_ref::<HashJoinExec>().is_some()))
}

/// Puts walls before inputs that are joins whose output is not their left columns and then their right ones.
fn one_sided(plan: Plan) -> Result<Transformed<Plan>> {
    walled(plan, is_one_sided)
}

/// Puts walls before some inputs of a node.
fn walled(plan: Plan, stops: impl Fn(&Plan) -> bool) -> Result<Transformed<Plan>> {
    if plan.downcast_ref::<Wall>().is_some() {
        return Ok(Transformed::no(plan));
    }
    replaced(plan, |_, input| stops(input).then(|| Arc::new(Wall { input: Arc::clone(input) }) as _))
}

/// Checks for a join whose output is not its left columns and then its right ones.
fn is_one_sided(plan: &Plan) -> bool {
    let hash = plan.downcast_ref::<HashJoinExec>().map(HashJoinExec::join_type);
    let ty = hash.or_else(|| plan.downcast_ref::<NestedLoopJoinExec>().map(NestedLoopJoinExec::join_type));
    matches!(ty, Some(JoinType::LeftMark | JoinType::RightMark | JoinType::RightSemi | JoinType::RightAnti))
}

/// Embeds projections into one-sided joins right below them, so that these make no column that is left out at once.
fn embedded(plan: Plan) -> Result<Plan> {
    let embed = |plan: Plan| {
        let projection = plan.downcast_ref::<ProjectionExec>().filter(|projection| is_one_sided(projection.input()));
        let Some(projection) = projection else { return Ok(Transformed::no(plan)) };
        let hash = projection.input().downcast_ref::<HashJoinExec>().filter(|join| !join.contains_projection());
        let nested = projection.input().downcast_ref::<NestedLoopJoinExec>().filter(|join| !join.contains_projection());
        let made = match (hash, nested) {
            (Some(join), _) => try_embed_projection(projection, join)?,
            (_, Some(join)) => try_embed_projection(projection, join)?,
            _ => None,
        };
        Ok(made.map_or_else(|| Transformed::no(plan), Transformed::yes))
    };
    plan.transform_down(embed).data()
}

/// A node that lets nothing through while a rule pushes something down.
#[derive(Debug)]
struct Wall {
    input: Plan,
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

    fn children(&self) -> Vec<&Plan> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(self: Arc<Self>, mut children: Vec<Plan>, _options: ReplaceChildrenOptions) -> Result<Plan> {
        let input = children.pop().ok_or_else(|| DataFusionError::Internal("a wall has one input".to_owned()))?;
        Ok(Arc::new(Self { input }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Plan>) -> Result<Plan> {
        self.replace_children(children, RECOMPUTED)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
