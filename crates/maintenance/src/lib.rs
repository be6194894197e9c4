//! Maintenance of tables: plan → execute → commit.
//!
//! A plan is data. Planning changes nothing; the dry run prints the plan, the job's record keeps it, and the job executes what was
//! shown. A commit is a [`Rebase`](esker_catalog::Rebase) in the catalog's sequencer. It is computed on the table as it is at the
//! commit point, so an append that lands meanwhile never makes it fail.
//!
//! Start reading at [`Maintenance`], which enqueues jobs, and [`Worker`], which runs them. `job_type` defines what a kind of job
//! consists of.

mod check;
mod compact;
mod context;
mod counters;
mod erase;
mod error;
mod expire;
mod explain;
mod job_type;
mod jobs;
mod manifests;
mod orphans;
mod statistics;
mod undo;
mod undone;

use bytes::Bytes;
use esker_catalog::{Catalog, LoadedTable};
use esker_table::TableError;
use esker_table::properties::GC_ENABLED;

pub use check::{CheckFinding, CheckFindingKind, CheckOptions, CheckOutcome, CheckPlan};
pub use compact::{
    CompactOptions, CompactOutcome, CompactPlan, Group, JobOrder, LeftAlone, PlannedFile, RefusedGroup, SPARK, SparkCall,
    Strategy, Verify, check_sort_order,
};
pub use context::{JobLimits, Progress};
pub use counters::Cost;
pub use erase::{EraseOptions, EraseOutcome, ErasureReport, RowHolder};
pub use error::MaintenanceError;
pub use expire::{ExpireOutcome, ExpirePlan};
pub use explain::{Explanation, FileHolder, explain};
pub use job_type::{JobReport, ProgressUnit};
pub use jobs::{
    ExternalJob, JobAuthorities, JobOptions, JobQueue, JobRequest, JobSpec, KindStats, KindView, Maintenance, PRIORITY_AUTOPILOT,
    PRIORITY_MANUAL, PRIORITY_SCHEDULED, Worker, WorkerOptions, command, describe_outcome, describe_preview, job_schema,
    kind_view,
};
pub use manifests::{ManifestOptions, ManifestOutcome, ManifestPlan, PlannedManifest};
pub use orphans::{LocationCensus, Orphan, OrphanOptions, OrphanOutcome, OrphanPlan, OrphanReport};
pub use statistics::{StatisticsOptions, StatisticsOutcome, StatisticsPlan};
pub use undo::undo;
pub use undone::UndoOutcome;

/// The result of a maintenance operation.
pub type Result<T> = std::result::Result<T, MaintenanceError>;

/// Checks that Esker owns a table.
///
/// # Errors
///
/// Returns [`MaintenanceError::Refused`] for a foreign table.
fn check_owned(table: &LoadedTable) -> Result<()> {
    if table.row.owned {
        return Ok(());
    }
    let what = format!("{} is foreign: another catalog may commit to it and use its files; claim it first", table.row.name);
    Err(MaintenanceError::Refused(what))
}

/// Checks that a file is not encrypted: Esker decodes no encrypted files.
///
/// # Errors
///
/// Returns [`MaintenanceError::Table`] with [`TableError::Unsupported`] if the file has key metadata.
fn check_plain(path: &str, key_metadata: Option<&Bytes>) -> Result<()> {
    match key_metadata {
        None => Ok(()),
        Some(_) => Err(TableError::Unsupported(format!("{path} is encrypted")).into()),
    }
}

/// Checks that a table is not frozen. A freeze stops every job, also one that a person asked for.
///
/// # Errors
///
/// Returns [`MaintenanceError::Refused`] that names the policy which froze the table, and [`MaintenanceError::Catalog`] if the
/// database fails.
async fn check_not_frozen(catalog: &Catalog, table: &LoadedTable) -> Result<()> {
    match catalog.frozen_by(table).await? {
        None => Ok(()),
        Some(by) => {
            let what = format!("{} is frozen by {by}; set freeze to false to maintain it", table.row.name);
            Err(MaintenanceError::Refused(what))
        }
    }
}

/// Checks that files of a table may be deleted.
///
/// # Errors
///
/// Returns [`MaintenanceError::Refused`] for a foreign table and for one with `gc.enabled=false`. Returns
/// [`MaintenanceError::Catalog`] if the database and the warehouse do not belong together, and [`MaintenanceError::Table`] if the
/// value of `gc.enabled` can't be parsed.
fn check_deletable(catalog: &Catalog, table: &LoadedTable) -> Result<()> {
    check_owned(table)?;
    catalog.check_epoch()?;
    match GC_ENABLED.get_valid(&table.metadata.properties)? {
        true => Ok(()),
        false => {
            Err(MaintenanceError::Refused(format!("{} has gc.enabled=false; set it to true to remove files", table.row.name)))
        }
    }
}
