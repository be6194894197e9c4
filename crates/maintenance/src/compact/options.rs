use esker_format::{MAIN_BRANCH, TableMetadata};
use esker_table::properties::TARGET_FILE_BYTES;
use serde::{Deserialize, Serialize};

use crate::{MaintenanceError, Result};

/// How files are rewritten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Files of the wrong size, or with many deletes, become files of the right size. Rows keep their order.
    #[default]
    #[serde(rename = "binpack")]
    BinPack,
    /// Files become files of the right size, with rows sorted within each group.
    Sort,
    /// Files become files of the right size, sorted along a space-filling curve through some columns, so that each of them prunes.
    #[serde(rename = "zorder")]
    ZOrder,
    /// No data file is rewritten: equality deletes and position deletes become deletion vectors (format version 3) or position
    /// deletes (version 2), and deletes that apply to nothing go.
    ConvertDeletes,
}

/// How a group proves that it holds the rows it replaces, before it is committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// Rows are counted and hashed before they are encoded, and what storage holds is read back and compared with what was written.
    #[default]
    Checksums,
    /// The new files are decoded again as well, and their rows hashed.
    Full,
}

/// In which order groups are rewritten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobOrder {
    /// As planned: by partition.
    #[default]
    None,
    /// The smallest group first.
    BytesAsc,
    /// The largest group first.
    BytesDesc,
    /// The group of the fewest files first.
    FilesAsc,
    /// The group of the most files first.
    FilesDesc,
}

/// Options of a compaction, named and with defaults as in Spark's `rewrite_data_files` where it has them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CompactOptions {
    /// How; default `binpack`.
    pub strategy: Strategy,
    /// For `sort`: `column [asc|desc] [nulls first|nulls last], …`, names in quotes where they hold blanks, commas or dots, fields of
    /// structs after dots; default: the table's sort order.
    pub sort_order: Option<String>,
    /// For `zorder`: the columns.
    pub zorder_columns: Vec<String>,
    /// The branch that is compacted; default `main`.
    pub branch: Option<String>,
    /// Only files that may hold rows for which this SQL predicate is true.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Only partitions whose label (`field=value/…`) contains this.
    pub partition: Option<String>,
    /// The size that new files aim at; default: the table's `write.target-file-size-bytes`, else 512 MiB.
    pub target_file_size_bytes: Option<u64>,
    /// Smaller files are rewritten; default: 75 % of the target.
    pub min_file_size_bytes: Option<u64>,
    /// Larger files are rewritten; default: 180 % of the target.
    pub max_file_size_bytes: Option<u64>,
    /// Files whose row groups are smaller on average are rewritten; default: their size does not matter.
    pub min_row_group_size_bytes: Option<u64>,
    /// A group of this many files is rewritten even if they do not fill one; default 5.
    pub min_input_files: Option<usize>,
    /// Bytes of a group, at most; default 100 GiB.
    pub max_file_group_size_bytes: Option<u64>,
    /// Files of a group, at most; default: any number.
    pub max_file_group_input_files: Option<usize>,
    /// Files to rewrite in all, at most; default: any number.
    pub max_files_to_rewrite: Option<usize>,
    /// A file to which so many delete files apply is rewritten; default: their number does not matter.
    pub delete_file_threshold: Option<usize>,
    /// A file of which this share of rows is deleted by deletes about that file alone is rewritten; default 0.3.
    pub delete_ratio_threshold: Option<f64>,
    /// Rewrite every file, whatever its size.
    pub rewrite_all: bool,
    /// Which groups come first.
    pub rewrite_job_order: JobOrder,
    /// Groups rewritten at the same time; default: the threads for jobs.
    pub max_concurrent_file_group_rewrites: Option<usize>,
    /// Commit group by group (the default), rather than all groups at once at the end.
    #[serde(rename = "partial-progress.enabled")]
    pub partial_progress: Option<bool>,
    /// Commits, at most: groups are committed some at a time; default: one commit a group.
    #[serde(rename = "partial-progress.max-commits")]
    pub max_commits: Option<usize>,
    /// Drop deletes that apply to no file any more in the same commit; default true.
    pub remove_dangling_deletes: Option<bool>,
    /// Copy row groups that need no change without decoding them; default true.
    pub splice: Option<bool>,
    /// How the result is proved; default `checksums`.
    pub verify: Verify,
    /// Memory that the job may take; default: the server's `maintenance.memory_bytes`.
    pub memory_bytes: Option<u64>,
    /// Start no group once so many bytes have been rewritten.
    pub max_bytes: Option<u64>,
    /// Start no group after so many seconds.
    pub max_seconds: Option<u64>,
    /// Start no group once so many requests have been made.
    pub max_requests: Option<u64>,
    /// Leave partitions alone in which rows were changed (MERGE, UPDATE, DELETE) less than so many seconds ago, so that such a
    /// statement at work does not fail; default 60.
    pub courtesy_seconds: Option<u64>,
    /// Hand the job over to Spark if it rewrites more bytes than this; default: the table's policy `compact.spark-over`; 0: never.
    pub spark_over_bytes: Option<u64>,
}

impl CompactOptions {
    /// The branch that is compacted.
    pub(crate) fn branch(&self) -> &str {
        self.branch.as_deref().unwrap_or(MAIN_BRANCH)
    }

    /// Refuses options that contradict each other.
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |key, reason: &str| Err(MaintenanceError::Option { key, reason: reason.to_owned() });
        if self.sort_order.is_some() && self.strategy != Strategy::Sort {
            return bad("sort-order", "it needs the strategy sort");
        }
        if self.zorder_columns.is_empty() != (self.strategy != Strategy::ZOrder) {
            return bad("zorder-columns", "the strategy zorder needs columns, and no other takes them");
        }
        if self.delete_ratio_threshold.is_some_and(|ratio| !(0.0..=1.0).contains(&ratio)) {
            return bad("delete-ratio-threshold", "it must be between 0 and 1");
        }
        if self.max_concurrent_file_group_rewrites == Some(0) {
            return bad("max-concurrent-file-group-rewrites", "it must not be 0");
        }
        if self.memory_bytes.is_some_and(|bytes| bytes < 64 << 20) {
            return bad("memory-bytes", "less than 64 MiB is too little");
        }
        Ok(())
    }

    /// The size that new files aim at.
    pub(crate) fn target(&self, metadata: &TableMetadata) -> Result<u64> {
        match self.target_file_size_bytes {
            Some(0) => Err(MaintenanceError::Option { key: "target-file-size-bytes", reason: "it must not be 0".to_owned() }),
            Some(target) => Ok(target),
            None => Ok(TARGET_FILE_BYTES.of(&metadata.properties)),
        }
    }
}
