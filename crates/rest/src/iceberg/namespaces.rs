use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use esker_catalog::PropertyChange;
use esker_state::NamespaceRow;
use esker_types::NamespaceName;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::paging::Paging;
use crate::extract::{Body, InNamespace, Prefix, Query, parse_namespace};
use crate::{ApiError, App};

#[derive(Debug, Deserialize)]
pub(crate) struct ListQuery {
    parent: Option<String>,
}

/// `GET /v1/{prefix}/namespaces`
pub(crate) async fn list(
    State(app): State<App>,
    _: Prefix,
    Query(query): Query<ListQuery>,
    Query(paging): Query<Paging>,
) -> Result<Json<Value>, ApiError> {
    let parent = query.parent.filter(|p| !p.is_empty()).map(|p| parse_namespace(&p)).transpose()?;
    let found = app.catalog().list_namespaces(parent.as_ref(), &paging.after()?, paging.limit()).await?;
    let (page, next) = paging.cut(found, NamespaceName::key);
    Ok(Json(json!({"namespaces": page, "next-page-token": next})))
}

#[derive(Debug, Deserialize)]
pub(crate) struct CreateNamespace {
    namespace: NamespaceName,
    #[serde(default)]
    properties: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct NamespaceBody {
    namespace: NamespaceName,
    properties: BTreeMap<String, String>,
}

/// `POST /v1/{prefix}/namespaces`
pub(crate) async fn create(
    State(app): State<App>,
    _: Prefix,
    Body(request): Body<CreateNamespace>,
) -> Result<Json<NamespaceBody>, ApiError> {
    let row = NamespaceRow { name: request.namespace, properties: request.properties };
    app.catalog().create_namespace(&row).await?;
    Ok(Json(NamespaceBody { namespace: row.name, properties: row.properties }))
}

/// `GET /v1/{prefix}/namespaces/{namespace}`
pub(crate) async fn load(State(app): State<App>, InNamespace(name): InNamespace) -> Result<Json<NamespaceBody>, ApiError> {
    let row = app.catalog().namespace(&name).await?;
    Ok(Json(NamespaceBody { namespace: row.name, properties: row.properties }))
}

/// `HEAD /v1/{prefix}/namespaces/{namespace}`
pub(crate) async fn exists(State(app): State<App>, InNamespace(name): InNamespace) -> Result<StatusCode, ApiError> {
    app.catalog().namespace(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/{prefix}/namespaces/{namespace}`
pub(crate) async fn drop(State(app): State<App>, InNamespace(name): InNamespace) -> Result<StatusCode, ApiError> {
    app.catalog().drop_namespace(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
pub(crate) struct UpdateProperties {
    #[serde(default)]
    updates: BTreeMap<String, String>,
    #[serde(default)]
    removals: BTreeSet<String>,
}

/// `POST /v1/{prefix}/namespaces/{namespace}/properties`
pub(crate) async fn update(
    State(app): State<App>,
    InNamespace(name): InNamespace,
    Body(request): Body<UpdateProperties>,
) -> Result<Json<PropertyChange>, ApiError> {
    Ok(Json(app.catalog().update_namespace(&name, request.updates, request.removals).await?))
}
