//! What a statement means: its types, literals, comparisons and functions of time, as `docs/sql.md` says it. DataFusion's planner takes
//! rules of its own for each; where its defaults differ from that page, the rules here stand before them.

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

mod arguments;
mod asked;
mod checked;
mod compare;
mod constant;
mod convert;
mod extreme;
mod fit;
mod function;
mod grouping;
mod instant;
mod keys;
mod lists;
mod normal;
mod now;
mod numbers;
mod ordered;
mod patterns;
mod plans;
mod quantified;
mod quotient;
mod rewrites;
mod rounding;
mod seconds;
mod sets;
mod shapes;
mod signed;
mod sized;
mod subqueries;
mod sums;
mod text_literal;
mod trunc;
mod types;
mod uuid;
mod variants;
mod zone;

pub(crate) use convert::{cast_values, is_own, nearest};
pub(crate) use extreme::{Comparable, Extreme, Nested, Ranked, Windowed};
pub(crate) use function::of_untyped_null;
pub(crate) use numbers::numbers;
pub(crate) use plans::rewritten;
pub(crate) use quantified::name as quantified;
pub(crate) use quotient::FRACTION;
pub(crate) use signed::signed;
pub(crate) use types::{Types, mark_fixed, stored, type_name, without_marks};
pub(crate) use variants::{checked_part, extracted_part, extracted_type};

/// Other names of functions: what the standard or PostgreSQL call `ceil`; and what PostgreSQL and Spark call functions that mean all items
/// of a list, which DataFusion has under the same names for the first item.
const ALIASES: [(&str, &[&str]); 3] = [
    ("ceil", &["ceiling"]),
    ("array_remove_all", &["array_remove", "list_remove"]),
    ("array_replace_all", &["array_replace", "list_replace"]),
];

/// What every session's configuration says.
pub(crate) fn options(config: &mut SessionConfig) {
    config.options_mut().sql_parser.parse_float_as_decimal = true;
}

/// A session with the rules; functions of the same name replace DataFusion's.
pub(crate) fn build(builder: SessionStateBuilder) -> Result<SessionState> {
    let rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![
        Arc::new(variants::Variants),
        Arc::new(grouping::Sets),
        Arc::new(compare::Comparisons),
        Arc::new(ResolveGroupingFunction::new()),
        Arc::new(TypeCoercion::new()),
        Arc::new(keys::Keys),
        Arc::new(lists::Lists),
        Arc::new(subqueries::Subqueries),
        Arc::new(variants::Parts),
    ];
    let planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(compare::Operators)];
    let mut session = builder
        .with_expr_planners(planners)
        .with_default_features()
        .with_type_planner(Arc::new(Types))
        .with_analyzer_rules(rules)
        .with_optimizer_rules(crate::logical_rules::rules())
        .with_physical_optimizer_rules(crate::physical_rules::rules())
        .with_physical_optimizer_rule(Arc::new(crate::joins::NullKeys))
        .build();
    let own = arguments::functions(|name| session.scalar_functions().get(name).cloned());
    let own = own.into_iter().chain(now::functions()).chain(quantified::functions()).chain([quotient::fraction()]);
    let own = own.chain(crate::variant::functions()).chain(crate::geo::functions());
    for function in own.collect::<Vec<_>>() {
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

/// What is asked, and its release.
fn version() -> ScalarUDF {
    let told = ScalarValue::from(format!("Esker {}", env!("CARGO_PKG_VERSION")));
    create_udf("version", Vec::new(), DataType::Utf8, Volatility::Immutable, Arc::new(move |_| Ok(told.clone().into())))
}

/// A plan to which the rules have been applied, once: a comparison that is written in ranges of floats is not one of ranges to be
/// written anew. `EXPLAIN` applies them itself, so that it can show each.
pub(crate) fn analyzed(session: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Explain(_) => Ok(plan),
        plan => session.analyzer().execute_and_check(plan, session.config_options(), |_, _| {}),
    }
}

/// An analysed plan, optimised.
pub(crate) fn optimised(session: &SessionState, plan: &LogicalPlan) -> Result<LogicalPlan> {
    session.optimizer().optimize(plan.clone(), session, |_, _| {})
}

/// An analysed plan, as it is run.
pub(crate) async fn physical(session: &SessionState, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    match planned(session, plan).await {
        // By the bounds of a filtered column the planner takes rows for ordered in one place and not in another, or more than all of them
        // for what a filter keeps, and finds its own plan wrong; so it does where it loses a field of a struct that it took out near the
        // scan. Without bounds and without taking fields out it does neither.
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
            planned(&plain, plan).await.map_err(|_| if correlated(plan) { beyond(error) } else { error })
        }
        planned => planned,
    }
}

/// Whether a plan has subqueries that name columns of what is around them.
fn correlated(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let looked = plan.apply_with_subqueries(|node| {
        found |= node.expressions().iter().any(|expr| expr.contains_outer());
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    looked.is_ok() && found
}

/// What a column means that was there when a statement was planned and is not when its subqueries become joins.
fn beyond(error: DataFusionError) -> DataFusionError {
    match error.find_root() {
        DataFusionError::SchemaError(..) => DataFusionError::NotImplemented("OuterReferenceColumn".to_owned()),
        _ => error,
    }
}

async fn planned(session: &SessionState, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    match plan {
        LogicalPlan::Explain(_) => session.create_physical_plan(plan).await,
        plan => session.query_planner().create_physical_plan(&optimised(session, plan)?, session).await,
    }
}
