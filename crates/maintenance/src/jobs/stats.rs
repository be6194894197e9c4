//! What the attempts of this process came to, for metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use esker_state::{JobEnd, JobState};

/// Sums over attempts since the process began, by kind of job.
#[derive(Debug, Clone, Default)]
pub struct KindStats {
    /// Attempts by how they ended; `queued` is one that is tried again.
    pub ended: BTreeMap<&'static str, u64>,
    /// Seconds that they took.
    pub seconds: f64,
    /// Bytes read from storage.
    pub bytes_read: u64,
    /// Bytes written to storage.
    pub bytes_written: u64,
    /// Processor seconds spent decoding and encoding.
    pub cpu_seconds: f64,
}

/// By kind.
#[derive(Debug, Default)]
pub(crate) struct Stats(Mutex<BTreeMap<String, KindStats>>);

impl Stats {
    pub(crate) fn count(&self, kind: &str, end: &JobEnd, seconds: f64, cost: &serde_json::Value) {
        let state = match end {
            JobEnd::Succeeded(_) => JobState::Succeeded,
            JobEnd::Failed(_) => JobState::Failed,
            JobEnd::Again(..) => JobState::Queued,
            JobEnd::Cancelled => JobState::Cancelled,
        };
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = kinds.entry(kind.to_owned()).or_default();
        *stats.ended.entry(state.as_str()).or_default() += 1;
        stats.seconds += seconds;
        stats.bytes_read += cost["bytes_read"].as_u64().unwrap_or(0);
        stats.bytes_written += cost["bytes_written"].as_u64().unwrap_or(0);
        stats.cpu_seconds += cost["cpu_seconds"].as_f64().unwrap_or(0.0);
    }

    pub(crate) fn get(&self) -> BTreeMap<String, KindStats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
