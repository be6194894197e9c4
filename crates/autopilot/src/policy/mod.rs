//! What is wanted of a table: keys with values, from the server's configuration down to the table's own properties. What is said closer
//! to the table wins.

mod keys;
mod layers;
mod values;
mod window;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono_tz::Tz;
use croner::Cron;
use esker_maintenance::Strategy;
use esker_table::BadProperty;
use esker_types::{JobKind, Millis};
use serde::Serialize;

use crate::PolicyError;
pub use keys::{KEYS, PolicyKey};
pub use layers::{Layer, Layers, Origin};
pub use values::Schedule;
pub use window::MaintenanceWindow;

/// What properties of tables and namespaces begin with that are policy.
pub const PREFIX: &str = "esker.";

const FREEZE: &str = "freeze";

/// What can't be followed among a table's own properties, as health tells it.
pub fn bad_properties(own: &BTreeMap<String, String>) -> Vec<BadProperty> {
    let own = own.iter().map(|(k, v)| (k.clone(), v.clone()));
    let layer = Layer::of_properties(Origin::Table, own);
    let bad = |problem| match problem {
        PolicyError::Value { key, value, reason, .. } => {
            let instead = match key.as_str() {
                FREEZE => "the table is frozen until it is mended",
                _ => "nothing is done to the table by itself until it is mended",
            };
            let (key, expects) = (format!("{PREFIX}{key}"), format!("what it should be ({reason})"));
            Some(BadProperty { key, value, expects, instead: instead.to_owned() })
        }
        PolicyError::Unknown { key, near, .. } => {
            let expects =
                near.map_or_else(|| "a policy key".to_owned(), |near| format!("a policy key; is {PREFIX}{near} meant?"));
            let (key, value) = (format!("{PREFIX}{key}"), layer.values.get(&key).cloned().unwrap_or_default());
            let instead = "nothing is done to the table by itself until it is mended".to_owned();
            Some(BadProperty { key, value, expects, instead })
        }
        PolicyError::Pattern { .. } => None,
    };
    Policy::of(std::slice::from_ref(&layer)).problems.into_iter().filter_map(bad).collect()
}

/// Properties that begin so too and are no policy: single jobs read them.
const OTHERS: [&str; 3] = ["esker.expire.min-age-ms", "esker.expire.writer-state-ms", "esker.orphans.min-age-ms"];

/// One key's value, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The key.
    pub key: &'static str,
    /// Its value; empty for none.
    pub value: String,
    /// Who says so.
    pub origin: Origin,
    /// What the key is for.
    pub help: &'static str,
}

/// The rules of a table, as all layers together say them.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Esker treats the table by itself.
    pub autopilot: bool,
    /// Nothing is done to the table, whoever asks.
    pub freeze: bool,
    /// In which schedules and windows are meant.
    pub time_zone: Tz,
    /// Outside of these nothing begins by itself; none: always.
    pub windows: Vec<MaintenanceWindow>,
    /// When jobs of a kind begin.
    pub schedules: BTreeMap<JobKind, Schedule>,
    /// Compaction begins after so many commits.
    pub compact_after_commits: Option<u64>,
    /// How data files are rewritten.
    pub strategy: Strategy,
    /// The columns that they are sorted by.
    pub sort_order: Option<String>,
    /// The columns of a z-order.
    pub zorder_columns: Vec<String>,
    /// Compactions of more bytes are Spark's.
    pub spark_over_bytes: Option<u64>,
    /// Snapshots older than this are expired.
    pub expire_max_age: Option<Duration>,
    /// Snapshots kept on each branch.
    pub expire_keep: Option<usize>,
    /// A job must win back its cost within this time.
    pub payback: Duration,
    /// For so long after another tool's rewrite the table is left to it.
    pub respect_others: Duration,
    /// Bytes that jobs may read and write in 24 hours.
    pub budget_bytes: Option<u64>,
    /// Processor seconds that they may take.
    pub budget_cpu_seconds: Option<u64>,
    /// Requests that they may make.
    pub budget_requests: Option<u64>,
    /// Every key, with its value and who says so.
    pub settings: Vec<Setting>,
    /// What can't be followed. While there is any, nothing is done by itself: what was meant is not known.
    pub problems: Vec<PolicyError>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            autopilot: false,
            freeze: false,
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
    /// What some layers say together, the later ones closer to the table.
    pub fn of(layers: &[Layer]) -> Self {
        let mut policy = Self::default();
        for key in &KEYS {
            let said = layers.iter().rev().find_map(|layer| Some((layer.values.get(key.name)?, &layer.origin)));
            let (value, origin) = said.map_or((key.default.to_owned(), Origin::Default), |(v, o)| (v.clone(), o.clone()));
            if let Err(reason) = (key.set)(&mut policy, &value) {
                // Whoever wrote that may have meant to keep Esker off.
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
            policy.problems.extend(layer.unknown());
        }
        policy
    }

    /// Who says what a key says.
    pub fn origin(&self, key: &str) -> Origin {
        self.settings.iter().find(|s| s.key == key).map_or(Origin::Default, |s| s.origin.clone())
    }

    /// Whether something may begin by itself at a time.
    pub fn is_open(&self, now: Millis) -> bool {
        self.windows.is_empty() || self.windows.iter().any(|window| window.contains(now, self.time_zone))
    }

    /// The schedule of a kind of job.
    pub fn schedule(&self, kind: JobKind) -> Option<&Cron> {
        // What nobody asked for begins only where Esker may do things by itself.
        let schedule = self.schedules.get(&kind)?;
        let by_default = self.origin(&format!("{kind}.schedule")) == Origin::Default;
        (!by_default || self.autopilot).then_some(&schedule.0)
    }

    /// When jobs of a kind begin next, in milliseconds since the epoch.
    pub fn next(&self, kind: JobKind, now: Millis) -> Option<Millis> {
        let at = chrono::DateTime::from_timestamp_millis(now)?.with_timezone(&self.time_zone);
        Some(self.schedule(kind)?.find_next_occurrence(&at, false).ok()?.timestamp_millis())
    }

    /// When jobs of a kind were last to begin.
    pub fn last(&self, kind: JobKind, now: Millis) -> Option<Millis> {
        let at = chrono::DateTime::from_timestamp_millis(now)?.with_timezone(&self.time_zone);
        Some(self.schedule(kind)?.find_previous_occurrence(&at, true).ok()?.timestamp_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(origin: Origin, values: &[(&str, &str)]) -> Layer {
        Layer { origin, values: values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect() }
    }

    #[test]
    fn every_default_is_valid_and_autopilot_is_off() {
        let policy = Policy::of(&[]);
        assert_eq!(policy.problems, []);
        assert!(!policy.autopilot && !policy.freeze && policy.is_open(0));
        assert_eq!(policy.settings.len(), KEYS.len());
        assert!(policy.schedule(JobKind::Orphans).is_none(), "a default schedule holds where Esker may do things by itself");
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
    fn a_freeze_that_cant_be_read_holds_and_health_is_told_of_every_slip() {
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
        assert_eq!(own("history.expire.max-snapshot-age-ms", "5d"), [], "it is told as a property of Iceberg's");
    }

    #[test]
    fn schedules_are_meant_in_their_time_zone() {
        let values = [("expire.schedule", "30 2 * * *"), ("time-zone", "Europe/Zurich")];
        let policy = Policy::of(&[layer(Origin::Server, &values)]);
        // 2026-07-01T00:00:00Z is 02:00 in Zurich's summer.
        let now = 1_782_864_000_000;
        assert_eq!(policy.next(JobKind::Expire, now), Some(now + 30 * 60 * 1000));
        assert_eq!(policy.last(JobKind::Expire, now), Some(now + 30 * 60 * 1000 - 24 * 3600 * 1000));
    }
}
