//! Tables that the restored database has as dropped: those that were undropped since the backup live, and none of them is purged.

use esker_catalog::deletion::sweep;
use esker_catalog::recovery::recover;
use esker_tests::{TestApp, TestTable, on_postgres, schema_json};
use esker_types::{DAY_MS, now_ms};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::commits::walk;
use crate::recovery::{copy_database, metadata_location, plan};

const TABLES: &str = "/v1/default/namespaces/n/tables";
const TABLE: &str = "/v1/default/namespaces/n/tables/t";
const DROPPED: &str = "/api/v1/warehouses/default/dropped";
const YEAR: i64 = 365 * DAY_MS;

/// Returns a server with a table of one row that was dropped with purge, and the request that undrops it.
async fn dropped() -> (TestApp, String) {
    let app = TestApp::start().await;
    app.table().await;
    TestTable::simple(&app).append_ids(1..2).await;
    app.ok(Method::DELETE, &format!("{TABLE}?purgeRequested=true"), None).await;
    let dropped = app.ok(Method::GET, DROPPED, None).await;
    let undrop = format!("{DROPPED}/{}/undrop", dropped[0]["table-id"].as_str().expect("an id"));
    (app, undrop)
}

/// Undrops the table after a backup was made. Returns the database as it was before.
async fn undropped_after_a_backup(app: TestApp, undrop: &str) -> (TestApp, TempDir) {
    let backup = tempfile::tempdir().expect("a directory");
    let dir = app.stop().await;
    copy_database(dir.path(), backup.path());
    let app = TestApp::restart(dir).await;
    app.ok(Method::POST, undrop, None).await;
    (app, backup)
}

async fn restored(app: TestApp, backup: &TempDir) -> TestApp {
    let dir = app.stop().await;
    copy_database(backup.path(), dir.path());
    TestApp::restart(dir).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_undropped_since_the_backup_lives_and_is_not_purged() {
    if on_postgres() {
        return; // PostgreSQL's database is no file that the test could restore
    }
    for rows in [vec![1], vec![1, 2]] {
        let (app, undrop) = dropped().await;
        let (app, backup) = undropped_after_a_backup(app, &undrop).await;
        if rows.len() == 2 {
            TestTable::simple(&app).append_ids(2..3).await;
        }
        let current = metadata_location(&app).await;
        let app = restored(app, &backup).await;
        let refused = app.catalog().expire_drops(now_ms() + YEAR).await.expect_err("refused").to_string();
        assert!(refused.contains("esker recover"), "{refused}");
        let planned = plan(&app, &[]).await;
        assert_eq!((planned.enter.len(), planned.undecided.len(), planned.current), (1, 0, 0), "{planned:?}");
        recover(app.catalog(), &planned, true).await.expect("reconciled");
        assert_eq!(metadata_location(&app).await, current);
        assert_eq!(app.ok(Method::GET, DROPPED, None).await, json!([]));
        assert_eq!(app.catalog().expire_drops(now_ms() + YEAR).await.expect("looked"), 0);
        sweep(app.catalog(), now_ms() + YEAR).await.expect("swept");
        assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), rows);
        TestTable::simple(&app).append_ids(3..4).await;
        assert_eq!(plan(&app, &[]).await.current, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_stayed_dropped_stays_dropped() {
    if on_postgres() {
        return;
    }
    let (app, _) = dropped().await;
    let backup = tempfile::tempdir().expect("a directory");
    let dir = app.stop().await;
    copy_database(dir.path(), backup.path());
    let app = restored(TestApp::restart(dir).await, &backup).await;
    let planned = plan(&app, &[]).await;
    assert!(planned.disagreement.is_some(), "{planned:?}");
    assert_eq!((planned.enter.len(), planned.undecided.len()), (0, 0), "{planned:?}");
    recover(app.catalog(), &planned, true).await.expect("reconciled");
    assert_eq!(app.ok(Method::GET, DROPPED, None).await.as_array().map(Vec::len), Some(1));
}

/// To drop a table in the restored database is a way to decide about it. Its files stay, because a purge is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_dropped_in_the_restored_database_stays_dropped() {
    if on_postgres() {
        return;
    }
    let app = TestApp::start().await;
    app.table().await;
    TestTable::simple(&app).append_ids(1..2).await;
    let backup = tempfile::tempdir().expect("a directory");
    let dir = app.stop().await;
    copy_database(dir.path(), backup.path());
    let app = TestApp::restart(dir).await;
    TestTable::simple(&app).append_ids(2..3).await;
    let app = restored(app, &backup).await;
    assert_eq!(app.refused(Method::DELETE, &format!("{TABLE}?purgeRequested=true"), None).await.0, 403);
    app.ok(Method::DELETE, TABLE, None).await;
    let planned = plan(&app, &[]).await;
    assert_eq!((planned.enter.len(), planned.undecided.len(), planned.current), (0, 0, 0), "{planned:?}");
    recover(app.catalog(), &planned, true).await.expect("reconciled");
    assert_eq!(app.ok(Method::GET, DROPPED, None).await.as_array().map(Vec::len), Some(1));
}

/// A choice for the table that has the name now must not leave the other one dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_undropped_and_lost_its_name_is_undecided_until_it_has_another() {
    if on_postgres() {
        return;
    }
    let (app, undrop) = dropped().await;
    let (app, backup) = undropped_after_a_backup(app, &undrop).await;
    TestTable::simple(&app).append_ids(2..3).await;
    let app = restored(app, &backup).await;
    app.ok(Method::POST, TABLES, Some(json!({"name": "t", "schema": schema_json()}))).await;
    let of_name = metadata_location(&app).await;
    for choices in [vec![], vec![("n.t", of_name.as_str())]] {
        let planned = plan(&app, &choices).await;
        assert_eq!((planned.undecided.len(), planned.enter.len()), (1, 0), "{planned:?}");
        assert!(planned.undecided[0].why.contains("undrop"), "{planned:?}");
    }
    app.ok(Method::POST, &undrop, Some(json!({"as": {"namespace": ["n"], "name": "again"}}))).await;
    let planned = plan(&app, &[]).await;
    assert_eq!((planned.undecided.len(), planned.advance.len()), (0, 1), "{planned:?}");
    recover(app.catalog(), &planned, true).await.expect("reconciled");
    assert_eq!(TestTable::simple_named(&app, "again").ids().await.expect("ids"), [1, 2]);
}

/// The ledger may be lost as well. A metadata file that was built on the one of the drop shows that the table lived on.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_leaves_the_files_of_a_dropped_table_that_storage_has_later_states_of() {
    let app = TestApp::start().await;
    app.table().await;
    TestTable::simple(&app).append_ids(1..2).await;
    let at = metadata_location(&app).await;
    app.ok(Method::DELETE, &format!("{TABLE}?purgeRequested=true"), None).await;
    let mut later: Value = serde_json::from_slice(&std::fs::read(&at[7..]).expect("metadata")).expect("JSON");
    later["metadata-log"].as_array_mut().expect("a log").push(json!({"metadata-file": at, "timestamp-ms": now_ms()}));
    let uri = format!("{}/00002-later.metadata.json", at.rsplit_once('/').expect("a directory").0);
    std::fs::write(&uri[7..], later.to_string()).expect("written");
    let before = walk(&app.dir.path().join("warehouse/n"));
    assert_eq!(app.catalog().expire_drops(now_ms() + YEAR).await.expect("ended"), 1);
    sweep(app.catalog(), now_ms() + YEAR).await.expect("swept");
    assert_eq!(walk(&app.dir.path().join("warehouse/n")), before);
}
