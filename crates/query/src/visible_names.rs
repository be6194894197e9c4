//! The namespaces, tables and views that a caller sees in lists.
//!
//! A namespace is listed for who may see it, or something in it: whoever sees `n.t` knows `n`. The same holds for a warehouse.
//! `information_schema` and the metadata calls of Flight SQL list names by these functions.

use esker_catalog::{Authority, Catalog};
use esker_state::TabularRow;
use esker_types::NamespaceName;

use crate::Result;
use crate::rights::at_tabular;

/// Keeps the tables or views that the caller sees.
fn seen(by: &Authority, catalog: &Catalog, rows: Vec<TabularRow>) -> Vec<TabularRow> {
    match by.sees_all_below(&catalog.warehouse_path()) {
        true => rows,
        false => rows.into_iter().filter(|row| at_tabular(catalog, row, |on| by.sees(on))).collect(),
    }
}

/// Returns the tables of a warehouse that the caller sees, by namespace and name.
///
/// # Errors
///
/// Returns [`QueryError::Catalog`](crate::QueryError::Catalog) if the database fails.
pub async fn visible_tables(catalog: &Catalog, by: &Authority) -> Result<Vec<TabularRow>> {
    Ok(seen(by, catalog, catalog.tables().await?))
}

/// Returns the views of a warehouse that the caller sees, by namespace and name.
///
/// # Errors
///
/// Returns [`QueryError::Catalog`](crate::QueryError::Catalog) if the database fails.
pub(crate) async fn visible_views(catalog: &Catalog, by: &Authority) -> Result<Vec<TabularRow>> {
    Ok(seen(by, catalog, catalog.views().await?))
}

/// Returns the namespaces of a warehouse that the caller sees, or sees something in; parents before children.
///
/// # Errors
///
/// Returns [`QueryError::Catalog`](crate::QueryError::Catalog) if the database fails.
pub async fn visible_namespaces(catalog: &Catalog, by: &Authority) -> Result<Vec<NamespaceName>> {
    Ok(catalog.visible_namespaces(by).await?)
}

/// Checks that the caller sees a warehouse, or something in it.
///
/// # Errors
///
/// Returns [`QueryError::Catalog`](crate::QueryError::Catalog) if the database fails.
pub async fn is_visible_warehouse(catalog: &Catalog, by: &Authority) -> Result<bool> {
    Ok(by.sees(&catalog.warehouse_path()) || !visible_namespaces(catalog, by).await?.is_empty())
}
