//! Records of jobs of each kind: the preview of a dry run, the plan, the outcome, the measurements, the log, and the undo.

use std::collections::HashSet;

use esker_tests::{PositionDeleteScope, Row, TestApp, TestTable, Transcript};
use serde_json::{Value, json};

use crate::jobs::wait_for_hand_over;
use crate::orphans::{old_file, second_scan};

/// Creates the table `lake.t` with four files in two partitions, and two deleted rows.
async fn deleted_from(app: &TestApp, version: u8) -> TestTable<'_> {
    let table = TestTable::create(app, "t", version, true, json!({})).await;
    for at in 0..4 {
        let rows: Vec<Row> = (at * 10..at * 10 + 10).map(|id| (id, format!("s{id}"), i32::from(at > 1), None)).collect();
        table.append(&rows).await;
    }
    table.delete_by_position(&HashSet::from([1]), PositionDeleteScope::File).await;
    table.upsert(&[(11, 0)], &[]).await;
    table
}

/// Previews a job and runs it. Records the preview, the job with its plan and outcome, and its log. Returns the job.
async fn run(log: &mut Transcript<'_>, table: &TestTable<'_>, kind: &str, options: Value) -> Value {
    log.post(&table.management_path(&format!("{kind}?dry-run=true")), options.clone()).await;
    let job = table.run_job(kind, options).await;
    let path = format!("/api/v1/jobs/{}", job["id"].as_str().expect("an id"));
    log.get(&path).await;
    log.get(&format!("{path}/log")).await;
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn compact() {
    let app = TestApp::start().await;
    let table = deleted_from(&app, 2).await;
    let mut log = Transcript::of(&app);
    // One partition keeps the lists of files in a certain order.
    let options =
        json!({"rewrite-all": true, "courtesy-seconds": 0, "max-concurrent-file-group-rewrites": 1, "partition": "p=1"});
    let job = run(&mut log, &table, "compact", options).await;
    log.post(&format!("/api/v1/warehouses/default/jobs/{}/undo", job["id"].as_str().expect("an id")), json!({})).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn compact_with_nothing_to_do() {
    let app = TestApp::start().await;
    let table = TestTable::create(&app, "t", 3, false, json!({})).await;
    let mut log = Transcript::of(&app);
    run(&mut log, &table, "compact", json!({"courtesy-seconds": 0})).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn expire() {
    let app = TestApp::start().await;
    let table = TestTable::create(&app, "t", 2, false, json!({})).await;
    table.append(&[(1, "a".to_owned(), 0, None)]).await;
    table.append(&[(2, "b".to_owned(), 0, None)]).await;
    let mut log = Transcript::of(&app);
    let options = json!({"older-than-ms": esker_types::now_ms() + 60_000});
    let job = run(&mut log, &table, "expire", options).await;
    log.post(&format!("/api/v1/warehouses/default/jobs/{}/undo", job["id"].as_str().expect("an id")), json!({})).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans() {
    let app = TestApp::start().await;
    let table = TestTable::create(&app, "t", 2, false, json!({})).await;
    table.append(&[(1, "a".to_owned(), 0, None)]).await;
    old_file(&table.metadata().await.location, "data/left-over.parquet", 9);
    let mut log = Transcript::of(&app);
    run(&mut log, &table, "orphans", json!({})).await;
    let job = second_scan(&app, "t").await;
    log.get(&format!("/api/v1/jobs/{}", job["id"].as_str().expect("an id"))).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests() {
    let app = TestApp::start().await;
    let table = deleted_from(&app, 3).await;
    let mut log = Transcript::of(&app);
    run(&mut log, &table, "manifests", json!({"rewrite-all": true})).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics() {
    let app = TestApp::start().await;
    let table = deleted_from(&app, 2).await;
    let mut log = Transcript::of(&app);
    run(&mut log, &table, "statistics", json!({})).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn erase() {
    let app = TestApp::start().await;
    let table = TestTable::create(&app, "t", 2, false, json!({})).await;
    let row = |id: i64, text: &str| (id, text.to_owned(), 0, None);
    table.append(&[row(1, "secret"), row(2, "b")]).await;
    table.delete_by_position(&HashSet::from([1]), PositionDeleteScope::File).await;
    let mut log = Transcript::of(&app);
    run(&mut log, &table, "erase", json!({"where": "s = 'secret'"})).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn check() {
    let app = TestApp::start().await;
    let table = TestTable::create(&app, "t", 2, false, json!({})).await;
    table.append(&[(1, "a".to_owned(), 0, None)]).await;
    table.append(&[(2, "b".to_owned(), 0, None)]).await;
    let lost = table.data_files().await[0].file_path.clone();
    std::fs::remove_file(&lost[7..]).expect("removed");
    let mut log = Transcript::of(&app);
    run(&mut log, &table, "check", json!({"files": true})).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_and_cancelled() {
    let app = TestApp::start().await;
    let table = TestTable::create(&app, "t", 2, false, json!({})).await;
    table.append(&[(1, "a".to_owned(), 0, None)]).await;
    let mut log = Transcript::of(&app);
    let failed = table.run_job("erase", json!({"where": "s = 'a'"})).await;
    let path = format!("/api/v1/jobs/{}", failed["id"].as_str().expect("an id"));
    log.get(&path).await;
    log.get(&format!("{path}/log")).await;
    // A job that Spark is to run waits for a worker, so it can be cancelled.
    let update = json!([{"action": "set-properties", "updates": {"esker.compact.spark-over": "1B"}}]);
    table.update(update).await;
    table.append(&[(2, "b".to_owned(), 0, None)]).await;
    let waiting = table.start_compaction(json!({"rewrite-all": true, "courtesy-seconds": 0})).await;
    wait_for_hand_over(&app, &json!(waiting)).await;
    log.post(&format!("/api/v1/jobs/{waiting}/cancel"), json!({})).await;
    log.get("/api/v1/jobs?state=cancelled&limit=1").await;
    insta::assert_snapshot!(log.text());
}
