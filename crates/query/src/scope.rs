//! Finds the columns of outer queries that a subquery names.
//!
//! In `a.b`, the name `a` may be a table of an outer query or a struct column of this query. Esker prefers the table, DataFusion's
//! planner the struct. `Scope` follows a visitor through a statement, and `Scope::outer` rewrites a name so that the planner finds
//! the table.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, FromTable, Ident, Query, Select, SetExpr, Statement, Subscript, TableFactor, TableWithJoins, Value,
};

use crate::syntax_tree::{called, factors, normal, parts, quoted};

/// Qualifier that is put in front of the name of an outer query's table, so that the planner takes the name for no column.
const OUTER_QUALIFIER: &str = "\u{1f}";

/// The names of the tables of the queries that enclose an expression, from the outermost query to its own.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    queries: Vec<Level>,
    /// True if the next query to be entered is an item of `FROM` without `LATERAL`, which does not see the other items.
    isolated: bool,
}

/// A query with the names of its tables, each in parts.
#[derive(Debug, Default)]
struct Level {
    tables: Vec<Vec<String>>,
    /// Number of queries in its `WITH` that were not entered yet.
    pending_ctes: usize,
    /// True if the query does not see the tables of the query that directly encloses it.
    isolated: bool,
}

impl Scope {
    /// Enters a query.
    pub(crate) fn enter(&mut self, query: &Query) {
        let mut isolated = std::mem::take(&mut self.isolated);
        if let Some(around) = self.queries.last_mut().filter(|around| around.pending_ctes > 0) {
            around.pending_ctes -= 1;
            isolated = true;
        }
        let mut level =
            Level { tables: Vec::new(), pending_ctes: query.with.as_ref().map_or(0, |with| with.cte_tables.len()), isolated };
        if let SetExpr::Select(select) = query.body.as_ref() {
            level.tables = table_names(&select.from);
        }
        self.queries.push(level);
    }

    /// Leaves a query.
    pub(crate) fn leave(&mut self) {
        self.queries.pop();
    }

    /// Enters a select, which is all of a query or one side of a set operation; each side has its own tables.
    pub(crate) fn select(&mut self, select: &Select) {
        if let Some(own) = self.queries.last_mut() {
            own.tables = table_names(&select.from);
        }
    }

    /// Enters a statement that changes a table, which all of its subqueries see.
    pub(crate) fn enter_change(&mut self, statement: &Statement) {
        let tables = match statement {
            Statement::Update(update) => table_names(std::slice::from_ref(&update.table)),
            Statement::Delete(delete) => match &delete.from {
                FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from) => table_names(from),
            },
            _ => return,
        };
        self.queries.push(Level { tables, ..Level::default() });
    }

    /// Enters an item of `FROM`; a query there does not see the other items.
    pub(crate) fn enter_from_item(&mut self, factor: &TableFactor) {
        self.isolated = matches!(factor, TableFactor::Derived { lateral: false, .. });
    }

    /// Returns the expression by which the planner finds a column of an outer table, or a field of such a column.
    ///
    /// # Errors
    ///
    /// Returns a message if the planner would find another table.
    pub(crate) fn outer(&self, names: &[Ident]) -> Result<Option<Expr>, String> {
        let Some((table, length, nearer)) = self.found(names) else { return Ok(None) };
        // `n.t` is known from `FROM n.t`, but the planner would find it in `FROM n.u AS t` as well.
        if let (Some(name), true) = (table.last(), table.len() > 1)
            && nearer.iter().any(|level| level.tables.iter().any(|other| other.len() == 1 && other[0] == *name))
        {
            let table = table.join(".");
            return Err(format!("{table} is of an outer query, and another table is called {name} here: give {table} an alias"));
        }
        Ok(column(&table, length, names))
    }

    /// Returns the outer table that qualifies a column, the number of names that it takes, and the levels inside the table's.
    fn found(&self, names: &[Ident]) -> Option<(Vec<String>, usize, &[Level])> {
        let written: Vec<String> = names.iter().map(normal).collect();
        // The table `n.t` can be called `t` as well.
        let matching = |tables: &'_ [Vec<String>]| {
            let matching = tables.iter().flat_map(|table| (0..table.len()).map(move |from| (table, table.len() - from)));
            let fits = |(table, length): &(&Vec<String>, usize)| written.starts_with(&table[table.len() - length..]);
            matching.filter(fits).map(|(table, length)| (table.clone(), length)).max_by_key(|(_, length)| *length)
        };
        let (own, outer) = self.queries.split_last()?;
        if matching(&own.tables).is_some() {
            return None;
        }
        let mut isolated = own.isolated;
        for (at, level) in outer.iter().enumerate().rev() {
            let known = !std::mem::replace(&mut isolated, level.isolated);
            if let Some((table, length)) = matching(&level.tables).filter(|_| known) {
                return Some((table, length, &self.queries[at + 1..]));
            }
        }
        None
    }
}

/// Builds a column of an outer table. The first `length` of the names are the table's.
fn column(table: &[String], length: usize, names: &[Ident]) -> Option<Expr> {
    let (column, fields) = names.get(length..)?.split_first()?;
    let mut whole: Vec<Ident> = table.iter().map(|part| quoted(part)).collect();
    // With the name of a warehouse, it would have too many parts.
    if whole.len() < 3 {
        whole.insert(0, quoted(OUTER_QUALIFIER));
    }
    whole.push(column.clone());
    let root = Expr::CompoundIdentifier(whole);
    if fields.is_empty() {
        return Some(root);
    }
    let subscript = |name: &Ident| {
        let index = Expr::Value(Value::SingleQuotedString(normal(name)).into());
        AccessExpr::Subscript(Subscript::Index { index })
    };
    Some(Expr::CompoundFieldAccess { root: Box::new(root), access_chain: fields.iter().map(subscript).collect() })
}

/// Returns the names of the tables of a `FROM`, each in parts.
fn table_names(from: &[TableWithJoins]) -> Vec<Vec<String>> {
    let mut tables = Vec::new();
    from.iter().for_each(|from| add_from(from, &mut tables));
    tables
}

fn add_from(from: &TableWithJoins, tables: &mut Vec<Vec<String>>) {
    for factor in factors(from) {
        match factor {
            TableFactor::NestedJoin { table_with_joins, .. } => add_from(table_with_joins, tables),
            factor => tables.extend(called(factor).map(|name| parts(&name))),
        }
    }
}
