use esker_catalog::{CatalogError, Unreadable};
use esker_format::FormatError;
use esker_read::ReadError;
use esker_state::StateError;
use esker_storage::StorageError;
use esker_table::TableError;
use esker_types::{Coded, ErrorCode, Panicked, code_of_io};
use esker_write::WriteError;
use tokio::task::JoinError;

/// A maintenance job that could not be planned or did not succeed. The table is as it was.
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
    /// An option makes no sense.
    #[error("option {key}: {reason}")]
    Option {
        /// The option.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The job may not run on this table, or not now.
    #[error("{0}")]
    Refused(String),
    /// The job can't be done now, and may be a little later.
    #[error("{0}")]
    Busy(String),
    /// Not one group of a compaction was rewritten.
    #[error("{what}")]
    NothingDone {
        /// What kind of error the first group met with.
        code: ErrorCode,
        /// Which, and why.
        what: String,
    },
    /// Files that were to be rewritten together lie in different partitions: their rows would change.
    #[error("{first} and {other} lie in different partitions and are not rewritten together; plan again")]
    MixedPartitions {
        /// A file of the group.
        first: String,
        /// One of another partition.
        other: String,
    },
    /// Somebody wanted the job to end before it was done.
    #[error("the job was cancelled")]
    Cancelled,
    /// A rewrite did not reproduce its input; nothing was committed.
    #[error("{rows_in} rows went in, {rows_out} came out; nothing was committed")]
    NotEquivalent {
        /// Rows that the replaced files hold.
        rows_in: u64,
        /// Rows that the new files hold.
        rows_out: u64,
    },
    /// Rows could not be encoded.
    #[error(transparent)]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Rows could not be worked on.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// The directory for what does not fit into memory failed.
    #[error("spilling to disk: {0}")]
    Spill(#[from] std::io::Error),
    /// A bug ended the work. What was not committed is reclaimed.
    #[error("{what}: {panic}; this is a bug of Esker, and the server's log says where")]
    Panicked {
        /// The kind of job, or the part of one.
        what: String,
        /// What the panic says.
        panic: Panicked,
    },
}

impl MaintenanceError {
    /// The file that could not be read, if that is what went wrong.
    pub(crate) fn unreadable(&self) -> Option<Unreadable> {
        let (path, decoding) = match self {
            Self::Read(e) => e.file()?,
            Self::Storage(e) => (e.uri()?, false),
            Self::Table(e) | Self::Catalog(CatalogError::Table(e)) => return Unreadable::of_snapshot(e),
            _ => return None,
        };
        Some(Unreadable { path: path.to_owned(), error: self.to_string(), decoding, snapshot_id: None })
    }
}

/// A task of a job that was to be waited for and did not end by itself.
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
            Self::NotEquivalent { .. } | Self::Parquet(_) | Self::Arrow(_) | Self::Panicked { .. } => ErrorCode::Internal,
        }
    }
}
