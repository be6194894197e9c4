//! The cost model: the gain and the cost of each job that a table could use, computed from the table's facts.
//!
//! Both are in seconds of one machine, so they can be compared: the cost once, the gain for each day. The gain is the time that one
//! scan would save, times the scans a day that engines report. The constants describe an object store and are the same for all
//! tables. So the order of the jobs is right even if the seconds are not.
//!
//! Start reading at [`compaction`]. `kinds.rs` says which function proposes jobs of which kind.

use std::time::Duration;

use esker_maintenance::{CompactOptions, JobRequest, Strategy};
use esker_state::{TableUsage, USAGE_DAYS};
use esker_table::properties::{MAX_SNAPSHOT_AGE, MIN_SNAPSHOTS, check_retention};
use esker_table::{ExpiryPolicy, TableFacts};
use esker_types::{DurationMillis, Millis, format_count, to_millis};
use serde_json::{Value, json};

use crate::Policy;

/// The time to open a data or delete file, in seconds: a request for its footer and one for its first bytes.
const OPEN_SECONDS: f64 = 0.02;
/// The time to open a manifest when a scan is planned, in seconds.
const MANIFEST_SECONDS: f64 = 0.01;
/// The time to apply one position delete in a scan, in seconds.
const POSITION_SECONDS: f64 = 1e-7;
/// The time to apply one equality delete in a scan, in seconds.
const EQUALITY_SECONDS: f64 = 2e-6;
/// The speed at which a compaction decodes rows and encodes them again, in bytes a second.
const REWRITE_BYTES_A_SECOND: f64 = 40e6;
/// The speed at which files are only read, in bytes a second: deleted rows by scans, data files by conversions, metadata files by
/// clients.
const READ_BYTES_A_SECOND: f64 = 200e6;
/// The time of a job that has nothing to do, in seconds.
const JOB_SECONDS: f64 = 0.1;
/// The share of a table's rows deleted by position from which on a compaction is proposed for their sake.
///
/// Compactions rewrite a single file from the same share on, as Spark's `rewrite_data_files` does.
const DELETE_RATIO: f64 = 0.3;
/// The number of manifests beyond those that their total size needs from which on manifests are rewritten.
const EXCESS_MANIFESTS: u64 = 20;
/// The time in milliseconds that snapshots stay beyond their maximum age, unless a schedule expires them.
const EXPIRY_SLACK_MS: DurationMillis = 3600 * 1000;
/// The default of the table property `history.expire.min-snapshots-to-keep` in the specification.
const DEFAULT_MIN_SNAPSHOTS: usize = 1;

/// A job that a table could use, with its gain and its cost.
#[derive(Debug, Clone)]
pub struct CandidateJob {
    /// The request of the job.
    pub request: JobRequest,
    /// The flaw of the table that the job removes, for people.
    pub why: String,
    /// The seconds that all scans of a day save together.
    pub gain_seconds_a_day: f64,
    /// The seconds that the job takes.
    pub cost_seconds: f64,
    /// True if the job runs even if it does not pay: the retention of snapshots demands it, or a schedule.
    pub runs_anyway: bool,
    /// The expected shape of the table after the job: some keys of the job's `measured.shapes.after`.
    pub predicted: Value,
}

impl CandidateJob {
    /// Checks that the job wins back its cost within a time, or is due anyway.
    pub fn pays(&self, payback: Duration) -> bool {
        self.runs_anyway || self.gain_seconds_a_day * payback.as_secs_f64() / 86_400.0 > self.cost_seconds
    }

    /// Returns the seconds that one second of work saves in a day. Jobs of a higher rank begin first.
    pub fn rank(&self) -> f64 {
        self.gain_seconds_a_day / self.cost_seconds.max(JOB_SECONDS)
    }
}

/// The scans of a table, as engines report them.
pub(crate) struct ScanUsage {
    /// The number of scans in a day; at least one, even if no engine reports any.
    scans_a_day: f64,
    /// The share of the data files that an average scan reads, from 0.01 to 1.
    read_share: f64,
}

impl ScanUsage {
    /// Averages the use of a table over the last [`USAGE_DAYS`] days.
    pub(crate) fn of(facts: &TableFacts, used: &TableUsage) -> Self {
        let a_day = (used.scans as f64 / USAGE_DAYS as f64).max(1.0);
        let read = used.scanned_files as f64 / (used.scans.max(1) as f64 * facts.data_files.max(1) as f64);
        Self { scans_a_day: a_day, read_share: if used.scans > 0 { read.clamp(0.01, 1.0) } else { 1.0 } }
    }

    /// Converts the seconds that one full scan would save to the seconds that all scans of a day would save together.
    fn gain(&self, seconds_a_full_scan: f64) -> f64 {
        seconds_a_full_scan * self.read_share * self.scans_a_day
    }
}

/// Returns the reason why no snapshot of a table may be expired: a retention property of the table that can't be parsed.
pub(crate) fn expiry_blocked_by(facts: &TableFacts) -> Option<String> {
    check_retention(&facts.policy_properties).err().map(|error| error.to_string())
}

/// Returns the request of a compaction with the options of the policy.
pub(crate) fn compact_request(policy: &Policy) -> JobRequest {
    JobRequest::Compact(Box::new(CompactOptions {
        strategy: policy.strategy,
        sort_order: policy.sort_order.clone().filter(|_| policy.strategy == Strategy::Sort),
        zorder_columns: if policy.strategy == Strategy::ZOrder { policy.zorder_columns.clone() } else { Vec::new() },
        spark_over_bytes: policy.spark_over_bytes,
        ..CompactOptions::default()
    }))
}

/// Returns the request of an expiry. An option stays unset if a property of the table decides: the job reads the property itself.
pub(crate) fn expire_request(facts: &TableFacts, policy: &Policy, now: Millis) -> JobRequest {
    let (age_ms, kept_snapshots) = retention(facts, policy);
    let older_than_ms = policy.expire_max_age.and(Some(now.saturating_sub(age_ms)));
    let sets_min_snapshots = facts.policy_properties.contains_key(MIN_SNAPSHOTS.key);
    JobRequest::Expire(Box::new(ExpiryPolicy {
        older_than_ms: older_than_ms.filter(|_| !sets_snapshot_age(facts)),
        retain_last: policy.expire_keep.filter(|_| !sets_min_snapshots).map(|_| kept_snapshots),
    }))
}

/// Checks whether the table has a property for the age of snapshots.
fn sets_snapshot_age(facts: &TableFacts) -> bool {
    facts.policy_properties.contains_key(MAX_SNAPSHOT_AGE.key)
}

/// Returns the age in milliseconds over which snapshots expire, and the number of snapshots that is kept on each branch.
///
/// The `history.expire.` properties of the table come before the policy.
fn retention(facts: &TableFacts, policy: &Policy) -> (Millis, usize) {
    let wanted = policy.expire_max_age.map(to_millis);
    let age = wanted.filter(|_| !sets_snapshot_age(facts)).unwrap_or(facts.max_snapshot_age_ms);
    let table_min_snapshots = MIN_SNAPSHOTS.get_if_set(&facts.policy_properties);
    (age, table_min_snapshots.or(policy.expire_keep).unwrap_or(DEFAULT_MIN_SNAPSHOTS).max(1))
}

/// Returns a compaction if small files could be merged, or many rows are deleted by position.
pub(crate) fn compaction(facts: &TableFacts, policy: &Policy, scans: &ScanUsage) -> Option<CandidateJob> {
    let files_saved = facts.compactable_files.saturating_sub(facts.compacted_files);
    let by_position = facts.position_deletes.records.saturating_add(facts.deletion_vectors.records);
    let deleted = by_position as f64 / facts.records.max(1) as f64;
    let many_deleted = deleted >= DELETE_RATIO;
    if files_saved == 0 && !many_deleted {
        return None;
    }
    let (mut gain, mut bytes) = (files_saved as f64 * OPEN_SECONDS, facts.compactable_bytes as f64);
    let mut why = format!("{} would become {}", format_count(facts.compactable_files, "small file"), facts.compacted_files);
    if many_deleted {
        // A scan also reads deleted rows, only to drop them.
        gain += by_position as f64 * POSITION_SECONDS + facts.data_bytes as f64 * deleted / READ_BYTES_A_SECOND;
        bytes = bytes.max(facts.data_bytes as f64 * facts.files_with_deletes as f64 / facts.data_files.max(1) as f64);
        why = format!("{why}; {:.0} % of the rows are deleted by position", deleted * 100.0);
    }
    Some(CandidateJob {
        request: compact_request(policy),
        why,
        gain_seconds_a_day: scans.gain(gain),
        cost_seconds: JOB_SECONDS + bytes / REWRITE_BYTES_A_SECOND + facts.compactable_files as f64 * OPEN_SECONDS,
        runs_anyway: false,
        predicted: json!({"data_files": facts.data_files.saturating_sub(files_saved)}),
    })
}

/// Returns a conversion of deletes if there are equality deletes, or many position delete files.
///
/// A conversion replaces them by deletion vectors in format version 3, and by one position delete file for each data file in
/// version 2. Readers apply those faster.
pub(crate) fn delete_conversion(facts: &TableFacts, scans: &ScanUsage) -> Option<CandidateJob> {
    let files = facts.equality_deletes.files + facts.position_deletes.files;
    // In version 3, one Puffin file holds all vectors of a commit. In version 2, each data file has a delete file of its own.
    let after = if facts.format_version >= 3 { 1 } else { facts.files_with_deletes };
    let files_saved = files.saturating_sub(after.max(1));
    if facts.equality_deletes.files == 0 && files_saved < 5 {
        return None;
    }
    let gain = files_saved as f64 * OPEN_SECONDS + facts.equality_deletes.records as f64 * EQUALITY_SECONDS;
    let share = facts.files_with_deletes as f64 / facts.data_files.max(1) as f64;
    Some(CandidateJob {
        request: JobRequest::Compact(Box::new(CompactOptions {
            strategy: Strategy::ConvertDeletes,
            ..CompactOptions::default()
        })),
        why: format!(
            "{} and {} are applied in every scan",
            format_count(facts.equality_deletes.files, "equality delete file"),
            format_count(facts.position_deletes.files, "position delete file"),
        ),
        gain_seconds_a_day: scans.gain(gain),
        cost_seconds: JOB_SECONDS + facts.data_bytes as f64 * share / READ_BYTES_A_SECOND + files as f64 * OPEN_SECONDS,
        runs_anyway: false,
        predicted: json!({"delete_files": facts.deletes().files.saturating_sub(files_saved)}),
    })
}

/// Returns a rewrite of the manifests if there are many more than their size needs.
pub(crate) fn manifest_rewrite(facts: &TableFacts, scans: &ScanUsage) -> Option<CandidateJob> {
    let ideal = facts.manifest_bytes.div_ceil(facts.target_manifest_bytes.max(1)).max(1);
    let manifests_saved = facts.manifests.saturating_sub(ideal);
    if manifests_saved < EXCESS_MANIFESTS {
        return None;
    }
    // The planning of a scan opens all manifests, however few files the scan reads. So the share of files does not count.
    Some(CandidateJob {
        request: JobRequest::Manifests(Box::default()),
        why: format!("{}, where {ideal} would be enough", format_count(facts.manifests, "manifest")),
        gain_seconds_a_day: manifests_saved as f64 * MANIFEST_SECONDS * scans.scans_a_day,
        cost_seconds: JOB_SECONDS + facts.manifests as f64 * MANIFEST_SECONDS,
        runs_anyway: false,
        predicted: json!({"manifests": ideal}),
    })
}

/// Returns an expiry if the oldest snapshot is more than an hour over the maximum age, and there are more snapshots than are kept.
pub(crate) fn expiry(facts: &TableFacts, policy: &Policy, used: &TableUsage, now: Millis) -> Option<CandidateJob> {
    if expiry_blocked_by(facts).is_some() {
        return None;
    }
    let (age_ms, kept_snapshots) = retention(facts, policy);
    let oldest = facts.oldest_snapshot_ms?;
    if facts.snapshots <= kept_snapshots as u64 || now.saturating_sub(oldest) <= age_ms.saturating_add(EXPIRY_SLACK_MS) {
        return None;
    }
    let expected = expected_snapshots(facts.snapshots, kept_snapshots as u64, age_ms, now.saturating_sub(oldest));
    let loads = ((used.scans as f64 + used.commits as f64) / USAGE_DAYS as f64).max(1.0);
    Some(CandidateJob {
        request: expire_request(facts, policy, now),
        why: format!(
            "the oldest of {} is {} h old; snapshots expire after {} h",
            format_count(facts.snapshots, "snapshot"),
            now.saturating_sub(oldest) / 3_600_000,
            age_ms / 3_600_000
        ),
        gain_seconds_a_day: facts.metadata_bytes as f64 / READ_BYTES_A_SECOND * loads,
        cost_seconds: JOB_SECONDS + facts.snapshots as f64 * 0.001,
        runs_anyway: true,
        predicted: json!({"snapshots": expected}),
    })
}

/// Estimates the number of snapshots that an expiry leaves: at least `kept`, and those that are not older than `age_ms`.
///
/// The oldest of the `snapshots` is `oldest_ms` old. The facts have no other times, so snapshots count as evenly spread.
fn expected_snapshots(snapshots: u64, kept: u64, age_ms: Millis, oldest_ms: Millis) -> u64 {
    let share = (age_ms as f64 / oldest_ms.max(1) as f64).clamp(0.0, 1.0);
    ((snapshots as f64 * share).round() as u64).max(kept).min(snapshots)
}

#[cfg(test)]
mod tests {
    use esker_types::DAY_MS;

    use super::*;

    #[test]
    fn an_age_that_is_too_long_for_milliseconds_keeps_every_snapshot() {
        let now = 1_700_000_000_000;
        let facts = TableFacts {
            snapshots: 9,
            oldest_snapshot_ms: Some(now - 10 * DAY_MS),
            max_snapshot_age_ms: 5 * DAY_MS,
            ..TableFacts::default()
        };
        let mut policy = Policy::of(&[]);
        assert!(expiry(&facts, &policy, &TableUsage::default(), now).is_some(), "the table's age counts");
        policy.expire_max_age = Some(Duration::MAX);
        assert!(expiry(&facts, &policy, &TableUsage::default(), now).is_none());
    }

    #[test]
    fn snapshots_under_the_maximum_age_are_expected_to_stay() {
        assert_eq!(expected_snapshots(100, 1, 5 * DAY_MS, 10 * DAY_MS), 50);
        assert_eq!(expected_snapshots(100, 60, 5 * DAY_MS, 10 * DAY_MS), 60);
        assert_eq!(expected_snapshots(3, 5, 0, 10 * DAY_MS), 3);
        assert_eq!(expected_snapshots(100, 1, i64::MAX, 10 * DAY_MS), 100);
    }
}
