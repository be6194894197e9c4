//! The health of all tables as rows of an Iceberg table, `system.table_health` of each warehouse.

use esker_catalog::{Actor, AssessedTable, Catalog};
use esker_read::Reader;
use esker_state::TableUsage;
use esker_types::{Millis, now_ms};
use serde_json::{Value, json};

use crate::Result;
use crate::change::commit;
use crate::commit::RowChange;
use crate::own_table::{OwnTable, write_rows};
use crate::rows::batch;
use crate::served_tables::TABLE_HEALTH;
use crate::target::Uncommitted;

/// The table. Rows are kept; snapshots expire after a day.
const TABLE: OwnTable =
    OwnTable { served: TABLE_HEALTH, by_day: false, properties: &[("history.expire.max-snapshot-age-ms", "86400000")] };

/// Returns the row of a table.
fn row(warehouse: &str, assessed: &AssessedTable, used: Option<&TableUsage>, now: Millis) -> Value {
    let name = &assessed.row.name;
    let mut row = json!({
        "time": now, "warehouse": warehouse, "namespace": name.namespace.to_string(), "table": name.name, "owned": assessed.row.owned,
        "reported_scans": used.map_or(0, |u| u.scans), "reported_commits": used.map_or(0, |u| u.commits),
    });
    let assessment = assessed.assess(now);
    let codes: Vec<&str> = assessment.findings.iter().map(|f| f.code).collect();
    let worst = assessment.findings.first();
    row["findings"] = codes.join(",").into();
    row["worst_finding"] = worst.map(|f| f.code).into();
    row["worst_severity"] = worst.map(|f| f.severity.as_str()).into();
    let more = match &assessed.facts {
        Err(error) => json!({"error": error.to_string()}),
        Ok(facts) => {
            json!({
                "score": assessment.score, "data_files": facts.data_files, "data_bytes": facts.data_bytes,
                "records": facts.records, "small_files": facts.small_files,
                "excess_files": facts.data_files.saturating_sub(facts.ideal_files), "partitions": facts.partitions,
                "position_deletes": facts.position_deletes.records, "equality_deletes": facts.equality_deletes.records,
                "deletion_vectors": facts.deletion_vectors.records, "files_with_deletes": facts.files_with_deletes,
                "snapshots": facts.snapshots, "manifests": facts.manifests, "metadata_bytes": facts.metadata_bytes,
                "last_commit": facts.last_commit_ms, "oldest_snapshot": facts.oldest_snapshot_ms,
            })
        }
    };
    if let (Value::Object(row), Value::Object(more)) = (&mut row, more) {
        row.extend(more);
    }
    row
}

/// Adds a row for each table of a warehouse to its `system.table_health`; returns the number of rows.
///
/// Creates the table if there is none. All rows are added in one commit. A warehouse without tables is left alone.
///
/// # Errors
///
/// - Returns [`QueryError::Catalog`](crate::QueryError::Catalog) if the catalog cannot be read, or if the table cannot be created,
///   loaded or changed.
/// - Returns [`QueryError::Write`](crate::QueryError::Write) if the data file cannot be written.
/// - Returns [`QueryError::Execution`](crate::QueryError::Execution) if the rows do not fit the columns that the table has now.
pub async fn record_health(catalog: &Catalog, reader: &Reader) -> Result<u64> {
    let (now, warehouse) = (now_ms(), &catalog.options().warehouse);
    let uses = catalog.overview().usages().await?;
    let fleet = catalog.fleet().await?;
    let rows: Vec<Value> = fleet.iter().map(|e| row(warehouse, e, uses.get(&e.row.id), now)).collect();
    let Some(found) = batch(TABLE.served.fields(), &rows)? else { return Ok(0) };
    let actor = Actor::server_for("health");
    let target = TABLE.target(catalog, reader)?;
    let table = TABLE.open(&target, &actor).await?;
    let uncommitted = Uncommitted::new(catalog, table.row.id);
    let (count, added) = write_rows(&table, &uncommitted, &found).await?;
    commit(&target, &table, RowChange { target: target.clone(), uncommitted, actor, added, removal: None }).await?;
    Ok(count)
}
