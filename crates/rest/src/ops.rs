//! The probes for load balancers and supervisors. They need no token.

use axum::extract::State;
use esker_types::ErrorCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::ErrorBody;
use crate::{ApiError, App};

/// Returns the routes of the probes.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz))
}

/// Answers `ok` as long as the process runs.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "isAlive",
    tag = "probes",
    responses((status = 200, description = "The process runs.", body = String)),
    security(())
)]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Answers `ready` if the server can serve requests.
///
/// The state database and the storage of every warehouse must answer, and the server must not be draining. A background task that
/// keeps failing is a line of the answer, but does not make the server unready. The server answers requests all the same, and
/// every replica would fail for the same table. So is a port whose certificate could not be replaced, and so are keys that
/// can't be used.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "isReady",
    tag = "probes",
    responses(
        (
            status = 200,
            description = "`ready`, then a line for each failing background task and each certificate that can't be replaced.",
            body = String
        ),
        (status = 503, description = "The server is draining, or the database or a storage does not answer.", body = ErrorBody)
    ),
    security(())
)]
pub(crate) async fn readyz(State(app): State<App>) -> Result<String, ApiError> {
    let unavailable = |what: String| ApiError::new(ErrorCode::Unavailable, what);
    if app.is_draining() {
        return Err(unavailable("the server is draining".to_owned()));
    }
    app.overview().ping().await.map_err(|e| unavailable(e.to_string()))?;
    for warehouse in app.warehouses() {
        let catalog = warehouse.catalog();
        catalog.check_storage().await.map_err(|e| unavailable(format!("warehouse {}: {e}", catalog.options().warehouse)))?;
    }
    let failing = app.tasks().all().into_iter().filter_map(|(name, task)| Some((name, task.restarts, task.failure?)));
    let lines = failing.map(|(name, restarts, why)| format!("degraded: {name}: restarts {restarts}, last failure: {why}\n"));
    let broken = app.certificates().all().into_iter().filter_map(|(port, certificate)| Some((port, certificate.failure?)));
    let ports = broken.map(|(port, why)| format!("degraded: certificate of {port}: {why}; the earlier one stays in use\n"));
    let keys = match app.inner.options.keys.is_usable().await {
        true => "",
        false => "degraded: keys: statements of Flight SQL and scan plans fail; the log says why\n",
    };
    Ok(format!("ready\n{}{keys}", lines.chain(ports).collect::<String>()))
}
