//! SQL over the catalog's tables: plans and runs statements with DataFusion.
//!
//! A statement passes `statement_text` (parsing), `names` (look-ups in the catalog), `plan`, `admission` and, if it changes rows,
//! `change`. A scan ([`IcebergTable`]) pins one snapshot and prunes files by partition and bounds. DataFusion's Parquet scan does
//! the rest: its bytes come through the reader's caches, and deletes of every kind become row selections or masks. A table whose
//! deletes cannot be applied is an error, never wrong rows. Start reading at [`Engine::prepare`] and [`Engine::run`].

mod access_statement;
mod adapter;
mod admission;
mod arrow_types;
mod assignment;
mod audit_table;
mod calendar;
mod change;
mod commit;
mod deleted;
mod depth;
mod dialect;
mod engine;
mod error;
mod error_wording;
mod files;
mod filter_recheck;
mod foreign_views;
mod geo;
mod information;
mod inspect;
mod join_using;
mod joins;
mod listed_columns;
mod literals;
mod log;
mod logical_rules;
mod minmax;
mod names;
mod opaque;
mod order;
mod own_table;
mod padded;
mod parameters;
mod physical_rules;
mod pins;
mod plan;
mod plan_inputs;
mod prune;
mod ranges;
mod restrict;
mod rights;
mod row_filter_text;
mod row_position_scan;
mod rows;
mod scan_errors;
mod scope;
mod select;
mod selective;
mod semantics;
mod served_tables;
mod source;
mod spark;
mod spatial_pruning;
mod split;
mod statement_operation;
mod statement_text;
mod stored_text;
mod syntax;
mod syntax_tree;
mod system;
mod table;
mod table_health_table;
mod table_names;
mod target;
mod timestamp_text;
mod values;
mod variant;
mod view_names;
mod visible_names;
mod wkt;

pub use admission::QueryLimits;
pub use audit_table::{move_audit_records, remove_audit_days};
pub use engine::{BoundValues, Engine, EngineOptions, PreparedStatement, RunningQuery};
pub use error::{QueryError, Stopped};
pub use listed_columns::listed_columns;
pub use log::{QueryLog, QueryRecord, QueryState, QueryStats};
pub use pins::PinnedSnapshot;
pub use rights::lists_columns;
pub use row_filter_text::parse_row_filter;
pub use served_tables::system_tables;
pub use split::{StatementTexts, split_statements};
pub use statement_operation::operation_of;
pub use table::IcebergTable;
pub use table_health_table::record_health;
pub use view_names::names_in_view;
pub use visible_names::{is_visible_warehouse, visible_namespaces, visible_tables};

/// The result of a function of this crate, with [`QueryError`] as its error.
pub type Result<T> = std::result::Result<T, QueryError>;
