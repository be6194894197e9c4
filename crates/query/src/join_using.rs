//! Rewrites `RIGHT` and `FULL JOIN … USING` as joins with `ON`.
//!
//! A column that `USING` names is one column, with the value of whichever side has the row. The planner takes it for the left
//! side's. Here it becomes a `CASE` over all sides. Start reading at `rewrite_joins`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Distinct, ExceptSelectItem, Expr, GroupByExpr, Ident, JoinConstraint, JoinOperator, ObjectName,
    ObjectNamePart, OrderBy, OrderByKind, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableWithJoins,
    VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use crate::syntax_tree::{binary, called, factors, normal, quoted};

/// A column of `USING`, and the tables that have it.
struct Merged {
    name: String,
    tables: Vec<ObjectName>,
}

/// Rewrites the joins in a list of tables, and the references to their merged columns.
///
/// `order` is the `ORDER BY` of the query, if this select is all of it.
///
/// # Errors
///
/// Returns a message if the joins cannot be rewritten.
pub(crate) fn rewrite_joins(select: &mut Select, order: Option<&mut OrderBy>) -> Result<(), String> {
    let concerned = |from: &TableWithJoins| {
        from.joins.iter().any(|join| match &join.join_operator {
            JoinOperator::Right(on) | JoinOperator::RightOuter(on) | JoinOperator::FullOuter(on) => {
                matches!(on, JoinConstraint::Using(_) | JoinConstraint::Natural)
            }
            _ => false,
        })
    };
    let Some(at) = select.from.iter().position(concerned) else { return Ok(()) };
    if select.from.len() > 1 {
        return Err("RIGHT or FULL JOIN … USING is not served with other tables in FROM; write ON".to_owned());
    }
    let merged = joined(&mut select.from[at])?;
    everything(select, at, &merged);
    let mut named = MergedColumnReplacer { merged: &merged, depth: 0 };
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(Expr::Identifier(name)) = item
            && let Some(value) = merged.iter().find(|m| m.name == normal(name))
        {
            *item = SelectItem::ExprWithAlias { alias: quoted(&value.name), expr: value.value() };
        }
        let _ = item.visit(&mut named);
    }
    let group = match &mut select.group_by {
        GroupByExpr::Expressions(exprs, _) => exprs.as_mut_slice(),
        GroupByExpr::All(_) => &mut [],
    };
    let distinct = match &mut select.distinct {
        Some(Distinct::On(exprs)) => exprs.as_mut_slice(),
        _ => &mut [],
    };
    let conditions = select.selection.iter_mut().chain(&mut select.having).chain(&mut select.qualify);
    for expr in conditions.chain(group).chain(distinct) {
        let _ = expr.visit(&mut named);
    }
    if let Some(OrderByKind::Expressions(exprs)) = order.map(|order| &mut order.kind) {
        let listed = |expr: &Expr| match expr {
            Expr::Identifier(name) => select.projection.iter().any(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => normal(alias) == normal(name),
                _ => false,
            }),
            _ => false,
        };
        for by in exprs.iter_mut().filter(|by| !listed(&by.expr)) {
            let _ = by.expr.visit(&mut named);
        }
    }
    Ok(())
}

/// Rewrites the joins of a query that is a single select, with its `ORDER BY`; does the same as [`rewrite_joins`].
pub(crate) fn rewrite_query_joins(query: &mut Query) -> Result<(), String> {
    match query.body.as_mut() {
        SetExpr::Select(select) => rewrite_joins(select, query.order_by.as_mut()),
        _ => Ok(()),
    }
}

/// Replaces `USING` by conditions; returns the columns that it merged.
fn joined(from: &mut TableWithJoins) -> Result<Vec<Merged>, String> {
    let nameless = || "RIGHT or FULL JOIN … USING is not served without a table's name; give it one, or write ON".to_owned();
    let mut merged: Vec<Merged> = Vec::new();
    let mut tables = vec![called(&from.relation).ok_or_else(nameless)?];
    for join in &mut from.joins {
        let right = called(&join.relation).ok_or_else(nameless)?;
        let on = match &mut join.join_operator {
            JoinOperator::Join(on)
            | JoinOperator::Inner(on)
            | JoinOperator::Left(on)
            | JoinOperator::LeftOuter(on)
            | JoinOperator::Right(on)
            | JoinOperator::RightOuter(on)
            | JoinOperator::FullOuter(on) => on,
            _ => return Err("this JOIN is not served with RIGHT or FULL JOIN … USING; write ON".to_owned()),
        };
        match on {
            JoinConstraint::Using(names) => {
                let mut condition: Option<Expr> = None;
                for name in names.iter() {
                    let [ObjectNamePart::Identifier(name)] = name.0.as_slice() else {
                        return Err("USING takes names of columns".to_owned());
                    };
                    let name = normal(name);
                    let at = match (merged.iter().position(|m| m.name == name), tables.as_slice()) {
                        (Some(at), _) => at,
                        (None, [only]) => {
                            merged.push(Merged { name: name.clone(), tables: vec![only.clone()] });
                            merged.len() - 1
                        }
                        (None, _) => {
                            return Err(format!("USING ({name}) after other joins is not served with RIGHT or FULL; write ON"));
                        }
                    };
                    let equal = binary(merged[at].value(), BinaryOperator::Eq, column(&right, &name));
                    condition = Some(match condition {
                        Some(before) => binary(before, BinaryOperator::And, equal),
                        None => equal,
                    });
                    merged[at].tables.push(right.clone());
                }
                *on = condition.map_or(JoinConstraint::None, JoinConstraint::On);
            }
            JoinConstraint::Natural => return Err("NATURAL RIGHT or FULL JOIN is not served; write USING".to_owned()),
            JoinConstraint::On(_) | JoinConstraint::None => {}
        }
        tables.push(right);
    }
    Ok(merged)
}

/// Writes `*` out: first the merged columns, then the rest of each table.
fn everything(select: &mut Select, at: usize, merged: &[Merged]) {
    let is_all = |item: &SelectItem| matches!(item, SelectItem::Wildcard(options) if options.opt_except.is_none());
    if !select.projection.iter().any(is_all) {
        return;
    }
    let tables: Vec<ObjectName> = factors(&select.from[at]).filter_map(called).collect();
    let mut items = Vec::new();
    for item in std::mem::take(&mut select.projection) {
        if !is_all(&item) {
            items.push(item);
            continue;
        }
        items.extend(merged.iter().map(|m| SelectItem::ExprWithAlias { expr: m.value(), alias: quoted(&m.name) }));
        for table in &tables {
            let mut own = merged.iter().filter(|m| m.tables.contains(table)).map(|m| quoted(&m.name));
            let except = own.next().map(|first| ExceptSelectItem { first_element: first, additional_elements: own.collect() });
            let options = WildcardAdditionalOptions { opt_except: except, ..Default::default() };
            let kind = SelectItemQualifiedWildcardKind::ObjectName(table.clone());
            items.push(SelectItem::QualifiedWildcard(kind, options));
        }
    }
    select.projection = items;
}

/// Builds a column that is qualified by its table.
fn column(table: &ObjectName, name: &str) -> Expr {
    let parts = table.0.iter().filter_map(ObjectNamePart::as_ident).cloned();
    Expr::CompoundIdentifier(parts.chain([quoted(name)]).collect())
}

impl Merged {
    /// Builds the expression for the first of the columns' values that is not null.
    fn value(&self) -> Expr {
        let mut columns = self.tables.iter().map(|table| column(table, &self.name)).rev();
        let last = columns.next().unwrap_or_else(|| Expr::Identifier(Ident::new("")));
        columns.fold(last, |rest, column| Expr::Case {
            case_token: AttachedToken::empty(),
            end_token: AttachedToken::empty(),
            operand: None,
            conditions: vec![CaseWhen { condition: Expr::IsNotNull(Box::new(column.clone())), result: column }],
            else_result: Some(Box::new(rest)),
        })
    }
}

/// The visitor that replaces the names of merged columns by their values.
///
/// It leaves nested queries alone, because a name may mean another column there.
struct MergedColumnReplacer<'a> {
    merged: &'a [Merged],
    depth: usize,
}

impl VisitorMut for MergedColumnReplacer<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth == 0
            && let Expr::Identifier(name) = expr
            && let Some(merged) = self.merged.iter().find(|m| m.name == normal(name))
        {
            *expr = merged.value();
        }
        ControlFlow::Continue(())
    }
}
