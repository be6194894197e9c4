//! [`Error`]: the failures of a command, with the texts that the person at the terminal reads.

use std::io;

use esker_auth::AuthError;
use esker_catalog::CatalogError;
use esker_query::QueryError;
use esker_report::ReportError;
use esker_state::StateError;
use esker_storage::StorageError;
use esker_types::with_causes;

/// The failure of a command or of the server's start.
///
/// `main` prints its text, so the text is for the person who gave the command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key of the configuration is unknown, has a value of the wrong type, or contradicts another key. The text names the key.
    #[error("configuration: {0}")]
    Config(String),
    /// The server can't listen on an address.
    #[error("can't listen on {address} ({key}): {source}")]
    Listen {
        /// The address and port.
        address: String,
        /// The configuration key of the port, such as `server.rest_port`.
        key: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another process holds the lock of this data directory.
    #[error("{0} is in use by another esker process; only one may use a data directory")]
    Locked(String),
    /// A file, a directory or another resource of the operating system can't be used.
    #[error("{path}: {source}")]
    Io {
        /// The path of the file or directory, or a few words that name the resource, such as `job threads`.
        path: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The state database failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// A token can't be made, found or revoked, or the rules of access control can't be loaded or changed.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The query engine failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The client of a receiver of events or health can't be made, although its configuration is right.
    #[error("{key}: {source}")]
    Report {
        /// The section of the configuration that names the receiver, such as `datahub`.
        key: String,
        /// The error of the client.
        source: ReportError,
    },
    /// The server answered with an error, with something unexpected, or not at all.
    #[error("{0}")]
    Remote(String),
    /// A request or an output can't be written as JSON, which is a bug.
    #[error("can't be written as JSON: {0}; this is a bug of Esker")]
    Encode(#[from] serde_json::Error),
    /// The command line is wrong, or the command can't be carried out as it was given.
    #[error("{0}")]
    Usage(String),
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        let text = with_causes(&error);
        match error.is_connect() {
            true => Self::Remote(format!("no server answers ({text}); is `esker serve` running, and --url right?")),
            false => Self::Remote(text),
        }
    }
}
