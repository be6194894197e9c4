//! Admission control: keeps one query from taking the resources that others need.
//!
//! `AdmissionGate` admits a limited number of queries at a time; others wait in a queue of limited length. `QueryShare` limits
//! the memory of each query within the pool of all. `bounded` ends a stream at its deadline or when it is cancelled. Start
//! reading at `AdmissionGate::enter`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use datafusion::common::resources_datafusion_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use esker_types::catch_panic;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::QueryError;
use crate::error::{Stopped, external};

/// The limits of queries: how many run at a time, and what each of them may use.
#[derive(Debug, Clone, Copy)]
pub struct QueryLimits {
    /// Maximum number of queries that run at the same time; 0 counts as 1.
    pub concurrency: usize,
    /// Maximum number of queries that wait for admission; more are refused with [`QueryError::Busy`].
    pub queue: usize,
    /// Maximum duration of a query, including its wait for admission.
    pub timeout: Duration,
    /// Maximum memory in bytes that one query may use for sorts, joins and aggregates before it spills or fails.
    pub query_memory_bytes: usize,
    /// Duration from which on a query is logged as slow.
    pub slow: Duration,
}

/// The gate that admits a limited number of queries at a time.
#[derive(Debug)]
pub(crate) struct AdmissionGate {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    limits: QueryLimits,
}

impl AdmissionGate {
    pub(crate) fn new(limits: QueryLimits) -> Self {
        Self { running: Arc::new(Semaphore::new(limits.concurrency.max(1))), waiting: AtomicUsize::new(0), limits }
    }

    pub(crate) fn limits(&self) -> &QueryLimits {
        &self.limits
    }

    /// Waits for admission, which lasts until the permit is dropped.
    ///
    /// # Errors
    ///
    /// Returns [`QueryError::Busy`] if the queue is full.
    pub(crate) async fn enter(&self) -> crate::Result<OwnedSemaphorePermit> {
        if let Ok(permit) = self.running.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let waiting = Waiting::new(&self.waiting);
        if waiting.before >= self.limits.queue {
            return Err(QueryError::Busy { running: self.limits.concurrency, waiting: waiting.before });
        }
        // The semaphore is never closed.
        self.running.clone().acquire_owned().await.map_err(|e| QueryError::Execution(e.to_string()))
    }
}

/// The count of a query that waits, for as long as the value lives.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    /// Number of queries that waited already.
    before: usize,
}

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        Self { count, before: count.fetch_add(1, Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Relaxed);
    }
}

/// A memory pool that limits one query's share of the pool of all queries.
#[derive(Debug)]
pub(crate) struct QueryShare {
    /// The pool that all queries share.
    pub(crate) all: Arc<dyn MemoryPool>,
    /// Maximum number of bytes for this query.
    pub(crate) limit: usize,
    /// Number of bytes that this query uses.
    pub(crate) used: AtomicUsize,
}

impl QueryShare {
    /// Builds the error for a request that exceeds the share.
    fn full(&self, additional: usize) -> DataFusionError {
        resources_datafusion_err!(
            "{additional} more bytes on top of {} in use would exceed the limit of {} bytes a query (query.query_memory_bytes)",
            self.used.load(Relaxed),
            self.limit
        )
    }
}

impl fmt::Display for QueryShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a query's share of {}", self.all.name())
    }
}

impl MemoryPool for QueryShare {
    fn name(&self) -> &str {
        "a query's share"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.all.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.all.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Relaxed);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Relaxed);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let within = |used: usize| used.checked_add(additional).filter(|total| *total <= self.limit);
        self.used.fetch_update(Relaxed, Relaxed, within).map_err(|_| self.full(additional))?;
        self.all.try_grow(reservation, additional).inspect_err(|_| {
            self.used.fetch_sub(additional, Relaxed);
        })
    }

    fn reserved(&self) -> usize {
        self.used.load(Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

/// Returns a stream that ends with an error at the deadline, on cancellation or on a panic.
///
/// `timeout` is the limit that the message of [`Stopped::Timeout`] names.
pub(crate) fn bounded(
    stream: SendableRecordBatchStream,
    deadline: Instant,
    timeout: Duration,
    cancel: CancellationToken,
) -> SendableRecordBatchStream {
    let schema = stream.schema();
    let rows = futures::stream::unfold(Some((stream, cancel)), move |state| async move {
        let (mut stream, cancel) = state?;
        let next = tokio::select! {
            next = catch_panic(stream.next()) => next.unwrap_or_else(|panic| Some(Err(external(panic)))),
            () = tokio::time::sleep_until(deadline) => return Some((Err(external(Stopped::Timeout(timeout.as_secs()))), None)),
            () = cancel.cancelled() => return Some((Err(external(Stopped::Cancelled)), None)),
        };
        match next? {
            Ok(batch) => Some((Ok(batch), Some((stream, cancel)))),
            Err(e) => Some((Err(e), None)),
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use esker_types::{Coded, ErrorCode};

    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_own_query_with_an_error() {
        let schema = Arc::new(arrow::datatypes::Schema::empty());
        let rows = futures::stream::poll_fn(|_| panic!("a bug"));
        let far = Duration::from_secs(3600);
        let rows = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
        let mut rows = bounded(rows, Instant::now() + far, far, CancellationToken::new());
        let error = QueryError::from(rows.next().await.expect("an item").expect_err("an error"));
        assert_eq!(error.code(), ErrorCode::Internal);
        assert_eq!(error.to_string(), "an internal error ended the statement; the server's log names the place");
        assert!(rows.next().await.is_none());
    }

    #[tokio::test]
    async fn the_gate_lets_in_so_many_and_refuses_beyond_its_queue() {
        let limits = QueryLimits {
            concurrency: 1,
            queue: 1,
            timeout: Duration::from_secs(1),
            query_memory_bytes: 1,
            slow: Duration::from_secs(1),
        };
        let gate = Arc::new(AdmissionGate::new(limits));
        let first = gate.enter().await.expect("the first");
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter().await.map(drop) }
        });
        while gate.waiting.load(Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(gate.enter().await, Err(QueryError::Busy { .. })));
        drop(first);
        waiting.await.expect("no panic").expect("its turn came");
        assert_eq!(gate.waiting.load(Relaxed), 0);
    }

    #[test]
    fn a_share_is_not_exceeded_and_is_given_back() {
        let all: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let share: Arc<dyn MemoryPool> = Arc::new(QueryShare { all: all.clone(), limit: 60, used: AtomicUsize::new(0) });
        let taken = MemoryConsumer::new("a").register(&share);
        taken.try_grow(50).expect("within both");
        assert!(taken.try_grow(20).is_err(), "over the share");
        let other = MemoryConsumer::new("b").register(&all);
        other.try_grow(45).expect("within the whole");
        assert!(taken.try_grow(8).is_err(), "over the whole");
        assert_eq!((share.reserved(), all.reserved()), (50, 95));
        drop(taken);
        assert_eq!((share.reserved(), all.reserved()), (0, 45));
    }
}
