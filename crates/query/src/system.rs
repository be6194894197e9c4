//! The system tables of a warehouse: `system.tables`, `system.health`, `system.jobs` and `system.queries`.

use std::sync::Arc;

use arrow::datatypes::DataType::{self, Boolean, Float64, Int32, Int64, Utf8};
use datafusion::catalog::TableProvider;
use esker_catalog::{AssessedTable, Catalog};
use esker_state::JobFilter;
use esker_types::now_ms;
use serde_json::{Value, json};

use crate::rows::{column, table, time};
use crate::{QueryLog, Result};

/// The namespace of the system tables.
///
/// Of a namespace of this name in the catalog, only the table that Esker writes there can be queried.
pub(crate) const NAMESPACE: &str = "system";

/// Name of the Iceberg table in that namespace that has the health of all tables.
pub(crate) const TABLE_HEALTH: &str = "table_health";

/// Names of the system tables.
pub(crate) const TABLES: [&str; 4] = ["health", "jobs", "queries", "tables"];

/// Maximum number of jobs that are listed.
const JOBS: u32 = 10_000;

/// Opens a system table, if there is one of that name.
pub(crate) async fn open(catalog: &Catalog, log: &QueryLog, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
    Ok(Some(match name {
        "tables" => tables(catalog).await?,
        "health" => health(catalog).await?,
        "jobs" => jobs(catalog).await?,
        "queries" => queries(log)?,
        _ => return Ok(None),
    }))
}

fn named(columns: &[(&str, DataType)]) -> Vec<arrow::datatypes::Field> {
    columns.iter().map(|(name, ty)| column(name, ty.clone())).collect()
}

async fn tables(catalog: &Catalog) -> Result<Arc<dyn TableProvider>> {
    let row = |AssessedTable { row, facts, .. }: AssessedTable| {
        let mut json = json!({
            "namespace": row.name.namespace.to_string(), "table": row.name.name, "owned": row.owned,
            "metadata_location": row.metadata_location,
        });
        match facts {
            Ok(facts) => {
                let more = json!({
                    "format_version": facts.format_version, "location": row.location, "uuid": row.table_uuid.to_string(),
                    "current_snapshot_id": facts.current_snapshot_id, "last_commit": facts.last_commit_ms,
                    "data_files": facts.data_files, "data_bytes": facts.data_bytes, "records": facts.records,
                    "partitions": facts.partitions, "snapshots": facts.snapshots, "manifests": facts.manifests,
                    "delete_files": facts.deletes().files,
                });
                if let (Value::Object(json), Value::Object(more)) = (&mut json, more) {
                    json.extend(more);
                }
            }
            Err(error) => json["error"] = Value::String(error.to_string()),
        }
        json
    };
    let columns = named(&[
        ("namespace", Utf8),
        ("table", Utf8),
        ("owned", Boolean),
        ("format_version", Int32),
        ("uuid", Utf8),
        ("location", Utf8),
        ("metadata_location", Utf8),
        ("current_snapshot_id", Int64),
        ("last_commit", time()),
        ("data_files", Int64),
        ("data_bytes", Int64),
        ("records", Int64),
        ("partitions", Int64),
        ("delete_files", Int64),
        ("snapshots", Int64),
        ("manifests", Int64),
        ("error", Utf8),
    ]);
    table(columns, &catalog.fleet().await?.into_iter().map(row).collect::<Vec<_>>())
}

/// Returns a row for each finding. A table without findings has one row.
async fn health(catalog: &Catalog) -> Result<Arc<dyn TableProvider>> {
    let mut rows = Vec::new();
    for examined in catalog.fleet().await? {
        let (row, assessment) = (&examined.row, examined.assess(now_ms()));
        let name = json!({"namespace": row.name.namespace.to_string(), "table": row.name.name});
        let with = |more: Value| {
            let mut row = name.clone();
            if let (Value::Object(row), Value::Object(more)) = (&mut row, more) {
                row.extend(more);
            }
            row
        };
        let (score, error) =
            (examined.facts.is_ok().then_some(assessment.score), examined.facts.as_ref().err().map(ToString::to_string));
        if assessment.findings.is_empty() {
            rows.push(with(json!({"score": score})));
        }
        rows.extend(assessment.findings.iter().map(|f| {
            with(json!({
                "score": score, "finding": f.code, "severity": f.severity.as_str(), "points": f.points,
                "evidence": f.evidence, "recommendation": f.recommendation, "error": error,
            }))
        }));
    }
    let columns = named(&[
        ("namespace", Utf8),
        ("table", Utf8),
        ("score", Int32),
        ("finding", Utf8),
        ("severity", Utf8),
        ("points", Int32),
        ("evidence", Utf8),
        ("recommendation", Utf8),
        ("error", Utf8),
    ]);
    table(columns, &rows)
}

async fn jobs(catalog: &Catalog) -> Result<Arc<dyn TableProvider>> {
    let row = |job: esker_state::Job| {
        let outcome = job.outcome.map(|outcome| outcome.to_string());
        json!({
            "id": job.id.to_string(), "table": job.table, "kind": job.kind, "principal": job.principal, "state": job.state,
            "reason": job.reason, "attempts": job.attempts, "engine": job.engine, "worker": job.worker, "asked": job.created_ms, "started": job.started_ms, "finished": job.finished_ms,
            "seconds": job.started_ms.zip(job.finished_ms).map(|(start, end)| (end - start) as f64 / 1000.0),
            "plan": job.plan.map(|plan| plan.to_string()), "outcome": outcome, "error": job.error,
            "measured": job.measured.map(|measured| measured.to_string()), "undone_by": job.undone_by.map(|by| by.to_string()),
        })
    };
    let columns = named(&[
        ("id", Utf8),
        ("table", Utf8),
        ("kind", Utf8),
        ("principal", Utf8),
        ("state", Utf8),
        ("reason", Utf8),
        ("attempts", Int64),
        ("engine", Utf8),
        ("worker", Utf8),
        ("asked", time()),
        ("started", time()),
        ("finished", time()),
        ("seconds", Float64),
        ("plan", Utf8),
        ("outcome", Utf8),
        ("error", Utf8),
        ("measured", Utf8),
        ("undone_by", Utf8),
    ]);
    let filter = JobFilter { warehouse: Some(catalog.warehouse().id), ..JobFilter::default() };
    let jobs = catalog.overview().jobs(&filter, JOBS).await?;
    table(columns, &jobs.into_iter().map(row).collect::<Vec<_>>())
}

fn queries(log: &QueryLog) -> Result<Arc<dyn TableProvider>> {
    let row = |record: crate::QueryRecord| {
        let mut row = json!(record);
        row["started"] = row["started_ms"].take();
        row
    };
    let columns = named(&[
        ("id", Int64),
        ("state", Utf8),
        ("sql", Utf8),
        ("principal", Utf8),
        ("started", time()),
        ("seconds", Float64),
        ("rows", Int64),
        ("files_considered", Int64),
        ("files_pruned", Int64),
        ("files_opened", Int64),
        ("rows_deleted", Int64),
        ("bytes_read", Int64),
        ("bytes_cached", Int64),
        ("requests", Int64),
        ("error", Utf8),
    ]);
    table(columns, &log.newest(usize::MAX).into_iter().map(row).collect::<Vec<_>>())
}
