//! The meaning of SQL statements, as `docs/sql.md` defines it: types, literals, comparisons, arithmetic and functions of time.
//!
//! DataFusion's defaults differ from that page in places, and code in this module corrects them. Some of it rewrites the syntax
//! tree (`numbers`, `signed`). Some plans types and operators (`types::SqlTypes`, `compare::Operators`). The rest are analyzer
//! rules and functions that replace DataFusion's. Start with [`build`], which lists the rules in their order, then read `compare`
//! and `keys`.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::functions_aggregate::bool_and_or::bool_and_udaf;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{LogicalPlan, ScalarUDF, Volatility, create_udf};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use datafusion::scalar::ScalarValue;

mod at_time_zone;
mod checked_arithmetic;
mod common_type;
mod compare;
mod comparison_keys;
mod constant;
mod convert;
mod current_time;
mod function;
mod grouping;
mod hoisted_subqueries;
mod in_lists;
mod instant;
mod list_set_functions;
mod literal_position;
mod made_size;
mod min_max_accumulators;
mod normal_form;
mod numbers;
mod ordered;
mod patterns;
mod plans;
mod quantified;
mod quotient;
mod rewrites;
mod rounding;
mod seconds;
mod shapes;
mod signed;
mod sized;
mod subqueries;
mod sums;
mod text_literal;
mod trunc;
mod types;
mod uuid;
mod variant_types;
mod variants;

pub(crate) use compare::{DISTINCT, NOT_DISTINCT};
pub(crate) use convert::{cast_values, is_own, nearest};
pub(crate) use function::null_if_untyped;
pub(crate) use min_max_accumulators::{FloatExtreme, NestedExtreme, RankedFloat, RankedScalar, WindowExtreme};
pub(crate) use numbers::numbers;
pub(crate) use plans::rewrite_expressions;
pub(crate) use quantified::name as quantified;
pub(crate) use quotient::FRACTION;
pub(crate) use signed::signed;
use types::SqlTypes;
pub(crate) use types::{mark_fixed, stored, type_name, without_marks};
pub(crate) use variant_types::variant_type_named;
pub(crate) use variants::{extracted_part, extracted_type, extraction_of};

/// Additional names of functions.
///
/// The standard and PostgreSQL call `ceil` also `ceiling`. In PostgreSQL and Spark, `array_remove` and `array_replace` change all
/// equal items of a list; DataFusion's functions with these names change the first one.
const ALIASES: [(&str, &[&str]); 3] = [
    ("ceil", &["ceiling"]),
    ("array_remove_all", &["array_remove", "list_remove"]),
    ("array_replace_all", &["array_replace", "list_replace"]),
];

/// Sets the options of every session: a number with a point is a decimal.
pub(crate) fn options(config: &mut SessionConfig) {
    config.options_mut().sql_parser.parse_float_as_decimal = true;
}

/// Builds a session with the rules of this module.
///
/// A function that is registered here replaces DataFusion's function of the same name.
pub(crate) fn build(builder: SessionStateBuilder) -> Result<SessionState> {
    let rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![
        Arc::new(variants::RefuseVariantComparisons),
        Arc::new(grouping::GroupingSets),
        Arc::new(compare::Comparisons),
        Arc::new(ResolveGroupingFunction::new()),
        Arc::new(TypeCoercion::new()),
        Arc::new(comparison_keys::ComparisonKeys),
        Arc::new(in_lists::InLists),
        Arc::new(subqueries::Subqueries),
        Arc::new(variants::VariantParts),
        Arc::new(made_size::BoundedSizes),
    ];
    let planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(compare::Operators)];
    let mut session = builder
        .with_expr_planners(planners)
        .with_default_features()
        .with_type_planner(Arc::new(SqlTypes))
        .with_analyzer_rules(rules)
        .with_optimizer_rules(crate::logical_rules::rules())
        .with_physical_optimizer_rules(crate::physical_rules::rules())
        .with_physical_optimizer_rule(Arc::new(crate::joins::NullKeys))
        .build();
    let own = common_type::functions(|name| session.scalar_functions().get(name).cloned());
    let own = own.into_iter().chain(current_time::functions()).chain(quantified::functions()).chain([quotient::fraction()]);
    let own = own.chain(crate::variant::functions()).chain(crate::geo::functions());
    for function in own.collect::<Vec<_>>() {
        session.register_udf(Arc::new(function))?;
    }
    let bounded = made_size::functions(|name| session.scalar_functions().get(name).cloned());
    for function in bounded {
        session.register_udf(Arc::new(function))?;
    }
    session.register_udaf(Arc::new(sums::function()))?;
    for function in ordered::functions() {
        session.register_udaf(Arc::new(function))?;
    }
    session.register_udf(Arc::new(version()))?;
    for (name, aliases) in ALIASES {
        if let Ok(function) = session.udf(name) {
            session.register_udf(Arc::new(function.as_ref().clone().with_aliases(aliases.iter().copied())))?;
        }
    }
    let every = bool_and_udaf().as_ref().clone().with_aliases(["every"]);
    session.register_udaf(Arc::new(every))?;
    Ok(session)
}

/// Returns the SQL function `version()`, which names the product and its release.
fn version() -> ScalarUDF {
    let text = ScalarValue::from(format!("Esker {}", env!("CARGO_PKG_VERSION")));
    create_udf("version", Vec::new(), DataType::Utf8, Volatility::Immutable, Arc::new(move |_| Ok(text.clone().into())))
}

/// Applies the analyzer rules to a plan, once.
///
/// The rules must not be applied twice: a comparison of floats that was written as ranges would be rewritten again. `EXPLAIN` is
/// returned unchanged, because it applies the rules itself to show each step.
pub(crate) fn analyze(session: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Explain(_) => Ok(plan),
        plan => session.analyzer().execute_and_check(plan, session.config_options(), |_, _| {}),
    }
}

/// Optimizes an analyzed plan.
pub(crate) fn optimize(session: &SessionState, plan: &LogicalPlan) -> Result<LogicalPlan> {
    made_size::folding(|| session.optimizer().optimize(plan.clone(), session, |_, _| {}))
}

/// Makes the physical plan of an analyzed plan.
pub(crate) async fn physical_plan(session: &SessionState, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    match optimize_and_plan(session, plan).await {
        // The planner rejects its own plan in three cases. Two come from the bounds of a filtered column: it concludes an order
        // of rows in one place and not in another, or it expects a filter to keep more rows than there are. In the third it
        // loses a struct's field whose access it moved to the scan. None of this happens without statistics and without that
        // move.
        Err(error)
            if matches!(
                error.find_root(),
                DataFusionError::Plan(_) | DataFusionError::Internal(_) | DataFusionError::SchemaError(..)
            ) =>
        {
            let mut plain = session.clone();
            let options = plain.config_mut().options_mut();
            options.execution.collect_statistics = false;
            options.optimizer.enable_leaf_expression_pushdown = false;
            optimize_and_plan(&plain, plan)
                .await
                .map_err(|_| if correlated(plan) { unsupported_correlation(error) } else { error })
        }
        planned => planned,
    }
}

/// Returns true if a plan has subqueries that name columns of the query around them.
fn correlated(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let looked = plan.apply_with_subqueries(|node| {
        found |= node.expressions().iter().any(|expr| expr.contains_outer());
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    looked.is_ok() && found
}

/// Replaces the error about a missing column by one that `error_wording` explains to clients.
///
/// The column existed when the statement was planned, and was lost when its correlated subqueries became joins.
fn unsupported_correlation(error: DataFusionError) -> DataFusionError {
    match error.find_root() {
        DataFusionError::SchemaError(..) => DataFusionError::NotImplemented("OuterReferenceColumn".to_owned()),
        _ => error,
    }
}

/// Optimizes a plan and makes its physical plan. `EXPLAIN` does both itself.
async fn optimize_and_plan(session: &SessionState, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    match plan {
        LogicalPlan::Explain(_) => session.create_physical_plan(plan).await,
        plan => session.query_planner().create_physical_plan(&optimize(session, plan)?, session).await,
    }
}
