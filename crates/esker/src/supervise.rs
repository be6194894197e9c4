//! [`Supervisor`]: the server's background tasks as one set, with restarts.
//!
//! Each task has a name. A task that panics, or returns before the server stops, is started again after a pause that grows with
//! each failure. [`Tasks`] holds the state of each task, which `/readyz` and `/metrics` report.

use std::time::{Duration, Instant};

use esker_catalog::Failpoint;
use esker_rest::Tasks;
use esker_types::catch_panic;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The pauses before a failed task is started again.
#[derive(Debug, Clone, Copy)]
struct RestartPauses {
    /// The pause after the first failure. It doubles with each failure that follows within `recovered`.
    first: Duration,
    /// The upper limit of a pause.
    longest: Duration,
    /// The run time after which the last failure no longer counts.
    recovered: Duration,
}

/// The pauses of a server's tasks.
const PAUSES: RestartPauses =
    RestartPauses { first: Duration::from_millis(500), longest: Duration::from_secs(60), recovered: Duration::from_secs(60) };

/// The background tasks of a server.
#[derive(Debug)]
pub(crate) struct Supervisor {
    tasks: Tasks,
    failpoint: Failpoint,
    pauses: RestartPauses,
    stopped: watch::Receiver<bool>,
    handles: Vec<JoinHandle<()>>,
}

impl Supervisor {
    /// Creates an empty set. Tasks end when `stopped` becomes true.
    ///
    /// Each start of a task passes the failpoint `task-NAME` of `failpoint`, for tests.
    pub(crate) fn new(tasks: Tasks, failpoint: Failpoint, stopped: watch::Receiver<bool>) -> Self {
        Self { tasks, failpoint, pauses: PAUSES, stopped, handles: Vec::new() }
    }

    /// Runs a task under a name, and restarts it until the server stops.
    ///
    /// `start` makes the future of each run. The future must end by itself when the server stops.
    pub(crate) fn run<F>(&mut self, name: &str, start: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.record_start(name);
        let kept = SupervisedTask {
            name: name.to_owned(),
            tasks: self.tasks.clone(),
            failpoint: self.failpoint.clone(),
            pauses: self.pauses,
        };
        self.handles.push(tokio::spawn(kept.run_until_stop(self.stopped.clone(), start)));
    }

    /// Runs a task under a name, restarts it, and drops its future when the server stops.
    ///
    /// The future need not watch for the stop. It must be safe to drop at any `await`.
    pub(crate) fn run_until_stopped<F>(&mut self, name: &str, start: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stopped = self.stopped.clone();
        self.run(name, move || {
            let (work, mut stopped) = (start(), stopped.clone());
            async move {
                tokio::select! {
                    () = work => {}
                    _ = stopped.wait_for(|stop| *stop) => {}
                }
            }
        });
    }

    /// Returns the handles of all tasks, which end once the server stops.
    pub(crate) fn into_handles(self) -> Vec<JoinHandle<()>> {
        self.handles
    }
}

/// One supervised task.
struct SupervisedTask {
    name: String,
    tasks: Tasks,
    failpoint: Failpoint,
    pauses: RestartPauses,
}

impl SupervisedTask {
    /// Runs the task again and again, with pauses, until the server stops.
    async fn run_until_stop<F: Future<Output = ()>>(self, mut stopped: watch::Receiver<bool>, start: impl Fn() -> F) {
        let Self { name, tasks, pauses, .. } = &self;
        let mut pause = pauses.first;
        loop {
            tasks.record_start(name);
            let began = Instant::now();
            let why = self.run_once(&start).await;
            if *stopped.borrow() {
                return;
            }
            if began.elapsed() >= pauses.recovered {
                pause = pauses.first;
            }
            tracing::error!(
                task = name,
                why,
                restart_seconds = pause.as_secs_f64(),
                "a background task ended; it is restarted after a pause"
            );
            tasks.record_failure(name, why);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
            pause = (pause * 2).min(pauses.longest);
        }
    }

    /// Runs the task once. Returns the reason why it ended.
    async fn run_once<F: Future<Output = ()>>(&self, start: &impl Fn() -> F) -> String {
        let work = catch_panic(async {
            self.failpoint.at(&format!("task-{}", self.name)).await;
            start().await;
        });
        let mut work = std::pin::pin!(work);
        let ended = tokio::select! {
            ended = &mut work => ended,
            () = tokio::time::sleep(self.pauses.recovered) => {
                self.tasks.clear_failure(&self.name);
                work.await
            }
        };
        ended.map_or_else(|panic| panic.to_string(), |()| "it returned unexpectedly".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn wait_for_state(tasks: &Tasks, holds: impl Fn(&esker_rest::TaskState) -> bool) {
        for _ in 0..1000 {
            if tasks.all().get("t").is_some_and(&holds) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the task did not reach the expected state within 5 s: {:?}", tasks.all());
    }

    #[tokio::test]
    async fn a_task_that_panics_or_ends_is_started_again_and_counted_until_the_server_stops() {
        let (stop, stopped) = watch::channel(false);
        let tasks = Tasks::default();
        let mut supervisor = Supervisor::new(tasks.clone(), Failpoint::default(), stopped.clone());
        supervisor.pauses = RestartPauses {
            first: Duration::from_millis(50),
            longest: Duration::from_millis(80),
            recovered: Duration::from_millis(100),
        };
        let starts = Arc::new(AtomicUsize::new(0));
        let counted = starts.clone();
        supervisor.run("t", move || {
            let (n, mut stopped) = (counted.fetch_add(1, Ordering::SeqCst), stopped.clone());
            async move {
                match n {
                    0 => panic!("a bug"),
                    1 => {}
                    _ => drop(stopped.wait_for(|stop| *stop).await),
                }
            }
        });
        assert!(tasks.all()["t"].running);
        wait_for_state(&tasks, |t| !t.running && t.restarts == 1 && t.failure.as_deref() == Some("a panic: a bug")).await;
        wait_for_state(&tasks, |t| !t.running && t.restarts == 2 && t.failure.as_deref() == Some("it returned unexpectedly"))
            .await;
        wait_for_state(&tasks, |t| t.running && t.restarts == 2 && t.failure.is_none()).await;
        stop.send_replace(true);
        for handle in supervisor.into_handles() {
            handle.await.expect("it ended");
        }
        assert_eq!((starts.load(Ordering::SeqCst), tasks.all()["t"].restarts), (3, 2));
    }
}
