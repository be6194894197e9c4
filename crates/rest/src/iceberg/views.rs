use axum::Json;
use axum::http::StatusCode;
use axum::response::Response;
use esker_catalog::{CreateView, LoadedView, Register, ReplaceView};
use serde_json::{Value, json};

use super::load;
use super::paging::Paging;
use super::tables::Rename;
use crate::ApiError;
use crate::extract::{Body, By, In, InNamespace, InView, Query};

/// The load response of a view.
pub(crate) fn response(view: &LoadedView) -> Response {
    load::whole(&load::head(&view.row.metadata_location), view.json.clone())
}

/// `GET /v1/{prefix}/namespaces/{namespace}/views`
pub(crate) async fn list(
    warehouse: In,
    InNamespace(namespace): InNamespace,
    Query(paging): Query<Paging>,
) -> Result<Json<Value>, ApiError> {
    let found = warehouse.catalog().list_views(&namespace, &paging.after()?, paging.limit()).await?;
    let (page, next) = paging.cut(found, String::clone);
    let identifiers: Vec<Value> = page.iter().map(|name| json!({"namespace": namespace, "name": name})).collect();
    Ok(Json(json!({"identifiers": identifiers, "next-page-token": next})))
}

/// `POST /v1/{prefix}/namespaces/{namespace}/views`
pub(crate) async fn create(
    warehouse: In,
    By(actor): By,
    InNamespace(namespace): InNamespace,
    Body(request): Body<CreateView>,
) -> Result<Response, ApiError> {
    Ok(response(&warehouse.catalog().create_view(&namespace, request, &actor).await?))
}

/// `POST /v1/{prefix}/namespaces/{namespace}/register-view`
pub(crate) async fn register(
    warehouse: In,
    By(actor): By,
    InNamespace(namespace): InNamespace,
    Body(request): Body<Register>,
) -> Result<Response, ApiError> {
    Ok(response(&warehouse.catalog().register_view(&namespace, request, &actor).await?))
}

/// `GET /v1/{prefix}/namespaces/{namespace}/views/{view}`
pub(crate) async fn load(warehouse: In, InView(name): InView) -> Result<Response, ApiError> {
    Ok(response(&warehouse.catalog().load_view(&name).await?))
}

/// `HEAD /v1/{prefix}/namespaces/{namespace}/views/{view}`
pub(crate) async fn exists(warehouse: In, InView(name): InView) -> Result<StatusCode, ApiError> {
    let catalog = warehouse.catalog();
    catalog.state().view(catalog.warehouse(), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/{prefix}/namespaces/{namespace}/views/{view}`
pub(crate) async fn replace(
    warehouse: In,
    By(actor): By,
    InView(name): InView,
    Body(request): Body<ReplaceView>,
) -> Result<Response, ApiError> {
    Ok(response(&warehouse.catalog().replace_view(&name, request, &actor).await?))
}

/// `DELETE /v1/{prefix}/namespaces/{namespace}/views/{view}`
pub(crate) async fn drop(warehouse: In, By(actor): By, InView(name): InView) -> Result<StatusCode, ApiError> {
    warehouse.catalog().drop_view(&name, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/{prefix}/views/rename`
pub(crate) async fn rename(warehouse: In, By(actor): By, Body(request): Body<Rename>) -> Result<StatusCode, ApiError> {
    let (from, to) = request.names()?;
    warehouse.catalog().rename_view(&from, &to, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}
