//! Rules for variants, which have no order and no equality of their own.
//!
//! [`RefuseVariantComparisons`] refuses statements that compare, group or sort by a variant, and names the way out.
//! [`VariantParts`] lets scans take parts out of variants. [`converted`] plans casts from and to variants.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{
    AggregateFunction, Between, InList, InSubquery, Like, ScalarFunction, SetComparison, WindowFunction,
};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{BinaryExpr, Distinct, Expr, ExprSchemable, LogicalPlan, lit};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::scalar::ScalarValue;
use esker_read::{is_variant, variant_type};

use super::function::{Unary, UnaryFunction, call};
use super::literal_position::compares;
use super::plans::{rewrite_expressions, visible_columns};
use crate::variant::{Extract, Path, extract, holds_variant, of_values};

/// Functions that compare their arguments.
const COMPARING: [&str; 21] = [
    "nullif",
    "greatest",
    "least",
    "array_sort",
    "array_distinct",
    "array_has",
    "array_has_any",
    "array_has_all",
    "array_position",
    "array_positions",
    "array_union",
    "array_intersect",
    "array_except",
    "array_remove",
    "array_remove_all",
    "array_remove_n",
    "array_replace",
    "array_replace_all",
    "array_replace_n",
    "array_max",
    "array_min",
];

/// Aggregates that take variants, because they do not compare their arguments.
const TAKING: [&str; 6] = ["count", "any_value", "array_agg", "first_value", "last_value", "nth_value"];

/// The analyzer rule that refuses. It runs first, on plans as they were written.
#[derive(Debug)]
pub(super) struct RefuseVariantComparisons;

impl AnalyzerRule for RefuseVariantComparisons {
    fn name(&self) -> &'static str {
        "variants"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.apply_with_subqueries(|node| {
            check(node)?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(plan)
    }
}

/// Returns the error for an expression of variants that a statement compares, groups or sorts by.
fn refused<T>(what: &str) -> Result<T> {
    let what =
        format!("{what}: a variant is neither compared nor grouped nor sorted; take a part, as variant_get(v, '$.a', 'int')");
    Err(DataFusionError::Plan(what))
}

/// Checks the keys and the expressions of one node.
fn check(plan: &LogicalPlan) -> Result<()> {
    let schema = visible_columns(plan)?;
    if !schema.fields().iter().any(|field| holds_variant(field.data_type())) && !makes_variants(plan) {
        return Ok(());
    }
    let is = |expr: &Expr, schema: &DFSchema| expr.get_type(schema).is_ok_and(|ty| holds_variant(&ty));
    let keys: Vec<Expr> = match plan {
        LogicalPlan::Sort(sort) => sort.expr.iter().map(|key| key.expr.clone()).collect(),
        LogicalPlan::Aggregate(aggregate) => grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().cloned().collect(),
        LogicalPlan::Distinct(Distinct::On(on)) => on.on_expr.clone(),
        LogicalPlan::Distinct(Distinct::All(input)) => input.schema().columns().into_iter().map(Expr::Column).collect(),
        LogicalPlan::Join(join) => {
            let (left, right) = (join.left.schema(), join.right.schema());
            match join.on.iter().find(|(l, r)| is(l, left) || is(r, right)) {
                Some((key, _)) => return refused(&key.schema_name().to_string()),
                None => Vec::new(),
            }
        }
        _ => Vec::new(),
    };
    if let Some(key) = keys.iter().find(|key| is(key, &schema)) {
        return refused(&key.schema_name().to_string());
    }
    for expr in plan.expressions() {
        expr.apply(|expr| {
            let compared: Vec<&Expr> = match expr {
                Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(*op) => vec![left, right],
                Expr::InList(InList { expr, list, .. }) => std::iter::once(expr.as_ref()).chain(list).collect(),
                Expr::InSubquery(InSubquery { expr, .. }) | Expr::SetComparison(SetComparison { expr, .. }) => vec![expr],
                Expr::Between(Between { expr, low, high, .. }) => vec![expr, low, high],
                Expr::Like(Like { expr, .. }) | Expr::SimilarTo(Like { expr, .. }) => vec![expr],
                Expr::ScalarFunction(ScalarFunction { func, args }) if COMPARING.contains(&func.name()) => args.iter().collect(),
                // The two fields of a variant are how Arrow stores it. A statement does not name them.
                Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "get_field" => {
                    match args.first().is_some_and(|from| from.get_type(&schema).is_ok_and(|ty| is_variant(&ty))) {
                        true => args.iter().take(1).collect(),
                        false => Vec::new(),
                    }
                }
                Expr::AggregateFunction(AggregateFunction { func, params }) => {
                    let all = params.args.iter().filter(|_| params.distinct || !TAKING.contains(&func.name()));
                    all.chain(params.order_by.iter().map(|key| &key.expr)).collect()
                }
                Expr::WindowFunction(function) => {
                    let WindowFunction { params, .. } = function.as_ref();
                    params.partition_by.iter().chain(params.order_by.iter().map(|key| &key.expr)).collect()
                }
                _ => Vec::new(),
            };
            match compared.into_iter().find(|expr| is(expr, &schema)) {
                Some(expr) => refused(&expr.schema_name().to_string()),
                None => Ok(TreeNodeRecursion::Continue),
            }
        })?;
    }
    Ok(())
}

/// Returns true if an expression of a node makes a variant of another value.
fn makes_variants(plan: &LogicalPlan) -> bool {
    let makes = |expr: &Expr| match expr {
        Expr::ScalarFunction(function) => function.func.name().contains("json") || function.func.name().contains("variant"),
        Expr::Cast(cast) => is_variant(cast.field.data_type()),
        Expr::TryCast(cast) => is_variant(cast.field.data_type()),
        _ => false,
    };
    plan.expressions().iter().any(|expr| expr.exists(|expr| Ok(makes(expr))).unwrap_or(true))
}

/// Returns a cast from a variant or to one, or `None` if neither type is a variant.
pub(super) fn converted(expr: &Expr, from: &DataType, to: &DataType, safe: bool) -> Result<Option<Expr>> {
    Ok(match (is_variant(from), is_variant(to)) {
        (true, true) => Some(expr.clone()),
        (true, false) => Some(call(Extract { path: Path(Vec::new()), to: to.clone(), safe }, expr.clone())),
        (false, true) if from.is_null() => Some(lit(ScalarValue::try_from(to)?)),
        (false, true) => Some(call(ToVariant, expr.clone())),
        (false, false) => None,
    })
}

/// The analyzer rule that lets scans take parts out of variants. It runs after type coercion.
///
/// A file may have a column for a part, and then the rest of the variant need not be read. A scan takes the part of all rows,
/// also of those that a condition leaves out later. So the scan records what is wrong with a value, and it is an error only where
/// the plan takes the part.
#[derive(Debug)]
pub(super) struct VariantParts;

impl AnalyzerRule for VariantParts {
    fn name(&self) -> &'static str {
        "variant_parts"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        // The filters of a scan are for pruning only.
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::TableScan(_) => Ok(Transformed::no(plan)),
            plan => rewrite_expressions(plan, split_extraction),
        })
        .data()
    }
}

/// Splits a call that takes a part into [`ExtractPart`] for the scan and [`PartValue`] above it.
fn split_extraction(expr: Expr) -> Result<Transformed<Expr>> {
    let names = ["variant_get", "try_variant_get", "of_variant", "try_of_variant"];
    let is_one = matches!(&expr, Expr::ScalarFunction(function) if names.contains(&function.func.name()));
    Ok(match extraction_of(&expr).filter(|_| is_one) {
        Some((column, extract)) if !extract.to.is_nested() => {
            let (to, safe, column) = (extract.to.clone(), extract.safe, Expr::Column(column.clone()));
            Transformed::yes(call(PartValue { to, safe }, call(ExtractPart(extract), column)))
        }
        _ => Transformed::no(expr),
    })
}

/// The function that returns a part of a variant as a struct: the value, or what is wrong with it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ExtractPart(Extract);

/// Returns the type of a part that a scan takes.
///
/// It is a struct of `value`, which has the type `to`, and `wrong`, which is the text of an error or null.
pub(crate) fn extracted_type(to: &DataType) -> DataType {
    DataType::Struct(vec![Field::new("value", to.clone(), true), Field::new("wrong", DataType::Utf8, true)].into())
}

/// Returns the column and the part that a scan is to take, or `None` if the expression takes none.
pub(crate) fn extracted_part(expr: &dyn PhysicalExpr) -> Option<(&Arc<dyn PhysicalExpr>, &Extract)> {
    let function = ScalarFunctionExpr::try_downcast_func::<UnaryFunction<ExtractPart>>(expr)?;
    let own = function.fun().inner().downcast_ref::<UnaryFunction<ExtractPart>>()?;
    Some((function.args().first()?, &own.inner.0))
}

/// Returns the column and the part that an expression of [`VariantParts`] takes, or `None` for other expressions.
fn checked_part(expr: &Expr) -> Option<(&Column, Extract)> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return None };
    let PartValue { safe, .. } = func.inner().downcast_ref::<UnaryFunction<PartValue>>()?.inner;
    let Expr::ScalarFunction(ScalarFunction { func, args }) = args.first()? else { return None };
    let ExtractPart(extract) = &func.inner().downcast_ref::<UnaryFunction<ExtractPart>>()?.inner;
    let Expr::Column(column) = args.first()? else { return None };
    Some((column, Extract { safe, ..extract.clone() }))
}

/// Returns the column from which an expression takes a value, with the path to the value and its type.
///
/// Returns `None` if the expression is something else.
pub(crate) fn extraction_of(expr: &Expr) -> Option<(&Column, Extract)> {
    if let Some(part) = checked_part(expr) {
        return Some(part);
    }
    match expr {
        Expr::Column(column) => Some((column, Extract { path: Path(Vec::new()), to: variant_type(), safe: false })),
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            let own = match func.name() {
                "variant_get" | "try_variant_get" => {
                    let literals: Vec<Option<&ScalarValue>> = args
                        .iter()
                        .skip(1)
                        .map(|arg| if let Expr::Literal(value, _) = arg { Some(value) } else { None })
                        .collect();
                    extract(func.name(), func.name() == "try_variant_get", &literals).ok()?
                }
                "of_variant" | "try_of_variant" => {
                    let to = func.inner().return_type(&[variant_type()]).ok()?;
                    Extract { path: Path(Vec::new()), to, safe: func.name() == "try_of_variant" }
                }
                _ => return None,
            };
            let (column, Extract { path: Path(mut steps), to, .. }) = extraction_of(args.first()?)?;
            is_variant(&to).then(|| {
                steps.extend(own.path.0);
                (column, Extract { path: Path(steps), ..own })
            })
        }
        _ => None,
    }
}

impl Unary for ExtractPart {
    fn name(&self) -> &'static str {
        "variant_part"
    }

    fn field(&self, _input: &FieldRef) -> Result<Field> {
        Ok(Field::new("", extracted_type(&self.0.to), true))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let (found, wrong) = self.0.tried(values)?;
        let DataType::Struct(fields) = extracted_type(&self.0.to) else { return refused("a part") };
        Ok(Arc::new(StructArray::try_new(fields, vec![found, Arc::new(wrong)], None)?))
    }

    fn is_for_scans(&self) -> bool {
        true
    }
}

/// The function from the result of [`ExtractPart`] to the value. It fails if something is wrong with the value.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PartValue {
    to: DataType,
    /// True if a wrong value is null, and no error.
    safe: bool,
}

impl Unary for PartValue {
    fn name(&self) -> &'static str {
        "part_value"
    }

    fn field(&self, _input: &FieldRef) -> Result<Field> {
        Ok(Field::new("", self.to.clone(), true))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let parts = values.as_struct();
        let wrong = parts.column(1).as_string::<i32>();
        match (0..wrong.len()).find(|row| parts.is_valid(*row) && wrong.is_valid(*row)) {
            Some(row) if !self.safe => Err(DataFusionError::Execution(wrong.value(row).to_owned())),
            _ => Ok(parts.column(0).clone()),
        }
    }
}

impl Unary for Extract {
    fn name(&self) -> &'static str {
        if self.safe { "try_of_variant" } else { "of_variant" }
    }

    fn field(&self, _input: &FieldRef) -> Result<Field> {
        Ok(Field::new("", self.to.clone(), true))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        self.of(values)
    }
}

/// The function for `CAST(… AS VARIANT)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToVariant;

impl Unary for ToVariant {
    fn name(&self) -> &'static str {
        "to_variant"
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        Ok(Field::new("", variant_type(), input.is_nullable()))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        of_values(values)
    }
}
