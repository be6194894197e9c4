//! Recovery after the state database was lost, restored to an earlier point, or copied.
//!
//! Nothing is deleted until a person has run `esker recover --reconcile`. Changes that are certain are restored.

use std::collections::BTreeMap;
use std::path::Path;

use esker_catalog::deletion::sweep;
use esker_catalog::recovery::{Recovery, plan_recovery, recover};
use esker_tests::{TestApp, TestTable, on_postgres};
use esker_types::{DAY_MS, now_ms};
use reqwest::Method;
use serde_json::{Value, json};

use crate::kills::binary;
use crate::rest_contract::view;

const TABLE: &str = "/v1/default/namespaces/n/tables/t";
const MANAGE: &str = "/api/v1/warehouses/default/namespaces/n/tables/t";
const YEAR: i64 = 365 * DAY_MS;

/// The files of the SQLite database in a data directory.
const DATABASE: [&str; 3] = ["esker.db", "esker.db-wal", "esker.db-shm"];

/// The file in a data directory in which the server remembers what its database confirmed.
pub(crate) const SEEN_CHANGES: &str = "seen-changes.json";

/// Copies the database of a data directory to another one, whose server remembers nothing: other signs must tell that it is behind.
pub(crate) fn copy_database(from: &Path, to: &Path) {
    std::fs::remove_file(to.join(SEEN_CHANGES)).ok();
    copy_database_files(from, to);
}

/// Copies the database of a data directory to another one, whose server goes on to remember what it did.
pub(crate) fn copy_database_files(from: &Path, to: &Path) {
    for name in DATABASE {
        match from.join(name).exists() {
            // Overwrites the existing file, so that it keeps its inode.
            true => drop(std::fs::copy(from.join(name), to.join(name)).expect("copied")),
            false => drop(std::fs::remove_file(to.join(name))),
        }
    }
}

pub(crate) async fn plan(app: &TestApp, choices: &[(&str, &str)]) -> Recovery {
    let choices: BTreeMap<_, _> =
        choices.iter().map(|(table, uri)| (table.parse().expect("a name"), (*uri).to_owned())).collect();
    plan_recovery(app.catalog(), &choices).await.expect("planned")
}

pub(crate) async fn metadata_location(app: &TestApp) -> String {
    app.ok(Method::GET, TABLE, None).await["metadata-location"].as_str().expect("a location").to_owned()
}

/// Checks that all jobs that could delete are refused with the way out, and that reads still work.
pub(crate) async fn assert_nothing_is_deleted(app: &TestApp) {
    let metrics = app.ok(Method::GET, "/metrics", None).await;
    assert!(metrics.as_str().expect("text").contains("esker_warehouse_deletes_off{warehouse=\"default\"} 1"), "{metrics}");
    for job in ["expire", "orphans"] {
        let (status, _, text) = app.refused(Method::POST, &format!("{MANAGE}/{job}"), Some(json!({}))).await;
        assert_eq!(status, 422, "{text}");
        assert!(text.contains("esker recover"), "{text}");
    }
    let error = sweep(app.catalog(), now_ms() + YEAR).await.expect_err("refused").to_string();
    assert!(error.contains("esker recover"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_is_made_again_from_the_ledger_and_the_metadata_files() {
    if on_postgres() {
        return; // the code is the same, but PostgreSQL's database is no file
    }
    let app = TestApp::start().await;
    app.table().await;
    let body = json!({"updates": {"owner": "team"}});
    app.ok(Method::POST, "/v1/default/namespaces/n/properties", Some(body)).await;
    app.ok(Method::POST, "/v1/default/namespaces/n/views", Some(view("v"))).await;
    TestTable::simple(&app).append_ids(0..5).await;
    app.catalog().write_ledger().await.expect("written");
    // This commit comes after the last writing of the ledger.
    TestTable::simple(&app).append_ids(5..9).await;
    let (id, current) = (app.ok(Method::GET, TABLE, None).await["metadata"]["table-uuid"].clone(), metadata_location(&app).await);
    let ledger = std::fs::read(app.dir.path().join("warehouse/_esker/ledger.json")).expect("a ledger");
    let dir = app.stop().await;
    std::fs::write(dir.path().join("warehouse/_esker/ledger.json"), ledger).expect("as it was");
    for name in DATABASE {
        std::fs::remove_file(dir.path().join(name)).ok();
    }

    let app = TestApp::restart(dir).await;
    let plan = plan(&app, &[]).await;
    assert!(plan.disagreement.as_ref().expect("a disagreement").contains("another database"), "{plan:?}");
    assert_eq!((plan.namespaces.len(), plan.enter.len(), plan.undecided.len(), plan.strays.len()), (1, 2, 0, 0), "{plan:?}");
    recover(app.catalog(), &plan, true).await.expect("recovered");
    assert_eq!(metadata_location(&app).await, current);
    assert_eq!(app.ok(Method::GET, TABLE, None).await["metadata"]["table-uuid"], id);
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), (0..9).collect::<Vec<_>>());
    let namespace = app.ok(Method::GET, "/v1/default/namespaces/n", None).await;
    assert_eq!(namespace["properties"]["owner"], "team");
    app.ok(Method::GET, "/v1/default/namespaces/n/views/v", None).await;
    assert_eq!(app.job("expire", json!({})).await["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_deletes_nothing_and_moves_on_to_what_was_committed_since() {
    if on_postgres() {
        return;
    }
    let backup = tempfile::tempdir().expect("a directory");
    let app = TestApp::start_with(|config| config.maintenance.grace_seconds = 0).await;
    app.table().await;
    TestTable::simple(&app).append_ids(0..5).await;
    let dir = app.stop().await;
    copy_database(dir.path(), backup.path());

    let app = TestApp::restart(dir).await;
    for i in 1..4 {
        TestTable::simple(&app).append_ids(i * 5..i * 5 + 5).await;
    }
    assert_eq!(app.job("compact", json!({"rewrite-all": true})).await["state"], "succeeded");
    let current = metadata_location(&app).await;
    let dir = app.stop().await;
    copy_database(backup.path(), dir.path());

    let app = TestApp::restart(dir).await;
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids").len(), 5, "the database is as it was");
    assert_nothing_is_deleted(&app).await;
    app.catalog().advance_epoch().await;
    assert_nothing_is_deleted(&app).await;
    let planned = plan(&app, &[]).await;
    assert!(planned.disagreement.as_ref().expect("a disagreement").contains("backup"), "{planned:?}");
    assert_eq!((planned.advance.len(), planned.advance[0].to.uri.as_str()), (1, current.as_str()), "{planned:?}");
    recover(app.catalog(), &planned, false).await.expect("pointers moved");
    assert_nothing_is_deleted(&app).await;
    recover(app.catalog(), &plan(&app, &[]).await, true).await.expect("reconciled");
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), (0..20).collect::<Vec<_>>());
    assert_eq!(app.job("expire", json!({"older-than-ms": now_ms(), "retain-last": 1})).await["state"], "succeeded");
    sweep(app.catalog(), now_ms() + YEAR).await.expect("swept");
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_tips_none_is_guessed() {
    let app = TestApp::start().await;
    app.table().await;
    TestTable::simple(&app).append_ids(0..5).await;
    let at = metadata_location(&app).await;
    let path = |uri: &str| uri.strip_prefix("file://").expect("a file").to_owned();
    let text = std::fs::read(path(&at)).expect("metadata");
    let mut json: Value = serde_json::from_slice(&text).expect("JSON");
    let log = json["metadata-log"].as_array_mut().expect("a log");
    log.push(json!({"metadata-file": at, "timestamp-ms": now_ms()}));
    let dir = at.rsplit_once('/').expect("a directory").0;
    let tips = [format!("{dir}/00002-a.metadata.json"), format!("{dir}/00002-b.metadata.json")];
    for tip in &tips {
        std::fs::write(path(tip), json.to_string()).expect("written");
    }
    let planned = plan(&app, &[]).await;
    assert_eq!(planned.undecided.len(), 1, "{planned:?}");
    let found: Vec<&String> = planned.undecided[0].tips.iter().map(|t| &t.uri).collect();
    assert_eq!(found, tips.iter().collect::<Vec<_>>());
    let refused = recover(app.catalog(), &planned, true).await.expect_err("not decided").to_string();
    assert!(refused.contains("--tip") && refused.contains("n.t"), "{refused}");
    let planned = plan(&app, &[("n.t", &tips[1])]).await;
    assert_eq!((planned.undecided.len(), planned.advance.len()), (0, 1), "{planned:?}");
    recover(app.catalog(), &planned, true).await.expect("decided");
    assert_eq!(metadata_location(&app).await, tips[1]);
}

/// A server on a restored database with two tables. A row was committed to the first table after the backup.
struct Behind {
    app: TestApp,
    backup: tempfile::TempDir,
    /// The URI of the metadata file of the commit that the database does not have.
    lost: String,
}

const OTHER: &str = "/v1/default/namespaces/n/tables/u";

/// Returns a commit that sets a property.
pub(crate) fn set(key: &str) -> Value {
    json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {key: "x"}}]})
}

async fn behind() -> Behind {
    let backup = tempfile::tempdir().expect("a directory");
    let app = TestApp::start_with(|config| config.maintenance.grace_seconds = 0).await;
    app.table().await;
    let create = json!({"name": "u", "schema": esker_tests::schema_json()});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
    app.ok(Method::POST, "/v1/default/namespaces/n/views", Some(view("v"))).await;
    TestTable::simple(&app).append_ids(1..2).await;
    let dir = app.stop().await;
    copy_database(dir.path(), backup.path());
    let app = TestApp::restart(dir).await;
    TestTable::simple(&app).append_ids(2..3).await;
    let lost = metadata_location(&app).await;
    let dir = app.stop().await;
    copy_database(backup.path(), dir.path());
    Behind { app: TestApp::restart(dir).await, backup, lost }
}

async fn assert_takes_no_commit(app: &TestApp, names: &[&str]) {
    let transaction = json!({"table-changes": [
        {"identifier": {"namespace": ["n"], "name": "u"}, "requirements": [], "updates": []},
        {"identifier": {"namespace": ["n"], "name": "t"}, "requirements": [], "updates": set("a")["updates"]}]});
    let requests = [
        (TABLE.to_owned(), set("a")),
        ("/v1/default/transactions/commit".to_owned(), transaction),
        (format!("{TABLE}/unregister"), json!({})),
    ];
    for (path, body) in requests {
        let (code, kind, message) = app.refused(Method::POST, &path, Some(body)).await;
        assert_eq!((code, kind.as_str()), (403, "ForbiddenException"), "{path}: {message}");
        assert!(message.contains("n.t") && message.contains("esker recover"), "{path}: {message}");
        assert!(names.iter().all(|name| message.contains(name)), "{path}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_its_database_is_behind_of_takes_no_commit_and_others_go_on() {
    if on_postgres() {
        return;
    }
    let Behind { app, lost, .. } = behind().await;
    assert_takes_no_commit(&app, &[&lost]).await;
    assert_nothing_is_deleted(&app).await;
    app.ok(Method::POST, OTHER, Some(set("a"))).await;
    app.ok(Method::POST, "/v1/default/namespaces/n/views", Some(view("w"))).await;
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), [1], "reads go on");
    // A restarted server refuses the commits too.
    let app = TestApp::restart(app.stop().await).await;
    assert_takes_no_commit(&app, &[&lost]).await;
    recover(app.catalog(), &plan(&app, &[]).await, false).await.expect("moved on");
    assert_eq!(metadata_location(&app).await, lost);
    TestTable::simple(&app).append_ids(3..4).await;
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), [1, 2, 3]);
    assert_nothing_is_deleted(&app).await;
    recover(app.catalog(), &plan(&app, &[]).await, true).await.expect("reconciled");
    let app = TestApp::restart(app.stop().await).await;
    assert_eq!(app.job("expire", json!({})).await["state"], "succeeded");
    TestTable::simple(&app).append_ids(4..5).await;
}

/// Whatever kept a table from being examined may pass. No recovery is needed then.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_could_not_be_examined_takes_commits_once_it_can_be() {
    if on_postgres() {
        return;
    }
    let Behind { app, .. } = behind().await;
    let at = app.ok(Method::GET, OTHER, None).await["metadata-location"].as_str().expect("a location").to_owned();
    let odd = format!("{}/00001-odd.metadata.json", at.rsplit_once('/').expect("a directory").0);
    std::fs::write(&odd[7..], "{").expect("written");
    let (code, _, message) = app.refused(Method::POST, OTHER, Some(set("a"))).await;
    assert!(code == 403 && message.contains(&odd), "{code} {message}");
    std::fs::remove_file(&odd[7..]).expect("removed");
    app.ok(Method::POST, OTHER, Some(set("a"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_out_of_a_damaged_epoch_file_or_ledger_works() {
    let app = TestApp::start().await;
    app.table().await;
    let [epoch, ledger] = ["epoch.json", "ledger.json"].map(|name| app.dir.path().join("warehouse/_esker").join(name));
    // The first round of housekeeping ends with the ledger; the next is a minute later.
    while !ledger.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    std::fs::write(&epoch, "{").expect("damaged");
    app.catalog().advance_epoch().await;
    let why = app.catalog().check_epoch().expect_err("damaged").to_string();
    assert!(why.contains("epoch.json") && why.contains("--reconcile"), "{why}");
    recover(app.catalog(), &plan(&app, &[]).await, true).await.expect("reconciled");
    app.catalog().advance_epoch().await;
    app.catalog().check_epoch().expect("they agree");

    std::fs::write(&ledger, "{").expect("damaged");
    let why = plan_recovery(app.catalog(), &BTreeMap::new()).await.expect_err("damaged").to_string();
    assert!(why.contains("ledger.json") && why.contains("move it away"), "{why}");
    std::fs::remove_file(&ledger).expect("moved away");
    recover(app.catalog(), &plan(&app, &[]).await, true).await.expect("reconciled");
    assert!(ledger.exists(), "it is written again");
}

/// Without its places, the files of a table would not be safe from the sweeps of other tables.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_comes_back_with_its_places_or_not_at_all() {
    if on_postgres() {
        return;
    }
    let app = TestApp::start().await;
    app.table().await;
    let data = format!("file://{}/warehouse/elsewhere", app.dir.path().display());
    let path = json!([{"action": "set-properties", "updates": {"write.data.path": data}}]);
    app.ok(Method::POST, TABLE, Some(json!({"requirements": [], "updates": path}))).await;
    let current = metadata_location(&app).await;
    let dir = app.stop().await;
    for name in DATABASE {
        std::fs::remove_file(dir.path().join(name)).ok();
    }
    let app = TestApp::restart(dir).await;
    let planned = plan(&app, &[]).await;
    assert_eq!((planned.enter.len(), planned.undecided.len()), (1, 0), "{planned:?}");
    let dir = app.stop().await;
    let whole = std::fs::read(&current[7..]).expect("metadata");
    std::fs::write(&current[7..], "{").expect("damaged");
    let app = TestApp::restart(dir).await;
    recover(app.catalog(), &planned, false).await.expect_err("its metadata can't be read");
    assert!(app.catalog().tables().await.expect("tables").is_empty());
    std::fs::write(&current[7..], whole).expect("put back");
    recover(app.catalog(), &plan(&app, &[]).await, true).await.expect("recovered");
    let table = app.catalog().tables().await.expect("tables").remove(0);
    let places = app.catalog().state().tables().places_of(table.id).await.expect("places");
    assert!(places.contains(&data) && places.contains(&table.location), "{places:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_its_database_is_behind_of_is_not_replaced() {
    if on_postgres() {
        return;
    }
    let Behind { app, backup, .. } = behind().await;
    let replaced = app.dir.path().join("warehouse");
    let files = || {
        crate::commits::walk(&replaced)
            .into_iter()
            .filter(|f| f.contains("/v-") && f.ends_with(".metadata.json"))
            .collect::<Vec<_>>()
    };
    let body = json!({"updates": [{"action": "set-properties", "updates": {"a": "x"}}]});
    app.ok(Method::POST, "/v1/default/namespaces/n/views/v", Some(body.clone())).await;
    assert_eq!(files().len(), 2);
    let dir = app.stop().await;
    copy_database(backup.path(), dir.path());
    let app = TestApp::restart(dir).await;
    let (code, _, message) = app.refused(Method::POST, "/v1/default/namespaces/n/views/v", Some(body)).await;
    assert_eq!(code, 403);
    assert!(message.contains("n.v") && message.contains("esker recover"), "{message}");
    recover(app.catalog(), &plan(&app, &[]).await, true).await.expect("moved on");
    let view = app.ok(Method::GET, "/v1/default/namespaces/n/views/v", None).await;
    assert_eq!(view["metadata"]["properties"]["a"], "x");
}

/// Creates a table with two chains of metadata files: a server on a restored database committed twice, so that its chain is longer.
///
/// Earlier versions could leave this state. Returns the server, the tip of the lost chain, and that of the other.
async fn two_chains() -> (TestApp, String, String) {
    let Behind { app, lost, .. } = behind().await;
    let dir = app.stop().await;
    let (esker, away) = (dir.path().join("warehouse/_esker"), dir.path().join("warehouse/_away"));
    std::fs::rename(&esker, &away).expect("out of sight");
    std::fs::rename(&lost[7..], format!("{}.away", &lost[7..])).expect("out of sight");
    let app = TestApp::restart(dir).await;
    for i in 3..5 {
        TestTable::simple(&app).append_ids(i..i + 1).await;
    }
    let ours = metadata_location(&app).await;
    let dir = app.stop().await;
    std::fs::rename(format!("{}.away", &lost[7..]), &lost[7..]).expect("back");
    std::fs::rename(&away, &esker).expect("back");
    (TestApp::restart(dir).await, lost, ours)
}

fn files_of(app: &TestApp) -> Vec<String> {
    crate::commits::walk(&app.dir.path().join("warehouse/n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_chain_that_was_overtaken_the_tip_is_listed_and_a_person_decides() {
    if on_postgres() {
        return;
    }
    for lost_wins in [true, false] {
        let (app, lost, ours) = two_chains().await;
        let before = files_of(&app);
        let planned = plan(&app, &[]).await;
        assert_eq!((planned.undecided.len(), planned.advance.len()), (1, 0), "{planned:?}");
        let mut tips: Vec<&str> = planned.undecided[0].tips.iter().map(|t| t.uri.as_str()).collect();
        let mut expected = [lost.as_str(), ours.as_str()];
        tips.sort_unstable();
        expected.sort_unstable();
        assert_eq!(tips, expected, "both chains are listed");
        assert_takes_no_commit(&app, &[&lost, &ours]).await;
        assert_nothing_is_deleted(&app).await;
        let refused = recover(app.catalog(), &planned, true).await.expect_err("not decided").to_string();
        assert!(refused.contains("--tip"), "{refused}");
        assert_eq!(files_of(&app), before, "nothing was deleted");

        let (chosen, rows) = if lost_wins { (&lost, vec![1, 2]) } else { (&ours, vec![1, 3, 4]) };
        let planned = plan(&app, &[("n.t", chosen)]).await;
        let set_aside = if lost_wins { 2 } else { 1 };
        assert_eq!((planned.undecided.len(), planned.set_aside[0].files.len()), (0, set_aside), "{planned:?}");
        recover(app.catalog(), &planned, true).await.expect("decided");
        let app = TestApp::restart(app.stop().await).await;
        assert_eq!(
            (metadata_location(&app).await.as_str(), TestTable::simple(&app).ids().await.expect("ids")),
            (chosen.as_str(), rows.clone())
        );
        let again = plan(&app, &[]).await;
        assert_eq!((again.undecided.len(), again.advance.len(), &again.disagreement), (0, 0, &None), "it was decided: {again:?}");

        // The files of the rejected chain stay as long as those of a dropped table, and are no orphans.
        sweep(app.catalog(), now_ms() + 6 * DAY_MS).await.expect("swept");
        assert_eq!(files_of(&app), before, "still there");
        let orphans = app.ok(Method::POST, &format!("{MANAGE}/orphans?dry-run=true"), Some(json!({}))).await;
        assert_eq!((&orphans["orphans"], &orphans["young"]), (&json!(0), &json!(0)), "{orphans}");
        TestTable::simple(&app).append_ids(9..10).await;
        let swept = sweep(app.catalog(), now_ms() + YEAR).await.expect("swept");
        // Each commit has a metadata file, a manifest list, a manifest and a data file.
        assert_eq!((swept.deleted, swept.released), (4 * set_aside as u64, 0), "{swept:?}");
        assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), [rows, vec![9]].concat());
    }
}

/// The backup has the same epoch as the storage, so only the ledger shows that the database is behind.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_tells_of_a_restored_backup_where_the_epoch_had_no_time_to_move() {
    if on_postgres() {
        return;
    }
    let backup = tempfile::tempdir().expect("a directory");
    let app = TestApp::start().await;
    app.table().await;
    let create = json!({"name": "u", "schema": esker_tests::schema_json()});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
    TestTable::simple(&app).append_ids(1..2).await;
    // Waits for the first round of housekeeping; the next is a minute later.
    while !app.dir.path().join("warehouse/_esker/ledger.json").exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    copy_database(app.dir.path(), backup.path());
    TestTable::simple(&app).append_ids(2..3).await;
    let lost = metadata_location(&app).await;
    let dir = app.stop().await;
    copy_database(backup.path(), dir.path());
    let app = TestApp::restart(dir).await;
    let disagreement = plan(&app, &[]).await.disagreement.expect("a disagreement");
    assert!(disagreement.contains("the ledger in storage") && disagreement.contains(&lost), "{disagreement}");
    app.catalog().advance_epoch().await;
    assert_takes_no_commit(&app, &[&lost]).await;
    assert_nothing_is_deleted(&app).await;
    recover(app.catalog(), &plan(&app, &[]).await, true).await.expect("reconciled");
    let app = TestApp::restart(app.stop().await).await;
    assert_eq!(plan(&app, &[]).await.disagreement, None);
    TestTable::simple(&app).append_ids(3..4).await;
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), [1, 2, 3]);
}

/// A failed commit's metadata file is in quarantine or recorded as a pending output. Any other unknown file may be a commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_metadata_file_that_is_known_to_have_failed_is_no_tip() {
    let app = TestApp::start().await;
    app.table().await;
    TestTable::simple(&app).append_ids(0..5).await;
    let at = metadata_location(&app).await;
    let mut json: Value = serde_json::from_slice(&std::fs::read(&at[7..]).expect("read")).expect("JSON");
    json["metadata-log"].as_array_mut().expect("a log").push(json!({"metadata-file": at, "timestamp-ms": now_ms()}));
    let row = app.catalog().tables().await.expect("tables").remove(0);
    let left = |name: &str| {
        let uri = format!("{}/00002-{name}.metadata.json", at.rsplit_once('/').expect("a directory").0);
        std::fs::write(&uri[7..], json.to_string()).expect("written");
        uri
    };
    let (failed, recorded) = (left("failed"), left("recorded"));
    app.catalog()
        .state()
        .quarantine()
        .add(&[row.quarantine(failed, None, "test", None, now_ms() + YEAR)])
        .await
        .expect("quarantined");
    app.catalog().state().outputs().record(app.catalog().warehouse(), row.id, None, &[recorded]).await.expect("recorded");
    let planned = plan(&app, &[]).await;
    assert_eq!((planned.current, planned.advance.len(), planned.undecided.len()), (1, 0, 0), "{planned:?}");
    let unknown = left("unknown");
    let orphans = app.refused(Method::POST, &format!("{MANAGE}/orphans?dry-run=true"), Some(json!({}))).await;
    assert!(orphans.2.contains("esker recover") && orphans.2.contains(&unknown), "{orphans:?}");
    let due = row.quarantine(format!("{}/data/due", row.location), None, "test", None, 0);
    app.catalog().state().quarantine().add(&[due]).await.expect("quarantined");
    let swept = sweep(app.catalog(), now_ms()).await.expect("swept");
    assert_eq!((swept.sick_tables, swept.deleted), (1, 0), "nothing of it is deleted until somebody has decided: {swept:?}");
    let planned = plan(&app, &[]).await;
    assert_eq!((planned.advance.len(), planned.advance.first().map(|a| &a.to.uri)), (1, Some(&unknown)), "{planned:?}");
}

async fn cli(args: &[&str]) -> std::process::Output {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let run = move || std::process::Command::new(binary()).args(args).output().expect("the binary is built before the tests");
    tokio::task::spawn_blocking(run).await.expect("run")
}

/// A backup made while a writer commits has every commit that was confirmed before. The server on it notices that it is behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_made_under_a_running_writer_is_whole_and_a_server_on_it_knows_that_it_is_behind() {
    if on_postgres() {
        return; // backup.rs has the test for both databases
    }
    let app = TestApp::start().await;
    app.table().await;
    let create = json!({"name": "u", "schema": esker_tests::schema_json()});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
    let backups = tempfile::tempdir().expect("a directory");
    let file = backups.path().join("backup.db");
    let (dir, to) = (app.dir.path().display().to_string(), file.display().to_string());
    let writer = TestTable::simple(&app);
    writer.append_ids(0..1).await;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let writing = async {
        let (mut next, mut stopped) = (1, stopped);
        while stopped.try_recv().is_err() {
            writer.append_ids(next..next + 1).await;
            next += 1;
        }
        // This commit comes after the backup in any case.
        writer.append_ids(next..next + 1).await;
        next + 1
    };
    let backing_up = async {
        let done = cli(&["backup", &to, "--data-dir", &dir]).await;
        stop.send(()).expect("sent");
        done
    };
    let (rows, done) = tokio::join!(writing, backing_up);
    assert!(done.status.success(), "{done:?}");
    let again = cli(&["backup", &to, "--data-dir", &dir]).await;
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("backup.db"), "{again:?}");
    let in_use = cli(&["restore", &to, "--data-dir", &dir]).await;
    assert!(!in_use.status.success() && String::from_utf8_lossy(&in_use.stderr).contains("in use"), "{in_use:?}");
    let lost = metadata_location(&app).await;
    let kept = app.stop().await;
    let occupied = cli(&["restore", &to, "--data-dir", &dir]).await;
    assert!(!occupied.status.success() && String::from_utf8_lossy(&occupied.stderr).contains("--replace"), "{occupied:?}");
    let nobody = cli(&["restore", &to, "--data-dir", &dir, "--replace"]).await;
    assert!(!nobody.status.success() && String::from_utf8_lossy(&nobody.stderr).contains("--yes"), "{nobody:?}");
    let done = cli(&["restore", &to, "--data-dir", &dir, "--replace", "--yes"]).await;
    assert!(done.status.success() && String::from_utf8_lossy(&done.stdout).contains("esker.db.before-"), "{done:?}");

    let app = TestApp::restart(kept).await;
    let there = TestTable::simple(&app).ids().await.expect("ids");
    assert!(!there.is_empty() && there.len() < rows as usize, "{there:?} of {rows}");
    assert_eq!(there, (0..there.len() as i64).collect::<Vec<_>>(), "as it was at one moment");
    assert_takes_no_commit(&app, &["n.t"]).await;
    app.ok(Method::POST, OTHER, Some(set("a"))).await;
    assert_nothing_is_deleted(&app).await;
    let dir_again = app.stop().await;
    let done = cli(&["recover", "--reconcile", "--data-dir", &dir]).await;
    assert!(done.status.success() && String::from_utf8_lossy(&done.stdout).contains(&lost), "{done:?}");
    let app = TestApp::restart(dir_again).await;
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), (0..rows).collect::<Vec<_>>());
    assert_eq!(app.job("expire", json!({})).await["state"], "succeeded");
    TestTable::simple(&app).append_ids(rows..rows + 1).await;
}
