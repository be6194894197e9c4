//! [`StorageError`]: the failures of storage, sorted by their meaning for the caller.
//!
//! The clients of the stores report most failures as one generic error. [`StorageError::new`] looks through the chain of its causes
//! for the error of the operating system or of the HTTP client, and sorts by that.

use std::error::Error;
use std::io;

use esker_types::{Coded, ErrorCode, code_of_io, error_chain};
use object_store::client::HttpError;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::http::StoreAnswer;

/// A failed storage operation. Every variant but [`UnknownOption`](Self::UnknownOption) names the URI.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No file exists at the URI.
    #[error("{uri}: not found in storage")]
    NotFound {
        /// The URI that was read or written.
        uri: String,
    },
    /// The bucket or container of the URI does not exist.
    #[error("{uri}: the storage has no such bucket; make it, or name another in the warehouse's location")]
    NoBucket {
        /// The URI that was read or written.
        uri: String,
    },
    /// The store has no room: the disk is full, or a quota is exceeded.
    #[error("{uri}: storage is full; free space and repeat the request")]
    Full {
        /// The URI that was written.
        uri: String,
    },
    /// The URI is not a location that this storage can hold.
    #[error("{uri}: {reason}")]
    InvalidLocation {
        /// The URI as it was given.
        uri: String,
        /// The rule that the URI breaks, as text.
        reason: &'static str,
    },
    /// The kind of store has no option of this name.
    #[error("a {scheme} store has no option {key:?}; options are named as the object_store crate names them")]
    UnknownOption {
        /// The name of the option.
        key: String,
        /// The kind of store: `S3`, `Gcs`, …
        scheme: String,
    },
    /// The store does not permit the operation to this server.
    #[error("{uri}: the storage denies access: {source}; check the credentials that the server was given")]
    Denied {
        /// The URI of the operation.
        uri: String,
        /// The store's own error.
        source: object_store::Error,
    },
    /// The store did not answer, or answered that it is overloaded, until the time for retries was over.
    #[error("{uri}: the storage is away or overloaded: {source}")]
    Unavailable {
        /// The URI of the operation.
        uri: String,
        /// The store's own error.
        source: object_store::Error,
    },
    /// No credentials may be vended for a place.
    #[error("no credentials are vended for {uri}: {reason}")]
    NotVendable {
        /// The URI of the place.
        uri: String,
        /// The reason, with the way out or with what stands in the way.
        reason: String,
    },
    /// A client's request to the store is not signed.
    #[error("no request to {uri} is signed: {reason}")]
    NotSignable {
        /// The URI of the request, without its query.
        uri: String,
        /// The reason, with the way out.
        reason: String,
    },
    /// The token service refuses to vend credentials. Its own text is only logged: it has names of the operator's account.
    #[error("the token service at {uri} vends no credentials: {code}; the server's log has its text")]
    StsRefused {
        /// The scheme, host and port of the token service's URL.
        uri: String,
        /// The code of the service's error, such as `AccessDenied`.
        code: String,
    },
    /// The token service did not answer, or answered that it is overloaded.
    #[error("the token service at {uri} is away or overloaded: {reason}")]
    StsUnavailable {
        /// The scheme, host and port of the token service's URL.
        uri: String,
        /// The code of the service's error, or the error of the connection.
        reason: String,
    },
    /// The file ends before the range that was to be read. It was truncated or replaced.
    #[error("{uri}: the file has {size} bytes, but was to be read up to byte {end}: it was truncated or replaced")]
    Truncated {
        /// The URI of the file.
        uri: String,
        /// The size of the file, in bytes.
        size: u64,
        /// The end of the range that was to be read, as an exclusive byte offset.
        end: u64,
    },
    /// Any other failure of the store.
    #[error("{uri}: {source}")]
    Io {
        /// The URI of the operation.
        uri: String,
        /// The store's own error.
        source: object_store::Error,
    },
}

impl StorageError {
    /// Returns the URI of the operation. Only [`UnknownOption`](Self::UnknownOption) has none.
    pub fn uri(&self) -> Option<&str> {
        match self {
            Self::NotFound { uri }
            | Self::NoBucket { uri }
            | Self::Full { uri }
            | Self::InvalidLocation { uri, .. }
            | Self::Denied { uri, .. }
            | Self::Unavailable { uri, .. }
            | Self::NotVendable { uri, .. }
            | Self::NotSignable { uri, .. }
            | Self::StsRefused { uri, .. }
            | Self::StsUnavailable { uri, .. }
            | Self::Truncated { uri, .. }
            | Self::Io { uri, .. } => Some(uri),
            Self::UnknownOption { .. } => None,
        }
    }

    /// Sorts a store's error by its meaning for the caller.
    pub fn new(uri: &str, source: object_store::Error) -> Self {
        let uri = uri.to_owned();
        match source {
            object_store::Error::NotFound { .. } => return Self::NotFound { uri },
            source @ (object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }) => {
                return Self::Denied { uri, source };
            }
            _ => {}
        }
        // The error of the network or of the file system is below the generic one that the store's client makes of it.
        let below = |e: &(dyn Error + 'static)| match e.downcast_ref::<io::Error>() {
            Some(e) if e.kind() == io::ErrorKind::PermissionDenied => Some(ErrorCode::Forbidden),
            Some(e) => Some(code_of_io(e)).filter(|code| *code != ErrorCode::Internal),
            // A request without an answer, or with one that [`crate::http`] passed on.
            None => {
                let answer = e.downcast_ref::<HttpError>()?.source().and_then(|e| e.downcast_ref::<StoreAnswer>());
                Some(answer.map_or(ErrorCode::Unavailable, StoreAnswer::code))
            }
        };
        let code = error_chain(&source).find_map(below);
        match code {
            Some(ErrorCode::StorageFull) => Self::Full { uri },
            Some(ErrorCode::Forbidden) => Self::Denied { uri, source },
            Some(ErrorCode::DataMissing) => Self::NoBucket { uri },
            Some(_) => Self::Unavailable { uri, source },
            None => Self::Io { uri, source },
        }
    }

    /// Sorts a store's error for a read of a range that ends at byte `end` (exclusive).
    ///
    /// Stores have no error of their own for a file that is shorter than that. So an error of no other meaning makes this ask for
    /// the file's size, with one more request.
    pub async fn for_range(uri: &str, (store, path): (&dyn ObjectStore, &Path), end: u64, source: object_store::Error) -> Self {
        match Self::new(uri, source) {
            Self::Io { uri, source } => match store.head(path).await {
                Ok(meta) if meta.size < end => Self::Truncated { uri, size: meta.size, end },
                _ => Self::Io { uri, source },
            },
            error => error,
        }
    }
}

impl Coded for StorageError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound { .. } | Self::NoBucket { .. } => ErrorCode::DataMissing,
            Self::Full { .. } => ErrorCode::StorageFull,
            Self::InvalidLocation { .. } | Self::UnknownOption { .. } => ErrorCode::BadRequest,
            Self::Denied { .. } | Self::NotVendable { .. } | Self::NotSignable { .. } | Self::StsRefused { .. } => {
                ErrorCode::Forbidden
            }
            Self::Unavailable { .. } | Self::StsUnavailable { .. } => ErrorCode::Unavailable,
            Self::Truncated { .. } => ErrorCode::DataInvalid,
            Self::Io { .. } => ErrorCode::Internal,
        }
    }
}

/// Finds the storage error in the causes of another crate's error, so that its meaning survives the wrapping.
pub fn storage_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a StorageError> {
    error_chain(error).find_map(|e| e.downcast_ref())
}

#[cfg(test)]
mod tests {
    use object_store::client::HttpErrorKind;

    use super::*;

    fn generic(source: impl Error + Send + Sync + 'static) -> object_store::Error {
        object_store::Error::Generic { store: "test", source: Box::new(source) }
    }

    fn denied() -> object_store::Error {
        object_store::Error::PermissionDenied { path: "x".to_owned(), source: "403".into() }
    }

    #[test]
    fn a_store_s_error_is_sorted_by_what_it_means_however_deep_it_is() {
        let timeout = || HttpError::new(HttpErrorKind::Timeout, io::Error::other("30 s"));
        for (error, code) in [
            (generic(io::Error::from(io::ErrorKind::TimedOut)), ErrorCode::Unavailable),
            (generic(io::Error::other(io::Error::other(timeout()))), ErrorCode::Unavailable),
            (generic(timeout()), ErrorCode::Unavailable),
            (generic(io::Error::other(io::Error::from(io::ErrorKind::StorageFull))), ErrorCode::StorageFull),
            (generic(io::Error::from(io::ErrorKind::PermissionDenied)), ErrorCode::Forbidden),
            (denied(), ErrorCode::Forbidden),
            (generic(io::Error::from(io::ErrorKind::InvalidData)), ErrorCode::Internal),
            (object_store::Error::NotFound { path: "x".to_owned(), source: "404".into() }, ErrorCode::DataMissing),
        ] {
            let text = error.to_string();
            assert_eq!(StorageError::new("s3://lake/x", error).code(), code, "{text}");
        }
    }
}
