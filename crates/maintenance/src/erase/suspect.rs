//! [`Suspect`]: a file that may hold rows to erase, before it is read.

use std::collections::BTreeSet;
use std::sync::Arc;

use esker_table::LiveFile;
use esker_types::Millis;
use roaring::RoaringTreemap;

/// A file that may hold rows.
#[derive(Default)]
pub(super) struct Suspect {
    /// The manifest entry of the file; `None` if no snapshot leads to it.
    pub(super) file: Option<LiveFile>,
    /// Size of the file, in bytes.
    pub(super) bytes: u64,
    /// True if the file can be read as Parquet.
    pub(super) parquet: bool,
    /// Branches and tags whose head has the file.
    pub(super) refs: BTreeSet<String>,
    /// Branches and tags whose head has the file, with rows that are not deleted.
    pub(super) in_table: BTreeSet<String>,
    /// Branches and tags whose head has deletes that may apply to the file, with the positions that these delete.
    pub(super) hidden: Vec<(String, Arc<RoaringTreemap>)>,
    /// Ids of the snapshots that lead to the file.
    pub(super) snapshots: BTreeSet<i64>,
    /// The file's path as quarantine records it, and the time from which it may be deleted, in milliseconds since the Unix epoch.
    pub(super) quarantined: Option<(String, Millis)>,
}

impl Suspect {
    /// Creates a suspect that nothing else is known about.
    pub(super) fn new(file: Option<LiveFile>, bytes: u64, parquet: bool) -> Self {
        Self { file, bytes, parquet, ..Self::default() }
    }
}
