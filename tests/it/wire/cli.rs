//! What commands print with `--json`, run as processes against a server.

use esker_tests::{TestApp, TestTable, Transcript};
use serde_json::Value;

use crate::cli::ok;

/// Runs a command and records the JSON that it prints. Returns the JSON.
async fn run(app: &TestApp, log: &mut Transcript<'_>, arguments: &[&str]) -> Value {
    let out = ok(app, arguments).await;
    let json: Value = out.parse().unwrap_or_else(|e| panic!("{arguments:?}: {e}: {out}"));
    log.note(&format!("esker {}", arguments.join(" ")), &json);
    json
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json() {
    let app = TestApp::start().await;
    let table = TestTable::six_files(&app).await;
    let file = super::oldest_data_file(&app, &table).await;
    let mut log = Transcript::of(&app);
    run(&app, &mut log, &["warehouses", "--json"]).await;
    run(&app, &mut log, &["table", "list", "--json"]).await;
    run(&app, &mut log, &["table", "tag", "n.t", "v1", "--json"]).await;
    run(&app, &mut log, &["table", "refs", "n.t", "--json"]).await;
    run(&app, &mut log, &["table", "dropped", "--json"]).await;
    run(&app, &mut log, &["table", "quarantine", "n.t", "--json"]).await;
    run(&app, &mut log, &["policy", "keys", "--json"]).await;
    run(&app, &mut log, &["explain", &file, "--json"]).await;
    run(&app, &mut log, &["maintain", "compact", "n.t", "--rewrite-all", "--option", "courtesy-seconds=0", "--json"]).await;
    run(&app, &mut log, &["check", "n.t", "--json"]).await;
    let jobs = ok(&app, &["jobs", "--json"]).await.parse::<Value>().expect("JSON");
    let compacted = jobs.as_array().expect("jobs").iter().find(|job| job["kind"] == "compact").expect("the compaction");
    log.note("esker jobs --json: a job", compacted);
    let id = compacted["id"].as_str().expect("an id");
    run(&app, &mut log, &["jobs", id, "--log", "--json"]).await;
    run(&app, &mut log, &["undo", id, "--json"]).await;
    let events = ok(&app, &["events"]).await;
    let mut first: Value = events.lines().next().expect("an event").parse().expect("JSON on one line");
    first["id"] = "[number]".into();
    log.note("esker events: the first line", &first);
    insta::assert_snapshot!(log.text());
    app.stop().await;
}
