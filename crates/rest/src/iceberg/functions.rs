use axum::Json;
use serde_json::{Value, json};

use super::paging::Paging;
use crate::ApiError;
use crate::extract::{In, InFunction, InNamespace, Query};

/// `GET /v1/{prefix}/namespaces/{namespace}/functions`
///
/// Identifiers are arrays of names (`CatalogObjectIdentifier`), unlike those of tables and views.
pub(crate) async fn list(
    warehouse: In,
    InNamespace(namespace): InNamespace,
    Query(paging): Query<Paging>,
) -> Result<Json<Value>, ApiError> {
    let found = warehouse.catalog().list_functions(&namespace, &paging.after()?, paging.limit()).await?;
    let (page, next) = paging.cut(found, String::clone);
    let identifier = |name: &String| -> Vec<String> { namespace.levels().iter().chain([name]).cloned().collect() };
    let identifiers: Vec<_> = page.iter().map(identifier).collect();
    Ok(Json(json!({"identifiers": identifiers, "next-page-token": next})))
}

/// `GET /v1/{prefix}/namespaces/{namespace}/functions/{function}`
pub(crate) async fn load(warehouse: In, InFunction(name): InFunction) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({"metadata": warehouse.catalog().function(&name).await?})))
}
