//! The section `[query]`: limits of queries.

use std::path::PathBuf;
use std::time::Duration;

use esker_query::{EngineOptions, QueryLimits};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::check::require;
use crate::Result;
use crate::server::memory_bytes;

/// The section `[query]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueryConfig {
    /// Bytes that all queries together may use for sorts, joins and aggregates; default: a quarter of the memory of the machine or
    /// its container.
    pub memory_bytes: Option<usize>,
    /// Bytes of `memory_bytes` that one query may use before it spills or fails; default: half.
    pub query_memory_bytes: Option<usize>,
    /// Number of partitions of a query's plan, which run in parallel; default: the number of cores.
    pub parallelism: Option<usize>,
    /// Maximum number of queries that run at the same time. Must not be 0.
    #[schema(minimum = 1)]
    pub concurrency: usize,
    /// Maximum number of queries that wait to run; more are refused.
    pub queue: usize,
    /// Maximum duration of a query in seconds, including its wait. Must not be 0.
    #[schema(minimum = 1)]
    pub timeout_seconds: u64,
    /// Duration in seconds from which a query is logged as slow.
    #[schema(minimum = 0)]
    pub slow_seconds: f64,
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self {
            memory_bytes: None,
            query_memory_bytes: None,
            parallelism: None,
            concurrency: 16,
            queue: 100,
            timeout_seconds: 600,
            slow_seconds: 10.0,
        }
    }
}

impl QueryConfig {
    pub(super) fn check(&self) -> Result<()> {
        let running = self.concurrency != 0 && self.timeout_seconds != 0;
        require(running, || "query.concurrency and query.timeout_seconds must not be 0".to_owned())?;
        let valid = self.slow_seconds >= 0.0 && self.slow_seconds.is_finite();
        require(valid, || "query.slow_seconds must be a finite number of 0 or more".to_owned())
    }

    /// Returns the options of the query engine on a machine with `cores`. Queries spill to `spill_dir`.
    pub(crate) fn engine_options(&self, cores: usize, spill_dir: PathBuf) -> EngineOptions {
        let memory_bytes = self.memory_bytes.unwrap_or_else(|| usize::try_from(memory_bytes() / 4).unwrap_or(usize::MAX));
        let limits = QueryLimits {
            concurrency: self.concurrency,
            queue: self.queue,
            timeout: Duration::from_secs(self.timeout_seconds),
            query_memory_bytes: self.query_memory_bytes.unwrap_or(memory_bytes / 2),
            slow: Duration::from_secs_f64(self.slow_seconds),
        };
        EngineOptions { memory_bytes, parallelism: self.parallelism.unwrap_or(cores), limits, spill_dir }
    }
}
