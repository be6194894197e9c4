//! What the server does in the background, as probes and metrics tell it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a background task fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskState {
    /// It is at work; else it ended and waits to be started again.
    pub running: bool,
    /// How often it was started again.
    pub restarts: u64,
    /// How it last ended, until it has worked long enough since.
    pub failure: Option<String>,
}

/// The background tasks of a server by name. Whoever supervises them writes it; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Arc<Mutex<BTreeMap<String, TaskState>>>);

impl Tasks {
    /// A task begins, for the first time or again.
    pub fn begins(&self, name: &str) {
        self.states().entry(name.to_owned()).or_default().running = true;
    }

    /// A task ended though nobody told it to, and is started again.
    pub fn failed(&self, name: &str, why: String) {
        let mut states = self.states();
        let state = states.entry(name.to_owned()).or_default();
        (state.running, state.restarts, state.failure) = (false, state.restarts + 1, Some(why));
    }

    /// A task has worked for so long that its last failure is over.
    pub fn recovered(&self, name: &str) {
        if let Some(state) = self.states().get_mut(name) {
            state.failure = None;
        }
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, TaskState> {
        self.states().clone()
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<String, TaskState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
