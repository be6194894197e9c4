use axum::Json;
use axum::extract::State;
use esker_query::QueryRecord;
use serde::Deserialize;
use serde_json::Value;

use crate::extract::{In, InTable, Query};
use crate::{ApiError, App};

#[derive(Debug, Deserialize)]
pub(crate) struct ListQuery {
    #[serde(default = "default_limit")]
    limit: u32,
}

const fn default_limit() -> u32 {
    50
}

/// `GET /api/v1/queries`: the newest first, with what they read.
pub(crate) async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Json<Vec<QueryRecord>> {
    Json(app.inner.queries.newest(query.limit as usize))
}

/// `GET /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/reports`: the newest scan and commit reports that engines sent.
pub(crate) async fn reports(
    warehouse: In,
    InTable(name): InTable,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let catalog = warehouse.catalog();
    let row = catalog.state().table(catalog.warehouse(), &name).await?;
    let bodies = catalog.state().reports(row.id, query.limit).await?;
    Ok(Json(bodies.iter().filter_map(|b| serde_json::from_str(b).ok()).collect()))
}
