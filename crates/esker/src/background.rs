//! Starts the server's background tasks, each under a name and watched by the [`Supervisor`].
//!
//! | task | work |
//! |---|---|
//! | `rest`, `flight` | accept connections and answer requests |
//! | `peers` | takes the commits that other servers send, if the server listens for them |
//! | `certificates-SECTION` | loads the certificates of the ports again when their files change |
//! | `housekeeping`, `heartbeat` | the loops of `housekeeping.rs` |
//! | `observer-WAREHOUSE` | keeps the facts about the warehouse's tables up to date |
//! | `worker`, `job-news` | run jobs, and listen for jobs that other servers enqueued |
//! | `audit` | writes the records of the audit trail to the state database |
//! | `audit-table` | moves them to `system.audit` |
//! | `health-table`, `autopilot` | write `system.table_health`, and decide which jobs pay |
//! | `datahub`, `sink-NAME` | report to DataHub, and deliver events to a sink |
//!
//! A task that panics or returns is logged with its name at once, counted by `esker_background_task_restarts_total`,
//! named by `/readyz`, and started again. Start reading at [`spawn`].

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use esker_autopilot::Autopilot;
use esker_maintenance::{Maintenance, Worker};
use esker_report::deliver;
use esker_rest::{App, Tasks};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{AuditConfig, HealthConfig, MaintenanceConfig};
use crate::events::Receivers;
use crate::housekeeping::HousekeepingOptions;
use crate::peers::PeerPort;
use crate::server::{ClientLimits, Listener, Listeners, Parts, PortListener, Reloader, serve_port};
use crate::supervise::Supervisor;
use crate::{Config, housekeeping};

/// Starts all tasks of a server. They end once `stopped` becomes true.
///
/// Returns the handles of the tasks, and a value that becomes true once the other servers count this one as dead.
pub(crate) fn spawn(
    config: &Config,
    parts: &Parts,
    app: &App,
    listeners: Listeners,
    receivers: Receivers,
    tasks: Tasks,
    stopped: watch::Receiver<bool>,
) -> (Vec<JoinHandle<()>>, watch::Receiver<bool>) {
    let (fenced, lost) = watch::channel(false);
    let mut set = Supervisor::new(tasks, config.debug.failpoint(), stopped.clone());
    let (engine, auth, access) = (parts.engine.clone(), parts.auth.clone(), parts.access.clone());
    let flight = esker_flight::router(engine, auth, access, parts.keys.clone(), parts.limits.clone());
    let limits = config.limits.client_limits();
    spawn_listener(&mut set, "rest", listeners.rest, esker_rest::router(app.clone()), limits, &stopped);
    spawn_listener(&mut set, "flight", listeners.flight, flight, limits, &stopped);
    if let Some(listener) = listeners.peers {
        let (keys, access, own) = (parts.keys.clone(), parts.access.clone(), parts.state.servers().own_id());
        let port = PeerPort::new(keys, access, parts.catalogs.clone(), own);
        spawn_listener(&mut set, "peers", listener, port.router(config.server.max_body_bytes), limits, &stopped);
    }
    spawn_reloaders(&mut set, listeners.reloaders);
    spawn_upkeep_tasks(&mut set, config, parts, fenced, &stopped);
    spawn_job_tasks(&mut set, &config.maintenance, parts, &stopped);
    spawn_health_table(&mut set, &config.health, parts, &stopped);
    spawn_audit_tasks(&mut set, &config.audit, parts, &stopped);
    spawn_receiver_tasks(&mut set, receivers, parts, &stopped);
    (set.into_handles(), lost)
}

/// Starts the task that serves `router` on a listener.
///
/// The first run takes the given listener. A restarted task binds the same address again.
fn spawn_listener(
    set: &mut Supervisor,
    name: &str,
    listener: Listener,
    router: Router,
    limits: ClientLimits,
    stopped: &watch::Receiver<bool>,
) {
    let Listener { socket, address, tls } = listener;
    let (first, stopped) = (Mutex::new(Some(socket)), stopped.clone());
    set.run(name, move || {
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (router, stopped, tls) = (router.clone(), stopped.clone(), tls.clone());
        async move {
            let bound = match first {
                Some(socket) => Ok(socket),
                None => TcpListener::bind(address).await,
            };
            match bound {
                Ok(socket) => serve_port(PortListener::new(socket, tls), router, limits, stopped).await,
                Err(error) => tracing::error!(%address, %error, "can't listen on the address again"),
            }
        }
    });
}

/// Starts the tasks that load certificates again, for the sections whose files are looked at after the start.
fn spawn_reloaders(set: &mut Supervisor, reloaders: Vec<Reloader>) {
    for reloader in reloaders.into_iter().filter(Reloader::reloads) {
        let reloader = Arc::new(reloader);
        set.run_until_stopped(&format!("certificates-{}", reloader.section()), move || {
            let reloader = reloader.clone();
            async move { reloader.run().await }
        });
    }
}

/// Starts the tasks that keep state and warehouses in order: housekeeping, the heartbeat, and an observer for each warehouse.
///
/// `fenced` becomes true once the other servers count this one as dead.
fn spawn_upkeep_tasks(
    set: &mut Supervisor,
    config: &Config,
    parts: &Parts,
    fenced: watch::Sender<bool>,
    stopped: &watch::Receiver<bool>,
) {
    let (database, auth, all) = (parts.state.clone(), parts.auth.clone(), parts.catalogs.clone());
    let (rounds, until) = (HousekeepingOptions::of(config), stopped.clone());
    set.run("housekeeping", move || housekeeping::run(database.clone(), auth.clone(), all.clone(), rounds, until.clone()));
    let (state, dead_after, until) = (parts.state.clone(), config.state.dead_after(), stopped.clone());
    set.run("heartbeat", move || housekeeping::send_heartbeats(state.clone(), dead_after, fenced.clone(), until.clone()));
    for catalog in &parts.catalogs {
        let catalog = catalog.clone();
        let name = format!("observer-{}", catalog.options().warehouse);
        set.run_until_stopped(&name, move || {
            let catalog = catalog.clone();
            async move { catalog.keep_facts_current().await }
        });
    }
}

/// Starts the tasks that enqueue and run jobs. The autopilot runs only if its interval in the configuration is not 0.
fn spawn_job_tasks(set: &mut Supervisor, maintenance: &MaintenanceConfig, parts: &Parts, stopped: &watch::Receiver<bool>) {
    let worker = Worker::new(parts.state.clone(), &parts.maintenance, maintenance.worker_options(), parts.wake.clone());
    let (runs, until) = (worker.clone(), stopped.clone());
    set.run("worker", move || runs.clone().run(until.clone()));
    set.run_until_stopped("job-news", move || worker.clone().listen());
    if let Some(options) = maintenance.autopilot_options() {
        let with_layers =
            |m: &Maintenance| (m.clone(), parts.policy_layers.get(&m.catalog().options().warehouse).cloned().unwrap_or_default());
        let warehouses: Vec<_> = parts.maintenance.iter().map(with_layers).collect();
        let until = stopped.clone();
        set.run("autopilot", move || Autopilot::new(warehouses.clone(), options).run(until.clone()));
    }
}

/// Starts the task that records health in `system.table_health`, if its interval in the configuration is not 0.
fn spawn_health_table(set: &mut Supervisor, health: &HealthConfig, parts: &Parts, stopped: &watch::Receiver<bool>) {
    if let Some(interval) = health.table_interval() {
        let (all, until) = (parts.maintenance.clone(), stopped.clone());
        set.run("health-table", move || housekeeping::record_health(all.clone(), interval, until.clone()));
    }
}

/// Starts the task that writes the records of the audit trail, and the one that moves them to `system.audit`, if that is written.
fn spawn_audit_tasks(set: &mut Supervisor, config: &AuditConfig, parts: &Parts, stopped: &watch::Receiver<bool>) {
    let (audit, until) = (parts.access.audit().clone(), stopped.clone());
    set.run("audit", move || audit.clone().write_records(until.clone()));
    let Some(interval) = config.table_interval() else { return };
    let names = parts.maintenance.iter().map(|warehouse| warehouse.catalog().options().warehouse.as_str());
    let Some(name) = config.warehouse_of(names).map(str::to_owned) else { return };
    let found = parts.maintenance.iter().find(|warehouse| warehouse.catalog().options().warehouse == name);
    if let Some(warehouse) = found.cloned() {
        let (state, days, until) = (parts.state.clone(), config.retention_days, stopped.clone());
        set.run("audit-table", move || {
            housekeeping::move_audit_records(warehouse.clone(), state.clone(), (interval, days), until.clone())
        });
    }
}

/// Starts the tasks that report to DataHub and deliver events to sinks.
fn spawn_receiver_tasks(set: &mut Supervisor, receivers: Receivers, parts: &Parts, stopped: &watch::Receiver<bool>) {
    if let Some(datahub) = receivers.datahub {
        let (state, catalogs, stopped) = (parts.state.clone(), parts.catalogs.clone(), stopped.clone());
        set.run("datahub", move || datahub.clone().run(state.clone(), catalogs.clone(), stopped.clone()));
    }
    for sink in receivers.sinks {
        let name = format!("sink-{}", sink.name());
        let (state, stopped) = (parts.state.clone(), stopped.clone());
        set.run(&name, move || deliver(state.clone(), sink.clone(), stopped.clone()));
    }
}
