//! Snapshots, the references (branches and tags) that name them, and the two logs of a table's history.
//!
//! Spec: "Snapshots", "Snapshot References", "Table Metadata Fields".

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Extra;
use crate::json::one_of;

/// The name of the branch that a table is read at by default.
pub const MAIN_BRANCH: &str = "main";

/// The summary key that names a snapshot's operation.
///
/// Spec: "Snapshots".
pub const OPERATION: &str = "operation";

/// The operation of a snapshot: the values that the specification defines.
///
/// Spec: "Snapshots".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Data files were added, none removed.
    Append,
    /// Files were replaced by others with the same rows.
    Replace,
    /// Rows were changed: files were added and removed.
    Overwrite,
    /// Rows were removed, none added.
    Delete,
}

impl Operation {
    /// Returns the operation as summaries spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Replace => "replace",
            Self::Overwrite => "overwrite",
            Self::Delete => "delete",
        }
    }
}

/// The state of a table at one time.
///
/// Spec: "Snapshots".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The id of the snapshot, unique within its table.
    pub snapshot_id: i64,
    /// The id of the snapshot that this one was based on.
    pub parent_snapshot_id: Option<i64>,
    /// The position in the order of the table's changes; 0 or `None` in format version 1.
    pub sequence_number: Option<i64>,
    /// The time of creation, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The location of the manifest list. Format version 1 may have `manifests` instead.
    pub manifest_list: Option<String>,
    /// The locations of the manifests, if there is no manifest list (format version 1).
    pub manifests: Option<Vec<String>>,
    /// The operation and its counts. Some writers leave out the summary, or the operation in it.
    pub summary: Option<BTreeMap<String, String>>,
    /// The id of the schema that was current when the snapshot was created.
    pub schema_id: Option<i32>,
    /// The first row id that the snapshot assigns (format version 3).
    pub first_row_id: Option<u64>,
    /// An upper bound of the number of rows that got ids from the snapshot (format version 3).
    pub added_rows: Option<u64>,
    /// The id of the key that encrypts the manifest list's key metadata (format version 3).
    pub key_id: Option<String>,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

/// A shared snapshot.
pub type SnapshotRef = Arc<Snapshot>;

impl Snapshot {
    /// Returns the operation as the summary has it, or `None` if the writer left it out.
    pub fn operation(&self) -> Option<&str> {
        self.summary_value(OPERATION)
    }

    /// Returns `true` if the summary names this operation.
    pub fn is(&self, operation: Operation) -> bool {
        self.operation() == Some(operation.as_str())
    }

    /// Returns the summary's value of `key`.
    pub fn summary_value(&self, key: &str) -> Option<&str> {
        self.summary.as_ref()?.get(key).map(String::as_str)
    }

    /// Returns the sequence number, or 0 if the snapshot has none.
    pub fn sequence_number(&self) -> i64 {
        self.sequence_number.unwrap_or(0)
    }
}

/// The kind of a reference, which decides if commits move it.
///
/// Spec: "Snapshot References".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferenceKind {
    /// A branch, which moves with the commits to it.
    Branch,
    /// A tag, which stays at its snapshot.
    Tag,
}

impl<'de> serde::Deserialize<'de> for ReferenceKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_of(deserializer, &[("branch", Self::Branch), ("tag", Self::Tag)])
    }
}

/// A branch or tag: a name for a snapshot.
///
/// Spec: "Snapshot References".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotReference {
    /// The id of the snapshot.
    pub snapshot_id: i64,
    /// The kind of the reference, branch or tag.
    pub kind: ReferenceKind,
    /// The number of the branch's snapshots that expiry keeps at least; only for branches.
    pub min_snapshots_to_keep: Option<i32>,
    /// The age in milliseconds up to which expiry keeps the branch's snapshots; only for branches.
    pub max_snapshot_age_ms: Option<i64>,
    /// The age of the snapshot, in milliseconds, above which expiry removes the reference itself.
    pub max_ref_age_ms: Option<i64>,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

impl SnapshotReference {
    /// Returns `true` for a branch.
    pub const fn is_branch(&self) -> bool {
        matches!(self.kind, ReferenceKind::Branch)
    }
}

/// An entry of the snapshot log: a snapshot became the current one.
///
/// Spec: "Table Metadata Fields".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotLog {
    /// The time at which the snapshot became current, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The id of the snapshot.
    pub snapshot_id: i64,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

/// An entry of the metadata log: a metadata file that was current before.
///
/// Spec: "Table Metadata Fields".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataLog {
    /// The `last-updated-ms` of the metadata in the file, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The location of the metadata file.
    pub metadata_file: String,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}
