//! Types that every crate shares: identifiers, principals, and the one error-code enum that every protocol maps from.
//!
//! The crate does no I/O, but for the check of files in `api/` that tests call. It depends on no other crate of the workspace.
//! Start reading at [`ErrorCode`].

mod age;
mod caller;
mod closest;
mod error;
mod ident;
mod job_kind;
mod panics;
mod principal;
mod quoted;
pub mod renamed;
mod saturating_sum;
pub mod schema;
mod text;

pub use age::parse_age;
pub use caller::{FORWARDED_HEADERS, is_from_loopback, is_passed_on};
pub use closest::closest;
pub use error::{Coded, CodedError, ErrorCode, code_of_io, error_chain, with_causes};
pub use ident::{IdentError, JobId, NamespaceName, TableId, TableName};
pub use job_kind::{JobKind, NoSuchKind};
pub use panics::{Panicked, catch_panic, catch_panic_sync};
pub use principal::Principal;
pub use quoted::{BadQuotes, quote_name, split_dotted, split_list, split_names, unquote};
pub use saturating_sum::saturating_total;
pub use text::{format_bytes, format_count, format_known_bytes, hex, is_or_are, without_path};

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A point in time in milliseconds since the Unix epoch, as Iceberg metadata counts it. [`DurationMillis`] are the differences.
pub type Millis = i64;

/// A duration in milliseconds, as the properties of Iceberg tables state it.
pub type DurationMillis = i64;

/// The length of a day, in milliseconds.
pub const DAY_MS: DurationMillis = 24 * 3600 * 1000;

/// Converts a duration to milliseconds. One that is too long becomes the longest.
pub fn to_millis(duration: Duration) -> DurationMillis {
    DurationMillis::try_from(duration.as_millis()).unwrap_or(DurationMillis::MAX)
}

/// Returns the present time in milliseconds since the Unix epoch, or 0 if the clock is before the epoch.
pub fn now_ms() -> Millis {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, to_millis)
}

/// Deserializes null as the default, like a field that is left out.
///
/// The reference implementation does the same (`JsonNode.hasNonNull`).
///
/// # Errors
///
/// Returns the deserializer's error if the value is neither null nor a `T`.
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}
