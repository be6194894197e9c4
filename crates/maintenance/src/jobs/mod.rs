//! Jobs: asked for, queued, taken, done.

mod external;
#[cfg(test)]
mod kept;
mod kinds;
mod stats;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use esker_catalog::{Actor, Catalog, LoadedTable};
use esker_read::Reader;
use esker_state::{NewJob, StateError};
use esker_types::{JobId, Millis, Principal, TableId, TableName, now_ms};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use crate::context::{JobContext, JobLimits, Progress};
use crate::{MaintenanceError, Result};
pub use external::ExternalJob;
pub(crate) use kinds::undo_work;
pub use kinds::{JobRequest, KindView, command, describe_outcome, describe_preview, kind_view};
use kinds::{PlannedJob, preview};
use stats::JobStats;
pub use stats::KindStats;
pub use worker::{Worker, WorkerOptions};

/// The priority of what somebody waits for.
pub const PRIORITY_MANUAL: i64 = 100;
/// The priority of what a schedule says.
pub const PRIORITY_SCHEDULED: i64 = 50;
/// The priority of what Esker does by itself.
pub const PRIORITY_AUTOPILOT: i64 = 0;

/// Plans kept until their jobs are taken.
const MOST_PLANS: usize = 64;

/// A job to be entered.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// What it is to do.
    pub request: JobRequest,
    /// Who asks for it.
    pub principal: String,
    /// Why, for people.
    pub reason: String,
    /// The same key gives the same job.
    pub key: Option<String>,
    /// Jobs of higher priority are taken first.
    pub priority: i64,
    /// It is not begun before.
    pub due_ms: Millis,
    /// What it is expected to gain.
    pub predicted: Option<Value>,
}

impl JobSpec {
    /// What somebody asks for, now.
    pub fn manual(request: JobRequest, principal: &Principal) -> Self {
        let reason = format!("asked for by {principal}");
        let (key, predicted) = (None, None);
        Self { request, principal: principal.to_string(), reason, key, priority: PRIORITY_MANUAL, due_ms: 0, predicted }
    }
}

/// The maintenance of one warehouse: enters jobs, and has what they need.
#[derive(Debug, Clone)]
pub struct Maintenance {
    catalog: Catalog,
    reader: Reader,
    runtime: Handle,
    concurrency: usize,
    cpu: Arc<Semaphore>,
    limits: JobLimits,
    /// Jobs at work in this process.
    running: Arc<Mutex<HashMap<JobId, Arc<Progress>>>>,
    /// Plans made when a job was asked for: carried out if its table has not changed since.
    planned: Arc<Mutex<HashMap<JobId, (LoadedTable, PlannedJob)>>>,
    stats: Arc<JobStats>,
    /// Says that a job may be there to be taken.
    wake: Arc<Notify>,
}

impl Maintenance {
    /// Jobs run on `runtime`, with up to `concurrency` threads that decode and encode, each job within its limits. `wake` is the
    /// server's, for all warehouses.
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
        Self { catalog, reader, runtime, concurrency, cpu, limits, running, planned, stats, wake }
    }

    /// The catalog that jobs work on.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The reader of its storage.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Memory of a job in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.limits.bytes
    }

    /// Where goes what does not fit into memory.
    pub fn spill_dir(&self) -> &Path {
        &self.limits.spill_dir
    }

    /// Done and total of a job that runs here, newer than what its record says.
    pub fn progress(&self, job: JobId) -> Option<(u64, u64)> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(&job).map(|progress| progress.get())
    }

    /// What the attempts of this process came to, by kind.
    pub fn stats(&self) -> BTreeMap<String, KindStats> {
        self.stats.get()
    }

    /// Jobs at work in this process.
    pub fn running(&self) -> usize {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Shows what a job would do, as the JSON of its kind's preview. Nothing changes.
    ///
    /// The work is done on the jobs' runtime: it may read files and write to the spill directory.
    ///
    /// # Errors
    ///
    /// Returns the error that planning the job meets, and [`MaintenanceError::Panicked`] for a bug in it.
    pub async fn preview(&self, name: &TableName, request: JobRequest) -> Result<Value> {
        let table = self.catalog.load(name).await?;
        let context = self.context(JobId::fresh(), 0, table.row.id, "");
        self.runtime.spawn(async move { preview(&context, &table, &request).await }).await?
    }

    /// Plans a job, so that what can't be done is refused at once, and enters it.
    pub async fn start(&self, name: &TableName, order: JobSpec) -> Result<JobId> {
        let table = self.catalog.load(name).await?;
        let job = JobId::fresh();
        let work = PlannedJob::plan(&self.context(job, 0, table.row.id, &order.principal), &table, &order.request).await?;
        let (id, name) = (table.row.id, table.row.name.clone());
        {
            let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
            if planned.len() < MOST_PLANS {
                planned.insert(job, (table, work));
            }
        }
        let entered = self.enter(job, id, &name, order).await;
        if !matches!(&entered, Ok(entered) if *entered == job) {
            self.take_plan(job);
        }
        entered
    }

    /// Enters a job as it is; it is planned when it is taken. None if a job of its key was entered before.
    pub async fn enqueue(&self, table: TableId, name: &TableName, order: JobSpec) -> Result<Option<JobId>> {
        let job = JobId::fresh();
        match self.enter(job, table, name, order).await {
            Err(MaintenanceError::State(StateError::KeyTaken { .. })) => Ok(None),
            entered => entered.map(|entered| (entered == job).then_some(job)),
        }
    }

    async fn enter(&self, id: JobId, table: TableId, name: &TableName, order: JobSpec) -> Result<JobId> {
        let new = NewJob {
            id,
            table,
            table_name: name.to_string(),
            kind: order.request.kind().as_str(),
            principal: order.principal,
            reason: order.reason,
            key: order.key,
            request: order.request.json(),
            priority: order.priority,
            due_ms: order.due_ms.max(now_ms()),
            predicted: order.predicted,
        };
        let entered = self.catalog.state().enqueue(self.catalog.warehouse(), &new).await?;
        self.wake.notify_one();
        Ok(entered)
    }

    fn take_plan(&self, job: JobId) -> Option<(LoadedTable, PlannedJob)> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).remove(&job)
    }

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
            actor: Actor { principal: principal.to_owned(), receipt: None },
        }
    }
}
