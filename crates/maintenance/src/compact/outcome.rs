use esker_types::ErrorCode;
use serde::{Deserialize, Serialize};

/// A group that was not rewritten after all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedGroup {
    /// Its number in the plan.
    pub group: usize,
    /// Its partition.
    pub partition: String,
    /// Why.
    pub reason: String,
    /// What kind of error it was, if it was one.
    #[serde(skip)]
    pub code: Option<ErrorCode>,
}

/// What a compaction did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CompactOutcome {
    /// Groups committed.
    pub groups: u64,
    /// Snapshots made.
    #[serde(default)]
    pub commits: u64,
    /// Data files replaced.
    pub files_in: u64,
    /// Data files in their place.
    pub files_out: u64,
    /// Bytes replaced.
    pub bytes_in: u64,
    /// Bytes in their place.
    pub bytes_out: u64,
    /// Rows in the new files.
    pub records: u64,
    /// Rows that deletes left out.
    #[serde(default)]
    pub deleted_records: u64,
    /// Delete files that went.
    #[serde(default)]
    pub delete_files_removed: u64,
    /// Deletes by position that landed meanwhile and were moved to the new files.
    #[serde(default)]
    pub late_deletes_moved: u64,
    /// Row groups copied without decoding.
    #[serde(default)]
    pub row_groups_spliced: u64,
    /// Their bytes.
    #[serde(default)]
    pub bytes_spliced: u64,
    /// Seconds from start to the last commit.
    pub seconds: f64,
    /// Of them, those that commits took, waiting for their turn included.
    #[serde(default)]
    pub commit_seconds: f64,
    /// Seconds of processor time that decoding, sorting and encoding took.
    #[serde(default)]
    pub cpu_seconds: f64,
    /// Bytes read from storage.
    #[serde(default)]
    pub bytes_read: u64,
    /// Bytes written to storage.
    #[serde(default)]
    pub bytes_written: u64,
    /// Requests for data and delete files; those for metadata are not among them.
    #[serde(default)]
    pub requests: u64,
    /// How the result was proved, and the hash of the rows that were encoded.
    #[serde(default)]
    pub proof: String,
    /// Groups that something in the way kept from being rewritten.
    pub refused: Vec<RefusedGroup>,
}
