//! Commits to one table: concurrent ones, conflicts, time-outs at the commit point, and the checks that each must pass.

use std::collections::HashSet;
use std::sync::Arc;

use esker_catalog::{Actor, CatalogError, Proposal};
use esker_format::TableUpdate;
use esker_state::{ReceiptKey, StateError};
use esker_tests::{Faults, TestApp, TestTable, schema_json};
use esker_types::TableName;
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

const TABLE: &str = "/v1/default/namespaces/n/tables/t";

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_commits_share_metadata_files_and_none_is_lost() {
    let app = TestApp::start().await;
    app.table().await;
    let set = |i: usize| {
        let update = json!({"action": "set-properties", "updates": {format!("k{i}"): i.to_string()}});
        app.send(Method::POST, TABLE, Some(json!({"requirements": [], "updates": [update]})))
    };
    let answers = join_all((0..60).map(set)).await;
    assert!(answers.iter().all(|(status, _)| status.is_success()));
    let body = app.ok(Method::GET, TABLE, None).await;
    let properties = body["metadata"]["properties"].as_object().expect("properties");
    let expected: serde_json::Map<_, _> = (0..60).map(|i| (format!("k{i}"), json!(i.to_string()))).collect();
    let set: serde_json::Map<_, _> = properties.clone().into_iter().filter(|(key, _)| key.starts_with('k')).collect();
    assert_eq!(set, expected);
    // Each answer's metadata contains the request's own change, and its location exists.
    for (i, (_, answer)) in answers.iter().enumerate() {
        assert_eq!(answer["metadata"]["properties"][format!("k{i}")], i.to_string());
    }
    let files: HashSet<&str> = answers.iter().filter_map(|(_, a)| a["metadata-location"].as_str()).collect();
    assert!(files.len() < 60, "group commit: {} metadata files for 60 commits", files.len());
    let on_disk = walk(app.dir.path()).into_iter().filter(|p| p.ends_with(".metadata.json")).count();
    assert_eq!(on_disk, files.len() + 1, "one file a batch and one of the create");
}

/// A client that gave up repeats its request while the first one waits. So does a proxy.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_repeated_while_it_waits_fails_no_other_commit() {
    let app = TestApp::start().await;
    app.table().await;
    let catalog = app.catalog();
    let name: TableName = "n.t".parse().expect("a name");
    let commit = |property: String, value: &str, body: Option<&str>| {
        let receipt = body.map(|body| ReceiptKey {
            warehouse: catalog.warehouse(),
            principal: "client".to_owned(),
            operation: format!("POST {TABLE}"),
            key: Uuid::from_u128(7),
            body_sha256: body.to_owned(),
        });
        let updates = vec![TableUpdate::SetProperties { updates: [(property, value.to_owned())].into() }];
        let proposal = Proposal { updates, actor: Actor { receipt, ..Actor::internal("test") }, ..Proposal::default() };
        let name = &name;
        async move { catalog.commit(name, proposal).await }
    };
    // Every fourth commit is the repeated one.
    let all = (0..64).map(|i| match i % 4 {
        0 => commit("repeated".to_owned(), "x", Some("body")),
        _ => commit(format!("k{i}"), "x", None),
    });
    let results = join_all(all).await;
    assert!(results.iter().any(Result::is_ok));
    for (i, result) in results.into_iter().enumerate() {
        match result {
            Ok(_) => {}
            Err(CatalogError::State(StateError::DuplicateKey(_))) => assert_eq!(i % 4, 0),
            Err(error) => panic!("{i}: {error}"),
        }
    }
    let later = commit("repeated".to_owned(), "y", Some("another body")).await.expect_err("the key was used");
    assert!(matches!(later, CatalogError::State(StateError::DuplicateKey(_))), "{later}");
    let body = app.ok(Method::GET, TABLE, None).await;
    let properties = &body["metadata"]["properties"];
    assert_eq!(properties["repeated"], "x", "it is applied once");
    assert!((0..64).filter(|i| i % 4 != 0).all(|i| properties[format!("k{i}")] == "x"), "{properties}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_commits_on_one_base_the_second_is_a_conflict_that_changes_nothing() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    let (first, second) = (writer.prepare_append(0..5).await, writer.prepare_append(5..9).await);
    writer.commit(&first).await;
    let (code, kind, message) = app.refused(Method::POST, TABLE, Some(serde_json::to_value(second.body()).expect("json"))).await;
    assert_eq!((code, kind.as_str()), (409, "CommitFailedException"));
    assert!(message.contains("branch main was created concurrently"), "{message}");
    assert_eq!(writer.ids().await.expect("ids"), (0..5).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_effect_writes_no_metadata_file() {
    let app = TestApp::start().await;
    let created = app.table().await;
    let body = app.ok(Method::POST, TABLE, Some(json!({"requirements": [], "updates": []}))).await;
    assert_eq!(body["metadata-location"], created["metadata-location"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn loading_with_refs_leaves_out_only_unreferenced_snapshots() {
    let app = TestApp::start().await;
    app.table().await;
    let empty = app.ok(Method::GET, &format!("{TABLE}?snapshots=refs"), None).await;
    assert!(!empty["metadata"]["snapshots"].is_null() || empty["metadata"].get("snapshots").is_none());
    let writer = TestTable::simple(&app);
    for i in 0..4 {
        writer.append_ids(i..i + 1).await;
    }
    let all = app.ok(Method::GET, TABLE, None).await;
    let refs = app.ok(Method::GET, &format!("{TABLE}?snapshots=refs"), None).await;
    let count = |body: &Value| body["metadata"]["snapshots"].as_array().map_or(0, Vec::len);
    assert_eq!((count(&all), count(&refs)), (4, 1));
    assert_eq!(all["metadata"]["snapshot-log"], refs["metadata"]["snapshot-log"]);
}

pub(crate) fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}

/// One commit hangs in the storage. Those behind it are answered that nothing was done, and it that its outcome is unknown.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_at_the_commit_point_ends_and_says_whether_anything_was_done() {
    let faults = Faults::local();
    let app = TestApp::start_on(Arc::new(faults.clone()), |config| config.server.commit_wait_seconds = 1).await;
    app.table().await;
    let set = |key: &str| json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {key: "x"}}]});
    faults.hold("/metadata/00001-");
    let hanging = app.refused(Method::POST, TABLE, Some(set("hanging")));
    let behind = async {
        // The first commit has its turn then, and has recorded its file.
        faults.wait_for_a_held_write().await;
        let change = json!({"identifier": {"namespace": ["n"], "name": "t"}, "requirements": [], "updates": set("b")["updates"]});
        let transaction = json!({"table-changes": [change]});
        let unregister = "/v1/default/namespaces/n/tables/t/unregister";
        for (path, body) in [(TABLE, set("behind")), ("/v1/default/transactions/commit", transaction), (unregister, json!({}))] {
            let (status, headers, text) = app.send_raw(Method::POST, path, &[], Some(body)).await;
            assert_eq!(status, 429, "{path}: {text}");
            assert!(headers.contains_key("retry-after") && text.contains("TooManyRequestsException"), "{path}: {text}");
        }
    };
    let ((code, kind, message), ()) = tokio::join!(hanging, behind);
    assert_eq!((code, kind.as_str()), (500, "CommitStateUnknownException"), "{message}");
    faults.release("/metadata/00001-");
    app.ok(Method::POST, TABLE, Some(set("again"))).await;
    let properties = app.ok(Method::GET, TABLE, None).await["metadata"]["properties"].clone();
    assert_eq!((&properties["hanging"], &properties["again"]), (&json!("x"), &json!("x")), "what was begun came about");
    assert_eq!(
        (&properties["behind"], &properties["b"]),
        (&Value::Null, &Value::Null),
        "what was told to be nothing was nothing"
    );
}

/// Sequence numbers and times of snapshots only grow (specification, "Sequence Numbers"), so none could follow the largest.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_leaves_no_room_for_later_ones_is_refused() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    let commit = writer.prepare_append(0..5).await;
    for (key, value) in [("sequence-number", i64::MAX), ("timestamp-ms", i64::MAX)] {
        let mut body = serde_json::to_value(commit.body()).expect("json");
        let updates = body["updates"].as_array_mut().expect("updates");
        let added = updates.iter_mut().find(|update| update["action"] == "add-snapshot").expect("a snapshot");
        added["snapshot"][key] = json!(value);
        let (code, _, message) = app.refused(Method::POST, TABLE, Some(body)).await;
        assert_eq!(code, 400);
        assert!(message.contains(&value.to_string()), "{message}");
    }
    writer.commit(&commit).await;
    assert_eq!(writer.ids().await.expect("ids"), (0..5).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_a_schema_that_the_table_has_not_is_refused() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    let mut body = writer.prepare_append(0..3).await.body().clone();
    let updates = body["updates"].as_array_mut().expect("updates");
    let added = updates.iter_mut().find(|u| u["action"] == "add-snapshot").expect("a snapshot");
    added["snapshot"]["schema-id"] = 9.into();
    let (code, _, message) = app.refused(Method::POST, TABLE, Some(body)).await;
    assert!(code == 400 && message.contains("schema 9"), "{code} {message}");
    assert!(writer.metadata().await.current_snapshot().is_none());
}

/// A commit that creates a table is refused for the same reasons as one that changes a table.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_makes_a_table_is_checked_as_others_are() {
    let app = TestApp::start().await;
    app.namespace().await;
    let schema =
        json!({"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "id", "required": false, "type": "long"}]});
    let new = "/v1/default/namespaces/n/tables/new";
    let create = |update: Value| {
        json!({"requirements": [{"type": "assert-create"}], "updates": [
            {"action": "add-schema", "schema": schema}, {"action": "set-current-schema", "schema-id": -1}, update]})
    };
    for (update, named) in [
        (
            json!({"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 1, "max-ref-age-ms": 0}),
            "unknown snapshot: 1",
        ),
        (
            json!({"action": "add-spec", "spec": {"fields": [{"source-id": 9, "name": "p", "transform": "identity"}]}}),
            "partition spec 0, field p",
        ),
    ] {
        let (code, _, message) = app.refused(Method::POST, new, Some(create(update))).await;
        assert!(code == 400 && message.contains(named), "{code} {message}");
    }
    // An optional field may also be null.
    let table = json!({"name": "plain", "schema": schema, "properties": null, "stage-create": null});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(table)).await;
    let nothing = json!({"requirements": null, "updates": null});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables/plain", Some(nothing)).await;
    let key = json!({"key-id": "k", "encrypted-key-metadata": "AA=="});
    let with_key = json!({"action": "add-encryption-key", "encryption-key": key});
    let (code, _, message) = app.refused(Method::POST, new, Some(create(with_key.clone()))).await;
    assert!(code == 400 && message.contains("encryption key k: it needs format version 3"), "{code} {message}");
    let mut of_version_3 = create(with_key);
    let upgrade = json!({"action": "upgrade-format-version", "format-version": 3});
    of_version_3["updates"].as_array_mut().expect("updates").push(upgrade);
    let made = app.ok(Method::POST, new, Some(of_version_3)).await;
    assert_eq!(made["metadata"]["encryption-keys"], json!([key]));
    let (code, _, message) =
        app.refused(Method::POST, new, Some(create(json!({"action": "set-properties", "updates": {}})))).await;
    assert!(code == 409 && message == "Requirement failed: table already exists", "{code} {message}");
}

/// The reference implementation stores the same defaults (`TableMetadata.persistedProperties`).
#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_has_the_defaults_of_new_tables() {
    let app = TestApp::start().await;
    app.namespace().await;
    let tables = "/v1/default/namespaces/n/tables";
    let properties = json!({"format-version": "3", "uuid": "x", "a": "b"});
    for staged in [true, false] {
        let create = json!({"name": "t", "schema": schema_json(), "properties": properties, "stage-create": staged});
        let made = app.ok(Method::POST, tables, Some(create)).await;
        assert_eq!(made["metadata"]["properties"], json!({"a": "b", "write.parquet.compression-codec": "zstd"}));
        assert_eq!((&made["metadata"]["format-version"], &made["metadata"]["next-row-id"]), (&json!(3), &json!(0)));
    }
}

/// Format version 1 does not require a table UUID (specification, "Table Metadata Fields").
#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_uuid_is_served_written_and_upgraded_with_one() {
    let app = TestApp::start().await;
    app.namespace().await;
    let create = json!({"name": "t", "schema": schema_json(), "properties": {"format-version": "1"}, "stage-create": true});
    let staged = app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
    let mut metadata = staged["metadata"].clone();
    metadata.as_object_mut().expect("an object").remove("table-uuid").expect("a uuid");
    let dir = format!("{}/metadata", metadata["location"].as_str().expect("a location"));
    std::fs::create_dir_all(&dir[7..]).expect("a directory");
    let file = format!("{dir}/v1.metadata.json");
    std::fs::write(&file[7..], metadata.to_string()).expect("written");
    let register = json!({"name": "t", "metadata-location": file});
    let registered = app.ok(Method::POST, "/v1/default/namespaces/n/register", Some(register)).await;
    assert!(registered["metadata"].get("table-uuid").is_none(), "{registered}");
    let update =
        async |updates: Value| app.send(Method::POST, TABLE, Some(json!({"requirements": [], "updates": updates}))).await;
    let upgrade = json!({"action": "upgrade-format-version", "format-version": 2});
    let (status, body) = update(json!([upgrade])).await;
    assert!(status.as_u16() == 400 && body.to_string().contains("UUID is required in format v2"), "{status} {body}");
    let uuid = "9c12d441-03fe-4693-9a96-a0705ddf69c1";
    let (status, body) = update(json!([{"action": "assign-uuid", "uuid": uuid}, upgrade])).await;
    assert!(status.is_success() && body["metadata"]["table-uuid"] == uuid, "{status} {body}");
    let app = TestApp::restart(app.stop().await).await;
    assert_eq!(app.ok(Method::GET, TABLE, None).await["metadata"]["table-uuid"], uuid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_409_also_for_a_stale_sequence_number() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..2).await;
    let stale = writer.prepare_append(2..4).await;
    writer.append_ids(4..6).await;
    let mut body = stale.body().clone();
    assert_eq!(app.refused(Method::POST, TABLE, Some(body.clone())).await.0, 409, "the requirement fails");
    body["requirements"] = json!([]);
    let (code, kind, message) = app.refused(Method::POST, TABLE, Some(body)).await;
    assert_eq!((code, kind.as_str()), (409, "CommitFailedException"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_refused_commit_asks_to_be_repeated_blindly() {
    let app = TestApp::start().await;
    app.table().await;
    let wrong = json!({"requirements": [{"type": "assert-current-schema-id", "current-schema-id": 9}], "updates": []});
    let (status, headers, _) = app.send_raw(Method::POST, TABLE, &[], Some(wrong)).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(!headers.contains_key("retry-after"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requirements_are_read_strictly() {
    let app = TestApp::start().await;
    app.table().await;
    let commit = |requirement: Value| json!({"requirements": [requirement], "updates": []});
    let absent = commit(json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": null}));
    app.ok(Method::POST, TABLE, Some(absent.clone())).await;
    TestTable::simple(&app).append_ids(0..1).await;
    assert_eq!(app.refused(Method::POST, TABLE, Some(absent)).await.0, 409);
    assert_eq!(app.refused(Method::POST, TABLE, Some(commit(json!({"type": "assert-luck"})))).await.0, 400);
    let beside = json!({"requirements": [{"type": "assert-create"}, {"type": "assert-current-schema-id",
        "current-schema-id": 0}], "updates": []});
    assert_eq!(app.refused(Method::POST, "/v1/default/namespaces/n/tables/new", Some(beside)).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn minus_one_is_what_was_added_last_and_a_commit_answers_without_config() {
    let app = TestApp::start().await;
    app.table().await;
    let mut schema = schema_json();
    schema["fields"].as_array_mut().expect("fields").push(json!({"id": 3, "name": "x", "required": false, "type": "int"}));
    let body = json!({"requirements": [], "updates": [
        {"action": "add-schema", "schema": schema}, {"action": "set-current-schema", "schema-id": -1},
        {"action": "add-sort-order", "sort-order": {"order-id": 1, "fields": [
            {"source-id": 3, "transform": "identity", "direction": "asc", "null-order": "nulls-first"}]}},
        {"action": "set-default-sort-order", "sort-order-id": -1},
        {"action": "add-spec", "spec": {"spec-id": 1, "fields": [{"source-id": 3, "name": "x", "transform": "identity"}]}},
        {"action": "set-default-spec", "spec-id": -1},
    ]});
    let answer = app.ok(Method::POST, TABLE, Some(body)).await;
    assert!(answer.get("config").is_none());
    let metadata = &answer["metadata"];
    assert_eq!(metadata["current-schema-id"], 1);
    assert_eq!(metadata["default-spec-id"], 1);
    assert_ne!(metadata["default-sort-order-id"], 0);
}
