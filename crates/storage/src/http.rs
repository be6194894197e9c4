//! Counts the HTTP requests to a cloud store, and slows down when the store asks for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

/// The first pause after a store said that it is asked too often.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Requests by method and status; `error` for those without an answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests(Arc<Mutex<BTreeMap<(String, String), u64>>>);

impl Requests {
    fn count(&self, method: &str, status: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((method.to_owned(), status.to_owned())).or_default() += 1;
    }

    pub(crate) fn get(&self) -> BTreeMap<(String, String), u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// When the next request to a bucket may go out.
///
/// A store that answers 503 SlowDown or 429 wants *fewer* requests, not the same ones again from every task; so all requests
/// to the bucket share one pause, which doubles with every such answer and halves with every good one. The retry itself is
/// the client's, with its own exponential back-off.
#[derive(Debug, Default)]
struct Pace {
    pause: Duration,
    not_before: Option<Instant>,
}

impl Pace {
    fn slow_down(&mut self, now: Instant, wanted: Option<Duration>) {
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE).max(wanted.unwrap_or_default().min(LONGEST_PAUSE));
        self.not_before = Some(now + self.pause);
    }

    fn speed_up(&mut self) {
        self.pause /= 2;
        if self.pause < FIRST_PAUSE / 2 {
            *self = Self::default();
        }
    }

    fn wait(&self, now: Instant) -> Duration {
        self.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }
}

/// Makes the HTTP client of one bucket.
#[derive(Debug)]
pub(crate) struct Paced {
    requests: Requests,
    pace: Arc<Mutex<Pace>>,
}

impl Paced {
    pub(crate) fn new(requests: Requests) -> Self {
        Self { requests, pace: Arc::default() }
    }
}

impl HttpConnector for Paced {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(PacedClient { inner, requests: self.requests.clone(), pace: self.pace.clone() }))
    }
}

#[derive(Debug)]
struct PacedClient {
    inner: HttpClient,
    requests: Requests,
    pace: Arc<Mutex<Pace>>,
}

impl PacedClient {
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
            let wanted = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
            self.pace(|p| p.slow_down(Instant::now(), wanted.map(Duration::from_secs)));
        } else {
            self.pace(Pace::speed_up);
        }
        if matches!(status, 408 | 429 | 500..) {
            let body = response.into_body().bytes().await.unwrap_or_default();
            let says = String::from_utf8_lossy(&body).chars().take(SAID).collect();
            return Err(HttpError::new(HttpErrorKind::Request, ComeAgain { status, says }));
        }
        Ok(response)
    }
}

/// Characters of a store's answer that an error repeats.
const SAID: usize = 500;

/// An answer that asks to come again. Handed on as an error of transport, which is retried as such an answer is, and which keeps its type:
/// the client's error for a status keeps none.
#[derive(Debug, thiserror::Error)]
#[error("it answered {status}: {says}")]
struct ComeAgain {
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
