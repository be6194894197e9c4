//! The list of the server's warehouses.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::App;
use crate::access::RequestAccess;
use crate::openapi::ServerErrors;

/// A warehouse of this server, as JSON.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct WarehouseView {
    /// The name of the warehouse, which is also the REST prefix and the name of the SQL catalog.
    pub name: String,
    /// The location of new tables.
    pub location: String,
    /// The other locations at which tables may lie.
    pub allowed_locations: Vec<String>,
    /// Tells whether names are compared without case.
    pub case_insensitive: bool,
}

/// Lists the warehouses of this server.
#[utoipa::path(
    get,
    path = "/api/v1/warehouses",
    operation_id = "listWarehouses",
    tag = "warehouses",
    responses((status = 200, description = "The warehouses, by name.", body = Vec<WarehouseView>), ServerErrors)
)]
pub(crate) async fn list(State(app): State<App>, caller: RequestAccess) -> Json<Vec<WarehouseView>> {
    let authority = caller.authority();
    let view = |warehouse: &esker_maintenance::Maintenance| {
        let options = warehouse.catalog().options();
        WarehouseView {
            name: options.warehouse.clone(),
            location: options.location.to_string(),
            allowed_locations: options.allowed_locations.iter().map(ToString::to_string).collect(),
            case_insensitive: options.case_insensitive,
        }
    };
    let seen = app.warehouses().filter(|warehouse| authority.sees(&warehouse.catalog().warehouse_path()));
    Json(seen.map(view).collect())
}
