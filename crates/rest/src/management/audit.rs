//! The records of the audit trail that are still in the state database.

use axum::Json;
use axum::extract::State;
use esker_state::AuditRecord;
use serde::{Deserialize, Serialize};

use crate::extract::QueryParams;
use crate::openapi::ReadErrors;
use crate::{ApiError, App};

/// The maximum number of records in one answer.
const MAX_RECORDS: u32 = 1000;

/// The parameters of a request for records.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// The cursor: the number of the last record that the reader has.
    #[serde(default)]
    after: i64,
    /// The maximum number of records in the answer, at most 1000; without it, 100.
    #[serde(default = "default_limit")]
    limit: u32,
}

const fn default_limit() -> u32 {
    100
}

/// A record of the audit trail with its number.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct NumberedRecord {
    /// The number of the record in the state database. Later records have higher numbers.
    id: i64,
    /// The record.
    record: AuditRecord,
}

/// A page of records, in the order of their numbers.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AuditPage {
    /// The records, by number.
    records: Vec<NumberedRecord>,
    /// The cursor for the next request. It stays the same if there is no new record.
    next: i64,
}

/// Returns the records of the audit trail after a cursor, the oldest first.
///
/// Records that have moved to the Iceberg table `system.audit` are there.
#[utoipa::path(
    get,
    path = "/api/v1/audit",
    operation_id = "listAuditRecords",
    tag = "audit",
    params(AuditQuery),
    responses((status = 200, description = "A page of records.", body = AuditPage), ReadErrors)
)]
pub(crate) async fn list(
    State(app): State<App>,
    QueryParams(query): QueryParams<AuditQuery>,
) -> Result<Json<AuditPage>, ApiError> {
    let found = app.overview().audit_records_after(query.after, query.limit.clamp(1, MAX_RECORDS)).await?;
    let next = found.last().map_or(query.after, |(id, _)| *id);
    let records = found.into_iter().map(|(id, record)| NumberedRecord { id, record }).collect();
    Ok(Json(AuditPage { records, next }))
}
