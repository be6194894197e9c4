//! The web page, rendered on the server. It needs no script, no build step and nothing from other servers.
//!
//! Light or dark follows the reader's system. Each file holds one page. Forms are accepted only from pages of this server
//! ([`same_site`]).
//!
//! Start reading at [`router`].

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

/// The style sheet, which is part of every page.
const STYLE: &str = include_str!("style.css");

/// The icon as a data URL, so that the browser need not request it: a ridge under the sky.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http%3A//www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' height='16' \
    rx='3' fill='%231f5fa8'/%3E%3Cpath d='M0 12C5 4 11 4 16 12v1a3 3 0 0 1-3 3H3a3 3 0 0 1-3-3z' fill='%23fbfaf8'/%3E%3C/svg%3E";

/// Returns the routes of the web page.
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

/// Renders a whole page with head and navigation.
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

/// Renders a score as a coloured badge. The number is always shown, for readers who see no colours.
fn badge(score: Option<u32>) -> Markup {
    let class = match score {
        Some(90..) => "well",
        Some(70..) => "fair",
        Some(_) => "poor",
        None => "unknown",
    };
    html! { span class={ "badge " (class) } { @match score { Some(n) => (n), None => "?" } } }
}

/// Refuses a form that a page of another site sent.
///
/// The browser names the site in `Sec-Fetch-Site` or `Origin`. A request without both comes from no page.
///
/// # Errors
///
/// Returns [`ErrorCode::Forbidden`] if the form was sent by another site.
fn same_site(headers: &HeaderMap) -> Result<(), ApiError> {
    let value = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let here = match (value("sec-fetch-site"), value("origin")) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin.split_once("://").map(|(_, host)| host) == value("host"),
        (None, None) => true,
    };
    if here {
        Ok(())
    } else {
        Err(ApiError::new(ErrorCode::Forbidden, "the form was sent by a page of another site; open the page of this server"))
    }
}

/// Returns the address of a table's web page.
fn table_href(warehouse: &str, name: &TableName) -> String {
    let (namespace, table) = (encode(&name.namespace.key()), encode(&name.name));
    format!("/warehouses/{}/namespaces/{namespace}/tables/{table}", encode(warehouse))
}

/// Formats the time between two times in milliseconds roughly: `5 min ago`.
fn ago(ms: i64, now: i64) -> String {
    // Clients write the times of metadata, so `ms` may be any number.
    let seconds = now.saturating_sub(ms).max(0) / 1000;
    match seconds {
        0..=119 => format!("{seconds} s ago"),
        120..=7199 => format!("{} min ago", seconds / 60),
        7200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// Encodes a path segment of a link.
fn encode(segment: &str) -> String {
    percent_encoding::utf8_percent_encode(segment, percent_encoding::NON_ALPHANUMERIC).to_string()
}
