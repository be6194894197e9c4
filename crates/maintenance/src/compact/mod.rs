//! Compaction: plan → rewrite → verify → commit, group by group.
//!
//! `plan` chooses files and `group` packs those of a partition into groups. `run` takes the groups through their states: `rewrite`
//! or `sort` write the new files, `content_hash` verifies that they hold the same rows, and `commit` puts them into the table.
//! Deletes that land meanwhile follow their rows by `row_mapping`, and those of later commits by `kept_moves`. New files keep the
//! data sequence number of the planned snapshot, so that later equality deletes apply to them. `reverse` undoes a compaction. Start
//! reading at `plan::plan_compact`, then `run::execute_compact`.

mod columns;
mod commit;
mod content_hash;
mod deletes;
mod group;
mod job;
mod kept_moves;
mod options;
mod order;
mod outcome;
mod plan;
mod predicate;
mod prefetch;
mod reverse;
mod rewrite;
mod row_mapping;
mod run;
mod sort;
mod spark;
mod write_activity;

pub use columns::check_sort_order;
pub(crate) use columns::field_path;
pub(crate) use commit::{Proposed, into_catalog_error, propose};
pub(crate) use deletes::{resolve, resolve_within, union};
pub use group::{Group, PlannedFile};
pub(crate) use job::Compaction;
pub use options::{CompactOptions, JobOrder, Strategy, Verify};
pub use outcome::{CompactOutcome, RefusedGroup};
pub(crate) use plan::plan_compact;
pub use plan::{CompactPlan, LeftAlone};
pub(crate) use predicate::parse as parse_filter;
pub(crate) use prefetch::BATCH_ROWS;
pub(crate) use reverse::check_reversible;
pub(crate) use run::execute_compact;
pub(crate) use spark::spark_call;
pub use spark::{SPARK, SparkCall};
