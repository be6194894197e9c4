//! The reader of the page: who asks, which secret the forms repeat, and the headers of each answer.
//!
//! A browser shows the cookie of its session. A program may show a bearer token or a client certificate instead, as it does at the
//! API. Start reading at [`authenticate`].

use std::sync::LazyLock;

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use esker_auth::{AuthError, Authenticated, KeyPurpose};
use esker_types::{ErrorCode, Principal, hex};
use maud::{Markup, html};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{STYLE, encode};
use crate::access::enforce;
use crate::guard::{Peer, Transport, needs_strict_transport};
use crate::rate::admit_principal;
use crate::session::{Cookies, cookie, is_same_secret};
use crate::{ApiError, App, authenticate_request};

/// The maximum size of a form, in bytes.
pub(crate) const MAX_FORM_BYTES: usize = 8 << 10;

/// Keeps browsers at TLS for a year. Names below this one are somebody else's.
const STRICT_TRANSPORT: &str = "max-age=31536000";

/// The headers of every page. The browser runs no script, asks no other server, and shows the page in no other one.
///
/// The referrer goes to pages of this server alone. Without any, the browser would not say from which site a form comes either.
static HEADERS: LazyLock<[(HeaderName, HeaderValue); 4]> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    );
    [
        // Base64 has only characters that a header may have.
        (CONTENT_SECURITY_POLICY, HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ]
});

/// The reader of a page.
#[derive(Clone)]
pub(crate) struct Visitor {
    /// The secret that each form must repeat. `None` if the caller showed a bearer token, which no page of another site can do.
    csrf: Option<String>,
    /// The name of the principal, if the reader logged in.
    logged_in: Option<String>,
}

impl std::fmt::Debug for Visitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visitor").field("logged_in", &self.logged_in).finish_non_exhaustive()
    }
}

impl Visitor {
    /// Renders the hidden field that every form needs.
    pub(super) fn field(&self) -> Markup {
        html! { @if let Some(csrf) = &self.csrf { input type="hidden" name="csrf" value=(csrf); } }
    }

    /// Renders the button that ends the session, if there is one.
    pub(super) fn log_out_form(&self) -> Markup {
        html! {
            @if let Some(name) = &self.logged_in {
                form.logout method="post" action="/logout" { (self.field()) span.soft { (name) } " " button { "Log out" } }
            }
        }
    }
}

/// Finds the reader of a page and the principal of the request.
///
/// A browser without a session is sent to the log-in. A caller that shows a wrong token gets 401, as at the API.
pub(super) async fn authenticate(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    transport: Transport,
    mut request: Request,
    next: Next,
) -> Response {
    match identify(&app, request.headers(), &peer, transport).await {
        Ok((caller, visitor)) => {
            let _at_work = match admit_principal(&app, &caller.principal, &request) {
                Ok(permit) => permit,
                Err(refused) => return ApiError::from(refused).into_response(),
            };
            request.extensions_mut().insert(caller.principal.clone());
            request.extensions_mut().insert(visitor);
            enforce(&app, &caller, &peer, request, next).await
        }
        // A browser shows the certificate that it has. If it belongs to no client, its owner may have a token.
        Err(AuthError::Missing | AuthError::Certificate(_)) if !request.headers().contains_key(AUTHORIZATION) => {
            log_in_first(&request)
        }
        Err(error) => ApiError::from(error).into_response(),
    }
}

/// Finds caller and reader by the session, by the header, by the certificate, or because callers need no token.
async fn identify(
    app: &App,
    headers: &HeaderMap,
    peer: &Peer,
    transport: Transport,
) -> Result<(Authenticated, Visitor), AuthError> {
    let shown = Cookies::of(transport).and_then(|cookies| cookie(headers, cookies.session));
    if let Some(id) = shown.filter(|_| !headers.contains_key(AUTHORIZATION))
        && let Some((session, caller)) = app.inner.sessions.resume(app.auth(), id).await?
    {
        let visitor = Visitor { csrf: Some(session.csrf), logged_in: Some(session.principal) };
        return Ok((caller, visitor));
    }
    let caller = authenticate_request(app, headers, peer).await?;
    // No page of another site can set the header. A certificate, like a cookie, goes with every request of the browser.
    let shows_token = headers.contains_key(AUTHORIZATION) && caller.principal != Principal::Anonymous;
    let csrf = if shows_token { None } else { Some(csrf_of(app, &caller.principal).await?) };
    Ok((caller, Visitor { csrf, logged_in: None }))
}

/// Derives the secret in the forms of a reader without a session, so that readers with certificates do not know each other's.
///
/// Every server derives the same one, because a form may be sent to another server than the page came from.
async fn csrf_of(app: &App, principal: &Principal) -> Result<String, AuthError> {
    let identity = principal.identity();
    let tag = app.inner.options.keys.sign(KeyPurpose::Secrets, &[b"form", identity.as_bytes()]).await?;
    Ok(hex(&Sha256::digest(tag)))
}

/// Sends a browser to the log-in, and from there back to the page that it wanted.
fn log_in_first(request: &Request) -> Response {
    let wanted = request.uri().path_and_query().map_or("/", |wanted| wanted.as_str());
    let to = match *request.method() == Method::GET && wanted != "/" {
        true => format!("/login?next={}", encode(wanted)),
        false => "/login".to_owned(),
    };
    Redirect::to(&to).into_response()
}

/// The secret in a form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CsrfField {
    csrf: String,
}

/// Refuses a form that does not repeat the secret of its reader. It stands in front of every route of the page.
///
/// The handlers get the form as it was sent.
pub(super) async fn check_form(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let expected = request.extensions().get::<Visitor>().and_then(|visitor| visitor.csrf.clone());
    let Some(expected) = expected.filter(|_| !reads) else { return next.run(request).await };
    let (parts, body) = request.into_parts();
    let shown = match to_bytes(body, MAX_FORM_BYTES).await {
        Ok(bytes) => parse_form::<CsrfField>(&bytes).map(|field| (field, bytes)),
        Err(_) => Err(ApiError::new(ErrorCode::TooLarge, format!("the form has more than {MAX_FORM_BYTES} bytes"))),
    };
    match shown {
        Ok((field, bytes)) if is_same_secret(&field.csrf, &expected) => {
            next.run(Request::from_parts(parts, Body::from(bytes))).await
        }
        Ok(_) => {
            let what = "the form is not of this session; open its page again";
            ApiError::new(ErrorCode::Forbidden, what).into_response()
        }
        Err(error) => error.into_response(),
    }
}

/// Parses a form, which is encoded as a query string is.
///
/// # Errors
///
/// Returns [`ErrorCode::BadRequest`] if the body is no form, or lacks a field.
pub(crate) fn parse_form<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let wrong = || ApiError::new(ErrorCode::BadRequest, "the form can't be read; open its page again");
    let text = std::str::from_utf8(body).map_err(|_| wrong())?;
    let uri = Uri::try_from(format!("/?{text}")).map_err(|_| wrong())?;
    Query::try_from_uri(&uri).map(|Query(form)| form).map_err(|_| wrong())
}

/// Adds the headers of pages to an answer.
pub(super) async fn with_headers(Extension(peer): Extension<Peer>, request: Request, next: Next) -> Response {
    let strict = needs_strict_transport(request.uri(), request.headers(), &peer);
    let mut response = next.run(request).await;
    if strict {
        response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(STRICT_TRANSPORT));
    }
    for (name, value) in HEADERS.iter() {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_browsers_send_it() {
        assert_eq!(parse_form::<CsrfField>(b"csrf=a%2Bb+c&other=").expect("a form").csrf, "a+b c");
        assert_eq!(parse_form::<CsrfField>(b"").expect("an empty form").csrf, "");
        assert!(parse_form::<CsrfField>(b"csrf=\xff").is_err() && parse_form::<CsrfField>(b"csrf=a b").is_err());
    }

    #[test]
    fn pages_allow_their_own_style_and_nothing_else() {
        let policy = HEADERS[0].1.to_str().expect("text");
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe") && !policy.contains("script"), "{policy}");
    }
}
