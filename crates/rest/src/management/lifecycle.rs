//! Changes of tables, views and functions for which the Iceberg REST specification has no route.
//!
//! They are protection against drops, bringing dropped tables back, branches and tags, and storing functions.

use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use esker_catalog::{RefChange, staged};
use esker_state::DroppedTable;
use esker_types::{ErrorCode, TableId, TableName};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ApiError;
use crate::extract::{InFunction, InNamespace, InTable, InView, InWarehouse, JsonBody, RequestActor};

/// The request to protect something, or to lift its protection.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProtectionRequest {
    protected: bool,
}

/// Protects a namespace against drops, or lifts the protection (`PUT …/namespaces/{namespace}/protection`).
pub(crate) async fn protect_namespace(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InNamespace(name): InNamespace,
    JsonBody(request): JsonBody<ProtectionRequest>,
) -> Result<StatusCode, ApiError> {
    warehouse.catalog().protect_namespace(&name, request.protected, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Protects a table against drops, or lifts the protection (`PUT …/tables/{table}/protection`).
pub(crate) async fn protect_table(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InTable(name): InTable,
    JsonBody(request): JsonBody<ProtectionRequest>,
) -> Result<StatusCode, ApiError> {
    warehouse.catalog().protect_table(&name, request.protected, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Protects a view against drops, or lifts the protection (`PUT …/views/{view}/protection`).
pub(crate) async fn protect_view(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InView(name): InView,
    JsonBody(request): JsonBody<ProtectionRequest>,
) -> Result<StatusCode, ApiError> {
    warehouse.catalog().protect_view(&name, request.protected, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A dropped table that can be brought back, as JSON.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DroppedView {
    /// The id by which the table is brought back.
    pub table_id: TableId,
    /// The name of the table when it was dropped, its parts joined with dots.
    pub table: String,
    /// The levels of the table's namespace.
    pub namespace: Vec<String>,
    /// The name of the table in the namespace.
    pub name: String,
    /// The principal who dropped the table.
    pub dropped_by: String,
    /// The time of the drop, in milliseconds since the Unix epoch.
    pub dropped_ms: i64,
    /// The time until which the table can be brought back, in milliseconds since the Unix epoch.
    pub undrop_until_ms: i64,
    /// Tells whether the files of the table are deleted after that time.
    pub purge: bool,
}

impl From<DroppedTable> for DroppedView {
    fn from(dropped: DroppedTable) -> Self {
        Self {
            table_id: dropped.row.id,
            table: dropped.row.name.to_string(),
            namespace: dropped.row.name.namespace.levels().to_vec(),
            name: dropped.row.name.name,
            dropped_by: dropped.dropped_by,
            dropped_ms: dropped.dropped_ms,
            undrop_until_ms: dropped.expires_ms,
            purge: dropped.purge,
        }
    }
}

/// Lists the dropped tables of a warehouse, the last dropped first (`GET /api/v1/warehouses/{warehouse}/dropped`).
pub(crate) async fn dropped(warehouse: InWarehouse) -> Result<Json<Vec<DroppedView>>, ApiError> {
    Ok(Json(warehouse.catalog().dropped_tables().await?.into_iter().map(DroppedView::from).collect()))
}

/// The request to bring a dropped table back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UndropRequest {
    /// The new name of the table; without it, the old name.
    #[serde(rename = "as")]
    name: Option<TableName>,
}

/// Brings a dropped table back, and returns its name (`POST /api/v1/warehouses/{warehouse}/dropped/{table-id}/undrop`).
pub(crate) async fn undrop(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    Path((_, id)): Path<(String, String)>,
    JsonBody(request): JsonBody<UndropRequest>,
) -> Result<Json<Value>, ApiError> {
    let missing = |_| ApiError::new(ErrorCode::NotFound, format!("no dropped table has the id {id}"));
    let id: TableId = id.parse().map_err(missing)?;
    let name = warehouse.catalog().undrop_table(id, request.name, &actor).await?;
    Ok(Json(json!({"table": name.to_string()})))
}

/// Changes the references of a table: branches, tags, rollback, publication of staged snapshots (`POST …/tables/{table}/refs`).
pub(crate) async fn change_refs(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InTable(name): InTable,
    JsonBody(change): JsonBody<RefChange>,
) -> Result<Json<Value>, ApiError> {
    let committed = warehouse.catalog().change_refs(&name, change, &actor).await?;
    Ok(Json(view(&committed.table)))
}

/// Lists the references and the staged snapshots of a table (`GET …/tables/{table}/refs`).
pub(crate) async fn list_refs(warehouse: InWarehouse, InTable(name): InTable) -> Result<Json<Value>, ApiError> {
    Ok(Json(view(&warehouse.catalog().load(&name).await?)))
}

/// Returns the references and the staged snapshots of a table as JSON.
fn view(table: &esker_catalog::LoadedTable) -> Value {
    let staged = staged(&table.metadata).into_iter();
    let staged = staged.map(|(wap, s)| json!({"wap-id": wap, "snapshot-id": s.snapshot_id, "timestamp-ms": s.timestamp_ms}));
    json!({"current-snapshot-id": table.metadata.current_snapshot_id, "refs": table.metadata.refs,
        "staged": staged.collect::<Vec<_>>()})
}

/// Stores a function, whose metadata is the body (`PUT …/functions/{function}`).
pub(crate) async fn put_function(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InFunction(name): InFunction,
    JsonBody(metadata): JsonBody<Value>,
) -> Result<StatusCode, ApiError> {
    warehouse.catalog().put_function(&name, &metadata, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Drops a function (`DELETE …/functions/{function}`).
pub(crate) async fn drop_function(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InFunction(name): InFunction,
) -> Result<StatusCode, ApiError> {
    warehouse.catalog().drop_function(&name, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}
