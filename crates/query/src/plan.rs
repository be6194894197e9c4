//! Planning of statements.
//!
//! `DELETE` and `UPDATE` are planned as the query for the positions of the rows to change, which is built from their own syntax
//! trees. `INSERT` and `CREATE TABLE AS` are planned as the query for the rows to add. Start reading at `plan`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::information_schema::INFORMATION_SCHEMA;
use datafusion::common::{ScalarValue, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{DdlStatement, Expr as PlanExpr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::sql::parser::Statement;
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Expr, FromTable, Insert, ObjectName, ObjectNamePart, Query, SelectItem, SetExpr,
    Statement as SqlStatement, TableFactor, TableObject, TableWithJoins, Update, With,
};
use esker_access::Privilege;
use esker_catalog::{Authority, Catalog, LoadedTable};
use esker_format::Schema;
use esker_read::Reader;

use crate::assignment::{self, TargetColumn};
use crate::change::{Action, refused};
use crate::names::LookedUpTables;
use crate::restrict::refused_change;
use crate::rights::{TO_CHANGE_ROWS, TO_INSERT};
use crate::statement_text::Parsed;
use crate::syntax_tree::{self, normal, parts, quoted};
use crate::table::{WriteDefaults, write_defaults_of};
use crate::target::WriteTarget;
use crate::{Result, information, parameters, row_position_scan, select, statement_text, syntax, values};

/// A statement's plan, with the action on its rows.
pub(crate) struct PlannedStatement {
    pub(crate) plan: LogicalPlan,
    pub(crate) action: Action,
    /// Number of parameters.
    pub(crate) parameters: usize,
    /// Types of the parameters that are stored in columns as they are, by number: 1 for `$1`.
    pub(crate) implied: BTreeMap<usize, DataType>,
}

/// The state that a statement is planned with.
struct Planner<'a> {
    session: &'a mut SessionState,
    warehouses: &'a [(Catalog, Reader)],
    /// Who sent the statement.
    by: &'a Authority,
    /// The tables that were looked up.
    seen: &'a LookedUpTables,
    implied: BTreeMap<usize, DataType>,
}

/// Checks whether a statement reads `information_schema`.
pub(crate) fn asks_for_names(session: &SessionState, statement: &Statement) -> Result<bool> {
    let asks = |table: &TableReference| table.schema() == Some(INFORMATION_SCHEMA);
    Ok(session.resolve_table_references(statement)?.iter().any(asks))
}

/// Returns the privilege that a statement needs on each table and view that it names, but for the one that it changes.
pub(crate) fn privilege_on_names(statement: &Statement) -> Privilege {
    let Statement::Statement(statement) = statement else { return Privilege::ReadData };
    match statement.as_ref() {
        // These show names and types of columns, and texts of views.
        SqlStatement::ExplainTable { .. } | SqlStatement::ShowColumns { .. } | SqlStatement::ShowCreate { .. } => {
            Privilege::ReadMetadata
        }
        _ => Privilege::ReadData,
    }
}

/// Plans a statement of a caller.
///
/// `bound` holds the values of its parameters, if they are known; only their types matter. `seen` gets the table that the statement
/// changes, if no query names it.
pub(crate) async fn plan(
    session: &mut SessionState,
    warehouses: &[(Catalog, Reader)],
    mut parsed: Parsed,
    bound: Option<&[ScalarValue]>,
    by: &Authority,
    seen: &LookedUpTables,
) -> Result<PlannedStatement> {
    parameters::place(&mut parsed, session, bound)?;
    let mut planner = Planner { session, warehouses, by, seen, implied: BTreeMap::new() };
    let (plan, action) = planner.plan(parsed.statement).await?;
    let plan = information::rewrite_information_schema(plan, planner.session.catalog_list())?;
    Ok(PlannedStatement { plan, action, parameters: parsed.parameters, implied: planner.implied })
}

/// Returns a table's name as DataFusion's reference, with unquoted parts in lower case.
fn named(name: &ObjectName) -> Result<TableReference> {
    Ok(object_name_to_table_reference(name.clone(), true)?)
}

impl Planner<'_> {
    /// Plans a statement; returns the plan of its rows and the action on them.
    async fn plan(&mut self, statement: Statement) -> Result<(LogicalPlan, Action)> {
        let statement = match statement {
            Statement::Statement(statement) => match *statement {
                SqlStatement::Delete(delete) => return self.delete(delete, None).await,
                SqlStatement::Update(update) => return self.update(update, None).await,
                SqlStatement::Insert(insert) => return self.insert(insert, None).await,
                SqlStatement::Query(query) if changes(&query) => return self.change_with(*query).await,
                other => Statement::Statement(Box::new(other)),
            },
            Statement::Explain(explain) if !is_query(&explain.statement) => {
                return Err(refused("EXPLAIN takes a query; for a statement that changes rows, explain the SELECT of its rows"));
            }
            other => other,
        };
        Ok(match self.rows(statement).await? {
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => {
                if create.or_replace || create.temporary || !create.constraints.is_empty() || !create.column_defaults.is_empty() {
                    return Err(refused("CREATE TABLE takes no OR REPLACE, TEMPORARY, constraints or defaults here"));
                }
                let target = WriteTarget::of_new(self.warehouses, &create.name, self.by).await?;
                target.check_creation(self.by).await?;
                (Arc::unwrap_or_clone(create.input), Action::Create { target, if_not_exists: create.if_not_exists })
            }
            plan => (plan, Action::Query),
        })
    }

    /// Plans a query.
    ///
    /// A `*` may make names that other columns of the list have as well. If planning fails, it is tried again with distinct names
    /// for those columns.
    async fn rows(&self, statement: Statement) -> Result<LogicalPlan> {
        let Some(apart) = select::apart_from_all(&statement) else {
            return Ok(self.session.statement_to_plan(statement).await?);
        };
        match self.session.statement_to_plan(statement).await {
            Err(error) => Ok(self.session.statement_to_plan(apart).await.map_err(|_| error)?),
            planned => Ok(planned?),
        }
    }

    /// Plans a statement that changes rows after a `WITH`; its query may use the queries that `WITH` names.
    async fn change_with(&mut self, query: Query) -> Result<(LogicalPlan, Action)> {
        let Query { with, body, .. } = query;
        match *body {
            SetExpr::Insert(SqlStatement::Insert(insert)) => self.insert(insert, with).await,
            SetExpr::Update(SqlStatement::Update(update)) => self.update(update, with).await,
            SetExpr::Delete(SqlStatement::Delete(delete)) => self.delete(delete, with).await,
            _ => Err(refused("only INSERT, UPDATE and DELETE change rows after a WITH")),
        }
    }

    /// Returns the default of a column as an expression, for the word `DEFAULT` in a statement.
    fn default_of(&mut self, column: &TargetColumn, schema: &Schema, at: usize, known: &WriteDefaults) -> Result<Expr> {
        match default(schema, at, known)? {
            PlanExpr::Literal(value, _) => values::known_default(column, value, self.session),
            _ => Err(refused(format!("the default of column {} is not supported; give it a value", column.name()))),
        }
    }

    /// Records the type of the column that a parameter is stored in.
    fn imply(&mut self, value: &Expr, column: &TargetColumn) {
        if let Some(number) = parameters::number(value) {
            self.implied.insert(number, column.data_type().clone());
        }
    }

    /// Plans an `INSERT`: the query has all columns of the table, in its order.
    async fn insert(&mut self, insert: Insert, with: Option<With>) -> Result<(LogicalPlan, Action)> {
        let (name, given, source) = parts_of(insert)?;
        let table = named(&name)?;
        let target = WriteTarget::find(self.warehouses, &table, self.by, TO_INSERT).await?;
        let loaded = target.load(self.by, TO_INSERT).await?;
        self.seen.add(self.warehouses, &target.catalog, &loaded.row);
        let schema = loaded.metadata.current_schema().clone();
        let all = assignment::columns(&schema);
        let listed = listed(&target, &all, &given)?;
        let defaults = write_defaults_of(&schema);
        let mut source = source.unwrap_or_else(|| Box::new(syntax_tree::defaults(listed.len())));
        source.with = around(with, source.with.take())?;
        if let SetExpr::Values(rows) = source.body.as_mut() {
            for row in &mut rows.rows {
                for (value, at) in row.content.iter_mut().zip(&listed).filter(|(value, _)| values::is_default(value)) {
                    *value = self.default_of(&all[*at], &schema, *at, &defaults)?;
                }
            }
            for row in &rows.rows {
                for (value, at) in row.content.iter().zip(&listed) {
                    self.imply(value, &all[*at]);
                }
            }
            let columns: Vec<&TargetColumn> = listed.iter().map(|at| &all[*at]).collect();
            values::stored(rows, &columns, self.session)?;
        }
        let plan = self.rows(syntax_tree::statement(*source)).await?;
        let made = plan.schema().columns();
        if made.len() != listed.len() {
            return Err(refused(format!("INSERT INTO {}: {}", target.name, assignment::values_for(made.len(), listed.len()))));
        }
        let mut columns = Vec::with_capacity(all.len());
        for (at, column) in all.iter().enumerate() {
            let expr = match listed.iter().position(|listed| *listed == at) {
                Some(source) => PlanExpr::Column(made[source].clone()),
                None => default(&schema, at, &defaults)?,
            };
            columns.push(expr.alias(column.name()));
        }
        let plan = LogicalPlanBuilder::from(plan).project(columns)?.build()?;
        Ok((plan, Action::Insert { target, schema: schema.schema_id() }))
    }

    /// Plans a `DELETE`: the query has the files and positions of the rows.
    async fn delete(&mut self, delete: Delete, with: Option<With>) -> Result<(LogicalPlan, Action)> {
        let Delete { tables, from, using, selection, returning, output, order_by, limit, .. } = delete;
        let more = !tables.is_empty() || using.is_some() || returning.is_some() || output.is_some();
        if more || !order_by.is_empty() || limit.is_some() {
            return Err(refused("DELETE takes only FROM and WHERE here"));
        }
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = from;
        let rows = TargetRows::of(self.warehouses, &from, self.by).await?;
        let selection = selection.map(|selection| rows.bare(selection));
        let columns = rows.places[..2].iter().map(|name| syntax_tree::column(name)).collect();
        let query = Query { with, ..syntax_tree::query(columns, rows.from, selection) };
        Ok((self.session.statement_to_plan(syntax_tree::statement(query)).await?, Action::Delete(rows.target)))
    }

    /// Plans an `UPDATE`: the query has the positions and row ids of the rows, and then all columns with their new values.
    async fn update(&mut self, update: Update, with: Option<With>) -> Result<(LogicalPlan, Action)> {
        let Update { table, assignments, from, selection, returning, output, or, order_by, limit, .. } = update;
        let more = from.is_some() || returning.is_some() || output.is_some() || or.is_some();
        if more || !order_by.is_empty() || limit.is_some() {
            return Err(refused("UPDATE takes only SET and WHERE here; use subqueries for other tables"));
        }
        let rows = TargetRows::of(self.warehouses, std::slice::from_ref(&table), self.by).await?;
        let selection = selection.map(|selection| rows.bare(selection));
        let mut values: HashMap<String, Expr> = HashMap::new();
        for Assignment { target, value } in assignments {
            let column = assigned(&target, &rows)?;
            let known = |name: &str| self.session.aggregate_functions().contains_key(name);
            if let Some(what) = syntax::of_many_rows(&value, &known) {
                return Err(refused(format!(
                    "UPDATE sets column {column} for each row, but {what} is computed over many rows: use a subquery"
                )));
            }
            if values.insert(column.clone(), rows.bare(value)).is_some() {
                return Err(refused(format!("UPDATE sets column {column} twice")));
            }
        }
        let schema = rows.loaded.metadata.current_schema();
        let mut columns: Vec<SelectItem> = rows.places.iter().map(|name| syntax_tree::column(name)).collect();
        let defaults = if values.values().any(values::is_default) { write_defaults_of(schema) } else { WriteDefaults::default() };
        for (at, column) in assignment::columns(schema).into_iter().enumerate() {
            columns.push(match values.remove(column.name()) {
                Some(expr) if values::is_default(&expr) => SelectItem::ExprWithAlias {
                    expr: self.default_of(&column, schema, at, &defaults)?,
                    alias: quoted(column.name()),
                },
                Some(expr) => {
                    self.imply(&expr, &column);
                    SelectItem::ExprWithAlias { expr, alias: quoted(column.name()) }
                }
                None => syntax_tree::column(column.name()),
            });
        }
        if let Some(unknown) = values.keys().next() {
            return Err(refused(format!("{} has no column {unknown}", rows.target.name)));
        }
        let action = Action::Update { target: rows.target, schema: schema.schema_id() };
        let query = Query { with, ..syntax_tree::query(columns, rows.from, selection) };
        Ok((self.session.statement_to_plan(syntax_tree::statement(query)).await?, action))
    }
}

/// Checks whether a query is a statement that changes rows after a `WITH`.
fn changes(query: &Query) -> bool {
    matches!(*query.body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_))
}

/// Checks whether a statement is a query that changes nothing.
fn is_query(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(inner) => matches!(inner.as_ref(), SqlStatement::Query(query) if !changes(query)),
        _ => false,
    }
}

/// Joins the queries of an outer and an inner `WITH`.
fn around(outer: Option<With>, inner: Option<With>) -> Result<Option<With>> {
    let (Some(mut outer), Some(inner)) = (outer.clone(), inner.clone()) else { return Ok(outer.or(inner)) };
    for own in inner.cte_tables {
        let name = normal(&own.alias.name);
        if outer.cte_tables.iter().any(|other| normal(&other.alias.name) == name) {
            return Err(refused(format!("two queries of WITH are called {name}: give them different names")));
        }
        outer.cte_tables.push(own);
    }
    outer.recursive |= inner.recursive;
    Ok(Some(outer))
}

/// Returns the table of an `INSERT`, the columns that it lists, and its query (`None` for `DEFAULT VALUES`).
fn parts_of(insert: Insert) -> Result<(ObjectName, Vec<ObjectName>, Option<Box<Query>>)> {
    let more = insert.or.is_some()
        || insert.ignore
        || insert.table_alias.is_some()
        || insert.overwrite
        || !insert.assignments.is_empty()
        || insert.partitioned.is_some()
        || !insert.after_columns.is_empty()
        || insert.on.is_some()
        || insert.returning.is_some()
        || insert.output.is_some()
        || insert.replace_into
        || insert.priority.is_some()
        || insert.insert_alias.is_some()
        || insert.settings.is_some()
        || insert.format_clause.is_some()
        || insert.multi_table_insert_type.is_some()
        || !insert.multi_table_into_clauses.is_empty()
        || !insert.multi_table_when_clauses.is_empty()
        || insert.multi_table_else_clause.is_some();
    match (insert.table, insert.source) {
        (TableObject::TableName(name), source) if !more => Ok((name, insert.columns, source)),
        _ => Err(refused("INSERT takes only INTO, a table, a list of columns, and VALUES or a query here")),
    }
}

/// Returns the indices of the table's columns that an `INSERT` lists; all of them if it lists none.
fn listed(target: &WriteTarget, all: &[TargetColumn], given: &[ObjectName]) -> Result<Vec<usize>> {
    if given.is_empty() {
        return Ok((0..all.len()).collect());
    }
    let mut listed = Vec::with_capacity(given.len());
    for name in given {
        let parts = parts(name);
        let [name] = parts.as_slice() else {
            return Err(refused(format!("INSERT lists whole columns, not {}", parts.join("."))));
        };
        let at = all.iter().position(|column| column.name() == name);
        let at = at.ok_or_else(|| refused(format!("{} has no column {name}", target.name)))?;
        if listed.contains(&at) {
            return Err(refused(format!("INSERT lists column {name} twice")));
        }
        listed.push(at);
    }
    Ok(listed)
}

/// Returns the value of a column that an `INSERT` leaves out: its default, or null. Spec: "Default values".
fn default(schema: &Schema, at: usize, known: &WriteDefaults) -> Result<PlanExpr> {
    let field = &schema.as_struct().fields()[at];
    match (known.get(&field.name), &field.write_default) {
        (Some(default), _) => Ok(default.clone()),
        (None, Some(_)) => Err(refused(format!("the default of column {} is not supported; give it a value", field.name))),
        (None, None) => Ok(lit(ScalarValue::Null)),
    }
}

/// The rows of a table that a `DELETE` or `UPDATE` changes.
struct TargetRows {
    target: WriteTarget,
    loaded: LoadedTable,
    /// The name by which columns may be qualified: the alias, or the table's last name.
    alias: String,
    /// The parts of the table's whole name, if it has no alias.
    whole: Vec<String>,
    /// The table's rows with their positions, in the snapshot that is current now.
    from: TableWithJoins,
    /// Names of the columns for the position of a row: file, position and row id.
    places: [String; 3],
}

impl TargetRows {
    /// Finds the one table of a statement.
    async fn of(warehouses: &[(Catalog, Reader)], from: &[TableWithJoins], by: &Authority) -> Result<Self> {
        let (name, alias) = match from {
            [TableWithJoins { relation: TableFactor::Table { name, alias, args: None, .. }, joins }] if joins.is_empty() => {
                (name, alias)
            }
            _ => return Err(refused("DELETE and UPDATE change one table; use a subquery in WHERE for others")),
        };
        if alias.as_ref().is_some_and(|alias| !alias.columns.is_empty()) {
            return Err(refused("DELETE and UPDATE take no names of columns after an alias"));
        }
        let whole = if alias.is_none() { parts(name) } else { Vec::new() };
        let table = named(name)?;
        if statement_text::parse_name(table.table()).1.is_some() {
            return Err(refused("DELETE and UPDATE change a table as it is now; they take no AS OF"));
        }
        let target = WriteTarget::find(warehouses, &table, by, TO_CHANGE_ROWS).await?;
        let loaded = target.load(by, TO_CHANGE_ROWS).await?;
        // Which rows a condition finds, and how it fails, would tell of rows and values that are hidden.
        if by.restrictions(loaded.row.id).is_some() {
            return Err(refused_change(&target.name));
        }
        if loaded.metadata.format_version == 1 {
            return Err(refused(format!(
                "{}: a table of format version 1 has no row-level deletes; upgrade it to 2 or 3",
                target.name
            )));
        }
        let rows = statement_text::rows_name(table.table(), loaded.metadata.current_snapshot_id);
        let outer = [table.catalog(), table.schema()].into_iter().flatten();
        let name = outer.chain([rows.as_str()]).map(|part| ObjectNamePart::Identifier(quoted(part))).collect();
        let alias = alias.as_ref().map_or_else(|| table.table().to_owned(), |alias| normal(&alias.name));
        let places = row_position_scan::position_columns(loaded.metadata.current_schema());
        Ok(Self { target, loaded, from: syntax_tree::aliased(ObjectName(name), &alias), alias, whole, places })
    }

    /// Returns an expression whose columns are qualified at most by the table's last name.
    fn bare(&self, mut expr: Expr) -> Expr {
        select::name_barely(&mut expr, &self.whole);
        expr
    }
}

/// Returns the name of the column that an assignment sets.
fn assigned(target: &AssignmentTarget, rows: &TargetRows) -> Result<String> {
    let AssignmentTarget::ColumnName(name) = target else { return Err(refused("UPDATE sets one column at a time")) };
    let parts = parts(name);
    match parts.as_slice() {
        [column] => Ok(column.clone()),
        [table, column] if *table == rows.alias => Ok(column.clone()),
        [table @ .., column] if table.len() > 1 && table == rows.whole => Ok(column.clone()),
        [column, ..] => Err(refused(format!("UPDATE sets whole columns, not {}: set {column} to a struct", parts.join(".")))),
        [] => Err(refused("UPDATE sets a column that has no name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Grammar;

    #[test]
    fn only_statements_that_show_no_rows_go_without_the_right_to_read_them() {
        let needed = |sql: &str| privilege_on_names(&statement_text::statement(sql, Grammar::Standard).expect(sql).statement);
        for sql in ["DESCRIBE n.t", "SHOW COLUMNS FROM n.t", "SHOW CREATE TABLE n.t"] {
            assert_eq!(needed(sql), Privilege::ReadMetadata, "{sql}");
        }
        for sql in [
            "SELECT * FROM n.t",
            "EXPLAIN SELECT * FROM n.t",
            "EXPLAIN ANALYZE SELECT * FROM n.t",
            "WITH x AS (SELECT * FROM n.t) INSERT INTO n.u SELECT * FROM x",
            "CREATE TABLE n.u AS SELECT * FROM n.t",
            "SHOW TABLES",
        ] {
            assert_eq!(needed(sql), Privilege::ReadData, "{sql}");
        }
    }
}
