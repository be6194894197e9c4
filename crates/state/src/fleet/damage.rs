//! Damaged files: files of tables that could not be read.
//!
//! A record stays until the file is read again or is no longer part of its table. A file is recorded once, with one event.

use std::collections::HashMap;

use esker_types::{Millis, TableId, now_ms};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::Fleet;
use crate::batch::{ROWS, placeholders};
use crate::{NewEvent, Outbox, Result, Warehouse, flag, parse_id};

/// A file of a table that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedFile {
    /// The URI of the file.
    pub path: String,
    /// The file does not exist. If false, it exists, but does not hold what its metadata says.
    pub missing: bool,
    /// The text of the error.
    pub error: String,
    /// The job or query that met the file first, for people.
    pub first_met_by: String,
    /// The time of the first error, in milliseconds since the Unix epoch. It is set when the file is recorded.
    pub first_seen_ms: Millis,
    /// The earlier snapshot that leads to the file. `None` for a data or delete file of the current snapshot.
    pub snapshot_id: Option<i64>,
}

/// Reads a damaged file from six columns, the first of which is `first`.
fn damaged_file_row(row: &AnyRow, first: usize) -> Result<DamagedFile> {
    Ok(DamagedFile {
        path: row.try_get(first)?,
        missing: flag(row, first + 1)?,
        error: row.try_get(first + 2)?,
        first_met_by: row.try_get(first + 3)?,
        first_seen_ms: row.try_get(first + 4)?,
        snapshot_id: row.try_get(first + 5)?,
    })
}

impl Fleet<'_> {
    /// Records that a file of a table could not be read, with an event, in one transaction.
    ///
    /// Returns false if the file is recorded already; then the event is not written. The time is now, not
    /// [`DamagedFile::first_seen_ms`].
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](crate::StateError::Fenced) if the other servers count this one as dead, and
    /// [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn record_damage(self, table: TableId, file: &DamagedFile, event: NewEvent) -> Result<bool> {
        let mut tx = self.state.begin().await?;
        let query = sqlx::query(
            "INSERT INTO damaged_file (table_id, path, missing, error, met_by, first_seen_ms, snapshot_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT DO NOTHING",
        )
        .bind(table.to_string())
        .bind(&file.path)
        .bind(i64::from(file.missing))
        .bind(&file.error)
        .bind(&file.first_met_by)
        .bind(now_ms())
        .bind(file.snapshot_id);
        let new = query.execute(&mut *tx).await?.rows_affected() > 0;
        if new {
            Outbox { events: vec![event], receipts: Vec::new() }.insert(&mut tx).await?;
        }
        self.state.commit(tx).await?;
        Ok(new)
    }

    /// Removes the records of files that are no longer damaged, with an event, in one transaction.
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](crate::StateError::Fenced) if the other servers count this one as dead, and
    /// [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn forget_damage(self, table: TableId, paths: &[String], event: NewEvent) -> Result<()> {
        let mut tx = self.state.begin().await?;
        for paths in paths.chunks(ROWS) {
            let sql = format!("DELETE FROM damaged_file WHERE table_id = $1 AND path IN ({})", placeholders(2, paths.len()));
            let delete = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(table.to_string());
            paths.iter().fold(delete, |query, path| query.bind(path)).execute(&mut *tx).await?;
        }
        Outbox { events: vec![event], receipts: Vec::new() }.insert(&mut tx).await?;
        self.state.commit(tx).await?;
        Ok(())
    }

    /// Returns the damaged files of a warehouse by table, each list ordered by path.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn damage(self, warehouse: Warehouse) -> Result<HashMap<TableId, Vec<DamagedFile>>> {
        let rows = sqlx::query(
            "SELECT d.table_id, d.path, d.missing, d.error, d.met_by, d.first_seen_ms, d.snapshot_id FROM damaged_file d
             JOIN tabular t ON t.id = d.table_id JOIN namespace n ON n.id = t.namespace_id
             WHERE n.warehouse_id = $1 ORDER BY d.table_id, d.path",
        )
        .bind(warehouse.id)
        .fetch_all(&self.state.readers)
        .await?;
        let mut found: HashMap<TableId, Vec<DamagedFile>> = HashMap::new();
        for row in &rows {
            found.entry(parse_id(row.try_get(0)?)?).or_default().push(damaged_file_row(row, 1)?);
        }
        Ok(found)
    }

    /// Returns the damaged files of one table, ordered by path.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn damage_of(self, table: TableId) -> Result<Vec<DamagedFile>> {
        let sql =
            "SELECT path, missing, error, met_by, first_seen_ms, snapshot_id FROM damaged_file WHERE table_id = $1 ORDER BY path";
        let rows = sqlx::query(sql).bind(table.to_string()).fetch_all(&self.state.readers).await?;
        rows.iter().map(|row| damaged_file_row(row, 0)).collect()
    }
}
