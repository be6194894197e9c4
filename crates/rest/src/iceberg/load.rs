use std::collections::HashSet;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use esker_catalog::LoadedTable;
use esker_types::ErrorCode;
use iceberg::spec::TableMetadata;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::extract::{InTable, Query};
use crate::{ApiError, App};

/// Which snapshots a load response holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Snapshots {
    /// All.
    #[default]
    All,
    /// Those that branches and tags point at.
    Refs,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LoadQuery {
    #[serde(default)]
    snapshots: Snapshots,
}

/// `GET /v1/{prefix}/namespaces/{namespace}/tables/{table}`
pub(crate) async fn load(
    State(app): State<App>,
    InTable(name): InTable,
    Query(query): Query<LoadQuery>,
) -> Result<Response, ApiError> {
    let table = app.catalog().load(&name).await?;
    app.catalog().check_metadata_file(&table).await?;
    response(&app, &table, query.snapshots).await
}

fn bug(e: &serde_json::Error) -> ApiError {
    ApiError::new(ErrorCode::Internal, format!("table metadata can't be serialised: {e}"))
}

/// The load response of a table. Bodies are kept: metadata files never change.
pub(crate) async fn response(app: &App, table: &LoadedTable, snapshots: Snapshots) -> Result<Response, ApiError> {
    let key = (table.row.metadata_location.clone(), snapshots == Snapshots::Refs);
    let body = match app.inner.bodies.get(&key).await {
        Some(body) => body,
        None => {
            let body = body(&table.row.metadata_location, &table.metadata, snapshots).map_err(|e| bug(&e))?;
            app.inner.bodies.insert(key, body.clone()).await;
            body
        }
    };
    Ok(json_response(body))
}

fn json_response(body: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "private, no-cache")], body).into_response()
}

fn body(location: &str, metadata: &TableMetadata, snapshots: Snapshots) -> Result<Bytes, serde_json::Error> {
    let mut metadata = serde_json::to_value(metadata)?;
    if snapshots == Snapshots::Refs {
        keep_referenced(&mut metadata);
    }
    let body = json!({"metadata-location": location, "metadata": metadata, "config": {}});
    Ok(serde_json::to_vec(&body)?.into())
}

/// Leaves only the snapshots that a reference points at; logs and references stay whole.
fn keep_referenced(metadata: &mut Value) {
    let referenced: HashSet<i64> = metadata["refs"]
        .as_object()
        .into_iter()
        .flat_map(|refs| refs.values())
        .chain([&json!({"snapshot-id": metadata["current-snapshot-id"]})])
        .filter_map(|r| r["snapshot-id"].as_i64())
        .collect();
    if let Some(snapshots) = metadata.get_mut("snapshots").and_then(Value::as_array_mut) {
        snapshots.retain(|s| s["snapshot-id"].as_i64().is_some_and(|id| referenced.contains(&id)));
    }
}

/// The response of a staged create: no metadata file yet.
pub(crate) fn staged(metadata: &TableMetadata) -> Result<Response, ApiError> {
    let metadata = serde_json::to_value(metadata).map_err(|e| bug(&e))?;
    let body = serde_json::to_vec(&json!({"metadata": metadata, "config": {}})).map_err(|e| bug(&e))?;
    Ok(json_response(body.into()))
}
