//! SQL over the catalog's tables with DataFusion, through a `TableProvider` of our own.
//!
//! A scan pins one snapshot and prunes files by partition and bounds; DataFusion's Parquet scan does the rest, on bytes that come through
//! the reader's caches, with deletes of every kind as row selections. A table with deletes that can't be applied is an error, never
//! wrong rows.

mod adapter;
mod calendar;
mod change;
mod checked;
mod commit;
mod deleted;
mod depth;
mod dialect;
mod engine;
mod error;
mod files;
mod foreign;
mod geo;
mod govern;
mod information;
mod inspect;
mod joins;
mod log;
mod logical;
mod met;
mod minmax;
mod moment;
mod names;
mod near;
mod opaque;
mod order;
mod padded;
mod parameters;
mod plan;
mod prune;
mod pushdown;
mod ranges;
mod record;
mod rows;
mod rowscan;
mod scope;
mod select;
mod selective;
mod semantics;
mod shape;
mod source;
mod spark;
mod store;
mod stored_text;
mod syntax;
mod system;
mod table;
mod target;
mod text;
mod using;
mod values;
mod variant;
mod views;
mod wkt;
mod wording;

pub use engine::{Bound, Engine, EngineOptions, Prepared, Running};
pub use error::{QueryError, Stopped};
pub use govern::QueryLimits;
pub use log::{QueryLog, QueryRecord, QueryState, QueryStats};
pub use opaque::listed_columns;
pub use record::record_health;
pub use table::IcebergTable;

/// The result of a query operation.
pub type Result<T> = std::result::Result<T, QueryError>;
