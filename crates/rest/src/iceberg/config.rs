//! The configuration that clients load first: prefix, properties and supported operations.

use axum::Json;
use axum::extract::State;
use esker_access::{Need, Privilege};
use esker_types::ErrorCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CREDENTIALS, ENDPOINTS, SIGN};
use crate::access::RequestAccess;
use crate::extract::QueryParams;
use crate::{ApiError, App};

/// The parameters of a request for the configuration.
#[derive(Debug, Deserialize)]
pub(crate) struct ConfigQuery {
    warehouse: Option<String>,
}

/// Returns the configuration of a warehouse: the one named, else the only one, else the one called `default`.
///
/// Route: `GET /v1/config?warehouse=`. Spec: REST `getConfig`.
pub(crate) async fn config(
    State(app): State<App>,
    caller: RequestAccess,
    QueryParams(query): QueryParams<ConfigQuery>,
) -> Result<Json<Value>, ApiError> {
    let named = query.warehouse.filter(|w| !w.is_empty());
    let authority = caller.authority();
    let mut all = app.warehouses().filter(|warehouse| authority.sees(&warehouse.catalog().warehouse_path()));
    let warehouse = match (named, all.next(), all.next()) {
        (Some(name), ..) => app.visible_warehouse(&name, &authority)?,
        (None, Some(only), None) => only,
        (None, ..) => app.visible_warehouse("default", &authority).map_err(|_| {
            let what = "this server has several warehouses and none called default; choose one with warehouse=NAME";
            ApiError::new(ErrorCode::BadRequest, what)
        })?,
    };
    caller.require(&Need::new(warehouse.catalog().warehouse_path(), Privilege::Use))?;
    let options = warehouse.catalog().options();
    let storage = warehouse.catalog().storage();
    let (vends, signs) = (storage.vendor().is_some(), storage.signer().is_some());
    // A client may rely on what is offered, and would get no credentials or signatures.
    let possible = |endpoint: &str| (vends || endpoint != CREDENTIALS) && (signs || endpoint != SIGN);
    let endpoints: Vec<&str> = ENDPOINTS.iter().copied().filter(|endpoint| possible(endpoint)).collect();
    Ok(Json(json!({
        "defaults": options.client,
        "overrides": {"prefix": options.warehouse},
        "endpoints": endpoints,
        // Java reads the lifetime here and not inside `overrides`. Its parser of durations takes no weeks, so they are seconds.
        "idempotency-key-lifetime": format!("PT{}S", app.inner.options.idempotency_seconds),
    })))
}
