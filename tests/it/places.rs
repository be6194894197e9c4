//! The places of tables: overlaps at every depth and with odd names, and what a server answers about very many tables.

use std::collections::HashSet;

use esker_state::{NewTabular, Outbox, TabularRow};
use esker_tests::{TestApp, schema_json};
use esker_types::{TableId, TableName};
use reqwest::Method;
use serde_json::{Value, json};

const TABLES: &str = "/v1/default/namespaces/n/tables";

/// Creates a table at a location below the warehouse. Returns the status and the message of an error.
async fn create(app: &TestApp, name: &str, location: &str) -> (u16, String) {
    let location = format!("file://{}/warehouse/{location}", app.dir.path().display());
    let body = json!({"name": name, "schema": schema_json(), "location": location});
    let (status, answer) = app.send(Method::POST, TABLES, Some(body)).await;
    (status.as_u16(), answer["error"]["message"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn locations_overlap_by_whole_segments_at_every_depth_whatever_their_names() {
    let app = TestApp::start().await;
    app.namespace().await;
    let long = "x".repeat(200);
    for (i, name) in ["plain", "a_b", "a b", "100%", "ä", "日本", long.as_str()].into_iter().enumerate() {
        let base = format!("d{i}/x/{name}");
        let (status, message) = create(&app, &format!("first{i}"), &format!("{base}/y")).await;
        assert_eq!(status, 200, "{name}: {message}");
        for taken in ["/y", "/y/", "//y/.", "/y/z", "/y/deep/er", "", "/.."] {
            let taken = if taken == "/.." { format!("d{i}/x") } else { format!("{base}{taken}") };
            let (status, message) = create(&app, &format!("refused{i}"), &taken).await;
            assert!(status == 400 && message.contains(&format!("n.first{i}")), "{taken}: {status} {message}");
        }
        for (j, free) in ["/y-z", "/y0", "/y.z", "/Y", "/z", "-b/y", "0", "_/y"].into_iter().enumerate() {
            let (status, message) = create(&app, &format!("free{i}-{j}"), &format!("{base}{free}")).await;
            assert_eq!(status, 200, "{base}{free}: {message}");
        }
    }
    // All of them lie in the warehouse.
    let (status, message) = create(&app, "all", "").await;
    assert_eq!(status, 400, "{message}");
}

/// Of creations that find a place free at the same time, one gets it. So do those of one transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_goes_to_one_of_those_that_are_created_at_the_same_time() {
    let app = TestApp::start().await;
    app.namespace().await;
    for round in 0..8 {
        let creations: Vec<_> = (0..6)
            .map(|i| {
                let app = &app;
                async move {
                    let inner = if i % 2 == 0 { "" } else { "/inner" };
                    create(app, &format!("r{round}t{i}"), &format!("round{round}/place{inner}")).await
                }
            })
            .collect();
        let answers = futures::future::join_all(creations).await;
        assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 1, "{answers:?}");
        assert!(answers.iter().all(|(status, message)| *status == 200 || *status == 400 && message.contains("overlaps")));
    }
    let change = |name: &str, place: &str| {
        let location = format!("file://{}/warehouse/{place}", app.dir.path().display());
        json!({"identifier": {"namespace": ["n"], "name": name}, "requirements": [{"type": "assert-create"}],
            "updates": [{"action": "set-location", "location": location}, {"action": "add-schema", "schema": schema_json()},
                        {"action": "set-current-schema", "schema-id": -1}]})
    };
    let both = json!({"table-changes": [change("one", "both/place"), change("two", "both/place/inner")]});
    let (status, _, message) = app.refused(Method::POST, "/v1/default/transactions/commit", Some(both)).await;
    assert_eq!(status, 400, "{message}");
    let apart = json!({"table-changes": [change("one", "both/place"), change("two", "both/place-2")]});
    app.ok(Method::POST, "/v1/default/transactions/commit", Some(apart)).await;
}

/// A place that a table left stays its own, and that of a dropped table is free, until a restart and after it.
#[tokio::test(flavor = "multi_thread")]
async fn places_that_a_table_left_are_found_after_a_restart() {
    let app = TestApp::start().await;
    app.namespace().await;
    for (name, location) in [("moved", "a/b"), ("gone", "c/d")] {
        assert_eq!(create(&app, name, location).await.0, 200);
    }
    let to = format!("file://{}/warehouse/e/f", app.dir.path().display());
    let update = json!({"requirements": [], "updates": [{"action": "set-location", "location": to}]});
    app.ok(Method::POST, &format!("{TABLES}/moved"), Some(update)).await;
    assert_eq!(app.send(Method::DELETE, &format!("{TABLES}/gone"), None).await.0.as_u16(), 204);
    let app = TestApp::restart(app.stop().await).await;
    for location in ["a", "a/b", "a/b/c", "e", "e/f", "e/f/g"] {
        let (status, message) = create(&app, "x", location).await;
        assert!(status == 400 && message.contains("n.moved"), "{location}: {status} {message}");
    }
    for (name, location) in [("next", "a/b-c"), ("again", "c/d")] {
        let (status, message) = create(&app, name, location).await;
        assert_eq!(status, 200, "{location}: {message}");
    }
}

/// The commits of a batch share a metadata file, which names the paths of the last one alone.
#[tokio::test(flavor = "multi_thread")]
async fn every_path_that_a_commit_named_is_a_place_of_the_table() {
    let app = TestApp::start().await;
    app.table().await;
    let warehouse = format!("file://{}/warehouse", app.dir.path().display());
    let set = |i: usize| {
        let path = json!({"write.data.path": format!("{warehouse}/paths/{i}")});
        let body = json!({"requirements": [], "updates": [{"action": "set-properties", "updates": path}]});
        let app = &app;
        async move { app.send(Method::POST, &format!("{TABLES}/t"), Some(body)).await }
    };
    let answers = futures::future::join_all((0..40).map(set)).await;
    assert!(answers.iter().all(|(status, _)| status.is_success()), "{answers:?}");
    let files: HashSet<&str> = answers.iter().filter_map(|(_, answer)| answer["metadata-location"].as_str()).collect();
    assert!(files.len() < 40, "some shared a metadata file");
    for i in 0..40 {
        let (status, message) = create(&app, "x", &format!("paths/{i}")).await;
        assert!(status == 400 && message.contains("n.t"), "{i}: {status} {message}");
    }
}

/// Enters tables that share metadata file and assessment with the table `n.t`. The last one had the lowest score.
async fn fill(app: &TestApp, tables: usize) {
    let catalog = app.catalog();
    let state = catalog.state();
    let shared = catalog.table(&"n.t".parse().expect("a name")).await.expect("there");
    let facts = catalog.assessed_table(shared.clone()).await.expect("assessed").facts.expect("facts");
    let facts = serde_json::to_string(facts.as_ref()).expect("JSON");
    let copy = |i: usize| {
        let name = TableName::new(shared.name.namespace.clone(), format!("copy{i:05}")).expect("a name");
        let location = format!("{}/copies/{i:05}", catalog.options().location);
        let row = TabularRow { id: TableId::fresh(), name, location: location.clone(), ..shared.clone() };
        NewTabular { row, recorded_output: None, replaces: None, places: vec![location], claims: Vec::new(), owner: None }
    };
    let all: Vec<NewTabular> = (0..tables).map(copy).collect();
    let last = all[tables - 1].row.id;
    for batch in all.chunks(1_000) {
        for NewTabular { row, .. } in batch {
            // Before the table is entered, so that the observer finds nothing to do.
            let score = if row.id == last { 1 } else { 100 };
            state.fleet().record_health(row.id, &row.metadata_location, Ok((&facts, score, "{}"))).await.expect("recorded");
        }
        let entered = state.tables().publish(catalog.warehouse(), &[], batch, &Outbox::default()).await;
        assert!(entered.expect("entered"));
    }
}

/// The pages and lists of a fleet that is too large to be assessed for each look.
#[tokio::test(flavor = "multi_thread")]
async fn of_more_than_ten_thousand_tables_the_worst_are_shown_and_all_are_counted() {
    let app = TestApp::start_with(|config| config.maintenance.autopilot_seconds = 0).await;
    app.table().await;
    fill(&app, 10_000).await;

    let (_, page) = app.send(Method::GET, "/", None).await;
    let page = page.as_str().expect("a page").to_owned();
    assert!(page.contains("More than 10000 tables") && page.contains(">n.copy09999<"), "{}", &page[..page.len().min(2_000)]);
    let (_, page) = app.send(Method::GET, "/?q=copy0123", None).await;
    let page = page.as_str().expect("a page");
    assert!(page.contains("10 tables") && page.contains(">n.copy01230<"), "a search looks among all: {page}");
    let (_, metrics) = app.send(Method::GET, "/metrics", None).await;
    assert!(metrics.as_str().expect("text").contains("esker_tables 10001\n"), "{metrics}");
    let (_, of_tables) = app.send(Method::GET, "/metrics/tables", None).await;
    assert!(of_tables.as_str().expect("text").contains("esker_tables_not_exported"));

    // Lists come page by page, in order, each table once.
    let (mut token, mut names) = (String::new(), Vec::new());
    loop {
        let listed = app.ok(Method::GET, &format!("{TABLES}?pageSize=4000&pageToken={token}"), None).await;
        let page = listed["identifiers"].as_array().expect("a list").clone();
        names.extend(page.iter().map(|table| table["name"].as_str().expect("a name").to_owned()));
        match &listed["next-page-token"] {
            Value::String(next) => token.clone_from(next),
            _ => break,
        }
    }
    assert_eq!(names.len(), 10_001);
    assert!(names.is_sorted_by(|a, b| a < b));
}
