//! Comparison keys: everything that compares, joins, groups or sorts by floats or intervals does so by keys.
//!
//! As keys, both zeros are equal, and all NaNs are equal and the greatest. Intervals of one length are equal. Returned and
//! written values stay as they are.
//! A comparison of floats with a literal needs no key. It is written as ranges in Arrow's order, so that it still prunes: there,
//! NaNs without a sign are greater than infinity, and NaNs with a sign less than negative infinity. Start with [`rewrite_plan`].

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, DFSchema, JoinConstraint};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::{Between, Case, Cast, InList, InSubquery, ScalarFunction, SetComparison, Sort};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{
    Aggregate, AggregateUDF, BinaryExpr, Distinct, DistinctOn, Expr, ExprSchemable, GroupingSet, LogicalPlan, LogicalPlanBuilder,
    Operator, Subquery, binary_expr, lit, when,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;
use esker_read::needs_normalization;

use super::checked_arithmetic;
use super::constant::constant;
use super::convert::converted;
use super::literal_position::{always, compares, never};
use super::normal_form::{is_key, key, ordered};
use super::plans::{rewrite_expressions, visible_columns};
use crate::minmax;

/// Functions that search lists for values, and return none of the values.
const FINDING: [&str; 5] = ["array_has", "array_has_any", "array_has_all", "array_position", "array_positions"];

/// Suffix of the name of a subquery's column that holds keys of the column's values.
pub(super) const COMPARED: &str = "\u{1f}compared";

/// Functions that sort values, or return the first or last of them.
const ORDERING: [&str; 5] = ["greatest", "least", "array_max", "array_min", "array_sort"];
/// Aggregates that sort the values of rows.
const ORDERING_ROWS: [&str; 2] = ["median", "percentile_cont"];

/// The analyzer rule for comparison keys. It runs after type coercion.
#[derive(Debug)]
pub(super) struct ComparisonKeys;

impl AnalyzerRule for ComparisonKeys {
    fn name(&self) -> &'static str {
        "comparison_keys"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(rewrite_plan).data()
    }
}

/// Returns true if an expression has to be compared by a key.
fn needs_key(expr: &Expr, schema: &DFSchema) -> bool {
    !is_key(expr) && expr.get_type(schema).is_ok_and(|ty| needs_normalization(&ty))
}

/// Fails if a node sorts or groups by maps. Maps can be equal, but have no order and make no groups.
fn refuse_maps(plan: &LogicalPlan, schema: &DFSchema) -> Result<()> {
    let refused =
        |what: String| Err(DataFusionError::Plan(format!("{what} is or contains a map; maps can't be grouped or sorted")));
    let keys: Vec<&Expr> = match plan {
        LogicalPlan::Sort(sort) => sort.expr.iter().map(|key| &key.expr).collect(),
        LogicalPlan::Aggregate(aggregate) => grouping_set_to_exprlist(&aggregate.group_expr)?,
        LogicalPlan::Distinct(Distinct::On(on)) => on.on_expr.iter().collect(),
        LogicalPlan::Distinct(Distinct::All(input)) => match input.schema().fields().iter().find(|f| holds_map(f.data_type())) {
            Some(field) => return refused(field.name().clone()),
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    match keys.into_iter().find(|key| key.get_type(schema).is_ok_and(|ty| holds_map(&ty))) {
        Some(key) => refused(key.schema_name().to_string()),
        None => Ok(()),
    }
}

/// Returns true if a type is a map, or contains one.
fn holds_map(ty: &DataType) -> bool {
    match ty {
        DataType::Map(..) => true,
        DataType::List(item) => holds_map(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_map(field.data_type())),
        _ => false,
    }
}

/// Rewrites the expressions of a node, and the keys by which it sorts, joins or groups.
fn rewrite_plan(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = visible_columns(&plan)?;
    refuse_maps(&plan, &schema)?;
    let plan = match rewrite_expressions(plan, |expr| rewrite(expr, &schema))?.data {
        LogicalPlan::Sort(mut sort) if sort.expr.iter().any(|s| needs_key(&s.expr, &schema)) => {
            sort.expr = sorted(sort.expr, &schema);
            LogicalPlan::Sort(sort)
        }
        LogicalPlan::Join(mut join) => {
            let (left, right) = (join.left.schema().clone(), join.right.schema().clone());
            for (l, r) in &mut join.on {
                if needs_key(l, &left) || needs_key(r, &right) {
                    (*l, *r) = (key(std::mem::take(l)), key(std::mem::take(r)));
                    // `USING` has columns for keys. It has been resolved by now.
                    join.join_constraint = JoinConstraint::On;
                }
            }
            LogicalPlan::Join(join)
        }
        LogicalPlan::Distinct(Distinct::All(input))
            if input.schema().fields().iter().any(|f| needs_normalization(f.data_type())) =>
        {
            let columns = input.schema().columns().into_iter().map(Expr::Column).collect();
            grouped(Aggregate::try_new(input, columns, Vec::new())?)?
        }
        LogicalPlan::Distinct(Distinct::On(mut on)) if on.on_expr.iter().any(|e| needs_key(e, &schema)) => {
            on.on_expr = on.on_expr.into_iter().map(|e| keyed(e, &schema)).collect();
            on.sort_expr = on.sort_expr.map(|sort| sorted(sort, &schema));
            LogicalPlan::Distinct(Distinct::On(DistinctOn { ..on }))
        }
        LogicalPlan::Aggregate(aggregate) => grouped(aggregate)?,
        plan => plan,
    };
    // The types of the inputs may have changed as well.
    Ok(Transformed::yes(plan.recompute_schema()?))
}

/// Returns the key of an expression that needs one, or else the expression.
fn keyed(expr: Expr, schema: &DFSchema) -> Expr {
    if needs_key(&expr, schema) { key(expr) } else { expr }
}

/// Replaces the expressions of a sort order by their keys.
fn sorted(sort: Vec<Sort>, schema: &DFSchema) -> Vec<Sort> {
    sort.into_iter().map(|s| Sort { expr: keyed(s.expr, schema), ..s }).collect()
}

/// Groups by keys, and shows one of the values of each group.
///
/// The key itself may be no value of the group: the key of -0.0 is 0.0.
fn grouped(aggregate: Aggregate) -> Result<LogicalPlan> {
    let schema = aggregate.input.schema().clone();
    let distinct: Vec<Expr> = grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().cloned().collect();
    let floats: Vec<Expr> = distinct.iter().filter(|e| needs_key(e, &schema)).cloned().collect();
    if floats.is_empty() {
        return Ok(LogicalPlan::Aggregate(aggregate));
    }
    let Aggregate { input, group_expr, mut aggr_expr, schema: wanted, .. } = aggregate;
    let sets = matches!(group_expr.as_slice(), [Expr::GroupingSet(_)]);
    let groups = distinct.len();
    let internal = usize::from(sets);
    let keys = group_expr.into_iter().map(|expr| match expr {
        Expr::GroupingSet(set) => {
            let one = |exprs: Vec<Expr>| exprs.into_iter().map(|e| keyed(e, &schema)).collect::<Vec<_>>();
            Expr::GroupingSet(match set {
                GroupingSet::Rollup(exprs) => GroupingSet::Rollup(one(exprs)),
                GroupingSet::Cube(exprs) => GroupingSet::Cube(one(exprs)),
                GroupingSet::GroupingSets(sets) => GroupingSet::GroupingSets(sets.into_iter().map(one).collect()),
            })
        }
        expr => keyed(expr, &schema),
    });
    let keys: Vec<Expr> = keys.collect();
    let asked = aggr_expr.len();
    let [least, _] = minmax::functions();
    let mut shown_at = Vec::with_capacity(floats.len());
    for (i, float) in floats.iter().enumerate() {
        let plain = float.get_type(schema.as_ref())?.is_floating();
        let function: Arc<AggregateUDF> = if plain { least.clone() } else { first_value_udaf() };
        let shown = function.call(vec![float.clone().unalias()]);
        // An aggregate that exists is not added again: the optimizer would merge the two, and lose the grouping sets.
        let there = aggr_expr.iter().position(|expr| expr.clone().unalias() == shown);
        shown_at.push(there.unwrap_or(aggr_expr.len()));
        if there.is_none() {
            aggr_expr.push(shown.alias(format!("shown {i}")));
        }
    }
    let made = Aggregate::try_new(input, keys, aggr_expr)?;
    let columns = made.schema.columns();
    let mut shown = shown_at.into_iter().map(|at| columns[groups + internal + at].clone());
    let mut output = Vec::with_capacity(groups + internal + asked);
    for (i, column) in columns[..groups + internal + asked].iter().enumerate() {
        let own = Expr::Column(column.clone());
        let (relation, field) = wanted.qualified_field(i);
        let value = match distinct.get(i) {
            Some(expr) if needs_key(expr, &schema) => {
                let value = shown.next().map_or_else(|| own.clone(), Expr::Column);
                // In a grouping set without this column, its value is null.
                if sets { when(own.is_not_null(), value).end()? } else { value }
            }
            _ => own,
        };
        output.push(value.alias_qualified(relation.cloned(), field.name()));
    }
    LogicalPlanBuilder::from(LogicalPlan::Aggregate(made)).project(output)?.build()
}

/// Rewrites one expression, whose operands are rewritten already.
fn rewrite(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let made = match expr {
        expr @ (Expr::BinaryExpr(BinaryExpr { op: Operator::Plus | Operator::Minus | Operator::Multiply, .. })
        | Expr::Negative(_)) => {
            return checked_arithmetic::rewrite(expr, schema);
        }
        Expr::Cast(Cast { expr, field }) => {
            let from = expr.get_type(schema)?;
            return Ok(match converted(&expr, &from, field.data_type(), false) {
                Some(made) => Transformed::yes(made),
                None => Transformed::no(Expr::Cast(Cast { expr, field })),
            });
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) && needs_key(&left, schema) => {
            compared(*left, op, *right)
        }
        Expr::Between(Between { expr, negated, low, high }) if needs_key(&expr, schema) => {
            let expr = if expr.is_volatile() { key(*expr) } else { *expr };
            let both = compared(expr.clone(), Operator::GtEq, *low).and(compared(expr, Operator::LtEq, *high));
            if negated { Expr::Not(Box::new(both)) } else { both }
        }
        Expr::InList(list) if needs_key(&list.expr, schema) => listed(list),
        Expr::InSubquery(InSubquery { expr, subquery, negated }) if needs_key(&expr, schema) => {
            Expr::InSubquery(InSubquery { expr: Box::new(key(*expr)), subquery: projected(subquery)?, negated })
        }
        Expr::SetComparison(set) if needs_key(&set.expr, schema) => Expr::SetComparison(SetComparison {
            expr: Box::new(key(*set.expr)),
            subquery: projected(set.subquery)?,
            op: set.op,
            quantifier: set.quantifier,
        }),
        Expr::Case(Case { expr: Some(operand), when_then_expr, else_expr }) if needs_key(&operand, schema) => {
            let whens = when_then_expr.into_iter().map(|(when, then)| (Box::new(key(*when)), then)).collect();
            Expr::Case(Case { expr: Some(Box::new(key(*operand))), when_then_expr: whens, else_expr })
        }
        Expr::AggregateFunction(mut function) => {
            let params = &mut function.params;
            let by_floats = params.order_by.iter().any(|s| needs_key(&s.expr, schema));
            let distinct = params.distinct || function.func.name() == "approx_distinct";
            let of_floats = distinct && params.args.iter().any(|e| needs_key(e, schema));
            if of_floats {
                params.args = std::mem::take(&mut params.args).into_iter().map(|e| keyed(e, schema)).collect();
            }
            if ORDERING_ROWS.contains(&function.func.name()) {
                params.args = std::mem::take(&mut params.args)
                    .into_iter()
                    .map(|e| if needs_key(&e, schema) { ordered(e) } else { e })
                    .collect();
                return Ok(Transformed::yes(Expr::AggregateFunction(function)));
            }
            if by_floats {
                params.order_by = sorted(std::mem::take(&mut params.order_by), schema);
            }
            let expr = Expr::AggregateFunction(function);
            return Ok(if by_floats || of_floats { Transformed::yes(expr) } else { Transformed::no(expr) });
        }
        Expr::WindowFunction(mut window) => {
            let params = &mut window.params;
            let sorts = params.order_by.iter().any(|s| needs_key(&s.expr, schema));
            let parts = params.partition_by.iter().any(|e| needs_key(e, schema));
            let of_floats = params.distinct && params.args.iter().any(|e| needs_key(e, schema));
            params.order_by = sorted(std::mem::take(&mut params.order_by), schema);
            params.partition_by = std::mem::take(&mut params.partition_by).into_iter().map(|e| keyed(e, schema)).collect();
            if of_floats {
                params.args = std::mem::take(&mut params.args).into_iter().map(|e| keyed(e, schema)).collect();
            }
            let expr = Expr::WindowFunction(window);
            return Ok(if sorts || parts || of_floats { Transformed::yes(expr) } else { Transformed::no(expr) });
        }
        Expr::ScalarFunction(ScalarFunction { func, mut args }) if func.name() == "array_to_string" && !args.is_empty() => {
            let (from, texts) = (args[0].get_type(schema)?, DataType::new_list(DataType::Utf8, true));
            let Some(list) = converted(&args[0], &from, &texts, false) else {
                return Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })));
            };
            args[0] = list;
            Expr::ScalarFunction(ScalarFunction { func, args })
        }
        Expr::ScalarFunction(function) if function.func.name() == "abs" => {
            return checked_arithmetic::rewrite(Expr::ScalarFunction(function), schema);
        }
        Expr::ScalarFunction(ScalarFunction { func, args })
            if FINDING.contains(&func.name()) && args.iter().any(|e| needs_key(e, schema)) =>
        {
            Expr::ScalarFunction(ScalarFunction { func, args: args.into_iter().map(|e| keyed(e, schema)).collect() })
        }
        Expr::ScalarFunction(ScalarFunction { func, args })
            if ORDERING.contains(&func.name()) && args.iter().any(|e| needs_key(e, schema)) =>
        {
            let args = args.into_iter().map(|e| if needs_key(&e, schema) { ordered(e) } else { e }).collect();
            Expr::ScalarFunction(ScalarFunction { func, args })
        }
        Expr::ScalarFunction(ScalarFunction { func, mut args })
            if func.name() == "nullif" && args.len() == 2 && args.iter().any(|e| needs_key(e, schema)) =>
        {
            let (other, value) = (args.pop().unwrap_or_default(), args.pop().unwrap_or_default());
            let equal = binary_expr(key(value.clone()), Operator::Eq, key(other));
            when(equal, lit(ScalarValue::try_from(&value.get_type(schema)?)?)).otherwise(value)?
        }
        expr => return Ok(Transformed::no(expr)),
    };
    Ok(Transformed::yes(made))
}

/// Replaces the one column of a subquery by its key.
fn projected(subquery: Subquery) -> Result<Subquery> {
    let plan = Arc::unwrap_or_clone(subquery.subquery);
    let (relation, field) = plan.schema().qualified_field(0);
    let (relation, name) = (relation.cloned(), field.name().clone());
    let column = key(Expr::Column(Column::new(relation, &name))).alias(format!("{name}{COMPARED}"));
    let plan = LogicalPlanBuilder::from(plan).project(vec![column])?.build()?;
    Ok(Subquery { subquery: Arc::new(plan), outer_ref_columns: subquery.outer_ref_columns, spans: subquery.spans })
}

/// A float literal. It writes zeros and infinities as literals of its own type.
struct FloatLiteral {
    value: f64,
    /// True for `REAL`, false for `DOUBLE`.
    single: bool,
}

impl FloatLiteral {
    /// Returns the literal that an expression is, or `None`.
    fn of(expr: &Expr) -> Option<Self> {
        match constant(expr).ok()?? {
            ScalarValue::Float64(Some(value)) => Some(Self { value, single: false }),
            ScalarValue::Float32(Some(value)) => Some(Self { value: f64::from(value), single: true }),
            _ => None,
        }
    }

    /// Writes another value in the literal's type.
    fn write(&self, value: f64) -> Expr {
        // The cast is exact: the value came from that type, or is zero or infinite.
        if self.single { lit(value as f32) } else { lit(value) }
    }

    /// Returns the condition that an expression is NaN.
    fn is_nan(&self, expr: Expr) -> Expr {
        let beyond = binary_expr(expr.clone(), Operator::Gt, self.write(f64::INFINITY));
        beyond.or(binary_expr(expr, Operator::Lt, self.write(f64::NEG_INFINITY)))
    }

    /// Returns the condition that an expression is a number, finite or not.
    fn is_number(&self, expr: Expr) -> Expr {
        let least = binary_expr(expr.clone(), Operator::GtEq, self.write(f64::NEG_INFINITY));
        least.and(binary_expr(expr, Operator::LtEq, self.write(f64::INFINITY)))
    }
}

/// Compares floats or intervals: a float with a literal by ranges, all others by keys.
fn compared(left: Expr, op: Operator, right: Expr) -> Expr {
    if let Some(literal) = FloatLiteral::of(&right)
        && !left.is_volatile()
        && let Some(made) = with_literal(&left, op, &literal)
    {
        return made;
    }
    if let (Some(literal), Some(turned)) = (FloatLiteral::of(&left), op.swap())
        && !right.is_volatile()
        && let Some(made) = with_literal(&right, turned, &literal)
    {
        return made;
    }
    binary_expr(key(left), op, key(right))
}

/// Writes `expr op literal` as ranges in Arrow's order. Returns `None` if the operator cannot be written so.
fn with_literal(expr: &Expr, op: Operator, literal: &FloatLiteral) -> Option<Expr> {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    let compare = |op, value: f64| binary_expr(expr.clone(), op, literal.write(value));
    let value = literal.value;
    if value.is_nan() {
        return Some(match op {
            Eq | GtEq => literal.is_nan(expr.clone()),
            NotEq | Lt => literal.is_number(expr.clone()),
            LtEq => always(expr.clone()),
            Gt => never(expr.clone()),
            _ => return None,
        });
    }
    // The zeros of both signs are a range.
    let (low, high) = if value == 0.0 { (-0.0, 0.0) } else { (value, value) };
    Some(match op {
        Eq if value == 0.0 => compare(GtEq, low).and(compare(LtEq, high)),
        NotEq if value == 0.0 => compare(Lt, low).or(compare(Gt, high)),
        Eq | NotEq => compare(op, value),
        Lt => compare(Lt, low).and(compare(GtEq, f64::NEG_INFINITY)),
        LtEq => compare(LtEq, high).and(compare(GtEq, f64::NEG_INFINITY)),
        Gt => compare(Gt, high).or(compare(Lt, f64::NEG_INFINITY)),
        GtEq => compare(GtEq, low).or(compare(Lt, f64::NEG_INFINITY)),
        _ => return None,
    })
}

/// Rewrites `expr IN (…)`. A list of literals stays one; in it, both zeros stand for a zero.
fn listed(InList { expr, list, negated }: InList) -> Expr {
    let literals: Option<Vec<FloatLiteral>> = list.iter().map(FloatLiteral::of).collect();
    let any = match literals {
        Some(literals) if !expr.is_volatile() => {
            let nan = literals.iter().find(|l| l.value.is_nan()).map(|l| l.is_nan(expr.as_ref().clone()));
            let numbers = literals.iter().filter(|l| !l.value.is_nan());
            let values = numbers.flat_map(|l| match l.value == 0.0 {
                true => vec![l.write(0.0), l.write(-0.0)],
                false => vec![l.write(l.value)],
            });
            let values: Vec<Expr> = values.collect();
            let listed = (!values.is_empty()).then(|| expr.as_ref().clone().in_list(values, false));
            datafusion::logical_expr::utils::disjunction(listed.into_iter().chain(nan))
        }
        _ => None,
    };
    match any {
        Some(any) if negated => Expr::Not(Box::new(any)),
        Some(any) => any,
        None => key(*expr).in_list(list.into_iter().map(key).collect(), negated),
    }
}
