use clap::Args;
use esker_health::bytes_for_people;
use esker_maintenance::{CompactOptions, CompactOutcome, CompactPlan, Strategy};
use esker_types::listed;
use serde_json::{Map, Value};

use crate::{Error, Result};

#[derive(Debug, Args)]
pub(super) struct CompactArgs {
    /// NAMESPACE.TABLE
    pub(super) table: String,
    /// Print the plan and do nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// binpack, sort, zorder or convert-deletes.
    #[arg(long, default_value = "binpack")]
    strategy: String,
    /// For sort: `column [asc|desc] [nulls first|nulls last], …`, names in double quotes where they hold blanks, commas or dots; default:
    /// the table's sort order.
    #[arg(long)]
    sort_order: Option<String>,
    /// For zorder: the columns, with commas between; names in double quotes where they hold blanks, commas or dots.
    #[arg(long)]
    zorder_columns: Vec<String>,
    /// The branch to compact; default: main.
    #[arg(long)]
    branch: Option<String>,
    /// Only files that may hold rows for which this SQL predicate is true.
    #[arg(long = "where")]
    filter: Option<String>,
    /// Only partitions whose label contains this: `month=2013-01`.
    #[arg(long)]
    partition: Option<String>,
    /// Rewrite every file, whatever its size.
    #[arg(long)]
    rewrite_all: bool,
    /// Bytes of a file; default: the table's write.target-file-size-bytes.
    #[arg(long)]
    target_file_size_bytes: Option<u64>,
    /// Files that make a group worth rewriting by their number alone.
    #[arg(long)]
    min_input_files: Option<usize>,
    /// How the result is proved: checksums, or full, which decodes it again.
    #[arg(long, default_value = "checksums")]
    verify: String,
    /// Any option of the management API, e.g. --option delete-ratio-threshold=0.1
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
}

impl CompactArgs {
    /// The options as the management API takes them; an unknown one is refused by name.
    pub(super) fn options(&self) -> Result<CompactOptions> {
        let mut map = Map::new();
        let mut put = |key: &str, value: Option<Value>| drop(value.map(|v| map.insert(key.to_owned(), v)));
        for option in &self.options {
            let (key, value) =
                option.split_once('=').ok_or_else(|| Error::Config(format!("--option {option}: write it as KEY=VALUE")))?;
            put(key, Some(serde_json::from_str(value).unwrap_or_else(|_| value.into())));
        }
        put("strategy", Some(self.strategy.clone().into()));
        put("sort-order", self.sort_order.clone().map(Value::from));
        let columns: Vec<Value> = self.zorder_columns.iter().flat_map(|text| listed(text)).map(Value::from).collect();
        put("zorder-columns", (!columns.is_empty()).then(|| columns.into()));
        put("branch", self.branch.clone().map(Value::from));
        put("where", self.filter.clone().map(Value::from));
        put("partition", self.partition.clone().map(Value::from));
        put("rewrite-all", self.rewrite_all.then_some(true.into()));
        put("target-file-size-bytes", self.target_file_size_bytes.map(Value::from));
        put("min-input-files", self.min_input_files.map(Value::from));
        put("verify", Some(self.verify.clone().into()));
        serde_json::from_value(Value::Object(map)).map_err(|e| Error::Config(format!("compact: {e}")))
    }
}

/// Whether there is nothing to do.
pub(super) fn nothing(plan: &CompactPlan) -> bool {
    // A conversion also drops deletes that apply to nothing.
    plan.groups.is_empty() && (plan.options.strategy != Strategy::ConvertDeletes || plan.delete_files == 0)
}

pub(super) fn plan_text(plan: &CompactPlan) -> String {
    let convert = plan.options.strategy == Strategy::ConvertDeletes;
    let (files, bytes) = (plan.files(), bytes_for_people(plan.bytes()));
    let (all, deletes, groups) = (plan.data_files, plan.delete_files, plan.groups.len());
    let mut lines = vec![match convert {
        true => format!("{}: deletes of {files} of {all} data files are converted; {deletes} delete files", plan.table),
        false => {
            let expected = plan.expected_files();
            format!("{}: {files} of {all} data files ({bytes}) in {groups} groups become about {expected}", plan.table)
        }
    }];
    for group in &plan.groups {
        let (files, bytes) = (group.files.len(), bytes_for_people(group.bytes()));
        let mut line = format!("  {:<40} {files:>5} files {bytes:>10}", group.partition);
        if !convert {
            line.push_str(&format!(" -> {}", group.expected_files));
        }
        if group.delete_files > 0 {
            line.push_str(&format!(", {} delete files applied", group.delete_files));
        }
        lines.push(line);
    }
    for left in &plan.left_alone {
        let bytes = bytes_for_people(left.bytes);
        lines.push(format!("  {:<40} {:>5} files {bytes:>10} left alone: {}", left.partition, left.files, left.reason));
    }
    lines.join("\n")
}

pub(super) fn outcome_text(outcome: &CompactOutcome) -> String {
    let mut lines = vec![format!(
        "compacted {} files ({}) into {} ({}), {} rows, {:.1} s",
        outcome.files_in,
        bytes_for_people(outcome.bytes_in),
        outcome.files_out,
        bytes_for_people(outcome.bytes_out),
        outcome.records,
        outcome.seconds,
    )];
    let deletes = (outcome.deleted_records, outcome.delete_files_removed, outcome.late_deletes_moved);
    if deletes != (0, 0, 0) {
        let (rows, files, late) = deletes;
        lines.push(format!("  {rows} rows deleted, {files} delete files gone, {late} deletes that landed meanwhile moved along"));
    }
    if outcome.row_groups_spliced > 0 {
        let bytes = bytes_for_people(outcome.bytes_spliced);
        lines.push(format!("  {} row groups ({bytes}) copied without decoding", outcome.row_groups_spliced));
    }
    lines.push(format!(
        "  {:.1} s of processor time, {} read, {} written, {} requests; proof: {}",
        outcome.cpu_seconds,
        bytes_for_people(outcome.bytes_read),
        bytes_for_people(outcome.bytes_written),
        outcome.requests,
        outcome.proof,
    ));
    for refused in &outcome.refused {
        lines.push(format!("  {} was not rewritten: {}", refused.partition, refused.reason));
    }
    lines.join("\n")
}
