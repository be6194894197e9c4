//! Rewrites parts of a statement's syntax tree that the planner does not know.
//!
//! Comparisons of rows become comparisons of their values. Spellings of the SQL standard and of PostgreSQL become those of the
//! planner. Start reading at `rewrite`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, LimitClause,
    ObjectName, ObjectNamePart, Query, SelectItem, SetExpr, SetOperator, SetQuantifier, Subscript, TypedString, UnaryOperator,
    Value, Visit, Visitor,
};

use crate::depth;
use crate::semantics;
use crate::syntax_tree::{binary, call, normal, taken};

/// Rewrites an expression whose operands are rewritten.
///
/// # Errors
///
/// Returns a message for the client if the expression is not served: `^`, `COLLATE`, `SIMILAR TO`, a row `IN` a subquery, and some
/// operators with rows, `ANY` or `ALL`. Does so also if compared rows differ in length, have no values, or are too long to be
/// ordered.
pub(crate) fn rewrite(expr: &mut Expr) -> Result<(), String> {
    let made = match expr {
        // A literal keeps the digits that it is written with.
        Expr::TypedString(TypedString { data_type: DataType::Timestamp(precision @ None, _), value, .. })
            if value.value.clone().into_string().is_some_and(|text| digits_of_a_second(&text) > 6) =>
        {
            *precision = Some(9);
            None
        }
        Expr::BinaryOp { left, op: BinaryOperator::BitwiseXor, .. } => {
            return Err(format!("{left} ^ … is a power in some engines and XOR in others: write power(x, y)"));
        }
        Expr::Collate { .. } => return Err("COLLATE is not served".to_owned()),
        // The planner would take the pattern for a regular expression, which may match any part of the text.
        Expr::SimilarTo { .. } => return Err("SIMILAR TO is not served: use LIKE, or regexp_like(x, '^(…)$')".to_owned()),
        Expr::IsNull(operand) => values(operand).map(|values| joined(values.into_iter().map(is_null).collect(), true)),
        Expr::IsNotNull(operand) => values(operand).map(|values| joined(values.into_iter().map(is_not_null).collect(), true)),
        Expr::BinaryOp { left, op, right } => rows(left, right)?.map(|pairs| compared(&pairs, op)).transpose()?,
        Expr::IsDistinctFrom(left, right) => Some(match rows(left, right)? {
            Some(pairs) => distinct(&pairs),
            None => binary(taken(left), operator(semantics::DISTINCT), taken(right)),
        }),
        Expr::IsNotDistinctFrom(left, right) => Some(match rows(left, right)? {
            Some(pairs) => not(distinct(&pairs)),
            None => binary(taken(left), operator(semantics::NOT_DISTINCT), taken(right)),
        }),
        Expr::Between { expr, negated, low, high } => match (rows(expr, low)?, rows(expr, high)?) {
            (Some(low), Some(high)) => {
                let both = joined(vec![compared(&low, &BinaryOperator::GtEq)?, compared(&high, &BinaryOperator::LtEq)?], true);
                Some(if *negated { not(both) } else { both })
            }
            _ => None,
        },
        Expr::InList { expr, list, negated } => {
            match list.iter().map(|item| rows(expr, item)).collect::<Result<Option<Vec<_>>, _>>()? {
                Some(items) if !items.is_empty() => {
                    let equal = items.iter().map(|pairs| compared(pairs, &BinaryOperator::Eq)).collect::<Result<Vec<_>, _>>()?;
                    let any = joined(equal, false);
                    Some(if *negated { not(any) } else { any })
                }
                _ => None,
            }
        }
        Expr::InSubquery { expr, .. } if values(expr).is_some() => {
            return Err("a row IN (SELECT …) is not served: use EXISTS".to_owned());
        }
        // `-1 - x` flips all bits of `x`, and exists even for the least integer.
        Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr: operand } => {
            let one = Expr::Value(Value::Number("1".to_owned(), false).into());
            let minus_one = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(one) };
            Some(nested(binary(minus_one, BinaryOperator::Minus, nested(taken(operand)))))
        }
        Expr::CompoundFieldAccess { root, access_chain } => {
            fields(root, access_chain);
            None
        }
        Expr::AnyOp { left, compare_op, right, .. } => quantified(left, compare_op, right, false)?,
        Expr::AllOp { left, compare_op, right } => quantified(left, compare_op, right, true)?,
        Expr::Function(function) => called(function),
        _ => None,
    };
    if let Some(made) = made {
        *expr = made;
    }
    Ok(())
}

/// Turns `.x` after anything but a name into `['x']`: after an item, `l[1].x`, and after an expression, `(s).x`.
fn fields(root: &Expr, chain: &mut [AccessExpr]) {
    let names = |access: &&mut AccessExpr| matches!(access, AccessExpr::Dot(Expr::Identifier(_)));
    let is_name = matches!(root, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    let first = if is_name { chain.iter_mut().take_while(names).count() } else { 0 };
    for access in &mut chain[first..] {
        if let AccessExpr::Dot(Expr::Identifier(name)) = access {
            let index = Expr::Value(Value::SingleQuotedString(normal(name)).into());
            *access = AccessExpr::Subscript(Subscript::Index { index });
        }
    }
}

/// Returns the number of digits of a second's fraction, without zeros at the end.
fn digits_of_a_second(text: &str) -> usize {
    let fraction = text.rsplit_once('.').map_or("", |(_, fraction)| fraction);
    let digits = fraction.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.trim_end_matches('0').len()
}

/// Rewrites a comparison with any or all items of a list. Items that are written out become `IN`, which can prune files.
fn quantified(left: &mut Expr, op: &BinaryOperator, right: &mut Expr, all: bool) -> Result<Option<Expr>, String> {
    let negated = all && matches!(op, BinaryOperator::NotEq);
    Ok(match right {
        Expr::Subquery(_) => None,
        Expr::Array(list) if !list.elem.is_empty() && (negated || !all && matches!(op, BinaryOperator::Eq)) => {
            Some(nested(Expr::InList { expr: Box::new(nested(taken(left))), list: std::mem::take(&mut list.elem), negated }))
        }
        right => {
            let name =
                semantics::quantified(op, all).ok_or_else(|| format!("{op} of any or all items of a list is not served"))?;
            Some(call(&name, vec![taken(left), taken(right)]))
        }
    })
}

/// Rewrites `mod(a, b)` as `a % b`, `sign(x)` as `signum(x)`, and `nvl(a, b)` and `ifnull(a, b)` as `coalesce(a, b)`.
fn called(function: &mut Function) -> Option<Expr> {
    let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else { return None };
    let name = normal(name);
    let mut named = |other: &str| function.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(other))]);
    match name.as_str() {
        "sign" => {
            named("signum");
            None
        }
        "nvl" | "ifnull" if matches!(&function.args, FunctionArguments::List(list) if list.args.len() == 2) => {
            named("coalesce");
            None
        }
        "mod" => {
            let FunctionArguments::List(list) = &mut function.args else { return None };
            match list.args.as_mut_slice() {
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(left)), FunctionArg::Unnamed(FunctionArgExpr::Expr(right))] => {
                    let (left, right) = (nested(taken(left)), nested(taken(right)));
                    Some(nested(binary(left, BinaryOperator::Modulo, right)))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Turns `N'…'` and `U&'…'` into plain texts; the parser has resolved the escapes already.
pub(crate) fn literal(value: &mut Value) {
    if let Value::NationalStringLiteral(text) | Value::UnicodeStringLiteral(text) = value {
        *value = Value::SingleQuotedString(std::mem::take(text));
    }
}

/// Names the columns of recursive queries as their `WITH` does. The planner would know those names only outside the query.
pub(crate) fn name_recursive(query: &mut Query) {
    let Some(with) = query.with.as_mut().filter(|with| with.recursive) else { return };
    for cte in &mut with.cte_tables {
        let mut body = cte.query.body.as_mut();
        while let SetExpr::SetOperation { left, .. } = body {
            body = left.as_mut();
        }
        let SetExpr::Select(select) = body else { continue };
        let plain = |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
        if select.projection.len() != cte.alias.columns.len() || !select.projection.iter().all(plain) {
            continue;
        }
        for (item, column) in select.projection.iter_mut().zip(&cte.alias.columns) {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                *item = SelectItem::ExprWithAlias { expr: taken(expr), alias: column.name.clone() };
            }
        }
    }
}

/// Returns the name of a function in an expression that is computed over many rows: a window function or an aggregate.
///
/// Subqueries are left out. `aggregates` checks whether a function aggregates.
pub(crate) fn of_many_rows(expr: &Expr, aggregates: &dyn Fn(&str) -> bool) -> Option<String> {
    struct Many<'a> {
        aggregates: &'a dyn Fn(&str) -> bool,
        queries: usize,
    }
    impl Visitor for Many<'_> {
        type Break = String;

        fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<String> {
            self.queries += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<String> {
            self.queries -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<String> {
            match expr {
                Expr::Function(function) if self.queries == 0 => match function.name.0.as_slice() {
                    [ObjectNamePart::Identifier(name)] if function.over.is_some() || (self.aggregates)(&normal(name)) => {
                        ControlFlow::Break(normal(name))
                    }
                    _ => ControlFlow::Continue(()),
                },
                _ => ControlFlow::Continue(()),
            }
        }
    }
    match expr.visit(&mut Many { aggregates, queries: 0 }) {
        ControlFlow::Break(name) => Some(name),
        ControlFlow::Continue(()) => None,
    }
}

/// Checks whether the `LIMIT` or `OFFSET` of a query is a subquery.
pub(crate) fn limited_by_query(query: &Query) -> bool {
    let asks = |expr: &Expr| matches!(bare(expr), Expr::Subquery(_));
    match &query.limit_clause {
        Some(LimitClause::LimitOffset { limit, offset, .. }) => {
            limit.iter().chain(offset.iter().map(|offset| &offset.value)).any(asks)
        }
        Some(LimitClause::OffsetCommaLimit { offset, limit }) => asks(offset) || asks(limit),
        None => false,
    }
}

/// Returns the name of a set operation that the planner gets wrong, because it does not count how often a row occurs.
pub(crate) fn uncounted(body: &SetExpr) -> Option<&'static str> {
    match body {
        SetExpr::SetOperation { op, set_quantifier, left, right } => match (op, set_quantifier) {
            (SetOperator::Except | SetOperator::Minus, SetQuantifier::All) => Some("EXCEPT ALL"),
            (SetOperator::Intersect, SetQuantifier::All) => Some("INTERSECT ALL"),
            _ => uncounted(left).or_else(|| uncounted(right)),
        },
        _ => None,
    }
}

/// Returns an expression without the parentheses around it.
fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => bare(inner),
        other => other,
    }
}

/// Returns the values of a row, `(a, b)` or `ROW(a, b)`.
fn values(expr: &Expr) -> Option<Vec<Expr>> {
    let function = match bare(expr) {
        Expr::Tuple(values) => return Some(values.clone()),
        Expr::Function(function) => function,
        _ => return None,
    };
    let ([ObjectNamePart::Identifier(name)], FunctionArguments::List(list)) = (&function.name.0[..], &function.args) else {
        return None;
    };
    let value = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value.clone()),
        _ => None,
    };
    if normal(name) != "row" { None } else { list.args.iter().map(value).collect() }
}

/// Returns the values of two rows in pairs; `None` if one of them is not a row.
fn rows(left: &Expr, right: &Expr) -> Result<Option<Vec<(Expr, Expr)>>, String> {
    match (values(left), values(right)) {
        (Some(l), Some(r)) if l.len() == r.len() => Ok(Some(l.into_iter().zip(r).collect())),
        (Some(l), Some(r)) => {
            let values = esker_types::format_count(l.len() as u64, "value");
            Err(format!("a row of {values} is compared with one of {}", r.len()))
        }
        _ => Ok(None),
    }
}

/// Compares two rows (SQL:2016 8.2). The result is unknown where a null decides.
fn compared(pairs: &[(Expr, Expr)], op: &BinaryOperator) -> Result<Expr, String> {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    let each = |op: &BinaryOperator| pairs.iter().map(|(l, r)| pair(l, op, r)).collect::<Vec<_>>();
    Ok(match op {
        Eq => joined(each(op), true),
        NotEq => joined(each(op), false),
        Lt | LtEq | Gt | GtEq if pairs.len() > depth::LEVELS => {
            return Err(format!("the statement is too deep: a row that is ordered has more than {} values", depth::LEVELS));
        }
        Lt | LtEq | Gt | GtEq => {
            let strict = if matches!(op, Lt | LtEq) { Lt } else { Gt };
            // From the last pair to the first: less, or equal and the rest holds.
            let mut made: Option<Expr> = None;
            for (left, right) in pairs.iter().rev() {
                made = Some(match made {
                    None => pair(left, op, right),
                    Some(rest) => {
                        let equal = joined(vec![pair(left, &Eq, right), rest], true);
                        joined(vec![pair(left, &strict, right), equal], false)
                    }
                });
            }
            made.ok_or("a row of no values")?
        }
        other => return Err(format!("{other} does not compare rows")),
    })
}

/// Compares two rows by `IS DISTINCT FROM`.
fn distinct(pairs: &[(Expr, Expr)]) -> Expr {
    let one = |(l, r): &(Expr, Expr)| pair(l, &operator(semantics::DISTINCT), r);
    joined(pairs.iter().map(one).collect(), false)
}

/// Returns the operator that stands for `IS [NOT] DISTINCT FROM`. The planner asks `semantics` about operators alone.
fn operator(name: &str) -> BinaryOperator {
    BinaryOperator::Custom(name.to_owned())
}

fn pair(left: &Expr, op: &BinaryOperator, right: &Expr) -> Expr {
    nested(binary(nested(left.clone()), op.clone(), nested(right.clone())))
}

/// Joins conditions by `AND` if `all` is set, and by `OR` otherwise.
fn joined(conditions: Vec<Expr>, all: bool) -> Expr {
    let op = if all { BinaryOperator::And } else { BinaryOperator::Or };
    let one = conditions.into_iter().reduce(|left, right| binary(left, op.clone(), right));
    let mut one = one.unwrap_or_else(|| Expr::Value(Value::Boolean(all).into()));
    depth::balance(&mut one);
    nested(one)
}

fn is_null(expr: Expr) -> Expr {
    nested(Expr::IsNull(Box::new(nested(expr))))
}

fn is_not_null(expr: Expr) -> Expr {
    nested(Expr::IsNotNull(Box::new(nested(expr))))
}

fn not(expr: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(nested(expr)) }
}

fn nested(expr: Expr) -> Expr {
    Expr::Nested(Box::new(expr))
}
