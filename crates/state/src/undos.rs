//! Undos, each as a record of its own beside that of the job that it took back.

use esker_types::{JobId, Millis, now_ms};
use serde_json::json;

use crate::jobs::{COLUMNS, job_row};
use crate::queue::record_job_event;
use crate::{Job, Result, State};

/// The kind of an undo's record.
pub const UNDO: &str = "undo";

impl State {
    /// Records that a job was taken back since a time, and what came of it. None if another undo was recorded first: the key, which
    /// holds the job's id, is there once.
    pub async fn record_undo(&self, undone: &Job, by: &str, outcome: &str, began_ms: Millis) -> Result<Option<JobId>> {
        let (id, now) = (JobId::fresh(), now_ms());
        let sql = format!(
            "INSERT INTO job (id, warehouse_id, table_id, table_name, kind, principal, reason, key, request, priority, state, due_ms,
                              attempts, instance, outcome, created_ms, started_ms, finished_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 'succeeded', $10, 1, $11, $12, $10, $10, $13)
             ON CONFLICT DO NOTHING RETURNING {COLUMNS}"
        );
        let mut tx = self.begin().await?;
        let query = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id.to_string())
            .bind(undone.warehouse)
            .bind(undone.table_id.to_string())
            .bind(&undone.table)
            .bind(UNDO)
            .bind(by)
            .bind(format!("takes {} {} back, as {by} asked", undone.kind, undone.id))
            .bind(format!("{UNDO}/{}", undone.id))
            .bind(json!({UNDO: {"job": undone.id}}).to_string())
            .bind(began_ms)
            .bind(self.instance.to_string())
            .bind(outcome)
            .bind(now);
        let Some(row) = query.fetch_optional(&mut *tx).await? else { return Ok(None) };
        record_job_event(&mut tx, &job_row(&row)?).await?;
        tx.commit().await?;
        Ok(Some(id))
    }
}
