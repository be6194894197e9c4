use std::error::Error as _;

use esker_types::{Carried, Coded, ErrorCode};
use iceberg::ErrorKind;

use crate::BadProperty;

/// A failed operation on a table's metadata.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The `iceberg` crate could not check or write metadata.
    #[error("{}", plain(.0))]
    Iceberg(#[from] iceberg::Error),
    /// A manifest list or a manifest can't be read.
    #[error("{}", of_file(.path, .source))]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: Box<iceberg::Error>,
    },
    /// A snapshot leads to a file that can't be read.
    #[error("{}", of_snapshot(.snapshot_id, .source))]
    OfSnapshot {
        /// The snapshot.
        snapshot_id: i64,
        /// What is wrong with which file.
        source: Box<TableError>,
    },
    /// What the caller does on the way (recording files, reading deletes) failed.
    #[error(transparent)]
    Carried(#[from] Carried),
    /// Table metadata or a property can't be read.
    #[error("table metadata: {0}")]
    Invalid(String),
    /// A property that protects something can't be read.
    #[error(transparent)]
    Property(#[from] BadProperty),
    /// The change does not apply to the table as it is now.
    #[error("{0}")]
    Conflict(String),
    /// A row filter or another argument of a scan that the table can't answer.
    #[error("{0}")]
    Filter(String),
    /// Esker does not support this table, and says so rather than half-handle it.
    #[error("not supported: {0}")]
    Unsupported(String),
}

impl TableError {
    /// A metadata file of some kind that can't be read.
    pub fn file(path: &str, source: iceberg::Error) -> Self {
        Self::File { path: path.to_owned(), source: Box::new(source) }
    }

    /// The snapshot and the manifest list or manifest of it that can't be read, if that is what went wrong.
    pub fn of_snapshot(&self) -> Option<(i64, &str)> {
        let Self::OfSnapshot { snapshot_id, source } = self else { return None };
        match source.as_ref() {
            Self::File { path, .. } => Some((*snapshot_id, path)),
            _ => None,
        }
    }
}

impl Coded for TableError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Iceberg(e) => code_of(e),
            Self::File { source, .. } => code_of(source),
            Self::OfSnapshot { source, .. } => source.code(),
            Self::Carried(e) => e.code(),
            Self::Invalid(_) | Self::Filter(_) => ErrorCode::BadRequest,
            Self::Property(_) => ErrorCode::Refused,
            Self::Conflict(_) => ErrorCode::CommitConflict,
            Self::Unsupported(_) => ErrorCode::Unsupported,
        }
    }
}

/// What an error of the `iceberg` crate means: as what led to it, or else by its kind.
pub fn code_of(error: &iceberg::Error) -> ErrorCode {
    if let Some(cause) = Carried::cause_of(error) {
        return cause.code();
    }
    match error.kind() {
        ErrorKind::DataInvalid => ErrorCode::DataInvalid,
        ErrorKind::FeatureUnsupported => ErrorCode::Unsupported,
        ErrorKind::PreconditionFailed | ErrorKind::CatalogCommitConflicts => ErrorCode::CommitConflict,
        _ => ErrorCode::Internal,
    }
}

/// What an error of the `iceberg` crate says and what led to it, without the names that they have in Rust.
pub fn plain(error: &iceberg::Error) -> String {
    let mut text = error.message().to_owned();
    let mut next = error.source();
    while let Some(cause) = next {
        let says = cause.downcast_ref::<iceberg::Error>().map_or_else(|| cause.to_string(), |e| e.message().to_owned());
        // Many repeat what led to them.
        if !text.contains(&says) {
            text = format!("{text}: {says}");
        }
        next = cause.source();
    }
    text
}

/// What an error of the `iceberg` crate says of a file, with the file's name, once.
fn of_file(path: &str, error: &iceberg::Error) -> String {
    let text = plain(error);
    if text.contains(path) { text } else { format!("{path}: {text}") }
}

/// What led to a file that can't be read, and the way out where it is a lasting one: an expired snapshot is not asked for its files.
fn of_snapshot(id: &i64, error: &TableError) -> String {
    match error.code().is_passing() {
        true => format!("snapshot {id}: {error}"),
        false => format!(
            "snapshot {id}: {error}; bring the file back from the store's versions or a backup, or expire the snapshot, if no branch or \
             tag needs it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_file_and_no_type_of_rust() {
        let inner = iceberg::Error::new(ErrorKind::DataInvalid, "field status is missing");
        let source = iceberg::Error::new(ErrorKind::DataInvalid, "an entry can't be read").with_source(inner);
        let error = TableError::file("s3://lake/m0.avro", source);
        assert_eq!(error.to_string(), "s3://lake/m0.avro: an entry can't be read: field status is missing");
        assert_eq!(error.code(), ErrorCode::DataInvalid);
    }

    #[test]
    fn what_led_to_an_error_says_what_it_means() {
        let cause = Carried::new(TableError::Conflict("somebody was first".to_owned()));
        let error = iceberg::Error::new(ErrorKind::Unexpected, "it can't be written").with_source(cause);
        assert_eq!(TableError::Iceberg(error).code(), ErrorCode::CommitConflict);
    }
}
