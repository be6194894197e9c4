//! Dropped tables that can still be undropped.
//!
//! A soft drop moves the entry of a table from `tabular` to `dropped_table` ([`Tables::drop`]). The entry comes back with
//! [`Tables::undrop`], or ends with [`Tables::end_drop`] when its time is over. Until then its places and files stay as they
//! are.

use esker_types::{Millis, NamespaceName, TableId, TableName, now_ms};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::places::forget_places;
use super::{Tables, insert_tabular};
use crate::access::forget_tabular;
use crate::batch::placeholders;
use crate::quarantine::insert_quarantine;
use crate::{NewQuarantine, NewTabular, Outbox, Result, State, StateError, TabularKind, TabularRow, Warehouse, flag, parse_id};

/// A drop that can be undone for a while.
#[derive(Debug, Clone)]
pub struct SoftDrop {
    /// The client asked to delete the files too. They are quarantined when the time is over.
    pub purge: bool,
    /// The principal that drops the table.
    pub principal: String,
    /// The time until which the table can be undropped, in milliseconds since the Unix epoch.
    pub expires_ms: Millis,
}

/// A table that was dropped and can be undropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedTable {
    /// The catalog entry that the table had. It is not protected.
    pub row: TabularRow,
    /// The files are to be quarantined when the time is over.
    pub purge: bool,
    /// The principal that dropped the table.
    pub dropped_by: String,
    /// The time of the drop, in milliseconds since the Unix epoch.
    pub dropped_ms: Millis,
    /// The time until which the table can be undropped, in milliseconds since the Unix epoch.
    pub expires_ms: Millis,
}

/// Copies an entry into the dropped tables. The caller removes it from the catalog.
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

/// Selects the columns that [`dropped_row`] reads.
const SELECT: &str = "SELECT id, namespace, name, table_uuid, location, metadata_location, owned, purge, dropped_by, dropped_ms,
    expires_ms, warehouse_id FROM dropped_table";

/// Reads a dropped table from the columns of [`SELECT`].
fn dropped_row(row: &AnyRow) -> Result<DroppedTable> {
    let corrupt = |e: esker_types::IdentError| StateError::Corrupt(e.to_string());
    let namespace = NamespaceName::from_key(row.try_get(1)?).map_err(corrupt)?;
    let table = TabularRow {
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

/// Returns the dropped tables that have one of some identifiers, in no particular order. At most [`ROWS`](crate::batch::ROWS) are
/// given.
pub(super) async fn dropped_by_ids(state: &State, ids: &[String]) -> Result<Vec<DroppedTable>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!("{SELECT} WHERE id IN ({})", placeholders(1, ids.len()));
    let query = ids.iter().fold(sqlx::query(sqlx::AssertSqlSafe(sql)), |query, id| query.bind(id));
    query.fetch_all(&state.readers).await?.iter().map(dropped_row).collect()
}

impl Tables<'_> {
    /// Returns the dropped tables of a warehouse, the newest first.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn all_dropped(self, warehouse: Warehouse) -> Result<Vec<DroppedTable>> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE warehouse_id = $1 ORDER BY dropped_ms DESC, id"));
        let rows = sqlx::query(sql).bind(warehouse.id).fetch_all(&self.state.readers).await?;
        rows.iter().map(dropped_row).collect()
    }

    /// Returns the dropped tables of a warehouse whose time was over at `now`, at most `limit`, the longest over first.
    ///
    /// `after` is the end of the page before: the time and the identifier of its last table.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn dropped_until(
        self,
        warehouse: Warehouse,
        now: Millis,
        after: Option<(Millis, TableId)>,
        limit: u32,
    ) -> Result<Vec<DroppedTable>> {
        let (ms, id) = after.map_or((Millis::MIN, String::new()), |(ms, id)| (ms, id.to_string()));
        let sql = format!(
            "{SELECT} WHERE warehouse_id = $1 AND expires_ms <= $2 AND (expires_ms, id) > ($3, $4) ORDER BY expires_ms, id LIMIT $5"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(warehouse.id).bind(now).bind(ms).bind(id).bind(i64::from(limit));
        query.fetch_all(&self.state.readers).await?.iter().map(dropped_row).collect()
    }

    /// Returns one dropped table, or `None` if no dropped table has this identifier.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn dropped(self, id: TableId) -> Result<Option<DroppedTable>> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE id = $1"));
        let row = sqlx::query(sql).bind(id.to_string()).fetch_optional(&self.state.readers).await?;
        row.as_ref().map(dropped_row).transpose()
    }

    /// Puts a dropped table back into the catalog, under the given name.
    ///
    /// # Errors
    ///
    /// - Returns [`NotDropped`](StateError::NotDropped) if the warehouse has no such dropped table,
    ///   [`NoSuchNamespace`](StateError::NoSuchNamespace) if the namespace of the name does not exist, and
    ///   [`AlreadyExists`](StateError::AlreadyExists) if the name is taken.
    /// - Returns [`DuplicateKey`](StateError::DuplicateKey) if another request with the same idempotency key was carried out, and
    ///   [`Corrupt`](StateError::Corrupt) if the entry can't be read.
    /// - Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and
    ///   [`Fenced`](StateError::Fenced), [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn undrop(self, warehouse: Warehouse, id: TableId, name: &TableName, outbox: &Outbox) -> Result<()> {
        let mut tx = self.state.begin().await?;
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE id = $1 AND warehouse_id = $2"));
        let row = sqlx::query(sql).bind(id.to_string()).bind(warehouse.id).fetch_optional(&mut *tx).await?;
        let dropped = dropped_row(&row.ok_or_else(|| StateError::NotDropped(id.to_string()))?)?;
        let row = TabularRow { name: name.clone(), ..dropped.row };
        // The places of the table, the grants on it and its owner are still recorded.
        let new = NewTabular { row, recorded_output: None, replaces: None, places: Vec::new(), claims: Vec::new(), owner: None };
        insert_tabular(&mut tx, warehouse, &new).await?;
        // By its time of creation, Esker tells files of the table from older ones of another catalog.
        for sql in [
            "UPDATE tabular SET created_ms = (SELECT created_ms FROM dropped_table WHERE id = $1) WHERE id = $1",
            "DELETE FROM dropped_table WHERE id = $1",
        ] {
            sqlx::query(sql).bind(id.to_string()).execute(&mut *tx).await?;
        }
        outbox.insert(&mut tx).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(())
    }

    /// Removes a dropped table for good, and quarantines the given files, in one transaction.
    ///
    /// Returns false if the table was undropped meanwhile; then nothing is changed.
    ///
    /// # Errors
    ///
    /// Returns [`DuplicateKey`](StateError::DuplicateKey) if another request with the same idempotency key was carried out. Returns
    /// [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn end_drop(self, id: TableId, quarantines: &[NewQuarantine], outbox: &Outbox) -> Result<bool> {
        let mut tx = self.state.begin().await?;
        let done = sqlx::query("DELETE FROM dropped_table WHERE id = $1").bind(id.to_string()).execute(&mut *tx).await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        insert_quarantine(&mut tx, quarantines).await?;
        forget_places(&mut tx, id).await?;
        forget_tabular(&mut tx, id).await?;
        outbox.insert(&mut tx).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(true)
    }
}
