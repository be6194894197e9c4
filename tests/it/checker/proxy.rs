//! [`FaultyStore`]: a store that speaks S3, with faults that a test sets, in front of a real one.
//!
//! It forwards requests as they are, so that their signatures count.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, TRANSFER_ENCODING};
use axum::response::Response;
use esker_tests::{Fault, FaultSchedule};
use reqwest::StatusCode;
use tokio::net::TcpListener;

/// The endpoint of a store with faults.
#[derive(Debug, Clone)]
pub(super) struct FaultyStore {
    http: reqwest::Client,
    /// The endpoint of the real store.
    real: String,
    schedule: FaultSchedule,
}

impl FaultyStore {
    /// Starts a store in front of the one with the endpoint `real`. Returns its endpoint.
    pub(super) async fn start(real: &str, schedule: FaultSchedule) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let this = Self { http: reqwest::Client::new(), real: real.to_owned(), schedule };
        let router = Router::new().fallback(forward).with_state(this);
        tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
        endpoint
    }

    /// Forwards a request. Returns the answer of the real store.
    async fn served(&self, request: Request) -> Option<Response> {
        let (parts, body) = request.into_parts();
        let url = format!("{}{}", self.real, parts.uri.path_and_query()?);
        let body = to_bytes(body, usize::MAX).await.ok()?;
        // The host is kept too: the signature covers it.
        let answer = self.http.request(parts.method, url).headers(parts.headers).body(body).send().await.ok()?;
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            if name != CONNECTION && name != TRANSFER_ENCODING {
                response = response.header(name, value);
            }
        }
        response.body(Body::from(answer.bytes().await.ok()?)).ok()
    }
}

/// Answers a request to the store, with the fault that is its turn.
async fn forward(State(store): State<FaultyStore>, request: Request) -> Response {
    let fault = store.schedule.next_fault().await;
    let served = if fault == Fault::Unserved { None } else { store.served(request).await };
    match (fault, served) {
        (Fault::Nothing, Some(answer)) => answer,
        _ => {
            let mut busy = Response::new(Body::from("<Error><Code>SlowDown</Code></Error>"));
            *busy.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            busy
        }
    }
}
