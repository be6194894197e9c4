//! The job kind `manifests`: its command line, and how people read its plan and its outcome.

use clap::Args;
use esker_catalog::LoadedTable;
use esker_types::{JobKind, format_bytes, format_count};

use super::{ManifestOptions, ManifestOutcome, ManifestPlan, execute_manifests, plan_manifests};
use crate::Result;
use crate::context::JobContext;
use crate::job_type::{JobReport, JobType, ProgressUnit, TableAccess, Undo};

/// The job kind `manifests`.
#[derive(Debug)]
pub(crate) struct ManifestRewrite;

#[derive(Debug, Args)]
pub(crate) struct ManifestArgs {
    /// The branch. Default: main.
    #[arg(long)]
    branch: Option<String>,
    /// Rewrite every manifest.
    #[arg(long)]
    rewrite_all: bool,
}

impl JobType for ManifestRewrite {
    const KIND: JobKind = JobKind::Manifests;
    const SUMMARY: &'static str = "Rewrite manifests: fewer of them, and each about few partitions.";
    const UNIT: ProgressUnit = ProgressUnit::Files;
    const ACCESS: TableAccess = TableAccess::Write;
    const SCHEDULABLE: bool = true;
    const SHOWS_PREVIEW: bool = true;
    const UNDO: Option<Undo> = None;

    type Options = ManifestOptions;
    type Args = ManifestArgs;
    type Plan = ManifestPlan;
    type Record = ManifestPlan;
    type Preview = ManifestPlan;
    type Outcome = ManifestOutcome;

    fn options(args: ManifestArgs) -> std::result::Result<ManifestOptions, String> {
        Ok(ManifestOptions { branch: args.branch, rewrite_all: args.rewrite_all })
    }

    async fn plan(context: &JobContext, table: &LoadedTable, options: &ManifestOptions) -> Result<ManifestPlan> {
        plan_manifests(context, table, options).await
    }

    fn record(plan: &ManifestPlan) -> &ManifestPlan {
        plan
    }

    async fn preview(context: &JobContext, table: &LoadedTable, options: &ManifestOptions) -> Result<ManifestPlan> {
        Self::plan(context, table, options).await
    }

    async fn run(context: &JobContext, table: &LoadedTable, plan: &ManifestPlan) -> Result<ManifestOutcome> {
        execute_manifests(context, table, plan).await
    }

    fn describe_preview(plan: &ManifestPlan) -> JobReport {
        let (n, all) = (plan.rewrite.len(), format_count(plan.manifests, "manifest"));
        let (bytes, target) = (format_bytes(plan.rewrite.iter().map(|m| m.bytes).sum()), format_bytes(plan.target_bytes));
        let (table, branch) = (&plan.table, &plan.branch);
        let mut lines =
            vec![format!("{table}, branch {branch}: rewrites {n} of {all} ({bytes}) into manifests of about {target}")];
        for reason in ["small", "large", "overlaps", "asked"] {
            let n = plan.rewrite.iter().filter(|m| m.reason == reason).count();
            lines.extend((n > 0).then(|| format!("  {reason:<9} {n:>6}")));
        }
        let left = format_count(plan.left, "manifest");
        lines.extend((plan.left > 0).then(|| format!("  left to the next job, for want of memory: {left}")));
        JobReport { nothing_to_do: plan.nothing_to_do.clone(), ..JobReport::of(&lines) }
    }

    fn describe_outcome(_table: &str, outcome: &ManifestOutcome) -> JobReport {
        let (replaced, created) = (format_count(outcome.replaced, "manifest"), outcome.created);
        JobReport::of(&[format!("rewrote {replaced} into {created}, {:.1} s", outcome.seconds)])
    }
}
