//! Esker treats tables by itself: policies say what is wanted, facts say what pays, budgets say how much may be spent.
//!
//! Policy and decision are pure: from what is known to what is to be done and why. [`Pilot`] does the asking and the entering
//! of jobs.

mod autopilot;
mod budget;
mod cost_model;
mod decide;
mod error;
pub mod policy;

pub use autopilot::{Autopilot, AutopilotOptions, NAME, Recommendation, frozen_by, policy_of, recommendations};
pub use decide::{Considered, Decision, DecisionKind};
pub use error::PolicyError;
pub use policy::{Layer, Layers, Origin, Policy, Setting};

/// The result of reading a policy.
pub type Result<T> = std::result::Result<T, PolicyError>;
