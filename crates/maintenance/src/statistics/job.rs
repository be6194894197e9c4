//! The job kind `statistics`: its command line, and how people read its plan and its outcome.

use std::borrow::Cow;

use clap::Args;
use esker_catalog::LoadedTable;
use esker_types::{JobKind, format_count, split_list, unquote};

use super::{StatisticsOptions, StatisticsOutcome, StatisticsPlan, execute_statistics, plan_statistics};
use crate::Result;
use crate::context::JobContext;
use crate::job_type::{JobReport, JobType, ProgressUnit, TableAccess, Undo};

/// The job kind `statistics`.
#[derive(Debug)]
pub(crate) struct StatisticsRun;

#[derive(Debug, Args)]
pub(crate) struct StatisticsArgs {
    /// Only these columns, separated by commas. Names with commas are in double quotes.
    #[arg(long)]
    columns: Vec<String>,
    /// The branch. Default: main.
    #[arg(long)]
    branch: Option<String>,
}

impl JobType for StatisticsRun {
    const KIND: JobKind = JobKind::Statistics;
    const SUMMARY: &'static str = "Count the distinct values of columns, for the planners of Spark and Trino.";
    const UNIT: ProgressUnit = ProgressUnit::Files;
    const ACCESS: TableAccess = TableAccess::Write;
    const SCHEDULABLE: bool = true;
    const SHOWS_PREVIEW: bool = true;
    const UNDO: Option<Undo> = None;

    type Options = StatisticsOptions;
    type Args = StatisticsArgs;
    type Plan = StatisticsPlan;
    type Record = StatisticsPlan;
    type Preview = StatisticsPlan;
    type Outcome = StatisticsOutcome;

    fn options(args: StatisticsArgs) -> std::result::Result<StatisticsOptions, String> {
        let names = args.columns.iter().flat_map(|text| split_list(text));
        let columns: std::result::Result<_, _> = names.map(|name| unquote(name).map(Cow::into_owned)).collect();
        Ok(StatisticsOptions { columns: columns.map_err(|e| e.to_string())?, branch: args.branch })
    }

    async fn plan(_context: &JobContext, table: &LoadedTable, options: &StatisticsOptions) -> Result<StatisticsPlan> {
        plan_statistics(table, options)
    }

    fn record(plan: &StatisticsPlan) -> &StatisticsPlan {
        plan
    }

    async fn preview(_context: &JobContext, table: &LoadedTable, options: &StatisticsOptions) -> Result<StatisticsPlan> {
        plan_statistics(table, options)
    }

    async fn run(context: &JobContext, table: &LoadedTable, plan: &StatisticsPlan) -> Result<StatisticsOutcome> {
        execute_statistics(context, table, plan).await
    }

    fn describe_preview(plan: &StatisticsPlan) -> JobReport {
        let names: Vec<&str> = plan.columns.keys().map(String::as_str).collect();
        let mut lines = vec![match plan.snapshot_id {
            Some(id) => format!("{}, snapshot {id}: counts {}", plan.table, names.join(", ")),
            None => format!("{}: counts nothing", plan.table),
        }];
        lines.extend(plan.left_out.iter().map(|(name, ty)| format!("  left out: {name}, of type {ty}")));
        let reason = "the branch has no snapshot";
        JobReport { nothing_to_do: plan.snapshot_id.is_none().then(|| reason.to_owned()), ..JobReport::of(&lines) }
    }

    fn describe_outcome(_table: &str, outcome: &StatisticsOutcome) -> JobReport {
        let mut lines: Vec<String> = outcome.distinct.iter().map(|(column, n)| format!("  {n:>12}  {column}")).collect();
        lines.insert(0, format!("distinct values in {}, {:.1} s", format_count(outcome.records, "row"), outcome.seconds));
        JobReport::of(&lines)
    }
}
