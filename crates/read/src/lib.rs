//! Parquet with position deletes applied and rows adapted to the table's present schema by field id. Queries and rewrites
//! share it, with one cache of footers and of parsed delete files.
//!
//! A file whose deletes can't be applied (equality deletes and deletion vectors, so far) is an error, never wrong rows.

mod adapt;
mod deletes;
mod error;
mod literal;
mod reader;

pub use adapt::{Adapter, target_schema};
pub use deletes::check_readable;
pub use error::ReadError;
pub use literal::literal_array;
pub use reader::{FileScan, OpenFile, ReadStats, Reader};

/// The result of a read.
pub type Result<T> = std::result::Result<T, ReadError>;
