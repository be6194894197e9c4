//! [`StateError`]: the failures of the state database, with their codes.
//!
//! Every function of this crate may also fail with one of the general variants: [`Sql`](StateError::Sql),
//! [`Full`](StateError::Full), or, if it changes something, [`Fenced`](StateError::Fenced) or
//! [`LostChanges`](StateError::LostChanges). After
//! [`Ambiguous`](StateError::Ambiguous) it is unknown whether a change was made. A function that never returns it reports an
//! unconfirmed commit as `Sql`, so its change may have been made too: these changes can be repeated.

use esker_types::{Coded, ErrorCode};

/// A failed operation on the state database.
///
/// The texts that begin with a capital letter are worded as the reference implementation words them: its clients' tests compare the
/// text.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The namespace does not exist.
    #[error("Namespace does not exist: {0}")]
    NoSuchNamespace(String),
    /// The table does not exist.
    #[error("Table does not exist: {0}")]
    NoSuchTable(String),
    /// The view does not exist.
    #[error("View does not exist: {0}")]
    NoSuchView(String),
    /// The SQL function does not exist.
    #[error("Function does not exist: {0}")]
    NoSuchFunction(String),
    /// No dropped table has this identifier.
    #[error("no dropped table has the id {0}; it was undropped, or the time for that is over")]
    NotDropped(String),
    /// The namespace, table or view is protected from being dropped.
    #[error("{kind} {name} is protected from being dropped; lift the protection first")]
    Protected {
        /// The kind of the protected entry: `namespace`, `table` or `view`.
        kind: &'static str,
        /// The full name of the entry.
        name: String,
    },
    /// Another request with the same idempotency key was carried out at the same time. A repetition gets its outcome.
    #[error("another request with the idempotency key {0} was carried out at the same time; repeat the request")]
    DuplicateKey(uuid::Uuid),
    /// The idempotency key belongs to a different job.
    #[error("the idempotency key {key} belongs to another job, {job}; use a new key")]
    KeyTaken {
        /// The idempotency key.
        key: String,
        /// The identifier of the job that has the key.
        job: String,
    },
    /// The name of a namespace, table or view is taken.
    #[error("{kind} already exists: {name}")]
    AlreadyExists {
        /// The entry that has the name, in the words of the reference implementation: `Namespace`, `Table`, `View with same name`,
        /// …
        kind: &'static str,
        /// The full name.
        name: String,
    },
    /// A table or view can't be renamed, because the new name is taken.
    #[error("Cannot rename {from} to {to}. {by} already exists")]
    RenameTaken {
        /// The present full name.
        from: String,
        /// The new full name.
        to: String,
        /// The kind of the entry that has the new name: `Table` or `View`.
        by: &'static str,
    },
    /// The namespace contains tables, views, functions or namespaces.
    #[error("Namespace is not empty: {0}")]
    NotEmpty(String),
    /// The rules of access control have another version than the one that a change was made for.
    #[error("the rules of access control were changed at the same time; repeat the request")]
    RulesChanged,
    /// The commit was sent, but not confirmed. The change may or may not have been made.
    #[error("the state database did not confirm the commit, which may or may not have been applied: {0}")]
    Ambiguous(sqlx::Error),
    /// A stored value can't be read.
    #[error("the state database holds a value that can't be read: {0}")]
    Corrupt(String),
    /// The schema could not be migrated.
    #[error("the state database could not be migrated: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A later release has migrated the database, and this release can't run on it.
    #[error("this release can't run on the state database: {0}; start the later release, or restore a backup of before")]
    LaterSchema(String),
    /// The configured URL has a scheme of no supported database. The field holds the scheme only: the URL may hold a password.
    #[error("state.url: no database of the scheme {0:?} is supported; give postgres://USER@HOST/DATABASE, or nothing for SQLite")]
    Url(String),
    /// A file can't be restored in the place of the database.
    #[error("{}: {why}", path.display())]
    UnusableBackup {
        /// The file that was given.
        path: std::path::PathBuf,
        /// The reason for which the file can't be used.
        why: String,
    },
    /// A file of the database, or a backup, can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The path of the file.
        path: std::path::PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// There is no database to back up at `state.url`, or it is none of Esker's.
    #[error("there is no state database of Esker at state.url; check the URL")]
    NoDatabase,
    /// A later release has migrated the database that is to be backed up. This release does not know what it would leave out.
    #[error("the state database has migration {version} ({name}) of a later release; back it up with that release")]
    BackupOfLater {
        /// The number of the migration.
        version: i64,
        /// The name of the migration.
        name: String,
    },
    /// A backup is to be restored, and the database is not empty.
    #[error("the state database is not empty: {0}; give --replace to put the backup in its place")]
    Occupied(String),
    /// Servers work on the database that a backup is to replace.
    #[error("{0} on the state database wrote a heartbeat within state.dead_seconds; stop all servers first")]
    ServersRunning(String),
    /// The path of the database is not UTF-8.
    #[error("the path of the state database is not UTF-8: {}", .0.display())]
    Path(std::path::PathBuf),
    /// A file can't become part of its table again, because its deletion has begun or is done.
    #[error("{0} is being deleted or is deleted already; it can't become part of its table again")]
    BeingDeleted(String),
    /// The other servers on this database count this one as dead, because it wrote no heartbeat for `state.dead_seconds`.
    ///
    /// It can change nothing any more and must be started again.
    #[error("this server wrote no heartbeat for state.dead_seconds, and the other servers count it as dead; start it again")]
    Fenced,
    /// The database lost changes that it had confirmed, such as in a fail-over, or was declared to be behind. Nothing was changed.
    ///
    /// By now the database counts as one that is behind. The caller must look again before it repeats the change.
    #[error("the state database lost changes that it had confirmed, or was declared to be behind; repeat the request")]
    LostChanges,
    /// A commit was sent to this server in a term in which it does not hold the lease of the table any more. Nothing was changed.
    #[error("the lease of the commits to table {table} is not this server's in the term {term} any more; repeat the request")]
    LeaseEnded {
        /// The identifier of the table.
        table: String,
        /// The term.
        term: i64,
    },
    /// The disk under the database is full.
    #[error("the disk under the state database is full; free space and repeat the request")]
    Full,
    /// Any other failure of the database.
    #[error("state database: {0}")]
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for StateError {
    fn from(error: sqlx::Error) -> Self {
        // The code of SQLITE_FULL is 13, that of PostgreSQL's disk_full 53100.
        match error.as_database_error().and_then(|e| e.code()) {
            Some(code) if code == "13" || code == "53100" => Self::Full,
            _ => Self::Sql(error),
        }
    }
}

impl StateError {
    /// Converts the error of a `COMMIT`.
    ///
    /// A commit that found the disk full was rolled back. SQLite undoes the whole transaction if a write of its `COMMIT` fails, and
    /// PostgreSQL reports an error only before its commit record is written. After any other error the outcome is unknown.
    ///
    /// Source: <https://sqlite.org/lang_transaction.html>, "Response To Errors Within A Transaction".
    pub(crate) fn of_commit(error: sqlx::Error) -> Self {
        match Self::from(error) {
            Self::Sql(error) => Self::Ambiguous(error),
            error => error,
        }
    }
}

impl From<serde_json::Error> for StateError {
    fn from(error: serde_json::Error) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl Coded for StateError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoSuchNamespace(_) => ErrorCode::NoSuchNamespace,
            Self::NoSuchTable(_) => ErrorCode::NoSuchTable,
            Self::NoSuchView(_) => ErrorCode::NoSuchView,
            Self::NoSuchFunction(_) | Self::NotDropped(_) => ErrorCode::NotFound,
            Self::Protected { .. } => ErrorCode::Forbidden,
            Self::BeingDeleted(_) | Self::Occupied(_) | Self::ServersRunning(_) | Self::BackupOfLater { .. } => {
                ErrorCode::Refused
            }
            Self::KeyTaken { .. } => ErrorCode::Unprocessable,
            Self::DuplicateKey(_) | Self::Fenced => ErrorCode::Unavailable,
            Self::AlreadyExists { .. } | Self::RenameTaken { .. } => ErrorCode::AlreadyExists,
            Self::RulesChanged => ErrorCode::CommitConflict,
            Self::NotEmpty(_) => ErrorCode::NamespaceNotEmpty,
            Self::Ambiguous(_) => ErrorCode::CommitStateUnknown,
            Self::LostChanges | Self::LeaseEnded { .. } => ErrorCode::TooBusy,
            Self::Full => ErrorCode::StorageFull,
            Self::Sql(e) if is_transient(e) => ErrorCode::Unavailable,
            Self::LaterSchema(_) | Self::Corrupt(_) | Self::Migrate(_) | Self::Sql(_) | Self::Url(_) | Self::Path(_) => {
                ErrorCode::Internal
            }
            Self::File { .. } | Self::UnusableBackup { .. } | Self::NoDatabase => ErrorCode::Internal,
        }
    }
}

/// Checks that the database is unreachable or busy, so that the same operation may succeed a little later.
fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(e) => e.code().is_some_and(|code| is_transient_code(&code)),
        _ => false,
    }
}

/// Checks for the code of a passing failure.
///
/// These are SQLite's BUSY and LOCKED with all their extended codes, and PostgreSQL's classes of lost connections, short resources,
/// shutdown and lost races between transactions. Codes of SQLite have up to four digits, those of PostgreSQL have five characters.
pub(crate) fn is_transient_code(code: &str) -> bool {
    match code.parse::<u32>() {
        Ok(number) if code.len() < 5 => matches!(number & 0xff, 5 | 6),
        _ => ["08", "40", "53", "57P0"].iter().any(|class| code.starts_with(class)) || code == "55P03",
    }
}

/// Returns SQLite's own error of a full disk.
#[cfg(test)]
pub(crate) async fn full_disk() -> sqlx::Error {
    let dir = tempfile::tempdir().expect("a directory");
    let mut connection = crate::Database::Sqlite(dir.path().join("full.db")).connection().await.expect("opened");
    let sql = "CREATE TABLE t (x BLOB); PRAGMA max_page_count = 2; INSERT INTO t VALUES (zeroblob(1000000))";
    sqlx::raw_sql(sql).execute(&mut connection).await.map(drop).expect_err("full")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_commit_that_finds_the_disk_full_was_not_applied_and_any_other_failure_leaves_it_open() {
        let full = StateError::of_commit(full_disk().await);
        assert!(matches!(full, StateError::Full), "{full}");
        assert_eq!(full.code(), ErrorCode::StorageFull);
        assert!(matches!(StateError::of_commit(sqlx::Error::WorkerCrashed), StateError::Ambiguous(_)));
    }

    #[test]
    fn what_the_database_says_of_a_moment_is_passing() {
        // SQLITE_BUSY, SQLITE_BUSY_SNAPSHOT, SQLITE_LOCKED; connection_failure, serialization_failure, too_many_connections,
        // admin_shutdown, cannot_connect_now, lock_not_available.
        for code in ["5", "517", "6", "08006", "40001", "53300", "57P01", "57P03", "55P03"] {
            assert!(is_transient_code(code), "{code}");
        }
        // SQLITE_CORRUPT, SQLITE_CONSTRAINT_UNIQUE; unique_violation, undefined_table, query_canceled.
        for code in ["11", "2067", "23505", "42P01", "57014"] {
            assert!(!is_transient_code(code), "{code}");
        }
        assert_eq!(StateError::Sql(sqlx::Error::PoolTimedOut).code(), ErrorCode::Unavailable);
        assert_eq!(StateError::Sql(sqlx::Error::RowNotFound).code(), ErrorCode::Internal);
    }
}
