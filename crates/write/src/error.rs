//! The crate's error type, and its mapping to an [`ErrorCode`].

use esker_format::{FormatError, Type};
use esker_read::ReadError;
use esker_storage::StorageError;
use esker_table::TableError;
use esker_types::{Coded, CodedError, ErrorCode, Panicked};

/// A failed write of data or delete files.
///
/// Files that were written before the failure are part of no table.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A data file could not be read, or values could not be converted to the table's types.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Table metadata or deletion vectors could not be read or written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A file could not be recorded before its write.
    #[error(transparent)]
    Record(#[from] CodedError),
    /// A table property has an invalid value.
    #[error("option {key}: {reason}")]
    Option {
        /// The property's key.
        key: &'static str,
        /// The reason for which the value is invalid.
        reason: String,
    },
    /// The table's metadata is invalid.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A column has a type that no data file can hold.
    #[error("column {column}: values of type {ty} can't be written")]
    Unwritable {
        /// The full name of the column.
        column: String,
        /// The column's type.
        ty: Type,
    },
    /// The table can't hold the rows.
    #[error("{0}")]
    Refused(String),
    /// A file in storage differs from the file that was written. Nothing was committed.
    #[error("{path} failed verification: {what}; nothing was committed")]
    NotAsWritten {
        /// The location of the file.
        path: String,
        /// A description of the difference.
        what: String,
    },
    /// Rows could not be encoded as Parquet.
    #[error(transparent)]
    Parquet(#[from] parquet::errors::ParquetError),
    /// An Arrow kernel failed on the rows.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// A thread that encoded columns panicked.
    #[error("encoding rows as Parquet failed: {0}; this is a bug of Esker")]
    Panicked(Panicked),
}

impl Coded for WriteError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Read(e) => e.code(),
            Self::Table(e) => e.code(),
            Self::Storage(e) => e.code(),
            Self::Format(e) => e.code(),
            Self::Unwritable { .. } => ErrorCode::Unsupported,
            Self::Option { .. } => ErrorCode::BadRequest,
            Self::Refused(_) => ErrorCode::Refused,
            Self::Record(e) => e.code(),
            Self::NotAsWritten { .. } | Self::Parquet(_) | Self::Arrow(_) => ErrorCode::Internal,
            Self::Panicked(panic) => panic.code(),
        }
    }
}
