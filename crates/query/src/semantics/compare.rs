//! Comparisons of values of different types, and the other expressions that have to be rewritten before DataFusion's type
//! coercion.
//!
//! Coercion would cut timestamps to the coarser unit and round doubles to decimals, and it knows no UUIDs. [`Operators`] acts
//! while a statement is planned, the rule [`Comparisons`] on whole plans.
//! Start with [`rewrite`], which also calls the rewrites of the other files, then read [`comparison`].

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, TableReference, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions::core::get_field;
use datafusion::functions_nested::planner::{FieldAccessPlanner, NestedFunctionPlanner};
use datafusion::logical_expr::expr::{Between, Case, InList, InSubquery, Placeholder, ScalarFunction, SetComparison};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::utils::disjunction;
use datafusion::logical_expr::{
    BinaryExpr, Cast, Expr, ExprSchemable, GetFieldAccess, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, TryCast,
    binary_expr, cast, lit, try_cast, when,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;
use esker_read::is_variant;

use super::common_type::{BESIDE_UUIDS, coerce_items, decimal_text, double, lists, map_of, texts_and_uuids, wider};
use super::comparison_keys;
use super::constant::constant;
use super::function::call;
use super::instant::Instant;
use super::literal_position::{LiteralPosition, compared, compares, position_of};
use super::patterns::{rewrite_patterns, takes_patterns};
use super::plans::{rewrite_expressions, visible_columns};
use super::quotient::{FRACTION, divided, rewrite_fraction};
use super::rewrites::{
    duration, rewrite_cast, rewrite_date_arithmetic, rewrite_date_bin, rewrite_filter, rewrite_frame, rewrite_lag_lead,
    rewrite_like, rewrite_replace, rewrite_trunc,
};
use super::rounding::rewrite_rounding;
use super::seconds::rewrite_part;
use super::subqueries::or_null;
use super::text_literal::{self, bytes, text};
use super::types::{field, is_fixed, is_uuid};
use super::uuid;
use crate::variant::field_of_variant;

/// Functions that return one of their arguments, or a list of them.
const RETURNING_ARGUMENTS: [&str; 6] = ["coalesce", "nvl2", "nullif", "greatest", "least", "make_array"];

/// Functions whose arguments are not brought to a common type.
const KEEPING_ARGUMENT_TYPES: [&str; 4] = ["named_struct", "struct", "concat", "concat_ws"];

/// The name of the operator that `IS DISTINCT FROM` is planned by.
pub(crate) const DISTINCT: &str = "IS DISTINCT FROM";

/// The name of the operator that `IS NOT DISTINCT FROM` is planned by.
pub(crate) const NOT_DISTINCT: &str = "IS NOT DISTINCT FROM";

/// The analyzer rule for comparisons. It runs before type coercion.
#[derive(Debug)]
pub(super) struct Comparisons;

/// The planner of operators and of access to parts, which acts while a statement is planned.
///
/// It serves the cases in which DataFusion would find no common type, or would forget what is a UUID.
#[derive(Debug)]
pub(super) struct Operators;

impl ExprPlanner for Operators {
    fn plan_field_access(&self, expr: RawFieldAccessExpr, schema: &DFSchema) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let (mut expr, from) = (expr.clone(), expr.expr);
        if let (DataType::Map(entries, _), GetFieldAccess::ListIndex { key }) = (from.get_type(schema)?, &mut expr.field_access)
            && let DataType::Struct(pair) = entries.data_type()
            && key.get_type(schema)?.is_integer()
            && pair[0].data_type().is_integer()
        {
            // A key that the map's key type can't hold is in no map. It becomes null, for which nothing is found.
            **key = try_cast(key.as_ref().clone(), pair[0].data_type().clone());
        }
        if is_variant(&from.get_type(schema)?) {
            return Ok(PlannerResult::Planned(match expr.field_access {
                GetFieldAccess::NamedStructField { name: ScalarValue::Utf8(Some(name)) } => field_of_variant(from, &name),
                _ => return plan_err!("a variant's field is written v['a'], and an item of its array variant_get(v, '$[0]')"),
            }));
        }
        Ok(match FieldAccessPlanner.plan_field_access(expr, schema)? {
            PlannerResult::Planned(made) => PlannerResult::Planned(complete_part_access(&from, made, schema)?),
            original => original,
        })
    }

    fn plan_array_literal(&self, items: Vec<Expr>, schema: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        let mut items = items;
        beside_uuids(items.iter_mut(), schema)?;
        let types = items.iter().map(|item| item.get_type(schema)).collect::<Result<Vec<_>>>()?;
        Ok(PlannerResult::Original(coerce_items(items, &types)))
    }

    fn plan_make_map(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(match NestedFunctionPlanner.plan_make_map(args)? {
            PlannerResult::Planned(Expr::ScalarFunction(map)) => PlannerResult::Planned(map_of(map.args)),
            other => other,
        })
    }

    fn plan_compound_identifier(
        &self,
        column: &Field,
        qualifier: Option<&TableReference>,
        names: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        let schema = DFSchema::new_with_metadata(vec![(qualifier.cloned(), Arc::new(column.clone()))], HashMap::new())?;
        let mut expr = Expr::Column(Column::from((qualifier, column)));
        for name in names {
            if is_variant(&expr.get_type(&schema)?) {
                expr = field_of_variant(expr, name);
                continue;
            }
            let made = get_field().call(vec![expr.clone(), lit(name.clone())]);
            expr = complete_part_access(&expr, made, &schema)?;
        }
        Ok(PlannerResult::Planned(expr))
    }

    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = &expr;
        let op = match op {
            BinaryOperator::Eq => Operator::Eq,
            BinaryOperator::NotEq => Operator::NotEq,
            BinaryOperator::Lt => Operator::Lt,
            BinaryOperator::LtEq => Operator::LtEq,
            BinaryOperator::Gt => Operator::Gt,
            BinaryOperator::GtEq => Operator::GtEq,
            BinaryOperator::Custom(name) if name == DISTINCT => Operator::IsDistinctFrom,
            BinaryOperator::Custom(name) if name == NOT_DISTINCT => Operator::IsNotDistinctFrom,
            BinaryOperator::Plus | BinaryOperator::Minus => {
                return Ok(match rewrite_date_arithmetic(left, op == &BinaryOperator::Minus, right, schema)? {
                    Some(made) => PlannerResult::Planned(made),
                    None => PlannerResult::Original(expr),
                });
            }
            BinaryOperator::StringConcat | BinaryOperator::AtArrow | BinaryOperator::ArrowAt => {
                let types = [left.get_type(schema)?, right.get_type(schema)?];
                if *op == BinaryOperator::StringConcat && types.iter().all(DataType::is_null) {
                    let (left, right) = (as_text(left), as_text(right));
                    return Ok(PlannerResult::Original(RawBinaryExpr { left, right, ..expr }));
                }
                let [left, right] = lists([left.clone(), right.clone()], &types);
                return Ok(PlannerResult::Original(RawBinaryExpr { left, right, ..expr }));
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let needs = |a: &Field, b: &Field| {
            is_uuid(a) && !is_uuid(b)
                || matches!((a.data_type(), b.data_type()), (DataType::FixedSizeBinary(_) | DataType::Boolean, ty) if ty.is_string())
        };
        let fields = field(left, schema).and_then(|l| Ok((l, field(right, schema)?)));
        let made = match fields {
            Ok((l, r)) if needs(&l, &r) || needs(&r, &l) => comparison(left, op, right, (&l, &r))?,
            _ => None,
        };
        Ok(match made {
            Some(made) => PlannerResult::Planned(made),
            // The planner knows no operator of this name.
            None if matches!(expr.op, BinaryOperator::Custom(_)) => {
                PlannerResult::Planned(binary_expr(expr.left, op, expr.right))
            }
            None => PlannerResult::Original(expr),
        })
    }
}

/// Makes a null or a parameter without a type a text.
fn as_text(expr: &Expr) -> Expr {
    match expr {
        Expr::Placeholder(placeholder) => {
            let field = Some(Arc::new(Field::new("", DataType::Utf8View, true)));
            Expr::Placeholder(Placeholder { field, ..placeholder.clone() })
        }
        expr => cast(expr.clone(), DataType::Utf8View),
    }
}

impl AnalyzerRule for Comparisons {
    fn name(&self) -> &'static str {
        "comparisons"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(rewrite_plan).data()
    }
}

/// Rewrites the expressions of a node, the keys of a join, and the inputs of a union.
fn rewrite_plan(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = visible_columns(&plan)?;
    let plan = match rewrite_expressions(plan, |expr| rewrite(expr, &schema))?.data {
        LogicalPlan::Join(mut join) => {
            let (left, right) = (join.left.schema().clone(), join.right.schema().clone());
            for (l, r) in &mut join.on {
                let fields = (&field(l, &left)?, &field(r, &right)?);
                if let Some((new_l, new_r)) = as_keys(l, r, fields)? {
                    (*l, *r) = (new_l, new_r);
                    join.join_constraint = datafusion::common::JoinConstraint::On;
                }
            }
            LogicalPlan::Join(join)
        }
        LogicalPlan::Union(union) => unite(union)?,
        plan => plan,
    };
    // The types of the inputs may have changed as well.
    Ok(Transformed::yes(plan.recompute_schema()?))
}

/// Completes an expression that takes a part out of a struct, a list or a map.
///
/// A required field is null where its struct is null, which DataFusion forgets. A `fixed(16)` gets its mark.
fn complete_part_access(from: &Expr, made: Expr, schema: &DFSchema) -> Result<Expr> {
    let (known, own, outer) = (field(&made, schema)?, made.to_field(schema)?.1, from.to_field(schema)?.1);
    let name = match &made {
        Expr::ScalarFunction(call) => call.args.last().and_then(|arg| arg.as_literal()?.try_as_str().flatten()),
        _ => None,
    };
    let required = match (outer.data_type(), name) {
        (DataType::Struct(fields), Some(name)) => fields.find(name).is_some_and(|(_, f)| !f.is_nullable()),
        _ => false,
    };
    let made = match required && outer.is_nullable() {
        true => when(from.clone().is_null(), lit(ScalarValue::try_from(own.data_type())?)).otherwise(made)?,
        false => made,
    };
    Ok(if is_fixed(&known) && is_uuid(&own) { call(uuid::Fixed, made) } else { made })
}

/// Casts the inputs of a union, if DataFusion would bring a column to a type that does not hold all values.
fn unite(mut union: datafusion::logical_expr::Union) -> Result<LogicalPlan> {
    for column in 0..union.schema.fields().len() {
        texts_as_uuids(&mut union, column)?;
        let types: Vec<DataType> = union.inputs.iter().map(|input| input.schema().field(column).data_type().clone()).collect();
        let Some(wide) = wider(&types) else { continue };
        for input in &mut union.inputs {
            if input.schema().field(column).data_type() == &wide {
                continue;
            }
            let columns = input.schema().columns().into_iter().enumerate().map(|(i, c)| match i == column {
                true => cast(Expr::Column(c.clone()), wide.clone()).alias_qualified(c.relation.clone(), c.name),
                false => Expr::Column(c),
            });
            let columns: Vec<Expr> = columns.collect();
            *input = Arc::new(LogicalPlanBuilder::from(input.as_ref().clone()).project(columns)?.build()?);
        }
    }
    Ok(LogicalPlan::Union(union))
}

/// Reads the texts in a column of a union as UUIDs, if other inputs have UUIDs there.
fn texts_as_uuids(union: &mut datafusion::logical_expr::Union, column: usize) -> Result<()> {
    let is_text = |input: &Arc<LogicalPlan>| input.schema().field(column).data_type().is_string();
    let fits = |input: &Arc<LogicalPlan>| {
        let field = input.schema().field(column);
        is_uuid(field) || field.data_type().is_string() || field.data_type().is_null()
    };
    let any = union.inputs.iter().any(|input| is_uuid(input.schema().field(column)));
    if !any || !union.inputs.iter().all(fits) {
        return Ok(());
    }
    let uuid = Arc::new(Field::new("", DataType::FixedSizeBinary(16), true));
    for input in union.inputs.iter_mut().filter(|input| is_text(input)) {
        let schema = input.schema().clone();
        let columns = schema.columns().into_iter().enumerate().map(|(i, c)| {
            let own = Expr::Column(c.clone());
            Ok(match i == column {
                true => match rewrite_cast(&own, &uuid, &schema.fields()[i], false)? {
                    Some(made) => made.alias_qualified(c.relation, c.name),
                    None => own,
                },
                false => own,
            })
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        *input = Arc::new(LogicalPlanBuilder::from(input.as_ref().clone()).project(columns)?.build()?);
    }
    Ok(())
}

/// Casts an expression to the type that [`wider`] found. Leaves an expression of a type that [`wider`] ignores as it is.
fn widened(expr: Expr, from: &DataType, to: &DataType) -> Expr {
    match from {
        from if from == to => expr,
        from if from.is_decimal() => double(expr),
        DataType::Float32 | DataType::Date32 | DataType::Timestamp(..) => cast(expr, to.clone()),
        _ => expr,
    }
}

/// Writes the texts among some alternatives as the UUIDs that they spell, if the others are UUIDs.
///
/// Returns true if it changed an expression. Fails for a text next to a `fixed(16)`.
fn beside_uuids<'a>(alternatives: impl Iterator<Item = &'a mut Expr>, schema: &DFSchema) -> Result<bool> {
    let mut all = alternatives.map(|expr| Ok((field(expr, schema)?, expr))).collect::<Result<Vec<_>>>()?;
    let any = |is: &dyn Fn(&Field) -> bool| all.iter().any(|(field, _)| is(field));
    let is_text = |field: &Field| field.data_type().is_string();
    if !any(&is_text) || !any(&|field| matches!(field.data_type(), DataType::FixedSizeBinary(16))) {
        return Ok(false);
    }
    if any(&is_fixed) {
        return Err(DataFusionError::Plan(
            "a text and a fixed(16) have no common type: write the text as X'…', or CAST the fixed(16) to VARBINARY".to_owned(),
        ));
    }
    if any(&|field| !is_text(field) && !is_uuid(field) && !field.data_type().is_null()) {
        return Ok(false);
    }
    let uuid = Arc::new(Field::new("", DataType::FixedSizeBinary(16), true));
    for (from, expr) in &mut all {
        if is_text(from)
            && let Some(made) = rewrite_cast(expr, &uuid, from, false)?
        {
            **expr = made;
        }
    }
    Ok(true)
}

/// Returns true if both a UUID and a text are among the arguments of a function.
fn is_beside_uuid(function: &ScalarFunction, schema: &DFSchema) -> Result<bool> {
    let types = function.args.iter().map(|arg| arg.get_type(schema)).collect::<Result<Vec<_>>>()?;
    Ok(texts_and_uuids(&types))
}

/// Rewrites one expression, whose operands are rewritten already.
fn rewrite(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let field = |expr: &Expr| field(expr, schema);
    let made = match &expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(*op) => {
            comparison(left, *op, right, (&field(left)?, &field(right)?))?
        }
        Expr::Between(between) => rewrite_between(between, schema)?,
        Expr::InList(list) => rewrite_list(list, schema)?,
        Expr::Case(case) => rewrite_case(case, schema)?,
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => as_subquery_keys(&field(expr)?, expr, subquery)?
            .map(|(expr, subquery)| Expr::InSubquery(InSubquery { expr: Box::new(expr), subquery, negated: *negated })),
        Expr::SetComparison(set) => as_subquery_keys(&field(&set.expr)?, &set.expr, &set.subquery)?
            .map(|(expr, subquery)| Expr::SetComparison(SetComparison { expr: Box::new(expr), subquery, ..set.clone() })),
        Expr::Cast(Cast { expr, field: to }) => rewrite_cast(expr, to, &field(expr)?, false)?,
        Expr::TryCast(TryCast { expr, field: to }) => rewrite_cast(expr, to, &field(expr)?, true)?,
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => {
            let (l, r) = (left.get_type(schema)?, right.get_type(schema)?);
            let minus = |left: Expr, right: Expr| binary_expr(left, Operator::Minus, right);
            match (&l, &r) {
                (DataType::Date32, DataType::Timestamp(..)) => {
                    Some(minus(cast(left.as_ref().clone(), r), right.as_ref().clone()))
                }
                (DataType::Timestamp(..), DataType::Date32) => {
                    Some(minus(left.as_ref().clone(), cast(right.as_ref().clone(), l)))
                }
                // The result is a number of days. DataFusion's optimizer would treat a difference of dates as an interval.
                (DataType::Date32, DataType::Date32) => {
                    let days = |expr: &Expr| cast(cast(expr.clone(), DataType::Int32), DataType::Int64);
                    Some(minus(days(left), days(right)))
                }
                _ => None,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Divide, right }) => {
            divided(left, right, (left.get_type(schema)?, right.get_type(schema)?))
        }
        Expr::Like(like) => rewrite_like(like)?,
        Expr::WindowFunction(window) => {
            let made = rewrite_lag_lead(window, schema)?;
            let framed = rewrite_frame(made.as_ref().unwrap_or(window), schema)?;
            framed.or(made).map(|window| Expr::WindowFunction(Box::new(window)))
        }
        Expr::ScalarFunction(function) if function.func.name() == "date_trunc" => rewrite_trunc(&function.args, schema)?,
        Expr::ScalarFunction(function) if function.func.name() == "date_bin" => rewrite_date_bin(&expr, &function.args, schema)?,
        Expr::ScalarFunction(function) if function.func.name() == FRACTION => rewrite_fraction(&function.args, schema)?,
        Expr::ScalarFunction(function) if function.func.name() == "date_part" => rewrite_part(&function.args, schema)?,
        Expr::ScalarFunction(function) if matches!(function.func.name(), "power" | "atan2") => {
            let mut function = function.clone();
            for arg in &mut function.args {
                if arg.get_type(schema)?.is_numeric() {
                    *arg = double(std::mem::take(arg));
                }
            }
            Some(Expr::ScalarFunction(function))
        }
        Expr::ScalarFunction(function) if function.func.name() == "replace" => rewrite_replace(&expr, &function.args)?,
        Expr::ScalarSubquery(subquery) => or_null(subquery)?.map(Expr::ScalarSubquery),
        Expr::AggregateFunction(function) => rewrite_filter(function, schema)?.map(Expr::AggregateFunction),
        Expr::ScalarFunction(function) if matches!(function.func.name(), "round" | "trunc" | "ceil" | "floor") => {
            rewrite_rounding(function.func.name(), &function.args, schema)?
        }
        Expr::ScalarFunction(function) if takes_patterns(function.func.name()) => rewrite_patterns(function, schema)?,
        Expr::ScalarFunction(function) if BESIDE_UUIDS.contains(&function.func.name()) && is_beside_uuid(function, schema)? => {
            let mut function = function.clone();
            beside_uuids(function.args.iter_mut(), schema)?;
            Some(Expr::ScalarFunction(function))
        }
        Expr::ScalarFunction(function) => {
            let types = function.args.iter().map(|arg| arg.get_type(schema)).collect::<Result<Vec<_>>>()?;
            let name = function.func.name();
            let wide = wider(&types)
                .filter(|ty| RETURNING_ARGUMENTS.contains(&name) || ty.is_floating() && !KEEPING_ARGUMENT_TYPES.contains(&name));
            wide.map(|wide| {
                let mut function = function.clone();
                for (arg, ty) in function.args.iter_mut().zip(&types) {
                    *arg = widened(std::mem::take(arg), ty, &wide);
                }
                Expr::ScalarFunction(function)
            })
        }
        _ => None,
    };
    Ok(made.map_or_else(|| Transformed::no(expr), Transformed::yes))
}

/// Rewrites `left op right`. Returns `None` if DataFusion's own conversion of the two is right.
fn comparison(left: &Expr, op: Operator, right: &Expr, (l, r): (&FieldRef, &FieldRef)) -> Result<Option<Expr>> {
    if l.data_type() == r.data_type() {
        return Ok(None);
    }
    if let Some(made) = with_constant(left, op, right, (l, r))? {
        return Ok(Some(made));
    }
    if let Some(turned) = op.swap()
        && let Some(made) = with_constant(right, turned, left, (r, l))?
    {
        return Ok(Some(made));
    }
    Ok(as_keys(left, right, (l, r))?.map(|(left, right)| binary_expr(left, op, right)))
}

/// Rewrites a comparison with a constant of another type. Returns `None` if `other` is no such constant.
fn with_constant(expr: &Expr, op: Operator, other: &Expr, (field, of): (&FieldRef, &FieldRef)) -> Result<Option<Expr>> {
    let (ty, from) = (field.data_type(), of.data_type());
    if let (DataType::Duration(unit), DataType::Interval(_)) = (ty, from) {
        let length = constant(other)?.and_then(|value| duration(&value, *unit));
        return Ok(length.map(|length| binary_expr(expr.clone(), op, lit(length))));
    }
    if !is_positionable(field, from) {
        return Ok(None);
    }
    let Some(value) = constant(other)? else { return Ok(None) };
    if value.is_null() {
        return Ok(None);
    }
    let place = match (text(&value), bytes(&value)) {
        (Some(text), _) if is_uuid(field) => Some(LiteralPosition::At(text_literal::uuid(text)?)),
        (Some(text), _) => match ty {
            DataType::FixedSizeBinary(n) => fixed(*n, text.as_bytes()),
            _ => text_literal::place(text, ty)?,
        },
        (_, Some(bytes)) => match ty {
            DataType::FixedSizeBinary(n) => fixed(*n, bytes),
            _ => None,
        },
        _ if ty.is_floating() => float(&value, ty).map(LiteralPosition::At),
        _ => position_of(&value, ty),
    };
    Ok(place.and_then(|place| compared(expr.clone(), op, place)))
}

/// Returns true if a constant of type `from` can be converted to, or ordered among, the values of a field.
fn is_positionable(field: &Field, from: &DataType) -> bool {
    let ty = field.data_type();
    let point = |ty: &DataType| matches!(ty, DataType::Date32 | DataType::Timestamp(_, _));
    let exact = |ty: &DataType| ty.is_integer() || matches!(ty, DataType::Decimal128(_, _));
    let placed = point(ty) || matches!(ty, DataType::Time64(_) | DataType::Boolean | DataType::Decimal128(_, _));
    let binary = |ty: &DataType| matches!(ty, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    match ty {
        DataType::FixedSizeBinary(_) => from.is_string() || binary(from),
        _ if from.is_string() => placed,
        _ if point(ty) => point(from),
        _ if ty.is_floating() => exact(from) || *ty == DataType::Float32 && *from == DataType::Float64,
        _ => exact(ty) && exact(from),
    }
}

/// Returns bytes as a value of a fixed length, or `None` if they have another length.
fn fixed(length: i32, value: &[u8]) -> Option<LiteralPosition> {
    (usize::try_from(length) == Ok(value.len()))
        .then(|| LiteralPosition::At(ScalarValue::FixedSizeBinary(length, Some(value.to_vec()))))
}

/// Converts a number to a float: a decimal to the nearest one, any other number only if the float equals it.
fn float(value: &ScalarValue, ty: &DataType) -> Option<ScalarValue> {
    let text = decimal_text(value);
    if *ty == DataType::Float64 {
        return text?.parse().ok().map(|v| ScalarValue::Float64(Some(v)));
    }
    let single = match (text, value) {
        (Some(text), _) => text.parse::<f32>().ok().filter(|v| v.is_finite())?,
        (None, ScalarValue::Float64(Some(v))) if f64::from(*v as f32) == *v => *v as f32,
        (None, ScalarValue::Int64(Some(v))) if v.unsigned_abs() <= 1 << f32::MANTISSA_DIGITS => *v as f32,
        _ => return None,
    };
    Some(ScalarValue::Float32(Some(single)))
}

/// Returns two expressions of different types as keys of one type, which compare as the values do.
///
/// Returns `None` if DataFusion's own conversion is right.
fn as_keys(left: &Expr, right: &Expr, (l, r): (&FieldRef, &FieldRef)) -> Result<Option<(Expr, Expr)>> {
    use DataType::{BinaryView, Date32, Decimal128, Decimal256, FixedSizeBinary, Float64, Time64, Timestamp};
    let both = |to: DataType| {
        let one = |expr: &Expr, from: &DataType| if *from == to { expr.clone() } else { cast(expr.clone(), to.clone()) };
        Some((one(left, l.data_type()), one(right, r.data_type())))
    };
    let text_as = |to: &DataType, left_is_text: bool| match left_is_text {
        true => Some((cast(left.clone(), to.clone()), right.clone())),
        false => Some((left.clone(), cast(right.clone(), to.clone()))),
    };
    Ok(match (l.data_type(), r.data_type()) {
        (a, b) if a == b => None,
        (a, b) if is_uuid(l) && b.is_string() || is_uuid(r) && a.is_string() => match is_uuid(l) {
            true => Some((left.clone(), call(uuid::FromText, right.clone()))),
            false => Some((call(uuid::FromText, left.clone()), right.clone())),
        },
        (Timestamp(a, _), Timestamp(b, _)) if a != b => Some((call(Instant, left.clone()), call(Instant, right.clone()))),
        (Date32, Timestamp(..)) | (Timestamp(..), Date32) => Some((call(Instant, left.clone()), call(Instant, right.clone()))),
        (Time64(_), Time64(_)) => both(Time64(TimeUnit::Nanosecond)),
        (a, b @ (Timestamp(..) | DataType::Boolean)) if a.is_string() => text_as(b, true),
        (a @ (Timestamp(..) | DataType::Boolean), b) if b.is_string() => text_as(a, false),
        (a, b) if a.is_string() && b.is_decimal() || a.is_decimal() && b.is_string() => both(Float64),
        (a, b) if a.is_floating() && b.is_decimal() || a.is_decimal() && b.is_floating() => {
            let one = |expr: &Expr, from: &DataType| if from.is_decimal() { double(expr.clone()) } else { expr.clone() };
            Some((one(left, a), one(right, b)))
        }
        (DataType::Float32, b) if b.is_integer() => both(Float64),
        (a, DataType::Float32) if a.is_integer() => both(Float64),
        (FixedSizeBinary(_), b) if holds_bytes(b) => both(BinaryView),
        (a, FixedSizeBinary(_)) if holds_bytes(a) => both(BinaryView),
        (Decimal128(p, s), Decimal128(q, t)) if too_wide((*p, *s), (*q, *t)) => both(Decimal256(76, (*s).max(*t))),
        (Decimal128(p, s), b) if b.is_integer() && too_wide((*p, *s), (20, 0)) => both(Decimal256(76, *s)),
        (a, Decimal128(p, s)) if a.is_integer() && too_wide((*p, *s), (20, 0)) => both(Decimal256(76, *s)),
        _ => None,
    })
}

/// Returns true if the values of a type are texts or bytes.
fn holds_bytes(ty: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
    ty.is_string() || matches!(ty, FixedSizeBinary(_) | Binary | LargeBinary | BinaryView)
}

/// Returns true if no decimal of 38 digits holds the values of both types.
fn too_wide((p, s): (u8, i8), (q, t): (u8, i8)) -> bool {
    let whole = (i16::from(p) - i16::from(s)).max(i16::from(q) - i16::from(t));
    whole + i16::from(s.max(t)) > 38
}

/// Returns an expression and the column of a subquery as keys of one type. Returns `None` if they need none.
fn as_subquery_keys(field: &FieldRef, expr: &Expr, subquery: &Subquery) -> Result<Option<(Expr, Subquery)>> {
    let plan = &subquery.subquery;
    let (relation, other) = plan.schema().qualified_field(0);
    let column = Expr::Column(Column::new(relation.cloned(), other.name()));
    let Some((expr, key)) = as_keys(expr, &column, (field, other))? else { return Ok(None) };
    // No column of the subquery has this name. A column that is compared with the query around it may be added to the projection
    // later.
    let key = key.alias(format!("{}{}", other.name(), comparison_keys::COMPARED));
    let projected = LogicalPlanBuilder::from(plan.as_ref().clone()).project(vec![key])?.build()?;
    Ok(Some((expr, Subquery { subquery: Arc::new(projected), ..subquery.clone() })))
}

/// Rewrites `BETWEEN` as two comparisons, if DataFusion would convert one of them wrong.
fn rewrite_between(between: &Between, schema: &DFSchema) -> Result<Option<Expr>> {
    let Between { expr, negated, low, high } = between;
    let field = |expr: &Expr| field(expr, schema);
    let of = field(expr)?;
    let from = comparison(expr, Operator::GtEq, low, (&of, &field(low)?))?;
    let to = comparison(expr, Operator::LtEq, high, (&of, &field(high)?))?;
    if from.is_none() && to.is_none() {
        return Ok(None);
    }
    check_repeatable(expr)?;
    let from = from.unwrap_or_else(|| binary_expr(expr.as_ref().clone(), Operator::GtEq, low.as_ref().clone()));
    let to = to.unwrap_or_else(|| binary_expr(expr.as_ref().clone(), Operator::LtEq, high.as_ref().clone()));
    let both = from.and(to);
    Ok(Some(if *negated { Expr::Not(Box::new(both)) } else { both }))
}

/// Checks that an expression that is about to be written twice has the same value both times.
fn check_repeatable(expr: &Expr) -> Result<()> {
    if expr.is_volatile() {
        return Err(DataFusionError::Plan(format!(
            "{expr} may change each time it is computed; cast the values that it is compared with to its type"
        )));
    }
    Ok(())
}

/// Rewrites an `IN` list: items that DataFusion would convert wrong become comparisons.
fn rewrite_list(list: &InList, schema: &DFSchema) -> Result<Option<Expr>> {
    let of = field(&list.expr, schema)?;
    let (mut kept, mut others, mut changed) = (Vec::new(), Vec::new(), false);
    for item in &list.list {
        match comparison(&list.expr, Operator::Eq, item, (&of, &field(item, schema)?))? {
            None => kept.push(item.clone()),
            Some(Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right })) if *left == *list.expr => {
                changed = true;
                kept.push(*right);
            }
            Some(other) => {
                changed = true;
                others.push(other);
            }
        }
    }
    if !changed {
        return Ok(None);
    }
    if !others.is_empty() {
        check_repeatable(&list.expr)?;
    }
    let kept = (!kept.is_empty()).then(|| list.expr.as_ref().clone().in_list(kept, false));
    let any = disjunction(kept.into_iter().chain(others));
    Ok(any.map(|any| if list.negated { Expr::Not(Box::new(any)) } else { any }))
}

/// Returns true if an expression may be an error for some rows.
fn may_fail(expr: &Expr) -> bool {
    let fails = |expr: &Expr| {
        Ok(match expr {
            Expr::Cast(_) | Expr::ScalarFunction(_) => true,
            Expr::BinaryExpr(BinaryExpr { op, .. }) => {
                matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo)
            }
            _ => false,
        })
    };
    expr.exists(fails).unwrap_or(true)
}

/// Writes a `CASE` of booleans as a `CASE` of numbers that equals 1.
///
/// The simplifier makes `AND` and `OR` of booleans. These compute all alternatives for every row, and so fail for rows that the
/// conditions would keep from an alternative.
fn case_of_numbers(mut case: Case) -> Expr {
    let number = |then: &mut Expr| *then = cast(std::mem::take(then), DataType::Int8);
    case.when_then_expr.iter_mut().for_each(|(_, then)| number(then));
    case.else_expr.iter_mut().for_each(|otherwise| number(otherwise));
    binary_expr(Expr::Case(case), Operator::Eq, lit(1_i8))
}

/// Rewrites a `CASE`: the comparisons with its operand, and the common type of its alternatives.
fn rewrite_case(case: &Case, schema: &DFSchema) -> Result<Option<Expr>> {
    let mut made = case.clone();
    let mut changed = false;
    if let Some(operand) = &case.expr {
        let of = field(operand, schema)?;
        let conditions =
            case.when_then_expr.iter().map(|(when, _)| comparison(operand, Operator::Eq, when, (&of, &field(when, schema)?)));
        let conditions = conditions.collect::<Result<Vec<_>>>()?;
        if matches!(of.data_type(), DataType::FixedSizeBinary(_)) && conditions.iter().all(Option::is_none) {
            // DataFusion looks literals up in a table whose keys are bytes of any length, so values of a fixed length are cast.
            changed = true;
            let own = made.expr.iter_mut().chain(made.when_then_expr.iter_mut().map(|(when, _)| when));
            own.for_each(|expr| **expr = cast(std::mem::take(expr.as_mut()), DataType::Binary));
        } else if conditions.iter().any(Option::is_some) {
            check_repeatable(operand)?;
            changed = true;
            made.expr = None;
            for ((when, _), condition) in made.when_then_expr.iter_mut().zip(conditions) {
                let plain = || binary_expr(operand.as_ref().clone(), Operator::Eq, when.as_ref().clone());
                **when = condition.unwrap_or_else(plain);
            }
        }
    }
    let alternatives = made.when_then_expr.iter_mut().map(|(_, then)| then).chain(&mut made.else_expr);
    changed |= beside_uuids(alternatives.map(Box::as_mut), schema)?;
    let results = || case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
    let types = results().map(|then| then.get_type(schema)).collect::<Result<Vec<_>>>()?;
    if types.contains(&DataType::Boolean) && results().any(|then| may_fail(then)) {
        return Ok(Some(case_of_numbers(made)));
    }
    if let Some(wide) = wider(&types) {
        changed = true;
        let own = made.when_then_expr.iter_mut().map(|(_, then)| then).chain(&mut made.else_expr);
        for (then, ty) in own.zip(&types) {
            **then = widened(std::mem::take(then.as_mut()), ty, &wide);
        }
    }
    Ok(changed.then_some(Expr::Case(made)))
}
