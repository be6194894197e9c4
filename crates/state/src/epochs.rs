//! How often a warehouse was taken care of, and by which database: what tells a restored or copied database from the one that was
//! at work.

use esker_types::Millis;
use uuid::Uuid;

use crate::{Result, State, StateError, Warehouse};

/// What the database knows of a warehouse's epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// The database, as it was made: a copy has the same.
    pub database: String,
    /// This very database: a copy has another.
    pub identity: String,
    /// The epoch that the warehouse was in for certain.
    pub now: i64,
    /// The epoch that it was about to enter.
    pub next: i64,
    /// When the backup was made that this database is, if it is one.
    pub backup_ms: Option<Millis>,
}

const DATABASE: &str = "database";
/// With a warehouse's number: set in a backup, never in the database that it was made of.
pub(crate) const BACKUP: &str = "backup.";

impl State {
    /// The epoch of a warehouse; 0: this database never took care of it.
    pub async fn epoch(&self, warehouse: Warehouse) -> Result<Epoch> {
        let put = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
        sqlx::query(put).bind(DATABASE).bind(Uuid::now_v7().to_string()).execute(&self.writer).await?;
        let value = |key: String| {
            let query = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1").bind(key);
            async { Ok::<Option<String>, StateError>(query.fetch_optional(&self.readers).await?) }
        };
        let database = value(DATABASE.to_owned()).await?.unwrap_or_default();
        let (now, next) = parse(value(key(warehouse)).await?)?;
        let backup_ms = value(format!("{BACKUP}{}", warehouse.id)).await?;
        let corrupt = |_| StateError::Corrupt("not the time of a backup".to_owned());
        let backup_ms = backup_ms.map(|ms| ms.parse::<Millis>().map_err(corrupt)).transpose()?;
        Ok(Epoch { database, identity: self.database.identity(&self.readers).await?, now, next, backup_ms })
    }

    /// From now on this database takes care of a warehouse, and is no backup to it any more.
    pub async fn forget_backup(&self, warehouse: Warehouse) -> Result<()> {
        sqlx::query("DELETE FROM meta WHERE key = $1").bind(format!("{BACKUP}{}", warehouse.id)).execute(&self.writer).await?;
        Ok(())
    }

    /// Records the epoch of a warehouse, and the one that it is about to enter. Neither ever goes back: another server may have gone
    /// further meanwhile.
    pub async fn set_epoch(&self, warehouse: Warehouse, now: i64, next: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        let before = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1").bind(key(warehouse));
        let before = parse(before.fetch_optional(&mut *tx).await?)?;
        let put = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = $2";
        let value = format!("{} {}", now.max(before.0), next.max(before.1));
        sqlx::query(put).bind(key(warehouse)).bind(value).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// The two numbers.
fn parse(value: Option<String>) -> Result<(i64, i64)> {
    let text = value.unwrap_or_else(|| "0 0".to_owned());
    let corrupt = || StateError::Corrupt(format!("not an epoch: {text:?}"));
    let (now, next) = text.split_once(' ').ok_or_else(corrupt)?;
    let number = |text: &str| text.parse::<i64>().map_err(|_| corrupt());
    Ok((number(now)?, number(next)?))
}

fn key(warehouse: Warehouse) -> String {
    format!("epoch.{}", warehouse.id)
}
