//! The job queue: jobs that wait, are retried or cancelled, and that one of several servers runs once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use esker_catalog::deletion::sweep;
use esker_format::DataFileFormat;
use esker_tests::{Faults, Row, TestApp, TestTable, on_postgres, wait_for};
use esker_types::now_ms;
use reqwest::Method;
use serde_json::{Value, json};

use crate::kills::Victim;

const TABLE: &str = "/api/v1/warehouses/default/namespaces/n/tables/t";

async fn start(app: &TestApp, kind: &str, options: Value, key: Option<&str>) -> (u16, Value) {
    let headers: Vec<_> = key.iter().map(|key| ("idempotency-key", *key)).collect();
    let (status, _, text) = app.send_raw(Method::POST, &format!("{TABLE}/{kind}"), &headers, Some(options)).await;
    (status.as_u16(), serde_json::from_str(&text).expect("JSON"))
}

async fn show(app: &TestApp, id: &Value) -> Value {
    app.ok(Method::GET, &format!("/api/v1/jobs/{}", id.as_str().expect("an id")), None).await
}

async fn log(app: &TestApp, job: &Value) -> Vec<String> {
    let lines = app.ok(Method::GET, &format!("/api/v1/jobs/{}/log", job["id"].as_str().expect("an id")), None).await;
    lines.as_array().expect("lines").iter().map(|l| l["text"].as_str().expect("a text").to_owned()).collect()
}

/// Waits until the first attempt at a job has failed and the job waits for the second. Returns the job.
async fn tried_once(app: &TestApp, id: &Value) -> Value {
    let waiting = wait_for("no attempt failed", async || {
        let job = show(app, id).await;
        job["error"].is_string().then_some(job)
    })
    .await;
    assert_eq!((&waiting["state"], &waiting["attempts"]), (&json!("queued"), &json!(1)), "{waiting}");
    waiting
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_for_what_passes_is_tried_again() {
    let faults = Faults::local();
    let change = |config: &mut esker::Config| (config.maintenance.retry_seconds, config.maintenance.attempts) = (1, 9);
    let app = TestApp::start_on(Arc::new(faults.clone()), change).await;
    let writer = TestTable::six_files(&app).await;
    faults.set_full(true);
    let id = start(&app, "compact", json!({}), None).await.1["job-id"].take();
    tried_once(&app, &id).await;
    faults.set_full(false);
    let job = app.wait_for_job(id.as_str().expect("an id")).await;
    assert_eq!((&job["state"], &job["error"]), (&json!("succeeded"), &Value::Null), "{job}");
    assert!(job["attempts"].as_u64() >= Some(2), "{job}");
    assert!(log(&app, &job).await.iter().any(|line| line.contains("is tried again in 1 s")), "{:?}", log(&app, &job).await);
    let shapes = &job["measured"]["shapes"];
    assert_eq!((&shapes["before"]["data_files"], &shapes["after"]["data_files"]), (&json!(6), &json!(1)), "{job}");
    let bytes = &shapes["before"]["data_bytes"];
    assert_eq!(job["progress"], json!([bytes, bytes]), "the record of a job that is over has its final progress");
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_leaves_the_table_as_it_was_and_nothing_behind() {
    let faults = Faults::local();
    let app = TestApp::start_on(Arc::new(faults.clone()), |config| config.maintenance.grace_seconds = 0).await;
    let writer = TestTable::six_files(&app).await;
    let files = writer.data_paths().await;
    faults.hold("compacted-");
    let first = start(&app, "compact", json!({}), None).await.1["job-id"].take();
    let second = start(&app, "manifests", json!({"rewrite-all": true}), None).await.1["job-id"].take();
    let cancel = |id: &Value| format!("/api/v1/jobs/{}/cancel", id.as_str().expect("an id"));
    while show(&app, &first).await["state"] != "running" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(app.ok(Method::POST, &cancel(&second), None).await["state"], "cancelled", "it waits for the table");
    assert_eq!(app.ok(Method::POST, &cancel(&first), None).await["state"], "running");
    wait_for("the job did not notice its cancellation", async || {
        let lines = log(&app, &json!({"id": first})).await;
        lines.iter().any(|line| line.contains("cancellation requested")).then_some(())
    })
    .await;
    faults.release("compacted-");
    let job = app.wait_for_job(first.as_str().expect("an id")).await;
    assert_eq!((&job["state"], &job["cancelled_by"]), (&json!("cancelled"), &json!("admin")), "{job}");
    assert_eq!(writer.data_paths().await, files);
    sweep(app.catalog(), now_ms() + 1000).await.expect("swept");
    let left = app.ok(Method::POST, &format!("{TABLE}/orphans?dry-run=true"), Some(json!({}))).await;
    // The cancelled jobs left no files: all that the table's directory has is referenced.
    assert_eq!((&left["young"], &left["accounted"]), (&json!(0), &json!(0)), "{left}");
    assert_eq!(app.ok(Method::POST, &cancel(&first), None).await["state"], "cancelled", "it stays over");
    assert_eq!(app.refused(Method::POST, "/api/v1/jobs/nonsense/cancel", None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_is_the_same_job() {
    let app = TestApp::start().await;
    TestTable::six_files(&app).await;
    let (status, first) = start(&app, "compact", json!({}), Some("run-7/n.t/compact")).await;
    assert_eq!(status, 202);
    app.wait_for_job(first["job-id"].as_str().expect("an id")).await;
    assert_eq!(start(&app, "compact", json!({}), Some("run-7/n.t/compact")).await, (202, first));
    let (status, other) = start(&app, "expire", json!({}), Some("run-7/n.t/compact")).await;
    assert_eq!(status, 422);
    assert!(other["error"]["message"].as_str().expect("a message").contains("run-7/n.t/compact"), "{other}");
    assert_eq!(app.ok(Method::GET, "/api/v1/jobs?kind=compact&state=succeeded", None).await.as_array().expect("jobs").len(), 1);
}

/// Waits until a job has become an external job for Spark.
pub(crate) async fn wait_for_hand_over(app: &TestApp, id: &Value) {
    wait_for("the job was not handed over", async || {
        let job = show(app, id).await;
        (job["engine"] == "spark" && job["state"] == "queued").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_over_the_policys_size_is_handed_over_and_stays_the_same_job() {
    let app = TestApp::start().await;
    let writer = TestTable::six_files(&app).await;
    let set =
        json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {"esker.compact.spark-over": "1B"}}]});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(set)).await;
    let claim = json!({"engine": "spark", "worker": "w", "lease-seconds": 60});
    let ask = |claim: Value| app.send_raw(Method::POST, "/api/v1/jobs/claim", &[], Some(claim));
    assert_eq!(ask(claim.clone()).await.0.as_u16(), 204, "there is none");
    let id = start(&app, "compact", json!({"where": "id < 1000"}), None).await.1["job-id"].take();
    wait_for_hand_over(&app, &id).await;
    let claimed = app.ok(Method::POST, "/api/v1/jobs/claim", Some(claim.clone())).await;
    let arguments = &claimed["arguments"];
    assert_eq!((&claimed["id"], &claimed["procedure"], &claimed["table"]), (&id, &json!("rewrite_data_files"), &json!("n.t")));
    assert_eq!((&arguments["table"], &arguments["where"]), (&json!("`n`.`t`"), &json!("id < 1000")));
    assert!(claimed["bytes"].as_u64() > Some(1) && claimed["warehouse"] == "default", "{claimed}");
    assert_eq!(claimed["files"], 6, "{claimed}");
    assert_eq!(ask(claim).await.0.as_u16(), 204, "it is taken");
    let (_, kind, why) = app.refused(Method::POST, "/api/v1/jobs/claim", Some(json!({"engine": "flink", "worker": "w"}))).await;
    assert!(kind == "BadRequestException" && why.contains("flink"), "{kind} {why}");

    let path = format!("/api/v1/jobs/{}", id.as_str().expect("an id"));
    let renewal = json!({"worker": "w", "done": 3, "total": 7});
    assert_eq!(app.ok(Method::POST, &format!("{path}/renew"), Some(renewal)).await, json!({"cancelled": false}));
    assert_eq!(show(&app, &id).await["progress"], json!([3, 7]));
    let foreign = app.refused(Method::POST, &format!("{path}/renew"), Some(json!({"worker": "v"}))).await;
    assert!(foreign.2.contains("does not belong to worker v"), "{foreign:?}");
    // No other job of the table starts meanwhile.
    let other = start(&app, "manifests", json!({}), None).await.1["job-id"].take();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(show(&app, &other).await["state"], "queued");
    let done = json!({"worker": "w", "state": "succeeded", "outcome": {"rewritten_bytes_count": 7}});
    app.ok(Method::POST, &format!("{path}/finish"), Some(done.clone())).await;
    let job = show(&app, &id).await;
    assert_eq!(
        (&job["state"], &job["worker"], &job["measured"]["cost"]["bytes_read"]),
        (&json!("succeeded"), &json!("w"), &json!(7))
    );
    assert_eq!(job["measured"]["shapes"]["before"]["data_files"], 6);
    app.refused(Method::POST, &format!("{path}/finish"), Some(done)).await;
    app.wait_for_job(other.as_str().expect("an id")).await;
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
}

/// A job that could not end would keep all other jobs from its table.
#[tokio::test(flavor = "multi_thread")]
async fn an_external_job_ends_although_the_tables_files_cannot_be_counted() {
    let app = TestApp::start().await;
    let writer = TestTable::six_files(&app).await;
    let manifest = writer.live(&writer.metadata().await).await.manifests[0].manifest_path.clone();
    let set =
        json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {"esker.compact.spark-over": "1B"}}]});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(set)).await;
    let id = start(&app, "compact", json!({}), None).await.1["job-id"].take();
    wait_for_hand_over(&app, &id).await;
    let claim = json!({"engine": "spark", "worker": "w", "lease-seconds": 600});
    assert_eq!(app.ok(Method::POST, "/api/v1/jobs/claim", Some(claim)).await["id"], id);
    // A running server has the manifest in its cache.
    let dir = app.stop().await;
    std::fs::write(&manifest[7..], b"no Avro").expect("written");
    let app = TestApp::restart(dir).await;
    let done = json!({"worker": "w", "state": "succeeded", "outcome": {"rewritten_bytes_count": 7}});
    app.ok(Method::POST, &format!("/api/v1/jobs/{}/finish", id.as_str().expect("an id")), Some(done)).await;
    let job = show(&app, &id).await;
    let shapes = &job["measured"]["shapes"];
    assert_eq!(
        (&job["state"], &shapes["before"]["data_files"], &shapes["after"]),
        (&json!("succeeded"), &json!(6), &Value::Null)
    );
}

/// A job that took effect has succeeded, also if the storage stumbles when the table's files are counted afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_effect_cannot_be_counted_has_succeeded() {
    let faults = Faults::local();
    let app = TestApp::start_on(Arc::new(faults.clone()), |_| {}).await;
    let writer = TestTable::six_files(&app).await;
    // A plan brings the manifests into the server's cache: then only those of the compaction are read from storage.
    app.ok(Method::POST, &format!("{TABLE}/compact?dry-run=true"), Some(json!({}))).await;
    faults.hold_reads("-m0.avro");
    let id = start(&app, "compact", json!({}), None).await.1["job-id"].take();
    faults.wait_for_a_held_read().await;
    assert_eq!(writer.metadata().await.current_snapshot().and_then(|s| s.operation()), Some("replace"), "the job committed");
    faults.set_unreachable_for("-m0.avro");
    faults.release_reads();
    let job = app.wait_for_job(id.as_str().expect("an id")).await;
    faults.set_unreachable_for("");
    assert_eq!((&job["state"], &job["outcome"]["files_in"]), (&json!("succeeded"), &json!(6)), "{job}");
    let shapes = &job["measured"]["shapes"];
    assert_eq!((&shapes["before"]["data_files"], &shapes["after"]), (&json!(6), &Value::Null), "{job}");
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
}

/// Three servers run `ESKER_JOBS` jobs (24; `make soak` runs 1,000) on as many tables, while one server is killed again and again.
///
/// Each job takes effect once.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_killed_servers_are_done_once_by_the_others() {
    let jobs: usize = std::env::var("ESKER_JOBS").ok().and_then(|v| v.parse().ok()).unwrap_or(24);
    let app = TestApp::start_with(|config| config.maintenance.jobs = 0).await;
    if !on_postgres() {
        return; // with SQLite only one server can use a data directory
    }
    let rows = |n: i64| -> Vec<Row> { (n * 10..n * 10 + 10).map(|id| (id, format!("s{id}"), 0, None)).collect() };
    let mut lakes = Vec::new();
    for i in 0..jobs {
        let lake = TestTable::create(&app, &format!("t{i}"), 2, false, json!({})).await;
        for n in 0..3 {
            lake.append(&rows(n)).await;
        }
        lakes.push(lake);
    }
    let mut workers: Vec<Victim> = Vec::new();
    for _ in 0..3 {
        workers.push(Victim::beside(app.dir.path()).await);
    }
    for lake in &lakes {
        let compact = json!({"min-input-files": 2});
        app.ok(Method::POST, &lake.management_path("compact"), Some(compact)).await;
    }
    let (began, mut kills) = (Instant::now(), 0_usize);
    let open = async || {
        let state = app.catalog().state();
        state.jobs().count_open().await.expect("jobs").iter().map(|(_, _, n)| *n).sum::<i64>()
    };
    while open().await > 0 {
        assert!(began.elapsed() < Duration::from_secs(60 + 2 * jobs as u64), "{} jobs are left", open().await);
        tokio::time::sleep(Duration::from_millis((kills as u64 * 7919) % 900)).await;
        drop(workers.remove(0)); // kills the server
        kills += 1;
        workers.push(Victim::beside(app.dir.path()).await);
    }
    drop(workers);
    let records = app.ok(Method::GET, "/api/v1/jobs?limit=10000", None).await;
    let records = records.as_array().expect("jobs");
    assert_eq!(records.len(), jobs);
    let (mut again, mut unclean) = (0, Vec::new());
    for job in records {
        assert_eq!(job["state"], "succeeded", "{job}");
        again += usize::from(job["attempts"].as_u64() > Some(1));
    }
    app.wait_until_others_are_dead().await;
    esker_catalog::deletion::reclaim_outputs(app.catalog()).await.expect("reclaimed");
    sweep(app.catalog(), now_ms() + 1000).await.expect("swept");
    for lake in &lakes {
        let metadata = lake.metadata().await;
        let replaced = metadata.snapshots.iter().filter(|s| s.operation() == Some("replace")).count();
        let live = lake.live(&metadata).await.data.len();
        let rows = lake.rows().await.len();
        let left = lake.preview_orphans().await["accounted"].as_u64().expect("a number");
        if (replaced, live, rows, left) != (1, 1, 30, 0) {
            unclean.push((replaced, live, rows, left));
        }
    }
    assert!(unclean.is_empty(), "rewritten, files, rows, files left: {unclean:?}");
    #[expect(clippy::print_stdout, reason = "`make soak` shows it")]
    let () = println!("{jobs} jobs, {kills} kills, {again} jobs begun more than once, {:.1} s", began.elapsed().as_secs_f64());
}

/// A job fails at once, with the file's name, if its cause is lasting: another attempt would fail too.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_can_never_succeed_is_not_tried_again_and_names_the_file() {
    let change = |config: &mut esker::Config| (config.maintenance.retry_seconds, config.maintenance.attempts) = (1, 3);
    let app = TestApp::start_with(change).await;
    for damage in ["truncated", "miscounted", "orc"] {
        let lake = TestTable::create(&app, damage, 2, false, json!({})).await;
        lake.append(&[(0, "a".to_owned(), 0, None)]).await;
        let schema = lake.arrow_schema().await;
        let rows: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(0..1000)),
            Arc::new(StringArray::from_iter_values((0..1000).map(|i| i.to_string()))),
            Arc::new(Int32Array::from(vec![0; 1000])),
        ];
        let name = format!("{damage}-file.parquet");
        let mut file = lake.write(&name, &RecordBatch::try_new(schema, rows).expect("a batch")).await;
        match damage {
            "miscounted" => file.record_count = 999,
            "orc" => file.file_format = DataFileFormat::Orc,
            _ => {}
        }
        let path = file.file_path[7..].to_owned();
        lake.add([file], []).await;
        if damage == "truncated" {
            let bytes = std::fs::read(&path).expect("a file");
            std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
        }
        for (kind, options) in
            [("statistics", json!({})), ("compact", json!({"courtesy-seconds": 0, "rewrite-all": true, "min-input-files": 1}))]
        {
            if (damage, kind) == ("orc", "compact") {
                continue; // the plan skips the file and gives the reason
            }
            let job = lake.run_job(kind, options).await;
            assert_eq!((&job["state"], &job["attempts"]), (&json!("failed"), &json!(1)), "{damage} {kind}: {job}");
            assert!(job["error"].as_str().expect("an error").contains(&name), "{damage} {kind}: {job}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_is_named_by_whoever_meets_it() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    lake.append(&[(0, "a".to_owned(), 0, None)]).await;
    let metadata = lake.metadata().await;
    let manifest = lake.live(&metadata).await.manifests[0].manifest_path.clone();
    // A running server has the manifest in its cache.
    let dir = app.stop().await;
    std::fs::write(&manifest[7..], b"no Avro").expect("written");
    let app = TestApp::restart(dir).await;
    let lake = TestTable::open(&app, "t");
    let (code, kind, message) = app.refused(Method::POST, &lake.management_path("compact"), Some(json!({}))).await;
    assert_eq!((code, kind.as_str()), (400, "BadRequestException"), "{message}");
    assert!(message.contains(&manifest) && !message.contains("DataInvalid"), "{message}");
}

/// The queue learns that a commit failed by a storage time-out, so it retries the job.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_commit_meets_a_store_that_is_away_is_tried_again() {
    let faults = Faults::local();
    let change = |config: &mut esker::Config| (config.maintenance.retry_seconds, config.maintenance.attempts) = (1, 9);
    let app = TestApp::start_on(Arc::new(faults.clone()), change).await;
    let writer = TestTable::six_files(&app).await;
    faults.hold("compacted-");
    let id = start(&app, "compact", json!({}), None).await.1["job-id"].take();
    app.wait_for_plan(id.as_str().expect("an id")).await;
    faults.set_unreachable_for("-m0.avro");
    faults.release("compacted-");
    let waiting = tried_once(&app, &id).await;
    assert!(waiting["error"].as_str().expect("an error").contains("away or overloaded"), "{waiting}");
    faults.set_unreachable_for("");
    let job = app.wait_for_job(id.as_str().expect("an id")).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_table_that_was_frozen_while_it_waited_does_nothing() {
    let app = TestApp::start_with(|config| config.maintenance.jobs = 0).await;
    let writer = TestTable::six_files(&app).await;
    let (_, accepted) = start(&app, "compact", json!({}), None).await;
    let set = json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {"esker.freeze": "true"}}]});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(set)).await;
    let before = writer.metadata().await;
    let app = TestApp::restart(app.stop().await).await;
    let job = app.wait_for_job(accepted["job-id"].as_str().expect("an id")).await;
    assert!(job["state"] == "failed" && job["error"].to_string().contains("frozen by table property"), "{job}");
    assert_eq!(TestTable::simple(&app).metadata().await.snapshots.len(), before.snapshots.len());
}
