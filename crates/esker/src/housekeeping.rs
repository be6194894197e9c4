//! What the server does by itself at regular times.

use std::time::Duration;

use esker_catalog::deletion::Swept;
use esker_catalog::{Catalog, deletion};
use esker_maintenance::Maintenance;
use esker_state::{HEARTBEATS_PER_TIMEOUT, State, StateError};
use esker_types::{Millis, now_ms};
use tokio::sync::watch;

use crate::{Config, Result};

/// Reclaims what dead servers left behind, sweeps the quarantine, ends the time of dropped tables and forgets old receipts and events, until told to stop.
pub(crate) async fn run(catalogs: Vec<Catalog>, config: Config, mut stopped: watch::Receiver<bool>) {
    let every = Duration::from_secs(config.maintenance.sweep_seconds.max(1));
    loop {
        for catalog in &catalogs {
            keep_house(catalog).await;
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
            () = tokio::time::sleep(dead_after / HEARTBEATS_PER_TIMEOUT) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        match state.heartbeat(dead_after).await {
            Ok(()) => {}
            Err(StateError::Fenced) => {
                tracing::error!("{}", StateError::Fenced);
                fenced.send_replace(true);
                // The server stops now.
                drop(stopped.wait_for(|stop| *stop).await);
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

async fn keep_house(catalog: &Catalog) {
    let warehouse = &catalog.options().warehouse;
    catalog.advance_epoch().await;
    if catalog.check_epoch().is_err() {
        // Said already, as an error. Until a person has seen to it, nothing is ended, deleted or written down.
        return;
    }
    // What one of these can't do keeps none of the others from its work.
    match catalog.expire_drops(now_ms()).await {
        Ok(0) => {}
        Ok(tables) => tracing::info!(warehouse, tables, "the time of dropped tables is over"),
        Err(error) => tracing::error!(warehouse, %error, "the time of dropped tables could not be ended; it is tried again"),
    }
    match deletion::reclaim_outputs(catalog).await {
        Ok(0) => {}
        Ok(files) => tracing::info!(warehouse, files, "files left behind by a server that is gone are being reclaimed"),
        Err(error) => tracing::error!(warehouse, %error, "what dead servers left could not be reclaimed; it is tried again"),
    }
    match deletion::sweep(catalog, now_ms()).await {
        // What is held is held again in a minute.
        Ok(swept) if swept == (Swept { held: swept.held, ..Swept::default() }) => {}
        Ok(swept) => tracing::info!(warehouse, ?swept, "quarantine swept"),
        Err(error) => tracing::error!(warehouse, %error, "the quarantine could not be swept; it is tried again"),
    }
    if let Err(error) = catalog.write_ledger().await {
        tracing::error!(warehouse, %error, "the ledger could not be written; it is tried again");
    }
}

async fn forget(catalog: &Catalog, config: &Config) -> Result<()> {
    let ago = |seconds: u64| now_ms() - Millis::try_from(seconds.saturating_mul(1000)).unwrap_or(Millis::MAX / 2);
    let events = ago(config.events.retention_days.saturating_mul(24 * 3600));
    catalog.state().forget_health(ago(config.health.history_days.saturating_mul(24 * 3600))).await?;
    catalog.state().forget_jobs(ago(config.maintenance.history_days.saturating_mul(24 * 3600))).await?;
    Ok(catalog.state().forget_old(ago(config.server.idempotency_seconds), events).await?)
}
