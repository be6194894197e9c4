//! The issuing of tokens by `POST /v1/oauth/tokens`.
//!
//! The specification deprecates the route since 1.6. It is here because the quick starts of Trino, Spark and DuckDB use it.
//!
//! Spec: REST `getToken`; RFC 6749 and RFC 8693 for the form and the errors.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use esker_auth::{AuthError, IssuedToken};
use esker_types::Coded;
use serde_json::json;

use crate::App;
use crate::audited::EntryFacts;
use crate::error::AGAIN_SECONDS;

/// The type of the issued token.
///
/// Spec: RFC 8693, section 3.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// The grant type of a token exchange.
///
/// Spec: RFC 8693, section 2.1.
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Builds an error response in the form of RFC 6749, section 5.2, which is not the envelope of the catalog.
///
/// The codes of that section are for 400 and 401. Other statuses have `server_error` or `temporarily_unavailable`, which are
/// codes of section 4.1.2.1. The statuses 429 and 503 get the header `Retry-After`.
pub(crate) fn oauth_error(status: u16, error: &str, description: &str) -> Response {
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = (code, Json(json!({"error": error, "error_description": description}))).into_response();
    if matches!(status, 429 | 503) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(AGAIN_SECONDS));
    }
    response
}

/// Parses a form into names and values, and decodes percent signs and plus signs.
fn form(body: &[u8]) -> HashMap<String, String> {
    let text = String::from_utf8_lossy(body);
    let decode = |part: &str| percent_encoding::percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decode(k), decode(v))).collect()
}

/// Returns the client's name and secret in the header `Authorization: Basic`.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok())??;
    let (id, secret) = String::from_utf8(decoded).ok()?.split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned()))?;
    Some((id, secret))
}

/// Issues a token to a client that sends a token of its principal as its secret, or exchanges a token: one that will end soon, or
/// that of a user from an identity provider.
///
/// Spec: REST `getToken`.
pub(crate) async fn token(
    State(app): State<App>,
    entry: EntryFacts,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    // The specification lists no 413 for this operation, so a body that is too large gets 400.
    let Ok(body) = body else { return oauth_error(400, "invalid_request", "the request body can't be read, or is too large") };
    let form = form(&body);
    let field = |name: &str| form.get(name).filter(|v| !v.is_empty());
    let basic = basic(&headers);
    let issued = match field("grant_type").map(String::as_str) {
        Some("client_credentials") => {
            let (client, secret) = match (field("client_secret"), basic) {
                (Some(secret), _) => (field("client_id").cloned(), secret.clone()),
                (None, Some((id, secret))) => (Some(id).filter(|id| !id.is_empty()), secret),
                (None, None) => return oauth_error(400, "invalid_request", "client_credentials needs a client_secret"),
            };
            app.auth().issue(client.as_deref(), &secret).await
        }
        Some(EXCHANGE) => match field("subject_token") {
            Some(token) => {
                let client = basic.as_ref().map(|(id, secret)| (id.as_str(), secret.as_str()));
                app.auth().exchange(token, client).await
            }
            None => return oauth_error(400, "invalid_request", "a token exchange needs a subject_token"),
        },
        Some(_) => return oauth_error(400, "unsupported_grant_type", "client_credentials and token exchange are supported"),
        None => return oauth_error(400, "invalid_request", "grant_type is missing"),
    };
    let principal = issued.as_ref().ok().map(|issued| issued.principal.clone());
    let response = answer(issued);
    entry.record(&app, "getToken", principal.as_ref(), response.status().as_u16());
    response
}

/// Builds the answer to a request for a token.
///
/// Spec: REST `OAuthTokenResponse`.
fn answer(issued: Result<IssuedToken, AuthError>) -> Response {
    match issued {
        Ok(IssuedToken { token, expires_seconds, .. }) => {
            let body = json!({"access_token": token.reveal(), "token_type": "bearer", "expires_in": expires_seconds,
                "issued_token_type": ACCESS_TOKEN});
            ([(CACHE_CONTROL, "no-store")], Json(body)).into_response()
        }
        Err(error @ (AuthError::State(_) | AuthError::Random(_) | AuthError::KeysUnavailable { .. })) => {
            tracing::error!(%error, "a token could not be issued");
            match error.code().is_transient() {
                true => oauth_error(503, "temporarily_unavailable", "the token could not be issued; repeat the request"),
                false => oauth_error(500, "server_error", "the token could not be issued"),
            }
        }
        Err(_) => oauth_error(401, "invalid_client", "the client's secret or the subject token is not valid"),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use esker_auth::TokenFault;
    use esker_state::StateError;
    use serde_json::Value;

    use super::*;

    #[tokio::test]
    async fn a_client_may_repeat_a_request_for_a_token_that_failed_for_the_moment() {
        for (failure, status, again, code) in [
            (AuthError::State(StateError::Fenced), 503, Some("1"), "temporarily_unavailable"),
            (AuthError::State(StateError::Corrupt("a row".to_owned())), 500, None, "server_error"),
            (AuthError::KeysUnavailable { issuer: "https://idp.example".to_owned() }, 503, Some("1"), "temporarily_unavailable"),
            (AuthError::Refused(TokenFault::Signature), 401, None, "invalid_client"),
            (AuthError::Unknown, 401, None, "invalid_client"),
        ] {
            let answer = answer(Err(failure));
            assert_eq!(answer.status().as_u16(), status, "{code}");
            assert_eq!(answer.headers().get(RETRY_AFTER).map(HeaderValue::as_bytes), again.map(str::as_bytes), "{code}");
            let body = to_bytes(answer.into_body(), 1000).await.expect("a body");
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(body["error"], code);
        }
    }

    #[test]
    fn forms_are_decoded() {
        let parsed = form(b"grant_type=client_credentials&client_secret=a%2Bb+c&empty=&broken");
        assert_eq!(parsed["client_secret"], "a+b c");
        assert_eq!(parsed.len(), 3);
    }
}
