//! Reads Parquet data files and delete files into Arrow batches of a table's current schema.
//!
//! The model: fields are matched by id, never by name or place ([`BatchAdapter`]). All deletes become row positions: deletion
//! vectors and position delete files as they are, equality deletes through [`EqualityDeletes`]. A file whose deletes can't be
//! applied is an error, never wrong rows. Queries and rewrites share one [`Reader`], and with it the caches of footers, delete
//! files and column chunks.
//!
//! Start with `reader.rs` (opening and scanning a file), then `deletes.rs` and `cached_file.rs` (how bytes come through the block
//! cache).

mod adapt;
mod bounding_box;
mod cache;
mod cached_file;
mod decode_errors;
mod defaults;
mod deletes;
mod equality;
mod equality_keys;
mod error;
#[cfg(test)]
mod evolution;
mod footer;
mod footer_view;
mod forms;
mod from_arrow;
mod lineage;
mod name_mapping;
mod normalized_values;
mod reader;
mod row_group_decoder;
mod schema;
mod spill;
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
pub use deletes::{FILE_PATH_FIELD_ID, POS_FIELD_ID, check_readable, positions_in, selection};
pub use equality::{EqualityBudget, EqualityDeletes};
pub use equality_keys::{column_at, column_path, digest};
pub use error::{NoVariant, ReadError};
pub use footer_view::{ScanRequest, row_groups_in};
pub use from_arrow::schema_from_arrow;
pub use lineage::{LAST_UPDATED_FIELD_ID, Lineage, ROW_ID_FIELD_ID, with_lineage};
pub use name_mapping::FieldNames;
pub use normalized_values::{needs_normalization, normalize_nan, normalize_nan_and_zero};
pub use reader::{FileScan, OpenFile, Projection, ReadStats, Reader, row_group_rows};
pub use row_group_decoder::{FetchedRowGroups, FetchedRows, FileSlice, RowPositions};
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
