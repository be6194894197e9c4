//! Names in syntax trees, and functions that build expressions, tables and queries.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident,
    ObjectName, ObjectNamePart, Parens, Query, Select, SelectFlavor, SelectItem, SetExpr, Statement as SqlStatement, TableAlias,
    TableFactor, TableWithJoins, Values,
};

/// Returns the parts of a name as the planner takes them.
pub(crate) fn parts(name: &ObjectName) -> Vec<String> {
    name.0.iter().filter_map(ObjectNamePart::as_ident).map(normal).collect()
}

/// Returns a name as the planner takes it: in lower case, unless it is quoted.
pub(crate) fn normal(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_ascii_lowercase() }
}

/// Builds a call of one of Esker's own functions.
pub(crate) fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::with_quote('"', name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Returns the tables that an item of `FROM` joins.
pub(crate) fn factors(from: &TableWithJoins) -> impl Iterator<Item = &TableFactor> {
    std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation))
}

/// Returns the name or the alias of a table in `FROM`.
pub(crate) fn called(factor: &TableFactor) -> Option<ObjectName> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(ObjectName(vec![ObjectNamePart::Identifier(alias.name.clone())]))
        }
        TableFactor::Table { name, .. } => Some(name.clone()),
        _ => None,
    }
}

/// Takes an expression out of a tree, and leaves an empty name in its place.
pub(crate) fn taken(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::Identifier(Ident::new("")))
}

/// Builds a binary operation.
pub(crate) fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// Returns a quoted name, which the planner takes as it is.
pub(crate) fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

/// Returns a column as an item of a select list.
pub(crate) fn column(name: &str) -> SelectItem {
    SelectItem::UnnamedExpr(Expr::Identifier(quoted(name)))
}

/// Returns a query as a statement.
pub(crate) fn statement(query: Query) -> Statement {
    Statement::Statement(Box::new(SqlStatement::Query(Box::new(query))))
}

/// Returns a table with an alias.
pub(crate) fn aliased(name: ObjectName, alias: &str) -> TableWithJoins {
    let alias = TableAlias { explicit: true, name: quoted(alias), columns: Vec::new(), at: None };
    let relation = TableFactor::Table {
        name,
        alias: Some(alias),
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    };
    TableWithJoins { relation, joins: Vec::new() }
}

/// Builds the query for some columns of those rows of a table that fit a condition.
pub(crate) fn query(projection: Vec<SelectItem>, from: TableWithJoins, selection: Option<Expr>) -> Query {
    let select = Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from: vec![from],
        lateral_views: Vec::new(),
        prewhere: None,
        selection,
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    };
    of(SetExpr::Select(Box::new(select)))
}

/// Builds the query for one row of `columns` defaults.
pub(crate) fn defaults(columns: usize) -> Query {
    let row = vec![Expr::Identifier(Ident::new("DEFAULT")); columns];
    of(SetExpr::Values(Values { explicit_row: false, value_keyword: false, rows: vec![Parens::with_empty_span(row)] }))
}

fn of(body: SetExpr) -> Query {
    Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}
