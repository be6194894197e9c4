//! The records of jobs. The transitions between their states are in `queue.rs` and `external.rs`.
//!
//! ```text
//!                     take, claim_external
//!   enqueue ──▶ queued ──────────────────────────▶ running ──┬──▶ succeeded
//!                ▲  │                              │    │    └──▶ failed      (an error for good, or the fifth worker loss)
//!                │  └── cancel ─────▶ cancelled ◀─┘    │
//!                │                                      │
//!                └─── Again, Delegated, worker loss ────┘
//! ```
//!
//! - Again: the attempt failed. The job waits until `due_ms` for the next one.
//! - Delegated: a server has planned the job for another engine, and sets `engine`. From then on only a worker of that engine
//!   claims the job (`claim_external`), and has it until its lease ends.
//! - Worker loss: the server is dead, or the lease of the external worker is over. The job is queued again, for the same engine.
//! - `cancel` only marks a running job. Its holder ends it, or its loss does.
//!
//! One job at a time runs on a table. Succeeded, failed and cancelled are final; an undo is a record of its own (`undos.rs`).

mod asker;
mod external;
mod queue;
mod undos;

use esker_types::{JobId, Millis, TableId, now_ms};
use serde::Serialize;
use serde_json::Value;
use sqlx::Row;
use sqlx::any::AnyRow;

pub use self::asker::JobAsker;
pub use self::queue::{JobEnd, JobNotifications, NewJob};
pub use self::undos::UNDO;
use crate::batch::{ROWS, placeholders, values};
use crate::{Result, State, StateError, parse_id};

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waiting for a server or external worker, for its table, or for the time of its next attempt.
    Queued,
    /// In the hands of a server, or of an external worker under a lease.
    Running,
    /// Ended with an outcome.
    Succeeded,
    /// Ended with an error, and not tried again.
    Failed,
    /// Ended because it was cancelled.
    Cancelled,
}

impl JobState {
    /// Checks that the state is final.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Returns the spelling in the database and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the spelling in the database. Unknown text counts as failed.
    fn parse(text: &str) -> Self {
        let all = [Self::Queued, Self::Running, Self::Succeeded, Self::Cancelled];
        all.into_iter().find(|state| state.as_str() == text).unwrap_or(Self::Failed)
    }
}

/// A job's record.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Job {
    /// The identifier of the job.
    pub id: JobId,
    /// The row number of the warehouse.
    #[serde(skip)]
    pub warehouse: i64,
    /// The catalog entry of the table.
    pub table_id: TableId,
    /// The name of the table when the job was enqueued.
    pub table: String,
    /// The kind of the job: `compact`, `expire`, …
    pub kind: String,
    /// The principal that requested the job.
    pub principal: String,
    /// The identity that requested the job. `None` for a job of Esker's own, and for one of an earlier release.
    #[serde(skip)]
    pub asker: Option<JobAsker>,
    /// The reason for the job, for people.
    pub reason: String,
    /// The request, as JSON.
    pub request: Value,
    /// The priority. Jobs of higher priority are taken first.
    pub priority: i64,
    /// The state of the job.
    pub state: JobState,
    /// The time before which the job is not started, in milliseconds since the Unix epoch.
    pub due_ms: Millis,
    /// The number of attempts that were started.
    pub attempts: i64,
    /// The number of servers and external workers that were lost while they ran the job.
    pub worker_losses: i64,
    /// The instance of the server that runs the job, or ran it last.
    pub server: Option<String>,
    /// The other engine that the job is delegated to. `None` for a job of Esker.
    pub engine: Option<String>,
    /// The worker of that engine that has it or had it.
    pub worker: Option<String>,
    /// The end of that worker's lease, in milliseconds since the Unix epoch.
    pub lease_ms: Option<Millis>,
    /// The plan of the last attempt, as JSON.
    pub plan: Option<Value>,
    /// The plans of the attempts before, as JSON, the oldest first.
    pub earlier_plans: Vec<Value>,
    /// Done and total work, in the unit of the kind: bytes for a compaction, else files.
    pub progress: (u64, u64),
    /// The principal that cancelled the job. A running job may not have ended yet.
    pub cancelled_by: Option<String>,
    /// The undo that took the job back.
    pub undone_by: Option<JobId>,
    /// The outcome of a job that succeeded, as JSON.
    pub outcome: Option<Value>,
    /// The error of a failed job, or of the last attempt of one that is queued again.
    pub error: Option<String>,
    /// The predicted cost and gain, as JSON.
    pub predicted: Option<Value>,
    /// The measured cost and gain, as JSON.
    pub measured: Option<Value>,
    /// The time at which the job was enqueued, in milliseconds since the Unix epoch.
    pub created_ms: Millis,
    /// The time at which the first attempt started, in milliseconds since the Unix epoch.
    pub started_ms: Option<Millis>,
    /// The time at which the job ended, in milliseconds since the Unix epoch.
    pub finished_ms: Option<Millis>,
}

/// A line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct JobLogLine {
    /// The time of the line, in milliseconds since the Unix epoch.
    pub time_ms: Millis,
    /// The text of the line.
    pub text: String,
}

/// A filter for jobs. A field that is `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// The catalog entry of the table.
    pub table: Option<TableId>,
    /// The row number of the warehouse.
    pub warehouse: Option<i64>,
    /// The state, as [`JobState::as_str`] spells it.
    pub state: Option<String>,
    /// The kind.
    pub kind: Option<String>,
}

/// The columns that [`job_row`] reads.
pub(crate) const COLUMNS: &str = "id, warehouse_id, table_id, table_name, kind, principal, reason, request, priority, state, due_ms, attempts, \
     worker_losses, instance, engine, worker, lease_ms, plan, earlier_plans, done, total, cancelled_by, outcome, error, predicted, measured, created_ms, started_ms, finished_ms, asker, \
     (SELECT undo.id FROM job undo WHERE undo.warehouse_id = job.warehouse_id AND undo.key = 'undo/' || job.id) AS undone_by";

/// Reads a column of JSON. `None` for null.
fn value(row: &AnyRow, column: &str) -> Result<Option<Value>> {
    let text: Option<String> = row.try_get(column)?;
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}

/// Reads a column that holds a count.
fn count(row: &AnyRow, column: &str) -> Result<u64> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
}

/// Returns a count as a column holds it.
fn as_column(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Reads a job from [`COLUMNS`].
pub(crate) fn job_row(row: &AnyRow) -> Result<Job> {
    let earlier = match value(row, "earlier_plans")? {
        Some(Value::Array(plans)) => plans,
        None => Vec::new(),
        // The next attempt would write over it.
        Some(other) => return Err(StateError::Corrupt(format!("earlier plans of a job that are no list: {other}"))),
    };
    Ok(Job {
        id: parse_id(row.try_get("id")?)?,
        warehouse: row.try_get("warehouse_id")?,
        table_id: parse_id(row.try_get("table_id")?)?,
        table: row.try_get("table_name")?,
        kind: row.try_get("kind")?,
        principal: row.try_get("principal")?,
        asker: value(row, "asker")?.map(serde_json::from_value).transpose()?,
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

/// The handle for the jobs: records, logs, queue, and leases of external workers.
#[derive(Debug, Clone, Copy)]
pub struct Jobs<'a> {
    pub(crate) state: &'a State,
}

impl Jobs<'_> {
    /// Returns a job, or `None` if no job has this identifier.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn get(self, id: JobId) -> Result<Option<Job>> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM job WHERE id = $1"));
        let row = sqlx::query(sql).bind(id.to_string()).fetch_optional(&self.state.readers).await?;
        row.as_ref().map(job_row).transpose()
    }

    /// Returns the jobs that a filter accepts, at most `limit`, the newest first.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn list(self, filter: &JobFilter, limit: u32) -> Result<Vec<Job>> {
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
        query.fetch_all(&self.state.readers).await?.iter().map(job_row).collect()
    }

    /// Returns the number of jobs by kind and state, for the states that are not final.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn count_open(self) -> Result<Vec<(String, String, i64)>> {
        let sql = "SELECT kind, state, count(*) FROM job WHERE state IN ('queued', 'running') GROUP BY kind, state";
        let rows = sqlx::query(sql).fetch_all(&self.state.readers).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
    }

    /// Returns the age of the oldest due job in the queue, in milliseconds since it became due.
    ///
    /// It is 0 without such a job. Jobs that wait for an external worker count.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn longest_wait_ms(self) -> Result<Millis> {
        let sql = "SELECT coalesce($1 - min(due_ms), 0) FROM job WHERE state = 'queued' AND due_ms <= $1";
        Ok(sqlx::query_scalar(sql).bind(now_ms()).fetch_one(&self.state.readers).await?)
    }

    /// Returns the time of the last success of each kind of job on each of some tables, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn last_successes(self, tables: &[TableId]) -> Result<Vec<(TableId, String, Millis)>> {
        let mut found = Vec::new();
        for tables in tables.chunks(ROWS) {
            // An expression of the state, so that SQLite begins with the tables: most jobs have succeeded.
            let sql = format!(
                "SELECT table_id, kind, max(finished_ms) FROM job WHERE state || '' = 'succeeded' AND table_id IN ({})
                 GROUP BY table_id, kind",
                placeholders(1, tables.len())
            );
            let query = tables.iter().fold(sqlx::query(sqlx::AssertSqlSafe(sql)), |query, table| query.bind(table.to_string()));
            for row in &query.fetch_all(&self.state.readers).await? {
                found.push((parse_id(row.try_get(0)?)?, row.try_get(1)?, row.try_get(2)?));
            }
        }
        Ok(found)
    }

    /// Returns the measured costs of a principal's jobs that started since a time, with the table of each, as JSON.
    ///
    /// The time is in milliseconds since the Unix epoch. Jobs without measured costs are left out.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn costs(self, principal: &str, since: Millis) -> Result<Vec<(TableId, Value)>> {
        let sql = "SELECT table_id, measured FROM job WHERE principal = $1 AND started_ms >= $2 AND measured IS NOT NULL";
        let rows = sqlx::query(sql).bind(principal).bind(since).fetch_all(&self.state.readers).await?;
        rows.iter().map(|row| Ok((parse_id(row.try_get(0)?)?, serde_json::from_str(row.try_get(1)?)?))).collect()
    }

    /// Returns a principal's jobs that are not over, and those that ended since a time, the oldest first.
    ///
    /// The time is in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn of_principal(self, principal: &str, since: Millis) -> Result<Vec<Job>> {
        // Two ranges of an index: the jobs that ended before are many.
        let of = format!("SELECT {COLUMNS} FROM job WHERE principal = $1 AND finished_ms");
        let sql = format!("{of} IS NULL UNION ALL {of} >= $2 ORDER BY created_ms");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(principal).bind(since);
        query.fetch_all(&self.state.readers).await?.iter().map(job_row).collect()
    }

    /// Adds lines to a job's log, in one transaction.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn append_log(self, id: JobId, lines: &[JobLogLine]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut tx = self.state.begin_relaxed().await?;
        let last = sqlx::query_scalar("SELECT coalesce(max(number), 0) FROM job_log WHERE job_id = $1").bind(id.to_string());
        let last: i64 = last.fetch_one(&mut *tx).await?;
        let numbered: Vec<(i64, &JobLogLine)> = (last + 1..).zip(lines).collect();
        for lines in numbered.chunks(ROWS) {
            let sql = format!("INSERT INTO job_log (job_id, number, time_ms, text) VALUES {}", values(lines.len(), 4));
            let insert = sqlx::query(sqlx::AssertSqlSafe(sql));
            let insert = lines.iter().fold(insert, |query, (number, line)| {
                query.bind(id.to_string()).bind(*number).bind(line.time_ms).bind(&line.text)
            });
            insert.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Returns a job's log, the oldest line first.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn log(self, id: JobId) -> Result<Vec<JobLogLine>> {
        let query = sqlx::query("SELECT time_ms, text FROM job_log WHERE job_id = $1 ORDER BY number").bind(id.to_string());
        let rows = query.fetch_all(&self.state.readers).await?;
        rows.iter().map(|row| Ok(JobLogLine { time_ms: row.try_get(0)?, text: row.try_get(1)? })).collect()
    }
}
