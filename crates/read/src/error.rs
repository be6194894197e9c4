use std::error::Error;

use arrow::error::ArrowError;
use esker_storage::StorageError;
use esker_table::TableError;
use esker_types::{Coded, ErrorCode, Panicked, causes, code_of_io};
use parquet::errors::ParquetError;

/// A failed read of a data or delete file.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The file is not what its metadata says.
    #[error("{path}: {source}")]
    Parquet {
        /// The file.
        path: String,
        /// The decoder's error.
        source: ParquetError,
    },
    /// A column can't be decoded.
    #[error("{path}: column {column}: {source}")]
    Decoding {
        /// The file.
        path: String,
        /// The column.
        column: String,
        /// The decoder's error, or its panic.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The decoder panicked, and on no column of the file by itself.
    #[error("{path}: {panic}; this is a bug of Esker")]
    Panicked {
        /// The file.
        path: String,
        /// What it said.
        panic: Panicked,
    },
    /// Rows could not be brought into the table's schema.
    #[error("{path}: {source}")]
    Arrow {
        /// The file.
        path: String,
        /// The kernel's error.
        source: ArrowError,
    },
    /// A delete file holds something else than deletes.
    #[error("{path}: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A kind of file, column or delete that can't be read yet.
    #[error("{path}: {what}")]
    Unsupported {
        /// The file.
        path: String,
        /// What about it.
        what: String,
    },
    /// The directory for what does not fit into memory failed.
    #[error("spilling to disk: {0}")]
    Spill(#[from] std::io::Error),
    /// The table's metadata contradicts itself.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The table's schema can't be expressed.
    #[error("{}", esker_table::plain(.0))]
    Iceberg(#[from] iceberg::Error),
}

impl ReadError {
    /// The file that could not be read, and whether what is there makes no sense (else it could not be fetched).
    pub fn file(&self) -> Option<(&str, bool)> {
        match self {
            Self::Storage(e) => Some((e.uri()?, matches!(e, StorageError::Short { .. }))),
            Self::Parquet { source: ParquetError::NYI(_), .. } => None,
            // A decoder hands on what the storage said, which says nothing of the file.
            Self::Parquet { path, source } => (!below(source).is_passing()).then_some((path, true)),
            Self::Arrow { path, source: source @ ArrowError::ParquetError(_) } => {
                (!below(source).is_passing()).then_some((path, true))
            }
            Self::Decoding { path, source, .. } => (!below(source.as_ref()).is_passing()).then_some((path, true)),
            Self::Damaged { path, .. } => Some((path, true)),
            Self::Arrow { .. }
            | Self::Panicked { .. }
            | Self::Unsupported { .. }
            | Self::Spill(_)
            | Self::Table(_)
            | Self::Iceberg(_) => None,
        }
    }

    pub(crate) fn damaged(path: &str, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }

    pub(crate) fn unsupported(path: &str, what: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_owned(), what: what.into() }
    }
}

impl Coded for ReadError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Storage(e) => e.code(),
            Self::Table(e) => e.code(),
            Self::Unsupported { .. } => ErrorCode::Unsupported,
            Self::Damaged { .. } => ErrorCode::DataInvalid,
            Self::Parquet { source, .. } => below(source),
            Self::Arrow { source, .. } => below(source),
            Self::Decoding { source, .. } => below(source.as_ref()),
            Self::Panicked { panic, .. } => panic.code(),
            Self::Iceberg(e) => esker_table::code_of(e),
            Self::Spill(e) => code_of_io(e),
        }
    }
}

/// What a decoder's error means: as the read that failed below it, or else that the file is not what is said of it.
fn below(error: &(dyn Error + 'static)) -> ErrorCode {
    causes(error).find_map(|e| e.downcast_ref::<ReadError>()).map_or(ErrorCode::DataInvalid, Coded::code)
}
