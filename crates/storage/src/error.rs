use std::error::Error;
use std::io;

use esker_types::{Coded, ErrorCode};

/// A failed storage operation. Every variant names the URI.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Nothing is there.
    #[error("{uri}: not found in storage")]
    NotFound {
        /// What was asked for.
        uri: String,
    },
    /// Not even the bucket is there.
    #[error("{uri}: the storage has no such bucket; make it, or name another in the warehouse's location")]
    NoBucket {
        /// What was asked for.
        uri: String,
    },
    /// The store has no room (disk full, quota exceeded).
    #[error("{uri}: storage is full; free space and repeat the request")]
    Full {
        /// What was being written.
        uri: String,
    },
    /// The URI is not one this storage can hold.
    #[error("{uri}: {reason}")]
    InvalidLocation {
        /// The URI as given.
        uri: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An option of the cloud store is not known.
    #[error("storage option {key:?} is not one of a {scheme} store")]
    UnknownOption {
        /// The option.
        key: String,
        /// The kind of store.
        scheme: String,
    },
    /// Any other failure of the store.
    #[error("{uri}: {source}")]
    Io {
        /// What was touched.
        uri: String,
        /// The store's own error.
        source: object_store::Error,
    },
}

impl StorageError {
    /// What was touched.
    pub fn uri(&self) -> Option<&str> {
        match self {
            Self::NotFound { uri } | Self::Full { uri } | Self::InvalidLocation { uri, .. } | Self::Io { uri, .. } => Some(uri),
            Self::UnknownOption { .. } => None,
        }
    }

    /// Sorts a store's error by what it means for the caller.
    pub fn new(uri: &str, source: object_store::Error) -> Self {
        let uri = uri.to_owned();
        match source {
            object_store::Error::NotFound { .. } => Self::NotFound { uri },
            source if is_full(&source) => Self::Full { uri },
            source => Self::Io { uri, source },
        }
    }
}

impl Coded for StorageError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound { .. } | Self::NoBucket { .. } => ErrorCode::DataMissing,
            Self::Full { .. } => ErrorCode::StorageFull,
            Self::InvalidLocation { .. } | Self::UnknownOption { .. } => ErrorCode::BadRequest,
            Self::Io { .. } => ErrorCode::Internal,
        }
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

fn is_full(error: &object_store::Error) -> bool {
    let full = |e: &io::Error| matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    // `io::Error` hides a wrapped error from `source()`, so look one level into it.
    let deep =
        |e: &io::Error| full(e) || e.get_ref().is_some_and(|inner| chain(inner).any(|e| e.downcast_ref().is_some_and(full)));
    chain(error).any(|e| e.downcast_ref().is_some_and(deep))
}

/// The storage error at the bottom of another crate's error, so that its meaning survives the wrapping.
pub fn storage_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a StorageError> {
    chain(error).find_map(|e| e.downcast_ref())
}
