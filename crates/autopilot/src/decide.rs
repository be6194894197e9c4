//! The decision about one table: the jobs to enqueue, or the reason why there are none. It is pure.
//!
//! Schedules decide first, then the cost model proposes jobs, if the policy turns the autopilot on. Each proposed job gets a
//! verdict of its own, with a reason. `docs/policies.md` lists the reasons.
//!
//! Start reading at [`decide`], then [`judge`].

use std::cmp::Ordering;

use esker_health::Damage;
use esker_state::{Job, JobState, TableUsage};
use esker_table::TableFacts;
use esker_types::{DurationMillis, JobKind, Millis, format_count, to_millis};
use serde::Serialize;

use crate::Policy;
use crate::budget::{Accounts, exhausted};
use crate::cost_model::{CandidateJob, expiry_blocked_by};
use crate::kinds::{KindRules, TableView, candidates};

/// The time in milliseconds after which a missed time of a schedule is dropped.
const MAX_SCHEDULE_DELAY_MS: DurationMillis = 3600 * 1000;
/// The time in milliseconds between a failed job and the next of its kind. It doubles with each further failure, up to 16 hours.
const BACK_OFF_MS: DurationMillis = 15 * 60 * 1000;

/// The verdict about a table or a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A job is enqueued.
    Act,
    /// A job would be enqueued at another time.
    Wait,
    /// No job is needed or allowed.
    Leave,
}

impl Verdict {
    /// Returns the name of the verdict, as metrics and JSON spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::Wait => "wait",
            Self::Leave => "leave",
        }
    }
}

/// A job that the autopilot considered, with its verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConsideredJob {
    /// The kind of the job.
    pub kind: JobKind,
    /// The flaw of the table that the job would remove, for people.
    pub why: String,
    /// The seconds that the job would save in a day.
    pub gain_seconds_a_day: f64,
    /// The seconds that the job would take.
    pub cost_seconds: f64,
    /// The verdict about the job.
    pub verdict: Verdict,
    /// The reason for the verdict, for people.
    pub reason: String,
}

/// The decision about a table.
#[derive(Debug, Clone, Serialize)]
pub struct Decision {
    /// The verdict about the table.
    pub verdict: Verdict,
    /// The reason for the verdict, in a line for people.
    pub reason: String,
    /// The jobs that the autopilot considered. Jobs of schedules are not among them.
    pub considered: Vec<ConsideredJob>,
    /// The jobs to enqueue, in no order.
    #[serde(skip)]
    pub to_enqueue: Vec<JobToEnqueue>,
}

/// A job that a decision wants to enqueue.
#[derive(Debug, Clone)]
pub struct JobToEnqueue {
    /// The job, with its gain and cost.
    pub candidate: CandidateJob,
    /// The time of the schedule that wants the job, in milliseconds since the Unix epoch; `None` for a job of the autopilot.
    pub scheduled_ms: Option<Millis>,
    /// The number of jobs of this kind without success since the last one with success.
    pub failed: usize,
}

impl JobToEnqueue {
    /// Compares two jobs: those of schedules come first, then those with the most gain for their cost.
    pub(crate) fn by_urgency(&self, other: &Self) -> Ordering {
        let scheduled = |act: &Self| act.scheduled_ms.is_some();
        scheduled(other).cmp(&scheduled(self)).then(other.candidate.rank().total_cmp(&self.candidate.rank()))
    }
}

/// The input of a decision about one table.
#[derive(Debug)]
pub(crate) struct DecisionInput<'a> {
    /// The time of the decision, in milliseconds since the Unix epoch.
    pub(crate) now: Millis,
    /// The policy of the table.
    pub(crate) policy: &'a Policy,
    /// The facts of the table.
    pub(crate) facts: &'a TableFacts,
    /// The files of the table that a job or query could not read.
    pub(crate) damage: &'a [Damage],
    /// Tells whether Esker owns the table. A foreign table gets no job.
    pub(crate) owned: bool,
    /// The scans and commits of the table that engines reported.
    pub(crate) usage: &'a TableUsage,
    /// The table's jobs of the autopilot and of schedules that are not over or ended in the last day, the oldest first.
    pub(crate) jobs: &'a [&'a Job],
    /// The costs of the last 24 hours, by budget.
    pub(crate) accounts: &'a Accounts,
}

impl<'a> DecisionInput<'a> {
    /// Returns the part of the input that the rules of the kinds of jobs use.
    const fn table_view(&self) -> TableView<'a> {
        TableView { facts: self.facts, policy: self.policy, usage: self.usage, now: self.now }
    }
}

impl Decision {
    /// Makes a decision to leave the table alone, without considered jobs.
    pub(crate) fn leave(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Leave, reason: reason.into(), considered: Vec::new(), to_enqueue: Vec::new() }
    }
}

/// Decides which jobs one table gets now.
pub(crate) fn decide(known: &DecisionInput<'_>) -> Decision {
    let DecisionInput { policy, .. } = known;
    if let Some(problem) = policy.problems.first() {
        return Decision::leave(format!("the policy can't be followed until it is corrected: {problem}"));
    }
    if policy.freeze {
        return Decision::leave(format!("the table is frozen by {}", policy.origin("freeze")));
    }
    if !known.owned {
        return Decision::leave("the table is foreign: another catalog may commit to it; claim it first");
    }
    if let Some(job) = known.jobs.iter().find(|job| !job.state.is_over()) {
        return Decision {
            verdict: Verdict::Wait,
            ..Decision::leave(format!("job {} ({}) is {}", job.id, job.kind, job.state.as_str()))
        };
    }
    let spent = exhausted(known.accounts, policy);
    let mut act: Vec<JobToEnqueue> = jobs_of_schedules(known);
    if let Some(spent) = spent.clone().filter(|_| !act.is_empty()) {
        return Decision { verdict: Verdict::Wait, ..Decision::leave(spent) };
    }
    let mut considered: Vec<ConsideredJob> = Vec::new();
    if policy.autopilot {
        for candidate in candidates(known.table_view()) {
            if act.iter().any(|other| other.candidate.request.kind() == candidate.request.kind()) {
                continue;
            }
            let (verdict, reason) = judge(known, &candidate, spent.as_deref());
            considered.push(ConsideredJob {
                kind: candidate.request.kind(),
                why: candidate.why.clone(),
                gain_seconds_a_day: candidate.gain_seconds_a_day,
                cost_seconds: candidate.cost_seconds,
                verdict,
                reason,
            });
            if verdict == Verdict::Act {
                let failed = failures_in_a_row(known, candidate.request.kind());
                act.push(JobToEnqueue { candidate, scheduled_ms: None, failed });
            }
        }
    }
    let first = |verdict: Verdict| considered.iter().find(|c| c.verdict == verdict).map(|c| format!("{}: {}", c.kind, c.reason));
    let (verdict, reason) = match (act.first(), first(Verdict::Wait), first(Verdict::Leave)) {
        (Some(act), ..) => (Verdict::Act, format!("{}: {}", act.candidate.request.kind(), act.candidate.why)),
        (None, Some(waits), _) => (Verdict::Wait, waits),
        (None, None, Some(left)) => (Verdict::Leave, left),
        (None, None, None) if policy.autopilot => (Verdict::Leave, "no job would improve the table".to_owned()),
        (None, None, None) => (Verdict::Leave, format!("autopilot is off ({})", policy.origin("autopilot"))),
    };
    Decision { verdict, reason, considered, to_enqueue: act }
}

/// Gives the verdict about one candidate, with the reason.
///
/// `spent` describes a budget that is spent, if there is one. The checks that the table's own state decides come before those
/// that only ask for time.
fn judge(known: &DecisionInput<'_>, candidate: &CandidateJob, spent: Option<&str>) -> (Verdict, String) {
    let DecisionInput { policy, facts, now, .. } = known;
    let kind = candidate.request.kind();
    // A compaction reads the current snapshot only, so damage of an earlier snapshot does not stop it.
    let damaged: Vec<&Damage> = known.damage.iter().filter(|file| file.snapshot_id.is_none()).collect();
    if let Some(file) = damaged.first().filter(|_| kind == JobKind::Compact) {
        return (Verdict::Leave, unreadable_text(damaged.len() as u64, &file.path));
    }
    let forced = kind == JobKind::Compact && policy.compact_after_commits.is_some_and(|n| facts.commits_since_compaction >= n);
    if !forced && !candidate.pays(policy.payback) {
        let (gain, cost) = (candidate.gain_seconds_a_day, candidate.cost_seconds);
        return (
            Verdict::Leave,
            format!(
                "the job would save {gain:.2} s a day and take {cost:.1} s, which does not pay within {} h",
                policy.payback.as_secs() / 3600
            ),
        );
    }
    if let Some(spent) = spent {
        return (Verdict::Wait, spent.to_owned());
    }
    if kind == JobKind::Compact
        && let Some((engine, at)) = &facts.rewritten_by_other
        && now.saturating_sub(*at) < to_millis(policy.respect_others)
    {
        return (
            Verdict::Leave,
            format!("{engine} rewrote its files {} min ago; compaction is left to {engine}", now.saturating_sub(*at) / 60_000),
        );
    }
    let failed = failures_in_a_row(known, kind);
    if failed > 0 {
        let pause = BACK_OFF_MS.saturating_mul(1 << (failed - 1).min(6));
        let last = known.jobs.iter().filter(|job| job.kind == kind.as_str()).filter_map(|job| job.finished_ms).max().unwrap_or(0);
        if now.saturating_sub(last) < pause {
            return (
                Verdict::Wait,
                format!(
                    "unsuccessful jobs of this kind in a row: {failed}; the next begins in {} min",
                    pause.saturating_sub(now.saturating_sub(last)) / 60_000
                ),
            );
        }
    }
    let apart = KindRules::of(kind).min_interval_ms;
    if known
        .jobs
        .iter()
        .any(|job| job.kind == kind.as_str() && job.finished_ms.is_some_and(|end| now.saturating_sub(end) < apart))
    {
        return (Verdict::Wait, format!("a job of this kind ended less than {} s ago", apart / 1000));
    }
    if !policy.is_in_window(*now) {
        return (Verdict::Wait, format!("the time is outside the window of {}", policy.origin("window")));
    }
    (
        Verdict::Act,
        if forced {
            format!("{} since the last compaction", format_count(facts.commits_since_compaction, "commit"))
        } else {
            "it pays".to_owned()
        },
    )
}

/// Says why a table with some files that can't be read is not compacted. `first` is one of the files.
fn unreadable_text(files: u64, first: &str) -> String {
    match files {
        1 => format!("{first} can't be read; the table is compacted once it is restored"),
        _ => format!("{files} files can't be read, among them {first}; the table is compacted once they are restored"),
    }
}

/// Counts the jobs of a kind without success since the last one with success.
fn failures_in_a_row(known: &DecisionInput<'_>, kind: JobKind) -> usize {
    known.jobs.iter().rev().filter(|job| job.kind == kind.as_str()).take_while(|job| job.state != JobState::Succeeded).count()
}

/// Returns the jobs whose schedule had its time in the last hour, unless a job of the kind was enqueued since then.
fn jobs_of_schedules(known: &DecisionInput<'_>) -> Vec<JobToEnqueue> {
    let DecisionInput { policy, facts, now, .. } = known;
    let mut acts = Vec::new();
    for kind in policy.schedules.keys() {
        let kind = *kind;
        let Some(moment) = policy.last_run(kind, *now).filter(|at| now.saturating_sub(*at) < MAX_SCHEDULE_DELAY_MS) else {
            continue;
        };
        let done = known.jobs.iter().any(|job| job.kind == kind.as_str() && job.created_ms >= moment);
        if done || (kind == JobKind::Expire && expiry_blocked_by(facts).is_some()) {
            continue;
        }
        let Some(scheduled) = KindRules::of(kind).scheduled else { continue };
        let request = scheduled(known.table_view());
        let why = format!("schedule of {}", policy.origin(&format!("{kind}.schedule")));
        let candidate = CandidateJob {
            request,
            why,
            gain_seconds_a_day: 0.0,
            cost_seconds: 0.0,
            runs_anyway: true,
            predicted: serde_json::Value::Null,
        };
        acts.push(JobToEnqueue { candidate, scheduled_ms: Some(moment), failed: 0 });
    }
    acts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::KEYS;

    #[test]
    fn one_unreadable_file_is_named_in_the_singular() {
        assert_eq!(unreadable_text(1, "f"), "f can't be read; the table is compacted once it is restored");
        assert!(unreadable_text(2, "f").starts_with("2 files can't be read, among them f;"));
    }

    #[test]
    fn a_kind_that_may_be_scheduled_has_a_key_and_a_request_and_no_other_kind_has() {
        for kind in JobKind::ALL {
            let has_key = KEYS.iter().any(|key| key.name == format!("{kind}.schedule"));
            let has_request = KindRules::of(kind).scheduled.is_some();
            let may = esker_maintenance::kind_view(kind).schedulable;
            assert_eq!((has_key, has_request), (may, may), "{kind}");
        }
    }
}
