//! A store that asks for fewer requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use esker_storage::{Location, Storage, StorageOptions};
use esker_tests::TestApp;
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers `busy` requests with 503 SlowDown, then with the object.
async fn slow_store(busy: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let slow = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>";
            let (status, body) = match count.fetch_add(1, Ordering::SeqCst) < busy {
                true => ("503 Slow Down", slow),
                false => ("200 OK", "hello"),
            };
            let headers = "last-modified: Wed, 21 Oct 2026 07:28:00 GMT\r\netag: \"x\"\r\nconnection: close";
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n\r\n{body}", body.len());
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (endpoint, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_down_is_obeyed_and_counted_and_the_read_succeeds() {
    let (endpoint, asked) = slow_store(3).await;
    let options = [("endpoint", endpoint.as_str()), ("region", "r"), ("access_key_id", "k"), ("secret_access_key", "s")];
    let storage = Storage::open(StorageOptions {
        roots: vec![Location::parse("s3://lake/x").expect("valid")],
        cloud: options.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        ..StorageOptions::default()
    })
    .expect("a storage");
    assert_eq!(storage.read("s3://lake/x/y").await.expect("read"), "hello");
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    let count = |status: &str| storage.requests().get(&("GET".to_owned(), status.to_owned())).copied();
    assert_eq!((count("503"), count("200")), (Some(3), Some(1)));
}

/// Answers everything with one status.
async fn store_that_says(status: &'static str, code: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    endpoint
}

/// A first start says which of the three it is, and is not ready until it is mended.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_a_wrong_key_and_a_store_that_is_away_are_told_apart_by_readyz() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    for (endpoint, what) in [
        (store_that_says("404 Not Found", "NoSuchBucket").await, "no such bucket"),
        (store_that_says("403 Forbidden", "InvalidAccessKeyId").await, "privileges"),
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
        for other in ["no such bucket", "privileges", "no answer"].iter().filter(|other| **other != what) {
            assert!(!text.contains(other), "{what}: {text}");
        }
        assert_eq!(app.send(Method::GET, "/healthz", None).await.0, 200, "the process itself is well");
    }
}
