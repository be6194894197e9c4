//! What a job would gain and cost, by a table's facts. Seconds of one machine on both sides, so that they can be compared; the constants
//! are of an object store and are the same for all tables, so that their order is right even where the seconds are not.

use std::time::Duration;

use esker_maintenance::{CompactOptions, JobRequest, Strategy};
use esker_state::{TableUsage, USAGE_DAYS};
use esker_table::properties::{MAX_SNAPSHOT_AGE, MIN_SNAPSHOTS, check_retention};
use esker_table::{ExpiryPolicy, TableFacts};
use esker_types::Millis;
use serde_json::{Value, json};

use crate::Policy;

/// Opening a data or delete file: a request for its footer and one for its first bytes.
const OPEN_SECONDS: f64 = 0.02;
/// Opening a manifest while a scan is planned.
const MANIFEST_SECONDS: f64 = 0.01;
/// Applying a delete by position, and one by equality, in every scan.
const POSITION_SECONDS: f64 = 1e-7;
const EQUALITY_SECONDS: f64 = 2e-6;
/// Decoding rows and encoding them again.
const REWRITE_BYTES_A_SECOND: f64 = 40e6;
/// Reading the columns that deletes are about.
const READ_BYTES_A_SECOND: f64 = 200e6;
/// A job that does nothing else.
const JOB_SECONDS: f64 = 0.1;
/// The share of deleted rows from which on a file is rewritten, as by Spark's `rewrite_data_files`.
const DELETE_RATIO: f64 = 0.3;
/// Manifests beyond what their bytes need, from which on they are rewritten.
const EXCESS_MANIFESTS: u64 = 20;
const MANIFEST_BYTES: u64 = 8 << 20;
/// How much older than they have to be snapshots get before they are expired without a schedule.
const EXPIRY_SLACK_MS: Millis = 3600 * 1000;
/// The specification's `history.expire.min-snapshots-to-keep`.
const KEEP: usize = 1;

/// A job that might pay.
#[derive(Debug, Clone)]
pub struct CandidateJob {
    /// The job.
    pub request: JobRequest,
    /// What is wrong, for people.
    pub why: String,
    /// Seconds saved in a day, by all scans together.
    pub gain_seconds_a_day: f64,
    /// Seconds that the job takes.
    pub cost_seconds: f64,
    /// It is done whether it pays or not: what it removes has to go.
    pub due: bool,
    /// What the table should look like afterwards: some of the keys of a job's `measured.shapes.after`.
    pub predicted: Value,
}

impl CandidateJob {
    /// Whether it wins back what it costs within a time.
    pub fn pays(&self, within: Duration) -> bool {
        self.due || self.gain_seconds_a_day * within.as_secs_f64() / 86_400.0 > self.cost_seconds
    }

    /// The order in which jobs are begun: what a second of work saves in a day.
    pub fn rank(&self) -> f64 {
        self.gain_seconds_a_day / self.cost_seconds.max(JOB_SECONDS)
    }
}

/// How a table is scanned.
struct Scans {
    /// In a day; at least one, where nobody reports any.
    a_day: f64,
    /// The share of the data files that one reads.
    share: f64,
}

impl Scans {
    fn of(facts: &TableFacts, used: &TableUsage) -> Self {
        let a_day = (used.scans as f64 / USAGE_DAYS as f64).max(1.0);
        let read = used.scanned_files as f64 / (used.scans.max(1) as f64 * facts.data_files.max(1) as f64);
        Self { a_day, share: if used.scans > 0 { read.clamp(0.01, 1.0) } else { 1.0 } }
    }

    fn gain(&self, seconds_a_full_scan: f64) -> f64 {
        seconds_a_full_scan * self.share * self.a_day
    }
}

/// What might pay for a table of these facts.
pub(crate) fn candidates(facts: &TableFacts, policy: &Policy, used: &TableUsage, now: Millis) -> Vec<CandidateJob> {
    let scans = Scans::of(facts, used);
    let mut found = Vec::new();
    found.extend(compaction(facts, policy, &scans));
    found.extend(conversion(facts, &scans));
    found.extend(manifests(facts, &scans));
    found.extend(expiry(facts, policy, used, now));
    found
}

/// Why no snapshot of a table is expired: a property that says what is retained can't be read.
pub(crate) fn expiry_off(facts: &TableFacts) -> Option<String> {
    check_retention(&facts.policy_properties).err().map(|error| error.to_string())
}

/// The compaction that the policy wants.
pub(crate) fn compact_request(policy: &Policy) -> JobRequest {
    JobRequest::Compact(Box::new(CompactOptions {
        strategy: policy.strategy,
        sort_order: policy.sort_order.clone().filter(|_| policy.strategy == Strategy::Sort),
        zorder_columns: if policy.strategy == Strategy::ZOrder { policy.zorder_columns.clone() } else { Vec::new() },
        spark_over_bytes: policy.spark_over_bytes,
        ..CompactOptions::default()
    }))
}

/// The expiry that policy and properties want.
pub(crate) fn expire_request(facts: &TableFacts, policy: &Policy, now: Millis) -> JobRequest {
    let (age_ms, keep) = retention(facts, policy);
    let older_than_ms = policy.expire_max_age.and(Some(now.saturating_sub(age_ms)));
    let own = facts.policy_properties.contains_key(MIN_SNAPSHOTS.key);
    JobRequest::Expire(Box::new(ExpiryPolicy {
        older_than_ms: older_than_ms.filter(|_| !has_own_age(facts)),
        retain_last: policy.expire_keep.filter(|_| !own).map(|_| keep),
    }))
}

fn has_own_age(facts: &TableFacts) -> bool {
    facts.policy_properties.contains_key(MAX_SNAPSHOT_AGE.key)
}

/// The age that snapshots may go at, and how many are kept. What a table's own properties say comes first.
fn retention(facts: &TableFacts, policy: &Policy) -> (Millis, usize) {
    let wanted = policy.expire_max_age.and_then(|age| Millis::try_from(age.as_millis()).ok());
    let age = wanted.filter(|_| !has_own_age(facts)).unwrap_or(facts.max_snapshot_age_ms);
    let own = MIN_SNAPSHOTS.get_if_set(&facts.policy_properties);
    (age, own.or(policy.expire_keep).unwrap_or(KEEP).max(1))
}

fn compaction(facts: &TableFacts, policy: &Policy, scans: &Scans) -> Option<CandidateJob> {
    let fewer = facts.compactable_files.saturating_sub(facts.compacted_files);
    let by_position = facts.position_deletes.records.saturating_add(facts.deletion_vectors.records);
    let deleted = by_position as f64 / facts.records.max(1) as f64;
    let riddled = deleted >= DELETE_RATIO;
    if fewer == 0 && !riddled {
        return None;
    }
    let (mut gain, mut bytes) = (fewer as f64 * OPEN_SECONDS, facts.compactable_bytes as f64);
    let mut why = format!("{} small files would be {}", facts.compactable_files, facts.compacted_files);
    if riddled {
        // Rows that are read to be thrown away.
        gain += by_position as f64 * POSITION_SECONDS + facts.data_bytes as f64 * deleted / READ_BYTES_A_SECOND;
        bytes = bytes.max(facts.data_bytes as f64 * facts.files_with_deletes as f64 / facts.data_files.max(1) as f64);
        why = format!("{why}; {:.0} % of the rows are deleted by position", deleted * 100.0);
    }
    Some(CandidateJob {
        request: compact_request(policy),
        why,
        gain_seconds_a_day: scans.gain(gain),
        cost_seconds: JOB_SECONDS + bytes / REWRITE_BYTES_A_SECOND + facts.compactable_files as f64 * OPEN_SECONDS,
        due: false,
        predicted: json!({"data_files": facts.data_files.saturating_sub(fewer)}),
    })
}

/// Equality deletes, and position deletes by the many, become deletes that cost readers less.
fn conversion(facts: &TableFacts, scans: &Scans) -> Option<CandidateJob> {
    let files = facts.equality_deletes.files + facts.position_deletes.files;
    // In version 3 one file holds the vectors of a commit; in version 2 there is one file for each data file.
    let after = if facts.format_version >= 3 { 1 } else { facts.files_with_deletes };
    let fewer = files.saturating_sub(after.max(1));
    if facts.equality_deletes.files == 0 && fewer < 5 {
        return None;
    }
    let gain = fewer as f64 * OPEN_SECONDS + facts.equality_deletes.records as f64 * EQUALITY_SECONDS;
    let share = facts.files_with_deletes as f64 / facts.data_files.max(1) as f64;
    Some(CandidateJob {
        request: JobRequest::Compact(Box::new(CompactOptions {
            strategy: Strategy::ConvertDeletes,
            ..CompactOptions::default()
        })),
        why: format!(
            "{} equality and {} position delete files are applied in every scan",
            facts.equality_deletes.files, facts.position_deletes.files
        ),
        gain_seconds_a_day: scans.gain(gain),
        cost_seconds: JOB_SECONDS + facts.data_bytes as f64 * share / READ_BYTES_A_SECOND + files as f64 * OPEN_SECONDS,
        due: false,
        predicted: json!({"delete_files": facts.deletes().files.saturating_sub(fewer)}),
    })
}

fn manifests(facts: &TableFacts, scans: &Scans) -> Option<CandidateJob> {
    let ideal = facts.manifest_bytes.div_ceil(MANIFEST_BYTES).max(1);
    let fewer = facts.manifests.saturating_sub(ideal);
    if fewer < EXCESS_MANIFESTS {
        return None;
    }
    // Every scan is planned, however little it reads.
    Some(CandidateJob {
        request: JobRequest::Manifests(Box::default()),
        why: format!("{} manifests where {ideal} would do", facts.manifests),
        gain_seconds_a_day: fewer as f64 * MANIFEST_SECONDS * scans.a_day,
        cost_seconds: JOB_SECONDS + facts.manifests as f64 * MANIFEST_SECONDS,
        due: false,
        predicted: json!({"manifests": ideal}),
    })
}

fn expiry(facts: &TableFacts, policy: &Policy, used: &TableUsage, now: Millis) -> Option<CandidateJob> {
    if expiry_off(facts).is_some() {
        return None;
    }
    let (age_ms, keep) = retention(facts, policy);
    let oldest = facts.oldest_snapshot_ms?;
    if facts.snapshots <= keep as u64 || now.saturating_sub(oldest) <= age_ms.saturating_add(EXPIRY_SLACK_MS) {
        return None;
    }
    let loads = ((used.scans as f64 + used.commits as f64) / USAGE_DAYS as f64).max(1.0);
    Some(CandidateJob {
        request: expire_request(facts, policy, now),
        why: format!(
            "the oldest of {} snapshots is {} h old; they may go after {} h",
            facts.snapshots,
            now.saturating_sub(oldest) / 3_600_000,
            age_ms / 3_600_000
        ),
        gain_seconds_a_day: facts.metadata_bytes as f64 / READ_BYTES_A_SECOND * loads,
        cost_seconds: JOB_SECONDS + facts.snapshots as f64 * 0.001,
        due: true,
        predicted: json!({"snapshots": keep}),
    })
}
