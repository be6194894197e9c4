//! Queries at work and those that ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use esker_read::ReadStats;
use esker_types::{Millis, Principal, now_ms};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::Span;
use tracing::field::Empty;

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
    /// Rows of the files scanned that deletes left out.
    pub rows_deleted: AtomicU64,
    /// Rows returned.
    pub rows: AtomicU64,
}

/// Where a query stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryState {
    /// Planned, or being so, or waiting for its turn.
    Waiting,
    /// Its rows are being made.
    Running,
    /// All rows were handed over.
    Finished,
    /// It ended with an error.
    Failed,
}

/// One query, at work or ended.
#[derive(Debug, Clone, Serialize)]
pub struct QueryRecord {
    /// Its number, to cancel it by.
    pub id: u64,
    /// Where it stands.
    pub state: QueryState,
    /// The statement.
    pub sql: String,
    /// Who asked.
    pub principal: String,
    /// When it began.
    pub started_ms: Millis,
    /// How long it has taken so far or, once it ended, until the last row was handed over.
    pub seconds: f64,
    /// Rows returned.
    pub rows: u64,
    /// Data files in the snapshots scanned.
    pub files_considered: u64,
    /// Of them, ruled out before they were opened.
    pub files_pruned: u64,
    /// Files opened, delete files included.
    pub files_opened: u64,
    /// Rows that deletes left out.
    pub rows_deleted: u64,
    /// Bytes read from storage.
    pub bytes_read: u64,
    /// Bytes found in the block cache.
    pub bytes_cached: u64,
    /// Requests for bytes of files.
    pub requests: u64,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// The queries of this process, in memory.
#[derive(Debug, Clone)]
pub struct QueryLog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    slow: Duration,
    next: AtomicU64,
    finished: AtomicU64,
    failed: AtomicU64,
    queries: Mutex<Queries>,
}

#[derive(Debug, Default)]
struct Queries {
    running: BTreeMap<u64, Arc<Entry>>,
    ended: VecDeque<QueryRecord>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    sql: String,
    principal: String,
    started: Instant,
    started_ms: Millis,
    stats: Arc<QueryStats>,
    running: std::sync::atomic::AtomicBool,
    cancel: CancellationToken,
}

impl Entry {
    fn record(&self, state: QueryState, error: Option<String>) -> QueryRecord {
        let (stats, read) = (&self.stats, &self.stats.read);
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        QueryRecord {
            id: self.id,
            state,
            sql: self.sql.clone(),
            principal: self.principal.clone(),
            started_ms: self.started_ms,
            seconds: self.started.elapsed().as_secs_f64(),
            rows: get(&stats.rows),
            files_considered: get(&stats.files_considered),
            files_pruned: get(&stats.files_pruned),
            files_opened: get(&read.files_opened),
            rows_deleted: get(&stats.rows_deleted),
            bytes_read: get(&read.bytes_read),
            bytes_cached: get(&read.cached_bytes),
            requests: get(&read.requests),
            error,
        }
    }
}

impl QueryLog {
    pub(crate) fn new(slow: Duration) -> Self {
        let counter = AtomicU64::default;
        let inner = Inner { slow, next: AtomicU64::new(1), finished: counter(), failed: counter(), queries: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    fn queries(&self) -> MutexGuard<'_, Queries> {
        self.inner.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queries at work, the newest first, and then those that ended.
    pub fn newest(&self, limit: usize) -> Vec<QueryRecord> {
        let queries = self.queries();
        let state = |e: &Entry| if e.running.load(Relaxed) { QueryState::Running } else { QueryState::Waiting };
        let running = queries.running.values().rev().map(|e| e.record(state(e), None));
        running.chain(queries.ended.iter().rev().cloned()).take(limit).collect()
    }

    /// Queries at work, and how many finished and failed so far.
    pub fn counts(&self) -> (usize, u64, u64) {
        let running = self.queries().running.len();
        (running, self.inner.finished.load(Relaxed), self.inner.failed.load(Relaxed))
    }

    /// Stops a query; false if there is none of that number at work.
    pub fn cancel(&self, id: u64) -> bool {
        let queries = self.queries();
        let found = queries.running.get(&id);
        if let Some(entry) = found {
            entry.cancel.cancel();
        }
        found.is_some()
    }
}

/// A query at work, which enters the log when it ends: finished, failed or dropped by a client that went away.
#[derive(Debug)]
pub(crate) struct Logged {
    log: QueryLog,
    entry: Arc<Entry>,
    /// Told to whoever gathers traces.
    span: Span,
    pub(crate) error: Option<String>,
    pub(crate) finished: bool,
}

impl Logged {
    pub(crate) fn new(log: &QueryLog, sql: &str, principal: &Principal, stats: Arc<QueryStats>) -> Self {
        let entry = Arc::new(Entry {
            id: log.inner.next.fetch_add(1, Relaxed),
            sql: sql.to_owned(),
            principal: principal.to_string(),
            started: Instant::now(),
            started_ms: now_ms(),
            stats,
            running: false.into(),
            cancel: CancellationToken::new(),
        });
        log.queries().running.insert(entry.id, entry.clone());
        let span = tracing::info_span!(
            "query",
            query = entry.id,
            principal = entry.principal,
            rows = Empty,
            files_opened = Empty,
            bytes_read = Empty,
            error = Empty
        );
        Self { log: log.clone(), entry, span, error: None, finished: false }
    }

    pub(crate) fn stats(&self) -> &QueryStats {
        &self.entry.stats
    }

    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.entry.cancel
    }

    pub(crate) fn begin(&self) {
        self.entry.running.store(true, Relaxed);
    }

    pub(crate) fn failed(&mut self, error: String) {
        self.error = Some(error);
        self.finished = true;
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let error = match self.finished {
            true => self.error.take(),
            false => Some("the client went away".to_owned()),
        };
        let state = if error.is_none() { QueryState::Finished } else { QueryState::Failed };
        let record = self.entry.record(state, error);
        let ended = if record.error.is_none() { &self.log.inner.finished } else { &self.log.inner.failed };
        ended.fetch_add(1, Relaxed);
        let QueryRecord { rows, files_opened, bytes_read, .. } = record;
        // Signed: what is not is told to collectors as text.
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.span
            .record("rows", signed(rows))
            .record("files_opened", signed(files_opened))
            .record("bytes_read", signed(bytes_read));
        if let Some(error) = &record.error {
            self.span.record("error", error);
        }
        let _entered = self.span.enter();
        if record.seconds >= self.log.inner.slow.as_secs_f64() {
            tracing::warn!(
                query = record.id,
                seconds = record.seconds,
                principal = record.principal,
                rows,
                files_opened,
                bytes_read,
                bytes_cached = record.bytes_cached,
                error = record.error,
                sql = record.sql,
                "a slow query"
            );
        }
        let mut queries = self.log.queries();
        queries.running.remove(&record.id);
        if queries.ended.len() == KEPT {
            queries.ended.pop_front();
        }
        queries.ended.push_back(record);
    }
}
