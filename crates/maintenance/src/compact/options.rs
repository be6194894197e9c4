//! The options of a compaction, and their checks.

use esker_format::{MAIN_BRANCH, TableMetadata};
use esker_table::properties::TARGET_FILE_BYTES;
use serde::{Deserialize, Serialize};

use crate::{MaintenanceError, Result};

/// The strategy of a compaction: which files are rewritten, and into what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Files of the wrong size or with many deletes become files of the target size. Rows keep their order.
    #[default]
    #[serde(rename = "binpack")]
    BinPack,
    /// Files become files of the target size, with rows sorted within each group.
    Sort,
    /// Files become files of the target size, with rows sorted along a Z-order curve through some columns, so that bounds of each
    /// column prune.
    #[serde(rename = "zorder")]
    ZOrder,
    /// No data file is rewritten. Equality and position deletes become deletion vectors (format version 3) or position deletes
    /// (version 2), and deletes that apply to no file are removed.
    ConvertDeletes,
}

/// The verification that a group's new files hold the rows of the files they replace, before it is committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// Rows are counted and hashed before they are encoded. Files are read back and compared with the bytes that were written.
    #[default]
    Checksums,
    /// Like `Checksums`; in addition, the new files are decoded again and their rows hashed.
    Full,
}

/// The order in which groups are rewritten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobOrder {
    /// The order of the plan, which is by partition.
    #[default]
    None,
    /// The smallest group first.
    BytesAsc,
    /// The largest group first.
    BytesDesc,
    /// The group with the fewest files first.
    FilesAsc,
    /// The group with the most files first.
    FilesDesc,
}

/// The options of a compaction. Names and defaults are those of Spark's `rewrite_data_files`, where it has the option.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CompactOptions {
    /// The strategy; default `binpack`.
    pub strategy: Strategy,
    /// Order of rows, only with `sort`: `column [asc|desc] [nulls first|nulls last], …`; default: the table's sort order.
    ///
    /// Names that hold blanks, commas or dots stand in quotes. Fields of structs follow after dots.
    pub sort_order: Option<String>,
    /// Columns of the Z-order curve, only with `zorder`.
    pub zorder_columns: Vec<String>,
    /// The branch that is compacted; default `main`.
    pub branch: Option<String>,
    /// Only files that may hold rows for which this SQL predicate is true.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Only partitions whose label (`field=value/…`) contains this.
    pub partition: Option<String>,
    /// Target size of new files, in bytes; default: the table's `write.target-file-size-bytes`, else 512 MiB.
    pub target_file_size_bytes: Option<u64>,
    /// Size in bytes below which a file is rewritten; default: 75 % of the target.
    pub min_file_size_bytes: Option<u64>,
    /// Size in bytes above which a file is rewritten; default: 180 % of the target.
    pub max_file_size_bytes: Option<u64>,
    /// Average size of row groups, in bytes, below which a file of several is rewritten; default: it does not matter.
    pub min_row_group_size_bytes: Option<u64>,
    /// Number of files from which a group is rewritten even if they do not fill one target file; default 5.
    pub min_input_files: Option<usize>,
    /// Maximum size of a group, in bytes; default 100 GiB.
    pub max_file_group_size_bytes: Option<u64>,
    /// Maximum number of files of a group; default: any number.
    pub max_file_group_input_files: Option<usize>,
    /// Maximum number of files that the job rewrites; default: any number.
    pub max_files_to_rewrite: Option<usize>,
    /// Number of applicable delete files from which a file is rewritten; default: it does not matter.
    pub delete_file_threshold: Option<usize>,
    /// Share of a file's rows, from 0 to 1, from which it is rewritten if deletes about that file alone delete as many; default
    /// 0.3.
    pub delete_ratio_threshold: Option<f64>,
    /// Rewrite every file, whatever its size.
    pub rewrite_all: bool,
    /// The order in which groups are rewritten.
    pub rewrite_job_order: JobOrder,
    /// Number of groups rewritten at the same time; default: the server's number of threads for jobs.
    pub max_concurrent_file_group_rewrites: Option<usize>,
    /// Commit group by group (the default), rather than all groups in one commit at the end.
    #[serde(rename = "partial-progress.enabled")]
    pub partial_progress: Option<bool>,
    /// Number of commits to aim at: several groups go into one commit; default: a commit for each group.
    #[serde(rename = "partial-progress.max-commits")]
    pub max_commits: Option<usize>,
    /// Remove deletes that apply to no file any more, in the same commit; default true.
    pub remove_dangling_deletes: Option<bool>,
    /// Copy row groups that need no change without decoding them; default true.
    pub splice: Option<bool>,
    /// The verification of new files; default `checksums`.
    pub verify: Verify,
    /// Memory that the job may take, in bytes, at least 64 MiB; default: the server's `maintenance.memory_bytes`.
    pub memory_bytes: Option<u64>,
    /// Budget in bytes: no group starts once so many bytes of input are committed.
    pub max_bytes: Option<u64>,
    /// Budget in seconds: no group starts after so long.
    pub max_seconds: Option<u64>,
    /// Budget in requests to storage: no group starts once so many were made.
    pub max_requests: Option<u64>,
    /// Age in seconds of the last change of rows (MERGE, UPDATE, DELETE) below which a partition is left alone; default 60.
    ///
    /// A running statement of that kind would fail if a compaction replaced the files that it read.
    pub courtesy_seconds: Option<u64>,
    /// Number of bytes to rewrite above which Spark runs the job; default: the table's policy `compact.spark-over`; 0: never.
    pub spark_over_bytes: Option<u64>,
}

impl CompactOptions {
    /// Returns the branch that is compacted.
    pub(crate) fn branch(&self) -> &str {
        self.branch.as_deref().unwrap_or(MAIN_BRANCH)
    }

    /// Checks the options by themselves and against each other.
    ///
    /// # Errors
    ///
    /// Returns [`MaintenanceError::Option`] that names the first option that makes no sense.
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

    /// Returns the target size of new files, in bytes.
    ///
    /// # Errors
    ///
    /// Returns [`MaintenanceError::Option`] if the option is 0.
    pub(crate) fn target(&self, metadata: &TableMetadata) -> Result<u64> {
        match self.target_file_size_bytes {
            Some(0) => Err(MaintenanceError::Option { key: "target-file-size-bytes", reason: "it must not be 0".to_owned() }),
            Some(target) => Ok(target),
            None => Ok(TARGET_FILE_BYTES.of(&metadata.properties)),
        }
    }
}
