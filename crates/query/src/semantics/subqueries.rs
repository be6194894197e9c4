//! Comparisons with the rows of a subquery (`IN`, `ANY`, `ALL`), written as what they mean where something is null: DataFusion joins by
//! them, and a join knows true and not true alone. And correlated subqueries in terms in which DataFusion can join by any key.
//!
//! With E for "a row fits" and N for "a row can't be compared, and so is unknown", `x IN (…)` is `E OR (N AND NULL)`.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema};
use datafusion::error::Result;
use datafusion::functions_aggregate::count::count_all;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction_owned};
use datafusion::logical_expr::{
    AggregateUDF, BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, binary_expr, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

use super::asked::below;
use super::function::{Unary, kept as stays};
use super::plans;
use crate::minmax;

/// After the text of an expression, in the name of a column that holds its values.
const KEY: &str = "\u{1f}key";

/// After the name of the one column of a subquery, in that of the values that something is compared with.
const ROW: &str = "\u{1f}row";

/// The rule, for plans whose types agree.
#[derive(Debug)]
pub(super) struct Subqueries;

impl AnalyzerRule for Subqueries {
    fn name(&self) -> &'static str {
        "subqueries"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        // An answer may be null where what was asked for was not.
        let aliases = aliases(&plan)?;
        let rewritten = |plan| {
            let plan = below(plans::rewritten(plan, apart)?.data, &|plan| rewrite_plan(plan, &aliases).data())?;
            rewrite_plan(plan, &aliases)?.map_data(LogicalPlan::recompute_schema)
        };
        plan.transform_up_with_subqueries(rewritten).data()
    }
}

/// What columns are called anywhere in a statement that are not called as in their tables.
fn aliases(plan: &LogicalPlan) -> Result<HashSet<String>> {
    let mut found = HashSet::new();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Alias(alias) = expr {
                    found.insert(alias.name.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

fn rewrite_plan(plan: LogicalPlan, aliases: &HashSet<String>) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&plan.inputs());
    match plan {
        LogicalPlan::Filter(filter) => {
            let asks = holds(&filter.predicate, compares);
            let outer = filter.predicate.contains_outer();
            if !asks && !outer {
                return Ok(Transformed::no(LogicalPlan::Filter(filter)));
            }
            let Filter { predicate, input, .. } = filter;
            let predicate = if asks { kept(predicate, &Place { schema: &schema, filter: true })? } else { predicate };
            let filter = Filter::try_new(predicate, input)?;
            Ok(Transformed::yes(if outer { by_columns(filter, aliases)? } else { LogicalPlan::Filter(filter) }))
        }
        plan => {
            let names = NamePreserver::new(&plan);
            let place = Place { schema: &schema, filter: false };
            plan.map_expressions(|expr| {
                if !holds(&expr, |e| compares(e) || matches!(e, Expr::Exists(_))) {
                    return Ok(Transformed::no(expr));
                }
                let name = names.save(&expr);
                Ok(Transformed::yes(name.restore(known(expr, &place)?)))
            })
        }
    }
}

/// A correlated subquery whose columns are called like none that it compares with what is around it.
fn apart(expr: Expr) -> Result<Transformed<Expr>> {
    let correlated = |subquery: &Subquery| !subquery.outer_ref_columns.is_empty();
    Ok(match expr {
        Expr::ScalarSubquery(subquery) if correlated(&subquery) => {
            Transformed::yes(Expr::ScalarSubquery(columns_named(&subquery, first(&subquery.subquery))?.0))
        }
        Expr::Exists(Exists { subquery, negated }) if correlated(&subquery) && !is_one_row(&subquery) => {
            Transformed::yes(Expr::Exists(Exists { subquery: columns_named(&subquery, lit(true))?.0, negated }))
        }
        expr => Transformed::no(expr),
    })
}

fn holds(expr: &Expr, what: impl Fn(&Expr) -> bool) -> bool {
    expr.exists(|e| Ok(what(e))).unwrap_or(false)
}

/// Whether an expression is a comparison of this module.
fn compares(expr: &Expr) -> bool {
    match expr {
        Expr::InSubquery(_) | Expr::SetComparison(_) => true,
        Expr::Exists(exists) => is_one_row(&exists.subquery),
        _ => false,
    }
}

/// Whether a correlated subquery has exactly one row for each row around it, though nothing may be aggregated: a join would find none then.
fn is_one_row(subquery: &Subquery) -> bool {
    has_one_row(&subquery.subquery) && !subquery.subquery.all_out_ref_exprs().is_empty()
}

/// Whether a plan has a row whatever is below it.
fn has_one_row(mut plan: &LogicalPlan) -> bool {
    loop {
        plan = match plan {
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Aggregate(aggregate) => return aggregate.group_expr.is_empty(),
            _ => return false,
        }
    }
}

/// A column that is null where a subquery has no row.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OrNull;

impl Unary for OrNull {
    fn name(&self) -> &'static str {
        "or_null"
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        Ok(input.as_ref().clone().with_nullable(true))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        Ok(Arc::clone(values))
    }
}

/// The value of a subquery that may have no row, where DataFusion takes it for one that is never null.
pub(super) fn or_null(subquery: &Subquery) -> Result<Option<Subquery>> {
    let plan = subquery.subquery.as_ref();
    if plan.schema().field(0).is_nullable() || has_one_row(plan) {
        return Ok(None);
    }
    let column = Column::from(plan.schema().qualified_field(0));
    let value = stays(OrNull, Expr::Column(column.clone())).alias_qualified(column.relation, column.name);
    let plan = LogicalPlanBuilder::from(plan.clone()).project([value])?.build()?;
    Ok(Some(as_subquery(plan, subquery)))
}

/// Where a comparison stands.
struct Place<'a> {
    /// The columns there.
    schema: &'a DFSchema,
    /// Whether in a filter, where `EXISTS` becomes a join; elsewhere rows are counted.
    filter: bool,
}

/// A condition of which only matters whether it is true.
fn kept(expr: Expr, place: &Place<'_>) -> Result<Expr> {
    if !holds(&expr, compares) {
        return Ok(expr);
    }
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            Ok(binary_expr(kept(*left, place)?, op, kept(*right, place)?))
        }
        // A join by equality, which asks no more.
        Expr::InSubquery(InSubquery { negated: false, subquery, expr }) if !is_one_row(&subquery) => {
            Ok(Expr::InSubquery(InSubquery { negated: false, subquery: named(&subquery)?.0, expr }))
        }
        Expr::Not(inner) => match Any::of(inner.as_ref()) {
            Some(any) => Any { negated: !any.negated, ..any }.is_true(place),
            None => known(Expr::Not(inner), place),
        },
        expr => match Any::of(&expr) {
            Some(any) => any.is_true(place),
            None => known(expr, place),
        },
    }
}

/// An expression whose comparisons are true, false or null.
fn known(expr: Expr, place: &Place<'_>) -> Result<Expr> {
    expr.transform_up(|expr| match expr {
        Expr::Exists(Exists { subquery, negated }) if is_one_row(&subquery) => Ok(Transformed::yes(lit(!negated))),
        Expr::Exists(Exists { subquery, negated }) if !place.filter => {
            Ok(Transformed::yes(place.exists(&subquery, None, negated)?))
        }
        expr => match Any::of(&expr) {
            Some(any) => Ok(Transformed::yes(any.value(place)?)),
            None => Ok(Transformed::no(expr)),
        },
    })
    .data()
}

fn first(plan: &LogicalPlan) -> Expr {
    Expr::Column(Column::from(plan.schema().qualified_field(0)))
}

/// A subquery whose one column has a name of its own, and that column: a join forgets which side a column is of, and both may be the same
/// column of the same table.
fn named(subquery: &Subquery) -> Result<(Subquery, Expr)> {
    columns_named(subquery, first(&subquery.subquery))
}

fn columns_named(subquery: &Subquery, column: Expr) -> Result<(Subquery, Expr)> {
    let plan = subquery.subquery.as_ref();
    let name = format!("{}{ROW}", plan.schema().field(0).name());
    let rows = LogicalPlanBuilder::from(plan.clone()).project([column.alias(&name)])?.build()?;
    Ok((as_subquery(rows, subquery), Expr::Column(Column::new_unqualified(name))))
}

/// Whether a value compares with any row of a subquery.
struct Any {
    value: Expr,
    op: Operator,
    subquery: Subquery,
    negated: bool,
}

impl Any {
    fn of(expr: &Expr) -> Option<Self> {
        let (value, op, subquery, negated) = match expr {
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => (expr, Operator::Eq, subquery, *negated),
            Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => match quantifier {
                SetQuantifier::Any => (expr, *op, subquery, false),
                // What holds for all fails for none.
                SetQuantifier::All => (expr, op.negate()?, subquery, true),
            },
            _ => return None,
        };
        // Of a query around this one: that is two levels off for the subquery.
        if value.contains_outer() {
            return None;
        }
        Some(Self { value: value.as_ref().clone(), op, subquery: subquery.clone(), negated })
    }

    /// The one column of the subquery.
    fn column(&self) -> Expr {
        first(&self.subquery.subquery)
    }

    /// Whether a row fits, by the least and the greatest of all rows: a subquery that is not correlated is asked for them once.
    fn by_ends(&self) -> Result<Option<Expr>> {
        if !self.subquery.subquery.all_out_ref_exprs().is_empty() {
            return Ok(None);
        }
        let [min, max] = minmax::functions();
        let compared = |end: Arc<AggregateUDF>| -> Result<Expr> {
            let rows = LogicalPlanBuilder::from(self.subquery.subquery.as_ref().clone());
            let plan = rows.aggregate(Vec::<Expr>::new(), vec![end.call(vec![self.column()])])?.build()?;
            let end = Expr::ScalarSubquery(as_subquery(plan, &self.subquery));
            Ok(binary_expr(self.value.clone(), self.op, end).is_true())
        };
        Ok(match self.op {
            Operator::Lt | Operator::LtEq => Some(compared(max)?),
            Operator::Gt | Operator::GtEq => Some(compared(min)?),
            // All rows are the same if the two are.
            Operator::NotEq => Some(compared(min)?.or(compared(max)?)),
            _ => None,
        })
    }

    fn fits(&self, place: &Place<'_>, negated: bool) -> Result<Expr> {
        // A filter joins by the comparison; elsewhere no join can.
        if !place.filter
            && let Some(fits) = self.by_ends()?
        {
            return Ok(if negated { fits.is_not_true() } else { fits });
        }
        let outer = outer(self.value.clone(), place.schema)?;
        let (rows, column) = named(&self.subquery)?;
        let op = self.op;
        // The column first, if the operator can be turned.
        let condition = match op.swap() {
            Some(turned) => binary_expr(column, turned, outer),
            None => binary_expr(outer, op, column),
        };
        place.exists(&rows, Some(condition), negated)
    }

    /// Whether there is a row that can't be compared; none if there is none.
    fn unknown(&self, place: &Place<'_>, negated: bool) -> Result<Option<Expr>> {
        let rows = &self.subquery;
        let with_null = match self.subquery.subquery.schema().field(0).is_nullable() {
            true => Some(place.exists(rows, Some(self.column().is_null()), negated)?),
            false => None,
        };
        let of_null = match self.value.nullable(place.schema)? {
            true if negated => Some(self.value.clone().is_not_null().or(place.exists(rows, None, true)?)),
            true => Some(self.value.clone().is_null().and(place.exists(rows, None, false)?)),
            false => None,
        };
        Ok(match (with_null, of_null) {
            (Some(a), Some(b)) if negated => Some(a.and(b)),
            (Some(a), Some(b)) => Some(a.or(b)),
            (a, b) => a.or(b),
        })
    }

    /// The comparison with the one row that there is.
    fn with_one(&self) -> Expr {
        let compared = binary_expr(self.value.clone(), self.op, Expr::ScalarSubquery(self.subquery.clone()));
        if self.negated { Expr::Not(Box::new(compared)) } else { compared }
    }

    fn is_true(&self, place: &Place<'_>) -> Result<Expr> {
        if is_one_row(&self.subquery) {
            return Ok(self.with_one());
        }
        let fits = self.fits(place, self.negated)?;
        Ok(match self.negated {
            true => conjunction([Some(fits), self.unknown(place, true)?].into_iter().flatten()).unwrap_or_else(|| lit(true)),
            false => fits,
        })
    }

    fn value(&self, place: &Place<'_>) -> Result<Expr> {
        if is_one_row(&self.subquery) {
            return Ok(self.with_one());
        }
        let fits = self.fits(place, self.negated)?;
        let null = || lit(ScalarValue::Boolean(None));
        Ok(match (self.unknown(place, self.negated)?, self.negated) {
            (None, _) => fits,
            (Some(known), true) => fits.and(known.or(null())),
            (Some(unknown), false) => fits.or(unknown.and(null())),
        })
    }
}

impl Place<'_> {
    /// Whether a subquery has a row that fits a condition.
    fn exists(&self, subquery: &Subquery, condition: Option<Expr>, negated: bool) -> Result<Expr> {
        let mut plan = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone());
        if let Some(condition) = condition {
            plan = plan.filter(condition)?;
        }
        let correlated = !plan.plan().all_out_ref_exprs().is_empty();
        if correlated && self.filter {
            return Ok(Expr::Exists(Exists { subquery: as_subquery(plan.build()?, subquery), negated }));
        }
        // Asked once, not for each row.
        let plan = if correlated { plan } else { plan.limit(0, Some(1))? };
        let counted = plan.aggregate(Vec::<Expr>::new(), vec![count_all()])?.build()?;
        let count = Expr::ScalarSubquery(as_subquery(counted, subquery));
        Ok(binary_expr(count, if negated { Operator::Eq } else { Operator::Gt }, lit(0_i64)))
    }
}

fn as_subquery(plan: LogicalPlan, like: &Subquery) -> Subquery {
    Subquery { outer_ref_columns: plan.all_out_ref_exprs(), subquery: Arc::new(plan), spans: like.spans.clone() }
}

/// An expression as a subquery sees it.
fn outer(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    expr.transform_up(|expr| match expr {
        Expr::Column(column) => {
            let field = schema.field_from_column(&column)?;
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field.clone(), column)))
        }
        expr => Ok(Transformed::no(expr)),
    })
    .data()
}

/// A filter of a correlated subquery, which compares columns with what is around it. Columns of one name get names of their own: where
/// DataFusion makes a join of the subquery, they become one column whatever tables they are of. And so do expressions: it groups by the
/// columns that are compared, where different values of one may be equal as keys.
fn by_columns(filter: Filter, aliases: &HashSet<String>) -> Result<LogicalPlan> {
    let Filter { predicate, input, .. } = filter;
    let own = |e: &Expr| {
        e.any_column_refs() && !e.contains_outer() && !matches!(e, Expr::Column(_)) && !e.is_volatile() && !holds(e, is_subquery)
    };
    let around = |e: &Expr| e.contains_outer() && !e.any_column_refs();
    let schema = Arc::clone(input.schema());
    let is_one_of_many =
        |name: &str| aliases.contains(name) || schema.fields().iter().filter(|field| field.name() == name).count() > 1;
    let mut keys: Vec<Expr> = Vec::new();
    let mut named = |expr: Expr| {
        let name = format!("{expr}{KEY}");
        let key = expr.alias(&name);
        if !keys.contains(&key) {
            keys.push(key);
        }
        Expr::Column(Column::new_unqualified(name))
    };
    let mut conditions = Vec::new();
    for condition in split_conjunction_owned(predicate) {
        let condition = match condition {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if own(&left) && around(&right) => {
                named(*left).eq(*right)
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if around(&left) && own(&right) => {
                named(*right).eq(*left)
            }
            condition if condition.contains_outer() && !holds(&condition, is_subquery) => {
                let rename = |expr: Expr| match expr {
                    Expr::Column(Column { ref name, .. }) if is_one_of_many(name) => Ok(Transformed::yes(named(expr))),
                    expr => Ok(Transformed::no(expr)),
                };
                condition.transform_up(rename).data()?
            }
            condition => condition,
        };
        conditions.push(condition);
    }
    let predicate = conjunction(conditions).unwrap_or_else(|| lit(true));
    if keys.is_empty() {
        return Ok(LogicalPlan::Filter(Filter::try_new(predicate, input)?));
    }
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    LogicalPlanBuilder::from(input.as_ref().clone())
        .project(columns.iter().cloned().chain(keys))?
        .filter(predicate)?
        .project(columns)?
        .build()
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_))
}
