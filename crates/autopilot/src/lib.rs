//! The autopilot: the loop that decides which maintenance jobs pay, and enqueues them within a budget.
//!
//! A [`Policy`] holds the wishes for a table. The facts of the table and its use by engines give the gain and the cost of each
//! job, in seconds. A [`Decision`] names the jobs to enqueue, or the reason why there are none. Policies and decisions are pure;
//! only [`Autopilot`] reads the database and enqueues jobs.
//!
//! Start reading at [`Autopilot::pass`], then `decide::decide`.

mod autopilot;
mod budget;
mod cost_model;
mod decide;
mod error;
mod kinds;
pub mod policy;

pub use autopilot::{Autopilot, AutopilotOptions, PRINCIPAL, Recommendation, frozen_by, merges_of, policy_of, recommendations};
pub use decide::{ConsideredJob, Decision, Verdict};
pub use error::PolicyError;
pub use policy::{Layer, Layers, Origin, Policy, Setting};

/// The result of an operation on a policy.
pub type Result<T> = std::result::Result<T, PolicyError>;
