//! The worker of a server: takes jobs from the queue and runs them, at most one per table and [`WorkerOptions::jobs`] at a time.
//!
//! The life of an attempt:
//!
//! ```text
//!            take_job          plan               run
//!   queued ------------> taken -----> planned ------------> succeeded
//!     ^                    |             |
//!     |                    |             +-- for Spark ---> delegated: queued for a worker of that engine
//!     |                    |             |
//!     |                    | error       | error
//!     |                    | or panic    | or panic
//!     |                    v             v
//!     |                  was the job cancelled? -- yes ---> cancelled
//!     |                           | no
//!     |                           v
//!     |<------ yes -- is the error transient, and
//!     |  due after    are attempts left? -- no -----------> failed
//!     |  a pause
//!     |
//!     `------- the server died at any point (requeue_abandoned_jobs)
//! ```
//!
//! While an attempt runs, its progress is recorded and its record is searched for a cancellation. At each end, its final progress
//! is recorded, and the files that the job wrote and did not commit are reclaimed.
//!
//! Start reading at [`Worker::run`] and [`attempt`].

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use esker_catalog::{Catalog, CatalogError, deletion};
use esker_state::{Job, JobEnd, State};
use esker_types::{Coded, JobId, catch_panic, now_ms, to_millis};
use serde_json::{Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tracing::Instrument;

use super::askers::check_asker;
use super::{JobRequest, Maintenance, PlannedJob};
use crate::context::{JobContext, current};
use crate::{MaintenanceError, Result, check_not_frozen, kind_view};

/// Interval between looks into the queue while no notification comes.
const POLL: Duration = Duration::from_secs(2);
/// Interval between records of a job's progress, each of which also looks for a cancellation.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// First pause before recording the end of a job is tried again; it doubles up to a minute.
const RECORD_AGAIN: Duration = Duration::from_secs(1);

/// Options of a worker.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Number of jobs that this server runs at the same time; 0 for none.
    pub jobs: usize,
    /// Number of attempts that end with a transient error before the job has failed.
    pub attempts: u32,
    /// Pause after the first attempt; it is four times as long after each further one.
    pub retry: Duration,
}

/// The worker that runs the jobs of a server's warehouses.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The maintenance of each warehouse, by the warehouse's number in the database.
    warehouses: BTreeMap<i64, Maintenance>,
    state: State,
    options: WorkerOptions,
    wake: Arc<Notify>,
    /// One permit for each running job. Attempts outlive the loop that began them: a loop that starts again finds their permits
    /// taken.
    turns: Arc<Semaphore>,
}

impl Worker {
    /// Creates a worker for some warehouses of one database. `wake` is the notification that each of them was created with.
    pub fn new(state: State, warehouses: &[Maintenance], options: WorkerOptions, wake: Arc<Notify>) -> Self {
        let by_number = |m: &Maintenance| (m.catalog().warehouse().id, m.clone());
        let turns = Arc::new(Semaphore::new(options.jobs));
        Self { warehouses: warehouses.iter().map(by_number).collect(), state, options, wake, turns }
    }

    /// Takes and runs jobs until `stopped` is true. Returns when all running jobs have ended.
    pub async fn run(self, mut stopped: watch::Receiver<bool>) {
        let mut poll = tokio::time::interval(POLL);
        while !*stopped.borrow_and_update() {
            while let Ok(turn) = self.turns.clone().try_acquire_owned() {
                let Some((maintenance, job)) = self.take().await else { break };
                let runtime = maintenance.runtime.clone();
                let span = tracing::info_span!("job", job_id = %job.id, kind = job.kind, table = job.table);
                runtime.spawn(attempt(maintenance, job, self.options.clone(), turn).instrument(span));
            }
            tokio::select! {
                () = self.wake.notified() => {}
                _ = poll.tick() => {
                    if self.options.jobs > 0 {
                        self.take_over().await;
                    }
                }
                _ = stopped.changed() => {}
            }
        }
        // Every permit is back when every attempt has ended. The semaphore is never closed.
        let all = u32::try_from(self.options.jobs).unwrap_or(u32::MAX);
        drop(self.turns.acquire_many(all).await);
    }

    /// Wakes this worker when another server enqueues a job, if the database has notifications (PostgreSQL). Never returns.
    pub async fn listen(self) {
        loop {
            match self.state.jobs().listen().await {
                // The database has no notifications: the queue is looked at every two seconds.
                Ok(None) => std::future::pending().await,
                Ok(Some(mut news)) => {
                    while news.next().await.is_ok() {
                        self.wake.notify_one();
                    }
                }
                Err(error) => tracing::warn!(%error, "no notifications of jobs; the queue is looked at every two seconds"),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Puts the jobs of dead servers back into the queue. Files that they had written are reclaimed elsewhere, at any time. Names
    /// of files contain the attempt, so those of a new attempt are not among them.
    async fn take_over(&self) {
        match self.state.jobs().requeue_abandoned().await {
            Ok(0) => {}
            Ok(jobs) => tracing::warn!(jobs, "jobs of dead servers are back in the queue"),
            Err(error) => tracing::warn!(%error, "looking for jobs of dead servers failed; it is tried again"),
        }
    }

    /// Takes the next job of a warehouse that is in order, with that warehouse's maintenance.
    async fn take(&self) -> Option<(Maintenance, Job)> {
        // Where database and warehouse do not belong together, no job starts until a person has repaired that.
        let sound = |m: &&Maintenance| m.catalog().check_epoch().is_ok();
        let ids: Vec<i64> = self.warehouses.values().filter(sound).map(|m| m.catalog().warehouse().id).collect();
        if ids.is_empty() {
            return None;
        }
        match self.state.jobs().take(&ids).await {
            Ok(job) => job.and_then(|job| Some((self.warehouses.get(&job.warehouse)?.clone(), job))),
            Err(error) => {
                tracing::warn!(%error, "taking a job from the queue failed; it is tried again");
                None
            }
        }
    }
}

/// A guard that takes a job off the list of running jobs and returns its permit when its attempt ends, also by a panic.
struct RunningJobGuard {
    maintenance: Maintenance,
    job: JobId,
    turn: Option<OwnedSemaphorePermit>,
}

impl Drop for RunningJobGuard {
    fn drop(&mut self) {
        self.maintenance.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.job);
        drop(self.turn.take());
        // Another job may take this table, or this permit, at once.
        self.maintenance.wake.notify_one();
    }
}

/// Runs one attempt at a job that was taken from the queue, and records its end.
async fn attempt(maintenance: Maintenance, job: Job, options: WorkerOptions, turn: OwnedSemaphorePermit) {
    let context = maintenance.context(job.id, job.attempts, job.table_id, &job.principal);
    maintenance.running.lock().unwrap_or_else(PoisonError::into_inner).insert(job.id, context.progress.clone());
    let _leave = RunningJobGuard { maintenance: maintenance.clone(), job: job.id, turn: Some(turn) };
    context.progress.log(format!("attempt {} begins on server {}", job.attempts, maintenance.catalog.state().servers().own_id()));
    let started = Instant::now();
    let mut measured = None;
    let done = {
        let work = catch_panic(plan_and_run(&maintenance, &context, &job, &mut measured));
        tokio::select! {
            done = work => done.unwrap_or_else(|panic| Err(MaintenanceError::Panicked { what: job.kind.clone(), panic })),
            never = report_progress(&context) => match never {},
        }
    };
    if let Err(error) = &done {
        context.record_damage(error).await;
    }
    let (seconds, cost) = (started.elapsed().as_secs_f64(), context.counters.cost());
    let end = end(&job, &context, &options, done);
    maintenance.stats.count(&job.kind, &end, seconds, cost);
    let measured = json!({"shapes": measured.unwrap_or(Value::Null), "seconds": seconds, "cost": cost}).to_string();
    record_end(&context, &end, &measured).await;
}

/// The result of an attempt that met no error.
enum AttemptResult {
    /// The job was run; its outcome as JSON.
    Outcome(String),
    /// The plan is for another engine, whose name this is.
    HandOver(&'static str),
}

/// Plans the job and runs it. The table's file counts before and after go into `measured`.
///
/// No error follows the run: a job that took effect has succeeded.
async fn plan_and_run(
    maintenance: &Maintenance,
    context: &JobContext,
    job: &Job,
    measured: &mut Option<Value>,
) -> Result<AttemptResult> {
    let catalog = maintenance.catalog();
    catalog.failpoint(&format!("job-{}", job.kind)).await;
    let request = JobRequest::of(job)?;
    let table = current(maintenance.catalog(), job).await?;
    // The rights may have been taken away since the job was enqueued.
    check_asker(maintenance.authorities.as_deref(), catalog, job, &table).await?;
    let read_only = kind_view(request.kind()).read_only;
    if !read_only {
        // The table may have been frozen since the job was enqueued.
        check_not_frozen(catalog, &table).await?;
    }
    let kept = maintenance.take_plan(job.id).filter(|(planned, _)| planned.row.metadata_location == table.row.metadata_location);
    let work = match kept {
        Some((_, work)) => work,
        None => PlannedJob::plan(context, &table, &request).await?,
    };
    catalog.state().jobs().record_plan(job, &work.record()?.to_string()).await?;
    context.check_cancelled()?;
    if read_only {
        // There is nothing to compare, and the facts of a damaged table can't be computed.
        return Ok(AttemptResult::Outcome(work.run(context, &table).await?.to_string()));
    }
    let before = catalog.facts(&table).await?.file_counts();
    if let Some(engine) = work.engine(&table)? {
        *measured = Some(json!({"before": before}));
        return Ok(AttemptResult::HandOver(engine));
    }
    let outcome = work.run(context, &table).await?.to_string();
    // A job that is killed here has taken effect, and its next attempt finds little or nothing to do.
    catalog.failpoint(&format!("job-{}-done", job.kind)).await;
    let after = counts_after(catalog, job).await;
    *measured = Some(json!({"before": before, "after": after}));
    Ok(AttemptResult::Outcome(outcome))
}

/// Returns the table's file counts after a job; null if they can't be read.
///
/// The job is done: a dropped table, a damaged manifest or a storage that does not answer must not make it fail or run again.
pub(super) async fn counts_after(catalog: &Catalog, job: &Job) -> Value {
    let counts = async { Ok::<_, MaintenanceError>(json!(catalog.facts(&current(catalog, job).await?).await?.file_counts())) };
    match catch_panic(counts).await {
        Ok(Ok(counts)) => return counts,
        Ok(Err(error)) => tracing::warn!(job_id = %job.id, %error, "the file counts after a job are not known"),
        Err(panic) => tracing::error!(job_id = %job.id, %panic, "counting the files after a job panicked"),
    }
    Value::Null
}

/// Records the job's progress and log at a fixed interval, and cancels the job if its record asks for that. Never returns.
async fn report_progress(context: &JobContext) -> std::convert::Infallible {
    let state = context.catalog.state();
    loop {
        tokio::time::sleep(PROGRESS_INTERVAL).await;
        flush(context).await;
        match state.jobs().flush_progress(context.job, context.progress.get()).await {
            Ok(false) => {}
            Ok(true) if context.progress.is_cancelled() => {}
            Ok(true) => {
                context.progress.cancel();
                context.progress.log("cancellation requested; the job stops at the next safe point".to_owned());
            }
            Err(error) => tracing::warn!(%error, "the progress of the job could not be recorded"),
        }
    }
}

/// Records the job's new log lines. They are lost if the database fails.
async fn flush(context: &JobContext) {
    let lines = context.progress.take_lines();
    if let Err(error) = context.catalog.state().jobs().append_log(context.job, &lines).await {
        tracing::warn!(%error, "lines of the job's log are lost");
    }
}

/// Decides on the end of an attempt, and logs it.
fn end(job: &Job, context: &JobContext, options: &WorkerOptions, done: Result<AttemptResult>) -> JobEnd {
    let progress = &context.progress;
    match done {
        Ok(AttemptResult::HandOver(engine)) => {
            progress.log(format!("handed over to {engine}; the job waits for a worker of that engine"));
            JobEnd::Delegated(engine)
        }
        Ok(AttemptResult::Outcome(outcome)) => {
            progress.log("succeeded".to_owned());
            JobEnd::Succeeded(outcome)
        }
        Err(_) if progress.is_cancelled() => {
            progress.log("cancelled".to_owned());
            JobEnd::Cancelled
        }
        Err(error) => {
            let attempts = u32::try_from(job.attempts - job.worker_losses).unwrap_or(u32::MAX).max(1);
            if attempts >= options.attempts || !error.code().is_transient() {
                tracing::error!(%error, "the job failed");
                progress.log(format!("failed: {error}"));
                return JobEnd::Failed(error.to_string());
            }
            let pause = options.retry.saturating_mul(4_u32.saturating_pow(attempts - 1));
            tracing::warn!(%error, "the attempt failed; the job is tried again");
            progress.log(format!("failed; the job is tried again in {} s: {error}", pause.as_secs()));
            JobEnd::Retry(error.to_string(), now_ms().saturating_add(to_millis(pause)))
        }
    }
}

/// Reclaims the files that the job wrote and did not commit, and records the attempt's end.
///
/// It is tried until it succeeds: a job that stayed running for ever would keep all others from its table.
async fn record_end(context: &JobContext, end: &JobEnd, measured: &str) {
    let mut pause = RECORD_AGAIN;
    while let Err(error) = try_record_end(context, end, measured).await {
        tracing::error!(%error, "the end of a job could not be recorded; it is tried again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(60));
    }
}

/// Reclaims the files and records the end, in one try. It fails only if the database does.
async fn try_record_end(context: &JobContext, end: &JobEnd, measured: &str) -> Result<()> {
    let state = context.catalog.state();
    let left = state.outputs().of_job(context.job).await?;
    if !left.is_empty() {
        let settled = deletion::settle_outputs(&context.catalog, context.table, &left, "written by a job and not committed");
        match catch_panic(settled).await {
            Ok(Ok(_)) => {}
            Ok(Err(CatalogError::State(error))) => return Err(error.into()),
            // Files that can't be judged now stay recorded until the next start. The job has ended all the same.
            Ok(Err(error)) => tracing::warn!(%error, files = left.len(), "files that the job left behind could not be settled"),
            Err(panic) => tracing::error!(%panic, files = left.len(), "files that the job left behind could not be settled"),
        }
    }
    flush(context).await;
    Ok(state.jobs().end(context.job, end, context.progress.get(), measured).await?)
}
