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
mod block_cache;
mod bounding_box;
mod cached_file;
mod decode_errors;
mod defaults;
mod deletes;
mod disk_cache;
mod equality;
mod error;
#[cfg(test)]
mod evolution;
mod fetched;
mod floats;
mod footer;
mod footer_view;
mod keys;
mod lineage;
mod names;
mod of_arrow;
mod reader;
mod repacked;
mod schema;
mod shredded;
mod spill;
mod text;
pub mod transform;
mod trusted;
mod uncompressed;
mod unshred;
mod values;
mod variant;
mod variant_build;
mod variant_check;
mod variant_typed;
mod variant_value;
mod wkb;

pub use adapt::BatchAdapter;
pub use block_cache::{BlockCache, BlockOptions, BlockUsage};
pub use bounding_box::{BoundingBox, LONGITUDES};
pub use cached_file::CachedFile;
pub use decode_errors::{caught_stream, of_panic};
pub use defaults::{Defaults, write_default};
pub use deletes::{FILE_PATH, POSITION, check_readable, positions_in, selection};
pub use equality::{EqualityBudget, EqualityDeletes};
pub use error::{NoVariant, ReadError};
pub use fetched::{FetchedRowGroups, FetchedRows, FileSlice, RowPositions};
pub use floats::{has_many_forms, one_nan, one_nan_and_zero};
pub use footer_view::{ScanRequest, row_groups_in};
pub use keys::{column_at, column_path, digest};
pub use lineage::{LAST_UPDATED, Lineage, ROW_ID, with_lineage};
pub use names::FieldNames;
pub use of_arrow::schema_of_arrow;
pub use reader::{FileScan, OpenFile, Projection, ReadStats, Reader, row_group_rows};
pub use schema::{
    DEFAULT_CRS, DEFAULT_EDGES, WKB, about_shapes, all_optional, arrow_field, arrow_schema, arrow_type, field_id,
    optional_schema, target_schema,
};
pub use shredded::{VariantColumn, VariantPart, only_nulls, part_path, part_type, statistic, variant_columns};
pub use text::{marked_as_text, text_fields};
pub use unshred::variant_of_column;
pub use values::{cast_exactly, literal_array, value_at, values_array, values_of};
pub use variant::{VariantRows, is_variant, variant_array, variant_at, variant_hash, variant_parts, variant_type, variants};
pub use variant_build::{Open, VariantBuilder};
pub use variant_check::{DEPTH, check_variant};
pub use variant_typed::{can_be_part, column_of_variants, is_of_type};
pub use variant_value::{Variant, VariantFields, VariantItems, VariantValue, variant_of_bound};
pub use wkb::{SHAPE_DEPTH, ShapeHead, WkbKind, wkb_kind};

/// The result of a read, with [`ReadError`] as its error.
pub type Result<T> = std::result::Result<T, ReadError>;
