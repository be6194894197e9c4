//! What the Iceberg specification has no route for: protection, bringing dropped tables back, branches and tags, storing
//! functions.

use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use esker_catalog::{RefChange, staged};
use esker_state::DroppedTable;
use esker_types::{ErrorCode, TableId, TableName};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ApiError;
use crate::extract::{Body, By, In, InFunction, InNamespace, InTable, InView};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Protection {
    protected: bool,
}

/// `PUT /api/v1/warehouses/{warehouse}/namespaces/{namespace}/protection`
pub(crate) async fn protect_namespace(
    warehouse: In,
    By(actor): By,
    InNamespace(name): InNamespace,
    Body(request): Body<Protection>,
) -> Result<StatusCode, ApiError> {
    warehouse.catalog().protect_namespace(&name, request.protected, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/protection`
pub(crate) async fn protect_table(
    warehouse: In,
    By(actor): By,
    InTable(name): InTable,
    Body(request): Body<Protection>,
) -> Result<StatusCode, ApiError> {
    warehouse.catalog().protect_table(&name, request.protected, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /api/v1/warehouses/{warehouse}/namespaces/{namespace}/views/{view}/protection`
pub(crate) async fn protect_view(
    warehouse: In,
    By(actor): By,
    InView(name): InView,
    Body(request): Body<Protection>,
) -> Result<StatusCode, ApiError> {
    warehouse.catalog().protect_view(&name, request.protected, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A table that can be brought back.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DroppedView {
    /// The identifier to bring it back by.
    pub table_id: TableId,
    /// The name that it had.
    pub table: String,
    /// Its namespace.
    pub namespace: Vec<String>,
    /// Its name in the namespace.
    pub name: String,
    /// Who dropped it.
    pub dropped_by: String,
    /// When, in milliseconds since the epoch.
    pub dropped_ms: i64,
    /// Until when it can be brought back.
    pub undrop_until_ms: i64,
    /// Its files go after that.
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

/// `GET /api/v1/warehouses/{warehouse}/dropped`: the newest first.
pub(crate) async fn dropped(warehouse: In) -> Result<Json<Vec<DroppedView>>, ApiError> {
    Ok(Json(warehouse.catalog().dropped_tables().await?.into_iter().map(DroppedView::from).collect()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Undrop {
    /// Another name than the old one.
    #[serde(rename = "as")]
    name: Option<TableName>,
}

/// `POST /api/v1/warehouses/{warehouse}/dropped/{table-id}/undrop`
pub(crate) async fn undrop(
    warehouse: In,
    By(actor): By,
    Path((_, id)): Path<(String, String)>,
    Body(request): Body<Undrop>,
) -> Result<Json<Value>, ApiError> {
    let missing = |_| ApiError::new(ErrorCode::NotFound, format!("no dropped table has the id {id}"));
    let id: TableId = id.parse().map_err(missing)?;
    let name = warehouse.catalog().undrop_table(id, request.name, &actor).await?;
    Ok(Json(json!({"table": name.to_string()})))
}

/// `POST /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/refs`: branches, tags, rollback, publish.
pub(crate) async fn refs(
    warehouse: In,
    By(actor): By,
    InTable(name): InTable,
    Body(change): Body<RefChange>,
) -> Result<Json<Value>, ApiError> {
    let committed = warehouse.catalog().change_refs(&name, change, &actor).await?;
    Ok(Json(view(&committed.table)))
}

/// `GET /api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/refs`
pub(crate) async fn list_refs(warehouse: In, InTable(name): InTable) -> Result<Json<Value>, ApiError> {
    Ok(Json(view(&warehouse.catalog().load(&name).await?)))
}

fn view(table: &esker_catalog::LoadedTable) -> Value {
    let staged = staged(&table.metadata).into_iter();
    let staged = staged.map(|(wap, s)| json!({"wap-id": wap, "snapshot-id": s.snapshot_id, "timestamp-ms": s.timestamp_ms}));
    json!({"current-snapshot-id": table.metadata.current_snapshot_id, "refs": table.metadata.refs,
        "staged": staged.collect::<Vec<_>>()})
}

/// `PUT /api/v1/warehouses/{warehouse}/namespaces/{namespace}/functions/{function}`: the body is the function's metadata.
pub(crate) async fn put_function(
    warehouse: In,
    By(actor): By,
    InFunction(name): InFunction,
    Body(metadata): Body<Value>,
) -> Result<StatusCode, ApiError> {
    warehouse.catalog().put_function(&name, &metadata, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /api/v1/warehouses/{warehouse}/namespaces/{namespace}/functions/{function}`
pub(crate) async fn drop_function(warehouse: In, By(actor): By, InFunction(name): InFunction) -> Result<StatusCode, ApiError> {
    warehouse.catalog().drop_function(&name, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}
