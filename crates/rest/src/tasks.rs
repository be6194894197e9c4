//! The states of the server's background tasks, for probes and metrics.
//!
//! The supervisor in the crate `esker` writes them; `/readyz` and `/metrics` read them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state of a background task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskState {
    /// Tells whether the task runs. If not, it failed and waits to be started again.
    pub running: bool,
    /// The number of times that the task was started again after it failed.
    pub restarts: u64,
    /// The last failure, until the task has run long enough since.
    pub failure: Option<String>,
}

/// The states of a server's background tasks by name. Clones are cheap and share the states.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Arc<Mutex<BTreeMap<String, TaskState>>>);

impl Tasks {
    /// Records that a task begins, for the first time or again.
    pub fn record_start(&self, name: &str) {
        self.states().entry(name.to_owned()).or_default().running = true;
    }

    /// Records that a task ended before the server stops, with the reason. The task will be started again.
    pub fn record_failure(&self, name: &str, why: String) {
        let mut states = self.states();
        let state = states.entry(name.to_owned()).or_default();
        (state.running, state.restarts, state.failure) = (false, state.restarts + 1, Some(why));
    }

    /// Removes the last failure of a task that has run long enough since.
    pub fn clear_failure(&self, name: &str) {
        if let Some(state) = self.states().get_mut(name) {
            state.failure = None;
        }
    }

    /// Returns the states of all tasks by name.
    pub fn all(&self) -> BTreeMap<String, TaskState> {
        self.states().clone()
    }

    /// Locks the states.
    fn states(&self) -> MutexGuard<'_, BTreeMap<String, TaskState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
