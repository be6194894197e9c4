//! The section `[commit]`: turns of clients whose commits were late, and bounds of the commit queues.

use std::time::Duration;

use esker_catalog::{QueueOptions, TurnOptions};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::check::require;
use crate::Result;

/// The section `[commit]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CommitConfig {
    /// Milliseconds that a client gets from the answer 409 until it commits again; other commits to the table that add snapshots
    /// wait meanwhile. At most 60000. 0: there are no turns, and a late commit is answered 409 at once.
    #[schema(maximum = 60000)]
    pub turn_ms: u64,
    /// Milliseconds from the answer 409 within which the client must load the table again; then its turn is over. Must not be 0,
    /// and at most 60000.
    #[schema(minimum = 1, maximum = 60000)]
    pub turn_return_ms: u64,
    /// Seconds that a late commit waits for its turn before it is answered 409 all the same, and that any other commit waits for
    /// the turns of others. Must not be 0, and at most 3600.
    #[schema(minimum = 1, maximum = 3600)]
    pub turn_wait_seconds: u64,
    /// Late commits that wait for their turns at one table; more are answered 409 at once. Twice as many commits wait for turns
    /// in all. Must not be 0.
    #[schema(minimum = 1)]
    pub turn_waiters: usize,
    /// Commits of clients that wait at one table to be applied; more are answered 429, with nothing changed. Must not be 0.
    #[schema(minimum = 1)]
    pub queue: usize,
    /// Commits and transactions of clients that wait or are under way at all tables of a warehouse; more are answered 429, with
    /// nothing changed. Must not be 0.
    #[schema(minimum = 1)]
    pub queue_total: usize,
    /// Commits that share one metadata file at most. Must not be 0.
    ///
    /// A smaller number lets other tables commit sooner beside a table with many commits.
    #[schema(minimum = 1)]
    pub batch: usize,
}

impl Default for CommitConfig {
    fn default() -> Self {
        Self {
            turn_ms: 2000,
            turn_return_ms: 1000,
            turn_wait_seconds: 30,
            turn_waiters: 256,
            queue: 1000,
            queue_total: 10_000,
            batch: 128,
        }
    }
}

impl CommitConfig {
    pub(super) fn check(&self) -> Result<()> {
        let within = |key: &str, value: u64, least: u64, most: u64| {
            require((least..=most).contains(&value), || format!("commit.{key} must be from {least} to {most}"))
        };
        within("turn_ms", self.turn_ms, 0, 60_000)?;
        within("turn_return_ms", self.turn_return_ms, 1, 60_000)?;
        within("turn_wait_seconds", self.turn_wait_seconds, 1, 3600)?;
        require(self.turn_waiters != 0, || "commit.turn_waiters must not be 0".to_owned())?;
        require(self.queue != 0, || "commit.queue must not be 0".to_owned())?;
        require(self.queue_total != 0, || "commit.queue_total must not be 0".to_owned())?;
        require(self.batch != 0, || "commit.batch must not be 0".to_owned())
    }

    /// Returns the bounds of the commit queues.
    pub(crate) fn queue_options(&self) -> QueueOptions {
        QueueOptions { per_table: self.queue, total: self.queue_total, batch: self.batch }
    }

    /// Returns the settings of the turns of clients whose commits were late.
    pub(crate) fn turn_options(&self) -> TurnOptions {
        TurnOptions {
            turn: Duration::from_millis(self.turn_ms),
            return_within: Duration::from_millis(self.turn_return_ms),
            wait: Duration::from_secs(self.turn_wait_seconds),
            waiters: self.turn_waiters,
        }
    }
}
