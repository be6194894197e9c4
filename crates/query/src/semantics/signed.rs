//! Whole numbers are signed, as SQL's are: DataFusion's ranks, row numbers, lengths and positions are not, and so would divide as decimals
//! do, have no negation and make columns of decimals.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::error::Result;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::optimizer::AnalyzerRule;

use super::plans::{rewritten, visible};

/// The rule, for whole plans, before their types are brought together.
#[derive(Debug)]
pub(super) struct Signed;

impl AnalyzerRule for Signed {
    fn name(&self) -> &'static str {
        "signed"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(signed).data()
    }
}

fn signed(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = visible(&plan)?;
    let of_function = |expr: Expr| match &expr {
        Expr::ScalarFunction(_) if expr.get_type(&schema).is_ok_and(|ty| is_unsigned(&ty)) => {
            Ok(Transformed::yes(cast(expr, DataType::Int64)))
        }
        _ => Ok(Transformed::no(expr)),
    };
    let plan = rewritten(plan, of_function)?.data.recompute_schema()?;
    let makes = match &plan {
        LogicalPlan::Window(_) => true,
        // Of sets of keys, a number says which set a row is of, and another rule looks for it here.
        LogicalPlan::Aggregate(aggregate) => aggregate.schema.fields().find(Aggregate::INTERNAL_GROUPING_ID).is_none(),
        _ => false,
    };
    if !makes || !plan.schema().fields().iter().any(|field| is_unsigned(field.data_type())) {
        return Ok(Transformed::yes(plan));
    }
    let columns = plan.schema().columns().into_iter().zip(plan.schema().fields().iter().map(|field| field.data_type().clone()));
    let columns: Vec<Expr> = columns
        .map(|(column, ty)| match is_unsigned(&ty) {
            true => cast(Expr::Column(column.clone()), DataType::Int64).alias_qualified(column.relation, column.name),
            false => Expr::Column(column),
        })
        .collect();
    Ok(Transformed::yes(LogicalPlanBuilder::from(plan).project(columns)?.build()?))
}

fn is_unsigned(ty: &DataType) -> bool {
    matches!(ty, DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64)
}
