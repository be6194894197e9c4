//! The sections `[maintenance]` and `[health]`: jobs, the quarantine, the autopilot, and the history of tables' health.

use std::path::{Path, PathBuf};
use std::time::Duration;

use esker_autopilot::AutopilotOptions;
use esker_maintenance::{JobLimits, WorkerOptions};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The section `[maintenance]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MaintenanceConfig {
    /// Seconds for which a file stays in quarantine before it is deleted.
    pub grace_seconds: u64,
    /// Seconds between two rounds of housekeeping, which sweep the quarantine; 0 counts as 1.
    pub sweep_seconds: u64,
    /// Number of threads that decode and encode, and of file groups that are rewritten at the same time; default: the number of
    /// cores.
    pub concurrency: Option<usize>,
    /// Number of jobs that this server runs at the same time, each on a different table; 0: this server runs none.
    pub jobs: usize,
    /// Number of attempts at a job that fails for a transient reason.
    pub attempts: u32,
    /// Seconds between the first attempt and the second. The pause grows fourfold with each further attempt.
    pub retry_seconds: u64,
    /// Seconds between two rounds of the autopilot; 0: this server runs no autopilot.
    pub autopilot_seconds: u64,
    /// Days for which finished jobs are kept, with their logs.
    pub history_days: u64,
    /// Approximate limit of the memory of a job, in bytes. A job spills to disk what does not fit.
    pub memory_bytes: u64,
    /// The directory to which jobs spill; default: `spill` in the data directory.
    #[schema(value_type = Option<String>)]
    pub spill_dir: Option<PathBuf>,
}

impl Default for MaintenanceConfig {
    fn default() -> Self {
        Self {
            grace_seconds: 24 * 3600,
            sweep_seconds: 60,
            concurrency: None,
            jobs: 4,
            attempts: 3,
            retry_seconds: 30,
            autopilot_seconds: 30,
            history_days: 90,
            memory_bytes: 1 << 30,
            spill_dir: None,
        }
    }
}

impl MaintenanceConfig {
    /// Returns the number of threads that decode and encode, on a machine with `cores`.
    pub(crate) fn threads(&self, cores: usize) -> usize {
        self.concurrency.unwrap_or(cores)
    }

    /// Returns the directory to which jobs spill; `dir` is the data directory.
    pub(crate) fn spill_dir(&self, dir: &Path) -> PathBuf {
        self.spill_dir.clone().unwrap_or_else(|| dir.join("spill"))
    }

    /// Returns the limits of each job; `dir` is the data directory.
    pub(crate) fn job_limits(&self, dir: &Path) -> JobLimits {
        JobLimits { bytes: self.memory_bytes, spill_dir: self.spill_dir(dir) }
    }

    /// Returns the options of the worker that runs jobs.
    pub(crate) fn worker_options(&self) -> WorkerOptions {
        WorkerOptions { jobs: self.jobs, attempts: self.attempts, retry: Duration::from_secs(self.retry_seconds) }
    }

    /// Returns the options of the autopilot, or `None` if this server runs none.
    pub(crate) fn autopilot_options(&self) -> Option<AutopilotOptions> {
        let interval = Duration::from_secs(self.autopilot_seconds);
        (self.autopilot_seconds > 0).then(|| AutopilotOptions { interval, slots: self.jobs.max(1) * 2 })
    }

    /// Returns the time between two rounds of housekeeping.
    pub(crate) fn sweep_interval(&self) -> Duration {
        Duration::from_secs(self.sweep_seconds.max(1))
    }
}

/// The section `[health]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// Seconds between two recordings of health in the Iceberg table `system.table_health`, which every engine can query; 0: it is
    /// not written.
    pub table_seconds: u64,
    /// Days for which the history of tables' health and use is kept.
    pub history_days: u64,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { table_seconds: 0, history_days: 30 }
    }
}

impl HealthConfig {
    /// Returns the time between two recordings in `system.table_health`, or `None` if it is not written.
    pub(crate) fn table_interval(&self) -> Option<Duration> {
        (self.table_seconds > 0).then(|| Duration::from_secs(self.table_seconds))
    }
}
