//! The health of all tables as rows of an Iceberg table, `system.table_health` of each warehouse.
//!
//! It is for engines that read through the REST catalog, such as Trino, and for tools such as Superset.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use esker_catalog::{Actor, AssessedTable, Catalog, CreateTable};
use esker_read::{Reader, arrow_schema, schema_from_arrow};
use esker_state::{NamespaceRow, TableUsage};
use esker_types::{Coded, ErrorCode, Millis, NamespaceName, TableName, now_ms};
use esker_write::{Appender, RowLineage};
use serde_json::{Value, json};

use crate::change::commit;
use crate::commit::RowChange;
use crate::rights::TO_INSERT;
use crate::rows::{batch, column};
use crate::served_tables::TABLE_HEALTH as COLUMNS;
use crate::system::{NAMESPACE, TABLE_HEALTH};
use crate::target::{Uncommitted, WriteTarget};
use crate::{QueryError, Result};

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
/// - Returns [`QueryError::Catalog`] if the catalog cannot be read, or if the table cannot be created, loaded or changed.
/// - Returns [`QueryError::Write`] if the data file cannot be written.
/// - Returns [`QueryError::Execution`] if the rows do not fit the columns that the table has now.
pub async fn record_health(catalog: &Catalog, reader: &Reader) -> Result<u64> {
    let (now, warehouse) = (now_ms(), &catalog.options().warehouse);
    let uses = catalog.overview().usages().await?;
    let fleet = catalog.fleet().await?;
    let rows: Vec<Value> = fleet.iter().map(|e| row(warehouse, e, uses.get(&e.row.id), now)).collect();
    let Some(found) = batch(COLUMNS.fields(), &rows)? else { return Ok(0) };
    let actor = Actor::server_for("health");
    let target = target(catalog, reader)?;
    make(&target, &actor).await?;
    let table = target.load(&actor.authority, TO_INSERT).await?;
    let uncommitted = Uncommitted::new(catalog, table.row.id);
    let mut appender = Appender::new(&table.metadata, uncommitted.destination(), RowLineage::Inherited)?;
    appender.append(&shaped(&found, table.metadata.current_schema())?).await?;
    let count = appender.rows();
    let added = appender.finish().await?;
    commit(&target, &table, RowChange { target: target.clone(), uncommitted, actor, added, removal: None }).await?;
    Ok(count)
}

fn target(catalog: &Catalog, reader: &Reader) -> Result<WriteTarget> {
    let wrong = |e: esker_types::IdentError| QueryError::Statement(e.to_string());
    let namespace = NamespaceName::new(vec![NAMESPACE.to_owned()]).map_err(wrong)?;
    let name = TableName::new(namespace, TABLE_HEALTH).map_err(wrong)?;
    Ok(WriteTarget { catalog: catalog.clone(), reader: reader.clone(), name })
}

/// Creates the namespace and the table, if they are not there.
async fn make(target: &WriteTarget, actor: &Actor) -> Result<()> {
    let there = |made: std::result::Result<(), esker_catalog::CatalogError>| match made {
        Err(e) if e.code() != ErrorCode::AlreadyExists => Err(QueryError::from(e)),
        _ => Ok(()),
    };
    match target.load(&actor.authority, TO_INSERT).await {
        Ok(_) => return Ok(()),
        Err(e) if matches!(e.code(), ErrorCode::NoSuchTable | ErrorCode::NoSuchNamespace) => {}
        Err(e) => return Err(e),
    }
    let catalog = &target.catalog;
    let namespace = NamespaceRow { name: target.name.namespace.clone(), properties: BTreeMap::new(), protected: false };
    there(catalog.create_namespace(&namespace, actor).await)?;
    let stored = |f: Field| match f.data_type() {
        DataType::Timestamp(..) => column(f.name(), DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))),
        _ => f,
    };
    let schema = Schema::new(COLUMNS.fields().into_iter().map(stored).collect::<Vec<_>>());
    let schema = schema_from_arrow(&schema).map_err(|e| QueryError::Execution(e.to_string()))?;
    let request = CreateTable {
        name: TABLE_HEALTH.to_owned(),
        location: None,
        schema,
        partition_spec: None,
        write_order: None,
        stage_create: false,
        // Rows are kept; snapshots expire after a day.
        properties: BTreeMap::from([("history.expire.max-snapshot-age-ms".to_owned(), "86400000".to_owned())]),
    };
    there(catalog.create_table(&target.name.namespace, request, actor).await.map(drop))
}

/// Returns the rows with the table's present columns. One that somebody dropped is left out, one that somebody added is null.
fn shaped(found: &RecordBatch, schema: &esker_format::Schema) -> Result<RecordBatch> {
    let failed = |e: arrow::error::ArrowError| QueryError::Execution(e.to_string());
    let schema = arrow_schema(schema).map_err(|e| QueryError::Execution(e.to_string()))?;
    let columns = schema.fields().iter().map(|field| -> Result<ArrayRef> {
        match found.column_by_name(field.name()) {
            Some(array) => cast(array, field.data_type()).map_err(failed),
            None => Ok(new_null_array(field.data_type(), found.num_rows())),
        }
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(schema.into(), columns).map_err(failed)
}
