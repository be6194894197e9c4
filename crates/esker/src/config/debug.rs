//! The section `[debug]`: failpoints, for tests only.

use esker_catalog::Failpoint;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The section `[debug]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DebugConfig {
    /// The failpoint at which the process stops for ever, for tests that kill it there.
    pub failpoint: Option<String>,
    /// The failpoint at which the process panics each time, for tests that the rest of the server goes on.
    pub panic_at: Option<String>,
}

impl DebugConfig {
    /// Returns the failpoints that are set.
    pub(crate) fn failpoint(&self) -> Failpoint {
        Failpoint { stop_at: self.failpoint.clone(), panic_at: self.panic_at.clone() }
    }
}
