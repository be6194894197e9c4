//! What receivers outside were told, so that they are told on change only: the out-box of states, beside that of events.

use std::collections::HashMap;

use esker_types::now_ms;
use sqlx::Row;

use crate::{Result, State};

impl State {
    /// The fingerprint of what a receiver was last told, by subject.
    pub async fn told(&self, receiver: &str) -> Result<HashMap<String, String>> {
        let rows = sqlx::query("SELECT subject, fingerprint FROM told WHERE receiver = $1").bind(receiver);
        let rows = rows.fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Keeps what a receiver was told of some subjects.
    pub async fn tell_receiver(&self, receiver: &str, told: &[(String, String)]) -> Result<()> {
        let mut tx = self.begin_intent().await?;
        for (subject, fingerprint) in told {
            sqlx::query(
                "INSERT INTO told (receiver, subject, fingerprint, told_ms) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (receiver, subject) DO UPDATE SET fingerprint = excluded.fingerprint, told_ms = excluded.told_ms",
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
