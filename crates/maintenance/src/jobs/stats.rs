//! Statistics of the attempts of this process, for metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use esker_state::{JobEnd, JobState};

use crate::Cost;

/// Sums over attempts since the process began, by kind of job.
#[derive(Debug, Clone, Default)]
pub struct KindStats {
    /// Number of attempts by the state that they left the job in. `queued` stands for one that is tried again or handed to another
    /// engine.
    pub ended: BTreeMap<&'static str, u64>,
    /// Sum of the attempts' durations, in seconds.
    pub seconds: f64,
    /// Sum of the attempts' costs.
    pub cost: Cost,
}

/// The statistics of all kinds, by kind.
#[derive(Debug, Default)]
pub(crate) struct JobStats(Mutex<BTreeMap<String, KindStats>>);

impl JobStats {
    /// Counts one attempt that ended.
    pub(crate) fn count(&self, kind: &str, end: &JobEnd, seconds: f64, cost: Cost) {
        let state = match end {
            JobEnd::Succeeded(_) => JobState::Succeeded,
            JobEnd::Failed(_) => JobState::Failed,
            JobEnd::Retry(..) | JobEnd::Delegated(_) => JobState::Queued,
            JobEnd::Cancelled => JobState::Cancelled,
        };
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = kinds.entry(kind.to_owned()).or_default();
        *stats.ended.entry(state.as_str()).or_default() += 1;
        stats.seconds += seconds;
        stats.cost.add(cost);
    }

    /// Returns a copy of the statistics.
    pub(crate) fn get(&self) -> BTreeMap<String, KindStats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
