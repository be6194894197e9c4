//! One Iceberg table as data: the live files of a snapshot, the plan of a scan, the next snapshot, and the files that snapshots
//! refer to.
//!
//! The crate knows nothing of catalogs, servers or the content of Parquet files. It reads manifests through [`Manifests`], from a
//! storage that the caller gives. Nothing above this crate reads manifest lists or manifests itself, except for the files that
//! `tests/it/layering.rs` lists. There are two ways to the files of a snapshot: [`SnapshotFiles`] keeps them in columns for plans,
//! [`load_live`] returns rows for jobs and commits. Start reading at [`plan_scan`] for reads and at [`build_snapshot`] for writes.

mod append_only;
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
mod label;
mod live;
mod manifests;
mod metadata_json;
mod metrics;
mod named;
mod partition;
mod plan_json;
pub mod properties;
mod ranges;
mod reach;
mod rebase;
mod refs;
mod residual;
mod retention;
mod scan;
mod snapshot_builder;
mod summary;

pub use append_only::beyond_append;
pub use bounds::{ColumnBounds, with_bounds};
pub use cherry::cherry_pick;
pub use deletes::{DeleteIndex, EqualityDeleteKeys, FILE_PATH_FIELD_ID, dangling};
pub use dirs::{data_dir, metadata_dir};
pub use dv::{BlobRange, RowsToDelete, decode_vector, encode_puffin, encode_vector, encode_vector_file, vector_file_path};
pub use entries::{
    EntryRef, ManifestEntries, ReferencedManifest, count_live_files, find_unknown_spec, has_deletes, list_location,
    referenced_manifests, visit_changes,
};
pub use error::{BadProperty, TableError};
pub use expr::{Expr, Op, Predicate};
pub use facts::{FileCounts, MIN_INPUT_FILES, TableFacts, collect_facts};
pub use files::{FileRef, PlannableFile, SnapshotFiles};
pub use label::{dir_of_label, partition_dir, partition_label, value_label};
pub use live::{DeleteKind, LiveDelete, LiveFile, LiveFiles, load_live, load_manifests};
pub use manifests::{Manifest, Manifests};
pub use metadata_json::MetadataJson;
pub use named::visit_named;
pub use partition::{PartitionKey, PartitionTypes, all_partition_types, column_type, partition_types};
pub use plan_json::{hex, partition_json, stats_json};
pub use ranges::source_range;
pub use reach::{
    FileKind, Outline, Reachable, ReachableFiles, UnreadableFile, outline, outline_lenient, reachable, reachable_lenient,
    visit_reachable,
};
pub use rebase::{
    DeleteFiles, DeletedPositions, LateCommit, MergeCache, MergeClass, MergeRule, MovedRun, REBASED_AS, REBASED_FROM,
    REBASED_LIST, ROW_MOVES, RebasePlan, RebasedCommit, Refusal, RowMoves, list_name, plan_rebase, row_moves_path,
};
pub use refs::{ancestors, requirement_for_refs};
pub use residual::residual;
pub use retention::{Expirable, ExpiryPolicy, protected_since, snapshots_to_expire};
pub use scan::{ScanPlan, ScanTask, plan_appended, plan_scan, projection};
pub use snapshot_builder::{BuiltSnapshot, DeleteKey, RecordPaths, SnapshotChanges, build_snapshot, delete_key, manifest_bytes};
pub use summary::{DeleteFacts, HISTOGRAM_BOUNDS, ManifestSummary};

/// The result of an operation on a table's metadata.
pub type Result<T> = std::result::Result<T, TableError>;
