use esker_types::{Coded, ErrorCode};

/// A policy that can't be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// There is no such key.
    #[error("{origin}: {key} is not a policy key{}", .near.map(|near| format!("; is {near} meant?")).unwrap_or_default())]
    Unknown {
        /// Where it is said.
        origin: String,
        /// What is said.
        key: String,
        /// The key that it looks like.
        near: Option<&'static str>,
    },
    /// The key's value makes no sense.
    #[error("{origin}: {key} = {value:?}: {reason}")]
    Value {
        /// Where it is said.
        origin: String,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// A pattern of namespaces makes no sense.
    #[error("warehouses.{warehouse}.namespaces.{pattern:?}: {reason}")]
    Pattern {
        /// The warehouse.
        warehouse: String,
        /// The pattern.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
}

impl Coded for PolicyError {
    fn code(&self) -> ErrorCode {
        ErrorCode::BadRequest
    }
}
