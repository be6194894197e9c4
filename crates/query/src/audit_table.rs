//! The audit trail as rows of an Iceberg table, `system.audit` of one warehouse.
//!
//! Records wait in the state database, and move in *batches*, each in one commit. The commit sets the property [`LAST_BATCH`] to the
//! id of the batch, and is made only if the property is still what it was before the batch was read from the database. So a batch
//! is in the table once: a server that is killed between the commit and the removal from the database finds its id in the table,
//! and of two servers that move a batch at the same time, one has a conflict.
//!
//! Only Esker writes the table, and who reads it needs `READ_AUDIT`: see `esker_access::Subject::decide`.

use std::collections::{BTreeMap, HashMap};

use esker_catalog::{Actor, Catalog, CatalogError, LoadedTable, Proposal, Rebase};
use esker_format::{MAIN_BRANCH, ManifestProjection, TableMetadata, TableUpdate};
use esker_read::Reader;
use esker_state::{AuditBatch, AuditRecord, State};
use esker_types::{DAY_MS, now_ms};
use futures::future::BoxFuture;
use roaring::RoaringTreemap;
use serde_json::{Value, json};

use crate::Result;
use crate::change::{commit, commit_change, count_schema};
use crate::commit::{Removal, RowChange};
use crate::own_table::{OwnTable, write_rows};
use crate::rows::batch;
use crate::served_tables::AUDIT;
use crate::target::{Uncommitted, WriteTarget};

/// The table. Snapshots expire after a day, so that the files of days that are over are deleted.
const TABLE: OwnTable =
    OwnTable { served: AUDIT, by_day: true, properties: &[("history.expire.max-snapshot-age-ms", "86400000")] };

/// The property of the table that holds the id of the batch that moved last.
const LAST_BATCH: &str = "audit.last-batch";

/// The maximum number of records of a batch.
const MAX_RECORDS: u32 = 10_000;

/// The commit of a batch.
#[derive(Debug)]
struct AuditMove {
    rows: RowChange,
    batch: String,
    /// The id of the batch before it, when the batch was read from the database.
    last: Option<String>,
}

impl Rebase for AuditMove {
    type Effect = ();

    fn propose<'a>(&'a self, table: &'a LoadedTable) -> BoxFuture<'a, esker_catalog::Result<(Proposal, ())>> {
        Box::pin(async move {
            if last_batch(&table.metadata) != self.last.as_deref() {
                return Err(CatalogError::Conflict("another server has moved a batch of the audit trail meanwhile".to_owned()));
            }
            let (mut proposal, ()) = self.rows.propose(table).await?;
            let updates = BTreeMap::from([(LAST_BATCH.to_owned(), self.batch.clone())]);
            proposal.updates.push(TableUpdate::SetProperties { updates });
            Ok((proposal, ()))
        })
    }
}

/// Returns the id of the batch that moved to the table last.
fn last_batch(metadata: &TableMetadata) -> Option<&str> {
    metadata.properties.get(LAST_BATCH).map(String::as_str)
}

/// Returns the row of a record.
fn row(record: &AuditRecord) -> Value {
    json!({
        "time": record.time_ms, "id": record.uuid, "phase": record.phase.as_str(), "request_id": record.request_id,
        "protocol": record.protocol, "principal_kind": record.principal_kind, "principal": record.principal,
        "operation": record.operation, "is_change": record.is_change, "decision": record.decision.as_str(), "rule": record.rule,
        "privileges": record.privileges, "warehouse": record.warehouse, "object_kind": record.object_kind,
        "object": record.object, "object_id": record.object_id, "objects": record.objects, "status": record.status, "source_ip": record.source_ip,
        "engine": record.engine,
    })
}

/// Moves the records of the audit trail from the state database to `system.audit` of a warehouse; returns their number.
///
/// Creates the table if there is none.
///
/// # Errors
///
/// - Returns [`QueryError::Catalog`](crate::QueryError::Catalog) if the database fails, or if the table cannot be created, loaded or
///   changed. After a conflict with another server, the next call goes on.
/// - Returns [`QueryError::Write`](crate::QueryError::Write) if the data files cannot be written.
/// - Returns [`QueryError::Execution`](crate::QueryError::Execution) if the rows do not fit the columns that the table has.
pub async fn move_audit_records(catalog: &Catalog, reader: &Reader, state: &State) -> Result<u64> {
    let actor = Actor::internal("audit");
    let target = TABLE.target(catalog, reader)?;
    let mut moved = 0;
    loop {
        // The table comes first: its last batch must be older than the batch that is read, or that batch itself.
        let table = TABLE.open(&target, &actor).await?;
        let Some(batch) = state.audit().next_batch(MAX_RECORDS).await.map_err(CatalogError::from)? else { break };
        if last_batch(&table.metadata) != Some(batch.id.as_str()) {
            moved += append(&target, &table, &batch, &actor).await?;
            catalog.failpoint("audit-before-delete").await;
        }
        state.audit().remove_batch(&batch.id).await.map_err(CatalogError::from)?;
    }
    Ok(moved)
}

/// Removes from `system.audit` of a warehouse the days that ended more than `retention_days` ago.
///
/// It reads the list of all files of the table, so once a day is enough.
///
/// # Errors
///
/// Returns the errors of [`move_audit_records`].
pub async fn remove_audit_days(catalog: &Catalog, reader: &Reader, retention_days: u64) -> Result<()> {
    remove_days(&TABLE.target(catalog, reader)?, &Actor::internal("audit"), retention_days).await
}

/// Adds the records of a batch to the table in one commit; returns their number.
async fn append(target: &WriteTarget, table: &LoadedTable, moving: &AuditBatch, actor: &Actor) -> Result<u64> {
    let rows: Vec<Value> = moving.records.iter().map(row).collect();
    let Some(found) = batch(TABLE.served.fields(), &rows)? else { return Ok(0) };
    let uncommitted = Uncommitted::new(&target.catalog, table.row.id);
    let (count, added) = write_rows(table, &uncommitted, &found).await?;
    let rows = RowChange { target: target.clone(), uncommitted: uncommitted.clone(), actor: actor.clone(), added, removal: None };
    let last = last_batch(&table.metadata).map(str::to_owned);
    commit_change(target, table, uncommitted, AuditMove { rows, batch: moving.id.clone(), last }).await?;
    Ok(count)
}

/// Returns the number of the first day that is kept, in days since the Unix epoch.
fn first_day_kept(now: i64, retention_days: u64) -> i64 {
    now.div_euclid(DAY_MS).saturating_sub(i64::try_from(retention_days).unwrap_or(i64::MAX))
}

/// Removes the data files of the days that are no longer kept. Does nothing if there are none.
async fn remove_days(target: &WriteTarget, actor: &Actor, retention_days: u64) -> Result<()> {
    let table = TABLE.open(target, actor).await?;
    let Some(head) = table.metadata.snapshot_for_ref(MAIN_BRANCH) else { return Ok(()) };
    let kept_from = first_day_kept(now_ms(), retention_days);
    let mut positions: HashMap<String, RoaringTreemap> = HashMap::new();
    for live in target.catalog.live_files(&table, head).await?.data {
        let day = match live.file.partition.first() {
            Some(Some(esker_format::Value::Date(day) | esker_format::Value::Int(day))) => i64::from(*day),
            _ => continue,
        };
        if let Some(rows) = live.file.rows().filter(|_| day < kept_from) {
            let mut all = RoaringTreemap::new();
            all.insert_range(0..rows);
            positions.insert(live.file.file_path.clone(), all);
        }
    }
    if positions.is_empty() {
        return Ok(());
    }
    let (base, files) = (head.snapshot_id, positions.len());
    let base_files = target.catalog.snapshot_files(&table, head, &ManifestProjection::files()).await?;
    let (condition, schema) = (None, count_schema());
    let removal = Removal { base, base_files, positions, condition, schema, serializable: false, update: false };
    let uncommitted = Uncommitted::new(&target.catalog, table.row.id);
    let actor = actor.clone();
    let change = RowChange { target: target.clone(), uncommitted, actor, added: Vec::new(), removal: Some(removal) };
    commit(target, &table, change).await?;
    tracing::info!(files, "days of the audit trail that are over audit.retention_days were removed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_kept_for_as_many_days_after_its_end() {
        let noon = 20_000 * DAY_MS + DAY_MS / 2;
        assert_eq!(first_day_kept(noon, 0), 20_000, "today");
        assert_eq!(first_day_kept(noon, 30), 19_970);
        assert_eq!(first_day_kept(20_000 * DAY_MS, 1), 19_999);
        assert!(first_day_kept(noon, u64::MAX) < 0);
    }
}
