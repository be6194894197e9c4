//! The states that receivers outside took, so that a state is sent again only when it changes.
//!
//! This is the outbox of states, next to that of events: for each receiver and subject it holds the fingerprint of the state that
//! was delivered last.

use std::collections::HashMap;

use esker_types::now_ms;
use sqlx::Row;

use super::OutboxLog;
use crate::Result;

impl OutboxLog<'_> {
    /// Returns the fingerprint of the state that a receiver took last, by subject.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn delivered_fingerprints(self, receiver: &str) -> Result<HashMap<String, String>> {
        let rows = sqlx::query("SELECT subject, fingerprint FROM delivered_state WHERE receiver = $1").bind(receiver);
        let rows = rows.fetch_all(&self.state.readers).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Records subjects with the fingerprints of the states that a receiver took, in one transaction.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn record_delivered(self, receiver: &str, delivered: &[(String, String)]) -> Result<()> {
        let mut tx = self.state.begin_intent().await?;
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
