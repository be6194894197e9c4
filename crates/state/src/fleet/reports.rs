//! The reports of scans and commits that engines send to the REST catalog.
//!
//! Spec: REST, "Metrics Reporting".

use esker_types::{TableId, now_ms};

use super::{Fleet, add_usage};
use crate::{Result, TableUsage};

/// The number of reports that are kept for each table.
const REPORTS_PER_TABLE: i64 = 1000;

impl Fleet<'_> {
    /// Stores an engine's scan or commit report, as JSON, in one transaction.
    ///
    /// Adds its counts to the table's use, if there are any, and removes the oldest reports beyond the 1000 that are kept for a
    /// table.
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](crate::StateError::Fenced) if the other servers count this one as dead, and
    /// [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn insert_report(self, table: TableId, principal: &str, body: &str, used: Option<&TableUsage>) -> Result<()> {
        let mut tx = self.state.begin().await?;
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
        .bind(REPORTS_PER_TABLE)
        .execute(&mut *tx)
        .await?;
        if let Some(used) = used {
            add_usage(&mut tx, &[(table, *used)]).await?;
        }
        self.state.commit(tx).await?;
        Ok(())
    }

    /// Returns a table's reports as the engines sent them, at most `limit`, the newest first.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn reports(self, table: TableId, limit: u32) -> Result<Vec<String>> {
        let query = sqlx::query_scalar("SELECT body FROM metrics_report WHERE table_id = $1 ORDER BY id DESC LIMIT $2")
            .bind(table.to_string())
            .bind(i64::from(limit));
        Ok(query.fetch_all(&self.state.readers).await?)
    }
}
