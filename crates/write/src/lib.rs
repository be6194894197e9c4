//! Writes data files and delete files as the table's properties say, for rewrites and for SQL.
//!
//! Every file is recorded before it is written ([`Recorder`]), so that a killed process leaves nothing unknown. Every data file
//! is read back and compared before its manifest entry is returned, so that a commit never refers to a damaged file.
//!
//! Start with [`Appender`] (rows in, manifest entries out). Rewrites use its pieces: [`ParquetLayout`], [`RowGroupEncoder`] and
//! [`OutputFile`]. [`write_deletes`] writes deletion vectors and position delete files.

mod append;
mod deletes;
mod destination;
mod dictionary;
mod encode;
mod error;
mod file_columns;
mod geo_statistics;
mod metrics;
mod output;
mod page_headers;
mod partition_split;
mod properties;
mod shredding;
mod uuid_annotation;
mod variant_bounds;
mod variant_shred;

pub use append::Appender;
pub use deletes::{ParquetDeletes, write_deletes};
pub use destination::{Destination, Recorder, WriteCounters};
pub use encode::{CopiedPart, EncodedGroup, ParquetLayout, RowGroupEncoder, RowLineage, count_nans};
pub use error::WriteError;
pub use metrics::NanCounts;
pub use output::{OutputFile, RowGroup, WrittenFile};
pub use page_headers::has_only_flat_columns;
pub use shredding::Shredding;

/// The result of a write, with [`WriteError`] as its error.
pub type Result<T> = std::result::Result<T, WriteError>;
