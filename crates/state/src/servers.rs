//! The server processes on one database: their heartbeats, and the fencing of those that are silent.
//!
//! A live server has a row in `instance`. Pending outputs and running jobs name the server that they belong to. Those of a server
//! without a row are abandoned: other servers sweep the files and take over the jobs. `dead_after` is the configured
//! `state.dead_seconds`; times are those of the database's clock.
//!
//! ```text
//!             register              heartbeat, every dead_after / 10
//!   started ───────────▶ live ◀──────────────────────┐
//!                         │ └────────────────────────┘
//!                         │
//!                         ├── close ─────────────────────────▶ stopped   (the server removes its own row)
//!                         │
//!                         └── no heartbeat for dead_after ───▶ dead      (another server removes the row)
//!                                                               │
//!                                                               └─▶ fenced: its next heartbeat or change returns
//!                                                                   `StateError::Fenced`, and the process ends
//! ```
//!
//! While the database is away, no server can write a heartbeat. So a server that could not write one for long, or that finds only
//! silent servers at its start, first gives the others two heartbeats of time.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use esker_types::{Millis, to_millis};
use uuid::Uuid;

use crate::seen::all_rows;
use crate::warehouses::BEHIND;
use crate::{Result, State, StateError};

/// The number of heartbeats in the time after which a silent server counts as dead.
pub const HEARTBEATS_PER_TIMEOUT: u32 = 10;

/// The heartbeats of this process, by the clock of the database.
#[derive(Debug, Default)]
pub(crate) struct Heartbeats {
    /// The time of the last heartbeat, in milliseconds since the Unix epoch.
    pub(crate) last_ms: AtomicI64,
    /// The time from which on this process may count others as dead, in milliseconds since the Unix epoch.
    remove_from_ms: AtomicI64,
}

/// Returns the time in which every live server that reaches the database writes a heartbeat: two intervals.
fn heartbeat_grace(dead_after: Duration) -> Duration {
    dead_after / HEARTBEATS_PER_TIMEOUT * 2
}

/// The handle for the server processes on the database.
#[derive(Debug, Clone, Copy)]
pub struct Servers<'a> {
    pub(crate) state: &'a State,
}

impl Servers<'_> {
    /// Returns the identifier of this process, with which its pending outputs and jobs are marked. It is new at each start.
    pub fn own_id(self) -> Uuid {
        self.state.instance
    }

    /// Remembers in a file which changes the database confirmed, beyond the end of this process. Reads what the file says first.
    ///
    /// Each server has a file of its own, in its data directory.
    ///
    /// # Errors
    ///
    /// Returns [`File`](StateError::File) if the file can't be read. One that can't be parsed is replaced.
    pub fn remember_in(self, file: &Path) -> Result<()> {
        self.state.seen.remember_in(file)
    }

    /// Declares the database to be behind, if it lost changes that the file of [`Servers::remember_in`] says were confirmed.
    ///
    /// A registered process does so with its heartbeats and changes.
    ///
    /// # Errors
    ///
    /// Returns [`Corrupt`](StateError::Corrupt) if what is known of earlier changes can't be read. Returns
    /// [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Full`](StateError::Full) or
    /// [`Sql`](StateError::Sql) if the database fails.
    pub async fn note_losses(self) -> Result<()> {
        if self.state.remembers() {
            self.state.note_losses().await?;
            self.state.seen.save().await;
        }
        Ok(())
    }

    /// Returns the number of times that this process learnt that the database is behind of what was confirmed.
    ///
    /// It learns that from its own memory or from a declaration. `None` while it takes note, which lasts as long as a transaction.
    /// Nothing is read.
    pub fn losses(self) -> Option<u64> {
        self.state.seen.losses()
    }

    /// Adds this process to the live servers, and removes the dead ones. Notices what the database lost since the process before.
    ///
    /// On SQLite the data directory is locked, so all other processes are dead. If all others have been silent for `dead_after`,
    /// the database may have been away: then this waits for their heartbeats first.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails; the process may be registered then.
    /// Returns [`Fenced`](StateError::Fenced) if the process was registered before and the other servers count it as dead. Returns
    /// [`Corrupt`](StateError::Corrupt) if what is known of earlier changes can't be read.
    pub async fn register(self, dead_after: Duration) -> Result<()> {
        let mut tx = self.state.begin().await?;
        if !self.state.database.is_postgres() {
            sqlx::query("DELETE FROM instance").execute(&mut *tx).await?;
        }
        let clock = self.state.database.clock_sql();
        let count = sqlx::AssertSqlSafe(format!(
            "SELECT count(*), CAST(coalesce(sum(CASE WHEN seen_ms < {clock} - $1 THEN 1 ELSE 0 END), 0) AS BIGINT) FROM instance"
        ));
        let (others, silent): (i64, i64) = sqlx::query_as(count).bind(to_millis(dead_after)).fetch_one(&mut *tx).await?;
        let insert = sqlx::AssertSqlSafe(format!(
            "INSERT INTO instance (id, started_ms, seen_ms) VALUES ($1, {clock}, {clock}) RETURNING seen_ms"
        ));
        let now: Millis = sqlx::query_scalar(insert).bind(self.state.instance.to_string()).fetch_one(&mut *tx).await?;
        let settled = self.state.settle(&mut tx).await?;
        tx.commit().await?;
        self.state.seen.adopt(settled);
        self.state.seen.save().await;
        self.state.heartbeats.last_ms.store(now, Ordering::Release);
        self.state.registered.store(true, Ordering::Release);
        if others > 0 && silent == others {
            tokio::time::sleep(heartbeat_grace(dead_after)).await;
        }
        self.remove_dead(dead_after).await
    }

    /// Writes the heartbeat of this process, and removes dead servers. Notices what the database lost since the last one.
    ///
    /// A process whose own last heartbeat is old knows that the others may not have reached the database either. It gives them time
    /// to write one before it removes any.
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](StateError::Fenced) if the other servers count this one as dead, or it was never registered. Returns
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the heartbeat could not be written or the dead servers could not
    /// be removed.
    pub async fn heartbeat(self, dead_after: Duration) -> Result<()> {
        let (clock, before) = (self.state.database.clock_sql(), self.state.seen_before());
        // In the transaction of the heartbeat, so that whatever is between server and database asks no standby.
        let mut tx = self.state.begin_relaxed().await?;
        let sql = sqlx::AssertSqlSafe(format!(
            "UPDATE instance SET seen_ms = {clock} WHERE id = $1 RETURNING seen_ms, (SELECT value FROM meta WHERE key = $2)"
        ));
        let query = sqlx::query_as(sql).bind(self.state.instance.to_string()).bind(BEHIND);
        let row: Option<(Millis, Option<String>)> = query.fetch_optional(&mut *tx).await?;
        let (now, behind) = row.ok_or(StateError::Fenced)?;
        let rows = all_rows(&mut tx, clock).await?;
        tx.commit().await?;
        if let Err(error) = self.state.compare_heartbeat(&before, behind, rows).await {
            tracing::error!(%error, "what the database confirmed can't be compared; the next heartbeat tries again");
        }
        self.state.seen.save_soon();
        if now - self.state.heartbeats.last_ms.swap(now, Ordering::AcqRel) > to_millis(dead_after / 2) {
            self.state.heartbeats.remove_from_ms.store(now + to_millis(heartbeat_grace(dead_after)), Ordering::Release);
        }
        match now < self.state.heartbeats.remove_from_ms.load(Ordering::Acquire) {
            true => Ok(()),
            false => self.remove_dead(dead_after).await,
        }
    }

    /// Removes the servers without a heartbeat for `dead_after`. From then on they can change nothing.
    async fn remove_dead(self, dead_after: Duration) -> Result<()> {
        let sql = sqlx::AssertSqlSafe(format!("DELETE FROM instance WHERE seen_ms < {} - $1", self.state.database.clock_sql()));
        sqlx::query(sql).bind(to_millis(dead_after)).execute(&self.state.relaxed_writer).await?;
        Ok(())
    }

    /// Returns the number of live servers on this database, this one included.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    pub async fn count_live(self) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM instance").fetch_one(&self.state.readers).await?)
    }

    /// Removes this process from the live servers, if it is registered. Called when the process ends.
    pub(crate) async fn unregister(self) -> Result<()> {
        if self.state.registered.swap(false, Ordering::AcqRel) {
            sqlx::query("DELETE FROM instance WHERE id = $1")
                .bind(self.state.instance.to_string())
                .execute(&self.state.relaxed_writer)
                .await?;
        }
        Ok(())
    }
}
