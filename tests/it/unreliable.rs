//! Commits while the store fails one request in ten, while it is slow, and while the database loses its connections.
//!
//! Each commit sets a property of its own. What was acknowledged must be there at the end, and what was refused for certain must
//! not. Loads never go back. `ESKER_FAULTS` is the number of commits of a writer (20; `make soak` runs 2,000), `ESKER_SEED` the
//! seed of the faults. Start reading at `Outcomes`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use esker_tests::{Faults, TestApp, postgres_url};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

const TABLE: &str = "/v1/default/namespaces/n/tables/t";

/// The number of writers, which commit at the same time.
const WRITERS: usize = 6;

/// What the writers were told about their commits, by the property that each sets.
#[derive(Debug, Default)]
struct Outcomes {
    /// Commits that were acknowledged.
    made: BTreeSet<String>,
    /// Commits that were certainly not made.
    refused: BTreeSet<String>,
}

/// Returns a number from the environment, or its default.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Returns a commit that sets a property.
fn set(key: &str) -> Value {
    json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {key: "x"}}]})
}

/// Commits one after the other, and repeats none.
async fn write(app: &TestApp, writer: usize) -> Outcomes {
    let mut told = Outcomes::default();
    for n in 0..number("ESKER_FAULTS", 20) {
        let key = format!("w{writer}-{n}");
        let (status, body) = app.send(Method::POST, TABLE, Some(set(&key))).await;
        let told_of = match status.as_u16() {
            200 => &mut told.made,
            // Nothing was begun.
            429 => &mut told.refused,
            // The outcome is unknown.
            500 if body["error"]["type"] == "CommitStateUnknownException" => continue,
            _ => panic!("{status} {body}"),
        };
        told_of.insert(key);
    }
    told
}

/// Loads the table until `done`. Each metadata file is as late as the one before, or later.
async fn read(app: &TestApp, done: &AtomicBool) {
    let mut last = 0;
    while !done.load(Ordering::Acquire) {
        let (status, body) = app.send(Method::GET, TABLE, None).await;
        if status == 503 {
            continue;
        }
        assert_eq!(status, 200, "{body}");
        let file = body["metadata-location"].as_str().and_then(|uri| uri.rsplit('/').next()).expect("a file").to_owned();
        let version: u64 = file.split('-').next().and_then(|version| version.parse().ok()).expect("a version");
        assert!(version >= last, "{file} after version {last}");
        last = version;
    }
}

/// Lets writers and a reader work while the store has faults. Returns what the writers were told.
async fn work(app: &TestApp) -> Outcomes {
    let done = AtomicBool::new(false);
    let writing = async {
        let told = join_all((0..WRITERS).map(|writer| write(app, writer))).await;
        done.store(true, Ordering::Release);
        told
    };
    let (told, ()) = tokio::join!(writing, read(app, &done));
    told.into_iter().fold(Outcomes::default(), |mut all, mut one| {
        all.made.append(&mut one.made);
        all.refused.append(&mut one.refused);
        all
    })
}

/// Checks that what was acknowledged is there, and what was refused is not.
async fn check(app: &TestApp, told: &Outcomes) {
    let table = app.ok(Method::GET, TABLE, None).await;
    let properties = table["metadata"]["properties"].as_object().expect("properties").keys().cloned();
    let there: BTreeSet<String> = properties.collect();
    assert!(!told.made.is_empty());
    let (lost, undead): (Vec<_>, Vec<_>) = (told.made.difference(&there).collect(), told.refused.intersection(&there).collect());
    assert!(lost.is_empty() && undead.is_empty(), "acknowledged and lost: {lost:?}; refused and made: {undead:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_to_a_store_that_fails_one_request_in_ten_are_what_their_answers_say() {
    let faults = Faults::local();
    let app = TestApp::start_on(Arc::new(faults.clone()), |_| {}).await;
    app.table().await;
    faults.fail_at_random(10, number("ESKER_SEED", 1));
    let told = work(&app).await;
    assert!(faults.failed() > 0);
    faults.fail_at_random(0, 0);
    check(&app, &told).await;
    app.ok(Method::POST, TABLE, Some(set("after"))).await;
}

/// Commits wait for their turn, and some of them for too long.
#[tokio::test(flavor = "multi_thread")]
async fn commits_to_a_slow_store_are_what_their_answers_say() {
    let faults = Faults::local();
    let app = TestApp::start_on(Arc::new(faults.clone()), |config| config.server.commit_wait_seconds = 1).await;
    app.table().await;
    faults.fail_at_random(0, number("ESKER_SEED", 1));
    faults.set_slow(Duration::from_millis(200));
    let told = work(&app).await;
    faults.set_slow(Duration::ZERO);
    app.ok(Method::POST, TABLE, Some(set("after"))).await;
    check(&app, &told).await;
}

/// Commits until `done`, and once more. Repeats each with its key until it is made. Returns the properties that were set.
async fn write_with_keys(app: &TestApp, writer: usize, done: &AtomicBool) -> BTreeSet<String> {
    let mut made = BTreeSet::new();
    loop {
        let last = done.load(Ordering::Acquire);
        let (property, key) = (format!("w{writer}-{}", made.len()), Uuid::now_v7().to_string());
        loop {
            let headers = [("idempotency-key", key.as_str())];
            let (status, _, text) = app.send_raw(Method::POST, TABLE, &headers, Some(set(&property))).await;
            match status.as_u16() {
                200 => break,
                500 if !text.contains("CommitStateUnknownException") => panic!("{text}"),
                429 | 500 | 503 => tokio::time::sleep(Duration::from_millis(5)).await,
                _ => panic!("{status} {text}"),
            }
        }
        made.insert(property);
        if last {
            return made;
        }
    }
}

/// A restart of PostgreSQL ends every connection, some between a commit and its confirmation.
#[tokio::test(flavor = "multi_thread")]
async fn commits_are_made_however_often_the_database_ends_its_connections() {
    let app = TestApp::start().await;
    let Some(url) = postgres_url(app.dir.path()) else { return };
    app.table().await;
    let mut other = PgConnection::connect(&url).await.expect("connected");
    let done = AtomicBool::new(false);
    let ending = async {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        for _ in 0..number("ESKER_FAULTS", 20) {
            sqlx::query(end).execute(&mut other).await.expect("ended");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        done.store(true, Ordering::Release);
    };
    let writing = join_all((0..WRITERS).map(|writer| write_with_keys(&app, writer, &done)));
    let (made, ()) = tokio::join!(writing, ending);
    let told = Outcomes { made: made.into_iter().flatten().collect(), ..Outcomes::default() };
    check(&app, &told).await;
    app.catalog().check_epoch().expect("nothing was lost");
    assert_eq!(app.catalog().state().servers().losses(), Some(0), "a change that was not confirmed is none that was lost");
}
