use esker_format::FormatError;
use esker_storage::StorageError;
use esker_types::{Carried, Coded, ErrorCode};

use crate::BadProperty;

/// A failed operation on a table's metadata.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Metadata can't be read, made or changed.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A manifest list or a manifest can't be read.
    #[error("{}", of_file(.path, .source))]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: Carried,
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
    /// A file of metadata of some kind that can't be read.
    pub fn file(path: &str, source: impl Coded + Send + Sync + 'static) -> Self {
        Self::File { path: path.to_owned(), source: Carried::new(source) }
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
            Self::Format(e) => e.code(),
            Self::Storage(e) => e.code(),
            Self::File { source, .. } => source.code(),
            Self::OfSnapshot { source, .. } => source.code(),
            Self::Carried(e) => e.code(),
            Self::Invalid(_) | Self::Filter(_) => ErrorCode::BadRequest,
            Self::Property(_) => ErrorCode::Refused,
            Self::Conflict(_) => ErrorCode::CommitConflict,
            Self::Unsupported(_) => ErrorCode::Unsupported,
        }
    }
}

/// What an error says of a file, with the file's name, once.
fn of_file(path: &str, error: &Carried) -> String {
    let text = error.to_string();
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
    fn an_error_names_the_file_once_and_means_what_led_to_it() {
        let damaged = FormatError::Avro { what: "manifest: field 0".to_owned(), why: "it is null".to_owned() };
        let error = TableError::file("s3://lake/m0.avro", damaged);
        assert_eq!(error.to_string(), "s3://lake/m0.avro: manifest: field 0: it is null");
        assert_eq!(error.code(), ErrorCode::DataInvalid);
        let gone = TableError::file("s3://lake/m0.avro", StorageError::NotFound { uri: "s3://lake/m0.avro".to_owned() });
        assert_eq!((gone.to_string().matches("m0.avro").count(), gone.code()), (1, ErrorCode::DataMissing));
    }
}
