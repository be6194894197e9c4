use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use esker_catalog::{CatalogError, CreateTable, Created, Register};
use esker_types::{NamespaceName, TableName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::load::{self, Snapshots};
use super::paging::Paging;
use crate::extract::{Body, InNamespace, InTable, Prefix, Query};
use crate::{ApiError, App};

/// `GET /v1/{prefix}/namespaces/{namespace}/tables`
pub(crate) async fn list(
    State(app): State<App>,
    InNamespace(namespace): InNamespace,
    Query(paging): Query<Paging>,
) -> Result<Json<Value>, ApiError> {
    let found = app.catalog().list_tables(&namespace, &paging.after()?, paging.limit()).await?;
    let (page, next) = paging.cut(found, String::clone);
    let identifiers: Vec<Value> = page.iter().map(|name| json!({"namespace": namespace, "name": name})).collect();
    Ok(Json(json!({"identifiers": identifiers, "next-page-token": next})))
}

/// `POST /v1/{prefix}/namespaces/{namespace}/tables`
pub(crate) async fn create(
    State(app): State<App>,
    InNamespace(namespace): InNamespace,
    Body(request): Body<CreateTable>,
) -> Result<Response, ApiError> {
    match app.catalog().create_table(&namespace, request).await? {
        Created::Table(table) => load::response(&app, &table, Snapshots::All).await,
        Created::Staged(metadata) => load::staged(&metadata),
    }
}

/// `POST /v1/{prefix}/namespaces/{namespace}/register`
pub(crate) async fn register(
    State(app): State<App>,
    InNamespace(namespace): InNamespace,
    Body(request): Body<Register>,
) -> Result<Response, ApiError> {
    let table = app.catalog().register(&namespace, request).await?;
    load::response(&app, &table, Snapshots::All).await
}

/// `HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}`
pub(crate) async fn exists(State(app): State<App>, InTable(name): InTable) -> Result<StatusCode, ApiError> {
    let catalog = app.catalog();
    catalog.state().table(catalog.warehouse(), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DropQuery {
    purge_requested: Option<String>,
}

/// `DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}`
pub(crate) async fn drop(
    State(app): State<App>,
    InTable(name): InTable,
    Query(query): Query<DropQuery>,
) -> Result<StatusCode, ApiError> {
    // Python clients write "True".
    let purge = query.purge_requested.is_some_and(|p| p.eq_ignore_ascii_case("true"));
    app.catalog().drop_table(&name, purge).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
pub(crate) struct Identifier {
    namespace: NamespaceName,
    name: String,
}

impl Identifier {
    fn table(self) -> Result<TableName, ApiError> {
        Ok(TableName::new(self.namespace, self.name).map_err(CatalogError::from)?)
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Rename {
    source: Identifier,
    destination: Identifier,
}

/// `POST /v1/{prefix}/tables/rename`
pub(crate) async fn rename(State(app): State<App>, _: Prefix, Body(request): Body<Rename>) -> Result<StatusCode, ApiError> {
    app.catalog().rename_table(&request.source.table()?, &request.destination.table()?).await?;
    Ok(StatusCode::NO_CONTENT)
}
