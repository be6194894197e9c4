//! Iceberg's table format, versions 1 to 3: what tables and views are made of, and how that is written down.
//!
//! Bytes in, values out: nothing here waits, and nothing knows a store, Arrow or a query engine. What exists is read leniently, as Java's
//! parsers read it; what is unknown is kept and written back; what can't be understood of one value costs that value alone.

mod apply;
mod avro;
mod create;
mod default;
#[cfg(test)]
mod dice;
mod error;
mod extra;
mod file;
mod json;
mod manifest;
#[cfg(test)]
mod memory;
mod metadata;
mod names;
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

pub use apply::{At, apply, branch_at};
pub use avro::AvroCodec;
pub use create::{DEFAULT_FORMAT_VERSION, FORMAT_VERSION, NewTable, RESERVED_PROPERTIES, create, create_by_updates};
pub use default::DefaultValue;
pub use error::{FormatError, Result};
pub use extra::Extra;
pub use file::{
    BoundBytes, BoundMap, ColumnStats, DataContentType, DataFile, DataFileFormat, FieldSummary, IdMap, ManifestContent,
    ManifestEntry, ManifestFile, ManifestStatus, UNASSIGNED_SEQUENCE_NUMBER,
};
pub use json::{json_of, value_of};
pub use manifest::{
    BatchColumn, Columns, ManifestBatch, ManifestHeader, ManifestListWriter, ManifestProjection, ManifestWriter, NewManifest,
    NewManifestList, PartitionColumn, decode_manifest, manifest_schema, read_manifest, read_manifest_header, read_manifest_list,
};
pub use metadata::{MAX_FORMAT_VERSION, Snapshots, TableMetadata};
pub use names::{avro_name, valid_avro_name};
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
