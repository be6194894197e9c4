//! The header of a backup: what it was made of, by which release, and what it must hold.
//!
//! The header is the one row of the table `backup_header`, which only backups have. A backup of an earlier release has none.

use esker_types::Millis;
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use super::has_table;
use crate::Result;

/// The version of the header's form. A release reads headers up to its own version.
const FORMAT: i64 = 1;

/// The header of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHeader {
    /// The release of Esker that made the backup.
    pub release: String,
    /// The kind of database that it was made of: `sqlite` or `postgres`.
    pub source: String,
    /// The identifier of the database, which every copy of it has. `None`: no server ever worked on the database.
    pub database: Option<String>,
    /// The number of the last migration of the schema.
    pub schema: i64,
    /// The time at which the backup was begun, in milliseconds since the Unix epoch. What was confirmed before is in it.
    pub made_ms: Millis,
    /// The tables of the schema.
    pub tables: Vec<BackupTable>,
}

/// A table in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupTable {
    /// The name of the table.
    pub name: String,
    /// The number of rows.
    pub rows: u64,
    /// The sum of the SHA-256 of all rows, in hexadecimal. It does not depend on their order.
    pub digest: String,
}

impl BackupHeader {
    /// Returns the number of rows of a table; 0 if the backup has no such table.
    pub fn rows(&self, table: &str) -> u64 {
        self.tables.iter().find(|found| found.name == table).map_or(0, |found| found.rows)
    }

    /// Writes the header. One that the database has from a backup that a server was started on is replaced.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the backup can't be written, and
    /// [`Corrupt`](crate::StateError::Corrupt) if the header can't be printed as JSON.
    pub(super) async fn write(&self, connection: &mut AnyConnection) -> Result<()> {
        remove(&mut *connection).await?;
        let create = "CREATE TABLE backup_header (format INTEGER NOT NULL, header TEXT NOT NULL) STRICT";
        sqlx::query(create).execute(&mut *connection).await?;
        let insert = sqlx::query("INSERT INTO backup_header (format, header) VALUES ($1, $2)");
        insert.bind(FORMAT).bind(serde_json::to_string(self)?).execute(connection).await?;
        Ok(())
    }
}

/// Reads the header of a backup; `None` if it is of a release that wrote none, or a plain copy of a database.
///
/// The outer error is that of the database, the inner one the reason for which the header can't be used.
///
/// # Errors
///
/// Returns [`Sql`](crate::StateError::Sql) if the file can't be read.
pub(super) async fn read(connection: &mut AnyConnection) -> Result<std::result::Result<Option<BackupHeader>, String>> {
    if !has_table(&mut *connection, false, "backup_header").await? {
        return Ok(Ok(None));
    }
    let found: Option<(i64, String)> =
        sqlx::query_as("SELECT format, header FROM backup_header").fetch_optional(connection).await?;
    Ok(match found {
        None => Err("its header is missing".to_owned()),
        Some((format, _)) if format > FORMAT => {
            Err(format!("its header has the form {format} of a later release, and this release knows {FORMAT}"))
        }
        Some((_, text)) => serde_json::from_str(&text).map(Some).map_err(|e| format!("its header is damaged: {e}")),
    })
}

/// Removes the header, if there is one.
///
/// # Errors
///
/// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database can't be written.
pub(crate) async fn remove(connection: &mut AnyConnection) -> Result<()> {
    sqlx::query("DROP TABLE IF EXISTS backup_header").execute(connection).await?;
    Ok(())
}
