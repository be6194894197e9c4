//! The outbox: events, and the receipts of idempotent requests, written in the transaction of the change that they are about.
//!
//! A change and its [`Outbox`] are committed together or not at all. Sinks read events by number, each from its own cursor; changes
//! run one at a time, so a later event never has a lower number. A receipt makes the repetition of a request return the first
//! outcome.

mod delivered;
mod events;

use std::collections::HashSet;

use esker_types::{Millis, now_ms};
use serde::Serialize;
use serde_json::Value;
use sqlx::{Any, Row, Transaction};
use uuid::Uuid;

pub use events::{
    AccessChangedData, AddedSnapshotData, CommitRefusedData, CreatedData, DamageData, DamagedFileData, EventData,
    FunctionStoredData, JobEventData, NamespaceCreatedData, NamespaceUpdatedData, NoEventData, ProtectedData, RenamedData,
    TableDropEndedData, TableDroppedData, TableIdentityData, TableRecoveredData, TableRegisteredData, TableUnregisteredData,
    TableUpdatedData, ViewDroppedData, ViewReplacedData,
};

use crate::batch::{ROWS, delete_in_batches, values};
use crate::{Result, State, StateError, Warehouse};

/// An event to be written.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The kind of the event, with the details of the change.
    pub data: EventData,
    /// The name of the warehouse; empty for a change of the server.
    pub warehouse: String,
    /// The full name of the entry that changed, levels joined by dots.
    pub subject: String,
    /// The principal that made the change.
    pub principal: String,
}

/// An event of the outbox.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Event {
    /// The number of the event. Later events have higher numbers.
    pub id: i64,
    /// The identifier of the event, the same however often it is delivered.
    pub uuid: String,
    /// The name of the warehouse; empty for a change of the server.
    pub warehouse: String,
    /// The kind of the event, as a CloudEvents type without its reverse-DNS prefix: `table.updated`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The full name of the entry that changed, levels joined by dots.
    pub subject: String,
    /// The principal that made the change.
    pub principal: String,
    /// The time of the change, in milliseconds since the Unix epoch.
    pub time_ms: Millis,
    /// The details of the change, as JSON.
    pub data: Value,
}

/// The operation in the receipts of commits that a server sent to another one, and whose clients sent no idempotency key.
///
/// The sender alone looks for such a receipt, if it gets no answer.
pub const FORWARDED_COMMIT: &str = "forwarded commit";

/// The identity of a request that a client may repeat.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReceiptKey {
    /// The warehouse that the request was sent to.
    pub warehouse: Warehouse,
    /// The principal of the request, with its kind. A key that another principal uses is another request.
    pub principal: String,
    /// Method and path of the request. A key that is used for another operation is another request.
    pub operation: String,
    /// The idempotency key of the client.
    pub key: Uuid,
    /// SHA-256 (hex) of the body of the request.
    pub body_sha256: String,
}

impl ReceiptKey {
    /// Returns the key as the row of the second principal that uses it has it: with the principal behind it.
    fn own_key(&self) -> String {
        format!("{} {}", self.key, self.principal)
    }
}

/// A receipt to be written with the change of its request.
#[derive(Debug, Clone)]
pub struct NewReceipt {
    /// The identity of the request.
    pub key: ReceiptKey,
    /// The outcome of the request, as JSON.
    pub outcome: String,
}

/// The stored outcome of an earlier request with the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// SHA-256 (hex) of the body of that request.
    pub body_sha256: String,
    /// The outcome of that request, as JSON.
    pub outcome: String,
}

/// The events and receipts that are written in the transaction of a change.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    /// The events of the change.
    pub events: Vec<NewEvent>,
    /// The receipts of the requests that made the change, for clients that did not get the answer.
    pub receipts: Vec<NewReceipt>,
}

impl Outbox {
    /// Writes the events and receipts in the transaction of their change.
    ///
    /// # Errors
    ///
    /// Returns [`DuplicateKey`](StateError::DuplicateKey) if another request with the same key was carried out meanwhile, or the
    /// outbox has the key twice. Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    pub(crate) async fn insert(&self, tx: &mut Transaction<'_, Any>) -> Result<()> {
        let now = now_ms();
        for events in self.events.chunks(ROWS) {
            let sql = format!(
                "INSERT INTO event (uuid, warehouse, type, subject, principal, data, time_ms) VALUES {}",
                values(events.len(), 7)
            );
            let insert = sqlx::query(sqlx::AssertSqlSafe(sql));
            let details: Vec<Value> =
                events.iter().map(|event| serde_json::to_value(&event.data)).collect::<serde_json::Result<_>>()?;
            let insert = events.iter().zip(&details).fold(insert, |query, (event, details)| {
                query
                    .bind(Uuid::now_v7().to_string())
                    .bind(&event.warehouse)
                    .bind(details["type"].as_str())
                    .bind(&event.subject)
                    .bind(&event.principal)
                    .bind(details["data"].to_string())
                    .bind(now)
            });
            insert.execute(&mut **tx).await?;
        }
        for receipts in self.receipts.chunks(ROWS) {
            insert_receipts(tx, receipts, now).await?;
        }
        Ok(())
    }
}

/// Writes some receipts, at most [`ROWS`].
///
/// # Errors
///
/// Returns [`DuplicateKey`](StateError::DuplicateKey) if the principal of a receipt has one with this key already, and
/// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
async fn insert_receipts(tx: &mut Transaction<'_, Any>, receipts: &[NewReceipt], now: Millis) -> Result<()> {
    let sql = format!(
        "INSERT INTO receipt (warehouse_id, operation, key, principal, body_sha256, outcome, created_ms) VALUES {}
         ON CONFLICT DO NOTHING RETURNING warehouse_id, operation, key, principal",
        values(receipts.len(), 7)
    );
    let insert = sqlx::query_as::<_, (i64, String, String, String)>(sqlx::AssertSqlSafe(sql));
    let insert = receipts.iter().fold(insert, |query, NewReceipt { key, outcome }| {
        query
            .bind(key.warehouse.id)
            .bind(&key.operation)
            .bind(key.key.to_string())
            .bind(&key.principal)
            .bind(&key.body_sha256)
            .bind(outcome)
            .bind(now)
    });
    let mut written: HashSet<(i64, String, String, String)> = insert.fetch_all(&mut **tx).await?.into_iter().collect();
    // A row that is missing was there before, or its key is twice in this outbox. A row of another principal is no duplicate.
    for receipt in receipts {
        let key = &receipt.key;
        let row = (key.warehouse.id, key.operation.clone(), key.key.to_string(), key.principal.clone());
        if !written.remove(&row) && !insert_beside_another(tx, receipt, now).await? {
            return Err(StateError::DuplicateKey(key.key));
        }
    }
    Ok(())
}

/// Writes a receipt whose key another principal used first. Returns false if it is no other principal that has the key.
///
/// A receipt of an earlier release has no principal, and may be anybody's: it counts as the same request.
///
/// # Errors
///
/// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
async fn insert_beside_another(tx: &mut Transaction<'_, Any>, receipt: &NewReceipt, now: Millis) -> Result<bool> {
    let NewReceipt { key, outcome } = receipt;
    let insert = sqlx::query(
        "INSERT INTO receipt (warehouse_id, operation, key, principal, body_sha256, outcome, created_ms)
         SELECT warehouse_id, operation, $4, $5, $6, $7, $8 FROM receipt
         WHERE warehouse_id = $1 AND operation = $2 AND key = $3 AND principal <> '' AND principal <> $5
         ON CONFLICT DO NOTHING",
    );
    let insert = insert.bind(key.warehouse.id).bind(&key.operation).bind(key.key.to_string()).bind(key.own_key());
    let insert = insert.bind(&key.principal).bind(&key.body_sha256).bind(outcome).bind(now);
    Ok(insert.execute(&mut **tx).await?.rows_affected() > 0)
}

/// The handle for the outbox: events, receipts, cursors of sinks, and delivered states.
#[derive(Debug, Clone, Copy)]
pub struct OutboxLog<'a> {
    pub(crate) state: &'a State,
}

impl OutboxLog<'_> {
    /// Returns the receipt of a request, or `None` if its principal carried out no request with its key before.
    ///
    /// A receipt that an earlier release wrote has no principal, and is anybody's.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    pub async fn receipt(self, key: &ReceiptKey) -> Result<Option<Receipt>> {
        let query = sqlx::query(
            "SELECT body_sha256, outcome FROM receipt
             WHERE warehouse_id = $1 AND operation = $2 AND key IN ($3, $4) AND principal IN ($5, '')
             ORDER BY principal DESC LIMIT 1",
        );
        let query = query.bind(key.warehouse.id).bind(&key.operation).bind(key.key.to_string()).bind(key.own_key());
        let query = query.bind(&key.principal);
        let row = query.fetch_optional(&self.state.readers).await?;
        row.map(|row| Ok(Receipt { body_sha256: row.try_get(0)?, outcome: row.try_get(1)? })).transpose()
    }

    /// Writes the receipt of a request that changed nothing, because it was refused for good.
    ///
    /// # Errors
    ///
    /// Returns [`DuplicateKey`](StateError::DuplicateKey) if another request with the same key was carried out meanwhile. Returns
    /// [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn insert_receipt(self, receipt: NewReceipt) -> Result<()> {
        let mut tx = self.state.begin().await?;
        Outbox { events: Vec::new(), receipts: vec![receipt] }.insert(&mut tx).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(())
    }

    /// Writes events that belong to no change.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](StateError::Ambiguous) if the commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn insert_events(self, events: Vec<NewEvent>) -> Result<()> {
        let mut tx = self.state.begin().await?;
        Outbox { events, receipts: Vec::new() }.insert(&mut tx).await?;
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(())
    }

    /// Returns the events after the number `cursor`, at most `limit`, the oldest first.
    ///
    /// They are those of one warehouse, by name, or of all.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn events_after(self, cursor: i64, warehouse: Option<&str>, limit: u32) -> Result<Vec<Event>> {
        let rows = sqlx::query(
            "SELECT id, uuid, warehouse, type, subject, principal, time_ms, data FROM event
             WHERE id > $1 AND ($2 IS NULL OR warehouse = $2) ORDER BY id LIMIT $3",
        )
        .bind(cursor)
        .bind(warehouse)
        .bind(i64::from(limit))
        .fetch_all(&self.state.readers)
        .await?;
        let event = |row: &sqlx::any::AnyRow| {
            Ok(Event {
                id: row.try_get(0)?,
                uuid: row.try_get(1)?,
                warehouse: row.try_get(2)?,
                kind: row.try_get(3)?,
                subject: row.try_get(4)?,
                principal: row.try_get(5)?,
                time_ms: row.try_get(6)?,
                data: serde_json::from_str(row.try_get(7)?)?,
            })
        };
        rows.iter().map(event).collect()
    }

    /// Returns the number of the newest event of any warehouse; 0 if there is none, or all have been removed.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    pub async fn newest_event(self) -> Result<i64> {
        let query = sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM event");
        Ok(query.fetch_one(&self.state.readers).await?)
    }

    /// Returns the number of the last event that a sink has.
    ///
    /// A sink without a cursor gets one here, at the newest event: it begins with the next one.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    pub async fn sink_cursor(self, sink: &str) -> Result<i64> {
        sqlx::query(
            "INSERT INTO event_sink (name, delivered) SELECT $1, coalesce(max(id), 0) FROM event
             WHERE true ON CONFLICT (name) DO NOTHING",
        )
        .bind(sink)
        .execute(&self.state.writer)
        .await?;
        let query = sqlx::query_scalar("SELECT delivered FROM event_sink WHERE name = $1").bind(sink);
        Ok(query.fetch_one(&self.state.readers).await?)
    }

    /// Removes the cursors of sinks that are not in `names`.
    ///
    /// The events after a cursor are kept for its sink, so the cursor of a sink that is no longer configured would keep them for
    /// ever.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    pub async fn retain_sinks(self, names: &[String]) -> Result<()> {
        let known: Vec<String> = sqlx::query_scalar("SELECT name FROM event_sink").fetch_all(&self.state.readers).await?;
        for gone in known.iter().filter(|name| !names.contains(name)) {
            sqlx::query("DELETE FROM event_sink WHERE name = $1").bind(gone).execute(&self.state.writer).await?;
        }
        Ok(())
    }

    /// Moves the cursor of a sink to the event `delivered`. A cursor never moves back.
    ///
    /// The cursor is written as an intent: after a power cut, the sink may get some events again.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    pub async fn advance_sink(self, sink: &str, delivered: i64) -> Result<()> {
        sqlx::query("UPDATE event_sink SET delivered = $2 WHERE name = $1 AND delivered < $2")
            .bind(sink)
            .bind(delivered)
            .execute(&self.state.relaxed_writer)
            .await?;
        Ok(())
    }

    /// Returns the number of events that a sink does not have yet, and the age of the oldest of them in milliseconds.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    pub async fn sink_lag(self, sink: &str) -> Result<(i64, Millis)> {
        let row = sqlx::query(
            "SELECT count(*), coalesce($2 - min(time_ms), 0) FROM event
             WHERE id > coalesce((SELECT delivered FROM event_sink WHERE name = $1), 0)",
        )
        .bind(sink)
        .bind(now_ms())
        .fetch_one(&self.state.readers)
        .await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    /// Removes old receipts, and old events that every sink has, in batches.
    ///
    /// Both times are in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](StateError::Ambiguous) if a commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if a batch was not written. Earlier batches stay removed.
    pub async fn forget_old(self, receipts_before: Millis, events_before: Millis) -> Result<()> {
        let receipts = "(warehouse_id, operation, key) IN
            (SELECT warehouse_id, operation, key FROM receipt WHERE created_ms < $1 LIMIT $2)";
        delete_in_batches(self.state, &format!("DELETE FROM receipt WHERE {receipts}"), receipts_before).await?;
        let events = "id IN (SELECT id FROM event WHERE time_ms < $1
            AND id <= (SELECT coalesce(min(delivered), 9223372036854775807) FROM event_sink) LIMIT $2)";
        delete_in_batches(self.state, &format!("DELETE FROM event WHERE {events}"), events_before).await
    }

    /// Removes receipts of [`FORWARDED_COMMIT`] from before a time (milliseconds since the Unix epoch), in batches.
    ///
    /// Those that are over an hour older are left to [`OutboxLog::forget_old`], so that what is looked at stays bounded.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](StateError::Ambiguous) if a commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if a batch was not written. Earlier batches stay removed.
    pub async fn forget_forwarded(self, before: Millis) -> Result<()> {
        let old = format!(
            "DELETE FROM receipt WHERE (warehouse_id, operation, key) IN
             (SELECT warehouse_id, operation, key FROM receipt
              WHERE created_ms < $1 AND created_ms >= $1 - 3600000 AND operation = '{FORWARDED_COMMIT}' LIMIT $2)"
        );
        delete_in_batches(self.state, &old, before).await
    }
}
