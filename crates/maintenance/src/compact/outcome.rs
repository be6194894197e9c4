//! The outcome of a compaction, as the record of its job holds it.

use esker_types::ErrorCode;
use serde::{Deserialize, Serialize};

/// A group of the plan that was not rewritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RefusedGroup {
    /// Number of the group in the plan.
    pub group: usize,
    /// Label of the group's partition.
    pub partition: String,
    /// The reason, for people.
    pub reason: String,
    /// Code of the error; `None` if the group was left out for another reason. It is not serialized.
    #[serde(skip)]
    pub code: Option<ErrorCode>,
}

/// The outcome of a compaction.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CompactOutcome {
    /// Number of groups that were committed.
    pub groups: u64,
    /// Number of snapshots that were committed.
    #[serde(default)]
    pub commits: u64,
    /// Number of data files that were replaced.
    pub files_in: u64,
    /// Number of new data files.
    pub files_out: u64,
    /// Total size of the replaced data files, in bytes.
    pub bytes_in: u64,
    /// Total size of the new data files, in bytes.
    pub bytes_out: u64,
    /// Number of rows in the new files.
    pub records: u64,
    /// Number of rows that were left out because deletes hide them.
    #[serde(default)]
    pub deleted_records: u64,
    /// Number of delete files that were removed.
    #[serde(default)]
    pub delete_files_removed: u64,
    /// Number of row positions that were deleted meanwhile and whose deletes were carried over by the commits.
    #[serde(default)]
    pub late_deletes_moved: u64,
    /// Number of row groups that were copied without decoding.
    #[serde(default)]
    pub row_groups_spliced: u64,
    /// Total size of the copied row groups, in bytes.
    #[serde(default)]
    pub bytes_spliced: u64,
    /// Seconds from the start to the last commit.
    pub seconds: f64,
    /// Seconds that the commits took, including the wait for other commits to the table.
    #[serde(default)]
    pub commit_seconds: f64,
    /// Seconds of processor time for decoding, sorting and encoding.
    #[serde(default)]
    pub cpu_seconds: f64,
    /// Number of bytes read from storage.
    #[serde(default)]
    pub bytes_read: u64,
    /// Number of bytes written to storage.
    #[serde(default)]
    pub bytes_written: u64,
    /// Number of requests for data and delete files; requests for metadata are not counted.
    #[serde(default)]
    pub requests: u64,
    /// The verification of the last commit and the content hash of its rows, such as `checksums 00…-8`.
    #[serde(default)]
    pub proof: String,
    /// The groups of the plan that were not rewritten.
    pub refused: Vec<RefusedGroup>,
}
