//! The tokens of principals: made, rotated, listed and revoked.
//!
//! A client does this for itself. `MANAGE_ACCESS` on the server lets a caller do it for every principal.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use esker_access::{Need, Privilege, ResourcePath};
use esker_auth::{AuthError, Authenticated, MadeToken, TokenInfo};
use esker_types::{Millis, Principal};
use serde::{Deserialize, Serialize};

use crate::access::RequestAccess;
use crate::extract::{InToken, JsonBody};
use crate::openapi::{ChangeErrors, ServerErrors};
use crate::{ApiError, App};

/// The request for a token.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TokenRequest {
    /// The name of the principal; without it, that of the caller.
    principal: Option<String>,
    /// The purpose of the token, for the list.
    #[serde(default)]
    label: String,
    /// The life of the token in seconds, greater than 0. Without it, it ends with the chain of the caller's, if that ends.
    #[schema(minimum = 1)]
    expires_seconds: Option<u64>,
}

/// A new token.
///
/// It has no debug form, which would show the token.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct NewTokenAnswer {
    /// The token. Only this answer has it: the server keeps its hash.
    token: String,
    /// The id of the token, with which it is revoked.
    id: String,
    /// The name of the principal.
    principal: String,
    /// The time at which the token ends, in milliseconds since the Unix epoch; null if it does not.
    expires_ms: Option<Millis>,
}

/// Lists the tokens that people made. Those that ended or were revoked are listed for 30 days.
#[utoipa::path(
    get,
    path = "/api/v1/tokens",
    operation_id = "listTokens",
    tag = "tokens",
    responses((status = 200, description = "The tokens, by principal and age.", body = Vec<TokenInfo>), ServerErrors)
)]
pub(crate) async fn list(State(app): State<App>, caller: RequestAccess) -> Result<Json<Vec<TokenInfo>>, ApiError> {
    let mut tokens = app.auth().list().await?;
    if !caller.has_on_server(Privilege::ManageAccess) {
        tokens.retain(|token| caller.is_client(&token.principal));
    }
    Ok(Json(tokens))
}

/// Makes a token, which is shown once.
///
/// It ends no later than the chain of the caller's token, and is the root of a chain of its own. A revocation of the caller's
/// token does not end it. A caller without a token makes none.
#[utoipa::path(
    post,
    path = "/api/v1/tokens",
    operation_id = "createToken",
    tag = "tokens",
    request_body = TokenRequest,
    responses((status = 201, description = "The token.", body = NewTokenAnswer), ChangeErrors)
)]
pub(crate) async fn create(
    State(app): State<App>,
    access: RequestAccess,
    Extension(caller): Extension<Authenticated>,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<Response, ApiError> {
    let TokenRequest { principal, label, expires_seconds } = request;
    check_may_make(&access, &caller, principal.as_deref())?;
    let lifetime = expires_seconds.map(Duration::from_secs);
    let made = app.auth().make_for(&caller, principal.as_deref(), &label, lifetime).await?;
    Ok(answer(made))
}

/// The request to replace the tokens of a client.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RotationRequest {
    /// The name of the client; without it, that of the caller.
    principal: Option<String>,
    /// The time in seconds for which the client's other tokens still count; 0 ends them at once.
    overlap_seconds: u64,
    /// The life of the new token in seconds, greater than 0. Without it, it ends with the chain of the caller's, if that ends.
    #[schema(minimum = 1)]
    expires_seconds: Option<u64>,
}

/// Makes a token, and ends the client's other tokens after a while, with all that were issued in exchange for them.
///
/// The token is shown once. Its end is limited as that of a token that is created.
#[utoipa::path(
    post,
    path = "/api/v1/tokens/rotate",
    operation_id = "rotateTokens",
    tag = "tokens",
    request_body = RotationRequest,
    responses((status = 201, description = "The token.", body = NewTokenAnswer), ChangeErrors)
)]
pub(crate) async fn rotate(
    State(app): State<App>,
    access: RequestAccess,
    Extension(caller): Extension<Authenticated>,
    JsonBody(request): JsonBody<RotationRequest>,
) -> Result<Response, ApiError> {
    let RotationRequest { principal, overlap_seconds, expires_seconds } = request;
    check_may_make(&access, &caller, principal.as_deref())?;
    let (overlap, lifetime) = (Duration::from_secs(overlap_seconds), expires_seconds.map(Duration::from_secs));
    let made = app.auth().rotate_for(&caller, principal.as_deref(), overlap, lifetime).await?;
    Ok(answer(made))
}

/// Checks that a caller may make a token of a client. A client needs no privilege for one of its own.
///
/// # Errors
///
/// Returns [`Forbidden`](esker_types::ErrorCode::Forbidden) if the caller lacks `MANAGE_ACCESS`.
fn check_may_make(access: &RequestAccess, caller: &Authenticated, principal: Option<&str>) -> Result<(), ApiError> {
    let own = caller.principal.to_string();
    access.names_object(Principal::CLIENT, principal.unwrap_or(&own));
    let is_own = principal.is_none_or(|principal| access.is_client(principal));
    let authority = access.authority();
    if !is_own || !access.is_client(&own) {
        authority.require(&Need::new(ResourcePath::SERVER, Privilege::ManageAccess))?;
    }
    Ok(())
}

/// Answers with a new token.
fn answer(made: MadeToken) -> Response {
    let TokenInfo { id, principal, expires_ms, .. } = made.info;
    let answer = NewTokenAnswer { token: made.token.reveal(), id, principal, expires_ms };
    (StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

/// Revokes a token, with all that were issued in exchange for it.
///
/// Every server refuses them within 5 seconds. A token that is revoked already stays as it is.
#[utoipa::path(
    delete,
    path = "/api/v1/tokens/{token-id}",
    operation_id = "revokeToken",
    tag = "tokens",
    params(InToken),
    responses((status = 204, description = "The token is revoked."), ChangeErrors)
)]
pub(crate) async fn revoke(
    State(app): State<App>,
    access: RequestAccess,
    Extension(caller): Extension<Authenticated>,
    InToken(id): InToken,
) -> Result<StatusCode, ApiError> {
    let authority = access.authority();
    let is_own = |token: &TokenInfo| token.id == id && access.is_client(&token.principal);
    if !app.auth().list().await?.iter().any(is_own) {
        // The token of another principal is as if it were not there.
        let manage = Need::new(ResourcePath::SERVER, Privilege::ManageAccess);
        authority.require(&manage).map_err(|_| AuthError::NoSuchToken(id.clone()))?;
    }
    app.auth().revoke_for(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
