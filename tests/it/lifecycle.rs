//! The life of tables: drop and undrop, protection, unregister, retention of metadata files; and SQL functions in the catalog.

use esker_catalog::deletion::sweep;
use esker_tests::{TestApp, TestTable, schema_json};
use esker_types::{DAY_MS, now_ms};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::commits::walk;
use crate::rest_contract::view;

const TABLES: &str = "/v1/default/namespaces/n/tables";
const TABLE: &str = "/v1/default/namespaces/n/tables/t";
const MANAGE: &str = "/api/v1/warehouses/default";

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_table_comes_back_whole_even_after_its_name_was_taken() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..5).await;
    app.ok(Method::DELETE, &format!("{TABLE}?purgeRequested=true"), None).await;
    app.ok(Method::POST, TABLES, Some(json!({"name": "t", "schema": schema_json()}))).await;
    // Housekeeping and sweeps must not touch the table before its undrop period ends.
    assert_eq!(app.catalog().expire_drops(now_ms() + 6 * DAY_MS).await.expect("looked"), 0);
    sweep(app.catalog(), now_ms() + 6 * DAY_MS).await.expect("swept");
    let dropped = app.ok(Method::GET, &format!("{MANAGE}/dropped"), None).await;
    assert_eq!(
        (&dropped[0]["table"], &dropped[0]["purge"], &dropped[0]["dropped-by"]),
        (&json!("n.t"), &json!(true), &json!("admin"))
    );
    let undrop = format!("{MANAGE}/dropped/{}/undrop", dropped[0]["table-id"].as_str().expect("an id"));
    assert_eq!(app.refused(Method::POST, &undrop, None).await.0, 409, "the name is taken");
    app.ok(Method::DELETE, TABLE, None).await;
    app.ok(Method::POST, &undrop, Some(json!({"as": {"namespace": ["n"], "name": "t"}}))).await;
    assert_eq!(writer.ids().await.expect("ids"), (0..5).collect::<Vec<_>>());
    assert_eq!(app.refused(Method::POST, &undrop, None).await.0, 404, "once only");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_drop_without_purge_stay_when_its_time_is_over() {
    let app = TestApp::start().await;
    app.table().await;
    TestTable::simple(&app).append_ids(0..5).await;
    let before = walk(app.dir.path()).len();
    app.ok(Method::DELETE, TABLE, None).await;
    assert_eq!(app.catalog().expire_drops(now_ms() + 8 * DAY_MS).await.expect("ended"), 1);
    sweep(app.catalog(), now_ms() + 30 * DAY_MS).await.expect("swept");
    assert_eq!(walk(app.dir.path()).len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_protected_is_not_dropped_until_the_protection_is_lifted() {
    let app = TestApp::start().await;
    app.table().await;
    app.ok(Method::POST, "/v1/default/namespaces/n/views", Some(view("v"))).await;
    for (manage, path) in [
        (format!("{MANAGE}/namespaces/n/tables/t"), TABLE),
        (format!("{MANAGE}/namespaces/n/views/v"), "/v1/default/namespaces/n/views/v"),
        (format!("{MANAGE}/namespaces/n"), "/v1/default/namespaces/n"),
    ] {
        let protection = format!("{manage}/protection");
        app.ok(Method::PUT, &protection, Some(json!({"protected": true}))).await;
        let (code, _, message) = app.refused(Method::DELETE, path, None).await;
        assert!(code == 403 && message.contains("protected"), "{path}: {code} {message}");
        app.ok(Method::PUT, &protection, Some(json!({"protected": false}))).await;
        app.ok(Method::DELETE, path, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unregistered_table_is_handed_over_with_its_last_state_and_takes_no_more_commits() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..5).await;
    let prepared = writer.prepare_append(5..7).await;
    let last = app.ok(Method::GET, TABLE, None).await;
    let handed = app.ok(Method::POST, &format!("{TABLE}/unregister"), None).await;
    assert_eq!((&handed["metadata-location"], &handed["metadata"]), (&last["metadata-location"], &last["metadata"]));
    assert_eq!(app.refused(Method::POST, TABLE, Some(prepared.body().clone())).await.0, 404);
    sweep(app.catalog(), now_ms() + 30 * DAY_MS).await.expect("swept");
    let back = json!({"name": "t", "metadata-location": handed["metadata-location"]});
    app.ok(Method::POST, "/v1/default/namespaces/n/register", Some(back)).await;
    assert_eq!(writer.ids().await.expect("ids").len(), 5, "its files stayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_with_overwrite_points_the_name_at_another_state_in_one_step() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..5).await;
    let early = app.ok(Method::GET, TABLE, None).await["metadata-location"].clone();
    writer.append_ids(5..9).await;
    let register = "/v1/default/namespaces/n/register";
    let body = json!({"name": "t", "metadata-location": early});
    assert_eq!(app.refused(Method::POST, register, Some(body.clone())).await.0, 409);
    let mut overwrite = body;
    overwrite["overwrite"] = json!(true);
    app.ok(Method::POST, register, Some(overwrite)).await;
    assert_eq!(writer.ids().await.expect("ids").len(), 5);
    // The table has the same identity as before, so Esker still owns it.
    app.ok(Method::POST, &format!("{MANAGE}/namespaces/n/tables/t/expire?dry-run=true"), Some(json!({}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_metadata_files_go_through_quarantine_where_the_table_says_so() {
    let app = TestApp::start().await;
    let mut create = json!({"name": "t", "schema": schema_json()});
    create["properties"] =
        json!({"write.metadata.delete-after-commit.enabled": "true", "write.metadata.previous-versions-max": "2"});
    app.namespace().await;
    app.ok(Method::POST, TABLES, Some(create)).await;
    let writer = TestTable::simple(&app);
    for i in 0..6 {
        writer.append_ids(i..i + 1).await;
    }
    let files = || walk(app.dir.path()).into_iter().filter(|f| f.ends_with(".metadata.json")).count();
    assert_eq!(files(), 7, "in quarantine, still there");
    let swept = sweep(app.catalog(), now_ms() + 2 * DAY_MS).await.expect("swept");
    assert_eq!((swept.deleted, swept.released, files()), (4, 0, 3), "the current one and two before it");
    assert_eq!(writer.ids().await.expect("ids").len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_are_stored_listed_loaded_and_dropped() {
    let app = TestApp::start().await;
    app.namespace().await;
    let manage = |name: &str| format!("{MANAGE}/namespaces/n/functions/{name}");
    let metadata = json!({"function-uuid": "9c2a5a5c-3d3e-4c0e-8f0a-0d7b5b1f3a11", "format-version": 1,
        "definitions": [{"definition-id": "1", "parameters": [], "return-type": "int"}]});
    for name in ["b", "a", "c"] {
        app.ok(Method::PUT, &manage(name), Some(metadata.clone())).await;
    }
    let list = "/v1/default/namespaces/n/functions";
    let first = app.ok(Method::GET, &format!("{list}?pageToken=&pageSize=2"), None).await;
    assert_eq!(first["identifiers"], json!([["n", "a"], ["n", "b"]]));
    assert!(first["next-page-token"].is_string());
    assert_eq!(app.ok(Method::GET, &format!("{list}/a"), None).await["metadata"], metadata);
    assert_eq!(app.refused(Method::GET, &format!("{list}/x"), None).await.0, 404);
    let (code, _, message) = app.refused(Method::PUT, &manage("d"), Some(json!({"format-version": 1}))).await;
    assert!(code == 400 && message.contains("function-uuid"), "{message}");
    assert_eq!(app.refused(Method::DELETE, "/v1/default/namespaces/n", None).await.0, 409, "not empty");
    app.ok(Method::DELETE, &manage("a"), None).await;
    assert_eq!(app.send(Method::GET, &format!("{list}/a"), None).await.0, StatusCode::NOT_FOUND);
}

/// DuckDB's CREATE TABLE AS writes into the table's directories and does not create them.
#[tokio::test(flavor = "multi_thread")]
async fn a_local_table_has_its_directories_before_anything_is_written_into_them() {
    let app = TestApp::start().await;
    app.namespace().await;
    let place = |sub: &str| format!("file://{}/warehouse/{sub}", app.dir.path().display());
    let tables = "/v1/default/namespaces/n/tables";
    let exists = |uri: &str| std::path::Path::new(&uri[7..]).is_dir();
    for staged in [false, true] {
        let create = json!({"name": format!("t{staged}"), "schema": schema_json(), "stage-create": staged});
        let body = app.ok(Method::POST, tables, Some(create)).await;
        let location = body["metadata"]["location"].as_str().expect("a location");
        assert!(exists(&format!("{location}/metadata")) && exists(&format!("{location}/data")), "{body}");
    }
    let properties = json!({"write.data.path": place("elsewhere/d"), "write.metadata.path": place("elsewhere/m")});
    let create = json!({"name": "paths", "schema": schema_json(), "properties": properties});
    app.ok(Method::POST, tables, Some(create)).await;
    assert!(exists(&place("elsewhere/d")) && exists(&place("elsewhere/m")));
    let commit = json!({"requirements": [{"type": "assert-create"}], "updates": [
        {"action": "set-location", "location": place("chosen")},
        {"action": "add-schema", "schema": schema_json()}, {"action": "set-current-schema", "schema-id": -1}]});
    app.ok(Method::POST, &format!("{tables}/committed"), Some(commit)).await;
    assert!(exists(&place("chosen/data")) && exists(&place("chosen/metadata")));
    let moved = json!({"requirements": [], "updates": [{"action": "set-location", "location": place("moved")}]});
    app.ok(Method::POST, &format!("{tables}/committed"), Some(moved)).await;
    assert!(exists(&place("moved/data")) && exists(&place("moved/metadata")));
}
