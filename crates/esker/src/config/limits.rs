//! The section `[limits]`: limits on requests before their callers are known, and by principal; times for slow clients.

use std::time::Duration;

use esker_auth::PrincipalLimitOptions;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::check::require;
use crate::Result;
use crate::server::ClientLimits;

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
    /// Seconds that a client gets to send the headers of a request, and to answer when the server asks whether it is still there.
    /// Must not be 0.
    #[schema(minimum = 1)]
    pub header_seconds: u64,
    /// Seconds that a client gets to send the body of a request, and for each pause in reading an answer. Must not be 0.
    #[schema(minimum = 1)]
    pub body_seconds: u64,
    /// Seconds without a request after which a connection is closed; 0: never.
    pub idle_seconds: u64,
    /// Requests of one principal that a server answers in a second, on average; more are answered 429. 0: any number. Metrics and
    /// probes do not count.
    pub requests_per_second: u32,
    /// Requests that a principal may send at once after a pause; 0: as many as in a second.
    pub request_burst: u32,
    /// Requests of one principal that are at work on a server at a time, with the scans that they go on to plan; more are answered
    /// 429. 0: any number.
    pub concurrent_requests: u32,
    /// Statements of one principal that are planned or run at Flight SQL of a server at a time; more are refused with
    /// RESOURCE_EXHAUSTED. 0: any number.
    pub concurrent_statements: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            unauthenticated_per_second: 10,
            header_bytes: 32 << 10,
            header_seconds: 30,
            body_seconds: 300,
            idle_seconds: 3600,
            requests_per_second: 0,
            request_burst: 0,
            concurrent_requests: 0,
            concurrent_statements: 0,
        }
    }
}

impl LimitsConfig {
    pub(super) fn check(&self) -> Result<()> {
        // Tokens and cookies of legal clients would not fit into less.
        require(self.header_bytes >= 4096, || "limits.header_bytes must be at least 4096".to_owned())?;
        require(self.header_seconds != 0, || "limits.header_seconds must not be 0".to_owned())?;
        require(self.body_seconds != 0, || "limits.body_seconds must not be 0".to_owned())?;
        let rated = self.request_burst == 0 || self.requests_per_second != 0;
        require(rated, || "limits.request_burst needs limits.requests_per_second".to_owned())
    }

    /// Returns the limits of each principal.
    pub(crate) fn principal_options(&self) -> PrincipalLimitOptions {
        PrincipalLimitOptions {
            requests_per_second: self.requests_per_second,
            request_burst: self.request_burst,
            concurrent_requests: self.concurrent_requests,
            concurrent_statements: self.concurrent_statements,
        }
    }

    /// Returns what a client gets.
    pub(crate) fn client_limits(&self) -> ClientLimits {
        ClientLimits {
            header: Duration::from_secs(self.header_seconds),
            body: Duration::from_secs(self.body_seconds),
            idle: (self.idle_seconds != 0).then(|| Duration::from_secs(self.idle_seconds)),
            // Twice the limit, so that many short headers fit too. Behind it, the guard counts as over HTTP/1.1.
            header_list_bytes: u32::try_from(self.header_bytes.saturating_mul(2)).unwrap_or(u32::MAX),
        }
    }
}
