use axum::extract::State;
use esker_health::{Assessment, bytes_for_people};
use esker_state::{Job, JobFilter, TableRow};
use esker_table::{HISTOGRAM_BOUNDS, TableFacts};
use esker_types::now_ms;
use maud::{Markup, html};

use super::{ago, badge, page};
use crate::extract::{In, InTable};
use crate::{ApiError, App};

/// `GET /warehouses/{warehouse}/namespaces/{namespace}/tables/{table}`: one table's findings and what they rest on.
pub(crate) async fn show(State(app): State<App>, warehouse: In, InTable(name): InTable) -> Result<Markup, ApiError> {
    let catalog = warehouse.catalog();
    let row = catalog.state().table(catalog.warehouse(), &name).await?;
    let examined = app.examine(catalog, row).await?;
    let jobs = catalog.state().jobs(&JobFilter { table: Some(examined.row.id), ..JobFilter::default() }, 10).await?;
    let quarantine = catalog.state().quarantine_of(examined.row.id).await?;
    let content = match &examined.result {
        Ok((facts, assessment)) => {
            let in_quarantine = (quarantine.len(), quarantine.iter().filter_map(|d| d.doom.bytes).sum());
            content(&examined.row, facts, assessment, &jobs, in_quarantine)
        }
        Err(error) => html! {
            div.title { (badge(None)) h1 { (name) } }
            p { "This table can't be examined: " (error) }
        },
    };
    Ok(page(&name.to_string(), &content))
}

fn content(row: &TableRow, facts: &TableFacts, assessment: &Assessment, jobs: &[Job], quarantine: (usize, u64)) -> Markup {
    html! {
        div.title {
            span.big { (badge(Some(assessment.score))) }
            div {
                h1 { (row.name) }
                p.soft style="margin:0" {
                    "format version " (facts.format_version) ", last commit " (ago(facts.last_commit_ms, now_ms()))
                    @if !row.owned { ", foreign: nothing destructive happens to it until it is claimed" }
                }
            }
        }
        h2 { "Findings" }
        @if assessment.findings.is_empty() { p { "None. This table is well." } }
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
        h2 { "Facts" }
        div.cards {
            (card("data files", &facts.data_files.to_string(), &format!("{} would do", facts.ideal_files)))
            (card("data", &bytes_for_people(facts.data_bytes), &format!("{} rows in {} partitions", facts.records, facts.partitions)))
            (card("delete files", &(facts.position_deletes.files + facts.equality_deletes.files + facts.deletion_vectors.files).to_string(),
                &format!("position {}, equality {}, vectors {}", facts.position_deletes.files, facts.equality_deletes.files, facts.deletion_vectors.files)))
            (card("snapshots", &facts.snapshots.to_string(),
                &facts.oldest_snapshot_ms.map_or_else(|| "no snapshot".to_owned(), |ms| format!("oldest {}", ago(ms, now_ms())))))
            (card("manifests", &facts.manifests.to_string(), &bytes_for_people(facts.manifest_bytes)))
            (card("metadata file", &bytes_for_people(facts.metadata_bytes), &format!("{} earlier ones listed", facts.metadata_log)))
            (card("in quarantine", &quarantine.0.to_string(), &bytes_for_people(quarantine.1)))
        }
        h2 { "Data files by size" }
        (histogram(facts))
        h2 { "Jobs" }
        @if jobs.is_empty() { p.soft { "None yet." } } @else {
            div.scroll { table {
                thead { tr { th { "Began" } th { "Kind" } th { "State" } th { "By" } th { "Result" } } }
                tbody { @for job in jobs { tr {
                    td { (ago(job.created_ms, now_ms())) }
                    td { (job.kind) }
                    td { (job.state.as_str()) }
                    td { (job.principal) }
                    td { @match (&job.error, &job.outcome) {
                        (Some(error), _) => (error),
                        (None, Some(outcome)) => (summary(outcome)),
                        (None, None) => "",
                    } }
                } } }
            } }
        }
        h2 { "Location" }
        p { code { (row.location) } }
    }
}

fn card(name: &str, value: &str, note: &str) -> Markup {
    html! { div.card { span.soft { (name) } b { (value) } span.soft { (note) } } }
}

fn histogram(facts: &TableFacts) -> Markup {
    let most = facts.size_histogram.iter().copied().max().unwrap_or(0).max(1);
    html! {
        table.histogram { tbody {
            @for (i, files) in facts.size_histogram.iter().enumerate() {
                tr {
                    td { @match HISTOGRAM_BOUNDS.get(i) {
                        Some(bound) => { "under " (bytes_for_people(*bound)) },
                        None => { "larger" },
                    } }
                    td.num { (files) }
                    td { @if *files > 0 { span.bar style=(format!("width:{}%", (files * 100).div_ceil(most))) {} } }
                }
            }
        } }
    }
}

/// The numbers of a job's outcome, in a line.
fn summary(outcome: &serde_json::Value) -> String {
    let fields = outcome.as_object().into_iter().flatten().filter(|(_, v)| v.is_number());
    let field = |(key, value): (&String, &serde_json::Value)| match (key.as_str(), value.as_u64()) {
        (key, Some(bytes)) if key.contains("bytes") => format!("{} {}", key.replace('_', " "), bytes_for_people(bytes)),
        (key, _) => {
            format!("{} {}", key.replace('_', " "), value.as_f64().map_or_else(String::new, |v| format!("{:.0}", v.ceil())))
        }
    };
    fields.map(field).collect::<Vec<_>>().join(", ")
}
