//! The log of the queries that run and of the newest that ended, in memory.
//!
//! A `LoggedQuery` is a query that waits or runs. It enters the log of ended queries when it is dropped. Start reading at
//! [`QueryLog`].

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
use uuid::Uuid;

use crate::literals::without_literals;

/// Number of ended queries that are remembered.
const KEPT: usize = 200;

/// Maximum size of the text of a statement in the log, in bytes. The end of a longer one is left out.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// Returns the text of a statement as the log has it.
fn logged_text(sql: &str) -> String {
    match sql.len() > MAX_TEXT_BYTES {
        true => format!("{} …", &sql[..sql.floor_char_boundary(MAX_TEXT_BYTES)]),
        false => sql.to_owned(),
    }
}

/// Counters of a query's scans, shared by all of its tasks.
#[derive(Debug, Default)]
pub struct QueryStats {
    /// Counters of files, bytes and requests that were read.
    pub read: Arc<ReadStats>,
    /// Number of data files in the snapshots scanned.
    pub files_considered: AtomicU64,
    /// Number of data files that partition values or column bounds ruled out.
    pub files_pruned: AtomicU64,
    /// Number of rows in the scanned files that deletes left out.
    pub rows_deleted: AtomicU64,
    /// Number of rows returned.
    pub rows: AtomicU64,
}

/// The state of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueryState {
    /// The query is planned and waits for admission.
    Waiting,
    /// The query's rows are being computed.
    Running,
    /// All rows were returned.
    Finished,
    /// The query ended with an error, or its client went away.
    Failed,
}

/// A query that runs or has ended.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct QueryRecord {
    /// Number of the query in this process, by which it can be cancelled.
    pub id: u64,
    /// State of the query.
    pub state: QueryState,
    /// Text of the statement.
    pub sql: String,
    /// Name of the principal who sent the statement.
    pub principal: String,
    /// Start of the query, in milliseconds since the Unix epoch.
    pub started_ms: Millis,
    /// Duration so far or, once the query ended, until its last row was returned.
    pub seconds: f64,
    /// Number of rows returned.
    pub rows: u64,
    /// Number of data files in the snapshots scanned.
    pub files_considered: u64,
    /// Number of data files that were ruled out before they were opened.
    pub files_pruned: u64,
    /// Number of files opened, including delete files.
    pub files_opened: u64,
    /// Number of rows that deletes left out.
    pub rows_deleted: u64,
    /// Number of bytes read from storage.
    pub bytes_read: u64,
    /// Number of bytes found in the block cache.
    pub bytes_cached: u64,
    /// Number of requests for bytes of files.
    pub requests: u64,
    /// Message of the error with which the query failed.
    pub error: Option<String>,
}

/// The log of the queries of this process, in memory; cheap to clone.
#[derive(Debug, Clone)]
pub struct QueryLog {
    inner: Arc<Inner>,
}

/// The state that all clones of a log share.
#[derive(Debug)]
struct Inner {
    slow_after: Duration,
    next_id: AtomicU64,
    finished: AtomicU64,
    failed: AtomicU64,
    queries: Mutex<Queries>,
}

/// The queries that run, by number, and those that ended, the oldest first.
#[derive(Debug, Default)]
struct Queries {
    running: BTreeMap<u64, Arc<RunningEntry>>,
    ended: VecDeque<QueryRecord>,
}

/// A query that runs.
#[derive(Debug)]
struct RunningEntry {
    id: u64,
    sql: String,
    principal: String,
    started: Instant,
    started_ms: Millis,
    stats: Arc<QueryStats>,
    admitted: std::sync::atomic::AtomicBool,
    cancel: CancellationToken,
}

impl RunningEntry {
    /// Returns the entry as a record, with the present values of its counters.
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
        let inner = Inner {
            slow_after: slow,
            next_id: AtomicU64::new(1),
            finished: counter(),
            failed: counter(),
            queries: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Numbers the queries from a random number on, so that no two servers of a database give one number. For the start of a server.
    ///
    /// Whoever stops a query by its number may reach another server, which must not stop one of its own.
    pub fn number_apart(&self) {
        // 31 random bits before 21 of the count. JSON keeps whole numbers below 2^53 in every language.
        let random = Uuid::new_v4().as_u64_pair().0 >> 33;
        self.inner.next_id.store((random << 21) + 1, Relaxed);
    }

    fn queries(&self) -> MutexGuard<'_, Queries> {
        self.inner.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns at most `limit` queries: first those that run, then those that ended, the newest first in each group.
    pub fn newest(&self, limit: usize) -> Vec<QueryRecord> {
        let queries = self.queries();
        let state = |e: &RunningEntry| if e.admitted.load(Relaxed) { QueryState::Running } else { QueryState::Waiting };
        let running = queries.running.values().rev().map(|e| e.record(state(e), None));
        running.chain(queries.ended.iter().rev().cloned()).take(limit).collect()
    }

    /// Returns the number of queries that run, and how many finished and how many failed so far.
    pub fn counts(&self) -> (usize, u64, u64) {
        let running = self.queries().running.len();
        (running, self.inner.finished.load(Relaxed), self.inner.failed.load(Relaxed))
    }

    /// Cancels a query; returns false if no query of that number runs.
    pub fn cancel(&self, id: u64) -> bool {
        let queries = self.queries();
        let found = queries.running.get(&id);
        if let Some(entry) = found {
            entry.cancel.cancel();
        }
        found.is_some()
    }
}

/// A query that waits or runs. It enters the log when it ends: finished, failed, or dropped because its client went away.
#[derive(Debug)]
pub(crate) struct LoggedQuery {
    log: QueryLog,
    entry: Arc<RunningEntry>,
    /// The query's span for traces.
    span: Span,
    /// The message of the error with which the query ended.
    pub(crate) error: Option<String>,
    /// True once the query ended, with or without an error; false if its client went away.
    pub(crate) ended: bool,
}

impl LoggedQuery {
    /// Adds a query to those that run, in the state [`QueryState::Waiting`].
    pub(crate) fn new(log: &QueryLog, sql: &str, principal: &Principal, stats: Arc<QueryStats>) -> Self {
        let entry = Arc::new(RunningEntry {
            id: log.inner.next_id.fetch_add(1, Relaxed),
            sql: logged_text(sql),
            principal: principal.to_string(),
            started: Instant::now(),
            started_ms: now_ms(),
            stats,
            admitted: false.into(),
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
        Self { log: log.clone(), entry, span, error: None, ended: false }
    }

    pub(crate) fn stats(&self) -> &QueryStats {
        &self.entry.stats
    }

    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.entry.cancel
    }

    /// Marks the query as admitted.
    pub(crate) fn begin(&self) {
        self.entry.admitted.store(true, Relaxed);
    }

    /// Records the error with which the query ended.
    pub(crate) fn failed(&mut self, error: String) {
        self.error = Some(error);
        self.ended = true;
    }
}

impl Drop for LoggedQuery {
    fn drop(&mut self) {
        let error = match self.ended {
            true => self.error.take(),
            false => Some("the client went away".to_owned()),
        };
        let state = if error.is_none() { QueryState::Finished } else { QueryState::Failed };
        let record = self.entry.record(state, error);
        let ended = if record.error.is_none() { &self.log.inner.finished } else { &self.log.inner.failed };
        ended.fetch_add(1, Relaxed);
        let QueryRecord { rows, files_opened, bytes_read, .. } = record;
        // Signed, because collectors receive unsigned numbers as text.
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.span
            .record("rows", signed(rows))
            .record("files_opened", signed(files_opened))
            .record("bytes_read", signed(bytes_read));
        let _entered = self.span.enter();
        // Logs are read by more people than may read the rows: neither the statement nor its error shows values there.
        if record.seconds >= self.log.inner.slow_after.as_secs_f64() {
            tracing::warn!(
                query = record.id,
                seconds = record.seconds,
                principal = record.principal,
                rows,
                files_opened,
                bytes_read,
                bytes_cached = record.bytes_cached,
                failed = record.error.is_some(),
                sql = without_literals(&record.sql),
                "slow query"
            );
        }
        if let Some(error) = &record.error {
            self.span.record("error", error);
        }
        let mut queries = self.log.queries();
        queries.running.remove(&record.id);
        if queries.ended.len() == KEPT {
            queries.ended.pop_front();
        }
        queries.ended.push_back(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_the_beginning_of_a_long_statement() {
        assert_eq!(logged_text("SELECT 1"), "SELECT 1");
        let long = logged_text(&"é".repeat(MAX_TEXT_BYTES));
        assert!(long.len() < MAX_TEXT_BYTES + 8 && long.starts_with("éé") && long.ends_with("é …"), "{}", long.len());
    }
}
