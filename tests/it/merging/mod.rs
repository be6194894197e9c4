//! Late commits: those that are built again on the new head, by the policy `commit.merge`, and those that are not.
//!
//! `model.rs` has random histories against a model of snapshot isolation.

mod model;

use std::collections::HashSet;

use esker_format::TableMetadata;
use esker_tests::{ClientChange, PreparedCommit, Row, TestApp, TestTable};
use esker_types::now_ms;
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

/// Returns a row of partition 0.
fn row(id: i64) -> Row {
    (id, format!("s{id}"), 0, None)
}

/// Returns an append of one row.
fn append(id: i64) -> ClientChange {
    ClientChange { rows: vec![row(id)], ..ClientChange::default() }
}

/// Creates a table with one row, and a policy unless it is empty.
async fn table<'a>(app: &'a TestApp, name: &str, version: u8, policy: &str) -> TestTable<'a> {
    let properties = if policy.is_empty() { json!({}) } else { json!({"esker.commit.merge": policy}) };
    let lake = TestTable::create(app, name, version, false, properties).await;
    lake.append(&[row(0)]).await;
    lake
}

/// Sends a commit. Returns the status and the body of the answer.
async fn send(app: &TestApp, lake: &TestTable<'_>, commit: &PreparedCommit) -> (u16, Value) {
    let (status, body) = app.send(Method::POST, &lake.path(), Some(commit.body().clone())).await;
    (status.as_u16(), body)
}

/// Sends a commit that must be refused as a conflict. Returns the message.
async fn conflict(app: &TestApp, lake: &TestTable<'_>, commit: &PreparedCommit) -> String {
    let (code, kind, message) = app.refused(Method::POST, &lake.path(), Some(commit.body().clone())).await;
    assert_eq!((code, kind.as_str()), (409, "CommitFailedException"), "{message}");
    message
}

fn ids(rows: &[Row]) -> Vec<i64> {
    rows.iter().map(|row| row.0).collect()
}

/// Returns the ranges of row ids of a table's snapshots, in the order of their sequence numbers.
fn row_ids(metadata: &TableMetadata) -> Vec<(u64, u64)> {
    let mut all: Vec<_> = metadata.snapshots.iter().collect();
    all.sort_by_key(|snapshot| snapshot.sequence_number());
    all.into_iter().filter_map(|snapshot| snapshot.first_row_id.zip(snapshot.added_rows)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_append_is_merged_where_the_table_asks_for_it() {
    let app = TestApp::start().await;
    for version in 1..=3 {
        let lake = table(&app, &format!("merged{version}"), version, "append").await;
        let base = lake.metadata().await.current_snapshot_id.expect("a snapshot");
        let (first, second) = (lake.prepare_change(&append(1)).await, lake.prepare_change(&append(2)).await);
        lake.commit(&first).await;
        let answer = lake.commit(&second).await;
        let id = second.snapshot()["snapshot-id"].as_i64().expect("an id");
        assert_eq!(answer["metadata"]["current-snapshot-id"], id, "the client finds its snapshot");
        assert_eq!(ids(&lake.rows().await), [0, 1, 2]);
        let metadata = lake.metadata().await;
        let head = metadata.current_snapshot().expect("a snapshot");
        assert_eq!(head.parent_snapshot_id, first.snapshot()["snapshot-id"].as_i64());
        assert_eq!(head.sequence_number, (version > 1).then_some(3));
        assert_eq!(head.summary_value("esker.rebased-from"), Some(base.to_string().as_str()));
        assert_eq!((head.summary_value("esker.rebased-as"), head.summary_value("added-records")), (Some("append"), Some("1")));
        if version == 3 {
            assert_eq!((row_ids(&metadata), metadata.next_row_id), (vec![(0, 1), (1, 1), (2, 1)], Some(3)));
        }
        // The client's own list is no part of the table. Some clients delete theirs, others leave it.
        let list = second.snapshot()["manifest-list"].as_str().expect("a list").to_owned();
        let record = app.catalog().state().quarantine().record_of(&list).await.expect("read").expect("a record");
        assert!(record.record.reason.contains("merged"), "{}", record.record.reason);
        assert_eq!(lake.missing_files().await, Vec::<String>::new());
    }
    app.stop().await;
}

/// The statistics of a commit that is built again are left out. Their path is a text of the client.
#[tokio::test(flavor = "multi_thread")]
async fn statistics_that_are_left_out_are_put_into_quarantine_if_their_path_is_a_location() {
    let app = TestApp::start().await;
    let lake = table(&app, "t", 2, "append").await;
    let (first, second) = (lake.prepare_change(&append(1)).await, lake.prepare_change(&append(2)).await);
    lake.commit(&first).await;
    let (id, mut body) = (second.snapshot()["snapshot-id"].clone(), second.body().clone());
    let statistics = json!({"snapshot-id": id, "statistics-path": "no\u{0} location", "file-size-in-bytes": 1,
        "file-footer-size-in-bytes": 1, "blob-metadata": []});
    let update = json!({"action": "set-statistics", "snapshot-id": id, "statistics": statistics});
    body["updates"].as_array_mut().expect("updates").push(update);
    let answer = app.ok(Method::POST, &lake.path(), Some(body)).await;
    assert_eq!(answer["metadata"]["current-snapshot-id"], id);
    let row = app.catalog().table(&"lake.t".parse().expect("a name")).await.expect("a table");
    let files = app.catalog().state().quarantine().of_table(row.id).await.expect("read");
    assert!(!files.is_empty() && files.iter().all(|file| !file.record.path.contains('\0')), "{files:?}");
    assert_eq!(ids(&lake.rows().await), [0, 1, 2]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_policy_a_late_commit_is_refused_in_the_words_of_the_reference() {
    let app = TestApp::start().await;
    for policy in ["", "off", "sometimes"] {
        let lake = table(&app, &format!("t{}", policy.len()), 2, policy).await;
        let (first, second) = (lake.prepare_change(&append(1)).await, lake.prepare_change(&append(2)).await);
        lake.commit(&first).await;
        let message = conflict(&app, &lake, &second).await;
        assert!(message.contains("branch main has changed: expected id") && !message.contains("merged"), "{message}");
        assert_eq!(ids(&lake.rows().await), [0, 1]);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_that_of_the_closest_place_and_a_serializable_table_is_not_merged() {
    let app = TestApp::start_with(|config| {
        config.policy.insert("commit.merge".to_owned(), "append".to_owned());
    })
    .await;
    let merges = async |name: &str, properties: Value| {
        let lake = TestTable::create(&app, name, 2, false, properties).await;
        let (first, second) = (lake.prepare_change(&append(1)).await, lake.prepare_change(&append(2)).await);
        lake.commit(&first).await;
        send(&app, &lake, &second).await.0 == 200
    };
    assert!(merges("server", json!({})).await, "an append to an empty table is merged too");
    assert!(!merges("own", json!({"esker.commit.merge": "off"})).await);
    assert!(!merges("serializable", json!({"write.delete.isolation-level": "serializable"})).await);
    assert!(merges("snapshot", json!({"write.merge.isolation-level": "snapshot"})).await);
    let off = json!({"updates": {"esker.commit.merge": "off"}, "removals": []});
    app.ok(Method::POST, "/v1/default/namespaces/lake/properties", Some(off)).await;
    assert!(!merges("namespace", json!({})).await);
    assert!(merges("closer", json!({"esker.commit.merge": "append"})).await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_number_another_branch_took_is_renumbered_under_every_policy() {
    let app = TestApp::start().await;
    for (version, policy) in [(1, ""), (2, ""), (3, ""), (3, "snapshot")] {
        let lake = table(&app, &format!("n{version}{policy}"), version, policy).await;
        let base = lake.metadata().await.current_snapshot_id.expect("a snapshot");
        lake.update(json!([{"action": "set-snapshot-ref", "ref-name": "b", "type": "branch", "snapshot-id": base}])).await;
        let other = lake.prepare_change(&append(9)).await.on_branch("b");
        let old = lake.data_paths().await;
        let own = lake.prepare_change(&ClientChange { removed: old, rows: vec![row(5)], ..ClientChange::default() }).await;
        lake.commit(&other).await;
        lake.commit(&own).await;
        assert_eq!(ids(&lake.rows().await), [5]);
        let metadata = lake.metadata().await;
        let head = metadata.current_snapshot().expect("a snapshot");
        assert_eq!((head.parent_snapshot_id, head.sequence_number), (Some(base), (version > 1).then_some(3)));
        assert_eq!(head.summary_value("esker.rebased-as"), (version > 1).then_some("renumber"));
        if version == 3 {
            assert_eq!(row_ids(&metadata), [(0, 1), (1, 1), (2, 1)], "no row id twice");
        }
        let branch = lake.live_of("b").await;
        assert_eq!(branch.data.len(), 2, "the other branch is as it was");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_again_is_answered_and_applied_once() {
    let app = TestApp::start().await;
    for policy in ["off", "append"] {
        let lake = table(&app, policy, 2, policy).await;
        let (first, second) = (lake.prepare_change(&append(1)).await, lake.prepare_change(&append(2)).await);
        lake.commit(&first).await;
        lake.commit(&first).await;
        if policy == "append" {
            lake.commit(&second).await;
            lake.commit(&second).await;
            lake.commit(&first).await;
        }
        let expected: &[i64] = if policy == "append" { &[0, 1, 2] } else { &[0, 1] };
        assert_eq!(ids(&lake.rows().await), expected, "{policy}");
        // A snapshot that was rolled back is not applied again.
        let refs = lake.management_path("refs");
        let base = first.snapshot()["parent-snapshot-id"].clone();
        app.ok(Method::POST, &refs, Some(json!({"action": "rollback", "snapshot-id": base}))).await;
        let (status, body) = send(&app, &lake, &first).await;
        assert!(status == 400 || status == 409, "{status} {body}");
        assert_eq!(ids(&lake.rows().await), [0]);
    }
    app.stop().await;
}

/// An expiry leaves nothing of a merged snapshot in the metadata. The receipt still tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_merged_request_is_known_after_its_snapshot_has_expired() {
    let app = TestApp::start().await;
    let lake = table(&app, "expired", 2, "append").await;
    let (first, second, third) =
        (lake.prepare_change(&append(1)).await, lake.prepare_change(&append(2)).await, lake.prepare_change(&append(3)).await);
    lake.commit(&first).await;
    lake.commit(&second).await;
    lake.append(&[row(4)]).await;
    let job = lake.run_job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(lake.metadata().await.snapshots.len(), 1);
    lake.commit(&second).await;
    assert_eq!(ids(&lake.rows().await), [0, 1, 2, 4]);
    let message = conflict(&app, &lake, &third).await;
    assert!(message.contains("(rule ancestor)"), "one that was never made is not known: {message}");
    // Another request with the same id is none that was made.
    let mut other = second.body().clone();
    for update in other["updates"].as_array_mut().expect("updates") {
        if update["action"] == "add-snapshot" {
            update["snapshot"]["manifest-list"] = third.snapshot()["manifest-list"].clone();
        }
    }
    let (code, _, message) = app.refused(Method::POST, &lake.path(), Some(other)).await;
    assert!(code == 409 && message.contains("(rule snapshot-id)"), "{code} {message}");
    assert_eq!(ids(&lake.rows().await), [0, 1, 2, 4]);
    app.stop().await;
}

/// A summary is a text of its client. PostgreSQL refuses some texts, and with them the whole batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_summary_that_names_a_merged_list_makes_no_receipt() {
    let app = TestApp::start().await;
    let lake = table(&app, "claimed", 2, "").await;
    let commit = lake.prepare_change(&append(1)).await.with_summary("esker.rebased-list", "no\u{0} list");
    lake.commit(&commit).await;
    let id = commit.snapshot()["snapshot-id"].as_i64().expect("an id");
    let row = app.catalog().table(&"lake.claimed".parse().expect("a name")).await.expect("a table");
    let receipts = app.catalog().state().tables().merged_among(row.id, &[id]).await.expect("read");
    assert!(receipts.is_empty(), "{receipts:?}");
    app.stop().await;
}

/// Returns a change that deletes rows by position, and updates them if `text` is not empty.
fn by_position(deleted: &[Row], text: &str) -> ClientChange {
    let updated = deleted.iter().filter(|_| !text.is_empty()).map(|row| (row.0, text.to_owned(), row.2, row.3));
    ClientChange {
        versions: deleted.iter().map(|row| (row.0, row.1.clone())).collect(),
        rows: updated.collect(),
        ..ClientChange::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_of_other_rows_of_a_file_are_merged_and_those_of_the_same_row_are_not() {
    let app = TestApp::start().await;
    for version in 2..=3 {
        let lake = table(&app, &format!("positions{version}"), version, "snapshot").await;
        let rows: Vec<Row> = (1..5).map(row).collect();
        lake.append(&rows).await;
        let one = lake.prepare_change(&by_position(&rows[..2], "one")).await;
        let other = lake.prepare_change(&by_position(&rows[2..3], "other")).await;
        let same = lake.prepare_change(&by_position(&rows[1..2], "same")).await;
        lake.commit(&one).await;
        lake.commit(&other).await;
        let message = conflict(&app, &lake, &same).await;
        assert!(message.contains("(rule same-row)") && message.contains(".parquet"), "{message}");
        let found: Vec<(i64, String)> = lake.rows().await.into_iter().map(|row| (row.0, row.1)).collect();
        let expected = [(0, "s0"), (1, "one"), (2, "one"), (3, "other"), (4, "s4")].map(|(id, text)| (id, text.to_owned()));
        assert_eq!(found, expected, "version {version}");
        let metadata = lake.metadata().await;
        let head = metadata.current_snapshot().expect("a snapshot");
        assert_eq!(head.summary_value("esker.rebased-as"), Some("position-deletes"));
        let vectors = lake.live(&metadata).await.deletes.len();
        assert_eq!(vectors, if version == 3 { 1 } else { 2 }, "a data file has one vector");
        assert_eq!(lake.missing_files().await, Vec::<String>::new());
        let events = app.ok(Method::GET, "/api/v1/events?limit=1000", None).await;
        let refused = events["events"].as_array().expect("events").iter().rfind(|event| event["type"] == "table.commit-refused");
        let data = &refused.expect("an event")["data"];
        assert_eq!((&data["rule"], &data["snapshot-ids"][0]), (&json!("same-row"), &same.snapshot()["snapshot-id"]));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_by_position_follow_their_rows_through_a_compaction() {
    let app = TestApp::start().await;
    for (version, strategy) in [(2, "binpack"), (2, "sort"), (3, "binpack"), (3, "sort")] {
        let lake = table(&app, &format!("moved{version}{strategy}"), version, "snapshot").await;
        let rows: Vec<Row> = (1..7).map(row).collect();
        lake.append(&rows[..3]).await;
        lake.append(&rows[3..]).await;
        let before = lake.prepare_change(&by_position(&rows[..1], "")).await;
        lake.commit(&before).await;
        let late = lake.prepare_change(&by_position(&rows[2..4], "late")).await;
        let same = lake.prepare_change(&by_position(&rows[3..5], "same")).await;
        let mut options = json!({"courtesy-seconds": 0, "min-input-files": 2, "rewrite-all": true, "strategy": strategy});
        if strategy == "sort" {
            options["sort-order"] = "id desc".into();
        }
        let job = lake.compact(options).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        let compacted = lake.metadata().await;
        let moves = compacted.current_snapshot().expect("a snapshot").summary_value("esker.row-moves").expect("a mapping");
        let path = format!("{}/metadata/{moves}", compacted.location);
        let record = app.catalog().state().quarantine().record_of(&path).await.expect("read").expect("it goes after an hour");
        assert!(record.record.due_ms > now_ms(), "{record:?}");
        lake.commit(&late).await;
        let message = conflict(&app, &lake, &same).await;
        assert!(message.contains("(rule same-row)"), "{message}");
        let found: Vec<(i64, String)> = lake.rows().await.into_iter().map(|row| (row.0, row.1)).collect();
        let expected = [(0, "s0"), (2, "s2"), (3, "late"), (4, "late"), (5, "s5"), (6, "s6")];
        assert_eq!(found, expected.map(|(id, text)| (id, text.to_owned())), "version {version}, {strategy}");
        assert_eq!(lake.missing_files().await, Vec::<String>::new());
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_the_rule_and_the_file() {
    let app = TestApp::start().await;
    let lake = table(&app, "rules", 2, "append").await;
    let data = lake.data_paths().await;
    let removal = lake.prepare_change(&ClientChange { removed: data, ..ClientChange::default() }).await;
    let staged = lake.prepare_change(&append(1)).await.with_summary("wap.id", "w");
    let flink = |commit: PreparedCommit| commit.with_summary("flink.job-id", "j").with_summary("flink.operator-id", "o");
    let (streamed, again) = (flink(lake.prepare_change(&append(2)).await), flink(lake.prepare_change(&append(3)).await));
    lake.commit(&streamed).await;
    for (commit, words) in [(&removal, "(rule policy)"), (&staged, "(rule staged)"), (&again, "(rule writer-key)")] {
        let message = conflict(&app, &lake, commit).await;
        assert!(message.contains("branch main has changed") && message.contains(words), "{message}");
    }
    app.stop().await;
}

/// Each commit gets a snapshot of its own, though many share a metadata file.
#[tokio::test(flavor = "multi_thread")]
async fn appends_that_come_at_once_become_a_snapshot_each() {
    let app = TestApp::start().await;
    let lake = table(&app, "many", 3, "append").await;
    let mut commits = Vec::new();
    for id in 1..33 {
        commits.push(lake.prepare_change(&append(id)).await);
    }
    let answers = join_all(commits.iter().map(|commit| send(&app, &lake, commit))).await;
    for (commit, (status, answer)) in commits.iter().zip(&answers) {
        assert_eq!(*status, 200, "{answer}");
        let id = &commit.snapshot()["snapshot-id"];
        let snapshots = answer["metadata"]["snapshots"].as_array().expect("snapshots");
        assert!(snapshots.iter().any(|snapshot| snapshot["snapshot-id"] == *id), "the answer has the client's snapshot");
    }
    let metadata = lake.metadata().await;
    assert_eq!((metadata.snapshots.len(), metadata.snapshot_log.len(), metadata.last_sequence_number), (33, 33, 33));
    assert_eq!(row_ids(&metadata), (0..33).map(|id| (id, 1)).collect::<Vec<_>>());
    assert_eq!(ids(&lake.rows().await), (0..33).collect::<Vec<_>>());
    let files: HashSet<&str> = answers.iter().filter_map(|(_, answer)| answer["metadata-location"].as_str()).collect();
    assert!(files.len() < 32, "{} metadata files for 32 commits", files.len());
    let text = app.ok(Method::GET, "/metrics", None).await;
    let text = text.as_str().expect("text");
    assert!(text.contains("esker_commits_merged_total{class=\"append\"} 31"), "all but the first were late");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_is_merged_over_a_compaction_and_its_undo_and_not_over_a_rollback() {
    let app = TestApp::start().await;
    for version in 1..=3 {
        let lake = table(&app, &format!("between{version}"), version, "append").await;
        lake.append(&[row(1)]).await;
        let over_compaction = lake.prepare_change(&append(2)).await;
        let options = json!({"courtesy-seconds": 0, "min-input-files": 2, "rewrite-all": true});
        let job = lake.compact(options).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        lake.commit(&over_compaction).await;
        assert_eq!(ids(&lake.rows().await), [0, 1, 2]);
        let over_undo = lake.prepare_change(&append(3)).await;
        lake.undo(&job).await.expect("undone");
        lake.commit(&over_undo).await;
        assert_eq!(ids(&lake.rows().await), [0, 1, 2, 3]);
        let over_rollback = lake.prepare_change(&append(4)).await;
        let back = over_undo.snapshot()["parent-snapshot-id"].clone();
        app.ok(Method::POST, &lake.management_path("refs"), Some(json!({"action": "rollback", "snapshot-id": back}))).await;
        let message = conflict(&app, &lake, &over_rollback).await;
        assert!(message.contains("(rule ancestor)"), "{message}");
        assert_eq!(ids(&lake.rows().await), [0, 1, 2]);
    }
    app.stop().await;
}
