//! Compactions by Spark: which ones Spark runs, and the arguments of its procedure `rewrite_data_files`.

use esker_format::MAIN_BRANCH;
use esker_types::{TableName, quote_name, split_dotted};
use serde::Serialize;
use serde_json::{Map, Value};

use super::columns::{SortColumn, parse_sort_order};
use super::options::{CompactOptions, Strategy, Verify};
use super::plan::CompactPlan;
use crate::{MaintenanceError, Result};

/// The one engine that runs external jobs.
pub const SPARK: &str = "spark";

/// A call of one of Iceberg's Spark procedures.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct SparkCall {
    /// Name of the procedure in the catalog's namespace `system`.
    pub procedure: &'static str,
    /// The named arguments; each is a string or a map of strings.
    pub arguments: Map<String, Value>,
}

/// Converts a compaction to a call of Spark's procedure; `None` if the procedure can't do what the options ask for.
///
/// It has no branches, no conversion of deletes, no partition labels, no minimum of row groups, no budgets, and no verification
/// that decodes the new files again.
pub(crate) fn spark_call(table: &TableName, options: &CompactOptions) -> Option<SparkCall> {
    let bounded = options.max_bytes.is_some() || options.max_seconds.is_some() || options.max_requests.is_some();
    let other_branch = options.branch.as_ref().is_some_and(|branch| branch != MAIN_BRANCH);
    let chooses_otherwise = options.partition.is_some() || options.min_row_group_size_bytes.is_some();
    if bounded || other_branch || chooses_otherwise || options.verify == Verify::Full {
        return None;
    }
    let (strategy, order) = match options.strategy {
        Strategy::BinPack => ("binpack", None),
        Strategy::Sort => (
            "sort",
            match options.sort_order.as_deref() {
                Some(text) => Some(sorted(text)?),
                None => None,
            },
        ),
        Strategy::ZOrder => {
            let columns: Vec<String> = options.zorder_columns.iter().map(|name| column(name)).collect();
            ("sort", Some(format!("zorder({})", columns.join(", "))))
        }
        Strategy::ConvertDeletes => return None,
    };
    let levels = table.namespace.levels().iter().map(String::as_str).chain([table.name.as_str()]);
    let name: Vec<String> = levels.map(|level| quote_name(level, '`')).collect();
    let mut arguments = Map::new();
    arguments.insert("table".to_owned(), name.join(".").into());
    arguments.insert("strategy".to_owned(), strategy.into());
    let more = [("sort_order", order), ("where", options.filter.clone())];
    arguments.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
    arguments.insert("options".to_owned(), Value::Object(procedure_options(options)));
    Some(SparkCall { procedure: "rewrite_data_files", arguments })
}

/// Converts an order of columns to Spark's syntax; `None` if it can't be parsed.
fn sorted(text: &str) -> Option<String> {
    let keys = parse_sort_order(text).ok()?;
    let key = |s: &SortColumn<'_>| {
        let (direction, nulls) = (if s.descending { "desc" } else { "asc" }, if s.nulls_first { "first" } else { "last" });
        format!("{} {direction} nulls {nulls}", column(s.name))
    };
    Some(keys.iter().map(key).collect::<Vec<_>>().join(", "))
}

/// Quotes a column's name in backticks, the only quotes that Spark takes.
fn column(name: &str) -> String {
    let parts = split_dotted(name).unwrap_or_else(|_| vec![name.to_owned()]);
    parts.iter().map(|part| quote_name(part, '`')).collect::<Vec<_>>().join(".")
}

/// Converts options to those of Spark's procedure, which are all strings.
fn procedure_options(options: &CompactOptions) -> Map<String, Value> {
    let number = |n: Option<usize>| n.map(|n| n.to_string());
    let bytes = |n: Option<u64>| n.map(|n| n.to_string());
    let said = [
        ("target-file-size-bytes", bytes(options.target_file_size_bytes)),
        ("min-file-size-bytes", bytes(options.min_file_size_bytes)),
        ("max-file-size-bytes", bytes(options.max_file_size_bytes)),
        ("max-file-group-size-bytes", bytes(options.max_file_group_size_bytes)),
        ("min-input-files", number(options.min_input_files)),
        ("delete-file-threshold", number(options.delete_file_threshold)),
        ("delete-ratio-threshold", options.delete_ratio_threshold.map(|ratio| ratio.to_string())),
        ("max-concurrent-file-group-rewrites", number(options.max_concurrent_file_group_rewrites)),
        ("partial-progress.max-commits", number(options.max_commits)),
        ("rewrite-all", options.rewrite_all.then(|| "true".to_owned())),
        // Options whose default in Esker differs from Spark's.
        ("partial-progress.enabled", Some(options.partial_progress.unwrap_or(true).to_string())),
        ("remove-dangling-deletes", Some(options.remove_dangling_deletes.unwrap_or(true).to_string())),
    ];
    said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect()
}

/// Decides whether Spark runs a compaction: it rewrites more bytes than its options leave to Esker, and Spark's procedure can do
/// it.
///
/// # Errors
///
/// Returns [`MaintenanceError::Busy`] while rows of a partition are being changed: Spark would not leave the partition alone.
pub(crate) fn is_for_spark(plan: &CompactPlan, table: &TableName) -> Result<bool> {
    let Some(most) = plan.options.spark_over_bytes.filter(|most| *most > 0 && plan.bytes() > *most) else { return Ok(false) };
    // Spark would choose the files itself, and copy the rows of other tables.
    if plan.has_files_of_others || spark_call(table, &plan.options).is_none() {
        return Ok(false);
    }
    match plan.under_change {
        true => Err(MaintenanceError::Busy(format!(
            "the job is to rewrite {} B, more than the {most} B that Esker may rewrite itself; while rows are being changed \
             it is not handed over to Spark, which would not leave their partitions alone",
            plan.bytes()
        ))),
        false => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use esker_types::NamespaceName;
    use serde_json::json;

    use super::*;
    use crate::{Group, PlannedFile};

    fn table() -> TableName {
        let namespace = NamespaceName::new(vec!["a".to_owned(), "b`c".to_owned()]).expect("valid");
        TableName::new(namespace, "t").expect("valid")
    }

    #[test]
    fn what_is_asked_for_is_named_as_spark_names_it() {
        let options = CompactOptions {
            strategy: Strategy::ZOrder,
            zorder_columns: vec!["x".to_owned(), "y".to_owned()],
            filter: Some("x > 3".to_owned()),
            min_input_files: Some(2),
            rewrite_all: true,
            ..CompactOptions::default()
        };
        let call = spark_call(&table(), &options).expect("Spark can");
        let expected = json!({
            "table": "`a`.`b``c`.`t`", "strategy": "sort", "sort_order": "zorder(`x`, `y`)", "where": "x > 3",
            "options": {"min-input-files": "2", "rewrite-all": "true", "partial-progress.enabled": "true",
                "remove-dangling-deletes": "true"},
        });
        assert_eq!(Value::Object(call.arguments), expected);
    }

    #[test]
    fn spark_reads_the_columns_of_an_order_in_backticks() {
        let order = |text: &str| {
            let options =
                CompactOptions { strategy: Strategy::Sort, sort_order: Some(text.to_owned()), ..CompactOptions::default() };
            spark_call(&table(), &options).map(|call| call.arguments["sort_order"].clone())
        };
        let expected = "`a b` desc nulls last, `c,\"d` asc nulls last, `s`.`x` asc nulls first";
        assert_eq!(order("\"a b\" desc, \"c,\"\"d\" NULLS LAST, s.x"), Some(expected.into()));
        assert_eq!(order("\"a"), None);
    }

    #[test]
    fn what_spark_would_do_otherwise_stays_here() {
        let stays = [
            CompactOptions { strategy: Strategy::ConvertDeletes, ..CompactOptions::default() },
            CompactOptions { branch: Some("b".to_owned()), ..CompactOptions::default() },
            CompactOptions { partition: Some("day=1".to_owned()), ..CompactOptions::default() },
            CompactOptions { min_row_group_size_bytes: Some(1), ..CompactOptions::default() },
            CompactOptions { max_seconds: Some(1), ..CompactOptions::default() },
            CompactOptions { verify: Verify::Full, ..CompactOptions::default() },
        ];
        assert!(stays.iter().all(|options| spark_call(&table(), options).is_none()));
    }

    #[test]
    fn only_what_is_large_and_not_under_change_is_for_spark() {
        let table = table();
        let plan = |over: Option<u64>, under_change: bool| {
            let file = PlannedFile { path: "f".to_owned(), bytes: 100, records: 1, deleted: 0 };
            let group =
                Group { id: 0, partition: String::new(), spec_id: 0, files: vec![file], delete_files: 0, expected_files: 1 };
            CompactPlan {
                table: "n.t".to_owned(),
                options: CompactOptions { spark_over_bytes: over, ..CompactOptions::default() },
                snapshot_id: Some(1),
                sequence_number: 1,
                target_file_size_bytes: 1000,
                data_files: 1,
                delete_files: 0,
                groups: vec![group],
                left_alone: Vec::new(),
                under_change,
                has_files_of_others: false,
                nothing_to_do: None,
            }
        };
        let is = |over, under_change| is_for_spark(&plan(over, under_change), &table);
        assert!(is(Some(99), false).expect("decided"));
        let mixed = CompactPlan { has_files_of_others: true, ..plan(Some(99), false) };
        assert!(!is_for_spark(&mixed, &table).expect("decided"), "Spark would copy their rows");
        assert!([None, Some(0), Some(100)].into_iter().all(|over| !is(over, true).expect("decided")));
        let busy = is(Some(99), true).expect_err("Spark would be in a writer's way");
        assert!(matches!(busy, MaintenanceError::Busy(_)) && busy.to_string().contains("rows are being changed"), "{busy}");
    }
}
