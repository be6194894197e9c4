//! Corrections of a statement's syntax tree before it is planned.
//!
//! Every column of a select list gets a name of its own, and what the planner would silently skip is refused. Start reading at
//! `rewritten`.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, ObjectName, OrderByExpr, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, ShowStatementFilter, Statement as SqlStatement, TableFactor, UnaryOperator, Value,
    ValueWithSpan, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use crate::scope::Scope;
use crate::syntax_tree::{called, factors, normal, parts, quoted, taken};
use crate::{QueryError, Result, depth, join_using, syntax};

/// Separator between the name of a column and the number that makes it unique. Readers see the name alone.
const AGAIN: &str = "\u{1f}again=";

/// Returns the name of a column as readers see it.
pub(crate) fn shown(name: &str) -> &str {
    match name.rsplit_once(AGAIN) {
        Some((shown, number)) if !shown.is_empty() && number.parse::<usize>().is_ok() => shown,
        _ => name,
    }
}

/// Rewrites a statement so that the names in each select list differ.
pub(crate) fn rewritten(statement: Statement) -> Result<Statement> {
    Ok(match statement {
        Statement::Statement(mut inner) => {
            let mut rewriter = Rewriter::default();
            let _ = inner.visit(&mut rewriter);
            match rewriter.refused {
                Some(what) => return Err(QueryError::Statement(what)),
                None => Statement::Statement(inner),
            }
        }
        Statement::Explain(mut explain) => {
            *explain.statement = rewritten(*explain.statement)?;
            Statement::Explain(explain)
        }
        other => other,
    })
}

/// The visitor that rewrites a statement.
#[derive(Default)]
struct Rewriter {
    /// Number of queries that enclose the current one.
    depth: usize,
    scope: Scope,
    /// The reason for which the statement is refused.
    refused: Option<String>,
}

impl Rewriter {
    fn wrong(&mut self, what: String) -> ControlFlow<()> {
        self.refused = Some(what);
        ControlFlow::Break(())
    }

    fn refused(&mut self, what: &str) -> ControlFlow<()> {
        self.wrong(format!("{what} is not served"))
    }
}

impl VisitorMut for Rewriter {
    // The reason is kept apart: a visitor that passes errors on takes 64 KiB of the stack for each level of an expression.
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &mut SqlStatement) -> ControlFlow<()> {
        self.scope.enter_change(statement);
        // The planner makes an SQL text of such a statement, which a quote could change.
        let hostile = match statement {
            SqlStatement::ShowVariable { .. } | SqlStatement::ShowColumns { .. } | SqlStatement::ShowCreate { .. } => {
                statement.to_string().contains('\'')
            }
            SqlStatement::ShowFunctions { filter: Some(filter) } => {
                filter.to_string().matches('\'').count() > 2 || matches!(filter, ShowStatementFilter::Where(_))
            }
            _ => false,
        };
        match hostile {
            true => self.refused("SHOW with a quote in a name, or with LIKE (use DESCRIBE or information_schema)"),
            false => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        syntax::literal(&mut value.value);
        match &value.value {
            Value::Placeholder(name) if name.strip_prefix('$').is_none_or(|number| number.parse::<u16>().is_err()) => {
                self.wrong(format!("parameter {name}: parameters are ?, or $1, $2, …"))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        self.scope.enter(query);
        if query.for_clause.is_some() {
            return self.refused("FOR XML or FOR JSON");
        }
        if query.settings.is_some() || query.format_clause.is_some() {
            return self.refused("SETTINGS or FORMAT");
        }
        if syntax::limited_by_query(query) {
            return self.refused("a subquery in LIMIT or OFFSET (write the number, or a parameter)");
        }
        if let Some(what) = syntax::uncounted(&query.body) {
            return self.refused(what);
        }
        syntax::name_recursive(query);
        if let Err(what) = join_using::rewrite_query_joins(query) {
            return self.wrong(what);
        }
        name_all(&mut query.body, self.depth > 1);
        order_distinct(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        self.scope.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        self.scope.select(select);
        // For the selects of a set operation; any other was rewritten with its query.
        if let Err(what) = join_using::rewrite_joins(select, None) {
            return self.wrong(what);
        }
        match () {
            () if select.prewhere.is_some() => self.refused("PREWHERE"),
            () if !select.connect_by.is_empty() => self.refused("CONNECT BY"),
            () if select.exclude.is_some() => self.refused("EXCLUDE after a select list"),
            () if select.value_table_mode.is_some() => self.refused("SELECT AS VALUE or AS STRUCT"),
            () => {
                name_wholly(select);
                ControlFlow::Continue(())
            }
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        depth::balance(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Err(what) = regroup(expr) {
            return self.wrong(what);
        }
        if let Expr::CompoundIdentifier(names) = expr {
            match self.scope.outer(names) {
                Ok(Some(column)) => *expr = column,
                Ok(None) => {}
                Err(what) => return self.wrong(what),
            }
        }
        match syntax::rewrite(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(what) => self.wrong(what),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        self.scope.enter_from_item(factor);
        match factor {
            TableFactor::Table { name, version: Some(_), .. } => {
                self.wrong(format!("{name}: AS OF takes a literal: a number, 'a string' or TIMESTAMP '…'"))
            }
            TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => {
                self.refused("TABLESAMPLE")
            }
            TableFactor::Table { with_ordinality: true, .. } => self.refused("WITH ORDINALITY"),
            TableFactor::Table { partitions, .. } if !partitions.is_empty() => self.refused("PARTITION after a table's name"),
            TableFactor::Table { json_path: Some(_), .. } => self.refused("a path after a table's name"),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Corrects the end of the operand after `IS [NOT] DISTINCT FROM`.
///
/// The parser takes all of `b OR c` for the operand. The operand of an `AND` or `NOT` before the comparison then is too long as
/// well. Operands in parentheses stay as they are. What the expression was is rewritten at its new place.
///
/// # Errors
///
/// Returns the errors of [`syntax::rewrite`].
fn regroup(expr: &mut Expr) -> std::result::Result<(), String> {
    let Some((last, ops)) = last_operand(expr) else { return Ok(()) };
    if !matches!(last.as_ref(), Expr::BinaryOp { op, .. } if ops.contains(op)) {
        return Ok(());
    }
    let mut chain = taken(last);
    let mut comparison = taken(expr);
    let mut rewritten = Ok(());
    at_first_operand(&mut chain, ops, &mut |first| {
        std::mem::swap(first, &mut comparison);
        // The comparison stands there now, and lacks the operand that stood there before.
        if let Some((last, _)) = last_operand(first) {
            std::mem::swap(last.as_mut(), &mut comparison);
        }
        rewritten = syntax::rewrite(first);
    });
    *expr = chain;
    rewritten
}

/// Returns the last operand of an expression that may have taken too much, and the operators that cannot be in it.
fn last_operand(expr: &mut Expr) -> Option<(&mut Box<Expr>, &'static [BinaryOperator])> {
    const BOTH: &[BinaryOperator] = &[BinaryOperator::And, BinaryOperator::Or];
    Some(match expr {
        Expr::IsDistinctFrom(_, last) | Expr::IsNotDistinctFrom(_, last) => (last, BOTH),
        Expr::UnaryOp { op: UnaryOperator::Not, expr: last } => (last, BOTH),
        Expr::BinaryOp { op: BinaryOperator::And, right: last, .. } => (last, &BOTH[1..]),
        _ => return None,
    })
}

/// Applies a function to the first operand in a chain of some operators.
fn at_first_operand(expr: &mut Expr, ops: &[BinaryOperator], act: &mut dyn FnMut(&mut Expr)) {
    match expr {
        Expr::BinaryOp { op, left, .. } if ops.contains(op) => at_first_operand(left, ops, act),
        first => act(first),
    }
}

/// Gives the columns of all select lists of a query names.
///
/// In a `nested` query, columns of the same name get different names even if they are from different tables.
fn name_all(body: &mut SetExpr, nested: bool) {
    match body {
        SetExpr::Select(select) => name(select, nested),
        SetExpr::SetOperation { left, right, .. } => {
            name_all(left, true);
            name_all(right, true);
        }
        _ => {}
    }
}

/// Orders a `SELECT DISTINCT` by the columns of its list. The planner does not find an expression there that has an alias.
fn order_distinct(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_ref() else { return };
    let Some(OrderByKind::Expressions(order)) = query.order_by.as_mut().map(|order| &mut order.kind) else { return };
    if select.distinct.is_none() {
        return;
    }
    for OrderByExpr { expr: by, .. } in order {
        let same = |item: &SelectItem| match item {
            SelectItem::ExprWithAlias { expr, alias } if expr == by => Some(alias.clone()),
            _ => None,
        };
        if !matches!(by, Expr::Identifier(_) | Expr::Value(_))
            && let Some(alias) = select.projection.iter().find_map(same)
        {
            *by = Expr::Identifier(alias);
        }
    }
}

/// Writes the `t.*` of a list as `n.t.*` where the table is `n.t`, because the planner finds it only by its whole name.
fn name_wholly(select: &mut Select) {
    let tables: Vec<ObjectName> = select
        .from
        .iter()
        .flat_map(factors)
        .filter_map(|factor| match factor {
            TableFactor::Table { name, alias: None, .. } => Some(name.clone()),
            _ => None,
        })
        .collect();
    for item in &mut select.projection {
        let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(given), _) = item else { continue };
        let mut fit = tables.iter().filter(|table| parts(table).ends_with(&parts(given)));
        if let (Some(table), None) = (fit.next(), fit.next()) {
            *given = table.clone();
        }
    }
}

/// Takes the outer names of a table off the columns that they qualify.
pub(crate) fn name_barely(expr: &mut Expr, table: &[String]) {
    struct Bare<'a>(&'a [String]);
    impl VisitorMut for Bare<'_> {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::CompoundIdentifier(parts) = expr
                && parts.len() > self.0.len()
                && parts.iter().zip(self.0).all(|(part, name)| normal(part) == *name)
            {
                parts.drain(..self.0.len() - 1);
            }
            ControlFlow::Continue(())
        }
    }
    if table.len() > 1 {
        let _ = expr.visit(&mut Bare(table));
    }
}

/// Returns the name of the column that an item makes, and the table that qualifies it.
fn label(item: &SelectItem) -> Option<(Option<String>, String)> {
    Some(match item {
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => (None, normal(name)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
            let mut parts = parts.iter().map(normal).rev();
            let name = parts.next()?;
            // In `s.s.x`, the table is the first part.
            (parts.next().filter(|table| parts.next_back().as_ref() != Some(table)), name)
        }
        // Each field of a struct becomes a column.
        SelectItem::UnnamedExpr(Expr::Function(function)) if is_named(&function.name, "unnest") => return None,
        SelectItem::UnnamedExpr(expr) => (None, expr.to_string()),
        SelectItem::ExprWithAlias { alias, .. } => (None, normal(alias)),
        _ => return None,
    })
}

fn is_named(name: &ObjectName, wanted: &str) -> bool {
    name.0.last().and_then(|part| part.as_ident()).is_some_and(|ident| normal(ident) == wanted)
}

/// Gives the columns of a select list names that differ.
fn name(select: &mut Select, nested: bool) {
    let everything = Everything::of(select);
    let mut seen: HashMap<String, Vec<Option<String>>> = HashMap::new();
    for item in &mut select.projection {
        let Some((table, name)) = label(item) else { continue };
        // A qualifier that is not a table is a struct, and the column is one of its fields.
        let table = table.filter(|table| everything.tables.contains(table));
        let before = seen.entry(name.clone()).or_default();
        let apart = |other: &Option<String>| !nested && matches!((other, &table), (Some(a), Some(b)) if a != b);
        let again = before.iter().any(|other| !apart(other)) || everything.has(item);
        before.push(table);
        let alias = match again {
            true => format!("{name}{AGAIN}{}", before.len() + 1),
            false => name,
        };
        let alias = Ident::with_quote('"', alias);
        match item {
            // Such a column has this name already.
            SelectItem::UnnamedExpr(Expr::Identifier(_)) if !again => {}
            SelectItem::UnnamedExpr(expr) => {
                *item = SelectItem::ExprWithAlias { expr: taken(expr), alias };
            }
            SelectItem::ExprWithAlias { alias: own, .. } if again => *own = alias,
            _ => {}
        }
    }
}

/// Returns the statement with new names for the aliases in its list, if the list holds a `*`.
///
/// Its `ORDER BY` is renamed as well. Returns `None` if nothing would change.
pub(crate) fn apart_from_all(statement: &Statement) -> Option<Statement> {
    let Statement::Statement(inner) = statement else { return None };
    let query = match inner.as_ref() {
        SqlStatement::Query(query) => query.as_ref(),
        SqlStatement::CreateTable(create) => create.query.as_ref()?,
        _ => return None,
    };
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let wild = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let named = |item: &SelectItem| matches!(item, SelectItem::ExprWithAlias { .. });
    let list = &select.projection;
    if !list.iter().any(wild) || !list.iter().any(named) || select.having.is_some() || select.qualify.is_some() {
        return None;
    }
    let mut apart = statement.clone();
    if let Statement::Statement(inner) = &mut apart {
        match inner.as_mut() {
            SqlStatement::Query(query) => rename(query),
            SqlStatement::CreateTable(create) => create.query.iter_mut().for_each(|query| rename(query)),
            _ => {}
        }
    }
    Some(apart)
}

/// Gives every alias in a query's list a name that no column has.
fn rename(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let mut renamed: HashMap<String, Ident> = HashMap::new();
    for (at, item) in select.projection.iter_mut().enumerate() {
        if let SelectItem::ExprWithAlias { alias, .. } = item {
            let name = normal(alias);
            *alias = quoted(&format!("{}{AGAIN}{}", shown(&name), at + 1));
            renamed.entry(name).or_insert_with(|| alias.clone());
        }
    }
    let Some(OrderByKind::Expressions(order)) = query.order_by.as_mut().map(|order| &mut order.kind) else { return };
    for OrderByExpr { expr, .. } in order {
        if let Expr::Identifier(name) = expr
            && let Some(alias) = renamed.get(&normal(name))
        {
            *name = alias.clone();
        }
    }
}

/// The columns that the `*` items of a list make.
struct Everything {
    /// True if `*` makes the columns of all tables.
    all: bool,
    /// Names of the tables whose columns `t.*` makes.
    of: BTreeSet<String>,
    /// Names of the tables in the list's `FROM`.
    tables: BTreeSet<String>,
}

impl Everything {
    fn of(select: &Select) -> Self {
        let plain = |options: &WildcardAdditionalOptions| {
            let WildcardAdditionalOptions { opt_ilike, opt_exclude, opt_except, opt_replace, opt_rename, .. } = options;
            opt_ilike.is_none() && opt_exclude.is_none() && opt_except.is_none() && opt_replace.is_none() && opt_rename.is_none()
        };
        let last = |name: &ObjectName| name.0.last().and_then(|part| part.as_ident()).map(normal);
        let of = select.projection.iter().filter_map(|item| match item {
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) if plain(options) => {
                last(name)
            }
            _ => None,
        });
        let all = select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(options) if plain(options)));
        let tables = select.from.iter().flat_map(factors).filter_map(called).filter_map(|name| last(&name));
        Self { all, of: of.collect(), tables: tables.collect() }
    }

    /// Checks whether an item is a column that a `*` makes already.
    fn has(&self, item: &SelectItem) -> bool {
        match item {
            SelectItem::UnnamedExpr(Expr::Identifier(_)) => self.all,
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
                let table = parts.iter().rev().nth(1).map(normal);
                table.is_some_and(|table| self.of.contains(&table) || (self.all && self.tables.contains(&table)))
            }
            _ => false,
        }
    }
}
