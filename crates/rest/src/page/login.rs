//! The log-in with a token, and the log-out. `oidc.rs` has the log-in at an identity provider.
//!
//! The log-in form repeats a secret that its page also sets as a cookie, so that no other site can log a reader in under a name of
//! its own. Start reading at [`log_in`].

use axum::Extension;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use bytes::Bytes;
use esker_auth::{AuthError, LogInProvider};
use esker_types::{ErrorCode, Principal};
use maud::{Markup, html};
use serde::Deserialize;

use super::oidc::log_out_there;
use super::visitor::parse_form;
use super::{encode, frame};
use crate::audited::EntryFacts;
use crate::extract::QueryParams;
use crate::guard::{Peer, Transport};
use crate::session::{Cookies, cookie, is_same_secret, random_secret};
use crate::{ApiError, App};

/// The name of a log-in in the audit trail.
pub(super) const LOG_IN: &str = "pageLogIn";

/// The parameters of the log-in page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LoginQuery {
    /// The page to go to after the log-in.
    pub(super) next: String,
}

/// The fields of the log-in form.
#[derive(Default, Deserialize)]
#[serde(default)]
struct LoginForm {
    token: String,
    csrf: String,
    next: String,
}

/// Shows the log-in form (`GET /login?next=`).
pub(super) async fn show(
    State(app): State<App>,
    transport: Transport,
    QueryParams(query): QueryParams<LoginQuery>,
) -> Result<Response, ApiError> {
    match Cookies::of(transport) {
        Some(cookies) => answer(&app, StatusCode::OK, cookies, &query.next, None),
        None => Ok(without_tls()),
    }
}

/// Opens a session for the principal of a token, and goes to the page that the reader wanted (`POST /login`).
///
/// The session has a new id, and an earlier one of the browser ends.
pub(super) async fn log_in(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    transport: Transport,
    entry: EntryFacts,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let Some(cookies) = Cookies::of(transport) else { return Ok(without_tls()) };
    let body = body.map_err(|_| ApiError::new(ErrorCode::TooLarge, "the form can't be read, or is too large"))?;
    let form: LoginForm = parse_form(&body)?;
    if !is_same_secret(&form.csrf, cookie(&headers, cookies.login).unwrap_or_default()) {
        let why = "This form was open for too long, or the browser keeps no cookies. Try again.";
        return answer(&app, StatusCode::FORBIDDEN, cookies, &form.next, Some(why));
    }
    let opened = match app.inner.sessions.open(app.auth(), &form.token).await {
        Ok(opened) => opened,
        Err(error @ (AuthError::State(_) | AuthError::Random(_) | AuthError::KeysUnavailable { .. })) => return Err(error.into()),
        Err(_) => {
            tracing::warn!(address = %peer.address, "a log-in with a wrong token was refused");
            entry.record(&app, LOG_IN, None, StatusCode::UNAUTHORIZED.as_u16());
            return answer(&app, StatusCode::UNAUTHORIZED, cookies, &form.next, Some("The token is not valid."));
        }
    };
    if let Some(earlier) = cookie(&headers, cookies.session) {
        app.inner.sessions.end(earlier).await?;
    }
    tracing::info!(principal = %opened.principal, address = %peer.address, "logged in to the page");
    entry.record(&app, LOG_IN, Some(&opened.principal), StatusCode::SEE_OTHER.as_u16());
    let set = [(SET_COOKIE, cookies.set(cookies.session, &opened.id)), (SET_COOKIE, cookies.remove(cookies.login))];
    Ok((AppendHeaders(set), Redirect::to(own_page(&form.next))).into_response())
}

/// Ends the session of the browser, and goes to the log-in (`POST /logout`).
///
/// A user of a provider with a log-in goes to the log-out of the provider first.
pub(super) async fn log_out(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    transport: Transport,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Some(cookies) = Cookies::of(transport) else { return Ok(Redirect::to("/login").into_response()) };
    if let Some(id) = cookie(&headers, cookies.session) {
        app.inner.sessions.end(id).await?;
    }
    if let Some(back) = app.inner.options.guard.public_url.as_ref().map(|public| public.with_path("/login"))
        && let Some(url) = app.auth().log_out_url(&principal, &back).await
    {
        return Ok(log_out_there(cookies, &url));
    }
    Ok((AppendHeaders([(SET_COOKIE, cookies.remove(cookies.session))]), Redirect::to("/login")).into_response())
}

/// Builds the answer with the log-in form, and sets the cookie that the form repeats.
pub(super) fn answer(
    app: &App,
    status: StatusCode,
    cookies: Cookies,
    next: &str,
    problem: Option<&str>,
) -> Result<Response, ApiError> {
    let csrf = random_secret()?;
    let set = AppendHeaders([(SET_COOKIE, cookies.set(cookies.login, &csrf))]);
    let page = login_page(&csrf, own_page(next), problem, &app.auth().log_in_providers());
    Ok((status, set, page).into_response())
}

/// Renders the log-in form.
fn login_page(csrf: &str, next: &str, problem: Option<&str>, providers: &[LogInProvider]) -> Markup {
    let content = html! {
        h1 { "Log in" }
        @if let Some(problem) = problem { p.poor role="alert" { (problem) } }
        @for provider in providers {
            p.provider { a href={ "/login/" (provider.name) "?next=" (encode(next)) } { "Log in with " (provider.label) } }
        }
        p.soft { "Enter a token of this server: the one that the first start printed, or one that " code { "esker token NAME" } " makes." }
        form.login method="post" action="/login" {
            input type="hidden" name="csrf" value=(csrf);
            input type="hidden" name="next" value=(next);
            label for="token" { "Token" } " "
            input id="token" name="token" type="password" autocomplete="current-password" required autofocus; " "
            button { "Log in" }
        }
    };
    frame("Log in", &html! {}, &content)
}

/// Builds the answer to a browser that calls over plain HTTP: everybody on the way could read token and cookie.
pub(super) fn without_tls() -> Response {
    let content = html! {
        h1 { "Log in" }
        p { "A log-in needs TLS, because everybody between this browser and the server could read the token." }
        p {
            "Put a proxy with TLS in front of the server, and set " code { "server.public_url" } " or " code { "server.trusted_proxies" }
            ". On the server's own machine, open the page as " code { "localhost" } "."
        }
    };
    (StatusCode::FORBIDDEN, frame("Log in", &html! {}, &content)).into_response()
}

/// Returns a path of this server as it is, and the start page for anything that could lead to another server.
pub(super) fn own_page(next: &str) -> &str {
    let plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let inside = next.starts_with('/') && !next.starts_with("//");
    if plain && inside { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::super::STYLE;
    use super::{LogInProvider, login_page, own_page};

    #[test]
    fn every_class_of_the_log_in_has_a_style() {
        let provider = LogInProvider { name: "sso".to_owned(), label: "<Company>".to_owned() };
        let page = login_page("secret", "/?a=b&c", Some("The token is not valid."), &[provider]).into_string();
        assert!(page.contains("href=\"/login/sso?next=%2F%3Fa%3Db%26c\">Log in with &lt;Company&gt;</a>"), "{page}");
        assert!(page.contains("<p class=\"poor\" role=\"alert\">The token is not valid.</p>"), "{page}");
        let classes = page.split("class=\"").skip(1).filter_map(|rest| rest.split('"').next());
        for class in classes.flat_map(str::split_whitespace) {
            assert!(STYLE.contains(&format!(".{class}")), "{class}");
        }
    }

    #[test]
    fn a_log_in_leads_to_no_other_server() {
        for own in ["/", "/jobs?state=queued", "/warehouses/w/namespaces/a%1Fb/tables/t"] {
            assert_eq!(own_page(own), own);
        }
        for foreign in ["", "jobs", "//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nset-cookie: x", "/é"] {
            assert_eq!(own_page(foreign), "/", "{foreign:?}");
        }
    }
}
