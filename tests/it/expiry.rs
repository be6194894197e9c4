//! Snapshot expiry, quarantine, sweep and purge, and the undo of an expiry.

use std::path::Path;

use esker_catalog::deletion::sweep;
use esker_format::{DataContentType, DataFile, DataFileFormat};
use esker_tests::{Row, TestApp, TestTable};
use esker_types::{DAY_MS, JobKind, now_ms};
use reqwest::Method;
use serde_json::{Value, json};

use crate::kinds::options_of;

const QUARANTINE: &str = "/api/v1/warehouses/default/namespaces/n/tables/t/quarantine";

async fn compacted(app: &TestApp) -> TestTable<'_> {
    app.table().await;
    let writer = TestTable::simple(app);
    for i in 0..6 {
        writer.append_ids(i * 10..i * 10 + 10).await;
    }
    assert_eq!(app.job("compact", json!({})).await["state"], "succeeded");
    writer
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_files_are_quarantined_first_and_deleted_after_the_grace_period() {
    let app = TestApp::start().await;
    let writer = compacted(&app).await;
    let job = app.job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    assert_eq!(job["outcome"]["snapshots"], 6, "{job}");
    let quarantined = app.ok(Method::GET, QUARANTINE, None).await;
    let quarantined: Vec<String> =
        quarantined.as_array().expect("files").iter().map(|f| f["path"].as_str().expect("a path")[7..].to_owned()).collect();
    assert_eq!(quarantined.iter().filter(|p| p.ends_with(".parquet")).count(), 6);
    assert!(quarantined.iter().all(|p| Path::new(p).exists()), "in place during the grace period");
    app.ok(Method::POST, "/api/v1/quarantine/sweep", None).await;
    assert!(quarantined.iter().all(|p| Path::new(p).exists()), "a sweep leaves what is not due");

    let day_after = now_ms() + 25 * 3600 * 1000;
    let swept = sweep(app.catalog(), day_after).await.expect("swept");
    assert_eq!((swept.deleted as usize, swept.released, swept.failed), (quarantined.len(), 0, 0));
    assert!(quarantined.iter().all(|p| !Path::new(p).exists()));
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
    let orphans = "/api/v1/warehouses/default/namespaces/n/tables/t/orphans?dry-run=true";
    assert_eq!(app.ok(Method::POST, orphans, Some(json!({}))).await["orphans"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_file_that_is_referenced_again_is_released() {
    let app = TestApp::start().await;
    let writer = compacted(&app).await;
    let catalog = app.catalog();
    let row = catalog.tables().await.expect("tables").remove(0);
    let live = writer.data_paths().await.remove(0);
    let outside = format!("file://{}/outside.txt", app.dir.path().display());
    std::fs::write(&outside[7..], "mine").expect("written");
    let record = |path: &str| row.quarantine(path.to_owned(), None, "a test says so", None, 0);
    catalog.state().quarantine().add(&[record(&live), record(&outside)]).await.expect("quarantined");
    let swept = sweep(catalog, now_ms()).await.expect("swept");
    assert_eq!((swept.deleted, swept.released), (0, 2));
    assert!(Path::new(&live[7..]).exists() && Path::new(&outside[7..]).exists());
    let note = catalog.state().quarantine().record_of(&live).await.expect("read").expect("a record").note;
    assert_eq!(note.as_deref(), Some("the table refers to it"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_keeps_its_snapshot_and_its_files() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..5).await;
    let tagged = writer.metadata().await.current_snapshot_id.expect("a snapshot");
    let tag = json!({"requirements": [], "updates": [
        {"action": "set-snapshot-ref", "ref-name": "keep", "type": "tag", "snapshot-id": tagged}]});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(tag)).await;
    for i in 1..6 {
        writer.append_ids(i * 10..i * 10 + 5).await;
    }
    app.job("compact", json!({})).await;
    app.job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    sweep(app.catalog(), now_ms() + 25 * 3600 * 1000).await.expect("swept");
    let metadata = writer.metadata().await;
    let kept = metadata.snapshots.get(tagged).expect("the tagged snapshot");
    let source = esker_table::Manifests::new(app.catalog().storage().clone(), 0);
    let live = esker_table::load_live(&source, &metadata, kept).await.expect("its manifests");
    assert!(live.data.iter().all(|f| Path::new(&f.file.file_path[7..]).exists()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_goes_through_quarantine_and_touches_no_other_table() {
    let app = TestApp::start().await;
    let writer = compacted(&app).await;
    let files = writer.data_paths().await;
    let other = json!({"name": "other", "schema": esker_tests::schema_json()});
    let other = app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(other)).await;
    app.ok(Method::DELETE, "/v1/default/namespaces/n/tables/t?purgeRequested=true", None).await;
    assert!(files.iter().all(|f| Path::new(&f[7..]).exists()), "still there while it can be brought back");
    let now = now_ms();
    assert_eq!(app.catalog().expire_drops(now + 6 * DAY_MS).await.expect("looked"), 0);
    assert_eq!(app.catalog().expire_drops(now + 8 * DAY_MS).await.expect("ended"), 1);
    sweep(app.catalog(), now + DAY_MS / 2).await.expect("swept");
    assert!(files.iter().all(|f| Path::new(&f[7..]).exists()), "still there during the grace period");
    sweep(app.catalog(), now + 2 * DAY_MS).await.expect("swept");
    assert!(files.iter().all(|f| !Path::new(&f[7..]).exists()));
    assert!(Path::new(&other["metadata-location"].as_str().expect("a location")[7..]).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_is_undone_while_its_files_are_there() {
    let app = TestApp::start().await;
    let writer = compacted(&app).await;
    let first = writer.metadata().await.snapshots.iter().map(|s| (s.timestamp_ms, s.snapshot_id)).min().expect("snapshots").1;
    let tag = json!({"requirements": [], "updates": [
        {"action": "set-snapshot-ref", "ref-name": "old", "type": "tag", "snapshot-id": first, "max-ref-age-ms": 1}]});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(tag)).await;
    let before = writer.metadata().await;
    let job = app.job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    assert_eq!((&job["outcome"]["snapshots"], &job["outcome"]["refs"]), (&json!(6), &json!(1)), "{job}");
    // The undo keeps rows that were written after the expiry.
    writer.append_ids(100..110).await;
    let undo = format!("/api/v1/warehouses/default/jobs/{}/undo", job["id"].as_str().expect("an id"));
    let undone = app.ok(Method::POST, &undo, Some(json!({}))).await;
    assert_eq!((&undone["snapshots"], &undone["refs"], &undone["gone"]), (&json!(6), &json!(["old"]), &json!(0)));
    let after = writer.metadata().await;
    assert_eq!(after.snapshots.len(), before.snapshots.len() + 1);
    assert_eq!(after.snapshot_for_ref("old").map(|s| s.snapshot_id), Some(first));
    assert!(after.metadata_log.len() > before.metadata_log.len());
    sweep(app.catalog(), now_ms() + 25 * 3600 * 1000).await.expect("swept");
    let source = esker_table::Manifests::new(app.catalog().storage().clone(), 0);
    for snapshot in &after.snapshots {
        let live = esker_table::load_live(&source, &after, snapshot).await.expect("its manifests");
        assert!(live.data.iter().all(|f| Path::new(&f.file.file_path[7..]).exists()));
    }
    let expected: Vec<i64> = (0..60).chain(100..110).collect();
    assert_eq!(writer.ids().await.expect("ids"), expected);
    // A job can be undone once. The next expiry removes the snapshots again, and after a sweep it can't be undone.
    let (status, body) = app.send(Method::POST, &undo, Some(json!({}))).await;
    assert!(status.is_client_error() && body.to_string().contains("is undone already"), "{status} {body}");
    let job = app.job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    sweep(app.catalog(), now_ms() + 25 * 3600 * 1000).await.expect("swept");
    let undo = format!("/api/v1/warehouses/default/jobs/{}/undo", job["id"].as_str().expect("an id"));
    let (status, body) = app.send(Method::POST, &undo, Some(json!({}))).await;
    assert!(status.as_u16() == 422 && body.to_string().contains("was deleted, or is being"), "{status} {body}");
    assert_eq!(writer.ids().await.expect("ids"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_tells_the_references_that_are_back_and_not_one_that_was_made_anew() {
    let app = TestApp::start().await;
    let writer = compacted(&app).await;
    let first = writer.metadata().await.snapshots.iter().map(|s| (s.timestamp_ms, s.snapshot_id)).min().expect("snapshots").1;
    let tag = |name: &str| json!({"action": "set-snapshot-ref", "ref-name": name, "type": "tag", "snapshot-id": first, "max-ref-age-ms": 1});
    let tags = json!({"requirements": [], "updates": [tag("kept"), tag("taken")]});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(tags)).await;
    let job = app.job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    assert_eq!(job["outcome"]["refs"], 2, "{job}");
    let now = writer.metadata().await.current_snapshot_id.expect("a snapshot");
    let branch = json!({"requirements": [], "updates": [
        {"action": "set-snapshot-ref", "ref-name": "taken", "type": "branch", "snapshot-id": now}]});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(branch)).await;
    let undone = app.ok(Method::POST, &undo(&job), Some(json!({}))).await;
    assert_eq!((&undone["snapshots"], &undone["refs"]), (&json!(6), &json!(["kept"])), "{undone}");
    let metadata = writer.metadata().await;
    let at = |name: &str| metadata.snapshot_for_ref(name).map(|s| s.snapshot_id);
    assert_eq!((at("kept"), at("taken")), (Some(first), Some(now)));
}

/// A job that changed nothing is refused an undo, with the reason, and no record says that it was undone.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_changed_nothing_is_refused_an_undo() {
    let app = TestApp::start().await;
    app.table().await;
    for (kind, why) in [
        ("expire", "it removed no snapshot, branch or tag"),
        ("compact", "it rewrote no file"),
        ("orphans", "it has no file in quarantine"),
    ] {
        let job = app.job(kind, json!({})).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        let (status, body) = app.send(Method::POST, &undo(&job), Some(json!({}))).await;
        assert!(status.as_u16() == 422 && body.to_string().contains(why), "{kind}: {status} {body}");
    }
    assert_eq!(app.ok(Method::GET, "/api/v1/jobs?kind=undo", None).await, json!([]));
}

/// A foreign table takes no job that changes it, of whatever kind, and yet shows what each would do.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_table_takes_no_job_that_changes_it_and_shows_each_preview() {
    let app = TestApp::start().await;
    app.table().await;
    let handed = app.ok(Method::POST, "/v1/default/namespaces/n/tables/t/unregister", None).await;
    let register = json!({"name": "t", "metadata-location": handed["metadata-location"]});
    app.ok(Method::POST, "/v1/default/namespaces/n/register", Some(register)).await;
    for view in app.ok(Method::GET, "/api/v1/job-kinds", None).await.as_array().expect("kinds") {
        let kind: JobKind = view["kind"].as_str().expect("a name").parse().expect("a kind");
        let path = format!("/api/v1/warehouses/default/namespaces/n/tables/t/{kind}");
        app.ok(Method::POST, &format!("{path}?dry-run=true"), Some(options_of(kind))).await;
        let (status, body) = app.send(Method::POST, &path, Some(options_of(kind))).await;
        match view["read-only"] == true {
            true => assert!(status.is_success(), "{kind}: {status} {body}"),
            false => assert!(status.as_u16() == 422 && body.to_string().contains("is foreign"), "{kind}: {status} {body}"),
        }
    }
}

/// `ESKER_SNAPSHOTS` is the number of snapshots (300). `make soak` runs 50,000 and fewer, and prints the duration of each.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the soak shows how time grows with the history")]
async fn a_long_history_is_expired_at_once() {
    let n: i64 = std::env::var("ESKER_SNAPSHOTS").ok().and_then(|v| v.parse().ok()).unwrap_or(300);
    let app = TestApp::start_with(|config| config.server.max_body_bytes = 1 << 30).await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.long_history(n, 1).await;
    let started = std::time::Instant::now();
    let job = app.job("expire", json!({"older-than-ms": now_ms(), "retain-last": 10})).await;
    println!("{n} snapshots: {:.2} s", started.elapsed().as_secs_f64());
    let outcome = &job["outcome"];
    assert_eq!(
        (&outcome["snapshots"], &outcome["quarantined_files"]),
        (&json!(n - 10), &json!(3 * (n - 10))),
        "{}",
        job["error"]
    );
    assert_eq!(writer.metadata().await.snapshots.len(), 10);
}

fn undo(job: &Value) -> String {
    format!("/api/v1/warehouses/default/jobs/{}/undo", job["id"].as_str().expect("an id"))
}

/// An undo is refused if its snapshots' files were deleted, by whichever job. Maintenance of the table goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_is_refused_where_another_job_took_the_files() {
    let app = TestApp::start().await;
    let writer = compacted(&app).await;
    let first = app.job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    assert_eq!(first["outcome"]["snapshots"], 6, "{first}");
    assert_eq!(app.ok(Method::POST, &undo(&first), Some(json!({}))).await["snapshots"], 6);
    let second = app.job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    assert_eq!(second["outcome"]["snapshots"], 6, "{second}");
    sweep(app.catalog(), now_ms() + 25 * 3600 * 1000).await.expect("swept");
    for (job, why) in [(&first, "is undone already"), (&second, "/metadata/snap-")] {
        let (status, body) = app.send(Method::POST, &undo(job), Some(json!({}))).await;
        assert!(status.is_client_error() && body.to_string().contains(why), "{status} {body}");
    }
    assert_eq!(writer.metadata().await.snapshots.len(), 1);
    writer.append_ids(100..110).await;
    let third = app.job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    assert_eq!(third["state"], "succeeded", "{third}");
    let swept = sweep(app.catalog(), now_ms() + 25 * 3600 * 1000).await.expect("swept");
    assert_eq!(swept.sick_tables, 0, "{swept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_is_refused_where_a_file_is_not_in_storage_any_more() {
    let app = TestApp::start().await;
    let writer = compacted(&app).await;
    let before = writer.metadata().await;
    let oldest = before.snapshots.iter().min_by_key(|s| s.sequence_number()).expect("a snapshot");
    let source = esker_table::Manifests::new(app.catalog().storage().clone(), 0);
    let manifests = esker_table::load_manifests(&source, oldest).await.expect("its manifests");
    let live = esker_table::load_live(&source, &before, oldest).await.expect("its files");
    let job = app.job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    let data = live.data[0].file.file_path.clone();
    let metadata = job["outcome"]["metadata_before"].as_str().expect("a path").to_owned();
    let list = oldest.manifest_list.clone().expect("a manifest list");
    for uri in [manifests[0].manifest_path.clone(), list, data, metadata] {
        let bytes = std::fs::read(&uri[7..]).expect("there");
        std::fs::remove_file(&uri[7..]).expect("removed");
        let (status, body) = app.send(Method::POST, &undo(&job), Some(json!({}))).await;
        let answer = body.to_string();
        assert!(
            status.as_u16() == 422 && answer.contains(&uri) && answer.contains("from a backup of the storage"),
            "{status} {body}"
        );
        std::fs::write(&uri[7..], bytes).expect("put back");
    }
    assert_eq!(writer.metadata().await.snapshots.len(), 1);
    assert_eq!(app.ok(Method::POST, &undo(&job), Some(json!({}))).await["snapshots"], 6);
}

/// `file:/x` and `file:///x` are the same file. It stays if a writer adds it again under the other spelling.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_needed_under_another_name_outlives_an_expiry() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    let rows = |id| -> Vec<Row> { vec![(id, "s".to_owned(), 0, None)] };
    lake.append(&rows(1)).await;
    let first = lake.data_files().await.remove(0);
    lake.append(&rows(2)).await;
    let job = lake.compact(json!({"rewrite-all": true, "courtesy-seconds": 0, "min-input-files": 2})).await;
    assert_eq!(job["outcome"]["files_in"], 2, "{job}");
    let other = first.file_path.replacen("file://", "file:", 1);
    let again = DataFile::new(DataContentType::Data, other, DataFileFormat::Parquet, 1, first.file_size_in_bytes);
    lake.add([again], []).await;
    let job = lake.run_job("expire", json!({"older-than-ms": now_ms() + 1000, "retain-last": 1})).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    assert!(job["outcome"]["quarantined_files"].as_u64() > Some(0), "{job}");
    // The expiry does not search manifests that are newer than the expired snapshots. The sweep searches all.
    sweep(app.catalog(), now_ms() + 25 * 3600 * 1000).await.expect("swept");
    assert_eq!(lake.rows().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_refused_whose_manifest_list_is_being_deleted_under_another_name() {
    let app = TestApp::start().await;
    let writer = TestTable::six_files(&app).await;
    let prepared = writer.prepare_append(100..110).await;
    let list = find(prepared.body(), "manifest-list").expect("a manifest list");
    let row = app.catalog().tables().await.expect("tables").remove(0);
    let other = list.replacen("file://", "file:", 1);
    assert_ne!(other, list);
    app.catalog()
        .state()
        .quarantine()
        .add(&[row.quarantine(other, None, "a test says so", None, i64::MAX)])
        .await
        .expect("quarantined");
    let (code, _, message) = app.refused(Method::POST, "/v1/default/namespaces/n/tables/t", Some(prepared.body().clone())).await;
    assert!(code == 409 && message.contains(&list), "{code} {message}");
}

/// Returns the text of a key at any depth.
pub(crate) fn find(json: &Value, key: &str) -> Option<String> {
    match json {
        Value::Object(map) => match map.get(key).and_then(Value::as_str) {
            Some(text) => Some(text.to_owned()),
            None => map.values().find_map(|value| find(value, key)),
        },
        Value::Array(all) => all.iter().find_map(|value| find(value, key)),
        _ => None,
    }
}

/// The oldest table can't be read and has more due files than one sweep takes. The other table's files are deleted all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_table_with_many_files_due_does_not_keep_another_table_from_being_swept() {
    let app = TestApp::start().await;
    let unreadable = app.table().await;
    let create = json!({"name": "well", "schema": esker_tests::schema_json()});
    let well = app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
    let state = app.catalog().state();
    let rows = app.catalog().tables().await.expect("tables");
    let row = |name: &str| rows.iter().find(|row| row.name.name == name).expect("there");
    let (unreadable_row, readable_row) = (row("t"), row("well"));
    let many: Vec<_> = (0..10_001)
        .map(|i| unreadable_row.quarantine(format!("{}/data/{i}", unreadable_row.location), None, "test", None, 0))
        .collect();
    state.quarantine().add(&many).await.expect("quarantined");
    let left = format!("{}/data/left", well["metadata"]["location"].as_str().expect("a location"));
    std::fs::write(&left[7..], "left").expect("written");
    state.quarantine().add(&[readable_row.quarantine(left.clone(), None, "test", None, 0)]).await.expect("quarantined");
    let metadata = unreadable["metadata-location"].as_str().expect("a location");
    let path = Path::new(&metadata[7..]);
    std::fs::rename(path, path.with_extension("away")).expect("gone");
    // A running server has the metadata in its cache.
    let app = TestApp::restart(app.stop().await).await;
    let swept = sweep(app.catalog(), now_ms()).await.expect("swept");
    assert!(!Path::new(&left[7..]).exists(), "{swept:?}");
    assert_eq!((swept.sick_tables, swept.released), (1, 0), "{swept:?}");
    let metrics = app.ok(Method::GET, "/metrics", None).await;
    assert!(metrics.as_str().expect("text").contains("esker_quarantine_sick_tables{warehouse=\"default\"} 1"), "{metrics}");
}

/// Files in a table's earlier places belong to the table, so its own expiry or purge reclaims them.
#[tokio::test(flavor = "multi_thread")]
async fn files_in_an_earlier_location_are_reclaimed_by_expiry_and_those_of_a_data_path_by_a_purge() {
    let app = TestApp::start().await;
    let place = |name: &str| format!("file://{}/warehouse/{name}", app.dir.path().display());
    let data = place("custom/data");
    let lake = TestTable::create(&app, "t", 2, false, json!({"write.data.path": data.clone()})).await;
    let row = |id: i64| (id, "x".to_owned(), 0, None);
    lake.append(&[row(1)]).await;
    let first = lake.live(&lake.metadata().await).await.data[0].file.file_path.clone();
    lake.update(json!([{"action": "set-location", "location": place("second")}])).await;
    lake.append_at(&format!("{data}/1.parquet"), &[row(2)]).await;
    let job = lake.compact(json!({"courtesy-seconds": 0, "rewrite-all": true, "min-input-files": 1})).await;
    assert_eq!(job["outcome"]["files_in"], 2, "{job}");
    lake.run_job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    let day = now_ms() + 25 * 3600 * 1000;
    let swept = sweep(app.catalog(), day).await.expect("swept");
    assert_eq!(swept.released, 0, "{swept:?}");
    assert!(!Path::new(&first[7..]).exists() && !Path::new(&format!("{data}/1.parquet")[7..]).exists());
    assert_eq!((lake.rows().await.len(), lake.missing_files().await), (2, Vec::new()));

    let current = lake.live(&lake.metadata().await).await.data[0].file.file_path.clone();
    assert!(current.starts_with(&data), "compactions write where the table says: {current}");
    app.ok(Method::DELETE, "/v1/default/namespaces/lake/tables/t?purgeRequested=true", None).await;
    app.catalog().expire_drops(now_ms() + 365 * DAY_MS).await.expect("ended");
    let swept = sweep(app.catalog(), day).await.expect("swept");
    assert_eq!(swept.released, 0, "{swept:?}");
    assert!(!Path::new(&current[7..]).exists());
}

async fn set_on_namespace(app: &TestApp, key: &str, value: &str) {
    let update = json!({"updates": {key: value}});
    app.ok(Method::POST, "/v1/default/namespaces/n/properties", Some(update)).await;
}

/// A table may be frozen, or get `gc.enabled=false`, to save the files in quarantine. So the sweep leaves them there.
#[tokio::test(flavor = "multi_thread")]
async fn quarantine_is_held_while_a_table_is_frozen_or_says_that_nothing_is_deleted() {
    let app = TestApp::start().await;
    let writer = compacted(&app).await;
    app.job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    let quarantined = app.ok(Method::GET, QUARANTINE, None).await;
    let quarantined: Vec<String> =
        quarantined.as_array().expect("files").iter().map(|f| f["path"].as_str().expect("a path")[7..].to_owned()).collect();
    let day_after = now_ms() + 25 * 3600 * 1000;
    let held = async |app: &TestApp, why: &str| {
        let swept = sweep(app.catalog(), day_after).await.expect("swept");
        let nothing = (0, 0, 0, 0);
        assert_eq!((swept.deleted, swept.released, swept.failed, swept.sick_tables), nothing, "{why}");
        assert_eq!(swept.held as usize, quarantined.len(), "{why}");
        assert!(quarantined.iter().all(|p| Path::new(p).exists()), "{why}");
        let left = app.ok(Method::GET, QUARANTINE, None).await;
        assert_eq!(left.as_array().expect("files").len(), quarantined.len(), "they stay in quarantine: {why}");
        let path = format!("/api/v1/warehouses/default/explain?path=file://{}", quarantined[0]);
        let verdict = app.ok(Method::GET, &path, None).await["verdict"].to_string();
        assert!(verdict.contains("stays there") && !verdict.contains("will be deleted"), "{why}: {verdict}");
    };
    for (key, value) in [("gc.enabled", "false"), ("esker.freeze", "true"), ("esker.freeze", "maybe")] {
        let set = json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {key: value}}]});
        app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(set)).await;
        held(&app, &format!("{key} = {value}")).await;
        let remove = json!({"requirements": [], "updates": [{"action": "remove-properties", "removals": [key]}]});
        app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(remove)).await;
    }
    set_on_namespace(&app, "esker.freeze", "true").await;
    held(&app, "the namespace").await;
    // A dropped table stays frozen as long as it can be undropped.
    app.ok(Method::DELETE, "/v1/default/namespaces/n/tables/t", None).await;
    let swept = sweep(app.catalog(), day_after).await.expect("swept");
    assert_eq!((swept.deleted, swept.held as usize), (0, quarantined.len()), "{swept:?}");
    let dropped = app.ok(Method::GET, "/api/v1/warehouses/default/dropped", None).await;
    let undrop = format!("/api/v1/warehouses/default/dropped/{}/undrop", dropped[0]["table-id"].as_str().expect("an id"));
    app.ok(Method::POST, &undrop, Some(json!({}))).await;
    set_on_namespace(&app, "esker.freeze", "false").await;
    drop(writer);

    let freeze = |config: &mut esker::Config| drop(config.policy.insert("freeze".to_owned(), "true".to_owned()));
    let app = TestApp::restart_with(app.stop().await, freeze).await;
    let removed = json!({"removals": ["esker.freeze"]});
    app.ok(Method::POST, "/v1/default/namespaces/n/properties", Some(removed)).await;
    held(&app, "the configuration").await;
    let app = TestApp::restart(app.stop().await).await;
    let swept = sweep(app.catalog(), day_after).await.expect("swept");
    assert_eq!((swept.deleted as usize, swept.released, swept.held), (quarantined.len(), 0, 0), "{swept:?}");
    assert!(quarantined.iter().all(|p| !Path::new(p).exists()));
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_of_a_frozen_table_is_refused_as_other_jobs_are() {
    let app = TestApp::start().await;
    let writer = TestTable::six_files(&app).await;
    let compaction = app.job("compact", json!({})).await;
    let expiry = app.job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    let before = writer.metadata().await;
    let set = async |value: &str| {
        let set = json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {"esker.freeze": value}}]});
        app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(set)).await;
    };
    for value in ["true", "maybe"] {
        set(value).await;
        for job in [&expiry, &compaction] {
            let (code, _, message) = app.refused(Method::POST, &undo(job), Some(json!({}))).await;
            assert!(code == 422 && message.contains("frozen"), "{code} {message}");
        }
    }
    assert_eq!(writer.metadata().await.current_snapshot_id, before.current_snapshot_id);
    set("false").await;
    assert_eq!(app.ok(Method::POST, &undo(&expiry), Some(json!({}))).await["snapshots"], 6);
    assert_eq!(app.ok(Method::POST, &undo(&compaction), Some(json!({}))).await["files"], 6);
}

/// Adds a partition spec and makes it the default.
async fn partition_by(lake: &TestTable<'_>, fields: Value) {
    lake.update(json!([{"action": "add-spec", "spec": {"fields": fields}}, {"action": "set-default-spec", "spec-id": -1}])).await;
}

/// Removes specs and schemas, as `expire_snapshots(clean_expired_metadata => true)` does.
async fn clean(lake: &TestTable<'_>, specs: Value, schemas: Value) {
    lake.update(json!([
        {"action": "remove-partition-specs", "spec-ids": specs},
        {"action": "remove-schemas", "schema-ids": schemas},
    ]))
    .await;
}

const EXTRA: [(i32, &str, &str); 4] = [(1, "id", "long"), (2, "s", "string"), (3, "p", "int"), (4, "extra", "int")];

async fn with_extra(lake: &TestTable<'_>) {
    let field = |(id, name, ty): (i32, &str, &str)| json!({"id": id, "name": name, "required": false, "type": ty});
    lake.evolve(EXTRA.map(field).into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_of_an_expiry_brings_back_the_schemas_and_specs_of_its_snapshots() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, true, json!({})).await;
    lake.append(&[(0, "a".to_owned(), 1, None), (1, "b".to_owned(), 2, None)]).await;
    let before = lake.metadata().await;
    let old = before.current_snapshot_id.expect("a snapshot");
    partition_by(&lake, json!([])).await;
    with_extra(&lake).await;
    let update = async |updates: Value| {
        let body = json!({"requirements": [], "updates": updates});
        app.send(Method::POST, "/v1/default/namespaces/lake/tables/t", Some(body)).await
    };
    // Specs and schemas that a snapshot needs can't be removed.
    for (removal, named) in [
        (json!({"action": "remove-partition-specs", "spec-ids": [0]}), "partition spec 0"),
        (json!({"action": "remove-schemas", "schema-ids": [0]}), "schema 0"),
    ] {
        let (status, body) = update(json!([removal])).await;
        assert!(status.as_u16() == 400 && body.to_string().contains(named), "{status} {body}");
    }
    lake.update(json!([{"action": "remove-snapshot-ref", "ref-name": "main"}])).await;
    lake.append(&[(5, "e".to_owned(), 3, Some(7))]).await;
    let expiry = lake.run_job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    assert_eq!(expiry["outcome"]["snapshots"], 1, "{expiry}");
    clean(&lake, json!([0]), json!([0])).await;
    let cleaned = lake.metadata().await;
    assert!(cleaned.partition_spec_by_id(0).is_none() && cleaned.schema_by_id(0).is_none());

    assert_eq!(lake.undo(&expiry).await.expect("undone")["snapshots"], 1);
    let after = lake.metadata().await;
    assert_eq!(after.partition_spec_by_id(0), before.partition_spec_by_id(0));
    assert_eq!(after.schema_by_id(0), before.schema_by_id(0));
    assert_eq!((after.default_spec_id, after.current_schema_id), (1, 1), "what is written by stays");
    let tag = json!({"action": "create-tag", "name": "old", "snapshot-id": old});
    app.ok(Method::POST, &lake.management_path("refs"), Some(tag)).await;
    let rows = lake.query("SELECT id, s, p FROM lake.t FOR VERSION AS OF 'old' ORDER BY id").await;
    assert_eq!(rows, [["0", "a", "1"], ["1", "b", "2"]]);
    assert_eq!(lake.run_job("check", json!({"files": true})).await["outcome"]["findings"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_of_an_expiry_is_refused_where_a_spec_of_its_snapshots_is_another_one_by_now() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    partition_by(&lake, json!([{"source-id": 3, "field-id": 1000, "name": "p", "transform": "identity"}])).await;
    lake.append(&[(0, "a".to_owned(), 1, None)]).await;
    lake.update(json!([{"action": "set-default-spec", "spec-id": 0}, {"action": "remove-snapshot-ref", "ref-name": "main"}]))
        .await;
    lake.append(&[(5, "e".to_owned(), 3, None)]).await;
    let expiry = lake.run_job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    assert_eq!(expiry["outcome"]["snapshots"], 1, "{expiry}");
    lake.update(json!([{"action": "remove-partition-specs", "spec-ids": [1]}])).await;
    partition_by(&lake, json!([{"source-id": 1, "field-id": 1001, "name": "b", "transform": "bucket[4]"}])).await;
    assert_eq!(lake.metadata().await.default_spec_id, 1, "the id is given anew");
    let error = lake.undo(&expiry).await.expect_err("refused");
    assert!(error.contains("spec-id 1") && error.contains("another one by now"), "{error}");
    assert_eq!(lake.metadata().await.snapshots.len(), 1);
}
