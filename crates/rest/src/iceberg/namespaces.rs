//! Namespaces: list, create, load, drop, and their properties.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::http::StatusCode;
use esker_access::{Privilege, PrivilegeSet, Required};
use esker_catalog::{Catalog, PropertyChange};
use esker_state::NamespaceRow;
use esker_types::{NamespaceName, or_default};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::paging::Paging;
use crate::ApiError;
use crate::access::RequestAccess;
use crate::extract::{InNamespace, InWarehouse, JsonBody, QueryParams, RequestActor, parse_namespace};

/// What the properties of a namespace need on it.
const READ_METADATA: Required = Required::privilege(Privilege::ReadMetadata);

/// What the location of a namespace needs on it besides. Whoever creates something there is told where it lies.
const CREATE: Required = Required::any_of(PrivilegeSet::of(&[Privilege::CreateTable, Privilege::CreateView]));

/// The parameters of the list of namespaces.
#[derive(Debug, Deserialize)]
pub(crate) struct NamespacesQuery {
    /// The namespace whose children are listed; without it, the top level is.
    parent: Option<String>,
}

/// Lists the namespaces directly under a parent, or those of the top level.
///
/// Route: `GET /v1/{prefix}/namespaces?parent=`. Spec: REST `listNamespaces`.
pub(crate) async fn list(
    warehouse: InWarehouse,
    caller: RequestAccess,
    QueryParams(query): QueryParams<NamespacesQuery>,
    QueryParams(paging): QueryParams<Paging>,
) -> Result<Json<Value>, ApiError> {
    let parent = query.parent.filter(|p| !p.is_empty()).map(|p| parse_namespace(&p)).transpose()?;
    let (after, reader) = (paging.after()?, caller.authority());
    let found = warehouse.catalog().list_namespaces(parent.as_ref(), &after, paging.limit(), &reader).await?;
    let (page, next) = paging.cut_page(found, NamespaceName::key);
    Ok(Json(json!({"namespaces": page, "next-page-token": next})))
}

/// The request to create a namespace.
///
/// Spec: REST `CreateNamespaceRequest`.
#[derive(Debug, Deserialize)]
pub(crate) struct CreateNamespace {
    namespace: NamespaceName,
    #[serde(default, deserialize_with = "or_default")]
    properties: BTreeMap<String, String>,
}

/// A namespace with its properties, as JSON.
///
/// Spec: REST `CreateNamespaceResponse`, `GetNamespaceResponse`.
#[derive(Debug, Serialize)]
pub(crate) struct NamespaceBody {
    namespace: NamespaceName,
    properties: BTreeMap<String, String>,
}

/// Builds the JSON of a namespace. The property `location` is there even if nobody set it: new tables lie under it.
fn body(catalog: &Catalog, mut row: NamespaceRow) -> Json<NamespaceBody> {
    let location = catalog.namespace_location(&row);
    row.properties.entry("location".to_owned()).or_insert(location);
    Json(NamespaceBody { namespace: row.name, properties: row.properties })
}

/// Creates a namespace.
///
/// Route: `POST /v1/{prefix}/namespaces`. Spec: REST `createNamespace`.
pub(crate) async fn create(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    JsonBody(request): JsonBody<CreateNamespace>,
) -> Result<Json<NamespaceBody>, ApiError> {
    let row = NamespaceRow { name: request.namespace, properties: request.properties, protected: false };
    warehouse.catalog().create_namespace(&row, &actor).await?;
    Ok(body(warehouse.catalog(), row))
}

/// Returns a namespace with its properties, if the caller may read them. Without that right there is at most the location.
///
/// Trino puts new tables and views below the location of their namespace. Without it, it would make an empty table and fail.
///
/// Route: `GET /v1/{prefix}/namespaces/{namespace}`. Spec: REST `loadNamespaceMetadata`.
pub(crate) async fn load(
    warehouse: InWarehouse,
    caller: RequestAccess,
    InNamespace(name): InNamespace,
) -> Result<Json<NamespaceBody>, ApiError> {
    let catalog = warehouse.catalog();
    let row = caller.namespace(catalog, &name).await?;
    let (key, authority) = (row.name.key(), caller.quiet_authority());
    let on = catalog.namespace_path(&key);
    if authority.has(&on, READ_METADATA) {
        return Ok(body(catalog, row));
    }
    let location = authority.has(&on, CREATE).then(|| catalog.namespace_location(&row));
    let properties = location.map(|location| ("location".to_owned(), location)).into_iter().collect();
    Ok(Json(NamespaceBody { namespace: row.name, properties }))
}

/// Checks that a namespace exists.
///
/// Route: `HEAD /v1/{prefix}/namespaces/{namespace}`. Spec: REST `namespaceExists`.
pub(crate) async fn exists(
    warehouse: InWarehouse,
    caller: RequestAccess,
    InNamespace(name): InNamespace,
) -> Result<StatusCode, ApiError> {
    caller.namespace(warehouse.catalog(), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Drops an empty namespace.
///
/// Route: `DELETE /v1/{prefix}/namespaces/{namespace}`. Spec: REST `dropNamespace`.
pub(crate) async fn drop(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InNamespace(name): InNamespace,
) -> Result<StatusCode, ApiError> {
    warehouse.catalog().drop_namespace(&name, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The request to set and remove properties of a namespace.
///
/// Spec: REST `UpdateNamespacePropertiesRequest`.
#[derive(Debug, Deserialize)]
pub(crate) struct UpdateProperties {
    #[serde(default, deserialize_with = "or_default")]
    updates: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    removals: BTreeSet<String>,
}

/// Sets and removes properties of a namespace, and returns the keys that changed.
///
/// Route: `POST /v1/{prefix}/namespaces/{namespace}/properties`. Spec: REST `updateProperties`.
pub(crate) async fn update(
    warehouse: InWarehouse,
    RequestActor(actor): RequestActor,
    InNamespace(name): InNamespace,
    JsonBody(request): JsonBody<UpdateProperties>,
) -> Result<Json<PropertyChange>, ApiError> {
    Ok(Json(warehouse.catalog().update_namespace(&name, request.updates, request.removals, &actor).await?))
}
