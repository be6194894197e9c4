//! What the server does by itself at regular times.

use std::time::Duration;

use esker_catalog::{Catalog, deletion};
use esker_maintenance::Maintenance;
use esker_state::{State, StateError};
use esker_types::{Millis, now_ms};
use tokio::sync::watch;

use crate::{Config, Result};

/// Signs of life in the time after which a server is taken for dead.
const BEATS: u32 = 10;

/// Reclaims what dead servers left behind, sweeps the quarantine, ends the time of dropped tables and forgets old receipts and events, until told to stop.
pub(crate) async fn run(catalogs: Vec<Catalog>, config: Config, mut stopped: watch::Receiver<bool>) {
    let every = Duration::from_secs(config.maintenance.sweep_seconds.max(1));
    loop {
        for catalog in &catalogs {
            let warehouse = &catalog.options().warehouse;
            if let Err(error) = keep_house(catalog).await {
                tracing::error!(warehouse, %error, "housekeeping failed; it is tried again");
            }
        }
        if let Some(catalog) = catalogs.first()
            && let Err(error) = forget(catalog, &config).await
        {
            tracing::error!(%error, "old receipts and events could not be forgotten");
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

/// Tells the other servers on the database that this one lives, until told to stop or taken for dead.
pub(crate) async fn live(state: State, dead_after: Duration, fenced: watch::Sender<bool>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(dead_after / BEATS) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        match state.beat(dead_after).await {
            Ok(()) => {}
            Err(StateError::Fenced) => {
                tracing::error!("{}", StateError::Fenced);
                fenced.send_replace(true);
                return;
            }
            Err(error) => tracing::warn!(%error, "the heartbeat could not be written; it is tried again"),
        }
    }
}

/// Writes the health of each warehouse's tables into its `system.table_health`, until told to stop.
pub(crate) async fn record_health(warehouses: Vec<Maintenance>, every: Duration, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        for warehouse in warehouses.iter().filter(|w| w.catalog().check_epoch().is_ok()) {
            if let Err(error) = esker_query::record_health(warehouse.catalog(), warehouse.reader()).await {
                let warehouse = &warehouse.catalog().options().warehouse;
                tracing::warn!(warehouse, %error, "the health of its tables could not be written; it is tried again");
            }
        }
    }
}

async fn keep_house(catalog: &Catalog) -> Result<()> {
    let warehouse = &catalog.options().warehouse;
    catalog.advance_epoch().await;
    if catalog.check_epoch().is_err() {
        // Said already, as an error. Until a person has seen to it, nothing is ended, deleted or written down.
        return Ok(());
    }
    let ended = catalog.end_drops(now_ms()).await?;
    if ended > 0 {
        tracing::info!(warehouse, tables = ended, "the time of dropped tables is over");
    }
    let reclaimed = deletion::reclaim(catalog).await?;
    if reclaimed > 0 {
        tracing::info!(warehouse, files = reclaimed, "files left behind by a server that is gone are being reclaimed");
    }
    let swept = deletion::sweep(catalog, now_ms()).await?;
    if swept.deleted + swept.spared + swept.failed > 0 {
        tracing::info!(warehouse, ?swept, "quarantine swept");
    }
    Ok(catalog.write_ledger().await?)
}

async fn forget(catalog: &Catalog, config: &Config) -> Result<()> {
    let ago = |seconds: u64| now_ms() - Millis::try_from(seconds.saturating_mul(1000)).unwrap_or(Millis::MAX / 2);
    let events = ago(config.events.retention_days.saturating_mul(24 * 3600));
    catalog.state().forget_health(ago(config.health.history_days.saturating_mul(24 * 3600))).await?;
    catalog.state().forget_jobs(ago(config.maintenance.history_days.saturating_mul(24 * 3600))).await?;
    Ok(catalog.state().forget_old(ago(config.server.idempotency_seconds), events).await?)
}
