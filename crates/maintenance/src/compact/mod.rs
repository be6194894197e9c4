//! Compaction: plan → rewrite → prove → commit, group by group.

mod columns;
mod commit;
mod content_hash;
mod deletes;
mod group;
mod options;
mod order;
mod outcome;
mod plan;
mod predicate;
mod prefetch;
mod rewrite;
mod row_mapping;
mod run;
mod sort;
mod spark;
mod write_activity;

pub use columns::check_sort_order;
pub(crate) use columns::way;
pub(crate) use commit::{carried, propose, propose_for};
pub(crate) use deletes::{resolve, resolve_within, union};
pub use group::{Group, PlannedFile};
pub use options::{CompactOptions, JobOrder, Strategy, Verify};
pub use outcome::{CompactOutcome, RefusedGroup};
pub use plan::{CompactPlan, LeftAlone, plan_compact};
pub(crate) use predicate::parse as parse_filter;
pub(crate) use rewrite::BATCH_ROWS;
pub(crate) use run::execute_compact;
pub use spark::SparkCall;
pub(crate) use spark::spark_call;
