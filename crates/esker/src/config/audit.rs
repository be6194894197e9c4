//! The section `[audit]`: what the audit trail records, and where its records go.

use std::collections::BTreeMap;
use std::time::Duration;

use esker_auth::{AuditLevel, AuditOptions};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::DEFAULT_WAREHOUSE;
use super::check::require;
use crate::Result;

/// The section `[audit]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// The requests that are recorded: `off` for none, `changes` for changes, refusals and break-glass, `all` for reads of table
    /// data too.
    pub record: AuditLevel,
    /// True if a change is refused that can't be recorded before it is made. It costs a write to the state database for each
    /// change.
    pub required: bool,
    /// True if each record is a line in the log too, of the target `esker::audit`.
    pub log: bool,
    /// True if each record of an outcome is an event `audit.recorded` too.
    pub events: bool,
    /// Seconds between two moves of records to the Iceberg table `system.audit`; 0: records stay in the state database.
    pub table_seconds: u64,
    /// The warehouse of that table; default: the one called `default`, or the first by name.
    pub warehouse: Option<String>,
    /// Days for which records are kept.
    #[schema(minimum = 1)]
    pub retention_days: u64,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            record: AuditLevel::Changes,
            required: false,
            log: false,
            events: false,
            table_seconds: 0,
            warehouse: None,
            retention_days: 365,
        }
    }
}

impl AuditConfig {
    /// Checks the section. `warehouses` has the names of all warehouses.
    pub(super) fn check<T>(&self, warehouses: &BTreeMap<String, T>) -> Result<()> {
        require(self.retention_days != 0, || "audit.retention_days must not be 0".to_owned())?;
        let records = self.record != AuditLevel::Off;
        require(records || !self.required, || "audit.required needs audit.record: changes or all".to_owned())?;
        match &self.warehouse {
            Some(name) => require(warehouses.contains_key(name), || format!("audit.warehouse: no warehouse is called {name}")),
            None => Ok(()),
        }
    }

    /// Returns the settings of the trail.
    pub(crate) const fn options(&self) -> AuditOptions {
        AuditOptions { record: self.record, required: self.required, log: self.log, events: self.events }
    }

    /// Returns the time between two moves of records to the Iceberg table, or `None` if it is not written.
    pub(crate) fn table_interval(&self) -> Option<Duration> {
        (self.table_seconds > 0).then(|| Duration::from_secs(self.table_seconds))
    }

    /// Returns the name of the warehouse of the Iceberg table, among those that the server has; `None` if it has none.
    pub(crate) fn warehouse_of<'a>(&'a self, mut served: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
        match &self.warehouse {
            Some(name) => Some(name.as_str()),
            None if served.clone().any(|name| name == DEFAULT_WAREHOUSE) => Some(DEFAULT_WAREHOUSE),
            None => served.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lies_in_the_named_warehouse_or_the_default_one_or_the_first() {
        let of = |warehouse: Option<&str>, served: &[&'static str]| {
            let config = AuditConfig { warehouse: warehouse.map(str::to_owned), ..AuditConfig::default() };
            config.warehouse_of(served.iter().copied()).map(str::to_owned)
        };
        assert_eq!(of(Some("b"), &["a", "b"]).as_deref(), Some("b"));
        assert_eq!(of(None, &["a", "default"]).as_deref(), Some("default"));
        assert_eq!(of(None, &["a", "b"]).as_deref(), Some("a"));
        assert_eq!(of(None, &[]), None);
    }

    #[test]
    fn sections_that_make_no_sense_are_refused_with_their_key() {
        let warehouses = BTreeMap::from([("lake".to_owned(), ())]);
        let refused = |config: AuditConfig| config.check(&warehouses).expect_err("refused").to_string();
        let default = AuditConfig::default;
        assert!(refused(AuditConfig { retention_days: 0, ..default() }).contains("audit.retention_days"));
        assert!(refused(AuditConfig { record: AuditLevel::Off, required: true, ..default() }).contains("audit.required"));
        assert!(refused(AuditConfig { warehouse: Some("x".to_owned()), ..default() }).contains("audit.warehouse"));
        assert!(AuditConfig { warehouse: Some("lake".to_owned()), required: true, ..default() }.check(&warehouses).is_ok());
    }
}
