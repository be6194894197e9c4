//! The system tables of a warehouse: `system.tables`, `system.health`, `system.jobs` and `system.queries`.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use esker_catalog::{AssessedTable, Catalog};
use esker_state::JobFilter;
use esker_types::now_ms;
use serde_json::{Value, json};

use crate::rows::table;
use crate::served_tables::{HEALTH, JOBS, QUERIES, TABLES};
use crate::{QueryLog, Result};

/// The namespace of the system tables.
///
/// Of a namespace of this name in the catalog, only the table that Esker writes there can be queried.
pub(crate) const NAMESPACE: &str = "system";

/// Name of the Iceberg table in that namespace that has the health of all tables.
pub(crate) const TABLE_HEALTH: &str = "table_health";

/// Maximum number of jobs that are listed.
const MAX_JOBS: u32 = 10_000;

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
    table(TABLES.fields(), &catalog.fleet().await?.into_iter().map(row).collect::<Vec<_>>())
}

/// Returns a row for each finding. A table without findings has one row.
async fn health(catalog: &Catalog) -> Result<Arc<dyn TableProvider>> {
    let mut rows = Vec::new();
    for assessed in catalog.fleet().await? {
        let (row, assessment) = (&assessed.row, assessed.assess(now_ms()));
        let name = json!({"namespace": row.name.namespace.to_string(), "table": row.name.name});
        let with = |more: Value| {
            let mut row = name.clone();
            if let (Value::Object(row), Value::Object(more)) = (&mut row, more) {
                row.extend(more);
            }
            row
        };
        let (score, error) =
            (assessed.facts.is_ok().then_some(assessment.score), assessed.facts.as_ref().err().map(ToString::to_string));
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
    table(HEALTH.fields(), &rows)
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
    let filter = JobFilter { warehouse: Some(catalog.warehouse().id), ..JobFilter::default() };
    let jobs = catalog.overview().jobs(&filter, MAX_JOBS).await?;
    table(JOBS.fields(), &jobs.into_iter().map(row).collect::<Vec<_>>())
}

fn queries(log: &QueryLog) -> Result<Arc<dyn TableProvider>> {
    let row = |record: crate::QueryRecord| {
        let mut row = json!(record);
        row["started"] = row["started_ms"].take();
        row
    };
    table(QUERIES.fields(), &log.newest(usize::MAX).into_iter().map(row).collect::<Vec<_>>())
}
