//! External jobs: a server delegates a job to another engine, whose worker claims it under a lease.
//!
//! The worker is outside of Esker and has no heartbeat. The lease takes the place of a heartbeat: a job whose lease ends goes back
//! into the queue of its engine ([`Jobs::requeue_abandoned`]). The state machine is drawn in [`crate::jobs`].

use esker_types::{JobId, Millis, now_ms};

use super::queue::JobHolder;
use super::{Jobs, as_column};
use crate::{Job, JobEnd, Result};

impl Jobs<'_> {
    /// Claims for a worker the next job of some warehouses that is delegated to the worker's engine.
    ///
    /// `until_ms` is the end of the lease, in milliseconds since the Unix epoch. After it, [`Jobs::requeue_abandoned`] puts the job
    /// back into the queue, and another worker may claim the job. Returns `None` if no job waits.
    ///
    /// # Errors
    ///
    /// Returns [`Corrupt`](crate::StateError::Corrupt) if a stored value can't be read. Returns
    /// [`Fenced`](crate::StateError::Fenced) if the other servers count this one as dead, and [`Full`](crate::StateError::Full) or
    /// [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn claim_external(self, warehouses: &[i64], engine: &str, worker: &str, until_ms: Millis) -> Result<Option<Job>> {
        self.take_next_of_engine(
            warehouses,
            Some(engine),
            JobHolder { worker: Some(worker), until_ms: Some(until_ms), instance: None },
        )
        .await
    }

    /// Renews the lease of a worker until `until_ms`, and records the progress of the worker's job as done and total work.
    ///
    /// Returns true if the job was cancelled, so that the worker must end it. Returns `None` if the lease is over or the worker has
    /// lost the job; then nothing is changed.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn renew_external(
        self,
        id: JobId,
        worker: &str,
        until_ms: Millis,
        (done, total): (u64, u64),
    ) -> Result<Option<bool>> {
        let sql = "UPDATE job SET lease_ms = $3, done = $4, total = $5
                   WHERE id = $1 AND state = 'running' AND worker = $2 AND lease_ms >= $6 RETURNING cancelled_by";
        let query = sqlx::query_scalar(sql).bind(id.to_string()).bind(worker).bind(until_ms);
        let query = query.bind(as_column(done)).bind(as_column(total)).bind(now_ms());
        let row: Option<Option<String>> = query.fetch_optional(&self.state.writer).await?;
        Ok(row.map(|cancelled_by| cancelled_by.is_some()))
    }

    /// Records the end of an attempt of a worker. Returns false if the worker has lost the job; then nothing is changed.
    ///
    /// A worker whose lease is over may still end the job until the job is queued again: what it did is done.
    ///
    /// `measured` is the cost of the job as JSON.
    ///
    /// # Errors
    ///
    /// Returns [`Corrupt`](crate::StateError::Corrupt) if the outcome or `measured` is not JSON, or the record of the job can't be
    /// read. Returns [`Fenced`](crate::StateError::Fenced) if the other servers count this one as dead, and
    /// [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn end_external(self, id: JobId, worker: &str, end: &JobEnd, measured: &str) -> Result<bool> {
        self.end_for(id, JobHolder { worker: Some(worker), instance: None, until_ms: None }, end, None, measured).await
    }
}
