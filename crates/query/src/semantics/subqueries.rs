//! Comparisons with the rows of a subquery (`IN`, `ANY`, `ALL`), and correlated subqueries, in forms that DataFusion joins right.
//!
//! DataFusion joins by such a comparison, and a join only knows true and not true. So the meaning of nulls is written out. If E
//! means "a row matches" and N means "a row cannot be compared", `x IN (…)` is `E OR (N AND NULL)`.
//! In correlated subqueries, compared columns get names of their own. Start with [`Subqueries`], then read [`AnyComparison`].

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

use super::function::{Unary, call_unfolded as stays};
use super::hoisted_subqueries::below;
use super::plans;
use crate::minmax;

/// Suffix of the name of a column that holds the values of an expression. The expression's text comes before it.
const KEY: &str = "\u{1f}key";

/// Suffix of the name of a subquery's one column, if the column is compared.
const ROW: &str = "\u{1f}row";

/// The analyzer rule for subqueries. It runs after type coercion.
#[derive(Debug)]
pub(super) struct Subqueries;

impl AnalyzerRule for Subqueries {
    fn name(&self) -> &'static str {
        "subqueries"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        // The result of a subquery may be null, unlike the expression that it replaces: nullability changes.
        let aliases = aliases(&plan)?;
        let rewritten = |plan| {
            let plan =
                below(plans::rewrite_expressions(plan, rename_correlated)?.data, &|plan| rewrite_plan(plan, &aliases).data())?;
            rewrite_plan(plan, &aliases)?.map_data(LogicalPlan::recompute_schema)
        };
        plan.transform_up_with_subqueries(rewritten).data()
    }
}

/// Returns all names that a statement gives to columns.
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

/// Rewrites the comparisons with subqueries, and the correlated conditions, of one node.
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
            let predicate = if asks {
                rewrite_condition(predicate, &ComparisonContext { schema: &schema, filter: true })?
            } else {
                predicate
            };
            let filter = Filter::try_new(predicate, input)?;
            Ok(Transformed::yes(if outer { by_columns(filter, aliases)? } else { LogicalPlan::Filter(filter) }))
        }
        plan => {
            let names = NamePreserver::new(&plan);
            let place = ComparisonContext { schema: &schema, filter: false };
            plan.map_expressions(|expr| {
                if !holds(&expr, |e| compares(e) || matches!(e, Expr::Exists(_))) {
                    return Ok(Transformed::no(expr));
                }
                let name = names.save(&expr);
                Ok(Transformed::yes(name.restore(rewrite_three_valued(expr, &place)?)))
            })
        }
    }
}

/// Renames the column of a correlated subquery. Its name then differs from all that it is compared with in the rows around it.
fn rename_correlated(expr: Expr) -> Result<Transformed<Expr>> {
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

/// Returns true if a part of an expression fulfils `what`.
fn holds(expr: &Expr, what: impl Fn(&Expr) -> bool) -> bool {
    expr.exists(|e| Ok(what(e))).unwrap_or(false)
}

/// Returns true if an expression is a comparison that this module rewrites.
fn compares(expr: &Expr) -> bool {
    match expr {
        Expr::InSubquery(_) | Expr::SetComparison(_) => true,
        Expr::Exists(exists) => is_one_row(&exists.subquery),
        _ => false,
    }
}

/// Returns true if a correlated subquery has exactly one row for each row around it.
///
/// It aggregates without groups, and so has a row even if there is nothing to aggregate. A join would find no row then.
fn is_one_row(subquery: &Subquery) -> bool {
    has_one_row(&subquery.subquery) && !subquery.subquery.all_out_ref_exprs().is_empty()
}

/// Returns true if a plan has exactly one row, whatever its input is.
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

/// The function that returns its argument and is declared nullable, for a subquery that may have no row.
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

/// Declares the value of a subquery nullable if the subquery may have no row.
///
/// DataFusion takes the value of a required column for one that is never null. Returns `None` if nothing has to change.
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

/// The place of a comparison in a plan.
struct ComparisonContext<'a> {
    /// The columns that the comparison may name.
    schema: &'a DFSchema,
    /// True in a filter, where `EXISTS` becomes a join. Elsewhere rows are counted.
    filter: bool,
}

/// Rewrites a condition that only has to be true in the right cases. Null and false need no distinction.
fn rewrite_condition(expr: Expr, place: &ComparisonContext<'_>) -> Result<Expr> {
    if !holds(&expr, compares) {
        return Ok(expr);
    }
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            Ok(binary_expr(rewrite_condition(*left, place)?, op, rewrite_condition(*right, place)?))
        }
        // DataFusion joins by equality here, and nothing else is needed.
        Expr::InSubquery(InSubquery { negated: false, subquery, expr }) if !is_one_row(&subquery) => {
            Ok(Expr::InSubquery(InSubquery { negated: false, subquery: named(&subquery)?.0, expr }))
        }
        Expr::Not(inner) => match AnyComparison::of(inner.as_ref()) {
            Some(any) => AnyComparison { negated: !any.negated, ..any }.is_true(place),
            None => rewrite_three_valued(Expr::Not(inner), place),
        },
        expr => match AnyComparison::of(&expr) {
            Some(any) => any.is_true(place),
            None => rewrite_three_valued(expr, place),
        },
    }
}

/// Rewrites an expression so that its comparisons are true, false or null as SQL defines.
fn rewrite_three_valued(expr: Expr, place: &ComparisonContext<'_>) -> Result<Expr> {
    expr.transform_up(|expr| match expr {
        Expr::Exists(Exists { subquery, negated }) if is_one_row(&subquery) => Ok(Transformed::yes(lit(!negated))),
        Expr::Exists(Exists { subquery, negated }) if !place.filter => {
            Ok(Transformed::yes(place.exists(&subquery, None, negated)?))
        }
        expr => match AnyComparison::of(&expr) {
            Some(any) => Ok(Transformed::yes(any.value(place)?)),
            None => Ok(Transformed::no(expr)),
        },
    })
    .data()
}

/// Returns the first column of a plan.
fn first(plan: &LogicalPlan) -> Expr {
    Expr::Column(Column::from(plan.schema().qualified_field(0)))
}

/// Gives the one column of a subquery a name of its own; returns the subquery and the column.
///
/// A join forgets which side a column is from, and both sides may be the same column of the same table.
fn named(subquery: &Subquery) -> Result<(Subquery, Expr)> {
    columns_named(subquery, first(&subquery.subquery))
}

/// Projects a subquery to one column with a name of its own; returns the subquery and the column.
fn columns_named(subquery: &Subquery, column: Expr) -> Result<(Subquery, Expr)> {
    let plan = subquery.subquery.as_ref();
    let name = format!("{}{ROW}", plan.schema().field(0).name());
    let rows = LogicalPlanBuilder::from(plan.clone()).project([column.alias(&name)])?.build()?;
    Ok((as_subquery(rows, subquery), Expr::Column(Column::new_unqualified(name))))
}

/// The comparison of a value with any row of a subquery.
///
/// It is true if `value op row` is true for some row; `negated` inverts it.
struct AnyComparison {
    value: Expr,
    op: Operator,
    subquery: Subquery,
    negated: bool,
}

impl AnyComparison {
    /// Returns the comparison that an expression is, or `None` if it is none that can be rewritten.
    fn of(expr: &Expr) -> Option<Self> {
        let (value, op, subquery, negated) = match expr {
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => (expr, Operator::Eq, subquery, *negated),
            Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => match quantifier {
                SetQuantifier::Any => (expr, *op, subquery, false),
                // The comparison holds for all rows if its negation holds for none.
                SetQuantifier::All => (expr, op.negate()?, subquery, true),
            },
            _ => return None,
        };
        // The value belongs to a query around this one, two levels above the subquery.
        if value.contains_outer() {
            return None;
        }
        Some(Self { value: value.as_ref().clone(), op, subquery: subquery.clone(), negated })
    }

    /// Returns the one column of the subquery.
    fn column(&self) -> Expr {
        first(&self.subquery.subquery)
    }

    /// Returns the condition that a row matches, in terms of the least and the greatest of all rows.
    ///
    /// A subquery that is not correlated computes these once. Returns `None` for correlated subqueries and for equality.
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
            // A value that equals both the least and the greatest equals all rows.
            Operator::NotEq => Some(compared(min)?.or(compared(max)?)),
            _ => None,
        })
    }

    /// Returns the condition that a row matches, or if `negated` that none does.
    fn fits(&self, place: &ComparisonContext<'_>, negated: bool) -> Result<Expr> {
        // In a filter the comparison becomes the condition of a join. Elsewhere no join can take it.
        if !place.filter
            && let Some(fits) = self.by_ends()?
        {
            return Ok(if negated { fits.is_not_true() } else { fits });
        }
        let outer = outer(self.value.clone(), place.schema)?;
        let (rows, column) = named(&self.subquery)?;
        let op = self.op;
        // The column comes first if the operator can be swapped.
        let condition = match op.swap() {
            Some(turned) => binary_expr(column, turned, outer),
            None => binary_expr(outer, op, column),
        };
        place.exists(&rows, Some(condition), negated)
    }

    /// Returns the condition that a row cannot be compared, or if `negated` that all can.
    ///
    /// Returns `None` if nothing can be null.
    fn unknown(&self, place: &ComparisonContext<'_>, negated: bool) -> Result<Option<Expr>> {
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

    /// Compares with the only row of the subquery.
    fn with_one(&self) -> Expr {
        let compared = binary_expr(self.value.clone(), self.op, Expr::ScalarSubquery(self.subquery.clone()));
        if self.negated { Expr::Not(Box::new(compared)) } else { compared }
    }

    /// Returns a condition that is true exactly if the comparison is. It may be false where the comparison is null.
    fn is_true(&self, place: &ComparisonContext<'_>) -> Result<Expr> {
        if is_one_row(&self.subquery) {
            return Ok(self.with_one());
        }
        let fits = self.fits(place, self.negated)?;
        Ok(match self.negated {
            true => conjunction([Some(fits), self.unknown(place, true)?].into_iter().flatten()).unwrap_or_else(|| lit(true)),
            false => fits,
        })
    }

    /// Returns an expression that is true, false or null as the comparison is.
    fn value(&self, place: &ComparisonContext<'_>) -> Result<Expr> {
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

impl ComparisonContext<'_> {
    /// Returns the condition that a subquery has a row that fulfils `condition`, or if `negated` that it has none.
    fn exists(&self, subquery: &Subquery, condition: Option<Expr>, negated: bool) -> Result<Expr> {
        let mut plan = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone());
        if let Some(condition) = condition {
            plan = plan.filter(condition)?;
        }
        let correlated = !plan.plan().all_out_ref_exprs().is_empty();
        if correlated && self.filter {
            return Ok(Expr::Exists(Exists { subquery: as_subquery(plan.build()?, subquery), negated }));
        }
        // The subquery runs once, not for each row around it. One row suffices.
        let plan = if correlated { plan } else { plan.limit(0, Some(1))? };
        let counted = plan.aggregate(Vec::<Expr>::new(), vec![count_all()])?.build()?;
        let count = Expr::ScalarSubquery(as_subquery(counted, subquery));
        Ok(binary_expr(count, if negated { Operator::Eq } else { Operator::Gt }, lit(0_i64)))
    }
}

/// Makes a subquery of a plan, with the position of `like` in the statement.
fn as_subquery(plan: LogicalPlan, like: &Subquery) -> Subquery {
    Subquery { outer_ref_columns: plan.all_out_ref_exprs(), subquery: Arc::new(plan), spans: like.spans.clone() }
}

/// Writes the columns of an expression as a subquery names columns of the query around it.
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

/// Rewrites the filter of a correlated subquery, which compares columns with the query around it.
///
/// If several columns have one name, each gets a name of its own. DataFusion makes a join of the subquery, and columns of one
/// name become one column there, whatever tables they are from.
///
/// Expressions become columns with names of their own, too. DataFusion groups by the compared columns, and different values of
/// one column may be equal as keys.
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

/// Returns true if an expression is a subquery, or a comparison with one.
fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_))
}
