//! The job kind `expire`: its command line, and how people read its plan and its outcome.

use std::time::Duration;

use clap::Args;
use esker_catalog::LoadedTable;
use esker_table::ExpiryPolicy;
use esker_types::{JobKind, format_bytes, format_count, format_known_bytes, now_ms, parse_age, to_millis};
use futures::FutureExt;

use super::undo::undo_expire;
use super::{ExpireOutcome, ExpirePlan, Unreferenced, execute_expire, plan_expire};
use crate::Result;
use crate::context::JobContext;
use crate::job_type::{JobReport, JobType, ProgressUnit, TableAccess, Undo};

/// The job kind `expire`.
#[derive(Debug)]
pub(crate) struct Expiry;

#[derive(Debug, Args)]
pub(crate) struct ExpireArgs {
    /// Snapshots older than this may go, e.g. 5d, 12h, 30m, 0s. Default: the table's properties.
    #[arg(long, value_parser = parse_age)]
    older_than: Option<Duration>,
    /// Snapshots to keep on each branch.
    #[arg(long)]
    retain_last: Option<usize>,
}

impl JobType for Expiry {
    const KIND: JobKind = JobKind::Expire;
    const SUMMARY: &'static str = "Remove snapshots that retention no longer asks for; their files go into quarantine.";
    const UNIT: ProgressUnit = ProgressUnit::Files;
    const ACCESS: TableAccess = TableAccess::Delete;
    const SCHEDULABLE: bool = true;
    const SHOWS_PREVIEW: bool = true;
    const UNDO: Option<Undo> = Some(|catalog, job, principal| undo_expire(catalog, job, principal).boxed());

    type Options = ExpiryPolicy;
    type Args = ExpireArgs;
    type Plan = (ExpirePlan, Unreferenced);
    type Record = ExpirePlan;
    type Preview = ExpirePlan;
    type Outcome = ExpireOutcome;

    fn options(args: ExpireArgs) -> std::result::Result<ExpiryPolicy, String> {
        let older_than_ms = args.older_than.map(|age| now_ms().saturating_sub(to_millis(age)));
        Ok(ExpiryPolicy { older_than_ms, retain_last: args.retain_last })
    }

    async fn plan(context: &JobContext, table: &LoadedTable, policy: &ExpiryPolicy) -> Result<(ExpirePlan, Unreferenced)> {
        plan_expire(&context.catalog, table, *policy).await
    }

    fn record(plan: &(ExpirePlan, Unreferenced)) -> &ExpirePlan {
        &plan.0
    }

    async fn preview(context: &JobContext, table: &LoadedTable, policy: &ExpiryPolicy) -> Result<ExpirePlan> {
        Ok(plan_expire(&context.catalog, table, *policy).await?.0)
    }

    async fn run(context: &JobContext, table: &LoadedTable, plan: &(ExpirePlan, Unreferenced)) -> Result<ExpireOutcome> {
        execute_expire(context, table, &plan.0, &plan.1).await
    }

    fn describe_preview(plan: &ExpirePlan) -> JobReport {
        JobReport { nothing_to_do: plan.nothing_to_do.clone(), ..JobReport::of(&plan_lines(plan)) }
    }

    fn describe_outcome(table: &str, outcome: &ExpireOutcome) -> JobReport {
        let mut lines = vec![format!(
            "expired {} and {}; {} ({}) are in quarantine, {:.1} s",
            format_count(outcome.snapshots, "snapshot"),
            format_count(outcome.refs, "reference"),
            format_count(outcome.quarantined_files, "file"),
            quarantined_size(outcome),
            outcome.seconds,
        )];
        if !outcome.unread.is_empty() {
            lines.push(format!(
                "these could not be read; `esker maintain orphans {table}` finds the files that only they lead to:"
            ));
            lines.extend(outcome.unread.iter().map(|file| format!("  {file}")));
        }
        let nothing_to_undo = outcome.snapshots == 0 && outcome.refs == 0;
        JobReport { nothing_to_undo, ..JobReport::of(&lines) }
    }
}

/// Formats the total size of the quarantined files. Metadata does not have the sizes of all.
fn quarantined_size(outcome: &ExpireOutcome) -> String {
    match (outcome.quarantined_files, outcome.quarantined_bytes) {
        (0, _) => format_bytes(0),
        (_, 0) => "?".to_owned(),
        (_, bytes) => format!("at least {}", format_bytes(bytes)),
    }
}

fn plan_lines(plan: &ExpirePlan) -> Vec<String> {
    let mut lines = vec![format!(
        "{}: expires {} of {}; {} ({}) stay in quarantine for {} before they are deleted",
        plan.table,
        plan.expire.len(),
        format_count(plan.snapshots, "snapshot"),
        format_count(plan.files.len() as u64, "file"),
        format_known_bytes(plan.files.iter().map(|f| f.bytes)),
        format_count((plan.grace_ms / 3_600_000).unsigned_abs(), "hour"),
    )];
    lines.extend(plan.expire_refs.iter().map(|name| format!("  branch or tag {name} is older than its max-ref-age and goes")));
    lines.extend(plan.unread.iter().map(|file| format!("  {file}; the files that only it leads to stay in storage")));
    for kind in ["data", "delete", "manifest", "manifest-list", "statistics"] {
        let of_kind = || plan.files.iter().filter(|f| f.kind == kind);
        if of_kind().next().is_some() {
            let (files, bytes) = (format_count(of_kind().count() as u64, "file"), format_known_bytes(of_kind().map(|f| f.bytes)));
            lines.push(format!("  {kind:<14} {files:>12} {bytes:>10}"));
        }
    }
    lines
}
