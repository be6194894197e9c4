//! The table properties that decide where files lie, on every route that can set one.

use esker::Config;
use esker::config::WarehouseConfig;
use esker_tests::{TestApp, schema_json};
use reqwest::Method;
use serde_json::{Value, json};

const TABLES: &str = "/v1/default/namespaces/n/tables";

/// The properties that name a directory for files.
const PATHS: [&str; 4] = ["write.data.path", "write.metadata.path", "write.object-storage.path", "write.folder-storage.path"];

const PROVIDER: &str = "write.location-provider.impl";

fn warehouse(config: &mut Config) -> &mut WarehouseConfig {
    config.warehouses.entry("default".to_owned()).or_default()
}

fn place(app: &TestApp, name: &str) -> String {
    format!("file://{}/warehouse/{name}", app.dir.path().display())
}

fn table(name: &str, properties: &Value) -> Value {
    json!({"name": name, "schema": schema_json(), "properties": properties})
}

fn set(properties: &Value) -> Value {
    json!({"action": "set-properties", "updates": properties})
}

/// Commits updates to the table `own`. Returns the status and the error's message.
async fn commit(app: &TestApp, updates: Value) -> (u16, String) {
    let body = json!({"requirements": [], "updates": updates});
    let (status, body) = app.send(Method::POST, &format!("{TABLES}/own"), Some(body)).await;
    (status.as_u16(), body["error"]["message"].as_str().unwrap_or_default().to_owned())
}

/// Tries to set properties on every route that can, with the table `own` there. Returns the messages of the refusals.
async fn refusals(app: &TestApp, properties: &Value) -> Vec<String> {
    let mut messages = Vec::new();
    let mut refused = async |path: &str, body: Value| {
        let (code, _, message) = app.refused(Method::POST, path, Some(body)).await;
        assert_eq!(code, 400, "{path} {properties}: {message}");
        messages.push(message);
    };
    let mut create = table("x", properties);
    refused(TABLES, create.clone()).await;
    create["stage-create"] = json!(true);
    refused(TABLES, create).await;
    let created = json!({"requirements": [{"type": "assert-create"}], "updates": [
        {"action": "add-schema", "schema": schema_json()}, {"action": "set-current-schema", "schema-id": -1}, set(properties)]});
    refused(&format!("{TABLES}/x"), created).await;
    let change = json!({"requirements": [], "updates": [set(properties)]});
    refused(&format!("{TABLES}/own"), change.clone()).await;
    let mut change = change;
    change["identifier"] = json!({"namespace": ["n"], "name": "own"});
    refused("/v1/default/transactions/commit", json!({"table-changes": [change]})).await;
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_changes_only_one_path_is_checked_as_a_create_is() {
    let app = TestApp::start().await;
    let other = app.table().await["metadata"]["location"].as_str().expect("a location").to_owned();
    app.ok(Method::POST, TABLES, Some(table("own", &json!({})))).await;
    for key in PATHS {
        for (wanted, why) in [("file:///etc".to_owned(), "outside the warehouse"), (format!("{other}/data"), "overlaps")] {
            let messages = refusals(&app, &json!({key: wanted})).await;
            assert!(messages.iter().all(|message| message.contains(why)), "{key}: {messages:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_file_is_checked_as_a_create_is() {
    let app = TestApp::start().await;
    app.namespace().await;
    let made = app.ok(Method::POST, TABLES, Some(table("own", &json!({})))).await;
    let file = made["metadata-location"].as_str().expect("a location").to_owned();
    app.ok(Method::POST, &format!("{TABLES}/own/unregister"), None).await;
    let mut refused: Vec<(&str, &str)> = PATHS.iter().map(|key| (*key, "file:///etc")).collect();
    refused.push((PROVIDER, "com.example.Anything"));
    for (n, (key, value)) in refused.into_iter().enumerate() {
        let mut metadata: Value = serde_json::from_slice(&std::fs::read(&file[7..]).expect("read")).expect("JSON");
        metadata["properties"][key] = json!(value);
        let changed = format!("{}/0000{n}-changed.metadata.json", file.rsplit_once('/').expect("a directory").0);
        std::fs::write(&changed[7..], metadata.to_string()).expect("written");
        let body = json!({"name": "again", "metadata-location": changed});
        let (code, _, message) = app.refused(Method::POST, "/v1/default/namespaces/n/register", Some(body)).await;
        assert!(code == 400 && message.contains(value), "{key}: {code} {message}");
        std::fs::remove_file(&changed[7..]).expect("removed");
    }
    let body = json!({"name": "again", "metadata-location": file});
    app.ok(Method::POST, "/v1/default/namespaces/n/register", Some(body)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_for_paths_is_refused_unless_it_is_configured() {
    let app = TestApp::start_with(|c| warehouse(c).allowed_location_providers = vec!["com.example.Known".to_owned()]).await;
    app.namespace().await;
    app.ok(Method::POST, TABLES, Some(table("own", &json!({PROVIDER: "com.example.Known"})))).await;
    let messages = refusals(&app, &json!({PROVIDER: "com.example.Other"})).await;
    assert!(messages.iter().all(|message| message.contains("allowed_location_providers")), "{messages:?}");
    let app = TestApp::restart(app.stop().await).await;
    let kept = json!([set(&json!({PROVIDER: "com.example.Known", "comment": "kept"}))]);
    assert_eq!(commit(&app, kept).await.0, 200, "a table that has the class goes on working");
    assert_eq!(commit(&app, json!([{"action": "remove-properties", "removals": [PROVIDER]}])).await.0, 200);
    assert_eq!(commit(&app, json!([set(&json!({PROVIDER: "com.example.Known"}))])).await.0, 400);
}

/// The directory `_esker` has the epoch and the ledger. A table there could have them deleted as orphans.
#[tokio::test(flavor = "multi_thread")]
async fn no_table_has_a_place_that_overlaps_the_directory_of_eskers_own_files() {
    let app = TestApp::start_with(|c| warehouse(c).shared_data_paths = true).await;
    app.namespace().await;
    app.ok(Method::POST, TABLES, Some(table("own", &json!({})))).await;
    for wanted in [place(&app, "_esker"), place(&app, "_esker/tables"), place(&app, "./_esker/")] {
        for key in PATHS {
            let messages = refusals(&app, &json!({key: wanted})).await;
            assert!(messages.iter().all(|message| message.contains("Esker's own files")), "{key}: {messages:?}");
        }
        let (code, message) = commit(&app, json!([{"action": "set-location", "location": wanted}])).await;
        assert!(code == 400 && message.contains("Esker's own files"), "{code} {message}");
        let mut create = table("x", &json!({}));
        create["location"] = json!(wanted);
        let (code, _, message) = app.refused(Method::POST, TABLES, Some(create)).await;
        assert!(code == 400 && message.contains("Esker's own files"), "{code} {message}");
    }
}

/// By the UUID, a table that is registered again gets to the files of the dropped one.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_creates_no_table_with_the_uuid_of_another_one() {
    let app = TestApp::start().await;
    let made = app.table().await;
    let create = async |uuid: &Value| {
        let body = json!({"requirements": [{"type": "assert-create"}], "updates": [
            {"action": "assign-uuid", "uuid": uuid}, {"action": "add-schema", "schema": schema_json()},
            {"action": "set-current-schema", "schema-id": -1}]});
        let (status, answer) = app.send(Method::POST, &format!("{TABLES}/x"), Some(body)).await;
        (status.as_u16(), answer.to_string())
    };
    let taken = &made["metadata"]["table-uuid"];
    let (status, answer) = create(taken).await;
    assert!(status == 400 && answer.contains("UUID of another table"), "{status} {answer}");
    app.ok(Method::DELETE, &format!("{TABLES}/t"), None).await;
    let (status, answer) = create(taken).await;
    assert!(status == 400 && answer.contains("UUID of another table"), "a dropped one: {status} {answer}");
    let (status, answer) = create(&json!("9c12d441-03fe-4693-9a96-a0705ddf69c1")).await;
    assert_eq!(status, 200, "{answer}");
}

/// Without `write.data.path`, earlier writers take `write.object-storage.path`.
#[tokio::test(flavor = "multi_thread")]
async fn the_removal_of_a_path_checks_those_that_remain() {
    let elsewhere = tempfile::tempdir().expect("a directory");
    let outside = format!("file://{}", elsewhere.path().display());
    let app = TestApp::start_with(|c| warehouse(c).allowed_locations = vec![outside.clone()]).await;
    app.namespace().await;
    let paths = json!({"write.data.path": place(&app, "inside"), "write.object-storage.path": format!("{outside}/t")});
    app.ok(Method::POST, TABLES, Some(table("own", &paths))).await;
    let app = TestApp::restart(app.stop().await).await;
    assert_eq!(commit(&app, json!([set(&json!({"comment": "x"}))])).await.0, 200, "other commits go on working");
    let (code, message) = commit(&app, json!([{"action": "remove-properties", "removals": ["write.data.path"]}])).await;
    assert!(code == 400 && message.contains("outside the warehouse"), "{code} {message}");
    let both = json!([{"action": "remove-properties", "removals": ["write.data.path", "write.object-storage.path"]}]);
    assert_eq!(commit(&app, both).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_path_is_shared_only_by_tables_that_share_it_already() {
    let app = TestApp::start_with(|c| warehouse(c).shared_data_paths = true).await;
    app.namespace().await;
    let shared = json!({"write.data.path": place(&app, "shared")});
    app.ok(Method::POST, TABLES, Some(table("first", &shared))).await;
    app.ok(Method::POST, TABLES, Some(table("own", &shared))).await;
    let app = TestApp::restart(app.stop().await).await;
    assert_eq!(commit(&app, json!([set(&shared), set(&json!({"comment": "x"}))])).await.0, 200, "it has the path already");
    let moved = json!([{"action": "set-location", "location": place(&app, "moved")}]);
    assert_eq!(commit(&app, moved).await.0, 200, "so does a table that moves");
    let (code, message) = commit(&app, json!([set(&json!({"write.data.path": place(&app, "shared/deeper")}))])).await;
    assert!(code == 400 && message.contains("shared_data_paths") && message.contains("n.first"), "{code} {message}");
    let (code, _, message) = app.refused(Method::POST, TABLES, Some(table("x", &shared))).await;
    assert!(code == 400 && message.contains("shared_data_paths"), "{code} {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_table_comes_to_lie_where_an_old_path_property_of_another_led() {
    let app = TestApp::start().await;
    app.namespace().await;
    for key in ["write.object-storage.path", "write.folder-storage.path"] {
        let path = place(&app, &format!("custom/{key}"));
        let name = if key.contains("object") { "object" } else { "folder" };
        app.ok(Method::POST, TABLES, Some(table(name, &json!({key: path})))).await;
        let removed = json!({"requirements": [], "updates": [{"action": "remove-properties", "removals": [key]}]});
        app.ok(Method::POST, &format!("{TABLES}/{name}"), Some(removed)).await;
        let mut create = table("x", &json!({}));
        create["location"] = json!(format!("{path}/deeper"));
        let (code, _, message) = app.refused(Method::POST, TABLES, Some(create)).await;
        assert!(code == 400 && message.contains(&format!("n.{name}")), "{key}: {code} {message}");
    }
}
