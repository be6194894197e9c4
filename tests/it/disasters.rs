//! Random histories of a whole server against a model: commits, maintenance, kills, and restores of the state database.
//!
//! A foreign table lies in the same warehouse. No live file is ever deleted, and at the end no garbage is left.
//! `ESKER_DISASTERS` is the number of histories (10; `make soak` runs 500), `ESKER_SEED` the first seed. Start reading at `run`.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use esker_catalog::deletion::sweep;
use esker_catalog::recovery::{plan_recovery, recover};
use esker_tests::{PositionDeleteScope, Row, TestApp, TestTable, on_postgres};
use esker_types::{DAY_MS, TableName, now_ms};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::histories::Random;
use crate::recovery::{SEEN_CHANGES, copy_database_files};

const TABLE: &str = "/v1/default/namespaces/lake/tables/t";

/// The rows that the table should have.
type Rows = Vec<Row>;

/// A copy of the database, with the table's rows and metadata file at that moment.
struct Backup {
    dir: TempDir,
    rows: Rows,
    /// The URI of the table's metadata file.
    at: String,
}

struct Disaster {
    app: Option<TestApp>,
    random: Random,
    rows: Rows,
    next: i64,
    backup: Option<Backup>,
    log: Vec<String>,
    /// Files of the foreign table, which must never be deleted.
    foreign: Vec<String>,
}

/// Removes what the server remembers of its database.
fn forget(dir: &Path) {
    std::fs::remove_file(dir.join(SEEN_CHANGES)).ok();
}

impl Disaster {
    async fn begin(seed: u64) -> Self {
        let mut random = Random(seed);
        let app = TestApp::start_with(|config| config.maintenance.grace_seconds = 0).await;
        TestTable::create(&app, "t", 1 + random.below(3) as u8, false, json!({})).await;
        let foreign = foreign_table(&app).await;
        let log = vec![format!("seed {seed}")];
        Self { app: Some(app), random, rows: Vec::new(), next: 0, backup: None, log, foreign }
    }

    fn lake(&self) -> TestTable<'_> {
        TestTable::open(self.app.as_ref().expect("a server"), "t")
    }

    async fn stopped(&mut self) -> TempDir {
        self.app.take().expect("a server").stop().await
    }

    async fn start(&mut self, dir: TempDir) {
        let before = epoch(dir.path());
        let app = TestApp::restart(dir).await;
        // Waits for the first round of housekeeping. A copy made in the middle of it would lag in its epoch.
        while app.catalog().check_epoch().is_ok() && epoch(app.dir.path()) < before + 2 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        self.app = Some(app);
    }

    async fn append(&mut self) {
        let rows: Vec<Row> = (self.next..self.next + 3).map(|id| (id, format!("s{id}"), 0, None)).collect();
        self.next += 3;
        self.lake().append(&rows).await;
        self.log.push(format!("append {rows:?}"));
        self.rows.extend(rows);
    }

    async fn delete(&mut self) {
        let version = self.lake().metadata().await.format_version;
        if self.rows.is_empty() || version == 1 {
            return;
        }
        let at = self.random.below(self.rows.len() as u64) as usize;
        let id = self.rows.remove(at).0;
        self.log.push(format!("delete {id}"));
        self.lake().delete_by_position(&HashSet::from([id]), PositionDeleteScope::File).await;
    }

    /// Changes the directory of the table's later metadata files.
    async fn relocate(&mut self) {
        let location = self.lake().metadata().await.location;
        let update = match self.random.below(3) {
            0 => json!([{"action": "remove-properties", "removals": ["write.metadata.path"]}]),
            n => json!([{"action": "set-properties", "updates": {"write.metadata.path": format!("{location}/meta-{n}")}}]),
        };
        self.lake().update(update.clone()).await;
        self.log.push(format!("relocated: {update}"));
    }

    /// Runs a random job, and sometimes undoes it. A destructive job on the foreign table is refused.
    async fn maintain(&mut self) {
        let (kind, options) = match self.random.below(5) {
            0 | 1 => ("compact", json!({"courtesy-seconds": 0, "min-input-files": 2, "rewrite-all": true})),
            2 | 3 => ("expire", json!({"older-than-ms": now_ms() + 1000, "retain-last": 1 + self.random.below(2)})),
            _ => ("orphans", json!({})),
        };
        let job = self.lake().run_job(kind, options.clone()).await;
        self.log.push(format!("{kind}: {} {}", job["state"], job["outcome"]));
        assert_eq!(job["state"], "succeeded", "{}\n{job}", self.log.join("\n"));
        if self.random.one_in(3) {
            let undone = self.lake().undo(&job).await;
            self.log.push(format!("undo: {undone:?}"));
        }
        let app = self.app.as_ref().expect("a server");
        if kind != "compact" {
            let foreign = TestTable::open(app, "foreign").management_path(kind);
            let (status, body) = app.send(Method::POST, &foreign, Some(options)).await;
            assert!(status.is_client_error() && body.to_string().contains("foreign"), "{status} {body}");
        }
    }

    /// Sweeps as if the grace period of every quarantined file had ended.
    async fn sweep(&mut self) {
        let swept = sweep(self.lake().catalog(), now_ms() + 2 * DAY_MS).await.expect("swept");
        self.log.push(format!("{swept:?}"));
    }

    /// Simulates a kill: the database stays as it was before the server could stop in order.
    async fn kill(&mut self) {
        self.log.push("killed".to_owned());
        let (app, kept) = (self.app.take().expect("a server"), tempfile::tempdir().expect("a directory"));
        // What the server remembers comes first: it is never ahead of the database.
        let remembered = std::fs::read(app.dir.path().join(SEEN_CHANGES)).expect("written at the start");
        copy_database_files(app.dir.path(), kept.path());
        let dir = app.stop().await;
        copy_database_files(kept.path(), dir.path());
        std::fs::write(dir.path().join(SEEN_CHANGES), remembered).expect("as it was");
        self.start(dir).await;
    }

    async fn back_up(&mut self) {
        self.log.push("backed up".to_owned());
        let (rows, at) = (self.rows.clone(), self.pointer().await);
        let (dir, backup) = (self.stopped().await, tempfile::tempdir().expect("a directory"));
        copy_database_files(dir.path(), backup.path());
        self.backup = Some(Backup { dir: backup, rows, at });
        self.start(dir).await;
    }

    /// Returns the URI of the table's current metadata file.
    async fn pointer(&self) -> String {
        let app = self.app.as_ref().expect("a server");
        let table = app.ok(Method::GET, TABLE, None).await;
        table["metadata-location"].as_str().expect("a location").to_owned()
    }

    /// Restores the database from the backup. Nothing may be deleted until it is reconciled; then all rows are back.
    async fn restore(&mut self) {
        let Some(backup) = self.backup.take() else { return };
        self.log.push("restored".to_owned());
        let before = self.pointer().await;
        let dir = self.stopped().await;
        copy_database_files(backup.dir.path(), dir.path());
        if self.random.one_in(2) {
            self.log.push("nothing is remembered".to_owned());
            forget(dir.path());
        }
        if self.random.one_in(2) {
            return self.commit_on_top(dir, backup, before).await;
        }
        self.start(dir).await;
        self.refuses_commits(before != backup.at).await;
        self.recover(&BTreeMap::new()).await;
    }

    /// Recovers and reconciles the database. `choices` holds the metadata files that a person chose.
    async fn recover(&mut self, choices: &BTreeMap<TableName, String>) {
        let catalog = self.lake().catalog().clone();
        assert!(sweep(&catalog, now_ms() + 9 * DAY_MS).await.is_err(), "{}", self.log.join("\n"));
        let plan = plan_recovery(&catalog, choices).await.expect("planned");
        self.log.push(format!("{plan:?}"));
        recover(&catalog, &plan, true).await.unwrap_or_else(|e| panic!("{e}\n{}", self.log.join("\n")));
    }

    /// Checks that the table refuses commits if the database does not have its latest state, and accepts them otherwise.
    async fn refuses_commits(&self, behind: bool) {
        let app = self.app.as_ref().expect("a server");
        let update = json!([{"action": "set-properties", "updates": {"a": self.log.len().to_string()}}]);
        let (status, body) = app.send(Method::POST, TABLE, Some(json!({"requirements": [], "updates": update}))).await;
        let refused = status == 403 && body.to_string().contains("esker recover");
        assert!(refused == behind && status.is_success() != behind, "{status} {body}\n{}", self.log.join("\n"));
    }

    /// Restores the database and commits to the backup's state, so that the table has two chains of metadata files.
    ///
    /// An earlier version of the server did so, because it did not look for newer metadata files. Here they are hidden while it
    /// commits. Then a person decides for one chain.
    async fn commit_on_top(&mut self, dir: TempDir, backup: Backup, before: String) {
        let (esker, away) = (dir.path().join("warehouse/_esker"), dir.path().join("warehouse/_away"));
        std::fs::rename(&esker, &away).expect("out of sight");
        forget(dir.path());
        let hidden: Vec<String> =
            metadata_files(&before).into_iter().filter(|file| version(file) > version(&backup.at)).collect();
        hidden.iter().for_each(|file| std::fs::rename(file, format!("{file}.away")).expect("out of sight"));
        self.start(dir).await;
        let theirs = std::mem::replace(&mut self.rows, backup.rows);
        // The state of the backup lacks files if a sweep has run since.
        let whole = self.lake().missing_files().await.is_empty();
        if whole {
            for _ in 0..=self.random.below(2) {
                self.append().await;
            }
        }
        let ours = self.pointer().await;
        let dir = self.stopped().await;
        hidden.iter().for_each(|file| std::fs::rename(format!("{file}.away"), file).expect("back"));
        std::fs::rename(&away, &esker).expect("back");
        self.start(dir).await;
        let mut choices = BTreeMap::new();
        if !hidden.is_empty() {
            self.refuses_commits(true).await;
            let theirs_wins = !whole || self.random.one_in(2);
            let tip = if theirs_wins { before } else { ours };
            self.log.push(format!("both chains are there; chosen: {tip}"));
            choices.insert("lake.t".parse().expect("a name"), tip);
            if theirs_wins {
                self.rows = theirs;
            }
        }
        self.recover(&choices).await;
    }

    async fn check(&self) {
        let log = || self.log.join("\n");
        let mut expected = self.rows.clone();
        expected.sort();
        let lake = self.lake();
        assert_eq!(lake.missing_files().await, Vec::<String>::new(), "{}", log());
        assert_eq!(lake.rows().await, expected, "{}", log());
        for path in &self.foreign {
            assert!(Path::new(path).exists(), "{path} is gone\n{}", log());
        }
    }
}

/// Returns the epoch in the storage.
fn epoch(dir: &Path) -> i64 {
    let mark = std::fs::read(dir.join("warehouse/_esker/epoch.json")).unwrap_or_default();
    serde_json::from_slice::<serde_json::Value>(&mark).ok().and_then(|mark| mark["epoch"].as_i64()).unwrap_or(0)
}

/// Returns all metadata files of the table that the given one belongs to, in all directories.
fn metadata_files(one: &str) -> Vec<String> {
    let location = Path::new(&one[7..]).parent().and_then(Path::parent).expect("a location");
    crate::commits::walk(location).into_iter().filter(|file| file.ends_with(".metadata.json")).collect()
}

/// Returns the version number in a metadata file's name.
fn version(file: &str) -> u64 {
    file.rsplit('/').next().and_then(|name| name.split('-').next()?.parse().ok()).expect("a version")
}

/// Registers a table of another catalog, which commits to it later on. Returns its files, none of which may ever be deleted.
async fn foreign_table(app: &TestApp) -> Vec<String> {
    let place = app.dir.path().join("warehouse/elsewhere");
    let other = TestApp::start_with(|config| {
        let location = format!("file://{}", place.display());
        config.warehouses.entry("default".to_owned()).or_default().location = Some(location);
    })
    .await;
    let lake = TestTable::create(&other, "foreign", 2, false, json!({})).await;
    lake.append(&[(1, "x".to_owned(), 0, None)]).await;
    let body = other.ok(Method::GET, "/v1/default/namespaces/lake/tables/foreign", None).await;
    let register = json!({"name": "foreign", "metadata-location": body["metadata-location"]});
    app.ok(Method::POST, "/v1/default/namespaces/lake/register", Some(register)).await;
    // The other catalog commits again; this one does not know of it.
    lake.append(&[(2, "y".to_owned(), 0, None)]).await;
    let files = crate::commits::walk(&place).into_iter().filter(|path| !path.contains("_esker"));
    files.collect()
}

async fn run(seed: u64) {
    let mut history = Disaster::begin(seed).await;
    for _ in 0..6 + history.random.below(14) {
        match history.random.below(13) {
            0..4 => history.append().await,
            4 => history.delete().await,
            5..8 => history.maintain().await,
            8 => history.sweep().await,
            9 => history.kill().await,
            10 => history.back_up().await,
            11 => history.relocate().await,
            _ => history.restore().await,
        }
        history.check().await;
    }
    history.lake().run_job("expire", json!({"older-than-ms": now_ms() + 1000, "retain-last": 1})).await;
    history.sweep().await;
    history.check().await;
    // Two orphan scans a day apart find files that a restored database has forgotten. So that they qualify, all files are made old.
    let left = history.lake().preview_orphans().await;
    let catalog = history.lake().catalog().clone();
    let id = catalog.tables().await.expect("tables").into_iter().find(|t| t.name.name == "t").expect("the table").id;
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(9 * 24 * 3600);
    let location = history.lake().metadata().await.location.trim_start_matches("file://").to_owned();
    let mut all = Vec::new();
    for path in crate::commits::walk(Path::new(&location)) {
        std::fs::File::options().write(true).open(&path).expect("opened").set_modified(long_ago).expect("set");
        all.push(format!("file://{path}"));
    }
    catalog.state().quarantine().record_orphan_candidates(id, &all, now_ms() - 2 * DAY_MS).await.expect("seen");
    let job = history.lake().run_job("orphans", json!({})).await;
    history.log.push(format!("left {left}, then {}", job["outcome"]));
    history.sweep().await;
    history.check().await;
    let report = history.lake().preview_orphans().await;
    assert_eq!((&report["orphans"], &report["young"]), (&json!(0), &json!(0)), "{}\n{report}", history.log.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_the_server_no_live_file_goes_and_all_garbage_does() {
    if on_postgres() {
        return; // PostgreSQL's database is no file that the test could restore
    }
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (first, n) = (number("ESKER_SEED", 1), number("ESKER_DISASTERS", 10));
    for seed in first..first + n {
        run(seed).await;
    }
}
