use axum::extract::State;
use esker_query::{QueryRecord, QueryState};
use esker_types::{format_bytes, now_ms};
use maud::{Markup, html};

use super::{ago, page};
use crate::App;

/// Queries shown.
const SHOWN: usize = 100;

/// `GET /queries`: those at work, then those that ended.
pub(crate) async fn show(State(app): State<App>) -> Markup {
    let all = app.inner.engine.log().newest(SHOWN);
    let running = all.iter().filter(|q| matches!(q.state, QueryState::Running | QueryState::Waiting)).count();
    let content = html! {
        h1 { "Queries" }
        p.soft { (running) " at work; of those that ended, the newest." }
        @if all.is_empty() {
            p { "None yet. Analysts ask over Flight SQL; " code { "esker sql" } " does too." }
        } @else {
            div.scroll { table {
                thead { tr {
                    th { "State" } th { "Statement" } th { "Who" } th { "Began" } th.num { "Seconds" } th.num { "Rows" }
                    th.num { "Files opened" } th.num { "Files pruned" } th.num { "Read" } th.num { "From cache" }
                } }
                tbody { @for query in &all { (row(query)) } }
            } }
        }
    };
    page("Queries", &content)
}

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
