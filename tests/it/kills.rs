//! Kills with `kill -9` at a failpoint of a commit, a compaction, an expiry and a sweep.
//!
//! A real process of the binary dies ([`Victim`]), and a server in the test's process takes over its directory. The table must be
//! whole, and the files that the dead server left must be reclaimed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use esker::Config;
use esker_catalog::deletion::sweep;
use esker_tests::{DEAD_SECONDS, PositionDeleteScope, Row, TestApp, TestTable, check_listed, on_postgres, postgres_url};
use esker_types::{JobKind, now_ms};
use reqwest::Method;
use serde_json::{Value, json};

use crate::commits::walk;
use crate::expiry::find;
use crate::kinds::options_of;

/// The idempotency key of every request to a victim.
const KEY: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

const TABLE: &str = "/v1/default/namespaces/n/tables/t";

/// The route of an orphan scan of the table that changes nothing.
const ORPHANS: &str = "/api/v1/warehouses/default/namespaces/n/tables/t/orphans?dry-run=true";

pub(crate) fn binary() -> PathBuf {
    // The test is target/debug/deps/it-…, the binary target/debug/esker.
    let mut path = std::env::current_exe().expect("a path");
    path.pop();
    path.pop();
    path.join("esker")
}

/// A server process that stops at a failpoint, to be killed there.
pub(crate) struct Victim {
    child: Child,
    url: String,
    log: PathBuf,
    /// True if other servers may use its database.
    shared: bool,
}

impl Drop for Victim {
    fn drop(&mut self) {
        // The process still runs if the test failed before it killed it.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Victim {
    async fn start(dir: &Path, failpoint: &str) -> Self {
        Self::start_on(dir, dir, failpoint).await
    }

    /// Starts a process on the database and the warehouse of a running server.
    pub(crate) async fn beside(dir: &Path) -> Self {
        let own = tempfile::tempdir().expect("a directory").keep();
        Self::start_on(&own, dir, "").await
    }

    async fn start_on(own: &Path, dir: &Path, failpoint: &str) -> Self {
        let victim = Self::spawn(own, dir, &[("ESKER__DEBUG__FAILPOINT", failpoint.to_owned())]);
        victim.wait_until_ready().await;
        victim
    }

    /// Waits until the process answers requests.
    pub(crate) async fn wait_until_ready(&self) {
        for _ in 0..2400 {
            if reqwest::get(format!("{}/readyz", self.url)).await.is_ok_and(|r| r.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("not ready: {}", std::fs::read_to_string(&self.log).unwrap_or_default());
    }

    /// Waits until the process has reached its failpoint.
    pub(crate) async fn wait_for_point(&self) {
        for _ in 0..2400 {
            if std::fs::read_to_string(&self.log).unwrap_or_default().contains("stopped at a failpoint (debug.failpoint)") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the point was not reached: {}", std::fs::read_to_string(&self.log).unwrap_or_default());
    }

    /// Starts a process with the data directory `own`, on the database and the warehouse of `dir`, and does not wait for it.
    ///
    /// `settings` are environment variables, which win over those of a test. Dropping the victim kills the process.
    pub(crate) fn spawn(own: &Path, dir: &Path, settings: &[(&str, String)]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address").port();
        let log = own.join("victim.log");
        let out = || Stdio::from(std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log"));
        let database = postgres_url(dir);
        let child = Command::new(binary())
            .envs(database.iter().map(|url| ("ESKER__STATE__URL", url)))
            .env("ESKER__STATE__DEAD_SECONDS", DEAD_SECONDS.to_string())
            .args(["serve", "--data-dir"])
            .arg(own)
            .env("ESKER__WAREHOUSES__DEFAULT__LOCATION", format!("file://{}/warehouse", dir.display()))
            .env("ESKER__SERVER__REST_PORT", port.to_string())
            .env("ESKER__SERVER__FLIGHT_PORT", "0")
            .env("ESKER__AUTH__TOKEN", "a-token-for-tests")
            .env("ESKER__MAINTENANCE__GRACE_SECONDS", "0")
            .envs(settings.iter().cloned())
            .stdout(out())
            .stderr(out())
            .spawn()
            .expect("the binary is built before the tests");
        Self { child, url: format!("http://127.0.0.1:{port}"), log, shared: database.is_some() }
    }

    /// Returns the URL of the process's REST service.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Sends a signal to the process, such as `-STOP`.
    pub(crate) fn signal(&self, name: &str) {
        Command::new("kill").args([name, &self.child.id().to_string()]).status().expect("sent");
    }

    /// Kills the process, and waits until other servers count it as dead.
    async fn die(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("dead");
        if self.shared {
            tokio::time::sleep(Duration::from_secs(DEAD_SECONDS.into())).await;
        }
    }

    /// Sends a request, waits for its answer, and kills the process after `delay`.
    async fn kill_after(mut self, path: &str, body: Value, delay: Duration) {
        let request = reqwest::Client::new().post(format!("{}{path}", self.url)).bearer_auth("a-token-for-tests").json(&body);
        let answer = request.send().await.expect("an answer");
        check_listed(&Method::POST, path, answer.status());
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
        tokio::time::sleep(delay).await;
        self.die().await;
    }

    /// Sends a request, waits until the process has reached its failpoint, and kills it. The request gets no answer.
    async fn kill_at_point(mut self, path: &str, body: Value) {
        let request = reqwest::Client::new().post(format!("{}{path}", self.url)).bearer_auth("a-token-for-tests").json(&body);
        let request = request.header("idempotency-key", KEY);
        let pending = tokio::spawn(request.send());
        self.wait_for_point().await;
        pending.abort();
        self.die().await;
    }
}

/// Kills a server at the failpoint `point` of a request about a table of 60 rows in six files, and starts another one.
///
/// `body` makes the request's body from a prepared append of the ids 60 to 64. The new server runs no jobs.
async fn die_at(point: &str, path: &str, body: impl FnOnce(Value) -> Value) -> TestApp {
    let app = TestApp::start().await;
    let writer = TestTable::six_files(&app).await;
    if path.contains("expire") {
        assert_eq!(app.job("compact", json!({})).await["state"], "succeeded");
    }
    let commit = writer.prepare_append(60..65).await.body().clone();
    let app = app.stop().await;
    Victim::start(app.path(), point).await.kill_at_point(path, body(commit)).await;
    // Without jobs, so that the test sees the state in which the dead server left its job.
    TestApp::restart_with(app, |config| config.maintenance.jobs = 0).await
}

/// Restarts the server with jobs, and waits for those of the dead server. Returns the server and the jobs' records.
async fn take_over(app: TestApp) -> (TestApp, Value) {
    let app = TestApp::restart(app.stop().await).await;
    app.wait_until_idle().await;
    let jobs = app.ok(Method::GET, "/api/v1/jobs", None).await;
    (app, jobs)
}

/// Sweeps, and checks that the table's directory has no unreferenced files but those that the test wrote.
async fn assert_no_leftovers(app: &TestApp) {
    let prepared = 3; // the data file, manifest and manifest list of the test's prepared append
    assert_leftovers(app, ORPHANS, prepared).await;
}

async fn assert_leftovers(app: &TestApp, orphans: &str, prepared: u64) {
    // The quarantine is empty after it. A file that the server's own sweep deletes during the scan would count as unknown.
    sweep(app.catalog(), now_ms() + 1000).await.expect("swept");
    let report = app.ok(Method::POST, orphans, Some(json!({}))).await;
    assert!(report["young"].as_u64().expect("a number") <= prepared, "{report}");
    assert_eq!(report["accounted"], 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_before_the_swap_loses_the_commit_and_nothing_else() {
    let app = die_at("commit-before-swap", TABLE, |commit| commit).await;
    let writer = TestTable::simple(&app);
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
    assert_no_leftovers(&app).await;
    writer.append_ids(60..65).await;
    assert_eq!(writer.ids().await.expect("ids").len(), 65);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_of_a_commit_that_moves_the_metadata_leaves_the_table_as_it_was_or_moved() {
    for point in ["commit-between-metadata-files", "commit-before-swap", "commit-after-swap"] {
        let update = |commit: &Value| {
            let list = find(commit, "manifest-list").expect("a snapshot");
            let dir = format!("{}/elsewhere", list.rsplit_once('/').expect("a directory").0);
            json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {"write.metadata.path": dir}}]})
        };
        let mut sent = Value::Null;
        let app = die_at(point, TABLE, |commit| {
            sent = update(&commit);
            sent.clone()
        })
        .await;
        let writer = TestTable::simple(&app);
        let moved = writer.metadata().await.properties.contains_key("write.metadata.path");
        assert_eq!(moved, point == "commit-after-swap");
        assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>(), "{point}");
        assert_no_leftovers(&app).await;
        app.ok(Method::POST, TABLE, Some(sent)).await;
        writer.append_ids(60..65).await;
        assert_eq!(writer.ids().await.expect("ids").len(), 65, "{point}");
        assert_no_leftovers(&app).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_during_a_create_leaves_no_table_and_no_file() {
    let create = |_| json!({"name": "new", "schema": esker_tests::schema_json()});
    let app = die_at("create-before-insert", "/v1/default/namespaces/n/tables", create).await;
    let of_new = || walk(app.dir.path()).into_iter().filter(|p| p.contains("/new-")).count();
    assert_no_leftovers(&app).await;
    assert_eq!(of_new(), 0, "the metadata file was reclaimed");
    let (status, _) = app.send(Method::GET, "/v1/default/namespaces/n/tables/new", None).await;
    assert_eq!(status.as_u16(), 404);
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create(Value::Null))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_after_the_swap_keeps_the_commit() {
    let app = die_at("commit-after-swap", TABLE, |commit| commit).await;
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), (0..65).collect::<Vec<_>>());
    assert_no_leftovers(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_during_a_compaction_leaves_the_table_whole_and_its_files_are_reclaimed() {
    for point in ["compact-after-write", "compact-before-commit"] {
        let path = "/api/v1/warehouses/default/namespaces/n/tables/t/compact";
        let app = die_at(point, path, |_| json!({})).await;
        let writer = TestTable::simple(&app);
        assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>(), "{point}");
        assert_eq!(writer.data_paths().await.len(), 6, "{point}");
        assert_no_leftovers(&app).await;
        let (app, jobs) = take_over(app).await;
        let job = &jobs[0];
        assert_eq!(
            (&job["state"], &job["attempts"], &job["worker_losses"]),
            (&json!("succeeded"), &json!(2), &json!(1)),
            "{point}"
        );
        let writer = TestTable::simple(&app);
        assert_eq!(writer.data_paths().await.len(), 1, "{point}");
        assert_no_leftovers(&app).await;
        assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>(), "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_during_an_expiry_or_a_sweep_deletes_nothing_that_is_referenced() {
    let expire = "/api/v1/warehouses/default/namespaces/n/tables/t/expire";
    let all = || json!({"older-than-ms": now_ms() + 60_000});
    let app = die_at("expire-before-commit", expire, |_| all()).await;
    let writer = TestTable::simple(&app);
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
    assert_eq!(writer.metadata().await.snapshots.len(), 7, "the expiry did not happen");
    assert_no_leftovers(&app).await;

    // The next server runs the job again, which succeeds. Then a victim dies in a sweep, before its first deletion.
    let (app, jobs) = take_over(app).await;
    assert_eq!((&jobs[0]["kind"], &jobs[0]["state"]), (&json!("expire"), &json!("succeeded")), "{jobs}");
    assert_eq!(TestTable::simple(&app).metadata().await.snapshots.len(), 1);
    let dir = app.stop().await;
    let victim = Victim::start(dir.path(), "sweep-before-delete").await;
    victim.kill_at_point("/api/v1/quarantine/sweep", json!({})).await;
    let app = TestApp::restart(dir).await;
    let writer = TestTable::simple(&app);
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
    assert_no_leftovers(&app).await;
}

/// Each kind that changes a table is killed before its plan, and after its commit but before the end is recorded.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_any_kind_is_run_again_after_a_kill_and_loses_nothing() {
    let expected: Vec<i64> = (0..60).filter(|id| *id != 1).collect();
    for kind in JobKind::ALL {
        let app = TestApp::start().await;
        let kinds = app.ok(Method::GET, "/api/v1/job-kinds", None).await;
        if kinds.as_array().expect("kinds").iter().any(|view| view["kind"] == kind.as_str() && view["read-only"] == true) {
            continue;
        }
        let writer = TestTable::six_files(&app).await;
        writer.query("DELETE FROM n.t WHERE id = 1").await;
        let mut dir = app.stop().await;
        for point in [format!("job-{kind}"), format!("job-{kind}-done")] {
            let path = format!("/api/v1/warehouses/default/namespaces/n/tables/t/{kind}");
            Victim::start(dir.path(), &point).await.kill_at_point(&path, options_of(kind)).await;
            let app = TestApp::restart(dir).await;
            app.wait_until_idle().await;
            let jobs = app.ok(Method::GET, &format!("/api/v1/jobs?kind={kind}"), None).await;
            let job = &jobs[0];
            let recorded = (&job["state"], &job["attempts"], &job["worker_losses"]);
            assert_eq!(recorded, (&json!("succeeded"), &json!(2), &json!(1)), "{point}: {job}");
            assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), expected, "{point}");
            assert_leftovers(&app, ORPHANS, 0).await;
            dir = app.stop().await;
        }
    }
}

/// A client got no answer and repeats the request with the same key. The commit is applied once, whether it was before the kill or
/// not, and the answer is a success.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_repeated_after_a_kill_is_applied_exactly_once() {
    for point in ["commit-before-swap", "commit-after-swap"] {
        let mut sent = Value::Null;
        let app = die_at(point, TABLE, |commit| {
            sent = commit.clone();
            commit
        })
        .await;
        let (status, _, answer) = app.send_raw(Method::POST, TABLE, &[("idempotency-key", KEY)], Some(sent)).await;
        assert_eq!(status.as_u16(), 200, "{point}: {answer}");
        let writer = TestTable::simple(&app);
        assert_eq!(writer.ids().await.expect("ids"), (0..65).collect::<Vec<_>>(), "{point}");
        assert_eq!(writer.metadata().await.snapshots.len(), 7, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_during_a_transaction_leaves_all_tables_as_they_were() {
    let app = TestApp::start().await;
    app.table().await;
    let create = json!({"name": "u", "schema": esker_tests::schema_json()});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
    let app = app.stop().await;
    let change = |table: &str| {
        json!({"identifier": {"namespace": ["n"], "name": table}, "requirements": [],
            "updates": [{"action": "set-properties", "updates": {"a": "b"}}]})
    };
    let body = json!({"table-changes": [change("t"), change("u")]});
    let victim = Victim::start(app.path(), "commit-before-swap").await;
    victim.kill_at_point("/v1/default/transactions/commit", body).await;
    let app = TestApp::restart(app).await;
    sweep(app.catalog(), now_ms() + 1000).await.expect("swept");
    for table in ["t", "u"] {
        let loaded = app.ok(Method::GET, &format!("/v1/default/namespaces/n/tables/{table}"), None).await;
        assert!(loaded["metadata"]["properties"].get("a").is_none(), "{table}: {loaded}");
    }
    let files = walk(app.dir.path()).into_iter().filter(|p| p.ends_with(".metadata.json")).count();
    assert_eq!(files, 2, "what the transaction wrote was reclaimed");
}

/// Kills at random moments of compactions, with deletes of every kind: the table keeps its rows, and leftovers are reclaimed.
///
/// `ESKER_KILLS` is the number of kills (5; `make soak` runs 100).
#[tokio::test(flavor = "multi_thread")]
async fn random_kills_during_compactions_lose_nothing() {
    let kills: u64 = std::env::var("ESKER_KILLS").ok().and_then(|v| v.parse().ok()).unwrap_or(5);
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "k", 3, true, json!({})).await;
    for i in 0..12_i64 {
        let rows: Vec<Row> = (i * 50..i * 50 + 50).map(|id| (id, format!("s{id}"), (id % 3) as i32, None)).collect();
        lake.append(&rows).await;
    }
    lake.delete_by_position(&(0..600).step_by(7).collect(), PositionDeleteScope::File).await;
    lake.upsert(&(0..600).step_by(11).map(|id| (id, (id % 3) as i32)).collect::<Vec<_>>(), &[]).await;
    let expected = lake.rows().await;
    assert_eq!(expected.len(), (0..600).filter(|id| id % 7 != 0 && id % 11 != 0).count());
    let (compact, orphans) = (lake.management_path("compact"), lake.management_path("orphans?dry-run=true"));
    let mut dir = app.stop().await;
    for kill in 0..kills {
        let strategy = ["binpack", "sort", "binpack", "convert-deletes"][kill as usize % 4];
        let mut body = json!({"strategy": strategy, "rewrite-all": true, "courtesy-seconds": 0, "target-file-size-bytes": 3000});
        if strategy == "sort" {
            body["sort-order"] = "id desc".into();
        }
        let delay = Duration::from_micros(kill * 7919 % 40_000);
        Victim::start(dir.path(), "nowhere").await.kill_after(&compact, body, delay).await;
        let app = TestApp::restart(dir).await;
        assert_eq!(TestTable::open(&app, "k").rows().await, expected, "kill {kill}, {strategy}, after {delay:?}");
        app.wait_until_idle().await;
        assert_eq!(TestTable::open(&app, "k").rows().await, expected, "kill {kill}, {strategy}, after {delay:?}, taken over");
        assert_leftovers(&app, &orphans, u64::MAX).await;
        dir = app.stop().await;
    }
}

/// Starts a server in this process, on the database and the warehouse of another one.
pub(crate) async fn beside(dir: &Path) -> TestApp {
    beside_with(dir, |_| {}).await
}

/// Starts a server with a changed configuration in this process, on the database and the warehouse of another one.
pub(crate) async fn beside_with(dir: &Path, change: impl FnOnce(&mut Config)) -> TestApp {
    let (url, location) = (postgres_url(dir), format!("file://{}/warehouse", dir.display()));
    TestApp::start_with(move |config| {
        config.state.url = url;
        config.warehouses.entry("default".to_owned()).or_default().location = Some(location);
        change(config);
    })
    .await
}

/// Appends as an engine does, with a new snapshot for each attempt, until it succeeds.
async fn append_at_last(app: &TestApp, writer: &TestTable<'_>, ids: std::ops::Range<i64>) {
    for _ in 0..100 {
        let commit = writer.prepare_append(ids.clone()).await.body().clone();
        let (status, body) = app.send(Method::POST, TABLE, Some(commit)).await;
        if status.is_success() {
            return;
        }
        assert_eq!(status, 409, "{body}");
    }
    panic!("others were always first");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_database_commit_to_one_table_and_nothing_is_lost() {
    let first = TestApp::start().await;
    if !on_postgres() {
        return; // with SQLite only one server can use a data directory
    }
    first.table().await;
    let second = beside(first.dir.path()).await;
    let (a, b) = (TestTable::simple(&first), TestTable::simple(&second));
    let ours = async {
        for i in 0..15 {
            append_at_last(&first, &a, i * 10..i * 10 + 5).await;
        }
    };
    let theirs = async {
        for i in 0..15 {
            append_at_last(&second, &b, i * 10 + 5..i * 10 + 10).await;
        }
        let done = second.job("compact", json!({"rewrite-all": true})).await;
        assert_eq!(done["state"], "succeeded", "{done}");
    };
    tokio::join!(ours, theirs);
    let expected: Vec<_> = (0..150).collect();
    assert_eq!((a.ids().await.expect("ids"), b.ids().await.expect("ids")), (expected.clone(), expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_taken_for_dead_and_then_changes_nothing() {
    let app = TestApp::start().await;
    if !on_postgres() {
        return;
    }
    app.table().await;
    let commit = TestTable::simple(&app).prepare_append(60..65).await.body().clone();
    let dir = app.stop().await;
    let mut victim = Victim::start(dir.path(), "").await;
    victim.signal("-STOP");
    let app = beside(dir.path()).await;
    app.wait_until_others_are_dead().await;
    victim.signal("-CONT");
    let request = reqwest::Client::new().post(format!("{}{TABLE}", victim.url)).bearer_auth("a-token-for-tests").json(&commit);
    // The process may end before it answers.
    if let Ok(answer) = request.send().await {
        assert_eq!(answer.status(), 429, "{}", answer.text().await.unwrap_or_default());
    }
    let mut status = None;
    for _ in 0..2400 {
        status = victim.child.try_wait().expect("asked");
        if status.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(!status.expect("it has ended").success());
    TestTable::simple(&app).append_ids(0..5).await;
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), (0..5).collect::<Vec<_>>());
}
