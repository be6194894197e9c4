use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use esker_read::ReadStats;
use esker_write::WriteCounters;
use rustix::time::{ClockId, clock_gettime};

use crate::CompactOutcome;

/// What a job costs.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) reads: Arc<ReadStats>,
    pub(crate) writes: Arc<WriteCounters>,
    cpu_nanos: AtomicU64,
}

impl Counters {
    pub(crate) fn requests(&self) -> u64 {
        self.writes.requests.load(Relaxed) + self.reads.requests.load(Relaxed)
    }

    /// As a job's record tells it.
    pub(crate) fn cost(&self) -> serde_json::Value {
        serde_json::json!({
            "bytes_read": self.reads.bytes_read.load(Relaxed),
            "bytes_written": self.writes.bytes.load(Relaxed),
            "requests": self.requests(),
            "cpu_seconds": self.cpu_nanos.load(Relaxed) as f64 / 1e9,
        })
    }

    /// Does something and adds the processor time that this thread took for it.
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

    pub(crate) fn report(&self, outcome: &mut CompactOutcome) {
        outcome.bytes_read = self.reads.bytes_read.load(Relaxed);
        outcome.bytes_written = self.writes.bytes.load(Relaxed);
        outcome.requests = self.requests();
        outcome.cpu_seconds = self.cpu_nanos.load(Relaxed) as f64 / 1e9;
    }
}
