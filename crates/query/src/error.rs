//! The error of queries, and the meaning of DataFusion's errors.
//!
//! Errors of Esker's other crates travel through DataFusion as external errors. The conversion from `DataFusionError` finds them
//! again and keeps their codes. What a statement or its values caused is [`QueryError::Statement`].

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use esker_access::RightsError;
use esker_auth::AuthError;
use esker_catalog::CatalogError;
use esker_read::ReadError;
use esker_types::{Coded, ErrorCode, Panicked};
use esker_write::WriteError;

use crate::error_wording::{invalid_pattern, reworded};

/// The reason for which a query was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The query took longer than its limit, in seconds.
    #[error("the query was stopped after {0} s (query.timeout_seconds)")]
    Timeout(u64),
    /// Somebody cancelled the query.
    #[error("the query was cancelled")]
    Cancelled,
}

/// The error of a failed statement.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement is wrong or not supported: its syntax, names, types or values.
    #[error("{0}")]
    Statement(String),
    /// The rules refuse the statement something on a thing that the caller may see.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// Row filters or column masks of a table count for the caller, and the statement would go past them.
    #[error("{what}, because table {table} has row filters or column masks for the caller")]
    Restricted {
        /// Name of the table.
        table: String,
        /// What the statement can't do, such as "DELETE and UPDATE are refused".
        what: String,
    },
    /// The rules of access control were not changed or shown.
    #[error(transparent)]
    Access(#[from] AuthError),
    /// An operation of the catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A file could not be read.
    #[error("{message}")]
    Read {
        /// The code of the error that occurred while reading.
        code: ErrorCode,
        /// The message of that error.
        message: String,
    },
    /// Too many queries are waiting already.
    #[error("{running} queries are running and {waiting} are waiting; try again later")]
    Busy {
        /// Number of queries that run.
        running: usize,
        /// Number of queries that wait.
        waiting: usize,
    },
    /// Rows could not be written; the table is unchanged.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A statement that runs once for each row of its parameters failed at one of them. Earlier runs stay committed.
    #[error("the first {done} of {of} rows of parameters are committed and stay so; the next one failed: {source}")]
    Row {
        /// Number of rows of parameters for which the statement ran.
        done: usize,
        /// Number of rows of parameters in all.
        of: usize,
        /// The error of the row that failed.
        source: Box<Self>,
    },
    /// The query was stopped by its time limit, or cancelled.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The query needed more memory than it may use.
    #[error("the query exceeded its memory budget: {0}")]
    Resources(String),
    /// Execution failed for a reason that no other variant names.
    #[error("{0}")]
    Execution(String),
    /// A bug ended the statement; the server continues.
    #[error("an internal error ended the statement; the server's log names the place")]
    Panicked(#[from] Panicked),
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        if let Some(read) = find_cause::<ReadError>(&error) {
            return Self::Read { code: read.code(), message: read.to_string() };
        }
        if let Some(catalog) = find_cause::<CatalogError>(&error) {
            return Self::Read { code: catalog.code(), message: catalog.to_string() };
        }
        if let Some(panic) = find_cause::<Panicked>(&error) {
            return Self::Panicked(panic.clone());
        }
        if let Some(stopped) = find_cause::<Stopped>(&error) {
            return Self::Stopped(*stopped);
        }
        match find_cause::<Self>(&error) {
            Some(Self::Statement(what)) => return Self::Statement(what.clone()),
            Some(Self::Rights(refusal)) => return Self::Rights(refusal.clone()),
            Some(Self::Restricted { table, what }) => {
                return Self::Restricted { table: table.clone(), what: what.clone() };
            }
            Some(own) => return Self::Read { code: own.code(), message: own.to_string() },
            None => {}
        }
        if let Some(what) = invalid_pattern(&error.to_string()) {
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

/// Checks whether an error is about the values that a statement computes.
fn is_of_values(error: &ArrowError) -> bool {
    match error {
        ArrowError::CastError(_)
        | ArrowError::ParseError(_)
        | ArrowError::ComputeError(_)
        | ArrowError::DivideByZero
        | ArrowError::ArithmeticOverflow(_)
        | ArrowError::NotYetImplemented(_) => true,
        // Arrow has no error kinds for decimals with too many digits and for binary that is not text, so the message decides.
        ArrowError::InvalidArgumentError(text) => [" to store in a Decimal", "UTF-8 data"].iter().any(|part| text.contains(part)),
        _ => false,
    }
}

/// Returns the innermost error, without the context that was added around it.
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

/// Wraps an error of Esker's for its way through DataFusion.
pub(crate) fn external(e: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(e))
}

/// Finds an error of type `T` in the chain of an error and its sources.
pub(crate) fn find_cause<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
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
            Self::Rights(e) => e.code(),
            Self::Restricted { .. } => ErrorCode::Forbidden,
            Self::Access(e) => e.code(),
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
