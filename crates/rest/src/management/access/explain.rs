//! Explanations: what a principal may do, and by which rule.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use esker_access::{
    AccessExplanation, AccessMode, Caller, Identity, Member, Need, Privilege, PrivilegeSet, Required, RightsError, Securable,
    Subject, parse_privileges,
};
use esker_auth::AccessControl;
use esker_catalog::NamedSecurable;
use serde::{Deserialize, Serialize};

use super::grants::GrantView;
use super::load_named_table;
use super::restrictions::OwnRestrictions;
use crate::extract::{QueryParams, RequestCaller};
use crate::openapi::ReadErrors;
use crate::{ApiError, App};

/// The rights of the caller.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RightsView {
    /// The name of the principal.
    principal: String,
    /// The mode of access control. In the mode off, everything is allowed.
    mode: AccessMode,
    /// The version of the rules.
    version: i64,
    /// The roles of the caller, directly and through other roles.
    roles: Vec<String>,
    /// The thing that `effective` is about.
    on: String,
    /// The privileges of the caller there.
    effective: PrivilegeSet,
    /// The grants to the caller and to its roles, the oldest first.
    grants: Vec<GrantView>,
    /// The row filter and the column masks that restrict the caller on the table that is named; null if nothing does.
    restrictions: Option<OwnRestrictions>,
}

/// The parameters of the caller's rights.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RightsQuery {
    /// The thing: `warehouse W`, `namespace W.N`, `table W.N.T`, `view W.N.V` or `function W.N.F`; without it, the server.
    on: Option<String>,
}

/// The parameters of an explanation.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExplainQuery {
    /// The principal: `client:NAME`, `user:NAME@ISSUER` or `anonymous`; without it, the caller.
    who: Option<String>,
    /// The privileges and bundles, separated by commas; without it, none: then the question is if the principal sees the thing.
    privileges: Option<String>,
    /// The thing: `warehouse W`, `namespace W.N`, `table W.N.T`, `view W.N.V` or `function W.N.F`; without it, the server.
    on: Option<String>,
}

/// Returns the rights of the caller.
#[utoipa::path(
    get,
    path = "/api/v1/access/me",
    operation_id = "getRights",
    tag = "access",
    params(RightsQuery),
    responses(
        (status = 200, description = "The roles, the grants, and the privileges on the thing.", body = RightsView),
        ReadErrors
    )
)]
pub(crate) async fn me(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    QueryParams(query): QueryParams<RightsQuery>,
) -> Result<Json<RightsView>, ApiError> {
    let found = find(&app, &caller, query.on.as_deref()).await?;
    require_to_see(&caller, &found)?;
    let restrictions = own_restrictions(&app, &caller, &found).await?;
    let (subject, rules) = (caller.subject(), caller.subject().rules());
    let grants = app.access().grants().await?.into_iter().filter(|stored| subject.stands_for(&stored.row.to));
    Ok(Json(RightsView {
        principal: subject.identity().to_string(),
        mode: rules.mode(),
        version: rules.version(),
        roles: subject.roles().map(str::to_owned).collect(),
        on: found.text(),
        effective: caller.effective(&found.path()),
        restrictions,
        grants: grants.map(|stored| GrantView::of(&app, stored)).collect(),
    }))
}

/// Explains what a principal may do, and by which rule.
///
/// Everybody may ask about themselves and about what they see. Who manages access may ask about others. The claims of a user of
/// an identity provider are not known here: roles that come from claims are left out. Nor are the facts of a request of another
/// principal: access policies whose conditions read them permit nothing, and forbid.
#[utoipa::path(
    get,
    path = "/api/v1/access/explain",
    operation_id = "explainAccess",
    tag = "access",
    params(ExplainQuery),
    responses((status = 200, description = "The decision with its reasons.", body = AccessExplanation), ReadErrors)
)]
pub(crate) async fn explain(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    QueryParams(ExplainQuery { who, privileges, on }): QueryParams<ExplainQuery>,
) -> Result<Json<AccessExplanation>, ApiError> {
    explain_to(&app, &caller, who.as_deref(), privileges.as_deref(), on.as_deref()).await.map(Json)
}

/// Explains to a caller what a principal may do with a thing; without privileges, if the principal sees it.
///
/// # Errors
///
/// Returns [`ErrorCode::BadRequest`](esker_types::ErrorCode::BadRequest) if a text can't be read, the error of a missing thing if
/// the caller does not see it, and [`ErrorCode::Forbidden`](esker_types::ErrorCode::Forbidden) if the caller may not ask about the
/// principal.
pub(crate) async fn explain_to(
    app: &App,
    caller: &Caller,
    who: Option<&str>,
    privileges: Option<&str>,
    on: Option<&str>,
) -> Result<AccessExplanation, ApiError> {
    let other = other_subject(app, caller, who).await?;
    let found = find(app, caller, on).await?;
    if other.is_none() {
        require_to_see(caller, &found)?;
    }
    let required = match privileges {
        Some(text) => Required::all(parse_privileges(text, found.securable.kind(), PrivilegeSet::ALL)?),
        None => Required::NOTHING,
    };
    Ok(match other {
        Some(subject) => subject.explain(&found.path(), required),
        None => caller.explain(&found.path(), required),
    })
}

/// Describes the restrictions of the caller on a table whose schema it may read.
async fn own_restrictions(app: &App, caller: &Caller, found: &NamedSecurable) -> Result<Option<OwnRestrictions>, ApiError> {
    let Securable::Table { table } = &found.securable else { return Ok(None) };
    let Some(restrictions) = caller.restrictions(*table) else { return Ok(None) };
    if !caller.effective(&found.path()).has(Privilege::ReadMetadata) {
        return Ok(None);
    }
    let table = load_named_table(app, found).await?;
    Ok(table.map(|table| OwnRestrictions::of(&restrictions, table.metadata.current_schema())))
}

/// Finds the thing that a request is about: the server, if it names none.
async fn find(app: &App, caller: &Caller, on: Option<&str>) -> Result<NamedSecurable, ApiError> {
    super::find_securable(app, caller, on.unwrap_or("server")).await
}

/// Checks that the caller may know that a thing exists. Otherwise an explanation would tell.
fn require_to_see(caller: &Caller, found: &NamedSecurable) -> Result<(), ApiError> {
    Ok(caller.require(&Need { on: found.path(), required: Required::NOTHING })?)
}

/// Returns the other principal that a question is about, for whom the caller may ask; `None` if it is about the caller.
///
/// Nothing is known of a request of the other.
async fn other_subject(app: &App, caller: &Caller, who: Option<&str>) -> Result<Option<Arc<Subject>>, ApiError> {
    let Some(who) = who else { return Ok(None) };
    let identity = match who {
        "anonymous" => Identity::Anonymous,
        who => match who.parse::<Member>()? {
            Member::Client { name } => Identity::client(name),
            Member::User { issuer, name } => Identity::User { issuer: issuer.into(), name: name.into(), claims: Vec::new() },
            Member::Claim { .. } | Member::Role { .. } => {
                let why = "it is no principal; write client:NAME, user:NAME@ISSUER or anonymous";
                return Err(RightsError::BadMember { text: who.to_owned(), why }.into());
            }
        },
    };
    if identity.principal() == caller.subject().identity().principal() {
        return Ok(None);
    }
    AccessControl::require_manager(caller)?;
    Ok(Some(app.access().caller_without_request(identity, "explainAccess").await?.subject().clone()))
}
