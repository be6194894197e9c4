//! The error of this crate, and its mapping to [`ErrorCode`].
//!
//! An error about a file names the file once, whatever the underlying error says.

use esker_format::FormatError;
use esker_storage::StorageError;
use esker_types::{Coded, CodedError, ErrorCode};
use serde::{Deserialize, Serialize};

use crate::Refusal;

/// A property whose value cannot be parsed. Its display form is the evidence of the health finding `bad-property`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, utoipa::ToSchema)]
#[error("table property {key} = {value:?} is not {expects}; {instead}")]
pub struct BadProperty {
    /// The key, with the column's name for a property of a column.
    pub key: String,
    /// The value as it was set.
    pub value: String,
    /// The values that are valid, completing "is not …".
    pub expects: String,
    /// The consequence: the value that is used instead, or the operation that stays off.
    pub instead: String,
}

/// The error of an operation on a table's metadata.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Metadata cannot be parsed, built or changed.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A manifest list or a manifest cannot be read or decoded.
    #[error("{}", of_file(.path, .source))]
    File {
        /// The location of the file.
        path: String,
        /// The error of the storage or of the decoder.
        source: CodedError,
    },
    /// A snapshot refers to a manifest list or manifest that cannot be read.
    #[error("{}", of_snapshot(.snapshot_id, .source))]
    Snapshot {
        /// The id of the snapshot.
        snapshot_id: i64,
        /// The error, mostly a [`TableError::File`] that names the file.
        source: Box<TableError>,
    },
    /// A step of the caller's failed, such as recording files before they are written, or reading deletes.
    #[error(transparent)]
    Caller(#[from] CodedError),
    /// Table metadata or a deletion vector contradicts itself or the specification.
    #[error("table metadata: {0}")]
    Invalid(String),
    /// A property that protects files or snapshots cannot be parsed.
    #[error(transparent)]
    Property(#[from] BadProperty),
    /// The change does not apply to the table as it is now.
    #[error("{0}")]
    Conflict(String),
    /// A late commit is not merged.
    #[error(transparent)]
    NotMerged(#[from] Refusal),
    /// A row filter or another argument of a scan does not fit the table.
    #[error("{0}")]
    Filter(String),
    /// Esker does not support this table or this operation on it.
    #[error("not supported: {0}")]
    Unsupported(String),
}

impl TableError {
    /// Creates the error of a manifest list or manifest that cannot be read or decoded.
    pub fn file(path: &str, source: impl Coded + Send + Sync + 'static) -> Self {
        Self::File { path: path.to_owned(), source: CodedError::new(source) }
    }

    /// Returns the snapshot's id and the location of the file, if this is a [`TableError::Snapshot`] about a file.
    pub fn of_snapshot(&self) -> Option<(i64, &str)> {
        let Self::Snapshot { snapshot_id, source } = self else { return None };
        match source.as_ref() {
            Self::File { path, .. } => Some((*snapshot_id, path)),
            _ => None,
        }
    }
}

impl Coded for TableError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Format(e) => e.code(),
            Self::Storage(e) => e.code(),
            Self::File { source, .. } => source.code(),
            Self::Snapshot { source, .. } => source.code(),
            Self::Caller(e) => e.code(),
            Self::Invalid(_) => ErrorCode::DataInvalid,
            Self::Filter(_) => ErrorCode::BadRequest,
            Self::Property(_) => ErrorCode::Refused,
            Self::Conflict(_) | Self::NotMerged(_) => ErrorCode::CommitConflict,
            Self::Unsupported(_) => ErrorCode::Unsupported,
        }
    }
}

/// Formats an error of a file, and names the file once.
fn of_file(path: &str, error: &CodedError) -> String {
    let text = error.to_string();
    if text.contains(path) { text } else { format!("{path}: {text}") }
}

/// Formats an error of a snapshot's file.
///
/// A lasting error gets the way out as well. Expiring the snapshot helps, because the files of an expired snapshot are not read.
fn of_snapshot(id: &i64, error: &TableError) -> String {
    match error.code().is_transient() {
        true => format!("snapshot {id}: {error}"),
        false => format!(
            "snapshot {id}: {error}; restore the file from the store's versions or a backup, or expire the snapshot, if no \
             branch or tag needs it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_file_once_and_means_what_led_to_it() {
        let damaged = FormatError::Avro { what: "manifest: field 0".to_owned(), why: "it is null".to_owned() };
        let error = TableError::file("s3://lake/m0.avro", damaged);
        assert_eq!(error.to_string(), "s3://lake/m0.avro: manifest: field 0: it is null");
        assert_eq!(error.code(), ErrorCode::DataInvalid);
        let gone = TableError::file("s3://lake/m0.avro", StorageError::NotFound { uri: "s3://lake/m0.avro".to_owned() });
        assert_eq!((gone.to_string().matches("m0.avro").count(), gone.code()), (1, ErrorCode::DataMissing));
    }
}
