//! Views: list, create, register, load, replace, drop and rename.

use axum::Json;
use axum::http::StatusCode;
use axum::response::Response;
use esker_catalog::{CreateView, LoadedView, Register, ReplaceView};
use serde_json::{Value, json};

use super::load;
use super::paging::Paging;
use super::tables::RenameRequest;
use crate::ApiError;
use crate::access::RequestAccess;
use crate::extract::{InNamespace, InView, InWarehouse, JsonBody, QueryParams, RequestActor};

/// Builds the load response of a view.
///
/// Spec: REST `LoadViewResult`.
pub(crate) fn response(view: &LoadedView) -> Response {
    load::load_response(&load::response_head(&view.row.metadata_location), view.json.clone())
}

/// Lists the views of a namespace.
///
/// Route: `GET /v1/{prefix}/namespaces/{namespace}/views`. Spec: REST `listViews`.
pub(crate) async fn list(
    warehouse: InWarehouse,
    caller: RequestAccess,
    InNamespace(namespace): InNamespace,
    QueryParams(paging): QueryParams<Paging>,
) -> Result<Json<Value>, ApiError> {
    let (after, reader) = (paging.after()?, caller.authority());
    let found = warehouse.catalog().list_views(&namespace, &after, paging.limit(), &reader).await?;
    let (page, next) = paging.cut_page(found, String::clone);
    let identifiers: Vec<Value> = page.iter().map(|name| json!({"namespace": namespace, "name": name})).collect();
    Ok(Json(json!({"identifiers": identifiers, "next-page-token": next})))
}

/// Creates a view.
///
/// Route: `POST /v1/{prefix}/namespaces/{namespace}/views`. Spec: REST `createView`.
pub(crate) async fn create(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InNamespace(namespace): InNamespace,
    JsonBody(request): JsonBody<CreateView>,
) -> Result<Response, ApiError> {
    Ok(response(&warehouse.catalog().create_view(&namespace, request, &actor).await?))
}

/// Registers a view from an existing metadata file.
///
/// Route: `POST /v1/{prefix}/namespaces/{namespace}/register-view`. Spec: REST `registerView`.
pub(crate) async fn register(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InNamespace(namespace): InNamespace,
    JsonBody(request): JsonBody<Register>,
) -> Result<Response, ApiError> {
    Ok(response(&warehouse.catalog().register_view(&namespace, request, &actor).await?))
}

/// Loads a view.
///
/// Route: `GET /v1/{prefix}/namespaces/{namespace}/views/{view}`. Spec: REST `loadView`.
pub(crate) async fn load(warehouse: InWarehouse, caller: RequestAccess, InView(name): InView) -> Result<Response, ApiError> {
    let row = caller.view(warehouse.catalog(), &name).await?;
    Ok(response(&warehouse.catalog().load_view_row(row).await?))
}

/// Checks that a view exists.
///
/// Route: `HEAD /v1/{prefix}/namespaces/{namespace}/views/{view}`. Spec: REST `viewExists`.
pub(crate) async fn exists(warehouse: InWarehouse, caller: RequestAccess, InView(name): InView) -> Result<StatusCode, ApiError> {
    caller.view(warehouse.catalog(), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Commits updates to a view, such as a new version.
///
/// Route: `POST /v1/{prefix}/namespaces/{namespace}/views/{view}`. Spec: REST `replaceView`.
pub(crate) async fn replace(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InView(name): InView,
    JsonBody(request): JsonBody<ReplaceView>,
) -> Result<Response, ApiError> {
    Ok(response(&warehouse.catalog().replace_view(&name, request, &actor).await?))
}

/// Drops a view.
///
/// Route: `DELETE /v1/{prefix}/namespaces/{namespace}/views/{view}`. Spec: REST `dropView`.
pub(crate) async fn drop(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InView(name): InView,
) -> Result<StatusCode, ApiError> {
    warehouse.catalog().drop_view(&name, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Renames a view, also into another namespace.
///
/// Route: `POST /v1/{prefix}/views/rename`. Spec: REST `renameView`.
pub(crate) async fn rename(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    JsonBody(request): JsonBody<RenameRequest>,
) -> Result<StatusCode, ApiError> {
    let (from, to) = request.names()?;
    warehouse.catalog().rename_view(&from, &to, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}
