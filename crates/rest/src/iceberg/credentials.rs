//! Access to storage for clients: credentials and signed requests, of which no warehouse offers any yet.

use axum::Json;
use esker_types::ErrorCode;
use serde_json::{Value, json};

use crate::ApiError;
use crate::extract::{InTable, InWarehouse};

/// Returns an empty list of credentials for an existing table.
///
/// No warehouse issues credentials yet, and the server never gives away its own. Engines use those of their configuration.
///
/// Route: `GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials`. Spec: REST `loadCredentials`.
pub(crate) async fn load(warehouse: InWarehouse, InTable(name): InTable) -> Result<Json<Value>, ApiError> {
    let catalog = warehouse.catalog();
    catalog.table(&name).await?;
    Ok(Json(json!({"storage-credentials": []})))
}

/// Refuses to sign a request to storage, which no warehouse can do yet.
///
/// Route: `POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/sign`. Spec: REST `signRequest`.
///
/// # Errors
///
/// Returns the code of the catalog's error if the table does not exist or the database fails, else [`ErrorCode::Unsupported`].
pub(crate) async fn sign(warehouse: InWarehouse, InTable(name): InTable) -> Result<Json<Value>, ApiError> {
    let catalog = warehouse.catalog();
    catalog.table(&name).await?;
    let what = format!("warehouse {} signs no requests: configure the engine's own credentials", catalog.options().warehouse);
    Err(ApiError::new(ErrorCode::Unsupported, what))
}
