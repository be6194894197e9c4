//! Branches and tags: creation, rollback, fast-forward, and publishing of staged snapshots.

use esker_tests::{TestApp, TestTable};
use esker_types::now_ms;
use reqwest::Method;
use serde_json::{Value, json};

const REFS: &str = "/api/v1/warehouses/default/namespaces/n/tables/t/refs";

#[tokio::test(flavor = "multi_thread")]
async fn branches_and_tags_are_made_moved_and_removed_and_mistakes_are_refused_in_words() {
    let app = TestApp::start().await;
    app.table().await;
    let (code, _, message) = app.refused(Method::POST, REFS, Some(json!({"action": "create-tag", "name": "x"}))).await;
    assert!(code == 422 && message.contains("no snapshot"), "{message}");
    let writer = TestTable::simple(&app);
    writer.append_ids(0..3).await;
    let first = writer.metadata().await.current_snapshot_id.expect("a snapshot");
    app.ok(Method::POST, REFS, Some(json!({"action": "create-branch", "name": "dev"}))).await;
    app.ok(Method::POST, REFS, Some(json!({"action": "create-tag", "name": "v1", "snapshot-id": first}))).await;
    writer.append_ids(3..6).await;
    let second = writer.metadata().await.current_snapshot_id.expect("a snapshot");
    let moved = app.ok(Method::POST, REFS, Some(json!({"action": "fast-forward", "branch": "dev", "to": "main"}))).await;
    assert_eq!(moved["refs"]["dev"]["snapshot-id"], second);
    let back = app.ok(Method::POST, REFS, Some(json!({"action": "rollback", "snapshot-id": first}))).await;
    assert_eq!(back["current-snapshot-id"], first);
    assert_eq!(writer.ids().await.expect("ids").len(), 3);
    for (change, words) in [
        (json!({"action": "create-tag", "name": "v1"}), "exists already"),
        (json!({"action": "drop", "name": "main"}), "main"),
        (json!({"action": "drop", "name": "nope"}), "nope"),
        (json!({"action": "rollback", "snapshot-id": second}), "main was never at snapshot"),
        (json!({"action": "rollback", "as-of-ms": 7}), "at 7 ms since the Unix epoch"),
        (json!({"action": "fast-forward", "branch": "dev", "to": "v1"}), "does not lie ahead"),
        (json!({"action": "publish", "wap-id": "w"}), "w"),
    ] {
        let (code, _, message) = app.refused(Method::POST, REFS, Some(change.clone())).await;
        assert!(code == 422 && message.contains(words), "{change}: {code} {message}");
    }
    assert_eq!(app.refused(Method::POST, REFS, Some(json!({"action": "rollback"}))).await.0, 400);
    app.ok(Method::POST, REFS, Some(json!({"action": "fast-forward", "branch": "main", "to": "dev"}))).await;
    assert_eq!(writer.ids().await.expect("ids").len(), 6);
    app.ok(Method::POST, REFS, Some(json!({"action": "drop", "name": "dev"}))).await;
    let left = app.ok(Method::GET, REFS, None).await;
    assert_eq!(left["refs"].as_object().expect("refs").keys().collect::<Vec<_>>(), ["main", "v1"]);
}

const TABLE: &str = "/v1/default/namespaces/n/tables/t";

async fn update(app: &TestApp, updates: Value) -> (u16, Value) {
    let (status, body) = app.send(Method::POST, TABLE, Some(json!({"requirements": [], "updates": updates}))).await;
    (status.as_u16(), body)
}

/// Java's `SnapshotRef.Builder` and PyIceberg's model refuse such references, and with them the whole table.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_makes_a_reference_that_other_engines_cant_parse() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..3).await;
    let head = writer.metadata().await.current_snapshot_id.expect("a snapshot");
    for (change, named) in [
        (json!({"action": "create-tag", "name": "y", "max-ref-age-ms": 0}), "max-ref-age-ms"),
        (json!({"action": "create-branch", "name": "y", "max-ref-age-ms": -1}), "max-ref-age-ms"),
        (json!({"action": "create-branch", "name": ""}), "name"),
        (json!({"action": "create-tag", "name": ""}), "name"),
        (json!({"action": "fast-forward", "branch": "", "to": "main"}), "name"),
    ] {
        let (code, _, message) = app.refused(Method::POST, REFS, Some(change.clone())).await;
        assert!(code == 400 && message.contains(named), "{change}: {code} {message}");
        assert!(named == "name" || message.contains("must be greater than 0"), "{change}: {message}");
    }
    let reference = |name: &str, ty: &str, option: &str, value: i64| {
        let mut set = json!({"action": "set-snapshot-ref", "ref-name": name, "type": ty, "snapshot-id": head});
        if !option.is_empty() {
            set[option] = value.into();
        }
        set
    };
    for (set, named) in [
        (reference("main", "branch", "min-snapshots-to-keep", 0), "min-snapshots-to-keep"),
        (reference("main", "branch", "max-snapshot-age-ms", 0), "max-snapshot-age-ms"),
        (reference("main", "branch", "max-ref-age-ms", -5), "max-ref-age-ms"),
        (reference("y", "tag", "max-ref-age-ms", 0), "max-ref-age-ms"),
        (reference("main", "tag", "", 0), "main must be a branch"),
        (reference("", "branch", "", 0), "name"),
    ] {
        let (code, body) = update(&app, json!([set])).await;
        assert!(code == 400 && body["error"]["message"].as_str().expect("a message").contains(named), "{set}: {code} {body}");
        // A transaction of several tables refuses it too.
        let change = json!({"identifier": {"namespace": ["n"], "name": "t"}, "requirements": [], "updates": [set]});
        let transaction = json!({"table-changes": [change]});
        let (code, _, message) = app.refused(Method::POST, "/v1/default/transactions/commit", Some(transaction)).await;
        assert!(code == 400 && message.contains(named), "{set}: {code} {message}");
    }
    let left = app.ok(Method::GET, REFS, None).await;
    assert_eq!(left["refs"].as_object().expect("refs").keys().collect::<Vec<_>>(), ["main"]);
    for option in ["min-snapshots-to-keep", "max-snapshot-age-ms", "max-ref-age-ms"] {
        assert_eq!(update(&app, json!([reference("main", "branch", option, 1)])).await.0, 200);
    }
}

/// A registered table that has such a reference already can still be changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_came_with_such_a_reference_can_be_written() {
    let app = TestApp::start().await;
    let writer = TestTable::six_files(&app).await;
    doctored(&app, |metadata| metadata["refs"]["main"]["min-snapshots-to-keep"] = 0.into()).await;
    let job = app.job("compact", json!({"courtesy-seconds": 0})).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(writer.ids().await.expect("ids").len(), 60);
}

/// Replaces the table's metadata by a changed copy, as another program might do.
async fn doctored(app: &TestApp, change: impl FnOnce(&mut Value)) {
    let before = app.ok(Method::GET, TABLE, None).await;
    let at = before["metadata-location"].as_str().expect("a location");
    let mut metadata: Value = serde_json::from_slice(&std::fs::read(&at[7..]).expect("read")).expect("JSON");
    change(&mut metadata);
    let to =
        format!("{}/metadata/90000-{}.metadata.json", before["metadata"]["location"].as_str().expect("a location"), now_ms());
    std::fs::write(&to[7..], metadata.to_string()).expect("written");
    let register = json!({"name": "t", "metadata-location": to, "overwrite": true});
    app.ok(Method::POST, "/v1/default/namespaces/n/register", Some(register)).await;
}

/// Appends to main with a write-audit-publish id. Returns the snapshot's id.
async fn append_as(app: &TestApp, ids: std::ops::Range<i64>, wap_id: &str) -> i64 {
    let mut body = TestTable::simple(app).prepare_append(ids).await.body().clone();
    let updates = body["updates"].as_array_mut().expect("updates");
    let added = updates.iter_mut().find(|u| u["action"] == "add-snapshot").expect("a snapshot");
    added["snapshot"]["summary"]["wap.id"] = wap_id.into();
    let id = added["snapshot"]["snapshot-id"].as_i64().expect("an id");
    app.ok(Method::POST, TABLE, Some(body)).await;
    id
}

async fn roll_back(app: &TestApp, to: i64) {
    app.ok(Method::POST, REFS, Some(json!({"action": "rollback", "snapshot-id": to}))).await;
}

fn publish(wap_id: &str) -> Option<Value> {
    Some(json!({"action": "publish", "wap-id": wap_id}))
}

fn staged(view: &Value) -> Vec<(String, i64)> {
    let staged = view["staged"].as_array().expect("a list").iter();
    staged.map(|s| (s["wap-id"].as_str().expect("an id").to_owned(), s["snapshot-id"].as_i64().expect("an id"))).collect()
}

/// PyIceberg's overwrite stages two snapshots with one `wap.id`.
#[tokio::test(flavor = "multi_thread")]
async fn snapshots_staged_one_on_the_other_are_published_together_or_not_at_all() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..3).await;
    let base = writer.metadata().await.current_snapshot_id.expect("a snapshot");
    let (first, second) = (append_as(&app, 10..12, "C").await, append_as(&app, 20..22, "C").await);
    roll_back(&app, base).await;
    let view = app.ok(Method::GET, REFS, None).await;
    assert_eq!(staged(&view), [("C".to_owned(), first), ("C".to_owned(), second)]);
    let view = app.ok(Method::POST, REFS, publish("C")).await;
    assert_eq!((&view["current-snapshot-id"], staged(&view)), (&json!(second), Vec::new()), "{view}");
    assert_eq!(writer.ids().await.expect("ids"), [0, 1, 2, 10, 11, 20, 21]);
    let (code, _, message) = app.refused(Method::POST, REFS, publish("C")).await;
    assert!(code == 422 && message.contains("published already"), "{message}");

    let pair = [append_as(&app, 30..31, "D").await, append_as(&app, 40..41, "D").await];
    roll_back(&app, second).await;
    writer.append_ids(50..51).await;
    let (code, _, message) = app.refused(Method::POST, REFS, publish("D")).await;
    assert!(code == 422 && pair.iter().all(|id| message.contains(&id.to_string())), "main has moved on: {message}");
    assert_eq!(writer.ids().await.expect("ids"), [0, 1, 2, 10, 11, 20, 21, 50]);
    assert_eq!(staged(&app.ok(Method::GET, REFS, None).await).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_snapshots_staged_apart_under_one_id_neither_is_published() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..3).await;
    let base = writer.metadata().await.current_snapshot_id.expect("a snapshot");
    let mut pair = Vec::new();
    for ids in [10..11, 20..21] {
        pair.push(append_as(&app, ids, "C").await);
        roll_back(&app, base).await;
    }
    let (code, _, message) = app.refused(Method::POST, REFS, publish("C")).await;
    assert!(code == 422 && pair.iter().all(|id| message.contains(&id.to_string())), "{message}");
    assert_eq!(writer.ids().await.expect("ids"), [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_append_that_was_taken_over_is_not_listed_as_staged() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..3).await;
    let base = writer.metadata().await.current_snapshot_id.expect("a snapshot");
    append_as(&app, 10..11, "A").await;
    roll_back(&app, base).await;
    let other = append_as(&app, 20..21, "B").await;
    roll_back(&app, base).await;
    writer.append_ids(30..31).await;
    let view = app.ok(Method::POST, REFS, publish("A")).await;
    assert_eq!(staged(&view), [("B".to_owned(), other)]);
    assert_eq!(writer.ids().await.expect("ids"), [0, 1, 2, 10, 30]);
}

/// Readers look up a snapshot's schema and its manifests' partition specs in the table's metadata.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_set_to_a_snapshot_whose_schema_or_partition_spec_the_table_has_not() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..3).await;
    let old = writer.metadata().await.current_snapshot_id.expect("a snapshot");
    let fields = json!([
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "s", "required": false, "type": "string"},
        {"id": 3, "name": "x", "required": false, "type": "string"},
    ]);
    let spec = json!({"fields": [{"source-id": 1, "field-id": 1000, "name": "b", "transform": "bucket[4]"}]});
    let evolved = json!([
        {"action": "add-schema", "schema": {"type": "struct", "fields": fields}},
        {"action": "set-current-schema", "schema-id": -1},
        {"action": "add-spec", "spec": spec},
        {"action": "set-default-spec", "spec-id": -1},
    ]);
    assert_eq!(update(&app, evolved).await.0, 200);
    let head = json!([{"action": "set-snapshot-ref", "ref-name": "old", "type": "tag", "snapshot-id": old}]);
    for (list, key, named) in [("partition-specs", "spec-id", "partition spec 0"), ("schemas", "schema-id", "schema 0")] {
        doctored(&app, |metadata| metadata[list].as_array_mut().expect("a list").retain(|e| e[key] != 0)).await;
        for change in [
            json!({"action": "create-tag", "name": "old", "snapshot-id": old}),
            json!({"action": "create-branch", "name": "old", "snapshot-id": old}),
        ] {
            let (code, _, message) = app.refused(Method::POST, REFS, Some(change.clone())).await;
            assert!(code == 400 && message.contains(named), "{change}: {code} {message}");
        }
        let (code, body) = update(&app, head.clone()).await;
        assert!(code == 400 && body.to_string().contains(named), "{code} {body}");
    }
}
