//! What is to be done for a table, and why nothing is where nothing is. Pure.

use std::cmp::Ordering;
use std::time::Duration;

use esker_health::Damage;
use esker_maintenance::JobRequest;
use esker_state::{Job, JobState, TableUsage};
use esker_table::TableFacts;
use esker_types::{JobKind, Millis};
use serde::Serialize;

use crate::Policy;
use crate::budget::{Accounts, exhausted};
use crate::cost_model::{CandidateJob, candidates, compact_request, expire_request, expiry_off};

/// A schedule's moment that was missed by more than this is let go.
const MISSED_MS: Millis = 3600 * 1000;
/// After a job failed, so long until the next of its kind; doubled with each further failure.
const BACK_OFF_MS: Millis = 15 * 60 * 1000;
/// No two jobs of a kind begin by themselves on one table within this time.
const APART_MS: Millis = 60 * 1000;
/// Nor two expiries within this.
const EXPIRIES_APART_MS: Millis = 3600 * 1000;

/// What becomes of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecisionKind {
    /// A job is entered.
    Act,
    /// A job would be, at another time.
    Wait,
    /// Nothing is to be done.
    Leave,
}

impl DecisionKind {
    /// As metrics spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::Wait => "wait",
            Self::Leave => "leave",
        }
    }
}

/// A job that was thought of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Considered {
    /// Its kind.
    pub kind: JobKind,
    /// What is wrong with the table.
    pub why: String,
    /// Seconds that it would save in a day.
    pub gain_seconds_a_day: f64,
    /// Seconds that it would take.
    pub cost_seconds: f64,
    /// What is made of it.
    pub verdict: DecisionKind,
    /// Why.
    pub reason: String,
}

/// What is thought of a table.
#[derive(Debug, Clone, Serialize)]
pub struct Decision {
    /// What becomes of it.
    pub verdict: DecisionKind,
    /// Why, in a line.
    pub reason: String,
    /// Jobs that were thought of.
    pub considered: Vec<Considered>,
    /// Jobs that are to be entered.
    #[serde(skip)]
    pub act: Vec<JobToEnqueue>,
}

/// A job to be entered.
#[derive(Debug, Clone)]
pub struct JobToEnqueue {
    /// What is to be done, with what it should gain.
    pub candidate: CandidateJob,
    /// The moment of the schedule that wants it; none if the autopilot does.
    pub scheduled_ms: Option<Millis>,
    /// Jobs of its kind that did not succeed since the last that did.
    pub failed: usize,
}

impl JobToEnqueue {
    /// What schedules want comes first, then what gains most for its cost.
    pub(crate) fn by_urgency(&self, other: &Self) -> Ordering {
        let scheduled = |act: &Self| act.scheduled_ms.is_some();
        scheduled(other).cmp(&scheduled(self)).then(other.candidate.rank().total_cmp(&self.candidate.rank()))
    }
}

/// What a decision rests on.
#[derive(Debug)]
pub(crate) struct DecisionInput<'a> {
    pub(crate) now: Millis,
    pub(crate) policy: &'a Policy,
    pub(crate) facts: &'a TableFacts,
    /// Files of the table that somebody could not read.
    pub(crate) damage: &'a [Damage],
    pub(crate) owned: bool,
    pub(crate) used: &'a TableUsage,
    /// The table's jobs that began by themselves, and are not over or ended in the last day; the oldest first.
    pub(crate) jobs: &'a [&'a Job],
    pub(crate) accounts: &'a Accounts,
}

impl Decision {
    pub(crate) fn leave(reason: impl Into<String>) -> Self {
        Self { verdict: DecisionKind::Leave, reason: reason.into(), considered: Vec::new(), act: Vec::new() }
    }
}

/// Decides about one table.
pub(crate) fn decide(known: &DecisionInput<'_>) -> Decision {
    let DecisionInput { policy, .. } = known;
    if let Some(problem) = policy.problems.first() {
        return Decision::leave(format!("its policy can't be followed: {problem}"));
    }
    if policy.freeze {
        return Decision::leave(format!("it is frozen by {}", policy.origin("freeze")));
    }
    if !known.owned {
        return Decision::leave("it is foreign: another catalog may commit to it; claim it first");
    }
    if let Some(job) = known.jobs.iter().find(|job| !job.state.is_over()) {
        return Decision {
            verdict: DecisionKind::Wait,
            ..Decision::leave(format!("job {} ({}) is {}", job.id, job.kind, job.state.as_str()))
        };
    }
    let spent = exhausted(known.accounts, policy);
    let mut act: Vec<JobToEnqueue> = scheduled(known);
    if let Some(spent) = spent.clone().filter(|_| !act.is_empty()) {
        return Decision { verdict: DecisionKind::Wait, ..Decision::leave(spent) };
    }
    let mut considered: Vec<Considered> = Vec::new();
    if policy.autopilot {
        for candidate in candidates(known.facts, policy, known.used, known.now) {
            if act.iter().any(|other| other.candidate.request.kind() == candidate.request.kind()) {
                continue;
            }
            let (verdict, reason) = judge(known, &candidate, spent.as_deref());
            considered.push(Considered {
                kind: candidate.request.kind(),
                why: candidate.why.clone(),
                gain_seconds_a_day: candidate.gain_seconds_a_day,
                cost_seconds: candidate.cost_seconds,
                verdict,
                reason,
            });
            if verdict == DecisionKind::Act {
                let failed = failures(known, candidate.request.kind());
                act.push(JobToEnqueue { candidate, scheduled_ms: None, failed });
            }
        }
    }
    let first =
        |verdict: DecisionKind| considered.iter().find(|c| c.verdict == verdict).map(|c| format!("{}: {}", c.kind, c.reason));
    let (verdict, reason) = match (act.first(), first(DecisionKind::Wait), first(DecisionKind::Leave)) {
        (Some(act), ..) => (DecisionKind::Act, format!("{}: {}", act.candidate.request.kind(), act.candidate.why)),
        (None, Some(waits), _) => (DecisionKind::Wait, waits),
        (None, None, Some(left)) => (DecisionKind::Leave, left),
        (None, None, None) if policy.autopilot => (DecisionKind::Leave, "nothing is to be gained".to_owned()),
        (None, None, None) => (DecisionKind::Leave, format!("autopilot is off ({})", policy.origin("autopilot"))),
    };
    Decision { verdict, reason, considered, act }
}

/// What is made of a job that might pay.
fn judge(known: &DecisionInput<'_>, candidate: &CandidateJob, spent: Option<&str>) -> (DecisionKind, String) {
    let DecisionInput { policy, facts, now, .. } = known;
    let kind = candidate.request.kind();
    // What an earlier snapshot leads to, a compaction does not read.
    let damaged: Vec<&Damage> = known.damage.iter().filter(|file| file.snapshot_id.is_none()).collect();
    if let Some(file) = damaged.first().filter(|_| kind == JobKind::Compact) {
        let n = damaged.len();
        let reason = format!("{n} of its files can't be read, {} among them: it is tried when they are mended", file.path);
        return (DecisionKind::Leave, reason);
    }
    let forced = kind == JobKind::Compact && policy.compact_after_commits.is_some_and(|n| facts.commits_since_compaction >= n);
    if !forced && !candidate.pays(policy.payback) {
        let (gain, cost) = (candidate.gain_seconds_a_day, candidate.cost_seconds);
        return (
            DecisionKind::Leave,
            format!(
                "it would save {gain:.2} s a day and take {cost:.1} s: it does not pay within {} h",
                policy.payback.as_secs() / 3600
            ),
        );
    }
    if let Some(spent) = spent {
        return (DecisionKind::Wait, spent.to_owned());
    }
    if kind == JobKind::Compact
        && let Some((engine, at)) = &facts.rewritten_by_other
        && now.saturating_sub(*at) < millis(policy.respect_others)
    {
        return (
            DecisionKind::Leave,
            format!("{engine} rewrote its files {} min ago; its compaction is left to that", now.saturating_sub(*at) / 60_000),
        );
    }
    let failed = failures(known, kind);
    if failed > 0 {
        let pause = BACK_OFF_MS.saturating_mul(1 << (failed - 1).min(6));
        let last = known.jobs.iter().filter(|job| job.kind == kind.as_str()).filter_map(|job| job.finished_ms).max().unwrap_or(0);
        if now.saturating_sub(last) < pause {
            return (
                DecisionKind::Wait,
                format!(
                    "the last {failed} jobs of this kind did not succeed; the next is tried in {} min",
                    pause.saturating_sub(now.saturating_sub(last)) / 60_000
                ),
            );
        }
    }
    let apart = if kind == JobKind::Expire { EXPIRIES_APART_MS } else { APART_MS };
    if known
        .jobs
        .iter()
        .any(|job| job.kind == kind.as_str() && job.finished_ms.is_some_and(|end| now.saturating_sub(end) < apart))
    {
        return (DecisionKind::Wait, format!("a job of this kind ended less than {} s ago", apart / 1000));
    }
    if !policy.is_open(*now) {
        return (DecisionKind::Wait, format!("it is outside the window of {}", policy.origin("window")));
    }
    (
        DecisionKind::Act,
        if forced {
            format!("{} commits since the last compaction", facts.commits_since_compaction)
        } else {
            "it pays".to_owned()
        },
    )
}

/// Jobs of a kind that did not succeed since the last that did.
fn failures(known: &DecisionInput<'_>, kind: JobKind) -> usize {
    known.jobs.iter().rev().filter(|job| job.kind == kind.as_str()).take_while(|job| job.state != JobState::Succeeded).count()
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// Returns the request of a scheduled job; none for kinds that only people start.
fn scheduled_request(kind: JobKind, policy: &Policy, facts: &TableFacts, now: Millis) -> Option<JobRequest> {
    match kind {
        JobKind::Compact => Some(compact_request(policy)),
        JobKind::Expire => Some(expire_request(facts, policy, now)),
        JobKind::Orphans => Some(JobRequest::Orphans(Box::default())),
        JobKind::Manifests => Some(JobRequest::Manifests(Box::default())),
        JobKind::Statistics => Some(JobRequest::Statistics(Box::default())),
        JobKind::Erase | JobKind::Check => None,
    }
}

/// What schedules want now.
fn scheduled(known: &DecisionInput<'_>) -> Vec<JobToEnqueue> {
    let DecisionInput { policy, facts, now, .. } = known;
    let mut acts = Vec::new();
    for kind in policy.schedules.keys() {
        let kind = *kind;
        let Some(moment) = policy.last(kind, *now).filter(|at| now.saturating_sub(*at) < MISSED_MS) else { continue };
        let done = known.jobs.iter().any(|job| job.kind == kind.as_str() && job.created_ms >= moment);
        if done || (kind == JobKind::Expire && expiry_off(facts).is_some()) {
            continue;
        }
        let Some(request) = scheduled_request(kind, policy, facts, *now) else { continue };
        let why = format!("schedule of {}", policy.origin(&format!("{kind}.schedule")));
        let candidate = CandidateJob {
            request,
            why,
            gain_seconds_a_day: 0.0,
            cost_seconds: 0.0,
            due: true,
            predicted: serde_json::Value::Null,
        };
        acts.push(JobToEnqueue { candidate, scheduled_ms: Some(moment), failed: 0 });
    }
    acts
}
