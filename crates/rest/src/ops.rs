//! For load balancers and supervisors. Neither route asks for a principal.

use axum::extract::State;

use crate::{ApiError, App};
use esker_types::ErrorCode;

/// The process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Requests can be served: the state database and the storage of every warehouse answer, and the server is not draining.
///
/// A background task that keeps failing is told in the answer, and does not make the server unready: it answers requests all the same,
/// and every replica would fail for the same table.
pub(crate) async fn readyz(State(app): State<App>) -> Result<String, ApiError> {
    let unavailable = |what: String| ApiError::new(ErrorCode::Unavailable, what);
    if app.is_draining() {
        return Err(unavailable("the server is draining".to_owned()));
    }
    app.state().ping().await.map_err(|e| unavailable(e.to_string()))?;
    for warehouse in app.warehouses() {
        let catalog = warehouse.catalog();
        catalog.check_storage().await.map_err(|e| unavailable(format!("warehouse {}: {e}", catalog.options().warehouse)))?;
    }
    let failing = app.tasks().all().into_iter().filter_map(|(name, task)| Some((name, task.restarts, task.failure?)));
    let told = failing.map(|(name, restarts, why)| format!("degraded: {name} was started again {restarts} times: {why}\n"));
    Ok(format!("ready\n{}", told.collect::<String>()))
}
