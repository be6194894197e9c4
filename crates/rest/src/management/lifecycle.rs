//! Changes of tables, views and functions for which the Iceberg REST specification has no route.
//!
//! They are protection against drops, bringing dropped tables back, branches and tags, and storing functions.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use esker_access::{Privilege, Required};
use esker_catalog::{LoadedTable, RefChange, staged};
use esker_format::SnapshotReference;
use esker_state::DroppedTable;
use esker_types::{ErrorCode, Millis, TableId, TableName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ApiError;
use crate::access::RequestAccess;
use crate::extract::{InDropped, InFunction, InNamespace, InTable, InView, InWarehouse, JsonBody, RequestActor};
use crate::openapi::{ChangeErrors, ReadErrors};

/// The request to protect something, or to lift its protection.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProtectionRequest {
    /// Tells whether a drop is refused from now on.
    protected: bool,
}

/// Protects a namespace against drops, or lifts the protection.
#[utoipa::path(
    put,
    path = "/api/v1/warehouses/{warehouse}/namespaces/{namespace}/protection",
    operation_id = "protectNamespace",
    tag = "lifecycle",
    params(InWarehouse, InNamespace),
    request_body = ProtectionRequest,
    responses((status = 204, description = "The namespace has the wanted protection."), ChangeErrors)
)]
pub(crate) async fn protect_namespace(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InNamespace(name): InNamespace,
    JsonBody(request): JsonBody<ProtectionRequest>,
) -> Result<StatusCode, ApiError> {
    warehouse.catalog().protect_namespace(&name, request.protected, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Protects a table against drops, or lifts the protection.
#[utoipa::path(
    put,
    path = "/api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/protection",
    operation_id = "protectTable",
    tag = "lifecycle",
    params(InWarehouse, InTable),
    request_body = ProtectionRequest,
    responses((status = 204, description = "The table has the wanted protection."), ChangeErrors)
)]
pub(crate) async fn protect_table(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InTable(name): InTable,
    JsonBody(request): JsonBody<ProtectionRequest>,
) -> Result<StatusCode, ApiError> {
    warehouse.catalog().protect_table(&name, request.protected, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Protects a view against drops, or lifts the protection.
#[utoipa::path(
    put,
    path = "/api/v1/warehouses/{warehouse}/namespaces/{namespace}/views/{view}/protection",
    operation_id = "protectView",
    tag = "lifecycle",
    params(InWarehouse, InView),
    request_body = ProtectionRequest,
    responses((status = 204, description = "The view has the wanted protection."), ChangeErrors)
)]
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
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
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

/// Lists the dropped tables of a warehouse that can be brought back.
#[utoipa::path(
    get,
    path = "/api/v1/warehouses/{warehouse}/dropped",
    operation_id = "listDroppedTables",
    tag = "lifecycle",
    params(InWarehouse),
    responses((status = 200, description = "The dropped tables, the last dropped first.", body = Vec<DroppedView>), ReadErrors)
)]
pub(crate) async fn dropped(warehouse: InWarehouse, caller: RequestAccess) -> Result<Json<Vec<DroppedView>>, ApiError> {
    let (catalog, authority) = (warehouse.catalog(), caller.authority());
    let may_undrop = |dropped: &DroppedTable| {
        let key = dropped.row.name.namespace.key();
        let is_hidden = authority.is_forbidden(&catalog.tabular_path(&key, &dropped.row), Privilege::List);
        !is_hidden && authority.has(&catalog.namespace_path(&key), Required::privilege(Privilege::Undrop))
    };
    let dropped = catalog.dropped_tables().await?.into_iter().filter(may_undrop);
    Ok(Json(dropped.map(DroppedView::from).collect()))
}

/// The request to bring a dropped table back.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UndropRequest {
    /// The new name of the table; without it, the old name.
    #[serde(rename = "as")]
    name: Option<TableName>,
}

/// The answer to a request that brought a dropped table back, as JSON.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct UndroppedView {
    /// The name of the table, its parts joined with dots.
    table: String,
}

/// Brings a dropped table back, and returns its name.
#[utoipa::path(
    post,
    path = "/api/v1/warehouses/{warehouse}/dropped/{table-id}/undrop",
    operation_id = "undropTable",
    tag = "lifecycle",
    params(InWarehouse, InDropped),
    request_body = UndropRequest,
    responses((status = 200, description = "The table is in the catalog again.", body = UndroppedView), ChangeErrors)
)]
pub(crate) async fn undrop(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InDropped(id): InDropped,
    JsonBody(request): JsonBody<UndropRequest>,
) -> Result<Json<UndroppedView>, ApiError> {
    let missing = |_| ApiError::new(ErrorCode::NotFound, format!("no dropped table has the id {id}"));
    let id: TableId = id.parse().map_err(missing)?;
    let name = warehouse.catalog().undrop_table(id, request.name, &actor).await?;
    Ok(Json(UndroppedView { table: name.to_string() }))
}

/// The references and the staged snapshots of a table, as JSON.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RefsView {
    /// The id of the snapshot that `main` names; `None` for a table without one.
    current_snapshot_id: Option<i64>,
    /// The branches and tags by name, each as the `SnapshotReference` of the Iceberg REST specification.
    #[schema(value_type = BTreeMap<String, Map<String, Value>>)]
    refs: BTreeMap<String, SnapshotReference>,
    /// The snapshots that were written under a `wap.id` and are not published, the oldest first.
    staged: Vec<StagedSnapshot>,
}

/// A snapshot that is staged for a later publish, as JSON.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct StagedSnapshot {
    /// The id of the snapshot.
    snapshot_id: i64,
    /// The time of the snapshot, in milliseconds since the Unix epoch.
    timestamp_ms: Millis,
    /// The `wap.id` by which the snapshot is published.
    wap_id: String,
}

impl RefsView {
    /// Makes the answer for a table.
    fn new(table: &LoadedTable) -> Self {
        let staged = staged(&table.metadata).into_iter().map(|(wap_id, snapshot)| StagedSnapshot {
            snapshot_id: snapshot.snapshot_id,
            timestamp_ms: snapshot.timestamp_ms,
            wap_id: wap_id.to_owned(),
        });
        Self {
            current_snapshot_id: table.metadata.current_snapshot_id,
            staged: staged.collect(),
            refs: table.metadata.refs.clone(),
        }
    }
}

/// Changes the references of a table: branches, tags, rollback, publication of staged snapshots.
#[utoipa::path(
    post,
    path = "/api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/refs",
    operation_id = "changeRefs",
    tag = "lifecycle",
    params(InWarehouse, InTable),
    request_body = RefChange,
    responses((status = 200, description = "The references after the change.", body = RefsView), ChangeErrors)
)]
pub(crate) async fn change_refs(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InTable(name): InTable,
    JsonBody(change): JsonBody<RefChange>,
) -> Result<Json<RefsView>, ApiError> {
    let committed = warehouse.catalog().change_refs(&name, change, &actor).await?;
    Ok(Json(RefsView::new(&committed.table)))
}

/// Lists the references and the staged snapshots of a table.
#[utoipa::path(
    get,
    path = "/api/v1/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}/refs",
    operation_id = "listRefs",
    tag = "lifecycle",
    params(InWarehouse, InTable),
    responses((status = 200, description = "The references.", body = RefsView), ReadErrors)
)]
pub(crate) async fn list_refs(
    warehouse: InWarehouse,
    caller: RequestAccess,
    InTable(name): InTable,
) -> Result<Json<RefsView>, ApiError> {
    let row = caller.table(warehouse.catalog(), &name).await?;
    Ok(Json(RefsView::new(&warehouse.catalog().load_row(row).await?)))
}

/// Stores a function, whose metadata is the body.
#[utoipa::path(
    put,
    path = "/api/v1/warehouses/{warehouse}/namespaces/{namespace}/functions/{function}",
    operation_id = "putFunction",
    tag = "lifecycle",
    params(InWarehouse, InFunction),
    request_body(content = Value, description = "The metadata, in the form of Iceberg's specification of functions."),
    responses((status = 204, description = "The function is stored."), ChangeErrors)
)]
pub(crate) async fn put_function(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InFunction(name): InFunction,
    JsonBody(metadata): JsonBody<Value>,
) -> Result<StatusCode, ApiError> {
    warehouse.catalog().put_function(&name, &metadata, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Drops a function.
#[utoipa::path(
    delete,
    path = "/api/v1/warehouses/{warehouse}/namespaces/{namespace}/functions/{function}",
    operation_id = "dropFunction",
    tag = "lifecycle",
    params(InWarehouse, InFunction),
    responses((status = 204, description = "The function is dropped."), ChangeErrors)
)]
pub(crate) async fn drop_function(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InFunction(name): InFunction,
) -> Result<StatusCode, ApiError> {
    warehouse.catalog().drop_function(&name, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}
