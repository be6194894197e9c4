//! Measures commits to one table beside the expiry of very many files of another.
//!
//! `benches/expiry.py` runs it on PostgreSQL, and watches the database's write lock meanwhile. The argument is the number of files.
//! They do not exist: an expiry reads metadata only, and the files stay in quarantine. Prints one JSON object.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::time::{Duration, Instant};

use esker_tests::{TestApp, TestTable, schema_json};
use esker_types::now_ms;
use reqwest::Method;
use serde_json::{Value, json};

/// Number of snapshots that expire. Each has its part of the files.
const SNAPSHOTS: usize = 100;
/// Number of commits in a row without an expiry.
const IDLE_COMMITS: i64 = 400;

/// Appends to a table until `is_over` returns true.
///
/// Returns the latency of each commit in milliseconds. The time that it takes to write the file does not count.
async fn append(writer: &TestTable<'_>, mut is_over: impl AsyncFnMut(i64) -> bool) -> Value {
    let (mut latencies_ms, mut id, from_ms) = (Vec::new(), 0, now_ms());
    while !is_over(id).await {
        let prepared = writer.prepare_append(id..id + 1).await;
        let began = Instant::now();
        writer.commit(&prepared).await;
        latencies_ms.push(began.elapsed().as_secs_f64() * 1000.0);
        id += 1;
    }
    json!({"from_ms": from_ms, "to_ms": now_ms(), "latencies_ms": latencies_ms})
}

#[tokio::main]
async fn main() {
    let files: usize = std::env::args().nth(1).expect("the number of files").parse().expect("a number of files");
    let app = TestApp::start().await;
    app.table().await;
    let last = i64::try_from(SNAPSHOTS + 1).expect("a small number");
    TestTable::simple(&app).long_history(last, files / SNAPSHOTS).await;
    let tables = "/v1/default/namespaces/n/tables";
    for name in ["idle", "busy"] {
        app.ok(Method::POST, tables, Some(json!({"name": name, "schema": schema_json()}))).await;
    }
    let idle = append(&TestTable::simple_named(&app, "idle"), async |commits| commits == IDLE_COMMITS).await;

    let expire = "/api/v1/warehouses/default/namespaces/n/tables/t/expire";
    // The commits begin a little before the expiry, so that the first one is none of a cold connection.
    let writer = TestTable::simple_named(&app, "busy");
    append(&writer, async |commits| commits == 5).await;
    let options = json!({"older-than-ms": now_ms(), "retain-last": 1});
    let id = app.ok(Method::POST, expire, Some(options)).await["job-id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/jobs/{id}");
    let mut job = Value::Null;
    let mut looked = Instant::now();
    let busy = append(&writer, async |_| {
        if looked.elapsed() > Duration::from_millis(100) {
            job = app.ok(Method::GET, &path, None).await;
            looked = Instant::now();
        }
        job["finished_ms"].is_i64()
    })
    .await;
    assert_eq!(job["state"], "succeeded", "{job}");
    println!(
        "{}",
        json!({"idle": idle, "busy": busy, "outcome": job["outcome"], "started_ms": job["started_ms"], "finished_ms": job["finished_ms"]})
    );
    app.stop().await;
}
