//! Compaction: plan → rewrite → prove → commit, group by group.

mod commit;
mod courtesy;
mod deletes;
mod feed;
mod group;
mod moves;
mod named;
mod options;
mod order;
mod outcome;
mod plan;
mod predicate;
mod proof;
mod rewrite;
mod run;
mod sort;
mod spark;

pub(crate) use commit::{into_catalog, propose, propose_for};
pub(crate) use deletes::{resolve, resolve_within, union};
pub use group::{Group, PlannedFile};
pub use named::check_sort_order;
pub(crate) use named::way;
pub use options::{CompactOptions, JobOrder, Strategy, Verify};
pub use outcome::{CompactOutcome, RefusedGroup};
pub use plan::{CompactPlan, LeftAlone, plan_compact};
pub(crate) use predicate::parse as parse_filter;
pub(crate) use rewrite::BATCH;
pub(crate) use run::execute_compact;
pub use spark::SparkCall;
pub(crate) use spark::spark_call;
