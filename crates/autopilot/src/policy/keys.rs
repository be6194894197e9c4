//! The table of all policy keys, with the form of their values, default, meaning and parser.
//!
//! `esker policy keys`, `docs/policies.md` and `api/policy.schema.json` list the same keys. The parser of an entry of [`KEYS`]
//! writes the parsed value to a field of [`Policy`].

use super::schema::ValueForm;
use super::values::{ParseResult, age, bytes, cron, flag, list, number, optional};
use super::{MaintenanceWindow, Policy};
use esker_catalog::MergePolicy;
use esker_maintenance::{Strategy, check_sort_order};
use esker_types::JobKind;

/// A policy key with its default, its meaning and its parser.
pub struct PolicyKey {
    /// The name of the key. As a property of a table or a namespace it has the prefix `esker.`.
    pub name: &'static str,
    /// The form of the key's values.
    pub form: ValueForm,
    /// The value that holds if no layer sets one; empty for none.
    pub default: &'static str,
    /// The meaning of the key, in a sentence for people.
    pub help: &'static str,
    /// Parses a value, and writes it to the key's field of the policy.
    pub(super) set: fn(&mut Policy, &str) -> ParseResult<()>,
}

impl std::fmt::Debug for PolicyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Makes the entry of a key that holds the schedule of a kind of job. An empty value sets no schedule.
macro_rules! schedule {
    ($kind:ident, $name:literal, $default:literal, $help:literal) => {
        PolicyKey {
            name: $name,
            form: ValueForm::Cron,
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

/// Makes the entry of a key. `p, v => field = expression` writes to a field of the policy `p` what the expression makes of the
/// value `v`.
macro_rules! key {
    ($name:literal, $form:ident, $default:literal, $help:literal, $policy:ident, $text:ident => $field:ident = $value:expr) => {
        PolicyKey {
            name: $name,
            form: ValueForm::$form,
            default: $default,
            help: $help,
            set: |$policy, $text| {
                $policy.$field = $value;
                Ok(())
            },
        }
    };
}

/// Parses the strategy of a compaction. Converting deletes is a strategy of jobs, but not of policies.
fn strategy(text: &str) -> ParseResult<Strategy> {
    serde_json::from_value(text.into()).map_err(|_| "not one of binpack, sort, zorder".to_owned()).and_then(|s| match s {
        Strategy::ConvertDeletes => {
            Err("the autopilot converts deletes on its own when that pays; set binpack, sort or zorder".to_owned())
        }
        strategy => Ok(strategy),
    })
}

/// Parses which late commits are merged.
fn merge(text: &str) -> ParseResult<MergePolicy> {
    match text.trim() {
        "off" => Ok(MergePolicy::Off),
        "append" => Ok(MergePolicy::Append),
        "snapshot" => Ok(MergePolicy::Snapshot),
        _ => Err("not one of off, append, snapshot".to_owned()),
    }
}

/// Checks the text of a sort order. Columns are not looked up: a policy may hold for many tables.
fn order(text: &str) -> ParseResult<String> {
    check_sort_order(text).map(|()| text.to_owned()).map_err(|e| e.to_string())
}

/// All policy keys, in the order in which they are listed.
pub const KEYS: [PolicyKey; 23] = [
    key!("autopilot", Flag, "false", "Esker starts jobs on the table where they pay.", p, v => autopilot = flag(v)?),
    key!("freeze", Flag, "false", "No job but a check runs on the table, and none of its files is deleted.", p, v => freeze = flag(v)?),
    key!("commit.merge", Merge, "off", "Late commits of clients that are merged in place of a 409: `off`, `append` or `snapshot`. A merge gives snapshot isolation.", p, v => merge = merge(v)?),
    key!("commit.writer-keys", Columns, "", "Keys of snapshot summaries, separated by commas, that name further exactly-once writers; their late commits are merged only if no other of them came.", p, v => writer_keys = list(v)),
    key!("time-zone", TimeZone, "UTC", "The time zone of schedules and windows.", p, v => time_zone = v.parse().map_err(|_| "not a time zone like Europe/Zurich".to_owned())?),
    key!("window", Windows, "", "Times at which the autopilot may begin a job, such as `22:00-06:00, Sat+Sun 00:00-24:00`; default: always.", p, v => windows = MaintenanceWindow::parse_list(v)?),
    schedule!(Compact, "compact.schedule", "", "Start of compactions, as a cron pattern."),
    key!("compact.after-commits", Number, "", "Commits after which the table is compacted even if that does not pay.", p, v => compact_after_commits = optional(v, number)?),
    key!("compact.strategy", Strategy, "binpack", "Strategy of compactions: binpack, sort or zorder.", p, v => strategy = strategy(v)?),
    key!("compact.sort-order", SortOrder, "", "Sort order for the strategy `sort`, such as `day, id desc`; quote names with blanks, commas or dots; default: the table's sort order.", p, v => sort_order = optional(v, order)?),
    key!("compact.zorder-columns", Columns, "", "Columns for the strategy `zorder`, separated by commas; quote names with blanks, commas or dots.", p, v => zorder_columns = list(v)),
    key!("compact.spark-over", Bytes, "", "Size over which a compaction becomes an external job for Spark, such as `200GiB`; default: none does.", p, v => spark_over_bytes = optional(v, bytes)?),
    schedule!(
        Expire,
        "expire.schedule",
        "",
        "Start of snapshot expiries, as a cron pattern. The autopilot needs none: it expires snapshots once they are old enough."
    ),
    key!("expire.max-age", Age, "", "Age over which snapshots are expired; the table's `history.expire.` properties come first.", p, v => expire_max_age = optional(v, age)?),
    key!("expire.keep", Number, "", "Snapshots that an expiry keeps on each branch; the table's `history.expire.` properties come first.", p, v => expire_keep = optional(v, number)?),
    schedule!(
        Orphans,
        "orphans.schedule",
        "0 4 * * 0,1",
        "Start of scans for orphans, as a cron pattern. An orphan needs two scans a day apart; the default holds with the autopilot only."
    ),
    schedule!(
        Manifests,
        "manifests.schedule",
        "",
        "Start of rewrites of manifests, as a cron pattern. The autopilot needs none: it rewrites manifests when that pays."
    ),
    schedule!(Statistics, "statistics.schedule", "", "Start of jobs that count distinct values, as a cron pattern."),
    key!("payback", Age, "7d", "Time within which a job of the autopilot must win back its cost.", p, v => payback = age(v)?),
    key!("respect-others", Age, "1d", "Time after another tool's rewrite in which compaction is left to that tool.", p, v => respect_others = age(v)?),
    key!("budget.bytes", Bytes, "", "Bytes that jobs of the autopilot and of schedules may read and write in 24 hours, for all tables of a warehouse that have the budget from the same place.", p, v => budget_bytes = optional(v, bytes)?),
    key!("budget.cpu-seconds", Number, "", "Processor seconds that jobs of the autopilot and of schedules may take in 24 hours, for all tables of a warehouse that have the budget from the same place.", p, v => budget_cpu_seconds = optional(v, number)?),
    key!("budget.requests", Number, "", "Requests to the store that jobs of the autopilot and of schedules may make in 24 hours, for all tables of a warehouse that have the budget from the same place.", p, v => budget_requests = optional(v, number)?),
];
