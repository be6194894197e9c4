//! The configuration that clients load first: prefix, properties and supported operations.

use axum::Json;
use axum::extract::State;
use esker_types::ErrorCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::extract::QueryParams;
use crate::{ApiError, App};

/// The operations that the server offers. Clients never use an operation that is not listed.
///
/// Signing has a route, but is not listed: no warehouse can do it yet, and a client that sees it may rely on it.
///
/// Spec: REST `CatalogConfig`, `endpoints`.
pub(crate) const ENDPOINTS: [&str; 32] = [
    "GET /v1/{prefix}/namespaces",
    "POST /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "HEAD /v1/{prefix}/namespaces/{namespace}",
    "DELETE /v1/{prefix}/namespaces/{namespace}",
    "POST /v1/{prefix}/namespaces/{namespace}/properties",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "POST /v1/{prefix}/namespaces/{namespace}/tables",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/unregister",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/tasks",
    "POST /v1/{prefix}/namespaces/{namespace}/register",
    "POST /v1/{prefix}/tables/rename",
    "POST /v1/{prefix}/transactions/commit",
    "GET /v1/{prefix}/namespaces/{namespace}/views",
    "POST /v1/{prefix}/namespaces/{namespace}/views",
    "GET /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "POST /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "POST /v1/{prefix}/views/rename",
    "POST /v1/{prefix}/namespaces/{namespace}/register-view",
    "GET /v1/{prefix}/namespaces/{namespace}/functions",
    "GET /v1/{prefix}/namespaces/{namespace}/functions/{function}",
];

/// The parameters of a request for the configuration.
#[derive(Debug, Deserialize)]
pub(crate) struct ConfigQuery {
    warehouse: Option<String>,
}

/// Returns the configuration of a warehouse: the one named, else the only one, else the one called `default`.
///
/// Route: `GET /v1/config?warehouse=`. Spec: REST `getConfig`.
pub(crate) async fn config(
    State(app): State<App>,
    QueryParams(query): QueryParams<ConfigQuery>,
) -> Result<Json<Value>, ApiError> {
    let named = query.warehouse.filter(|w| !w.is_empty());
    let mut all = app.warehouses();
    let warehouse = match (named, all.next(), all.next()) {
        (Some(name), ..) => app.warehouse(&name)?,
        (None, Some(only), None) => only,
        (None, ..) => app.warehouse("default").map_err(|_| {
            let what = "this server has several warehouses and none called default; choose one with warehouse=NAME";
            ApiError::new(ErrorCode::BadRequest, what)
        })?,
    };
    let options = warehouse.catalog().options();
    Ok(Json(json!({
        "defaults": options.client,
        "overrides": {"prefix": options.warehouse},
        "endpoints": ENDPOINTS,
        // Java reads the lifetime here and not inside `overrides`. Its parser of durations takes no weeks, so they are seconds.
        "idempotency-key-lifetime": format!("PT{}S", app.inner.options.idempotency_seconds),
    })))
}
