//! Measures loads of and commits to a table with very many snapshots.
//!
//! Loads are with all snapshots, with references only, and conditional. The limit is one parse, one print and one write of a
//! metadata file of that size. The arguments are numbers of snapshots:
//! `cargo run -p esker-benches --bin catalog -- 9000 50000`
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::time::{Duration, Instant};

use esker_format::TableMetadata;
use esker_tests::{TestApp, schema_json};
use reqwest::Method;
use serde_json::{Value, json};

const TABLE: &str = "/v1/default/namespaces/n/tables/big";
const ROUNDS: usize = 9;

fn snapshot(i: u64, location: &str) -> Value {
    json!({
        "snapshot-id": 1_000_000_000_000_000_000_u64 + i, "sequence-number": i, "timestamp-ms": 1_700_000_000_000_u64 + i * 1000,
        "manifest-list": format!("{location}/metadata/snap-{i}-1-8d1c5a5e-0000-4000-8000-000000000000.avro"), "schema-id": 0,
        "summary": {"operation": "append", "added-data-files": "3", "added-records": "1200", "added-files-size": "88123",
            "changed-partition-count": "1", "total-records": (i * 1200).to_string(), "total-files-size": (i * 88_123).to_string(),
            "total-data-files": (i * 3).to_string(), "total-delete-files": "0", "total-position-deletes": "0",
            "total-equality-deletes": "0", "engine-name": "flink", "engine-version": "2.1.1",
            "iceberg-version": "Apache Iceberg 1.11.0 (commit 6976e020b894f6a6777704df2b8c4458cb291ae9)"},
    })
}

/// Registers a table of `n` snapshots. Returns its metadata as JSON.
async fn big_table(app: &TestApp, n: u64) -> Value {
    app.ok(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": ["n"]}))).await;
    let create = json!({"name": "big", "schema": schema_json()});
    let mut metadata = app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await["metadata"].clone();
    let location = metadata["location"].as_str().expect("a location").to_owned();
    let snapshots: Vec<Value> = (1..=n).map(|i| snapshot(i, &location)).collect();
    let log = |s: &Value| json!({"snapshot-id": s["snapshot-id"], "timestamp-ms": s["timestamp-ms"]});
    metadata["snapshot-log"] = snapshots.iter().map(log).collect();
    let last = &snapshots[snapshots.len() - 1];
    metadata["refs"] = json!({"main": {"snapshot-id": last["snapshot-id"], "type": "branch"}});
    metadata["current-snapshot-id"] = last["snapshot-id"].clone();
    metadata["last-updated-ms"] = last["timestamp-ms"].clone();
    metadata["last-sequence-number"] = json!(n);
    metadata["snapshots"] = json!(snapshots);
    let path = format!("{location}/metadata/big.metadata.json");
    std::fs::write(&path["file://".len()..], metadata.to_string()).expect("written");
    let register = json!({"name": "big", "metadata-location": path, "overwrite": true});
    app.ok(Method::POST, "/v1/default/namespaces/n/register", Some(register)).await;
    metadata
}

/// Returns the median in milliseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

/// Runs `work` [`ROUNDS`] times. Returns the median duration in milliseconds.
async fn timed<T, F: Future<Output = T>>(mut work: impl FnMut(usize) -> F) -> f64 {
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let began = Instant::now();
        work(round).await;
        times.push(began.elapsed());
    }
    median(times)
}

#[tokio::main]
async fn main() {
    let sizes: Vec<u64> = std::env::args().skip(1).map(|a| a.parse().expect("a number of snapshots")).collect();
    for n in if sizes.is_empty() { vec![9_000, 50_000] } else { sizes } {
        let app = TestApp::start_with(|c| c.cache.bytes = 1 << 30).await;
        let metadata = big_table(&app, n).await;
        let text = metadata.to_string();
        let location = metadata["location"].as_str().expect("a location");
        let parse = timed(|_| async { drop(TableMetadata::from_json(text.as_bytes()).expect("valid")) }).await;
        let parsed = TableMetadata::from_json(text.as_bytes()).expect("valid");
        let print = timed(|_| async { drop(parsed.to_json().expect("printed")) }).await;
        let file = app.dir.path().join("probe");
        let write = timed(|_| async { std::fs::write(&file, &text).expect("written") }).await;

        let (_, headers, _) = app.send_raw(Method::GET, TABLE, &[], None).await;
        let tag = headers["etag"].to_str().expect("text").to_owned();
        let all = timed(|_| app.send_raw(Method::GET, TABLE, &[], None)).await;
        let path = format!("{TABLE}?snapshots=refs");
        let began = Instant::now();
        let (_, _, refs_body) = app.send_raw(Method::GET, &path, &[], None).await;
        let refs_first = began.elapsed().as_secs_f64() * 1000.0;
        let refs = timed(|_| app.send_raw(Method::GET, &path, &[], None)).await;
        let known = [("if-none-match", tag.as_str())];
        let unchanged = timed(|_| app.send_raw(Method::GET, TABLE, &known, None)).await;
        let commit = timed(|round| {
            let next = n + 1 + round as u64;
            let mut snapshot = snapshot(next, location);
            snapshot["parent-snapshot-id"] = json!(1_000_000_000_000_000_000_u64 + next - 1);
            snapshot["timestamp-ms"] = json!(esker_types::now_ms());
            let reference = json!({"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": snapshot["snapshot-id"]});
            let updates = json!([{"action": "add-snapshot", "snapshot": snapshot}, reference]);
            let body = json!({"requirements": [], "updates": updates});
            async { drop(app.ok_raw(Method::POST, TABLE, body).await) }
        })
        .await;
        println!("{n} snapshots, {:.1} MB of metadata; medians of {ROUNDS}, in ms", text.len() as f64 / 1e6);
        for (what, ms) in [
            ("limit: parse the file once", parse),
            ("limit: print the file once", print),
            ("limit: write the file once (no fsync)", write),
            ("load, all snapshots", all),
            ("load, references, first after a commit", refs_first),
            ("load, references", refs),
            ("load, unchanged (304)", unchanged),
            ("commit one snapshot", commit),
        ] {
            println!("  {what:<42} {ms:>9.2}");
        }
        println!("  {:<42} {:>9}", "bytes of the answer with references", refs_body.len());
        app.stop().await;
    }
}
