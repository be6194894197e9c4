//! Jobs that are too large for a server: an engine with a cluster does them, and they stay the same jobs.

use esker_state::{Job, JobEnd, JobLogLine};
use esker_types::{Millis, now_ms};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{JobRequest, Maintenance};
use crate::compact::{SparkCall, spark_call};
use crate::context::current;
use crate::{CompactPlan, Cost, MaintenanceError, Result};

/// A job as a worker of another engine gets it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExternalJob {
    /// The job.
    pub id: esker_types::JobId,
    /// The warehouse that its table is in.
    pub warehouse: String,
    /// Its table.
    pub table: String,
    /// Bytes that are to be rewritten, as Esker plans it.
    pub bytes: u64,
    /// What is to be called.
    #[serde(flatten)]
    pub call: SparkCall,
    /// Until when the worker has it, in milliseconds since the epoch, unless it renews its lease.
    pub lease_ms: Option<Millis>,
}

impl Maintenance {
    /// What a worker is told of a job that it has taken.
    pub async fn external_job(&self, job: &Job) -> Result<ExternalJob> {
        let table = current(&self.catalog, job).await?;
        let JobRequest::Compact(options) = JobRequest::of(job)? else {
            return Err(MaintenanceError::Refused(format!("job {} is no compaction", job.id)));
        };
        let call = spark_call(&table.row.name, &options)
            .ok_or_else(|| MaintenanceError::Refused(format!("job {} can't be done by Spark", job.id)))?;
        let plan = job.plan.as_ref().and_then(|plan| CompactPlan::deserialize(plan).ok());
        Ok(ExternalJob {
            id: job.id,
            warehouse: self.catalog.options().warehouse.clone(),
            table: table.row.name.to_string(),
            bytes: plan.map_or(0, |plan| plan.bytes()),
            call,
            lease_ms: job.lease_ms,
        })
    }

    /// Records how a worker's job ended, with what the table looked like before and after. False if it is not that worker's any more.
    pub async fn end_external_job(&self, job: &Job, worker: &str, end: JobEnd) -> Result<bool> {
        let state = self.catalog.state();
        let before = job.measured.as_ref().map_or(Value::Null, |measured| measured["shapes"]["before"].clone());
        let after = match current(&self.catalog, job).await {
            Ok(table) => json!(self.catalog.facts(&table).await?.file_counts()),
            Err(_) => Value::Null,
        };
        let seconds = job.started_ms.map_or(0.0, |started| (now_ms() - started) as f64 / 1e3);
        let cost = match &end {
            JobEnd::Succeeded(outcome) => cost(outcome),
            _ => Cost::default(),
        };
        let measured = json!({"shapes": {"before": before, "after": after}, "seconds": seconds, "cost": cost}).to_string();
        let text = match &end {
            JobEnd::Succeeded(_) => format!("succeeded, as {worker} says"),
            JobEnd::Failed(error) => format!("failed, as {worker} says: {error}"),
            _ => format!("ended by {worker}"),
        };
        let ended = state.end_external_job(job.id, worker, &end, &measured).await?;
        if ended {
            state.log_job(job.id, &[JobLogLine { time_ms: now_ms(), text }]).await?;
            self.stats.count(&job.kind, &end, seconds, cost);
        }
        Ok(ended)
    }
}

/// What Spark's procedure tells of what it took: the bytes rewritten.
fn cost(outcome: &str) -> Cost {
    let outcome: Value = serde_json::from_str(outcome).unwrap_or_default();
    Cost { bytes_read: outcome["rewritten_bytes_count"].as_u64().unwrap_or(0), ..Cost::default() }
}
