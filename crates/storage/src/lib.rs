//! Constructs every object store; nothing else in the workspace does.
//!
//! [`Storage`] speaks URIs as Iceberg metadata holds them (`file:///…`, Java's `file:/…`, `s3://…`, `gs://…`, `abfss://…`). [`Location`] holds
//! the location rules: normalised, compared by path segments, never by string prefix.

mod cloud;
mod error;
mod http;
mod listing;
mod local;
mod location;
mod store;

pub use error::{StorageError, storage_cause};
pub use listing::Part;
pub use local::LocalStore;
pub use location::{Location, Scheme};
pub use store::{Listed, Storage, StorageOptions};

/// The result of a storage operation.
pub type Result<T> = std::result::Result<T, StorageError>;
