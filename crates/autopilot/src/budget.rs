//! Budgets: limits on the bytes, processor seconds and requests that jobs may take in 24 hours.
//!
//! The jobs of the autopilot and of schedules count. A budget belongs to the layer that sets it, and all tables of a warehouse
//! that take their value from there share it. So costs are summed by the origin of the budget, for each warehouse on its own.

use std::collections::BTreeMap;

use esker_maintenance::Cost;

use crate::{Origin, Policy};

/// The costs of the last 24 hours, by the origin and the key of the budget.
pub(crate) type Accounts = BTreeMap<(Origin, &'static str), Cost>;

/// The policy keys of budgets, in the order of the limits in [`exhausted`].
const BUDGETS: [&str; 3] = ["budget.bytes", "budget.cpu-seconds", "budget.requests"];

/// Adds the cost of a table's jobs to the accounts of the table's budgets.
pub(crate) fn charge(accounts: &mut Accounts, policy: &Policy, spent: Cost) {
    for key in BUDGETS {
        accounts.entry((policy.origin(key), key)).or_default().add(spent);
    }
}

/// Describes the first budget of a table that is spent, or returns `None` if each has something left.
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
