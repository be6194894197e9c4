//! Starts the server's background tasks, each under a name and watched by the [`Supervisor`].
//!
//! | task | work |
//! |---|---|
//! | `rest`, `flight` | accept connections and answer requests |
//! | `housekeeping`, `heartbeat` | the loops of `housekeeping.rs` |
//! | `observer-WAREHOUSE` | keeps the facts about the warehouse's tables up to date |
//! | `worker`, `job-news` | run jobs, and listen for jobs that other servers enqueued |
//! | `health-table`, `autopilot` | write `system.table_health`, and decide which jobs pay |

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use esker_autopilot::{Autopilot, AutopilotOptions, Layers};
use esker_catalog::Catalog;
use esker_maintenance::{Maintenance, Worker, WorkerOptions};
use esker_state::State;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use crate::supervise::Supervisor;
use crate::{Config, config, housekeeping};

/// Creates the worker that runs the jobs of all warehouses.
pub(crate) fn worker(config: &Config, state: &State, maintenance: &[Maintenance], wake: Arc<Notify>) -> Worker {
    Worker::new(state.clone(), maintenance, worker_options(&config.maintenance), wake)
}

fn autopilot_options(config: &config::MaintenanceConfig) -> AutopilotOptions {
    AutopilotOptions { interval: Duration::from_secs(config.autopilot_seconds), slots: config.jobs.max(1) * 2 }
}

fn worker_options(config: &config::MaintenanceConfig) -> WorkerOptions {
    WorkerOptions { jobs: config.jobs, attempts: config.attempts, retry: Duration::from_secs(config.retry_seconds) }
}

/// Starts the task that serves `router` on a listener.
///
/// The first run takes the given listener. A restarted task binds the same address again.
pub(crate) fn spawn_listener(
    set: &mut Supervisor,
    name: &str,
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    stopped: &watch::Receiver<bool>,
) {
    let (first, stopped) = (Mutex::new(Some(listener)), stopped.clone());
    set.run(name, move || {
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (router, stopped) = (router.clone(), stopped.clone());
        async move {
            let bound = match first {
                Some(listener) => Ok(listener),
                None => TcpListener::bind(address).await,
            };
            match bound {
                Ok(listener) => serve(listener, router, stopped).await,
                Err(error) => tracing::error!(%address, %error, "can't listen on the address again"),
            }
        }
    });
}

/// Starts the tasks that keep state and warehouses in order: housekeeping, the heartbeat, and an observer for each warehouse.
///
/// `fenced` becomes true once the other servers count this one as dead.
pub(crate) fn spawn_upkeep_tasks(
    set: &mut Supervisor,
    config: &Config,
    state: &State,
    catalogs: &[Catalog],
    fenced: watch::Sender<bool>,
    stopped: &watch::Receiver<bool>,
) {
    let (database, all, own, until) = (state.clone(), catalogs.to_vec(), config.clone(), stopped.clone());
    set.run("housekeeping", move || housekeeping::run(database.clone(), all.clone(), own.clone(), until.clone()));
    let (state, dead_after, until) = (state.clone(), config.dead_after(), stopped.clone());
    set.run("heartbeat", move || housekeeping::send_heartbeats(state.clone(), dead_after, fenced.clone(), until.clone()));
    for catalog in catalogs {
        let catalog = catalog.clone();
        let name = format!("observer-{}", catalog.options().warehouse);
        set.run_until_stopped(&name, move || {
            let catalog = catalog.clone();
            async move { catalog.keep_facts_current().await }
        });
    }
}

/// Starts the tasks that enqueue and run jobs, and the one that records health.
///
/// The autopilot and the health table run only if their intervals in the configuration are not 0.
pub(crate) fn spawn_job_tasks(
    set: &mut Supervisor,
    config: &Config,
    maintenance: &[Maintenance],
    layers: &BTreeMap<String, Layers>,
    worker: &Worker,
    stopped: &watch::Receiver<bool>,
) {
    let (runs, until) = (worker.clone(), stopped.clone());
    set.run("worker", move || runs.clone().run(until.clone()));
    let hears = worker.clone();
    set.run_until_stopped("job-news", move || hears.clone().listen());
    if config.health.table_seconds > 0 {
        let (all, until) = (maintenance.to_vec(), stopped.clone());
        let every = Duration::from_secs(config.health.table_seconds);
        set.run("health-table", move || housekeeping::record_health(all.clone(), every, until.clone()));
    }
    if config.maintenance.autopilot_seconds > 0 {
        let with_layers =
            |m: &Maintenance| (m.clone(), layers.get(&m.catalog().options().warehouse).cloned().unwrap_or_default());
        let warehouses: Vec<_> = maintenance.iter().map(with_layers).collect();
        let (options, until) = (autopilot_options(&config.maintenance), stopped.clone());
        set.run("autopilot", move || Autopilot::new(warehouses.clone(), options).run(until.clone()));
    }
}

/// Serves connections until the server stops; then waits for the requests at work.
async fn serve(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let until = async move {
        // An error means that the sender was dropped, which counts as a stop.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    // Without it, small answers in several packets wait for the client's delayed acknowledgement: about 40 ms a query.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
    });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(until).into_future().await {
        tracing::error!(%error, "the listener failed");
    }
}
