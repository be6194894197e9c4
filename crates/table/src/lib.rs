//! One Iceberg table as data: the live files of a snapshot, the plan of a scan, the next snapshot, and the files that snapshots
//! refer to.
//!
//! The crate knows nothing of catalogs, servers or the content of Parquet files. It reads manifests through [`Manifests`], from a
//! storage that the caller gives. Nothing above this crate reads manifest lists or manifests itself, except for the files that
//! `tests/it/cut.rs` lists. There are two ways to the files of a snapshot: [`SnapshotFiles`] keeps them in columns for plans,
//! [`load_live`] returns rows for jobs and commits. Start reading at [`plan_scan`] for reads and at [`build_snapshot`] for writes.

mod bounds;
mod cherry;
mod deletes;
mod dirs;
mod dv;
mod entries;
mod error;
mod expr;
mod facts;
mod files;
mod json;
mod label;
mod live;
mod manifests;
mod metrics;
mod partition;
mod printed;
pub mod properties;
mod ranges;
mod reach;
mod refs;
mod residual;
mod retention;
mod scan;
mod snapshot_builder;
mod summary;

pub use bounds::{ColumnBounds, with_bounds};
pub use cherry::cherry_pick;
pub use deletes::{DeleteIndex, EqualityNames, dangling};
pub use dirs::{data_dir, metadata_dir};
pub use dv::{BlobPlace, decode_vector, encode_vector, puffin_of_vectors};
pub use entries::{
    HeldManifest, NamedFile, NamedFiles, has_deletes, held_manifests, list_of, named_files, of_unknown_spec, visit_changes,
};
pub use error::TableError;
pub use expr::{Expr, Op, Predicate};
pub use facts::{DeleteFacts, FileCounts, HISTOGRAM_BOUNDS, MIN_INPUT_FILES, TableFacts, collect_facts};
pub use files::{FileRef, Planned, SnapshotFiles};
pub use json::MetadataJson;
pub use label::{partition_dir, partition_label, plain_dir, value_label};
pub use live::{DeleteKind, LiveDelete, LiveFile, LiveFiles, load_live, load_manifests};
pub use manifests::{Manifest, Manifests};
pub use partition::{PartitionKey, PartitionTypes, all_partition_types, column_type, partition_types};
pub use printed::{hex, partition_json, stats_json};
pub use properties::BadProperty;
pub use ranges::source_range;
pub use reach::{
    FileKind, Outline, Reachable, ReachableFiles, Unread, outline, outline_as_far, reachable, reachable_as_far, visit_reachable,
};
pub use refs::{ancestors, requirement_for_refs};
pub use residual::residual;
pub use retention::{ExpiryPolicy, Retained, just_added, snapshots_to_expire};
pub use scan::{ScanPlan, ScanTask, plan_appended, plan_scan, projection};
pub use snapshot_builder::{BuiltSnapshot, DeleteKey, RecordPaths, SnapshotChanges, build_snapshot, delete_key, manifest_bytes};
pub use summary::ManifestSummary;

/// The result of an operation on a table's metadata.
pub type Result<T> = std::result::Result<T, TableError>;
