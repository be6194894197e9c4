//! The Iceberg REST catalog under `/v1`.
//!
//! Each file holds the handlers of one tag or resource of the specification. A handler only translates between JSON and the
//! catalog; the rules are in the crate `catalog`. `docs/compatibility.md` lists the clients that were tried.
//!
//! Spec: `open-api/rest-catalog-open-api.yaml` of Apache Iceberg; comments cite it as `REST`, with the operation or schema.
//! The routes and the `endpoints` of the configuration come from one list, [`offered`]. `api/iceberg-rest.json` has all operations.
//! Start reading at [`router`], then `load.rs` and `commit.rs`.

mod commit;
mod config;
mod content;
mod credentials;
pub(crate) mod definer;
mod functions;
pub(crate) mod load;
mod namespaces;
mod oauth;
mod paging;
mod plan;
mod reports;
pub(crate) mod restrictions;
mod sign;
pub(crate) mod status;
mod tables;
mod transactions;
pub(crate) mod views;

use std::sync::LazyLock;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};

use crate::App;

pub(crate) use oauth::oauth_error;
pub(crate) use plan::Plans;

/// An operation of the specification with its handler.
///
/// The text is the method and the path as the specification spells them, and as clients compare them.
type Operation = (&'static str, MethodRouter<App>);

/// Makes an operation. The method of its route is the one in the text.
fn operation<H: Handler<T, App>, T: 'static>(request: &'static str, handler: H) -> Operation {
    let method = match request.split_once(' ') {
        Some(("GET", _)) => MethodFilter::GET,
        Some(("HEAD", _)) => MethodFilter::HEAD,
        Some(("DELETE", _)) => MethodFilter::DELETE,
        _ => MethodFilter::POST,
    };
    (request, on(method, handler))
}

/// The operation that is offered only by warehouses that vend credentials.
const CREDENTIALS: &str = "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials";

/// The operation that is offered only by warehouses that sign requests.
const SIGN: &str = "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/sign";

/// Returns the operations that `GET /v1/config` offers. Clients never use an operation that is not offered.
///
/// Spec: REST `CatalogConfig`, `endpoints`.
fn offered() -> Vec<Operation> {
    vec![
        operation("GET /v1/{prefix}/namespaces", namespaces::list),
        operation("POST /v1/{prefix}/namespaces", namespaces::create),
        operation("GET /v1/{prefix}/namespaces/{namespace}", namespaces::load),
        operation("HEAD /v1/{prefix}/namespaces/{namespace}", namespaces::exists),
        operation("DELETE /v1/{prefix}/namespaces/{namespace}", namespaces::drop),
        operation("POST /v1/{prefix}/namespaces/{namespace}/properties", namespaces::update),
        operation("GET /v1/{prefix}/namespaces/{namespace}/tables", tables::list),
        operation("POST /v1/{prefix}/namespaces/{namespace}/tables", tables::create),
        operation("GET /v1/{prefix}/namespaces/{namespace}/tables/{table}", load::load),
        operation("HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}", tables::exists),
        operation("POST /v1/{prefix}/namespaces/{namespace}/tables/{table}", commit::commit),
        operation("DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}", tables::drop),
        operation("POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics", reports::report),
        operation("POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/unregister", tables::unregister),
        operation(CREDENTIALS, credentials::load),
        operation(SIGN, sign::sign),
        operation("POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan", plan::plan),
        operation("GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}", plan::fetch),
        operation("DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}", plan::cancel),
        operation("POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/tasks", plan::tasks),
        operation("POST /v1/{prefix}/namespaces/{namespace}/register", tables::register),
        operation("POST /v1/{prefix}/tables/rename", tables::rename),
        operation("POST /v1/{prefix}/transactions/commit", transactions::commit),
        operation("GET /v1/{prefix}/namespaces/{namespace}/views", views::list),
        operation("POST /v1/{prefix}/namespaces/{namespace}/views", views::create),
        operation("GET /v1/{prefix}/namespaces/{namespace}/views/{view}", views::load),
        operation("HEAD /v1/{prefix}/namespaces/{namespace}/views/{view}", views::exists),
        operation("POST /v1/{prefix}/namespaces/{namespace}/views/{view}", views::replace),
        operation("DELETE /v1/{prefix}/namespaces/{namespace}/views/{view}", views::drop),
        operation("POST /v1/{prefix}/views/rename", views::rename),
        operation("POST /v1/{prefix}/namespaces/{namespace}/register-view", views::register),
        operation("GET /v1/{prefix}/namespaces/{namespace}/functions", functions::list),
        operation("GET /v1/{prefix}/namespaces/{namespace}/functions/{function}", functions::load),
    ]
}

/// The offered operations, as the configuration lists them.
static ENDPOINTS: LazyLock<Vec<&'static str>> = LazyLock::new(|| offered().into_iter().map(|(request, _)| request).collect());

/// Returns the operations that have a route and are not offered.
///
/// A client asks for the configuration before it knows the list.
fn unlisted() -> Vec<Operation> {
    vec![operation("GET /v1/config", config::config)]
}

/// Returns the operation that issues tokens, which needs none.
fn tokens() -> Vec<Operation> {
    vec![operation("POST /v1/oauth/tokens", oauth::token)]
}

/// Builds the routes of operations.
fn routed(operations: Vec<Operation>) -> Router<App> {
    operations.into_iter().fold(Router::new(), |router, (request, handler)| {
        router.route(request.split_once(' ').map_or(request, |(_, path)| path), handler)
    })
}

/// Returns the routes that need a token.
pub(crate) fn router() -> Router<App> {
    routed(offered()).merge(routed(unlisted()))
}

/// Returns the route that issues tokens, which needs none.
pub(crate) fn token_router() -> Router<App> {
    routed(tokens())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    /// `api/iceberg-rest.json` lists the operations of the specification, each with how Esker serves it.
    #[test]
    fn the_list_of_operations_says_how_each_is_served() {
        let listed: Value = serde_json::from_str(include_str!("../../../../api/iceberg-rest.json")).expect("JSON");
        let operations = listed["operations"].as_array().expect("operations").iter();
        let listed: BTreeMap<&str, &str> =
            operations.map(|o| (o["request"].as_str().expect("a request"), o["served"].as_str().expect("how"))).collect();
        let routes = |all: Vec<Operation>, how| all.into_iter().map(move |(request, _)| (request, how));
        let served: BTreeMap<&str, &str> =
            routes(offered(), "offered").chain(routes(unlisted(), "unlisted")).chain(routes(tokens(), "unlisted")).collect();
        for (request, how) in &served {
            assert_eq!(listed.get(request), Some(how), "{request}");
        }
        for (request, how) in &listed {
            assert_eq!(*how, served.get(request).copied().unwrap_or("no"), "{request}");
        }
    }
}
