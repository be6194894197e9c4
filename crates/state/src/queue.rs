//! The queue of jobs: any server on the database takes the next one, and one that is gone gives back what it had taken.
//!
//! A lease is the server's own sign of life ([`State::beat`]): while it is among the living its jobs are its own; once it is taken for
//! dead it can change nothing any more, and the others take its jobs over.

use esker_types::{JobId, Millis, TableId, now_ms};
use serde_json::{Value, json};
use sqlx::postgres::PgListener;
use sqlx::{Any, Row, Transaction};

use crate::jobs::{COLUMNS, job_row};
use crate::{Database, Job, JobLine, JobState, NewEvent, Outbox, Result, State, StateError, Warehouse};

/// A job during which so many servers died is not begun again: it may be what kills them.
const MAX_WORKER_LOSSES: i64 = 5;

/// Says that a job may be there to be taken. PostgreSQL alone can tell other processes.
const NOTIFY: &str = "SELECT CAST(pg_notify('esker_jobs', '') AS TEXT)";

/// A job to be done.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its identifier.
    pub id: JobId,
    /// Its table.
    pub table: TableId,
    /// The table's name.
    pub table_name: String,
    /// `compact`, `expire`, ...
    pub kind: &'static str,
    /// Who asks for it.
    pub principal: String,
    /// Why, for people.
    pub reason: String,
    /// The same key gives the same job.
    pub key: Option<String>,
    /// What is to be done.
    pub request: Value,
    /// Jobs of higher priority are taken first.
    pub priority: i64,
    /// It is not begun before.
    pub due_ms: Millis,
    /// What it is expected to gain.
    pub predicted: Option<Value>,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum JobEnd {
    /// Done; what it did, as JSON.
    Succeeded(String),
    /// It failed for good.
    Failed(String),
    /// It failed, and is tried again not before the time.
    Again(String, Millis),
    /// It ended because somebody wanted it to.
    Cancelled,
    /// It waits for a worker of another engine now.
    Delegated(&'static str),
}

/// Who has a job: a server, or for a time a worker outside.
pub(crate) struct JobHolder<'a> {
    pub(crate) instance: Option<&'a str>,
    pub(crate) worker: Option<&'a str>,
    pub(crate) until_ms: Option<Millis>,
}

impl State {
    /// Puts a job into the queue. With a key that is known, the job of that key is the answer, whatever became of it;
    /// [`StateError::KeyTaken`] if that one is another job.
    pub async fn enqueue(&self, warehouse: Warehouse, job: &NewJob) -> Result<JobId> {
        let mut tx = self.begin().await?;
        if let Some(key) = &job.key {
            let known = sqlx::query("SELECT id, table_id, kind, request FROM job WHERE warehouse_id = $1 AND key = $2");
            if let Some(row) = known.bind(warehouse.id).bind(key).fetch_optional(&mut *tx).await? {
                let (id, table, kind): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                let request: Value = serde_json::from_str(row.try_get(3)?)?;
                if (table, kind.as_str(), &request) != (job.table.to_string(), job.kind, &job.request) {
                    return Err(StateError::KeyTaken { key: key.clone(), job: id });
                }
                return crate::parse_id(&id);
            }
        }
        sqlx::query(
            "INSERT INTO job (id, warehouse_id, table_id, table_name, kind, principal, reason, key, request, priority, state, due_ms,
                              predicted, created_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'queued', $11, $12, $13)",
        )
        .bind(job.id.to_string())
        .bind(warehouse.id)
        .bind(job.table.to_string())
        .bind(&job.table_name)
        .bind(job.kind)
        .bind(&job.principal)
        .bind(&job.reason)
        .bind(&job.key)
        .bind(job.request.to_string())
        .bind(job.priority)
        .bind(job.due_ms)
        .bind(job.predicted.as_ref().map(Value::to_string))
        .bind(now_ms())
        .execute(&mut *tx)
        .await?;
        self.notify(&mut tx).await?;
        tx.commit().await?;
        Ok(job.id)
    }

    /// Takes the next job of some warehouses: the one of the highest priority whose time has come and whose table is free.
    pub async fn take_job(&self, warehouses: &[i64]) -> Result<Option<Job>> {
        let instance = self.instance.to_string();
        self.take_next(warehouses, None, JobHolder { instance: Some(&instance), worker: None, until_ms: None }).await
    }

    pub(crate) async fn take_next(&self, warehouses: &[i64], engine: Option<&str>, holder: JobHolder<'_>) -> Result<Option<Job>> {
        let ids: Vec<String> = warehouses.iter().map(i64::to_string).collect();
        let next = format!(
            "SELECT id FROM job WHERE state = 'queued' AND due_ms <= $1 AND engine IS NOT DISTINCT FROM $2 AND warehouse_id IN ({})
             AND table_id NOT IN (SELECT table_id FROM job WHERE state = 'running')
             ORDER BY priority DESC, created_ms, id LIMIT 1",
            ids.join(", ")
        );
        let next = || sqlx::query(sqlx::AssertSqlSafe(next.clone())).bind(now_ms()).bind(engine);
        // Looked for without the lock of writers first: mostly there is nothing.
        if next().fetch_optional(&self.readers).await?.is_none() {
            return Ok(None);
        }
        let mut tx = self.begin().await?;
        let Some(row) = next().fetch_optional(&mut *tx).await? else { return Ok(None) };
        let id: String = row.try_get(0)?;
        let sql = format!(
            "UPDATE job SET state = 'running', instance = $2, worker = $3, lease_ms = $4, attempts = attempts + 1,
                            started_ms = coalesce(started_ms, $5), done = 0, total = 0, error = NULL
             WHERE id = $1 RETURNING {COLUMNS}"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).bind(holder.instance).bind(holder.worker);
        let query = query.bind(holder.until_ms).bind(now_ms());
        let job = job_row(&query.fetch_one(&mut *tx).await?)?;
        if job.attempts == 1 {
            record_job_event(&mut tx, &job).await?;
        }
        tx.commit().await?;
        Ok(Some(job))
    }

    /// Records what an attempt sets out to do.
    pub async fn plan_job(&self, job: &Job, plan: &str) -> Result<()> {
        let mut earlier = job.earlier_plans.clone();
        earlier.extend(job.plan.clone());
        let earlier = (!earlier.is_empty()).then(|| Value::Array(earlier).to_string());
        sqlx::query("UPDATE job SET plan = $2, earlier_plans = $3 WHERE id = $1")
            .bind(job.id.to_string())
            .bind(plan)
            .bind(earlier)
            .execute(&self.intents)
            .await?;
        Ok(())
    }

    /// Records how far a job is that runs here; returns whether somebody wants it to end.
    pub async fn flush_progress(&self, id: JobId, (done, total): (u64, u64)) -> Result<bool> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let query = sqlx::query_scalar(
            "UPDATE job SET done = $2, total = $3 WHERE id = $1 AND state = 'running' AND instance = $4 RETURNING cancelled_by",
        );
        let query = query.bind(id.to_string()).bind(number(done)).bind(number(total)).bind(self.instance.to_string());
        let row: Option<Option<String>> = query.fetch_optional(&self.intents).await?;
        // A job that is not this server's any more had better end, too.
        Ok(row.is_none_or(|cancelled_by| cancelled_by.is_some()))
    }

    /// Records how an attempt ended that ran here.
    pub async fn end_job(&self, id: JobId, end: &JobEnd, measured: &str) -> Result<()> {
        self.end_job_of(id, &self.instance.to_string(), end, measured).await.map(drop)
    }

    /// False if the job is not the holder's any more.
    pub(crate) async fn end_job_of(&self, id: JobId, holder: &str, end: &JobEnd, measured: &str) -> Result<bool> {
        let now = now_ms();
        let (state, outcome, error, due, finished) = match end {
            JobEnd::Succeeded(outcome) => (JobState::Succeeded, Some(outcome), None, None, Some(now)),
            JobEnd::Failed(error) => (JobState::Failed, None, Some(error), None, Some(now)),
            JobEnd::Again(error, due) => (JobState::Queued, None, Some(error), Some(*due), None),
            JobEnd::Cancelled => (JobState::Cancelled, None, None, None, Some(now)),
            JobEnd::Delegated(_) => (JobState::Queued, None, None, None, None),
        };
        let engine = if let JobEnd::Delegated(engine) = end { Some(*engine) } else { None };
        let mut tx = self.begin().await?;
        let sql = format!(
            "UPDATE job SET state = $2, outcome = $3, error = $4, due_ms = coalesce($5, due_ms), finished_ms = $6, measured = $7,
                            engine = coalesce($8, engine)
             WHERE id = $1 AND state = 'running' AND (instance = $9 OR worker = $9) RETURNING {COLUMNS}"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id.to_string())
            .bind(state.as_str())
            .bind(outcome)
            .bind(error)
            .bind(due)
            .bind(finished)
            .bind(measured)
            .bind(engine)
            .bind(holder);
        let Some(row) = query.fetch_optional(&mut *tx).await? else { return Ok(false) };
        record_job_event(&mut tx, &job_row(&row)?).await?;
        // Its table is free now.
        self.notify(&mut tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Asks a job to end. One that waits is cancelled at once, one at work as soon as its server gets to know; returns where it
    /// stands then, none if there is no such job.
    pub async fn cancel_job(&self, id: JobId, by: &str) -> Result<Option<JobState>> {
        let mut tx = self.begin().await?;
        let sql = "UPDATE job SET cancelled_by = coalesce(cancelled_by, $2), finished_ms = CASE state WHEN 'queued' THEN CAST($3 AS BIGINT) ELSE NULL END,
                          state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END
                   WHERE id = $1 AND state IN ('queued', 'running')";
        let sql = sqlx::AssertSqlSafe(format!("{sql} RETURNING {COLUMNS}"));
        let changed = sqlx::query(sql).bind(id.to_string()).bind(by).bind(now_ms()).fetch_optional(&mut *tx).await?;
        if let Some(job) = changed.map(|row| job_row(&row)).transpose()?.filter(|job| job.state.is_over()) {
            record_job_event(&mut tx, &job).await?;
        }
        tx.commit().await?;
        Ok(self.job(id).await?.map(|job| job.state))
    }

    /// Puts the jobs of servers that are gone back into the queue; returns how many there were. One that has seen too many servers
    /// die fails instead.
    pub async fn requeue_abandoned_jobs(&self) -> Result<u64> {
        let gone = format!(
            "state = 'running' AND (instance NOT IN (SELECT id FROM instance) OR (worker IS NOT NULL AND lease_ms < {}))",
            now_ms()
        );
        let sql = format!("SELECT id, cancelled_by, worker_losses, worker FROM job WHERE {gone}");
        if sqlx::query(sqlx::AssertSqlSafe(sql.clone())).fetch_optional(&self.readers).await?.is_none() {
            return Ok(0);
        }
        let mut tx = self.begin().await?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *tx).await?;
        let mut over = Vec::new();
        for row in &rows {
            let (id, cancelled_by, losses): (String, Option<String>, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let worker: Option<String> = row.try_get(3)?;
            let (who, losses) = (if worker.is_some() { "worker" } else { "server" }, losses + 1);
            let (state, error) = match (cancelled_by, losses < MAX_WORKER_LOSSES) {
                (Some(_), _) => (JobState::Cancelled, None),
                (None, true) => (JobState::Queued, Some(format!("its {who} went away"))),
                (None, false) => {
                    let why = format!("{losses} {who}s went away while they were at it: it may be what ended them");
                    (JobState::Failed, Some(why))
                }
            };
            let sql = format!(
                "UPDATE job SET state = $2, worker_losses = $3, error = $4, finished_ms = $5 WHERE id = $1 AND {gone} RETURNING {COLUMNS}"
            );
            let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&id).bind(state.as_str()).bind(losses).bind(&error);
            if let Some(row) = query.bind(state.is_over().then(now_ms)).fetch_optional(&mut *tx).await? {
                record_job_event(&mut tx, &job_row(&row)?).await?;
            }
            over.push((id, error.unwrap_or_else(|| format!("its {who} went away, and it had been cancelled"))));
        }
        self.notify(&mut tx).await?;
        tx.commit().await?;
        for (id, text) in over {
            self.log_job(crate::parse_id(&id)?, &[JobLine { time_ms: now_ms(), text }]).await?;
        }
        Ok(rows.len() as u64)
    }

    /// Forgets jobs that ended before a time, with their logs.
    pub async fn forget_jobs(&self, before: Millis) -> Result<()> {
        let mut tx = self.begin().await?;
        for sql in [
            "DELETE FROM job_log WHERE job_id IN (SELECT id FROM job WHERE finished_ms < $1)",
            "DELETE FROM job WHERE finished_ms < $1",
        ] {
            sqlx::query(sql).bind(before).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn notify(&self, tx: &mut Transaction<'static, Any>) -> Result<()> {
        if self.database.is_postgres() {
            sqlx::query(NOTIFY).execute(&mut **tx).await?;
        }
        Ok(())
    }

    /// What other servers say about jobs; none where there can't be other servers.
    pub async fn listen_for_jobs(&self) -> Result<Option<JobNotifications>> {
        let Database::Postgres(url) = &self.database else { return Ok(None) };
        let mut listener = PgListener::connect(url).await?;
        listener.listen("esker_jobs").await?;
        Ok(Some(JobNotifications(listener)))
    }
}

/// Enters into the out-box that a job was begun or is over.
pub(crate) async fn record_job_event(tx: &mut Transaction<'static, Any>, job: &Job) -> Result<()> {
    let kind = match job.state {
        JobState::Queued => return Ok(()),
        JobState::Running => "job.started",
        JobState::Succeeded => "job.succeeded",
        JobState::Failed => "job.failed",
        JobState::Cancelled => "job.cancelled",
    };
    let sql = "SELECT name, (SELECT location FROM tabular WHERE id = $2) FROM warehouse WHERE id = $1";
    let about = sqlx::query(sql).bind(job.warehouse).bind(job.table_id.to_string()).fetch_optional(&mut **tx).await?;
    let Some(about) = about else { return Ok(()) };
    let location: Option<String> = about.try_get(1)?;
    let data = json!({
        "job-id": job.id, "kind": job.kind, "reason": job.reason, "engine": job.engine, "location": location, "error": job.error,
        "outcome": job.outcome, "started-ms": job.started_ms, "finished-ms": job.finished_ms,
    });
    let (warehouse, subject, principal) = (about.try_get(0)?, job.table.clone(), job.principal.clone());
    let events = vec![NewEvent { kind, warehouse, subject, principal, data }];
    Outbox { events, receipts: Vec::new() }.insert(tx).await
}

/// Hears when a job may be there to be taken.
#[derive(Debug)]
pub struct JobNotifications(PgListener);

impl JobNotifications {
    /// Waits for the next such news. A lost connection is made anew, and counts as news: something may have been missed.
    pub async fn next(&mut self) -> Result<()> {
        self.0.try_recv().await.map(drop).map_err(StateError::from)
    }
}
