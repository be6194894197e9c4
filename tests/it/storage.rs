//! Stores that throttle, that are unreachable for a while, or that do not come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use esker_storage::{Location, Storage, StorageOptions};
use esker_tests::{Faults, TestApp, TestTable};
use esker_types::{Coded, ErrorCode};
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Starts a store that answers each request by its number, with a status and a body; `None` closes the connection.
///
/// Returns its URL and the number of requests so far.
async fn store(answer: impl Fn(usize) -> Option<(&'static str, String)> + Send + 'static) -> (String, Arc<AtomicUsize>) {
    store_on(TcpListener::bind("127.0.0.1:0").await.expect("a port"), answer)
}

/// Starts a store as [`store`] does, on a port that is open already.
fn store_on(
    listener: TcpListener,
    answer: impl Fn(usize) -> Option<(&'static str, String)> + Send + 'static,
) -> (String, Arc<AtomicUsize>) {
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let Some((status, body)) = answer(count.fetch_add(1, Ordering::SeqCst)) else { continue };
            let headers = "last-modified: Wed, 21 Oct 2026 07:28:00 GMT\r\netag: \"x\"\r\nconnection: close";
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n\r\n{body}", body.len());
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (endpoint, asked)
}

fn error_of(code: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>")
}

/// Starts a store that answers `busy` requests with 503 SlowDown, and later ones with the object.
async fn slow_store(busy: usize) -> (String, Arc<AtomicUsize>) {
    store(move |n| Some(if n < busy { ("503 Slow Down", error_of("SlowDown")) } else { ("200 OK", "hello".to_owned()) })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_down_is_obeyed_and_counted_and_the_read_succeeds() {
    let (endpoint, asked) = slow_store(3).await;
    let storage = storage_at(&endpoint);
    assert_eq!(storage.read("s3://lake/x/y").await.expect("read"), "hello");
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    let count = |status: &str| storage.requests().get(&("GET".to_owned(), status.to_owned())).copied();
    assert_eq!((count("503"), count("200")), (Some(3), Some(1)));
}

/// Starts a store that answers every request with one status. Returns its URL.
async fn store_that_says(status: &'static str, code: &'static str) -> String {
    store(move |_| Some((status, error_of(code)))).await.0
}

/// `/readyz` names which of the three it is. A server that starts while its store is away is ready when the store is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_a_wrong_key_and_a_store_that_is_away_are_told_apart_by_readyz() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    for (endpoint, what) in [
        (store_that_says("404 Not Found", "NoSuchBucket").await, "no such bucket"),
        (store_that_says("403 Forbidden", "InvalidAccessKeyId").await, "denies access"),
        (closed, "no answer"),
    ] {
        let app = TestApp::start_with(|config| {
            let warehouse = config.warehouses.entry("default".to_owned()).or_default();
            warehouse.location = Some("s3://lake/w".to_owned());
            let options = [("endpoint", endpoint.as_str()), ("region", "r"), ("access_key_id", "k"), ("secret_access_key", "s")];
            warehouse.storage = options.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        })
        .await;
        let (status, body) = app.send(Method::GET, "/readyz", None).await;
        let text = body.to_string();
        assert_eq!(status, 503, "{text}");
        assert!(text.contains(what) && text.contains("warehouse default") && text.contains("s3://lake/w"), "{what}: {text}");
        for other in ["no such bucket", "denies access", "no answer"].iter().filter(|other| **other != what) {
            assert!(!text.contains(other), "{what}: {text}");
        }
        assert_eq!(app.send(Method::GET, "/healthz", None).await.0, 200, "the process itself is well");
        if what != "no answer" {
            continue;
        }
        assert!(text.contains(&endpoint) && text.contains("refused"), "the endpoint that does not answer, and why: {text}");
        let listener = TcpListener::bind(&endpoint["http://".len()..]).await.expect("the port is still free");
        store_on(listener, |_| Some(("200 OK", "<ListBucketResult></ListBucketResult>".to_owned())));
        // The server asks its store once a second at most.
        let back = async {
            while app.send(Method::GET, "/readyz", None).await.0 != 200 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), back).await.expect("the store is back");
    }
}

/// Starts a store that closes `lost` connections without an answer, and answers later ones with the object.
async fn store_away(lost: usize) -> (String, Arc<AtomicUsize>) {
    store(move |n| (n >= lost).then(|| ("200 OK", "hello".to_owned()))).await
}

fn storage_at(endpoint: &str) -> Storage {
    let options = [("endpoint", endpoint), ("region", "r"), ("access_key_id", "k"), ("secret_access_key", "s")];
    Storage::open(StorageOptions {
        roots: vec![Location::parse("s3://lake/x").expect("valid")],
        cloud: options.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        ..StorageOptions::default()
    })
    .expect("a storage")
}

/// Retries are limited by time, not by number, because ten retries take only seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_for_more_than_ten_tries_is_waited_for() {
    let (endpoint, asked) = store_away(13).await;
    assert_eq!(storage_at(&endpoint).read("s3://lake/x/y").await.expect("read"), "hello");
    assert!(asked.load(Ordering::SeqCst) > 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_refuses_for_good_is_told_from_what_passes() {
    for (status, code) in [
        ("400 Bad Request", ErrorCode::Internal),
        ("403 Forbidden", ErrorCode::Forbidden),
        ("404 Not Found", ErrorCode::DataMissing),
    ] {
        let (endpoint, _) = store(move |_| Some((status, String::new()))).await;
        let error = storage_at(&endpoint).read("s3://lake/x/y").await.expect_err(status);
        assert_eq!((error.code(), error.code().is_transient()), (code, false), "{error}");
        assert!(error.to_string().contains("s3://lake/x/y"), "{error}");
    }
}

/// An unreachable store is 503, except for a commit: nothing was done, but clients take a 503 for an unknown outcome.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_come_back_is_503_and_429_on_a_commit() {
    let faults = Faults::local();
    let app = TestApp::start_on(Arc::new(faults.clone()), |_| {}).await;
    let writer = TestTable::six_files(&app).await;
    let prepared = writer.prepare_append(100..105).await;
    faults.set_unreachable(true);
    let table = "/v1/default/namespaces/n/tables/t";
    let (code, kind, message) = app.refused(Method::GET, table, None).await;
    assert_eq!((code, kind.as_str()), (503, "ServiceUnavailableException"), "{message}");
    assert!(message.contains("file:///") && message.contains("away or overloaded"), "{message}");
    let (status, headers, body) = app.send_raw(Method::POST, table, &[], Some(prepared.body().clone())).await;
    assert_eq!((status.as_u16(), headers.contains_key("retry-after")), (429, true), "{body}");
    assert!(body.contains("TooManyRequestsException"), "{body}");
    let sql = app.sql("SELECT count(*) FROM n.t WHERE id > 3").await.expect_err("it is away");
    assert!(sql.contains("away or overloaded"), "{sql}");
    faults.set_unreachable(false);
    writer.commit(&prepared).await;
    assert_eq!(writer.ids().await.expect("ids").len(), 65);
}
