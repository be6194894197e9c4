//! Fields of structs of tables that a query around this one names. The planner knows the columns of such tables, but no `a.s.x`: it is
//! written as `a.s['x']`.

use datafusion::sql::sqlparser::ast::{AccessExpr, Expr, Ident, Query, SetExpr, Subscript, TableFactor, TableWithJoins, Value};

use crate::select::{called, factors, normal, parts};

/// What the tables of the queries around an expression are called, from the outermost to its own.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    queries: Vec<Vec<Vec<String>>>,
}

impl Scope {
    pub(crate) fn enter(&mut self, query: &Query) {
        let mut tables = Vec::new();
        add(&query.body, &mut tables);
        self.queries.push(tables);
    }

    pub(crate) fn leave(&mut self) {
        self.queries.pop();
    }

    /// A field of a struct that is a column of an outer table, as the planner finds it.
    pub(crate) fn outer_field(&self, names: &[Ident]) -> Option<Expr> {
        let written: Vec<String> = names.iter().map(normal).collect();
        let length = |tables: &Vec<Vec<String>>| {
            // `n.t` can be called `t` as well.
            let ways = tables.iter().flat_map(|table| (0..table.len()).map(|from| &table[from..]));
            ways.filter(|table| written.starts_with(table)).map(<[String]>::len).max()
        };
        let (own, outer) = self.queries.split_last()?;
        if length(own).is_some() {
            return None;
        }
        let column = outer.iter().rev().find_map(length)? + 1;
        let fields = names.get(column..).filter(|fields| !fields.is_empty())?;
        let subscript = |name: &Ident| {
            let index = Expr::Value(Value::SingleQuotedString(normal(name)).into());
            AccessExpr::Subscript(Subscript::Index { index })
        };
        Some(Expr::CompoundFieldAccess {
            root: Box::new(Expr::CompoundIdentifier(names[..column].to_vec())),
            access_chain: fields.iter().map(subscript).collect(),
        })
    }
}

fn add(body: &SetExpr, tables: &mut Vec<Vec<String>>) {
    match body {
        SetExpr::Select(select) => select.from.iter().for_each(|from| add_from(from, tables)),
        SetExpr::SetOperation { left, right, .. } => {
            add(left, tables);
            add(right, tables);
        }
        _ => {}
    }
}

fn add_from(from: &TableWithJoins, tables: &mut Vec<Vec<String>>) {
    for factor in factors(from) {
        match factor {
            TableFactor::NestedJoin { table_with_joins, .. } => add_from(table_with_joins, tables),
            factor => tables.extend(called(factor).map(|name| parts(&name))),
        }
    }
}
