//! The two databases that state can live in, and what differs between them: how they are opened, how a change begins, whose clock
//! counts. Everything else of this crate is one text for both.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::migrate::{MigrateDatabase, Migrator};
use sqlx::{Any, AnyConnection, AnyPool, Connection, Transaction};

use crate::{Result, StateError};

/// Where state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A file, for one server.
    Sqlite(PathBuf),
    /// A PostgreSQL database for any number of servers: `postgres://user@host/database`.
    Postgres(String),
}

/// Who writes one after the other: the transactions that clients are told about. The lock lives as long as its transaction, so
/// that nothing has to release it, whatever becomes of the connection.
const WRITE_LOCK: &str = "SELECT CAST(pg_advisory_xact_lock(5062178905331) AS TEXT)";
const MIGRATION_LOCK: &str = "SELECT CAST(pg_advisory_xact_lock(5062178905332) AS TEXT)";

/// A server that hangs in the middle of a change must not keep the others from theirs.
const POSTGRES_SESSION: &str = "SET idle_in_transaction_session_timeout = '15s'; SET lock_timeout = '30s'";
/// An intent that a power cut loses leaves an orphan behind, which is found as such.
const POSTGRES_INTENTS: &str = "SET synchronous_commit = off";

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// What a pool's connections are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Changes that a client is told about: on disk before they are confirmed.
    Changes,
    /// Intents, which a killed process must leave behind but a power cut may lose.
    Intents,
    /// Reads.
    Reads,
}

impl Database {
    /// The database that a URL means; SQLite's file, where none is given.
    pub fn of(url: Option<&str>, file: &Path) -> Result<Self> {
        match url {
            None => Ok(Self::Sqlite(file.to_owned())),
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => Ok(Self::Postgres(url.to_owned())),
            // The URL may hold a password.
            Some(url) => Err(StateError::Url(url.split_once(':').map_or("", |(scheme, _)| scheme).to_owned())),
        }
    }

    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    fn url(&self) -> Result<String> {
        match self {
            Self::Postgres(url) => Ok(url.clone()),
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

    fn session(&self, purpose: Use) -> String {
        match self {
            Self::Postgres(_) if purpose == Use::Intents => format!("{POSTGRES_SESSION}; {POSTGRES_INTENTS}"),
            Self::Postgres(_) => POSTGRES_SESSION.to_owned(),
            Self::Sqlite(_) => {
                let synchronous = if purpose == Use::Changes { "FULL" } else { "NORMAL" };
                format!(
                    "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON;
                     PRAGMA synchronous = {synchronous}"
                )
            }
        }
    }

    /// Connections for one use. Those that change something are one each: writers queue here, not on the database's lock.
    pub(crate) async fn pool(&self, purpose: Use) -> Result<AnyPool> {
        install_default_drivers();
        let (session, sqlite) = (self.session(purpose), !self.is_postgres());
        // Readers begin none.
        let transactions = sqlite && purpose != Use::Reads;
        let pool = AnyPoolOptions::new()
            .max_connections(if purpose == Use::Reads { 4 } else { 1 })
            .acquire_timeout(Duration::from_secs(40))
            .test_before_acquire(!sqlite)
            .after_connect(move |connection, _| {
                let session = sqlx::AssertSqlSafe(session.clone());
                Box::pin(async move { sqlx::raw_sql(session).execute(connection).await.map(drop) })
            })
            .before_acquire(move |connection, _| {
                Box::pin(async move { Ok(!transactions || is_between_transactions(connection).await) })
            });
        let url = self.url()?;
        match pool.clone().connect(&url).await {
            // "invalid_catalog_name": made, where the user may. Somebody else may make it at the same time.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("3D000") => {
                let made = Any::create_database(&url).await;
                pool.connect(&url).await.map_err(|error| made.err().unwrap_or(error).into())
            }
            opened => Ok(opened?),
        }
    }

    /// A connection by itself, with nothing set.
    pub(crate) async fn connection(&self) -> std::result::Result<AnyConnection, sqlx::Error> {
        install_default_drivers();
        let url = self.url().map_err(|e| sqlx::Error::Configuration(Box::new(e)))?;
        AnyConnection::connect(&url).await
    }

    /// Brings the schema up to date, as one change: servers that start at the same time wait for one another.
    pub(crate) async fn migrate(&self, pool: &AnyPool) -> Result<()> {
        let mut tx = self.begin(pool).await?;
        if self.is_postgres() {
            sqlx::query(MIGRATION_LOCK).execute(&mut *tx).await?;
        }
        let migrator = if self.is_postgres() { &POSTGRES } else { &SQLITE };
        let unlocked = Migrator { locking: false, ..Migrator::with_migrations(migrator.iter().cloned().collect()) };
        unlocked.run_direct(None, &mut *tx, false).await?;
        tx.commit().await?;
        Ok(())
    }

    /// A transaction that is going to write. SQLite's begins with the write lock: one that reads first and writes later fails at once,
    /// as no waiting could help it, if another connection has committed between.
    pub(crate) async fn begin(&self, pool: &AnyPool) -> Result<Transaction<'static, Any>> {
        Ok(pool.begin_with(if self.is_postgres() { "BEGIN" } else { "BEGIN IMMEDIATE" }).await?)
    }

    /// A transaction with which no other change can interleave, from this server or another one.
    pub(crate) async fn begin_alone(&self, pool: &AnyPool) -> Result<Transaction<'static, Any>> {
        let mut tx = self.begin(pool).await?;
        if self.is_postgres() {
            sqlx::query(WRITE_LOCK).execute(&mut *tx).await?;
        }
        Ok(tx)
    }

    /// Milliseconds since the epoch by the clock that all servers on this database share.
    pub(crate) const fn clock(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
            Self::Postgres(_) => "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// What tells this database from a copy of it: the file's number in its file system, the cluster's identifier and the database's
    /// number.
    pub(crate) async fn identity(&self, pool: &AnyPool) -> Result<String> {
        match self {
            Self::Sqlite(path) => {
                let found = std::fs::metadata(path).map_err(|source| StateError::File { path: path.clone(), source })?;
                Ok(format!("sqlite-{}", std::os::unix::fs::MetadataExt::ino(&found)))
            }
            Self::Postgres(_) => {
                let sql = "SELECT 'postgres-' || system_identifier || '-' || (SELECT oid FROM pg_database WHERE datname = current_database())
                           FROM pg_control_system()";
                Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
            }
        }
    }
}

/// The checksum of a step of SQLite's schema that this version knows.
pub(crate) fn known_step(version: i64) -> Option<Vec<u8>> {
    SQLITE.iter().find(|step| step.version == version).map(|step| step.checksum.to_vec())
}

/// Whether a pooled connection is out of any transaction; one that is not is thrown away.
///
/// A COMMIT that fails (on a full disk, say) leaves SQLite's transaction open and its write lock held, and the next user of
/// the connection would go on in it unawares.
async fn is_between_transactions(connection: &mut AnyConnection) -> bool {
    sqlx::raw_sql("BEGIN; ROLLBACK").execute(connection).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_database_and_its_password_is_not_repeated() {
        let file = Path::new("/d/esker.db");
        assert_eq!(Database::of(None, file).expect("valid"), Database::Sqlite(file.to_owned()));
        assert!(Database::of(Some("postgres://u:p@h/d"), file).expect("valid").is_postgres());
        let refused = Database::of(Some("mysql://u:secret@h/d"), file).expect_err("refused").to_string();
        assert!(refused.contains("mysql") && !refused.contains("secret"), "{refused}");
        assert_eq!(Database::Sqlite("/a b/ü?.db".into()).url().expect("valid"), "sqlite:/a%20b/%C3%BC%3F.db?mode=rwc");
    }
}
