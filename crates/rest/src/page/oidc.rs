//! The log-in at an identity provider: the way there, and the way back.
//!
//! The way there is a link and no form: browsers follow no redirect of a form to another server where the policy of pages forbids
//! forms to it. A short-lived cookie binds the log-in to the browser. Each provider has an address for answers of its own.
//!
//! Start reading at [`begin`].

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::header::{REFRESH, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use esker_auth::{AuthError, LOG_IN_SECONDS, LogInAnswer, LogInFault};
use esker_types::{Coded, ErrorCode};
use maud::html;
use serde::Deserialize;

use super::frame;
use super::login::{LOG_IN, LoginQuery, answer, own_page, without_tls};
use crate::audited::EntryFacts;
use crate::extract::QueryParams;
use crate::guard::{Peer, Transport};
use crate::session::{Cookies, cookie};
use crate::{ApiError, App};

/// The parameters that a provider adds to the address for answers. Others are ignored.
///
/// Spec: RFC 6749, sections 4.1.2 and 4.1.2.1; RFC 9207, section 2.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct CallbackQuery {
    state: String,
    code: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// Sends the browser to a provider (`GET /login/{provider}?next=`).
pub(super) async fn begin(
    State(app): State<App>,
    transport: Transport,
    Path(provider): Path<String>,
    QueryParams(query): QueryParams<LoginQuery>,
) -> Result<Response, ApiError> {
    let Some(cookies) = Cookies::of(transport) else { return Ok(without_tls()) };
    let address = callback_address(&app, &provider)?;
    let begun = app.auth().begin_log_in(&provider, &address, own_page(&query.next)).await?;
    let set = cookies.set_for(cookies.oidc, &begun.cookie, LOG_IN_SECONDS);
    Ok((AppendHeaders([(SET_COOKIE, set)]), Redirect::to(&begun.url)).into_response())
}

/// Opens a session for the user whom the provider confirms, and goes to the page that the reader wanted
/// (`GET /login/{provider}/callback`).
///
/// The cookie of the log-in is removed, unless the answer is that of another one. The session has a new id, and an earlier one of the
/// browser ends.
pub(super) async fn finish(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    transport: Transport,
    Path(provider): Path<String>,
    entry: EntryFacts,
    headers: HeaderMap,
    QueryParams(query): QueryParams<CallbackQuery>,
) -> Result<Response, ApiError> {
    let Some(cookies) = Cookies::of(transport) else { return Ok(without_tls()) };
    let redirect_uri = callback_address(&app, &provider)?;
    let shown = LogInAnswer {
        provider: &provider,
        cookie: cookie(&headers, cookies.oidc).unwrap_or_default(),
        state: &query.state,
        code: query.code.as_deref(),
        issuer: query.iss.as_deref(),
        error: query.error.as_deref(),
        redirect_uri: &redirect_uri,
    };
    let done = AppendHeaders([(SET_COOKIE, cookies.remove(cookies.oidc))]);
    let finished = match app.auth().finish_log_in(shown).await {
        Ok(finished) => finished,
        Err(error @ (AuthError::LogIn(_) | AuthError::Refused(_))) => {
            tracing::warn!(provider, address = %peer.address, %error, "a log-in at an identity provider was refused");
            let status = match error.code() {
                ErrorCode::NotFound => StatusCode::NOT_FOUND,
                ErrorCode::Forbidden => StatusCode::FORBIDDEN,
                _ => StatusCode::UNAUTHORIZED,
            };
            entry.record(&app, LOG_IN, None, status.as_u16());
            let refused = answer(&app, status, cookies, "/", Some(problem_of(&error)))?;
            // Neither another tab nor another site ends a log-in by the answer to an earlier one.
            return Ok(match error {
                AuthError::LogIn(LogInFault::NotBegun) => refused,
                _ => (done, refused).into_response(),
            });
        }
        Err(error) => return Ok((done, ApiError::from(error)).into_response()),
    };
    let opened = app.inner.sessions.open_for(&finished.caller, finished.token_sha256).await?;
    if let Some(earlier) = cookie(&headers, cookies.session) {
        app.inner.sessions.end(earlier).await?;
    }
    entry.record(&app, LOG_IN, Some(&opened.principal), StatusCode::SEE_OTHER.as_u16());
    tracing::info!(principal = %opened.principal, provider, address = %peer.address, "logged in to the page");
    let set = AppendHeaders([(SET_COOKIE, cookies.set(cookies.session, &opened.id))]);
    Ok((done, set, Redirect::to(own_page(&finished.next))).into_response())
}

/// Sends a browser whose session has ended to the log-out of its identity provider.
///
/// The answer is a page and no redirect, because the policy of pages stops redirects of forms to other servers.
pub(super) fn log_out_there(cookies: Cookies, url: &str) -> Response {
    let content = html! {
        h1 { "Logged out" }
        p { "The session here has ended. If the browser stays here, " a href=(url) { "log out at the identity provider" } " too." }
    };
    let set = AppendHeaders([(SET_COOKIE, cookies.remove(cookies.session))]);
    let mut response = (set, frame("Logged out", &html! {}, &content)).into_response();
    if let Ok(refresh) = HeaderValue::try_from(format!("0; url={url}")) {
        response.headers_mut().insert(REFRESH, refresh);
    }
    response
}

/// Returns the address for the answers of a provider. It comes from the configuration alone, whatever `Host` a request has.
///
/// # Errors
///
/// Returns [`LogIn`](AuthError::LogIn) if the configuration has no log-in at this provider.
fn callback_address(app: &App, provider: &str) -> Result<String, AuthError> {
    let known = app.auth().log_in_providers().iter().any(|known| known.name == provider);
    let public = app.inner.options.guard.public_url.as_ref().filter(|_| known);
    // The name of a provider with a log-in has no character that must be encoded.
    let address = public.map(|public| public.with_path(&format!("/login/{provider}/callback")));
    address.ok_or(AuthError::LogIn(LogInFault::Unknown))
}

/// Returns what the reader is told of a refused log-in. Why a token is wrong is in the log.
fn problem_of(error: &AuthError) -> &'static str {
    match error {
        AuthError::LogIn(LogInFault::NotBegun) => "This log-in was not begun in this browser, or took too long. Try again.",
        AuthError::LogIn(LogInFault::Denied) => "The identity provider did not log you in.",
        _ => "The identity provider's answer is not valid. Try again, and ask the administrator if it happens again.",
    }
}
