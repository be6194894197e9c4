//! Arrow Flight SQL: statements, prepared statements with parameters, and the metadata commands that clients ask for.
//!
//! Nothing is kept between calls: a ticket holds its statement, a prepared statement's handle holds statement and parameters,
//! so that any replica can answer any call.

mod error;
mod handle;
mod info;
mod metadata;
mod service;

use std::net::SocketAddr;

use arrow_flight::flight_service_server::FlightServiceServer;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use esker_catalog::Access;
use esker_query::Engine;

use service::Service;

/// gRPC messages of up to this size are taken; results are sent in smaller ones.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// The service as a router, to be served over HTTP/2.
pub fn router(engine: Engine, access: Access) -> Router {
    let service = FlightServiceServer::new(Service::new(engine)).max_decoding_message_size(MAX_MESSAGE_BYTES);
    tonic::service::Routes::new(service).prepare().into_axum_router().layer(from_fn_with_state(access, authenticate))
}

/// Gives every call its principal, or refuses it.
async fn authenticate(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|h| h.to_str().ok());
    let loopback = request.extensions().get::<ConnectInfo<SocketAddr>>().is_some_and(|c| c.0.ip().is_loopback());
    match access.authenticate(header, loopback).await {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(e) => error::status(&e).into_http(),
    }
}
