//! Erasure: deleted rows are removed from storage too, from data files, equality delete files, earlier snapshots and quarantine.

use std::collections::HashSet;

use esker_catalog::deletion::sweep;
use esker_tests::{PositionDeleteScope, TestApp, TestTable};
use esker_types::now_ms;
use reqwest::Method;
use serde_json::{Value, json};

use crate::warehouses::share_data_paths;

async fn report(app: &TestApp, lake: &TestTable<'_>, filter: &str) -> Vec<Value> {
    let body = json!({"where": filter});
    let report = app.ok(Method::POST, &lake.management_path("erase?dry-run=true"), Some(body)).await;
    report["holders"].as_array().expect("holders").clone()
}

/// Returns the files in storage that contain a text. Metadata is left out, because manifests have bounds.
fn files_with(app: &TestApp, text: &str) -> Vec<String> {
    let files = crate::commits::walk(&app.dir.path().join("warehouse"));
    let holds = |path: &String| {
        let bytes = std::fs::read(path).expect("a file");
        !path.ends_with(".avro") && !path.ends_with(".json") && bytes.windows(text.len()).any(|w| w == text.as_bytes())
    };
    files.into_iter().filter(holds).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn erased_rows_are_nowhere_after_the_deadline() {
    let app = TestApp::start().await;
    for version in [2, 3] {
        let properties = json!({"write.parquet.compression-codec": "uncompressed"});
        let lake = TestTable::create(&app, &format!("v{version}"), version, false, properties).await;
        let secret = format!("secret-of-{version}");
        let row = |id: i64, s: &str| (id, s.to_owned(), 0, None);
        lake.append(&[row(1, &secret), row(2, "b")]).await;
        lake.append(&[row(3, "c"), row(4, &secret)]).await;
        let filter = format!("s = '{secret}'");
        assert_eq!(report(&app, &lake, &filter).await.len(), 2);
        // The rows are still in the table, so the job is refused.
        let refused = lake.run_job("erase", json!({"where": filter})).await;
        assert!(refused["error"].as_str().expect("an error").contains("delete them"), "{refused}");

        lake.delete_by_position(&HashSet::from([1]), PositionDeleteScope::File).await;
        lake.upsert(&[(4, 0)], &[row(4, "d")]).await;
        let by_key = report(&app, &lake, "id = 4 and s is null").await;
        assert_eq!(by_key.len(), 1, "the file of equality deletes names the key: {by_key:?}");
        let rows = lake.rows().await;
        let job = lake.run_job("erase", json!({"where": filter})).await;
        assert_eq!((&job["state"], &job["outcome"]["complete"]), (&json!("succeeded"), &json!(true)), "{job}");
        assert_eq!(lake.rows().await, rows);
        assert!(!files_with(&app, &secret).is_empty(), "in quarantine, until they are swept");
        sweep(app.catalog(), now_ms()).await.expect("swept");
        assert_eq!(files_with(&app, &secret), Vec::<String>::new());
        assert_eq!(report(&app, &lake, &filter).await, Vec::<Value>::new());
        assert_eq!((lake.rows().await, lake.missing_files().await), (rows, Vec::new()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_keep_no_erasure_from_being_complete() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, true, json!({})).await;
    lake.append(&[(2, "b".to_owned(), 1, None)]).await;
    let job = lake.run_job("statistics", json!({})).await;
    let path = job["outcome"]["partitions_path"].as_str().expect("statistics of partitions").to_owned();
    assert!(path.ends_with(".parquet"), "{path}");
    lake.append(&[(1, "secret".to_owned(), 0, None)]).await;
    lake.delete_by_position(&HashSet::from([1]), PositionDeleteScope::File).await;
    assert!(report(&app, &lake, "id = 1").await.iter().all(|holder| holder["path"] != *path));
    let job = lake.run_job("erase", json!({"where": "id = 1"})).await;
    assert_eq!((&job["state"], &job["outcome"]["complete"]), (&json!("succeeded"), &json!(true)), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_holds_erased_rows_is_named_and_goes_only_if_asked() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    lake.append(&[(1, "x".to_owned(), 0, None), (2, "y".to_owned(), 0, None)]).await;
    let snapshot = lake.metadata().await.current_snapshot_id;
    let tag = json!({"action": "set-snapshot-ref", "ref-name": "audit", "type": "tag", "snapshot-id": snapshot});
    lake.update(json!([tag])).await;
    lake.delete_by_position(&HashSet::from([1]), PositionDeleteScope::File).await;
    let refused = lake.run_job("erase", json!({"where": "id = 1"})).await;
    assert!(refused["error"].as_str().expect("an error").contains("audit"), "{refused}");
    let job = lake.run_job("erase", json!({"where": "id = 1", "drop-refs": ["audit"]})).await;
    assert_eq!((&job["outcome"]["refs"], &job["outcome"]["complete"]), (&json!(["audit"]), &json!(true)), "{job}");
    assert_eq!(lake.rows().await.len(), 1);
}

/// Java's engines write `file:/` and `s3a://`. Listings and the quarantine use one spelling of a location.
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
    let lake = TestTable::open(&app, "java");
    lake.append(&[(1, "secret-of-java".to_owned(), 0, None), (2, "b".to_owned(), 0, None)]).await;
    assert!(lake.live(&lake.metadata().await).await.data[0].file.file_path.starts_with("file:/"), "as Java spells it");
    lake.delete_by_position(&HashSet::from([1]), PositionDeleteScope::File).await;
    let job = lake.run_job("erase", json!({"where": "s = 'secret-of-java'"})).await;
    assert_eq!((&job["state"], &job["outcome"]["complete"]), (&json!("succeeded"), &json!(true)), "{job}");
    sweep(app.catalog(), now_ms()).await.expect("swept");
    assert_eq!(files_with(&app, "secret-of-java"), Vec::<String>::new());
    assert_eq!(lake.rows().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_undo_brings_erased_rows_back() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    lake.append(&[(1, "x".to_owned(), 0, None), (2, "y".to_owned(), 0, None)]).await;
    lake.append(&[(3, "z".to_owned(), 0, None)]).await;
    lake.delete_by_position(&HashSet::from([1]), PositionDeleteScope::File).await;
    let compaction = lake.compact(json!({"courtesy-seconds": 0, "rewrite-all": true, "min-input-files": 1})).await;
    let erasure = lake.run_job("erase", json!({"where": "id = 1"})).await;
    assert_eq!(erasure["outcome"]["complete"], true, "{erasure}");
    let refused = lake.undo(&compaction).await.expect_err("the file is to go");
    assert!(refused.contains(erasure["id"].as_str().expect("an id")), "{refused}");
    assert_eq!(lake.rows().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_undo_of_an_expiry_brings_erased_rows_back() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    lake.append(&[(1, "x".to_owned(), 0, None), (2, "y".to_owned(), 0, None)]).await;
    lake.delete_by_position(&HashSet::from([1]), PositionDeleteScope::File).await;
    lake.compact(json!({"courtesy-seconds": 0, "rewrite-all": true, "min-input-files": 1})).await;
    let expiry = lake.run_job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    assert_eq!(expiry["state"], "succeeded", "{expiry}");
    let erasure = lake.run_job("erase", json!({"where": "id = 1"})).await;
    assert_eq!((&erasure["outcome"]["complete"], &erasure["outcome"]["files"]), (&json!(true), &json!(1)), "{erasure}");
    let refused = lake.undo(&expiry).await.expect_err("the file is to go");
    assert!(refused.contains(erasure["id"].as_str().expect("an id")), "{refused}");
}

fn at_head(snapshot: Option<i64>, name: &str, kind: &str) -> Value {
    json!({"action": "set-snapshot-ref", "ref-name": name, "type": kind, "snapshot-id": snapshot})
}

/// Erasure never drops `main`, nor a branch or tag that has none of the rows.
#[tokio::test(flavor = "multi_thread")]
async fn main_and_what_holds_none_of_the_rows_are_never_dropped() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    lake.append(&[(1, "x".to_owned(), 0, None), (2, "y".to_owned(), 0, None)]).await;
    let first = lake.metadata().await.current_snapshot_id;
    lake.update(json!([at_head(first, "innocent", "tag"), at_head(first, "beside", "branch")])).await;
    lake.append(&[(3, "z".to_owned(), 0, None)]).await;
    lake.update(json!([at_head(lake.metadata().await.current_snapshot_id, "audit", "tag")])).await;
    let rows = lake.rows().await;

    let refused = lake.run_job("erase", json!({"where": "id = 3"})).await;
    let error = refused["error"].as_str().expect("an error");
    assert!(error.contains("main") && !error.contains("drop"), "nobody is told to drop main: {error}");
    for (name, reason) in [("main", "main can't be dropped"), ("nope", "no branch or tag nope")] {
        let options = json!({"where": "id = 3", "drop-refs": [name]});
        let (_, body) = app.send(Method::POST, &lake.management_path("erase"), Some(options.clone())).await;
        match body["job-id"].as_str() {
            Some(id) => {
                let job = app.wait_for_job(id).await;
                assert!(job["error"].as_str().expect("an error").contains(reason), "{job}");
            }
            None => assert!(body.to_string().contains(reason), "{body}"),
        }
        let (_, _, message) = app.refused(Method::POST, &lake.management_path("erase?dry-run=true"), Some(options)).await;
        assert!(message.contains(reason), "{message}");
        assert_eq!(lake.rows().await, rows);
    }

    lake.delete_by_position(&HashSet::from([3]), PositionDeleteScope::File).await;
    let options = json!({"where": "id = 3", "drop-refs": ["innocent", "beside", "audit"]});
    let report = app.ok(Method::POST, &lake.management_path("erase?dry-run=true"), Some(options.clone())).await;
    assert_eq!(report["drop-refs"], json!(["audit"]), "{report}");
    let job = lake.run_job("erase", options).await;
    assert_eq!((&job["outcome"]["refs"], &job["outcome"]["complete"]), (&json!(["audit"]), &json!(true)), "{job}");
    let refs = app.ok(Method::GET, "/v1/default/namespaces/lake/tables/t", None).await["metadata"]["refs"].clone();
    assert_eq!(refs.as_object().expect("refs").keys().collect::<Vec<_>>(), ["beside", "innocent", "main"]);
    assert_eq!(lake.rows().await.len(), 2);
}

/// The job first checks that the rows are deleted in the table, also in files that deletes apply to.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_is_refused_has_changed_nothing() {
    let app = TestApp::start().await;
    for version in [2, 3] {
        let lake = TestTable::create(&app, &format!("v{version}"), version, false, json!({})).await;
        lake.append(&[(1, "x".to_owned(), 0, None), (2, "y".to_owned(), 0, None), (3, "z".to_owned(), 0, None)]).await;
        lake.delete_by_position(&HashSet::from([2]), PositionDeleteScope::File).await;
        if version == 2 {
            lake.upsert(&[(3, 0)], &[]).await;
        }
        let before = lake.metadata().await;
        let refused = lake.run_job("erase", json!({"where": "id = 1 or id = 2"})).await;
        assert!(refused["error"].as_str().expect("an error").contains("still in main"), "{refused}");
        assert_eq!(lake.metadata().await, before, "no commit was made");
        let job = lake.run_job("erase", json!({"where": "id = 2"})).await;
        assert_eq!((&job["state"], &job["outcome"]["complete"]), (&json!("succeeded"), &json!(true)), "{job}");
    }
}

/// Creates a table of which quarantined files have rows to erase: in `write.data.path`, in an earlier location, and under a name
/// without a known extension.
///
/// Iceberg takes the format of a file from the manifest. Returns the table and the record of the expiry.
async fn with_scattered_quarantine<'a>(app: &'a TestApp, secret: &str) -> (TestTable<'a>, Value) {
    let place = |name: &str| format!("file://{}/warehouse/{name}", app.dir.path().display());
    let lake = TestTable::create(app, "t", 2, false, json!({"write.data.path": place("elsewhere/data")})).await;
    lake.append_at(&format!("{}/data/part-00000", lake.metadata().await.location), &[(1, secret.to_owned(), 0, None)]).await;
    lake.update(json!([{"action": "set-location", "location": place("moved")}])).await;
    lake.append_at(&place("elsewhere/data/1.parquet"), &[(1, secret.to_owned(), 0, None), (2, "y".to_owned(), 0, None)]).await;
    lake.append_at(&place("elsewhere/data/2.snappy"), &[(1, secret.to_owned(), 0, None)]).await;
    lake.delete_by_position(&HashSet::from([1]), PositionDeleteScope::File).await;
    lake.compact(json!({"courtesy-seconds": 0, "rewrite-all": true, "min-input-files": 1})).await;
    let expiry = lake.run_job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    assert_eq!(expiry["state"], "succeeded", "{expiry}");
    (lake, expiry)
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantined_files_are_hastened_wherever_they_lie_and_whatever_they_are_called() {
    let app = TestApp::start().await;
    let (lake, expiry) = with_scattered_quarantine(&app, "secret-row").await;
    assert_eq!(files_with(&app, "secret-row").len(), 3);
    let job = lake.run_job("erase", json!({"where": "s = 'secret-row'"})).await;
    assert_eq!((&job["outcome"]["complete"], &job["outcome"]["files"]), (&json!(true), &json!(3)), "{job}");
    let refused = lake.undo(&expiry).await.expect_err("the files are to go");
    assert!(refused.contains(job["id"].as_str().expect("an id")), "{refused}");
    sweep(app.catalog(), now_ms()).await.expect("swept");
    assert_eq!(files_with(&app, "secret-row"), Vec::<String>::new());
    assert_eq!(report(&app, &lake, "s = 'secret-row'").await, Vec::<Value>::new());
    assert_eq!((lake.rows().await.len(), lake.missing_files().await), (1, Vec::new()));
}

/// Esker does not delete imported files outside of the table's places. The report names them.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_is_not_complete_while_a_file_stays_that_no_sweep_deletes() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    let imported = format!("file://{}/warehouse/imports/x", app.dir.path().display());
    lake.append_at(&imported, &[(1, "secret-row".to_owned(), 0, None)]).await;
    lake.append(&[(2, "y".to_owned(), 0, None)]).await;
    lake.delete_by_position(&HashSet::from([1]), PositionDeleteScope::File).await;
    let job = lake.run_job("erase", json!({"where": "id = 1"})).await;
    assert_eq!((&job["state"], &job["outcome"]["complete"]), (&json!("succeeded"), &json!(false)), "{job}");
    let holders = job["outcome"]["report"]["holders"].as_array().expect("holders").clone();
    let holder = holders.iter().find(|h| h["path"] == json!(imported)).expect("it is named");
    assert!(holder["released"].as_str().expect("a reason").contains("outside"), "{holder}");
    sweep(app.catalog(), now_ms()).await.expect("swept");
    let after = report(&app, &lake, "id = 1").await;
    assert_eq!((after.len(), &after[0]["path"]), (1, &json!(imported)), "it was released, and is still reported: {after:?}");
}

/// Tables may share a directory, and each has its own files in it.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_another_table_in_a_shared_place_hold_no_rows_to_erase() {
    let app = TestApp::start_with(share_data_paths).await;
    let shared = format!("file://{}/warehouse/shared", app.dir.path().display());
    let properties = json!({"write.data.path": shared});
    let other = TestTable::create(&app, "other", 2, false, properties.clone()).await;
    other.append_at(&format!("{shared}/other/1.parquet"), &[(1, "x".to_owned(), 0, None)]).await;
    let lake = TestTable::create(&app, "t", 2, false, properties).await;
    lake.append_at(&format!("{shared}/t/1.parquet"), &[(1, "x".to_owned(), 0, None), (2, "y".to_owned(), 0, None)]).await;
    lake.delete_by_position(&HashSet::from([1]), PositionDeleteScope::File).await;
    let job = lake.run_job("erase", json!({"where": "id = 1"})).await;
    assert_eq!((&job["state"], &job["outcome"]["complete"]), (&json!("succeeded"), &json!(true)), "{job}");
    let swept = sweep(app.catalog(), now_ms()).await.expect("swept");
    assert_eq!(swept.released, 0);
    assert_eq!((other.rows().await.len(), other.missing_files().await, lake.rows().await.len()), (1, Vec::new(), 1));
}

/// A killed writer may leave a file that nothing refers to and that can't be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_stray_file_that_cannot_be_read_stops_no_erasure() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    lake.append(&[(1, "secret-row".to_owned(), 0, None)]).await;
    lake.append(&[(2, "y".to_owned(), 0, None)]).await;
    let location = lake.metadata().await.location[7..].to_owned();
    let whole = std::fs::read(&lake.data_files().await[0].file_path[7..]).expect("read");
    let stray = |name: &str| format!("{location}/data/{name}.parquet");
    for (name, bytes) in
        [("cut", &whole[..300.min(whole.len() / 2)]), ("empty", &[][..]), ("other", &b"PAR1 and nothing else"[..])]
    {
        std::fs::write(stray(name), bytes).expect("written");
    }
    lake.delete_by_position(&HashSet::from([1]), PositionDeleteScope::File).await;
    let job = lake.run_job("erase", json!({"where": "id = 1"})).await;
    assert_eq!((&job["state"], &job["outcome"]["complete"]), (&json!("succeeded"), &json!(false)), "{job}");
    let holders = job["outcome"]["report"]["holders"].as_array().expect("holders").clone();
    assert!(holders.iter().any(|h| h["path"] == json!(format!("file://{}", stray("cut"))) && h["rows"].is_null()), "{holders:?}");
    sweep(app.catalog(), now_ms()).await.expect("swept");
    assert_eq!(files_with(&app, "secret-row"), Vec::<String>::new(), "what could be read is gone");
}
