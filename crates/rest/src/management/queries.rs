use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use esker_query::QueryRecord;
use esker_types::ErrorCode;
use serde::Deserialize;
use serde_json::Value;

use crate::extract::{In, InTable, Query};
use crate::{ApiError, App};

#[derive(Debug, Deserialize)]
pub(crate) struct QueriesQuery {
    #[serde(default = "default_limit")]
    limit: u32,
}

const fn default_limit() -> u32 {
    50
}

/// `GET /api/v1/queries`: those at work, then those that ended, the newest first, with what they read.
pub(crate) async fn list(State(app): State<App>, Query(query): Query<QueriesQuery>) -> Json<Vec<QueryRecord>> {
    Json(app.inner.engine.log().newest(query.limit as usize))
}

/// `DELETE /api/v1/queries/{id}`: stops a query.
pub(crate) async fn cancel(State(app): State<App>, Path(id): Path<u64>) -> Result<StatusCode, ApiError> {
    match app.inner.engine.log().cancel(id) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::new(ErrorCode::NotFound, format!("query {id} is not at work here"))),
    }
}

/// `GET /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/reports`: the newest scan and commit reports that engines sent.
pub(crate) async fn reports(
    warehouse: In,
    InTable(name): InTable,
    Query(query): Query<QueriesQuery>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let catalog = warehouse.catalog();
    let row = catalog.state().table(catalog.warehouse(), &name).await?;
    let bodies = catalog.state().reports(row.id, query.limit).await?;
    Ok(Json(bodies.iter().filter_map(|b| serde_json::from_str(b).ok()).collect()))
}
