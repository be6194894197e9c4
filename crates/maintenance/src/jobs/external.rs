//! External jobs: jobs that are too large for a server, which a worker of another engine runs under a lease.
//!
//! A job stays the same job. Esker plans it and hands it over. The worker claims it through the management API, calls the engine's
//! procedure, renews its lease, and reports the end.

use esker_state::{Job, JobEnd, JobLogLine};
use esker_types::{Millis, now_ms};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::askers::check_asker;
use super::worker::counts_after;
use super::{JobRequest, Maintenance};
use crate::compact::{SparkCall, spark_call};
use crate::context::current;
use crate::{CompactPlan, Cost, MaintenanceError, Result};

/// A job in the form that a worker of another engine gets.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ExternalJob {
    /// Id of the job.
    pub id: esker_types::JobId,
    /// Name of the warehouse that the table is in.
    pub warehouse: String,
    /// Full name of the table.
    pub table: String,
    /// Number of bytes to be rewritten, by Esker's plan.
    pub bytes: u64,
    /// Number of data files to be rewritten, by Esker's plan.
    pub files: u64,
    /// The procedure to call, with its arguments.
    #[serde(flatten)]
    pub call: SparkCall,
    /// End of the worker's lease in milliseconds since the Unix epoch; the worker can renew it.
    pub lease_ms: Option<Millis>,
}

impl Maintenance {
    /// Describes a job to the worker that claimed it. The rights of who asked for the job are asked again.
    ///
    /// # Errors
    ///
    /// - Returns [`MaintenanceError::Refused`] if the job is not a compaction, if Spark cannot run it, if another version wrote its
    ///   request, or if who asked for it may not start it any more.
    /// - Returns [`MaintenanceError::State`] if the table was dropped or the database fails, and [`MaintenanceError::Catalog`] if
    ///   the table's metadata cannot be read.
    pub async fn external_job(&self, job: &Job) -> Result<ExternalJob> {
        let table = current(&self.catalog, job).await?;
        // The rights may have been taken away while the job waited for a worker.
        check_asker(self.authorities.as_deref(), &self.catalog, job, &table).await?;
        let JobRequest::Compact(options) = JobRequest::of(job)? else {
            return Err(MaintenanceError::Refused(format!("job {} is not a compaction", job.id)));
        };
        let call = spark_call(&table.row.name, &options)
            .ok_or_else(|| MaintenanceError::Refused(format!("job {} can't be done by Spark", job.id)))?;
        let plan = job.plan.as_ref().and_then(|plan| CompactPlan::deserialize(plan).ok());
        Ok(ExternalJob {
            id: job.id,
            warehouse: self.catalog.options().warehouse.clone(),
            table: table.row.name.to_string(),
            bytes: plan.as_ref().map_or(0, CompactPlan::bytes),
            files: plan.as_ref().map_or(0, CompactPlan::files),
            call,
            lease_ms: job.lease_ms,
        })
    }

    /// Records the end of a job that a worker ran, with the table's file counts before and after.
    ///
    /// Returns false if the worker has lost the job; then nothing is recorded. The job ends also if the table can't be read.
    ///
    /// # Errors
    ///
    /// Returns [`MaintenanceError::State`] if the database fails.
    pub async fn end_external_job(&self, job: &Job, worker: &str, end: JobEnd) -> Result<bool> {
        let state = self.catalog.state();
        let before = job.measured.as_ref().map_or(Value::Null, |measured| measured["shapes"]["before"].clone());
        let after = counts_after(&self.catalog, job).await;
        let seconds = job.started_ms.map_or(0.0, |started| (now_ms() - started) as f64 / 1e3);
        let cost = match &end {
            JobEnd::Succeeded(outcome) => cost(outcome),
            _ => Cost::default(),
        };
        let measured = json!({"shapes": {"before": before, "after": after}, "seconds": seconds, "cost": cost}).to_string();
        let text = match &end {
            JobEnd::Succeeded(_) => format!("succeeded, reported by {worker}"),
            JobEnd::Failed(error) => format!("failed, reported by {worker}: {error}"),
            _ => format!("ended by {worker}"),
        };
        let ended = state.jobs().end_external(job.id, worker, &end, &measured).await?;
        if ended {
            state.jobs().append_log(job.id, &[JobLogLine { time_ms: now_ms(), text }]).await?;
            self.stats.count(&job.kind, &end, seconds, cost);
        }
        Ok(ended)
    }
}

/// Reads the cost from the result of Spark's procedure, which gives only the bytes that were rewritten.
fn cost(outcome: &str) -> Cost {
    let outcome: Value = serde_json::from_str(outcome).unwrap_or_default();
    Cost { bytes_read: outcome["rewritten_bytes_count"].as_u64().unwrap_or(0), ..Cost::default() }
}
