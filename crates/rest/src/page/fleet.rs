use axum::extract::State;
use esker_health::bytes_for_people;
use esker_types::now_ms;
use maud::{Markup, html};

use super::{ago, badge, encode, page};
use crate::health::Examined;
use crate::{ApiError, App};

/// `GET /`: every table, the worst first.
pub(crate) async fn show(State(app): State<App>) -> Result<Markup, ApiError> {
    let all = app.examine_all().await?;
    let several = app.warehouses().count() > 1;
    let sick = all.iter().filter(|e| e.result.as_ref().map_or(true, |(_, a)| a.score < 70)).count();
    let content = html! {
        h1 { "Tables" }
        p.soft {
            (all.len()) " tables, "
            @if sick == 0 { "none in bad shape." } @else { (sick) " in bad shape." }
        }
        @if all.is_empty() {
            p { "No tables yet. Point an engine at this server's REST URL and create one." }
        } @else {
            div.scroll { table {
                thead { tr {
                    th { "Score" } @if several { th { "Warehouse" } } th { "Table" } th { "Findings" }
                    th.num { "Data files" } th.num { "Size" } th.num { "Rows" } th { "Last commit" }
                } }
                tbody { @for examined in &all { (row(examined, several)) } }
            } }
        }
    };
    Ok(page("Tables", &content))
}

fn row(examined: &Examined, several: bool) -> Markup {
    let name = &examined.row.name;
    let href = format!(
        "/warehouses/{}/namespaces/{}/tables/{}",
        encode(&examined.warehouse),
        encode(&name.namespace.key()),
        encode(&name.name)
    );
    html! {
        tr {
            @match &examined.result {
                Ok((facts, assessment)) => {
                    td { (badge(Some(assessment.score))) }
                    @if several { td { (examined.warehouse) } }
                    td { a href=(href) { (name) } @if !examined.row.owned { " " span.soft { "(foreign)" } } }
                    td {
                        @for (i, finding) in assessment.findings.iter().enumerate() {
                            @if i > 0 { ", " }
                            (finding.code)
                        }
                        @if assessment.findings.is_empty() { span.soft { "none" } }
                    }
                    td.num { (facts.data_files) }
                    td.num { (bytes_for_people(facts.data_bytes)) }
                    td.num { (facts.records) }
                    td { (ago(facts.last_commit_ms, now_ms())) }
                }
                Err(error) => {
                    td { (badge(None)) }
                    @if several { td { (examined.warehouse) } }
                    td { a href=(href) { (name) } }
                    td colspan="5" { (error) }
                }
            }
        }
    }
}
