//! The job kind `check`: its command line, and how people read its findings.

use clap::Args;
use esker_catalog::LoadedTable;
use esker_types::{JobKind, format_count};

use super::{CheckFinding, CheckOptions, CheckOutcome, CheckPlan, execute_check, plan_check};
use crate::Result;
use crate::context::JobContext;
use crate::job_type::{JobReport, JobType, ProgressUnit, TableAccess, Undo};

/// The job kind `check`.
#[derive(Debug)]
pub(crate) struct Verification;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Read every file whole, instead of only those that statistics leave in doubt.
    #[arg(long)]
    files: bool,
    /// The branch. Default: main.
    #[arg(long)]
    branch: Option<String>,
}

impl JobType for Verification {
    const KIND: JobKind = JobKind::Check;
    const SUMMARY: &'static str =
        "Verify a table's metadata and files: missing, damaged, or written wrong by an earlier version.";
    const UNIT: ProgressUnit = ProgressUnit::Files;
    const ACCESS: TableAccess = TableAccess::Read;
    const SCHEDULABLE: bool = false;
    const SHOWS_PREVIEW: bool = false;
    const UNDO: Option<Undo> = None;

    type Options = CheckOptions;
    type Args = CheckArgs;
    type Plan = CheckPlan;
    type Record = CheckPlan;
    type Preview = CheckPlan;
    type Outcome = CheckOutcome;

    fn options(args: CheckArgs) -> std::result::Result<CheckOptions, String> {
        Ok(CheckOptions { branch: args.branch, files: args.files })
    }

    async fn plan(context: &JobContext, table: &LoadedTable, options: &CheckOptions) -> Result<CheckPlan> {
        plan_check(&context.catalog, table, options).await
    }

    fn record(plan: &CheckPlan) -> &CheckPlan {
        plan
    }

    async fn preview(context: &JobContext, table: &LoadedTable, options: &CheckOptions) -> Result<CheckPlan> {
        plan_check(&context.catalog, table, options).await
    }

    async fn run(context: &JobContext, table: &LoadedTable, plan: &CheckPlan) -> Result<CheckOutcome> {
        execute_check(context, table, plan).await
    }

    fn describe_preview(plan: &CheckPlan) -> JobReport {
        let files = format_count(plan.files, "file");
        JobReport::of(&[match plan.snapshot_id {
            Some(id) => format!("{}, snapshot {id}: checks {files} and the metadata of every snapshot", plan.table),
            None => format!("{}: the branch has no snapshot; checks the metadata of every snapshot", plan.table),
        }])
    }

    fn describe_outcome(table: &str, outcome: &CheckOutcome) -> JobReport {
        let found = format_count(outcome.findings.len() as u64, "finding");
        let mut lines: Vec<String> = outcome.findings.iter().map(finding).collect();
        lines.extend(outcome.notes.iter().map(|note| format!("not judged: {note}")));
        let (files, rows) = (format_count(outcome.files, "file"), format_count(outcome.rows, "row"));
        lines.push(format!("{table}: {found} in {files}; {rows} read, {:.1} s", outcome.seconds));
        let failure = (!outcome.findings.is_empty()).then(|| format!("{found} in {table}"));
        JobReport { failure, ..JobReport::of(&lines) }
    }
}

fn finding(finding: &CheckFinding) -> String {
    let mut lines = vec![finding.to_string()];
    if !finding.sample.is_empty() {
        lines.push(format!("    such as {}", finding.sample.join(", ")));
    }
    lines.extend(finding.undo.as_ref().map(|undo| format!("    undo: {undo}")));
    lines.push(format!("    repair: {}", finding.repair));
    lines.join("\n")
}
