//! Iceberg's table format, versions 1 to 3: what tables and views are made of, and how that is written down.
//!
//! Bytes in, values out: nothing here waits, and nothing knows a store, Arrow or a query engine. What exists is read leniently, as Java's
//! parsers read it; what is unknown is kept and written back; what can't be understood of one value costs that value alone.

mod apply;
mod default;
mod error;
mod extra;
mod json;
mod metadata;
mod partition;
pub mod rules;
mod schema;
mod snapshot;
mod sort;
mod statistics;
mod transform;
mod types;
mod update;
mod value;
mod view;

pub use apply::{At, apply, branch_at};
pub use default::DefaultValue;
pub use error::{FormatError, Result};
pub use extra::Extra;
pub use json::{json_of, value_of};
pub use metadata::{MAX_FORMAT_VERSION, Snapshots, TableMetadata};
pub use partition::{
    FIRST_PARTITION_FIELD_ID, Partition, PartitionField, PartitionSpec, PartitionSpecRef, UnboundPartitionField, fields_by_id,
};
pub use schema::{Schema, SchemaRef};
pub use snapshot::{MAIN_BRANCH, MetadataLog, OPERATION, ReferenceKind, Snapshot, SnapshotLog, SnapshotRef, SnapshotReference};
pub use sort::{NullOrder, SortDirection, SortField, SortOrder, SortOrderRef};
pub use statistics::{BlobMetadata, EncryptedKey, PartitionStatisticsFile, StatisticsFile};
pub use transform::Transform;
pub use types::{
    EdgeAlgorithm, LIST_ELEMENT, ListType, MAP_KEY, MAP_VALUE, MAX_DECIMAL_PRECISION, MapType, NestedField, NestedFieldRef,
    PrimitiveType, StructType, Type,
};
pub use update::{LAST_ADDED, TableRequirement, TableUpdate, UnboundPartitionSpec};
pub use value::{Tuple, Value};
pub use view::{ViewMetadata, ViewRepresentation, ViewVersion, ViewVersionLog};
