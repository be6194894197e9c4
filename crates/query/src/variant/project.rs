//! Parts of variants in a projection right above a scan. DataFusion makes such a projection where a condition names one part twice, and
//! leaves it there, as part of it may fail: the scan would read whole variants. Here the scan takes the parts, which fails for no value.

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

type Plan = Arc<dyn ExecutionPlan>;

/// The rule; it comes before those that put something between projections and scans.
#[derive(Debug)]
pub(crate) struct Projected;

impl PhysicalOptimizerRule for Projected {
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

/// A projection whose scan takes the parts that it names; none if it names none, or the scan takes nothing.
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
                // Filters find columns by name.
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

fn unique(mut name: String, taken: impl Fn(&str) -> bool) -> String {
    while taken(&name) {
        name.push('_');
    }
    name
}
