//! The HTTP service: the Iceberg REST catalog, the management API, the web page, metrics and probes.
//!
//! The catalog is under `/v1`, the management API under `/api/v1`, the web page at `/`. The others are `/metrics`,
//! `/metrics/tables`, `/healthz` and `/readyz`. Handlers share one [`App`] and take the names in the path by the extractors of
//! `extract.rs`. An error is an [`ApiError`], in the envelope of the Iceberg REST specification.
//!
//! Start reading at [`router`], which shows the layers around the handlers, then at `iceberg/mod.rs` and `management/mod.rs`. The
//! guard in front of all routes is in `guard.rs`.

mod access;
mod askers;
mod audited;
mod certificates;
mod error;
mod etag;
mod extract;
mod guard;
mod health;
mod iceberg;
mod idempotency;
mod management;
mod metrics;
mod named_in_body;
mod needs;
mod network;
mod openapi;
mod ops;
mod page;
mod rate;
mod session;
mod tasks;
mod trace;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use bytes::Bytes;
use esker_auth::{AccessControl, AuthError, Authenticated, Authenticator, Evidence, KeyRing, PrincipalLimits};
use esker_autopilot::{Layers, Policy, policy_of};
use esker_catalog::{Catalog, Overview};
use esker_maintenance::{JobQueue, Maintenance};
use esker_query::Engine;
use esker_types::{ErrorCode, Principal};
use moka::future::Cache;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;
use tracing::field::Empty;

pub use askers::RuleAuthorities;
pub use certificates::{CertificateState, Certificates};
pub use error::ApiError;
pub use guard::{GuardOptions, PublicUrl};
pub use management::{
    DroppedView, FleetTable, JobAccepted, JobView, OpaOptions, PolicyView, QuarantineView, TableHealth, WarehouseView,
};
pub use network::Network;
pub use session::SessionOptions;
pub use tasks::{TaskState, Tasks};

use audited::RequestId;
use esker_state as state;
use etag::HeaderCase;
use guard::Peer;
use iceberg::Plans;
use idempotency::KeyLocks;
use metrics::ServiceMetrics;
use ops::RecentCheck;
use rate::{RateLimiter, limit_unauthenticated};
use session::PageSessions;

/// The shared state of all handlers. Clones are cheap.
#[derive(Debug, Clone)]
pub struct App {
    inner: Arc<AppInner>,
}

#[derive(Debug)]
struct AppInner {
    /// The maintenance of each warehouse, which holds the catalog too, by the name of the warehouse.
    warehouses: BTreeMap<String, Maintenance>,
    /// The policies that the configuration sets, by the name of the warehouse.
    policies: BTreeMap<String, Layers>,
    overview: Overview,
    queue: JobQueue,
    engine: Engine,
    auth: Authenticator,
    access: AccessControl,
    sessions: PageSessions,
    /// The limit on requests that show a secret to be checked.
    unauthenticated: RateLimiter,
    /// Whether the database and the storages answered the last probe.
    dependencies: RecentCheck,
    metrics: ServiceMetrics,
    /// Metadata as JSON with only the referenced snapshots, by the location of the metadata file.
    referenced: Cache<String, Bytes>,
    plans: Plans,
    idempotency: KeyLocks,
    header_case: HeaderCase,
    options: AppOptions,
    draining: AtomicBool,
}

/// The options of the service.
#[derive(Debug, Clone)]
pub struct AppOptions {
    /// The maximum size of a request body, in bytes.
    pub max_body_bytes: usize,
    /// The time in seconds for which the outcome of a request with an `Idempotency-Key` is stored.
    pub idempotency_seconds: u64,
    /// The time in milliseconds that planning a scan may take before the answer is `submitted`, and the client has to poll.
    pub plan_wait_ms: u64,
    /// The names of the event sinks whose lag is a metric.
    pub sinks: Vec<String>,
    /// The states of the server's background tasks.
    pub tasks: Tasks,
    /// The states of the certificates that the ports serve.
    pub certificates: Certificates,
    /// The settings of the guard in front of all routes.
    pub guard: GuardOptions,
    /// The times after which a session of the page ends.
    pub sessions: SessionOptions,
    /// The number of requests to tokens and log-in that one address may send in a second; 0: any number.
    pub unauthenticated_per_second: u32,
    /// The settings of the decisions that Trino asks for.
    pub opa: OpaOptions,
    /// The limits of each principal.
    pub principal_limits: PrincipalLimits,
    /// The keys that authenticate what clients carry.
    pub keys: KeyRing,
}

/// The maximum size of a request for a token, in bytes: nobody is known yet who could be charged for more.
const MAX_TOKEN_REQUEST_BYTES: usize = 64 << 10;

/// The maximum size of the cache of metadata with only the referenced snapshots, in bytes.
const REFERENCED_CACHE_BYTES: u64 = 32 << 20;

impl App {
    /// Makes the shared state of the handlers.
    ///
    /// `policies` holds the policies that the configuration sets, by the name of the warehouse. `access` decides who may do what.
    pub async fn new(
        state: state::State,
        warehouses: Vec<Maintenance>,
        policies: BTreeMap<String, Layers>,
        engine: Engine,
        auth: Authenticator,
        access: AccessControl,
        options: AppOptions,
    ) -> Self {
        let referenced = Cache::builder()
            .weigher(|key: &String, body: &Bytes| u32::try_from(key.len() + body.len()).unwrap_or(u32::MAX))
            .max_capacity(REFERENCED_CACHE_BYTES)
            .build();
        let named = |m: Maintenance| (m.catalog().options().warehouse.clone(), m);
        let inner = AppInner {
            warehouses: warehouses.into_iter().map(named).collect(),
            policies,
            overview: Overview::new(state.clone()),
            sessions: PageSessions::new(state.clone(), options.sessions),
            unauthenticated: RateLimiter::new(options.unauthenticated_per_second),
            plans: Plans::new(state.clone()),
            dependencies: RecentCheck::default(),
            queue: JobQueue::new(state),
            engine,
            auth,
            access,
            metrics: ServiceMetrics::new(),
            referenced,
            idempotency: KeyLocks::default(),
            header_case: HeaderCase::record_spelling().await,
            options,
            draining: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns the read-only view of the state database, over all warehouses.
    fn overview(&self) -> &Overview {
        &self.inner.overview
    }

    /// Returns the queue of jobs, over all warehouses.
    fn queue(&self) -> &JobQueue {
        &self.inner.queue
    }

    fn warehouses(&self) -> impl Iterator<Item = &Maintenance> {
        self.inner.warehouses.values()
    }

    /// Returns a warehouse by its name, or the error [`ErrorCode::NoSuchWarehouse`].
    fn warehouse(&self, name: &str) -> Result<&Maintenance, ApiError> {
        self.inner.warehouses.get(name).ok_or_else(|| no_such_warehouse(name))
    }

    /// Returns a warehouse by its number in the database; `None` if this server does not have it.
    fn warehouse_by_id(&self, id: i64) -> Option<&Maintenance> {
        self.warehouses().find(|warehouse| warehouse.catalog().warehouse().id == id)
    }

    /// Returns the check of tokens.
    fn auth(&self) -> &Authenticator {
        &self.inner.auth
    }

    /// Returns access control, which knows the rules.
    pub fn access(&self) -> &AccessControl {
        &self.inner.access
    }

    /// Returns the policy of a table.
    async fn policy(&self, catalog: &Catalog, row: &state::TabularRow) -> Result<Policy, ApiError> {
        Ok(policy_of(catalog, &self.layers(catalog), row).await?)
    }

    /// Returns the policies that the configuration sets for a warehouse.
    fn layers(&self, catalog: &Catalog) -> Layers {
        self.inner.policies.get(&catalog.options().warehouse).cloned().unwrap_or_default()
    }

    /// Returns the states of the server's background tasks.
    fn tasks(&self) -> &Tasks {
        &self.inner.options.tasks
    }

    /// Returns the states of the certificates that the ports serve.
    fn certificates(&self) -> &Certificates {
        &self.inner.options.certificates
    }

    /// Makes `/readyz` answer 503 from now on, so that load balancers send no new requests.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Relaxed)
    }
}

/// Builds the service: all routes, with authentication, body limit, metrics and logs around them.
pub fn router(app: App) -> Router {
    let max_body_bytes = app.inner.options.max_body_bytes;
    let authenticated = Router::new()
        // `as_listed` is inside of the receipts too, so that a receipt holds the status that the client got.
        .merge(iceberg::router().layer(from_fn(as_listed)).layer(from_fn_with_state(app.clone(), idempotency::replay_or_run)))
        .merge(Router::from(management::router()).route_layer(from_fn(openapi::refuse_unknown_parameters)))
        .merge(metrics::router())
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), authenticate));
    let tokens = iceberg::token_router()
        .layer(DefaultBodyLimit::max(max_body_bytes.min(MAX_TOKEN_REQUEST_BYTES)))
        .layer(from_fn_with_state(app.clone(), limit_unauthenticated));
    Router::new()
        .merge(ops::router())
        .merge(tokens)
        .merge(page::router(&app))
        .merge(authenticated)
        .layer(from_fn_with_state(app.clone(), guard::guard))
        .layer(from_fn(as_listed))
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::new(ErrorCode::Internal, "the request hit a bug of Esker; the server's log has its place").into_response()
        }))
        .layer(DefaultBodyLimit::max(max_body_bytes))
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

async fn unknown_route(request: Request) -> ApiError {
    let what = format!("no such route: {} {}", request.method(), request.uri().path());
    ApiError::new(ErrorCode::NotFound, what)
}

async fn wrong_method(request: Request) -> ApiError {
    let what = format!("{} is not a method of {}", request.method(), request.uri().path());
    ApiError::new(ErrorCode::NotFound, what).with_status(405)
}

/// Makes the error for a warehouse that does not exist.
fn no_such_warehouse(name: &str) -> ApiError {
    ApiError::new(ErrorCode::NoSuchWarehouse, format!("warehouse {name} does not exist"))
}

/// Adds the principal and the authenticated caller to a request, or refuses the request.
async fn authenticate(State(app): State<App>, Extension(peer): Extension<Peer>, mut request: Request, next: Next) -> Response {
    match authenticate_request(&app, request.headers(), &peer).await {
        Ok(caller) => {
            // Nothing has been done yet, so a client may send a refused request again.
            let at_work = match rate::admit_principal(&app, &caller.principal, &request) {
                Ok(permit) => rate::AtWork::new(permit),
                Err(refused) => return ApiError::from(refused).into_response(),
            };
            request.extensions_mut().insert(at_work.clone());
            request.extensions_mut().insert(caller.principal.clone());
            request.extensions_mut().insert(caller.clone());
            access::enforce(&app, &caller, &peer, request, next).await
        }
        Err(e) => ApiError::from(e).into_response(),
    }
}

/// Finds the caller of a request by its header `authorization`, or by the client certificate of its connection.
///
/// # Errors
///
/// Returns what [`Authenticator::authenticate_by`] returns.
async fn authenticate_request(app: &App, headers: &HeaderMap, peer: &Peer) -> Result<Authenticated, AuthError> {
    let header = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let evidence = Evidence { header, from_loopback: peer.loopback, certificate: peer.certificate.as_deref() };
    app.auth().authenticate_by(evidence).await
}

/// Maps the errors of Iceberg routes to the statuses that the specification lists for each operation.
///
/// The error of a change that was certainly not made also gets a status that no client takes for an unknown outcome.
async fn as_listed(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).filter(|route| route.starts_with("/v1/"));
    let Some(route) = route.map(ToOwned::to_owned) else { return next.run(request).await };
    let (method, changes) = (request.method().clone(), idempotency::is_mutation(&request));
    let response = next.run(request).await;
    let Some(error) = response.extensions().get::<ApiError>() else { return response };
    let listed = if changes { error.clone().of_change() } else { error.clone() };
    let listed = listed.listed_for(&method, &route);
    if listed.status() == response.status().as_u16() { response } else { listed.into_response() }
}

/// The principal of a request, as [`authenticate`] added it.
type Caller = Extension<Principal>;

/// Counts, times and logs every request. The response has the id of the request in `x-request-id`.
async fn observe(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = uuid::Uuid::now_v7().to_string();
    request.extensions_mut().insert(RequestId(id.clone()));
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let method = request.method().to_string();
    let path = trace::shown_path(request.uri().path());
    let span = tracing::info_span!(
        "request",
        otel.kind = "server",
        otel.status_code = Empty,
        request_id = id,
        trace_id = Empty,
        method,
        path = &*path,
        status = Empty
    );
    trace::join(&span, request.headers(), format!("{method} {route}"));
    let started = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let (status, elapsed) = (response.status().as_u16(), started.elapsed());
    // OpenTelemetry exports unsigned numbers as text, so the status is signed.
    span.record("status", i64::from(status));
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
    app.inner.metrics.observe(&method, &route, status, elapsed);
    let _entered = span.enter();
    match status {
        500.. => tracing::error!(status, seconds = elapsed.as_secs_f64(), "answered"),
        _ => tracing::debug!(status, seconds = elapsed.as_secs_f64(), "answered"),
    }
    if let Ok(value) = id.parse() {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}
