//! Epochs: numbers that tell a restored or copied database from the one that was at work.
//!
//! The epoch of a warehouse grows in the database and in the warehouse (`_esker/epoch.json`) together. A restored database lags
//! behind. Two identifiers tell a copy: one is copied with the database, the other is that of the very file or cluster.
//! `esker_catalog` compares them.

use esker_types::Millis;
use sqlx::AnyConnection;
use uuid::Uuid;

use super::Warehouses;
use crate::{Result, StateError, Warehouse, seen};

/// The record of a warehouse's epoch in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// The identifier that the database got when it was made. A copy has the same.
    pub database: String,
    /// The identifier of this very file or cluster. A copy has another.
    pub identity: String,
    /// The last epoch that the warehouse certainly entered. 0 if this database never took care of the warehouse.
    pub entered: i64,
    /// The epoch that the warehouse was about to enter. It equals `entered` unless a process was killed in between.
    pub entering: i64,
    /// The time of the backup, in milliseconds since the Unix epoch, if this database is a restored backup. It is the time of the
    /// declaration, if a person declared that the database is behind.
    pub backup_ms: Option<Millis>,
}

/// The key of the identifier that is copied with the database.
pub(crate) const DATABASE: &str = "database";
/// The prefix of the key that marks a backup; the number of a warehouse follows.
///
/// It is set in backups, never in the database that a backup is made of, and where a person declared that a database is behind.
pub(crate) const BACKUP: &str = "backup.";
/// The key of the time at which the database was last marked as a backup or declared to be behind. It never goes back.
///
/// It stays when the marks of the warehouses are removed. Each server compares it with the time that it saw last.
pub(crate) const BEHIND: &str = "behind";

impl Warehouses<'_> {
    /// Returns the epoch of a warehouse. Gives the database its identifier if it has none.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails, [`File`](StateError::File) if the
    /// SQLite file is gone or its metadata can't be read. Returns [`Corrupt`](StateError::Corrupt) if the stored epoch or time of
    /// the backup can't be read.
    pub async fn epoch(self, warehouse: Warehouse) -> Result<Epoch> {
        let mut connection = self.state.writer.acquire().await?;
        let database = database_id(&mut connection).await?;
        drop(connection);
        let value = |key: String| {
            let query = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1").bind(key);
            async { Ok::<Option<String>, StateError>(query.fetch_optional(&self.state.readers).await?) }
        };
        let (now, next) = parse(value(key(warehouse)).await?)?;
        let backup_ms = value(format!("{BACKUP}{}", warehouse.id)).await?;
        let corrupt = |_| StateError::Corrupt("not the time of a backup".to_owned());
        let backup_ms = backup_ms.map(|ms| ms.parse::<Millis>().map_err(corrupt)).transpose()?;
        Ok(Epoch {
            database,
            identity: self.state.database.identity(&self.state.readers).await?,
            entered: now,
            entering: next,
            backup_ms,
        })
    }

    /// Records that the database may have lost transactions, as if it were a restored backup, for all warehouses.
    ///
    /// A running server takes note with its next change or heartbeat.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Full`](StateError::Full) or
    /// [`Sql`](StateError::Sql) if the database fails.
    pub async fn declare_behind(self) -> Result<()> {
        let mut tx = self.state.database.begin_exclusive(&self.state.writer).await?;
        seen::declare_behind(&mut tx).await?;
        tx.commit().await.map_err(StateError::of_commit)
    }

    /// Removes the mark of a backup for a warehouse: from now on this database takes care of the warehouse.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    pub async fn forget_backup(self, warehouse: Warehouse) -> Result<()> {
        sqlx::query("DELETE FROM meta WHERE key = $1")
            .bind(format!("{BACKUP}{}", warehouse.id))
            .execute(&self.state.writer)
            .await?;
        Ok(())
    }

    /// Records the epoch of a warehouse, and the one that it is about to enter.
    ///
    /// Neither ever goes back: a number is not changed if another server has recorded a higher one.
    ///
    /// # Errors
    ///
    /// Returns [`Corrupt`](StateError::Corrupt) if the stored epoch can't be read. Returns [`Fenced`](StateError::Fenced) if the
    /// other servers count this one as dead, and [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    pub async fn set_epoch(self, warehouse: Warehouse, now: i64, next: i64) -> Result<()> {
        let mut tx = self.state.begin().await?;
        let before = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1").bind(key(warehouse));
        let before = parse(before.fetch_optional(&mut *tx).await?)?;
        let put = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = $2";
        let value = format!("{} {}", now.max(before.0), next.max(before.1));
        sqlx::query(put).bind(key(warehouse)).bind(value).execute(&mut *tx).await?;
        self.state.commit(tx).await?;
        Ok(())
    }
}

/// Returns the identifier that a database got when it was made. Gives it one if it has none.
///
/// # Errors
///
/// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
pub(crate) async fn database_id(connection: &mut AnyConnection) -> Result<String> {
    let put = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
    sqlx::query(put).bind(DATABASE).bind(Uuid::now_v7().to_string()).execute(&mut *connection).await?;
    Ok(sqlx::query_scalar("SELECT value FROM meta WHERE key = $1").bind(DATABASE).fetch_one(connection).await?)
}

/// Reads the two numbers of an epoch. Both are 0 without a value.
fn parse(value: Option<String>) -> Result<(i64, i64)> {
    let text = value.unwrap_or_else(|| "0 0".to_owned());
    let corrupt = || StateError::Corrupt(format!("not an epoch: {text:?}"));
    let (now, next) = text.split_once(' ').ok_or_else(corrupt)?;
    let number = |text: &str| text.parse::<i64>().map_err(|_| corrupt());
    Ok((number(now)?, number(next)?))
}

/// Returns the key of the epoch of a warehouse.
fn key(warehouse: Warehouse) -> String {
    format!("epoch.{}", warehouse.id)
}
