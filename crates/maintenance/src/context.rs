//! What a job is given, and how it is told to end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use esker_catalog::{Actor, Catalog, LoadedTable};
use esker_read::Reader;
use esker_state::{Job, JobLogLine, StateError};
use esker_types::{CodedError, JobId, TableId, now_ms};
use esker_write::{Destination, Recorder, WriteError};
use tokio::sync::Semaphore;

use crate::counters::Counters;
use crate::{MaintenanceError, Result};

/// How far a job is, in the unit of its kind: bytes for a compaction, else files.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
    /// Lines of the job's log that are not recorded yet.
    lines: Mutex<Vec<JobLogLine>>,
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

    /// From now on the job ends where it can.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Adds a line to the job's log.
    pub(crate) fn log(&self, text: String) {
        tracing::info!("{text}");
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(JobLogLine { time_ms: now_ms(), text });
    }

    pub(crate) fn take_lines(&self) -> Vec<JobLogLine> {
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
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
    /// Which attempt at the job it is: the names of its files tell it, as those of another attempt are being reclaimed.
    pub(crate) attempt: i64,
    pub(crate) table: TableId,
    pub(crate) progress: Arc<Progress>,
    /// Threads that decode and encode.
    pub(crate) concurrency: usize,
    /// Turns for them, shared by the jobs of a warehouse.
    pub(crate) cpu: Arc<Semaphore>,
    pub(crate) limits: JobLimits,
    pub(crate) counters: Arc<Counters>,
    /// Who asked for the job, as the out-box names it.
    pub(crate) actor: Actor,
}

/// What a job may take.
#[derive(Debug, Clone)]
pub struct JobLimits {
    /// Memory in bytes, about.
    pub bytes: u64,
    /// Where goes what does not fit into it.
    pub spill_dir: PathBuf,
}

impl JobContext {
    /// The context of one of `n` groups that are rewritten at the same time: they share the memory.
    pub(crate) fn share(&self, n: usize) -> Self {
        let mut this = self.clone();
        this.limits.bytes /= n.max(1) as u64;
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

    /// Keeps that a file could not be read, if that is what went wrong.
    pub(crate) async fn record_damage(&self, error: &MaintenanceError) {
        if let Some(met) = error.unreadable() {
            self.catalog.record_damage(self.table, &met, &format!("met by job {}", self.job)).await;
        }
    }

    /// [`MaintenanceError::Cancelled`] if somebody wants the job to end. Asked where nothing is half done.
    pub(crate) fn check_cancelled(&self) -> Result<()> {
        if self.progress.is_cancelled() { Err(MaintenanceError::Cancelled) } else { Ok(()) }
    }

    /// Does work that keeps a thread busy, on a thread where nothing waits for it, and counts its processor time.
    pub(crate) async fn blocking<T: Send + 'static>(self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        self.check_cancelled()?;
        let counters = self.counters;
        tokio::task::spawn_blocking(move || counters.timed(work)).await?
    }

    /// Where the job's files go: each is recorded before it is written.
    pub(crate) fn destination(&self) -> Destination {
        let (catalog, table, job, progress) = (self.catalog.clone(), self.table, self.job, self.progress.clone());
        let record: Recorder = Arc::new(move |paths: Vec<String>| {
            let (catalog, cancelled) = (catalog.clone(), progress.is_cancelled());
            Box::pin(async move {
                if cancelled {
                    return Err(WriteError::Record(CodedError::new(MaintenanceError::Cancelled)));
                }
                let recorded = catalog.state().record_outputs(catalog.warehouse(), table, Some(job), &paths).await;
                recorded.map_err(|e| WriteError::Record(CodedError::new(e)))
            })
        });
        Destination { storage: self.catalog.storage().clone(), recorder: record, counters: self.counters.writes.clone() }
    }
}

/// Loads the table of a job as it is now, whatever its name is now.
///
/// # Errors
///
/// Returns [`StateError::NoSuchTable`] if the table was dropped, and the catalog's error if its metadata cannot be read.
pub(crate) async fn current(catalog: &Catalog, job: &Job) -> Result<LoadedTable> {
    match catalog.state().tabular_by_id(job.table_id).await? {
        Some(row) => Ok(catalog.load_row(row).await?),
        None => Err(StateError::NoSuchTable(job.table.clone()).into()),
    }
}
