//! Jobs: a request becomes a row of the queue, a worker takes it, plans it and runs it.
//!
//! [`Maintenance`] is the entry of one warehouse: it plans and enqueues jobs. `worker` takes jobs from the queue and runs them,
//! `external` hands them to workers of other engines, and `kinds` lists the kinds of jobs. [`JobQueue`] changes jobs of any
//! warehouse. Start reading at [`Maintenance::start`].

mod askers;
#[cfg(test)]
mod compatibility;
mod external;
mod kinds;
mod queue;
mod schema;
mod stats;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use esker_catalog::{Actor, Catalog, LoadedTable};
use esker_read::Reader;
use esker_state::{JobAsker, NewJob, StateError};
use esker_types::{JobId, Millis, Principal, TableId, TableName, now_ms};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use crate::context::{JobContext, JobLimits, Progress};
use crate::{MaintenanceError, Result};
pub use askers::JobAuthorities;
pub use external::ExternalJob;
pub(crate) use kinds::undo_work;
pub use kinds::{JobOptions, JobRequest, KindView, command, describe_outcome, describe_preview, kind_view};
use kinds::{PlannedJob, preview};
pub use queue::JobQueue;
pub use schema::job_schema;
use stats::JobStats;
pub use stats::KindStats;
pub use worker::{Worker, WorkerOptions};

/// The priority of a job that a person or a client asked for.
pub const PRIORITY_MANUAL: i64 = 100;
/// The priority of a job that a policy's schedule asks for.
pub const PRIORITY_SCHEDULED: i64 = 50;
/// The priority of a job that the autopilot decided on.
pub const PRIORITY_AUTOPILOT: i64 = 0;

/// Number of plans that are held in memory until their jobs are taken.
const MAX_HELD_PLANS: usize = 64;

/// A job to be enqueued.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// The kind of the job and its options.
    pub request: JobRequest,
    /// The principal that asks for the job.
    pub principal: String,
    /// The identity whose rights are asked again when the job begins; `None` for a job of Esker's own.
    pub asker: Option<JobAsker>,
    /// The reason of the job, for people.
    pub reason: String,
    /// Idempotency key: a second job with the same key in the warehouse is the first one.
    pub key: Option<String>,
    /// Priority; jobs of higher priority are taken first.
    pub priority: i64,
    /// Time before which the job does not start, in milliseconds since the Unix epoch.
    pub due_ms: Millis,
    /// The gain that the autopilot predicts, as JSON.
    pub predicted: Option<Value>,
}

impl JobSpec {
    /// Returns a job that a principal asks for, due at once and without a key.
    pub fn manual(request: JobRequest, principal: &Principal, asker: JobAsker) -> Self {
        let (principal, asker) = (principal.to_string(), Some(asker));
        let reason = format!("asked for by {principal}");
        let (key, predicted) = (None, None);
        Self { request, principal, asker, reason, key, priority: PRIORITY_MANUAL, due_ms: 0, predicted }
    }
}

/// The maintenance of one warehouse.
///
/// It enqueues jobs, and holds what they need to run: the catalog, the reader, the runtime and the limits. Clones share one state.
#[derive(Debug, Clone)]
pub struct Maintenance {
    catalog: Catalog,
    reader: Reader,
    runtime: Handle,
    concurrency: usize,
    cpu: Arc<Semaphore>,
    limits: JobLimits,
    /// The progress of the jobs that run in this process.
    running: Arc<Mutex<HashMap<JobId, Arc<Progress>>>>,
    /// Plans that were made when their job was enqueued. The worker uses one if the table has not changed since.
    planned: Arc<Mutex<HashMap<JobId, (LoadedTable, PlannedJob)>>>,
    stats: Arc<JobStats>,
    /// Wakes the worker, because a job may be ready.
    wake: Arc<Notify>,
    /// Finds the rights of who asked for a job.
    authorities: Option<Arc<dyn JobAuthorities>>,
}

impl Maintenance {
    /// Creates the maintenance of the catalog's warehouse.
    ///
    /// Jobs run on `runtime`. All of them together keep up to `concurrency` threads busy with decoding and encoding, and each keeps
    /// to `limits`. `wake` is the server's one notification for all warehouses; its [`Worker`] waits on it.
    pub fn new(
        catalog: Catalog,
        reader: Reader,
        runtime: Handle,
        concurrency: usize,
        limits: JobLimits,
        wake: Arc<Notify>,
    ) -> Self {
        let cpu = Arc::new(Semaphore::new(concurrency.max(1)));
        let (running, planned, stats) = (Arc::default(), Arc::default(), Arc::default());
        Self { catalog, reader, runtime, concurrency, cpu, limits, running, planned, stats, wake, authorities: None }
    }

    /// Has the rights of who asked for a job asked again when it begins, and keeps jobs from the files of other tables while
    /// access control is on.
    #[must_use]
    pub fn with_authorities(self, authorities: Arc<dyn JobAuthorities>) -> Self {
        Self { authorities: Some(authorities), ..self }
    }

    /// Returns the catalog that jobs work on.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Returns the reader of the warehouse's storage.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Returns the memory that a job may take, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.limits.bytes
    }

    /// Returns the directory for data that does not fit into memory.
    pub fn spill_dir(&self) -> &Path {
        &self.limits.spill_dir
    }

    /// Returns the done and the total work of a job that runs in this process, newer than in its record; `None` if it does not.
    pub fn progress(&self, job: JobId) -> Option<(u64, u64)> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(&job).map(|progress| progress.get())
    }

    /// Returns the statistics of the attempts of this process, by kind of job.
    pub fn stats(&self) -> BTreeMap<String, KindStats> {
        self.stats.get()
    }

    /// Returns the number of jobs that run in this process.
    pub fn running(&self) -> usize {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Shows what a job would do, as the JSON of its kind's preview. Nothing changes.
    ///
    /// The work is done on the jobs' runtime: it may read files and write to the spill directory.
    ///
    /// # Errors
    ///
    /// - Returns [`MaintenanceError::Catalog`] if the table does not exist or cannot be loaded.
    /// - Returns the error of planning the job, such as [`MaintenanceError::Option`] for an option that makes no sense.
    /// - Returns [`MaintenanceError::Panicked`] if planning panics, and [`MaintenanceError::Cancelled`] if the runtime shuts down.
    pub async fn preview(&self, name: &TableName, request: JobRequest) -> Result<Value> {
        let table = self.catalog.load(name).await?;
        let context = self.context(JobId::fresh(), 0, table.row.id, "");
        self.runtime.spawn(async move { preview(&context, &table, &request).await }).await?
    }

    /// Plans a job on a table, so that an impossible one is refused at once, and enqueues it.
    ///
    /// Returns the job's id, or the id of the job that has the key already.
    ///
    /// # Errors
    ///
    /// - Returns [`MaintenanceError::Catalog`] if the table does not exist or cannot be loaded.
    /// - Returns the error of planning the job, such as [`MaintenanceError::Refused`] for a foreign table and
    ///   [`MaintenanceError::Option`] for an option that makes no sense.
    /// - Returns [`MaintenanceError::State`] if the key belongs to another job ([`StateError::KeyTaken`]) or the database fails.
    pub async fn start(&self, name: &TableName, order: JobSpec) -> Result<JobId> {
        let table = self.catalog.load(name).await?;
        let job = JobId::fresh();
        let work = PlannedJob::plan(&self.context(job, 0, table.row.id, &order.principal), &table, &order.request).await?;
        let (id, name) = (table.row.id, table.row.name.clone());
        {
            let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
            if planned.len() < MAX_HELD_PLANS {
                planned.insert(job, (table, work));
            }
        }
        let entered = self.insert(job, id, &name, order).await;
        if !matches!(&entered, Ok(entered) if *entered == job) {
            self.take_plan(job);
        }
        entered
    }

    /// Enqueues a job without planning it; the worker plans it.
    ///
    /// Returns `None` if a job with the same key was enqueued before.
    ///
    /// # Errors
    ///
    /// Returns [`MaintenanceError::State`] if the database fails.
    pub async fn enqueue(&self, table: TableId, name: &TableName, order: JobSpec) -> Result<Option<JobId>> {
        let job = JobId::fresh();
        match self.insert(job, table, name, order).await {
            Err(MaintenanceError::State(StateError::KeyTaken { .. })) => Ok(None),
            entered => entered.map(|entered| (entered == job).then_some(job)),
        }
    }

    /// Writes the job into the queue and wakes the worker. Returns the id of the job that has the key already, if one does.
    async fn insert(&self, id: JobId, table: TableId, name: &TableName, order: JobSpec) -> Result<JobId> {
        let new = NewJob {
            id,
            table,
            table_name: name.to_string(),
            kind: order.request.kind().as_str(),
            principal: order.principal,
            asker: order.asker,
            reason: order.reason,
            key: order.key,
            request: order.request.json(),
            priority: order.priority,
            due_ms: order.due_ms.max(now_ms()),
            predicted: order.predicted,
        };
        let entered = self.catalog.state().jobs().enqueue(self.catalog.warehouse(), &new).await?;
        self.wake.notify_one();
        Ok(entered)
    }

    /// Takes the plan that was made when the job was enqueued, if it is still in memory.
    fn take_plan(&self, job: JobId) -> Option<(LoadedTable, PlannedJob)> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).remove(&job)
    }

    /// Builds the context of an attempt at a job.
    fn context(&self, job: JobId, attempt: i64, table: TableId, principal: &str) -> JobContext {
        JobContext {
            catalog: self.catalog.clone(),
            reader: self.reader.clone(),
            job,
            attempt,
            table,
            progress: Arc::default(),
            concurrency: self.concurrency,
            cpu: self.cpu.clone(),
            limits: self.limits.clone(),
            counters: Arc::default(),
            actor: Actor::server_for(principal),
            authorities: self.authorities.clone(),
        }
    }
}
