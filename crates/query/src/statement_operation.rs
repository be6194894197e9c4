//! The operation of a statement by its text alone, for the audit trail: a statement that can't be planned has one too.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{SetExpr, Statement as SqlStatement};
use esker_types::catch_panic_sync;

use crate::dialect::Grammar;
use crate::{access_statement, statement_text};

/// Returns the name of a statement's operation, and true if the statement is to change something.
///
/// The name is that of [`PreparedStatement::operation`](crate::PreparedStatement::operation). Returns `None` for a text that is
/// no statement of these operations.
pub fn operation_of(sql: &str) -> Option<(&'static str, bool)> {
    // Planning may have failed because the parser panics on the text.
    catch_panic_sync(|| operation_of_text(sql)).ok().flatten()
}

/// Does the work of [`operation_of`], which catches panics of the parser.
fn operation_of_text(sql: &str) -> Option<(&'static str, bool)> {
    if let Some(statement) = access_statement::parse(sql).ok()? {
        return Some((statement.operation(), statement.changes_rules()));
    }
    match statement_text::statement(sql, Grammar::Standard).ok()?.statement {
        Statement::Statement(statement) => operation_of_syntax(&statement),
        _ => None,
    }
}

/// Returns the operation of a parsed statement. A change may stand behind `WITH`.
fn operation_of_syntax(statement: &SqlStatement) -> Option<(&'static str, bool)> {
    match statement {
        SqlStatement::Insert(_) => Some(("insert", true)),
        SqlStatement::Delete(_) => Some(("delete", true)),
        SqlStatement::Update(_) => Some(("update", true)),
        SqlStatement::CreateTable(_) => Some(("create-table-as", true)),
        SqlStatement::Query(query) => match query.body.as_ref() {
            SetExpr::Insert(inner) | SetExpr::Delete(inner) | SetExpr::Update(inner) => operation_of_syntax(inner),
            _ => Some(("query", false)),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_tells_the_operation_of_its_statement() {
        for (sql, expected) in [
            ("SELECT 1", Some(("query", false))),
            ("SELECT * FROM nowhere WHERE x = $1", Some(("query", false))),
            ("INSERT INTO n.t VALUES (1)", Some(("insert", true))),
            ("WITH a AS (SELECT 1 AS x) INSERT INTO n.t SELECT x FROM a", Some(("insert", true))),
            ("DELETE FROM n.t WHERE id = 1", Some(("delete", true))),
            ("UPDATE n.t SET id = 1", Some(("update", true))),
            ("CREATE TABLE n.t AS SELECT 1 AS id", Some(("create-table-as", true))),
            ("CREATE ROLE readers", Some(("create-role", true))),
            ("SHOW ROLES", Some(("show-roles", false))),
            ("DROP TABLE n.t", None),
            ("no statement", None),
            ("", None),
        ] {
            assert_eq!(operation_of(sql), expected, "{sql}");
        }
    }
}
