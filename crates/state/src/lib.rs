//! The state database, and the only SQL text of the workspace.
//!
//! It is SQLite in write-ahead-log mode for one server, or PostgreSQL for several; the statements are the same for both. One
//! connection makes the changes that a client gets an answer to: durably, and one at a time. A second connection records intents,
//! which a killed process must leave behind but a power cut may lose: the file is then found as an orphan. Functions take and
//! return plain data, and each is one transaction.
//!
//! Start reading with [`State`], then with the state machines in `jobs.rs`, `quarantine.rs` and `instances.rs`.

mod backup;
mod batch;
#[cfg(test)]
mod conformance;
mod damage;
mod database;
mod delivered;
mod dropped;
mod epochs;
mod error;
mod external_jobs;
mod functions;
mod health;
mod instances;
mod jobs;
mod namespaces;
mod orphan_candidates;
mod outbox;
mod outputs;
mod places;
mod principals;
mod quarantine;
mod queue;
mod reports;
mod tables;
mod undos;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::any::AnyRow;
use sqlx::{Any, AnyPool, Row, Transaction};
use uuid::Uuid;

pub use damage::DamagedFile;
pub use database::Database;
use database::PoolUse;
pub use dropped::{DroppedTable, SoftDrop};
pub use epochs::Epoch;
pub use error::StateError;
pub use health::{AssessmentFailure, HealthPoint, HealthRow, TableUsage, USAGE_DAYS};
pub use instances::HEARTBEATS_PER_TIMEOUT;
use instances::Heartbeats;
pub use jobs::{Job, JobFilter, JobLogLine, JobState};
pub use namespaces::{NamespaceRow, Warehouse};
pub use outbox::{Event, NewEvent, NewReceipt, Outbox, Receipt, ReceiptKey};
pub use outputs::PendingOutput;
pub use quarantine::{NewQuarantine, QuarantineByJob, QuarantineKind, QuarantineState, QuarantinedFile};
pub use queue::{JobEnd, JobNotifications, NewJob};
pub use tables::{NewTabular, PointerSwap, TabularKind, TabularRow};
pub use undos::UNDO;

/// The result of a state operation.
pub type Result<T> = std::result::Result<T, StateError>;

/// The state database, as one server uses it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct State {
    database: Database,
    /// The connections for reads.
    readers: AnyPool,
    /// The one connection for changes that a client gets an answer to.
    writer: AnyPool,
    /// The one connection for intents.
    intents: AnyPool,
    /// The identifier of this process.
    instance: Uuid,
    /// This process has a row in the table of servers, so the others may count it as dead.
    registered: Arc<AtomicBool>,
    /// The times of the heartbeats of this process.
    heartbeats: Arc<Heartbeats>,
}

impl State {
    /// Opens or creates the database, and migrates its schema.
    ///
    /// # Errors
    ///
    /// Returns [`Migrate`](StateError::Migrate) if the schema can't be migrated, [`Path`](StateError::Path) if the path is not
    /// UTF-8, and [`Sql`](StateError::Sql) if the database can't be opened.
    pub async fn open(database: Database) -> Result<Self> {
        let writer = database.pool(PoolUse::Changes).await?;
        database.migrate(&writer).await?;
        let intents = database.pool(PoolUse::Intents).await?;
        let readers = database.pool(PoolUse::Reads).await?;
        let registered = Arc::new(AtomicBool::new(false));
        Ok(Self { database, readers, writer, intents, instance: Uuid::now_v7(), registered, heartbeats: Arc::default() })
    }

    /// Returns the identifier of this process, with which intents and jobs are marked. It is new at each start.
    pub fn instance(&self) -> Uuid {
        self.instance
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }

    /// Begins a change that a client gets an answer to.
    ///
    /// No other change interleaves with it, from this server or another. On PostgreSQL, a registered process must still have its
    /// row in the table of servers: a server that the others count as dead changes nothing.
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](StateError::Fenced) if the other servers count this one as dead, and [`Sql`](StateError::Sql) if the
    /// database does not answer.
    async fn begin(&self) -> Result<Transaction<'static, Any>> {
        let mut tx = self.database.begin_exclusive(&self.writer).await?;
        if self.database.is_postgres() && self.registered.load(Ordering::Acquire) {
            let living = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM instance WHERE id = $1");
            if living.bind(self.instance.to_string()).fetch_one(&mut *tx).await? == 0 {
                return Err(StateError::Fenced);
            }
        }
        Ok(tx)
    }

    /// Begins a transaction that records intents. It is not fenced, and a power cut may lose it.
    async fn begin_intent(&self) -> Result<Transaction<'static, Any>> {
        self.database.begin(&self.intents).await
    }

    /// Unregisters this process and closes every connection. With SQLite, this also moves the write-ahead log into the database
    /// file.
    pub async fn close(&self) {
        if let Err(error) = self.unregister().await {
            tracing::warn!(%error, "this server could not be unregistered; the others count it as dead after state.dead_seconds");
        }
        self.readers.close().await;
        self.intents.close().await;
        self.writer.close().await;
    }
}

/// Reads a column that is 0 or 1.
fn flag(row: &AnyRow, column: usize) -> Result<bool> {
    Ok(row.try_get::<i64, _>(column)? != 0)
}

/// Reads the text of a UUID column as a typed identifier.
///
/// # Errors
///
/// Returns [`Corrupt`](StateError::Corrupt) if the text is not one.
fn parse_id<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| StateError::Corrupt(format!("not an identifier: {text:?}")))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use esker_types::{NamespaceName, TableName};
    use sqlx::migrate::Migrator;
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

    use super::*;

    /// A database with the schema of the first release and a table in it is opened by this release.
    #[tokio::test]
    async fn a_database_of_the_first_schema_is_brought_up_to_date_with_what_is_in_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("esker.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let pool = SqlitePoolOptions::new().connect_with(options).await.expect("opened");
        let all = sqlx::migrate!("migrations/sqlite");
        let first = all.iter().filter(|m| m.version == 1).cloned().collect::<Vec<_>>();
        Migrator { migrations: Cow::Owned(first), ..Migrator::DEFAULT }.run(&pool).await.expect("migrated");
        for sql in [
            "INSERT INTO warehouse VALUES (1, 'default', 'file:///w')",
            "INSERT INTO namespace VALUES (1, 1, 'N', '', '{\"a\":\"b\"}')",
            "INSERT INTO iceberg_table VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 1, 'T', '01890a5d-ac96-774b-bcce-b302099a8058',
                'file:///w/n/t', 'file:///w/n/t/metadata/0.json', 1, 0, 0)",
            "INSERT INTO doomed SELECT 'file:///w/n/t/o', id, 'N.T', table_uuid, location, NULL,
                'no snapshot, statistics entry, metadata log or job refers to it', 1, 'doomed', NULL, 0, 0, 0 FROM iceberg_table",
            "INSERT INTO doomed SELECT 'file:///w/n/t/p', id, 'N.T', table_uuid, location, NULL,
                'no snapshot refers to it since the expiry of snapshots', 1, 'doomed', NULL, 0, 0, 0 FROM iceberg_table",
        ] {
            sqlx::query(sql).execute(&pool).await.expect("inserted");
        }
        pool.close().await;

        let state = State::open(Database::Sqlite(path)).await.expect("opened");
        let (warehouse, location) = state.ensure_warehouse("default", "file:///other", false).await.expect("there");
        assert_eq!((warehouse, location.as_str()), (Warehouse { id: 1, case_insensitive: false }, "file:///w"));
        let namespace = NamespaceName::new(vec!["N".to_owned()]).expect("valid");
        assert_eq!(state.namespace(warehouse, &namespace).await.expect("there").properties["a"], "b");
        let row = state.table(warehouse, &TableName::new(namespace, "T").expect("valid")).await.expect("there");
        assert!(row.owned && !row.protected);
        assert_eq!((row.kind, row.warehouse), (TabularKind::Table, 1));
        let quarantine = state.quarantine_of(row.id).await.expect("read");
        let kinds: Vec<QuarantineKind> = quarantine.iter().map(|doomed| doomed.record.kind).collect();
        assert_eq!(kinds, [QuarantineKind::Orphan, QuarantineKind::Own], "earlier versions told orphans by their reason");
        assert_eq!(state.places(warehouse).await.expect("read"), [(row.id, "file:///w/n/t".to_owned())]);
    }
}
