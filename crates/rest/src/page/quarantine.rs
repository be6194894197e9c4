//! The page of the quarantine: the files that will be deleted, by job and table.

use axum::Extension;
use axum::extract::State;
use esker_types::{format_bytes, now_ms};
use maud::{Markup, html};

use super::visitor::Visitor;
use super::{encode, page};
use crate::{ApiError, App};

/// The maximum number of rows on the page.
const SHOWN: u32 = 500;

/// Shows the files in quarantine by job and table, those that are due first on top (`GET /quarantine`).
///
/// A form undoes the job that quarantined the files.
pub(crate) async fn show(State(app): State<App>, visitor: Extension<Visitor>) -> Result<Markup, ApiError> {
    let groups = app.overview().quarantine_by_job(SHOWN).await?;
    let (files, bytes) = app.overview().quarantine_totals().await?;
    let name = |id: i64| app.warehouse_by_id(id).map(|warehouse| warehouse.catalog().options().warehouse.clone());
    let content = html! {
        h1 { "Quarantine" }
        p.soft { (files) " files, " (size(bytes)) ". They stay in place for their grace period, and are checked again before they are deleted." }
        @if groups.is_empty() { p { "No file is in quarantine." } } @else {
            div.scroll { table {
                thead { tr { th { "Table" } th { "Reason" } th.num { "Files" } th.num { "Size" } th { "First deletion" } th { "" } } }
                tbody { @for group in &groups { tr {
                    td { (group.table) }
                    td { (group.reason) }
                    td.num { (group.files) }
                    td.num { (size(group.bytes)) }
                    td { (until(group.due_ms)) @if group.deleting > 0 { ", " (group.deleting) " are being deleted" } }
                    td { @if let (Some(warehouse), Some(job)) = (name(group.warehouse), group.job) {
                        form method="post" action={ "/warehouses/" (encode(&warehouse)) "/jobs/" (job) "/undo" } {
                            (visitor.field()) button { "Undo" }
                        }
                    } }
                } } }
            } }
        }
    };
    Ok(page(&visitor, "Quarantine", &content))
}

/// Formats a size in bytes.
fn size(bytes: i64) -> String {
    format_bytes(u64::try_from(bytes).unwrap_or(0))
}

/// Describes the time until a time in milliseconds since the Unix epoch.
fn until(due_ms: i64) -> String {
    match (due_ms - now_ms()) / 60_000 {
        ..=0 => "with the next sweep".to_owned(),
        minutes @ 1..=119 => format!("in {minutes} min"),
        minutes => format!("in {} h", minutes / 60),
    }
}
