//! Counts the HTTP requests to a cloud store, and slows all of them down when the store asks for it.
//!
//! [`PacedConnector`] makes the HTTP client of one bucket. The store's client sends every try through it, so each is counted and
//! paced. An answer that asks to try again becomes a transport error ([`HttpError`]), which
//! [`StorageError::new`](crate::StorageError::new) recognises by its type. The error that the store's client makes of a status has
//! no type of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

/// The first pause after a store answered that it gets too many requests.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause, also if the store asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The number of requests by method and HTTP status. The status is `error` for requests without an answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestCounts(Arc<Mutex<BTreeMap<(String, String), u64>>>);

impl RequestCounts {
    /// Counts one request.
    fn count(&self, method: &str, status: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((method.to_owned(), status.to_owned())).or_default() += 1;
    }

    /// Returns a copy of the counts since the start.
    pub(crate) fn get(&self) -> BTreeMap<(String, String), u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The time before which no request to a bucket may be sent.
///
/// A store that answers 503 SlowDown or 429 wants *fewer* requests, not the same ones again from every task. So all requests to the
/// bucket share one pause. It doubles with every such answer and halves with every other one. The store's client retries on top of
/// that, with its own exponential back-off.
#[derive(Debug, Default)]
struct Pace {
    /// The present pause. Zero while the store does not complain.
    pause: Duration,
    /// The end of the present pause.
    not_before: Option<Instant>,
}

impl Pace {
    /// Doubles the pause, or takes the one that the store asks for if that is longer. Begins the pause at `now`.
    fn slow_down(&mut self, now: Instant, retry_after: Option<Duration>) {
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE).max(retry_after.unwrap_or_default().min(LONGEST_PAUSE));
        self.not_before = Some(now + self.pause);
    }

    /// Halves the pause. Ends it when it is shorter than half of [`FIRST_PAUSE`].
    fn speed_up(&mut self) {
        self.pause /= 2;
        if self.pause < FIRST_PAUSE / 2 {
            *self = Self::default();
        }
    }

    /// Returns the time that a request has to wait from `now`.
    fn wait(&self, now: Instant) -> Duration {
        self.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }
}

/// Makes the HTTP client of one bucket, which counts and paces its requests.
#[derive(Debug)]
pub(crate) struct PacedConnector {
    requests: RequestCounts,
    pace: Arc<Mutex<Pace>>,
}

impl PacedConnector {
    /// Makes a connector with a pace of its own. Its requests are added to `requests`.
    pub(crate) fn new(requests: RequestCounts) -> Self {
        Self { requests, pace: Arc::default() }
    }
}

impl HttpConnector for PacedConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(PacedClient { inner, requests: self.requests.clone(), pace: self.pace.clone() }))
    }
}

/// An HTTP client that waits for the pace of its bucket before each request, and counts each answer.
#[derive(Debug)]
struct PacedClient {
    inner: HttpClient,
    requests: RequestCounts,
    pace: Arc<Mutex<Pace>>,
}

impl PacedClient {
    /// Reads or changes the pace under its lock.
    fn pace<T>(&self, change: impl FnOnce(&mut Pace) -> T) -> T {
        change(&mut self.pace.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl HttpService for PacedClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let wait = self.pace(|p| p.wait(Instant::now()));
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let method = request.method().to_string();
        let response = match self.inner.execute(request).await {
            Ok(response) => response,
            Err(error) => {
                self.requests.count(&method, "error");
                return Err(error);
            }
        };
        let status = response.status().as_u16();
        self.requests.count(&method, response.status().as_str());
        if matches!(status, 429 | 503) {
            let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
            self.pace(|p| p.slow_down(Instant::now(), retry_after.map(Duration::from_secs)));
        } else {
            self.pace(Pace::speed_up);
        }
        if matches!(status, 408 | 429 | 500..) {
            let body = response.into_body().bytes().await.unwrap_or_default();
            let body_start = String::from_utf8_lossy(&body).chars().take(MAX_BODY_CHARS).collect();
            return Err(HttpError::new(HttpErrorKind::Request, RetryableAnswer { status, says: body_start }));
        }
        Ok(response)
    }
}

/// The number of characters of an answer's body that an error repeats.
const MAX_BODY_CHARS: usize = 500;

/// An answer with a status that asks to try again: 408, 429 or 500 and above.
///
/// It is passed on inside an [`HttpError`]. The store's client retries that error as it retries such a status, and keeps it among
/// the causes of its own error.
#[derive(Debug, thiserror::Error)]
#[error("the store answered {status}: {says}")]
struct RetryableAnswer {
    status: u16,
    says: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_while_the_store_complains_and_vanishes_when_it_stops() {
        let now = Instant::now();
        let mut pace = Pace::default();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            pace.slow_down(now, None);
            pauses.push(pace.wait(now).as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        for _ in 0..8 {
            pace.speed_up();
        }
        assert_eq!(pace.wait(now), Duration::ZERO);
    }

    #[test]
    fn a_wanted_pause_is_honoured_up_to_the_longest() {
        let now = Instant::now();
        let mut pace = Pace::default();
        pace.slow_down(now, Some(Duration::from_secs(3)));
        assert_eq!(pace.wait(now), Duration::from_secs(3));
        pace.slow_down(now, Some(Duration::from_secs(3600)));
        assert_eq!(pace.wait(now), LONGEST_PAUSE);
    }
}
