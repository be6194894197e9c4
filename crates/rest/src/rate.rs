//! The limits on requests: on those that show a secret to be checked by the address of the client, on all others by the principal.
//!
//! A log-in at an identity provider makes this server send requests there, so its requests count too.
//!
//! Each address may send as many requests a second, and as many at once. Start reading at [`RateLimiter::admit`]. What each principal
//! may send is counted by [`PrincipalLimits`](esker_auth::PrincipalLimits).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use esker_auth::{LimitExceeded, PrincipalPermit};
use esker_types::{ErrorCode, Principal};

use crate::guard::Peer;
use crate::iceberg::oauth_error;
use crate::{ApiError, App};

/// The time in which an address gets its whole allowance again.
const WINDOW: Duration = Duration::from_secs(1);

/// The number of addresses whose requests are counted at one time. Beyond it, further addresses wait.
const MAX_ADDRESSES: usize = 16_384;

/// The limit by address.
///
/// For each address it keeps the time at which its requests so far would have ended, if each took its share of a second.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    per_second: u32,
    busy_until: Mutex<HashMap<IpAddr, Instant>>,
}

impl RateLimiter {
    /// Makes the limit. With 0, everything is admitted.
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second, busy_until: Mutex::default() }
    }

    /// Counts a request at the time `now`. Returns `false` if its address has sent too many.
    pub(crate) fn admit(&self, address: IpAddr, now: Instant) -> bool {
        let Some(share) = WINDOW.checked_div(self.per_second) else { return true };
        let mut all = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_ADDRESSES {
            all.retain(|_, until| *until > now);
        }
        let address = counted(address);
        if all.len() >= MAX_ADDRESSES && !all.contains_key(&address) {
            return false;
        }
        let until = all.entry(address).or_insert(now);
        let begin = (*until).max(now);
        let admitted = begin.duration_since(now) + share <= WINDOW;
        if admitted {
            *until = begin + share;
        }
        admitted
    }
}

/// Refuses a request that shows a secret, if its address has sent too many of them in the last second.
pub(crate) async fn limit_unauthenticated(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let counts = *request.method() == Method::POST || request.uri().path().starts_with("/login/");
    if !counts || app.inner.unauthenticated.admit(peer.address, Instant::now()) {
        return next.run(request).await;
    }
    let what = "too many requests for tokens and log-ins from this address; wait a second (limits.unauthenticated_per_second)";
    if !request.uri().path().starts_with("/v1/") {
        return ApiError::new(ErrorCode::TooBusy, what).into_response();
    }
    oauth_error(429, "temporarily_unavailable", what)
}

/// The permission of a request that is at work. It ends with its last clone.
///
/// A request has a clone among its extensions, for what goes on after the answer, such as planning a scan.
#[derive(Debug, Clone)]
pub(crate) struct AtWork {
    _permit: Arc<Option<PrincipalPermit>>,
}

impl AtWork {
    /// Makes the permission of what [`admit_principal`] returned.
    pub(crate) fn new(permit: Option<PrincipalPermit>) -> Self {
        Self { _permit: Arc::new(permit) }
    }
}

/// Admits a request of a principal. Metrics are always answered, so that a server that refuses much can be watched.
///
/// # Errors
///
/// Returns the errors of [`PrincipalLimits::admit_request`](esker_auth::PrincipalLimits::admit_request).
pub(crate) fn admit_principal(
    app: &App,
    principal: &Principal,
    request: &Request,
) -> Result<Option<PrincipalPermit>, LimitExceeded> {
    if ["/metrics", "/metrics/tables"].contains(&request.uri().path()) {
        return Ok(None);
    }
    app.inner.options.principal_limits.admit_request(principal, Instant::now()).map(Some)
}

/// Returns the address that is counted: of IPv6 its network of 64 bits, because one host has all addresses of it.
fn counted(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use esker_auth::{PrincipalLimitOptions, PrincipalLimits};

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_its_allowance_each_second_and_does_not_take_that_of_others() {
        let limiter = RateLimiter::new(10);
        let start = Instant::now();
        let admitted = |address: &str, after_ms: u64| limiter.admit(ip(address), start + Duration::from_millis(after_ms));
        assert_eq!((0..30).filter(|_| admitted("192.0.2.1", 0)).count(), 10);
        assert!(admitted("192.0.2.2", 0), "another address");
        assert!(!admitted("192.0.2.1", 99) && admitted("192.0.2.1", 100) && !admitted("192.0.2.1", 100));
        assert_eq!((0..30).filter(|_| admitted("192.0.2.1", 60_000)).count(), 10, "a pause saves up no more than a second");
    }

    #[test]
    fn addresses_of_one_host_count_as_one() {
        let limiter = RateLimiter::new(1);
        let now = Instant::now();
        assert!(limiter.admit(ip("2001:db8::1"), now));
        assert!(!limiter.admit(ip("2001:db8::2"), now));
        assert!(limiter.admit(ip("2001:db8:0:1::1"), now));
    }

    #[test]
    fn many_addresses_take_no_more_than_their_memory() {
        let limiter = RateLimiter::new(1);
        let now = Instant::now();
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let most = u32::try_from(MAX_ADDRESSES).expect("few");
        assert!((0..most).all(|n| limiter.admit(address(n), now)));
        assert!(!limiter.admit(address(most), now));
        assert!(limiter.admit(address(most), now + WINDOW), "those that wait no longer are forgotten");
        assert_eq!(limiter.busy_until.lock().expect("nobody panics").len(), 1);
    }

    #[test]
    fn what_goes_on_after_the_answer_counts_as_its_request() {
        let limits = PrincipalLimits::new(PrincipalLimitOptions { concurrent_requests: 1, ..PrincipalLimitOptions::default() });
        let (principal, now) = (Principal::Token("a".to_owned()), Instant::now());
        let request = AtWork::new(Some(limits.admit_request(&principal, now).expect("the first")));
        let planning = request.clone();
        drop(request);
        assert!(limits.admit_request(&principal, now).is_err(), "it is still planning");
        drop(planning);
        assert!(limits.admit_request(&principal, now).is_ok());
    }

    #[test]
    fn no_limit_admits_everything() {
        let limiter = RateLimiter::new(0);
        let now = Instant::now();
        assert!((0..1000).all(|_| limiter.admit(ip("192.0.2.1"), now)));
    }
}
