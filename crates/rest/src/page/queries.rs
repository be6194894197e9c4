//! The page of SQL queries.

use axum::Extension;
use axum::extract::State;
use esker_query::{QueryRecord, QueryState};
use esker_types::{format_bytes, now_ms};
use maud::{Markup, html};

use super::visitor::Visitor;
use super::{ago, page};
use crate::App;
use crate::access::RequestAccess;
use crate::management::seen_queries;

/// The maximum number of queries on the page.
const SHOWN: usize = 100;

/// Shows the queries that run, then those that ended (`GET /queries`).
pub(crate) async fn show(State(app): State<App>, visitor: Extension<Visitor>, caller: RequestAccess) -> Markup {
    let all = seen_queries(&app, &caller, SHOWN);
    let running = all.iter().filter(|q| matches!(q.state, QueryState::Running | QueryState::Waiting)).count();
    let content = html! {
        h1 { "Queries" }
        p.soft { (running) " running or waiting; the newest that ended follow." }
        @if all.is_empty() {
            p { "No queries yet. Send one over Flight SQL, for example with " code { "esker sql" } "." }
        } @else {
            div.scroll { table {
                thead { tr {
                    th { "State" } th { "Statement" } th { "Principal" } th { "Started" } th.num { "Seconds" } th.num { "Rows" }
                    th.num { "Files opened" } th.num { "Files pruned" } th.num { "Read" } th.num { "From cache" }
                } }
                tbody { @for query in &all { (row(query)) } }
            } }
        }
    };
    page(&visitor, "Queries", &content)
}

/// Renders the row of a query.
fn row(query: &QueryRecord) -> Markup {
    let state = match query.state {
        QueryState::Waiting => "waiting",
        QueryState::Running => "running",
        QueryState::Finished => "finished",
        QueryState::Failed => "failed",
    };
    html! {
        tr {
            td { (state) @if let Some(error) = &query.error { br; span.soft { (error) } } }
            td { code { (query.sql) } }
            td { (query.principal) }
            td { (ago(query.started_ms, now_ms())) }
            td.num { (format!("{:.3}", query.seconds)) }
            td.num { (query.rows) }
            td.num { (query.files_opened) }
            td.num { (query.files_pruned) }
            td.num { (format_bytes(query.bytes_read)) }
            td.num { (format_bytes(query.bytes_cached)) }
        }
    }
}
