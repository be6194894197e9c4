use std::error::Error;
use std::io;

use esker_types::{Coded, ErrorCode, causes, code_of_io};
use object_store::client::HttpError;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

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
    /// The store does not let this server do it.
    #[error("{uri}: the storage denies it: {source}; look at the credentials that the server was given")]
    Denied {
        /// What was touched.
        uri: String,
        /// The store's own error.
        source: object_store::Error,
    },
    /// The store did not answer, or asked to be left alone, for as long as it was tried.
    #[error("{uri}: the storage is away or overloaded: {source}")]
    Away {
        /// What was touched.
        uri: String,
        /// The store's own error.
        source: object_store::Error,
    },
    /// The file ends before what is read of it.
    #[error("{uri}: it has {size} bytes, and is read to byte {end}: it was cut or replaced")]
    Short {
        /// The file.
        uri: String,
        /// Its bytes.
        size: u64,
        /// The end of what was to be read.
        end: u64,
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
            Self::NotFound { uri }
            | Self::NoBucket { uri }
            | Self::Full { uri }
            | Self::InvalidLocation { uri, .. }
            | Self::Denied { uri, .. }
            | Self::Away { uri, .. }
            | Self::Short { uri, .. }
            | Self::Io { uri, .. } => Some(uri),
            Self::UnknownOption { .. } => None,
        }
    }

    /// Sorts a store's error by what it means for the caller.
    pub fn new(uri: &str, source: object_store::Error) -> Self {
        let uri = uri.to_owned();
        match source {
            object_store::Error::NotFound { .. } => return Self::NotFound { uri },
            source @ (object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }) => {
                return Self::Denied { uri, source };
            }
            _ => {}
        }
        // What the network or the file system said, below what the store's client makes of it.
        let below = |e: &(dyn Error + 'static)| match e.downcast_ref::<io::Error>() {
            Some(e) if e.kind() == io::ErrorKind::PermissionDenied => Some(ErrorCode::Forbidden),
            Some(e) => Some(code_of_io(e)).filter(|code| *code != ErrorCode::Internal),
            // An answer that never came, or that asks to come again ([`crate::http`]).
            None => e.is::<HttpError>().then_some(ErrorCode::Unavailable),
        };
        let code = causes(&source).find_map(below);
        match code {
            Some(ErrorCode::StorageFull) => Self::Full { uri },
            Some(ErrorCode::Forbidden) => Self::Denied { uri, source },
            Some(_) => Self::Away { uri, source },
            None => Self::Io { uri, source },
        }
    }

    /// Why bytes up to `end` could not be read: stores have no word of their own for a file that ends before them, so its size is asked for.
    pub async fn of_range(uri: &str, (store, path): (&dyn ObjectStore, &Path), end: u64, source: object_store::Error) -> Self {
        match Self::new(uri, source) {
            Self::Io { uri, source } => match store.head(path).await {
                Ok(meta) if meta.size < end => Self::Short { uri, size: meta.size, end },
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
            Self::Denied { .. } => ErrorCode::Forbidden,
            Self::Away { .. } => ErrorCode::Unavailable,
            Self::Short { .. } => ErrorCode::DataInvalid,
            Self::Io { .. } => ErrorCode::Internal,
        }
    }
}

/// The storage error at the bottom of another crate's error, so that its meaning survives the wrapping.
pub fn storage_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a StorageError> {
    causes(error).find_map(|e| e.downcast_ref())
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
