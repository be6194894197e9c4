//! The only crate that constructs object stores: [`Storage`] reads, writes, lists and removes files by their URI.
//!
//! [`Storage`] takes URIs as Iceberg metadata holds them (`file:///…`, Java's `file:/…`, `s3://…`, `gs://…`, `abfss://…`). A
//! [`Location`] is normalised, and is compared by path segments, never by string prefix. Start reading with [`Storage`] in
//! `store.rs`. Credentials for clients are made in `vending/`, and their requests are signed in `signing/`.

mod closed;
mod cloud;
mod error;
mod http;
mod listing;
mod local;
mod location;
mod signing;
mod sigv4;
mod store;
mod vending;

pub use closed::ClosedFiles;
pub use cloud::s3_option;
pub use error::{StorageError, storage_cause};
pub use listing::ListingPart;
pub use local::LocalStore;
pub use location::{Location, Scheme};
pub use signing::{SignRequest, SignedRequest, Signer, SigningOptions};
pub use store::{ListedObject, Storage, StorageOptions};
pub use vending::{
    ALL_BUT_UNRESERVED, BearerToken, Credential, DirectorySas, Grant, Level, PolicyPrefix, SessionName, VendRequest, Vended,
    VendingOptions, Vendor,
};

/// The result of a storage operation.
pub type Result<T> = std::result::Result<T, StorageError>;
