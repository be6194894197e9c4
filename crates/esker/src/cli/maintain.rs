use std::borrow::Cow;
use std::time::Duration;

use clap::Subcommand;
use esker_health::bytes_for_people;
use esker_maintenance::{
    CompactPlan, EraseOptions, EraseOutcome, ErasureReport, ExpireOutcome, ExpirePlan, LocationCensus, ManifestOptions,
    ManifestOutcome, ManifestPlan, Orphan, OrphanOptions, OrphanOutcome, OrphanReport, StatisticsOptions, StatisticsOutcome,
    StatisticsPlan,
};
use esker_table::ExpiryPolicy;
use esker_types::{listed, now_ms, parse_age, unquoted};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::Client;
use super::compact::{CompactArgs, nothing, outcome_text, plan_text};
use super::{jobs, out};
use crate::{Error, Result};

#[derive(Debug, Subcommand)]
pub(super) enum MaintainCommand {
    /// Rewrite data files into files of the target size, or deletes into better ones.
    Compact(Box<CompactArgs>),
    /// Remove snapshots that retention no longer asks for; their files go into quarantine.
    Expire {
        /// NAMESPACE.TABLE
        table: String,
        /// Print the plan and do nothing.
        #[arg(long)]
        dry_run: bool,
        /// Snapshots older than this may go, e.g. 5d, 12h, 30m, 0s; default: the table's properties.
        #[arg(long, value_parser = age)]
        older_than: Option<Duration>,
        /// Snapshots to keep on each branch.
        #[arg(long)]
        retain_last: Option<usize>,
    },
    /// Write manifests anew: fewer, and each about few partitions.
    Manifests {
        /// NAMESPACE.TABLE
        table: String,
        /// Print the plan and do nothing.
        #[arg(long)]
        dry_run: bool,
        /// The branch; default `main`.
        #[arg(long)]
        branch: Option<String>,
        /// Rewrite every manifest.
        #[arg(long)]
        rewrite_all: bool,
    },
    /// Count the distinct values of columns, for the planners of Spark and Trino.
    Statistics {
        /// NAMESPACE.TABLE
        table: String,
        /// Print the plan and do nothing.
        #[arg(long)]
        dry_run: bool,
        /// Only these columns, with commas between; names that hold commas in double quotes.
        #[arg(long)]
        columns: Vec<String>,
        /// The branch; default `main`.
        #[arg(long)]
        branch: Option<String>,
    },
    /// Make rows that were deleted go from storage, and say what still holds them.
    Erase {
        /// NAMESPACE.TABLE
        table: String,
        /// The rows, as a SQL predicate. They must have been deleted before.
        #[arg(long = "where")]
        filter: String,
        /// How long the last of it may stay in quarantine, e.g. 3d.
        #[arg(long, value_parser = age, default_value = "0s")]
        within: Duration,
        /// A branch or tag that goes, if its head holds any of the rows; never `main`. Repeatable.
        #[arg(long = "drop-ref")]
        drop_refs: Vec<String>,
        /// Say what holds the rows, and which branches and tags would go; do nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Put files that belong to nothing into quarantine: those that a look at least a day ago found so too.
    Orphans {
        /// NAMESPACE.TABLE
        table: String,
        /// Only files older than this, e.g. 3d; at least 24h.
        #[arg(long, value_parser = age)]
        older_than: Option<Duration>,
        /// The listing to go by: the manifest.json of an S3 Inventory, or a file of CSV or Parquet; its URI.
        #[arg(long)]
        inventory: Option<String>,
        /// List them and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// `5d`, `12h`, `30m`, `10s`.
fn age(text: &str) -> std::result::Result<Duration, String> {
    parse_age(text).ok_or_else(|| format!("{text:?} is not an age like 5d, 12h, 30m or 10s"))
}

fn millis(age: Duration) -> i64 {
    i64::try_from(age.as_millis()).unwrap_or(i64::MAX)
}

impl MaintainCommand {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::Compact(args) => {
                let options = args.options()?;
                let path = format!("{}/compact", client.table_path(&args.table)?);
                let plan: CompactPlan = client.post(&format!("{path}?dry-run=true"), &options).await?;
                out(&plan_text(&plan));
                if args.dry_run || nothing(&plan) {
                    return Ok(());
                }
                out(&outcome_text(&start(client, &path, &options, true).await?));
                Ok(())
            }
            Self::Expire { table, dry_run, older_than, retain_last } => {
                let older_than_ms = older_than.map(|age| now_ms().saturating_sub(millis(age)));
                let policy = ExpiryPolicy { older_than_ms, retain_last };
                let path = format!("{}/expire", client.table_path(&table)?);
                let plan: ExpirePlan = client.post(&format!("{path}?dry-run=true"), &policy).await?;
                out(&expire_plan(&plan));
                if dry_run || (plan.expire.is_empty() && plan.expire_refs.is_empty()) {
                    return Ok(());
                }
                let outcome: ExpireOutcome = start(client, &path, &policy, false).await?;
                out(&format!(
                    "expired {} snapshots and {} references; {} files ({}) are in quarantine, {:.1} s",
                    outcome.snapshots,
                    outcome.refs,
                    outcome.quarantined_files,
                    bytes_for_people(outcome.quarantined_bytes),
                    outcome.seconds,
                ));
                if !outcome.unread.is_empty() {
                    out(&format!("what only these lead to is still in storage; esker maintain orphans {table} finds it:"));
                    outcome.unread.iter().for_each(|file| out(&format!("  {file}")));
                }
                Ok(())
            }
            Self::Manifests { table, dry_run, branch, rewrite_all } => {
                let options = ManifestOptions { branch, rewrite_all };
                let path = format!("{}/manifests", client.table_path(&table)?);
                let plan: ManifestPlan = client.post(&format!("{path}?dry-run=true"), &options).await?;
                out(&manifest_plan(&plan));
                if dry_run || plan.rewrite.is_empty() {
                    return Ok(());
                }
                let outcome: ManifestOutcome = start(client, &path, &options, false).await?;
                out(&format!("{} manifests became {}, {:.1} s", outcome.replaced, outcome.created, outcome.seconds));
                Ok(())
            }
            Self::Statistics { table, dry_run, columns, branch } => {
                let names = columns.iter().flat_map(|text| listed(text));
                let columns = names.map(|name| unquoted(name).map(Cow::into_owned)).collect::<std::result::Result<_, _>>();
                let options = StatisticsOptions { columns: columns.map_err(|e| Error::Usage(e.to_string()))?, branch };
                let path = format!("{}/statistics", client.table_path(&table)?);
                let plan: StatisticsPlan = client.post(&format!("{path}?dry-run=true"), &options).await?;
                let names: Vec<&str> = plan.columns.keys().map(String::as_str).collect();
                let snapshot = plan.snapshot_id.map_or_else(|| "no snapshot".to_owned(), |id| format!("snapshot {id}"));
                out(&format!("{}, {snapshot}: {}", plan.table, names.join(", ")));
                if dry_run || plan.snapshot_id.is_none() {
                    return Ok(());
                }
                let outcome: StatisticsOutcome = start(client, &path, &options, false).await?;
                outcome.distinct.iter().for_each(|(column, n)| out(&format!("  {n:>12}  {column}")));
                out(&format!("{} rows, {:.1} s", outcome.records, outcome.seconds));
                Ok(())
            }
            Self::Erase { table, filter, within, drop_refs, dry_run } => {
                let deadline_ms = Some(now_ms().saturating_add(millis(within)));
                let options = EraseOptions { filter, deadline_ms, drop_refs: drop_refs.into_iter().collect() };
                let path = format!("{}/erase", client.table_path(&table)?);
                let report: ErasureReport = client.post(&format!("{path}?dry-run=true"), &options).await?;
                out(&erasure_report(&report));
                for name in &options.drop_refs {
                    match report.drop_refs.contains(name) {
                        true => out(&format!("  goes: branch or tag {name}")),
                        false => out(&format!("  stays: branch or tag {name}, which holds none of the rows")),
                    }
                }
                if dry_run || report.holders.is_empty() {
                    return Ok(());
                }
                let outcome: EraseOutcome = start(client, &path, &options, true).await?;
                out(&format!(
                    "{} files were rewritten, {} snapshots expired; {} files go from quarantine by the deadline",
                    outcome.files_rewritten, outcome.snapshots, outcome.files
                ));
                outcome.refs.iter().for_each(|name| out(&format!("  dropped: branch or tag {name}")));
                out(&erasure_report(&outcome.report));
                match outcome.complete {
                    true => Ok(()),
                    false => Err(Error::Remote("something still holds the rows beyond the deadline, see above".to_owned())),
                }
            }
            Self::Orphans { table, older_than, inventory, dry_run } => {
                let options = OrphanOptions { older_than_age_ms: older_than.map(millis), inventory };
                let path = format!("{}/orphans", client.table_path(&table)?);
                if dry_run {
                    let report: OrphanReport = client.post(&format!("{path}?dry-run=true"), &options).await?;
                    out(&orphan_report(&report));
                    return Ok(());
                }
                let outcome: OrphanOutcome = start(client, &path, &options, false).await?;
                out(&orphan_counts(&table, &outcome.counted));
                out(&format!(
                    "{} files ({}) are in quarantine; {} were first seen less than a day ago and wait for another look, {:.1} s",
                    outcome.quarantined_files,
                    bytes_for_people(outcome.quarantined_bytes),
                    outcome.waiting,
                    outcome.seconds,
                ));
                Ok(())
            }
        }
    }
}

/// Starts a job and waits for it.
pub(super) async fn start<T: DeserializeOwned>(client: &Client, path: &str, options: &impl Serialize, bytes: bool) -> Result<T> {
    let accepted: Value = client.post(path, options).await?;
    let id = accepted["job-id"].as_str().ok_or_else(|| Error::Remote("the server named no job".to_owned()))?;
    let outcome = jobs::wait(client, id, bytes).await?;
    serde_json::from_value(outcome).map_err(|e| Error::Remote(format!("job {id}: {e}")))
}

fn expire_plan(plan: &ExpirePlan) -> String {
    let mut lines = vec![format!(
        "{}: {} of {} snapshots go; {} files ({}) stay in quarantine for {} h before they are deleted",
        plan.table,
        plan.expire.len(),
        plan.snapshots,
        plan.files.len(),
        bytes_for_people(plan.bytes()),
        plan.grace_ms / 3_600_000,
    )];
    for name in &plan.expire_refs {
        lines.push(format!("  branch or tag {name} goes: it is older than its max-ref-age"));
    }
    for file in &plan.unread {
        lines.push(format!("  {file}; what only that leads to stays in storage"));
    }
    for kind in ["data", "delete", "manifest", "manifest-list", "statistics"] {
        let of_kind = || plan.files.iter().filter(|f| f.kind == kind);
        if of_kind().next().is_some() {
            let bytes = bytes_for_people(of_kind().filter_map(|f| f.bytes).sum());
            lines.push(format!("  {:<14} {:>6} files {bytes:>10}", kind, of_kind().count()));
        }
    }
    lines.join("\n")
}

fn manifest_plan(plan: &ManifestPlan) -> String {
    let bytes = bytes_for_people(plan.rewrite.iter().map(|m| m.bytes).sum());
    let (table, branch, all, target) = (&plan.table, &plan.branch, plan.manifests, bytes_for_people(plan.target_bytes));
    let n = plan.rewrite.len();
    let mut lines = vec![format!("{table}, {branch}: {n} of {all} manifests ({bytes}) are written anew, of {target} each")];
    for reason in ["small", "large", "overlaps", "asked"] {
        let n = plan.rewrite.iter().filter(|m| m.reason == reason).count();
        lines.extend((n > 0).then(|| format!("  {reason:<9} {n:>6}")));
    }
    lines.extend((plan.left > 0).then(|| format!("  {} more are left to the next job, for want of memory", plan.left)));
    lines.join("\n")
}

fn orphan_counts(table: &str, counted: &LocationCensus) -> String {
    format!(
        "{table}: {} files listed, {} referenced, {} in progress, in quarantine or another table's, {} too young to judge, {} orphans ({})",
        counted.listed,
        counted.referenced,
        counted.accounted,
        counted.young,
        counted.orphans,
        bytes_for_people(counted.orphan_bytes),
    )
}

fn orphan_report(report: &OrphanReport) -> String {
    let mut lines = vec![orphan_counts(&report.table, &report.counted)];
    let since = |orphan: &Orphan| match orphan.since_ms {
        Some(since) => format!("seen since {} h", (now_ms() - since) / 3_600_000),
        None => "not seen before".to_owned(),
    };
    lines.extend(
        report.named.iter().map(|o| format!("  {:>10}  {}  {}, {}", bytes_for_people(o.bytes), o.path, since(o), o.reason)),
    );
    let named = report.named.len() as u64;
    if named < report.counted.orphans {
        lines.push(format!("  and {} more", report.counted.orphans - named));
    }
    lines.join("\n")
}

fn erasure_report(report: &ErasureReport) -> String {
    let n = report.holders.len();
    let mut lines = vec![format!("{}: {n} files hold rows where {}", report.table, report.filter)];
    for holder in &report.holders {
        let rows = holder.rows.map_or_else(|| "perhaps some".to_owned(), |rows| rows.to_string());
        lines.push(format!("  {rows:>12} rows  {}  {}", holder.path, holder.kept_by()));
    }
    lines.join("\n")
}
