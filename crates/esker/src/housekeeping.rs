//! The server's periodic work: sweeping, settling what dead servers left, removing old records, heartbeats, recording health.
//!
//! Each public function is a loop that runs as one task of the `Supervisor`, until the server stops.

use std::time::Duration;

use esker_access::{AUDIT_NAMESPACE, AUDIT_TABLE};
use esker_auth::{AccessControl, Authenticator};
use esker_catalog::deletion::Swept;
use esker_catalog::{Actor, Catalog, CatalogError, deletion};
use esker_maintenance::{JobRequest, JobSpec, Maintenance, MaintenanceError, PRIORITY_SCHEDULED};
use esker_state::{HEARTBEATS_PER_TIMEOUT, State, StateError};
use esker_types::{Coded, DAY_MS, ErrorCode, NamespaceName, TableName, now_ms, to_millis};
use tokio::sync::watch;

use crate::{Config, Result};

/// The options of housekeeping: the time between two rounds, and the times for which a round keeps records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HousekeepingOptions {
    /// The time between two rounds.
    sweep_interval: Duration,
    /// The time for which receipts of requests with an idempotency key are kept.
    receipt_retention: Duration,
    /// The time for which events are kept. An event that a sink has not received yet is kept longer.
    event_retention: Duration,
    /// The time for which the history of tables' health and use is kept.
    health_history: Duration,
    /// The time for which finished jobs are kept.
    job_history: Duration,
    /// The time for which records of the audit trail are kept in the database; `None` if they are moved to the Iceberg table.
    audit_retention: Option<Duration>,
    /// True if this server sends commits to others, and others to it.
    forwards: bool,
}

impl HousekeepingOptions {
    /// Takes the times from the configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let days = |days: u64| Duration::from_secs(days.saturating_mul(24 * 3600));
        Self {
            sweep_interval: config.maintenance.sweep_interval(),
            receipt_retention: Duration::from_secs(config.server.idempotency_seconds),
            event_retention: days(config.events.retention_days),
            health_history: days(config.health.history_days),
            job_history: days(config.maintenance.history_days),
            audit_retention: config.audit.table_interval().is_none().then(|| days(config.audit.retention_days)),
            forwards: config.server.peer_listen.is_some(),
        }
    }
}

/// Runs one round of housekeeping every `maintenance.sweep_seconds`, until the server stops.
///
/// A round ends the undrop period of dropped tables, reclaims files of dead servers, sweeps the quarantine and writes the
/// ledger, for each warehouse. Then it removes old records from the database.
pub(crate) async fn run(
    state: State,
    auth: Authenticator,
    catalogs: Vec<Catalog>,
    rounds: HousekeepingOptions,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        for catalog in &catalogs {
            tidy_warehouse(catalog).await;
        }
        if let Err(error) = remove_old_records(&state, &auth, rounds).await {
            tracing::error!(%error, "old records could not be removed from the database; the next round tries again");
        }
        tokio::select! {
            () = tokio::time::sleep(rounds.sweep_interval) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

/// Writes this server's heartbeat to the database, until the server stops or the other servers count it as dead.
///
/// If the other servers count it as dead, this function sets `fenced`, which makes the server stop.
pub(crate) async fn send_heartbeats(
    state: State,
    dead_after: Duration,
    fenced: watch::Sender<bool>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(dead_after / HEARTBEATS_PER_TIMEOUT) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        match state.servers().heartbeat(dead_after).await {
            Ok(()) => {}
            Err(StateError::Fenced) => {
                tracing::error!("{}", StateError::Fenced);
                fenced.send_replace(true);
                // The server stops now. To return earlier would count as a failure of the task.
                drop(stopped.wait_for(|stop| *stop).await);
                return;
            }
            Err(error) => tracing::warn!(%error, "the heartbeat could not be written; the next one is tried in time"),
        }
    }
}

/// Adds the health of each warehouse's tables to its `system.table_health`, once in `every`, until the server stops.
///
/// Skips a warehouse whose database and storage disagree.
pub(crate) async fn record_health(warehouses: Vec<Maintenance>, every: Duration, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        for warehouse in warehouses.iter().filter(|w| w.catalog().check_epoch().is_ok()) {
            if let Err(error) = esker_query::record_health(warehouse.catalog(), warehouse.reader()).await {
                let warehouse = &warehouse.catalog().options().warehouse;
                tracing::warn!(warehouse, %error, "system.table_health could not be written; the next round tries again");
            }
        }
    }
}

/// Moves the records of the audit trail to `system.audit` of a warehouse, once in the interval, until the server stops.
///
/// The second number is the days for which records are kept there. A round is left out while the warehouse's database and storage
/// disagree: the records stay in the database.
pub(crate) async fn move_audit_records(
    warehouse: Maintenance,
    state: State,
    (every, retention_days): (Duration, u64),
    mut stopped: watch::Receiver<bool>,
) {
    let (catalog, reader) = (warehouse.catalog(), warehouse.reader());
    // The day on which days that are over were removed last, and the jobs of a day were enqueued.
    let mut removed = i64::MIN;
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        if catalog.check_epoch().is_err() {
            continue;
        }
        let today = now_ms().div_euclid(DAY_MS);
        let (is_new_day, moved) = (removed != today, esker_query::move_audit_records(catalog, reader, &state).await);
        let done = match moved {
            Ok(records) if records > 0 => {
                tracing::debug!(records, "records of the audit trail were moved to system.audit");
                Ok(())
            }
            moved => moved.map(|_| ()),
        };
        let done = match done {
            Ok(()) if is_new_day => esker_query::remove_audit_days(catalog, reader, retention_days).await,
            done => done,
        };
        match done {
            Ok(()) if !is_new_day => {}
            Ok(()) => match maintain_audit_table(&warehouse, today).await {
                Ok(()) => removed = today,
                Err(error) => tracing::error!(%error, "no job could be enqueued for system.audit; the next round tries again"),
            },
            // Another server moved them meanwhile.
            Err(error) if error.code() == ErrorCode::CommitConflict => {
                tracing::debug!(%error, "another server moves the audit trail; the next round goes on");
            }
            Err(error) => tracing::error!(%error, "system.audit could not be written; the next round tries again"),
        }
    }
}

/// Enqueues the jobs of a day that keep `system.audit` small: nobody else may start jobs on it, and the autopilot may be off.
///
/// Of several servers, and of several starts on a day, the first one enqueues them.
///
/// # Errors
///
/// Returns [`MaintenanceError::Catalog`] if the table does not exist, and [`MaintenanceError::State`] if the database fails.
async fn maintain_audit_table(warehouse: &Maintenance, day: i64) -> std::result::Result<(), MaintenanceError> {
    let namespace = NamespaceName::new(vec![AUDIT_NAMESPACE.to_owned()]).map_err(CatalogError::from)?;
    let name = TableName::new(namespace, AUDIT_TABLE).map_err(CatalogError::from)?;
    let row = warehouse.catalog().table(&name).await?;
    let requests =
        [JobRequest::Compact(Box::default()), JobRequest::Manifests(Box::default()), JobRequest::Expire(Box::default())];
    for request in requests {
        let order = JobSpec {
            principal: Actor::internal("audit").principal,
            asker: None,
            reason: "Esker maintains the audit trail once a day".to_owned(),
            key: Some(format!("audit/{}/{}/{day}", row.id, request.kind())),
            priority: PRIORITY_SCHEDULED,
            due_ms: 0,
            predicted: None,
            request,
        };
        warehouse.enqueue(row.id, &row.name, order).await?;
    }
    Ok(())
}

/// Does the work of one round for one warehouse. A step that fails is logged and does not stop the others.
async fn tidy_warehouse(catalog: &Catalog) {
    let warehouse = &catalog.options().warehouse;
    catalog.advance_epoch().await;
    if catalog.check_epoch().is_err() {
        // `advance_epoch` has logged the disagreement as an error. Nothing is ended, deleted or written until `esker recover` ran.
        return;
    }
    // Each step runs, even if one before it failed.
    match catalog.expire_drops(now_ms()).await {
        Ok(0) => {}
        Ok(tables) => tracing::info!(warehouse, tables, "the undrop period of dropped tables ended"),
        Err(error) => tracing::error!(warehouse, %error, "dropped tables could not be expired; the next round tries again"),
    }
    match deletion::reclaim_outputs(catalog).await {
        Ok(0) => {}
        Ok(files) => tracing::info!(warehouse, files, "files of dead servers were put into quarantine"),
        Err(error) => tracing::error!(warehouse, %error, "files of dead servers were not reclaimed; the next round tries again"),
    }
    match deletion::sweep(catalog, now_ms()).await {
        // Files of frozen tables stay in quarantine at every sweep. They alone are not worth a log line for each round.
        Ok(swept) if swept == (Swept { held: swept.held, ..Swept::default() }) => {}
        Ok(swept) => tracing::info!(warehouse, ?swept, "quarantine swept"),
        Err(error) => tracing::error!(warehouse, %error, "the quarantine could not be swept; the next round tries again"),
    }
    if let Err(error) = catalog.keep_ledger_current().await {
        tracing::error!(warehouse, %error, "the ledger could not be written; the next round tries again");
    }
}

/// The time for which the servers remember which late commits they merged, for clients that send a request again.
const MERGED_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The time for which receipts of commits are kept that servers sent each other. A sender looks for one within seconds of the commit.
const FORWARDED_RETENTION: Duration = Duration::from_secs(10 * 60);

/// Removes health history, jobs, receipts, tokens, events and records of the audit trail that are older than they are kept.
async fn remove_old_records(state: &State, auth: &Authenticator, rounds: HousekeepingOptions) -> Result<()> {
    let ago = |kept: Duration| now_ms().saturating_sub(to_millis(kept));
    state.fleet().forget(ago(rounds.health_history)).await?;
    state.jobs().forget(ago(rounds.job_history)).await?;
    AccessControl::end_emergencies(state).await?;
    auth.forget_ended().await?;
    if let Some(kept) = rounds.audit_retention {
        state.audit().forget(ago(kept)).await?;
    }
    state.tables().forget_merged(ago(MERGED_RETENTION)).await?;
    if rounds.forwards {
        state.outbox().forget_forwarded(ago(FORWARDED_RETENTION)).await?;
    }
    Ok(state.outbox().forget_old(ago(rounds.receipt_retention), ago(rounds.event_retention)).await?)
}
