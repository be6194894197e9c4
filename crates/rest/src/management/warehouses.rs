use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::App;

/// A warehouse of this server.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct WarehouseView {
    /// Its name, which is also the REST prefix and the SQL catalog.
    pub name: String,
    /// Where new tables go.
    pub location: String,
    /// Where else tables may lie.
    pub allowed_locations: Vec<String>,
    /// Names are compared without case.
    pub case_insensitive: bool,
}

/// `GET /api/v1/warehouses`
pub(crate) async fn list(State(app): State<App>) -> Json<Vec<WarehouseView>> {
    let view = |warehouse: &esker_maintenance::Maintenance| {
        let options = warehouse.catalog().options();
        WarehouseView {
            name: options.warehouse.clone(),
            location: options.location.to_string(),
            allowed_locations: options.allowed_locations.iter().map(ToString::to_string).collect(),
            case_insensitive: options.case_insensitive,
        }
    };
    Json(app.warehouses().map(view).collect())
}
