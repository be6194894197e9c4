//! Undos: an undo is a job record of its own, next to the record of the job that it took back.
//!
//! Its key is `undo/` with the identifier of that job. Keys are unique, so a job is undone once.

use esker_types::{JobId, Millis, now_ms};
use serde_json::json;

use super::queue::record_job_event;
use super::{COLUMNS, Jobs, job_row};
use crate::{Job, Result};

/// The name that the record of an undo has in place of a [`JobKind`](esker_types::JobKind). An undo is never queued, planned or
/// run by a worker, so it is not a kind of job.
pub const UNDO: &str = "undo";

impl Jobs<'_> {
    /// Records that a job was taken back, with its outcome as JSON. Returns the identifier of the new record.
    ///
    /// `began_ms` is the start of the undo, in milliseconds since the Unix epoch. Returns `None` if another undo of the job was
    /// recorded first.
    ///
    /// # Errors
    ///
    /// Returns [`Corrupt`](crate::StateError::Corrupt) if `outcome` is not JSON. Returns [`Fenced`](crate::StateError::Fenced) if
    /// the other servers count this one as dead, and [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the
    /// database fails.
    pub async fn record_undo(self, undone: &Job, by: &str, outcome: &str, began_ms: Millis) -> Result<Option<JobId>> {
        let (id, now) = (JobId::fresh(), now_ms());
        let sql = format!(
            "INSERT INTO job (id, warehouse_id, table_id, table_name, kind, principal, reason, key, request, priority, state, due_ms,
                              attempts, instance, outcome, created_ms, started_ms, finished_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 'succeeded', $10, 1, $11, $12, $10, $10, $13)
             ON CONFLICT DO NOTHING RETURNING {COLUMNS}"
        );
        let mut tx = self.state.begin().await?;
        let query = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id.to_string())
            .bind(undone.warehouse)
            .bind(undone.table_id.to_string())
            .bind(&undone.table)
            .bind(UNDO)
            .bind(by)
            .bind(format!("undoes {} {}, as {by} requested", undone.kind, undone.id))
            .bind(format!("{UNDO}/{}", undone.id))
            .bind(json!({UNDO: {"job": undone.id}}).to_string())
            .bind(began_ms)
            .bind(self.state.instance.to_string())
            .bind(outcome)
            .bind(now);
        let Some(row) = query.fetch_optional(&mut *tx).await? else { return Ok(None) };
        record_job_event(&mut tx, &job_row(&row)?).await?;
        self.state.commit(tx).await?;
        Ok(Some(id))
    }
}
