use esker_types::{Coded, ErrorCode};

use crate::BadProperty;

/// A failed operation on a table's metadata.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The `iceberg` crate could not read, check or write metadata; its message names the file.
    #[error("{0}")]
    Iceberg(#[from] iceberg::Error),
    /// Table metadata or a property can't be read.
    #[error("table metadata: {0}")]
    Invalid(String),
    /// A property that protects something can't be read.
    #[error(transparent)]
    Property(#[from] BadProperty),
    /// The change does not apply to the table as it is now.
    #[error("{0}")]
    Conflict(String),
    /// A row filter or another argument of a scan that the table can't answer.
    #[error("{0}")]
    Filter(String),
    /// Esker does not support this table, and says so rather than half-handle it.
    #[error("not supported: {0}")]
    Unsupported(String),
}

impl Coded for TableError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Iceberg(_) => ErrorCode::Internal,
            Self::Invalid(_) | Self::Filter(_) => ErrorCode::BadRequest,
            Self::Property(_) => ErrorCode::Refused,
            Self::Conflict(_) => ErrorCode::CommitConflict,
            Self::Unsupported(_) => ErrorCode::Unsupported,
        }
    }
}
