use esker_types::TableId;
use sqlx::{Any, Row, Transaction};
use uuid::Uuid;

use crate::{Result, State, Warehouse, parse_id};

/// Records where a table or view has files from now on. What it had before stays recorded.
pub(crate) async fn insert_places(tx: &mut Transaction<'_, Any>, id: TableId, places: &[String]) -> Result<()> {
    for place in places {
        sqlx::query("INSERT INTO place (table_id, location) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(id.to_string())
            .bind(place)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// An entry takes another's place. If both are of one table, it has what the other had.
pub(crate) async fn inherit_places(tx: &mut Transaction<'_, Any>, from: TableId, to: TableId, uuid: Uuid) -> Result<()> {
    sqlx::query(
        "INSERT INTO place (table_id, location)
         SELECT $2, p.location FROM place p JOIN tabular t ON t.id = p.table_id WHERE t.id = $1 AND t.table_uuid = $3",
    )
    .bind(from.to_string())
    .bind(to.to_string())
    .bind(uuid.to_string())
    .execute(&mut **tx)
    .await?;
    forget_places(tx, from).await
}

/// Of an entry that is gone for good. While files of it wait for their deletion, its places stay: that is where they may lie.
pub(crate) async fn forget_places(tx: &mut Transaction<'_, Any>, id: TableId) -> Result<()> {
    sqlx::query(
        "DELETE FROM place WHERE table_id = $1
         AND NOT EXISTS (SELECT 1 FROM quarantine WHERE table_id = $1 AND state IN ('quarantined', 'deleting'))",
    )
    .bind(id.to_string())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

impl State {
    /// Where the tables and views of a warehouse have files, or had them. Dropped ones that can be brought back are among them.
    pub async fn places(&self, warehouse: Warehouse) -> Result<Vec<(TableId, String)>> {
        let query = sqlx::query(
            "SELECT p.table_id, p.location FROM place p
             WHERE p.table_id IN (SELECT t.id FROM tabular t JOIN namespace n ON n.id = t.namespace_id WHERE n.warehouse_id = $1)
                OR p.table_id IN (SELECT d.id FROM dropped_table d WHERE d.warehouse_id = $1)
             ORDER BY p.table_id, p.location",
        );
        let rows = query.bind(warehouse.id).fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((parse_id(row.try_get(0)?)?, row.try_get(1)?))).collect()
    }

    /// Where one table or view has files, or had them. Of one that is gone for good, while files of it wait for their deletion.
    pub async fn places_of(&self, table: TableId) -> Result<Vec<String>> {
        let query =
            sqlx::query_scalar("SELECT location FROM place WHERE table_id = $1 ORDER BY location").bind(table.to_string());
        Ok(query.fetch_all(&self.readers).await?)
    }
}
