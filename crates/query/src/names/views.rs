//! Views, also of other engines, where their text can be understood.
//!
//! A view may have several texts in different dialects. They are tried by the rank of their grammar, and the first that can be
//! planned is used. Spec (views): "Representations".

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::catalog::TableProvider;
use datafusion::common::Column;
use datafusion::datasource::ViewTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, col, ident};
use esker_catalog::LoadedView;
use esker_format::ViewRepresentation;
use esker_types::{Coded, ErrorCode, NamespaceName, TableName, format_count};

use super::NameResolver;
use crate::dialect::Grammar;
use crate::statement_text::Parsed;
use crate::table_names::exact_schema;
use crate::{QueryError, Result, arrow_types, information, opaque, plan, statement_text};

/// Maximum depth of views within views.
const DEPTH: usize = 16;

/// Opens a view as a table whose rows its text makes.
///
/// The caller needs the rights on the tables that the text names: a view gives none. The text is read as it was written: names
/// without a namespace are looked up in the default catalog and namespace of the view.
///
/// # Errors
///
/// - Returns [`QueryError::Statement`] if views are nested too deeply, if the dialect of no text is supported, or if none of the
///   view's texts can be planned.
/// - Returns [`QueryError::Read`] if a table of the view cannot be loaded, or the caller may not read it. After a transient error
///   or such a refusal no other text is tried.
pub(crate) async fn open(names: &NameResolver, warehouse: &str, view: &LoadedView) -> Result<Arc<dyn TableProvider>> {
    let name = &view.row.name;
    let wrong = |what: String| QueryError::Statement(format!("view {name}: {what}"));
    if names.depth >= DEPTH {
        return Err(wrong(format!("more than {DEPTH} nested views")));
    }
    let version = view.metadata.current_version();
    let texts = version.representations.iter().filter_map(|text| match text {
        ViewRepresentation::Sql { sql, dialect, .. } => Some((dialect.as_str(), sql)),
        ViewRepresentation::Other(_) => None,
    });
    let mut known: Vec<_> =
        texts.clone().filter_map(|(dialect, sql)| Some((Grammar::of_dialect(dialect)?, sql, dialect))).collect();
    known.sort_by_key(|((rank, _), ..)| *rank);
    if known.is_empty() {
        let dialects: Vec<&str> = texts.map(|(dialect, _)| dialect).collect();
        return Err(wrong(format!("none of its dialects is supported: {}", dialects.join(", "))));
    }
    let mut failures = Vec::new();
    for ((_, grammar), sql, dialect) in known {
        match plan_text(names, warehouse, view, grammar, sql).await {
            Ok(table) => return Ok(table),
            Err(e) => failures.push((e.code(), format!("as {dialect}: {e}"))),
        }
        // The catalog or the storage is away, or the caller may not read a table: that says nothing about the text.
        if failures.last().is_some_and(|(code, _)| code.is_transient() || *code == ErrorCode::Forbidden) {
            break;
        }
    }
    Err(failed(name, &failures))
}

/// Returns the error of a view none of whose texts can be planned. Each failure has its code; they are in the order of the texts.
///
/// A failure that is not about a text, such as a table whose metadata is missing, keeps its code; the last one counts.
fn failed(name: &TableName, failures: &[(ErrorCode, String)]) -> QueryError {
    let texts: Vec<&str> = failures.iter().map(|(_, text)| text.as_str()).collect();
    let message = format!("view {name}: {}", texts.join("; "));
    match failures.iter().rfind(|(code, _)| *code != ErrorCode::BadRequest) {
        Some((code, _)) => QueryError::Read { code: *code, message },
        None => QueryError::Statement(message),
    }
}

/// Plans one text of a view, with the names and types of the view's columns.
async fn plan_text(
    names: &NameResolver,
    warehouse: &str,
    view: &LoadedView,
    grammar: Grammar,
    sql: &str,
) -> Result<Arc<dyn TableProvider>> {
    let version = view.metadata.current_version();
    let catalog = version.default_catalog.as_deref().filter(|c| names.has_warehouse(c)).unwrap_or(warehouse);
    let inner = names.within_view();
    let mut session =
        SessionStateBuilder::new_from_existing(names.session.as_ref().clone()).with_catalog_list(Arc::new(inner)).build();
    let options = session.config_mut().options_mut();
    catalog.clone_into(&mut options.catalog.default_catalog);
    options.catalog.default_schema = exact_schema(&version.default_namespace.join(&NamespaceName::SEPARATOR.to_string()));
    let Parsed { statement, parameters } = statement_text::statement(sql, grammar)?;
    if parameters > 0 {
        return Err(QueryError::Statement("its text has parameters".to_owned()));
    }
    if plan::asks_for_names(&session, &statement)? && !names.are_listed() {
        return Err(QueryError::Statement("its text reads information_schema".to_owned()));
    }
    // Boxed, because a view's text may name views.
    let plan =
        information::rewrite_information_schema(Box::pin(session.statement_to_plan(statement)).await?, session.catalog_list())?;

    // The view's columns have names and types of their own, whatever the text's columns have.
    let schema = view.metadata.current_schema();
    let fields = schema.as_struct().fields();
    let made = plan.schema().fields().len();
    if fields.len() != made {
        let made = format_count(made as u64, "column");
        return Err(QueryError::Statement(format!("its text makes {made}, not {}", fields.len())));
    }
    let wanted = arrow_types::scan_schema(&opaque::arrow_columns(schema));
    let shaped = |(column, field): (Column, &FieldRef)| {
        // A column that cannot be decoded, or holds nulls alone, is as the text makes it.
        let as_it_is = opaque::type_of(field).is_some() || field.data_type().is_null();
        let expr = if as_it_is { col(column) } else { cast(col(column), field.data_type().clone()) };
        expr.alias(field.name())
    };
    let columns: Vec<Expr> = plan.schema().columns().into_iter().zip(wanted.fields()).map(shaped).collect();
    let named: Vec<Expr> = wanted.fields().iter().map(|f| ident(f.name())).collect();
    let plan = LogicalPlanBuilder::from(plan).project(columns)?.project(named)?.build()?;
    Ok(Arc::new(ViewTable::new(plan, Some(sql.to_owned()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_is_not_about_the_text_keeps_its_code() {
        let name = TableName { namespace: NamespaceName::new(vec!["n".to_owned()]).expect("a name"), name: "v".to_owned() };
        let code = |codes: &[ErrorCode]| {
            let failures: Vec<_> = codes.iter().map(|code| (*code, "as trino: x".to_owned())).collect();
            failed(&name, &failures).code()
        };
        assert_eq!(code(&[ErrorCode::BadRequest]), ErrorCode::BadRequest);
        assert_eq!(code(&[ErrorCode::BadRequest, ErrorCode::Unavailable]), ErrorCode::Unavailable);
        assert_eq!(code(&[ErrorCode::DataMissing, ErrorCode::BadRequest]), ErrorCode::DataMissing);
    }
}
