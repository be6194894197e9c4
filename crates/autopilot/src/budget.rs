//! What jobs that began by themselves have cost, and whether anything is left to be spent.

use std::collections::BTreeMap;

use esker_maintenance::Cost;

use crate::{Origin, Policy};

/// What was spent of each budget: who says it, and which key it is.
pub(crate) type Accounts = BTreeMap<(Origin, &'static str), Cost>;

const BUDGETS: [&str; 3] = ["budget.bytes", "budget.cpu-seconds", "budget.requests"];

/// Puts what a table's jobs cost onto the accounts of its budgets.
pub(crate) fn charge(accounts: &mut Accounts, policy: &Policy, spent: Cost) {
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
            "budget.bytes" => (spent.bytes_read + spent.bytes_written) as f64,
            "budget.cpu-seconds" => spent.cpu_seconds,
            _ => spent.requests as f64,
        };
        (used >= limit as f64).then(|| format!("{key} of {origin} is spent: {used:.0} of {limit} in 24 hours"))
    })
}
