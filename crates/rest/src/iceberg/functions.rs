//! Functions: list and load. The management API stores them.

use axum::Json;
use serde_json::{Value, json};

use super::paging::Paging;
use crate::ApiError;
use crate::access::RequestAccess;
use crate::extract::{InFunction, InNamespace, InWarehouse, QueryParams};

/// Lists the functions of a namespace.
///
/// An identifier is an array of names (`CatalogObjectIdentifier`), unlike the identifier of a table or view.
///
/// Route: `GET /v1/{prefix}/namespaces/{namespace}/functions`. Spec: REST `listFunctions`.
pub(crate) async fn list(
    warehouse: InWarehouse,
    caller: RequestAccess,
    InNamespace(namespace): InNamespace,
    QueryParams(paging): QueryParams<Paging>,
) -> Result<Json<Value>, ApiError> {
    let (after, reader) = (paging.after()?, caller.authority());
    let found = warehouse.catalog().list_functions(&namespace, &after, paging.limit(), &reader).await?;
    let (page, next) = paging.cut_page(found, String::clone);
    let identifier = |name: &String| -> Vec<String> { namespace.levels().iter().chain([name]).cloned().collect() };
    let identifiers: Vec<_> = page.iter().map(identifier).collect();
    Ok(Json(json!({"identifiers": identifiers, "next-page-token": next})))
}

/// Returns the metadata of a function.
///
/// Route: `GET /v1/{prefix}/namespaces/{namespace}/functions/{function}`. Spec: REST `loadFunction`.
pub(crate) async fn load(
    warehouse: InWarehouse,
    caller: RequestAccess,
    InFunction(name): InFunction,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({"metadata": warehouse.catalog().function(&name, &caller.authority()).await?})))
}
