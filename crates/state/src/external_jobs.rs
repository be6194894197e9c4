//! Jobs that other engines do: a server hands them over, a worker outside takes them for a time that it renews.

use esker_types::{JobId, Millis, now_ms};

use crate::queue::JobHolder;
use crate::{Job, JobEnd, Result, State};

impl State {
    /// Takes the next job of some warehouses that was handed over to an engine. The worker has it until the lease ends, in milliseconds
    /// since the epoch; then it waits for another.
    pub async fn claim_external_job(
        &self,
        warehouses: &[i64],
        engine: &str,
        worker: &str,
        until_ms: Millis,
    ) -> Result<Option<Job>> {
        self.take_next(warehouses, Some(engine), JobHolder { worker: Some(worker), until_ms: Some(until_ms), instance: None })
            .await
    }

    /// Prolongs a worker's lease, with how far the job is. Returns whether somebody wants it to end; none if it is not this worker's any
    /// more.
    pub async fn renew_job(&self, id: JobId, worker: &str, until_ms: Millis, (done, total): (u64, u64)) -> Result<Option<bool>> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let sql = "UPDATE job SET lease_ms = $3, done = $4, total = $5
                   WHERE id = $1 AND state = 'running' AND worker = $2 AND lease_ms >= $6 RETURNING cancelled_by";
        let query = sqlx::query_scalar(sql).bind(id.to_string()).bind(worker).bind(until_ms);
        let query = query.bind(number(done)).bind(number(total)).bind(now_ms());
        let row: Option<Option<String>> = query.fetch_optional(&self.writer).await?;
        Ok(row.map(|cancelled_by| cancelled_by.is_some()))
    }

    /// Records how a job ended that a worker has; false if it is not this worker's any more.
    pub async fn end_external_job(&self, id: JobId, worker: &str, end: &JobEnd, measured: &str) -> Result<bool> {
        self.end_job_of(id, worker, end, measured).await
    }
}
