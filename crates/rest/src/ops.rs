//! The probes for load balancers and supervisors. They need no token.

use std::time::{Duration, Instant};

use axum::extract::State;
use esker_types::ErrorCode;
use tokio::sync::Mutex;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::ErrorBody;
use crate::{ApiError, App};

/// The age up to which the result of a check is the answer to a probe.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The last result of a check of what the server needs. One request checks at a time; those that wait get its result.
///
/// Anybody may send probes, and each check asks the database and every storage.
#[derive(Debug, Default)]
pub(crate) struct RecentCheck(Mutex<Option<(Instant, Result<(), String>)>>);

impl RecentCheck {
    /// Returns the result of the last check, or that of `check` if it is too old.
    async fn get(&self, check: impl Future<Output = Result<(), String>>) -> Result<(), String> {
        let mut last = self.0.lock().await;
        if let Some((checked, result)) = &*last
            && checked.elapsed() < MAX_AGE
        {
            return result.clone();
        }
        let result = check.await;
        *last = Some((Instant::now(), result.clone()));
        result
    }
}

/// Checks that the state database and the storage of every warehouse answer.
async fn check_dependencies(app: &App) -> Result<(), String> {
    app.overview().ping().await.map_err(|e| e.to_string())?;
    for warehouse in app.warehouses() {
        let catalog = warehouse.catalog();
        catalog.check_storage().await.map_err(|e| format!("warehouse {}: {e}", catalog.options().warehouse))?;
    }
    Ok(())
}

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
/// can't be used. The database and the storages are asked once a second at most, however many ask for the answer.
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
    app.inner.dependencies.get(check_dependencies(&app)).await.map_err(unavailable)?;
    let failing = app.tasks().all().into_iter().filter_map(|(name, task)| Some((name, task.restarts, task.failure?)));
    let lines = failing.map(|(name, restarts, why)| format!("degraded: {name}: restarts {restarts}, last failure: {why}\n"));
    let broken = app.certificates().all().into_iter().filter_map(|(port, certificate)| Some((port, certificate.failure?)));
    let ports = broken.map(|(port, why)| format!("degraded: certificate of {port}: {why}; the earlier one stays in use\n"));
    let keys = match app.inner.options.keys.is_usable().await {
        true => "",
        false => "degraded: keys: statements of Flight SQL and tasks of scan plans fail; the log says why\n",
    };
    Ok(format!("ready\n{}{keys}", lines.chain(ports).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_probes_are_one_check_until_its_result_is_too_old() {
        let (recent, checks) = (RecentCheck::default(), AtomicUsize::new(0));
        let probe = || {
            recent.get(async {
                tokio::task::yield_now().await;
                checks.fetch_add(1, Ordering::Relaxed);
                Err("no answer".to_owned())
            })
        };
        let answers = futures::future::join_all((0..50).map(|_| probe())).await;
        assert!(answers.iter().all(|answer| *answer == Err("no answer".to_owned())));
        assert_eq!(checks.load(Ordering::Relaxed), 1);
        let earlier = Instant::now().checked_sub(MAX_AGE).expect("a time");
        *recent.0.lock().await = Some((earlier, Ok(())));
        assert_eq!(probe().await, Err("no answer".to_owned()), "it is checked again");
    }
}
