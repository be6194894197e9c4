//! Events of each kind that a test can bring about, as `GET /api/v1/events` returns them and as a webhook gets them.
//!
//! `namespace.recovered` and `table.recovered` need a lost database: `recovery.rs` has them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use esker::config::WebhookConfig;
use esker_tests::{TestApp, TestTable, Transcript};
use esker_types::{DAY_MS, now_ms};
use reqwest::Method;
use serde_json::{Value, json};

use super::{MANAGED, TABLE};
use crate::events::receiver;
use crate::rest_contract::view;

const WAREHOUSE: &str = "/api/v1/warehouses/default";
const NAMESPACE: &str = "/v1/default/namespaces/n";

/// The events that the documentation lists, without those of a recovery (`docs/stability.md`, "Events").
const KINDS: [&str; 28] = [
    "function.dropped",
    "function.stored",
    "job.cancelled",
    "job.failed",
    "job.started",
    "job.succeeded",
    "namespace.created",
    "namespace.dropped",
    "namespace.protected",
    "namespace.updated",
    "table.claimed",
    "table.created",
    "table.drop-ended",
    "table.dropped",
    "table.file-damaged",
    "table.file-mended",
    "table.protected",
    "table.registered",
    "table.renamed",
    "table.undropped",
    "table.unregistered",
    "table.updated",
    "view.created",
    "view.dropped",
    "view.protected",
    "view.registered",
    "view.renamed",
    "view.replaced",
];

/// Sends requests that must succeed, one after the other.
async fn all(app: &TestApp, requests: impl IntoIterator<Item = (Method, String, Value)>) {
    for (method, path, body) in requests {
        app.ok(method, &path, Some(body)).await;
    }
}

/// Changes namespaces, views and functions in each way.
async fn change_the_catalog(app: &TestApp) {
    let function = json!({"function-uuid": "9c2a5a5c-3d3e-4c0e-8f0a-0d7b5b1f3a11", "format-version": 1,
        "definitions": [{"definition-id": "1", "parameters": [], "return-type": "int"}]});
    let protected = json!({"protected": false});
    let rename = json!({"source": {"namespace": ["n"], "name": "v"}, "destination": {"namespace": ["n"], "name": "w"}});
    let (post, put, delete) = (Method::POST, Method::PUT, Method::DELETE);
    let location = app.ok(post.clone(), &format!("{NAMESPACE}/views"), Some(view("v"))).await["metadata-location"].clone();
    all(
        app,
        [
            (post.clone(), format!("{NAMESPACE}/properties"), json!({"updates": {"a": "b"}, "removals": []})),
            (put.clone(), format!("{WAREHOUSE}/namespaces/n/protection"), protected.clone()),
            (post.clone(), "/v1/default/namespaces".to_owned(), json!({"namespace": ["o"]})),
            (delete.clone(), "/v1/default/namespaces/o".to_owned(), json!({})),
            (
                post.clone(),
                format!("{NAMESPACE}/views/v"),
                json!({"updates": [{"action": "set-properties", "updates": {"a": "b"}}]}),
            ),
            (put.clone(), format!("{WAREHOUSE}/namespaces/n/views/v/protection"), protected),
            (post.clone(), "/v1/default/views/rename".to_owned(), rename),
            (delete.clone(), format!("{NAMESPACE}/views/w"), json!({})),
            (post, format!("{NAMESPACE}/register-view"), json!({"name": "v", "metadata-location": location})),
            (put, format!("{WAREHOUSE}/namespaces/n/functions/f"), function),
            (delete, format!("{WAREHOUSE}/namespaces/n/functions/f"), json!({})),
        ],
    )
    .await;
}

/// Drops, undrops, renames, unregisters, registers, claims and protects the table `n.t`.
async fn move_the_table(app: &TestApp) {
    app.ok(Method::DELETE, TABLE, None).await;
    let dropped = app.ok(Method::GET, &format!("{WAREHOUSE}/dropped"), None).await;
    let id = dropped[0]["table-id"].as_str().expect("an id");
    app.ok(Method::POST, &format!("{WAREHOUSE}/dropped/{id}/undrop"), Some(json!({}))).await;
    let rename = json!({"source": {"namespace": ["n"], "name": "t"}, "destination": {"namespace": ["n"], "name": "u"}});
    app.ok(Method::POST, "/v1/default/tables/rename", Some(rename)).await;
    let handed = app.ok(Method::POST, &format!("{NAMESPACE}/tables/u/unregister"), None).await;
    let register = json!({"name": "t", "metadata-location": handed["metadata-location"]});
    app.ok(Method::POST, &format!("{NAMESPACE}/register"), Some(register)).await;
    app.ok(Method::POST, &format!("{MANAGED}/claim"), Some(json!({}))).await;
    app.ok(Method::PUT, &format!("{MANAGED}/protection"), Some(json!({"protected": false}))).await;
}

/// Runs jobs that succeed, fail and are cancelled.
async fn run_jobs(app: &TestApp) {
    app.job("check", json!({})).await;
    app.job("erase", json!({"where": "id = 1"})).await;
    super::set(app, json!({"esker.compact.spark-over": "1B"})).await;
    let accepted = app.ok(Method::POST, &format!("{MANAGED}/compact"), Some(json!({"rewrite-all": true}))).await;
    let path = format!("/api/v1/jobs/{}", accepted["job-id"].as_str().expect("an id"));
    while app.ok(Method::GET, &path, None).await["engine"] != "spark" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    app.ok(Method::POST, &format!("{path}/cancel"), Some(json!({}))).await;
}

/// Takes a data file of the table away, lets a query meet that, and puts the file back.
async fn damage_and_mend(app: &TestApp) {
    let file = TestTable::simple(app).data_paths().await[0][7..].to_owned();
    let bytes = std::fs::read(&file).expect("read");
    std::fs::remove_file(&file).expect("removed");
    app.sql("SELECT * FROM n.t").await.expect_err("a file is gone");
    wait_for_event(app, "table.file-damaged").await;
    std::fs::write(&file, bytes).expect("put back");
    wait_for_event(app, "table.file-mended").await;
}

/// Waits until an event of a kind is in the outbox.
async fn wait_for_event(app: &TestApp, kind: &str) {
    for _ in 0..1200 {
        let events = app.ok(Method::GET, "/api/v1/events?limit=1000", None).await;
        if events["events"].as_array().expect("events").iter().any(|event| event["type"] == kind) {
            return;
        }
        // The assessment of the table looks at damaged files again.
        app.ok(Method::GET, &format!("{MANAGED}/health"), None).await;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("there is no event {kind}");
}

/// Waits until a receiver has an event of a kind. Returns the first event of each kind that it has.
async fn first_of_each(kept: &Arc<Mutex<Vec<Value>>>, kind: &str) -> BTreeMap<String, Value> {
    for _ in 0..1200 {
        let mut first = BTreeMap::new();
        for event in kept.lock().expect("a lock").iter() {
            first.entry(event["type"].as_str().expect("a type").to_owned()).or_insert_with(|| event.clone());
        }
        if first.contains_key(kind) {
            return first;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the receiver got no {kind}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind() {
    let (url, kept) = receiver().await;
    let app = TestApp::start_with(|c| {
        c.events.webhooks.insert("hook".to_owned(), WebhookConfig { url, token: Some("hook-token".to_owned()) });
    })
    .await;
    super::two_files(&app).await;
    damage_and_mend(&app).await;
    change_the_catalog(&app).await;
    run_jobs(&app).await;
    move_the_table(&app).await;
    app.ok(Method::DELETE, TABLE, None).await;
    app.catalog().expire_drops(now_ms() + 30 * DAY_MS).await.expect("ended");

    let page = app.ok(Method::GET, "/api/v1/events?limit=1000", None).await;
    let events = page["events"].as_array().expect("events");
    let mut first: BTreeMap<&str, &Value> = BTreeMap::new();
    for event in events {
        first.entry(event["type"].as_str().expect("a type")).or_insert(event);
    }
    let expected: BTreeSet<&str> = KINDS.into();
    assert_eq!(first.keys().copied().collect::<BTreeSet<_>>(), expected);
    let mut log = Transcript::of(&app);
    // Numbers of events depend on how many the server wrote before.
    let shown = |event: &Value| {
        let mut event = event.clone();
        event["id"] = "[number]".into();
        event
    };
    for (kind, event) in first {
        log.note(kind, &shown(event));
    }
    let received = first_of_each(&kept, "io.esker.table.created").await;
    let mut event = received["io.esker.table.created"].clone();
    event["sequence"] = "[number]".into();
    log.note("a CloudEvent, as a webhook gets it", &event);
    insta::assert_snapshot!(log.text());
}
