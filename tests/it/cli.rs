//! The command line, run as a process against a server.

use std::collections::BTreeMap;
use std::process::Command;

use esker::config::WarehouseConfig;
use esker_tests::{TOKEN, TestApp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::kills::binary;

/// Runs a command against a server. Returns true if it succeeded, its standard output and its standard error.
pub(crate) async fn esker(app: &TestApp, arguments: &[&str]) -> (bool, String, String) {
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

/// Runs a command that must succeed. Returns the JSON that it prints.
async fn json_of(app: &TestApp, arguments: &[&str]) -> Value {
    let out = ok(app, arguments).await;
    out.parse().unwrap_or_else(|e| panic!("{arguments:?}: {e}: {out}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_prints_json_for_scripts() {
    let app = TestApp::start().await;
    app.table().await;
    let nothing = json_of(&app, &["maintain", "compact", "n.t", "--json"]).await;
    assert_eq!((&nothing["job-id"], nothing["plan"]["table"].as_str()), (&Value::Null, Some("n.t")), "{nothing}");
    assert!(nothing["reason"].is_string(), "{nothing}");
    let protected = json_of(&app, &["table", "protect", "n.t", "--json"]).await;
    assert_eq!(protected, json!({"table": "n.t", "protected": true}));
    app.sql("INSERT INTO n.t (id) VALUES (1), (2)").await.expect("inserted");
    let job = json_of(&app, &["maintain", "compact", "n.t", "--rewrite-all", "--option", "courtesy-seconds=0", "--json"]).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    json_of(&app, &["undo", job["id"].as_str().expect("an id"), "--json"]).await;
    assert!(json_of(&app, &["config", "check", "--json"]).await["server"].is_object());
    let flight = format!("http://{}", app.server.flight);
    let rows = ok(&app, &["sql", "--flight-url", &flight, "--json", "-c", "SELECT id, s FROM n.t ORDER BY id"]).await;
    assert_eq!(rows, "{\"id\":1,\"s\":null}\n{\"id\":2,\"s\":null}\n");
    let (succeeded, _, error) = esker(&app, &["sql", "--warehouse", "default", "-c", "SELECT 1"]).await;
    assert!(!succeeded && error.contains("default.NAMESPACE.TABLE"), "{error}");
    app.stop().await;
}

/// A container's health check is the binary itself, because its image has neither a shell nor `curl`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_binary_asks_whether_a_server_is_ready_and_its_exit_status_tells() {
    let app = TestApp::start().await;
    assert_eq!(ok(&app, &["ready", "--token", "wrong"]).await, "ready\n", "a probe needs no token");
    assert_eq!(json_of(&app, &["ready", "--json"]).await, json!({"ready": true, "degraded": []}));
    let (succeeded, ..) = esker(&app, &["ready", "--url", "http://127.0.0.1:1"]).await;
    assert!(!succeeded, "nothing listens there");
    let app = TestApp::start_with(|config| {
        let warehouse = config.warehouses.entry("default".to_owned()).or_default();
        warehouse.location = Some("s3://lake/w".to_owned());
        let options = [("endpoint", "http://127.0.0.1:1"), ("region", "r"), ("access_key_id", "k"), ("secret_access_key", "s")];
        warehouse.storage = options.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    })
    .await;
    let (succeeded, _, error) = esker(&app, &["ready"]).await;
    assert!(!succeeded && error.contains("warehouse default"), "the store is away: {error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_cannot_be_made_says_why_and_makes_nothing() {
    let app = TestApp::start().await;
    let dir = app.dir.path().join("absent");
    let (data, file) = (dir.to_str().expect("UTF-8"), app.dir.path().join("b.db"));
    let (succeeded, _, error) = esker(&app, &["backup", file.to_str().expect("UTF-8"), "--data-dir", data]).await;
    assert!(!succeeded && error.contains("absent does not exist; is --data-dir"), "{error}");
    assert!(!dir.exists() && !file.exists());
    app.stop().await;
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
    assert!(!job.contains("asked for by"), "{job}");
    assert!(job.starts_with("compact of n.t: succeeded") && job.contains("warehouse  default"), "{job}");
    let undone = ok(&app, &["undo", id]).await;
    assert!(undone.contains(&format!("undid job {id}")) && undone.contains("2 files back"), "{undone}");
    let (_, _, again) = esker(&app, &["undo", id]).await;
    assert!(again.contains("is undone already"), "{again}");
    // The check has no findings, in text and in JSON.
    let checked = ok(&app, &["check", "n.t"]).await;
    assert!(checked.contains("n.t: 0 findings in 2 files"), "{checked}");
    let checked = json_of(&app, &["maintain", "check", "n.t", "--json"]).await;
    assert_eq!((&checked["kind"], &checked["outcome"]["files"]), (&json!("check"), &json!(2)), "the job's record: {checked}");
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
    assert_eq!(ok(&app, &["table", "list"]).await.trim(), "0 tables");
    let dir = app.stop().await;
    let both = BTreeMap::from([("lake".to_owned(), at("lake")), ("sea".to_owned(), at("sea"))]);
    let app = TestApp::restart_with(dir, |c| c.warehouses = both).await;
    // A command about one table needs to know the warehouse; lists show all.
    let (succeeded, _, error) = esker(&app, &["health", "n.t"]).await;
    assert!(!succeeded && error.contains("--warehouse: the server has lake, sea"), "{error}");
    for warehouse in ["lake", "sea"] {
        app.ok(Method::POST, &format!("/v1/{warehouse}/namespaces"), Some(json!({"namespace": ["n"]}))).await;
        let create = json!({"name": "t", "schema": esker_tests::schema_json()});
        app.ok(Method::POST, &format!("/v1/{warehouse}/namespaces/n/tables"), Some(create)).await;
    }
    for list in [&["table", "list"][..], &["health"]] {
        let all = ok(&app, list).await;
        assert!(all.starts_with("score  warehouse  table") && all.contains("  lake ") && all.ends_with("2 tables\n"), "{all}");
        let one = ok(&app, &[list, &["--warehouse", "sea"]].concat()).await;
        assert!(one.starts_with("score  table") && one.ends_with("1 table\n"), "{one}");
    }
    app.ok(Method::DELETE, "/v1/sea/namespaces/n/tables/t", None).await;
    assert_eq!(json_of(&app, &["table", "dropped", "--json"]).await[0]["warehouse"], "sea");
    assert_eq!(ok(&app, &["table", "dropped", "--warehouse", "lake"]).await.trim(), "0 dropped tables");
    assert_eq!(ok(&app, &["jobs", "--warehouse", "sea", "--json"]).await.trim(), "[]");
    assert_eq!(ok(&app, &["jobs"]).await.trim(), "0 jobs");
    let events = ok(&app, &["events", "--warehouse", "lake"]).await;
    assert!(!events.is_empty() && !events.contains("\"sea\""), "{events}");
    assert!(ok(&app, &["events", "--after", "1000000"]).await.is_empty());
    assert_eq!(json_of(&app, &["warehouses", "--warehouse", "sea", "--json"]).await.as_array().map(Vec::len), Some(1));
    let lists: [&[&str]; 6] = [&["warehouses"], &["events"], &["jobs"], &["health"], &["table", "list"], &["table", "dropped"]];
    for list in lists {
        let (succeeded, out, error) = esker(&app, &[list, &["--warehouse", "nowhere"]].concat()).await;
        assert!(!succeeded && error.contains("warehouse nowhere does not exist"), "{list:?}: {out}{error}");
    }
    let (_, _, error) = esker(&app, &["policy", "keys", "--warehouse", "sea"]).await;
    assert!(error.contains("leave --warehouse out"), "{error}");
    let job = json_of(&app, &["maintain", "check", "n.t", "--warehouse", "lake", "--json"]).await;
    let id = job["id"].as_str().expect("an id");
    for command in [&["jobs", id][..], &["jobs", id, "--log"], &["undo", id]] {
        let (succeeded, _, error) = esker(&app, &[command, &["--warehouse", "sea"]].concat()).await;
        assert!(!succeeded && error.contains("is of warehouse lake, not of sea"), "{command:?}: {error}");
    }
    app.stop().await;
}
