//! Policies: the wishes for a table, as keys with values.
//!
//! A value can be set in several [`Layer`]s, from the server's configuration down to the properties of the table; the layer
//! closest to the table wins, key by key. A mistake in any layer is a problem. While a policy has problems, neither the
//! autopilot nor a schedule starts a job on the table, because the intention is not known.
//!
//! Start reading at [`Policy::of`], then [`KEYS`] and [`Layers::layers_of_table`].

mod keys;
mod layers;
mod schema;
mod values;
mod window;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono_tz::Tz;
use croner::Cron;
use esker_catalog::MergePolicy;
use esker_maintenance::Strategy;
use esker_table::BadProperty;
use esker_types::{JobKind, Millis};
use serde::Serialize;

use crate::PolicyError;
pub use keys::{KEYS, PolicyKey};
pub use layers::{Layer, Layers, Origin};
pub use schema::{ValueForm, policy_schema};
pub use values::Schedule;
pub use window::MaintenanceWindow;

/// The prefix of policy keys in the properties of tables and namespaces.
pub const PREFIX: &str = "esker.";

/// The policy key that stops all jobs and deletions of a table.
const FREEZE: &str = "freeze";

/// The policy key that names the late commits to merge.
const MERGE: &str = "commit.merge";

/// Returns the policy properties of a table that can't be followed, for the health finding `bad-property`.
///
/// Takes all properties of the table, and looks at those that begin with [`PREFIX`].
pub fn bad_properties(own: &BTreeMap<String, String>) -> Vec<BadProperty> {
    let own = own.iter().map(|(k, v)| (k.clone(), v.clone()));
    let layer = Layer::of_properties(Origin::Table, own);
    let bad = |problem| match problem {
        PolicyError::Value { key, value, reason, .. } => {
            let instead = match key.as_str() {
                FREEZE => "the table is frozen until the value is corrected",
                MERGE => "no commit is merged, and no job is started, until the value is corrected",
                _ => "neither the autopilot nor a schedule starts a job on the table until the value is corrected",
            };
            let (key, expects) = (format!("{PREFIX}{key}"), format!("a valid value ({reason})"));
            Some(BadProperty { key, value, expects, instead: instead.to_owned() })
        }
        PolicyError::Unknown { key, near, .. } => {
            let expects =
                near.map_or_else(|| "a policy key".to_owned(), |near| format!("a policy key (is {PREFIX}{near} meant?)"));
            let (key, value) = (format!("{PREFIX}{key}"), layer.values.get(&key).cloned().unwrap_or_default());
            let instead = "neither the autopilot nor a schedule starts a job on the table until it is removed".to_owned();
            Some(BadProperty { key, value, expects, instead })
        }
        PolicyError::Pattern { .. } => None,
    };
    Policy::of(std::slice::from_ref(&layer)).problems.into_iter().filter_map(bad).collect()
}

/// The properties that begin with [`PREFIX`] and are no policy keys. Single jobs read them from the table.
const JOB_PROPERTIES: [&str; 3] = ["esker.expire.min-age-ms", "esker.expire.writer-state-ms", "esker.orphans.min-age-ms"];

/// The value of one policy key for a table, with its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Setting {
    /// The name of the key, without [`PREFIX`].
    pub key: &'static str,
    /// The value as text; empty for none.
    pub value: String,
    /// The layer that sets the value.
    #[schema(value_type = String)]
    pub origin: Origin,
    /// The meaning of the key, in a sentence.
    pub help: &'static str,
}

/// The policy of a table, merged from all layers.
///
/// The defaults of the keys are in `Policy::of(&[])`. `Policy::default()` has no settings, and 0 for each duration.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use esker_autopilot::{Layer, Origin, Policy};
///
/// let layer = |origin, freeze: &str| Layer { origin, values: BTreeMap::from([("freeze".to_owned(), freeze.to_owned())]) };
/// // The layer that is closest to the table comes last, and wins.
/// let policy = Policy::of(&[layer(Origin::Server, "false"), layer(Origin::Table, "true")]);
/// assert!(policy.freeze);
/// assert_eq!(policy.origin("freeze"), Origin::Table);
/// ```
#[derive(Debug, Clone)]
pub struct Policy {
    /// Turns the autopilot on for the table.
    pub autopilot: bool,
    /// Stops every job but a check, and every deletion of the table's files.
    pub freeze: bool,
    /// The late commits of clients that are merged.
    pub merge: MergePolicy,
    /// The keys of snapshot summaries that name exactly-once writers, besides those that Esker knows.
    pub writer_keys: Vec<String>,
    /// The time zone of schedules and windows.
    pub time_zone: Tz,
    /// The windows in which the autopilot may begin a job. If there are none, it always may.
    pub windows: Vec<MaintenanceWindow>,
    /// The schedules by kind of job. [`Policy::schedule`] gives the one that is in force.
    pub schedules: BTreeMap<JobKind, Schedule>,
    /// The number of commits after which the table is compacted even if that does not pay.
    pub compact_after_commits: Option<u64>,
    /// The strategy of compactions.
    pub strategy: Strategy,
    /// The sort order for the strategy `sort`. `None` stands for the table's own sort order.
    pub sort_order: Option<String>,
    /// The columns for the strategy `zorder`.
    pub zorder_columns: Vec<String>,
    /// The size in bytes over which a compaction becomes an external job for Spark.
    pub spark_over_bytes: Option<u64>,
    /// The age over which snapshots are expired. A retention property of the table comes first.
    pub expire_max_age: Option<Duration>,
    /// The number of snapshots that an expiry keeps on each branch. A retention property of the table comes first.
    pub expire_keep: Option<usize>,
    /// The time within which a job must win back its cost.
    pub payback: Duration,
    /// The time after another tool's rewrite in which compaction is left to that tool.
    pub respect_others: Duration,
    /// The bytes that jobs may read and write in 24 hours.
    pub budget_bytes: Option<u64>,
    /// The processor seconds that jobs may take in 24 hours.
    pub budget_cpu_seconds: Option<u64>,
    /// The requests to the store that jobs may make in 24 hours.
    pub budget_requests: Option<u64>,
    /// The value and the origin of every key, in the order of [`KEYS`].
    pub settings: Vec<Setting>,
    /// The mistakes in all layers. While there is one, neither the autopilot nor a schedule starts a job on the table.
    pub problems: Vec<PolicyError>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            autopilot: false,
            freeze: false,
            merge: MergePolicy::Off,
            writer_keys: Vec::new(),
            time_zone: Tz::UTC,
            windows: Vec::new(),
            schedules: BTreeMap::new(),
            compact_after_commits: None,
            strategy: Strategy::BinPack,
            sort_order: None,
            zorder_columns: Vec::new(),
            spark_over_bytes: None,
            expire_max_age: None,
            expire_keep: None,
            payback: Duration::ZERO,
            respect_others: Duration::ZERO,
            budget_bytes: None,
            budget_cpu_seconds: None,
            budget_requests: None,
            settings: Vec::new(),
            problems: Vec::new(),
        }
    }
}

impl Policy {
    /// Merges layers into a policy. Later layers are closer to the table and win.
    ///
    /// Mistakes become [`Policy::problems`]. A value of `freeze` that can't be parsed freezes the table.
    pub fn of(layers: &[Layer]) -> Self {
        let mut policy = Self::default();
        for key in &KEYS {
            let said = layers.iter().rev().find_map(|layer| Some((layer.values.get(key.name)?, &layer.origin)));
            let (value, origin) = said.map_or((key.default.to_owned(), Origin::Default), |(v, o)| (v.clone(), o.clone()));
            if let Err(reason) = (key.set)(&mut policy, &value) {
                // The writer may have meant to keep Esker off the table.
                policy.freeze |= key.name == FREEZE;
                policy.problems.push(PolicyError::Value {
                    origin: origin.to_string(),
                    key: key.name.to_owned(),
                    value: value.clone(),
                    reason,
                });
            }
            policy.settings.push(Setting { key: key.name, value, origin, help: key.help });
        }
        for layer in layers {
            policy.problems.extend(layer.unknown_keys());
        }
        policy
    }

    /// Returns the origin of a key's value.
    pub fn origin(&self, key: &str) -> Origin {
        self.settings.iter().find(|s| s.key == key).map_or(Origin::Default, |s| s.origin.clone())
    }

    /// Checks whether the autopilot may begin a job at a time, in milliseconds since the Unix epoch.
    pub fn is_in_window(&self, now: Millis) -> bool {
        self.windows.is_empty() || self.windows.iter().any(|window| window.contains(now, self.time_zone))
    }

    /// Returns the schedule of a kind of job that is in force. A default schedule is in force only with the autopilot.
    pub fn schedule(&self, kind: JobKind) -> Option<&Cron> {
        // Nobody set a default schedule, so it needs the permission that `autopilot` gives.
        let schedule = self.schedules.get(&kind)?;
        let by_default = self.origin(&format!("{kind}.schedule")) == Origin::Default;
        (!by_default || self.autopilot).then_some(&schedule.0)
    }

    /// Returns the next time of a kind's schedule after `now`. Both times are in milliseconds since the Unix epoch.
    pub fn next_run(&self, kind: JobKind, now: Millis) -> Option<Millis> {
        let at = chrono::DateTime::from_timestamp_millis(now)?.with_timezone(&self.time_zone);
        Some(self.schedule(kind)?.find_next_occurrence(&at, false).ok()?.timestamp_millis())
    }

    /// Returns the last time of a kind's schedule up to `now`. Both times are in milliseconds since the Unix epoch.
    pub fn last_run(&self, kind: JobKind, now: Millis) -> Option<Millis> {
        let at = chrono::DateTime::from_timestamp_millis(now)?.with_timezone(&self.time_zone);
        Some(self.schedule(kind)?.find_previous_occurrence(&at, true).ok()?.timestamp_millis())
    }
}

#[cfg(test)]
mod tests {
    use esker_types::DAY_MS;

    use super::*;

    fn layer(origin: Origin, values: &[(&str, &str)]) -> Layer {
        Layer { origin, values: values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect() }
    }

    #[test]
    fn every_default_is_valid_and_autopilot_is_off() {
        let policy = Policy::of(&[]);
        assert_eq!(policy.problems, []);
        assert!(!policy.autopilot && !policy.freeze && policy.is_in_window(0));
        assert_eq!(policy.settings.len(), KEYS.len());
        assert!(policy.schedule(JobKind::Orphans).is_none(), "a default schedule needs the autopilot");
        let on = Policy::of(&[layer(Origin::Server, &[("autopilot", "true")])]);
        assert!(on.schedule(JobKind::Orphans).is_some());
    }

    #[test]
    fn what_is_closer_to_the_table_wins_and_says_so() {
        let policy = Policy::of(&[
            layer(Origin::Server, &[("autopilot", "true"), ("compact.schedule", "0 3 * * *"), ("expire.max-age", "5d")]),
            layer(Origin::Warehouse("prod".to_owned()), &[("expire.max-age", "2d")]),
            layer(Origin::Table, &[("compact.schedule", "")]),
        ]);
        assert_eq!(policy.problems, []);
        assert!(policy.autopilot && policy.schedule(JobKind::Compact).is_none());
        assert_eq!(policy.expire_max_age, Some(Duration::from_secs(2 * 86_400)));
        assert_eq!(policy.origin("expire.max-age").to_string(), "warehouses.prod.policy");
        assert_eq!(policy.origin("compact.schedule"), Origin::Table);
        assert_eq!(policy.origin("freeze"), Origin::Default);
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_place() {
        let policy = Policy::of(&[
            layer(Origin::Table, &[("freeze", "ture"), ("compact.shedule", "x"), ("expire.min-age-ms", "7")]),
            layer(Origin::Server, &[("window", "25:00-26:00")]),
        ]);
        let problems: Vec<String> = policy.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems.iter().any(|p| p == "table property: freeze = \"ture\": neither true nor false"), "{problems:?}");
        assert!(
            problems.iter().any(|p| p.contains("compact.shedule is not a policy key; is compact.schedule meant?")),
            "{problems:?}"
        );
    }

    #[test]
    fn a_freeze_that_cant_be_read_holds_and_health_names_every_slip() {
        let policy = Policy::of(&[layer(Origin::Server, &[("freeze", "false")]), layer(Origin::Table, &[("freeze", "ture")])]);
        assert!(policy.freeze);
        let own = |key: &str, value: &str| bad_properties(&BTreeMap::from([(key.to_owned(), value.to_owned())]));
        let frozen = own("esker.freeze", "ture");
        assert_eq!((frozen[0].key.as_str(), frozen[0].value.as_str()), ("esker.freeze", "ture"));
        assert!(frozen[0].instead.contains("frozen"), "{frozen:?}");
        for (key, value) in [
            ("esker.autopilot", "yes"),
            ("esker.compact.schedule", "every day"),
            ("esker.expire.max-age", "5 days"),
            ("esker.expire.keep", "-1"),
            ("esker.payback", "-7d"),
            ("esker.budget.bytes", "2 TB"),
            ("esker.compact.strategy", "zort"),
            ("esker.time-zone", "Zurich"),
            ("esker.window", "10-12"),
            ("esker.compact.after-comits", "3"),
        ] {
            let bad = own(key, value);
            assert_eq!(bad.len(), 1, "{key}");
            assert_eq!((bad[0].key.as_str(), bad[0].value.as_str()), (key, value));
        }
        assert_eq!(own("esker.expire.min-age-ms", "0"), []);
        assert_eq!(own("history.expire.max-snapshot-age-ms", "5d"), [], "the table crate reports properties of Iceberg");
    }

    #[test]
    fn schedules_are_meant_in_their_time_zone() {
        let values = [("expire.schedule", "30 2 * * *"), ("time-zone", "Europe/Zurich")];
        let policy = Policy::of(&[layer(Origin::Server, &values)]);
        // 2026-07-01T00:00:00Z is 02:00 in Zurich's summer.
        let now = 1_782_864_000_000;
        assert_eq!(policy.next_run(JobKind::Expire, now), Some(now + 30 * 60 * 1000));
        assert_eq!(policy.last_run(JobKind::Expire, now), Some(now + 30 * 60 * 1000 - DAY_MS));
    }
}
