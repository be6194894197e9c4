use esker_format::FormatError;
use esker_state::StateError;
use esker_storage::StorageError;
use esker_table::TableError;
use esker_types::{Carried, Coded, ErrorCode, IdentError, Panicked, code_of_io};

/// A failed catalog operation.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The state database said no, or failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A requirement does not hold, a change breaks a rule, or metadata can't be read.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A manifest could not be read or written, or a plan no longer fits.
    #[error(transparent)]
    Table(#[from] TableError),
    /// What a change does at its commit point (writing deletes, reading them) failed.
    #[error(transparent)]
    Carried(#[from] Carried),
    /// The directory for what does not fit into memory failed.
    #[error("spilling to disk: {0}")]
    Spill(#[from] std::io::Error),
    /// A name is not valid.
    #[error(transparent)]
    Name(#[from] IdentError),
    /// The metadata file that the catalog points to is not in storage.
    #[error(
        "Failed to open input stream for file: {uri}: table {table} exists, but this metadata file of it is gone from \
         storage; restore the file, or register an older metadata file with overwrite"
    )]
    MetadataGone {
        /// The table.
        table: String,
        /// The file.
        uri: String,
    },
    /// The metadata file can't be parsed.
    #[error("metadata file {uri} can't be read: {reason}")]
    MetadataInvalid {
        /// The file.
        uri: String,
        /// What the parser says.
        reason: String,
    },
    /// A commit is on a state that is not the table's any more.
    #[error("{0}")]
    Conflict(String),
    /// An update can't be applied, or the request contradicts itself.
    #[error("{0}")]
    Invalid(String),
    /// A view's version or schema is not valid.
    #[error("{0}")]
    IllegalArgument(String),
    /// A table may not lie there.
    #[error("location {location} is not allowed: {reason}")]
    Location {
        /// The location.
        location: String,
        /// Why not.
        reason: String,
    },
    /// A key of namespace properties is both set and removed.
    #[error("property {0:?} is both in updates and in removals")]
    Contradiction(String),
    /// The commit may or may not have been applied.
    #[error("the commit to {table} may or may not have been applied: {reason}; load the table to find out")]
    StateUnknown {
        /// The table.
        table: String,
        /// What happened.
        reason: String,
    },
    /// The turn did not come in time: nothing was done.
    #[error("{0} is being committed to, and the turn did not come in {1} s; nothing was done, try again")]
    Busy(String, u64),
    /// Others kept committing to what was to go: nothing was done. Not a conflict, which a drop does not answer with.
    #[error("{0}; nothing was done, try again")]
    Overtaken(String),
    /// Storage has states of the table that the database does not know: it was restored from a backup, or is a copy.
    #[error("{table} can't be changed: {why}; stop the server and see what `esker recover` says")]
    Behind {
        /// The table.
        table: String,
        /// What was found.
        why: String,
    },
    /// What another table refers to is not known.
    #[error(
        "which files {table} refers to can't be found out: {source}; nothing that may be its own is deleted until it can be read, or is dropped"
    )]
    Elsewhere {
        /// The other table.
        table: String,
        /// Why the other table can't be read.
        source: Box<CatalogError>,
    },
    /// The operation does not apply to this table.
    #[error("{0}")]
    Refused(String),
    /// A bug was met before anything was done.
    #[error("{0}; this is a bug of Esker, nothing was done, and the server's log says where")]
    Panicked(Panicked),
    /// The batch that this commit was part of failed as a whole.
    #[error("{message}")]
    Batch {
        /// The batch's code.
        code: ErrorCode,
        /// The batch's message.
        message: String,
    },
}

impl CatalogError {
    /// What it means that a change was not published: it did not happen, or, where the database did not answer, nobody knows.
    pub(crate) fn of_publishing(error: StateError, what: &impl ToString) -> Self {
        match error {
            StateError::Ambiguous(e) => Self::StateUnknown { table: what.to_string(), reason: e.to_string() },
            e => e.into(),
        }
    }
}

impl Coded for CatalogError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::State(e) => e.code(),
            Self::Storage(e) => e.code(),
            Self::Format(e) => e.code(),
            Self::Table(e) => e.code(),
            Self::Carried(e) => e.code(),
            Self::Spill(e) => code_of_io(e),
            Self::Name(_) | Self::Invalid(_) | Self::Location { .. } => ErrorCode::BadRequest,
            Self::IllegalArgument(_) => ErrorCode::IllegalArgument,
            Self::MetadataGone { .. } => ErrorCode::DataMissing,
            Self::MetadataInvalid { .. } => ErrorCode::DataInvalid,
            Self::Conflict(_) => ErrorCode::CommitConflict,
            Self::Contradiction(_) => ErrorCode::Unprocessable,
            Self::StateUnknown { .. } => ErrorCode::CommitStateUnknown,
            Self::Busy(..) | Self::Overtaken(_) => ErrorCode::TooBusy,
            Self::Behind { .. } => ErrorCode::Forbidden,
            // Not 500, which would leave a committing client in doubt.
            Self::Refused(_) | Self::Panicked(_) => ErrorCode::Refused,
            Self::Elsewhere { source, .. } => source.code(),
            Self::Batch { code, .. } => *code,
        }
    }
}
