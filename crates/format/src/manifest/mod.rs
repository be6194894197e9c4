//! Manifests and manifest lists (specification, "Manifests" and "Manifest Lists"), read and written.

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

pub use batch::{BatchColumn, Columns, ManifestBatch, ManifestProjection};
pub use decode::{decode_manifest, read_manifest};
pub use header::{ManifestHeader, PartitionColumn, manifest_schema, read_manifest_header};
pub use list::read_manifest_list;
pub use write::{ManifestWriter, NewManifest};
pub use write_list::{ManifestListWriter, NewManifestList};

/// Ids of fields of entries, data files, and the lists' manifests.
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

    /// Fields that the specification had once and lets nobody write: the size of blocks, a file's ordinal, how it is sorted, and counts of
    /// distinct values.
    pub(super) const DEPRECATED: [i32; 4] = [105, 106, 107, 111];
}
