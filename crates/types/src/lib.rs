//! Identifiers, principals and the one error-code enum that every protocol maps from. No I/O.

mod age;
mod error;
mod ident;
mod panics;
mod principal;
mod quoted;
mod saturating_sum;

pub use age::parse_age;
pub use error::{Carried, Coded, ErrorCode, causes, code_of_io};
pub use ident::{IdentError, JobId, NamespaceName, TableId, TableName};
pub use panics::{Panicked, caught, caught_now};
pub use principal::Principal;
pub use quoted::{BadQuotes, dotted, in_quotes, listed, split_names, unquoted};
pub use saturating_sum::total;

use serde::{Deserialize, Deserializer};

/// Milliseconds since the Unix epoch, as Iceberg metadata counts time.
pub type Millis = i64;

/// The present time in milliseconds since the Unix epoch.
pub fn now_ms() -> Millis {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| Millis::try_from(d.as_millis()).unwrap_or(Millis::MAX))
}

/// Reads null as what is left out, as the reference implementation does (`JsonNode.hasNonNull`).
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}
