//! Files that somebody could not read: kept until they are read again, or are no longer part of their table.

use std::collections::HashMap;

use esker_types::{Millis, TableId, now_ms};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::{NewEvent, Outbox, Result, State, Warehouse, flag, parse_id};

/// A file of a table's that somebody could not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedFile {
    /// The file.
    pub path: String,
    /// It is gone; else it is there, and not what its metadata says.
    pub missing: bool,
    /// What was met.
    pub error: String,
    /// What met it first: a job, a query.
    pub met_by: String,
    /// When, in milliseconds since the epoch.
    pub first_seen_ms: Millis,
    /// The earlier snapshot that leads to it; none: it is a data or delete file of the current one.
    pub snapshot_id: Option<i64>,
}

fn damaged(row: &AnyRow, first: usize) -> Result<DamagedFile> {
    Ok(DamagedFile {
        path: row.try_get(first)?,
        missing: flag(row, first + 1)?,
        error: row.try_get(first + 2)?,
        met_by: row.try_get(first + 3)?,
        first_seen_ms: row.try_get(first + 4)?,
        snapshot_id: row.try_get(first + 5)?,
    })
}

impl State {
    /// Keeps that a file of a table could not be read, with the event that says so. False if that is known already.
    pub async fn note_damage(&self, table: TableId, file: &DamagedFile, event: NewEvent) -> Result<bool> {
        let mut tx = self.begin().await?;
        let query = sqlx::query(
            "INSERT INTO damaged_file (table_id, path, missing, error, met_by, first_seen_ms, snapshot_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT DO NOTHING",
        )
        .bind(table.to_string())
        .bind(&file.path)
        .bind(i64::from(file.missing))
        .bind(&file.error)
        .bind(&file.met_by)
        .bind(now_ms())
        .bind(file.snapshot_id);
        let new = query.execute(&mut *tx).await?.rows_affected() > 0;
        if new {
            Outbox { events: vec![event], receipts: Vec::new() }.insert(&mut tx).await?;
        }
        tx.commit().await?;
        Ok(new)
    }

    /// Forgets damage that is over, with the event that says so.
    pub async fn forget_damage(&self, table: TableId, paths: &[String], event: NewEvent) -> Result<()> {
        let mut tx = self.begin().await?;
        for path in paths {
            let query = sqlx::query("DELETE FROM damaged_file WHERE table_id = $1 AND path = $2");
            query.bind(table.to_string()).bind(path).execute(&mut *tx).await?;
        }
        Outbox { events: vec![event], receipts: Vec::new() }.insert(&mut tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Damaged files of each table of a warehouse that has any, by path.
    pub async fn damage(&self, warehouse: Warehouse) -> Result<HashMap<TableId, Vec<DamagedFile>>> {
        let rows = sqlx::query(
            "SELECT d.table_id, d.path, d.missing, d.error, d.met_by, d.first_seen_ms, d.snapshot_id FROM damaged_file d
             JOIN tabular t ON t.id = d.table_id JOIN namespace n ON n.id = t.namespace_id
             WHERE n.warehouse_id = $1 ORDER BY d.table_id, d.path",
        )
        .bind(warehouse.id)
        .fetch_all(&self.readers)
        .await?;
        let mut found: HashMap<TableId, Vec<DamagedFile>> = HashMap::new();
        for row in &rows {
            found.entry(parse_id(row.try_get(0)?)?).or_default().push(damaged(row, 1)?);
        }
        Ok(found)
    }

    /// Damaged files of one table, by path.
    pub async fn damage_of(&self, table: TableId) -> Result<Vec<DamagedFile>> {
        let sql =
            "SELECT path, missing, error, met_by, first_seen_ms, snapshot_id FROM damaged_file WHERE table_id = $1 ORDER BY path";
        let rows = sqlx::query(sql).bind(table.to_string()).fetch_all(&self.readers).await?;
        rows.iter().map(|row| damaged(row, 0)).collect()
    }
}
