//! [`Config::check`]: the checks of each section, and the conditions between sections.

use super::Config;
use crate::{Error, Result};

impl Config {
    /// Checks the ranges of values, and the conditions between several keys.
    ///
    /// # Errors
    ///
    /// Returns [`Config`](Error::Config) with the key and the condition that does not hold. Returns [`State`](Error::State) if
    /// `state.url` names no supported database.
    pub fn check(&self) -> Result<()> {
        self.state.check()?;
        self.server.check(&self.auth, &self.limits, &self.state)?;
        self.auth.check(&self.server)?;
        self.auth.opa.check(&self.all_warehouses())?;
        self.audit.check(&self.all_warehouses())?;
        self.keys.check()?;
        self.limits.check()?;
        self.commit.check()?;
        self.layers()?;
        self.warehouses.iter().try_for_each(|(name, warehouse)| warehouse.check(name))?;
        self.events.check()?;
        self.datahub.check(&self.all_warehouses())?;
        self.query.check()?;
        self.traces.check()
    }
}

/// Returns the error [`Config`](Error::Config) with the text of `otherwise` if a condition does not hold.
pub(super) fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Config(otherwise())) }
}
