//! A database that lost its last transactions, as in a fail-over to a late standby: a server notices by what it remembers.
//!
//! Rows are set back in the database under a running server, or between two processes on one data directory. Neither the epoch nor
//! the ledger has had time to move. Start reading at `LateStandby`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use esker_catalog::deletion::{reclaim_outputs, sweep};
use esker_catalog::recovery::recover;
use esker_tests::{DEAD_SECONDS, TestApp, TestTable, on_postgres, postgres_url};
use esker_types::now_ms;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::any::install_default_drivers;
use sqlx::{AnyConnection, Connection};

use crate::kills::beside_with;
use crate::recovery::{SEEN_CHANGES, assert_nothing_is_deleted, copy_database_files, metadata_location, plan, set};

const TABLE: &str = "/v1/default/namespaces/n/tables/t";
const OTHER: &str = "/v1/default/namespaces/n/tables/u";

/// Opens the database of a data directory.
pub(crate) async fn database_of(dir: &Path) -> AnyConnection {
    install_default_drivers();
    let url = postgres_url(dir).unwrap_or_else(|| format!("sqlite:{}", dir.join("esker.db").display()));
    AnyConnection::connect(&url).await.expect("connected")
}

/// A standby of a server's database that does not hear of anything more.
struct LateStandby {
    database: AnyConnection,
    /// The metadata file of each table, by its id.
    pointers: Vec<(String, String)>,
    /// The number of changes of each server.
    changes: Vec<(String, i64)>,
}

impl LateStandby {
    /// Makes a standby of the database of a data directory, as it is now.
    async fn of(dir: &Path) -> Self {
        let mut database = database_of(dir).await;
        // The numbers first: a change in between is then one that is lost.
        let changes = sqlx::query_as("SELECT server, changes FROM server_changes").fetch_all(&mut database).await.expect("read");
        let pointers = sqlx::query_as("SELECT id, metadata_location FROM tabular").fetch_all(&mut database).await.expect("read");
        Self { database, pointers, changes }
    }

    /// Returns the present number of changes of a server.
    async fn changes_of(&mut self, server: &str) -> i64 {
        let number = sqlx::query_scalar("SELECT changes FROM server_changes WHERE server = $1").bind(server);
        number.fetch_one(&mut self.database).await.expect("read")
    }

    /// Makes the standby the primary: what was committed since it was made is lost.
    async fn take_over(&mut self) {
        let mut tx = self.database.begin().await.expect("begun");
        for (table, at) in &self.pointers {
            let update = sqlx::query("UPDATE tabular SET metadata_location = $2 WHERE id = $1").bind(table).bind(at);
            update.execute(&mut *tx).await.expect("set back");
        }
        for (server, changes) in &self.changes {
            let update = sqlx::query("UPDATE server_changes SET changes = $2 WHERE server = $1").bind(server).bind(changes);
            update.execute(&mut *tx).await.expect("set back");
        }
        tx.commit().await.expect("committed");
    }

    /// Keeps the record of a metadata file that a server wrote and published: only the transaction that published it is lost.
    async fn keep_record_of(&mut self, file: &str) {
        let insert = "INSERT INTO pending_output (path, table_id, job_id, instance, recorded_ms, warehouse_id)
                      SELECT $1, t.id, NULL, i.id, 0, (SELECT min(id) FROM warehouse) FROM tabular t, instance i
                      WHERE t.metadata_location = $1";
        let inserted = sqlx::query(insert).bind(file).execute(&mut self.database).await.expect("inserted");
        assert_eq!(inserted.rows_affected(), 1);
    }
}

/// Starts a server with the tables `t`, which has a row, and `u`.
async fn two_tables() -> TestApp {
    let app = TestApp::start_with(|config| config.maintenance.grace_seconds = 0).await;
    app.table().await;
    let create = json!({"name": "u", "schema": esker_tests::schema_json()});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
    TestTable::simple(&app).append_ids(1..2).await;
    app
}

/// Sends a commit until it is answered otherwise than with 429. Returns status and body.
async fn commit(app: &TestApp, table: &str) -> (u16, String) {
    loop {
        let (status, body) = app.send(Method::POST, table, Some(set("a"))).await;
        if status != 429 {
            return (status.as_u16(), body.to_string());
        }
        assert!(body.to_string().contains("lost changes"), "{body}");
    }
}

/// Waits until a server knows that its database and its warehouse do not go together.
async fn wait_until_noticed(app: &TestApp) {
    let began = Instant::now();
    while app.catalog().check_epoch().is_ok() {
        assert!(began.elapsed() < Duration::from_secs(60), "the server did not notice");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_notices_a_lost_commit_and_begins_no_second_history() {
    // With a record, the lost file looks like one that the server is about to publish.
    for has_record in [false, true] {
        let app = two_tables().await;
        let mut standby = LateStandby::of(app.dir.path()).await;
        TestTable::simple(&app).append_ids(2..3).await;
        let lost = metadata_location(&app).await;
        if has_record {
            standby.keep_record_of(&lost).await;
        }
        standby.take_over().await;
        let (status, body) = commit(&app, TABLE).await;
        assert_eq!(status, 403, "{body}");
        assert!(body.contains("esker recover") && body.contains(&lost), "{body}");
        assert_eq!(commit(&app, OTHER).await.0, 200, "nothing was lost of it");
        assert_eq!(TestTable::simple(&app).ids().await.expect("reads go on"), [1]);
        assert_nothing_is_deleted(&app).await;
        app.catalog().advance_epoch().await;
        assert_nothing_is_deleted(&app).await;

        recover(app.catalog(), &plan(&app, &[]).await, true).await.expect("reconciled");
        assert_eq!(metadata_location(&app).await, lost);
        reclaim_outputs(app.catalog()).await.expect("judged");
        TestTable::simple(&app).append_ids(3..4).await;
        assert_eq!(app.job("expire", json!({"older-than-ms": now_ms(), "retain-last": 1})).await["state"], "succeeded");
        sweep(app.catalog(), now_ms()).await.expect("swept");
        assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), [1, 2, 3]);
        assert_eq!(commit(&app, OTHER).await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_request_notices_with_its_heartbeat() {
    let app = two_tables().await;
    let mut standby = LateStandby::of(app.dir.path()).await;
    TestTable::simple(&app).append_ids(2..3).await;
    app.catalog().check_epoch().expect("they go together");
    standby.take_over().await;
    wait_until_noticed(&app).await;
    assert_eq!(commit(&app, TABLE).await.0, 403);
    let app = TestApp::restart(app.stop().await).await;
    let why = app.catalog().check_epoch().expect_err("the database says so").to_string();
    assert!(why.contains("declared to be behind"), "{why}");
    recover(app.catalog(), &plan(&app, &[]).await, true).await.expect("reconciled");
    let app = TestApp::restart(app.stop().await).await;
    app.catalog().check_epoch().expect("it was noticed once");
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), [1, 2]);
}

/// The server goes down with the primary, and starts again on the standby.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_on_a_late_standby_remembers_what_was_confirmed() {
    let app = two_tables().await;
    let mut standby = LateStandby::of(app.dir.path()).await;
    TestTable::simple(&app).append_ids(2..3).await;
    let dir = app.stop().await;
    // A stop in order writes the ledger, which would tell.
    std::fs::remove_file(dir.path().join("warehouse/_esker/ledger.json")).expect("removed");
    standby.take_over().await;
    drop(standby);
    let app = TestApp::restart(dir).await;
    let why = app.catalog().check_epoch().expect_err("changes were lost").to_string();
    assert!(why.contains("declared to be behind") && why.contains("esker recover"), "{why}");
    assert_eq!(commit(&app, TABLE).await.0, 403);
    assert_nothing_is_deleted(&app).await;
    recover(app.catalog(), &plan(&app, &[]).await, true).await.expect("reconciled");
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), [1, 2]);
}

/// What was lost is in no metadata file: the ledger compares tables and views.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_an_older_copy_of_its_sqlite_file_notices() {
    if on_postgres() {
        return; // PostgreSQL's database is no file that the test could replace
    }
    let older = tempfile::tempdir().expect("a directory");
    let app = two_tables().await;
    // Waits for the first round of housekeeping; the next is a minute later.
    while !app.dir.path().join("warehouse/_esker/ledger.json").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    copy_database_files(app.dir.path(), older.path());
    let body = json!({"updates": {"owner": "team"}});
    app.ok(Method::POST, "/v1/default/namespaces/n/properties", Some(body)).await;
    let dir = app.stop().await;
    assert!(dir.path().join(SEEN_CHANGES).exists());
    copy_database_files(older.path(), dir.path());
    let app = TestApp::restart(dir).await;
    let why = app.catalog().check_epoch().expect_err("a change was lost").to_string();
    assert!(why.contains("declared to be behind"), "{why}");
    assert_nothing_is_deleted(&app).await;
    assert_eq!(commit(&app, TABLE).await.0, 200, "nothing was lost of it");
    recover(app.catalog(), &plan(&app, &[]).await, true).await.expect("reconciled");
    let app = TestApp::restart(app.stop().await).await;
    app.catalog().check_epoch().expect("it was noticed once");
}

/// Only the first server knows what it had committed. The second one hears of it before it changes anything more.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_one_server_notices_counts_for_all() {
    let first = two_tables().await;
    if !on_postgres() {
        return; // with SQLite only one server can use a data directory
    }
    let second = beside_with(first.dir.path(), |_| {}).await;
    let mut standby = LateStandby::of(first.dir.path()).await;
    TestTable::simple(&first).append_ids(2..3).await;
    standby.take_over().await;
    wait_until_noticed(&first).await;
    for server in [&second, &first] {
        let (status, body) = commit(server, TABLE).await;
        assert_eq!(status, 403, "{body}");
        assert_eq!(commit(server, OTHER).await.0, 200);
        assert!(server.catalog().check_epoch().is_err());
    }
}

/// A server is lost together with the primary. The other one had read the number of its changes with a heartbeat.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_server_had_committed_is_remembered_by_another() {
    let first = two_tables().await;
    if !on_postgres() {
        return; // with SQLite only one server can use a data directory
    }
    let second = beside_with(first.dir.path(), |_| {}).await;
    let seen_by = |app: &TestApp| -> Value {
        let text = std::fs::read(app.dir.path().join(SEEN_CHANGES)).expect("written at the start");
        serde_json::from_slice(&text).expect("JSON")
    };
    let server = seen_by(&first)["server"].as_str().expect("an identifier").to_owned();
    let mut standby = LateStandby::of(first.dir.path()).await;
    standby.changes.retain(|(id, _)| *id == server);
    TestTable::simple(&first).append_ids(2..3).await;
    let (lost, confirmed) = (metadata_location(&first).await, standby.changes_of(&server).await);
    let began = Instant::now();
    while seen_by(&second)["others"][server.as_str()].as_i64().unwrap_or(0) < confirmed {
        assert!(began.elapsed() < Duration::from_secs(60), "no heartbeat read the number");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let _warehouse = first.stop().await;
    standby.take_over().await;
    wait_until_noticed(&second).await;
    let (status, body) = commit(&second, TABLE).await;
    assert!(status == 403 && body.contains(&lost), "{status} {body}");
    assert_eq!(commit(&second, OTHER).await.0, 200);
}

/// The ledger may be the only copy of an entry that the standby does not have. A server that stops writes it once more.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_of_before_a_loss_stays() {
    let app = two_tables().await;
    let mut standby = LateStandby::of(app.dir.path()).await;
    assert_eq!(commit(&app, TABLE).await.0, 200);
    app.catalog().write_ledger().await.expect("written");
    let path = app.dir.path().join("warehouse/_esker/ledger.json");
    let before = std::fs::read(&path).expect("written");
    standby.take_over().await;
    let refused = app.catalog().write_ledger().await.expect_err("the entries are those of before").to_string();
    assert!(refused.contains("esker recover"), "{refused}");
    let dir = app.stop().await;
    assert_eq!(std::fs::read(dir.path().join("warehouse/_esker/ledger.json")).expect("there"), before);
}

/// A stopped server had recorded two metadata files and published them. Of both tables, the transaction that did so is lost.
#[tokio::test(flavor = "multi_thread")]
async fn no_file_of_a_stopped_server_is_given_up_once_changes_were_lost() {
    let app = two_tables().await;
    let mut standby = LateStandby::of(app.dir.path()).await;
    let mut lost = Vec::new();
    for table in [TABLE, OTHER] {
        assert_eq!(commit(&app, table).await.0, 200);
        let at = app.ok(Method::GET, table, None).await["metadata-location"].as_str().expect("a location").to_owned();
        standby.keep_record_of(&at).await;
        lost.push((table, at));
    }
    standby.take_over().await;
    let stopped = "UPDATE pending_output SET instance = 'stopped'";
    sqlx::query(stopped).execute(&mut standby.database).await.expect("changed");
    // The loss is noticed with the first table at the latest. What is said of the second one is known by then.
    assert_eq!(reclaim_outputs(app.catalog()).await.unwrap_or_default(), 0);
    wait_until_noticed(&app).await;
    for (_, at) in &lost {
        let record = app.catalog().state().quarantine().record_of(at).await.expect("read");
        assert_eq!(record, None, "it may be the current file of its table");
    }
    recover(app.catalog(), &plan(&app, &[]).await, true).await.expect("reconciled");
    for (table, at) in &lost {
        assert_eq!(app.ok(Method::GET, table, None).await["metadata-location"], *at);
    }
}

/// What is lost was committed by another server, which is gone: no change of this one would tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_of_another_server_is_noticed_before_its_files_are_given_up() {
    let app = two_tables().await;
    let mut standby = LateStandby::of(app.dir.path()).await;
    assert_eq!(commit(&app, TABLE).await.0, 200);
    let lost = metadata_location(&app).await;
    standby.keep_record_of(&lost).await;
    for sql in [
        "UPDATE pending_output SET instance = 'stopped'",
        "INSERT INTO server_changes (server, changes, seen_ms) SELECT 'other', 5, max(seen_ms) FROM server_changes",
    ] {
        sqlx::query(sql).execute(&mut standby.database).await.expect("changed");
    }
    app.catalog().state().servers().heartbeat(Duration::from_secs(DEAD_SECONDS.into())).await.expect("alive");
    standby.changes = vec![("other".to_owned(), 4)];
    standby.take_over().await;
    assert_eq!(reclaim_outputs(app.catalog()).await.unwrap_or_default(), 0);
    wait_until_noticed(&app).await;
    let record = app.catalog().state().quarantine().record_of(&lost).await.expect("read");
    assert_eq!(record, None, "it may be the current file of its table");
    assert_eq!(commit(&app, TABLE).await.0, 403);
}

/// A connection that ends may hide whether a commit was made. A change that was not confirmed is none that can be lost.
#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_are_no_lost_changes() {
    let app = two_tables().await;
    if !on_postgres() {
        return; // SQLite has no connections that another one can end
    }
    let mut other = LateStandby::of(app.dir.path()).await.database;
    let done = AtomicBool::new(false);
    let ending = async {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        for _ in 0..20 {
            sqlx::query(end).execute(&mut other).await.expect("ended");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        done.store(true, Ordering::Release);
    };
    let writing = async {
        let mut made = 0;
        while !done.load(Ordering::Acquire) || made == 0 {
            let (status, body) = app.send(Method::POST, TABLE, Some(set(&format!("k{made}")))).await;
            match status.as_u16() {
                200 => made += 1,
                429 | 500 | 503 => assert!(!body.to_string().contains("lost changes"), "{body}"),
                _ => panic!("{status} {body}"),
            }
        }
        made
    };
    let (made, ()) = tokio::join!(writing, ending);
    let table = app.ok(Method::GET, TABLE, None).await;
    for n in 0..made {
        assert_eq!(table["metadata"]["properties"][format!("k{n}")], "x", "{n} of {made} that were acknowledged");
    }
    app.catalog().state().servers().heartbeat(Duration::from_secs(DEAD_SECONDS.into())).await.expect("alive");
    assert_eq!(app.catalog().state().servers().losses(), Some(0));
    app.catalog().check_epoch().expect("nothing was lost");
}
