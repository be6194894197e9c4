use axum::extract::State;
use esker_types::{format_bytes, now_ms};
use maud::{Markup, html};

use super::{encode, page};
use crate::{ApiError, App};

/// Rows shown.
const SHOWN: u32 = 500;

/// `GET /quarantine`: what is going to be deleted, what goes first first, and how to take it back.
pub(crate) async fn show(State(app): State<App>) -> Result<Markup, ApiError> {
    let groups = app.state().quarantine_by_job(SHOWN).await?;
    let (files, bytes) = app.state().quarantine_totals().await?;
    let name = |number: i64| {
        let found = app.warehouses().find(|w| w.catalog().warehouse().id == number);
        found.map(|w| w.catalog().options().warehouse.clone())
    };
    let content = html! {
        h1 { "Quarantine" }
        p.soft { (files) " files, " (size(bytes)) ". They are in place until their time is over, and are checked once more before they go." }
        @if groups.is_empty() { p { "Nothing is going to be deleted." } } @else {
            div.scroll { table {
                thead { tr { th { "Table" } th { "Why" } th.num { "Files" } th.num { "Size" } th { "The first goes" } th { "" } } }
                tbody { @for group in &groups { tr {
                    td { (group.table) }
                    td { (group.reason) }
                    td.num { (group.files) }
                    td.num { (size(group.bytes)) }
                    td { (until(group.due_ms)) @if group.deleting > 0 { ", " (group.deleting) " are going" } }
                    td { @if let (Some(warehouse), Some(job)) = (name(group.warehouse), group.job) {
                        form method="post" action={ "/warehouses/" (encode(&warehouse)) "/jobs/" (job) "/undo" } { button { "Take back" } }
                    } }
                } } }
            } }
        }
    };
    Ok(page("Quarantine", &content))
}

fn size(bytes: i64) -> String {
    format_bytes(u64::try_from(bytes).unwrap_or(0))
}

fn until(due_ms: i64) -> String {
    match (due_ms - now_ms()) / 60_000 {
        ..=0 => "with the next sweep".to_owned(),
        minutes @ 1..=119 => format!("in {minutes} min"),
        minutes => format!("in {} h", minutes / 60),
    }
}
