//! Names, types, help texts and labels of the metrics on `/metrics` and `/metrics/tables`. Values are left out.

use std::collections::{BTreeMap, BTreeSet};

use esker::config::WebhookConfig;
use esker_tests::{TestApp, TestTable};
use reqwest::Method;
use serde_json::json;

use crate::events::receiver;

/// Returns a line for each metric of a text in the format of Prometheus, sorted: its name, type, labels and help.
fn families(text: &str) -> String {
    let mut help: BTreeMap<&str, &str> = BTreeMap::new();
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, what)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.insert(name, what);
        } else if let Some((name, what)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            types.insert(name, what);
        } else if let Some((sample, within)) = line.split_once('{') {
            let within = within.rsplit_once('}').expect("an end").0;
            // A histogram's samples have names of their own, with the label `le`.
            let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| sample.strip_suffix(end)).unwrap_or(sample);
            let name = if types.contains_key(name) { name } else { sample };
            let keys = within.split("\",").filter_map(|label| label.split_once('=')).map(|(key, _)| key.trim());
            labels.entry(name).or_default().extend(keys.filter(|key| *key != "le"));
        }
    }
    let line = |(name, kind): (&&str, &&str)| {
        let labels: Vec<&str> = labels.get(name).into_iter().flatten().copied().collect();
        format!("{name} {kind} {{{}}}\n    {}\n", labels.join(","), help.get(name).expect("every metric has a help text"))
    };
    types.iter().map(line).collect()
}

/// Shows every metric that has a value after a commit, a job, a query and a conflict.
#[tokio::test(flavor = "multi_thread")]
async fn names_types_labels_and_help() {
    let (url, _) = receiver().await;
    let app = TestApp::start_with(|c| {
        c.events.webhooks.insert("hook".to_owned(), WebhookConfig { url, token: Some("hook-token".to_owned()) });
    })
    .await;
    let table = TestTable::six_files(&app).await;
    let (first, second) = (table.prepare_append(100..101).await, table.prepare_append(101..102).await);
    table.commit(&first).await;
    app.refused(Method::POST, super::TABLE, Some(second.body().clone())).await;
    app.job("compact", json!({"courtesy-seconds": 0})).await;
    app.job("expire", json!({"older-than-ms": esker_types::now_ms() + 60_000})).await;
    app.sql("SELECT count(*) FROM n.t").await.expect("counted");
    let mut shown = String::new();
    for path in ["/metrics", "/metrics/tables"] {
        // The first scrape is a request too, so its metric is in the second.
        app.ok(Method::GET, path, None).await;
        let text = app.ok(Method::GET, path, None).await;
        shown += &format!("{path}\n\n{}\n", families(text.as_str().expect("text")));
    }
    insta::assert_snapshot!(shown.trim_end());
}
