//! The crate's error type, and its mapping to an [`ErrorCode`].
//!
//! A decoder wraps the storage's error in its own. The code of an error therefore follows the first [`ReadError`] among its
//! causes: a store that does not answer is never mistaken for a damaged file.

use std::error::Error;

use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use esker_format::{FormatError, Transform, Type};
use esker_storage::StorageError;
use esker_table::TableError;
use esker_types::{Coded, CodedError, ErrorCode, Panicked, code_of_io, error_chain};
use parquet::errors::ParquetError;

/// A failed read of a data file or a delete file.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The Parquet decoder failed, and no single column explains it.
    #[error("{path}: {source}")]
    Parquet {
        /// The location of the file.
        path: String,
        /// The decoder's error.
        source: ParquetError,
    },
    /// A column can't be decoded.
    #[error("{path}: column {column}: {source}")]
    Decoding {
        /// The location of the file.
        path: String,
        /// The full name of the column; names of nested fields are joined with dots.
        column: String,
        /// The decoder's error, or the [`Panicked`] that it ended in.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The read of the file panicked: the decoder, though every column can be decoded alone, or the code that takes its rows.
    #[error("{path}: {panic}; this is a bug of Esker")]
    Panicked {
        /// The location of the file.
        path: String,
        /// The message of the panic.
        panic: Panicked,
    },
    /// Rows could not be converted to the table's schema.
    #[error("{path}: {source}")]
    Arrow {
        /// The location of the file.
        path: String,
        /// The error of the Arrow kernel.
        source: ArrowError,
    },
    /// A file contradicts its metadata or the specification.
    #[error("{path}: {what}")]
    Damaged {
        /// The location of the file.
        path: String,
        /// A description of the contradiction.
        what: String,
    },
    /// A file, column or delete of a kind that Esker does not read.
    #[error("{path}: {what}")]
    Unsupported {
        /// The location of the file.
        path: String,
        /// A description of what is not supported.
        what: String,
    },
    /// A file lies in a directory that is closed to the reader, because it belongs to another table.
    #[error("{path}: it lies in a place of another table, so it is not read for this one")]
    Closed {
        /// The location of the file.
        path: String,
    },
    /// It is not known whether a file belongs to another table, because the places of tables can't be looked up.
    #[error(transparent)]
    Places(CodedError),
    /// Spilling keys to disk failed.
    #[error("spilling to disk: {0}")]
    Spill(#[from] std::io::Error),
    /// The table's metadata contradicts itself.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The table's metadata is invalid, or a transform has no result for a value.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A type has no Arrow counterpart, so that its values can't be decoded.
    #[error("{}values of type {ty} can't be read", .column.as_ref().map(|name| format!("column {name}: ")).unwrap_or_default())]
    Undecodable {
        /// The full name of the column; none for a type that was given without a column.
        column: Option<String>,
        /// The Iceberg type.
        ty: Type,
    },
    /// An array does not hold values of the expected type.
    #[error("values of type {ty}: {source}")]
    Values {
        /// The expected Iceberg type.
        ty: Type,
        /// The error of the Arrow kernel.
        source: ArrowError,
    },
    /// An Arrow type has no Iceberg type that holds all of its values unchanged.
    #[error("column {column}: Iceberg has no type for Arrow type {ty}; cast the column")]
    NoType {
        /// The full name of the column.
        column: String,
        /// The Arrow type.
        ty: DataType,
    },
    /// A partition transform is unknown, or does not apply to values of an Arrow type.
    #[error("transform {transform} can't be applied to {ty} values")]
    Transform {
        /// The transform.
        transform: Transform,
        /// The Arrow type of the values.
        ty: DataType,
    },
}

/// A column holds bytes that are not a valid variant.
///
/// The kernels that find such bytes don't know the file. So the error travels as an [`ArrowError::ExternalError`] until
/// [`InvalidVariant::in_file`] adds the location.
#[derive(Debug, thiserror::Error)]
#[error("column {column}: {source}")]
pub struct InvalidVariant {
    /// The full name of the column.
    pub column: String,
    /// The defect that was found in the bytes.
    pub source: ArrowError,
}

impl InvalidVariant {
    /// Wraps the error of a variant column as an [`ArrowError`].
    pub fn of(column: &str, source: ArrowError) -> ArrowError {
        ArrowError::ExternalError(Box::new(Self { column: column.to_owned(), source }))
    }

    /// Adds the file's location to an error about variants.
    ///
    /// # Errors
    ///
    /// Returns `error` unchanged if it is not about variants.
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
    /// Returns [`Self::Decoding`] for an error about variants, and [`Self::Arrow`] for any other.
    pub(crate) fn arrow(path: &str, error: ArrowError) -> Self {
        InvalidVariant::in_file(error, path).unwrap_or_else(|source| Self::Arrow { path: path.to_owned(), source })
    }

    /// Unwraps a [`ReadError`] from the Parquet error that carried it through the decoder.
    ///
    /// Any other error becomes [`Self::Parquet`].
    pub(crate) fn parquet(path: &str, error: ParquetError) -> Self {
        match error {
            ParquetError::External(e) => match e.downcast::<Self>() {
                Ok(read) => *read,
                Err(e) => Self::Parquet { path: path.to_owned(), source: ParquetError::External(e) },
            },
            source => Self::Parquet { path: path.to_owned(), source },
        }
    }

    /// Returns the file that could not be read, and `true` if its content is wrong.
    ///
    /// The flag is `false` if the storage did not hand the file over. None if the error says nothing about one file.
    pub fn file(&self) -> Option<(&str, bool)> {
        match self {
            Self::Storage(e) => Some((e.uri()?, matches!(e, StorageError::Truncated { .. }))),
            Self::Parquet { source: ParquetError::NYI(_), .. } => None,
            // A decoder passes on the storage's error, which says nothing about the file's content.
            Self::Parquet { path, source } => (!below(source).is_transient()).then_some((path, true)),
            Self::Arrow { path, source: source @ ArrowError::ParquetError(_) } => {
                (!below(source).is_transient()).then_some((path, true))
            }
            Self::Decoding { path, source, .. } => (!below(source.as_ref()).is_transient()).then_some((path, true)),
            Self::Damaged { path, .. } => Some((path, true)),
            Self::Arrow { .. }
            | Self::Panicked { .. }
            | Self::Unsupported { .. }
            | Self::Closed { .. }
            | Self::Places(_)
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

    /// Makes an [`Self::Unsupported`] error about a file.
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
            Self::Closed { .. } => ErrorCode::Forbidden,
            Self::Places(e) => e.code(),
            Self::Damaged { .. } | Self::Values { .. } => ErrorCode::DataInvalid,
            Self::Parquet { source, .. } => below(source),
            Self::Arrow { source, .. } => below(source),
            Self::Decoding { source, .. } => below(source.as_ref()),
            Self::Panicked { panic, .. } => panic.code(),
            Self::Spill(e) => code_of_io(e),
        }
    }
}

/// Returns the code of the [`ReadError`] among the causes of a decoder's error.
///
/// Without one the decoder itself failed, and the file is not what its metadata says: [`ErrorCode::DataInvalid`].
fn below(error: &(dyn Error + 'static)) -> ErrorCode {
    error_chain(error).find_map(|e| e.downcast_ref::<ReadError>()).map_or(ErrorCode::DataInvalid, Coded::code)
}
