//! The job kind `compact`: its command line, and how people read its plan and its outcome.

use clap::Args;
use esker_catalog::LoadedTable;
use esker_types::{JobKind, format_bytes, format_count, split_list};
use futures::FutureExt;
use serde_json::{Map, Value};

use super::options::{CompactOptions, Strategy};
use super::outcome::CompactOutcome;
use super::plan::{CompactPlan, plan_compact};
use super::reverse::reverse;
use super::run::execute_compact;
use super::spark::{SPARK, is_for_spark};
use crate::Result;
use crate::context::JobContext;
use crate::job_type::{JobReport, JobType, ProgressUnit, TableAccess, Undo};
use crate::undone::{UndoOutcome, load_unfrozen};

/// The job kind `compact`.
#[derive(Debug)]
pub(crate) struct Compaction;

#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    /// binpack, sort, zorder or convert-deletes.
    #[arg(long, default_value = "binpack")]
    strategy: String,
    /// For sort: `column [asc|desc] [nulls first|nulls last], …`. Names with blanks, commas or dots are in double quotes. Default:
    /// the table's sort order.
    #[arg(long)]
    sort_order: Option<String>,
    /// For zorder: the columns, separated by commas. Names with blanks, commas or dots are in double quotes.
    #[arg(long)]
    zorder_columns: Vec<String>,
    /// The branch to compact. Default: main.
    #[arg(long)]
    branch: Option<String>,
    /// Only files that may hold rows for which this SQL predicate is true.
    #[arg(long = "where")]
    filter: Option<String>,
    /// Only partitions whose label contains this text: `month=2013-01`.
    #[arg(long)]
    partition: Option<String>,
    /// Rewrite every file, whatever its size.
    #[arg(long)]
    rewrite_all: bool,
    /// Target size of a file in bytes. Default: the table's write.target-file-size-bytes.
    #[arg(long)]
    target_file_size_bytes: Option<u64>,
    /// Number of files that makes a group worth rewriting whatever their sizes.
    #[arg(long)]
    min_input_files: Option<usize>,
    /// Verification of the new files: checksums, or full, which decodes them again.
    #[arg(long, default_value = "checksums")]
    verify: String,
    /// Any option of the management API, e.g. --option delete-ratio-threshold=0.1
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
}

impl JobType for Compaction {
    const KIND: JobKind = JobKind::Compact;
    const SUMMARY: &'static str = "Rewrite data files into files of the target size, or deletes into better ones.";
    const UNIT: ProgressUnit = ProgressUnit::Bytes;
    const ACCESS: TableAccess = TableAccess::Write;
    const SCHEDULABLE: bool = true;
    const SHOWS_PREVIEW: bool = true;
    const UNDO: Option<Undo> = Some(|catalog, job, principal| {
        async move {
            let files = reverse(catalog, &load_unfrozen(catalog, job).await?, job, principal).await?;
            Ok(UndoOutcome { files, ..UndoOutcome::default() })
        }
        .boxed()
    });

    type Options = CompactOptions;
    type Args = CompactArgs;
    type Plan = CompactPlan;
    type Record = CompactPlan;
    type Preview = CompactPlan;
    type Outcome = CompactOutcome;

    fn options(args: CompactArgs) -> std::result::Result<CompactOptions, String> {
        let mut map = Map::new();
        let mut put = |key: &str, value: Option<Value>| drop(value.map(|v| map.insert(key.to_owned(), v)));
        for option in &args.options {
            let (key, value) = option.split_once('=').ok_or_else(|| format!("--option {option}: write it as KEY=VALUE"))?;
            put(key, Some(serde_json::from_str(value).unwrap_or_else(|_| value.into())));
        }
        put("strategy", Some(args.strategy.into()));
        put("sort-order", args.sort_order.map(Value::from));
        let columns: Vec<Value> = args.zorder_columns.iter().flat_map(|text| split_list(text)).map(Value::from).collect();
        put("zorder-columns", (!columns.is_empty()).then(|| columns.into()));
        put("branch", args.branch.map(Value::from));
        put("where", args.filter.map(Value::from));
        put("partition", args.partition.map(Value::from));
        put("rewrite-all", args.rewrite_all.then_some(true.into()));
        put("target-file-size-bytes", args.target_file_size_bytes.map(Value::from));
        put("min-input-files", args.min_input_files.map(Value::from));
        put("verify", Some(args.verify.into()));
        serde_json::from_value(Value::Object(map)).map_err(|e| format!("compact: {e}"))
    }

    async fn plan(context: &JobContext, table: &LoadedTable, options: &CompactOptions) -> Result<CompactPlan> {
        plan_compact(&context.catalog, &context.reader, table, options).await
    }

    fn record(plan: &CompactPlan) -> &CompactPlan {
        plan
    }

    async fn preview(context: &JobContext, table: &LoadedTable, options: &CompactOptions) -> Result<CompactPlan> {
        plan_compact(&context.catalog, &context.reader, table, options).await
    }

    fn engine(plan: &CompactPlan, table: &LoadedTable) -> Result<Option<&'static str>> {
        Ok(is_for_spark(plan, &table.row.name)?.then_some(SPARK))
    }

    async fn run(context: &JobContext, table: &LoadedTable, plan: &CompactPlan) -> Result<CompactOutcome> {
        execute_compact(context, table, plan).await
    }

    fn describe_preview(plan: &CompactPlan) -> JobReport {
        let converts = plan.options.strategy == Strategy::ConvertDeletes;
        JobReport { nothing_to_do: plan.nothing_to_do.clone(), ..JobReport::of(&plan_lines(plan, converts)) }
    }

    fn describe_outcome(_table: &str, outcome: &CompactOutcome) -> JobReport {
        JobReport { nothing_to_undo: outcome.commits == 0, ..JobReport::of(&outcome_lines(outcome)) }
    }
}

fn plan_lines(plan: &CompactPlan, converts: bool) -> Vec<String> {
    let (files, all) = (plan.files(), format_count(plan.data_files, "data file"));
    let mut lines = vec![match converts {
        true => {
            let deletes = format_count(plan.delete_files, "delete file");
            format!("{}: converts the deletes of {files} of {all}; the table has {deletes}", plan.table)
        }
        false => {
            let groups = format_count(plan.groups.len() as u64, "group");
            let (bytes, expected) = (format_bytes(plan.bytes()), plan.expected_files());
            format!("{}: rewrites {files} of {all} ({bytes}) in {groups} into about {expected}", plan.table)
        }
    }];
    for group in &plan.groups {
        let (files, bytes) = (format_count(group.files.len() as u64, "file"), format_bytes(group.bytes()));
        let mut line = format!("  {:<40} {files:>11} {bytes:>10}", group.partition);
        if !converts {
            line.push_str(&format!(" -> {}", group.expected_files));
        }
        if group.delete_files > 0 {
            line.push_str(&format!(", {} applied", format_count(group.delete_files, "delete file")));
        }
        lines.push(line);
    }
    for left in &plan.left_alone {
        let (files, bytes) = (format_count(left.files, "file"), format_bytes(left.bytes));
        lines.push(format!("  {:<40} {files:>11} {bytes:>10} left alone: {}", left.partition, left.reason));
    }
    lines
}

fn outcome_lines(outcome: &CompactOutcome) -> Vec<String> {
    let mut lines = vec![format!(
        "compacted {} ({}) into {} ({}), {}, {:.1} s",
        format_count(outcome.files_in, "file"),
        format_bytes(outcome.bytes_in),
        outcome.files_out,
        format_bytes(outcome.bytes_out),
        format_count(outcome.records, "row"),
        outcome.seconds,
    )];
    let deletes = (outcome.deleted_records, outcome.delete_files_removed, outcome.late_deletes_moved);
    if deletes != (0, 0, 0) {
        let (rows, files) = (format_count(deletes.0, "row"), format_count(deletes.1, "delete file"));
        lines.push(format!(
            "  {rows} deleted, {files} removed, {} mapped to the new files",
            format_count(deletes.2, "late delete")
        ));
    }
    if outcome.row_groups_spliced > 0 {
        let (groups, bytes) = (format_count(outcome.row_groups_spliced, "row group"), format_bytes(outcome.bytes_spliced));
        lines.push(format!("  {groups} ({bytes}) copied without decoding"));
    }
    lines.push(format!(
        "  {:.1} s of processor time, {} read, {} written, {}; verified: {}",
        outcome.cpu_seconds,
        format_bytes(outcome.bytes_read),
        format_bytes(outcome.bytes_written),
        format_count(outcome.requests, "request"),
        outcome.proof,
    ));
    lines.extend(outcome.refused.iter().map(|refused| format!("  {} was not rewritten: {}", refused.partition, refused.reason)));
    lines
}
