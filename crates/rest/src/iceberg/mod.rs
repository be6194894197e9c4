//! The Iceberg REST catalog under `/v1`.
//!
//! Each file holds the handlers of one tag or resource of the specification. A handler only translates between JSON and the
//! catalog; the rules are in the crate `catalog`. `docs/compatibility.md` lists the clients that were tried.
//!
//! Spec: `open-api/rest-catalog-open-api.yaml` of Apache Iceberg; comments cite it as `REST`, with the operation or schema.
//! Start reading at [`router`], then `load.rs` and `commit.rs`.

mod commit;
mod config;
mod content;
mod credentials;
mod functions;
pub(crate) mod load;
mod namespaces;
mod oauth;
mod paging;
mod plan;
mod reports;
pub(crate) mod status;
mod tables;
mod transactions;
pub(crate) mod views;

use axum::Router;
use axum::routing::{get, post};

use crate::App;

pub(crate) use plan::Plans;

/// Returns the routes that need a token.
pub(crate) fn router() -> Router<App> {
    let namespace = "/v1/{prefix}/namespaces/{namespace}";
    let table = "/v1/{prefix}/namespaces/{namespace}/tables/{table}";
    let at = |end: &str| format!("{namespace}{end}");
    let of_table = |end: &str| format!("{table}{end}");
    Router::new()
        .route("/v1/config", get(config::config))
        .route("/v1/{prefix}/namespaces", get(namespaces::list).post(namespaces::create))
        .route(namespace, get(namespaces::load).head(namespaces::exists).delete(namespaces::drop))
        .route(&at("/properties"), post(namespaces::update))
        .route(&at("/tables"), get(tables::list).post(tables::create))
        .route(&at("/register"), post(tables::register))
        .route(table, get(load::load).head(tables::exists).delete(tables::drop).post(commit::commit))
        .route(&of_table("/metrics"), post(reports::report))
        .route(&of_table("/unregister"), post(tables::unregister))
        .route(&of_table("/credentials"), get(credentials::load))
        .route(&of_table("/sign"), post(credentials::sign))
        .route(&of_table("/plan"), post(plan::plan))
        .route(&of_table("/plan/{plan}"), get(plan::fetch).delete(plan::cancel))
        .route(&of_table("/tasks"), post(plan::tasks))
        .route("/v1/{prefix}/tables/rename", post(tables::rename))
        .route("/v1/{prefix}/transactions/commit", post(transactions::commit))
        .route(&at("/views"), get(views::list).post(views::create))
        .route(&at("/register-view"), post(views::register))
        .route(&at("/views/{view}"), get(views::load).head(views::exists).delete(views::drop).post(views::replace))
        .route("/v1/{prefix}/views/rename", post(views::rename))
        .route(&at("/functions"), get(functions::list))
        .route(&at("/functions/{function}"), get(functions::load))
}

/// Returns the route that issues tokens, which needs none.
pub(crate) fn tokens() -> Router<App> {
    Router::new().route("/v1/oauth/tokens", post(oauth::token))
}
