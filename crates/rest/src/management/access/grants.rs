//! Grants: listed, made and taken back.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use esker_access::{GrantRow, Member, PrivilegeSet, Securable, SecurableKind};
use esker_auth::GrantOrder;
use esker_state::StoredGrant;
use esker_types::{Millis, now_ms};
use serde::{Deserialize, Serialize};

use super::{find_securable, thing_of_grant};
use crate::extract::{InGrant, JsonBody, QueryParams, RequestCaller};
use crate::openapi::{ChangeErrors, ReadErrors};
use crate::{ApiError, App};

/// A grant.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct GrantView {
    /// The id of the grant.
    id: String,
    /// The holder of the privileges.
    to: Member,
    /// The thing that the privileges are granted on, by its id.
    on: Securable,
    /// The present name of the thing, in the form of requests; null if it was dropped or this server does not have its warehouse.
    on_name: Option<String>,
    /// The privileges.
    privileges: PrivilegeSet,
    /// The kind of the things that get a copy of the grant when they are created; null for a grant that counts by itself.
    future: Option<SecurableKind>,
    /// The id of the grant on future things that this one is a copy of.
    copied_from: Option<String>,
    /// The principal that made the grant.
    created_by: String,
    /// The time at which the grant was made, in milliseconds since the Unix epoch.
    created_ms: Millis,
}

/// The request to grant or revoke privileges.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantRequest {
    /// The holder of the privileges.
    to: Member,
    /// The privileges and bundles, separated by commas: `SELECT, DROP`.
    privileges: String,
    /// The thing: `server`, `warehouse W`, `namespace W.N`, `table W.N.T`, `view W.N.V` or `function W.N.F`.
    on: String,
    /// The kind of the things that are created in the container from now on. Without it, the grant counts by itself.
    future: Option<SecurableKind>,
}

/// The parameters of the list of grants. Each that is given must match.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct GrantsQuery {
    /// The holder: `role:NAME`, `client:NAME`, `user:NAME@ISSUER` or `claim:VALUE@ISSUER`.
    to: Option<String>,
    /// The thing itself: `server`, `warehouse W`, `namespace W.N`, `table W.N.T`, `view W.N.V` or `function W.N.F`.
    on: Option<String>,
}

impl GrantView {
    /// Describes a grant, with the name of its thing.
    pub(super) fn of(app: &App, stored: StoredGrant) -> Self {
        let on_name = thing_of_grant(app, &stored).map(|found| found.text());
        let StoredGrant { row, copied_from, created_by, created_ms, .. } = stored;
        let GrantRow { id, to, on, privileges, future } = row;
        Self { id, to, on, on_name, privileges, future, copied_from, created_by, created_ms }
    }
}

/// Lists the grants.
///
/// Who manages access sees all. Who manages the grants of a thing sees those on it, and must give it as `on`.
#[utoipa::path(
    get,
    path = "/api/v1/access/grants",
    operation_id = "listGrants",
    tag = "access",
    params(GrantsQuery),
    responses((status = 200, description = "The grants, the oldest first.", body = Vec<GrantView>), ReadErrors)
)]
pub(crate) async fn list(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    QueryParams(GrantsQuery { to, on }): QueryParams<GrantsQuery>,
) -> Result<Json<Vec<GrantView>>, ApiError> {
    let to = to.map(|text| text.parse::<Member>()).transpose()?;
    let on = match on {
        Some(text) => Some(find_securable(&app, &caller, &text).await?),
        None => None,
    };
    let on = on.as_ref().map(|found| (&found.securable, found.path()));
    let all = app.access().listed_grants(&caller, on, to.as_ref()).await?;
    Ok(Json(all.into_iter().map(|stored| GrantView::of(&app, stored)).collect()))
}

/// Grants privileges on a thing.
///
/// The caller manages the grants of the thing and has the privileges there, or manages access on the server.
#[utoipa::path(
    post,
    path = "/api/v1/access/grants",
    operation_id = "addGrant",
    tag = "access",
    request_body = GrantRequest,
    responses((status = 201, description = "The grant.", body = GrantView), ChangeErrors)
)]
pub(crate) async fn add(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    JsonBody(request): JsonBody<GrantRequest>,
) -> Result<Response, ApiError> {
    let GrantRequest { to, privileges, on, future } = request;
    let found = find_securable(&app, &caller, &on).await?;
    let order = GrantOrder { to, privileges: &privileges, on: &found.securable, path: found.path(), future };
    let GrantRow { id, to, on, privileges, future } = app.access().grant(&caller, order).await?;
    let (created_by, created_ms) = (caller.subject().identity().to_string(), now_ms());
    let on_name = Some(found.text());
    let view = GrantView { id, to, on, on_name, privileges, future, copied_from: None, created_by, created_ms };
    Ok((StatusCode::CREATED, Json(view)).into_response())
}

/// Takes privileges out of all grants to a holder on a thing. Grants on what contains the thing stay.
///
/// `ALL` stands for every privilege, if the caller manages access on the server.
#[utoipa::path(
    post,
    path = "/api/v1/access/grants/revoke",
    operation_id = "revokePrivileges",
    tag = "access",
    request_body = GrantRequest,
    responses((status = 204, description = "The holder has the privileges by no grant on the thing."), ChangeErrors)
)]
pub(crate) async fn revoke(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    JsonBody(request): JsonBody<GrantRequest>,
) -> Result<StatusCode, ApiError> {
    let GrantRequest { to, privileges, on, future } = request;
    let found = find_securable(&app, &caller, &on).await?;
    let order = GrantOrder { to, privileges: &privileges, on: &found.securable, path: found.path(), future };
    app.access().revoke(&caller, order).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a grant by its id.
#[utoipa::path(
    delete,
    path = "/api/v1/access/grants/{grant-id}",
    operation_id = "removeGrant",
    tag = "access",
    params(InGrant),
    responses((status = 204, description = "The grant is removed."), ChangeErrors)
)]
pub(crate) async fn remove(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    InGrant(id): InGrant,
) -> Result<StatusCode, ApiError> {
    let stored = app.access().grant_by_id(&id).await?;
    let found = thing_of_grant(&app, &stored);
    app.access().remove_grant(&caller, &stored, found.as_ref().map(|found| found.path())).await?;
    Ok(StatusCode::NO_CONTENT)
}
