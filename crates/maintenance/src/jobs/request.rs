//! What jobs there are: from what is asked for to its plan, and from its plan to what it did.

use esker_catalog::LoadedTable;
use esker_state::Job;
use esker_table::ExpiryPolicy;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::JobContext;
use super::external::{SPARK, is_for_spark};
use crate::check::{execute_check, plan_check};
use crate::compact::execute_compact;
use crate::erase::{execute_erase, plan_erase};
use crate::expire::{self, Unreferenced, execute_expire};
use crate::manifests::execute_manifests;
use crate::orphans::{execute_orphans, plan_orphans};
use crate::statistics::execute_statistics;
use crate::{
    CheckOptions, CompactOptions, EraseOptions, MaintenanceError, ManifestOptions, OrphanOptions, Result, StatisticsOptions,
    check_owned, plan_compact, plan_manifests, plan_statistics,
};

/// What a job is to do, as it waits in the queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobRequest {
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
    /// Look for what is wrong with a table's files.
    Check(CheckOptions),
}

impl JobRequest {
    /// What a job is to do, as its record has it.
    pub(crate) fn of(job: &Job) -> Result<Self> {
        serde_json::from_value(job.request.clone())
            .map_err(|e| MaintenanceError::Refused(format!("job {}: what it is to do can't be read: {e}", job.id)))
    }

    /// Every kind of job.
    pub const KINDS: [&str; 7] = ["compact", "expire", "orphans", "manifests", "statistics", "erase", "check"];

    /// The kind of the job, as records and metrics name it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Compact(_) => "compact",
            Self::Expire(_) => "expire",
            Self::Orphans(_) => "orphans",
            Self::Manifests(_) => "manifests",
            Self::Statistics(_) => "statistics",
            Self::Erase(_) => "erase",
            Self::Check(_) => "check",
        }
    }

    /// Whether it changes nothing: then nothing that protects a table stands in its way.
    pub const fn is_read_only(&self) -> bool {
        matches!(self, Self::Check(_))
    }

    /// Its options, as the body of its route has them.
    pub fn options(&self) -> Value {
        let mut json = self.json();
        json.get_mut(self.kind()).map(without_nulls).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// What is not said is not shown.
fn without_nulls(value: &mut Value) -> Value {
    if let Value::Object(fields) = value {
        fields.retain(|_, field| !field.is_null());
    }
    value.take()
}

/// A planned job.
#[derive(Debug)]
pub(crate) enum PlannedJob {
    Compact(Box<crate::CompactPlan>),
    Expire(Box<(crate::ExpirePlan, Unreferenced)>),
    Orphans(crate::OrphanPlan),
    Manifests(crate::ManifestPlan),
    Statistics(crate::StatisticsPlan),
    Erase(Box<(EraseOptions, crate::ErasureReport)>),
    Check(crate::CheckPlan),
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"))
}

impl PlannedJob {
    pub(crate) async fn plan(context: &JobContext, table: &LoadedTable, request: &JobRequest) -> Result<Self> {
        Ok(match request {
            JobRequest::Compact(options) => {
                check_owned(table)?;
                Self::Compact(Box::new(plan_compact(&context.catalog, table, options).await?))
            }
            JobRequest::Expire(policy) => Self::Expire(Box::new(expire::plan(&context.catalog, table, *policy).await?)),
            JobRequest::Manifests(options) => {
                Self::Manifests(plan_manifests(&context.catalog, table, options, context.limits.bytes).await?)
            }
            JobRequest::Statistics(options) => Self::Statistics(plan_statistics(table, options)?),
            JobRequest::Erase(options) => {
                let report = plan_erase(context, table, options).await?;
                Self::Erase(Box::new((options.clone(), report)))
            }
            JobRequest::Check(options) => Self::Check(plan_check(&context.catalog, table, options).await?),
            JobRequest::Orphans(options) => Self::Orphans(plan_orphans(&context.catalog, table, options)?),
        })
    }

    pub(crate) fn plan_json(&self) -> String {
        match self {
            Self::Compact(plan) => json(plan.as_ref()),
            Self::Expire(expiry) => json(&expiry.0),
            Self::Orphans(plan) => json(plan),
            Self::Manifests(plan) => json(plan),
            Self::Statistics(plan) => json(plan),
            Self::Erase(erasure) => json(&erasure.1),
            Self::Check(plan) => json(plan),
        }
    }

    /// The engine that is to do it, if that is not Esker.
    pub(crate) fn engine(&self, table: &LoadedTable) -> Result<Option<&'static str>> {
        match self {
            Self::Compact(plan) => Ok(is_for_spark(plan, &table.row.name)?.then_some(SPARK)),
            _ => Ok(None),
        }
    }

    pub(crate) async fn run(&self, context: &JobContext, table: &LoadedTable) -> Result<String> {
        Ok(match self {
            Self::Compact(plan) => json(&execute_compact(context, table, plan).await?),
            Self::Expire(expiry) => json(&execute_expire(context, table, &expiry.0, &expiry.1).await?),
            Self::Orphans(plan) => json(&execute_orphans(context, table, plan).await?),
            Self::Manifests(plan) => json(&execute_manifests(context, table, plan).await?),
            Self::Statistics(plan) => json(&execute_statistics(context, table, plan).await?),
            Self::Erase(erasure) => json(&execute_erase(context, table, &erasure.0, &erasure.1).await?),
            Self::Check(plan) => json(&execute_check(context, table, plan).await?),
        })
    }
}
