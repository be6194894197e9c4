//! Access policies: listed, read, set and removed as texts in the language Cedar.
//!
//! Whoever manages access on the server may do all of this. `esker_access` checks a text when the change is applied to the rules.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use esker_access::RuleChange;
use esker_state::StoredPolicy;
use esker_types::{ErrorCode, Millis};
use serde::{Deserialize, Serialize};

use crate::extract::{InPolicy, JsonBody, RequestCaller};
use crate::openapi::{ChangeErrors, ReadErrors};
use crate::{ApiError, App};

/// An access policy.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct AccessPolicyView {
    /// The name of the access policy.
    name: String,
    /// The text: one or more policies in the language Cedar.
    text: String,
    /// The principal that set the text.
    changed_by: String,
    /// The time at which the text was set, in milliseconds since the Unix epoch.
    changed_ms: Millis,
}

/// The request to set an access policy.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessPolicyRequest {
    /// The text: one or more policies in the language Cedar, at most 64 KiB.
    text: String,
}

impl From<StoredPolicy> for AccessPolicyView {
    fn from(StoredPolicy { name, text, changed_by, changed_ms }: StoredPolicy) -> Self {
        Self { name, text, changed_by, changed_ms }
    }
}

/// Lists the access policies.
#[utoipa::path(
    get,
    path = "/api/v1/access/policies",
    operation_id = "listAccessPolicies",
    tag = "access",
    responses((status = 200, description = "The policies with their texts, by name.", body = Vec<AccessPolicyView>), ReadErrors)
)]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<Vec<AccessPolicyView>>, ApiError> {
    Ok(Json(app.access().policies().await?.into_iter().map(AccessPolicyView::from).collect()))
}

/// Returns an access policy.
#[utoipa::path(
    get,
    path = "/api/v1/access/policies/{policy}",
    operation_id = "getAccessPolicy",
    tag = "access",
    params(InPolicy),
    responses((status = 200, description = "The policy with its text.", body = AccessPolicyView), ReadErrors)
)]
pub(crate) async fn show(State(app): State<App>, InPolicy(name): InPolicy) -> Result<Json<AccessPolicyView>, ApiError> {
    Ok(Json(app.access().policy(&name).await?.into()))
}

/// Adds an access policy, or replaces the text of the one with its name.
///
/// A text that is no policy, or names what Esker does not have, is refused with 400. The error has the line and the column. A
/// policy that may forbid everybody to manage access is refused with 422.
#[utoipa::path(
    put,
    path = "/api/v1/access/policies/{policy}",
    operation_id = "setAccessPolicy",
    tag = "access",
    params(InPolicy),
    request_body = AccessPolicyRequest,
    responses((status = 200, description = "The policy.", body = AccessPolicyView), ChangeErrors)
)]
pub(crate) async fn set(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    InPolicy(name): InPolicy,
    JsonBody(AccessPolicyRequest { text }): JsonBody<AccessPolicyRequest>,
) -> Result<Json<AccessPolicyView>, ApiError> {
    if text.contains('\0') {
        // PostgreSQL stores no such text.
        let what = format!("the access policy {name} has the character U+0000, which can't be stored; write \\0 in a string");
        return Err(ApiError::new(ErrorCode::BadRequest, what));
    }
    app.access().change(&caller, vec![RuleChange::SetPolicy { name: name.clone(), text }]).await?;
    Ok(Json(app.access().policy(&name).await?.into()))
}

/// Removes an access policy. What it permitted needs a grant from then on, and what it forbade is as the grants say.
#[utoipa::path(
    delete,
    path = "/api/v1/access/policies/{policy}",
    operation_id = "removeAccessPolicy",
    tag = "access",
    params(InPolicy),
    responses((status = 204, description = "The policy is removed."), ChangeErrors)
)]
pub(crate) async fn remove(
    State(app): State<App>,
    RequestCaller(caller): RequestCaller,
    InPolicy(name): InPolicy,
) -> Result<StatusCode, ApiError> {
    app.access().change(&caller, vec![RuleChange::RemovePolicy { name }]).await?;
    Ok(StatusCode::NO_CONTENT)
}
