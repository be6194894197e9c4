//! The management API under `/api/v1`, for the command line, schedulers and workers of other engines.
//!
//! It has everything that the Iceberg REST catalog has no route for: warehouses, health, jobs, policies, quarantine, events and
//! queries. Each file holds the handlers and the JSON of one subject.
//!
//! Start reading at [`router`].

mod events;
mod external;
mod health;
mod jobs;
mod lifecycle;
mod maintain;
mod policy;
mod queries;
mod warehouses;

use axum::Router;
use axum::routing::{delete, get, post, put};

use crate::App;

pub use health::{FleetTable, TableHealth};
pub use jobs::JobView;
pub(crate) use jobs::{cancel_by, find as find_job, view as view_job};
pub use lifecycle::DroppedView;
pub use maintain::{JobAccepted, QuarantineView};
pub use policy::PolicyView;
pub use warehouses::WarehouseView;

/// Returns the routes of the management API.
pub(crate) fn router() -> Router<App> {
    let warehouse = "/api/v1/warehouses/{warehouse}";
    let namespace = format!("{warehouse}/namespaces/{{namespace}}");
    let table = format!("{namespace}/tables/{{table}}");
    Router::new()
        .route("/api/v1/warehouses", get(warehouses::list))
        .route("/api/v1/tables", get(health::fleet))
        .route(&format!("{warehouse}/dropped"), get(lifecycle::dropped))
        .route(&format!("{warehouse}/explain"), get(maintain::explain))
        .route(&format!("{warehouse}/recommendations"), get(policy::recommended))
        .route(&format!("{warehouse}/jobs/{{job}}/undo"), post(maintain::undo))
        .route(&format!("{warehouse}/dropped/{{table-id}}/undrop"), post(lifecycle::undrop))
        .route(&format!("{namespace}/protection"), put(lifecycle::protect_namespace))
        .route(&format!("{namespace}/views/{{view}}/protection"), put(lifecycle::protect_view))
        .route(&format!("{namespace}/functions/{{function}}"), put(lifecycle::put_function).delete(lifecycle::drop_function))
        .route(&format!("{table}/health"), get(health::table))
        .route(&format!("{table}/claim"), post(maintain::claim))
        .route(&format!("{table}/{{kind}}"), post(maintain::start))
        .route(&format!("{table}/protection"), put(lifecycle::protect_table))
        .route(&format!("{table}/refs"), get(lifecycle::list_refs).post(lifecycle::change_refs))
        .route(&format!("{table}/quarantine"), get(maintain::quarantine))
        .route(&format!("{table}/history"), get(health::history))
        .route(&format!("{table}/policy"), get(policy::show))
        .route(&format!("{table}/reports"), get(queries::reports))
        .route("/api/v1/quarantine/sweep", post(maintain::sweep))
        .route("/api/v1/events", get(events::list))
        .route("/api/v1/job-kinds", get(maintain::kinds))
        .route("/api/v1/jobs", get(jobs::list))
        .route("/api/v1/jobs/claim", post(external::claim))
        .route("/api/v1/jobs/{job}", get(jobs::show))
        .route("/api/v1/jobs/{job}/renew", post(external::renew))
        .route("/api/v1/jobs/{job}/finish", post(external::finish))
        .route("/api/v1/jobs/{job}/log", get(jobs::log))
        .route("/api/v1/jobs/{job}/cancel", post(jobs::cancel))
        .route("/api/v1/queries", get(queries::list))
        .route("/api/v1/queries/{id}", delete(queries::cancel))
}
