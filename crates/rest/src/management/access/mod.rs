//! Access control: the mode, the roles with their members, the grants, row filters, column masks, access policies, and
//! explanations.
//!
//! Whoever manages access on the server may do all of this. Whoever manages the grants of a thing may grant and revoke there what
//! they have themselves: `esker_auth` checks that. Start reading at `grants.rs` for grants.

pub(crate) mod explain;
pub(crate) mod grants;
pub(crate) mod opa;
pub(crate) mod policies;
pub(crate) mod restrictions;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use esker_access::{AccessMode, Caller, Member, Need, RESERVED_ROLES, Required, RuleChange};
use esker_auth::AccessControl;
use esker_catalog::{LoadedTable, NamedSecurable, SecurableName};
use esker_maintenance::Maintenance;
use esker_state::{StoredGrant, StoredMember};
use esker_types::{Coded, Millis};
use serde::{Deserialize, Serialize};

use crate::extract::{InMember, InRole, JsonBody, RequestCaller};
use crate::openapi::{ChangeErrors, ReadErrors, ServerErrors};
use crate::{ApiError, App, no_such_warehouse};

/// The mode and the version of the rules.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AccessView {
    /// The mode of access control.
    mode: AccessMode,
    /// The version of the rules, which grows with each change.
    version: i64,
}

/// The request to set the mode.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModeRequest {
    /// The mode of access control.
    mode: AccessMode,
}

/// A role.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RoleView {
    /// The name of the role.
    name: String,
    /// True for a role that always exists.
    reserved: bool,
    /// The principal that created the role; null for a role that always exists.
    created_by: Option<String>,
    /// The time at which the role was created, in milliseconds since the Unix epoch; null for a role that always exists.
    created_ms: Option<Millis>,
}

/// The request to create a role.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleRequest {
    /// The name of the role.
    name: String,
}

/// A member of a role.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct MemberView {
    /// The member.
    member: Member,
    /// The principal that added the member.
    created_by: String,
    /// The time at which the member was added, in milliseconds since the Unix epoch.
    created_ms: Millis,
}

/// Finds a thing by the text of a request: `table lake.raw.orders`. The caller checks the rights on what is found.
///
/// # Errors
///
/// Returns [`ErrorCode::BadRequest`](esker_types::ErrorCode::BadRequest) if the text names nothing, and the error of the kind if the
/// thing does not exist. To who may know neither the thing nor its warehouse, the warehouse does not exist.
pub(crate) async fn find_securable(app: &App, by: &Caller, text: &str) -> Result<NamedSecurable, ApiError> {
    let name = SecurableName::parse(text)?;
    let Some(warehouse) = name.warehouse() else { return Ok(NamedSecurable::SERVER) };
    let catalog = app.warehouse(warehouse)?.catalog();
    let found = NamedSecurable::find(&name, catalog).await;
    let is_known = match &found {
        Ok(found) => AccessControl::knows(by, &found.path()),
        Err(error) => error.code().is_transient(),
    };
    match is_known || AccessControl::knows(by, &catalog.warehouse_path()) {
        true => Ok(found?),
        false => {
            // Another answer would tell that there is such a warehouse. The refusal is recorded.
            let need = Need { on: catalog.warehouse_path(), required: Required::NOTHING };
            by.require(&need).map_err(|_| no_such_warehouse(warehouse))?;
            Err(no_such_warehouse(warehouse))
        }
    }
}

/// Loads the table that was found; `None` if the thing is no table.
async fn load_named_table(app: &App, found: &NamedSecurable) -> Result<Option<LoadedTable>, ApiError> {
    match found.warehouse() {
        Some(warehouse) => Ok(found.load_table(app.warehouse(warehouse)?.catalog()).await?),
        None => Ok(None),
    }
}

/// Finds the thing of a stored grant; `None` if it is gone, or lies in a warehouse that this server does not have.
pub(crate) fn thing_of_grant(app: &App, grant: &StoredGrant) -> Option<NamedSecurable> {
    NamedSecurable::of_grant(grant, app.warehouses().map(Maintenance::catalog))
}

/// Returns the mode and the version of the rules.
#[utoipa::path(
    get,
    path = "/api/v1/access",
    operation_id = "getAccess",
    tag = "access",
    responses((status = 200, description = "The mode and the version.", body = AccessView), ServerErrors)
)]
pub(crate) async fn show(State(app): State<App>) -> Result<Json<AccessView>, ApiError> {
    let rules = app.access().rules().await?;
    Ok(Json(AccessView { mode: rules.mode(), version: rules.version() }))
}

/// Sets the mode of access control.
///
/// When the mode leaves `off`, the clients whose tokens worked until then become members of the role `esker:legacy`. A mode other
/// than `off` is refused with 422 if nobody with a token could manage access.
#[utoipa::path(
    put,
    path = "/api/v1/access/mode",
    operation_id = "setAccessMode",
    tag = "access",
    request_body = ModeRequest,
    responses((status = 200, description = "The mode, and the version of the rules with it.", body = AccessView), ChangeErrors)
)]
pub(crate) async fn set_mode(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    JsonBody(ModeRequest { mode }): JsonBody<ModeRequest>,
) -> Result<Json<AccessView>, ApiError> {
    let version = app.access().change(&caller, vec![RuleChange::SetMode { mode }]).await?;
    Ok(Json(AccessView { mode, version }))
}

/// Lists the roles.
#[utoipa::path(
    get,
    path = "/api/v1/access/roles",
    operation_id = "listRoles",
    tag = "access",
    responses(
        (status = 200, description = "The roles that always exist, then the others by name.", body = Vec<RoleView>),
        ReadErrors
    )
)]
pub(crate) async fn roles(State(app): State<App>) -> Result<Json<Vec<RoleView>>, ApiError> {
    let reserved = |name: &str| RoleView { name: name.to_owned(), reserved: true, created_by: None, created_ms: None };
    let created = app.access().roles().await?.into_iter().map(|role| RoleView {
        name: role.name,
        reserved: false,
        created_by: Some(role.created_by),
        created_ms: Some(role.created_ms),
    });
    Ok(Json(RESERVED_ROLES.into_iter().map(reserved).chain(created).collect()))
}

/// Creates a role without members.
#[utoipa::path(
    post,
    path = "/api/v1/access/roles",
    operation_id = "createRole",
    tag = "access",
    request_body = RoleRequest,
    responses((status = 201, description = "The role is created."), ChangeErrors)
)]
pub(crate) async fn create_role(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    JsonBody(RoleRequest { name }): JsonBody<RoleRequest>,
) -> Result<StatusCode, ApiError> {
    app.access().change(&caller, vec![RuleChange::CreateRole { role: name }]).await?;
    Ok(StatusCode::CREATED)
}

/// Drops a role, with its memberships and the grants to it. A role that a row filter or a column mask names stays.
#[utoipa::path(
    delete,
    path = "/api/v1/access/roles/{role}",
    operation_id = "dropRole",
    tag = "access",
    params(InRole),
    responses((status = 204, description = "The role is dropped."), ChangeErrors)
)]
pub(crate) async fn drop_role(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    InRole(role): InRole,
) -> Result<StatusCode, ApiError> {
    app.access().change(&caller, vec![RuleChange::DropRole { role }]).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the members of a role. Members of a role among them are members too, and are not listed.
#[utoipa::path(
    get,
    path = "/api/v1/access/roles/{role}/members",
    operation_id = "listMembers",
    tag = "access",
    params(InRole),
    responses((status = 200, description = "The members, by kind and name.", body = Vec<MemberView>), ReadErrors)
)]
pub(crate) async fn members(State(app): State<App>, InRole(role): InRole) -> Result<Json<Vec<MemberView>>, ApiError> {
    let view = |stored: StoredMember| MemberView {
        member: stored.row.member,
        created_by: stored.created_by,
        created_ms: stored.created_ms,
    };
    Ok(Json(app.access().members_of(&role).await?.into_iter().map(view).collect()))
}

/// Adds a member to a role. A member that the role has already stays.
#[utoipa::path(
    put,
    path = "/api/v1/access/roles/{role}/members/{member}",
    operation_id = "addMember",
    tag = "access",
    params(InRole, InMember),
    responses((status = 204, description = "The role has the member."), ChangeErrors)
)]
pub(crate) async fn add_member(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    InRole(role): InRole,
    InMember(member): InMember,
) -> Result<StatusCode, ApiError> {
    app.access().change(&caller, vec![RuleChange::AddMember { role, member }]).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a member from a role.
#[utoipa::path(
    delete,
    path = "/api/v1/access/roles/{role}/members/{member}",
    operation_id = "removeMember",
    tag = "access",
    params(InRole, InMember),
    responses((status = 204, description = "The member is removed."), ChangeErrors)
)]
pub(crate) async fn remove_member(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    InRole(role): InRole,
    InMember(member): InMember,
) -> Result<StatusCode, ApiError> {
    app.access().change(&caller, vec![RuleChange::RemoveMember { role, member }]).await?;
    Ok(StatusCode::NO_CONTENT)
}
