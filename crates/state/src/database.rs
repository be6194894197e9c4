//! The two kinds of databases, and all that differs between them: how they are opened, how a change begins, whose clock counts, and
//! how text compares.
//!
//! All other SQL of this crate is one text for both. Changes run one at a time: on SQLite under its write lock, on PostgreSQL under
//! an advisory lock that lives as long as its transaction. Start reading with [`Database::pool`] and [`Database::begin_exclusive`].

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::migrate::{MigrateDatabase, Migrator};
use sqlx::{Any, AnyConnection, AnyPool, Connection, Transaction};

use crate::migrations::{POSTGRES, SQLITE, refusal_of_database};
use crate::{Result, StateError};

/// The database that holds the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// An SQLite file, for one server.
    Sqlite(PathBuf),
    /// A PostgreSQL database for any number of servers: `postgres://user@host/database`.
    Postgres(String),
    /// A PostgreSQL database behind a pooler that lends a session for one transaction: no setting of a session can be relied on.
    PooledPostgres(String),
}

/// Takes the lock under which the transactions that clients get an answer to run one after the other.
///
/// The lock lives as long as its transaction. So nothing has to release it, whatever becomes of the connection.
const WRITE_LOCK: &str = "SELECT CAST(pg_advisory_xact_lock(5062178905331) AS TEXT)";
/// Takes the lock under which servers migrate the schema one after the other.
const MIGRATION_LOCK: &str = "SELECT CAST(pg_advisory_xact_lock(5062178905332) AS TEXT)";

/// The settings of each session. A server that hangs in the middle of a change must not block the others for longer than this.
const POSTGRES_SESSION: &str = "SET idle_in_transaction_session_timeout = '15s'; SET lock_timeout = '30s'";
/// The setting of sessions for intents: their commits don't wait for the disk. A file whose intent a power cut loses is found as an
/// orphan.
const POSTGRES_RELAXED: &str = "SET synchronous_commit = off";

/// The beginning of a transaction behind a pooler, with the settings that a session has without one.
const POOLED_BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '15s'; SET LOCAL lock_timeout = '30s'";
/// The beginning of a transaction for intents behind a pooler.
///
/// A setting of the session would stay in a session that the pooler then lends for a change that a client gets an answer to.
const POOLED_RELAXED_BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '15s'; SET LOCAL lock_timeout = '30s'; \
     SET LOCAL synchronous_commit = off";

/// The use of the connections of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolUse {
    /// Changes that a client gets an answer to: on disk before they are confirmed.
    Changes,
    /// Writes that a killed process must leave behind but a power cut may lose.
    RelaxedWrites,
    /// Reads.
    Reads,
}

impl Database {
    /// Returns the database that a URL names, or the SQLite file if no URL is given.
    ///
    /// # Errors
    ///
    /// Returns [`Url`](StateError::Url) if the URL does not begin with `postgres://` or `postgresql://`.
    pub fn from_url(url: Option<&str>, file: &Path) -> Result<Self> {
        match url {
            None => Ok(Self::Sqlite(file.to_owned())),
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => Ok(Self::Postgres(url.to_owned())),
            // The URL may hold a password.
            Some(url) => Err(StateError::Url(url.split_once(':').map_or("", |(scheme, _)| scheme).to_owned())),
        }
    }

    /// Returns the same database behind a pooler in transaction mode. SQLite has none.
    #[must_use]
    pub fn behind_pooler(self) -> Self {
        match self {
            Self::Postgres(url) => Self::PooledPostgres(url),
            other => other,
        }
    }

    /// Checks for PostgreSQL.
    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_) | Self::PooledPostgres(_))
    }

    /// Returns the URL by which the driver opens the database. It creates a missing SQLite file.
    ///
    /// # Errors
    ///
    /// Returns [`Path`](StateError::Path) if the path of the file is not UTF-8.
    fn url(&self) -> Result<String> {
        match self {
            Self::Postgres(url) | Self::PooledPostgres(url) => Ok(url.clone()),
            Self::Sqlite(path) => {
                let text = path.to_str().ok_or_else(|| StateError::Path(path.clone()))?;
                let mut url = String::from("sqlite:");
                for byte in text.bytes() {
                    match byte {
                        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => url.push(char::from(byte)),
                        _ => url.push_str(&format!("%{byte:02X}")),
                    }
                }
                Ok(url + "?mode=rwc")
            }
        }
    }

    /// Returns the statements that set up a connection. Behind a pooler there are none.
    fn session(&self, purpose: PoolUse) -> String {
        match self {
            Self::Postgres(_) if purpose == PoolUse::RelaxedWrites => format!("{POSTGRES_SESSION}; {POSTGRES_RELAXED}"),
            Self::Postgres(_) => POSTGRES_SESSION.to_owned(),
            Self::PooledPostgres(_) => String::new(),
            Self::Sqlite(_) => {
                let synchronous = if purpose == PoolUse::Changes { "FULL" } else { "NORMAL" };
                format!(
                    "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON;
                     PRAGMA synchronous = {synchronous}"
                )
            }
        }
    }

    /// Opens the connections for one use, and creates the database if it does not exist.
    ///
    /// The uses that write have one connection each: writers queue for it, not on the lock of the database.
    ///
    /// # Errors
    ///
    /// Returns [`Path`](StateError::Path) if the path of the file is not UTF-8, and [`Full`](StateError::Full) or
    /// [`Sql`](StateError::Sql) if the database can't be opened or created.
    pub(crate) async fn pool(&self, purpose: PoolUse) -> Result<AnyPool> {
        install_default_drivers();
        let (session, sqlite) = (self.session(purpose), !self.is_postgres());
        let pool = AnyPoolOptions::new()
            .max_connections(if purpose == PoolUse::Reads { 4 } else { 1 })
            .acquire_timeout(Duration::from_secs(40))
            .test_before_acquire(!sqlite)
            .after_connect(move |connection, _| {
                let session = session.clone();
                Box::pin(async move {
                    match session.is_empty() {
                        true => Ok(()),
                        false => sqlx::raw_sql(sqlx::AssertSqlSafe(session)).execute(connection).await.map(drop),
                    }
                })
            })
            .before_acquire(move |connection, _| {
                Box::pin(async move { Ok(!sqlite || is_between_transactions(connection, purpose).await) })
            });
        let url = self.url()?;
        if let Self::Sqlite(path) = self {
            create_private(path);
        }
        match pool.clone().connect(&url).await {
            // "invalid_catalog_name": the database does not exist. Another server may create it at the same time.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("3D000") => {
                let made = Any::create_database(&url).await;
                pool.connect(&url).await.map_err(|error| made.err().unwrap_or(error).into())
            }
            opened => Ok(opened?),
        }
    }

    /// Opens a single connection without any settings.
    pub(crate) async fn connection(&self) -> std::result::Result<AnyConnection, sqlx::Error> {
        install_default_drivers();
        let url = self.url().map_err(|e| sqlx::Error::Configuration(Box::new(e)))?;
        AnyConnection::connect(&url).await
    }

    /// Migrates the schema in one transaction. Servers that start at the same time wait for each other.
    ///
    /// No change is under way meanwhile. A change of another server may have locked one table and want the next one, whose lock the
    /// migration has: neither would get on.
    ///
    /// A database that a later release has migrated is accepted, unless a migration removed what this release needs.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Database::migrate_in`], and [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the
    /// transaction can't be begun or committed.
    pub(crate) async fn migrate(&self, pool: &AnyPool) -> Result<()> {
        let mut tx = self.begin_exclusive(pool).await?;
        self.migrate_in(&mut tx, None).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Migrates the schema in a transaction that is open already. With `only`, no other migrations than these are applied.
    ///
    /// # Errors
    ///
    /// Returns [`Migrate`](StateError::Migrate) if a migration fails for any reason, or one that was applied differs from that of
    /// this release. Returns [`LaterSchema`](StateError::LaterSchema) if this release can't run on the database, and
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    pub(crate) async fn migrate_in(&self, connection: &mut AnyConnection, only: Option<&BTreeSet<i64>>) -> Result<()> {
        if self.is_postgres() {
            sqlx::query(MIGRATION_LOCK).execute(&mut *connection).await?;
        }
        let known = self.migrations();
        let steps = known.iter().filter(|step| only.is_none_or(|only| only.contains(&step.version))).cloned().collect();
        // Migrations that this release does not know are no error of the driver; they are judged below.
        let migrator = Migrator { locking: false, ignore_missing: true, ..Migrator::with_migrations(steps) };
        // Up to migration 0: makes the table of migrations, if there is none.
        migrator.run_direct(Some(0), &mut *connection, false).await?;
        if let Some(why) = refusal_of_database(&mut *connection, known).await? {
            return Err(StateError::LaterSchema(why));
        }
        migrator.run_direct(None, connection, false).await?;
        Ok(())
    }

    /// Returns the migrations of this release for this kind of database.
    pub(crate) fn migrations(&self) -> &'static Migrator {
        if self.is_postgres() { &POSTGRES } else { &SQLITE }
    }

    /// Begins a transaction that is going to write.
    ///
    /// On SQLite, it begins with the write lock. A transaction that reads first and writes later fails at once, without waiting, if
    /// another connection has committed in between.
    pub(crate) async fn begin(&self, pool: &AnyPool, purpose: PoolUse) -> Result<Transaction<'static, Any>> {
        let begin = match self {
            Self::Sqlite(_) => "BEGIN IMMEDIATE",
            Self::Postgres(_) => "BEGIN",
            Self::PooledPostgres(_) if purpose == PoolUse::RelaxedWrites => POOLED_RELAXED_BEGIN,
            Self::PooledPostgres(_) => POOLED_BEGIN,
        };
        Ok(pool.begin_with(begin).await?)
    }

    /// Begins a transaction with which no other change can interleave, from this server or another one.
    pub(crate) async fn begin_exclusive(&self, pool: &AnyPool) -> Result<Transaction<'static, Any>> {
        let mut tx = self.begin(pool, PoolUse::Changes).await?;
        if self.is_postgres() {
            sqlx::query(WRITE_LOCK).execute(&mut *tx).await?;
        }
        Ok(tx)
    }

    /// Begins a transaction that reads the database as it is at one moment, and writes nothing.
    pub(crate) async fn begin_snapshot(&self, pool: &AnyPool) -> Result<Transaction<'static, Any>> {
        Ok(pool.begin_with(if self.is_postgres() { "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" } else { "BEGIN" }).await?)
    }

    /// Returns the SQL expression of the present time, in milliseconds since the Unix epoch, by the clock that all servers on this
    /// database share.
    pub(crate) const fn clock_sql(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
            Self::Postgres(_) | Self::PooledPostgres(_) => "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// Returns what follows an expression of text, so that it compares by its bytes though its column was not declared to.
    pub(crate) const fn by_bytes(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "",
            Self::Postgres(_) | Self::PooledPostgres(_) => " COLLATE \"C\"",
        }
    }

    /// Returns a text that tells this database from a copy of it.
    ///
    /// It is the inode of the SQLite file, or the identifier of the PostgreSQL cluster with the number of the database.
    pub(crate) async fn identity(&self, pool: &AnyPool) -> Result<String> {
        match self {
            Self::Sqlite(path) => {
                let found = std::fs::metadata(path).map_err(|source| StateError::File { path: path.clone(), source })?;
                Ok(format!("sqlite-{}", std::os::unix::fs::MetadataExt::ino(&found)))
            }
            Self::Postgres(_) | Self::PooledPostgres(_) => {
                let sql = "SELECT 'postgres-' || system_identifier || '-' || (SELECT oid FROM pg_database WHERE datname = current_database())
                           FROM pg_control_system()";
                Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
            }
        }
    }
}

/// The mode of the database and its backups: their owner alone reads and writes them.
pub(crate) const PRIVATE_MODE: u32 = 0o600;

/// Makes an empty file that its owner alone may read, if there is none. SQLite gives the files beside it the same mode.
///
/// A failure is left to SQLite, which can't make the file either, and says why.
pub(crate) fn create_private(path: &Path) {
    drop(File::options().write(true).create_new(true).mode(PRIVATE_MODE).open(path));
}

/// Returns the checksum of a migration of SQLite's schema, or `None` if this version does not know it.
pub(crate) fn sqlite_migration_checksum(version: i64) -> Option<Vec<u8>> {
    SQLITE.iter().find(|step| step.version == version).map(|step| step.checksum.to_vec())
}

/// Checks that a pooled connection is outside of any transaction, by the driver's account and by SQLite's. A connection that is
/// not is closed.
///
/// SQLite rolls back by itself when a statement finds the disk full. The driver's own ROLLBACK then fails, and the driver counts
/// the transaction as open for good: it refuses every further one. The other way round, a COMMIT that fails may leave SQLite's
/// transaction open and its write lock held. The next user of the connection would go on in that transaction without noticing.
async fn is_between_transactions(connection: &mut AnyConnection, purpose: PoolUse) -> bool {
    if connection.is_in_transaction() {
        return false;
    }
    // Only what wrote can have failed to commit. Reads are many, and do without the question.
    purpose == PoolUse::Reads || sqlx::raw_sql("BEGIN; ROLLBACK").execute(connection).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;
    use crate::conformance::databases;

    #[test]
    fn a_url_names_a_database_and_its_password_is_not_repeated() {
        let file = Path::new("/d/esker.db");
        assert_eq!(Database::from_url(None, file).expect("valid"), Database::Sqlite(file.to_owned()));
        let postgres = Database::from_url(Some("postgres://u:p@h/d"), file).expect("valid");
        assert!(postgres.is_postgres() && postgres.clone().behind_pooler().is_postgres());
        assert_eq!(postgres.clone().behind_pooler().url().expect("valid"), postgres.url().expect("valid"));
        assert!(!Database::Sqlite(file.to_owned()).behind_pooler().is_postgres());
        let refused = Database::from_url(Some("mysql://u:secret@h/d"), file).expect_err("refused").to_string();
        assert!(refused.contains("mysql") && !refused.contains("secret"), "{refused}");
        assert_eq!(Database::Sqlite("/a b/ü?.db".into()).url().expect("valid"), "sqlite:/a%20b/%C3%BC%3F.db?mode=rwc");
    }

    /// A server of the release before enters a table while a newer one starts: it locks the entries, then the places.
    #[tokio::test]
    async fn a_migration_waits_for_a_change_and_does_not_get_in_its_way() {
        let dir = tempfile::tempdir().expect("a directory");
        for database in databases(&dir).into_iter().filter(Database::is_postgres) {
            let pool = database.pool(PoolUse::Changes).await.expect("opened");
            let before: BTreeSet<i64> =
                database.migrations().iter().map(|step| step.version).filter(|version| *version < 28).collect();
            let mut tx = database.begin_exclusive(&pool).await.expect("begun");
            database.migrate_in(&mut tx, Some(&before)).await.expect("migrated");
            tx.commit().await.expect("committed");

            let mut change = database.begin_exclusive(&pool).await.expect("begun");
            sqlx::query("UPDATE tabular SET updated_ms = 1").execute(&mut *change).await.expect("locked");
            let going_on = async {
                let mut observer = database.connection().await.expect("opened");
                let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted
                               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
                while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut observer).await.expect("counted") == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                sqlx::query("DELETE FROM place").execute(&mut *change).await.expect("the migration has no lock yet");
                change.commit().await.expect("committed");
            };
            let (opened, ()) = tokio::join!(State::open(database.clone()), going_on);
            opened.expect("migrated").close().await;
        }
    }
}
