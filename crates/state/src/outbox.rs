//! What is recorded in the same transaction as a change: events for the out-box, and the receipt of an idempotent request.

use esker_types::{Millis, now_ms};
use serde::Serialize;
use serde_json::Value;
use sqlx::{Any, Row, Transaction};
use uuid::Uuid;

use crate::{Result, State, StateError, Warehouse};

/// An event to be entered.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// What happened, as a CloudEvents type without its reverse-DNS prefix: `table.updated`.
    pub kind: &'static str,
    /// In which warehouse.
    pub warehouse: String,
    /// To what: the full name, levels joined by dots.
    pub subject: String,
    /// By whom.
    pub principal: String,
    /// What changed.
    pub data: Value,
}

/// An event of the out-box.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Where it stands in the out-box. Later events have higher numbers.
    pub id: i64,
    /// Its own identifier, the same however often it is delivered.
    pub uuid: String,
    /// In which warehouse it happened.
    pub warehouse: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// To what.
    pub subject: String,
    /// By whom.
    pub principal: String,
    /// When, in milliseconds since the epoch.
    pub time_ms: Millis,
    /// What changed.
    pub data: Value,
}

/// A request that a client may repeat.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReceiptKey {
    /// The warehouse that it was sent to.
    pub warehouse: Warehouse,
    /// Method and path: a key reused for something else is another request.
    pub operation: String,
    /// The client's key.
    pub key: Uuid,
    /// SHA-256 (hex) of the body.
    pub body_sha256: String,
}

/// A receipt to be entered with the change that it is of.
#[derive(Debug, Clone)]
pub struct NewReceipt {
    /// Of which request.
    pub key: ReceiptKey,
    /// What it came to, as JSON.
    pub outcome: String,
}

/// What a request with the same key came to before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// SHA-256 (hex) of that request's body.
    pub body_sha256: String,
    /// What it came to, as JSON.
    pub outcome: String,
}

/// What goes along with a change.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    /// For the out-box.
    pub events: Vec<NewEvent>,
    /// For clients that did not hear the answer.
    pub receipts: Vec<NewReceipt>,
}

impl Outbox {
    pub(crate) async fn insert(&self, tx: &mut Transaction<'_, Any>) -> Result<()> {
        let now = now_ms();
        for event in &self.events {
            sqlx::query(
                "INSERT INTO event (uuid, warehouse, type, subject, principal, data, time_ms)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(Uuid::now_v7().to_string())
            .bind(&event.warehouse)
            .bind(event.kind)
            .bind(&event.subject)
            .bind(&event.principal)
            .bind(event.data.to_string())
            .bind(now)
            .execute(&mut **tx)
            .await?;
        }
        for NewReceipt { key, outcome } in &self.receipts {
            let done = sqlx::query(
                "INSERT INTO receipt (warehouse_id, operation, key, body_sha256, outcome, created_ms)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            )
            .bind(key.warehouse.id)
            .bind(&key.operation)
            .bind(key.key.to_string())
            .bind(&key.body_sha256)
            .bind(outcome)
            .bind(now)
            .execute(&mut **tx)
            .await?;
            if done.rows_affected() == 0 {
                return Err(StateError::DuplicateKey(key.key));
            }
        }
        Ok(())
    }
}

impl State {
    /// The receipt of a request, if one with its key was carried out before.
    pub async fn receipt(&self, key: &ReceiptKey) -> Result<Option<Receipt>> {
        let query =
            sqlx::query("SELECT body_sha256, outcome FROM receipt WHERE warehouse_id = $1 AND operation = $2 AND key = $3")
                .bind(key.warehouse.id)
                .bind(&key.operation)
                .bind(key.key.to_string());
        let row = query.fetch_optional(&self.readers).await?;
        row.map(|row| Ok(Receipt { body_sha256: row.try_get(0)?, outcome: row.try_get(1)? })).transpose()
    }

    /// Enters the receipt of a request that changed nothing: one that was refused for good.
    pub async fn insert_receipt(&self, receipt: NewReceipt) -> Result<()> {
        let mut tx = self.begin().await?;
        Outbox { events: Vec::new(), receipts: vec![receipt] }.insert(&mut tx).await?;
        tx.commit().await.map_err(StateError::Ambiguous)?;
        Ok(())
    }

    /// Events after a cursor, the oldest first, of one warehouse or of all.
    pub async fn events_after(&self, cursor: i64, warehouse: Option<&str>, limit: u32) -> Result<Vec<Event>> {
        let rows = sqlx::query(
            "SELECT id, uuid, warehouse, type, subject, principal, time_ms, data FROM event
             WHERE id > $1 AND ($2 IS NULL OR warehouse = $2) ORDER BY id LIMIT $3",
        )
        .bind(cursor)
        .bind(warehouse)
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
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

    /// How far a sink has come; a new one begins with the next event.
    pub async fn sink_cursor(&self, sink: &str) -> Result<i64> {
        sqlx::query(
            "INSERT INTO event_sink (name, delivered) SELECT $1, coalesce(max(id), 0) FROM event
             WHERE true ON CONFLICT (name) DO NOTHING",
        )
        .bind(sink)
        .execute(&self.writer)
        .await?;
        let query = sqlx::query_scalar("SELECT delivered FROM event_sink WHERE name = $1").bind(sink);
        Ok(query.fetch_one(&self.readers).await?)
    }

    /// Forgets the cursors of sinks that are not configured any more: events would be kept for them for ever.
    pub async fn retain_sinks(&self, names: &[String]) -> Result<()> {
        let known: Vec<String> = sqlx::query_scalar("SELECT name FROM event_sink").fetch_all(&self.readers).await?;
        for gone in known.iter().filter(|name| !names.contains(name)) {
            sqlx::query("DELETE FROM event_sink WHERE name = $1").bind(gone).execute(&self.writer).await?;
        }
        Ok(())
    }

    /// Records that a sink has everything up to `delivered`.
    pub async fn advance_sink(&self, sink: &str, delivered: i64) -> Result<()> {
        sqlx::query("UPDATE event_sink SET delivered = $2 WHERE name = $1 AND delivered < $2")
            .bind(sink)
            .bind(delivered)
            .execute(&self.intents)
            .await?;
        Ok(())
    }

    /// Events that a sink does not have yet, and the age of the oldest of them in milliseconds.
    pub async fn sink_lag(&self, sink: &str) -> Result<(i64, Millis)> {
        let row = sqlx::query(
            "SELECT count(*), coalesce($2 - min(time_ms), 0) FROM event
             WHERE id > coalesce((SELECT delivered FROM event_sink WHERE name = $1), 0)",
        )
        .bind(sink)
        .bind(now_ms())
        .fetch_one(&self.readers)
        .await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    /// Forgets what is too old to be asked for: receipts and tokens past their time, and events that every sink has.
    pub async fn forget_old(&self, receipts_before: Millis, events_before: Millis) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM receipt WHERE created_ms < $1").bind(receipts_before).execute(&mut *tx).await?;
        sqlx::query("DELETE FROM access_token WHERE expires_ms < $1").bind(now_ms()).execute(&mut *tx).await?;
        sqlx::query(
            "DELETE FROM event WHERE time_ms < $1
             AND id <= (SELECT coalesce(min(delivered), 9223372036854775807) FROM event_sink)",
        )
        .bind(events_before)
        .execute(&mut *tx)
        .await?;
        tx.commit().await.map_err(StateError::Ambiguous)?;
        Ok(())
    }
}
