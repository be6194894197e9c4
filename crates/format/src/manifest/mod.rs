//! Readers and writers of manifests and manifest lists.
//!
//! A manifest is decoded by a plan (`plan`), which is made once from the file's schema and the caller's [`ManifestProjection`]. The
//! plan decides for each field if it is read, skipped, or kept as an unknown field. The result is a [`ManifestBatch`]: one vector
//! per field, in `columns`. Unknown fields are in `unknown`, and `merge` unites their types when files are combined.
//!
//! Spec: "Manifests", "Manifest Lists". Start with `batch` and `decode` for reading, `write` and `write_list` for writing.

mod batch;
mod columns;
mod decode;
mod header;
mod list;
mod merge;
mod plan;
mod schemas;
mod unknown;
mod write;
mod write_list;

#[cfg(test)]
mod tests;

pub use batch::{BatchColumn, ColumnSet, ManifestBatch, ManifestProjection};
pub use decode::{decode_manifest, read_manifest};
pub use header::{ManifestHeader, PartitionColumn, manifest_schema, read_manifest_header};
pub use list::{manifest_list_version, read_manifest_list};
pub use write::{ManifestWriter, NewManifest};
pub use write_list::{ManifestListWriter, NewManifestList};

/// The ids of the fields of manifest entries and data files.
mod ids {
    pub(super) const STATUS: i32 = 0;
    pub(super) const SNAPSHOT_ID: i32 = 1;
    pub(super) const DATA_FILE: i32 = 2;
    pub(super) const SEQUENCE_NUMBER: i32 = 3;
    pub(super) const FILE_SEQUENCE_NUMBER: i32 = 4;
    pub(super) const FILE_PATH: i32 = 100;
    pub(super) const FILE_FORMAT: i32 = 101;
    pub(super) const PARTITION: i32 = 102;
    pub(super) const RECORD_COUNT: i32 = 103;
    pub(super) const FILE_SIZE: i32 = 104;
    pub(super) const COLUMN_SIZES: i32 = 108;
    pub(super) const VALUE_COUNTS: i32 = 109;
    pub(super) const NULL_COUNTS: i32 = 110;
    pub(super) const LOWER_BOUNDS: i32 = 125;
    pub(super) const UPPER_BOUNDS: i32 = 128;
    pub(super) const KEY_METADATA: i32 = 131;
    pub(super) const SPLIT_OFFSETS: i32 = 132;
    pub(super) const CONTENT: i32 = 134;
    pub(super) const EQUALITY_IDS: i32 = 135;
    pub(super) const NAN_COUNTS: i32 = 137;
    pub(super) const SORT_ORDER_ID: i32 = 140;
    pub(super) const FIRST_ROW_ID: i32 = 142;
    pub(super) const REFERENCED_FILE: i32 = 143;
    pub(super) const CONTENT_OFFSET: i32 = 144;
    pub(super) const CONTENT_SIZE: i32 = 145;

    /// Fields of earlier versions of the specification, which writers must not write: block size, file ordinal, sort columns,
    /// distinct counts.
    pub(super) const DEPRECATED: [i32; 4] = [105, 106, 107, 111];
}
