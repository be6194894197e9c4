//! Operations: authentication, health, metrics, and a stop in order.

use std::time::Duration;

use esker_state::{JobFilter, JobState};
use esker_tests::{TestApp, TestTable};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn every_route_but_the_probes_wants_a_principal() {
    let app = TestApp::start().await;
    for path in ["/metrics", "/v1/config", "/api/v1/tables", "/v1/default/namespaces"] {
        assert_eq!(reqwest::get(app.url(path)).await.expect("an answer").status(), 401, "{path}");
    }
    let page = reqwest::get(app.url("/")).await.expect("an answer");
    assert_eq!(page.url().path(), "/login", "a browser is sent to the log-in");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(reqwest::get(app.url(path)).await.expect("an answer").status(), 200, "{path}");
    }
    let open = TestApp::start_with(|c| c.auth.anonymous = true).await;
    assert_eq!(reqwest::get(open.url("/v1/config")).await.expect("an answer").status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_shown_by_json_metrics_and_page() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    for i in 0..12 {
        writer.append_ids(i..i + 1).await;
    }
    let health = app.ok(Method::GET, "/api/v1/warehouses/default/namespaces/n/tables/t/health", None).await;
    assert_eq!(health["findings"][0]["code"], "small-files");
    assert_eq!(health["facts"]["data_files"], 12);
    let score = health["score"].as_u64().expect("a score");
    let metrics = app.ok(Method::GET, "/metrics/tables", None).await;
    let line = format!("esker_table_health_score{{namespace=\"n\",table=\"t\",warehouse=\"default\"}} {score}");
    assert!(metrics.as_str().expect("text").contains(&line), "{metrics}");
    let service = app.ok(Method::GET, "/metrics", None).await;
    assert!(service.as_str().expect("text").contains("esker_tables_with_finding{code=\"small-files\",severity=\"critical\"} 1"));
    let fleet = app.ok(Method::GET, "/", None).await;
    assert!(fleet.as_str().expect("html").contains("href=\"/warehouses/default/namespaces/n/tables/t\""));
    let page = app.ok(Method::GET, "/warehouses/default/namespaces/n/tables/t", None).await;
    assert!(page.as_str().expect("html").contains("11 fewer files to open"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_finishes_what_it_began() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    for i in 0..6 {
        writer.append_ids(i..i + 1).await;
    }
    app.ok(Method::POST, "/api/v1/warehouses/default/namespaces/n/tables/t/compact", Some(json!({}))).await;
    let TestApp { server, dir, .. } = app;
    let config = esker_tests::config(dir.path());
    server.stop().await;
    let again = esker::server::Server::start(&config).await.expect("starts again");
    // A job that had not begun is run by the next server.
    let state = again.catalogs()[0].state();
    let job = loop {
        let jobs = state.jobs().list(&JobFilter::default(), 10).await.expect("jobs");
        assert_eq!(jobs.len(), 1);
        match jobs[0].state.is_over() {
            true => break jobs[0].clone(),
            false => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!((job.state, job.worker_losses), (JobState::Succeeded, 0));
    again.stop().await;
}
