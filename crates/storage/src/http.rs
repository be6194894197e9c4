//! Counts the HTTP requests to a cloud store, and slows all of them down when the store asks for it.
//!
//! [`PacedConnector`] makes the HTTP client of one bucket. The store's client sends every try through it, so each is counted and
//! paced. The error that the store's client makes of a status has no type of its own, if it asks to try again or refuses a listing
//! or a deletion. Such an answer becomes a transport error ([`HttpError`]) around a [`StoreAnswer`], which
//! [`StorageError::new`](crate::StorageError::new) recognises by its type.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use esker_types::{ErrorCode, error_chain};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

/// The first pause after a store answered that it gets too many requests.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause, also if the store asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The number of requests by method and HTTP status, and the last failure. The status is `error` for requests without an answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestCounts(Arc<Mutex<Requests>>);

/// What [`RequestCounts`] shares.
#[derive(Debug, Default)]
struct Requests {
    /// The number of requests by method and status.
    counts: BTreeMap<(String, String), u64>,
    /// The endpoint and the failure of the last request, if that one failed so that the store's client tries again.
    last_failure: Option<String>,
}

impl RequestCounts {
    /// Counts one request. `failure` is its failure, if the store's client tries it again.
    fn count(&self, method: &str, status: &str, failure: Option<String>) {
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.counts.entry((method.to_owned(), status.to_owned())).or_default() += 1;
        requests.last_failure = failure;
    }

    /// Returns a copy of the counts since the start.
    pub(crate) fn get(&self) -> BTreeMap<(String, String), u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }

    /// Returns the endpoint and the failure of the last request, if it failed so that the store's client tries again.
    pub(crate) fn last_failure(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last_failure.clone()
    }
}

/// Returns scheme, host and port of a request, and nothing else of its URL: the rest may have a secret.
fn endpoint_of(request: &HttpRequest) -> String {
    let uri = request.uri();
    let port = uri.port_u16().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{}{port}", uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default())
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
        let (method, kind, endpoint) = (request.method().to_string(), RequestKind::of(&request), endpoint_of(&request));
        let response = match self.inner.execute(request).await {
            Ok(response) => response,
            Err(error) => {
                let cause = error_chain(&error).last().map(ToString::to_string);
                self.requests.count(&method, "error", cause.map(|cause| format!("{endpoint}: {cause}")));
                return Err(error);
            }
        };
        let status = response.status();
        let again = is_tried_again(status.as_u16()).then(|| format!("{endpoint} answered {status}"));
        self.requests.count(&method, status.as_str(), again);
        let (response, code) = match kind {
            RequestKind::BulkDelete | RequestKind::Delete => with_error_code(response).await?,
            RequestKind::Other if status.as_u16() == 404 => with_error_code(response).await?,
            RequestKind::List | RequestKind::Other => (response, None),
        };
        let status = kind.status(response.status().as_u16(), code.as_deref());
        if matches!(status, 429 | 503) {
            let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
            self.pace(|p| p.slow_down(Instant::now(), retry_after.map(Duration::from_secs)));
        } else {
            self.pace(Pace::speed_up);
        }
        // The store's client tries a request of the first kind again, and none of the second.
        let error_kind = match status {
            _ if is_tried_again(status) => HttpErrorKind::Request,
            _ if kind.hides_refusal(status, code.as_deref()) => HttpErrorKind::Unknown,
            _ => return Ok(response),
        };
        let body = response.into_body().bytes().await.unwrap_or_default();
        let body_start = String::from_utf8_lossy(&body).chars().take(MAX_BODY_CHARS).collect();
        Err(HttpError::new(error_kind, StoreAnswer { status, says: body_start }))
    }
}

/// Checks for a status that asks to try the request again.
const fn is_tried_again(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..)
}

/// The kind of a request, as far as the store's client makes errors without a type of its refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestKind {
    /// Lists keys.
    List,
    /// Deletes keys, of which the answer's body gives the outcome of each. Esker deletes one key with such a request.
    BulkDelete,
    /// Deletes the key in the path.
    Delete,
    /// Any other request.
    Other,
}

impl RequestKind {
    /// Returns the kind of a request, by its method and the parameters that the protocols of S3, Google and Azure prescribe.
    fn of(request: &HttpRequest) -> Self {
        let has = |wanted: &str| request.uri().query().unwrap_or_default().split('&').any(|parameter| parameter == wanted);
        match request.method().as_str() {
            "GET" if has("list-type=2") || has("comp=list") => Self::List,
            "POST" if has("delete") || has("comp=batch") => Self::BulkDelete,
            "DELETE" => Self::Delete,
            _ => Self::Other,
        }
    }

    /// Returns the status of the request. That of a deletion in bulk is the status of its only key, if the key was refused.
    fn status(self, answered: u16, code: Option<&str>) -> u16 {
        let of_key = |code: &str| -> Option<u16> {
            match code {
                "AccessDenied" => Some(403),
                "InternalError" => Some(500),
                "SlowDown" | "ServiceUnavailable" => Some(503),
                // The store's client knows itself that a key is missing.
                "404" => None,
                status => status.parse().ok(),
            }
        };
        let is_bulk = self == Self::BulkDelete && (200..300).contains(&answered);
        code.filter(|_| is_bulk).and_then(of_key).unwrap_or(answered)
    }

    /// Checks that a status is a refusal of which the store's client would make an error without a type, or of another type: it
    /// takes a missing bucket for a missing key.
    fn hides_refusal(self, status: u16, code: Option<&str>) -> bool {
        match self {
            Self::List | Self::BulkDelete => matches!(status, 401 | 403 | 404),
            Self::Delete | Self::Other => status == 404 && matches!(code, Some("NoSuchBucket" | "ContainerNotFound")),
        }
    }
}

/// Reads the error code in the body of an answer to a deletion, or of one that something is missing. Returns it with the answer,
/// whose body can be read again.
async fn with_error_code(response: HttpResponse) -> Result<(HttpResponse, Option<String>), HttpError> {
    let (head, body) = response.into_parts();
    let body = body.bytes().await?;
    let code = error_code(&String::from_utf8_lossy(&body)).map(str::to_owned);
    Ok((HttpResponse::from_parts(head, body.into()), code))
}

/// Returns the first error code in the body of an answer to a deletion: the text of S3's and Google's element `Code`, or the status
/// in a part of Azure's batch.
fn error_code(body: &str) -> Option<&str> {
    if body.starts_with("--") {
        return body.split_once("HTTP/1.1 ")?.1.get(..3);
    }
    let (_, error) = body.split_once("<Error>")?;
    let (_, code) = error.split_once("<Code>")?;
    Some(code.split_once("</Code>")?.0)
}

/// The number of characters of an answer's body that an error repeats.
const MAX_BODY_CHARS: usize = 500;

/// An answer with a status that asks to try again (408, 429 or 500 and above), or that refuses a listing or a deletion.
///
/// It is passed on inside an [`HttpError`], which the store's client keeps among the causes of its own error.
#[derive(Debug, thiserror::Error)]
#[error("the store answered {status}: {says}")]
pub(crate) struct StoreAnswer {
    status: u16,
    says: String,
}

impl StoreAnswer {
    /// Returns the code for what the answer means. `DataMissing` stands for a missing bucket.
    pub(crate) const fn code(&self) -> ErrorCode {
        match self.status {
            401 | 403 => ErrorCode::Forbidden,
            404 => ErrorCode::DataMissing,
            _ => ErrorCode::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use esker_types::Coded;
    use futures::TryStreamExt;
    use object_store::aws::AmazonS3Builder;
    use object_store::azure::MicrosoftAzureBuilder;
    use object_store::gcp::GoogleCloudStorageBuilder;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt, RetryConfig};

    use super::*;
    use crate::StorageError;

    /// A store that gives every request the same answer: a status and a body.
    #[derive(Debug, Clone, Copy)]
    struct Says(u16, &'static str);

    #[async_trait]
    impl HttpService for Says {
        async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
            let mut response = HttpResponse::new(self.1.to_owned().into());
            *response.status_mut() = self.0.try_into().expect("a status");
            Ok(response)
        }
    }

    impl HttpConnector for Says {
        fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
            let inner = HttpClient::new(*self);
            Ok(HttpClient::new(PacedClient { inner, requests: RequestCounts::default(), pace: Arc::default() }))
        }
    }

    fn never() -> RetryConfig {
        RetryConfig { max_retries: 0, ..RetryConfig::default() }
    }

    fn s3(says: Says) -> Box<dyn ObjectStore> {
        let builder = AmazonS3Builder::new().with_bucket_name("lake").with_region("r").with_endpoint("http://127.0.0.1:9");
        let builder = builder.with_allow_http(true).with_access_key_id("k").with_secret_access_key("s");
        Box::new(builder.with_retry(never()).with_http_connector(says).build().expect("a store"))
    }

    fn google(says: Says) -> Box<dyn ObjectStore> {
        let place = r#""gcs_base_url":"http://127.0.0.1:9","disable_oauth":true"#;
        let key = format!(r#"{{{place},"client_email":"","private_key":"","private_key_id":""}}"#);
        let builder = GoogleCloudStorageBuilder::new().with_bucket_name("lake").with_service_account_key(key);
        Box::new(builder.with_retry(never()).with_http_connector(says).build().expect("a store"))
    }

    fn azure(says: Says) -> Box<dyn ObjectStore> {
        let builder = MicrosoftAzureBuilder::new().with_account("a").with_container_name("lake").with_access_key("a2V5");
        Box::new(builder.with_retry(never()).with_http_connector(says).build().expect("a store"))
    }

    #[tokio::test]
    async fn a_refused_listing_is_sorted_by_its_status() {
        for (status, code) in [
            (400, ErrorCode::Internal),
            (401, ErrorCode::Forbidden),
            (403, ErrorCode::Forbidden),
            (404, ErrorCode::DataMissing),
            (503, ErrorCode::Unavailable),
        ] {
            for store in [s3, google, azure] {
                let store = store(Says(status, "<Error><Code>X</Code></Error>"));
                let listed = store.list(None).try_collect::<Vec<_>>().await.expect_err("refused");
                let directories = store.list_with_delimiter(None).await.expect_err("refused");
                for error in [listed, directories] {
                    let error = StorageError::new("s3://lake", error);
                    assert_eq!(error.code(), code, "{store} {status}: {error}");
                    assert_eq!(matches!(error, StorageError::NoBucket { .. }), status == 404, "{error}");
                }
            }
        }
    }

    /// The answers are those of the API references of S3 (DeleteObjects) and Azure (Blob Batch).
    #[tokio::test]
    async fn a_refused_deletion_of_one_key_is_sorted_by_the_answer_s_body() {
        let denied = "<DeleteResult><Error><Key>x</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>";
        let slow = "<DeleteResult><Error><Key>x</Key><Code>SlowDown</Code><Message>wait</Message></Error></DeleteResult>";
        let other = "<DeleteResult><Error><Key>x</Key><Code>InvalidArgument</Code><Message>no</Message></Error></DeleteResult>";
        let part = "--batch_1\r\nContent-Type: application/http\r\nContent-ID: 0\r\n\r\nHTTP/1.1 403 no\r\n\r\n\r\n--batch_1--";
        for (store, code) in [
            (s3(Says(200, denied)), ErrorCode::Forbidden),
            (s3(Says(200, slow)), ErrorCode::Unavailable),
            (s3(Says(200, other)), ErrorCode::Internal),
            (s3(Says(403, "")), ErrorCode::Forbidden),
            (s3(Says(404, "<Error><Code>NoSuchBucket</Code></Error>")), ErrorCode::DataMissing),
            (google(Says(403, "")), ErrorCode::Forbidden),
            (google(Says(404, "<Error><Code>NoSuchBucket</Code></Error>")), ErrorCode::DataMissing),
            (azure(Says(202, part)), ErrorCode::Forbidden),
        ] {
            let error = StorageError::new("s3://lake/x", store.delete(&Path::from("x")).await.expect_err("refused"));
            assert_eq!(error.code(), code, "{store}: {error}");
            // A missing file counts as removed, but none does in a missing bucket.
            assert!(!matches!(error, StorageError::NotFound { .. }), "{error}");
        }
        let removed = s3(Says(200, "<DeleteResult><Deleted><Key>x</Key></Deleted></DeleteResult>"));
        removed.delete(&Path::from("x")).await.expect("removed");
        let gone = google(Says(404, "<Error><Code>NoSuchKey</Code></Error>"));
        let error = gone.delete(&Path::from("x")).await.expect_err("gone");
        assert!(matches!(StorageError::new("gs://lake/x", error), StorageError::NotFound { .. }));
    }

    /// The codes are those of the API references of S3 (GetObject, PutObject) and Azure (Get Blob).
    #[tokio::test]
    async fn a_missing_bucket_is_told_from_a_missing_file_in_reads_and_writes() {
        for (says, is_bucket) in [
            ("<Error><Code>NoSuchBucket</Code></Error>", true),
            ("<Error><Code>ContainerNotFound</Code></Error>", true),
            ("<Error><Code>NoSuchKey</Code></Error>", false),
            ("<Error><Code>BlobNotFound</Code></Error>", false),
            ("", false),
        ] {
            for store in [s3, google, azure] {
                let (store, path) = (store(Says(404, says)), Path::from("x"));
                let read = store.get(&path).await.expect_err("nothing is there");
                let written = store.put(&path, "x".into()).await.expect_err("refused");
                for error in [read, written].map(|error| StorageError::new("s3://lake/x", error)) {
                    assert_eq!(matches!(error, StorageError::NoBucket { .. }), is_bucket, "{store} {says}: {error:?}");
                    assert_eq!(error.code(), ErrorCode::DataMissing, "{store} {says}: {error:?}");
                }
            }
        }
    }

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
