//! Reads Parquet data files and delete files into Arrow batches of a table's current schema.
//!
//! The model: fields are matched by id, never by name or place ([`BatchAdapter`]). All deletes become row positions: deletion
//! vectors and position delete files as they are, equality deletes through [`EqualityDeletes`]. A file whose deletes can't be
//! applied is an error, never wrong rows. Queries and rewrites share one [`Reader`], and with it the caches of footers, delete
//! files and column chunks.
//!
//! Imports run one way. At the bottom are the geometry of a file (`layout.rs`, `file_slice.rs`) and the conversion of values and
//! schemas (`schema.rs`, `values.rs`, `variant/`). On them stand the cached forms of column chunks (`forms/`), the block cache
//! (`cache/`) and the footers (`footer.rs`, `footer_view.rs`, `footer_cache.rs`). `cached_file.rs` serves bytes from these, and
//! `open_file.rs` rows from bytes. The reader owns the caches, and `deletes/` reads delete files through it.
//!
//! Start with `reader.rs` and `open_file.rs` (opening and scanning a file), then `deletes/mod.rs` and `cached_file.rs` (how bytes
//! come through the block cache).

mod adapt;
mod bounding_box;
mod cache;
mod cached_file;
#[cfg(test)]
mod cached_scans;
#[cfg(test)]
mod damaged_pages;
mod decode_errors;
mod defaults;
mod delete_cache;
mod deletes;
mod error;
#[cfg(test)]
mod evolution;
mod fetch_plan;
mod file_slice;
mod footer;
mod footer_cache;
mod footer_view;
mod forms;
mod from_arrow;
mod layout;
mod lineage;
mod name_mapping;
mod normalized_values;
mod open_file;
mod projection;
mod read_stats;
mod reader;
mod row_group_decoder;
mod row_selection;
mod schema;
mod text_columns;
pub mod transform;
mod trusted_statistics;
mod values;
mod variant;
mod wkb;

pub use adapt::BatchAdapter;
pub use bounding_box::{BoundingBox, LONGITUDES};
pub use cache::{BlockCache, BlockOptions, BlockUsage};
pub use cached_file::CachedFile;
pub use decode_errors::{catch_panics, panic_as_parquet_error};
pub use defaults::{Defaults, write_default};
pub use deletes::{
    EqualityBudget, EqualityDeletes, FILE_PATH_FIELD_ID, POS_FIELD_ID, check_readable, column_at, column_path, digest,
};
pub use error::{InvalidVariant, ReadError};
pub use file_slice::FileSlice;
pub use footer_view::ScanRequest;
pub use from_arrow::schema_from_arrow;
pub use layout::{row_group_rows, row_groups_in};
pub use lineage::{LAST_UPDATED_FIELD_ID, Lineage, ROW_ID_FIELD_ID, with_lineage};
pub use name_mapping::FieldNames;
pub use normalized_values::{needs_normalization, normalize_nan, normalize_nan_and_zero};
pub use open_file::{FileScan, OpenFile};
pub use projection::Projection;
pub use read_stats::ReadStats;
pub use reader::Reader;
pub use row_group_decoder::{FetchedRowGroups, FetchedRows, RowPositions};
pub use row_selection::{positions_in, selection};
pub use schema::{
    DEFAULT_CRS, DEFAULT_EDGES, WKB, all_optional, arrow_field, arrow_schema, arrow_type, field_id, geo_metadata,
    optional_schema, target_schema,
};
pub use text_columns::{marked_as_text, text_fields};
pub use values::{cast_exactly, literal_array, value_at, values_array, values_of};
pub use variant::{
    MAX_VARIANT_DEPTH, OpenContainer, ShreddedField, Variant, VariantBuilder, VariantColumn, VariantFields, VariantItems,
    VariantRows, VariantValue, can_be_shredded, check_variant, is_of_type, is_variant, only_nulls, part_path, part_type,
    statistic, typed_column, variant_array, variant_at, variant_columns, variant_hash, variant_of_bound, variant_of_column,
    variant_parts, variant_type, variants,
};
pub use wkb::{MAX_WKB_DEPTH, WkbHeader, WkbKind, wkb_kind};

/// The result of a read, with [`ReadError`] as its error.
pub type Result<T> = std::result::Result<T, ReadError>;
