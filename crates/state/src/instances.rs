//! The server processes on this database. What a process that is gone has begun is finished or swept by the others.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use esker_types::Millis;

use crate::{Result, State, StateError};

/// Signs of life in the time after which a server is taken for dead.
pub const HEARTBEATS: u32 = 10;

/// What this process knows of its own signs of life, by the database's clock.
#[derive(Debug, Default)]
pub(crate) struct Heartbeats {
    /// When it gave the last one.
    pub(crate) last_ms: AtomicI64,
    /// From when on it may take others for dead.
    bury_from_ms: AtomicI64,
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// The time in which everybody who lives and reaches the database gives a sign of life.
fn grace(dead_after: Duration) -> Duration {
    dead_after / HEARTBEATS * 2
}

impl State {
    /// Enters this process among the living. On SQLite, where the data directory is locked, all others are dead.
    ///
    /// Where nobody at all was heard of for so long, the database may have been away: then the others get the time to say that they
    /// live.
    pub async fn register(&self, dead_after: Duration) -> Result<()> {
        let mut tx = self.begin().await?;
        if !self.database.is_postgres() {
            sqlx::query("DELETE FROM instance").execute(&mut *tx).await?;
        }
        let clock = self.database.clock();
        let count = sqlx::AssertSqlSafe(format!(
            "SELECT count(*), CAST(coalesce(sum(CASE WHEN seen_ms < {clock} - $1 THEN 1 ELSE 0 END), 0) AS BIGINT) FROM instance"
        ));
        let (others, silent): (i64, i64) = sqlx::query_as(count).bind(millis(dead_after)).fetch_one(&mut *tx).await?;
        let insert = sqlx::AssertSqlSafe(format!(
            "INSERT INTO instance (id, started_ms, seen_ms) VALUES ($1, {clock}, {clock}) RETURNING seen_ms"
        ));
        let now: Millis = sqlx::query_scalar(insert).bind(self.instance.to_string()).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        self.beats.last_ms.store(now, Ordering::Release);
        self.registered.store(true, Ordering::Release);
        if others > 0 && silent == others {
            tokio::time::sleep(grace(dead_after)).await;
        }
        self.bury(dead_after).await
    }

    /// Says that this process lives; [`StateError::Fenced`] if the others have taken it for dead.
    ///
    /// Who could not say so for a while knows that the others may not have been able to, either: before it takes anybody for dead, it gives
    /// them time to.
    pub async fn heartbeat(&self, dead_after: Duration) -> Result<()> {
        let clock = self.database.clock();
        let sql = sqlx::AssertSqlSafe(format!("UPDATE instance SET seen_ms = {clock} WHERE id = $1 RETURNING seen_ms"));
        let now: Option<Millis> = sqlx::query_scalar(sql).bind(self.instance.to_string()).fetch_optional(&self.intents).await?;
        let now = now.ok_or(StateError::Fenced)?;
        if now - self.beats.last_ms.swap(now, Ordering::AcqRel) > millis(dead_after / 2) {
            self.beats.bury_from_ms.store(now + millis(grace(dead_after)), Ordering::Release);
        }
        match now < self.beats.bury_from_ms.load(Ordering::Acquire) {
            true => Ok(()),
            false => self.bury(dead_after).await,
        }
    }

    /// Takes those for dead that have not been heard of for so long. From then on they can change nothing.
    async fn bury(&self, dead_after: Duration) -> Result<()> {
        let sql = sqlx::AssertSqlSafe(format!("DELETE FROM instance WHERE seen_ms < {} - $1", self.database.clock()));
        sqlx::query(sql).bind(millis(dead_after)).execute(&self.intents).await?;
        Ok(())
    }

    /// How many servers live on this database, this one among them.
    pub async fn servers(&self) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM instance").fetch_one(&self.readers).await?)
    }

    /// Takes this process from among the living, at its end.
    pub(crate) async fn leave(&self) -> Result<()> {
        if self.registered.swap(false, Ordering::AcqRel) {
            sqlx::query("DELETE FROM instance WHERE id = $1").bind(self.instance.to_string()).execute(&self.intents).await?;
        }
        Ok(())
    }
}
