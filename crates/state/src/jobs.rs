//! The records of jobs. How they are taken and given back is in [`crate::queue`].

use esker_types::{JobId, Millis, TableId, now_ms};
use serde::Serialize;
use serde_json::Value;
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::{Result, State, parse_id};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waiting for a server, for its table, or for its next attempt.
    Queued,
    /// At work.
    Running,
    /// Done.
    Succeeded,
    /// Ended with an error, and not tried again.
    Failed,
    /// Taken back before it was done.
    Cancelled,
}

impl JobState {
    /// Whether nothing more is going to happen.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// As the database and the API spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    fn parse(text: &str) -> Self {
        let all = [Self::Queued, Self::Running, Self::Succeeded, Self::Cancelled];
        all.into_iter().find(|state| state.as_str() == text).unwrap_or(Self::Failed)
    }
}

/// A job's record.
#[derive(Debug, Clone, Serialize)]
pub struct Job {
    /// Its identifier.
    pub id: JobId,
    /// The number of its warehouse.
    #[serde(skip)]
    pub warehouse: i64,
    /// The number of its table.
    pub table_id: TableId,
    /// The table's name when it was asked for.
    pub table: String,
    /// `compact`, `expire`, ...
    pub kind: String,
    /// Who asked for it.
    pub principal: String,
    /// Why it is there, for people.
    pub reason: String,
    /// What is to be done.
    pub request: Value,
    /// Jobs of higher priority are taken first.
    pub priority: i64,
    /// Where it stands.
    pub state: JobState,
    /// It is not begun before.
    pub due_ms: Millis,
    /// How often it was begun.
    pub attempts: i64,
    /// How often its server died meanwhile.
    pub worker_losses: i64,
    /// The server that it runs or ran on.
    pub server: Option<String>,
    /// The other engine that does it; none: Esker.
    pub engine: Option<String>,
    /// The worker of that engine that has it or had it.
    pub worker: Option<String>,
    /// Until when that worker has it, unless it renews its lease.
    pub lease_ms: Option<Millis>,
    /// What its last attempt set out to do.
    pub plan: Option<Value>,
    /// What the attempts before set out to do.
    pub earlier_plans: Vec<Value>,
    /// Done and total of the work, in the unit of its kind: bytes for a compaction, else files.
    pub progress: (u64, u64),
    /// Who wants it to end.
    pub cancelled_by: Option<String>,
    /// The undo that took it back.
    pub undone_by: Option<JobId>,
    /// What it did.
    pub outcome: Option<Value>,
    /// Why it failed, or its last attempt did.
    pub error: Option<String>,
    /// What it was expected to gain.
    pub predicted: Option<Value>,
    /// What it gained.
    pub measured: Option<Value>,
    /// When it was asked for.
    pub created_ms: Millis,
    /// When it was first begun.
    pub started_ms: Option<Millis>,
    /// When it ended.
    pub finished_ms: Option<Millis>,
}

/// A line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobLine {
    /// When, in milliseconds since the epoch.
    pub time_ms: Millis,
    /// What happened.
    pub text: String,
}

/// Which jobs are asked for.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Of one table.
    pub table: Option<TableId>,
    /// Of one warehouse.
    pub warehouse: Option<i64>,
    /// In one state.
    pub state: Option<String>,
    /// Of one kind.
    pub kind: Option<String>,
}

pub(crate) const COLUMNS: &str = "id, warehouse_id, table_id, table_name, kind, principal, reason, request, priority, state, due_ms, attempts, \
     worker_losses, instance, engine, worker, lease_ms, plan, earlier_plans, done, total, cancelled_by, outcome, error, predicted, measured, created_ms, started_ms, finished_ms, \
     (SELECT undo.id FROM job undo WHERE undo.warehouse_id = job.warehouse_id AND undo.key = 'undo/' || job.id) AS undone_by";

fn value(row: &AnyRow, column: &str) -> Result<Option<Value>> {
    let text: Option<String> = row.try_get(column)?;
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}

fn count(row: &AnyRow, column: &str) -> Result<u64> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
}

pub(crate) fn job_row(row: &AnyRow) -> Result<Job> {
    let earlier = match value(row, "earlier_plans")? {
        Some(Value::Array(plans)) => plans,
        _ => Vec::new(),
    };
    Ok(Job {
        id: parse_id(row.try_get("id")?)?,
        warehouse: row.try_get("warehouse_id")?,
        table_id: parse_id(row.try_get("table_id")?)?,
        table: row.try_get("table_name")?,
        kind: row.try_get("kind")?,
        principal: row.try_get("principal")?,
        reason: row.try_get("reason")?,
        request: value(row, "request")?.unwrap_or_default(),
        priority: row.try_get("priority")?,
        state: JobState::parse(row.try_get("state")?),
        due_ms: row.try_get("due_ms")?,
        attempts: row.try_get("attempts")?,
        worker_losses: row.try_get("worker_losses")?,
        server: row.try_get("instance")?,
        engine: row.try_get("engine")?,
        worker: row.try_get("worker")?,
        lease_ms: row.try_get("lease_ms")?,
        plan: value(row, "plan")?,
        earlier_plans: earlier,
        progress: (count(row, "done")?, count(row, "total")?),
        cancelled_by: row.try_get("cancelled_by")?,
        undone_by: row.try_get::<Option<String>, _>("undone_by")?.map(|id| parse_id(&id)).transpose()?,
        outcome: value(row, "outcome")?,
        error: row.try_get("error")?,
        predicted: value(row, "predicted")?,
        measured: value(row, "measured")?,
        created_ms: row.try_get("created_ms")?,
        started_ms: row.try_get("started_ms")?,
        finished_ms: row.try_get("finished_ms")?,
    })
}

impl State {
    /// One job.
    pub async fn job(&self, id: JobId) -> Result<Option<Job>> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM job WHERE id = $1"));
        let row = sqlx::query(sql).bind(id.to_string()).fetch_optional(&self.readers).await?;
        row.as_ref().map(job_row).transpose()
    }

    /// The newest jobs first.
    pub async fn jobs(&self, filter: &JobFilter, limit: u32) -> Result<Vec<Job>> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM job WHERE ($1 IS NULL OR table_id = $1) AND ($2 IS NULL OR warehouse_id = $2)
             AND ($3 IS NULL OR state = $3) AND ($4 IS NULL OR kind = $4) ORDER BY created_ms DESC, id DESC LIMIT $5"
        ));
        let query = sqlx::query(sql)
            .bind(filter.table.map(|t| t.to_string()))
            .bind(filter.warehouse)
            .bind(&filter.state)
            .bind(&filter.kind)
            .bind(i64::from(limit));
        query.fetch_all(&self.readers).await?.iter().map(job_row).collect()
    }

    /// How many jobs there are in each state that is not over, by kind.
    pub async fn open_jobs(&self) -> Result<Vec<(String, String, i64)>> {
        let sql = "SELECT kind, state, count(*) FROM job WHERE state IN ('queued', 'running') GROUP BY kind, state";
        let rows = sqlx::query(sql).fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
    }

    /// How long the job has waited that has waited longest for its turn, in milliseconds.
    pub async fn longest_wait(&self) -> Result<Millis> {
        let sql = "SELECT coalesce($1 - min(due_ms), 0) FROM job WHERE state = 'queued' AND due_ms <= $1";
        Ok(sqlx::query_scalar(sql).bind(now_ms()).fetch_one(&self.readers).await?)
    }

    /// When a job of each kind last succeeded on each table.
    pub async fn last_successes(&self) -> Result<Vec<(TableId, String, Millis)>> {
        let sql = "SELECT table_id, kind, max(finished_ms) FROM job WHERE state = 'succeeded' GROUP BY table_id, kind";
        let rows = sqlx::query(sql).fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((parse_id(row.try_get(0)?)?, row.try_get(1)?, row.try_get(2)?))).collect()
    }

    /// What a principal's jobs of each table cost that were begun since a time, as their records tell it.
    pub async fn job_costs(&self, principal: &str, since: Millis) -> Result<Vec<(TableId, Value)>> {
        let sql = "SELECT table_id, measured FROM job WHERE principal = $1 AND started_ms >= $2 AND measured IS NOT NULL";
        let rows = sqlx::query(sql).bind(principal).bind(since).fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((parse_id(row.try_get(0)?)?, serde_json::from_str(row.try_get(1)?)?))).collect()
    }

    /// Jobs of a principal that are not over, and those that ended since a time.
    pub async fn jobs_of(&self, principal: &str, since: Millis) -> Result<Vec<Job>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM job WHERE principal = $1 AND (finished_ms IS NULL OR finished_ms >= $2) ORDER BY created_ms"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(principal).bind(since);
        query.fetch_all(&self.readers).await?.iter().map(job_row).collect()
    }

    /// Adds lines to a job's log.
    pub async fn log_job(&self, id: JobId, lines: &[JobLine]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin_intent().await?;
        for line in lines {
            sqlx::query(
                "INSERT INTO job_log (job_id, number, time_ms, text)
                 SELECT $1, coalesce(max(number), 0) + 1, $2, $3 FROM job_log WHERE job_id = $1",
            )
            .bind(id.to_string())
            .bind(line.time_ms)
            .bind(&line.text)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// A job's log, the oldest line first.
    pub async fn job_log(&self, id: JobId) -> Result<Vec<JobLine>> {
        let query = sqlx::query("SELECT time_ms, text FROM job_log WHERE job_id = $1 ORDER BY number").bind(id.to_string());
        let rows = query.fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok(JobLine { time_ms: row.try_get(0)?, text: row.try_get(1)? })).collect()
    }
}
