//! Clients that cost little, so that a benchmark on one machine measures the server: `benches/catalog.py` runs them.
//!
//! `light commits WAREHOUSE TABLE WRITERS SECONDS` creates the table `light.TABLE` with `commit.merge = append` on the server
//! `LIGHT_URL`, and commits appends to it. Each writer loads the table, writes a manifest and a manifest list to the store
//! `LIGHT_ENDPOINT`, and commits, in a loop. The data files do not exist. Prints one JSON object.
//!
//! `light static FILE` prints its address, and answers each request with the file's bytes, by the HTTP stack and the allocator of
//! the server.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::serve::ListenerExt;
use esker_format::TableMetadata;
use esker_storage::{Location, Storage, StorageOptions};
use esker_tests::{PreparedCommit, schema_json};
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The number of parts of the time for which rates are printed.
const QUARTERS: usize = 4;

/// Returns an environment variable.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// The table, and the server that it is on, with the connections of one thread.
struct Target {
    http: reqwest::Client,
    url: String,
    token: String,
    options: StorageOptions,
    storage: Storage,
    /// The path of the table.
    path: String,
}

/// The commits of one writer.
#[derive(Default)]
struct Commits {
    /// The end of each commit that succeeded, since the start of all.
    ends: Vec<Duration>,
    /// The durations of these commits' requests.
    taken: Vec<Duration>,
    refused: usize,
}

impl Target {
    /// Creates the table.
    async fn create(warehouse: &str, table: &str) -> Self {
        let (url, token) = (variable("LIGHT_URL"), variable("LIGHT_TOKEN"));
        let namespaces = format!("/v1/{warehouse}/namespaces");
        let path = format!("{namespaces}/light/tables/{table}");
        let (http, options) = (reqwest::Client::new(), StorageOptions::default());
        let mut this = Self { http, url, token, options, storage: Storage::local(), path };
        // The namespace is there if another run made it.
        this.send(Method::POST, &namespaces, Some(&json!({"namespace": ["light"]}))).await;
        let properties = json!({"esker.commit.merge": "append"});
        let body = json!({"name": table, "schema": schema_json(), "properties": properties});
        let (status, text) = this.send(Method::POST, &format!("{namespaces}/light/tables"), Some(&body)).await;
        assert!(status.is_success(), "{status} {}", String::from_utf8_lossy(&text));
        let root = Location::parse(&metadata_of(&text).location).expect("a location").root();
        let option = |name: &str| (name.to_owned(), variable(&format!("LIGHT_{}", name.to_uppercase())));
        let cloud: BTreeMap<_, _> = ["endpoint", "access_key_id", "secret_access_key", "region"].map(option).into();
        this.options = StorageOptions { roots: vec![root], cloud, ..StorageOptions::default() };
        this
    }

    /// Returns the same with connections of its own, because these belong to the runtime that opens them.
    fn with_own_connections(&self) -> Self {
        let storage = Storage::open(self.options.clone()).expect("storage");
        let (url, token, path) = (self.url.clone(), self.token.clone(), self.path.clone());
        Self { http: reqwest::Client::new(), url, token, options: self.options.clone(), storage, path }
    }

    /// Commits from `writers` clients at once, on one thread for each core.
    fn write_on_threads(&self, writers: usize, began: Instant, time: Duration) -> Vec<Commits> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(writers);
        let write = |first: usize| {
            let own = self.with_own_connections();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(join_all((first..writers).step_by(threads).map(|_| own.write(began, time))))
        };
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || write(first))).collect();
            running.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
        })
    }

    /// Sends a request. Returns the status and the body.
    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Bytes) {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("an answer");
        (answer.status(), answer.bytes().await.expect("a body"))
    }

    /// Commits appends until the time is over.
    async fn write(&self, began: Instant, time: Duration) -> Commits {
        let mut commits = Commits::default();
        let load = format!("{}?snapshots=refs", self.path);
        while began.elapsed() < time {
            let (status, text) = self.send(Method::GET, &load, None).await;
            assert!(status.is_success(), "{status} {}", String::from_utf8_lossy(&text));
            let commit = PreparedCommit::light_append(&self.storage, &metadata_of(&text)).await;
            let sent = Instant::now();
            let (status, text) = self.send(Method::POST, &self.path, Some(commit.body())).await;
            match status {
                StatusCode::OK => {
                    commits.taken.push(sent.elapsed());
                    commits.ends.push(began.elapsed());
                }
                StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS => commits.refused += 1,
                _ => panic!("{status} {}", String::from_utf8_lossy(&text)),
            }
        }
        commits
    }
}

/// Returns the metadata in an answer.
fn metadata_of(text: &[u8]) -> TableMetadata {
    let mut answer: Value = serde_json::from_slice(text).expect("JSON");
    serde_json::from_value(answer["metadata"].take()).expect("metadata")
}

/// Commits from `writers` clients at once. Prints what they reached.
async fn commits(warehouse: &str, table: &str, writers: usize, time: Duration) {
    let target = Target::create(warehouse, table).await;
    let began = Instant::now();
    let all = target.write_on_threads(writers, began, time);
    let mut taken: Vec<Duration> = all.iter().flat_map(|one| one.taken.iter().copied()).collect();
    taken.sort();
    assert!(!taken.is_empty(), "no commit succeeded");
    let ms = |part: usize| taken[taken.len() * part / 100].as_secs_f64() * 1000.0;
    let part = time / u32::try_from(QUARTERS).expect("a small number");
    let mut quarters = [0_usize; QUARTERS];
    for end in all.iter().flat_map(|one| &one.ends) {
        let at = (end.as_secs_f64() / part.as_secs_f64()) as usize;
        quarters[at.min(QUARTERS - 1)] += 1;
    }
    let rate = |number: usize, of: Duration| number as f64 / of.as_secs_f64();
    println!(
        "{}",
        json!({
            "writers": writers, "a_second": rate(taken.len(), began.elapsed()), "p50_ms": ms(50), "p99_ms": ms(99),
            "refused": all.iter().map(|one| one.refused).sum::<usize>(), "quarters": quarters.map(|number| rate(number, part)),
        })
    );
}

/// Answers each request with the bytes of a file.
async fn serve(file: &str) {
    let bytes = Bytes::from(std::fs::read(file).expect("a file"));
    let answer = move || std::future::ready(([(CONTENT_TYPE, "application/json")], bytes.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    // The server sets it too.
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("an option"));
    axum::serve(listener, Router::new().fallback(answer)).await.expect("served");
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["commits", warehouse, table, writers, seconds] => {
            let time = Duration::from_secs_f64(seconds.parse().expect("a number of seconds"));
            commits(warehouse, table, writers.parse().expect("a number of writers"), time).await;
        }
        ["static", file] => serve(file).await,
        _ => panic!("usage: light commits WAREHOUSE TABLE WRITERS SECONDS | light static FILE"),
    }
}
