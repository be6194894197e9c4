//! Definer's rights: a table that an engine reads through views, which are named by the parameter `referenced-by`.
//!
//! A trusted engine that may not read a table itself gets what the owner of a view may read, if each step of the chain holds: the
//! caller may read the first view, the text of each view names the next one, and its owner may read that. What an access policy
//! forbids the engine itself stays forbidden. For every other caller the parameter changes nothing: a view gives no rights. Start
//! reading at [`definer_of`].
//!
//! Spec: REST, parameter `referenced-by`.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use esker_access::{Privilege, Required};
use esker_catalog::{Authority, Catalog, CatalogError, LoadedView, is_audit_name};
use esker_query::names_in_view;
use esker_state::TabularRow;
use esker_types::{Coded, ErrorCode, TableName};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use crate::extract::parse_namespace;
use crate::{ApiError, App};

/// The maximum number of views in a chain. Esker's own SQL reads views within views to this depth.
const MAX_VIEWS: usize = 16;

/// The views through which a client reads a table: the outermost first, and the one that names the table last.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ReferencedBy(Vec<TableName>);

impl ReferencedBy {
    /// Reads the parameter of a request. What is no list of views is taken for none.
    pub(crate) fn of(parts: &Parts) -> Self {
        let list = Query::<ReferencedByQuery>::try_from_uri(&parts.uri).ok().and_then(|Query(query)| query.referenced_by);
        list.as_deref().and_then(chain_of).unwrap_or_default()
    }

    /// Checks that the client names no view.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The parameter, as it is sent.
#[derive(Debug, Deserialize)]
struct ReferencedByQuery {
    #[serde(rename = "referenced-by")]
    referenced_by: Option<String>,
}

impl FromRequestParts<App> for ReferencedBy {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        Ok(Self::of(parts))
    }
}

/// Parses a list of views; `None` if it has none, too many, or one that is no name. Such a list gives no rights, and is no error.
///
/// Java encodes each name, so that its commas are no separators, and then the list once more. Others encode the list alone.
fn chain_of(list: &str) -> Option<ReferencedBy> {
    let views: Option<Vec<TableName>> = list.split(',').map(view_named).collect();
    views.filter(|views| views.len() <= MAX_VIEWS).map(ReferencedBy)
}

/// Parses the name of a view: its namespace and its own name, with the separator between all levels.
fn view_named(text: &str) -> Option<TableName> {
    let spaced = text.replace('+', " ");
    let key = percent_decode_str(&spaced).decode_utf8().ok()?;
    let (namespace, name) = key.rsplit_once('\u{1f}')?;
    TableName::new(parse_namespace(namespace).ok()?, name).ok()
}

/// Returns the owner of the last view of a chain, in whose name a table may be read; `None` if the caller gets no such rights.
///
/// A caller that may read the table itself gets none, because it needs none. One to whom an access policy forbids that gets none
/// either: nobody gives what a policy forbids. The table of the audit trail has its own privilege.
///
/// # Errors
///
/// Returns the code of the catalog's error if the database fails, or the metadata of a view that the caller may read can't be read.
pub(crate) async fn definer_of(
    app: &App,
    catalog: &Catalog,
    caller: &Authority,
    chain: &ReferencedBy,
    table: &TabularRow,
) -> Result<Option<Authority>, ApiError> {
    let is_of_use = !chain.is_empty() && caller.is_limited() && caller.is_trusted_engine();
    if !is_of_use || is_audit_name(&table.name) || reads(catalog, caller, table) || is_forbidden(catalog, caller, table) {
        return Ok(None);
    }
    let mut reader = caller.clone();
    for (at, name) in chain.0.iter().enumerate() {
        let Some(row) = found(catalog.view(name).await)? else { return Ok(None) };
        if !reads(catalog, &reader, &row) {
            return Ok(None);
        }
        let next = match chain.0.get(at + 1) {
            None => table.clone(),
            Some(view) => match found(catalog.view(view).await)? {
                None => return Ok(None),
                Some(row) => row,
            },
        };
        let view = catalog.load_view_row(row).await?;
        let Some(owner) = reader.definer_of(&view) else { return Ok(None) };
        if !names(app, catalog, &view, &next).await? {
            return Ok(None);
        }
        reader = owner;
    }
    Ok(reads(catalog, &reader, table).then_some(reader))
}

/// Checks that somebody may read a table or view: what it is, and its rows.
fn reads(catalog: &Catalog, authority: &Authority, row: &TabularRow) -> bool {
    let key = row.name.namespace.key();
    let required = Required::privilege(Privilege::ReadData).and(Privilege::ReadMetadata.into());
    authority.has(&catalog.tabular_path(&key, row), required)
}

/// Checks that an access policy forbids somebody to read a table.
fn is_forbidden(catalog: &Catalog, authority: &Authority, row: &TabularRow) -> bool {
    let key = row.name.namespace.key();
    let on = catalog.tabular_path(&key, row);
    [Privilege::ReadData, Privilege::ReadMetadata].into_iter().any(|privilege| authority.is_forbidden(&on, privilege))
}

/// Checks that the text of a view names a table or view, by the same look-up that SQL makes: a table comes before a view.
async fn names(app: &App, catalog: &Catalog, view: &LoadedView, wanted: &TabularRow) -> Result<bool, ApiError> {
    let own = &catalog.options().warehouse;
    let named = names_in_view(&view.metadata, &|name| name != own.as_str() && app.warehouse(name).is_ok());
    let wanted_name = wanted.name.name.to_lowercase();
    for meanings in named {
        for name in &meanings {
            if name.name.to_lowercase() != wanted_name {
                break;
            }
            let row = match found(catalog.table(name).await)? {
                Some(row) => Some(row),
                None => found(catalog.view(name).await)?,
            };
            match row {
                Some(row) if row.id == wanted.id => return Ok(true),
                Some(_) => break,
                None => {}
            }
        }
    }
    Ok(false)
}

/// Turns a look-up that found nothing into `None`.
fn found(looked_up: Result<TabularRow, CatalogError>) -> Result<Option<TabularRow>, ApiError> {
    match looked_up {
        Ok(row) => Ok(Some(row)),
        Err(e) if matches!(e.code(), ErrorCode::NoSuchTable | ErrorCode::NoSuchView | ErrorCode::NoSuchNamespace) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_has_the_names_of_its_views_however_often_they_are_encoded() {
        let names = |list: &str| chain_of(list).map(|chain| chain.0.iter().map(TableName::to_string).collect::<Vec<_>>());
        let two = Some(vec!["prod.analytics.quarterly".to_owned(), "prod.monthly".to_owned()]);
        assert_eq!(names("prod%1Fanalytics%1Fquarterly,prod%1Fmonthly"), two);
        assert_eq!(names("prod\u{1f}analytics\u{1f}quarterly,prod\u{1f}monthly"), two);
        let (comma, space) = (names("n%1Fa%2Cb").expect("a name"), names("n%1Fa+b").expect("a name"));
        assert_eq!((comma.len(), comma[0].contains("a,b"), space[0].contains("a b")), (1, true, true));
        for wrong in ["", "v", "n%1Fv,", "n%1F", "%1Fv", "n%1F%FF", &["n%1Fv"; 17].join(",")] {
            assert!(names(wrong).is_none(), "{wrong}");
        }
    }
}
