//! Every policy key: its default, what it is for, and where its value goes.

use super::values::{Parsed, age, bytes, cron, flag, list, number, optional};
use super::{MaintenanceWindow, Policy};
use esker_maintenance::{Strategy, check_sort_order};
use esker_types::JobKind;

/// A policy key.
pub struct PolicyKey {
    /// Its name; as a property of a table or a namespace `esker.` comes before it.
    pub name: &'static str,
    /// What holds where nobody says anything; empty for none.
    pub default: &'static str,
    /// What it is for.
    pub help: &'static str,
    pub(super) set: fn(&mut Policy, &str) -> Parsed<()>,
}

impl std::fmt::Debug for PolicyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! schedule {
    ($kind:ident, $name:literal, $default:literal, $help:literal) => {
        PolicyKey {
            name: $name,
            default: $default,
            help: $help,
            set: |policy, text| {
                if let Some(schedule) = optional(text, cron)? {
                    policy.schedules.insert(JobKind::$kind, schedule);
                }
                Ok(())
            },
        }
    };
}

macro_rules! key {
    ($name:literal, $default:literal, $help:literal, $policy:ident, $text:ident => $field:ident = $value:expr) => {
        PolicyKey {
            name: $name,
            default: $default,
            help: $help,
            set: |$policy, $text| {
                $policy.$field = $value;
                Ok(())
            },
        }
    };
}

fn strategy(text: &str) -> Parsed<Strategy> {
    serde_json::from_value(text.into()).map_err(|_| "none of binpack, sort, zorder".to_owned()).and_then(|s| match s {
        Strategy::ConvertDeletes => Err("deletes are converted where it pays; give binpack, sort or zorder".to_owned()),
        strategy => Ok(strategy),
    })
}

fn order(text: &str) -> Parsed<String> {
    check_sort_order(text).map(|()| text.to_owned()).map_err(|e| e.to_string())
}

/// All of them.
pub const KEYS: [PolicyKey; 21] = [
    key!("autopilot", "false", "Esker treats the table by itself, where it pays.", p, v => autopilot = flag(v)?),
    key!("freeze", "false", "Nothing is done to the table, whoever asks for it.", p, v => freeze = flag(v)?),
    key!("time-zone", "UTC", "The time zone of schedules and windows.", p, v => time_zone = v.parse().map_err(|_| "not a time zone like Europe/Zurich".to_owned())?),
    key!("window", "", "When something may begin by itself: `22:00-06:00, Sat+Sun 00:00-24:00`.", p, v => windows = MaintenanceWindow::list(v)?),
    schedule!(Compact, "compact.schedule", "", "When compactions begin, as a cron pattern."),
    key!("compact.after-commits", "", "A compaction begins after so many commits, if there is anything to do.", p, v => compact_after_commits = optional(v, number)?),
    key!("compact.strategy", "binpack", "How data files are rewritten: binpack, sort or zorder.", p, v => strategy = strategy(v)?),
    key!("compact.sort-order", "", "What `sort` sorts by: `day, id desc`, names in quotes where they hold blanks, commas or dots; default: the table's sort order.", p, v => sort_order = optional(v, order)?),
    key!("compact.zorder-columns", "", "The columns of `zorder`, likewise.", p, v => zorder_columns = list(v)),
    key!("compact.spark-over", "", "Compactions of more bytes than this are handed over to Spark: `200GiB`; default: none.", p, v => spark_over_bytes = optional(v, bytes)?),
    schedule!(
        Expire,
        "expire.schedule",
        "",
        "When snapshots are expired, as a cron pattern. The autopilot does it once they are old enough."
    ),
    key!("expire.max-age", "", "Snapshots older than this are expired, unless the table's `history.expire.` properties say otherwise.", p, v => expire_max_age = optional(v, age)?),
    key!("expire.keep", "", "Snapshots kept on each branch, with the same exception.", p, v => expire_keep = optional(v, number)?),
    schedule!(
        Orphans,
        "orphans.schedule",
        "0 4 * * 0,1",
        "When files that belong to nothing are looked for. Two looks a day apart are needed; the default holds with the autopilot only."
    ),
    schedule!(
        Manifests,
        "manifests.schedule",
        "",
        "When manifests are rewritten, as a cron pattern. The autopilot does it where there are many."
    ),
    schedule!(Statistics, "statistics.schedule", "", "When distinct values are counted, as a cron pattern."),
    key!("payback", "7d", "What the autopilot does must win back its cost within this time.", p, v => payback = age(v)?),
    key!("respect-others", "1d", "For so long after another tool rewrote the table's files its compaction is left to that tool.", p, v => respect_others = age(v)?),
    key!("budget.bytes", "", "Bytes that jobs which begin by themselves may read and write in 24 hours, over all tables that this is said of.", p, v => budget_bytes = optional(v, bytes)?),
    key!("budget.cpu-seconds", "", "Processor seconds, likewise.", p, v => budget_cpu_seconds = optional(v, number)?),
    key!("budget.requests", "", "Requests to the store, likewise.", p, v => budget_requests = optional(v, number)?),
];
