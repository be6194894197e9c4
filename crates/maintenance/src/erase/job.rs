//! The job kind `erase`: its command line, and how people read its report and its outcome.

use std::time::Duration;

use clap::Args;
use esker_catalog::LoadedTable;
use esker_types::{JobKind, format_count, now_ms, parse_age, to_millis};

use super::{EraseOptions, EraseOutcome, ErasureReport, erasure_report, execute_erase, plan_erase};
use crate::Result;
use crate::context::JobContext;
use crate::job_type::{JobReport, JobType, ProgressUnit, TableAccess, Undo};

/// The job kind `erase`.
#[derive(Debug)]
pub(crate) struct Erasure;

#[derive(Debug, Args)]
pub(crate) struct EraseArgs {
    /// The rows, as a SQL predicate. They must have been deleted before.
    #[arg(long = "where")]
    filter: String,
    /// Longest time that the last file may stay in quarantine, e.g. 3d.
    #[arg(long, value_parser = parse_age, default_value = "0s")]
    within: Duration,
    /// A branch or tag that is dropped if its head holds any of the rows; never `main`. Repeatable.
    #[arg(long = "drop-ref")]
    drop_refs: Vec<String>,
}

impl JobType for Erasure {
    const KIND: JobKind = JobKind::Erase;
    const SUMMARY: &'static str = "Remove deleted rows from storage by a deadline, and report what still holds them.";
    const UNIT: ProgressUnit = ProgressUnit::Bytes;
    const ACCESS: TableAccess = TableAccess::Delete;
    const SCHEDULABLE: bool = false;
    const SHOWS_PREVIEW: bool = true;
    const UNDO: Option<Undo> = None;

    type Options = EraseOptions;
    type Args = EraseArgs;
    type Plan = (EraseOptions, ErasureReport);
    type Record = ErasureReport;
    type Preview = ErasureReport;
    type Outcome = EraseOutcome;

    fn options(args: EraseArgs) -> std::result::Result<EraseOptions, String> {
        let deadline_ms = Some(now_ms().saturating_add(to_millis(args.within)));
        Ok(EraseOptions { filter: args.filter, deadline_ms, drop_refs: args.drop_refs.into_iter().collect() })
    }

    async fn plan(context: &JobContext, table: &LoadedTable, options: &EraseOptions) -> Result<(EraseOptions, ErasureReport)> {
        Ok((options.clone(), plan_erase(context, table, options).await?))
    }

    fn record(plan: &(EraseOptions, ErasureReport)) -> &ErasureReport {
        &plan.1
    }

    async fn preview(context: &JobContext, table: &LoadedTable, options: &EraseOptions) -> Result<ErasureReport> {
        erasure_report(&context.catalog, &context.reader, table, options).await
    }

    async fn run(context: &JobContext, table: &LoadedTable, plan: &(EraseOptions, ErasureReport)) -> Result<EraseOutcome> {
        execute_erase(context, table, &plan.0, &plan.1).await
    }

    fn describe_preview(report: &ErasureReport) -> JobReport {
        let mut lines = report_lines(report);
        lines.extend(report.drop_refs.iter().map(|name| format!("  branch or tag {name} is dropped")));
        let is_empty = report.holders.is_empty();
        JobReport { nothing_to_do: is_empty.then(|| "no file holds such rows".to_owned()), ..JobReport::of(&lines) }
    }

    fn describe_outcome(_table: &str, outcome: &EraseOutcome) -> JobReport {
        let mut lines = vec![format!(
            "rewrote {}, expired {}; {} leave quarantine by the deadline",
            format_count(outcome.files_rewritten, "file"),
            format_count(outcome.snapshots, "snapshot"),
            format_count(outcome.files, "file"),
        )];
        lines.extend(outcome.refs.iter().map(|name| format!("  dropped branch or tag {name}")));
        lines.extend(report_lines(&outcome.report));
        let failure = (!outcome.complete).then(|| "files that are named above hold the rows beyond the deadline".to_owned());
        JobReport { failure, ..JobReport::of(&lines) }
    }
}

fn report_lines(report: &ErasureReport) -> Vec<String> {
    let n = format_count(report.holders.len() as u64, "file");
    let mut lines = vec![format!("{}: {n} with rows where {}", report.table, report.filter)];
    for holder in &report.holders {
        let rows = holder.rows.map_or_else(|| "perhaps some rows".to_owned(), |rows| format_count(rows, "row"));
        lines.push(format!("  {rows:>17}  {}  {}", holder.path, holder.kept_by()));
    }
    lines
}
