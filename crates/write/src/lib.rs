//! Data and delete files, written as the table's properties say: shared by rewrites and by SQL.
//!
//! Every file is recorded before it is written and read back after it, so that what a killed process left is known, and what is committed
//! is what was to be written.

mod append;
mod deletes;
mod destination;
mod dictionary;
mod encode;
mod error;
mod metrics;
mod output;
mod pages;
mod properties;
mod shapes;
mod shred;
mod shredding;
mod split;
mod stored;
mod uuids;
mod variants;

pub use append::Appender;
pub use deletes::{RowsToDelete, write_deletes};
pub use destination::{Destination, Recorder, WriteCounters};
pub use encode::{EncodedGroup, ParquetLayout, RowGroupEncoder, count_nans};
pub use error::WriteError;
pub use metrics::NanCounts;
pub use output::{OutputFile, RowGroup, WrittenFile};
pub use pages::flat;
pub use shredding::Shredding;

/// The result of a write.
pub type Result<T> = std::result::Result<T, WriteError>;
