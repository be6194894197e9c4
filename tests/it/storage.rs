//! A store that asks for fewer requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use esker_storage::{Location, Storage, StorageOptions};
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
