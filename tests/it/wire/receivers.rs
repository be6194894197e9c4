//! What receivers get: run events of OpenLineage, and the entities of DataHub.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use esker::config::OpenLineageConfig;
use esker_tests::{TestApp, TestTable, Transcript};
use serde_json::{Value, json};

use crate::events::receiver;

#[tokio::test(flavor = "multi_thread")]
async fn openlineage() {
    let (url, kept) = receiver().await;
    let app = TestApp::start_with(|c| {
        let lineage = OpenLineageConfig { url, token: Some("hook-token".to_owned()), namespace: "esker".to_owned() };
        c.events.openlineage.insert("lineage".to_owned(), lineage);
    })
    .await;
    TestTable::six_files(&app).await;
    app.job("compact", json!({"courtesy-seconds": 0})).await;
    app.job("erase", json!({"where": "id = 1"})).await;
    let mut first: BTreeMap<String, Value> = BTreeMap::new();
    for _ in 0..1200 {
        for event in kept.lock().expect("a lock").iter() {
            first.entry(event["eventType"].as_str().expect("a type").to_owned()).or_insert_with(|| event.clone());
        }
        if first.contains_key("FAIL") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(first.keys().collect::<Vec<_>>(), ["COMPLETE", "FAIL", "START"]);
    let mut log = Transcript::of(&app);
    first.iter().for_each(|(kind, event)| log.note(kind, event));
    insta::assert_snapshot!(log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn datahub() {
    let (url, kept) = receiver().await;
    let app = TestApp::start().await;
    app.table().await;
    let table = TestTable::simple(&app);
    for i in 0..12 {
        table.append_ids(i..i + 1).await;
    }
    // No round of the exporter meets some of the files only.
    let app = TestApp::restart_with(app.stop().await, |c| (c.datahub.url, c.datahub.every_seconds) = (Some(url), 1)).await;
    let of = |key: &str| -> Vec<Value> {
        let kept = kept.lock().expect("a lock");
        kept.iter().flat_map(|body| body.as_array().into_iter().flatten()).filter(|e| e.get(key).is_some()).cloned().collect()
    };
    let rows = |profile: &Value| profile["datasetProfile"]["value"]["rowCount"] == 12;
    for _ in 0..1200 {
        let active = of("incidentInfo").iter().any(|i| i["incidentInfo"]["value"]["status"]["state"] == "ACTIVE");
        if of("datasetProfile").iter().any(rows) && active {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let mut log = Transcript::of(&app);
    log.note("the dataset", of("datasetProfile").iter().find(|profile| rows(profile)).expect("a profile"));
    let assertions = of("assertionInfo");
    let result = |verdict: &'static str| {
        let is = move |a: &&Value| {
            a["assertionRunEvent"]["value"]["result"]["type"] == verdict
                && a["assertionInfo"]["value"]["customAssertion"]["type"] == "esker small-files"
        };
        assertions.iter().find(is)
    };
    log.note("an assertion that fails", result("FAILURE").expect("an assertion"));
    let rules: BTreeSet<String> =
        assertions.iter().map(|a| a["assertionInfo"]["value"]["customAssertion"]["type"].to_string()).collect();
    log.note("all assertions", &json!(rules));
    let active = |i: &&Value| i["incidentInfo"]["value"]["status"]["state"] == "ACTIVE";
    log.note("an incident", of("incidentInfo").iter().find(active).expect("an incident"));
    insta::assert_snapshot!(log.text());
}
