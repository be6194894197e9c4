//! The SQL queries of this server, and the reports of other engines about their scans and commits.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use esker_query::QueryRecord;
use esker_types::ErrorCode;
use serde::Deserialize;
use serde_json::Value;

use crate::extract::{InTable, InWarehouse, QueryParams};
use crate::{ApiError, App};

/// The parameters of a list of queries or reports.
#[derive(Debug, Deserialize)]
pub(crate) struct QueriesQuery {
    #[serde(default = "default_limit")]
    limit: u32,
}

const fn default_limit() -> u32 {
    50
}

/// Lists the queries that run, then those that ended, the newest first in each group (`GET /api/v1/queries?limit=`).
pub(crate) async fn list(State(app): State<App>, QueryParams(query): QueryParams<QueriesQuery>) -> Json<Vec<QueryRecord>> {
    Json(app.inner.engine.log().newest(query.limit as usize))
}

/// Stops a query of this server (`DELETE /api/v1/queries/{id}`).
pub(crate) async fn cancel(State(app): State<App>, Path(id): Path<u64>) -> Result<StatusCode, ApiError> {
    match app.inner.engine.log().cancel(id) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::new(ErrorCode::NotFound, format!("query {id} does not run on this server"))),
    }
}

/// Lists the scan and commit reports that engines sent about a table, the newest first (`GET …/tables/{table}/reports?limit=`).
pub(crate) async fn reports(
    warehouse: InWarehouse,
    InTable(name): InTable,
    QueryParams(query): QueryParams<QueriesQuery>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let catalog = warehouse.catalog();
    let row = catalog.table(&name).await?;
    let bodies = catalog.overview().reports(row.id, query.limit).await?;
    Ok(Json(bodies.iter().filter_map(|b| serde_json::from_str(b).ok()).collect()))
}
