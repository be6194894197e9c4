//! Tables and views whose metadata moved to another directory: a restored database finds the commits made there since.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use esker_catalog::deletion::sweep;
use esker_catalog::recovery::{plan_recovery, recover};
use esker_tests::{TestApp, TestTable, on_postgres};
use esker_types::now_ms;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::commits::walk;
use crate::recovery::{copy_database, metadata_location, plan};
use crate::rest_contract::view;

const TABLE: &str = "/v1/default/namespaces/n/tables/t";
const VIEW: &str = "/v1/default/namespaces/n/views/v";
const ORPHANS: &str = "/api/v1/warehouses/default/namespaces/n/tables/t/orphans?dry-run=true";

fn set(properties: Value) -> Value {
    json!([{"action": "set-properties", "updates": properties}])
}

fn path(dir: &str) -> Value {
    set(json!({"write.metadata.path": dir}))
}

fn location(dir: &str) -> Value {
    json!([{"action": "set-location", "location": dir}])
}

/// Returns the ways in which a table's metadata directory changes, by name; each is a list of commits' updates.
fn histories(root: &str, own: &str) -> Vec<(&'static str, Vec<Value>)> {
    let dir = |name: &str| format!("{root}/{name}");
    let (a, b, moved) = (dir("meta/a"), dir("meta/b"), dir("moved/t"));
    let short = set(json!({"write.metadata.path": a, "write.metadata.previous-versions-max": "1"}));
    let gzip = set(json!({"write.metadata.path": a, "write.metadata.compression-codec": "gzip"}));
    vec![
        ("a path of its own", vec![path(&a)]),
        ("another path", vec![path(&a), path(&b)]),
        ("no path any more", vec![path(&a), json!([{"action": "remove-properties", "removals": ["write.metadata.path"]}])]),
        ("there and back and there", vec![path(&a), path(&format!("{own}/metadata")), path(&a)]),
        ("another location", vec![location(&moved)]),
        ("another location and back", vec![location(&moved), location(own)]),
        ("a log of one", vec![short, path(&b)]),
        ("compressed", vec![gzip, path(&b)]),
    ]
}

/// A backup of the database and the ledger, to be restored after the server has committed more.
struct Since {
    database: TempDir,
    ledger: Option<Vec<u8>>,
}

fn ledger(dir: &Path) -> PathBuf {
    dir.join("warehouse/_esker/ledger.json")
}

impl Since {
    async fn begin(app: TestApp) -> (Self, TestApp) {
        let database = tempfile::tempdir().expect("a directory");
        let dir = app.stop().await;
        copy_database(dir.path(), database.path());
        let this = Self { database, ledger: std::fs::read(ledger(dir.path())).ok() };
        (this, TestApp::restart(dir).await)
    }

    /// Restores the database and the ledger, as if the server had been killed before its next round of housekeeping.
    fn put_back(&self, dir: &Path) {
        copy_database(self.database.path(), dir);
        match &self.ledger {
            Some(bytes) => std::fs::write(ledger(dir), bytes).expect("written"),
            None => drop(std::fs::remove_file(ledger(dir))),
        }
    }
}

async fn commit(app: &TestApp, updates: &Value) {
    app.ok(Method::POST, TABLE, Some(json!({"requirements": [], "updates": updates}))).await;
}

async fn refused(app: &TestApp, names: &str) {
    let (code, _, message) =
        app.refused(Method::POST, TABLE, Some(json!({"requirements": [], "updates": set(json!({"a": "b"}))}))).await;
    assert_eq!(code, 403, "{message}");
    assert!(message.contains(names) && message.contains("esker recover"), "{message}");
}

/// Starts a server and creates a table with a row. Returns the server and the locations of the warehouse and the table.
async fn one_row() -> (TestApp, String, String) {
    let app = TestApp::start_with(|config| config.maintenance.grace_seconds = 0).await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..1).await;
    let (root, own) = (format!("file://{}/warehouse", app.dir.path().display()), writer.metadata().await.location);
    (app, root, own)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_from_before_a_table_moved_finds_what_was_committed_since() {
    if on_postgres() {
        return; // PostgreSQL's database is no file that the test could restore
    }
    let (app, root, own) = one_row().await;
    let names: Vec<&str> = histories(&root, &own).into_iter().map(|(name, _)| name).collect();
    drop(app);
    for (at, name) in names.into_iter().enumerate() {
        let (app, root, own) = one_row().await;
        let (since, app) = Since::begin(app).await;
        let mut rows = vec![0];
        for updates in &histories(&root, &own)[at].1 {
            commit(&app, updates).await;
            let next = rows.len() as i64;
            TestTable::simple(&app).append_ids(next..next + 1).await;
            rows.push(next);
        }
        let current = metadata_location(&app).await;
        let swept = sweep(app.catalog(), now_ms() + 1000).await.expect("swept");
        assert_eq!(swept.sick_tables, 0, "{name}");
        let orphans = app.ok(Method::POST, ORPHANS, Some(json!({}))).await;
        assert_eq!(orphans["orphans"], 0, "{name}: {orphans}");
        assert!(orphans["young"] == 0 || name == "a log of one", "{name}: {orphans}");
        let sound = plan(&app, &[]).await;
        assert_eq!((sound.current, sound.strays.len(), sound.undecided.len()), (1, 0, 0), "{name}: {sound:?}");

        let dir = app.stop().await;
        since.put_back(dir.path());
        let app = TestApp::restart(dir).await;
        assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), [0], "{name}: reads go on");
        refused(&app, &current).await;
        let planned = plan(&app, &[]).await;
        let to: Vec<&str> = planned.advance.iter().map(|a| a.to.uri.as_str()).collect();
        assert_eq!((to, planned.strays.len(), planned.undecided.len()), (vec![current.as_str()], 0, 0), "{name}: {planned:?}");
        recover(app.catalog(), &planned, true).await.expect("recovered");
        assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), rows, "{name}");
        let app = TestApp::restart(app.stop().await).await;
        TestTable::simple(&app).append_ids(99..100).await;
        assert_eq!(sweep(app.catalog(), now_ms() + 1000).await.expect("swept").sick_tables, 0, "{name}");
        rows.push(99);
        assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), rows, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_from_before_a_view_moved_finds_what_became_of_it() {
    if on_postgres() {
        return;
    }
    let (app, root, _) = one_row().await;
    app.ok(Method::POST, "/v1/default/namespaces/n/views", Some(view("v"))).await;
    let (since, app) = Since::begin(app).await;
    for updates in [location(&format!("{root}/moved/v")), set(json!({"a": "x"}))] {
        app.ok(Method::POST, VIEW, Some(json!({"updates": updates}))).await;
    }
    let dir = app.stop().await;
    since.put_back(dir.path());
    let app = TestApp::restart(dir).await;
    let (code, _, message) = app.refused(Method::POST, VIEW, Some(json!({"updates": set(json!({"b": "y"}))}))).await;
    assert!(code == 403 && message.contains("esker recover"), "{code} {message}");
    recover(app.catalog(), &plan(&app, &[]).await, true).await.expect("recovered");
    let found = app.ok(Method::GET, VIEW, None).await;
    assert_eq!(found["metadata"]["properties"]["a"], "x", "{found}");
    app.ok(Method::POST, VIEW, Some(json!({"updates": set(json!({"b": "y"}))}))).await;
}

/// Hides the copy of a metadata file that a move left in the previous directory, because earlier versions left none.
///
/// Returns the paths of the hidden files.
fn hide_left_behind(own: &str, current: &str) -> Vec<String> {
    let name = current.rsplit('/').next().expect("a name");
    let found: Vec<String> = walk(Path::new(&own[7..])).into_iter().filter(|file| file.ends_with(name)).collect();
    found.iter().for_each(|file| std::fs::rename(file, format!("{file}.away")).expect("hidden"));
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_an_entry_that_has_the_uuid_of_one_is_that_table_and_no_other() {
    if on_postgres() {
        return;
    }
    let (app, root, own) = one_row().await;
    let (since, app) = Since::begin(app).await;
    commit(&app, &location(&format!("{root}/moved/t"))).await;
    assert_eq!(hide_left_behind(&own, &metadata_location(&app).await).len(), 1, "it is left there");
    TestTable::simple(&app).append_ids(1..2).await;
    let current = metadata_location(&app).await;
    let dir = app.stop().await;
    since.put_back(dir.path());
    let app = TestApp::restart(dir).await;
    let planned = plan(&app, &[]).await;
    assert_eq!((planned.advance.len(), planned.strays.len(), planned.undecided.len()), (1, 0, 0), "{planned:?}");
    assert_eq!(planned.advance[0].to.uri, current);
    recover(app.catalog(), &planned, true).await.expect("recovered");
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), [0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_table_that_moved_and_one_that_stayed_a_person_chooses_once() {
    if on_postgres() {
        return;
    }
    for moved_wins in [true, false] {
        let (app, root, own) = one_row().await;
        let (since, app) = Since::begin(app).await;
        commit(&app, &location(&format!("{root}/moved/t"))).await;
        let hidden = hide_left_behind(&own, &metadata_location(&app).await);
        TestTable::simple(&app).append_ids(1..2).await;
        let moved = metadata_location(&app).await;
        let dir = app.stop().await;
        since.put_back(dir.path());
        // Without the ledger and the copy, the server commits to the restored state, as an earlier version did.
        let (esker, away) = (dir.path().join("warehouse/_esker"), dir.path().join("warehouse/_away"));
        std::fs::rename(&esker, &away).expect("out of sight");
        let app = TestApp::restart(dir).await;
        TestTable::simple(&app).append_ids(2..3).await;
        let stayed = metadata_location(&app).await;
        let dir = app.stop().await;
        std::fs::rename(&away, &esker).expect("back");
        hidden.iter().for_each(|file| std::fs::rename(format!("{file}.away"), file).expect("back"));

        let app = TestApp::restart(dir).await;
        refused(&app, &moved).await;
        let planned = plan(&app, &[]).await;
        let mut tips: Vec<&str> = planned.undecided.iter().flat_map(|u| &u.tips).map(|tip| tip.uri.as_str()).collect();
        tips.sort_unstable();
        let mut expected = [moved.as_str(), stayed.as_str()];
        expected.sort_unstable();
        assert_eq!(tips, expected, "{planned:?}");
        let (tip, rows) = if moved_wins { (&moved, [0, 1]) } else { (&stayed, [0, 2]) };
        let choice = BTreeMap::from([("n.t".parse().expect("a name"), tip.clone())]);
        let planned = plan_recovery(app.catalog(), &choice).await.expect("planned");
        recover(app.catalog(), &planned, true).await.expect("decided");
        let app = TestApp::restart(app.stop().await).await;
        assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), rows);
        let again = plan(&app, &[]).await;
        assert_eq!((again.undecided.len(), again.advance.len(), &again.disagreement), (0, 0, &None), "{again:?}");
        TestTable::simple(&app).append_ids(3..4).await;
        assert_eq!(sweep(app.catalog(), now_ms() + 1000).await.expect("swept").sick_tables, 0);
    }
}
