use esker_types::{Coded, ErrorCode};

/// Why something of the format can't be read, made or changed.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// A JSON text is none of the specification's; `at` is the path of the field.
    #[error("{what}: {at}: {source}")]
    Json {
        /// What the text is of.
        what: &'static str,
        /// The field, by its path.
        at: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// What a commit requires of a table or view does not hold. Engines' tests look for the reference implementation's words.
    #[error("Requirement failed: {0}")]
    Requirement(String),
    /// A snapshot was made for an earlier state of its table, and can be made anew.
    #[error("Validation failed, please retry: {0}")]
    Overtaken(String),
    /// A change can't be made, or would break a rule of the specification.
    #[error("{0}")]
    Refused(String),
    /// A file of Avro, or what is in it, is damaged.
    #[error("{what}: {why}")]
    Avro {
        /// The file, and the field in it.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// What is said contradicts itself.
    #[error("{what}: {why}")]
    Invalid {
        /// The thing.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A result of this crate.
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
            Self::Requirement(_) | Self::Overtaken(_) => ErrorCode::CommitConflict,
            Self::Refused(_) => ErrorCode::BadRequest,
        }
    }
}
