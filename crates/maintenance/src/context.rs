//! The context of one attempt at a job: the catalog, the reader, its limits, its progress and its cancellation.
//!
//! [`JobContext`] is handed to every plan and run. [`Progress`] is its one shared mutable part. The job counts and logs into it;
//! the worker copies it to the database and sets the cancellation. A job looks for a cancellation only at safe points, where
//! nothing is half done.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use esker_catalog::{Actor, Catalog, LoadedTable};
use esker_read::Reader;
use esker_state::{Job, JobLogLine, StateError};
use esker_types::{CodedError, JobId, TableId, now_ms};
use esker_write::{Destination, Recorder, WriteError};
use tokio::sync::Semaphore;

use crate::counters::Counters;
use crate::{JobAuthorities, MaintenanceError, Result};

/// The progress of a job, in its kind's [`ProgressUnit`](crate::ProgressUnit): bytes or files.
///
/// It also holds the cancellation flag and the log lines that wait to be recorded.
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

    /// Requests that the job stops at its next safe point.
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

    /// Takes the log lines that are not recorded yet, oldest first.
    pub(crate) fn take_lines(&self) -> Vec<JobLogLine> {
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the amount that is done and the total, which is 0 until the job has set it.
    pub fn get(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}

/// The context of one attempt at a job, or of a dry run.
#[derive(Debug, Clone)]
pub(crate) struct JobContext {
    pub(crate) catalog: Catalog,
    pub(crate) reader: Reader,
    pub(crate) job: JobId,
    /// Number of the attempt, from 1; 0 for a dry run. Names of files contain it, because files of an earlier attempt are being
    /// reclaimed.
    pub(crate) attempt: i64,
    pub(crate) table: TableId,
    pub(crate) progress: Arc<Progress>,
    /// Number of threads that decode and encode.
    pub(crate) concurrency: usize,
    /// Permits to keep a thread busy, shared by all jobs of a warehouse.
    pub(crate) cpu: Arc<Semaphore>,
    pub(crate) limits: JobLimits,
    pub(crate) counters: Arc<Counters>,
    /// The actor who asked for the job, as events name it.
    pub(crate) actor: Actor,
    /// The rules of access control, if the server has any.
    pub(crate) authorities: Option<Arc<dyn JobAuthorities>>,
}

/// The memory and the disk space of a job.
#[derive(Debug, Clone)]
pub struct JobLimits {
    /// Approximate memory of a job, in bytes.
    pub bytes: u64,
    /// Directory for data that does not fit into memory.
    pub spill_dir: PathBuf,
}

impl JobContext {
    /// Returns the context for one of `n` groups that are rewritten at the same time: each gets an equal share of the memory.
    pub(crate) fn share(&self, n: usize) -> Self {
        let mut this = self.clone();
        this.limits.bytes /= n.max(1) as u64;
        this
    }

    /// Returns the summary entries that every snapshot of the job has: engine, version and job id.
    pub(crate) fn summary(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("engine-name".to_owned(), "esker".to_owned()),
            ("engine-version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("esker.job-id".to_owned(), self.job.to_string()),
        ])
    }

    /// Records the file that caused an error as damaged, if a file did.
    pub(crate) async fn record_damage(&self, error: &MaintenanceError) {
        if let Some(met) = error.unreadable() {
            self.catalog.record_damage(self.table, &met, &format!("found by job {}", self.job)).await;
        }
    }

    /// Checks that nobody cancelled the job. It is called at safe points, where nothing is half done.
    ///
    /// # Errors
    ///
    /// Returns [`MaintenanceError::Cancelled`] after a cancellation.
    pub(crate) fn check_cancelled(&self) -> Result<()> {
        if self.progress.is_cancelled() { Err(MaintenanceError::Cancelled) } else { Ok(()) }
    }

    /// Runs work that keeps a thread busy on a blocking thread of the runtime, and counts its processor time.
    ///
    /// # Errors
    ///
    /// Returns [`MaintenanceError::Cancelled`] after a cancellation or if the runtime shuts down, [`MaintenanceError::Panicked`] if
    /// the work panics, and the work's error.
    pub(crate) async fn blocking<T: Send + 'static>(self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        self.check_cancelled()?;
        let counters = self.counters;
        tokio::task::spawn_blocking(move || counters.timed(work)).await?
    }

    /// Returns the destination of the job's files. Each path is recorded as a pending output before the file is written.
    ///
    /// After a cancellation no path can be recorded, so no file is written.
    pub(crate) fn destination(&self) -> Destination {
        let (catalog, table, job, progress) = (self.catalog.clone(), self.table, self.job, self.progress.clone());
        let record: Recorder = Arc::new(move |paths: Vec<String>| {
            let (catalog, cancelled) = (catalog.clone(), progress.is_cancelled());
            Box::pin(async move {
                if cancelled {
                    return Err(WriteError::Record(CodedError::new(MaintenanceError::Cancelled)));
                }
                let recorded = catalog.record_outputs(table, Some(job), &paths).await;
                recorded.map_err(|e| WriteError::Record(CodedError::new(e)))
            })
        });
        Destination { storage: self.catalog.storage().clone(), recorder: record, counters: self.counters.writes.clone() }
    }

    /// Writes a file of the job. Its path is recorded as a pending output first.
    ///
    /// # Errors
    ///
    /// Returns [`MaintenanceError::Write`] after a cancellation or if the path can't be recorded, and [`MaintenanceError::Storage`]
    /// if the storage fails.
    pub(crate) async fn write(&self, path: &str, content: Bytes) -> Result<()> {
        (self.destination().recorder)(vec![path.to_owned()]).await?;
        self.catalog.storage().write(path, content).await?;
        Ok(())
    }
}

/// Loads the present state of a job's table. The table is found by its id, so a rename does not matter.
///
/// # Errors
///
/// Returns [`MaintenanceError::State`] if the table was dropped ([`StateError::NoSuchTable`]) or the database fails, and
/// [`MaintenanceError::Catalog`] if the table's metadata cannot be read.
pub(crate) async fn current(catalog: &Catalog, job: &Job) -> Result<LoadedTable> {
    match catalog.state().tables().by_id(job.table_id).await? {
        Some(row) => Ok(catalog.load_row(row).await?),
        None => Err(StateError::NoSuchTable(job.table.clone()).into()),
    }
}
