//! Turns of clients whose commits were late, and the bounds of the commit queues.

use std::collections::HashSet;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use esker::config::{CommitConfig, Config};
use esker_tests::{Faults, TOKEN, TestApp, TestTable};
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::recovery::set;

const TABLE: &str = "/v1/default/namespaces/n/tables/t";

/// Number of times that Java and PyIceberg commit again, by default.
const RETRIES: u32 = 4;

/// Sets turns that end only when their client commits.
fn long_turns(config: &mut Config) {
    config.commit = CommitConfig { turn_ms: 60_000, turn_return_ms: 60_000, turn_wait_seconds: 60, ..CommitConfig::default() };
}

/// Returns the id of the snapshot that a commit adds.
fn snapshot_id(commit: &Value) -> Value {
    commit["updates"][0]["snapshot"]["snapshot-id"].clone()
}

/// Computes an append on the table as it is now, with the snapshot id of an earlier attempt, as Java and PyIceberg do.
async fn computed_again(writer: &TestTable<'_>, ids: Range<i64>, first: &Value) -> Value {
    let mut commit = writer.prepare_append(ids).await.body().clone();
    commit["updates"][0]["snapshot"]["snapshot-id"] = snapshot_id(first);
    commit["updates"][1]["snapshot-id"] = snapshot_id(first);
    commit
}

/// Appends rows as PyIceberg does with its defaults: four retries, after 100 ms, 200, 400 and 800. Returns whether it succeeded.
pub(crate) async fn append(app: &TestApp, writer: &TestTable<'_>, ids: Range<i64>) -> bool {
    let first = writer.prepare_append(ids.clone()).await.body().clone();
    let mut commit = first.clone();
    for attempt in 0..=RETRIES {
        let (status, answer) = app.send(Method::POST, TABLE, Some(commit.clone())).await;
        if status.is_success() {
            return true;
        }
        assert_eq!(status, StatusCode::CONFLICT, "{answer}");
        if attempt < RETRIES {
            tokio::time::sleep(Duration::from_millis(100_u64 << attempt)).await;
            commit = computed_again(writer, ids.clone(), &first).await;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_clients_that_append_at_once_with_default_retries_none_fails() {
    let app = TestApp::start_with(|config| config.commit = CommitConfig::default()).await;
    app.table().await;
    let app = &app;
    let client = |i: i64| async move {
        let writer = TestTable::simple(app);
        [append(app, &writer, 2 * i..2 * i + 1).await, append(app, &writer, 2 * i + 1..2 * i + 2).await]
    };
    assert_eq!(join_all((0..8).map(client)).await, [[true; 2]; 8]);
    assert_eq!(TestTable::simple(app).ids().await.expect("ids"), (0..16).collect::<Vec<_>>());
    let counts = app.catalog().turn_counts();
    assert!(counts.used > 0 && counts.without == 0 && counts.waiting == 0, "{counts:?}");
    let metrics = app.ok(Method::GET, "/metrics", None).await;
    let line = format!("esker_commit_turns_total{{outcome=\"used\",warehouse=\"default\"}} {}", counts.used);
    assert!(metrics.as_str().expect("text").contains(&line), "{metrics}");
}

/// The second late client hears nothing while it is the first one's turn, and readers hear everything at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_client_waits_for_the_turn_before_it_and_no_reader_waits() {
    let app = TestApp::start_with(long_turns).await;
    app.table().await;
    let writer = TestTable::simple(&app);
    let (winner, first, second) =
        (writer.prepare_append(0..1).await, writer.prepare_append(1..2).await, writer.prepare_append(2..3).await);
    writer.commit(&winner).await;
    let (code, ..) = app.refused(Method::POST, TABLE, Some(first.body().clone())).await;
    assert_eq!(code, 409, "nobody is before it");
    let mut waiting = pin!(app.send(Method::POST, TABLE, Some(second.body().clone())));
    let others = async {
        while app.catalog().turn_counts().waiting == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for _ in 0..20 {
            app.ok(Method::GET, TABLE, None).await;
            app.ok(Method::GET, &format!("{TABLE}?snapshots=refs"), None).await;
        }
        // Changes without a snapshot do not wait either.
        writer.update(json!([{"action": "set-properties", "updates": {"k": "v"}}])).await;
        computed_again(&writer, 1..2, first.body()).await
    };
    let again = tokio::select! {
        biased;
        answer = &mut waiting => panic!("answered before its turn: {answer:?}"),
        again = others => again,
    };
    app.ok(Method::POST, TABLE, Some(again)).await;
    let (status, answer) = waiting.await;
    assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    let again = computed_again(&writer, 2..3, second.body()).await;
    app.ok(Method::POST, TABLE, Some(again)).await;
    assert_eq!(writer.ids().await.expect("ids"), [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_comes_back_costs_its_turn_and_no_more() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    let (winner, gone, next) =
        (writer.prepare_append(0..1).await, writer.prepare_append(1..2).await, writer.prepare_append(2..3).await);
    writer.commit(&winner).await;
    for late in [&gone, &next] {
        let (code, ..) = app.refused(Method::POST, TABLE, Some(late.body().clone())).await;
        assert_eq!(code, 409);
    }
    assert_eq!(app.catalog().turn_counts().expired, 1);
    let again = computed_again(&writer, 2..3, next.body()).await;
    app.ok(Method::POST, TABLE, Some(again)).await;
    assert_eq!(writer.ids().await.expect("ids"), [0, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_answers_who_waits_for_a_turn() {
    let app = TestApp::start_with(long_turns).await;
    app.table().await;
    let writer = TestTable::simple(&app);
    let (winner, first, second) =
        (writer.prepare_append(0..1).await, writer.prepare_append(1..2).await, writer.prepare_append(2..3).await);
    writer.commit(&winner).await;
    app.refused(Method::POST, TABLE, Some(first.body().clone())).await;
    let request = reqwest::Client::new().post(app.url(TABLE)).bearer_auth(TOKEN).json(second.body());
    let waiting = tokio::spawn(request.send());
    while app.catalog().turn_counts().waiting == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    app.stop().await;
    let answer = waiting.await.expect("no panic").expect("an answer");
    assert_eq!(answer.status(), StatusCode::CONFLICT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_429_before_anything_is_done() {
    let faults = Faults::local();
    let app = TestApp::start_on(Arc::new(faults.clone()), |config| config.commit.queue_total = 2).await;
    app.table().await;
    faults.hold("/metadata/00001-");
    let taken = join_all(["a", "b"].map(|key| app.ok(Method::POST, TABLE, Some(set(key)))));
    let others = async {
        while app.catalog().queued_commits() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let change = json!({"identifier": {"namespace": ["n"], "name": "t"}, "requirements": [], "updates": set("c")["updates"]});
        let transaction = json!({"table-changes": [change]});
        for (path, body) in [(TABLE, set("c")), ("/v1/default/transactions/commit", transaction)] {
            let (status, headers, text) = app.send_raw(Method::POST, path, &[], Some(body)).await;
            assert_eq!(status, 429, "{path}: {text}");
            assert!(headers.contains_key("retry-after") && text.contains("TooManyRequestsException"), "{path}: {text}");
        }
        faults.release("/metadata/00001-");
    };
    tokio::join!(taken, others);
    let properties = app.ok(Method::GET, TABLE, None).await["metadata"]["properties"].clone();
    assert_eq!((&properties["a"], &properties["b"], &properties["c"]), (&json!("x"), &json!("x"), &Value::Null));
    assert_eq!(app.catalog().queued_commits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_bounded_and_no_commit_is_left_behind() {
    let app = TestApp::start_with(|config| config.commit.batch = 4).await;
    app.table().await;
    let commits = (0..40).map(|i| app.ok(Method::POST, TABLE, Some(set(&format!("k{i}")))));
    let answers = join_all(commits).await;
    let files: HashSet<&str> = answers.iter().filter_map(|answer| answer["metadata-location"].as_str()).collect();
    assert!(files.len() >= 10, "{} metadata files for 40 commits", files.len());
    let properties = app.ok(Method::GET, TABLE, None).await["metadata"]["properties"].clone();
    assert!((0..40).all(|i| properties[format!("k{i}")] == "x"), "{properties}");
}
