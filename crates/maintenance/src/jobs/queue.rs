//! The queue of jobs over all warehouses, for requests that name a job and no warehouse.
//!
//! [`Maintenance`](super::Maintenance) enqueues the jobs of one warehouse, and [`Worker`](super::Worker) runs them.

use esker_state::{Job, JobState, State};
use esker_types::{JobId, Millis};

use crate::Result;

/// The queue of jobs of a state database. Clones are cheap.
#[derive(Debug, Clone)]
pub struct JobQueue {
    state: State,
}

impl JobQueue {
    /// Makes the queue of a database.
    pub const fn new(state: State) -> Self {
        Self { state }
    }

    /// Cancels a job: at once if it is queued, else as soon as its holder notices.
    ///
    /// Returns the state of the job after that, or `None` if there is no such job. A job that is over keeps its state.
    ///
    /// # Errors
    ///
    /// Returns [`MaintenanceError::State`](crate::MaintenanceError::State) if the database fails.
    pub async fn cancel(&self, id: JobId, by: &str) -> Result<Option<JobState>> {
        Ok(self.state.jobs().cancel(id, by).await?)
    }

    /// Claims the next job of some warehouses that is delegated to an engine, for an external worker.
    ///
    /// `until_ms` is the end of the lease, in milliseconds since the Unix epoch. Returns `None` if no job waits.
    ///
    /// # Errors
    ///
    /// Returns [`MaintenanceError::State`](crate::MaintenanceError::State) if the database fails.
    pub async fn claim_external(&self, warehouses: &[i64], engine: &str, worker: &str, until_ms: Millis) -> Result<Option<Job>> {
        Ok(self.state.jobs().claim_external(warehouses, engine, worker, until_ms).await?)
    }

    /// Renews the lease of an external worker, and records the progress of its job as done and total work.
    ///
    /// Returns true if the job is to be cancelled, and `None` if the worker has lost the job.
    ///
    /// # Errors
    ///
    /// Returns [`MaintenanceError::State`](crate::MaintenanceError::State) if the database fails.
    pub async fn renew_external(&self, id: JobId, worker: &str, until_ms: Millis, progress: (u64, u64)) -> Result<Option<bool>> {
        Ok(self.state.jobs().renew_external(id, worker, until_ms, progress).await?)
    }
}
