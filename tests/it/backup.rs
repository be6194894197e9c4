//! `esker backup` and `esker restore` on both databases: under commits, with a recovery after, and killed at random moments.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use esker_tests::{DEAD_SECONDS, TestApp, TestTable, on_postgres, postgres_url, schema_json};
use reqwest::Method;
use serde_json::{Value, json};

use crate::kills::binary;

/// Makes a command of the binary about the database of a data directory.
fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).arg("--data-dir").arg(dir).stdin(Stdio::null());
    command.envs(postgres_url(dir).iter().map(|url| ("ESKER__STATE__URL", url)));
    command.env("ESKER__STATE__DEAD_SECONDS", DEAD_SECONDS.to_string());
    command
}

/// Runs a command to its end.
async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().expect("the binary is built before the tests")).await.expect("run")
}

/// Runs a command that must succeed. Returns its standard output.
async fn ok(command: Command) -> String {
    let done = run(command).await;
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).expect("text")
}

/// Runs `esker backup --check --json`, which must succeed. Returns what it prints.
async fn checked(file: &str) -> Value {
    let mut command = Command::new(binary());
    command.args(["backup", "--check", file, "--json"]);
    serde_json::from_str(&ok(command).await).expect("JSON")
}

/// Runs a command and kills it after `delay`, if it has not ended by then.
async fn killed(mut command: Command, delay: Duration) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary is built before the tests");
    tokio::time::sleep(delay).await;
    child.kill().ok();
    child.wait().expect("it has ended");
}

/// Removes the copies of the databases that were replaced.
fn remove_previous(dir: &Path) {
    for entry in std::fs::read_dir(dir).expect("listed").map(|entry| entry.expect("an entry")) {
        if entry.file_name().to_string_lossy().contains(".before-") {
            std::fs::remove_file(entry.path()).expect("removed");
        }
    }
}

/// Returns the tables of a header with their digests, without those that a backup or restore itself changes.
fn tables(printed: &Value) -> Vec<Value> {
    let tables = printed["header"]["tables"].as_array().expect("a header with tables");
    tables.iter().filter(|table| table["name"] != "instance" && table["name"] != "meta").cloned().collect()
}

/// A writer of one table, with the number of its commits that were confirmed.
struct Writer<'a> {
    table: TestTable<'a>,
    confirmed: AtomicI64,
}

impl Writer<'_> {
    /// Appends a row a commit until `stop` is set, and one more row after that. Returns the number of rows.
    async fn write_until(&self, stop: &AtomicBool) -> i64 {
        let mut next = 0;
        loop {
            let last = stop.load(Ordering::Acquire);
            self.table.append_ids(next..next + 1).await;
            next += 1;
            self.confirmed.store(next, Ordering::Release);
            if last {
                return next;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_commits_has_what_was_confirmed_before_and_a_recovery_finds_the_rest() {
    let app = TestApp::start().await;
    app.table().await;
    for name in ["u", "v"] {
        let create = json!({"name": name, "schema": schema_json()});
        app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
    }
    let dir = app.dir.path().to_owned();
    let backups = tempfile::tempdir().expect("a directory");
    let file = backups.path().join("backup.db").display().to_string();
    let writers = ["t", "u", "v"].map(|name| Writer { table: TestTable::simple_named(&app, name), confirmed: AtomicI64::new(0) });
    let stop = AtomicBool::new(false);
    let backing_up = async {
        while writers.iter().any(|writer| writer.confirmed.load(Ordering::Acquire) == 0) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let before = [0, 1, 2].map(|n: usize| writers[n].confirmed.load(Ordering::Acquire));
        let made: Value = serde_json::from_str(&ok(command(&dir, &["backup", &file, "--json"])).await).expect("JSON");
        stop.store(true, Ordering::Release);
        (before, made)
    };
    let [t, u, v] = &writers;
    let (t, u, v, (before, made)) = tokio::join!(t.write_until(&stop), u.write_until(&stop), v.write_until(&stop), backing_up);
    let written = [t, u, v];
    let create = json!({"name": "late", "schema": schema_json()});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
    TestTable::simple_named(&app, "late").append_ids(0..3).await;
    let printed = checked(&file).await;
    assert_eq!((&printed["valid"], &printed["header"]), (&json!(true), &made["header"]));
    assert_eq!(printed["header"]["source"], if on_postgres() { "postgres" } else { "sqlite" });
    let kept = app.stop().await;

    let said = ok(command(&dir, &["restore", &file, "--replace", "--yes"])).await;
    assert!(said.contains("esker recover"), "{said}");
    let app = TestApp::restart(kept).await;
    for (n, name) in ["t", "u", "v"].into_iter().enumerate() {
        let there = TestTable::simple_named(&app, name).ids().await.expect("it is readable");
        let rows = there.len() as i64;
        assert_eq!(there, (0..rows).collect::<Vec<_>>(), "{name} is as it was at one moment");
        assert!(before[n] <= rows && rows < written[n], "{name}: {} confirmed, {rows} there, {} written", before[n], written[n]);
    }
    app.refused(Method::GET, "/v1/default/namespaces/n/tables/late", None).await;
    assert!(app.catalog().check_epoch().is_err(), "nothing is deleted by a database that may be behind");
    let kept = app.stop().await;

    ok(command(&dir, &["recover", "--reconcile"])).await;
    let app = TestApp::restart(kept).await;
    app.catalog().check_epoch().expect("database and warehouse go together again");
    for (name, rows) in ["t", "u", "v", "late"].into_iter().zip(written.into_iter().chain([3])) {
        let table = TestTable::simple_named(&app, name);
        assert_eq!(table.ids().await.expect("ids"), (0..rows).collect::<Vec<_>>(), "{name}");
        table.append_ids(rows..rows + 1).await;
    }
    app.stop().await;
}

/// Kills `esker backup` and `esker restore` at random moments. A backup is whole or not there, a database is the old or the new one.
///
/// `ESKER_KILLS` is the number of kills of each command (5; `make soak` runs 100).
#[tokio::test(flavor = "multi_thread")]
async fn random_kills_of_backups_and_restores_leave_whole_files_and_whole_databases() {
    let kills: u32 = std::env::var("ESKER_KILLS").ok().and_then(|v| v.parse().ok()).unwrap_or(5);
    let app = TestApp::start().await;
    app.table().await;
    // So that a kill meets the copy of rows, and not always what comes before.
    for n in 0..20 {
        let namespace = json!({"namespace": [format!("filler{n}")], "properties": {"p": "x".repeat(100_000)}});
        app.ok(Method::POST, "/v1/default/namespaces", Some(namespace)).await;
    }
    TestTable::simple(&app).append_ids(0..5).await;
    let dir = app.dir.path().to_owned();
    let backups = tempfile::tempdir().expect("a directory");
    let file = |name: &str| backups.path().join(name).display().to_string();
    let (new, old) = (file("new"), file("old"));
    ok(command(&dir, &["backup", &new])).await;
    TestTable::simple(&app).append_ids(5..9).await;
    let kept = app.stop().await;
    let began = Instant::now();
    ok(command(&dir, &["backup", &old])).await;
    let of_a_backup = began.elapsed();
    let (tables_of_new, tables_of_old) = (tables(&checked(&new).await), tables(&checked(&old).await));
    assert_ne!(tables_of_new, tables_of_old);
    let began = Instant::now();
    ok(command(&dir, &["restore", &old, "--replace", "--yes"])).await;
    let of_a_restore = began.elapsed();

    for kill in 0..kills {
        // From the start of the process to a little after its end.
        let part = |whole: Duration| whole * (kill * 7919 % 1100) / 1000;
        let copy = file(&format!("copy-{kill}"));
        killed(command(&dir, &["backup", &copy]), part(of_a_backup)).await;
        if !Path::new(&copy).exists() {
            ok(command(&dir, &["backup", &copy])).await;
        }
        assert_eq!(tables(&checked(&copy).await), tables_of_old, "kill {kill} of a backup");
        std::fs::remove_file(&copy).expect("removed");

        killed(command(&dir, &["restore", &new, "--replace", "--yes"]), part(of_a_restore)).await;
        let after = file(&format!("after-{kill}"));
        ok(command(&dir, &["backup", &after])).await;
        let found = tables(&checked(&after).await);
        std::fs::remove_file(&after).expect("removed");
        assert!(found == tables_of_old || found == tables_of_new, "kill {kill} of a restore: {found:?}");
        if found == tables_of_new {
            ok(command(&dir, &["restore", &old, "--replace", "--yes"])).await;
        }
        remove_previous(&dir);
    }

    ok(command(&dir, &["restore", &new, "--replace", "--yes"])).await;
    let app = TestApp::restart(kept).await;
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), (0..5).collect::<Vec<_>>());
    let kept = app.stop().await;
    ok(command(&dir, &["recover", "--reconcile"])).await;
    let app = TestApp::restart(kept).await;
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), (0..9).collect::<Vec<_>>());
    app.stop().await;
}

/// A fail-over may lose transactions without a sign: the epoch grows once a minute. So a person says it.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_declared_to_be_behind_deletes_nothing_until_it_is_reconciled() {
    let app = TestApp::start().await;
    app.table().await;
    TestTable::simple(&app).append_ids(0..5).await;
    app.catalog().check_epoch().expect("they go together");
    let dir = app.dir.path().to_owned();
    let kept = app.stop().await;
    ok(command(&dir, &["recover", "--behind"])).await;
    let app = TestApp::restart(kept).await;
    let why = app.catalog().check_epoch().expect_err("nothing is deleted").to_string();
    assert!(why.contains("declared to be behind") && why.contains("esker recover"), "{why}");
    assert_eq!(TestTable::simple(&app).ids().await.expect("reads go on"), (0..5).collect::<Vec<_>>());
    TestTable::simple(&app).append_ids(5..6).await;
    let kept = app.stop().await;
    ok(command(&dir, &["recover", "--behind", "--reconcile"])).await;
    let app = TestApp::restart(kept).await;
    app.catalog().check_epoch().expect("they go together again");
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), (0..6).collect::<Vec<_>>());
    app.stop().await;
}
