use std::error::Error;

use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use esker_format::{FormatError, Transform, Type};
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
    /// What the table's metadata says makes no sense, or not of these values.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A column's values can't be decoded.
    #[error("{}values of type {ty} can't be read", .column.as_ref().map(|name| format!("column {name}: ")).unwrap_or_default())]
    Undecodable {
        /// The column, by its full name, if it is one.
        column: Option<String>,
        /// Its type.
        ty: Type,
    },
    /// An array holds other values than those of a type.
    #[error("values of type {ty}: {source}")]
    Values {
        /// The type.
        ty: Type,
        /// The kernel's error.
        source: ArrowError,
    },
    /// No table has a column for values of an Arrow type.
    #[error("column {column}: no table holds values of Arrow's type {ty}")]
    NoType {
        /// The column, by its full name.
        column: String,
        /// Arrow's type.
        ty: DataType,
    },
    /// A transform that nobody knows, or that takes no such values.
    #[error("transform {transform} of {ty} values can't be made")]
    Transform {
        /// The transform.
        transform: Transform,
        /// Arrow's type of the values.
        ty: DataType,
    },
}

/// A column of a file holds bytes that are no variant. It is within an [`ArrowError`] until the file is known.
#[derive(Debug, thiserror::Error)]
#[error("column {column}: {source}")]
pub struct NoVariant {
    /// The column.
    pub column: String,
    /// What is wrong with the bytes.
    pub source: ArrowError,
}

impl NoVariant {
    /// What went wrong in a column as an error of Arrow's.
    pub fn of(column: &str, source: ArrowError) -> ArrowError {
        ArrowError::ExternalError(Box::new(Self { column: column.to_owned(), source }))
    }

    /// The error with the file, if it is one about variants; else the error as it was.
    pub fn in_file(error: ArrowError, path: &str) -> Result<ReadError, ArrowError> {
        match error {
            ArrowError::ExternalError(inner) => match inner.downcast::<Self>() {
                Ok(own) => Ok(ReadError::Decoding { path: path.to_owned(), column: own.column, source: Box::new(own.source) }),
                Err(inner) => Err(ArrowError::ExternalError(inner)),
            },
            error => Err(error),
        }
    }
}

impl ReadError {
    pub(crate) fn arrow(path: &str, error: ArrowError) -> Self {
        NoVariant::in_file(error, path).unwrap_or_else(|source| Self::Arrow { path: path.to_owned(), source })
    }

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
            | Self::Format(_)
            | Self::Undecodable { .. }
            | Self::Values { .. }
            | Self::NoType { .. }
            | Self::Transform { .. } => None,
        }
    }

    pub(crate) fn undecodable(column: Option<&str>, ty: &Type) -> Self {
        Self::Undecodable { column: column.map(str::to_owned), ty: ty.clone() }
    }

    pub(crate) fn damaged(path: &str, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }

    pub fn unsupported(path: &str, what: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_owned(), what: what.into() }
    }
}

impl Coded for ReadError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Storage(e) => e.code(),
            Self::Table(e) => e.code(),
            Self::Format(e) => e.code(),
            Self::Unsupported { .. } | Self::Undecodable { .. } | Self::NoType { .. } | Self::Transform { .. } => {
                ErrorCode::Unsupported
            }
            Self::Damaged { .. } | Self::Values { .. } => ErrorCode::DataInvalid,
            Self::Parquet { source, .. } => below(source),
            Self::Arrow { source, .. } => below(source),
            Self::Decoding { source, .. } => below(source.as_ref()),
            Self::Panicked { panic, .. } => panic.code(),
            Self::Spill(e) => code_of_io(e),
        }
    }
}

/// What a decoder's error means: as the read that failed below it, or else that the file is not what is said of it.
fn below(error: &(dyn Error + 'static)) -> ErrorCode {
    causes(error).find_map(|e| e.downcast_ref::<ReadError>()).map_or(ErrorCode::DataInvalid, Coded::code)
}
