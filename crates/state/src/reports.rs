use esker_types::{TableId, now_ms};

use crate::health::count_use;
use crate::{Result, State, TableUse};

/// Reports kept for each table.
const KEPT: i64 = 1000;

impl State {
    /// Stores an engine's scan or commit report, counts what it says of the table's use, and drops the oldest beyond what is kept.
    pub async fn insert_report(&self, table: TableId, principal: &str, body: &str, used: Option<&TableUse>) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("INSERT INTO metrics_report (table_id, principal, body, received_ms) VALUES ($1, $2, $3, $4)")
            .bind(table.to_string())
            .bind(principal)
            .bind(body)
            .bind(now_ms())
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "DELETE FROM metrics_report WHERE table_id = $1 AND id <=
             (SELECT id FROM metrics_report WHERE table_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)",
        )
        .bind(table.to_string())
        .bind(KEPT)
        .execute(&mut *tx)
        .await?;
        if let Some(used) = used {
            count_use(&mut tx, table, used).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// A table's newest reports first, as the engines sent them.
    pub async fn reports(&self, table: TableId, limit: u32) -> Result<Vec<String>> {
        let query = sqlx::query_scalar("SELECT body FROM metrics_report WHERE table_id = $1 ORDER BY id DESC LIMIT $2")
            .bind(table.to_string())
            .bind(i64::from(limit));
        Ok(query.fetch_all(&self.readers).await?)
    }
}
