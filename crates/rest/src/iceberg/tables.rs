//! Tables: list, create, register, unregister, drop and rename. Loading and commits have files of their own.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use esker_catalog::{CatalogError, CreateTable, Created, DroppedFiles, Register};
use esker_types::{NamespaceName, TableName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::load::{self, LoadOptions};
use super::paging::Paging;
use crate::access::RequestAccess;
use crate::extract::{InNamespace, InTable, InWarehouse, JsonBody, QueryParams, RequestActor};
use crate::{ApiError, App};

/// Lists the tables of a namespace.
///
/// Route: `GET /v1/{prefix}/namespaces/{namespace}/tables`. Spec: REST `listTables`.
pub(crate) async fn list(
    warehouse: InWarehouse,
    caller: RequestAccess,
    InNamespace(namespace): InNamespace,
    QueryParams(paging): QueryParams<Paging>,
) -> Result<Json<Value>, ApiError> {
    let (after, reader) = (paging.after()?, caller.authority());
    let found = warehouse.catalog().list_tables(&namespace, &after, paging.limit(), &reader).await?;
    let (page, next) = paging.cut_page(found, String::clone);
    let identifiers: Vec<Value> = page.iter().map(|name| json!({"namespace": namespace, "name": name})).collect();
    Ok(Json(json!({"identifiers": identifiers, "next-page-token": next})))
}

/// Creates a table, or only stages its creation.
///
/// Route: `POST /v1/{prefix}/namespaces/{namespace}/tables`. Spec: REST `createTable`.
pub(crate) async fn create(
    State(app): State<App>,
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InNamespace(namespace): InNamespace,
    shape: LoadOptions,
    JsonBody(request): JsonBody<CreateTable>,
) -> Result<Response, ApiError> {
    let catalog = warehouse.catalog();
    // The caller owns the table, which the rules of the request do not know yet.
    let (shape, name) = (shape.for_owner(), request.name.clone());
    match catalog.create_table(&namespace, request, &actor).await? {
        Created::Table(table) => load::response(&app, catalog, &table, &shape).await,
        Created::Staged(metadata) => load::staged(catalog, (&namespace, &name), &metadata, &shape).await,
    }
}

/// Registers a table from an existing metadata file. The table is foreign until it is claimed.
///
/// Route: `POST /v1/{prefix}/namespaces/{namespace}/register`. Spec: REST `registerTable`.
pub(crate) async fn register(
    State(app): State<App>,
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InNamespace(namespace): InNamespace,
    shape: LoadOptions,
    JsonBody(request): JsonBody<Register>,
) -> Result<Response, ApiError> {
    let table = warehouse.catalog().register(&namespace, request, &actor).await?;
    // The caller owns the table, which the rules of the request do not know yet.
    load::response(&app, warehouse.catalog(), &table, &shape.for_owner()).await
}

/// Removes a table from the catalog without deleting its files, and returns its last metadata.
///
/// Route: `POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/unregister`. Spec: REST `unregisterTable`.
pub(crate) async fn unregister(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InTable(name): InTable,
) -> Result<Response, ApiError> {
    Ok(load::unregistered(&warehouse.catalog().unregister_table(&name, &actor).await?))
}

/// Checks that a table exists.
///
/// Route: `HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}`. Spec: REST `tableExists`.
pub(crate) async fn exists(
    warehouse: InWarehouse,
    caller: RequestAccess,
    InTable(name): InTable,
) -> Result<StatusCode, ApiError> {
    caller.table(warehouse.catalog(), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The parameters of a drop.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DropQuery {
    /// The text `true` in any case, to delete the files of the table too.
    purge_requested: Option<String>,
}

/// Drops a table, and its files with `purgeRequested=true`.
///
/// Route: `DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}?purgeRequested=`. Spec: REST `dropTable`.
pub(crate) async fn drop(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InTable(name): InTable,
    QueryParams(query): QueryParams<DropQuery>,
) -> Result<StatusCode, ApiError> {
    // Python clients write "True".
    let purge = query.purge_requested.is_some_and(|p| p.eq_ignore_ascii_case("true"));
    let files = if purge { DroppedFiles::Purge } else { DroppedFiles::Keep };
    warehouse.catalog().drop_table(&name, files, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The identifier of a table or view, as JSON.
///
/// Spec: REST `TableIdentifier`.
#[derive(Debug, Deserialize)]
pub(crate) struct Identifier {
    namespace: NamespaceName,
    name: String,
}

impl Identifier {
    /// Returns the name, or an error if it is not valid.
    pub(crate) fn name(self) -> Result<TableName, ApiError> {
        Ok(TableName::new(self.namespace, self.name).map_err(CatalogError::from)?)
    }
}

/// The request to rename a table or view.
///
/// Spec: REST `RenameTableRequest`.
#[derive(Debug, Deserialize)]
pub(crate) struct RenameRequest {
    source: Identifier,
    destination: Identifier,
}

impl RenameRequest {
    /// Returns the old and the new name.
    pub(crate) fn names(self) -> Result<(TableName, TableName), ApiError> {
        Ok((self.source.name()?, self.destination.name()?))
    }
}

/// Renames a table, also into another namespace.
///
/// Route: `POST /v1/{prefix}/tables/rename`. Spec: REST `renameTable`.
pub(crate) async fn rename(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    JsonBody(request): JsonBody<RenameRequest>,
) -> Result<StatusCode, ApiError> {
    let (from, to) = request.names()?;
    warehouse.catalog().rename_table(&from, &to, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}
