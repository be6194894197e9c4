//! The SQL queries of this server, and the reports of other engines about their scans and commits.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use esker_access::{Need, Privilege, ResourcePath};
use esker_query::QueryRecord;
use esker_types::ErrorCode;
use serde::Deserialize;
use serde_json::Value;

use crate::access::RequestAccess;
use crate::extract::{InQuery, InTable, InWarehouse, QueryParams};
use crate::openapi::{ChangeErrors, ReadErrors};
use crate::{ApiError, App};

/// The parameters of a list of queries or reports.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListLimit {
    /// The maximum number of entries in the answer; without it, 50.
    #[serde(default = "default_limit")]
    limit: u32,
}

const fn default_limit() -> u32 {
    50
}

/// Lists the queries of this server that run, then those that ended, the newest first in each group.
#[utoipa::path(
    get,
    path = "/api/v1/queries",
    operation_id = "listQueries",
    tag = "queries",
    params(ListLimit),
    responses((status = 200, description = "The records of the queries.", body = Vec<QueryRecord>), ReadErrors)
)]
pub(crate) async fn list(
    State(app): State<App>,
    caller: RequestAccess,
    QueryParams(query): QueryParams<ListLimit>,
) -> Json<Vec<QueryRecord>> {
    Json(seen_queries(&app, &caller, query.limit as usize))
}

/// Returns the newest queries that a caller sees: its own, or all with `MONITOR`.
pub(crate) fn seen_queries(app: &App, caller: &RequestAccess, limit: usize) -> Vec<QueryRecord> {
    let log = app.inner.engine.log();
    if caller.has_on_server(Privilege::Monitor) {
        return log.newest(limit);
    }
    let mut own = log.newest(usize::MAX);
    own.retain(|query| caller.is_called(&query.principal));
    own.truncate(limit);
    own
}

/// Stops a query of this server.
#[utoipa::path(
    delete,
    path = "/api/v1/queries/{id}",
    operation_id = "cancelQuery",
    tag = "queries",
    params(InQuery),
    responses((status = 204, description = "The query is stopped."), ChangeErrors)
)]
pub(crate) async fn cancel(State(app): State<App>, caller: RequestAccess, InQuery(id): InQuery) -> Result<StatusCode, ApiError> {
    let missing = || ApiError::new(ErrorCode::NotFound, format!("query {id} does not run on this server"));
    let (authority, log) = (caller.authority(), app.inner.engine.log());
    let query = log.newest(usize::MAX).into_iter().find(|query| query.id == id).ok_or_else(missing)?;
    if !caller.is_called(&query.principal) {
        // A query that the caller does not see is as if it were not there.
        let is_hidden = !caller.has_on_server(Privilege::Monitor);
        let refused = authority.require(&Need::new(ResourcePath::SERVER, Privilege::ManageServer));
        refused.map_err(|refusal| if is_hidden { missing() } else { refusal.into() })?;
    }
    match log.cancel(id) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(missing()),
    }
}

/// Lists the scan and commit reports that engines sent about a table.
#[utoipa::path(
    get,
    path = "/api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/reports",
    operation_id = "listReports",
    tag = "queries",
    params(InWarehouse, InTable, ListLimit),
    responses(
        (status = 200, description = "The reports as the engines sent them, the newest first.", body = Vec<Value>),
        ReadErrors
    )
)]
pub(crate) async fn reports(
    warehouse: InWarehouse,
    caller: RequestAccess,
    InTable(name): InTable,
    QueryParams(query): QueryParams<ListLimit>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let catalog = warehouse.catalog();
    let row = caller.whole_table(catalog, &name).await?;
    let bodies = catalog.overview().reports(row.id, query.limit).await?;
    let parsed = bodies.iter().filter_map(|body| match serde_json::from_str(body) {
        Ok(report) => Some(report),
        Err(error) => {
            tracing::warn!(table = %name, %error, "a stored report is no JSON and is left out");
            None
        }
    });
    Ok(Json(parsed.collect()))
}
