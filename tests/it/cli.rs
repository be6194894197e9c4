//! The command line, run as a process against a server.

use std::collections::BTreeMap;
use std::process::Command;

use esker::config::WarehouseConfig;
use esker_tests::{TOKEN, TestApp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::kills::binary;

/// Runs a command against a server. Returns true if it succeeded, its standard output and its standard error.
async fn esker(app: &TestApp, arguments: &[&str]) -> (bool, String, String) {
    let (url, arguments) = (app.url(""), arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
    let mut command = Command::new(binary());
    command.env_remove("ESKER_WAREHOUSE").env("ESKER_URL", url).env("ESKER_TOKEN", TOKEN).args(arguments);
    let run = move || command.output();
    let output = tokio::task::spawn_blocking(run).await.expect("joined").expect("started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// Runs a command that must succeed. Returns its standard output.
pub(crate) async fn ok(app: &TestApp, arguments: &[&str]) -> String {
    let (succeeded, out, error) = esker(app, arguments).await;
    assert!(succeeded, "{arguments:?}: {error}");
    out
}

/// The reason that a job has nothing to do is that of its plan, and a job that changed nothing offers no undo.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_with_nothing_to_do_gives_the_real_reason_and_offers_no_undo() {
    let app = TestApp::start().await;
    app.table().await;
    let empty = [
        ("compact", "nothing to do: branch main has no snapshot"),
        ("expire", "nothing to do: the table has no snapshot"),
        ("manifests", "nothing to do: branch main has no snapshot"),
        ("statistics", "nothing to do: the branch has no snapshot"),
    ];
    for (kind, reason) in empty {
        let said = ok(&app, &["maintain", kind, "n.t", "--dry-run"]).await;
        assert!(said.contains(reason), "{kind}: {said}");
    }
    for _ in 0..3 {
        app.sql("INSERT INTO n.t (id) VALUES (1)").await.expect("inserted");
    }
    let set = json!({"action": "set-properties", "updates": {"esker.expire.min-age-ms": "600000"}});
    let set = json!({"requirements": [], "updates": [set]});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(set)).await;
    let said = ok(&app, &["maintain", "expire", "n.t", "--older-than", "0s"]).await;
    assert!(said.contains("2 snapshots: younger than 600000 ms (esker.expire.min-age-ms)"), "{said}");
    assert!(said.contains("1 snapshot: the head of branch main"), "{said}");
    let said = ok(&app, &["maintain", "compact", "n.t", "--where", "id > 100", "--option", "courtesy-seconds=0"]).await;
    assert!(said.contains("nothing to do: no data file matches the options where and partition"), "{said}");
    let said = ok(&app, &["maintain", "orphans", "n.t"]).await;
    assert!(said.contains("job ") && !said.contains("esker undo"), "{said}");
    let id = said.lines().last().and_then(|line| line.strip_prefix("job ")).expect("the job's id").to_owned();
    let (_, _, refused) = esker(&app, &["undo", &id]).await;
    assert!(refused.contains("has nothing to undo: it has no file in quarantine"), "{refused}");
    let jobs = app.ok(Method::GET, "/api/v1/jobs?kind=undo", None).await;
    assert_eq!(jobs, json!([]), "a refused undo leaves no record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_say_what_happened_in_words_and_in_json() {
    let app = TestApp::start().await;
    app.table().await;
    for _ in 0..2 {
        app.sql("INSERT INTO n.t (id) VALUES (1)").await.expect("inserted");
    }
    let plan = ok(&app, &["maintain", "compact", "n.t", "--dry-run", "--option", "courtesy-seconds=0"]).await;
    assert!(plan.contains("nothing to do: too few small files: 2 files under"), "{plan}");
    let plan = ok(&app, &["maintain", "compact", "n.t", "--dry-run", "--rewrite-all", "--json"]).await;
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    assert_eq!((&plan["table"], plan["groups"][0]["files"].as_array().map(Vec::len)), (&json!("n.t"), Some(2)));
    let done = ok(&app, &["maintain", "compact", "n.t", "--rewrite-all", "--option", "courtesy-seconds=0"]).await;
    assert!(done.contains("compacted 2 files") && done.contains("into 1 "), "{done}");
    let id = done.split("esker undo ").nth(1).and_then(|rest| rest.split('`').next()).expect("the job's id");
    let jobs = ok(&app, &["jobs"]).await;
    let mut lines = jobs.lines();
    assert!(lines.next().is_some_and(|heading| heading.starts_with("job ") && heading.contains("state")), "{jobs}");
    assert!(lines.any(|line| line.contains(id) && line.contains("succeeded") && line.contains('Z')), "{jobs}");
    let job = ok(&app, &["jobs", id]).await;
    assert!(job.starts_with("compact of n.t: succeeded") && job.contains("warehouse  default"), "{job}");
    let undone = ok(&app, &["undo", id]).await;
    assert!(undone.contains(&format!("undid job {id}")) && undone.contains("2 files back"), "{undone}");
    let (_, _, again) = esker(&app, &["undo", id]).await;
    assert!(again.contains("is undone already"), "{again}");
    // The check has no findings, in text and in JSON.
    let checked = ok(&app, &["check", "n.t"]).await;
    assert!(checked.contains("n.t: 0 findings in 2 files"), "{checked}");
    assert_eq!(ok(&app, &["maintain", "check", "n.t", "--json"]).await.parse::<Value>().expect("JSON")["files"], 2);
    let (_, _, unknown) = esker(&app, &["maintain", "defragment", "n.t"]).await;
    assert!(unknown.contains("defragment"), "{unknown}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_warehouse_is_the_default_one() {
    let places = tempfile::tempdir().expect("a directory");
    let at = |name: &str| WarehouseConfig {
        location: Some(format!("file://{}/{name}", places.path().display())),
        ..WarehouseConfig::default()
    };
    let app = TestApp::start_with(|c| c.warehouses = BTreeMap::from([("lake".to_owned(), at("lake"))])).await;
    assert!(ok(&app, &["table", "list"]).await.contains("score"));
    let dir = app.stop().await;
    let both = BTreeMap::from([("lake".to_owned(), at("lake")), ("sea".to_owned(), at("sea"))]);
    let app = TestApp::restart_with(dir, |c| c.warehouses = both).await;
    let (succeeded, _, error) = esker(&app, &["table", "list"]).await;
    assert!(!succeeded && error.contains("--warehouse: the server has lake, sea"), "{error}");
    assert!(ok(&app, &["table", "list", "--warehouse", "sea"]).await.contains("score"));
    assert_eq!(ok(&app, &["jobs", "--warehouse", "sea", "--json"]).await.trim(), "[]");
    app.stop().await;
}
