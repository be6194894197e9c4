//! Server-side scan planning: plans that take long, and plans that need several answers.

use std::collections::HashSet;

use esker_tests::{TestApp, TestTable, wait_for};
use reqwest::Method;
use serde_json::{Value, json};

const TABLE: &str = "/v1/default/namespaces/n/tables/t";

fn paths(answer: &Value) -> Vec<String> {
    let tasks = answer["file-scan-tasks"].as_array().expect("tasks").iter();
    tasks.map(|t| t["data-file"]["file-path"].as_str().expect("a path").to_owned()).collect()
}

/// Polls a plan until it is completed, and returns it.
async fn finished(app: &TestApp, poll: &str) -> Value {
    wait_for("the plan did not end", async || {
        let plan = app.ok(Method::GET, poll, None).await;
        (plan["status"] != "submitted").then_some(plan)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_not_waited_for_is_polled_and_fetched_page_by_page() {
    let app = TestApp::start_with(|c| c.server.plan_wait_ms = 0).await;
    app.table().await;
    TestTable::simple(&app).append_missing_files(4_500).await;
    let submitted = app.ok(Method::POST, &format!("{TABLE}/plan"), Some(json!({}))).await;
    assert_eq!(submitted["status"], "submitted");
    let poll = format!("{TABLE}/plan/{}", submitted["plan-id"].as_str().expect("an id"));
    let plan = finished(&app, &poll).await;
    assert_eq!(plan["status"], "completed", "{}", plan["error"]);
    let mut found = paths(&plan);
    assert!(found.len() < 4_500, "not everything in one answer");
    for task in plan["plan-tasks"].as_array().expect("plan tasks") {
        found.extend(paths(&app.ok(Method::POST, &format!("{TABLE}/tasks"), Some(json!({"plan-task": task}))).await));
    }
    assert_eq!(found.len(), 4_500);
    assert_eq!(found.iter().collect::<HashSet<_>>().len(), 4_500, "each file once");
    // With `min-rows-requested` the plan has only as many files as are needed.
    let few = app.ok(Method::POST, &format!("{TABLE}/plan"), Some(json!({"min-rows-requested": 3}))).await;
    let poll = format!("{TABLE}/plan/{}", few["plan-id"].as_str().expect("an id"));
    assert_eq!(paths(&finished(&app, &poll).await).len(), 3);
    app.ok(Method::DELETE, &poll, None).await;
    let cancelled = json!({"plan-task": format!("{}.0", few["plan-id"].as_str().expect("an id"))});
    assert_eq!(app.refused(Method::POST, &format!("{TABLE}/tasks"), Some(cancelled)).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_names_itself_and_refers_to_deletes_by_place() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..10).await;
    writer.append_ids(10..20).await;
    let first = writer.data_paths().await.into_iter().next().expect("a file");
    writer.delete_positions(&first, &[1, 2]).await;
    let plan = app.ok(Method::POST, &format!("{TABLE}/plan"), Some(json!({"stats-fields": ["id"]}))).await;
    assert_eq!(plan["status"], "completed");
    let id = plan["plan-id"].as_str().expect("an id");
    let deletes = plan["delete-files"].as_array().expect("delete files");
    assert_eq!((deletes.len(), &deletes[0]["content"]), (1, &json!("position-deletes")));
    let tasks = plan["file-scan-tasks"].as_array().expect("tasks");
    let of_first = tasks.iter().find(|t| t["data-file"]["file-path"] == first.as_str()).expect("the file");
    assert_eq!(of_first["delete-file-references"], json!([0]));
    let file = &of_first["data-file"];
    assert_eq!((&file["content"], &file["file-format"], &file["partition"]), (&json!("data"), &json!("parquet"), &json!([])));
    assert_eq!(file["lower-bounds"]["keys"], json!([1]));
    assert!(file["lower-bounds"]["values"][0].as_str().is_some_and(|hex| hex.len() == 16));
    assert_eq!(of_first["residual-filter"], json!(true));

    // The plan is polled, cancelled, and polled again.
    let polled = app.ok(Method::GET, &format!("{TABLE}/plan/{id}"), None).await;
    assert_eq!(polled["file-scan-tasks"], plan["file-scan-tasks"]);
    app.ok(Method::DELETE, &format!("{TABLE}/plan/{id}"), None).await;
    assert_eq!(app.ok(Method::GET, &format!("{TABLE}/plan/{id}"), None).await["status"], "cancelled");

    let filter = json!({"filter": {"type": "gt", "term": "id", "value": 14}});
    let filtered = app.ok(Method::POST, &format!("{TABLE}/plan"), Some(filter)).await;
    assert_eq!(filtered["file-scan-tasks"].as_array().map(Vec::len), Some(1));
    let snapshots: Vec<i64> = writer.metadata().await.snapshot_log.iter().map(|log| log.snapshot_id).collect();
    let range = json!({"start-snapshot-id": snapshots[0], "end-snapshot-id": snapshots[1]});
    let appended = app.ok(Method::POST, &format!("{TABLE}/plan"), Some(range)).await;
    assert_eq!(appended["file-scan-tasks"].as_array().map(Vec::len), Some(1), "what the second append brought");
    for (body, words) in [
        (json!({"filter": {"type": "eq", "term": "nope", "value": 1}}), "nope"),
        (json!({"snapshot-id": 1}), "1"),
        (json!({"start-snapshot-id": 1}), "end-snapshot-id"),
        (json!({"select": ["nope"]}), "nope"),
    ] {
        let (code, _, message) = app.refused(Method::POST, &format!("{TABLE}/plan"), Some(body)).await;
        assert!(code == 400 && message.contains(words), "{code} {message}");
    }
}
