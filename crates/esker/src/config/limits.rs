//! The section `[limits]`: limits on requests before their callers are known.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::check::require;
use crate::Result;

/// The section `[limits]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Requests for tokens and log-ins that one address may send in a second; more are answered 429. 0: any number.
    ///
    /// Behind a proxy of `server.trusted_proxies`, the address is the client's. The addresses of an IPv6 network of 64 bits count as
    /// one.
    pub unauthenticated_per_second: u32,
    /// Maximum size of the request line and all headers of a request, in bytes. At least 4096.
    #[schema(minimum = 4096)]
    pub header_bytes: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { unauthenticated_per_second: 10, header_bytes: 32 << 10 }
    }
}

impl LimitsConfig {
    pub(super) fn check(&self) -> Result<()> {
        // Tokens and cookies of legal clients would not fit into less.
        require(self.header_bytes >= 4096, || "limits.header_bytes must be at least 4096".to_owned())
    }
}
