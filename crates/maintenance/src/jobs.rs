use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use esker_catalog::{Catalog, Cause, LoadedTable, deletion};
use esker_read::Reader;
use esker_state::NewJob;
use esker_table::ExpiryPolicy;
use esker_types::{JobId, Principal, TableId, TableName};
use esker_write::{Destination, Recorder, WriteError};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::compact::execute_compact;
use crate::counters::Counters;
use crate::erase::execute_erase;
use crate::expire::{self, Unreferenced, execute_expire};
use crate::manifests::execute_manifests;
use crate::orphans::{execute_orphans, plan_orphans};
use crate::statistics::execute_statistics;
use crate::{
    CompactOptions, EraseOptions, MaintenanceError, ManifestOptions, OrphanOptions, Result, StatisticsOptions, check_owned,
    erasure_report, plan_compact, plan_manifests, plan_statistics,
};

/// How far a job is, in the unit of its kind: bytes for a compaction, else files.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    pub(crate) fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    pub(crate) fn set_done(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, n: u64) {
        self.done.fetch_add(n, Ordering::Relaxed);
    }

    /// Done and total.
    pub fn get(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}

/// What a job is given.
#[derive(Debug, Clone)]
pub(crate) struct JobContext {
    pub(crate) catalog: Catalog,
    pub(crate) reader: Reader,
    pub(crate) job: JobId,
    pub(crate) table: TableId,
    pub(crate) progress: Arc<Progress>,
    /// Threads that decode and encode.
    pub(crate) concurrency: usize,
    /// Turns for them, shared by the jobs of a warehouse.
    pub(crate) cpu: Arc<Semaphore>,
    pub(crate) memory: Limits,
    pub(crate) counters: Arc<Counters>,
    /// Who asked for the job, as the out-box names it.
    pub(crate) cause: Cause,
}

/// What a job may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Memory in bytes, about.
    pub bytes: u64,
    /// Where goes what does not fit into it.
    pub spill_dir: PathBuf,
}

impl JobContext {
    /// The context of one of `n` groups that are rewritten at the same time: they share the memory.
    pub(crate) fn share(&self, n: usize) -> Self {
        let mut this = self.clone();
        this.memory.bytes /= n.max(1) as u64;
        this
    }

    /// What the summaries of a job's snapshots begin with.
    pub(crate) fn summary(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("engine-name".to_owned(), "esker".to_owned()),
            ("engine-version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("esker.job-id".to_owned(), self.job.to_string()),
        ])
    }

    /// Does work that keeps a thread busy, on a thread where nothing waits for it, and counts its processor time.
    pub(crate) async fn blocking<T: Send + 'static>(self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let counters = self.counters;
        let done = tokio::task::spawn_blocking(move || counters.timed(work)).await;
        done.map_err(|e| MaintenanceError::Refused(format!("a worker stopped: {e}")))?
    }

    /// Where the job's files go: each is recorded before it is written.
    pub(crate) fn destination(&self) -> Destination {
        let (catalog, table, job) = (self.catalog.clone(), self.table, self.job);
        let record: Recorder = Arc::new(move |paths: Vec<String>| {
            let catalog = catalog.clone();
            Box::pin(async move {
                let recorded = catalog.state().record_outputs(catalog.warehouse(), table, Some(job), &paths).await;
                recorded.map_err(|e| WriteError::Record(e.to_string()))
            })
        });
        Destination { storage: self.catalog.storage().clone(), record, counters: self.counters.writes.clone() }
    }
}

/// A job to be started.
#[derive(Debug, Clone)]
pub enum Request {
    /// Rewrite data files, or deletes.
    Compact(Box<CompactOptions>),
    /// Remove snapshots.
    Expire(ExpiryPolicy),
    /// Put files that belong to nothing into quarantine.
    Orphans(OrphanOptions),
    /// Write manifests anew.
    Manifests(ManifestOptions),
    /// Count distinct values.
    Statistics(StatisticsOptions),
    /// Make deleted rows go from storage.
    Erase(EraseOptions),
}

/// The jobs at work. Where a job's work is over and only its end is still to be recorded, there is no table any more: the next
/// job may begin.
type Running = Arc<Mutex<HashMap<JobId, (Option<TableId>, Arc<Progress>)>>>;

/// Runs jobs, apart from serving: on a runtime of their own.
#[derive(Debug, Clone)]
pub struct Maintenance {
    catalog: Catalog,
    reader: Reader,
    runtime: Handle,
    concurrency: usize,
    cpu: Arc<Semaphore>,
    limits: Limits,
    running: Running,
}

impl Maintenance {
    /// Jobs run on `runtime`, with up to `concurrency` threads that decode and encode, each job within its limits.
    pub fn new(catalog: Catalog, reader: Reader, runtime: Handle, concurrency: usize, limits: Limits) -> Self {
        let cpu = Arc::new(Semaphore::new(concurrency.max(1)));
        Self { catalog, reader, runtime, concurrency, cpu, limits, running: Arc::default() }
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

    /// Done and total of a job that runs here.
    pub fn progress(&self, job: JobId) -> Option<(u64, u64)> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(&job).map(|(_, progress)| progress.get())
    }

    /// Jobs at work.
    pub fn running(&self) -> usize {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Plans the job, records it and starts it. One job a table at a time.
    pub async fn start(&self, name: &TableName, request: Request, principal: &Principal) -> Result<JobId> {
        let table = self.catalog.load(name).await?;
        let job = JobId::fresh();
        let progress = Arc::new(Progress::default());
        self.enter(job, &table, progress.clone())?;
        let context = JobContext {
            catalog: self.catalog.clone(),
            reader: self.reader.clone(),
            job,
            table: table.row.id,
            progress,
            concurrency: self.concurrency,
            cpu: self.cpu.clone(),
            memory: self.limits.clone(),
            counters: Arc::default(),
            cause: Cause { principal: principal.to_string(), receipt: None },
        };
        let leave = Leave { running: self.running.clone(), job };
        let work = Work::plan(&context, &table, request).await?;
        let new = NewJob {
            id: job,
            table: table.row.id,
            table_name: name.to_string(),
            kind: work.kind(),
            principal: principal.to_string(),
            plan: work.plan_json(),
        };
        self.catalog.state().start_job(&new).await?;
        self.runtime.spawn(async move {
            let kind = work.kind();
            let result = work.run(&context, &table).await;
            match &result {
                Ok(outcome) => tracing::info!(%job, kind, table = %table.row.name, outcome, "job succeeded"),
                Err(error) => tracing::error!(%job, kind, table = %table.row.name, %error, "job failed"),
            }
            conclude(&context, result, &leave).await;
        });
        Ok(job)
    }

    fn enter(&self, job: JobId, table: &LoadedTable, progress: Arc<Progress>) -> Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((other, _)) = running.iter().find(|(_, (id, _))| *id == Some(table.row.id)) {
            let what = format!("job {other} is at work on {}; wait for it to end", table.row.name);
            return Err(MaintenanceError::Refused(what));
        }
        running.insert(job, (Some(table.row.id), progress));
        Ok(())
    }
}

/// Takes a job off the list when it ends, however it ends.
struct Leave {
    running: Running,
    job: JobId,
}

impl Leave {
    /// From now on another job may work on the table.
    fn free_table(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((table, _)) = running.get_mut(&self.job) {
            *table = None;
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.job);
    }
}

/// Reclaims what the job wrote and did not commit, and records how it ended.
async fn conclude(context: &JobContext, result: Result<String>, leave: &Leave) {
    let state = context.catalog.state();
    let settled = async {
        let left: Vec<String> = state.outputs_of_job(context.job).await?;
        if !left.is_empty() {
            deletion::settle(&context.catalog, context.table, &left, "written by a job and not committed").await?;
        }
        leave.free_table();
        match &result {
            Ok(outcome) => state.finish_job(context.job, Ok(outcome)).await?,
            Err(error) => state.finish_job(context.job, Err(&error.to_string())).await?,
        }
        Ok::<(), MaintenanceError>(())
    };
    if let Err(error) = settled.await {
        // The next start finds the job still running and its outputs recorded, and settles both.
        tracing::error!(job = %context.job, %error, "the end of a job could not be recorded");
    }
}

/// A planned job.
enum Work {
    Compact(Box<crate::CompactPlan>),
    Expire(Box<(crate::ExpirePlan, Unreferenced)>),
    Orphans(crate::OrphanPlan),
    Manifests(crate::ManifestPlan),
    Statistics(crate::StatisticsPlan),
    Erase(Box<(EraseOptions, crate::ErasureReport)>),
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"))
}

impl Work {
    async fn plan(context: &JobContext, table: &LoadedTable, request: Request) -> Result<Self> {
        Ok(match request {
            Request::Compact(options) => {
                check_owned(table)?;
                Self::Compact(Box::new(plan_compact(&context.catalog, table, &options).await?))
            }
            Request::Expire(policy) => Self::Expire(Box::new(expire::plan(&context.catalog, table, policy).await?)),
            Request::Manifests(options) => {
                Self::Manifests(plan_manifests(&context.catalog, table, &options, context.memory.bytes).await?)
            }
            Request::Statistics(options) => Self::Statistics(plan_statistics(table, &options)?),
            Request::Erase(options) => {
                let report = erasure_report(&context.catalog, &context.reader, table, &options).await?;
                Self::Erase(Box::new((options, report)))
            }
            Request::Orphans(options) => Self::Orphans(plan_orphans(&context.catalog, table, &options)?),
        })
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Compact(_) => "compact",
            Self::Expire(_) => "expire",
            Self::Orphans(_) => "orphans",
            Self::Manifests(_) => "manifests",
            Self::Statistics(_) => "statistics",
            Self::Erase(_) => "erase",
        }
    }

    fn plan_json(&self) -> String {
        match self {
            Self::Compact(plan) => json(plan.as_ref()),
            Self::Expire(expiry) => json(&expiry.0),
            Self::Orphans(plan) => json(plan),
            Self::Manifests(plan) => json(plan),
            Self::Statistics(plan) => json(plan),
            Self::Erase(erasure) => json(&erasure.1),
        }
    }

    async fn run(&self, context: &JobContext, table: &LoadedTable) -> Result<String> {
        Ok(match self {
            Self::Compact(plan) => json(&execute_compact(context, table, plan).await?),
            Self::Expire(expiry) => json(&execute_expire(context, table, &expiry.0, &expiry.1).await?),
            Self::Orphans(plan) => json(&execute_orphans(context, table, plan).await?),
            Self::Manifests(plan) => json(&execute_manifests(context, table, plan).await?),
            Self::Statistics(plan) => json(&execute_statistics(context, table, plan).await?),
            Self::Erase(erasure) => json(&execute_erase(context, table, &erasure.0, &erasure.1).await?),
        })
    }
}
