//! The receivers of decisions: one writes them to the log, one counts them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use esker_access::{AccessDecision, Record, WorthRecording};

/// A receiver that writes refusals, and what break-glass allows, to the log. The target is `esker::access`.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoggedDecisions;

impl Record for LoggedDecisions {
    fn record(&self, decision: WorthRecording<'_>) {
        let WorthRecording { caller, need, .. } = decision;
        let (principal, facts) = (caller.subject().identity(), caller.facts());
        let (operation, source_ip) = (&*facts.operation, facts.source_ip.map(tracing::field::display));
        // The form of requests: the line can be pasted into `esker access explain` and `grant`.
        let (needs, on) = (need.required, need.on.text());
        let policy = match decision.decision {
            AccessDecision::Allow { .. } => None,
            AccessDecision::Deny { missing, .. } => caller.forbidden_by(&need.on, missing),
        };
        match Outcome::of(&decision) {
            Outcome::BreakGlass => {
                tracing::warn!(target: "esker::access", %principal, operation, source_ip, %needs, %on, "allowed by break-glass");
            }
            Outcome::Refused => {
                tracing::info!(target: "esker::access", %principal, operation, source_ip, %needs, %on, policy, "refused");
            }
            Outcome::Reported => {
                tracing::info!(
                    target: "esker::access", %principal, operation, source_ip, %needs, %on, policy,
                    "would be refused in the mode on"
                );
            }
        }
    }
}

/// The outcome of a recorded decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The request was refused.
    Refused,
    /// The request goes on, because refusals are only reported.
    Reported,
    /// A break-glass principal was allowed what no rule allows.
    BreakGlass,
}

impl Outcome {
    /// Returns the outcome of a decision.
    const fn of(decision: &WorthRecording<'_>) -> Self {
        match (decision.decision.is_allowed(), decision.is_enforced) {
            (true, _) => Self::BreakGlass,
            (false, true) => Self::Refused,
            (false, false) => Self::Reported,
        }
    }
}

/// The numbers of recorded decisions since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecisionCounts {
    /// Requests that were refused.
    pub refused: u64,
    /// Requests that would be refused in the mode on.
    pub reported: u64,
    /// Decisions in which break-glass allowed something.
    pub break_glass: u64,
}

/// A receiver that counts decisions and hands them on.
#[derive(Debug)]
pub(crate) struct Counted {
    next: Arc<dyn Record>,
    refused: AtomicU64,
    reported: AtomicU64,
    break_glass: AtomicU64,
}

impl Counted {
    /// Counts the decisions that `next` receives.
    pub(crate) fn new(next: Arc<dyn Record>) -> Self {
        Self { next, refused: AtomicU64::new(0), reported: AtomicU64::new(0), break_glass: AtomicU64::new(0) }
    }

    /// Returns the numbers.
    pub(crate) fn counts(&self) -> DecisionCounts {
        DecisionCounts {
            refused: self.refused.load(Ordering::Relaxed),
            reported: self.reported.load(Ordering::Relaxed),
            break_glass: self.break_glass.load(Ordering::Relaxed),
        }
    }
}

impl Record for Counted {
    fn record(&self, decision: WorthRecording<'_>) {
        let counter = match Outcome::of(&decision) {
            Outcome::Refused => &self.refused,
            Outcome::Reported => &self.reported,
            Outcome::BreakGlass => &self.break_glass,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.next.record(decision);
    }
}
