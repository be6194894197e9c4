use esker_types::{JobId, Millis, NamespaceName, TableId, TableName, now_ms};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};
use uuid::Uuid;

use crate::doomed::insert_dooms;
use crate::{Doom, Result, State, StateError, WarehouseId, parse_id};

/// A table's pointer row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRow {
    /// The catalog entry.
    pub id: TableId,
    /// Its present name.
    pub name: TableName,
    /// The table's own UUID, from its metadata.
    pub table_uuid: Uuid,
    /// The table's location.
    pub location: String,
    /// The current metadata file.
    pub metadata_location: String,
    /// Whether Esker owns the files; false for registered tables until they are claimed.
    pub owned: bool,
}

impl TableRow {
    /// The quarantine record of one of this table's files.
    pub fn doom(&self, path: String, bytes: Option<u64>, reason: &str, job: Option<JobId>, due_ms: Millis) -> Doom {
        Doom {
            path,
            table: self.id,
            table_name: self.name.to_string(),
            table_uuid: self.table_uuid,
            table_location: self.location.clone(),
            job,
            reason: reason.to_owned(),
            bytes,
            due_ms,
        }
    }
}

/// A table to be entered.
#[derive(Debug, Clone)]
pub struct NewTable {
    /// The entry.
    pub row: TableRow,
    /// The intent that the metadata file was recorded under, forgotten in the same transaction.
    pub recorded_output: Option<String>,
}

/// A compare-and-swap of a table's pointer with what belongs in the same transaction.
#[derive(Debug, Clone)]
pub struct Swap {
    /// The table.
    pub id: TableId,
    /// The metadata file that must be current.
    pub from: String,
    /// The metadata file that becomes current.
    pub to: String,
    /// The table's location by the new metadata.
    pub location: String,
    /// Files that this commit leaves unreferenced.
    pub dooms: Vec<Doom>,
    /// Recorded outputs that this commit makes part of the table, or that are doomed by it.
    pub settled_outputs: Vec<String>,
}

const SELECT: &str = "SELECT t.id, n.name, t.name, t.table_uuid, t.location, t.metadata_location, t.owned
    FROM iceberg_table t JOIN namespace n ON n.id = t.namespace_id";

fn table_row(row: &SqliteRow) -> Result<TableRow> {
    let corrupt = |e: esker_types::IdentError| StateError::Corrupt(e.to_string());
    let namespace = NamespaceName::from_key(row.try_get(1)?).map_err(corrupt)?;
    Ok(TableRow {
        id: parse_id(row.try_get(0)?)?,
        name: TableName::new(namespace, row.try_get::<String, _>(2)?).map_err(corrupt)?,
        table_uuid: parse_id(row.try_get(3)?)?,
        location: row.try_get(4)?,
        metadata_location: row.try_get(5)?,
        owned: row.try_get(6)?,
    })
}

async fn namespace_id(tx: &mut Transaction<'_, Sqlite>, warehouse: WarehouseId, name: &NamespaceName) -> Result<i64> {
    let id: Option<i64> = sqlx::query_scalar("SELECT id FROM namespace WHERE warehouse_id = ?1 AND name = ?2")
        .bind(warehouse)
        .bind(name.key())
        .fetch_optional(&mut **tx)
        .await?;
    id.ok_or_else(|| StateError::NoSuchNamespace(name.to_string()))
}

impl State {
    /// Enters a table.
    pub async fn insert_table(&self, warehouse: WarehouseId, new: &NewTable) -> Result<()> {
        let row = &new.row;
        let mut tx = self.writer.begin().await?;
        let namespace = namespace_id(&mut tx, warehouse, &row.name.namespace).await?;
        let done = sqlx::query(
            "INSERT INTO iceberg_table
             (id, namespace_id, name, table_uuid, location, metadata_location, owned, created_ms, updated_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8) ON CONFLICT (namespace_id, name) DO NOTHING",
        )
        .bind(row.id.to_string())
        .bind(namespace)
        .bind(&row.name.name)
        .bind(row.table_uuid.to_string())
        .bind(&row.location)
        .bind(&row.metadata_location)
        .bind(row.owned)
        .bind(now_ms())
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Err(StateError::table_exists(&row.name));
        }
        if let Some(path) = &new.recorded_output {
            sqlx::query("DELETE FROM output WHERE path = ?1").bind(path).execute(&mut *tx).await?;
        }
        tx.commit().await.map_err(StateError::Ambiguous)
    }

    /// One table by name.
    pub async fn table(&self, warehouse: WarehouseId, name: &TableName) -> Result<TableRow> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE n.warehouse_id = ?1 AND n.name = ?2 AND t.name = ?3"));
        let row =
            sqlx::query(sql).bind(warehouse).bind(name.namespace.key()).bind(&name.name).fetch_optional(&self.readers).await?;
        table_row(&row.ok_or_else(|| StateError::NoSuchTable(name.to_string()))?)
    }

    /// One table by its entry.
    pub async fn table_by_id(&self, id: TableId) -> Result<Option<TableRow>> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE t.id = ?1"));
        let row = sqlx::query(sql).bind(id.to_string()).fetch_optional(&self.readers).await?;
        row.as_ref().map(table_row).transpose()
    }

    /// Every table of the warehouse.
    pub async fn all_tables(&self, warehouse: WarehouseId) -> Result<Vec<TableRow>> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE n.warehouse_id = ?1 ORDER BY n.name, t.name"));
        let rows = sqlx::query(sql).bind(warehouse).fetch_all(&self.readers).await?;
        rows.iter().map(table_row).collect()
    }

    /// The names of a namespace's tables, by name, after `after`, at most `limit`.
    pub async fn list_tables(
        &self,
        warehouse: WarehouseId,
        namespace: &NamespaceName,
        after: &str,
        limit: u32,
    ) -> Result<Vec<String>> {
        self.namespace(warehouse, namespace).await?;
        let query = sqlx::query_scalar(
            "SELECT t.name FROM iceberg_table t JOIN namespace n ON n.id = t.namespace_id
             WHERE n.warehouse_id = ?1 AND n.name = ?2 AND t.name > ?3 ORDER BY t.name LIMIT ?4",
        )
        .bind(warehouse)
        .bind(namespace.key())
        .bind(after)
        .bind(limit);
        Ok(query.fetch_all(&self.readers).await?)
    }

    /// Swaps the pointer. `Ok(false)` means that another commit came first; [`StateError::Ambiguous`] that nobody knows.
    pub async fn swap_pointer(&self, swap: &Swap) -> Result<bool> {
        let mut tx = self.writer.begin().await?;
        let done = sqlx::query(
            "UPDATE iceberg_table SET metadata_location = ?3, location = ?4, updated_ms = ?5
             WHERE id = ?1 AND metadata_location = ?2",
        )
        .bind(swap.id.to_string())
        .bind(&swap.from)
        .bind(&swap.to)
        .bind(&swap.location)
        .bind(now_ms())
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        insert_dooms(&mut tx, &swap.dooms).await?;
        for path in &swap.settled_outputs {
            sqlx::query("DELETE FROM output WHERE path = ?1").bind(path).execute(&mut *tx).await?;
        }
        tx.commit().await.map_err(StateError::Ambiguous)?;
        Ok(true)
    }

    /// Renames a table, possibly into another namespace.
    pub async fn rename_table(&self, warehouse: WarehouseId, from: &TableName, to: &TableName) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        let source = namespace_id(&mut tx, warehouse, &from.namespace).await?;
        let target = namespace_id(&mut tx, warehouse, &to.namespace).await?;
        let taken: Option<String> = sqlx::query_scalar("SELECT id FROM iceberg_table WHERE namespace_id = ?1 AND name = ?2")
            .bind(target)
            .bind(&to.name)
            .fetch_optional(&mut *tx)
            .await?;
        let done = match taken {
            Some(_) if from != to => return Err(StateError::table_exists(to)),
            _ => {
                sqlx::query("UPDATE iceberg_table SET namespace_id = ?3, name = ?4 WHERE namespace_id = ?1 AND name = ?2")
                    .bind(source)
                    .bind(&from.name)
                    .bind(target)
                    .bind(&to.name)
                    .execute(&mut *tx)
                    .await?
            }
        };
        if done.rows_affected() == 0 {
            return Err(StateError::NoSuchTable(from.to_string()));
        }
        tx.commit().await?;
        Ok(())
    }

    /// Drops a table's entry and, in the same transaction, dooms the files given (for a purge).
    pub async fn drop_table(&self, id: TableId, dooms: &[Doom]) -> Result<bool> {
        let mut tx = self.writer.begin().await?;
        let done = sqlx::query("DELETE FROM iceberg_table WHERE id = ?1").bind(id.to_string()).execute(&mut *tx).await?;
        insert_dooms(&mut tx, dooms).await?;
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Takes a foreign table into Esker's care.
    pub async fn claim_table(&self, id: TableId) -> Result<()> {
        sqlx::query("UPDATE iceberg_table SET owned = 1 WHERE id = ?1").bind(id.to_string()).execute(&self.writer).await?;
        Ok(())
    }
}
