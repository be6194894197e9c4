use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::extract::{Query, check_warehouse};
use crate::{ApiError, App};

/// What is served, as clients take it literally: an operation that is not listed is never asked for.
const ENDPOINTS: [&str; 16] = [
    "GET /v1/{prefix}/namespaces",
    "POST /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "HEAD /v1/{prefix}/namespaces/{namespace}",
    "DELETE /v1/{prefix}/namespaces/{namespace}",
    "POST /v1/{prefix}/namespaces/{namespace}/properties",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "POST /v1/{prefix}/namespaces/{namespace}/tables",
    "POST /v1/{prefix}/namespaces/{namespace}/register",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics",
    "POST /v1/{prefix}/tables/rename",
    "GET /v1/config",
];

#[derive(Debug, Deserialize)]
pub(crate) struct ConfigQuery {
    warehouse: Option<String>,
}

/// `GET /v1/config`
pub(crate) async fn config(State(app): State<App>, Query(query): Query<ConfigQuery>) -> Result<Json<Value>, ApiError> {
    if let Some(warehouse) = query.warehouse.filter(|w| !w.is_empty()) {
        check_warehouse(&app, &warehouse)?;
    }
    let prefix = &app.catalog().options().warehouse;
    Ok(Json(json!({"defaults": {}, "overrides": {"prefix": prefix}, "endpoints": ENDPOINTS})))
}
