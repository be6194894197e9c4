use esker_types::{Coded, ErrorCode, TableName};

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
    /// The namespace or table is there already.
    #[error("{kind} already exists: {name}")]
    AlreadyExists {
        /// `Namespace` or `Table`.
        kind: &'static str,
        /// Its name.
        name: String,
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
    /// The disk under the database is full.
    #[error("the disk under the state database is full")]
    Full,
    /// Any other failure.
    #[error("state database: {0}")]
    Sql(sqlx::Error),
}

impl StateError {
    /// The table is there already.
    pub fn table_exists(name: &TableName) -> Self {
        Self::AlreadyExists { kind: "Table", name: name.to_string() }
    }
}

impl From<sqlx::Error> for StateError {
    fn from(error: sqlx::Error) -> Self {
        // SQLITE_FULL is 13.
        match error.as_database_error().and_then(|e| e.code()) {
            Some(code) if code == "13" => Self::Full,
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
            Self::AlreadyExists { .. } => ErrorCode::AlreadyExists,
            Self::NotEmpty(_) => ErrorCode::NamespaceNotEmpty,
            Self::Ambiguous(_) => ErrorCode::CommitStateUnknown,
            Self::Full => ErrorCode::StorageFull,
            Self::Corrupt(_) | Self::Migrate(_) | Self::Sql(_) => ErrorCode::Internal,
        }
    }
}
