//! Tables that are legal and rare, or not quite legal: what can be understood of them is used, and what can't be is named.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryArray, Int64Array, TimestampNanosecondArray};
use esker_format::Value as Cell;
use esker_tests::{Lake, TestApp};
use esker_types::now_ms;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

fn succeeded(job: &Value) {
    assert_eq!(job["state"], "succeeded", "{job}");
}

async fn metadata_of(app: &TestApp, lake: &Lake<'_>) -> Value {
    app.ok(Method::GET, &lake.path(), None).await["metadata"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_uuids_and_nanoseconds_under_odd_names_are_like_any_other() {
    let app = TestApp::start().await;
    let optional = |id: i32, name: &str, ty: &str| json!({"id": id, "name": name, "required": false, "type": ty});
    let fields = json!([optional(1, "id", "long"), optional(2, "u-id", "uuid"), optional(3, "1 at", "timestamp_ns")]);
    let part = |at: i32, source: i32, name: &str, transform: &str| json!({"source-id": source, "field-id": 1000 + at, "name": name, "transform": transform});
    let spec = json!([
        part(0, 2, "u-id", "identity"),
        part(1, 3, "1 at", "identity"),
        part(2, 3, "stunde \u{fc}ber", "hour"),
        part(3, 3, "1 at_day", "day"),
    ]);
    let lake = Lake::craft(&app, "t", fields, spec, json!({"format-version": "3"})).await;
    let (uuids, noon) = ([Uuid::from_u128(7), Uuid::from_u128(u128::MAX)], 1_718_452_800_000_000_001_i64);
    for i in 0..4_i64 {
        let (uuid, at) = (uuids[i as usize % 2], noon + i % 2 * 3_600_000_000_000);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![i, i + 10])),
            Arc::new(FixedSizeBinaryArray::try_from_iter([uuid.as_bytes(); 2].into_iter()).expect("uuids")),
            Arc::new(TimestampNanosecondArray::from(vec![at; 2])),
        ];
        let (hour, day) = ((at / 3_600_000_000_000) as i32, (at / 86_400_000_000_000) as i32);
        let partition = [Cell::Uuid(uuid), Cell::TimestampNs(at), Cell::Int(hour), Cell::Date(day)].map(Some);
        lake.add([lake.data_file(columns, partition).await], []).await;
    }
    let first = format!("SELECT id FROM lake.t WHERE \"u-id\" = '{}' ORDER BY id", uuids[0]);
    let check = async |files: usize, ids: &[&str]| {
        assert_eq!(lake.query(&first).await.concat(), ids);
        assert_eq!(lake.query("SELECT count(*), max(\"1 at\") FROM lake.t").await[0][1], "2024-06-15T13:00:00.000000001");
        assert_eq!(lake.data_files().await.len(), files);
        assert_eq!(lake.query("SELECT count(*) FROM lake.\"t$partitions\"").await, [["2"]]);
    };
    check(4, &["0", "2", "10", "12"]).await;
    let planned = lake.planned(json!({"filter": {"type": "eq", "term": "u-id", "value": uuids[0].to_string()}})).await;
    assert_eq!(planned["file-scan-tasks"].as_array().map(Vec::len), Some(2), "{planned}");
    succeeded(&lake.run("manifests", json!({"rewrite-all": true})).await);
    let job = lake.job(json!({"rewrite-all": true, "verify": "full", "courtesy-seconds": 0})).await;
    succeeded(&job);
    assert_eq!((&job["outcome"]["groups"], &job["outcome"]["files_out"]), (&json!(2), &json!(2)), "{job}");
    check(2, &["0", "2", "10", "12"]).await;
    assert_eq!(lake.query("DELETE FROM lake.t WHERE id = 2").await, [["1"]]);
    assert_eq!(lake.query("INSERT INTO lake.t SELECT id + 100, \"u-id\", \"1 at\" FROM lake.t WHERE id = 0").await, [["1"]]);
    check(3, &["0", "10", "12", "100"]).await;
    succeeded(&lake.run("statistics", json!({})).await);
    let job = lake.run("check", json!({"files": true})).await;
    assert_eq!(job["outcome"]["findings"], json!([]), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_a_type_that_nobody_knows_yet_is_named_and_costs_no_other() {
    let app = TestApp::start().await;
    let lake = Lake::create(&app, "t", 2, false, json!({})).await;
    for id in 0..3 {
        lake.append(&[(id, format!("s{id}"), 0, None)]).await;
    }
    let mut metadata = metadata_of(&app, &lake).await;
    metadata["schemas"][0]["fields"][1]["type"] = "future(3)".into();
    lake.replace_metadata(&metadata).await;
    assert_eq!(metadata_of(&app, &lake).await["schemas"], metadata["schemas"], "it is served as it is");
    assert_eq!(lake.query("SELECT id, p FROM lake.t WHERE id > 0 ORDER BY id").await, [["1", "0"], ["2", "0"]]);
    let error = app.sql("SELECT s FROM lake.t").await.expect_err("nobody can read it");
    assert!(error.contains("future(3)"), "{error}");
    let (status, body) = app.send(Method::POST, &lake.management("compact"), Some(json!({"rewrite-all": true}))).await;
    assert!(status.is_client_error() && body.to_string().contains("column s: values of type future(3)"), "{status} {body}");
    // What does not read the column goes on.
    lake.update(json!([{"action": "set-properties", "updates": {"a": "b"}}])).await;
    succeeded(&lake.run("manifests", json!({"rewrite-all": true})).await);
    succeeded(&lake.run("expire", json!({"retain-last": 1, "older-than-ms": now_ms() + 1000})).await);
    app.ok(Method::GET, &lake.management("health"), None).await;
    assert_eq!(metadata_of(&app, &lake).await["schemas"], metadata["schemas"], "and written back as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_that_say_nothing_of_themselves_are_read_and_maintained() {
    let app = TestApp::start().await;
    for version in [1, 2, 3] {
        let lake = Lake::create(&app, &format!("v{version}"), version, false, json!({})).await;
        for id in 0..3 {
            lake.append(&[(id, format!("s{id}"), 0, None)]).await;
        }
        let rows = lake.rows().await;
        let mut metadata = metadata_of(&app, &lake).await;
        let snapshots = metadata["snapshots"].as_array_mut().expect("snapshots");
        for (i, snapshot) in snapshots.iter_mut().enumerate() {
            let snapshot = snapshot.as_object_mut().expect("a snapshot");
            snapshot.remove("schema-id");
            match i {
                0 => drop(snapshot.insert("summary".to_owned(), json!({"who": "a test"}))),
                _ => drop(snapshot.remove("summary")),
            }
        }
        lake.replace_metadata(&metadata).await;
        assert_eq!(lake.rows().await, rows);
        assert_eq!(lake.query(&format!("SELECT count(*) FROM lake.\"v{version}$snapshots\"")).await, [["3"]]);
        let (status, page) = app.send(Method::GET, &format!("/warehouses/default/namespaces/lake/tables/v{version}"), None).await;
        assert!(status.is_success(), "{page}");
        let first = &metadata["snapshots"][0]["snapshot-id"];
        let plan = lake.planned(json!({"snapshot-id": first, "use-snapshot-schema": true})).await;
        assert_eq!(plan["file-scan-tasks"].as_array().map(Vec::len), Some(1), "{plan}");
        succeeded(&lake.job(json!({"rewrite-all": true, "courtesy-seconds": 0})).await);
        succeeded(&lake.run("expire", json!({"retain-last": 1, "older-than-ms": now_ms() + 1000})).await);
        assert_eq!(lake.rows().await, rows);
        assert_eq!(lake.metadata().await.snapshots.len(), 1);
    }
}
