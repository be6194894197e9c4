use esker_types::{JobId, Millis, TableId, now_ms};
use serde::Serialize;
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::{Result, State, parse_id};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// At work.
    Running,
    /// Done.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Its server went away; its leftovers were reclaimed.
    Interrupted,
}

/// A job about to start.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its identifier.
    pub id: JobId,
    /// Its table.
    pub table: TableId,
    /// The table's name when it began.
    pub table_name: String,
    /// `compact`, `expire`, ...
    pub kind: &'static str,
    /// Who asked for it.
    pub principal: String,
    /// What it is going to do, as JSON.
    pub plan: String,
}

/// A job's record.
#[derive(Debug, Clone, Serialize)]
pub struct Job {
    /// Its identifier.
    pub id: JobId,
    /// The table's name when it began.
    pub table: String,
    /// `compact`, `expire`, ...
    pub kind: String,
    /// Who asked for it.
    pub principal: String,
    /// Where it stands.
    pub state: JobState,
    /// What it set out to do.
    pub plan: serde_json::Value,
    /// What it did.
    pub outcome: Option<serde_json::Value>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it began.
    pub created_ms: Millis,
    /// When it ended.
    pub finished_ms: Option<Millis>,
}

const SELECT: &str = "SELECT id, table_name, kind, principal, state, plan, outcome, error, created_ms, finished_ms FROM job";

fn job_row(row: &AnyRow) -> Result<Job> {
    let outcome: Option<String> = row.try_get(6)?;
    Ok(Job {
        id: parse_id(row.try_get(0)?)?,
        table: row.try_get(1)?,
        kind: row.try_get(2)?,
        principal: row.try_get(3)?,
        state: match row.try_get(4)? {
            "running" => JobState::Running,
            "succeeded" => JobState::Succeeded,
            "failed" => JobState::Failed,
            _ => JobState::Interrupted,
        },
        plan: serde_json::from_str(row.try_get(5)?)?,
        outcome: outcome.map(|o| serde_json::from_str(&o)).transpose()?,
        error: row.try_get(7)?,
        created_ms: row.try_get(8)?,
        finished_ms: row.try_get(9)?,
    })
}

impl State {
    /// Records that a job begins.
    pub async fn start_job(&self, job: &NewJob) -> Result<()> {
        sqlx::query(
            "INSERT INTO job (id, table_id, table_name, kind, principal, instance, state, plan, created_ms)
             VALUES ($1, $2, $3, $4, $5, $6, 'running', $7, $8)",
        )
        .bind(job.id.to_string())
        .bind(job.table.to_string())
        .bind(&job.table_name)
        .bind(job.kind)
        .bind(&job.principal)
        .bind(self.instance.to_string())
        .bind(&job.plan)
        .bind(now_ms())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Records how a job ended.
    pub async fn finish_job(&self, id: JobId, result: std::result::Result<&str, &str>) -> Result<()> {
        sqlx::query("UPDATE job SET state = $2, outcome = $3, error = $4, finished_ms = $5 WHERE id = $1")
            .bind(id.to_string())
            .bind(if result.is_ok() { "succeeded" } else { "failed" })
            .bind(result.ok())
            .bind(result.err())
            .bind(now_ms())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Marks the running jobs of processes that are gone as interrupted; returns how many there were.
    pub async fn interrupt_jobs_of_dead_instances(&self) -> Result<u64> {
        let done = sqlx::query(
            "UPDATE job SET state = 'interrupted', error = 'the server stopped before the job ended', finished_ms = $1
             WHERE state = 'running' AND instance NOT IN (SELECT id FROM instance)",
        )
        .bind(now_ms())
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected())
    }

    /// One job.
    pub async fn job(&self, id: JobId) -> Result<Option<Job>> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE id = $1"));
        let row = sqlx::query(sql).bind(id.to_string()).fetch_optional(&self.readers).await?;
        row.as_ref().map(job_row).transpose()
    }

    /// The newest jobs first, of one table or of all.
    pub async fn jobs(&self, table: Option<TableId>, limit: u32) -> Result<Vec<Job>> {
        let sql =
            sqlx::AssertSqlSafe(format!("{SELECT} WHERE $1 IS NULL OR table_id = $1 ORDER BY created_ms DESC, id DESC LIMIT $2"));
        let rows = sqlx::query(sql).bind(table.map(|t| t.to_string())).bind(i64::from(limit)).fetch_all(&self.readers).await?;
        rows.iter().map(job_row).collect()
    }
}
