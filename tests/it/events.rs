//! The outbox: it has every change once and in order, and delivers an event again after a receiver failed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use esker::config::WebhookConfig;
use esker_tests::{TestApp, TestTable, schema_json, wait_for};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn some_changes(app: &TestApp) {
    app.table().await;
    TestTable::simple(app).append_ids(0..3).await;
    let table = "/v1/default/namespaces/n/tables/t";
    let rename = json!({"source": {"namespace": ["n"], "name": "t"}, "destination": {"namespace": ["n"], "name": "u"}});
    app.ok(Method::POST, "/v1/default/tables/rename", Some(rename)).await;
    app.refused(Method::GET, table, None).await;
    let twice = json!({"name": "u", "schema": schema_json()});
    app.refused(Method::POST, "/v1/default/namespaces/n/tables", Some(twice)).await;
    app.ok(Method::DELETE, "/v1/default/namespaces/n/tables/u", None).await;
}

const EXPECTED: [(&str, &str); 5] = [
    ("namespace.created", "n"),
    ("table.created", "n.t"),
    ("table.updated", "n.t"),
    ("table.renamed", "n.t"),
    ("table.dropped", "n.u"),
];

#[tokio::test(flavor = "multi_thread")]
async fn changes_and_nothing_else_are_in_the_out_box_and_can_be_read_from_any_cursor() {
    let app = TestApp::start().await;
    some_changes(&app).await;
    let all = app.ok(Method::GET, "/api/v1/events", None).await;
    let events = all["events"].as_array().expect("events");
    let seen: Vec<(&str, &str)> =
        events.iter().map(|e| (e["type"].as_str().expect("type"), e["subject"].as_str().expect("subject"))).collect();
    assert_eq!(seen, EXPECTED);
    assert!(events.iter().all(|e| e["principal"] == "admin" && e["warehouse"] == "default"));
    let update = &events[2]["data"];
    assert_eq!(update["updates"], json!(["add-snapshot", "set-snapshot-ref"]));
    assert_eq!(update["snapshots"][0]["operation"], "append");
    assert_ne!(update["previous-metadata-location"], update["metadata-location"]);
    let cursor = events[2]["id"].as_i64().expect("an id");
    let rest = app.ok(Method::GET, &format!("/api/v1/events?after={cursor}&limit=1"), None).await;
    assert_eq!(rest["events"][0], events[3]);
    let end = app.ok(Method::GET, &format!("/api/v1/events?after={}", all["next"]), None).await;
    assert_eq!((&end["events"], &end["next"]), (&json!([]), &all["next"]));
    assert_eq!(app.refused(Method::GET, "/api/v1/events?warehouse=x", None).await.0, 404);
}

/// Starts a receiver that stores all it gets, but answers every third request with 500. Returns its URL and its store.
pub(crate) async fn receiver() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let kept: Arc<Mutex<Vec<Value>>> = Arc::default();
    let keep = kept.clone();
    tokio::spawn(async move {
        let mut n = 0;
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = Vec::new();
            let body = loop {
                let mut part = [0; 4096];
                let read = socket.read(&mut part).await.expect("read");
                request.extend_from_slice(&part[..read]);
                let text = String::from_utf8_lossy(&request).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                assert!(head.to_lowercase().contains("authorization: bearer hook-token") || head.contains("/openapi/"), "{head}");
                let length = head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
                if body.len() >= length.expect("a length").parse::<usize>().expect("a number") {
                    break body.to_owned();
                }
            };
            keep.lock().expect("not poisoned").push(serde_json::from_str(&body).expect("json"));
            n += 1;
            let answer = if n % 3 == 0 { "500 Internal Server Error" } else { "204 No Content" };
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.expect("answered");
        }
    });
    (url, kept)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_gets_every_event_in_order_also_when_it_fails_in_between() {
    let (url, kept) = receiver().await;
    let app = TestApp::start_with(|c| {
        c.events.webhooks.insert("hook".to_owned(), WebhookConfig { url, token: Some("hook-token".to_owned()) });
    })
    .await;
    some_changes(&app).await;
    let distinct = || {
        let mut seen = HashSet::new();
        let events = kept.lock().expect("not poisoned");
        let first_times = events.iter().filter(|e| seen.insert(e["id"].as_str().expect("an id").to_owned()));
        first_times.map(|e| (e["type"].clone(), e["subject"].clone())).collect::<Vec<_>>()
    };
    let delivered = async || {
        let metrics = app.ok(Method::GET, "/metrics", None).await;
        metrics.as_str().expect("text").contains("esker_event_sink_lag_events{sink=\"hook\"} 0")
    };
    wait_for("the events were not delivered", async || delivered().await.then_some(())).await;
    let expected: Vec<_> = EXPECTED.iter().map(|(kind, subject)| (json!(format!("io.esker.{kind}")), json!(subject))).collect();
    assert_eq!(distinct(), expected);
    assert!(kept.lock().expect("not poisoned").len() > EXPECTED.len(), "what it failed on came again");
}
