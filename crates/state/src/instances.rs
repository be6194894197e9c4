//! The server processes on this database. What a process that is gone has begun is finished or swept by the others.

use std::sync::atomic::Ordering;
use std::time::Duration;

use esker_types::Millis;

use crate::{Result, State, StateError};

impl State {
    /// Enters this process among the living. On SQLite, where the data directory is locked, all others are dead.
    pub async fn register(&self, dead_after: Duration) -> Result<()> {
        let mut tx = self.begin().await?;
        if !self.database.is_postgres() {
            sqlx::query("DELETE FROM instance").execute(&mut *tx).await?;
        }
        let sql = sqlx::AssertSqlSafe(format!(
            "INSERT INTO instance (id, started_ms, seen_ms) VALUES ($1, {clock}, {clock})",
            clock = self.database.clock()
        ));
        sqlx::query(sql).bind(self.instance.to_string()).execute(&mut *tx).await?;
        tx.commit().await?;
        self.registered.store(true, Ordering::Release);
        self.bury(dead_after).await
    }

    /// Says that this process lives; [`StateError::Fenced`] if the others have taken it for dead.
    pub async fn beat(&self, dead_after: Duration) -> Result<()> {
        let sql = sqlx::AssertSqlSafe(format!("UPDATE instance SET seen_ms = {} WHERE id = $1", self.database.clock()));
        let done = sqlx::query(sql).bind(self.instance.to_string()).execute(&self.intents).await?;
        if done.rows_affected() == 0 {
            return Err(StateError::Fenced);
        }
        self.bury(dead_after).await
    }

    /// Takes those for dead that have not been heard of for so long. From then on they can change nothing.
    async fn bury(&self, dead_after: Duration) -> Result<()> {
        let sql = sqlx::AssertSqlSafe(format!("DELETE FROM instance WHERE seen_ms < {} - $1", self.database.clock()));
        sqlx::query(sql).bind(Millis::try_from(dead_after.as_millis()).unwrap_or(Millis::MAX)).execute(&self.intents).await?;
        Ok(())
    }

    /// Takes this process from among the living, at its end.
    pub(crate) async fn leave(&self) -> Result<()> {
        if self.registered.swap(false, Ordering::AcqRel) {
            sqlx::query("DELETE FROM instance WHERE id = $1").bind(self.instance.to_string()).execute(&self.intents).await?;
        }
        Ok(())
    }
}
