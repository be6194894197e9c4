//! The cost of a job: bytes and requests to storage, and processor time.
//!
//! [`Counters`] counts while the job runs; [`Cost`] is the sum that its record keeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use esker_read::ReadStats;
use esker_write::WriteCounters;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::CompactOutcome;

/// The cost of one job, or of several, as records of jobs hold it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Cost {
    /// Bytes read from storage.
    pub bytes_read: u64,
    /// Bytes written to storage.
    pub bytes_written: u64,
    /// Requests to the store.
    pub requests: u64,
    /// Processor seconds spent decoding and encoding.
    pub cpu_seconds: f64,
}

impl Cost {
    /// Adds another cost to this one.
    pub fn add(&mut self, other: Self) {
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
        self.requests += other.requests;
        self.cpu_seconds += other.cpu_seconds;
    }
}

/// The counters of a running job.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) reads: Arc<ReadStats>,
    pub(crate) writes: Arc<WriteCounters>,
    cpu_nanos: AtomicU64,
}

impl Counters {
    /// Returns the number of requests for data and delete files so far, reads and writes.
    pub(crate) fn requests(&self) -> u64 {
        self.writes.requests.load(Relaxed) + self.reads.requests.load(Relaxed)
    }

    /// Returns the cost so far.
    pub(crate) fn cost(&self) -> Cost {
        Cost {
            bytes_read: self.reads.bytes_read.load(Relaxed),
            bytes_written: self.writes.bytes.load(Relaxed),
            requests: self.requests(),
            cpu_seconds: self.cpu_nanos.load(Relaxed) as f64 / 1e9,
        }
    }

    /// Runs `work` on this thread and adds the processor time that the thread spent.
    pub(crate) fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let nanos = || {
            let now = clock_gettime(ClockId::ThreadCPUTime);
            now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
        };
        let before = nanos();
        let result = work();
        self.cpu_nanos.fetch_add(nanos().saturating_sub(before), Relaxed);
        result
    }

    /// Copies the cost so far into a compaction's outcome.
    pub(crate) fn report(&self, outcome: &mut CompactOutcome) {
        let cost = self.cost();
        outcome.bytes_read = cost.bytes_read;
        outcome.bytes_written = cost.bytes_written;
        outcome.requests = cost.requests;
        outcome.cpu_seconds = cost.cpu_seconds;
    }
}
