//! The Iceberg REST catalog (`open-api/rest-catalog-open-api.yaml` of Apache Iceberg).

mod commit;
mod config;
mod load;
mod namespaces;
mod paging;
mod reports;
mod tables;

use axum::Router;
use axum::routing::{get, post};

use crate::App;

pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/v1/config", get(config::config))
        .route("/v1/{prefix}/namespaces", get(namespaces::list).post(namespaces::create))
        .route("/v1/{prefix}/namespaces/{namespace}", get(namespaces::load).head(namespaces::exists).delete(namespaces::drop))
        .route("/v1/{prefix}/namespaces/{namespace}/properties", post(namespaces::update))
        .route("/v1/{prefix}/namespaces/{namespace}/tables", get(tables::list).post(tables::create))
        .route("/v1/{prefix}/namespaces/{namespace}/register", post(tables::register))
        .route(
            "/v1/{prefix}/namespaces/{namespace}/tables/{table}",
            get(load::load).head(tables::exists).delete(tables::drop).post(commit::commit),
        )
        .route("/v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics", post(reports::report))
        .route("/v1/{prefix}/tables/rename", post(tables::rename))
}
