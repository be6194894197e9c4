//! Memory, cores and threads: what the machine has, and the threads that jobs run on.

use tokio::runtime::{Handle, Runtime};

use crate::{Error, Result};

/// Size of a thread's stack in bytes: statements and predicates are planned by recursion. No page is taken before it is used.
pub(crate) const STACK_BYTES: usize = 128 << 20;

/// Returns the number of cores that the process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Returns the bytes of memory that the process may use: those of the machine, or fewer if its container has a limit.
pub(crate) fn memory_bytes() -> u64 {
    let machine = rustix::system::sysinfo();
    let all = u64::from(machine.mem_unit) * machine.totalram;
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.iter().find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    limit.map_or(all, |limit: u64| limit.min(all))
}

/// The threads that jobs run on.
///
/// A Tokio runtime must not be dropped in async code, where the drop would block. A failed start drops it there, so `Drop` shuts
/// it down in the background.
#[derive(Debug)]
pub(super) struct JobThreads(Option<Runtime>);

impl JobThreads {
    /// Starts `threads` threads, but at least one.
    ///
    /// # Errors
    ///
    /// Returns [`Io`](Error::Io) if the threads can't be made.
    pub(super) fn start(threads: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_stack_size(STACK_BYTES)
            .worker_threads(threads.max(1))
            .thread_name("esker-jobs")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|source| Error::Io { path: "job threads".to_owned(), source })?;
        Ok(Self(Some(runtime)))
    }

    /// Returns the handle through which work is given to the threads.
    pub(super) fn handle(&self) -> Handle {
        // The runtime is there until `drop` takes it, so the default is never used.
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for JobThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
