//! The section `[state]`: the state database and its servers.

use std::path::Path;
use std::time::Duration;

use esker_state::Database;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::check::require;
use crate::Result;

/// The section `[state]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StateConfig {
    /// The database: `postgres://USER@HOST/DATABASE`, for one or several servers; default: SQLite's `esker.db` in the data
    /// directory. A password may come from the environment variable PGPASSWORD.
    #[schema(write_only)]
    pub url: Option<String>,
    /// Seconds without a heartbeat after which the other servers on the database count a server as dead. They requeue its jobs and
    /// reclaim its files. Must not be 0.
    #[schema(minimum = 1)]
    pub dead_seconds: u32,
    /// Goes through a pooler in transaction mode, such as PgBouncer: Esker then relies on no session. Notifications of jobs between
    /// servers are off, and each server looks at the queue every two seconds.
    pub pooled: bool,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self { url: None, dead_seconds: 60, pooled: false }
    }
}

impl StateConfig {
    pub(super) fn check(&self) -> Result<()> {
        self.database(Path::new(""))?;
        require(!self.pooled || self.url.is_some(), || "state.pooled needs state.url: SQLite has no pooler".to_owned())?;
        require(self.dead_seconds != 0, || "state.dead_seconds must not be 0".to_owned())
    }

    /// Returns the state database of a server whose data directory is `dir`. Opens nothing.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::Error::State) if the scheme of `state.url` is not `postgres` or `postgresql`.
    pub fn database(&self, dir: &Path) -> Result<Database> {
        let database = Database::from_url(self.url.as_deref(), &dir.join("esker.db"))?;
        Ok(if self.pooled { database.behind_pooler() } else { database })
    }

    /// Returns the time without a heartbeat after which a server counts as dead.
    pub(crate) fn dead_after(&self) -> Duration {
        Duration::from_secs(u64::from(self.dead_seconds))
    }
}
