//! The error type of policies.
//!
//! In the configuration a [`PolicyError`] stops the start of the server. In a property it stops the autopilot on the table.

use esker_types::{Coded, ErrorCode};

/// A mistake in a policy: an unknown key, or a value or pattern that can't be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No policy key has this name.
    #[error("{origin}: {key} is not a policy key{}", .near.map(|near| format!("; is {near} meant?")).unwrap_or_default())]
    Unknown {
        /// The place of the key, as [`Origin`](crate::Origin) prints it.
        origin: String,
        /// The unknown key, without the prefix `esker.`.
        key: String,
        /// The policy key with the most similar name, if one differs in at most two letters.
        near: Option<&'static str>,
    },
    /// The value of a key can't be parsed.
    #[error("{origin}: {key} = {value:?}: {reason}")]
    Value {
        /// The place of the value, as [`Origin`](crate::Origin) prints it.
        origin: String,
        /// The policy key, without the prefix `esker.`.
        key: String,
        /// The value as it was set.
        value: String,
        /// The reason why the value is not valid.
        reason: String,
    },
    /// A pattern of namespaces in the configuration is not a glob pattern.
    #[error("warehouses.{warehouse}.namespaces.{pattern:?}: {reason}")]
    Pattern {
        /// The name of the warehouse.
        warehouse: String,
        /// The pattern as it was set.
        pattern: String,
        /// The message of the glob parser.
        reason: String,
    },
}

impl Coded for PolicyError {
    fn code(&self) -> ErrorCode {
        ErrorCode::BadRequest
    }
}
