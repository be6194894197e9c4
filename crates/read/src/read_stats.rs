//! Counters of the cost of reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of the cost of reads, shared by all tasks of a scan.
#[derive(Debug, Default)]
pub struct ReadStats {
    /// Number of data and delete files opened.
    pub files_opened: AtomicU64,
    /// Bytes fetched from storage: footers, pages and delete files.
    pub bytes_read: AtomicU64,
    /// Bytes found in the block cache, in memory or on disk.
    pub cached_bytes: AtomicU64,
    /// Number of footers found in the footer cache.
    pub footer_hits: AtomicU64,
    /// Number of requests to the storage for bytes of files.
    pub requests: AtomicU64,
    /// Number of row groups that statistics ruled out.
    pub row_groups_pruned: AtomicU64,
}

impl ReadStats {
    /// Adds `n` to a counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}
