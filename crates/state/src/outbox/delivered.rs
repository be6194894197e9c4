//! The states that receivers outside took, so that a state is sent again only when it changes.
//!
//! This is the outbox of states, next to that of events: for each receiver and subject it holds the fingerprint of the state that
//! was delivered last.

use std::collections::{BTreeMap, HashMap};

use esker_types::now_ms;
use sqlx::Row;

use super::OutboxLog;
use crate::Result;
use crate::batch::{ROWS, values};

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
    /// Of two fingerprints of one subject the last counts.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn record_delivered(self, receiver: &str, delivered: &[(String, String)]) -> Result<()> {
        let now = now_ms();
        // PostgreSQL refuses to change a row twice in one statement. Of two states of a subject the last counts.
        let last: Vec<(&String, &String)> =
            delivered.iter().map(|(s, f)| (s, f)).collect::<BTreeMap<_, _>>().into_iter().collect();
        let mut tx = self.state.begin_relaxed().await?;
        for chunk in last.chunks(ROWS) {
            let sql = format!(
                "INSERT INTO delivered_state (receiver, subject, fingerprint, delivered_ms) VALUES {}
                 ON CONFLICT (receiver, subject) DO UPDATE SET fingerprint = excluded.fingerprint,
                     delivered_ms = excluded.delivered_ms",
                values(chunk.len(), 4)
            );
            let insert = sqlx::query(sqlx::AssertSqlSafe(sql));
            let insert = chunk.iter().fold(insert, |query, (subject, fingerprint)| {
                query.bind(receiver).bind(subject.as_str()).bind(fingerprint.as_str()).bind(now)
            });
            insert.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}
