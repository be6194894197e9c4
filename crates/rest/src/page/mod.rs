//! The web page, rendered on the server. It needs no script, no build step and nothing from other servers.
//!
//! Light or dark follows the reader's system. Each file holds one page. A form is accepted only from a page of this server, which
//! the guard checks, and with the secret of its reader ([`visitor`]).
//!
//! Start reading at [`router`].

mod access;
mod charts;
mod fleet;
mod jobs;
mod login;
mod oidc;
mod quarantine;
mod queries;
mod table;
mod visitor;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use esker_types::TableName;
use maud::{DOCTYPE, Markup, PreEscaped, html};

pub(crate) use access::typed;
pub(crate) use visitor::{MAX_FORM_BYTES, parse_form};

use crate::rate::limit_unauthenticated;
use crate::{App, wrong_method};
use visitor::Visitor;

/// The style sheet, which is part of every page.
const STYLE: &str = include_str!("style.css");

/// The icon as a data URL, so that the browser need not request it: a ridge under the sky.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http%3A//www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' height='16' \
    rx='3' fill='%231f5fa8'/%3E%3Cpath d='M0 12C5 4 11 4 16 12v1a3 3 0 0 1-3 3H3a3 3 0 0 1-3-3z' fill='%23fbfaf8'/%3E%3C/svg%3E";

/// Returns the routes of the web page: those of readers who are known, and the log-in.
pub(crate) fn router(app: &App) -> Router<App> {
    let known = Router::new()
        .route("/", get(fleet::show))
        .route("/jobs", get(jobs::list))
        .route("/jobs/{job}", get(jobs::show))
        .route("/jobs/{job}/cancel", post(jobs::cancel))
        .route("/warehouses/{warehouse}/jobs/{job}/undo", post(jobs::undo))
        .route("/quarantine", get(quarantine::show))
        .route("/queries", get(queries::show))
        .route("/access", get(access::show).post(access::change))
        .route("/warehouses/{warehouse}/namespaces/{namespace}/tables/{table}", get(table::show))
        .route("/logout", post(login::log_out))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(visitor::check_form))
        .layer(from_fn_with_state(app.clone(), visitor::authenticate));
    let login = Router::new()
        .route("/login", get(login::show).post(login::log_in))
        .route("/login/{provider}", get(oidc::begin))
        .route("/login/{provider}/callback", get(oidc::finish))
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(from_fn_with_state(app.clone(), limit_unauthenticated));
    known.merge(login).layer(from_fn(visitor::with_headers))
}

/// Renders a whole page with head and navigation for a reader.
fn page(visitor: &Visitor, title: &str, content: &Markup) -> Markup {
    let navigation = html! {
        nav aria-label="Pages" {
            a href="/" { "Tables" } " " a href="/jobs" { "Jobs" } " " a href="/quarantine" { "Quarantine" } " "
            a href="/queries" { "Queries" } " " a href="/access" { "Access" }
        }
        (visitor.log_out_form())
    };
    frame(title, &navigation, content)
}

/// Renders a whole page with head and a navigation.
fn frame(title: &str, navigation: &Markup, content: &Markup) -> Markup {
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
                    (navigation)
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
