//! What the server does by itself at regular times.

use std::time::Duration;

use esker_catalog::{Catalog, deletion};
use esker_types::{Millis, now_ms};
use tokio::sync::watch;

use crate::{Config, Result};

/// Sweeps the quarantine, ends the time of dropped tables and forgets old receipts and events, until told to stop.
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

async fn keep_house(catalog: &Catalog) -> Result<()> {
    let warehouse = &catalog.options().warehouse;
    let ended = catalog.end_drops(now_ms()).await?;
    if ended > 0 {
        tracing::info!(warehouse, tables = ended, "the time of dropped tables is over");
    }
    let swept = deletion::sweep(catalog, now_ms()).await?;
    if swept.deleted + swept.spared + swept.failed > 0 {
        tracing::info!(warehouse, ?swept, "quarantine swept");
    }
    Ok(())
}

async fn forget(catalog: &Catalog, config: &Config) -> Result<()> {
    let ago = |seconds: u64| now_ms() - Millis::try_from(seconds.saturating_mul(1000)).unwrap_or(Millis::MAX / 2);
    let events = ago(config.events.retention_days.saturating_mul(24 * 3600));
    Ok(catalog.state().forget_old(ago(config.server.idempotency_seconds), events).await?)
}
