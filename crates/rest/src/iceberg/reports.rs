//! The scan and commit reports of engines. Esker stores them and counts the use of the table.
//!
//! Spec: REST `reportMetrics`.

use axum::http::StatusCode;
use esker_state::TableUsage;
use serde::Deserialize;

use crate::access::RequestAccess;
use crate::extract::{InTable, InWarehouse, JsonBody};
use crate::{ApiError, Caller};

/// The maximum that a report adds to a count. Larger numbers are cut, so that no sum over reports overflows.
const MAX_COUNT: i64 = 1_000_000_000;

/// A scan or commit report. It is stored as it was sent; only its type is required.
///
/// Spec: REST `ReportMetricsRequest`.
#[derive(Debug, Deserialize, serde::Serialize)]
pub(crate) struct Report {
    #[serde(rename = "report-type")]
    report_type: String,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// Stores a report about a table, and adds its numbers to the table's use.
///
/// Route: `POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics`. Spec: REST `reportMetrics`.
pub(crate) async fn report(
    warehouse: InWarehouse,
    access: RequestAccess,
    caller: Caller,
    InTable(name): InTable,
    JsonBody(report): JsonBody<Report>,
) -> Result<StatusCode, ApiError> {
    let catalog = warehouse.catalog();
    let row = access.table(catalog, &name).await?;
    let body =
        serde_json::to_string(&report).map_err(|e| ApiError::new(esker_types::ErrorCode::BadRequest, format!("report: {e}")))?;
    catalog.record_report(row.id, &caller.to_string(), &body, usage_of_report(&report).as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads the use of the table from a report, or returns `None` for a report of another type.
///
/// Spec: REST `ScanReport`, `CommitReport`.
fn usage_of_report(report: &Report) -> Option<TableUsage> {
    let metrics = report.rest.get("metrics")?;
    let value = |name: &str| metrics[name]["value"].as_i64().unwrap_or(0).clamp(0, MAX_COUNT);
    match report.report_type.as_str() {
        "scan-report" => {
            let planning = &metrics["total-planning-duration"];
            let nanos = planning["total-duration"].as_f64().unwrap_or(0.0);
            let to_ms = match planning["time-unit"].as_str() {
                Some("seconds") => 1000.0,
                Some("milliseconds") => 1.0,
                Some("microseconds") => 1e-3,
                _ => 1e-6,
            };
            Some(TableUsage {
                scans: 1,
                scanned_files: value("result-data-files"),
                scanned_deletes: value("result-delete-files"),
                planning_ms: ((nanos * to_ms).round() as i64).clamp(0, MAX_COUNT),
                ..TableUsage::default()
            })
        }
        "commit-report" => Some(TableUsage { commits: 1, commit_attempts: value("attempts").max(1), ..TableUsage::default() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used_by(json: serde_json::Value) -> Option<TableUsage> {
        usage_of_report(&serde_json::from_value(json).expect("a report"))
    }

    #[test]
    fn scans_and_commits_are_counted_as_the_specification_names_them() {
        let scan = used_by(serde_json::json!({"report-type": "scan-report", "table-name": "n.t", "metrics": {
            "total-planning-duration": {"count": 1, "time-unit": "nanoseconds", "total-duration": 2_644_235_116_i64},
            "result-data-files": {"unit": "count", "value": 7}, "result-delete-files": {"unit": "count", "value": 2}}}));
        assert_eq!(
            scan,
            Some(TableUsage { scans: 1, scanned_files: 7, scanned_deletes: 2, planning_ms: 2644, ..TableUsage::default() })
        );
        let commit =
            used_by(serde_json::json!({"report-type": "commit-report", "metrics": {"attempts": {"unit": "count", "value": 3}}}));
        assert_eq!(commit, Some(TableUsage { commits: 1, commit_attempts: 3, ..TableUsage::default() }));
        let huge = serde_json::json!({"unit": "count", "value": i64::MAX});
        let absurd = used_by(serde_json::json!({"report-type": "scan-report", "metrics": {"result-data-files": huge}}));
        assert_eq!(absurd.expect("counted").scanned_files, MAX_COUNT);
        assert_eq!(used_by(serde_json::json!({"report-type": "other", "metrics": {}})), None);
    }
}
