//! Iceberg's table and view format, versions 1 to 3: the types of its metadata, and their JSON, Avro and Puffin encodings.
//!
//! The crate turns bytes into values and back. It does no I/O, is synchronous, and depends on no object store, Arrow or query
//! engine. Readers are lenient, as Java's parsers are. Unknown fields are kept and written back. A damaged value (a bound, a
//! default) costs only that value, not the file. The rules of the specification are checked when metadata changes, see [`rules`].
//!
//! Start with [`TableMetadata`] (a table), [`apply()`] (a commit), [`read_manifest_list`] and [`read_manifest`] (the files of a
//! snapshot).

mod apply;
mod avro;
mod avro_names;
mod create;
mod default;
mod error;
mod extra;
mod file;
#[cfg(test)]
mod fuzz;
mod json;
mod manifest;
#[cfg(test)]
mod memory;
mod metadata;
mod partition;
mod puffin;
pub mod raw;
pub mod rules;
mod schema;
mod snapshot;
mod sort;
mod statistics;
mod transform;
mod types;
mod unknown;
mod update;
mod value;
mod view;
mod view_apply;
mod view_update;

pub use apply::{CommitContext, apply, branch_at};
pub use avro::AvroCodec;
pub use avro_names::{avro_name, valid_avro_name};
pub use create::{DEFAULT_FORMAT_VERSION, FORMAT_VERSION, NewTable, RESERVED_PROPERTIES, create, create_by_updates};
pub use default::DefaultValue;
pub use error::{FormatError, Result};
pub use extra::Extra;
pub use file::{
    BoundBytes, BoundMap, ColumnStats, DataContentType, DataFile, DataFileFormat, FieldSummary, IdMap, ManifestContent,
    ManifestEntry, ManifestFile, ManifestStatus, UNASSIGNED_SEQUENCE_NUMBER,
};
pub use json::{value_from_json, value_to_json};
pub use manifest::{
    BatchColumn, ColumnSet, ManifestBatch, ManifestHeader, ManifestListWriter, ManifestProjection, ManifestWriter, NewManifest,
    NewManifestList, PartitionColumn, decode_manifest, manifest_list_version, manifest_schema, read_manifest,
    read_manifest_header, read_manifest_list,
};
pub use metadata::{MAX_FORMAT_VERSION, Snapshots, TableMetadata};
pub use partition::{
    FIRST_PARTITION_FIELD_ID, PartitionField, PartitionSpec, PartitionSpecRef, UnboundPartitionField, fields_by_id,
};
pub use puffin::{
    NewBlob, PUFFIN_TAIL, PuffinBlob, PuffinCodec, PuffinMetadata, PuffinWriter, puffin_footer_length, read_puffin,
    read_puffin_footer,
};
pub use schema::{Schema, SchemaRef};
pub use snapshot::{
    MAIN_BRANCH, MetadataLog, OPERATION, Operation, ReferenceKind, Snapshot, SnapshotLog, SnapshotRef, SnapshotReference,
};
pub use sort::{NullOrder, SortDirection, SortField, SortOrder, SortOrderRef};
pub use statistics::{BlobMetadata, EncryptedKey, PartitionStatisticsFile, StatisticsFile};
pub use transform::Transform;
pub use types::{
    EdgeAlgorithm, LIST_ELEMENT, ListType, MAP_KEY, MAP_VALUE, MAX_DECIMAL_PRECISION, MapType, NestedField, NestedFieldRef,
    PrimitiveType, StructType, Type,
};
pub use unknown::{UnknownField, UnknownFields};
pub use update::{LAST_ADDED, TableRequirement, TableUpdate, UnboundPartitionSpec};
pub use value::{Tuple, Value};
pub use view::{ViewMetadata, ViewRepresentation, ViewVersion, ViewVersionLog};
pub use view_apply::{NewView, apply_view, create_view};
pub use view_update::{ViewRequirement, ViewUpdate};
