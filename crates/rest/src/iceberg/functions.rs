//! Functions: list and load. The management API stores them.

use axum::Json;
use serde_json::{Value, json};

use super::paging::Paging;
use crate::ApiError;
use crate::extract::{InFunction, InNamespace, InWarehouse, QueryParams};

/// Lists the functions of a namespace.
///
/// An identifier is an array of names (`CatalogObjectIdentifier`), unlike the identifier of a table or view.
///
/// Route: `GET /v1/{prefix}/namespaces/{namespace}/functions`. Spec: REST `listFunctions`.
pub(crate) async fn list(
    warehouse: InWarehouse,
    InNamespace(namespace): InNamespace,
    QueryParams(paging): QueryParams<Paging>,
) -> Result<Json<Value>, ApiError> {
    let found = warehouse.catalog().list_functions(&namespace, &paging.after()?, paging.limit()).await?;
    let (page, next) = paging.cut_page(found, String::clone);
    let identifier = |name: &String| -> Vec<String> { namespace.levels().iter().chain([name]).cloned().collect() };
    let identifiers: Vec<_> = page.iter().map(identifier).collect();
    Ok(Json(json!({"identifiers": identifiers, "next-page-token": next})))
}

/// Returns the metadata of a function.
///
/// Route: `GET /v1/{prefix}/namespaces/{namespace}/functions/{function}`. Spec: REST `loadFunction`.
pub(crate) async fn load(warehouse: InWarehouse, InFunction(name): InFunction) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({"metadata": warehouse.catalog().function(&name).await?})))
}
