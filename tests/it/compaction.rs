use esker_tests::{TestApp, Writer};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_dry_run_shows_what_the_job_then_does() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = Writer::new(&app);
    for i in 0..6 {
        writer.append(i * 10..i * 10 + 10).await;
    }
    let before = writer.data_files().await;
    let path = "/api/v1/warehouses/default/namespaces/n/tables/t/compact?dry-run=true";
    let plan = app.ok(Method::POST, path, Some(json!({}))).await;
    assert_eq!(plan["groups"][0]["files"].as_array().map(Vec::len), Some(6));
    assert_eq!(writer.data_files().await, before, "a dry run does nothing");

    let job = app.job("compact", json!({})).await;
    assert_eq!((&job["state"], &job["plan"]), (&json!("succeeded"), &plan));
    assert_eq!((job["outcome"]["files_in"].as_u64(), job["outcome"]["files_out"].as_u64()), (Some(6), Some(1)));
    assert_eq!(writer.data_files().await.len(), 1);
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
    let metadata = writer.metadata().await;
    let summary = metadata.current_snapshot().expect("a snapshot").summary();
    assert_eq!(summary.operation.as_str(), "replace");
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_that_land_meanwhile_are_rebased_over_and_never_fail() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = Writer::new(&app);
    for i in 0..8 {
        writer.append(i * 10..i * 10 + 10).await;
    }
    // A writer keeps appending while the table is compacted three times.
    let appending = async {
        for i in 0..25 {
            let start = 1000 + i * 10;
            loop {
                let prepared = writer.prepare_append(start..start + 10).await;
                let table = "/v1/default/namespaces/n/tables/t";
                let (status, body) = app.send(Method::POST, table, Some(prepared.body().clone())).await;
                if status.is_success() {
                    break;
                }
                assert_eq!(status.as_u16(), 409, "{body}");
            }
        }
    };
    let compacting = async {
        for _ in 0..3 {
            let job = app.job("compact", json!({"min-input-files": 2})).await;
            assert_eq!(job["state"], "succeeded", "{job}");
        }
    };
    tokio::join!(appending, compacting);
    let expected: Vec<i64> = (0..80).chain(1000..1250).collect();
    assert_eq!(writer.ids().await.expect("ids"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_are_applied_and_what_they_leave_out_is_told() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = Writer::new(&app);
    for i in 0..6 {
        writer.append(i * 10..i * 10 + 10).await;
    }
    let files = writer.data_files().await;
    writer.delete_positions(&files[0], &[0, 9]).await;
    let kept = writer.ids().await.expect("ids");
    assert_eq!(kept.len(), 58);
    let path = "/api/v1/warehouses/default/namespaces/n/tables/t/compact?dry-run=true";
    let plan = app.ok(Method::POST, path, Some(json!({}))).await;
    assert_eq!(plan["groups"][0]["delete_files"], 1, "the delete may apply to any file of the unpartitioned table");
    let job = app.job("compact", json!({})).await;
    let outcome = &job["outcome"];
    assert_eq!((outcome["deleted_records"].as_u64(), outcome["delete_files_removed"].as_u64()), (Some(2), Some(1)), "{job}");
    assert_eq!(writer.ids().await.expect("ids"), kept);
    let metadata = writer.metadata().await;
    let summary = &metadata.current_snapshot().expect("a snapshot").summary().additional_properties;
    assert_eq!(summary["removed-position-deletes"], "2");
    assert!(summary["esker.content-hash"].ends_with("-58"), "{summary:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_a_table_at_a_time_and_foreign_tables_not_at_all() {
    let app = TestApp::start().await;
    let created = app.table().await;
    let location = created["metadata-location"].as_str().expect("a location").to_owned();
    app.ok(Method::DELETE, "/v1/default/namespaces/n/tables/t", None).await;
    let register = json!({"name": "t", "metadata-location": location});
    app.ok(Method::POST, "/v1/default/namespaces/n/register", Some(register)).await;
    for kind in ["compact", "expire"] {
        let path = format!("/api/v1/warehouses/default/namespaces/n/tables/t/{kind}");
        let (code, _, message) = app.refused(Method::POST, &path, Some(json!({}))).await;
        assert_eq!(code, 422);
        assert!(message.contains("foreign"), "{message}");
    }
}
