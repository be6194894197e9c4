//! Parts of variants in a projection right above a scan: the scan takes them instead.
//!
//! DataFusion makes such a projection if a condition names one part twice. It leaves the projection above the scan because part
//! of it may fail, and the scan would read whole variants. Taking a part for a scan fails for no value.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;

use crate::semantics::extracted_part;

/// A node of a physical plan.
type Plan = Arc<dyn ExecutionPlan>;

/// The rule for such projections. It runs before the rules that put a node between projection and scan.
#[derive(Debug)]
pub(crate) struct PartsIntoScans;

impl PhysicalOptimizerRule for PartsIntoScans {
    fn optimize(&self, plan: Plan, _config: &ConfigOptions) -> Result<Plan> {
        let lower = |plan: Plan| Ok(lowered(&plan)?.map_or_else(|| Transformed::no(plan), Transformed::yes));
        plan.transform_up(lower).data()
    }

    fn name(&self) -> &'static str {
        "variant_parts_in_scans"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Moves the parts that a projection names into the scan below it.
///
/// Returns `None` if the projection names no parts, or if the scan takes no projection.
fn lowered(plan: &Plan) -> Result<Option<Plan>> {
    let Some(projection) = plan.downcast_ref::<ProjectionExec>() else { return Ok(None) };
    let scan = projection.input();
    if scan.downcast_ref::<DataSourceExec>().is_none() {
        return Ok(None);
    }
    let columns = scan.schema();
    let mut below: Vec<ProjectionExpr> = Vec::new();
    let mut has_parts = false;
    let mut above = Vec::new();
    for ProjectionExpr { expr, alias } in projection.expr() {
        let expr = Arc::clone(expr).transform_down(|expr| {
            let is_part = extracted_part(expr.as_ref()).is_some_and(|(of, _)| of.downcast_ref::<Column>().is_some());
            let name = match expr.downcast_ref::<Column>() {
                Some(column) => column.name().to_owned(),
                None if is_part => format!("part {}", below.len()),
                None => return Ok(Transformed::no(expr)),
            };
            has_parts |= is_part;
            let at = below.iter().position(|known| known.expr.eq(&expr)).unwrap_or(below.len());
            if at == below.len() {
                // Filters find columns by name, so the name of a part must be new.
                let taken = |name: &str| columns.field_with_name(name).is_ok() || below.iter().any(|known| known.alias == name);
                let alias = if is_part { unique(name, taken) } else { name };
                below.push(ProjectionExpr { expr, alias });
            }
            Ok(Transformed::new(Arc::new(Column::new(&below[at].alias, at)), true, TreeNodeRecursion::Jump))
        })?;
        above.push(ProjectionExpr { expr: expr.data, alias: alias.clone() });
    }
    if !has_parts {
        return Ok(None);
    }
    let Some(scan) = scan.try_swapping_with_projection(&ProjectionExec::try_new(below, Arc::clone(scan))?)? else {
        return Ok(None);
    };
    Ok(Some(Arc::new(ProjectionExec::try_new(above, scan)?)))
}

/// Appends underscores to a name until it is not taken.
fn unique(mut name: String, taken: impl Fn(&str) -> bool) -> String {
    while taken(&name) {
        name.push('_');
    }
    name
}
