//! The queue of jobs: any server on the database takes the next one, and other servers take over the jobs of a dead one.
//!
//! The heartbeat of a server is the lease of its jobs ([`Servers::heartbeat`](crate::Servers::heartbeat)): while the server is
//! live, its jobs are its own. Once it is dead it can change nothing any more, and its jobs go back into the queue
//! ([`Jobs::requeue_abandoned`]). The states of a job are drawn in [`crate::jobs`]. Start reading with [`Jobs::enqueue`],
//! [`Jobs::take_next_of_engine`] and [`Jobs::end_for`].

use esker_types::{JobId, Millis, TableId, now_ms};
use serde_json::Value;
use sqlx::postgres::PgListener;
use sqlx::{Any, Row, Transaction};

use super::{COLUMNS, JobAsker, Jobs, as_column, job_row};
use crate::batch::{ROWS, placeholders};
use crate::{Database, EventData, Job, JobEventData, JobLogLine, JobState, NewEvent, Outbox, Result, StateError, Warehouse};

/// The number of worker losses with which a job fails: the job itself may be what ends the workers.
const MAX_WORKER_LOSSES: i64 = 5;

/// Notifies the other servers that a job may be ready. Only PostgreSQL can notify other processes.
const NOTIFY: &str = "SELECT CAST(pg_notify('esker_jobs', '') AS TEXT)";

/// A job to be enqueued.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The identifier of the job.
    pub id: JobId,
    /// The catalog entry of the table.
    pub table: TableId,
    /// The name of the table.
    pub table_name: String,
    /// The kind of the job: `compact`, `expire`, …
    pub kind: &'static str,
    /// The principal that requests the job.
    pub principal: String,
    /// The identity that requests the job; `None` for a job of Esker's own.
    pub asker: Option<JobAsker>,
    /// The reason for the job, for people.
    pub reason: String,
    /// The idempotency key, unique in the warehouse. The same key gives the same job.
    pub key: Option<String>,
    /// The request, as JSON.
    pub request: Value,
    /// The priority. Jobs of higher priority are taken first.
    pub priority: i64,
    /// The time before which the job is not started, in milliseconds since the Unix epoch.
    pub due_ms: Millis,
    /// The predicted cost and gain, as JSON.
    pub predicted: Option<Value>,
}

/// The end of an attempt.
#[derive(Debug, Clone)]
pub enum JobEnd {
    /// The job is done. The field is its outcome, as JSON.
    Succeeded(String),
    /// The job failed for good, with this error.
    Failed(String),
    /// The attempt failed with this error. The next one is not started before the time, in milliseconds since the Unix epoch.
    Retry(String, Millis),
    /// The attempt ended because the job was cancelled.
    Cancelled,
    /// The job is planned, and waits for a worker of this engine.
    Delegated(&'static str),
}

/// The holder of a running job: a server, or an external worker under a lease.
pub(crate) struct JobHolder<'a> {
    /// The instance of the server.
    pub(crate) instance: Option<&'a str>,
    /// The name of the external worker.
    pub(crate) worker: Option<&'a str>,
    /// The end of the lease of the external worker, in milliseconds since the Unix epoch.
    pub(crate) until_ms: Option<Millis>,
}

impl Jobs<'_> {
    /// Puts a job into the queue, and returns its identifier.
    ///
    /// If the warehouse has a job with the same key, whatever its state, the identifier of that one is returned.
    ///
    /// # Errors
    ///
    /// Returns [`KeyTaken`](StateError::KeyTaken) if the job with that key has another table, kind or request, and
    /// [`Corrupt`](StateError::Corrupt) if the record of that job can't be read. Returns [`Fenced`](StateError::Fenced) if the
    /// other servers count this one as dead, and [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    pub async fn enqueue(self, warehouse: Warehouse, job: &NewJob) -> Result<JobId> {
        let asker = job.asker.as_ref().map(serde_json::to_string).transpose()?;
        let mut tx = self.state.begin().await?;
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
                              predicted, created_ms, asker)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'queued', $11, $12, $13, $14)",
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
        .bind(asker)
        .execute(&mut *tx)
        .await?;
        self.notify(&mut tx).await?;
        self.state.commit(tx).await?;
        Ok(job.id)
    }

    /// Takes the next job of some warehouses for this server, or returns `None` if no job is ready.
    ///
    /// It is the job of the highest priority, among those that are due and whose table has no running job. If the database did not
    /// confirm that the job before was taken, it is that one, if it was: nobody else would run it.
    ///
    /// # Errors
    ///
    /// Returns [`Corrupt`](StateError::Corrupt) if a stored value can't be read. Returns [`Fenced`](StateError::Fenced) if the
    /// other servers count this one as dead, and [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    pub async fn take(self, warehouses: &[i64]) -> Result<Option<Job>> {
        if let Some(job) = self.find_unconfirmed(warehouses).await? {
            return Ok(Some(job));
        }
        let instance = self.state.instance.to_string();
        self.take_next_of_engine(warehouses, None, JobHolder { instance: Some(&instance), worker: None, until_ms: None }).await
    }

    /// Returns the job whose taking was not confirmed, if the database says now that it was taken. It is returned once.
    async fn find_unconfirmed(self, warehouses: &[i64]) -> Result<Option<Job>> {
        let Some(job) = self.state.unconfirmed_job().clone().filter(|job| warehouses.contains(&job.warehouse)) else {
            return Ok(None);
        };
        // The transaction whose outcome is unknown has ended once this one has begun: both need the lock of changes.
        let mut tx = self.state.begin().await?;
        let taken = sqlx::query_scalar::<_, i64>(
            "SELECT count(*) FROM job WHERE id = $1 AND state = 'running' AND instance = $2 AND attempts = $3",
        );
        let taken = taken.bind(job.id.to_string()).bind(self.state.instance.to_string()).bind(job.attempts);
        let is_taken = taken.fetch_one(&mut *tx).await? > 0;
        tx.rollback().await?;
        *self.state.unconfirmed_job() = None;
        Ok(is_taken.then_some(job))
    }

    /// Takes the next job of an engine for a holder. An engine of `None` is Esker itself.
    pub(crate) async fn take_next_of_engine(
        self,
        warehouses: &[i64],
        engine: Option<&str>,
        holder: JobHolder<'_>,
    ) -> Result<Option<Job>> {
        let ids: Vec<String> = warehouses.iter().map(i64::to_string).collect();
        let next = format!(
            "SELECT id FROM job WHERE state = 'queued' AND due_ms <= $1 AND engine IS NOT DISTINCT FROM $2 AND warehouse_id IN ({})
             AND table_id NOT IN (SELECT table_id FROM job WHERE state = 'running')
             ORDER BY priority DESC, created_ms, id LIMIT 1",
            ids.join(", ")
        );
        let next = || sqlx::query(sqlx::AssertSqlSafe(next.clone())).bind(now_ms()).bind(engine);
        // The first query takes no write lock, because mostly no job is ready.
        if next().fetch_optional(&self.state.readers).await?.is_none() {
            return Ok(None);
        }
        let mut tx = self.state.begin().await?;
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
        if let Err(error) = self.state.commit(tx).await {
            // The lease of an external worker ends. A server would hold the job, and block its table, for as long as it lives.
            if holder.instance.is_some() {
                *self.state.unconfirmed_job() = Some(job);
            }
            return Err(error.into());
        }
        Ok(Some(job))
    }

    /// Records the plan of an attempt, as JSON. The plan of the attempt before is added to the earlier ones.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    pub async fn record_plan(self, job: &Job, plan: &str) -> Result<()> {
        let mut earlier = job.earlier_plans.clone();
        earlier.extend(job.plan.clone());
        let earlier = (!earlier.is_empty()).then(|| Value::Array(earlier).to_string());
        sqlx::query("UPDATE job SET plan = $2, earlier_plans = $3 WHERE id = $1")
            .bind(job.id.to_string())
            .bind(plan)
            .bind(earlier)
            .execute(&self.state.relaxed_writer)
            .await?;
        Ok(())
    }

    /// Records the progress of a job that runs on this server, as done and total work.
    ///
    /// Returns true if the job is to end: it was cancelled, or it does not belong to this server any more.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    pub async fn flush_progress(self, id: JobId, (done, total): (u64, u64)) -> Result<bool> {
        let query = sqlx::query_scalar(
            "UPDATE job SET done = $2, total = $3 WHERE id = $1 AND state = 'running' AND instance = $4 RETURNING cancelled_by",
        );
        let query = query.bind(id.to_string()).bind(as_column(done)).bind(as_column(total)).bind(self.state.instance.to_string());
        let row: Option<Option<String>> = query.fetch_optional(&self.state.relaxed_writer).await?;
        // A job that this server has lost is to end as well.
        Ok(row.is_none_or(|cancelled_by| cancelled_by.is_some()))
    }

    /// Records the end of an attempt on this server. Changes nothing if this server has lost the job.
    ///
    /// `progress` is the done and the total work when the attempt ended. `measured` is the cost of the job as JSON.
    ///
    /// # Errors
    ///
    /// Returns [`Corrupt`](StateError::Corrupt) if the outcome or `measured` is not JSON, or the record of the job can't be read.
    /// Returns [`Fenced`](StateError::Fenced) if the other servers count this one as dead, and [`Full`](StateError::Full) or
    /// [`Sql`](StateError::Sql) if the database fails.
    pub async fn end(self, id: JobId, end: &JobEnd, progress: (u64, u64), measured: &str) -> Result<()> {
        let instance = self.state.instance.to_string();
        let holder = JobHolder { instance: Some(&instance), worker: None, until_ms: None };
        self.end_for(id, holder, end, Some(progress), measured).await.map(drop)
    }

    /// Records the end of an attempt of a holder. Returns false if the holder has lost the job.
    ///
    /// An external worker may name itself as it likes, even with the instance of a server, so both are compared. A `progress` of
    /// `None` leaves the done and the total work as they were recorded last.
    pub(crate) async fn end_for(
        self,
        id: JobId,
        holder: JobHolder<'_>,
        end: &JobEnd,
        progress: Option<(u64, u64)>,
        measured: &str,
    ) -> Result<bool> {
        let now = now_ms();
        let (state, outcome, error, due, finished) = match end {
            JobEnd::Succeeded(outcome) => (JobState::Succeeded, Some(outcome), None, None, Some(now)),
            JobEnd::Failed(error) => (JobState::Failed, None, Some(error), None, Some(now)),
            JobEnd::Retry(error, due) => (JobState::Queued, None, Some(error), Some(*due), None),
            JobEnd::Cancelled => (JobState::Cancelled, None, None, None, Some(now)),
            JobEnd::Delegated(_) => (JobState::Queued, None, None, None, None),
        };
        let engine = if let JobEnd::Delegated(engine) = end { Some(*engine) } else { None };
        let mut tx = self.state.begin().await?;
        let sql = format!(
            "UPDATE job SET state = $2, outcome = $3, error = $4, due_ms = coalesce($5, due_ms), finished_ms = $6, measured = $7,
                            engine = coalesce($8, engine), done = coalesce($11, done), total = coalesce($12, total)
             WHERE id = $1 AND state = 'running' AND instance IS NOT DISTINCT FROM $9 AND worker IS NOT DISTINCT FROM $10
             RETURNING {COLUMNS}"
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
            .bind(holder.instance)
            .bind(holder.worker)
            .bind(progress.map(|(done, _)| as_column(done)))
            .bind(progress.map(|(_, total)| as_column(total)));
        let Some(row) = query.fetch_optional(&mut *tx).await? else { return Ok(false) };
        record_job_event(&mut tx, &job_row(&row)?).await?;
        // The table has no running job now, so another job of it may be ready.
        self.notify(&mut tx).await?;
        self.state.commit(tx).await?;
        Ok(true)
    }

    /// Cancels a job: at once if it is queued, else as soon as its holder notices.
    ///
    /// Returns the state of the job after that, or `None` if there is no such job. A job that is over keeps its state.
    ///
    /// # Errors
    ///
    /// Returns [`Corrupt`](StateError::Corrupt) if the record of the job can't be read. Returns [`Fenced`](StateError::Fenced) if
    /// the other servers count this one as dead, and [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    /// After `Corrupt` and `Sql` the job may be cancelled: its state is read after the commit.
    pub async fn cancel(self, id: JobId, by: &str) -> Result<Option<JobState>> {
        let mut tx = self.state.begin().await?;
        let sql = "UPDATE job SET cancelled_by = coalesce(cancelled_by, $2), finished_ms = CASE state WHEN 'queued' THEN CAST($3 AS BIGINT) ELSE NULL END,
                          state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END
                   WHERE id = $1 AND state IN ('queued', 'running')";
        let sql = sqlx::AssertSqlSafe(format!("{sql} RETURNING {COLUMNS}"));
        let changed = sqlx::query(sql).bind(id.to_string()).bind(by).bind(now_ms()).fetch_optional(&mut *tx).await?;
        if let Some(job) = changed.map(|row| job_row(&row)).transpose()?.filter(|job| job.state.is_over()) {
            record_job_event(&mut tx, &job).await?;
        }
        self.state.commit(tx).await?;
        Ok(self.get(id).await?.map(|job| job.state))
    }

    /// Takes the jobs from dead servers, and from external workers whose lease is over. Returns their number.
    ///
    /// They go back into the queue. A job that was cancelled meanwhile is cancelled, and one with five worker losses fails.
    ///
    /// # Errors
    ///
    /// Returns [`Corrupt`](StateError::Corrupt) if the record of a job can't be read. Returns [`Fenced`](StateError::Fenced) if the
    /// other servers count this one as dead, and [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    /// After the last two the jobs may be in the queue: their logs are written after the commit.
    pub async fn requeue_abandoned(self) -> Result<u64> {
        let gone = format!(
            "state = 'running' AND (instance NOT IN (SELECT id FROM instance) OR (worker IS NOT NULL AND lease_ms < {}))",
            now_ms()
        );
        let sql = format!("SELECT id, cancelled_by, worker_losses, worker FROM job WHERE {gone}");
        if sqlx::query(sqlx::AssertSqlSafe(sql.clone())).fetch_optional(&self.state.readers).await?.is_none() {
            return Ok(0);
        }
        let mut tx = self.state.begin().await?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *tx).await?;
        let mut over = Vec::new();
        for row in &rows {
            let (id, cancelled_by, losses): (String, Option<String>, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let worker: Option<String> = row.try_get(3)?;
            let (who, losses) = (if worker.is_some() { "worker" } else { "server" }, losses + 1);
            let (state, error) = match (cancelled_by, losses < MAX_WORKER_LOSSES) {
                (Some(_), _) => (JobState::Cancelled, None),
                (None, true) => (JobState::Queued, Some(format!("its {who} was lost"))),
                (None, false) => {
                    let why = format!("given up after the loss of {losses} {who}s; the job may be what ended them");
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
            over.push((id, error.unwrap_or_else(|| format!("its {who} was lost after the job had been cancelled"))));
        }
        self.notify(&mut tx).await?;
        self.state.commit(tx).await?;
        for (id, text) in over {
            self.append_log(crate::parse_id(&id)?, &[JobLogLine { time_ms: now_ms(), text }]).await?;
        }
        Ok(rows.len() as u64)
    }

    /// Removes the jobs that ended before a time (milliseconds since the Unix epoch), with their logs.
    ///
    /// Each batch is a transaction of its own: other changes, which wait for the write lock, get their turn in between.
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](StateError::Fenced) if the other servers count this one as dead, and [`Full`](StateError::Full) or
    /// [`Sql`](StateError::Sql) if the database fails. Earlier batches stay removed.
    pub async fn forget(self, before: Millis) -> Result<()> {
        let jobs = "DELETE FROM job WHERE id IN (SELECT id FROM job WHERE finished_ms < $1 LIMIT $2) RETURNING id";
        loop {
            let mut tx = self.state.begin().await?;
            let ids: Vec<String> = sqlx::query_scalar(jobs).bind(before).bind(ROWS as i64).fetch_all(&mut *tx).await?;
            if !ids.is_empty() {
                let logs = format!("DELETE FROM job_log WHERE job_id IN ({})", placeholders(1, ids.len()));
                let delete = sqlx::query(sqlx::AssertSqlSafe(logs));
                ids.iter().fold(delete, |query, id| query.bind(id)).execute(&mut *tx).await?;
            }
            self.state.commit(tx).await?;
            if ids.len() < ROWS {
                return Ok(());
            }
        }
    }

    /// Notifies the other servers, when the transaction commits, that a job may be ready.
    async fn notify(self, tx: &mut Transaction<'static, Any>) -> Result<()> {
        if self.state.database.is_postgres() {
            sqlx::query(NOTIFY).execute(&mut **tx).await?;
        }
        Ok(())
    }

    /// Subscribes to the notifications of other servers about jobs. Returns `None` on SQLite, which has one server only, and behind a
    /// pooler, which gives a subscription no session.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    pub async fn listen(self) -> Result<Option<JobNotifications>> {
        let Database::Postgres(url) = &self.state.database else { return Ok(None) };
        let mut listener = PgListener::connect(url).await?;
        listener.listen("esker_jobs").await?;
        Ok(Some(JobNotifications(listener)))
    }
}

/// Writes the event that a job was started or is over. A job that is queued has none.
pub(crate) async fn record_job_event(tx: &mut Transaction<'static, Any>, job: &Job) -> Result<()> {
    let kind = match job.state {
        JobState::Queued => return Ok(()),
        JobState::Running => EventData::JobStarted,
        JobState::Succeeded => EventData::JobSucceeded,
        JobState::Failed => EventData::JobFailed,
        JobState::Cancelled => EventData::JobCancelled,
    };
    let sql = "SELECT name, (SELECT location FROM tabular WHERE id = $2) FROM warehouse WHERE id = $1";
    let about = sqlx::query(sql).bind(job.warehouse).bind(job.table_id.to_string()).fetch_optional(&mut **tx).await?;
    let Some(about) = about else { return Ok(()) };
    let data = kind(JobEventData {
        job_id: job.id,
        kind: job.kind.clone(),
        reason: job.reason.clone(),
        engine: job.engine.clone(),
        location: about.try_get(1)?,
        error: job.error.clone(),
        outcome: job.outcome.clone(),
        started_ms: job.started_ms,
        finished_ms: job.finished_ms,
    });
    let (warehouse, subject, principal) = (about.try_get(0)?, job.table.clone(), job.principal.clone());
    let events = vec![NewEvent { data, warehouse, subject, principal }];
    Outbox { events, receipts: Vec::new() }.insert(tx).await
}

/// The notifications of other servers that a job may be ready.
#[derive(Debug)]
pub struct JobNotifications(PgListener);

impl JobNotifications {
    /// Waits for the next notification.
    ///
    /// A lost connection is opened again and counts as a notification, because one may have been missed.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the connection is lost and can't be opened again.
    pub async fn next(&mut self) -> Result<()> {
        self.0.try_recv().await.map(drop).map_err(StateError::from)
    }
}
