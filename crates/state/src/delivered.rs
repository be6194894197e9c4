//! What receivers outside were told, so that they are told on change only: the out-box of states, beside that of events.

use std::collections::HashMap;

use esker_types::now_ms;
use sqlx::Row;

use crate::{Result, State};

impl State {
    /// The fingerprint of what a receiver was last told, by subject.
    pub async fn delivered_fingerprints(&self, receiver: &str) -> Result<HashMap<String, String>> {
        let rows = sqlx::query("SELECT subject, fingerprint FROM delivered_state WHERE receiver = $1").bind(receiver);
        let rows = rows.fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Keeps what a receiver was told of some subjects.
    pub async fn record_delivered(&self, receiver: &str, delivered: &[(String, String)]) -> Result<()> {
        let mut tx = self.begin_intent().await?;
        for (subject, fingerprint) in delivered {
            sqlx::query(
                "INSERT INTO delivered_state (receiver, subject, fingerprint, delivered_ms) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (receiver, subject) DO UPDATE SET fingerprint = excluded.fingerprint, delivered_ms = excluded.delivered_ms",
            )
            .bind(receiver)
            .bind(subject)
            .bind(fingerprint)
            .bind(now_ms())
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }
}
