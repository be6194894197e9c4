use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use esker_catalog::CatalogError;
use esker_read::ReadError;
use esker_types::{Coded, ErrorCode, Panicked};
use esker_write::WriteError;

use crate::error_wording::{pattern, reworded};

/// Why a query was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// It took too long.
    #[error("the query was stopped after {0} s (query.timeout_seconds)")]
    Timeout(u64),
    /// Somebody asked for it.
    #[error("the query was cancelled")]
    Cancelled,
}

/// A failed query.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement is wrong: syntax, names, types, or a kind of statement that is not a query.
    #[error("{0}")]
    Statement(String),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A data file could not be read.
    #[error("{message}")]
    Read {
        /// What the read error meant.
        code: ErrorCode,
        /// Its message.
        message: String,
    },
    /// Too many queries are waiting already.
    #[error("{running} queries run and {waiting} wait already; try again later")]
    Busy {
        /// Queries at work.
        running: usize,
        /// Queries that wait.
        waiting: usize,
    },
    /// Rows could not be written. The table is as it was.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A statement that runs once for each row of its parameters failed at one of them.
    #[error("of {of} rows of parameters the first {done} are done and stay so; the next one failed: {source}")]
    Row {
        /// Rows of parameters that the statement ran for.
        done: usize,
        /// Rows of parameters that the statement was to run for.
        of: usize,
        /// Why.
        source: Box<Self>,
    },
    /// The query was stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The query needed more memory than it may use.
    #[error("the query ran out of its memory budget: {0}")]
    Resources(String),
    /// Execution failed.
    #[error("{0}")]
    Execution(String),
    /// A bug ended the statement, and nothing else.
    #[error("a fault of Esker's own ended the statement: the server's log says where")]
    Panicked(#[from] Panicked),
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        if let Some(read) = cause::<ReadError>(&error) {
            return Self::Read { code: read.code(), message: read.to_string() };
        }
        if let Some(catalog) = cause::<CatalogError>(&error) {
            return Self::Read { code: catalog.code(), message: catalog.to_string() };
        }
        if let Some(panic) = cause::<Panicked>(&error) {
            return Self::Panicked(panic.clone());
        }
        if let Some(stopped) = cause::<Stopped>(&error) {
            return Self::Stopped(*stopped);
        }
        match cause::<Self>(&error) {
            Some(Self::Statement(what)) => return Self::Statement(what.clone()),
            Some(own) => return Self::Read { code: own.code(), message: own.to_string() },
            None => {}
        }
        if let Some(what) = pattern(&error.to_string()) {
            return Self::Statement(what);
        }
        let text = reworded(&error);
        match root(&error) {
            DataFusionError::SQL(..)
            | DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::Configuration(_)
            | DataFusionError::Execution(_)
            | DataFusionError::NotImplemented(_) => Self::Statement(text),
            DataFusionError::ArrowError(error, _) if is_of_values(error) => Self::Statement(text),
            DataFusionError::ResourcesExhausted(text) => Self::Resources(text.clone()),
            _ => Self::Execution(text),
        }
    }
}

/// Whether an error is of what a statement makes of its rows.
fn is_of_values(error: &ArrowError) -> bool {
    match error {
        ArrowError::CastError(_)
        | ArrowError::ParseError(_)
        | ArrowError::ComputeError(_)
        | ArrowError::DivideByZero
        | ArrowError::ArithmeticOverflow(_)
        | ArrowError::NotYetImplemented(_) => true,
        // Arrow has no kinds of their own for decimals with too many digits, and for binary that is no text.
        ArrowError::InvalidArgumentError(text) => [" to store in a Decimal", "UTF-8 data"].iter().any(|told| text.contains(told)),
        _ => false,
    }
}

/// What an error is about, without what was said around it.
fn root(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => root(inner),
        DataFusionError::Shared(inner) => root(inner),
        DataFusionError::Collection(all) => all.first().map_or(error, root),
        error => error,
    }
}

impl From<ArrowError> for QueryError {
    fn from(error: ArrowError) -> Self {
        Self::from(DataFusionError::from(error))
    }
}

/// An error of ours on its way through DataFusion.
pub(crate) fn external(e: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(e))
}

pub(crate) fn cause<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

impl Coded for QueryError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Statement(_) => ErrorCode::BadRequest,
            Self::Catalog(e) => e.code(),
            Self::Read { code, .. } => *code,
            Self::Busy { .. } => ErrorCode::Unavailable,
            Self::Write(e) => e.code(),
            Self::Row { source, .. } => source.code(),
            Self::Stopped(_) => ErrorCode::Refused,
            Self::Resources(_) => ErrorCode::StorageFull,
            Self::Execution(_) => ErrorCode::Internal,
            Self::Panicked(panic) => panic.code(),
        }
    }
}
