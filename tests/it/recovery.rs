//! The state database lost, restored to an earlier point, copied: nothing is deleted until somebody has seen to it, and what is
//! certain comes back.

use std::collections::BTreeMap;
use std::path::Path;

use esker_catalog::deletion::sweep;
use esker_catalog::recovery::{Recovery, plan_recovery, recover};
use esker_tests::{TestApp, Writer, postgres};
use esker_types::now_ms;
use reqwest::Method;
use serde_json::{Value, json};

use crate::details::view;

const TABLE: &str = "/v1/default/namespaces/n/tables/t";
const MANAGE: &str = "/api/v1/warehouses/default/namespaces/n/tables/t";
const YEAR: i64 = 365 * 24 * 3600 * 1000;

const DATABASE: [&str; 3] = ["esker.db", "esker.db-wal", "esker.db-shm"];

fn copy_database(from: &Path, to: &Path) {
    for name in DATABASE {
        match from.join(name).exists() {
            // Over the file that is there, which stays the same one to the system.
            true => drop(std::fs::copy(from.join(name), to.join(name)).expect("copied")),
            false => drop(std::fs::remove_file(to.join(name))),
        }
    }
}

async fn plan(app: &TestApp, choices: &[(&str, &str)]) -> Recovery {
    let choices: BTreeMap<_, _> = choices.iter().map(|(table, uri)| ((*table).to_owned(), (*uri).to_owned())).collect();
    plan_recovery(app.catalog(), &choices).await.expect("planned")
}

async fn metadata_location(app: &TestApp) -> String {
    app.ok(Method::GET, TABLE, None).await["metadata-location"].as_str().expect("a location").to_owned()
}

/// Everything that could delete is refused, by name; reads and appends go on.
async fn assert_nothing_is_deleted(app: &TestApp) {
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
    if postgres(Path::new("x")).is_some() {
        return; // the same code, but no file to lose
    }
    let app = TestApp::start().await;
    app.table().await;
    let body = json!({"updates": {"owner": "team"}});
    app.ok(Method::POST, "/v1/default/namespaces/n/properties", Some(body)).await;
    app.ok(Method::POST, "/v1/default/namespaces/n/views", Some(view("v"))).await;
    Writer::new(&app).append(0..5).await;
    app.catalog().write_ledger().await.expect("written");
    // Committed after the ledger was written, by a process that does not write it any more.
    Writer::new(&app).append(5..9).await;
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
    assert_eq!(Writer::new(&app).ids().await.expect("ids"), (0..9).collect::<Vec<_>>());
    let namespace = app.ok(Method::GET, "/v1/default/namespaces/n", None).await;
    assert_eq!(namespace["properties"]["owner"], "team");
    app.ok(Method::GET, "/v1/default/namespaces/n/views/v", None).await;
    assert_eq!(app.job("expire", json!({})).await["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_deletes_nothing_and_moves_on_to_what_was_committed_since() {
    if postgres(Path::new("x")).is_some() {
        return;
    }
    let backup = tempfile::tempdir().expect("a directory");
    let app = TestApp::start_with(|config| config.maintenance.grace_seconds = 0).await;
    app.table().await;
    Writer::new(&app).append(0..5).await;
    let dir = app.stop().await;
    copy_database(dir.path(), backup.path());

    let app = TestApp::restart(dir).await;
    for i in 1..4 {
        Writer::new(&app).append(i * 5..i * 5 + 5).await;
    }
    assert_eq!(app.job("compact", json!({"rewrite-all": true})).await["state"], "succeeded");
    let current = metadata_location(&app).await;
    let dir = app.stop().await;
    copy_database(backup.path(), dir.path());

    let app = TestApp::restart(dir).await;
    assert_eq!(Writer::new(&app).ids().await.expect("ids").len(), 5, "the database is as it was");
    assert_nothing_is_deleted(&app).await;
    app.catalog().advance_epoch().await;
    assert_nothing_is_deleted(&app).await;
    let planned = plan(&app, &[]).await;
    assert!(planned.disagreement.as_ref().expect("a disagreement").contains("backup"), "{planned:?}");
    assert_eq!((planned.advance.len(), planned.advance[0].to.uri.as_str()), (1, current.as_str()), "{planned:?}");
    recover(app.catalog(), &planned, false).await.expect("pointers moved");
    assert_nothing_is_deleted(&app).await;
    recover(app.catalog(), &plan(&app, &[]).await, true).await.expect("reconciled");
    assert_eq!(Writer::new(&app).ids().await.expect("ids"), (0..20).collect::<Vec<_>>());
    assert_eq!(app.job("expire", json!({"older-than-ms": now_ms(), "retain-last": 1})).await["state"], "succeeded");
    sweep(app.catalog(), now_ms() + YEAR).await.expect("swept");
    assert_eq!(Writer::new(&app).ids().await.expect("ids"), (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_tips_none_is_guessed() {
    let app = TestApp::start().await;
    app.table().await;
    Writer::new(&app).append(0..5).await;
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
