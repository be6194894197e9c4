//! The system tables of a warehouse: `system.tables`, `system.health`, `system.jobs` and `system.queries`.
//!
//! Each has the rows that the caller may see. The name of a table needs `LIST`; its facts, findings and jobs need `READ_METADATA`.
//! Others' queries, and the jobs of every table, need `MONITOR` on the server. Of a table with row filters or column masks for the
//! caller, nothing is shown that tells how many rows there are or what is in them.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use esker_access::{Privilege, Required, ResourcePath};
use esker_catalog::{AssessedTable, Authority, Catalog, Told, needs};
use esker_state::{JobFilter, TabularRow};
use esker_types::{TableId, now_ms};
use serde_json::{Value, json};

use crate::rows::table;
use crate::served_tables::{AUDIT, HEALTH, JOBS, QUERIES, TABLE_HEALTH, TABLES};
use crate::{QueryLog, Result, rights};

/// The namespace of the system tables.
///
/// Of a namespace of this name in the catalog, only the tables that Esker writes there can be queried.
pub(crate) const NAMESPACE: &str = "system";

/// Names of the Iceberg tables in that namespace that Esker writes: the health of all tables, and the audit trail.
pub(crate) const OWN_TABLES: [&str; 2] = [TABLE_HEALTH.name, AUDIT.name];

/// Maximum number of jobs that are listed.
const MAX_JOBS: u32 = 10_000;

/// Opens a system table as a caller sees it, if there is one of that name.
pub(crate) async fn open(
    catalog: &Catalog,
    log: &QueryLog,
    name: &str,
    by: &Authority,
) -> Result<Option<Arc<dyn TableProvider>>> {
    Ok(Some(match name {
        "tables" => tables(catalog, by).await?,
        "health" => health(catalog, by).await?,
        "jobs" => jobs(catalog, by).await?,
        "queries" => queries(log, by)?,
        _ => return Ok(None),
    }))
}

async fn tables(catalog: &Catalog, by: &Authority) -> Result<Arc<dyn TableProvider>> {
    let row = |AssessedTable { row, facts, .. }: AssessedTable| {
        let mut json = json!({"namespace": row.name.namespace.to_string(), "table": row.name.name});
        if !rights::lists_columns(by, catalog, &row) {
            return json;
        }
        json["owned"] = row.owned.into();
        json["metadata_location"] = row.metadata_location.as_str().into();
        match facts {
            Ok(facts) => {
                let more = json!({
                    "format_version": facts.format_version, "location": row.location, "uuid": row.table_uuid.to_string(),
                    "current_snapshot_id": facts.current_snapshot_id, "last_commit": facts.last_commit_ms,
                    "snapshots": facts.snapshots,
                });
                extend(&mut json, more);
                if by.restrictions(row.id).is_none() {
                    let counts = json!({
                        "data_files": facts.data_files, "data_bytes": facts.data_bytes, "records": facts.records,
                        "partitions": facts.partitions, "manifests": facts.manifests, "delete_files": facts.deletes().files,
                    });
                    extend(&mut json, counts);
                }
            }
            Err(error) => json["error"] = Value::String(error.to_string()),
        }
        json
    };
    let seen = |assessed: &AssessedTable| rights::at_tabular(catalog, &assessed.row, |on| by.sees(on));
    table(TABLES.fields(), &catalog.fleet().await?.into_iter().filter(seen).map(row).collect::<Vec<_>>())
}

/// Adds the columns of an object to a row.
fn extend(row: &mut Value, more: Value) {
    if let (Value::Object(row), Value::Object(more)) = (row, more) {
        row.extend(more);
    }
}

/// Returns a row for each finding. A table without findings has one row.
async fn health(catalog: &Catalog, by: &Authority) -> Result<Arc<dyn TableProvider>> {
    let mut rows = Vec::new();
    let seen = |assessed: &AssessedTable| rights::lists_columns(by, catalog, &assessed.row);
    for assessed in catalog.fleet().await?.into_iter().filter(seen) {
        let (row, assessment) = (&assessed.row, assessed.assess(now_ms()));
        let name = json!({"namespace": row.name.namespace.to_string(), "table": row.name.name});
        let with = |more: Value| {
            let mut row = name.clone();
            extend(&mut row, more);
            row
        };
        let (score, error) =
            (assessed.facts.is_ok().then_some(assessment.score), assessed.facts.as_ref().err().map(ToString::to_string));
        if by.restrictions(row.id).is_some() {
            // Scores and evidence count files and rows.
            let finding =
                |code: Option<&str>, severity: Option<&str>| with(json!({"finding": code, "severity": severity, "error": error}));
            if assessment.findings.is_empty() {
                rows.push(finding(None, None));
            }
            rows.extend(assessment.findings.iter().map(|f| finding(Some(f.code), Some(f.severity.as_str()))));
            continue;
        }
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

async fn jobs(catalog: &Catalog, by: &Authority) -> Result<Arc<dyn TableProvider>> {
    let sees_all = rights::holds(by, &ResourcePath::SERVER, Privilege::Monitor);
    let tables: HashMap<TableId, TabularRow> = match sees_all && !by.is_limited() {
        true => HashMap::new(),
        false => catalog.tables().await?.into_iter().map(|row| (row.id, row)).collect(),
    };
    let reads = |row| rights::at_tabular(catalog, row, |on| rights::holds(by, on, Privilege::ReadMetadata));
    // The plans of all jobs together are large. The jobs of every kind need this at least.
    if !sees_all && !tables.values().any(reads) {
        return table::<Value>(JOBS.fields(), &[]);
    }
    let seen = |job: &esker_state::Job| {
        let may_read = |row| rights::at_tabular(catalog, row, |on| by.has(on, needs::to_read_job(&job.kind)));
        sees_all || tables.get(&job.table_id).is_some_and(may_read)
    };
    let reads_rows = |table: TableId| match tables.get(&table) {
        Some(row) => rights::at_tabular(catalog, row, |on| rights::holds(by, on, Privilege::ReadData)),
        None => by.has_for_content(&catalog.warehouse_path(), Required::privilege(Privilege::ReadData)),
    };
    let row = |job: esker_state::Job| {
        // Plans, outcomes and errors count rows and name values.
        let told = Told::of(&job, by, reads_rows(job.table_id));
        let job = told.of_job(job);
        let outcome = job.outcome.map(|outcome| outcome.to_string());
        let mut row = json!({
            "id": job.id.to_string(), "table": job.table, "kind": job.kind, "principal": job.principal, "state": job.state,
            "reason": job.reason, "attempts": job.attempts, "engine": job.engine, "worker": job.worker, "asked": job.created_ms, "started": job.started_ms, "finished": job.finished_ms,
            "seconds": job.started_ms.zip(job.finished_ms).map(|(start, end)| (end - start) as f64 / 1000.0),
            "plan": job.plan.map(|plan| plan.to_string()), "outcome": outcome, "error": job.error,
            "measured": job.measured.map(|measured| measured.to_string()), "undone_by": job.undone_by.map(|by| by.to_string()),
        });
        if told == Told::Existence {
            row["reason"] = Value::Null;
        }
        row
    };
    let filter = JobFilter { warehouse: Some(catalog.warehouse().id), ..JobFilter::default() };
    let jobs = catalog.overview().jobs(&filter, MAX_JOBS).await?;
    table(JOBS.fields(), &jobs.into_iter().filter(seen).map(row).collect::<Vec<_>>())
}

fn queries(log: &QueryLog, by: &Authority) -> Result<Arc<dyn TableProvider>> {
    let sees_all = rights::holds(by, &ResourcePath::SERVER, Privilege::Monitor);
    let name = rights::caller_name(by);
    let row = |record: crate::QueryRecord| {
        let mut row = json!(record);
        row["started"] = row["started_ms"].take();
        row
    };
    let seen = |record: &crate::QueryRecord| sees_all || name.as_ref() == Some(&record.principal);
    table(QUERIES.fields(), &log.newest(usize::MAX).into_iter().filter(seen).map(row).collect::<Vec<_>>())
}
