use axum::Json;
use esker_types::ErrorCode;
use serde_json::{Value, json};

use crate::ApiError;
use crate::extract::{In, InTable};

/// `GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials`
///
/// No warehouse hands out credentials yet, and the server's own are never given away: the list is empty, and engines use
/// those that they were configured with.
pub(crate) async fn load(warehouse: In, InTable(name): InTable) -> Result<Json<Value>, ApiError> {
    let catalog = warehouse.catalog();
    catalog.state().table(catalog.warehouse(), &name).await?;
    Ok(Json(json!({"storage-credentials": []})))
}

/// `POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/sign`
pub(crate) async fn sign(warehouse: In, InTable(name): InTable) -> Result<Json<Value>, ApiError> {
    let catalog = warehouse.catalog();
    catalog.state().table(catalog.warehouse(), &name).await?;
    let what = format!("warehouse {} signs no requests: configure the engine's own credentials", catalog.options().warehouse);
    Err(ApiError::new(ErrorCode::Unsupported, what))
}
