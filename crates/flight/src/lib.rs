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

use std::net::SocketAddr;

use arrow_flight::flight_service_server::FlightServiceServer;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use esker_auth::Authenticator;
use esker_query::Engine;

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
async fn authenticate(State(auth): State<Authenticator>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|h| h.to_str().ok());
    let loopback = request.extensions().get::<ConnectInfo<SocketAddr>>().is_some_and(|c| c.0.ip().is_loopback());
    match auth.authenticate(header, loopback).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller.principal);
            next.run(request).await
        }
        Err(e) => error::status(&e).into_http(),
    }
}
