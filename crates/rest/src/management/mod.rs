//! The management API under `/api/v1`, for the command line, schedulers and workers of other engines.
//!
//! It has everything that the Iceberg REST catalog has no route for: warehouses, health, jobs, policies, quarantine, events,
//! queries, tokens, access control and the audit trail. Each file holds the handlers and the JSON of one subject. The attribute `utoipa::path` of
//! a handler has its route.
//!
//! Start reading at [`router`].

mod access;
mod audit;
mod events;
mod external;
mod health;
mod jobs;
mod lifecycle;
mod maintain;
mod policy;
mod queries;
mod tokens;
mod warehouses;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{App, openapi};

pub(crate) use access::explain::explain_to;
pub use access::opa::OpaOptions;
pub(crate) use access::{find_securable, thing_of_grant};
pub use health::{FleetTable, TableHealth};
pub use jobs::JobView;
pub(crate) use jobs::{cancel_by, find_to_read, find_to_undo, log_to_read, seen_jobs, view as view_job};
pub use lifecycle::DroppedView;
pub use maintain::{JobAccepted, QuarantineView};
pub use policy::PolicyView;
pub(crate) use queries::seen_queries;
pub use warehouses::WarehouseView;

/// Returns the routes of the management API, each with its description.
///
/// A handler without `#[utoipa::path]` does not compile here, so every route is in the OpenAPI document.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(openapi::serve))
        .routes(routes!(warehouses::list))
        .routes(routes!(health::fleet))
        .routes(routes!(lifecycle::dropped))
        .routes(routes!(maintain::explain))
        .routes(routes!(policy::recommended))
        .routes(routes!(maintain::undo))
        .routes(routes!(lifecycle::undrop))
        .routes(routes!(lifecycle::protect_namespace))
        .routes(routes!(lifecycle::protect_view))
        .routes(routes!(lifecycle::put_function, lifecycle::drop_function))
        .routes(routes!(health::table))
        .routes(routes!(maintain::claim))
        .routes(routes!(maintain::start))
        .routes(routes!(lifecycle::protect_table))
        .routes(routes!(lifecycle::list_refs, lifecycle::change_refs))
        .routes(routes!(maintain::quarantine))
        .routes(routes!(health::history))
        .routes(routes!(policy::show))
        .routes(routes!(queries::reports))
        .routes(routes!(maintain::sweep))
        .routes(routes!(events::list))
        .routes(routes!(audit::list))
        .routes(routes!(maintain::kinds))
        .routes(routes!(jobs::list))
        .routes(routes!(external::claim))
        .routes(routes!(jobs::show))
        .routes(routes!(external::renew))
        .routes(routes!(external::finish))
        .routes(routes!(jobs::log))
        .routes(routes!(jobs::cancel))
        .routes(routes!(queries::list))
        .routes(routes!(queries::cancel))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::rotate))
        .routes(routes!(tokens::revoke))
        .routes(routes!(access::show))
        .routes(routes!(access::set_mode))
        .routes(routes!(access::explain::me))
        .routes(routes!(access::explain::explain))
        .routes(routes!(access::roles, access::create_role))
        .routes(routes!(access::drop_role))
        .routes(routes!(access::members))
        .routes(routes!(access::add_member, access::remove_member))
        .routes(routes!(access::grants::list, access::grants::add))
        .routes(routes!(access::grants::revoke))
        .routes(routes!(access::grants::remove))
        .routes(routes!(access::opa::allow))
        .routes(routes!(access::opa::batch))
        .routes(routes!(access::opa::row_filters))
        .routes(routes!(access::opa::mask))
        .routes(routes!(access::opa::batch_masks))
        .routes(routes!(access::restrictions::list))
        .routes(routes!(access::restrictions::add_filter))
        .routes(routes!(access::restrictions::remove_filter))
        .routes(routes!(access::restrictions::set_mask, access::restrictions::remove_mask))
        .routes(routes!(access::policies::list))
        .routes(routes!(access::policies::show, access::policies::set, access::policies::remove))
}
