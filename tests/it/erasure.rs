//! Deleted rows go from storage: from files that deletes apply to, from files of keys, from earlier snapshots and quarantine.

use std::collections::HashSet;

use esker_catalog::deletion::sweep;
use esker_tests::{Lake, Scope, TestApp};
use esker_types::now_ms;
use reqwest::Method;
use serde_json::{Value, json};

async fn report(app: &TestApp, lake: &Lake<'_>, filter: &str) -> Vec<Value> {
    let body = json!({"where": filter});
    let report = app.ok(Method::POST, &lake.management("erase?dry-run=true"), Some(body)).await;
    report["holders"].as_array().expect("holders").clone()
}

/// Files in storage that hold a text as it is.
fn files_with(app: &TestApp, text: &str) -> Vec<String> {
    let files = crate::commits::walk(&app.dir.path().join("warehouse"));
    let holds = |path: &String| {
        let bytes = std::fs::read(path).expect("a file");
        path.ends_with(".parquet") && bytes.windows(text.len()).any(|w| w == text.as_bytes())
    };
    files.into_iter().filter(holds).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn erased_rows_are_nowhere_after_the_deadline() {
    let app = TestApp::start().await;
    for version in [2, 3] {
        let properties = json!({"write.parquet.compression-codec": "uncompressed"});
        let lake = Lake::create(&app, &format!("v{version}"), version, false, properties).await;
        let secret = format!("secret-of-{version}");
        let row = |id: i64, s: &str| (id, s.to_owned(), 0, None);
        lake.append(&[row(1, &secret), row(2, "b")]).await;
        lake.append(&[row(3, "c"), row(4, &secret)]).await;
        let filter = format!("s = '{secret}'");
        assert_eq!(report(&app, &lake, &filter).await.len(), 2);
        // They are in the table: nothing is done.
        let refused = lake.run("erase", json!({"where": filter})).await;
        assert!(refused["error"].as_str().expect("an error").contains("delete them"), "{refused}");

        lake.delete_by_position(&HashSet::from([1]), Scope::File).await;
        lake.upsert(&[(4, 0)], &[row(4, "d")]).await;
        let by_key = report(&app, &lake, "id = 4 and s is null").await;
        assert_eq!(by_key.len(), 1, "the file of equality deletes names the key: {by_key:?}");
        let rows = lake.rows().await;
        let job = lake.run("erase", json!({"where": filter})).await;
        assert_eq!((&job["state"], &job["outcome"]["complete"]), (&json!("succeeded"), &json!(true)), "{job}");
        assert_eq!(lake.rows().await, rows);
        assert!(!files_with(&app, &secret).is_empty(), "in quarantine, until they are swept");
        sweep(app.catalog(), now_ms()).await.expect("swept");
        assert_eq!(files_with(&app, &secret), Vec::<String>::new());
        assert_eq!(report(&app, &lake, &filter).await, Vec::<Value>::new());
        assert_eq!((lake.rows().await, lake.missing().await), (rows, Vec::new()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_holds_erased_rows_is_named_and_goes_only_if_asked() {
    let app = TestApp::start().await;
    let lake = Lake::create(&app, "t", 2, false, json!({})).await;
    lake.append(&[(1, "x".to_owned(), 0, None), (2, "y".to_owned(), 0, None)]).await;
    let snapshot = lake.metadata().await.current_snapshot_id();
    let tag = json!({"action": "set-snapshot-ref", "ref-name": "audit", "type": "tag", "snapshot-id": snapshot});
    lake.update(json!([tag])).await;
    lake.delete_by_position(&HashSet::from([1]), Scope::File).await;
    let refused = lake.run("erase", json!({"where": "id = 1"})).await;
    assert!(refused["error"].as_str().expect("an error").contains("audit"), "{refused}");
    let job = lake.run("erase", json!({"where": "id = 1", "drop-refs": ["audit"]})).await;
    assert_eq!((&job["outcome"]["refs"], &job["outcome"]["complete"]), (&json!(["audit"]), &json!(true)), "{job}");
    assert_eq!(lake.rows().await.len(), 1);
}

/// Java's engines write `file:/` and `s3a://`; listings and the quarantine have one spelling of a place.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_manifests_spell_as_java_does_are_erased_by_the_deadline() {
    let app = TestApp::start().await;
    app.ok(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": ["lake"]}))).await;
    let fields = json!([
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "s", "required": false, "type": "string"},
        {"id": 3, "name": "p", "required": false, "type": "int"},
    ]);
    let location = format!("file:{}/warehouse/lake/java", app.dir.path().display());
    let properties =
        json!({"write.parquet.compression-codec": "uncompressed", "esker.expire.min-age-ms": "0", "format-version": "2"});
    let create =
        json!({"name": "java", "schema": {"type": "struct", "fields": fields}, "location": location, "properties": properties});
    app.ok(Method::POST, "/v1/default/namespaces/lake/tables", Some(create)).await;
    let lake = Lake::open(&app, "java");
    lake.append(&[(1, "secret-of-java".to_owned(), 0, None), (2, "b".to_owned(), 0, None)]).await;
    assert!(lake.live(&lake.metadata().await).await.data[0].file.file_path().starts_with("file:/"), "as Java spells it");
    lake.delete_by_position(&HashSet::from([1]), Scope::File).await;
    let job = lake.run("erase", json!({"where": "s = 'secret-of-java'"})).await;
    assert_eq!((&job["state"], &job["outcome"]["complete"]), (&json!("succeeded"), &json!(true)), "{job}");
    sweep(app.catalog(), now_ms()).await.expect("swept");
    assert_eq!(files_with(&app, "secret-of-java"), Vec::<String>::new());
    assert_eq!(lake.rows().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_undo_brings_erased_rows_back() {
    let app = TestApp::start().await;
    let lake = Lake::create(&app, "t", 2, false, json!({})).await;
    lake.append(&[(1, "x".to_owned(), 0, None), (2, "y".to_owned(), 0, None)]).await;
    lake.append(&[(3, "z".to_owned(), 0, None)]).await;
    lake.delete_by_position(&HashSet::from([1]), Scope::File).await;
    let compaction = lake.job(json!({"courtesy-seconds": 0, "rewrite-all": true, "min-input-files": 1})).await;
    let erasure = lake.run("erase", json!({"where": "id = 1"})).await;
    assert_eq!(erasure["outcome"]["complete"], true, "{erasure}");
    let refused = lake.undo(&compaction).await.expect_err("the file is to go");
    assert!(refused.contains(erasure["id"].as_str().expect("an id")), "{refused}");
    assert_eq!(lake.rows().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_undo_of_an_expiry_brings_erased_rows_back() {
    let app = TestApp::start().await;
    let lake = Lake::create(&app, "t", 2, false, json!({})).await;
    lake.append(&[(1, "x".to_owned(), 0, None), (2, "y".to_owned(), 0, None)]).await;
    lake.delete_by_position(&HashSet::from([1]), Scope::File).await;
    lake.job(json!({"courtesy-seconds": 0, "rewrite-all": true, "min-input-files": 1})).await;
    let expiry = lake.run("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    assert_eq!(expiry["state"], "succeeded", "{expiry}");
    let erasure = lake.run("erase", json!({"where": "id = 1"})).await;
    assert_eq!((&erasure["outcome"]["complete"], &erasure["outcome"]["files"]), (&json!(true), &json!(1)), "{erasure}");
    let refused = lake.undo(&expiry).await.expect_err("the file is to go");
    assert!(refused.contains(erasure["id"].as_str().expect("an id")), "{refused}");
}
