use std::io;

use esker_catalog::CatalogError;
use esker_query::QueryError;
use esker_state::StateError;
use esker_storage::StorageError;

/// Why a command failed, in words for the person who gave it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key of the configuration is unknown, mistyped or contradicts another.
    #[error("configuration: {0}")]
    Config(String),
    /// A port can't be listened on.
    #[error("can't listen on {address} ({key}): {source}")]
    Listen {
        /// The address.
        address: String,
        /// The configuration key that names it.
        key: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// Another server works on this data directory.
    #[error("{0} is in use by another esker process; one server a data directory")]
    Locked(String),
    /// A file or directory can't be used.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The state database failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The query engine failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The server answered with an error, or not at all.
    #[error("{0}")]
    Remote(String),
    /// The command line says something that can't be.
    #[error("{0}")]
    Usage(String),
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        match error.is_connect() {
            true => Self::Remote(format!("no server answers ({error}); is `esker serve` running, and --url right?")),
            false => Self::Remote(error.to_string()),
        }
    }
}
