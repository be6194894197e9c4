use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use esker_read::ReadStats;
use esker_types::{Millis, Principal, now_ms};
use serde::Serialize;

/// Queries remembered.
const KEPT: usize = 200;

/// What a query's scans cost; shared by all of its tasks.
#[derive(Debug, Default)]
pub struct QueryStats {
    /// What was read.
    pub read: Arc<ReadStats>,
    /// Data files in the snapshots scanned.
    pub files_considered: AtomicU64,
    /// Of them, ruled out by partition values or column bounds.
    pub files_pruned: AtomicU64,
    /// Rows returned.
    pub rows: AtomicU64,
}

/// One query that ended.
#[derive(Debug, Clone, Serialize)]
pub struct QueryRecord {
    /// The statement.
    pub sql: String,
    /// Who asked.
    pub principal: String,
    /// When it began.
    pub started_ms: Millis,
    /// How long it took, in seconds, until the last row was handed over.
    pub seconds: f64,
    /// Rows returned.
    pub rows: u64,
    /// Data files in the snapshots scanned.
    pub files_considered: u64,
    /// Of them, ruled out before they were opened.
    pub files_pruned: u64,
    /// Files opened, delete files included.
    pub files_opened: u64,
    /// Bytes read from storage.
    pub bytes_read: u64,
    /// Row groups ruled out by their statistics.
    pub row_groups_pruned: u64,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// The newest queries, in memory.
#[derive(Debug, Clone, Default)]
pub struct QueryLog {
    records: Arc<Mutex<VecDeque<QueryRecord>>>,
}

impl QueryLog {
    /// The newest first.
    pub fn newest(&self, limit: usize) -> Vec<QueryRecord> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().rev().take(limit).cloned().collect()
    }

    fn push(&self, record: QueryRecord) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() == KEPT {
            records.pop_front();
        }
        records.push_back(record);
    }
}

/// Enters a query into the log when it ends: finished, failed or dropped by a client that went away.
#[derive(Debug)]
pub(crate) struct Logged {
    log: QueryLog,
    sql: String,
    principal: String,
    started: Instant,
    started_ms: Millis,
    pub(crate) stats: Arc<QueryStats>,
    pub(crate) error: Option<String>,
    pub(crate) finished: bool,
}

impl Logged {
    pub(crate) fn new(log: &QueryLog, sql: &str, principal: &Principal, stats: Arc<QueryStats>) -> Self {
        Self {
            log: log.clone(),
            sql: sql.to_owned(),
            principal: principal.to_string(),
            started: Instant::now(),
            started_ms: now_ms(),
            stats,
            error: None,
            finished: false,
        }
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let error = match self.finished {
            true => self.error.take(),
            false => Some("the client went away".to_owned()),
        };
        self.log.push(QueryRecord {
            sql: std::mem::take(&mut self.sql),
            principal: std::mem::take(&mut self.principal),
            started_ms: self.started_ms,
            seconds: self.started.elapsed().as_secs_f64(),
            rows: get(&self.stats.rows),
            files_considered: get(&self.stats.files_considered),
            files_pruned: get(&self.stats.files_pruned),
            files_opened: get(&self.stats.read.files_opened),
            bytes_read: get(&self.stats.read.bytes_read),
            row_groups_pruned: get(&self.stats.read.row_groups_pruned),
            error,
        });
    }
}
