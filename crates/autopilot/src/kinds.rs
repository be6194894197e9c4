//! The rules of the autopilot for each kind of job: its schedule, its pause and when it pays. A new kind gets an arm here.
//!
//! Start reading at [`KindRules::of`].

use esker_maintenance::JobRequest;
use esker_state::TableUsage;
use esker_table::TableFacts;
use esker_types::{DurationMillis, JobKind, Millis};

use crate::Policy;
use crate::cost_model::{
    CandidateJob, ScanUsage, compact_request, compaction, delete_conversion, expire_request, expiry, manifest_rewrite,
};

/// The time in milliseconds between two jobs of most kinds on one table.
const MIN_INTERVAL_MS: DurationMillis = 60 * 1000;
/// The time in milliseconds between two expiries of one table: each writes metadata, and retention is counted in days.
const MIN_EXPIRY_INTERVAL_MS: DurationMillis = 3600 * 1000;

/// The input of a kind's rules: a table at the time of a decision.
#[derive(Clone, Copy)]
pub(crate) struct TableView<'a> {
    /// The table's facts.
    pub(crate) facts: &'a TableFacts,
    /// The policy of the table.
    pub(crate) policy: &'a Policy,
    /// The table's use by engines.
    pub(crate) usage: &'a TableUsage,
    /// Time of the decision, in milliseconds since the Unix epoch.
    pub(crate) now: Millis,
}

/// The rules of one kind of job.
pub(crate) struct KindRules {
    /// Makes the request of a scheduled job. `None` for kinds that only people start.
    pub(crate) scheduled: Option<fn(TableView<'_>) -> JobRequest>,
    /// The time in milliseconds between two jobs of the kind on one table.
    pub(crate) min_interval_ms: DurationMillis,
    /// Proposes jobs by the table's facts and use, whether they pay or not.
    propose: fn(TableView<'_>, &ScanUsage) -> Vec<Option<CandidateJob>>,
}

impl KindRules {
    /// Returns the rules of a kind.
    pub(crate) fn of(kind: JobKind) -> Self {
        // Facts do not tell that a table needs these kinds: a schedule starts them, or a person.
        let by_schedule: fn(TableView<'_>, &ScanUsage) -> Vec<Option<CandidateJob>> = |_, _| Vec::new();
        match kind {
            JobKind::Compact => Self {
                scheduled: Some(|table| compact_request(table.policy)),
                min_interval_ms: MIN_INTERVAL_MS,
                propose: |table, scans| vec![compaction(table.facts, table.policy, scans), delete_conversion(table.facts, scans)],
            },
            JobKind::Manifests => Self {
                scheduled: Some(|_| JobRequest::Manifests(Box::default())),
                min_interval_ms: MIN_INTERVAL_MS,
                propose: |table, scans| vec![manifest_rewrite(table.facts, scans)],
            },
            JobKind::Expire => Self {
                scheduled: Some(|table| expire_request(table.facts, table.policy, table.now)),
                min_interval_ms: MIN_EXPIRY_INTERVAL_MS,
                propose: |table, _| vec![expiry(table.facts, table.policy, table.usage, table.now)],
            },
            JobKind::Orphans => Self {
                scheduled: Some(|_| JobRequest::Orphans(Box::default())),
                min_interval_ms: MIN_INTERVAL_MS,
                propose: by_schedule,
            },
            JobKind::Statistics => Self {
                scheduled: Some(|_| JobRequest::Statistics(Box::default())),
                min_interval_ms: MIN_INTERVAL_MS,
                propose: by_schedule,
            },
            JobKind::Erase | JobKind::Check => Self { scheduled: None, min_interval_ms: MIN_INTERVAL_MS, propose: by_schedule },
        }
    }
}

/// Returns the jobs that a table could use, whether they pay or not.
pub(crate) fn candidates(table: TableView<'_>) -> Vec<CandidateJob> {
    let scans = ScanUsage::of(table.facts, table.usage);
    let of_kind = |kind| (KindRules::of(kind).propose)(table, &scans);
    let mut found: Vec<CandidateJob> = JobKind::ALL.into_iter().flat_map(of_kind).flatten().collect();
    // Jobs that make scans faster come first: a decision names the first of its jobs.
    found.sort_by_key(|job| job.request.kind() == JobKind::Expire);
    found
}
