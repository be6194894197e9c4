//! Iceberg's type `variant`: its bytes, its Arrow arrays, and the columns that files shred it into.
//!
//! `value` reads the bytes, `check` validates them and `build` writes them. `array` is the form of rows in memory. `unshred` makes
//! it of a file's columns, which `shredded` finds, and `typed` makes such columns. Start with [`Variant`] and [`variants`]. Spec:
//! Parquet, "Variant Binary Encoding", "Variant Shredding".

mod array;
mod build;
mod check;
mod hash;
mod shredded;
mod typed;
mod unshred;
mod value;

pub use array::{VariantRows, is_variant, variant_array, variant_at, variant_parts, variant_type};
pub use build::{OpenContainer, VariantBuilder};
pub use check::{MAX_VARIANT_DEPTH, check_variant, variant_of_bound};
pub use hash::variant_hash;
pub use shredded::{ShreddedField, VariantColumn, only_nulls, part_path, part_type, statistic, variant_columns};
pub use typed::{can_be_shredded, is_of_type, typed_column};
pub use unshred::{variant_of_column, variants};
pub use value::{Variant, VariantFields, VariantItems, VariantValue};
