//! The start page: all tables, the worst first.

use axum::Extension;
use axum::extract::State;
use esker_types::{format_bytes, format_count, now_ms};
use maud::{Markup, html};
use serde::Deserialize;

use super::visitor::Visitor;
use super::{ago, badge, encode, page, table_href};
use crate::access::RequestAccess;
use crate::extract::QueryParams;
use crate::health::{LARGE_FLEET, TableAssessment};
use crate::{ApiError, App};

/// The number of tables on a page.
const SHOWN: usize = 200;

/// The number of tables on all pages together, of a fleet that is too large to be looked at as a whole.
const WORST: u32 = 1_000;

/// The parameters of the start page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FleetPageQuery {
    /// A part of the names of the tables to show.
    q: String,
    /// The number of the page, from 0.
    page: usize,
}

/// Shows the tables, the worst first (`GET /?q=&page=`).
pub(crate) async fn show(
    State(app): State<App>,
    visitor: Extension<Visitor>,
    caller: RequestAccess,
    QueryParams(wanted): QueryParams<FleetPageQuery>,
) -> Result<Markup, ApiError> {
    let authority = caller.authority();
    let is_large = !authority.is_limited() && app.has_large_fleet().await?;
    let all = match is_large && wanted.q.is_empty() {
        true => app.worst_tables(WORST).await?,
        // Of a large fleet, nothing is read of tables with other names.
        false => app.assess_all(&authority, |row| !is_large || row.name.to_string().contains(&wanted.q)).await?,
    };
    let found: Vec<&TableAssessment> =
        all.iter().filter(|e| wanted.q.is_empty() || e.row.name.to_string().contains(&wanted.q)).collect();
    let pages = found.len().div_ceil(SHOWN);
    let shown = found.iter().skip(wanted.page.saturating_mul(SHOWN)).take(SHOWN);
    let several = app.warehouses().count() > 1;
    let poor = all.iter().filter(|e| e.score().is_none_or(|score| score < 70)).count();
    let content = html! {
        h1 { "Tables" }
        p.soft {
            @if is_large && wanted.q.is_empty() {
                "More than " (format_count(u64::from(LARGE_FLEET), "table")) ". Here are the worst; search for others by name: "
            }
            (format_count(all.len() as u64, "table")) ", "
            @if poor == 0 { "none poor." } @else { (poor) " poor or without a score." }
        }
        form.filter role="search" {
            label for="q" { "Name contains" } " " input id="q" name="q" type="search" value=(wanted.q); " " button { "Show" }
        }
        @if all.is_empty() {
            p { "No tables yet. Point an engine at this server's REST URL and create one." }
        } @else {
            div.scroll { table {
                thead { tr {
                    th { "Score" } @if several { th { "Warehouse" } } th { "Table" } th { "Findings" }
                    th.num { "Data files" } th.num { "Size" } th.num { "Rows" } th { "Last commit" }
                } }
                tbody { @for assessed in shown { (row(assessed, several)) } }
            } }
            @if pages > 1 { nav aria-label="More tables" { @for n in 0..pages {
                a href={ "/?page=" (n) "&q=" (encode(&wanted.q)) } aria-current=[(n == wanted.page).then_some("page")] { (n + 1) } " "
            } } }
        }
    };
    Ok(page(&visitor, "Tables", &content))
}

/// Renders the row of a table. `several` adds the warehouse.
fn row(assessed: &TableAssessment, several: bool) -> Markup {
    let name = &assessed.row.name;
    let href = table_href(&assessed.warehouse, name);
    html! {
        tr {
            @match &assessed.facts {
                Ok(facts) => {
                    td { (badge(assessed.score())) }
                    @if several { td { (assessed.warehouse) } }
                    td { a href=(href) { (name) } @if !assessed.row.owned { " " span.soft { "(foreign)" } } }
                    td {
                        @for (i, finding) in assessed.assessment.findings.iter().enumerate() {
                            @if i > 0 { ", " }
                            (finding.code)
                        }
                        @if assessed.assessment.findings.is_empty() { span.soft { "none" } }
                    }
                    td.num { (facts.data_files) }
                    td.num { (format_bytes(facts.data_bytes)) }
                    td.num { (facts.records) }
                    td { (ago(facts.last_commit_ms, now_ms())) }
                }
                Err(error) => {
                    td { (badge(None)) }
                    @if several { td { (assessed.warehouse) } }
                    td { a href=(href) { (name) } }
                    td colspan="5" { @for finding in &assessed.assessment.findings { (finding.code) ": " } (error) }
                }
            }
        }
    }
}
