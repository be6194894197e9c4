//! The error type of the catalog.
//!
//! A [`CatalogError`] keeps the error of the layer below as its source. Its [`Coded`] implementation maps each variant to the one
//! [`ErrorCode`] from which every protocol takes its status.

use esker_access::RightsError;
use esker_format::FormatError;
use esker_state::StateError;
use esker_storage::StorageError;
use esker_table::{Refusal, TableError};
use esker_types::{Coded, CodedError, ErrorCode, IdentError, Panicked, code_of_io};

/// A failed catalog operation.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The state database refused the operation, or failed.
    ///
    /// In this crate's `# Errors` sections, "the database fails" stands for its general failures. It does not answer, is full,
    /// holds a value that can't be read, or does not confirm a commit; or it counts this server as dead, or it lost changes. A change
    /// whose client may repeat the request also fails with [`StateError::DuplicateKey`], if the same request was carried out
    /// meanwhile.
    #[error(transparent)]
    State(#[from] StateError),
    /// The storage failed, a location can't be parsed, or no credentials may be vended for a place.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A requirement does not hold, an update breaks a rule of the specification, or metadata can't be parsed.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A manifest could not be read or written, or a plan no longer fits the table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The rules of access control refuse the operation.
    ///
    /// In this crate's `# Errors` sections it is not named: every function that takes an [`Actor`](crate::Actor) or an
    /// [`Authority`](crate::Authority) returns it. A thing that the caller may not see has the error of one that does not exist.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// A change failed at its commit point with an error of another crate, for example while it wrote deletes.
    #[error(transparent)]
    Carried(#[from] CodedError),
    /// A set that exceeds its memory could not be written to disk or read back.
    #[error("spilling to disk: {0}")]
    Spill(#[from] std::io::Error),
    /// A name of a namespace, table or view is not valid.
    #[error(transparent)]
    Name(#[from] IdentError),
    /// The metadata file that the catalog points to is not in storage.
    ///
    /// The text begins as that of the reference implementation does.
    #[error(
        "Failed to open input stream for file: {uri}: table {table} exists, but this metadata file of it is gone from \
         storage; restore the file, or register an older metadata file with overwrite"
    )]
    MetadataGone {
        /// Name of the table or view.
        table: String,
        /// URI of the metadata file.
        uri: String,
    },
    /// A metadata file can't be parsed or compressed.
    #[error("metadata file {uri} can't be read: {reason}")]
    MetadataInvalid {
        /// URI of the file.
        uri: String,
        /// Message of the parser.
        reason: String,
    },
    /// The ledger or the epoch file can't be parsed.
    #[error(
        "{uri}, a file of Esker's own, can't be read: {reason}; put back an earlier copy of it, or move it away, then run \
         `esker recover --dry-run`"
    )]
    OwnFileInvalid {
        /// URI of the file.
        uri: String,
        /// Message of the parser.
        reason: String,
    },
    /// A value of Esker's own can't be written as JSON, which is a bug; nothing was written.
    #[error("{what} can't be written as JSON: {source}; this is a bug of Esker")]
    Encode {
        /// Name of the value for people, such as `the ledger`.
        what: &'static str,
        /// Error of the serializer.
        source: serde_json::Error,
    },
    /// The commit is based on a state of the table that is no longer current.
    #[error("{0}")]
    Conflict(String),
    /// A late commit was not merged, though the table's policy asks for merges.
    #[error("{source}; not merged: {refusal}")]
    NotMerged {
        /// Error that the commit has because it is late.
        source: FormatError,
        /// The rule that it breaks, with what breaks it.
        refusal: Refusal,
    },
    /// An update can't be applied, or the request contradicts itself or the configuration.
    #[error("{0}")]
    Invalid(String),
    /// A view's version or schema is not valid.
    #[error("{0}")]
    IllegalArgument(String),
    /// A table or view may not have files at this location.
    #[error("location {location} is not allowed: {reason}")]
    Location {
        /// The refused location.
        location: String,
        /// Reason, with the way out.
        reason: String,
    },
    /// A key of namespace properties is both set and removed.
    #[error("property {0:?} is both in updates and in removals")]
    Contradiction(String),
    /// The commit may or may not have been applied.
    #[error("the commit to {table} may or may not have been applied: {reason}; load the table to find out")]
    StateUnknown {
        /// Name or id of the table or view, or the tables of a transaction.
        table: String,
        /// Reason why the outcome is unknown.
        reason: String,
    },
    /// The commit got no turn in time, and nothing was done.
    ///
    /// Holds the table and the wait in seconds.
    #[error("{0} is busy with other commits, and the turn did not come within {1} s; nothing was done, try again")]
    Busy(String, u64),
    /// Too many commits wait for the table or the warehouse, and nothing was done.
    #[error("{what} has too many commits in its queue ({waiting}); nothing was done, try again")]
    QueueFull {
        /// The table or the warehouse.
        what: String,
        /// Number of commits that wait.
        waiting: usize,
    },
    /// Other commits kept winning against a drop, and nothing was done.
    ///
    /// This is not [`Conflict`](Self::Conflict), which is no answer to a drop.
    #[error("{0}; nothing was done, try again")]
    Overtaken(String),
    /// Storage has states of the table that the database does not have.
    ///
    /// The database was restored from a backup, or is a copy.
    #[error("{table} can't be changed: {why}; stop the server and run `esker recover --dry-run`")]
    Behind {
        /// Name of the table or view.
        table: String,
        /// Evidence, such as the metadata file that the database does not have.
        why: String,
    },
    /// The files that another table refers to are not known, so nothing near them may be deleted.
    #[error(
        "the files of {table} can't be listed: {source}; no file that may belong to it is deleted until it can be read or \
         is dropped"
    )]
    Elsewhere {
        /// Name of the other table.
        table: String,
        /// Error of reading the other table.
        source: Box<CatalogError>,
    },
    /// A table names files of another table, whose rows the reader may not all read.
    #[error(
        "table {table} names files of another table, whose rows the caller may not all read; a manifest may have been replaced in \
         the store, or somebody put them there who may read both tables"
    )]
    FilesOfOthers {
        /// Name of the table that names the files.
        table: String,
    },
    /// The operation does not apply to this table, or not in its present state.
    #[error("{0}")]
    Refused(String),
    /// Code of Esker panicked before anything was done.
    #[error("{0}; this is a bug of Esker; nothing was done; the server's log has the place in the code")]
    Panicked(Panicked),
    /// The server that holds the lease of the table refused the commit. It was certainly not made.
    #[error("{message}")]
    Forwarded {
        /// Code of the original error.
        code: ErrorCode,
        /// Message of the original error.
        message: String,
    },
    /// The batch that this commit belonged to failed as a whole.
    ///
    /// The first commit of the batch gets the original error, the others get this copy.
    #[error("{message}")]
    Batch {
        /// Code of the original error.
        code: ErrorCode,
        /// Message of the original error.
        message: String,
    },
}

impl CatalogError {
    /// Checks whether a commit was refused because its table moved after its client loaded it. The client may compute it again.
    pub(crate) fn is_late(&self) -> bool {
        let is_of_late = |error: &FormatError| matches!(error, FormatError::Requirement(_) | FormatError::StaleSnapshot(_));
        match self {
            Self::Format(error) | Self::NotMerged { source: error, .. } => is_of_late(error),
            _ => false,
        }
    }

    /// Maps a failed publish: the outcome is unknown if the database did not confirm it; otherwise nothing was changed.
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
            Self::Rights(e) => e.code(),
            Self::Carried(e) => e.code(),
            Self::Spill(e) => code_of_io(e),
            Self::Name(_) | Self::Invalid(_) | Self::Location { .. } => ErrorCode::BadRequest,
            Self::IllegalArgument(_) => ErrorCode::IllegalArgument,
            Self::MetadataGone { .. } => ErrorCode::DataMissing,
            Self::MetadataInvalid { .. } | Self::OwnFileInvalid { .. } => ErrorCode::DataInvalid,
            Self::Encode { .. } => ErrorCode::Internal,
            Self::Conflict(_) | Self::NotMerged { .. } => ErrorCode::CommitConflict,
            Self::Contradiction(_) => ErrorCode::Unprocessable,
            Self::StateUnknown { .. } => ErrorCode::CommitStateUnknown,
            Self::Busy(..) | Self::QueueFull { .. } | Self::Overtaken(_) => ErrorCode::TooBusy,
            Self::Behind { .. } | Self::FilesOfOthers { .. } => ErrorCode::Forbidden,
            // A 500 would leave a committing client in doubt about the outcome.
            Self::Refused(_) | Self::Panicked(_) => ErrorCode::Refused,
            Self::Elsewhere { source, .. } => source.code(),
            Self::Batch { code, .. } | Self::Forwarded { code, .. } => *code,
        }
    }
}
