use axum::http::StatusCode;
use serde::Deserialize;

use crate::extract::{Body, In, InTable};
use crate::{ApiError, Caller};

/// A scan or commit report. Kept as sent; only what makes it a report is asked for.
#[derive(Debug, Deserialize, serde::Serialize)]
pub(crate) struct Report {
    #[serde(rename = "report-type")]
    report_type: String,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// `POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics`
pub(crate) async fn report(
    warehouse: In,
    caller: Caller,
    InTable(name): InTable,
    Body(report): Body<Report>,
) -> Result<StatusCode, ApiError> {
    let catalog = warehouse.catalog();
    let row = catalog.state().table(catalog.warehouse(), &name).await?;
    let body =
        serde_json::to_string(&report).map_err(|e| ApiError::new(esker_types::ErrorCode::BadRequest, format!("report: {e}")))?;
    catalog.state().insert_report(row.id, &caller.to_string(), &body).await?;
    Ok(StatusCode::NO_CONTENT)
}
