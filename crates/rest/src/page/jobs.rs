//! The pages of jobs: the list, one job, and its cancellation and undo.

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Redirect;
use esker_maintenance::{Cost, describe_outcome, kind_view};
use esker_state::{Job, JobFilter, JobLogLine, JobState, UNDO};
use esker_types::{JobKind, format_bytes, now_ms};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::visitor::Visitor;
use super::{ago, encode, page};
use crate::access::RequestAccess;
use crate::extract::{InWarehouse, QueryParams};
use crate::management::{JobView, cancel_by, find_to_read, find_to_undo, log_to_read, seen_jobs, view_job};
use crate::{ApiError, App};

/// The maximum number of jobs on the page.
const MAX_JOBS: u32 = 200;

/// The parameters of the list of jobs.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct JobsPageQuery {
    state: Option<String>,
}

/// Shows the jobs: those that are not over, then the others, the newest first in each group (`GET /jobs?state=`).
pub(crate) async fn list(
    State(app): State<App>,
    visitor: Extension<Visitor>,
    caller: RequestAccess,
    QueryParams(wanted): QueryParams<JobsPageQuery>,
) -> Result<Markup, ApiError> {
    let state = wanted.state.filter(|state| !state.is_empty());
    let filter = JobFilter { state: state.clone(), ..JobFilter::default() };
    let mut jobs = seen_jobs(&app, &caller.authority(), &filter, MAX_JOBS).await?;
    jobs.sort_by_key(|job| job.state.is_over());
    let views: Vec<JobView> = jobs.into_iter().map(|job| view_job(&app, job)).collect();
    let content = html! {
        h1 { "Jobs" }
        p { "Show " a href="/jobs" { "all" } @for state in ["queued", "running", "succeeded", "failed", "cancelled"] {
            " · " a href={ "/jobs?state=" (state) } { (state) }
        } }
        @if views.is_empty() { p.soft { "None." } } @else { (render_jobs(&views)) }
    };
    Ok(page(&visitor, "Jobs", &content))
}

/// Renders jobs as a table.
pub(super) fn render_jobs(jobs: &[JobView]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "State" } th { "Kind" } th { "Table" } th { "Reason" } th { "Requested" } th.num { "Seconds" } th { "Result" } } }
            tbody { @for JobView { job, .. } in jobs { tr {
                td { a href={ "/jobs/" (encode(&job.id.to_string())) } { (job.state.as_str()) } @if job.attempts > 1 { " (attempt " (job.attempts) ")" } }
                td { (job.kind) }
                td { (job.table) }
                td { (job.reason) }
                td { (ago(job.created_ms, now_ms())) }
                td.num { @if let Some(seconds) = seconds(job) { (format!("{seconds:.1}")) } }
                td { (render_result(job)) }
            } } }
        } }
    }
}

/// Returns the duration of a job in seconds, so far or until its end.
fn seconds(job: &Job) -> Option<f64> {
    let end = job.finished_ms.unwrap_or_else(now_ms);
    job.started_ms.map(|start| (end - start) as f64 / 1000.0)
}

/// Renders the result of a job in one line: its error, the counts that it changed, or its progress while it runs.
fn render_result(job: &Job) -> Markup {
    html! {
        @match (&job.error, &job.measured) {
            _ if job.undone_by.is_some() => { "undone" @if let Some(by) = &job.undone_by { " by " a href={ "/jobs/" (encode(&by.to_string())) } { (by) } } },
            (Some(error), _) => (error),
            _ if job.state == JobState::Queued && job.engine.is_some() => { "waits for a worker of " (job.engine.as_deref().unwrap_or_default()) },
            (None, None) if job.kind == UNDO => (job.reason),
            (None, Some(measured)) if job.state == JobState::Succeeded => (changed_counts(measured)),
            _ if job.state == JobState::Running && job.progress.1 > 0 => { (job.progress.0.clamp(0, job.progress.1) as i128 * 100 / job.progress.1 as i128) " %" },
            _ => "",
        }
    }
}

/// Lists the counts of the table that a job changed, each before and after the job.
fn changed_counts(measured: &Value) -> String {
    let (before, after) = (&measured["shapes"]["before"], &measured["shapes"]["after"]);
    if before.is_object() && after.is_null() {
        return "the table's files could not be counted afterwards".to_owned();
    }
    let names = ["data_files", "delete_files", "deletes", "manifests", "snapshots"];
    let changed = names.iter().filter_map(|name| {
        let (was, is) = (before[*name].as_u64()?, after[*name].as_u64()?);
        (was != is).then(|| format!("{} {was} → {is}", name.replace('_', " ")))
    });
    let all: Vec<String> = changed.collect();
    if all.is_empty() { "nothing changed".to_owned() } else { all.join(", ") }
}

/// Checks whether a job's outcome says that it changed nothing. An attempt that was killed before may have changed something.
fn has_nothing_to_undo(job: &Job) -> bool {
    let report = match (job.kind.parse::<JobKind>(), &job.outcome) {
        (Ok(kind), Some(outcome)) if job.earlier_plans.is_empty() => describe_outcome(kind, &job.table, outcome).ok(),
        _ => None,
    };
    report.is_some_and(|report| report.nothing_to_undo)
}

/// Shows one job with its result, cost, log, plan and outcome (`GET /jobs/{job}`).
pub(crate) async fn show(
    State(app): State<App>,
    visitor: Extension<Visitor>,
    caller: RequestAccess,
    Path(id): Path<String>,
) -> Result<Markup, ApiError> {
    let JobView { warehouse, job } = view_job(&app, find_to_read(&app, &caller, &id).await?);
    let lines = log_to_read(&app, &caller, &job).await?;
    let path = format!("/jobs/{}", encode(&job.id.to_string()));
    let undo = warehouse.map(|warehouse| format!("/warehouses/{}{path}/undo", encode(&warehouse)));
    let kind_undoes = job.kind.parse().is_ok_and(|kind| kind_view(kind).undoable);
    let undoable = kind_undoes && job.state.is_over() && job.undone_by.is_none() && !has_nothing_to_undo(&job);
    let content = html! {
        div.title { h1 { (job.kind) " of " (job.table) } span.soft { (job.state.as_str()) } }
        p.soft { (job.reason) ", " (ago(job.created_ms, now_ms())) "; id " code { (job.id) } }
        p { (render_result(&job)) @if let (Some(engine), Some(worker)) = (&job.engine, &job.worker) { " Done by " (engine) ": " (worker) } }
        div.actions {
            @if !job.state.is_over() { form method="post" action={ (path) "/cancel" } { (visitor.field()) button { "Cancel" } } }
            @if let Some(undo) = undo.filter(|_| undoable) { form method="post" action=(undo) { (visitor.field()) button { "Undo" } } }
        }
        @if let Some(measured) = &job.measured {
            h2 { "Cost" }
            p { (cost(measured)) }
        }
        h2 { "Log" }
        (log(&lines))
        h2 { "Plan" }
        details { summary { "as JSON" } pre { (pretty(job.plan.as_ref())) } }
        h2 { "Outcome" }
        details { summary { "as JSON" } pre { (pretty(job.outcome.as_ref())) } }
    };
    Ok(page(&visitor, &format!("{} of {}", job.kind, job.table), &content))
}

/// Formats JSON with line breaks.
fn pretty(value: Option<&Value>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| format!("{value:#}"))
}

/// Describes the measured cost of a job.
fn cost(measured: &Value) -> String {
    let cost = Cost::deserialize(&measured["cost"]).unwrap_or_default();
    format!(
        "{:.1} s, {} read, {} written, {} requests, {:.1} processor seconds",
        measured["seconds"].as_f64().unwrap_or(0.0),
        format_bytes(cost.bytes_read),
        format_bytes(cost.bytes_written),
        cost.requests,
        cost.cpu_seconds,
    )
}

/// Renders the log of a job, the oldest line first.
fn log(lines: &[JobLogLine]) -> Markup {
    html! {
        @if lines.is_empty() { p.soft { "No lines yet." } }
        @else { ul.log { @for line in lines { li { span.soft { (ago(line.time_ms, now_ms())) } " " (line.text) } } } }
    }
}

/// Cancels a job and goes back to its page (`POST /jobs/{job}/cancel`).
pub(crate) async fn cancel(State(app): State<App>, caller: RequestAccess, Path(id): Path<String>) -> Result<Redirect, ApiError> {
    cancel_by(&app, &caller, &id).await?;
    Ok(Redirect::to(&format!("/jobs/{}", encode(&id))))
}

/// Undoes a job, and shows the counts of files and snapshots that are back (`POST /warehouses/{warehouse}/jobs/{job}/undo`).
pub(crate) async fn undo(
    State(app): State<App>,
    visitor: Extension<Visitor>,
    warehouse: InWarehouse,
    caller: RequestAccess,
    Path((_, id)): Path<(String, String)>,
) -> Result<Markup, ApiError> {
    let job = find_to_undo(&app, &caller, warehouse.catalog(), &id).await?;
    let undone = esker_maintenance::undo(warehouse.catalog(), &job, caller.principal()).await?;
    let content = html! {
        h1 { "Undone" }
        p { (undone.files) " files and " (undone.snapshots) " snapshots are back; " (undone.deleted) " files were deleted before." }
        p { a href={ "/jobs/" (encode(&id)) } { "The job" } }
    };
    Ok(page(&visitor, "Undone", &content))
}
