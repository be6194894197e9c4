use esker_types::{Coded, ErrorCode};

/// A failed operation on the state database.
///
/// The first variants are worded as the reference implementation words them: its clients' tests compare the text.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The namespace is not there.
    #[error("Namespace does not exist: {0}")]
    NoSuchNamespace(String),
    /// The table is not there.
    #[error("Table does not exist: {0}")]
    NoSuchTable(String),
    /// The view is not there.
    #[error("View does not exist: {0}")]
    NoSuchView(String),
    /// The function is not there.
    #[error("Function does not exist: {0}")]
    NoSuchFunction(String),
    /// No dropped table has this identifier.
    #[error("no dropped table has the id {0}; it was brought back, or its time is over")]
    NotDropped(String),
    /// Somebody protected it from being dropped.
    #[error("{kind} {name} is protected from being dropped; lift the protection first")]
    Protected {
        /// `namespace`, `table` or `view`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Another request with the same idempotency key was carried out meanwhile.
    #[error("another request with the idempotency key {0} was carried out at the same time")]
    DuplicateKey(uuid::Uuid),
    /// A job with the same idempotency key is another job.
    #[error("the idempotency key {key} was used for another job already: {job}")]
    KeyTaken {
        /// The key.
        key: String,
        /// That job.
        job: String,
    },
    /// The namespace or table is there already.
    #[error("{kind} already exists: {name}")]
    AlreadyExists {
        /// `Namespace`, `Table`, `View`, or what else the reference implementation calls it.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A table or view can't be renamed to a name that is taken.
    #[error("Cannot rename {from} to {to}. {by} already exists")]
    RenameTaken {
        /// What it is called.
        from: String,
        /// What it should be called.
        to: String,
        /// `Table` or `View`: what has the name.
        by: &'static str,
    },
    /// The namespace holds tables or namespaces.
    #[error("Namespace is not empty: {0}")]
    NotEmpty(String),
    /// The transaction was sent off and its end was not seen.
    #[error("the state database did not confirm the commit: {0}")]
    Ambiguous(sqlx::Error),
    /// A stored value can't be read.
    #[error("the state database holds a value that can't be read: {0}")]
    Corrupt(String),
    /// The schema could not be brought up to date.
    #[error("the state database could not be migrated: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The configured URL is of no database that state can live in.
    #[error("state.url: no database of the scheme {0:?} is supported; give postgres://USER@HOST/DATABASE, or nothing for SQLite")]
    Url(String),
    /// A file is not a database that could take the place of this one.
    #[error("{}: {why}", path.display())]
    Unfit {
        /// The file that was given.
        path: std::path::PathBuf,
        /// Why the file can't be used.
        why: String,
    },
    /// A file of the database, or a backup, can't be used.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Only a database that is a file is backed up by Esker.
    #[error("the state database is in PostgreSQL; back it up with pg_dump")]
    NotAFile,
    /// The path of the database is not UTF-8.
    #[error("the path of the state database is not UTF-8: {}", .0.display())]
    Path(std::path::PathBuf),
    /// The file can't belong to a table again.
    #[error("{0} is being deleted, or is gone already")]
    Going(String),
    /// The other servers on this database have taken this one for dead.
    #[error("this server was not heard of for a minute and the others took it for dead; it has to start again")]
    Fenced,
    /// The disk under the database is full.
    #[error("the disk under the state database is full")]
    Full,
    /// Any other failure.
    #[error("state database: {0}")]
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for StateError {
    fn from(error: sqlx::Error) -> Self {
        // SQLITE_FULL is 13, PostgreSQL's disk_full 53100.
        match error.as_database_error().and_then(|e| e.code()) {
            Some(code) if code == "13" || code == "53100" => Self::Full,
            _ => Self::Sql(error),
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
            Self::Going(_) => ErrorCode::Refused,
            Self::KeyTaken { .. } => ErrorCode::Unprocessable,
            Self::DuplicateKey(_) | Self::Fenced => ErrorCode::Unavailable,
            Self::AlreadyExists { .. } | Self::RenameTaken { .. } => ErrorCode::AlreadyExists,
            Self::NotEmpty(_) => ErrorCode::NamespaceNotEmpty,
            Self::Ambiguous(_) => ErrorCode::CommitStateUnknown,
            Self::Full => ErrorCode::StorageFull,
            Self::Sql(e) if is_away(e) => ErrorCode::Unavailable,
            Self::Corrupt(_) | Self::Migrate(_) | Self::Sql(_) | Self::Url(_) | Self::Path(_) => ErrorCode::Internal,
            Self::File { .. } | Self::Unfit { .. } | Self::NotAFile => ErrorCode::Internal,
        }
    }
}

/// Whether the database is away or busy: the same may succeed a little later.
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(e) => e.code().is_some_and(|code| is_passing_code(&code)),
        _ => false,
    }
}

/// SQLite's BUSY and LOCKED with all that extends them; PostgreSQL's classes of lost connections, short resources, shutdown, and of
/// transactions that lost to another. SQLite's codes have up to four digits, PostgreSQL's five.
fn is_passing_code(code: &str) -> bool {
    match code.parse::<u32>() {
        Ok(number) if code.len() < 5 => matches!(number & 0xff, 5 | 6),
        _ => ["08", "40", "53", "57P0"].iter().any(|class| code.starts_with(class)) || code == "55P03",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_database_says_of_a_moment_is_passing() {
        // SQLITE_BUSY, SQLITE_BUSY_SNAPSHOT, SQLITE_LOCKED; connection_failure, serialization_failure, too_many_connections,
        // admin_shutdown, cannot_connect_now, lock_not_available.
        for code in ["5", "517", "6", "08006", "40001", "53300", "57P01", "57P03", "55P03"] {
            assert!(is_passing_code(code), "{code}");
        }
        // SQLITE_CORRUPT, SQLITE_CONSTRAINT_UNIQUE; unique_violation, undefined_table, query_canceled.
        for code in ["11", "2067", "23505", "42P01", "57014"] {
            assert!(!is_passing_code(code), "{code}");
        }
        assert_eq!(StateError::Sql(sqlx::Error::PoolTimedOut).code(), ErrorCode::Unavailable);
        assert_eq!(StateError::Sql(sqlx::Error::RowNotFound).code(), ErrorCode::Internal);
    }
}
