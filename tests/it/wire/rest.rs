//! Answers of the Iceberg REST catalog: each operation, and each status of an error.

use std::sync::Arc;
use std::time::Duration;

use esker_tests::{Faults, TOKEN, TestApp, TestTable, Transcript, schema_json};
use reqwest::Method;
use serde_json::{Value, json};

use super::{TABLE, two_files};
use crate::rest_contract::view;

const NAMESPACES: &str = "/v1/default/namespaces";
const NAMESPACE: &str = "/v1/default/namespaces/n";
const TABLES: &str = "/v1/default/namespaces/n/tables";
const VIEWS: &str = "/v1/default/namespaces/n/views";
const FUNCTIONS: &str = "/v1/default/namespaces/n/functions";

/// Returns the request that renames `n.FROM` to `n.TO`.
fn rename(from: &str, to: &str) -> Value {
    json!({"source": {"namespace": ["n"], "name": from}, "destination": {"namespace": ["n"], "name": to}})
}

fn set(key: &str, value: &str) -> Value {
    json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {key: value}}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn config() {
    let app = TestApp::start().await;
    let mut log = Transcript::of(&app);
    log.get("/v1/config?warehouse=default").await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens() {
    let app = TestApp::start().await;
    let mut log = Transcript::of(&app);
    let grant = "grant_type=client_credentials&client_id=admin&client_secret=";
    log.send_anonymously(Method::POST, "/v1/oauth/tokens", Some(&format!("{grant}{TOKEN}"))).await;
    log.send_anonymously(Method::POST, "/v1/oauth/tokens", Some(&format!("{grant}wrong"))).await;
    log.send_anonymously(Method::POST, "/v1/oauth/tokens", Some("grant_type=password")).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces() {
    let app = TestApp::start().await;
    let mut log = Transcript::of(&app);
    log.post(NAMESPACES, json!({"namespace": ["n"]})).await;
    log.post(NAMESPACES, json!({"namespace": ["n", "inner"], "properties": {"owner": "a"}})).await;
    log.post(NAMESPACES, json!({"namespace": ["o"]})).await;
    log.get(NAMESPACES).await;
    log.get("/v1/default/namespaces?parent=n").await;
    log.get("/v1/default/namespaces?pageToken=&pageSize=1").await;
    log.get("/v1/default/namespaces/n%1Finner").await;
    let change = json!({"updates": {"owner": "b", "new": "c"}, "removals": ["missing"]});
    log.post("/v1/default/namespaces/n%1Finner/properties", change).await;
    log.send(Method::HEAD, NAMESPACE, &[], None).await;
    log.delete("/v1/default/namespaces/o").await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn tables() {
    let app = TestApp::start().await;
    app.namespace().await;
    let mut log = Transcript::of(&app);
    log.post(TABLES, json!({"name": "staged", "schema": schema_json(), "stage-create": true})).await;
    let partitioned = json!({"name": "t", "schema": schema_json(), "properties": {"a": "b"},
        "partition-spec": {"fields": [{"source-id": 1, "name": "bucket", "transform": "bucket[4]"}]},
        "write-order": {"order-id": 1, "fields": [
            {"source-id": 1, "transform": "identity", "direction": "asc", "null-order": "nulls-first"}]}});
    let created = log.post(TABLES, partitioned).await;
    log.get(TABLES).await;
    log.post(TABLE, set("c", "d")).await;
    app.sql("INSERT INTO n.t VALUES (1, 'a')").await.expect("inserted");
    app.sql("INSERT INTO n.t VALUES (2, 'b')").await.expect("inserted");
    log.get(TABLE).await;
    log.get(&format!("{TABLE}?snapshots=refs")).await;
    log.send(Method::HEAD, TABLE, &[], None).await;
    log.get(&format!("{TABLE}/credentials")).await;
    log.post(&format!("{TABLE}/metrics"), json!({"report-type": "scan-report", "metrics": {}})).await;
    log.post("/v1/default/tables/rename", rename("t", "u")).await;
    let changes = json!({"table-changes": [{"identifier": {"namespace": ["n"], "name": "u"}, "requirements": [],
        "updates": [{"action": "set-properties", "updates": {"e": "f"}}]}]});
    log.post("/v1/default/transactions/commit", changes).await;
    log.post(&format!("{TABLES}/u/unregister"), json!({})).await;
    let location = created["metadata-location"].clone();
    log.post(&format!("{NAMESPACE}/register"), json!({"name": "t", "metadata-location": location})).await;
    log.delete(TABLE).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn views() {
    let app = TestApp::start().await;
    app.namespace().await;
    let mut log = Transcript::of(&app);
    let created = log.post(VIEWS, view("v")).await;
    log.get(VIEWS).await;
    log.get(&format!("{VIEWS}/v")).await;
    let version = json!({"version-id": 2, "timestamp-ms": 2, "schema-id": 0, "summary": {}, "default-namespace": ["n"],
        "representations": [{"type": "sql", "sql": "SELECT 2", "dialect": "spark"}]});
    let replace = json!({"updates": [{"action": "add-view-version", "view-version": version},
        {"action": "set-current-view-version", "view-version-id": -1}]});
    log.post(&format!("{VIEWS}/v"), replace).await;
    log.send(Method::HEAD, &format!("{VIEWS}/v"), &[], None).await;
    log.post("/v1/default/views/rename", rename("v", "w")).await;
    log.delete(&format!("{VIEWS}/w")).await;
    let location = created["metadata-location"].clone();
    log.post(&format!("{NAMESPACE}/register-view"), json!({"name": "v", "metadata-location": location})).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn functions() {
    let app = TestApp::start().await;
    app.namespace().await;
    let mut log = Transcript::of(&app);
    let function = json!({"function-uuid": "9c2a5a5c-3d3e-4c0e-8f0a-0d7b5b1f3a11", "format-version": 1,
        "definitions": [{"definition-id": "1", "parameters": [], "return-type": "int"}]});
    for name in ["a", "b"] {
        log.put(&format!("/api/v1/warehouses/default/namespaces/n/functions/{name}"), function.clone()).await;
    }
    log.get(&format!("{FUNCTIONS}?pageToken=&pageSize=1")).await;
    log.get(&format!("{FUNCTIONS}/a")).await;
    log.delete("/api/v1/warehouses/default/namespaces/n/functions/a").await;
    insta::assert_snapshot!(log.text());
}

/// Replaces the id of a plan from now on.
fn redact_plan(log: &mut Transcript<'_>, plan: &Value) -> String {
    let id = plan["plan-id"].as_str().expect("an id").to_owned();
    log.redact(id.clone(), "[plan]");
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn plans() {
    let app = TestApp::start().await;
    app.table().await;
    app.sql("INSERT INTO n.t VALUES (1, 'a'), (2, 'b')").await.expect("inserted");
    app.sql("DELETE FROM n.t WHERE id = 1").await.expect("deleted");
    let request = json!({"stats-fields": ["id", "s"], "filter": {"type": "gt", "term": "id", "value": 1}});
    let plan = app.ok(Method::POST, &format!("{TABLE}/plan"), Some(request.clone())).await;
    let mut log = Transcript::of(&app);
    redact_plan(&mut log, &plan);
    log.note("a plan with deletes", &plan);
    let id = plan["plan-id"].as_str().expect("an id");
    log.get(&format!("{TABLE}/plan/{id}")).await;
    log.delete(&format!("{TABLE}/plan/{id}")).await;
    log.get(&format!("{TABLE}/plan/{id}")).await;
    insta::assert_snapshot!(log.text());
}

/// A plan of more files than one answer holds: the answers name tasks, and the files of a task are fetched.
#[tokio::test(flavor = "multi_thread")]
async fn plans_of_several_answers() {
    let app = TestApp::start_with(|c| c.server.plan_wait_ms = 0).await;
    app.table().await;
    TestTable::simple(&app).append_missing_files(2_001).await;
    let submitted = app.ok(Method::POST, &format!("{TABLE}/plan"), Some(json!({}))).await;
    let mut log = Transcript::of(&app);
    let id = redact_plan(&mut log, &submitted);
    log.note("a plan that is not waited for", &submitted);
    let poll = format!("{TABLE}/plan/{id}");
    let mut plan = Value::Null;
    while plan["status"] != "completed" {
        tokio::time::sleep(Duration::from_millis(20)).await;
        plan = app.ok(Method::GET, &poll, None).await;
    }
    // One file of each answer is enough to show its shape.
    let first = |answer: &Value| {
        let mut answer = answer.clone();
        answer["file-scan-tasks"].as_array_mut().expect("tasks").truncate(1);
        answer
    };
    let mut shown = first(&plan);
    shown["file-scan-tasks"][0]["data-file"]["file-path"] = "[path]".into();
    for task in shown["plan-tasks"].as_array_mut().expect("tasks") {
        let (form, _) = task.as_str().expect("a text").split_once('.').expect("a form");
        *task = format!("{form}.[key].[encrypted]").into();
    }
    log.note("its first answer", &shown);
    let task = json!({"plan-task": plan["plan-tasks"][0]});
    let mut shown = first(&app.ok(Method::POST, &format!("{TABLE}/tasks"), Some(task)).await);
    shown["file-scan-tasks"][0]["data-file"]["file-path"] = "[path]".into();
    log.note("the files of a task", &shown);
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_clients() {
    let app = TestApp::start_with(|c| c.server.max_body_bytes = 4000).await;
    two_files(&app).await;
    let mut log = Transcript::of(&app);
    log.send_anonymously(Method::GET, NAMESPACES, None).await;
    log.get("/v1/config?warehouse=missing").await;
    log.get("/nowhere").await;
    log.send(Method::PUT, "/v1/config", &[], None).await;
    log.get("/v1/default/namespaces/missing").await;
    log.get(&format!("{TABLES}/missing")).await;
    log.get(&format!("{VIEWS}/missing")).await;
    log.get(&format!("{FUNCTIONS}/missing")).await;
    log.get(&format!("{TABLE}/plan/missing")).await;
    log.post(&format!("{TABLE}/tasks"), json!({"plan-task": "missing.1"})).await;
    log.post(NAMESPACES, json!({"namespace": ["n"]})).await;
    log.post(TABLES, json!({"name": "t", "schema": schema_json()})).await;
    log.delete(NAMESPACE).await;
    log.post(&format!("{NAMESPACE}/properties"), json!({"updates": {"a": "1"}, "removals": ["a"]})).await;
    let commit = |requirements: Value, updates: Value| json!({"requirements": requirements, "updates": updates});
    log.post(TABLE, commit(json!([{"type": "assert-current-schema-id", "current-schema-id": 9}]), json!([]))).await;
    log.post(TABLE, commit(json!([{"type": "assert-luck"}]), json!([]))).await;
    log.post(TABLE, commit(json!([]), json!([{"action": "hope"}]))).await;
    log.post(&format!("{TABLE}/sign"), json!({"region": "r", "uri": "http://x/y", "method": "GET", "headers": {}})).await;
    log.post(&format!("{TABLE}/plan"), json!({"filter": {"type": "eq", "term": "missing", "value": 1}})).await;
    app.ok(Method::PUT, "/api/v1/warehouses/default/namespaces/n/tables/t/protection", Some(json!({"protected": true}))).await;
    log.delete(TABLE).await;
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_a_server_in_trouble() {
    let faults = Faults::local();
    let app = TestApp::start_on(Arc::new(faults.clone()), |c| c.server.commit_wait_seconds = 1).await;
    app.table().await;
    let mut log = Transcript::of(&app);
    faults.set_full(true);
    log.post(TABLE, set("a", "a disk that is full")).await;
    faults.set_full(false);
    // One commit hangs, and one waits behind it.
    faults.hold("/metadata/00001-");
    let hanging = app.send_raw(Method::POST, TABLE, &[], Some(set("a", "a store that hangs")));
    let behind = async {
        // The first commit has its turn then, and has recorded its file.
        faults.wait_for_a_held_write().await;
        log.post(TABLE, set("b", "behind it")).await;
    };
    let ((status, _, text), ()) = tokio::join!(hanging, behind);
    log.note(&format!("a commit whose outcome is unknown\n\n-> {}", status.as_u16()), &text.parse().expect("json"));
    faults.release("/metadata/00001-");
    let app = TestApp::start_on(Arc::new(faults.clone()), |_| {}).await;
    app.table().await;
    let mut away = Transcript::of(&app);
    faults.set_unreachable(true);
    away.post(
        &format!("{NAMESPACE}/register"),
        json!({"name": "x",
        "metadata-location": format!("file://{}/warehouse/n/x/metadata/v1.json", app.dir.path().display())}),
    )
    .await;
    insta::assert_snapshot!(format!("{}\n\n{}", log.text(), away.text()));
}
