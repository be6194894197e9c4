//! SQL over the catalog's tables with DataFusion, through a `TableProvider` of our own.
//!
//! A scan pins one snapshot, prunes files by partition and bounds and row groups by statistics, runs in parallel and applies
//! position deletes. A table with deletes that can't be applied is an error, never wrong rows.

mod catalogs;
mod engine;
mod error;
mod log;
mod prune;
mod ranges;
mod scan;
mod table;

pub use engine::{Engine, EngineOptions, Prepared, Running};
pub use error::QueryError;
pub use log::{QueryLog, QueryRecord, QueryStats};
pub use table::IcebergTable;

/// The result of a query operation.
pub type Result<T> = std::result::Result<T, QueryError>;
