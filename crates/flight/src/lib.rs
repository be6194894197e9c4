//! The Arrow Flight SQL server: statements, prepared statements with parameters, and the metadata commands that clients need.
//!
//! Any replica can answer any call. A ticket holds its statement, and the handle of a prepared statement holds the statement and
//! its parameters. The server keeps only plans, for a few seconds between the calls for one answer; without its plan, a statement
//! is planned again. Start reading with `service.rs`.

mod error;
mod handle;
mod info;
mod metadata;
mod service;
mod surface;

use arrow_flight::flight_service_server::FlightServiceServer;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, ORIGIN};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use esker_auth::{Authenticator, Connection, Evidence};
use esker_query::Engine;
use esker_types::{FORWARDED_HEADERS, is_from_loopback};
use tonic::Status;

use service::FlightSqlHandler;
pub use surface::flight_surface;

/// The largest gRPC message that is accepted, in bytes. Results are sent in smaller messages.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Returns the service as a router, to be served over HTTP/2.
///
/// Each call is authenticated before it reaches the service. A call without a valid principal is answered with the gRPC status of
/// the refusal.
pub fn router(engine: Engine, auth: Authenticator) -> Router {
    let service = FlightServiceServer::new(FlightSqlHandler::new(engine)).max_decoding_message_size(MAX_MESSAGE_BYTES);
    tonic::service::Routes::new(service).prepare().into_axum_router().layer(from_fn_with_state(auth, authenticate))
}

/// Adds the principal to a call, or refuses the call.
///
/// Calls of browsers are refused: no page of this server makes one, and a page of another site could use a server without tokens.
async fn authenticate(State(auth): State<Authenticator>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    if comes_from_page(headers) {
        return Status::permission_denied("calls of web pages are refused; use a Flight SQL client").into_http();
    }
    let connection = request.extensions().get::<ConnectInfo<Connection>>().map(|info| &info.0);
    let passed_on = FORWARDED_HEADERS.iter().any(|name| headers.contains_key(*name));
    let evidence = Evidence {
        header: headers.get(AUTHORIZATION).map(HeaderValue::as_bytes),
        from_loopback: connection.is_some_and(|from| is_from_loopback(from.address.ip(), |name| headers.contains_key(name))),
        // The certificate of a proxy is not that of its clients.
        certificate: connection.and_then(Connection::certificate).filter(|_| !passed_on).map(AsRef::as_ref),
    };
    match auth.authenticate_by(evidence).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller.principal);
            next.run(request).await
        }
        Err(e) => error::status(&e).into_http(),
    }
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
    fn calls_of_pages_are_told_by_their_headers() {
        let with = |name: &'static str| HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("x"))]);
        assert!(comes_from_page(&with("origin")) && comes_from_page(&with("sec-fetch-site")));
        assert!(!comes_from_page(&with("user-agent")));
    }
}
