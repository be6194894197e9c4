//! Snapshots of the wire formats: what clients, workers, receivers and other engines read. One file for each subject.
//!
//! Each snapshot is a transcript of requests and answers, or the content of a file. A change of a wire format shows as a changed
//! snapshot. `CONTRIBUTING.md` says how to review one.

mod cli;
mod events;
mod files;
mod flight;
mod jobs;
mod management;
mod metrics;
mod receivers;
mod rest;

use esker_tests::{TestApp, TestTable};
use reqwest::Method;
use serde_json::{Value, json};

/// The path of the table `n.t` in the Iceberg REST catalog.
const TABLE: &str = "/v1/default/namespaces/n/tables/t";
/// The path of the table `n.t` in the management API.
const MANAGED: &str = "/api/v1/warehouses/default/namespaces/n/tables/t";

/// Sets properties of the table `n.t`.
async fn set(app: &TestApp, properties: Value) {
    let body = json!({"requirements": [], "updates": [{"action": "set-properties", "updates": properties}]});
    app.ok(Method::POST, TABLE, Some(body)).await;
}

/// Creates the table `n.t`, and inserts two rows by two statements, so that Esker itself writes two files.
async fn two_files(app: &TestApp) {
    app.table().await;
    for values in ["(1, 'a')", "(2, 'b')"] {
        app.sql(&format!("INSERT INTO n.t VALUES {values}")).await.expect("inserted");
    }
}

/// Returns the data file of `n.t` that the most snapshots have. The names of files, and so their order, are random.
async fn oldest_data_file(app: &TestApp, table: &TestTable<'_>) -> String {
    let mut oldest = (0, String::new());
    for file in table.data_paths().await {
        let explained = app.ok(Method::GET, &format!("/api/v1/warehouses/default/explain?path={file}"), None).await;
        let snapshots = explained["held_by"][0]["snapshots"].as_array().expect("snapshots").len();
        oldest = oldest.max((snapshots, file));
    }
    oldest.1
}
