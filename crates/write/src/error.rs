use esker_format::{FormatError, Type};
use esker_read::ReadError;
use esker_storage::StorageError;
use esker_table::TableError;
use esker_types::{Carried, Coded, ErrorCode};

/// Files that could not be written. What was written of them is not part of any table.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A data file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Metadata could not be read or written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A file could not be recorded before it is written.
    #[error(transparent)]
    Record(#[from] Carried),
    /// A table property makes no sense.
    #[error("option {key}: {reason}")]
    Option {
        /// The property.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// What the table's metadata says makes no sense.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A column's values can't be written.
    #[error("column {column}: values of type {ty} can't be written")]
    Unwritable {
        /// The column, by its full name.
        column: String,
        /// Its type.
        ty: Type,
    },
    /// The table can't hold it.
    #[error("{0}")]
    Refused(String),
    /// What was written is not what was to be written; nothing was committed.
    #[error("{path} failed its proof: {what}; nothing was committed")]
    NotAsWritten {
        /// The file.
        path: String,
        /// How it shows.
        what: String,
    },
    /// Rows could not be encoded.
    #[error(transparent)]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Rows could not be worked on.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
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
        }
    }
}
