//! One sick table, one bad property, one panic stops nothing: what is beside it goes on, and the sick one is named.

use std::time::Duration;

use arrow::array::{Array, RecordBatch, StringArray};
use arrow::util::display::array_value_to_string;
use arrow_flight::sql::CommandGetTables;
use arrow_flight::sql::client::FlightSqlServiceClient;
use esker::Config;
use esker_catalog::deletion::sweep;
use esker_tests::{Lake, Row, TestApp, Writer};
use esker_types::now_ms;
use futures::TryStreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::Endpoint;

const TABLE: &str = "/api/v1/warehouses/default/namespaces/n/tables/t";

/// A store's URI as a path of this machine.
fn path(uri: &str) -> &str {
    uri.strip_prefix("file://").expect("a local file")
}

fn rows(n: i64) -> Vec<Row> {
    (n * 10..n * 10 + 10).map(|id| (id, format!("s{id}"), 0, None)).collect()
}

async fn set(app: &TestApp, table: &str, properties: Value) {
    let body = json!({"requirements": [], "updates": [{"action": "set-properties", "updates": properties}]});
    app.ok(Method::POST, &format!("/v1/default/namespaces/{}", table.replace('.', "/tables/")), Some(body)).await;
}

async fn text(app: &TestApp, path: &str) -> String {
    let (status, _, text) = app.raw(Method::GET, path, &[], None).await;
    assert!(status.is_success(), "{path}: {status} {text}");
    text
}

async fn health(app: &TestApp, table: &str) -> Value {
    let path = format!("/api/v1/warehouses/default/namespaces/{}/health", table.replace('.', "/tables/"));
    app.ok(Method::GET, &path, None).await
}

fn finding<'a>(health: &'a Value, code: &str) -> Option<&'a Value> {
    health["findings"].as_array().into_iter().flatten().find(|f| f["code"] == code)
}

/// Waits until a table has a finding, or has it no longer.
async fn until_found(app: &TestApp, table: &str, code: &str, there: bool) -> Value {
    for _ in 0..600 {
        let health = health(app, table).await;
        if finding(&health, code).is_some() == there {
            return health;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{table} and the finding {code}: {:#}", health(app, table).await);
}

/// A column of an answer as text.
async fn column(app: &TestApp, sql: &str) -> Vec<String> {
    let batches = app.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let one =
        |b: &RecordBatch| (0..b.num_rows()).map(|i| array_value_to_string(b.column(0), i).expect("a text")).collect::<Vec<_>>();
    batches.iter().flat_map(one).collect()
}

/// A healthy `n.t` with six small files, `lake.list` whose manifest makes no sense, and `lake.file` whose metadata file makes none; with the
/// name of the latter. Nothing of it is in the memory of the server that is started on it.
async fn a_healthy_table_and_two_sick_ones() -> (TempDir, String) {
    let app = TestApp::start().await;
    Writer::six_files(&app).await;
    let mut broken = String::new();
    for name in ["list", "file"] {
        let lake = Lake::create(&app, name, 2, false, json!({})).await;
        lake.append(&rows(0)).await;
        let metadata = lake.metadata().await;
        let found = app.ok(Method::GET, &format!("/v1/default/namespaces/lake/tables/{name}"), None).await;
        let file = match name {
            "list" => lake.live(&metadata).await.manifests[0].manifest_path.clone(),
            _ => found["metadata-location"].as_str().expect("a location").to_owned(),
        };
        std::fs::write(path(&file), "garbage").expect("overwritten");
        broken = file;
        let id = {
            let name = format!("lake.{name}").parse().expect("a name");
            let catalog = app.catalog();
            catalog.state().table(catalog.warehouse(), &name).await.expect("a row").id
        };
        // What was known of it before is forgotten.
        app.catalog().state().put_health(id, "", Err("")).await.expect("kept");
    }
    (app.stop().await, broken)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cant_be_read_is_listed_everywhere_beside_the_healthy_ones() {
    let (dir, metadata) = a_healthy_table_and_two_sick_ones().await;
    let app = TestApp::restart(dir).await;
    let metadata = metadata.as_str();

    let all = ["n.t", "lake.list", "lake.file"];
    let listed = column(&app, "SELECT table_schema || '.' || table_name FROM information_schema.tables").await;
    assert!(all.iter().all(|name| listed.iter().any(|l| l == name)), "{listed:?}");
    let shown = app.sql("SHOW TABLES").await.expect("the list");
    assert!(shown.iter().map(RecordBatch::num_rows).sum::<usize>() >= 3);
    let columns = column(&app, "SELECT table_name || '.' || column_name FROM information_schema.columns").await;
    assert!(columns.contains(&"t.id".to_owned()) && columns.contains(&"list.p".to_owned()), "{columns:?}");
    assert!(!columns.iter().any(|c| c.starts_with("file.")), "{columns:?}");

    let url = format!("http://{}", app.server.flight);
    let channel = Endpoint::from_shared(url).expect("a url").connect().await.expect("connected");
    let mut client = FlightSqlServiceClient::new(channel);
    client.set_token("a-token-for-tests".to_owned());
    let info = client.get_tables(CommandGetTables { include_schema: true, ..CommandGetTables::default() }).await.expect("tables");
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    let batches: Vec<RecordBatch> = client.do_get(ticket).await.expect("a stream").try_collect().await.expect("tables");
    let names = |b: &RecordBatch| {
        let names = b.column_by_name("table_name").expect("names").as_any().downcast_ref::<StringArray>().expect("text").clone();
        (0..names.len()).map(|i| names.value(i).to_owned()).collect::<Vec<_>>()
    };
    let mut listed: Vec<String> = batches.iter().flat_map(names).collect();
    listed.sort();
    assert_eq!(listed, ["file", "list", "t"]);

    let fleet = app.ok(Method::GET, "/api/v1/tables", None).await;
    let of = |name: &str| fleet.as_array().expect("tables").iter().find(|t| t["table"] == name).expect("listed").clone();
    for (name, file) in [("lake.list", "wrong magic"), ("lake.file", metadata)] {
        let told = of(name);
        assert_eq!((&told["findings"], &told["score"]), (&json!(["unreadable"]), &Value::Null), "{told}");
        assert!(told["error"].as_str().expect("an error").contains(file), "{told} names {file}");
        let health = health(&app, name).await;
        let unreadable = finding(&health, "unreadable").expect("a finding");
        assert_eq!(unreadable["severity"], "critical");
        assert!(unreadable["evidence"].as_str().expect("evidence").contains(file), "{health}");
        let page = text(&app, &format!("/warehouses/default/namespaces/{}", name.replace('.', "/tables/"))).await;
        assert!(page.contains("unreadable") && page.contains(file), "{page}");
        let error = app.sql(&format!("SELECT * FROM {name}")).await.expect_err("it can't be read");
        assert!(error.contains(file), "{error}");
    }
    assert_eq!(of("n.t")["data_files"], 6);
    let page = text(&app, "/").await;
    assert!(all.iter().all(|name| page.contains(&format!(">{name}<"))) && page.contains("unreadable"), "{page}");
    let metrics = text(&app, "/metrics").await;
    assert!(metrics.contains("esker_tables_with_finding{code=\"unreadable\",severity=\"critical\"} 2"), "{metrics}");
    let metrics = text(&app, "/metrics/tables").await;
    assert!(metrics.contains("esker_tables_not_examined 2"), "{metrics}");
    assert!(metrics.contains("esker_table_unreadable{namespace=\"lake\",table=\"list\",warehouse=\"default\"} 1"), "{metrics}");
    assert!(metrics.contains("esker_table_data_files{namespace=\"n\",table=\"t\",warehouse=\"default\"} 6"), "{metrics}");
    let known = column(&app, "SELECT namespace || '.' || \"table\" FROM system.tables").await;
    assert!(all.iter().all(|name| known.iter().any(|l| l == name)), "{known:?}");
    let sick = column(&app, "SELECT \"table\" FROM system.health WHERE finding = 'unreadable' ORDER BY 1").await;
    assert_eq!(sick, ["file", "list"]);
    let paying = app.ok(Method::GET, "/api/v1/warehouses/default/recommendations", None).await;
    assert!(paying.as_array().expect("jobs").iter().any(|job| job["table"] == "n.t"), "{paying}");
}

fn policy(values: &'static [(&str, &str)]) -> impl FnOnce(&mut Config) {
    move |config| {
        config.maintenance.autopilot_seconds = 1;
        config.policy = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_autopilot_the_sweep_and_the_table_of_health_go_on_beside_sick_tables() {
    let (dir, _) = a_healthy_table_and_two_sick_ones().await;
    let app = TestApp::restart_with(dir, |config| {
        config.health.table_seconds = 1;
        policy(&[("autopilot", "true"), ("orphans.schedule", "")])(config);
    })
    .await;
    let writer = Writer::new(&app);
    for _ in 0..1000 {
        if writer.data_files().await.len() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(writer.data_files().await.len(), 1, "it was compacted");
    let expired = app.job("expire", json!({"older-than-ms": now_ms() + 60_000})).await;
    assert_eq!(expired["state"], "succeeded", "{expired}");
    let swept = sweep(app.catalog(), now_ms() + 1000).await.expect("swept");
    assert!(swept.deleted >= 6, "{swept:?}");
    let sql = "SELECT DISTINCT worst_finding FROM system.table_health WHERE \"table\" = 'list'";
    for _ in 0..600 {
        if app.sql(sql).await.is_ok_and(|batches| batches.iter().any(|b| b.num_rows() > 0)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(column(&app, sql).await, ["unreadable"]);
    let decision = app.ok(Method::GET, "/api/v1/warehouses/default/namespaces/n/tables/t/policy", None).await;
    assert!(decision["decision"].is_object(), "{decision}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_panics_has_failed_and_its_table_is_free() {
    for point in ["job-compact", "compact-after-write", "compact-before-commit"] {
        let app = TestApp::start_with(|config| config.debug.panic_at = Some(point.to_owned())).await;
        let writer = Writer::six_files(&app).await;
        let job = app.job("compact", json!({})).await;
        assert_eq!((&job["state"], &job["attempts"]), (&json!("failed"), &json!(1)), "{job}");
        let error = job["error"].as_str().expect("an error");
        assert!(error.contains("it panicked") && error.contains(point), "{error}");
        if point == "job-compact" {
            assert!(error.starts_with("compact: "), "{error}");
        }
        let next = app.job("expire", json!({"older-than-ms": 1})).await;
        assert_eq!(next["state"], "succeeded", "{next}");
        assert_eq!(writer.data_files().await.len(), 6);
        writer.append(100..110).await;
        assert_eq!(writer.ids().await.expect("ids").len(), 70);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_task_that_panics_is_started_again_counted_and_told_by_readyz() {
    let app = TestApp::start_with(|config| config.debug.panic_at = Some("task-observer-default".to_owned())).await;
    let writer = Writer::six_files(&app).await;
    let restarts = async || {
        let metrics = text(&app, "/metrics").await;
        let line =
            metrics.lines().find_map(|l| l.strip_prefix("esker_background_task_restarts_total{task=\"observer-default\"} "));
        line.expect("a metric").parse::<u64>().expect("a number")
    };
    for _ in 0..400 {
        if restarts().await >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(restarts().await >= 2);
    let ready = text(&app, "/readyz").await;
    assert!(ready.starts_with("ready\n") && ready.contains("degraded: observer-default"), "{ready}");
    assert!(ready.contains("a bug at task-observer-default"), "{ready}");
    assert!(text(&app, "/metrics").await.contains("esker_background_task_restarts_total{task=\"worker\"} 0"));
    assert_eq!(app.job("compact", json!({})).await["state"], "succeeded");
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_property_that_makes_no_sense_costs_itself_alone_and_is_named() {
    let app = TestApp::start().await;
    let bad = [
        ("write.target-file-size-bytes", "200KB"),
        ("commit.manifest.target-size-bytes", "8MB"),
        ("write.metadata.delete-after-commit.enabled", "yes"),
        ("write.metadata.previous-versions-max", "many"),
        ("write.metadata.compression-codec", "zstd"),
        ("write.delete.isolation-level", "snapshots"),
        ("write.update.isolation-level", "none"),
        ("schema.name-mapping.default", "{"),
        ("write.parquet.compression-codec", "lzo"),
        ("write.parquet.compression-level", "99"),
        ("write.parquet.row-group-size-bytes", "-1"),
        ("write.parquet.page-size-bytes", "1MB"),
        ("write.parquet.page-row-limit", "0"),
        ("write.parquet.dict-size-bytes", "x"),
        ("write.parquet.page-version", "v9"),
        ("write.parquet.bloom-filter-enabled.column.id", "maybe"),
        ("write.parquet.bloom-filter-fpp.column.id", "2"),
        ("write.parquet.stats-enabled.column.id", "on"),
        ("write.metadata.metrics.default", "truncate(x)"),
        ("write.metadata.metrics.column.id", "most"),
        ("write.metadata.metrics.max-inferred-column-defaults", "-1"),
        ("esker.autopilot", "yes"),
        ("esker.compact.schedule", "every day"),
        ("esker.expire.max-age", "five days"),
        ("esker.budget.bytes", "-3"),
        ("esker.compact.after-comits", "3"),
    ];
    app.table().await;
    set(&app, "n.t", bad.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect::<serde_json::Map<_, _>>().into()).await;
    for i in 0..6 {
        app.sql(&format!("INSERT INTO n.t VALUES ({i}, 'a'), ({}, 'b')", i + 100)).await.expect("rows");
    }
    app.sql("DELETE FROM n.t WHERE id = 3").await.expect("deleted");
    app.sql("UPDATE n.t SET s = 'c' WHERE id = 4").await.expect("updated");
    let job = app.job("compact", json!({"min-input-files": 2})).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(column(&app, "SELECT count(*) FROM n.t").await, ["11"]);
    let health = health(&app, "n.t").await;
    assert_eq!(health["facts"]["target_file_bytes"], 512 << 20);
    let finding = finding(&health, "bad-property").expect("a finding");
    let evidence = finding["evidence"].as_str().expect("evidence");
    for (key, value) in bad {
        assert!(evidence.contains(&format!("{key} = {value:?} is not ")), "{key}: {evidence}");
    }
    assert!(evidence.contains("; 512 MiB is taken") && evidence.contains("serializable is taken"), "{evidence}");
    let remove = json!({"requirements": [], "updates": [{"action": "remove-properties", "removals": bad.map(|(k, _)| k)}]});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(remove)).await;
    until_found(&app, "n.t", "bad-property", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_property_protects_stays_protected_while_it_makes_no_sense() {
    let app = TestApp::start_with(|config| config.maintenance.grace_seconds = 0).await;
    let writer = Writer::six_files(&app).await;
    let expire = json!({"older-than-ms": now_ms() + 60_000});
    let refused = async |kind: &str, options: &Value, key: &str| {
        let (code, _, message) = app.refused(Method::POST, &format!("{TABLE}/{kind}"), Some(options.clone())).await;
        assert_eq!(code, 422, "{kind}: {message}");
        assert!(message.contains(key), "{kind}: {message}");
    };
    for (key, value, kind, options) in [
        ("history.expire.max-snapshot-age-ms", "5d", "expire", &json!({})),
        ("history.expire.max-snapshot-age-ms", "-1", "expire", &expire),
        ("history.expire.min-snapshots-to-keep", "all", "expire", &expire),
        ("history.expire.max-ref-age-ms", "7 days", "expire", &expire),
        ("esker.expire.writer-state-ms", "1w", "expire", &expire),
        ("gc.enabled", "flase", "expire", &expire),
        ("gc.enabled", "flase", "orphans", &json!({})),
        ("esker.orphans.min-age-ms", "3 days", "orphans", &json!({"older-than-age-ms": 86_400_000})),
        ("esker.freeze", "ture", "compact", &json!({})),
    ] {
        set(&app, "n.t", json!({key: value})).await;
        let named = if key == "esker.freeze" { "frozen" } else { key };
        refused(kind, options, named).await;
        let health = health(&app, "n.t").await;
        let evidence = finding(&health, "bad-property").expect("a finding")["evidence"].as_str().expect("text").to_owned();
        assert!(evidence.contains(&format!("{key} = {value:?}")), "{evidence}");
        let remove = json!({"requirements": [], "updates": [{"action": "remove-properties", "removals": [key]}]});
        app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(remove)).await;
    }
    set(&app, "n.t", json!({"esker.expire.min-age-ms": "0"})).await;
    let expired = app.job("expire", expire).await;
    assert_eq!(expired["state"], "succeeded", "{expired}");
    // What is in quarantine by then stays there.
    set(&app, "n.t", json!({"gc.enabled": "flase"})).await;
    assert_eq!(sweep(app.catalog(), now_ms() + 1000).await.expect("swept").deleted, 0);
    set(&app, "n.t", json!({"gc.enabled": "true"})).await;
    assert!(sweep(app.catalog(), now_ms() + 1000).await.expect("swept").deleted > 0);
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_data_file_is_a_finding_that_names_it_until_it_is_back() {
    let app = TestApp::start().await;
    let writer = Writer::six_files(&app).await;
    let lost = writer.data_files().await[2].clone();
    let kept = std::fs::read(path(&lost)).expect("read");
    std::fs::remove_file(path(&lost)).expect("removed");
    let error = writer.ids().await.expect_err("it can't be read");
    assert!(error.contains(&lost), "{error}");
    let sick = until_found(&app, "n.t", "damaged-files", true).await;
    let finding = finding(&sick, "damaged-files").expect("a finding");
    assert_eq!(finding["severity"], "critical");
    let evidence = finding["evidence"].as_str().expect("evidence");
    assert!(evidence.contains(&format!("{lost} is gone")) && evidence.contains("query"), "{evidence}");
    assert!(text(&app, "/metrics").await.contains("esker_damaged_files 1"));
    assert!(text(&app, "/warehouses/default/namespaces/n/tables/t").await.contains(&lost));
    let told = async |kind: &str| {
        let events = app.ok(Method::GET, "/api/v1/events", None).await;
        events["events"].as_array().expect("events").iter().filter(|e| e["type"] == kind).count()
    };
    assert_eq!(told("table.file-damaged").await, 1);
    std::fs::write(path(&lost), kept).expect("put back");
    until_found(&app, "n.t", "damaged-files", false).await;
    assert_eq!((told("table.file-damaged").await, told("table.file-mended").await), (1, 1));
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_that_meets_a_damaged_file_names_it_and_is_not_tried_over_and_over() {
    for cut in [true, false] {
        let app = TestApp::start_with(policy(&[("orphans.schedule", ""), ("respect-others", "0s")])).await;
        let writer = Writer::six_files(&app).await;
        let file = writer.data_files().await[4].clone();
        let whole = std::fs::read(path(&file)).expect("read");
        let broken = if cut { whole[..whole.len() / 2].to_vec() } else { vec![7; whole.len()] };
        std::fs::write(path(&file), broken).expect("overwritten");
        let job = app.job("compact", json!({})).await;
        assert_eq!((&job["state"], &job["attempts"]), (&json!("failed"), &json!(1)), "{job}");
        assert!(job["error"].as_str().expect("an error").contains(&file), "{job}");
        let sick = until_found(&app, "n.t", "damaged-files", true).await;
        let evidence = finding(&sick, "damaged-files").expect("a finding")["evidence"].as_str().expect("text").to_owned();
        assert!(evidence.contains(&format!("{file} is damaged")), "{evidence}");
        assert!(evidence.contains(job["id"].as_str().expect("an id")), "{evidence}");
        set(&app, "n.t", json!({"esker.autopilot": "true"})).await;
        let mut reason = String::new();
        for _ in 0..400 {
            let told = app.ok(Method::GET, &format!("{TABLE}/policy"), None).await;
            reason = told["decision"]["reason"].as_str().unwrap_or_default().to_owned();
            if reason.contains(&file) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert!(reason.contains(&file) && reason.contains("can't be read"), "{reason}");
        let jobs = app.ok(Method::GET, "/api/v1/jobs?kind=compact", None).await;
        assert_eq!(jobs.as_array().expect("jobs").len(), 1, "{jobs}");
    }
}
