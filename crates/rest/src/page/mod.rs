//! The web page: server-rendered, no build step, no script, light and dark as the reader's system is.

mod charts;
mod fleet;
mod jobs;
mod quarantine;
mod queries;
mod table;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use esker_types::{ErrorCode, TableName};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{ApiError, App};

const STYLE: &str = include_str!("style.css");

/// A ridge under the sky, within the page: nothing else is asked for.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http%3A//www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' height='16' \
    rx='3' fill='%231f5fa8'/%3E%3Cpath d='M0 12C5 4 11 4 16 12v1a3 3 0 0 1-3 3H3a3 3 0 0 1-3-3z' fill='%23fbfaf8'/%3E%3C/svg%3E";

pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/", get(fleet::show))
        .route("/jobs", get(jobs::list))
        .route("/jobs/{job}", get(jobs::show))
        .route("/jobs/{job}/cancel", post(jobs::cancel))
        .route("/warehouses/{warehouse}/jobs/{job}/undo", post(jobs::undo))
        .route("/quarantine", get(quarantine::show))
        .route("/queries", get(queries::show))
        .route("/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}", get(table::show))
}

/// A whole page.
fn page(title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Esker" }
                link rel="icon" href=(ICON);
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    a.brand href="/" { "Esker" }
                    nav aria-label="Pages" {
                        a href="/" { "Tables" } " " a href="/jobs" { "Jobs" } " " a href="/quarantine" { "Quarantine" } " "
                        a href="/queries" { "Queries" }
                    }
                }
                main { (content) }
            }
        }
    }
}

/// A score as a coloured badge; the number is always there, so that colour is never all that tells.
fn badge(score: Option<u32>) -> Markup {
    let class = match score {
        Some(90..) => "well",
        Some(70..) => "fair",
        Some(_) => "ill",
        None => "unknown",
    };
    html! { span class={ "badge " (class) } { @match score { Some(n) => (n), None => "?" } } }
}

/// Refuses a form that another site's page sent: the browser says where it came from.
fn same_site(headers: &HeaderMap) -> Result<(), ApiError> {
    let value = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let here = match (value("sec-fetch-site"), value("origin")) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin.split_once("://").map(|(_, host)| host) == value("host"),
        (None, None) => true,
    };
    if here { Ok(()) } else { Err(ApiError::new(ErrorCode::Forbidden, "a form of another site was refused")) }
}

/// The page of a table.
fn table_href(warehouse: &str, name: &TableName) -> String {
    let (namespace, table) = (encode(&name.namespace.key()), encode(&name.name));
    format!("/warehouses/{}/namespaces/{namespace}/tables/{table}", encode(warehouse))
}

/// How long ago, roughly.
fn ago(ms: i64, now: i64) -> String {
    // The time may be any that a client put into metadata.
    let seconds = now.saturating_sub(ms).max(0) / 1000;
    match seconds {
        0..=119 => format!("{seconds} s ago"),
        120..=7199 => format!("{} min ago", seconds / 60),
        7200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// A path segment of a link.
fn encode(segment: &str) -> String {
    percent_encoding::utf8_percent_encode(segment, percent_encoding::NON_ALPHANUMERIC).to_string()
}
