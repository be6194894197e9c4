use esker_types::{Millis, NamespaceName, TableId, TableName, now_ms};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use crate::places::forget_places;
use crate::quarantine::insert_quarantine;
use crate::tables::insert_tabular;
use crate::{NewQuarantine, NewTabular, Outbox, Result, State, StateError, TableRow, TabularKind, Warehouse, flag, parse_id};

/// How a table is dropped so that it can be brought back.
#[derive(Debug, Clone)]
pub struct SoftDrop {
    /// The client asked for the files to go as well; they do when the time is over.
    pub purge: bool,
    /// Who dropped it.
    pub principal: String,
    /// Until when it can be brought back.
    pub expires_ms: Millis,
}

/// A table that was dropped and can be brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedTable {
    /// The entry that it had.
    pub row: TableRow,
    /// Its files go when the time is over.
    pub purge: bool,
    /// Who dropped it.
    pub dropped_by: String,
    /// When.
    pub dropped_ms: Millis,
    /// Until when it can be brought back.
    pub expires_ms: Millis,
}

pub(crate) async fn insert_dropped(tx: &mut Transaction<'_, Any>, id: TableId, drop: &SoftDrop) -> Result<()> {
    sqlx::query(
        "INSERT INTO dropped_table (id, warehouse_id, namespace, name, table_uuid, location, metadata_location, owned,
                                    created_ms, purge, dropped_by, dropped_ms, expires_ms)
         SELECT t.id, n.warehouse_id, n.name, t.name, t.table_uuid, t.location, t.metadata_location, t.owned,
                t.created_ms, $2, $3, $4, $5
         FROM tabular t JOIN namespace n ON n.id = t.namespace_id WHERE t.id = $1",
    )
    .bind(id.to_string())
    .bind(i64::from(drop.purge))
    .bind(&drop.principal)
    .bind(now_ms())
    .bind(drop.expires_ms)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

const SELECT: &str = "SELECT id, namespace, name, table_uuid, location, metadata_location, owned, purge, dropped_by, dropped_ms,
    expires_ms, warehouse_id FROM dropped_table";

fn dropped_row(row: &AnyRow) -> Result<DroppedTable> {
    let corrupt = |e: esker_types::IdentError| StateError::Corrupt(e.to_string());
    let namespace = NamespaceName::from_key(row.try_get(1)?).map_err(corrupt)?;
    let table = TableRow {
        id: parse_id(row.try_get(0)?)?,
        warehouse: row.try_get(11)?,
        kind: TabularKind::Table,
        name: TableName::new(namespace, row.try_get::<String, _>(2)?).map_err(corrupt)?,
        table_uuid: parse_id(row.try_get(3)?)?,
        location: row.try_get(4)?,
        metadata_location: row.try_get(5)?,
        owned: flag(row, 6)?,
        protected: false,
    };
    Ok(DroppedTable {
        row: table,
        purge: flag(row, 7)?,
        dropped_by: row.try_get(8)?,
        dropped_ms: row.try_get(9)?,
        expires_ms: row.try_get(10)?,
    })
}

impl State {
    /// The warehouse's dropped tables, the newest first.
    pub async fn dropped_tables(&self, warehouse: Warehouse) -> Result<Vec<DroppedTable>> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE warehouse_id = $1 ORDER BY dropped_ms DESC, id"));
        let rows = sqlx::query(sql).bind(warehouse.id).fetch_all(&self.readers).await?;
        rows.iter().map(dropped_row).collect()
    }

    /// One dropped table.
    pub async fn dropped_table(&self, id: TableId) -> Result<Option<DroppedTable>> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE id = $1"));
        let row = sqlx::query(sql).bind(id.to_string()).fetch_optional(&self.readers).await?;
        row.as_ref().map(dropped_row).transpose()
    }

    /// Brings a dropped table back as it was, under the name given, which must be free.
    pub async fn undrop_table(&self, warehouse: Warehouse, id: TableId, name: &TableName, along: &Outbox) -> Result<()> {
        let mut tx = self.begin().await?;
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE id = $1 AND warehouse_id = $2"));
        let row = sqlx::query(sql).bind(id.to_string()).bind(warehouse.id).fetch_optional(&mut *tx).await?;
        let dropped = dropped_row(&row.ok_or_else(|| StateError::NotDropped(id.to_string()))?)?;
        let row = TableRow { name: name.clone(), ..dropped.row };
        // Its places were kept with it.
        let new = NewTabular { row, recorded_output: None, replaces: None, places: Vec::new() };
        insert_tabular(&mut tx, warehouse, &new).await?;
        sqlx::query("DELETE FROM dropped_table WHERE id = $1").bind(id.to_string()).execute(&mut *tx).await?;
        along.insert(&mut tx).await?;
        tx.commit().await.map_err(StateError::Ambiguous)?;
        Ok(())
    }

    /// Ends the time of a dropped table and quarantines its files, if they are to go. `false`: it was brought back meanwhile.
    pub async fn end_drop(&self, id: TableId, quarantines: &[NewQuarantine], along: &Outbox) -> Result<bool> {
        let mut tx = self.begin().await?;
        let done = sqlx::query("DELETE FROM dropped_table WHERE id = $1").bind(id.to_string()).execute(&mut *tx).await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        insert_quarantine(&mut tx, quarantines).await?;
        forget_places(&mut tx, id).await?;
        along.insert(&mut tx).await?;
        tx.commit().await.map_err(StateError::Ambiguous)?;
        Ok(true)
    }
}
