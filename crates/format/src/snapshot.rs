//! Snapshots, and the branches and tags that name them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Extra;
use crate::json::one_of;

/// The branch that a table is read at if nothing else is said.
pub const MAIN_BRANCH: &str = "main";

/// The key of a summary that says what a snapshot's commit did.
pub const OPERATION: &str = "operation";

/// What a snapshot's commit did, as far as the specification knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// It added data files, and removed none.
    Append,
    /// It put files in the place of others; the rows are the same.
    Replace,
    /// It changed rows.
    Overwrite,
    /// It removed rows, and added none.
    Delete,
}

impl Operation {
    /// As summaries have it.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What identifies it.
    pub snapshot_id: i64,
    /// The snapshot that it was made of.
    pub parent_snapshot_id: Option<i64>,
    /// Its place in the order of the table's changes; 0 in version 1.
    pub sequence_number: Option<i64>,
    /// When it was made, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The file that lists its manifests. Version 1 may list them here instead.
    pub manifest_list: Option<String>,
    /// The manifests, where there is no such file.
    pub manifests: Option<Vec<String>>,
    /// What its commit did, and counts of it. Some writers leave it out, or the operation.
    pub summary: Option<BTreeMap<String, String>>,
    /// The schema that its writer used.
    pub schema_id: Option<i32>,
    /// The first row id of its first data file (version 3).
    pub first_row_id: Option<u64>,
    /// The most rows that its commit may have given ids to (version 3).
    pub added_rows: Option<u64>,
    /// The key that its manifest list is encrypted with (version 3).
    pub key_id: Option<String>,
    /// What else its JSON says.
    pub extra: Extra,
}

/// A snapshot that is shared.
pub type SnapshotRef = Arc<Snapshot>;

impl Snapshot {
    /// What its commit did, if its writer says so.
    pub fn operation(&self) -> Option<&str> {
        self.summary_value(OPERATION)
    }

    /// Whether its writer says that its commit did this.
    pub fn is(&self, operation: Operation) -> bool {
        self.operation() == Some(operation.as_str())
    }

    /// What its summary says under a key.
    pub fn summary_value(&self, key: &str) -> Option<&str> {
        self.summary.as_ref()?.get(key).map(String::as_str)
    }

    /// Its place in the order of the table's changes; 0 if it has none.
    pub fn sequence_number(&self) -> i64 {
        self.sequence_number.unwrap_or(0)
    }
}

/// Whether a reference moves with commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferenceKind {
    /// It moves with the commits to it.
    Branch,
    /// It stays.
    Tag,
}

impl<'de> serde::Deserialize<'de> for ReferenceKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_of(deserializer, &[("branch", Self::Branch), ("tag", Self::Tag)])
    }
}

/// A name for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotReference {
    /// The snapshot.
    pub snapshot_id: i64,
    /// Branch or tag.
    pub kind: ReferenceKind,
    /// Of a branch: snapshots that expiry keeps.
    pub min_snapshots_to_keep: Option<i32>,
    /// Of a branch: the age up to which expiry keeps its snapshots.
    pub max_snapshot_age_ms: Option<i64>,
    /// The age at which expiry drops it.
    pub max_ref_age_ms: Option<i64>,
    /// What else its JSON says.
    pub extra: Extra,
}

impl SnapshotReference {
    /// Whether it moves with the commits to it.
    pub const fn is_branch(&self) -> bool {
        matches!(self.kind, ReferenceKind::Branch)
    }
}

/// When a snapshot became the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotLog {
    /// When, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The snapshot.
    pub snapshot_id: i64,
    /// What else its JSON says.
    pub extra: Extra,
}

/// A metadata file that was the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataLog {
    /// When it was written, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The file.
    pub metadata_file: String,
    /// What else its JSON says.
    pub extra: Extra,
}
