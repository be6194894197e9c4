//! [`PrincipalLimits`]: how many requests a principal may send in a second, and how much it may have at work at a time.
//!
//! Each server counts for itself. A request or statement that is refused was not begun, so its client may send it again. Start reading
//! at [`PrincipalLimits::admit_request`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use esker_types::{Coded, ErrorCode, Principal};

/// The number of principals that are counted at one time. Beyond it, further principals wait.
const MAX_PRINCIPALS: usize = 16_384;

/// The limits of each principal. 0 means that there is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct PrincipalLimitOptions {
    /// The number of requests in a second, on average.
    pub requests_per_second: u32,
    /// The number of requests at once after a pause; 0: as many as in a second.
    pub request_burst: u32,
    /// The number of requests at a time.
    pub concurrent_requests: u32,
    /// The number of statements at a time.
    pub concurrent_statements: u32,
}

/// A limit that a principal has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    /// The principal has sent too many requests.
    #[error("more than {0} requests a second; wait a second and send the request again (limits.requests_per_second)")]
    Rate(u32),
    /// The principal has too many requests at work.
    #[error("{0} requests of this caller are at work already; send this one again later (limits.concurrent_requests)")]
    Requests(u32),
    /// The principal has too many statements at work.
    #[error("{0} statements of this caller are at work already; send this one again later (limits.concurrent_statements)")]
    Statements(u32),
    /// Too many principals are counted.
    #[error("the server is counting the requests of too many callers; send this one again later")]
    Principals,
}

impl Coded for LimitExceeded {
    fn code(&self) -> ErrorCode {
        ErrorCode::TooBusy
    }
}

/// The numbers of refusals since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitRefusals {
    /// Requests beyond the number in a second.
    pub rate: u64,
    /// Requests beyond the number at a time.
    pub requests: u64,
    /// Statements beyond the number at a time.
    pub statements: u64,
}

/// The limits of principals on one server. Cheap to clone; the clones count together.
#[derive(Debug, Clone)]
pub struct PrincipalLimits {
    inner: Arc<Counters>,
}

#[derive(Debug)]
struct Counters {
    options: PrincipalLimitOptions,
    /// What each principal does, by its identity. Those that do nothing are forgotten.
    principals: Mutex<HashMap<String, Load>>,
    rate_refusals: AtomicU64,
    request_refusals: AtomicU64,
    statement_refusals: AtomicU64,
}

/// What a principal does.
#[derive(Debug, Default)]
struct Load {
    /// The time at which the requests so far would have ended, if each took its share of a second.
    busy_until: Option<Instant>,
    requests: u32,
    statements: u32,
}

impl Load {
    /// Checks that nothing would be lost if the load were forgotten at the time `now`.
    fn is_idle(&self, now: Instant) -> bool {
        self.requests == 0 && self.statements == 0 && self.busy_until.is_none_or(|until| until <= now)
    }
}

/// A thing that a principal has at work.
#[derive(Debug, Clone, Copy)]
enum Work {
    Request,
    Statement,
}

/// The permission for one request or statement, which ends when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct PrincipalPermit {
    /// The counters and the principal's identity; `None` if nothing is counted.
    held: Option<(Arc<Counters>, String, Work)>,
}

impl Drop for PrincipalPermit {
    fn drop(&mut self) {
        let Some((counters, identity, work)) = self.held.take() else { return };
        let mut principals = counters.principals();
        let Some(load) = principals.get_mut(&identity) else { return };
        match work {
            Work::Request => load.requests = load.requests.saturating_sub(1),
            Work::Statement => load.statements = load.statements.saturating_sub(1),
        }
        if load.is_idle(Instant::now()) {
            principals.remove(&identity);
        }
    }
}

impl PrincipalLimits {
    /// Makes the limits.
    pub fn new(options: PrincipalLimitOptions) -> Self {
        let counters = Counters {
            options,
            principals: Mutex::default(),
            rate_refusals: AtomicU64::new(0),
            request_refusals: AtomicU64::new(0),
            statement_refusals: AtomicU64::new(0),
        };
        Self { inner: Arc::new(counters) }
    }

    /// Admits a request at the time `now`. The permission counts for as long as the request is at work.
    ///
    /// # Errors
    ///
    /// Returns [`Rate`](LimitExceeded::Rate) or [`Requests`](LimitExceeded::Requests) if the principal has reached a limit, and
    /// [`Principals`](LimitExceeded::Principals) if too many principals are counted.
    pub fn admit_request(&self, principal: &Principal, now: Instant) -> Result<PrincipalPermit, LimitExceeded> {
        let PrincipalLimitOptions { requests_per_second, request_burst, concurrent_requests, .. } = self.inner.options;
        let admit = |load: &mut Load| {
            if concurrent_requests > 0 && load.requests >= concurrent_requests {
                return Err(LimitExceeded::Requests(concurrent_requests));
            }
            if let Some(share) = Duration::from_secs(1).checked_div(requests_per_second) {
                let burst = if request_burst == 0 { requests_per_second } else { request_burst };
                let begin = load.busy_until.map_or(now, |until| until.max(now));
                if begin.duration_since(now) + share > share.saturating_mul(burst) {
                    return Err(LimitExceeded::Rate(requests_per_second));
                }
                load.busy_until = Some(begin + share);
            }
            load.requests += 1;
            Ok(())
        };
        let is_limited = requests_per_second > 0 || concurrent_requests > 0;
        self.admit(principal, now, Work::Request, is_limited, admit)
    }

    /// Admits a statement. The permission counts until the statement has ended.
    ///
    /// # Errors
    ///
    /// Returns [`Statements`](LimitExceeded::Statements) if the principal has reached the limit, and
    /// [`Principals`](LimitExceeded::Principals) if too many principals are counted.
    pub fn admit_statement(&self, principal: &Principal) -> Result<PrincipalPermit, LimitExceeded> {
        let most = self.inner.options.concurrent_statements;
        let admit = |load: &mut Load| {
            if load.statements >= most {
                return Err(LimitExceeded::Statements(most));
            }
            load.statements += 1;
            Ok(())
        };
        self.admit(principal, Instant::now(), Work::Statement, most > 0, admit)
    }

    /// Returns the numbers of refusals since the start.
    pub fn refusals(&self) -> LimitRefusals {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counters { rate_refusals, request_refusals, statement_refusals, .. } = &*self.inner;
        LimitRefusals { rate: of(rate_refusals), requests: of(request_refusals), statements: of(statement_refusals) }
    }

    /// Lets `admit` decide on the load of a principal, and counts a refusal.
    fn admit(
        &self,
        principal: &Principal,
        now: Instant,
        work: Work,
        is_limited: bool,
        admit: impl FnOnce(&mut Load) -> Result<(), LimitExceeded>,
    ) -> Result<PrincipalPermit, LimitExceeded> {
        if !is_limited {
            return Ok(PrincipalPermit { held: None });
        }
        let identity = principal.identity();
        let admitted = self.inner.with_load(&identity, now, admit);
        if let Err(refused) = admitted {
            let count = match (refused, work) {
                (LimitExceeded::Rate(_), _) => &self.inner.rate_refusals,
                (_, Work::Request) => &self.inner.request_refusals,
                (_, Work::Statement) => &self.inner.statement_refusals,
            };
            count.fetch_add(1, Ordering::Relaxed);
            return Err(refused);
        }
        Ok(PrincipalPermit { held: Some((self.inner.clone(), identity, work)) })
    }
}

impl Counters {
    /// Locks the loads of the principals.
    fn principals(&self) -> MutexGuard<'_, HashMap<String, Load>> {
        self.principals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `admit` decide on the load of a principal, which is empty if the principal does nothing.
    fn with_load(
        &self,
        identity: &str,
        now: Instant,
        admit: impl FnOnce(&mut Load) -> Result<(), LimitExceeded>,
    ) -> Result<(), LimitExceeded> {
        let mut principals = self.principals();
        if let Some(load) = principals.get_mut(identity) {
            return admit(load);
        }
        if principals.len() >= MAX_PRINCIPALS {
            principals.retain(|_, load| !load.is_idle(now));
        }
        if principals.len() >= MAX_PRINCIPALS {
            return Err(LimitExceeded::Principals);
        }
        admit(principals.entry(identity.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> Principal {
        Principal::Token(name.to_owned())
    }

    fn limits(options: PrincipalLimitOptions) -> PrincipalLimits {
        PrincipalLimits::new(options)
    }

    #[test]
    fn a_principal_has_its_rate_after_a_burst_and_does_not_take_that_of_others() {
        let limits = limits(PrincipalLimitOptions { requests_per_second: 10, request_burst: 30, ..Default::default() });
        // Far ahead, so that no pause of the machine counts.
        let start = Instant::now() + Duration::from_secs(7200);
        let admitted =
            |name: &str, after_ms: u64| limits.admit_request(&client(name), start + Duration::from_millis(after_ms)).is_ok();
        assert_eq!((0..100).filter(|_| admitted("a", 0)).count(), 30);
        assert!(admitted("b", 0), "another principal");
        assert!(!admitted("a", 99) && admitted("a", 100) && !admitted("a", 100));
        assert_eq!((0..100).filter(|_| admitted("a", 3_600_000)).count(), 30, "a pause saves up no more than the burst");
        assert_eq!(limits.refusals(), LimitRefusals { rate: 70 + 2 + 70, requests: 0, statements: 0 });
    }

    #[test]
    fn what_is_at_work_is_counted_until_it_ends() {
        let options = PrincipalLimitOptions { concurrent_requests: 2, concurrent_statements: 1, ..Default::default() };
        let limits = limits(options);
        let (a, now) = (client("a"), Instant::now());
        let first = limits.admit_request(&a, now).expect("admitted");
        let second = limits.admit_request(&a, now).expect("admitted");
        assert_eq!(limits.admit_request(&a, now).expect_err("refused"), LimitExceeded::Requests(2));
        let statement = limits.admit_statement(&a).expect("counted apart");
        assert_eq!(limits.admit_statement(&a).expect_err("refused"), LimitExceeded::Statements(1));
        drop(limits.admit_request(&client("b"), now).expect("another principal"));
        drop(first);
        let third = limits.admit_request(&a, now).expect("admitted again");
        drop((second, third, statement));
        assert!(limits.inner.principals().is_empty(), "nothing is kept of those that do nothing");
        assert_eq!(limits.refusals(), LimitRefusals { rate: 0, requests: 1, statements: 1 });
    }

    #[test]
    fn a_client_called_as_a_user_is_has_limits_of_its_own() {
        let limits = limits(PrincipalLimitOptions { concurrent_requests: 1, ..Default::default() });
        let now = Instant::now();
        let user = Principal::User { issuer: "https://a".to_owned(), name: "b".to_owned() };
        let _first = limits.admit_request(&user, now).expect("admitted");
        let _second = limits.admit_request(&client("https://a/b"), now).expect("another principal");
        let _third = limits.admit_request(&Principal::Anonymous, now).expect("another principal");
    }

    #[test]
    fn many_principals_take_no_more_than_their_memory() {
        let limits = limits(PrincipalLimitOptions { requests_per_second: 1, ..Default::default() });
        // Far ahead, so that no pause of the machine counts.
        let now = Instant::now() + Duration::from_secs(7200);
        for n in 0..MAX_PRINCIPALS {
            drop(limits.admit_request(&client(&n.to_string()), now).expect("admitted"));
        }
        assert_eq!(limits.admit_request(&client("one more"), now).expect_err("refused"), LimitExceeded::Principals);
        let later = now + Duration::from_secs(2);
        drop(limits.admit_request(&client("one more"), later).expect("those that wait no longer are forgotten"));
        assert!(limits.inner.principals().len() <= 1);
    }

    #[test]
    fn no_limit_counts_nothing() {
        let limits = limits(PrincipalLimitOptions::default());
        let now = Instant::now();
        let permits: Vec<_> = (0..1000).map(|_| limits.admit_request(&client("a"), now)).collect();
        assert!(permits.iter().all(Result::is_ok) && limits.admit_statement(&client("a")).is_ok());
        assert!(limits.inner.principals().is_empty());
    }
}
