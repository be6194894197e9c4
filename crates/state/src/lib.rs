//! The state database, and the only SQL text of the workspace.
//!
//! It is SQLite in write-ahead-log mode for one server, or PostgreSQL for several; the statements are the same for both. One
//! connection makes the changes that a client gets an answer to: durably, and one at a time. A second connection makes the writes
//! that a killed process must leave behind but a power cut may lose: records of pending outputs, heartbeats, logs and progress of
//! jobs, and measurements. A file whose record is lost is found as an orphan.
//!
//! [`State`] opens and closes the database. Each subject has a handle that borrows the state: [`State::tables`], [`State::jobs`],
//! … The functions of a handle take and return plain data. Each change is one transaction, but for old records, which are removed
//! in batches.
//!
//! Start reading with [`State`], then with the state machines in `jobs/mod.rs`, `quarantine/mod.rs` and `servers.rs`.

mod access;
mod audit;
mod backup;
mod batch;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod conformance_access;
#[cfg(test)]
mod conformance_identities;
#[cfg(test)]
mod conformance_jobs;
#[cfg(test)]
mod conformance_lease;
#[cfg(test)]
mod conformance_places;
#[cfg(test)]
mod conformance_seen;
mod database;
mod error;
mod fleet;
mod jobs;
mod keys;
mod migrations;
mod namespaces;
mod outbox;
mod outputs;
mod principals;
mod quarantine;
mod scan_plans;
mod seen;
mod servers;
mod sessions;
mod tables;
mod tokens;
mod warehouses;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::any::AnyRow;
use sqlx::{Any, AnyPool, Row, Transaction};
use uuid::Uuid;

pub use access::{Access, StoredColumnMask, StoredGrant, StoredMember, StoredPolicy, StoredRole, StoredRowFilter};
pub use audit::{AUDIT_RECORDED, AuditBatch, AuditDecision, AuditEvents, AuditLog, AuditPhase, AuditRecord};
pub use backup::{BackupHeader, BackupProgress, BackupTable, PresentDatabase, RestoreOptions, Restored, check_backup};
pub use database::Database;
use database::PoolUse;
pub use error::StateError;
pub use fleet::{AssessmentFailure, DamagedFile, Fleet, HealthPoint, HealthRow, TableUsage, USAGE_DAYS};
pub use jobs::{Job, JobAsker, JobEnd, JobFilter, JobLogLine, JobNotifications, JobState, Jobs, NewJob, UNDO};
pub use keys::{SigningKeyRow, SigningKeys};
pub use namespaces::{NamespaceRow, Namespaces};
pub use outbox::{
    AccessChangedData, AddedSnapshotData, CommitRefusedData, CreatedData, DamageData, DamagedFileData, Event, EventData,
    FORWARDED_COMMIT, FunctionStoredData, JobEventData, NamespaceCreatedData, NamespaceUpdatedData, NewEvent, NewReceipt,
    NoEventData, Outbox, OutboxLog, ProtectedData, Receipt, ReceiptKey, RenamedData, TableDropEndedData, TableDroppedData,
    TableIdentityData, TableRecoveredData, TableRegisteredData, TableUnregisteredData, TableUpdatedData, ViewDroppedData,
    ViewReplacedData,
};
pub use outputs::{Outputs, PendingOutput};
pub use principals::Principals;
pub use quarantine::{NewQuarantine, Quarantine, QuarantineByJob, QuarantineKind, QuarantineState, QuarantinedFile};
pub use scan_plans::{RememberedPlan, ScanPlans};
use seen::SeenChanges;
pub use servers::HEARTBEATS_PER_TIMEOUT;
use servers::Heartbeats;
pub use servers::Servers;
pub use sessions::{PageSession, Sessions};
pub use tables::{
    CommitLease, DroppedTable, FoundPlace, LEASE_TIME, MergedSnapshot, NewTabular, PlaceClaim, PlaceCursor, PlaceRange,
    PointerSwap, SoftDrop, Tables, TabularKind, TabularRow,
};
pub use tokens::{NewToken, TokenRow, Tokens};
pub use warehouses::{Epoch, Warehouse, Warehouses};

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
    /// The one connection for writes that a power cut may lose.
    relaxed_writer: AnyPool,
    /// The identifier of this process among the servers on the database. It is new at each start.
    instance: Uuid,
    /// True once this process has a row in the table of servers. From then on the others may count it as dead.
    registered: Arc<AtomicBool>,
    /// The times of the heartbeats of this process.
    heartbeats: Arc<Heartbeats>,
    /// The changes of this server that the database confirmed.
    seen: Arc<SeenChanges>,
    /// The job that this process took last, if the database did not confirm it.
    unconfirmed_job: Arc<Mutex<Option<Job>>>,
}

impl State {
    /// Opens or creates the database, and migrates its schema.
    ///
    /// # Errors
    ///
    /// - Returns [`Path`](StateError::Path) if the path of the SQLite file is not UTF-8.
    /// - Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database can't be opened, created or written.
    /// - Returns [`Migrate`](StateError::Migrate) if a migration fails, or one that was applied differs from that of this release.
    /// - Returns [`LaterSchema`](StateError::LaterSchema) if a later release removed what this one needs, or a migration was
    ///   applied that belongs to no release.
    pub async fn open(database: Database) -> Result<Self> {
        let writer = database.pool(PoolUse::Changes).await?;
        database.migrate(&writer).await?;
        // A server may be started on a backup, whose header does not count from then on. Only SQLite files are backups.
        if !database.is_postgres() {
            let mut connection = writer.acquire().await?;
            backup::remove_header(&mut connection).await?;
        }
        let relaxed_writer = database.pool(PoolUse::RelaxedWrites).await?;
        let readers = database.pool(PoolUse::Reads).await?;
        let registered = Arc::new(AtomicBool::new(false));
        let (heartbeats, unconfirmed_job) = (Arc::default(), Arc::default());
        let instance = Uuid::now_v7();
        let seen = Arc::new(SeenChanges::new(instance));
        Ok(Self { database, readers, writer, relaxed_writer, instance, registered, heartbeats, seen, unconfirmed_job })
    }

    /// Returns the handle for the rules of access control.
    pub const fn access(&self) -> Access<'_> {
        Access { state: self }
    }

    /// Returns the handle for the audit trail.
    pub const fn audit(&self) -> AuditLog<'_> {
        AuditLog { state: self }
    }

    /// Returns the handle for the catalog entries: tables, views, dropped tables, and their places.
    pub const fn tables(&self) -> Tables<'_> {
        Tables { state: self }
    }

    /// Returns the handle for the namespaces and SQL functions.
    pub const fn namespaces(&self) -> Namespaces<'_> {
        Namespaces { state: self }
    }

    /// Returns the handle for the warehouses and their epochs.
    pub const fn warehouses(&self) -> Warehouses<'_> {
        Warehouses { state: self }
    }

    /// Returns the handle for the pending outputs.
    pub const fn outputs(&self) -> Outputs<'_> {
        Outputs { state: self }
    }

    /// Returns the handle for the quarantined files and the orphan candidates.
    pub const fn quarantine(&self) -> Quarantine<'_> {
        Quarantine { state: self }
    }

    /// Returns the handle for the jobs: records, logs, queue, and leases of external workers.
    pub const fn jobs(&self) -> Jobs<'_> {
        Jobs { state: self }
    }

    /// Returns the handle for the outbox: events, receipts, cursors of sinks, and delivered states.
    pub const fn outbox(&self) -> OutboxLog<'_> {
        OutboxLog { state: self }
    }

    /// Returns the handle for the facts about all tables: health, use, damage, reports of engines, and decisions of the autopilot.
    pub const fn fleet(&self) -> Fleet<'_> {
        Fleet { state: self }
    }

    /// Returns the handle for the server processes on the database.
    pub const fn servers(&self) -> Servers<'_> {
        Servers { state: self }
    }

    /// Returns the handle for the principals that have one token of their own.
    pub const fn principals(&self) -> Principals<'_> {
        Principals { state: self }
    }

    /// Returns the handle for the tokens of principals.
    pub const fn tokens(&self) -> Tokens<'_> {
        Tokens { state: self }
    }

    /// Returns the handle for the keys that authenticate what clients carry for the servers.
    pub const fn keys(&self) -> SigningKeys<'_> {
        SigningKeys { state: self }
    }

    /// Returns the handle for what the servers have to remember of scan plans.
    pub const fn scan_plans(&self) -> ScanPlans<'_> {
        ScanPlans { state: self }
    }

    /// Returns the handle for the sessions of the web page.
    pub const fn sessions(&self) -> Sessions<'_> {
        Sessions { state: self }
    }

    /// Returns the job whose taking the database did not confirm.
    fn unconfirmed_job(&self) -> MutexGuard<'_, Option<Job>> {
        self.unconfirmed_job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that other servers may work on the database at the same time.
    pub const fn is_shared(&self) -> bool {
        self.database.is_postgres()
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
    /// row in the table of servers: a server that the others count as dead changes nothing. The changes of a registered process
    /// are counted, and end with [`State::commit`].
    ///
    /// # Errors
    ///
    /// - Returns [`LostChanges`](StateError::LostChanges) if the database lost changes that it had confirmed to this server, or was
    ///   declared to be behind. The next change goes on.
    /// - Returns [`Fenced`](StateError::Fenced) if the other servers count this one as dead.
    /// - Returns [`Corrupt`](StateError::Corrupt) if what is known of earlier changes can't be read, and
    ///   [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    async fn begin(&self) -> Result<Transaction<'static, Any>> {
        let mut tx = self.database.begin_exclusive(&self.writer).await?;
        self.seen.set_open_change(0);
        if !self.registered.load(Ordering::Acquire) {
            return Ok(tx);
        }
        let Some((number, living)) = self.count_change(&mut tx).await? else {
            // The connection is the only one for changes, and is needed again.
            tx.rollback().await?;
            self.note_losses().await?;
            return Err(StateError::LostChanges);
        };
        if self.database.is_postgres() && !living {
            return Err(StateError::Fenced);
        }
        self.seen.set_open_change(number);
        Ok(tx)
    }

    /// Commits a change that [`State::begin`] began, and remembers that the database confirmed it.
    ///
    /// # Errors
    ///
    /// Returns the error of the driver, after which the change may have been made.
    async fn commit(&self, tx: Transaction<'static, Any>) -> std::result::Result<(), sqlx::Error> {
        let number = self.seen.open_change();
        tx.commit().await?;
        self.seen.confirm(number);
        Ok(())
    }

    /// Begins a transaction of writes that a power cut may lose. A server that counts as dead can still commit it.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    async fn begin_relaxed(&self) -> Result<Transaction<'static, Any>> {
        self.database.begin(&self.relaxed_writer, PoolUse::RelaxedWrites).await
    }

    /// Unregisters this process and closes every connection. SQLite then moves its write-ahead log into the database file.
    pub async fn close(&self) {
        if let Err(error) = self.servers().unregister().await {
            tracing::warn!(%error, "this server could not be unregistered; the others count it as dead after state.dead_seconds");
        }
        self.seen.save().await;
        self.readers.close().await;
        self.relaxed_writer.close().await;
        self.writer.close().await;
    }
}

/// Reads a column that holds a flag: 0 for false, any other number for true.
fn flag(row: &AnyRow, column: usize) -> Result<bool> {
    Ok(row.try_get::<i64, _>(column)? != 0)
}

/// Reads the text of a UUID column as a typed identifier.
///
/// # Errors
///
/// Returns [`Corrupt`](StateError::Corrupt) if the text is not an identifier of this type.
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
    use crate::migrations::SQLITE;

    /// A database with the schema of the first release and a table in it is opened by this release.
    #[tokio::test]
    async fn a_database_of_the_first_schema_is_brought_up_to_date_with_what_is_in_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("esker.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let pool = SqlitePoolOptions::new().connect_with(options).await.expect("opened");
        let first = SQLITE.iter().filter(|m| m.version == 1).cloned().collect::<Vec<_>>();
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
        let (warehouse, location) = state.warehouses().ensure("default", "file:///other", false).await.expect("there");
        assert_eq!((warehouse, location.as_str()), (Warehouse { id: 1, case_insensitive: false }, "file:///w"));
        let namespace = NamespaceName::new(vec!["N".to_owned()]).expect("valid");
        assert_eq!(state.namespaces().get(warehouse, &namespace).await.expect("there").properties["a"], "b");
        let row = state.tables().table(warehouse, &TableName::new(namespace, "T").expect("valid")).await.expect("there");
        assert!(row.owned && !row.protected);
        assert_eq!((row.kind, row.warehouse), (TabularKind::Table, 1));
        let quarantine = state.quarantine().of_table(row.id).await.expect("read");
        let kinds: Vec<QuarantineKind> = quarantine.iter().map(|file| file.record.kind).collect();
        assert_eq!(kinds, [QuarantineKind::Orphan, QuarantineKind::Own], "earlier versions knew orphans by their reason");
        let (found, _) = state.tables().places_in(warehouse, &PlaceRange::below("file:///w"), None).await.expect("read");
        assert_eq!(found, [FoundPlace { owner: row, location: "file:///w/n/t".to_owned(), dropped: false }]);
    }
}
