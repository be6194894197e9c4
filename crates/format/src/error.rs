//! The error of this crate, and its mapping to the error codes of the protocols.

use esker_types::{Coded, ErrorCode};

/// An error in reading, creating or changing a part of the format.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// A JSON text does not have the specification's form, or a value cannot be printed as JSON.
    #[error("{what}: {at}: {source}")]
    Json {
        /// The kind of text, such as "table metadata".
        what: &'static str,
        /// The path of the field, such as `snapshots[1].snapshot-id`.
        at: String,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A requirement of a commit does not hold for the table or view. Engines' tests match the text, which is Java's.
    #[error("Requirement failed: {0}")]
    Requirement(String),
    /// A new snapshot was computed for an earlier state of its table. The client can compute it again and retry.
    #[error("Validation failed, please retry: {0}")]
    StaleSnapshot(String),
    /// A change of a table or view is impossible, or would break a rule of the specification. The text says why.
    #[error("{0}")]
    Refused(String),
    /// An Avro file, or a value in it, is damaged.
    #[error("{what}: {why}")]
    Avro {
        /// The kind of file, such as "manifest", and the id of the field if one is damaged.
        what: String,
        /// The damage.
        why: String,
    },
    /// A value contradicts itself or the values around it, or the file to be written cannot express it.
    #[error("{what}: {why}")]
    Invalid {
        /// The object that is invalid, such as "schema 7".
        what: String,
        /// The contradiction.
        why: String,
    },
}

/// The result type of this crate.
pub type Result<T, E = FormatError> = std::result::Result<T, E>;

impl FormatError {
    pub(crate) fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), why: why.into() }
    }
}

impl Coded for FormatError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Json { .. } | Self::Avro { .. } | Self::Invalid { .. } => ErrorCode::DataInvalid,
            Self::Requirement(_) | Self::StaleSnapshot(_) => ErrorCode::CommitConflict,
            Self::Refused(_) => ErrorCode::BadRequest,
        }
    }
}
