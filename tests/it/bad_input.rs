//! Requests, files, disks and ports that are wrong: the error names the cause, and nothing is changed.

use std::sync::Arc;

use esker_tests::{Faults, TestApp, TestTable, config};
use reqwest::Method;
use serde_json::json;

const TABLES: &str = "/v1/default/namespaces/n/tables";

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_are_named_and_change_nothing() {
    let app = TestApp::start().await;
    app.table().await;
    let table = format!("{TABLES}/t");
    let post = Method::POST;
    for (method, path, body, code, kind, words) in [
        (&post, "/v1/default/namespaces", json!({"namespace": "n"}), 400, "BadRequestException", "namespace"),
        (&post, "/v1/default/namespaces", json!({"namespace": []}), 400, "BadRequestException", "at least one level"),
        (&post, "/v1/default/namespaces", json!({"namespace": ["a\u{1}"]}), 400, "BadRequestException", "control"),
        (&post, TABLES, json!({"name": "x"}), 400, "BadRequestException", "schema"),
        (&post, &table, json!({"updates": [{"action": "fly"}]}), 400, "BadRequestException", "fly"),
        (
            &post,
            &table,
            json!({"requirements": [{"type": "assert-luck"}], "updates": []}),
            400,
            "BadRequestException",
            "assert-luck",
        ),
        (&post, &table, json!({"updates": [{"action": "set-current-schema", "schema-id": 9}]}), 400, "BadRequestException", "9"),
        (&post, &format!("{TABLES}/missing"), json!({"updates": []}), 404, "NoSuchTableException", "n.missing"),
        (&Method::GET, "/v1/default/namespaces?pageSize=x", json!(null), 400, "BadRequestException", "pageSize"),
        (&Method::GET, "/v1/config?warehouse=other", json!(null), 404, "NoSuchWarehouseException", "other"),
        (&Method::GET, "/v1/other/namespaces", json!(null), 404, "NoSuchWarehouseException", "other"),
        (&Method::GET, "/nowhere", json!(null), 404, "NotFoundException", "/nowhere"),
        (&Method::PUT, "/v1/config", json!(null), 405, "NotFoundException", "PUT"),
        (
            &post,
            "/api/v1/warehouses/default/namespaces/n/tables/t/compact",
            json!({"tarket": 1}),
            400,
            "BadRequestException",
            "tarket",
        ),
        (
            &post,
            "/api/v1/warehouses/default/namespaces/n/tables/t/orphans",
            json!({"older-than-age-ms": 5}),
            400,
            "BadRequestException",
            "24 hours",
        ),
    ] {
        let (got_code, got_kind, message) = app.refused(method.clone(), path, (!body.is_null()).then_some(body)).await;
        assert_eq!((got_code, got_kind.as_str()), (code, kind), "{method} {path}: {message}");
        assert!(message.contains(words), "{method} {path}: {message}");
    }
    let client = reqwest::Client::new();
    let broken = client.post(app.url("/v1/default/namespaces")).bearer_auth("a-token-for-tests").body("{\"namespace\": [\"x\"");
    let broken: serde_json::Value = broken.send().await.expect("an answer").json().await.expect("an envelope");
    assert!(broken["error"]["message"].as_str().expect("a message").contains("line 1 column"), "{broken}");
    let listed = app.ok(Method::GET, "/v1/default/namespaces", None).await;
    assert_eq!(listed["namespaces"], json!([["n"]]));
}

/// Each route that takes updates names the number and kind of an unreadable update, its field, and the expected type.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_cannot_be_read_is_named_with_its_kind_and_the_field() {
    let app = TestApp::start().await;
    app.table().await;
    let good = json!({"action": "set-properties", "updates": {"a": "b"}});
    let field = |id: serde_json::Value| json!({"id": id, "name": "x", "required": false, "type": "int"});
    let schema = json!({"type": "struct", "fields": [field(json!(1)), field(json!("2"))]});
    let bad = json!({"schema": schema, "action": "add-schema"});
    let what = "add-schema: schema.fields[1].id: invalid type: string \"2\", expected i32";
    let wrong = json!({"type": "assert-current-schema-id", "current-schema-id": null});
    let change = |updates: serde_json::Value| json!({"identifier": {"namespace": ["n"], "name": "t"}, "updates": updates});
    let transaction = json!({"table-changes": [change(json!([good])), change(json!([good, good, bad]))]});
    let view = json!({"action": "add-view-version", "view-version": {"version-id": true}});
    for (path, body, expected) in [
        (format!("{TABLES}/t"), json!({"updates": [good, bad]}), format!("updates[1]: {what}")),
        (
            format!("{TABLES}/t"),
            json!({"requirements": [wrong], "updates": []}),
            "requirements[0]: assert-current-schema-id: current-schema-id: invalid type: null, expected i32".to_owned(),
        ),
        ("/v1/default/namespaces/n/views/v".to_owned(), json!({"updates": [good, bad]}), format!("updates[1]: {what}")),
        (
            "/v1/default/namespaces/n/views/v".to_owned(),
            json!({"updates": [view]}),
            "updates[0]: add-view-version: view-version.version-id: invalid type: boolean `true`, expected i".to_owned(),
        ),
        ("/v1/default/transactions/commit".to_owned(), transaction, format!("table-changes[1].updates[2]: {what}")),
    ] {
        let (code, kind, message) = app.refused(Method::POST, &path, Some(body)).await;
        assert_eq!((code, kind.as_str()), (400, "BadRequestException"), "{path}: {message}");
        assert!(message.starts_with(&format!("request body: {expected}")), "{path}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locations_outside_the_warehouse_or_inside_another_table_are_refused() {
    let app = TestApp::start().await;
    let table = app.table().await;
    let inside = format!("{}/data", table["metadata"]["location"].as_str().expect("a location"));
    for (location, words) in [("file:///etc/esker", "outside the warehouse"), ("s3://b/t", "file:"), (&inside, "overlaps")] {
        let create = json!({"name": "x", "schema": esker_tests::schema_json(), "location": location});
        let (code, _, message) = app.refused(Method::POST, TABLES, Some(create)).await;
        assert_eq!(code, 400);
        assert!(message.contains(words), "{message}");
        let set = json!({"updates": [{"action": "set-properties", "updates": {"write.data.path": location}}]});
        if location != inside {
            app.refused(Method::POST, &format!("{TABLES}/t"), Some(set)).await;
        }
    }
    let (code, _, message) = app
        .refused(
            Method::POST,
            "/v1/default/namespaces/n/register",
            Some(json!({"name": "x", "metadata-location": "file:///etc/passwd"})),
        )
        .await;
    assert_eq!(code, 400);
    assert!(message.contains("outside"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metadata_file_that_is_gone_is_named_and_can_be_put_back() {
    let app = TestApp::start().await;
    let table = app.table().await;
    let path = table["metadata-location"].as_str().expect("a location")[7..].to_owned();
    let bytes = std::fs::read(&path).expect("read");
    std::fs::remove_file(&path).expect("removed");
    let (code, kind, message) = app.refused(Method::GET, &format!("{TABLES}/t"), None).await;
    assert_eq!((code, kind.as_str()), (404, "NotFoundException"));
    assert!(message.contains(&path) && message.contains("n.t"), "{message}");
    std::fs::write(&path, bytes).expect("put back");
    app.ok(Method::GET, &format!("{TABLES}/t"), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_the_commit_and_the_compaction_and_leaves_the_table_whole() {
    let faults = Faults::local();
    let app = TestApp::start_on(Arc::new(faults.clone()), |_| {}).await;
    let writer = TestTable::six_files(&app).await;
    let prepared = writer.prepare_append(100..105).await;
    faults.set_full(true);
    let (code, kind, message) = app.refused(Method::POST, &format!("{TABLES}/t"), Some(prepared.body().clone())).await;
    assert_eq!((code, kind.as_str()), (507, "InsufficientStorageException"), "{message}");
    assert!(message.contains("full") && message.contains(".metadata.json"), "{message}");
    let job = app.job("compact", json!({})).await;
    assert_eq!(job["state"], "failed");
    assert!(job["error"].as_str().expect("an error").contains("full"), "{job}");
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());

    faults.set_full(false);
    writer.commit(&prepared).await;
    assert_eq!(app.job("compact", json!({})).await["state"], "succeeded");
    assert_eq!(writer.ids().await.expect("ids").len(), 65);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_and_a_taken_directory_are_named_before_anything_changes() {
    let app = TestApp::start().await;
    let other = tempfile::tempdir().expect("a directory");
    let mut taken = config(other.path());
    taken.server.rest_port = app.server.rest.port();
    let error = esker::server::Server::start(&taken).await.expect_err("the port is taken").to_string();
    assert!(error.contains("server.rest_port") && error.contains(&app.server.rest.to_string()), "{error}");
    assert!(!other.path().join("esker.db").exists(), "nothing was made");
    let error = esker::server::Server::start(&config(app.dir.path())).await.expect_err("the directory is in use").to_string();
    assert!(error.contains("in use by another esker"), "{error}");
}

/// 404 would say that the file does not exist; it exists and can't be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_metadata_file_that_can_not_be_read_is_400_and_names_file_and_field() {
    let app = TestApp::start().await;
    let table = app.table().await;
    let sound = table["metadata-location"].as_str().expect("a location").to_owned();
    let mut metadata: serde_json::Value = serde_json::from_slice(&std::fs::read(&sound[7..]).expect("read")).expect("JSON");
    metadata["schemas"][0]["fields"][1]["id"] = "two".into();
    let damaged = sound.replace(".metadata.json", "-damaged.metadata.json");
    std::fs::write(&damaged[7..], metadata.to_string()).expect("written");
    app.ok(Method::DELETE, &format!("{TABLES}/t"), None).await;
    let register = |at: &str| json!({"name": "t", "metadata-location": at});
    let (code, kind, message) = app.refused(Method::POST, "/v1/default/namespaces/n/register", Some(register(&damaged))).await;
    assert_eq!((code, kind.as_str()), (400, "BadRequestException"), "{message}");
    assert!(message.contains(&damaged) && message.contains("schemas[0]") && !message.contains("untagged"), "{message}");
    // The answer is the same if the file of a registered table is damaged.
    app.ok(Method::POST, "/v1/default/namespaces/n/register", Some(register(&sound))).await;
    std::fs::copy(&damaged[7..], &sound[7..]).expect("damaged");
    let app = TestApp::restart(app.stop().await).await;
    let (code, _, message) = app.refused(Method::GET, &format!("{TABLES}/t"), None).await;
    assert!(code == 400 && message.contains(&sound) && message.contains("schemas[0]"), "{code} {message}");
}

/// Spec: "Table Metadata Fields", `refs`: a table has a branch `main`, also before its first commit.
#[tokio::test(flavor = "multi_thread")]
async fn every_job_takes_the_branch_main_of_an_empty_table_and_no_other() {
    let app = TestApp::start().await;
    app.table().await;
    for kind in ["compact", "manifests", "statistics", "check"] {
        let path = format!("/api/v1/warehouses/default/namespaces/n/tables/t/{kind}?dry-run=true");
        app.ok(Method::POST, &path, Some(json!({"branch": "main"}))).await;
        let (code, _, message) = app.refused(Method::POST, &path, Some(json!({"branch": "other"}))).await;
        assert!(code == 400 && message.contains("other"), "{kind}: {code} {message}");
    }
}
