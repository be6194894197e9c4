//! The job kind `orphans`: its command line, and how people read its preview and its outcome.

use std::time::Duration;

use clap::Args;
use esker_catalog::LoadedTable;
use esker_table::properties::ORPHAN_MIN_AGE;
use esker_types::{JobKind, format_bytes, format_count, now_ms, parse_age, to_millis};
use futures::FutureExt;

use super::{
    LocationCensus, Orphan, OrphanOptions, OrphanOutcome, OrphanPlan, OrphanReport, execute_orphans, list_orphans, plan_orphans,
};
use crate::Result;
use crate::context::JobContext;
use crate::job_type::{JobReport, JobType, ProgressUnit, TableAccess, Undo};
use crate::undone::{UndoOutcome, nothing_to_undo};

/// The job kind `orphans`.
#[derive(Debug)]
pub(crate) struct OrphanRemoval;

#[derive(Debug, Args)]
pub(crate) struct OrphanArgs {
    /// Only files older than this, e.g. 3d; at least 24h.
    #[arg(long, value_parser = parse_age)]
    older_than: Option<Duration>,
    /// URI of the listing to use instead of listing the storage: the manifest.json of an S3 Inventory, or a file of CSV or Parquet.
    #[arg(long)]
    inventory: Option<String>,
}

impl JobType for OrphanRemoval {
    const KIND: JobKind = JobKind::Orphans;
    const SUMMARY: &'static str = "Quarantine orphan files: those that a scan at least a day ago found unreferenced too.";
    const UNIT: ProgressUnit = ProgressUnit::Files;
    const ACCESS: TableAccess = TableAccess::Delete;
    const SCHEDULABLE: bool = true;
    const SHOWS_PREVIEW: bool = false;
    // A frozen table's files may be released: nothing but the quarantine changes.
    const UNDO: Option<Undo> = Some(|catalog, job, principal| {
        async move {
            let note = format!("job {} was undone by {principal}", job.id);
            match catalog.state().quarantine().release_by_job(job.id, &note).await? {
                (0, 0) => nothing_to_undo(job, "it has no file in quarantine"),
                (files, deleted) => Ok(UndoOutcome { files, deleted, ..UndoOutcome::default() }),
            }
        }
        .boxed()
    });

    type Options = OrphanOptions;
    type Args = OrphanArgs;
    type Plan = OrphanPlan;
    type Record = OrphanPlan;
    type Preview = OrphanReport;
    type Outcome = OrphanOutcome;

    fn options(args: OrphanArgs) -> std::result::Result<OrphanOptions, String> {
        Ok(OrphanOptions { older_than_age_ms: args.older_than.map(to_millis), inventory: args.inventory })
    }

    async fn plan(context: &JobContext, table: &LoadedTable, options: &OrphanOptions) -> Result<OrphanPlan> {
        plan_orphans(&context.catalog, table, options)
    }

    fn record(plan: &OrphanPlan) -> &OrphanPlan {
        plan
    }

    async fn preview(context: &JobContext, table: &LoadedTable, options: &OrphanOptions) -> Result<OrphanReport> {
        list_orphans(&context.catalog, table, options, &context.limits.spill_dir).await
    }

    async fn run(context: &JobContext, table: &LoadedTable, plan: &OrphanPlan) -> Result<OrphanOutcome> {
        execute_orphans(context, table, plan).await
    }

    fn describe_preview(report: &OrphanReport) -> JobReport {
        let mut lines = vec![counts(&report.table, &report.counted)];
        let since = |orphan: &Orphan| match orphan.since_ms {
            Some(since) => format!("a candidate for {}", format_count(((now_ms() - since) / 3_600_000).unsigned_abs(), "hour")),
            None => "not seen before".to_owned(),
        };
        lines.extend(
            report.named.iter().map(|o| format!("  {:>10}  {}  {}, {}", format_bytes(o.bytes), o.path, since(o), o.reason)),
        );
        let named = report.named.len() as u64;
        lines.extend((named < report.counted.orphans).then(|| format!("  and {} more", report.counted.orphans - named)));
        JobReport { nothing_to_do: why_no_orphan(&report.counted), ..JobReport::of(&lines) }
    }

    fn describe_outcome(table: &str, outcome: &OrphanOutcome) -> JobReport {
        let lines = [
            counts(table, &outcome.counted),
            format!(
                "{} ({}) are in quarantine; {} first seen less than a day ago, which the next scan may take, {:.1} s",
                format_count(outcome.quarantined_files, "file"),
                format_bytes(outcome.quarantined_bytes),
                format_count(outcome.waiting, "candidate"),
                outcome.seconds,
            ),
        ];
        JobReport { nothing_to_undo: outcome.quarantined_files == 0, ..JobReport::of(&lines) }
    }
}

/// Returns the reason that a scan found no orphan, if it found none.
fn why_no_orphan(counted: &LocationCensus) -> Option<String> {
    let LocationCensus { listed, young, orphans, .. } = counted;
    (*orphans == 0).then(|| match (listed, young) {
        (0, _) => "the location has no file".to_owned(),
        (_, 0) => "no file is an orphan".to_owned(),
        (_, young) => {
            let files = format_count(*young, "file");
            format!("no file is old enough to be an orphan; unreferenced but too young ({}): {files}", ORPHAN_MIN_AGE.key)
        }
    })
}

fn counts(table: &str, counted: &LocationCensus) -> String {
    format!(
        "{table}: {} listed, {} referenced, {} in progress, in quarantine or another table's, {} too young to judge, {} ({})",
        format_count(counted.listed, "file"),
        counted.referenced,
        counted.accounted,
        counted.young,
        format_count(counted.orphans, "orphan"),
        format_bytes(counted.orphan_bytes),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_without_orphans_says_why_and_offers_no_undo() {
        let why = |listed, young, orphans| why_no_orphan(&LocationCensus { listed, young, orphans, ..LocationCensus::default() });
        assert_eq!(why(0, 0, 0).as_deref(), Some("the location has no file"));
        assert_eq!(why(9, 0, 0).as_deref(), Some("no file is an orphan"));
        let young = "no file is old enough to be an orphan; unreferenced but too young (esker.orphans.min-age-ms): 1 file";
        assert_eq!(why(9, 1, 0).as_deref(), Some(young));
        assert_eq!(why(9, 1, 1), None);
        assert!(OrphanRemoval::describe_outcome("n.t", &OrphanOutcome::default()).nothing_to_undo);
        let outcome = OrphanOutcome { quarantined_files: 1, ..OrphanOutcome::default() };
        assert!(!OrphanRemoval::describe_outcome("n.t", &outcome).nothing_to_undo);
    }
}
