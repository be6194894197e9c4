//! The audit trail: records of who asked for what, and what became of it.
//!
//! A record is added and never changed. It leaves this database in one of two ways. A *batch* of records moves to an Iceberg table:
//! [`AuditLog::next_batch`] marks the records, the commit of the table carries the id of the batch, and [`AuditLog::remove_batch`] removes
//! them. There is never more than one batch, so after a crash its id tells if the commit was made. Without that table, old
//! records are removed by [`AuditLog::forget`].

use esker_types::Millis;
use serde::{Deserialize, Serialize};
use sqlx::{Any, Row, Transaction};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::batch::{ROWS, delete_in_batches, values};
use crate::{EventData, NewEvent, Outbox, Result, State, StateError};

/// The kind of the events that tell of records.
pub const AUDIT_RECORDED: &str = "audit.recorded";

/// The moment that a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuditPhase {
    /// A change is about to be tried. Without a later record of the same request, its outcome is not known.
    Attempt,
    /// A request was answered.
    Outcome,
}

impl AuditPhase {
    /// Returns the name, as in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Outcome => "outcome",
        }
    }
}

/// The decision that a record reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuditDecision {
    /// Nothing was decided: not yet, or because nothing was needed or access control is off.
    #[default]
    None,
    /// The rules allowed the request.
    Allowed,
    /// The request was refused.
    Refused,
    /// The request went on, and would be refused in the mode `on`.
    Reported,
}

impl AuditDecision {
    /// Returns the name, as in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Reported => "reported",
        }
    }
}

/// A record of the audit trail. It has names and ids, and nothing of what a request or an answer contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AuditRecord {
    /// The identifier of the record, a UUID.
    pub uuid: String,
    /// The time of the record, in milliseconds since the Unix epoch.
    pub time_ms: Millis,
    /// The moment that the record is about.
    pub phase: AuditPhase,
    /// The identifier of the request, as the answer has it in `x-request-id`. The records of one request share it.
    pub request_id: String,
    /// The protocol: `rest`, `flight-sql`, or `command` for a command on the server's machine.
    pub protocol: String,
    /// The kind of the principal: `client`, `user`, `anonymous`, `machine`, or `unknown` for a refused log-in.
    pub principal_kind: String,
    /// The name of the principal, as events have it.
    pub principal: String,
    /// The operation: its id in the OpenAPI documents, or the kind of the SQL statement.
    pub operation: String,
    /// True if the request is to change something.
    pub is_change: bool,
    /// The decision.
    pub decision: AuditDecision,
    /// The rule that allowed the request: the id of a grant, or the name of a built-in rule.
    pub rule: Option<String>,
    /// The privileges that were asked for on the object.
    pub privileges: Option<String>,
    /// The name of the warehouse.
    pub warehouse: Option<String>,
    /// The kind of the object: `table`, `view`, `namespace`, …
    pub object_kind: Option<String>,
    /// The name of the object, levels joined by dots.
    pub object: Option<String>,
    /// The identifier of the table or view.
    pub object_id: Option<String>,
    /// The kinds and names of all objects that the request named, separated by semicolons, if there are several.
    pub objects: Option<String>,
    /// The HTTP status of the answer; for SQL, the one that the error stands for.
    pub status: Option<u16>,
    /// The address of the client.
    pub source_ip: Option<String>,
    /// The engine, as its header `user-agent` says.
    pub engine: Option<String>,
}

/// The records that move to the Iceberg table in one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditBatch {
    /// The identifier of the batch, which the commit carries.
    pub id: String,
    /// The records, the oldest first.
    pub records: Vec<AuditRecord>,
}

/// The handle for the audit trail.
#[derive(Debug, Clone, Copy)]
pub struct AuditLog<'a> {
    pub(crate) state: &'a State,
}

/// Returns the event that tells of a record.
fn event(record: &AuditRecord) -> NewEvent {
    NewEvent {
        data: EventData::AuditRecorded(Box::new(record.clone())),
        // The event is of the server: whoever reads the events of a warehouse does not get it.
        warehouse: String::new(),
        subject: record.operation.clone(),
        principal: record.principal.clone(),
    }
}

impl AuditLog<'_> {
    /// Adds a record durably, before the change that it announces.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the record was not written, or it is not known if it was.
    pub async fn append(self, record: &AuditRecord) -> Result<()> {
        let insert = sqlx::query("INSERT INTO audit_record (time_ms, record) VALUES ($1, $2)");
        insert.bind(record.time_ms).bind(serde_json::to_string(record)?).execute(&self.state.writer).await?;
        Ok(())
    }

    /// Adds records in one transaction, each with an event if `events` is [`AuditEvents::Sent`].
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn append_all(self, records: &[AuditRecord], events: AuditEvents) -> Result<()> {
        let mut tx = self.state.begin().await?;
        for records in records.chunks(ROWS) {
            insert(&mut tx, records).await?;
        }
        if events == AuditEvents::Sent {
            let outbox = Outbox { events: records.iter().map(event).collect(), receipts: Vec::new() };
            outbox.insert(&mut tx).await?;
        }
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(())
    }

    /// Returns the batch that moves to the Iceberg table next, with at most `limit` records; `None` if there are no records.
    ///
    /// It is the last batch again until [`Self::remove_batch`] removes it.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails. Returns [`Corrupt`](StateError::Corrupt) if a
    /// stored record can't be read.
    pub async fn next_batch(self, limit: u32) -> Result<Option<AuditBatch>> {
        // The transaction runs alone, so two servers do not mark two batches.
        let mut tx = self.state.begin().await?;
        let open = sqlx::query_scalar::<_, String>("SELECT batch FROM audit_record WHERE batch <> '' LIMIT 1");
        let id = match open.fetch_optional(&mut *tx).await? {
            Some(id) => id,
            None => {
                let id = Uuid::now_v7().to_string();
                let mark = sqlx::query(
                    "UPDATE audit_record SET batch = $1
                     WHERE id IN (SELECT id FROM audit_record WHERE batch = '' ORDER BY id LIMIT $2)",
                );
                let marked = mark.bind(&id).bind(i64::from(limit)).execute(&mut *tx).await?.rows_affected();
                if marked == 0 {
                    return Ok(None);
                }
                id
            }
        };
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        // The records of a batch do not change, so they are read without the write lock, for which commits wait.
        let query = sqlx::query("SELECT record FROM audit_record WHERE batch = $1 ORDER BY id").bind(&id);
        let rows = query.fetch_all(&self.state.readers).await?;
        let records = rows.iter().map(|row| Ok(serde_json::from_str(row.try_get(0)?)?)).collect::<Result<Vec<_>>>()?;
        Ok(Some(AuditBatch { id, records }))
    }

    /// Removes the records of a batch, which are in the Iceberg table.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    pub async fn remove_batch(self, id: &str) -> Result<()> {
        let delete = sqlx::query("DELETE FROM audit_record WHERE batch = $1 AND batch <> ''").bind(id);
        delete.execute(&self.state.writer).await?;
        Ok(())
    }

    /// Returns the records after the number `cursor`, at most `limit`, the oldest first, each with its number.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored record
    /// can't be read.
    pub async fn after(self, cursor: i64, limit: u32) -> Result<Vec<(i64, AuditRecord)>> {
        let query = sqlx::query("SELECT id, record FROM audit_record WHERE id > $1 ORDER BY id LIMIT $2");
        let rows = query.bind(cursor).bind(i64::from(limit)).fetch_all(&self.state.readers).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, serde_json::from_str(row.try_get(1)?)?))).collect()
    }

    /// Removes the records from before a time, in milliseconds since the Unix epoch, that are in no batch.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](StateError::Ambiguous) if a commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if some records were not removed.
    pub async fn forget(self, before: Millis) -> Result<()> {
        let old = "id IN (SELECT id FROM audit_record WHERE time_ms < $1 AND batch = '' LIMIT $2)";
        delete_in_batches(self.state, &format!("DELETE FROM audit_record WHERE {old}"), before).await
    }
}

/// The choice if records are told of by events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditEvents {
    /// Each record is an event `audit.recorded` too.
    Sent,
    /// There are no events.
    Off,
}

/// Writes some records, at most [`ROWS`].
async fn insert(tx: &mut Transaction<'_, Any>, records: &[AuditRecord]) -> Result<()> {
    let sql = format!("INSERT INTO audit_record (time_ms, record) VALUES {}", values(records.len(), 2));
    let texts = records.iter().map(serde_json::to_string).collect::<serde_json::Result<Vec<_>>>()?;
    let insert = sqlx::query(sqlx::AssertSqlSafe(sql));
    let insert = records.iter().zip(&texts).fold(insert, |query, (record, text)| query.bind(record.time_ms).bind(text));
    insert.execute(&mut **tx).await?;
    Ok(())
}

/// The behaviour that both databases share.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::Database;
    use crate::conformance::databases;

    /// Returns a record of a request.
    fn record(request: &str, time_ms: i64) -> AuditRecord {
        AuditRecord {
            uuid: format!("uuid of {request}"),
            time_ms,
            phase: AuditPhase::Outcome,
            request_id: request.to_owned(),
            protocol: "rest".to_owned(),
            principal_kind: "client".to_owned(),
            principal: "etl".to_owned(),
            operation: "dropTable".to_owned(),
            is_change: true,
            decision: AuditDecision::Allowed,
            rule: Some("owner".to_owned()),
            privileges: Some("DROP".to_owned()),
            warehouse: Some("w".to_owned()),
            object_kind: Some("table".to_owned()),
            object: Some("n.'t'".to_owned()),
            object_id: None,
            objects: None,
            status: Some(204),
            source_ip: None,
            engine: Some("curl/8 \"quoted\"".to_owned()),
        }
    }

    /// Returns the ids of the requests whose records the database has.
    async fn requests(state: &State) -> Vec<String> {
        let found = state.audit().after(0, 100).await.expect("read");
        assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "in the order of their numbers");
        found.into_iter().map(|(_, record)| record.request_id).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn records_leave_in_one_batch_after_the_other_and_none_twice() {
        let dir = tempfile::tempdir().expect("a directory");
        for database in databases(&dir) {
            let state = State::open(database).await.expect("opened");
            leave_in_batches(&state).await;
            state.close().await;
        }
    }

    async fn leave_in_batches(state: &State) {
        assert_eq!(state.audit().next_batch(10).await.expect("asked"), None);
        state.audit().append(&record("a", 1)).await.expect("written");
        let more = [record("b", 2), record("c", 3)];
        state.audit().append_all(&more, AuditEvents::Off).await.expect("written");
        state.audit().append_all(&[], AuditEvents::Sent).await.expect("nothing to write");
        assert_eq!(requests(state).await, ["a", "b", "c"]);

        let first = state.audit().next_batch(2).await.expect("asked").expect("records");
        assert_eq!(first.records, [record("a", 1), record("b", 2)], "as they were written");
        state.audit().append(&record("d", 4)).await.expect("written");
        let again = state.audit().next_batch(100).await.expect("asked").expect("records");
        assert_eq!(again, first, "until it is removed, however many there are");
        state.audit().forget(100).await.expect("removed");
        assert_eq!(requests(state).await, ["a", "b"], "old records outside of the batch are gone");
        state.audit().append(&record("e", 5)).await.expect("written");
        state.audit().remove_batch("").await.expect("no batch");
        state.audit().remove_batch(&first.id).await.expect("removed");
        let second = state.audit().next_batch(100).await.expect("asked").expect("records");
        assert_ne!(second.id, first.id);
        assert_eq!(second.records, [record("e", 5)]);
        state.audit().remove_batch(&first.id).await.expect("removed before");
        assert_eq!(requests(state).await, ["e"], "a batch that is gone takes no other with it");
    }

    /// Allows the files of SQLite a number of pages, in place of a disk that fills up. It is no less than the present number.
    async fn limit_pages(state: &State, pages: u32) {
        let limit = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        sqlx::raw_sql(limit).execute(&state.writer).await.expect("limited");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn changes_succeed_again_once_a_disk_that_was_full_has_room() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = State::open(Database::Sqlite(dir.path().join("esker.db"))).await.expect("opened");
        let large = AuditRecord { engine: Some("x".repeat(1_000_000)), ..record("large", 1) };
        for round in 0..3 {
            limit_pages(&state, 1).await;
            let full = state.audit().append_all(std::slice::from_ref(&large), AuditEvents::Off).await;
            assert!(matches!(full, Err(StateError::Full)), "round {round}: {full:?}");
            limit_pages(&state, 1_000_000).await;
            let small = record(&format!("small {round}"), 2);
            state.audit().append_all(&[small], AuditEvents::Off).await.expect("the disk has room");
        }
        state.audit().append_all(&[large], AuditEvents::Off).await.expect("the disk has room");
        assert_eq!(requests(&state).await, ["small 0", "small 1", "small 2", "large"]);
        state.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_record_is_an_event_of_the_server() {
        let dir = tempfile::tempdir().expect("a directory");
        for database in databases(&dir) {
            let state = State::open(database).await.expect("opened");
            are_events(&state).await;
            state.close().await;
        }
    }

    async fn are_events(state: &State) {
        let told = [record("a", 1), record("b", 2)];
        state.audit().append_all(&told, AuditEvents::Sent).await.expect("written");
        let events = state.outbox().events_after(0, None, 10).await.expect("read");
        let found: Vec<_> = events.iter().map(|event| (event.kind.as_str(), event.data["request-id"].as_str())).collect();
        assert_eq!(found, [(AUDIT_RECORDED, Some("a")), (AUDIT_RECORDED, Some("b"))]);
        assert!(events.iter().all(|event| event.warehouse.is_empty() && event.principal == "etl"));
    }
}
