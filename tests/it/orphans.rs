//! Orphan scans: two a day apart make a file an orphan, and it can be restored as long as it is in quarantine.

use std::fs::File;
use std::time::{Duration, SystemTime};

use esker_catalog::deletion::sweep;
use esker_tests::{TestApp, TestTable};
use esker_types::now_ms;
use reqwest::Method;
use serde_json::{Value, json};

const HOUR: i64 = 3600 * 1000;

/// Creates a file in the table's location that was last modified some days ago. Returns its URI.
pub(crate) fn old_file(location: &str, name: &str, days: u64) -> String {
    let path = format!("{location}/{name}");
    std::fs::create_dir_all(std::path::Path::new(&path[7..]).parent().expect("a parent")).expect("made");
    std::fs::write(&path[7..], "left over").expect("written");
    let file = File::options().write(true).open(&path[7..]).expect("opened");
    file.set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 3600)).expect("set");
    path
}

fn place(app: &TestApp, name: &str) -> String {
    format!("file://{}/warehouse/{name}", app.dir.path().display())
}

/// Sets the modification time of all files in the warehouse to some days ago.
fn age(app: &TestApp) {
    for path in crate::commits::walk(&app.dir.path().join("warehouse")) {
        let file = File::options().write(true).open(path).expect("opened");
        file.set_modified(SystemTime::now() - Duration::from_secs(9 * 24 * 3600)).expect("set");
    }
}

/// Runs a second orphan scan of a table of the namespace `lake`, as if a day had passed since the first. Returns the job.
pub(crate) async fn second_scan(app: &TestApp, name: &str) -> Value {
    let tables = app.catalog().tables().await.expect("tables");
    let id = tables.into_iter().find(|row| row.name.to_string() == format!("lake.{name}")).expect("there").id;
    let all = crate::commits::walk(&app.dir.path().join("warehouse"));
    let all: Vec<String> = all.into_iter().map(|path| format!("file://{path}")).collect();
    app.catalog().state().quarantine().record_orphan_candidates(id, &all, now_ms() - 25 * HOUR).await.expect("seen");
    TestTable::open(app, name).run_job("orphans", json!({})).await
}

async fn explained(app: &TestApp, path: &str) -> Value {
    app.ok(Method::GET, &format!("/api/v1/warehouses/default/explain?path={path}"), None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_goes_after_two_looks_a_day_apart_and_can_be_had_back() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    for i in 0..3 {
        writer.append_ids(i * 10..i * 10 + 10).await;
    }
    let location = writer.metadata().await.location;
    let orphan = old_file(&location, "data/a=1/lost.parquet", 5);
    let young = old_file(&location, "data/young.parquet", 2);
    // Hadoop's local file system writes a checksum file for each file.
    let of_table = writer.data_paths().await.remove(0);
    let (directory, name) = of_table[location.len() + 1..].rsplit_once('/').expect("a directory");
    let checksum = old_file(&location, &format!("{directory}/.{name}.crc"), 9);
    // The table's own files are never orphans, however old they are.
    for file in writer.data_paths().await {
        let file = File::options().write(true).open(&file[7..]).expect("opened");
        file.set_modified(SystemTime::now() - Duration::from_secs(9 * 24 * 3600)).expect("set");
    }
    let listed =
        app.ok(Method::POST, "/api/v1/warehouses/default/namespaces/n/tables/t/orphans?dry-run=true", Some(json!({}))).await;
    assert_eq!((&listed["orphans"], &listed["named"][0]["path"]), (&json!(1), &json!(orphan)), "{listed}");
    assert_eq!(listed["named"][0]["since_ms"], Value::Null, "a dry run leaves no trace");
    assert_eq!(explained(&app, &checksum).await["held_by"][0]["role"], "checksum");

    let first = app.job("orphans", json!({})).await["outcome"].clone();
    assert_eq!((&first["orphans"], &first["waiting"], &first["quarantined_files"]), (&json!(1), &json!(1), &json!(0)), "{first}");
    let again = app.job("orphans", json!({})).await["outcome"].clone();
    assert_eq!(
        (&again["waiting"], &again["quarantined_files"]),
        (&json!(1), &json!(0)),
        "a second look the same day takes nothing"
    );
    assert!(explained(&app, &orphan).await["verdict"].as_str().expect("a verdict").contains("is an orphan"));

    // Makes the first scan a day older.
    let id = app.catalog().tables().await.expect("tables").remove(0).id;
    app.catalog().state().quarantine().forget_orphan_candidates(id, now_ms() + HOUR).await.expect("forgotten");
    app.catalog()
        .state()
        .quarantine()
        .record_orphan_candidates(id, std::slice::from_ref(&orphan), now_ms() - 25 * HOUR)
        .await
        .expect("seen");
    let job = app.job("orphans", json!({})).await;
    assert_eq!((&job["outcome"]["waiting"], &job["outcome"]["quarantined_files"]), (&json!(0), &json!(1)), "{job}");
    assert!(explained(&app, &orphan).await["verdict"].as_str().expect("a verdict").contains("will be deleted"));
    let undo = format!("/api/v1/warehouses/default/jobs/{}/undo", job["id"].as_str().expect("an id"));
    assert_eq!(app.ok(Method::POST, &undo, Some(json!({}))).await["files"], 1);
    sweep(app.catalog(), now_ms() + 25 * HOUR).await.expect("swept");
    assert!(std::path::Path::new(&orphan[7..]).exists(), "it was taken out of quarantine");

    let job = app.job("orphans", json!({})).await;
    assert_eq!(job["outcome"]["quarantined_files"], 1, "{job}");
    let swept = sweep(app.catalog(), now_ms() + 25 * HOUR).await.expect("swept");
    assert_eq!((swept.deleted, swept.released), (1, 0));
    assert!(!std::path::Path::new(&orphan[7..]).exists() && std::path::Path::new(&young[7..]).exists());
    assert!(explained(&app, &orphan).await["verdict"].as_str().expect("a verdict").contains("was deleted"));
    assert_eq!(writer.ids().await.expect("ids"), (0..30).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_orphan_that_a_commit_came_to_need_is_released() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..5).await;
    // A slow writer: its files are days old when it commits them.
    let late = writer.prepare_append(100..105).await;
    let location = writer.metadata().await.location;
    let files = app.catalog().storage();
    let all: Vec<_> = futures::TryStreamExt::try_collect(files.list(&esker_storage::Location::parse(&location).expect("valid")))
        .await
        .expect("listed");
    let all: Vec<esker_storage::ListedObject> = all;
    let live = writer.data_paths().await;
    let waiting: Vec<String> = all
        .into_iter()
        .map(|f| f.uri)
        .filter(|uri| uri.contains("/data/") && uri.ends_with(".parquet") && !live.contains(uri))
        .collect();
    assert_eq!(waiting.len(), 1);
    let file = File::options().write(true).open(&waiting[0][7..]).expect("opened");
    file.set_modified(SystemTime::now() - Duration::from_secs(9 * 24 * 3600)).expect("set");
    let id = app.catalog().tables().await.expect("tables").remove(0).id;
    app.catalog().state().quarantine().record_orphan_candidates(id, &waiting, now_ms() - 25 * HOUR).await.expect("seen");
    assert_eq!(app.job("orphans", json!({})).await["outcome"]["quarantined_files"], 1);
    writer.commit(&late).await;
    let swept = sweep(app.catalog(), now_ms() + 25 * HOUR).await.expect("swept");
    assert_eq!((swept.deleted, swept.released), (0, 1));
    assert_eq!(writer.ids().await.expect("ids"), (0..5).chain(100..105).collect::<Vec<_>>());
    let found = explained(&app, &waiting[0]).await;
    assert_eq!(found["held_by"][0]["role"], "data", "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_explained() {
    let app = TestApp::start().await;
    let writer = TestTable::six_files(&app).await;
    let old = writer.data_paths().await.remove(0);
    let found = explained(&app, &old).await;
    assert_eq!((&found["table"], &found["held_by"][0]["refs"]), (&json!("n.t"), &json!(["main"])), "{found}");
    let job = app.job("compact", json!({})).await;
    let found = explained(&app, &old).await;
    assert!(!found["held_by"][0]["refs"].to_string().contains("main"), "{found}");
    let metadata = writer.metadata().await;
    let roles =
        |found: &Value| found["held_by"].as_array().expect("holders").iter().map(|h| h["role"].clone()).collect::<Vec<_>>();
    let list = metadata.current_snapshot().and_then(|snapshot| snapshot.manifest_list.clone()).expect("a manifest list");
    assert_eq!(roles(&explained(&app, &list).await), [json!("manifest-list")]);
    let expired = app.job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    let found = explained(&app, &old).await;
    assert_eq!((&found["quarantine"]["state"], &found["quarantine"]["job"]), (&json!("quarantined"), &expired["id"]), "{found}");
    let nowhere = format!("file://{}/warehouse/elsewhere.txt", app.dir.path().display());
    assert!(explained(&app, &nowhere).await["verdict"].as_str().expect("a verdict").contains("no table's location"));
    let undo = format!("/api/v1/warehouses/default/jobs/{}/undo", job["id"].as_str().expect("an id"));
    assert_eq!(app.ok(Method::POST, &undo, Some(json!({}))).await["files"], 6);
    let found = explained(&app, &old).await;
    assert_eq!((&found["quarantine"]["state"], &found["held_by"][0]["refs"]), (&json!("released"), &json!(["main"])), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_no_tables_location_is_explained_while_the_table_that_quarantined_it_is_unreadable() {
    let app = TestApp::start().await;
    let metadata = app.table().await["metadata-location"].as_str().expect("a location")[7..].to_owned();
    let nowhere = place(&app, "elsewhere.txt");
    let table = app.catalog().tables().await.expect("tables").remove(0);
    let record = table.quarantine(nowhere.clone(), None, "a test", None, now_ms() + 24 * HOUR);
    app.catalog().state().quarantine().add(&[record]).await.expect("quarantined");
    let dir = app.stop().await;
    std::fs::remove_file(metadata).expect("removed");
    let app = TestApp::restart(dir).await;
    assert_eq!(app.refused(Method::GET, "/v1/default/namespaces/n/tables/t", None).await.0, 404);
    let found = explained(&app, &nowhere).await;
    assert_eq!(found["quarantine"]["state"], "quarantined", "{found}");
    assert!(found["verdict"].as_str().expect("a verdict").contains("no table's location"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inventory_takes_the_place_of_the_listing() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..5).await;
    let location = writer.metadata().await.location;
    old_file(&location, "data/not in the inventory.parquet", 5);
    let lost = old_file(&location, "data/lost here.parquet", 5);
    let live = writer.data_paths().await.remove(0);
    let row = |uri: &str| format!("{},9,2024-01-01T00:00:00Z\n", uri.trim_start_matches("file:///").replace(' ', "%20"));
    let text = format!("key,size,last_modified_date\n{}{}", row(&lost), row(&live));
    let inventory = format!("file://{}/warehouse/inventory.csv", app.dir.path().display());
    std::fs::write(&inventory[7..], text).expect("written");
    let path = "/api/v1/warehouses/default/namespaces/n/tables/t/orphans?dry-run=true";
    let report = app.ok(Method::POST, path, Some(json!({"inventory": inventory}))).await;
    assert_eq!((&report["listed"], &report["referenced"], &report["orphans"]), (&json!(2), &json!(1), &json!(1)), "{report}");
    assert_eq!(report["named"][0]["path"], lost);
    let job = app.job("orphans", json!({"inventory": inventory})).await;
    assert_eq!(job["outcome"]["waiting"], 1, "{job}");
    let missing = app.job("orphans", json!({"inventory": format!("{inventory}.gz")})).await;
    assert_eq!(missing["state"], "failed", "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_catalog_is_behind_its_files_nothing_is_an_orphan() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..5).await;
    let location = writer.metadata().await.location;
    old_file(&location, "data/lost.parquet", 5);
    old_file(&location, "metadata/00007-01890a5d.metadata.json", 5);
    let job = app.job("orphans", json!({})).await;
    assert!(job["error"].as_str().expect("an error").contains("esker recover"), "{job}");
}

/// Manifests may name files anywhere: `add_files` of PyIceberg and Spark does not move files.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_table_refers_to_is_no_orphan_wherever_it_lies() {
    let app = TestApp::start().await;
    let (own, other) =
        (TestTable::create(&app, "own", 2, false, json!({})).await, TestTable::create(&app, "other", 2, false, json!({})).await);
    let location = own.metadata().await.location;
    other.append_at(&format!("{location}/data/of-other.parquet"), &[(1, "x".to_owned(), 0, None)]).await;
    old_file(&location, "data/lost.parquet", 9);
    age(&app);
    assert_eq!(own.preview_orphans().await["named"].as_array().expect("a list").len(), 1, "only what nobody refers to");
    let job = second_scan(&app, "own").await;
    assert_eq!((&job["outcome"]["quarantined_files"], &job["outcome"]["waiting"]), (&json!(1), &json!(0)), "{job}");
    let swept = sweep(app.catalog(), now_ms() + 25 * HOUR).await.expect("swept");
    assert_eq!((swept.deleted, swept.released), (1, 0));
    assert_eq!((other.rows().await.len(), other.missing_files().await), (1, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_orphan_that_another_table_came_to_refer_to_is_released() {
    let app = TestApp::start().await;
    let (own, other) =
        (TestTable::create(&app, "own", 2, false, json!({})).await, TestTable::create(&app, "other", 2, false, json!({})).await);
    let location = own.metadata().await.location;
    let (late, lost) = (format!("{location}/data/late.parquet"), old_file(&location, "data/lost.parquet", 9));
    old_file(&location, "data/late.parquet", 9);
    assert_eq!(second_scan(&app, "own").await["outcome"]["quarantined_files"], 2);
    other.append_at(&late, &[(1, "x".to_owned(), 0, None)]).await;
    let swept = sweep(app.catalog(), now_ms() + 25 * HOUR).await.expect("swept");
    assert_eq!((swept.deleted, swept.released, swept.sick_tables), (1, 1, 0));
    assert!(!std::path::Path::new(&lost[7..]).exists());
    assert_eq!((other.rows().await.len(), other.missing_files().await), (1, Vec::new()));
}

/// The dropped table may be undropped, and its snapshots refer to files in its earlier location.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dropped_table_left_in_an_earlier_location_is_no_orphan_of_the_next_one_there() {
    let app = TestApp::start().await;
    let moved = TestTable::create(&app, "moved", 2, false, json!({})).await;
    moved.update(json!([{"action": "set-location", "location": place(&app, "first")}])).await;
    moved.append(&[(1, "x".to_owned(), 0, None)]).await;
    moved.update(json!([{"action": "set-location", "location": place(&app, "second")}])).await;
    app.ok(Method::DELETE, "/v1/default/namespaces/lake/tables/moved", None).await;
    let create = json!({"name": "next", "schema": esker_tests::schema_json(), "location": place(&app, "first")});
    app.ok(Method::POST, "/v1/default/namespaces/lake/tables", Some(create)).await;
    age(&app);
    let job = second_scan(&app, "next").await;
    assert_eq!((&job["state"], &job["outcome"]["orphans"]), (&json!("succeeded"), &json!(0)), "{job}");
    sweep(app.catalog(), now_ms() + 25 * HOUR).await.expect("swept");
    let dropped = app.catalog().dropped_tables().await.expect("listed").remove(0).row;
    let cause = esker_catalog::Actor::internal("test");
    app.catalog().undrop_table(dropped.id, None, &cause).await.expect("back");
    assert_eq!((moved.rows().await.len(), moved.missing_files().await), (1, Vec::new()));
}

/// The directory `_esker` of the warehouse has the epoch and the ledger. No table has a place there now, but an older one may.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_eskers_own_is_not_deleted_even_if_a_table_had_a_place_there() {
    let app = TestApp::start().await;
    TestTable::create(&app, "t", 2, false, json!({})).await;
    let mut row = app.catalog().table(&"lake.t".parse().expect("a name")).await.expect("a table");
    let files = ["_esker", "other"].map(|directory| old_file(&place(&app, directory), "x.json", 9));
    let quarantined = [("_esker", &files[0]), ("other", &files[1])].map(|(directory, file)| {
        row.location = place(&app, directory);
        row.quarantine(file.clone(), None, "a test", None, now_ms())
    });
    app.catalog().state().quarantine().add(&quarantined).await.expect("added");
    sweep(app.catalog(), now_ms() + HOUR).await.expect("swept");
    let exists = files.map(|file| std::path::Path::new(&file[7..]).exists());
    assert_eq!(exists, [true, false], "the other file is deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_read_stops_the_look_for_orphans_where_it_has_files_and_nowhere_else() {
    let app = TestApp::start().await;
    for name in ["own", "other", "apart"] {
        TestTable::create(&app, name, 2, false, json!({})).await.append(&[(1, "x".to_owned(), 0, None)]).await;
    }
    let other = TestTable::open(&app, "other");
    let own_location = TestTable::open(&app, "own").metadata().await.location;
    other.append_at(&format!("{own_location}/data/of-other.parquet"), &[(2, "y".to_owned(), 0, None)]).await;
    for name in ["own", "apart"] {
        old_file(&TestTable::open(&app, name).metadata().await.location, "data/lost.parquet", 9);
    }
    age(&app);
    // The first scan records the extents of each table.
    assert_eq!(TestTable::open(&app, "own").preview_orphans().await["named"].as_array().expect("a list").len(), 1);
    other.append(&[(3, "z".to_owned(), 0, None)]).await;
    let list = other.metadata().await.current_snapshot().and_then(|snapshot| snapshot.manifest_list.clone());
    let list = list.expect("a manifest list")[7..].to_owned();
    let bytes = std::fs::read(&list).expect("read");
    std::fs::write(&list, b"damaged").expect("written");
    let job = second_scan(&app, "own").await;
    let error = job["error"].as_str().expect("an error");
    assert!(error.contains("lake.other"), "{error}");
    let job = second_scan(&app, "apart").await;
    assert_eq!(job["outcome"]["quarantined_files"], 1, "{job}");
    std::fs::write(&list, bytes).expect("mended");
    let job = second_scan(&app, "own").await;
    assert_eq!(job["outcome"]["quarantined_files"], 1, "{job}");
}

/// A file whose name is no valid path or location is left alone, and the scan goes on with the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_location_can_have_stops_no_listing_and_is_no_orphan() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..10).await;
    let location = writer.metadata().await.location;
    let orphan = old_file(&location, "data/lost.parquet", 5);
    let odd = ["data/a\tb.parquet", "data/a#b.parquet", "data/a?b.parquet", "tab\there/c.parquet"];
    let odd = odd.map(|name| old_file(&location, name, 5));
    // A table inside the location makes the scan compare places.
    let inner = json!({"name": "inner", "schema": esker_tests::schema_json(), "location": format!("{location}/inner")});
    let (status, body) = app.send(Method::POST, "/v1/default/namespaces/n/tables", Some(inner)).await;
    assert!(status.is_success() || status.is_client_error(), "{body}");
    let listed =
        app.ok(Method::POST, "/api/v1/warehouses/default/namespaces/n/tables/t/orphans?dry-run=true", Some(json!({}))).await;
    assert_eq!((&listed["orphans"], &listed["named"][0]["path"]), (&json!(1), &json!(orphan)), "{listed}");
    let job = app.job("orphans", json!({})).await;
    assert_eq!((&job["state"], &job["outcome"]["orphans"]), (&json!("succeeded"), &json!(1)), "{job}");
    assert!(odd.iter().all(|path| std::path::Path::new(&path[7..]).exists()));
}
