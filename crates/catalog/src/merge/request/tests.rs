//! Tests of the rules of requests, on metadata alone.

use serde_json::{Value, json};

use super::*;

const UUID: &str = "9c12d441-03fe-4693-9a96-a0705ddf69c1";

/// Returns a table of version 2 whose branch `main` is at snapshot 2, on snapshot 1.
fn table() -> TableMetadata {
    let snapshot = |id: i64, parent: Option<i64>| {
        json!({"snapshot-id": id, "parent-snapshot-id": parent, "sequence-number": id, "timestamp-ms": id,
            "manifest-list": format!("l{id}"), "schema-id": 0,
            "summary": {"operation": "append", "flink.job-id": "j", "flink.operator-id": "o"}})
    };
    let json = json!({
        "format-version": 2, "table-uuid": UUID, "location": "file:///w/t", "last-sequence-number": 2, "last-updated-ms": 2,
        "last-column-id": 1, "current-schema-id": 0,
        "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "id", "required": false, "type": "long"}]}],
        "default-spec-id": 0, "last-partition-id": 999, "default-sort-order-id": 0,
        "partition-specs": [{"spec-id": 0, "fields": []}], "sort-orders": [{"order-id": 0, "fields": []}],
        "current-snapshot-id": 2, "snapshots": [snapshot(1, None), snapshot(2, Some(1))],
        "refs": {"main": {"type": "branch", "snapshot-id": 2}, "v1": {"type": "tag", "snapshot-id": 1}},
    });
    TableMetadata::from_json(json.to_string().as_bytes()).expect("metadata")
}

/// Returns a commit of snapshot 7 on snapshot 1.
fn request() -> Value {
    json!({
        "requirements": [
            {"type": "assert-table-uuid", "uuid": UUID},
            {"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": 1},
        ],
        "updates": [
            {"action": "add-snapshot", "snapshot": {"snapshot-id": 7, "parent-snapshot-id": 1, "sequence-number": 2,
                "timestamp-ms": 3, "manifest-list": "dir/l7", "schema-id": 0, "summary": {"operation": "append"}}},
            {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 7},
        ],
    })
}

fn proposal(request: &Value) -> Proposal {
    Proposal {
        requirements: serde_json::from_value(request["requirements"].clone()).expect("requirements"),
        updates: serde_json::from_value(request["updates"].clone()).expect("updates"),
        ..Proposal::default()
    }
}

/// Returns the snapshot that a request adds.
fn added(request: &Value) -> Snapshot {
    match proposal(request).updates.remove(0) {
        TableUpdate::AddSnapshot { snapshot } => snapshot,
        other => panic!("no snapshot: {other:?}"),
    }
}

/// Returns what becomes of a changed request: the rule that it breaks, or whether it was applied before.
fn judged(table: &TableMetadata, change: impl FnOnce(&mut Value)) -> Result<bool, MergeRule> {
    let mut request = request();
    change(&mut request);
    let proposal = proposal(&request);
    let sent = SentCommit::of(table, &proposal).and_then(|sent| sent.check_writers(&[]).map(|()| sent.was_applied));
    sent.map_err(|refusal| refusal.rule)
}

#[test]
fn a_request_of_the_known_form_is_merged_and_any_other_is_refused_by_its_rule() {
    let table = table();
    assert_eq!(judged(&table, |_| {}), Ok(false));
    let chain = |request: &mut Value| {
        let mut second = request["updates"][0].clone();
        (second["snapshot"]["snapshot-id"], second["snapshot"]["parent-snapshot-id"]) = (8.into(), 7.into());
        request["updates"].as_array_mut().expect("updates").insert(1, second);
        request["updates"][2]["snapshot-id"] = 8.into();
    };
    assert_eq!(judged(&table, chain), Ok(false));
    let add = |update: Value| move |request: &mut Value| request["updates"].as_array_mut().expect("updates").push(update);
    let statistics = |id: i64| {
        add(json!({"action": "set-statistics", "snapshot-id": id, "statistics": {"snapshot-id": id, "statistics-path": "p",
            "file-size-in-bytes": 2, "file-footer-size-in-bytes": 1, "blob-metadata": []}}))
    };
    assert_eq!(judged(&table, statistics(7)), Ok(false));
    assert_eq!(judged(&table, statistics(1)), Err(MergeRule::Updates));
    assert_eq!(judged(&table, add(json!({"action": "set-properties", "updates": {"a": "b"}}))), Err(MergeRule::Updates));
    assert_eq!(judged(&table, |r| r["updates"][1]["min-snapshots-to-keep"] = 3.into()), Err(MergeRule::Updates));
    assert_eq!(judged(&table, |r| r["updates"][0]["snapshot"]["parent-snapshot-id"] = 2.into()), Err(MergeRule::Updates));
    assert_eq!(judged(&table, |r| drop(r["updates"].as_array_mut().expect("updates").pop())), Err(MergeRule::Updates));
    assert_eq!(
        judged(&table, |r| drop(r["requirements"].as_array_mut().expect("requirements").remove(0))),
        Err(MergeRule::Requirements)
    );
    let other = json!({"type": "assert-ref-snapshot-id", "ref": "v1", "snapshot-id": 1});
    let asserted = |r: &mut Value| r["requirements"].as_array_mut().expect("requirements").push(other);
    assert_eq!(judged(&table, asserted), Err(MergeRule::Requirements));
    let to_tag = |r: &mut Value| (r["requirements"][1]["ref"], r["updates"][1]["ref-name"]) = ("v1".into(), "v1".into());
    assert_eq!(judged(&table, to_tag), Err(MergeRule::Branch));
    let from = |id: Value| {
        move |r: &mut Value| {
            (r["requirements"][1]["snapshot-id"], r["updates"][0]["snapshot"]["parent-snapshot-id"]) = (id.clone(), id)
        }
    };
    assert_eq!(judged(&table, from(5.into())), Err(MergeRule::Ancestor), "expired, or of another branch");
    assert_eq!(judged(&table, from(Value::Null)), Ok(false), "on the empty table");
    let summary = |key: &'static str| move |r: &mut Value| r["updates"][0]["snapshot"]["summary"][key] = "x".into();
    for key in STAGED {
        assert_eq!(judged(&table, summary(key)), Err(MergeRule::Staged), "{key}");
    }
    let flink = |r: &mut Value| {
        r["updates"][0]["snapshot"]["summary"] = json!({"operation": "append", "flink.job-id": "j", "flink.operator-id": "o"});
    };
    assert_eq!(judged(&table, flink), Err(MergeRule::WriterKey));
}

#[test]
fn a_branch_whose_first_snapshot_is_gone_takes_no_commit_of_an_empty_table() {
    let mut table = table();
    table.snapshots.retain(|snapshot| snapshot.snapshot_id != 1);
    let empty = |r: &mut Value| {
        (r["requirements"][1]["snapshot-id"], r["updates"][0]["snapshot"]["parent-snapshot-id"]) = (Value::Null, Value::Null)
    };
    assert_eq!(judged(&table, empty), Err(MergeRule::Ancestor));
    assert_eq!(judged(&table, |_| {}), Err(MergeRule::Ancestor), "its base is expired");
}

#[test]
fn a_request_that_comes_again_was_applied_if_its_snapshot_is_in_the_branch() {
    let mut table = table();
    let snapshot = added(&request());
    let on_head = |snapshot: Snapshot| {
        let mut table = self::table();
        table.snapshots.push(Snapshot { parent_snapshot_id: Some(2), sequence_number: Some(3), ..snapshot }.into());
        table
    };
    let at_head = |mut table: TableMetadata| {
        table.current_snapshot_id = Some(7);
        table.refs.get_mut("main").expect("main").snapshot_id = 7;
        table
    };
    assert_eq!(judged(&at_head(on_head(snapshot.clone())), |_| {}), Ok(true));
    let mut other = request();
    other["updates"][0]["snapshot"]["manifest-list"] = "dir/other".into();
    let mut rebased = added(&other);
    assert_eq!(judged(&at_head(on_head(rebased.clone())), |_| {}), Err(MergeRule::SnapshotId), "another list");
    rebased.summary.as_mut().expect("a summary").insert(REBASED_LIST.to_owned(), "l7".to_owned());
    assert_eq!(judged(&at_head(on_head(rebased)), |_| {}), Ok(true));
    assert_eq!(judged(&on_head(snapshot.clone()), |_| {}), Err(MergeRule::SnapshotId), "it was rolled back since");
    table.snapshots.push(Snapshot { parent_snapshot_id: None, ..snapshot }.into());
    assert_eq!(judged(&table, |_| {}), Err(MergeRule::SnapshotId), "it is staged");
}

#[test]
fn only_a_branch_that_moved_and_numbers_that_are_taken_make_a_commit_late() {
    let table = table();
    let late = |change: &dyn Fn(&mut Value)| {
        let mut request = request();
        change(&mut request);
        conflict(&table, &proposal(&request)).map(|error| error.to_string())
    };
    let moved = late(&|_| {}).expect("late");
    assert!(moved.contains("branch main has changed: expected id 1 != 2"), "{moved}");
    let on_head = |r: &mut Value| {
        (r["requirements"][1]["snapshot-id"], r["updates"][0]["snapshot"]["parent-snapshot-id"]) = (2.into(), 2.into())
    };
    let stale = late(&on_head).expect("late");
    assert!(stale.contains("sequence number 2 older than last sequence number 2"), "{stale}");
    assert_eq!(
        late(&|r| {
            on_head(r);
            r["updates"][0]["snapshot"]["sequence-number"] = 3.into();
        }),
        None
    );
    let schema = json!({"type": "assert-current-schema-id", "current-schema-id": 4});
    assert_eq!(late(&|r| r["requirements"].as_array_mut().expect("requirements").push(schema.clone())), None);
    assert_eq!(late(&|r| r["updates"] = json!([])), None, "nothing to build again");
}
