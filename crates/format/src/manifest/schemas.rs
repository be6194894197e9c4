//! The schemas of manifests and manifest lists: order, names, ids and comments of the fields as in Java's `V1Metadata`,
//! `V2Metadata` and `V3Metadata`.
//!
//! Spec: "Manifest Entry Fields", "Data File Fields", "Manifest Lists".

use std::sync::Arc;

use super::ids;
use crate::{ListType, MapType, NestedField, NestedFieldRef, PrimitiveType as P, StructType, Type};

fn field(id: i32, name: &str, ty: impl Into<Type>, required: bool, doc: &str) -> NestedFieldRef {
    let doc = Some(doc.to_owned()).filter(|doc| !doc.is_empty());
    Arc::new(NestedField { doc, ..NestedField::new(id, name, ty, required) })
}

fn by_id(key: i32, value: i32, ty: P) -> MapType {
    MapType::new((key, P::Int.into()), (value, ty.into()), true)
}

/// Returns the schema of manifest entries; `partition` has the partition fields.
pub(super) fn entry(version: u8, partition: StructType) -> StructType {
    let status = field(ids::STATUS, "status", P::Int, true, "");
    let file = field(ids::DATA_FILE, "data_file", data_file(version, partition), true, "");
    let mut fields = vec![status, field(ids::SNAPSHOT_ID, "snapshot_id", P::Long, false, "")];
    if version >= 2 {
        fields.push(field(ids::SEQUENCE_NUMBER, "sequence_number", P::Long, false, ""));
        fields.push(field(ids::FILE_SEQUENCE_NUMBER, "file_sequence_number", P::Long, false, ""));
    }
    fields.push(file);
    StructType::new(fields)
}

fn data_file(version: u8, partition: StructType) -> StructType {
    let mut fields = Vec::new();
    let mut add = |from: u8, to: u8, field: NestedFieldRef| {
        if (from..=to).contains(&version) {
            fields.push(field);
        }
    };
    let doc = "Contents of the file: 0=data, 1=position deletes, 2=equality deletes";
    add(2, 3, field(ids::CONTENT, "content", P::Int, true, doc));
    add(1, 3, field(ids::FILE_PATH, "file_path", P::String, true, "Location URI with FS scheme"));
    add(1, 3, field(ids::FILE_FORMAT, "file_format", P::String, true, "File format name: avro, orc, or parquet"));
    let doc = if version == 1 { "" } else { "Partition data tuple, schema based on the partition spec" };
    add(1, 3, field(ids::PARTITION, "partition", partition, true, doc));
    add(1, 3, field(ids::RECORD_COUNT, "record_count", P::Long, true, "Number of records in the file"));
    add(1, 3, field(ids::FILE_SIZE, "file_size_in_bytes", P::Long, true, "Total file size in bytes"));
    add(1, 1, field(105, "block_size_in_bytes", P::Long, true, ""));
    let doc = "Map of column id to total size on disk";
    add(1, 3, field(ids::COLUMN_SIZES, "column_sizes", by_id(117, 118, P::Long), false, doc));
    let doc = "Map of column id to total count, including null and NaN";
    add(1, 3, field(ids::VALUE_COUNTS, "value_counts", by_id(119, 120, P::Long), false, doc));
    let doc = "Map of column id to null value count";
    add(1, 3, field(ids::NULL_COUNTS, "null_value_counts", by_id(121, 122, P::Long), false, doc));
    let doc = "Map of column id to number of NaN values in the column";
    add(1, 3, field(ids::NAN_COUNTS, "nan_value_counts", by_id(138, 139, P::Long), false, doc));
    let doc = "Map of column id to lower bound";
    add(1, 3, field(ids::LOWER_BOUNDS, "lower_bounds", by_id(126, 127, P::Binary), false, doc));
    let doc = "Map of column id to upper bound";
    add(1, 3, field(ids::UPPER_BOUNDS, "upper_bounds", by_id(129, 130, P::Binary), false, doc));
    add(1, 3, field(ids::KEY_METADATA, "key_metadata", P::Binary, false, "Encryption key metadata blob"));
    add(1, 3, field(ids::SPLIT_OFFSETS, "split_offsets", ListType::new(133, P::Long, true), false, "Splittable offsets"));
    let doc = "Equality comparison field IDs";
    add(2, 3, field(ids::EQUALITY_IDS, "equality_ids", ListType::new(136, P::Int, true), false, doc));
    add(1, 3, field(ids::SORT_ORDER_ID, "sort_order_id", P::Int, false, "Sort order ID"));
    let doc = "The first row ID assigned to the first row in the data file";
    add(3, 3, field(ids::FIRST_ROW_ID, "first_row_id", P::Long, false, doc));
    let doc = "Fully qualified location (URI with FS scheme) of a data file that all deletes reference";
    add(2, 3, field(ids::REFERENCED_FILE, "referenced_data_file", P::String, false, doc));
    let doc = "The offset in the file where the content starts";
    add(3, 3, field(ids::CONTENT_OFFSET, "content_offset", P::Long, false, doc));
    let doc = "The length of referenced content stored in the file";
    add(3, 3, field(ids::CONTENT_SIZE, "content_size_in_bytes", P::Long, false, doc));
    StructType::new(fields)
}

/// Returns the schema of the manifests in a list.
pub(super) fn manifest_file(version: u8) -> StructType {
    let path = field(500, "manifest_path", P::String, true, "Location URI with FS scheme");
    let length = field(501, "manifest_length", P::Long, true, "Total file size in bytes");
    let spec = field(502, "partition_spec_id", P::Int, true, "Spec ID used to write");
    let snapshot = field(503, "added_snapshot_id", P::Long, true, "Snapshot ID that added the manifest");
    let needed = version >= 2;
    let files = [
        field(504, "added_files_count", P::Int, needed, "Added entry count"),
        field(505, "existing_files_count", P::Int, needed, "Existing entry count"),
        field(506, "deleted_files_count", P::Int, needed, "Deleted entry count"),
    ];
    let rows = [
        field(512, "added_rows_count", P::Long, needed, "Added rows count"),
        field(513, "existing_rows_count", P::Long, needed, "Existing rows count"),
        field(514, "deleted_rows_count", P::Long, needed, "Deleted rows count"),
    ];
    let partitions = field(507, "partitions", ListType::new(508, summary(), true), false, "Summary for each partition");
    let key = field(519, "key_metadata", P::Binary, false, "Encryption key metadata blob");
    let mut fields = vec![path, length, spec];
    if version == 1 {
        fields.push(snapshot);
        fields.extend(files);
        fields.push(partitions);
        fields.extend(rows);
        fields.push(key);
        return StructType::new(fields);
    }
    fields.push(field(517, "content", P::Int, true, "Contents of the manifest: 0=data, 1=deletes"));
    fields.push(field(515, "sequence_number", P::Long, true, "Sequence number when the manifest was added"));
    fields.push(field(516, "min_sequence_number", P::Long, true, "Lowest sequence number in the manifest"));
    fields.push(snapshot);
    fields.extend(files);
    fields.extend(rows);
    fields.push(partitions);
    fields.push(key);
    if version >= 3 {
        fields.push(field(520, "first_row_id", P::Long, false, "Starting row ID to assign to new rows in ADDED data files"));
    }
    StructType::new(fields)
}

fn summary() -> StructType {
    StructType::new(vec![
        field(509, "contains_null", P::Boolean, true, "True if any file has a null partition value"),
        field(518, "contains_nan", P::Boolean, false, "True if any file has a nan partition value"),
        field(510, "lower_bound", P::Binary, false, "Partition lower bound for all files"),
        field(511, "upper_bound", P::Binary, false, "Partition upper bound for all files"),
    ])
}
