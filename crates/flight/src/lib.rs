//! The Arrow Flight SQL server: statements, prepared statements with parameters, and the metadata commands that clients need.
//!
//! Any replica can answer any call. A ticket holds its statement, and the handle of a prepared statement holds the statement and
//! its parameters, with a tag by a key that all replicas share. The server keeps only plans, for a few seconds between the calls for
//! one answer; without its plan, a statement is planned again. Start reading with `service.rs`.

mod basic;
mod error;
mod handle;
mod info;
mod metadata;
mod parameters;
mod service;
mod surface;

use std::sync::Arc;

use arrow_flight::flight_service_server::FlightServiceServer;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, ORIGIN, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use esker_access::{Caller, RequestFacts};
use esker_auth::{
    AccessControl, AuditedKind, AuditedObject, AuditedRequest, AuthError, Authenticated, Authenticator, Connection, Evidence,
    KeyRing, OutcomeGuard, PrincipalLimits, RequestTrail,
};
use esker_query::Engine;
use esker_types::{Principal, is_from_loopback, is_passed_on};
use tonic::Status;
use uuid::Uuid;

use basic::{BasicCredentials, basic_credentials};
use service::FlightSqlHandler;
pub use surface::flight_surface;

/// The largest gRPC message that is accepted, in bytes. Results are sent in smaller messages.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Returns the service as a router, to be served over HTTP/2.
///
/// Each call is authenticated before it reaches the service. A call without a valid principal is answered with the gRPC status of
/// the refusal. What the principal may see and do is decided by the rules of `access` at the time of the call. `keys` authenticate
/// tickets and handles, and `limits` bound the statements that a principal has at work.
pub fn router(engine: Engine, auth: Authenticator, access: AccessControl, keys: KeyRing, limits: PrincipalLimits) -> Router {
    let handler = FlightSqlHandler::new(engine, access.clone(), keys, limits);
    let service = FlightServiceServer::new(handler).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let entry = Entry { auth, access };
    tonic::service::Routes::new(service).prepare().into_axum_router().layer(from_fn_with_state(entry, authenticate))
}

/// What decides who a caller is, and what they may do.
#[derive(Clone)]
struct Entry {
    auth: Authenticator,
    access: AccessControl,
}

/// Adds the principal and the caller to a call, or refuses the call.
///
/// Calls of browsers are refused: no page of this server makes one, and a page of another site could use a server without tokens.
async fn authenticate(State(entry): State<Entry>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    if comes_from_page(headers) {
        return Status::permission_denied("calls of web pages are refused; use a Flight SQL client").into_http();
    }
    let connection = request.extensions().get::<ConnectInfo<Connection>>().map(|info| &info.0);
    let engine = headers.get(USER_AGENT).map(HeaderValue::to_str).and_then(Result::ok);
    let passed_on = is_passed_on(|name| headers.contains_key(name));
    let evidence = Evidence {
        header: headers.get(AUTHORIZATION).map(HeaderValue::as_bytes),
        from_loopback: connection.is_some_and(|from| is_from_loopback(from.address.ip(), |name| headers.contains_key(name))),
        // The certificate of a proxy is not that of its clients.
        certificate: connection.and_then(Connection::certificate).filter(|_| !passed_on).map(AsRef::as_ref),
    };
    let facts = RequestFacts {
        operation: method_of(request.uri().path()).into(),
        source_ip: connection.map(|from| from.address.ip()),
        engine: None,
        is_tls: connection.is_some_and(Connection::is_tls),
    };
    let Requester { principal, caller, trail } = match identify(&entry, evidence, facts, engine).await {
        Ok(requester) => requester,
        Err(e) => return error::status(&e).into_http(),
    };
    // Lists ask for no privilege.
    caller.record_break_glass();
    let mut outcome = OutcomeGuard::new(trail.clone());
    request.extensions_mut().insert(principal);
    request.extensions_mut().insert(caller);
    if let Some(trail) = trail {
        request.extensions_mut().insert(trail);
    }
    let response = next.run(request).await;
    outcome.answered(http_status(response.headers()));
    response
}

/// Returns the HTTP status that stands for the gRPC status of an answer without content, and 200 for any other answer.
fn http_status(headers: &HeaderMap) -> u16 {
    match headers.get("grpc-status").map(HeaderValue::as_bytes) {
        None | Some(b"0") => 200,
        Some(b"3" | b"6" | b"9" | b"10" | b"12") => 400,
        Some(b"5") => 404,
        Some(b"7") => 403,
        Some(b"8" | b"14") => 503,
        Some(b"16") => 401,
        Some(_) => 500,
    }
}

/// Who makes a call.
struct Requester {
    principal: Principal,
    caller: Arc<Caller>,
    /// The trail of the call; `None` if nothing is recorded.
    trail: Option<Arc<RequestTrail>>,
}

/// Returns the principal of a call, the caller that the rules know it as, and the trail of the call.
///
/// # Errors
///
/// Returns the errors of [`authenticated`], and those of [`AccessControl::caller`] if the rules can't be read.
async fn identify(
    entry: &Entry,
    evidence: Evidence<'_>,
    facts: RequestFacts,
    engine: Option<&str>,
) -> Result<Requester, AuthError> {
    let authenticated = authenticated(&entry.auth, evidence).await?;
    let identity = authenticated.identity();
    let trail = entry.access.audit().request(|| AuditedRequest {
        request_id: Uuid::now_v7().to_string(),
        protocol: "flight-sql",
        identity: &identity,
        operation: facts.operation.to_string(),
        kind: AuditedKind::Statement,
        source_ip: facts.source_ip,
        engine,
        object: AuditedObject::default(),
    });
    let caller = entry.access.audited_caller(identity, facts, trail.clone()).await?;
    Ok(Requester { principal: authenticated.principal, caller, trail })
}

/// Authenticates a call, whose `authorization` header may have the scheme Basic too.
///
/// # Errors
///
/// - Returns [`Unknown`](AuthError::Unknown) if the token is not valid, or belongs to another principal than Basic names.
/// - Returns the errors of [`Authenticator::authenticate_by`].
async fn authenticated(auth: &Authenticator, evidence: Evidence<'_>) -> Result<Authenticated, AuthError> {
    let Some(basic) = evidence.header.and_then(basic_credentials) else { return auth.authenticate_by(evidence).await };
    let BasicCredentials { user, token } = basic.map_err(|_| AuthError::Unknown)?;
    // Some drivers send an empty user and password if none are configured.
    if token.is_empty() {
        return auth.authenticate_by(Evidence { header: None, ..evidence }).await;
    }
    let caller = auth.authenticate_token(&token).await?;
    // A user of an identity provider may be named with or without the issuer.
    let is_named = match &caller.principal {
        Principal::User { name, .. } => *name == user || caller.principal.to_string() == user,
        principal => principal.to_string() == user,
    };
    if is_named { Ok(caller) } else { Err(AuthError::Unknown) }
}

/// Returns the method of a call: `GetFlightInfo` of `/arrow.flight.protocol.FlightService/GetFlightInfo`.
fn method_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Checks whether a page in a browser makes the call. No other client sends these headers.
fn comes_from_page(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[test]
    fn a_refusal_in_the_header_has_the_status_of_its_code() {
        for (code, expected) in [("7", 403), ("5", 404), ("16", 401), ("13", 500), ("0", 200)] {
            let headers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static(code))]);
            assert_eq!(http_status(&headers), expected, "{code}");
        }
        assert_eq!(http_status(&HeaderMap::new()), 200);
    }

    #[test]
    fn an_operation_is_the_method_of_a_call() {
        assert_eq!(method_of("/arrow.flight.protocol.FlightService/GetFlightInfo"), "GetFlightInfo");
        assert_eq!(method_of("DoGet"), "DoGet");
    }

    #[test]
    fn calls_of_pages_are_told_by_their_headers() {
        let with = |name: &'static str| HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("x"))]);
        assert!(comes_from_page(&with("origin")) && comes_from_page(&with("sec-fetch-site")));
        assert!(!comes_from_page(&with("user-agent")));
    }
}
