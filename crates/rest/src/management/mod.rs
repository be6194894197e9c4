//! The management API under `/api/v1`, which the CLI and the page talk to.

mod health;
mod jobs;
mod maintain;
mod queries;

use axum::Router;
use axum::routing::{get, post};

use crate::App;

pub use health::{FleetTable, TableHealth};
pub use jobs::JobView;
pub use maintain::{JobAccepted, QuarantinedFile};

pub(crate) fn router() -> Router<App> {
    let table = "/api/v1/namespaces/{namespace}/tables/{table}";
    Router::new()
        .route("/api/v1/tables", get(health::fleet))
        .route(&format!("{table}/health"), get(health::table))
        .route(&format!("{table}/compact"), post(maintain::compact))
        .route(&format!("{table}/expire"), post(maintain::expire))
        .route(&format!("{table}/orphans"), post(maintain::orphans))
        .route(&format!("{table}/claim"), post(maintain::claim))
        .route(&format!("{table}/quarantine"), get(maintain::quarantine))
        .route(&format!("{table}/reports"), get(queries::reports))
        .route("/api/v1/quarantine/sweep", post(maintain::sweep))
        .route("/api/v1/jobs", get(jobs::list))
        .route("/api/v1/jobs/{job}", get(jobs::show))
        .route("/api/v1/queries", get(queries::list))
}
