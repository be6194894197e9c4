//! The web page: its contents, and the two actions that it offers.

use esker_tests::{TestApp, TestTable};
use reqwest::Method;
use serde_json::json;

async fn get(app: &TestApp, path: &str) -> String {
    let (status, _, text) = app.send_raw(Method::GET, path, &[], None).await;
    assert_eq!(status.as_u16(), 200, "{path}: {text}");
    assert!(
        text.starts_with("<!DOCTYPE html>") && !text.contains("<script") && !text.contains("http://"),
        "{path} works offline"
    );
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_found_by_name_and_shown_whole() {
    let app = TestApp::start().await;
    TestTable::six_files(&app).await;
    assert!(get(&app, "/").await.contains(">n.t<"));
    assert!(get(&app, "/?q=n.t").await.contains(">n.t<"));
    assert!(!get(&app, "/?q=other").await.contains(">n.t<"));
    app.ok(
        Method::POST,
        "/v1/default/namespaces/n/tables/t",
        Some(json!({"requirements": [], "updates": [
        {"action": "set-properties", "updates": {"esker.payback": "1d"}}]})),
    )
    .await;
    let page = get(&app, "/warehouses/default/namespaces/n/tables/t").await;
    for part in ["small-files", "<svg", "esker", "payback", "table property", "Branches and tags", ">main<", "append", "60"] {
        assert!(page.contains(part), "{part} is not on the page");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_shown_and_taken_back_but_not_by_another_site() {
    let app = TestApp::start().await;
    let writer = TestTable::six_files(&app).await;
    assert!(get(&app, "/quarantine").await.contains("No file is in quarantine."));
    let expired = app.job("expire", json!({"older-than-ms": esker_types::now_ms() + 60_000})).await;
    let id = expired["id"].as_str().expect("an id");
    assert!(get(&app, "/jobs").await.contains("snapshots 6 → 1"));
    assert!(get(&app, "/jobs?state=queued").await.contains("None."));
    let page = get(&app, &format!("/jobs/{id}")).await;
    assert!(page.contains("attempt 1 begins") && page.contains("succeeded") && page.contains(">Undo<"), "{page}");
    let quarantine = get(&app, "/quarantine").await;
    assert!(quarantine.contains(">n.t<") && quarantine.contains("in 24 h") | quarantine.contains("in 23 h"), "{quarantine}");

    let undo = format!("/warehouses/default/jobs/{id}/undo");
    let foreign = [("sec-fetch-site", "cross-site"), ("origin", "https://elsewhere.example")];
    for header in foreign {
        let (status, _, text) = app.send_raw(Method::POST, &undo, &[header], None).await;
        assert_eq!(status.as_u16(), 403, "{text}");
    }
    assert_eq!(writer.metadata().await.snapshots.len(), 1);
    let (status, _, text) = app.send_raw(Method::POST, &undo, &[("sec-fetch-site", "same-origin")], None).await;
    assert!(status.is_success() && text.contains("5 snapshots are back"), "{text}");
    assert_eq!(writer.metadata().await.snapshots.len(), 6);
}
