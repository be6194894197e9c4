//! Server-side scan planning: plans that take long, and plans that need several answers.

use std::collections::HashSet;
use std::time::Duration;

use esker_tests::{TestApp, Writer};
use reqwest::Method;
use serde_json::{Value, json};

const TABLE: &str = "/v1/default/namespaces/n/tables/t";

fn paths(answer: &Value) -> Vec<String> {
    let tasks = answer["file-scan-tasks"].as_array().expect("tasks").iter();
    tasks.map(|t| t["data-file"]["file-path"].as_str().expect("a path").to_owned()).collect()
}

/// Polls a plan until it is completed, and returns it.
async fn finished(app: &TestApp, poll: &str) -> Value {
    for _ in 0..500 {
        let plan = app.ok(Method::GET, poll, None).await;
        if plan["status"] != "submitted" {
            return plan;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the plan did not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_not_waited_for_is_polled_and_fetched_page_by_page() {
    let app = TestApp::start_with(|c| c.server.plan_wait_ms = 0).await;
    app.table().await;
    Writer::new(&app).append_missing_files(4_500).await;
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
