//! The replacement of the inputs of physical plans' nodes.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};

/// Options for the replacement of inputs by others with different properties.
pub(crate) const RECOMPUTED: ReplaceChildrenOptions = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);

/// A node of a physical plan.
pub(crate) type Plan = Arc<dyn ExecutionPlan>;

/// Replaces some inputs of a node. `other` gets the index of an input, and returns its replacement or `None`.
pub(crate) fn replaced(plan: Plan, other: impl Fn(usize, &Plan) -> Option<Plan>) -> Result<Transformed<Plan>> {
    let inputs = plan.children();
    let others: Vec<_> = inputs.iter().enumerate().map(|(at, input)| other(at, input)).collect();
    if others.iter().all(Option::is_none) {
        return Ok(Transformed::no(plan));
    }
    let made = others.into_iter().zip(inputs).map(|(other, input)| other.unwrap_or_else(|| Arc::clone(input)));
    let made = made.collect();
    Ok(Transformed::yes(plan.replace_children(made, RECOMPUTED)?))
}
