//! What jobs that began by themselves have cost, and whether anything is left to be spent.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Origin, Policy};

/// What jobs have cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Spent {
    /// Bytes read and written.
    pub(crate) bytes: f64,
    /// Processor seconds.
    pub(crate) cpu_seconds: f64,
    /// Requests to the store.
    pub(crate) requests: f64,
}

impl Spent {
    /// As a job's record tells it.
    pub(crate) fn of(measured: &Value) -> Self {
        let number = |key: &str| measured["cost"][key].as_f64().unwrap_or(0.0);
        Self {
            bytes: number("bytes_read") + number("bytes_written"),
            cpu_seconds: number("cpu_seconds"),
            requests: number("requests"),
        }
    }

    /// Counts something more.
    pub(crate) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.cpu_seconds += other.cpu_seconds;
        self.requests += other.requests;
    }
}

/// What was spent of each budget: who says it, and which key it is.
pub(crate) type Accounts = BTreeMap<(Origin, &'static str), Spent>;

const BUDGETS: [&str; 3] = ["budget.bytes", "budget.cpu-seconds", "budget.requests"];

/// Puts what a table's jobs cost onto the accounts of its budgets.
pub(crate) fn charge(accounts: &mut Accounts, policy: &Policy, spent: Spent) {
    for key in BUDGETS {
        accounts.entry((policy.origin(key), key)).or_default().add(spent);
    }
}

/// The budget that is used up, if one is: for people.
pub(crate) fn exhausted(accounts: &Accounts, policy: &Policy) -> Option<String> {
    let limits = [policy.budget_bytes, policy.budget_cpu_seconds, policy.budget_requests];
    BUDGETS.iter().zip(limits).find_map(|(key, limit)| {
        let (limit, origin) = (limit?, policy.origin(key));
        let spent = accounts.get(&(origin.clone(), *key)).copied().unwrap_or_default();
        let used = match *key {
            "budget.bytes" => spent.bytes,
            "budget.cpu-seconds" => spent.cpu_seconds,
            _ => spent.requests,
        };
        (used >= limit as f64).then(|| format!("{key} of {origin} is spent: {used:.0} of {limit} in 24 hours"))
    })
}
