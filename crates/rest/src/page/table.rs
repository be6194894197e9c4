//! The page of one table: findings, facts, policy, jobs, references and snapshots.
//!
//! Start reading at [`show`], which collects the data, then [`content`], which has the order of the page.

use axum::Extension;
use axum::extract::State;
use esker_autopilot::{Origin, Policy};
use esker_format::{OPERATION, TableMetadata};
use esker_health::Assessment;
use esker_state::{HealthPoint, JobFilter, TableUsage, TabularRow};
use esker_table::{HISTOGRAM_BOUNDS, TableFacts};
use esker_types::{DAY_MS, DurationMillis, format_bytes, format_count, now_ms, saturating_total};
use maud::{Markup, html};
use serde_json::Value;

use super::jobs::render_jobs;
use super::visitor::Visitor;
use super::{ago, badge, charts, page};
use crate::access::RequestAccess;
use crate::extract::{InTable, InWarehouse};
use crate::management::{JobView, seen_jobs, view_job};
use crate::{ApiError, App};

/// The maximum number of jobs on the page.
const JOBS: u32 = 10;
/// The maximum number of snapshots on the page.
const SNAPSHOTS: usize = 15;
/// The time that the charts show, in milliseconds.
const HISTORY_MS: DurationMillis = 14 * DAY_MS;

/// Shows one table: its findings, its facts, and its jobs and policy.
///
/// Route: `GET /warehouses/{warehouse}/namespaces/{namespace}/tables/{table}`. A table that can't be assessed has a shorter page.
pub(crate) async fn show(
    State(app): State<App>,
    visitor: Extension<Visitor>,
    caller: RequestAccess,
    warehouse: InWarehouse,
    InTable(name): InTable,
) -> Result<Markup, ApiError> {
    let catalog = warehouse.catalog();
    let overview = catalog.overview();
    let row = caller.whole_table(catalog, &name).await?;
    let assessed = app.assess_table(catalog, row).await?;
    let id = assessed.row.id;
    let filter = JobFilter { table: Some(id), warehouse: Some(catalog.warehouse().id), ..JobFilter::default() };
    let jobs = seen_jobs(&app, &caller.quiet_authority(), &filter, JOBS).await?;
    let content = match &assessed.facts {
        Ok(facts) => {
            let quarantine = overview.quarantine_of(id).await?;
            let table = catalog.load_row(assessed.row.clone()).await?;
            let about = TablePage {
                row: &assessed.row,
                facts,
                assessment: &assessed.assessment,
                jobs: jobs.into_iter().map(|job| view_job(&app, job)).collect(),
                quarantine: (quarantine.len(), saturating_total(quarantine.iter().filter_map(|d| d.record.bytes))),
                history: overview.health_history(id, now_ms() - HISTORY_MS).await?,
                policy: app.policy(catalog, &assessed.row).await?,
                decision: overview.decision(id).await?,
                used: overview.usage_of(id).await?,
                metadata: &table.metadata,
            };
            content(&about)
        }
        Err(error) => html! {
            div.title { (badge(None)) h1 { (name) } }
            p { "This table can't be assessed: " (error) }
            (findings(&assessed.assessment))
            h2 { "Jobs" }
            @let jobs: Vec<JobView> = jobs.into_iter().map(|job| view_job(&app, job)).collect();
            @if jobs.is_empty() { p.soft { "None yet." } } @else { (render_jobs(&jobs)) }
            h2 { "Location" }
            p { code { (assessed.row.location) } }
        },
    };
    Ok(page(&visitor, &name.to_string(), &content))
}

/// The data of a table's page.
struct TablePage<'a> {
    row: &'a TabularRow,
    facts: &'a TableFacts,
    assessment: &'a Assessment,
    jobs: Vec<JobView>,
    /// The number of the table's files in quarantine, and their size in bytes.
    quarantine: (usize, u64),
    history: Vec<HealthPoint>,
    policy: Policy,
    /// The autopilot's last decision, with its time in milliseconds since the Unix epoch.
    decision: Option<(i64, Value)>,
    used: TableUsage,
    metadata: &'a TableMetadata,
}

/// Renders the page.
fn content(about: &TablePage<'_>) -> Markup {
    let TablePage { row, facts, assessment, quarantine, .. } = about;
    html! {
        div.title {
            span.big { (badge(Some(assessment.score))) }
            div {
                h1 { (row.name) }
                p.soft.tight {
                    "format version " (facts.format_version) ", last commit " (ago(facts.last_commit_ms, now_ms()))
                    @if !row.owned { ", foreign: nothing destructive happens to it until it is claimed" }
                }
            }
        }
        (findings(assessment))
        h2 { "Facts" }
        div.cards {
            (card("data files", &facts.data_files.to_string(), &format!("{} would be enough", facts.ideal_files)))
            (card("data", &format_bytes(facts.data_bytes), &format!("{} in {}", format_count(facts.records, "row"), format_count(facts.partitions, "partition"))))
            (card("delete files", &facts.deletes().files.to_string(),
                &format!("position {}, equality {}, vectors {}", facts.position_deletes.files, facts.equality_deletes.files, facts.deletion_vectors.files)))
            (card("snapshots", &facts.snapshots.to_string(),
                &facts.oldest_snapshot_ms.map_or_else(|| "no snapshot".to_owned(), |ms| format!("oldest {}", ago(ms, now_ms())))))
            (card("manifests", &facts.manifests.to_string(), &format_bytes(facts.manifest_bytes)))
            (card("metadata file", &format_bytes(facts.metadata_bytes), &format!("{} in its log", format_count(facts.metadata_log, "earlier one"))))
            (card("in quarantine", &quarantine.0.to_string(), &format_bytes(quarantine.1)))
        }
        h2 { "Data files by size" }
        (histogram(facts))
        (over_time(&about.history))
        (autopilot(about))
        h2 { "Jobs" }
        @if about.jobs.is_empty() { p.soft { "None yet." } } @else { (render_jobs(&about.jobs)) }
        (references(about.metadata))
        (snapshots(about.metadata))
        h2 { "Location" }
        p { code { (row.location) } }
    }
}

/// Renders the findings with evidence and recommendation.
fn findings(assessment: &Assessment) -> Markup {
    html! {
        h2 { "Findings" }
        @if assessment.findings.is_empty() { p { "None. This table is healthy." } }
        ul.findings {
            @for finding in &assessment.findings {
                li class={ "finding " (finding.severity.as_str()) } {
                    p.head {
                        span { (finding.code) " · " (finding.severity.as_str()) }
                        span { "−" (finding.points) }
                    }
                    p { (finding.evidence) }
                    p.soft { "→ " (finding.recommendation) }
                }
            }
        }
    }
}

/// Renders the charts of score and file counts.
fn over_time(history: &[HealthPoint]) -> Markup {
    let of = |name: &str| -> Vec<(i64, f64)> {
        history.iter().map(|point| (point.time_ms, point.shape[name].as_f64().unwrap_or(0.0))).collect()
    };
    let scores: Vec<(i64, f64)> = history.iter().map(|point| (point.time_ms, point.score as f64)).collect();
    let number = |v: f64| format!("{v:.0}");
    let bytes = |v: f64| format_bytes(v as u64);
    html! {
        @if !history.is_empty() {
            h2 { "The last two weeks" }
            div.cards {
                (charts::line("score", &scores, number))
                (charts::line("data files", &of("data_files"), number))
                (charts::line("data", &of("data_bytes"), bytes))
                (charts::line("delete files", &of("delete_files"), number))
                (charts::line("snapshots", &of("snapshots"), number))
                (charts::line("manifests", &of("manifests"), number))
            }
        }
    }
}

/// Renders the policy and the autopilot's last decision.
fn autopilot(about: &TablePage<'_>) -> Markup {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let said = about.policy.settings.iter().filter(|s| s.origin != Origin::Default);
    html! {
        h2 { "Policy" }
        @if let Some((at, decision)) = &about.decision {
            p { b { (text(&decision["verdict"])) } ": " (text(&decision["reason"])) " " span.soft { "(" (ago(*at, now_ms())) ")" } }
            @if let Some(considered) = decision["considered"].as_array().filter(|c| !c.is_empty()) {
                ul { @for job in considered {
                    li { (text(&job["kind"])) ": " (text(&job["why"])) " → " (text(&job["verdict"])) ", " (text(&job["reason"])) }
                } }
            }
        }
        @for problem in &about.policy.problems { p.poor { "Can't be followed: " (problem) } }
        p.soft {
            "In the last seven days, engines reported " (about.used.scans) " scans of " (about.used.scanned_files) " files, and "
            (about.used.commits) " commits in " (about.used.commit_attempts) " attempts."
        }
        div.scroll { table {
            thead { tr { th { "Key" } th { "Value" } th { "Set by" } th { "Next" } } }
            tbody { @for setting in said { tr {
                td { (setting.key) } td { (setting.value) } td { (setting.origin) }
                td { @if let Some(next) = setting.key.strip_suffix(".schedule").and_then(|kind| about.policy.next_run(kind.parse().ok()?, now_ms())) {
                    "in " ((next - now_ms()) / 60_000) " min"
                } }
            } } }
        } }
        p.soft { "All other keys have their defaults. " code { "esker policy explain" } " shows all keys." }
    }
}

/// Renders the branches and tags.
fn references(metadata: &TableMetadata) -> Markup {
    html! {
        h2 { "Branches and tags" }
        @if metadata.refs.is_empty() { p.soft { "None: the table has no snapshot." } } @else {
            div.scroll { table {
                thead { tr { th { "Name" } th { "Kind" } th { "Snapshot" } th { "Created" } } }
                tbody { @for (name, reference) in &metadata.refs { tr {
                    td { (name) }
                    td { @if reference.is_branch() { "branch" } @else { "tag" } }
                    td { code { (reference.snapshot_id) } }
                    td { @if let Some(snapshot) = metadata.snapshots.get(reference.snapshot_id) { (ago(snapshot.timestamp_ms, now_ms())) } }
                } } }
            } }
        }
    }
}

/// Renders the newest snapshots.
fn snapshots(metadata: &TableMetadata) -> Markup {
    let mut all: Vec<_> = metadata.snapshots.iter().collect();
    all.sort_by_key(|s| std::cmp::Reverse((s.sequence_number(), s.timestamp_ms)));
    html! {
        h2 { "Snapshots" }
        @if all.is_empty() { p.soft { "None yet." } } @else {
            div.scroll { table {
                thead { tr { th { "Snapshot" } th { "Created" } th { "Operation" } th { "Engine" } th.num { "Files added" } th.num { "Files removed" } th.num { "Rows" } } }
                tbody { @for snapshot in all.iter().take(SNAPSHOTS) {
                    @let value = |key: &str| snapshot.summary_value(key).unwrap_or_default();
                    tr {
                        td { code { (snapshot.snapshot_id) } }
                        td { (ago(snapshot.timestamp_ms, now_ms())) }
                        td { (value(OPERATION)) }
                        td { (value("engine-name")) }
                        td.num { (value("added-data-files")) } td.num { (value("deleted-data-files")) } td.num { (value("total-records")) }
                    }
                } }
            } }
            @if all.len() > SNAPSHOTS { p.soft { "and " (all.len() - SNAPSHOTS) " earlier ones." } }
        }
    }
}

/// Renders one fact as a card.
fn card(name: &str, value: &str, note: &str) -> Markup {
    html! { div.card { span.soft { (name) } b { (value) } span.soft { (note) } } }
}

/// Renders the number of data files in each size class as bars.
fn histogram(facts: &TableFacts) -> Markup {
    let most = facts.size_histogram.iter().copied().max().unwrap_or(0).max(1);
    html! {
        table.histogram { tbody {
            @for (i, files) in facts.size_histogram.iter().enumerate() {
                tr {
                    td { @match HISTOGRAM_BOUNDS.get(i) {
                        Some(bound) => { "under " (format_bytes(*bound)) },
                        None => { "larger" },
                    } }
                    td.num { (files) }
                    td { @if *files > 0 { (bar((files * 100).div_ceil(most))) } }
                }
            }
        } }
    }
}

/// Renders a bar of a length in percent. The policy of the page allows no styles of single elements, so it is a drawing.
fn bar(percent: u64) -> Markup {
    html! {
        svg.bar viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true" { rect width=(percent) height="1" {} }
    }
}
