//! Maintenance as plan → execute → commit.
//!
//! A plan is data: pure to make, printed by the dry run, recorded with the job, and what is executed is what was shown. A commit goes
//! through the catalog's sequencer as a [`Rebase`](esker_catalog::Rebase), so that an append that lands meanwhile never
//! makes it fail.

mod compact;
mod counters;
mod error;
mod expire;
mod explain;
mod jobs;
mod manifests;
mod orphans;
mod spool;
mod statistics;
mod undo;

pub use compact::{
    CompactOptions, CompactOutcome, CompactPlan, Group, JobOrder, LeftAlone, PlannedFile, RefusedGroup, Strategy, Verify,
    plan_compact,
};
pub use error::MaintenanceError;
pub use expire::{ExpireOutcome, ExpirePlan, plan_expire};
pub use explain::{Explanation, Holder, explain};
pub use jobs::{Limits, Maintenance, Progress, Request};
pub use manifests::{ManifestOptions, ManifestOutcome, ManifestPlan, PlannedManifest, plan_manifests};
pub use orphans::{Counted, Orphan, OrphanOptions, OrphanOutcome, OrphanPlan, OrphanReport, list_orphans};
pub use statistics::{StatisticsOptions, StatisticsOutcome, StatisticsPlan, plan_statistics};
pub use undo::{Undone, undo};

/// The result of a maintenance operation.
pub type Result<T> = std::result::Result<T, MaintenanceError>;
