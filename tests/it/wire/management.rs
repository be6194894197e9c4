//! Answers of the management API, except for the records of jobs and the events, which have files of their own.

use esker_tests::{TestApp, TestTable, Transcript, wait_for};
use reqwest::Method;
use serde_json::{Value, json};

use super::{MANAGED, TABLE, set, two_files};
use crate::jobs::wait_for_hand_over;
use crate::rest_contract::view;

const WAREHOUSE: &str = "/api/v1/warehouses/default";

#[tokio::test(flavor = "multi_thread")]
async fn warehouses_and_kinds_of_jobs() {
    let app = TestApp::start().await;
    let mut log = Transcript::of(&app);
    log.get("/api/v1/warehouses").await;
    log.get("/api/v1/job-kinds").await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn probes() {
    let app = TestApp::start().await;
    let mut log = Transcript::of(&app);
    log.send_anonymously(Method::GET, "/healthz", None).await;
    log.send_anonymously(Method::GET, "/readyz", None).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn health() {
    let app = TestApp::start().await;
    app.table().await;
    let table = TestTable::simple(&app);
    for i in 0..12 {
        table.append_ids(i..i + 1).await;
    }
    let mut log = Transcript::of(&app);
    log.get(&format!("{MANAGED}/health")).await;
    log.get("/api/v1/tables?warehouse=default").await;
    // There is one point each hour.
    let history = app.ok(Method::GET, &format!("{MANAGED}/history"), None).await;
    log.note(&format!("GET {MANAGED}/history"), history.as_array().and_then(|points| points.last()).expect("a point"));
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cant_be_read() {
    let app = TestApp::start().await;
    let created = app.table().await;
    let file = created["metadata-location"].as_str().expect("a location")[7..].to_owned();
    let app = TestApp::restart({
        let dir = app.stop().await;
        std::fs::write(file, "{").expect("damaged");
        dir
    })
    .await;
    let mut log = Transcript::of(&app);
    log.get(&format!("{MANAGED}/health")).await;
    log.get("/api/v1/tables").await;
    log.get(TABLE).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_and_recommendations() {
    let app = TestApp::start_with(|config| config.maintenance.autopilot_seconds = 1).await;
    TestTable::six_files(&app).await;
    let mut log = Transcript::of(&app);
    log.get(&format!("{WAREHOUSE}/recommendations?kind=compact&limit=1")).await;
    // A policy with a mistake starts no job, so the answer does not depend on what the autopilot did before.
    set(&app, json!({"esker.autopilot": "true", "esker.expire.schedule": "0 3 * * *", "esker.payback": "soon"})).await;
    wait_for("the autopilot did not see the mistake", async || {
        let policy = app.ok(Method::GET, &format!("{MANAGED}/policy"), None).await;
        policy["decision"].to_string().contains("payback").then_some(())
    })
    .await;
    log.get(&format!("{MANAGED}/policy")).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantine_and_explanations() {
    let app = TestApp::start().await;
    let table = TestTable::six_files(&app).await;
    let file = super::oldest_data_file(&app, &table).await;
    let metadata = table.metadata().await;
    let list = metadata.current_snapshot().expect("a snapshot").manifest_list.clone().expect("a list");
    let mut log = Transcript::of(&app);
    log.get(&format!("{WAREHOUSE}/explain?path={file}")).await;
    log.get(&format!("{WAREHOUSE}/explain?path={list}")).await;
    log.get(&format!("{WAREHOUSE}/explain?path={}/data/missing.parquet", metadata.location)).await;
    app.job("compact", json!({"courtesy-seconds": 0})).await;
    app.job("expire", json!({"older-than-ms": esker_types::now_ms() + 60_000})).await;
    log.get(&format!("{WAREHOUSE}/explain?path={file}")).await;
    // Files of one kind differ only in their names, so one of each reason is shown.
    let mut quarantined = app.ok(Method::GET, &format!("{MANAGED}/quarantine"), None).await;
    let files = quarantined.as_array_mut().expect("files");
    let kind = |file: &Value| file["path"].as_str().expect("a path").rsplit('.').next().expect("an end").to_owned();
    files.sort_by_key(|file| (file["reason"].to_string(), kind(file)));
    files.dedup_by_key(|file| (file["reason"].to_string(), kind(file)));
    log.note(&format!("GET {MANAGED}/quarantine"), &quarantined);
    log.post("/api/v1/quarantine/sweep", json!({})).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn lifecycle() {
    let app = TestApp::start().await;
    two_files(&app).await;
    app.ok(Method::POST, "/v1/default/namespaces/n/views", Some(view("v"))).await;
    let mut log = Transcript::of(&app);
    for what in ["/namespaces/n", "/namespaces/n/tables/t", "/namespaces/n/views/v"] {
        log.put(&format!("{WAREHOUSE}{what}/protection"), json!({"protected": true})).await;
        app.ok(Method::PUT, &format!("{WAREHOUSE}{what}/protection"), Some(json!({"protected": false}))).await;
    }
    log.post(&format!("{MANAGED}/refs"), json!({"action": "create-branch", "name": "audit"})).await;
    log.post(&format!("{MANAGED}/refs"), json!({"action": "create-tag", "name": "v1"})).await;
    log.get(&format!("{MANAGED}/refs")).await;
    let location = app.ok(Method::GET, TABLE, None).await["metadata-location"].clone();
    app.ok(Method::DELETE, TABLE, None).await;
    let dropped = log.get(&format!("{WAREHOUSE}/dropped")).await;
    let id = dropped[0]["table-id"].as_str().expect("an id");
    log.post(&format!("{WAREHOUSE}/dropped/{id}/undrop"), json!({"as": {"namespace": ["n"], "name": "u"}})).await;
    app.ok(Method::POST, "/v1/default/namespaces/n/tables/u/unregister", None).await;
    let register = json!({"name": "t", "metadata-location": location});
    app.ok(Method::POST, "/v1/default/namespaces/n/register", Some(register)).await;
    log.post(&format!("{MANAGED}/claim"), json!({})).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_and_reports() {
    let app = TestApp::start().await;
    two_files(&app).await;
    app.sql("SELECT count(*) FROM n.t").await.expect("counted");
    app.sql("SELECT missing FROM n.t").await.expect_err("no such column");
    let report = json!({"report-type": "scan-report", "table-name": "n.t", "snapshot-id": 1, "schema-id": 0,
        "filter": true, "projected-field-ids": [1], "projected-field-names": ["id"],
        "metrics": {"result-data-files": {"unit": "count", "value": 2}}});
    app.ok(Method::POST, &format!("{TABLE}/metrics"), Some(report)).await;
    let mut log = Transcript::of(&app);
    let mut queries = app.ok(Method::GET, "/api/v1/queries?limit=2", None).await;
    for query in queries.as_array_mut().expect("a list") {
        // On a database that servers share, each begins at a number of its own.
        assert!(query["id"].is_u64(), "{query}");
        query["id"] = "[number]".into();
    }
    log.note("the newest queries", &queries);
    log.delete("/api/v1/queries/999999").await;
    log.get(&format!("{MANAGED}/reports?limit=1")).await;
    insta::assert_snapshot!(log.text());
}

/// The protocol of workers of other engines.
#[tokio::test(flavor = "multi_thread")]
async fn external_jobs() {
    let app = TestApp::start().await;
    TestTable::six_files(&app).await;
    set(&app, json!({"esker.compact.spark-over": "1B"})).await;
    let mut log = Transcript::of(&app);
    let claim = json!({"engine": "spark", "worker": "w", "lease-seconds": 60});
    log.post("/api/v1/jobs/claim", claim.clone()).await;
    let accepted = log.post(&format!("{MANAGED}/compact"), json!({"where": "id < 1000"})).await;
    let path = format!("/api/v1/jobs/{}", accepted["job-id"].as_str().expect("an id"));
    wait_for_hand_over(&app, &accepted["job-id"]).await;
    log.post("/api/v1/jobs/claim", claim).await;
    log.post(&format!("{path}/renew"), json!({"worker": "w", "lease-seconds": 60, "done": 1, "total": 2})).await;
    log.post(&format!("{path}/renew"), json!({"worker": "other"})).await;
    let outcome = json!({"rewritten_data_files_count": 6, "added_data_files_count": 1, "rewritten_bytes_count": 7});
    log.post(&format!("{path}/finish"), json!({"worker": "w", "state": "succeeded", "outcome": outcome})).await;
    log.get(&path).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals() {
    let app = TestApp::start_with(|c| c.server.max_body_bytes = 1000).await;
    two_files(&app).await;
    let mut log = Transcript::of(&app);
    log.send_anonymously(Method::GET, "/api/v1/tables", None).await;
    log.get("/api/v1/tables?warehouse=missing").await;
    log.get("/api/v1/jobs/missing").await;
    log.post(&format!("{MANAGED}/defragment"), json!({})).await;
    log.post(&format!("{MANAGED}/compact"), json!({"hope": 1})).await;
    log.post(&format!("{MANAGED}/compact"), json!({"where": "x".repeat(2000)})).await;
    log.post("/api/v1/jobs/claim", json!({"engine": "flink", "worker": "w"})).await;
    set(&app, json!({"esker.freeze": "true"})).await;
    log.post(&format!("{MANAGED}/compact"), json!({})).await;
    // The body of the answer to a request that was too large repeats nothing of it.
    insta::assert_snapshot!(log.text().replace(&"x".repeat(2000), "[2000 times x]"));
}
