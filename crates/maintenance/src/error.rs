//! The error of this crate. [`Coded`] maps each variant to the code that decides about retries and HTTP statuses.

use datafusion::error::DataFusionError;
use esker_catalog::{CatalogError, Unreadable};
use esker_format::FormatError;
use esker_read::ReadError;
use esker_state::StateError;
use esker_storage::StorageError;
use esker_table::TableError;
use esker_types::{Coded, ErrorCode, Panicked, code_of_io, error_chain};
use esker_write::WriteError;
use tokio::task::JoinError;

/// The error of a maintenance job that was not planned or did not succeed.
///
/// No commit of the table is left half done. A compaction may have committed some of its groups before.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// The catalog refused or failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A data file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Metadata could not be read or written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Files could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The state database failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// An option has a value that makes no sense.
    #[error("option {key}: {reason}")]
    Option {
        /// Name of the option, as a request has it.
        key: &'static str,
        /// The reason, for people.
        reason: String,
    },
    /// The job may not run on this table, or not in its present state. Trying again does not help.
    #[error("{0}")]
    Refused(String),
    /// The job can't run now, but may run a little later.
    #[error("{0}")]
    Busy(String),
    /// No group of a compaction was rewritten.
    #[error("{what}")]
    NothingDone {
        /// Code of the error of the group that `what` names.
        code: ErrorCode,
        /// The first group with a transient error, else the first group, with the reason.
        what: String,
    },
    /// A group of files that were to be rewritten together has several partitions: rows would change their partition.
    #[error("{first} and {other} lie in different partitions and are not rewritten together; plan again")]
    MixedPartitions {
        /// Location of the first file of the group.
        first: String,
        /// Location of a file that lies in another partition.
        other: String,
    },
    /// The job was cancelled before it was done.
    #[error("the job was cancelled")]
    Cancelled,
    /// A rewrite did not reproduce its input; nothing was committed.
    #[error("{rows_in} rows went in, {rows_out} came out; nothing was committed")]
    NotEquivalent {
        /// Number of rows of the replaced files that no delete hides.
        rows_in: u64,
        /// Number of rows of the new files.
        rows_out: u64,
    },
    /// Rows could not be sorted. An error of the rows' source is among the causes.
    #[error("sorting failed: {0}")]
    Sort(#[from] DataFusionError),
    /// Rows could not be encoded.
    #[error(transparent)]
    Parquet(#[from] parquet::errors::ParquetError),
    /// An operation on Arrow arrays failed.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// The directory for data that does not fit into memory failed.
    #[error("spilling to disk: {0}")]
    Spill(#[from] std::io::Error),
    /// A panic, which is a bug, ended the work. Files that were not committed are reclaimed.
    #[error("{what}: {panic}; this is a bug of Esker, and the server's log says where")]
    Panicked {
        /// The kind of the job, or the part of it that panicked.
        what: String,
        /// The panic's message.
        panic: Panicked,
    },
}

impl MaintenanceError {
    /// Returns the file that could not be read, if the error is about one.
    pub(crate) fn unreadable(&self) -> Option<Unreadable> {
        let (path, decoding) = match self {
            Self::Sort(e) => return found(e)?.unreadable(),
            Self::Read(e) => e.file()?,
            Self::Storage(e) => (e.uri()?, false),
            Self::Table(e) | Self::Catalog(CatalogError::Table(e)) => return Unreadable::of_snapshot(e),
            _ => return None,
        };
        Some(Unreadable { path: path.to_owned(), error: self.to_string(), decoding, snapshot_id: None })
    }
}

/// Returns the error of the source of the rows that a sort met, if there is one.
fn found(error: &DataFusionError) -> Option<&MaintenanceError> {
    error_chain(error).find_map(|cause| cause.downcast_ref())
}

/// Returns the operating system's error that a sort met, if there is one.
fn root_io(error: &DataFusionError) -> Option<&std::io::Error> {
    error_chain(error).find_map(|cause| cause.downcast_ref())
}

/// A task of a job panicked or was aborted: [`Panicked`](MaintenanceError::Panicked) or [`Cancelled`](MaintenanceError::Cancelled).
impl From<JoinError> for MaintenanceError {
    fn from(error: JoinError) -> Self {
        match error.try_into_panic() {
            Ok(payload) => Self::Panicked { what: "a task of the job".to_owned(), panic: Panicked::of(payload.as_ref()) },
            Err(_) => Self::Cancelled,
        }
    }
}

impl From<FormatError> for MaintenanceError {
    fn from(error: FormatError) -> Self {
        Self::Table(TableError::Format(error))
    }
}

impl Coded for MaintenanceError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Catalog(e) => e.code(),
            Self::Read(e) => e.code(),
            Self::Table(e) => e.code(),
            Self::Storage(e) => e.code(),
            Self::Write(e) => e.code(),
            Self::State(e) => e.code(),
            Self::Option { .. } => ErrorCode::BadRequest,
            Self::NothingDone { code, .. } => *code,
            Self::Busy(_) => ErrorCode::Unavailable,
            Self::Refused(_) | Self::MixedPartitions { .. } | Self::Cancelled => ErrorCode::Refused,
            Self::Spill(e) => code_of_io(e),
            Self::Sort(e) => match (found(e), root_io(e)) {
                (Some(source), _) => source.code(),
                (None, Some(io)) => code_of_io(io),
                (None, None) if matches!(e.find_root(), DataFusionError::ResourcesExhausted(_)) => ErrorCode::Refused,
                (None, None) => ErrorCode::Internal,
            },
            Self::NotEquivalent { .. } | Self::Parquet(_) | Self::Arrow(_) | Self::Panicked { .. } => ErrorCode::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_rows_keeps_its_meaning_through_a_sort() {
        let away = MaintenanceError::Busy("the store is away".to_owned());
        let through = MaintenanceError::Sort(DataFusionError::External(Box::new(away)).context("merging"));
        assert_eq!(through.code(), ErrorCode::Unavailable, "it is tried again");
        let full = MaintenanceError::Sort(DataFusionError::IoError(std::io::ErrorKind::StorageFull.into()));
        assert_eq!(full.code(), ErrorCode::StorageFull);
        let memory = MaintenanceError::Sort(DataFusionError::ResourcesExhausted("memory".to_owned()));
        assert_eq!(memory.code(), ErrorCode::Refused);
    }
}
