//! The web page: server-rendered, no build step, no script, light and dark as the reader's system is.

mod fleet;
mod queries;
mod table;

use axum::Router;
use axum::routing::get;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::App;

const STYLE: &str = include_str!("style.css");

pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/", get(fleet::show))
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
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    a.brand href="/" { "Esker" }
                    nav { a href="/" { "Tables" } " " a href="/queries" { "Queries" } }
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

/// How long ago, roughly.
fn ago(ms: i64, now: i64) -> String {
    let seconds = (now - ms).max(0) / 1000;
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
