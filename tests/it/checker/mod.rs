//! Writers and readers of several tables while stores fail, servers are killed and databases end their connections.
//!
//! Each answer must go with those before it ([`Record`]): every acknowledged snapshot is an ancestor of the final head or was
//! removed by a commit, no snapshot whose commit was refused is in the table, and reads never go back, whichever server answers.
//! Half of the tables have `commit.merge = append`, the others `off`.
//!
//! `ESKER_CHECKER` is the number of seconds (20; `make soak` takes an hour in all), which are rounds of a minute. `ESKER_SEED` is
//! the seed of the first round; a failure names the seed of its round. With `ESKER_TEST_MINIO`, the endpoint of a MinIO, the
//! warehouse is there. Start reading at `Round::run`; `servers.rs` has the servers and the faults.

mod proxy;
mod record;
mod servers;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use esker_format::TableMetadata;
use esker_tests::{Faults, PreparedCommit, TOKEN, TestApp, TestTable, check_listed, check_logs};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use self::record::Record;
use self::servers::{Place, Servers};
use crate::histories::Random;

/// The length of a round, in seconds, if there are several.
const ROUND_SECONDS: u64 = 60;
/// The number of tables; every second one merges late appends.
const TABLES: usize = 4;
/// The number of clients that append to each table.
const WRITERS: usize = 2;
/// The number of clients that only read each table.
const READERS: usize = 1;
/// The number of times that a client sends a commit whose outcome it does not know.
const ATTEMPTS: usize = 5;
/// The number of snapshots of a table beyond which the oldest are removed.
const SNAPSHOTS: usize = 30;

/// A table, and what its clients know of it.
struct CheckedTable {
    /// The path of the table in the REST catalog.
    path: String,
    /// Late appends are merged.
    merges: bool,
    record: Mutex<Record>,
}

/// The outcome of a commit, as its client knows it.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The commit was acknowledged.
    Done,
    /// Nothing was changed.
    Refused,
    /// The commit may have been applied.
    Unknown,
}

/// The clients of a round.
struct Round<'a> {
    seed: u64,
    http: reqwest::Client,
    servers: &'a Servers,
    tables: Vec<CheckedTable>,
    place: &'a Place,
    /// The number of late commits that were merged, and of commits that were refused.
    merged: AtomicU64,
    refused: AtomicU64,
}

impl Round<'_> {
    /// Fails the test if an answer contradicts an earlier one.
    fn hold(&self, table: &CheckedTable, checked: Result<(), String>) {
        if let Err(contradiction) = checked {
            panic!("seed {}, {}: {contradiction}", self.seed, table.path);
        }
    }

    /// Sends a request to one of the servers. Returns status and body, or `None` without an answer.
    async fn send(
        &self,
        random: &mut Random,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Option<(u16, String)> {
        let url = self.servers.any_url(random);
        let mut request = self.http.request(method.clone(), format!("{url}{path}")).bearer_auth(TOKEN);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answered = async {
            let answer = request.timeout(Duration::from_secs(30)).send().await.ok()?;
            let status = answer.status();
            check_listed(&method, path, status);
            Some((status.as_u16(), answer.text().await.ok()?))
        };
        let answered = answered.await;
        if answered.as_ref().is_none_or(|(status, _)| *status >= 429) {
            // A client that gets no answer waits before it asks again.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        answered
    }

    /// Loads a table. Returns its metadata, or `None` without an answer.
    async fn load(&self, table: &CheckedTable, random: &mut Random) -> Option<TableMetadata> {
        let sent_at = table.record.lock().expect("a lock").newest();
        match self.send(random, Method::GET, &table.path, None, None).await? {
            (200, text) => {
                let metadata = metadata_of(&text);
                self.hold(table, table.record.lock().expect("a lock").observe(&metadata, sent_at));
                Some(metadata)
            }
            (429 | 500.., _) => None,
            (status, text) => panic!("seed {}, {}: {status} {text}", self.seed, table.path),
        }
    }

    /// Sends a commit, again while its outcome is unknown.
    async fn commit(&self, table: &CheckedTable, random: &mut Random, body: &Value) -> Outcome {
        // An idempotency key is a UUID of version 7.
        let key = Uuid::now_v7().to_string();
        for attempt in 0..ATTEMPTS {
            let sent_at = table.record.lock().expect("a lock").newest();
            match self.send(random, Method::POST, &table.path, Some(&key), Some(body)).await {
                Some((200, text)) => {
                    // The answer to a repeated request may be that of the first one.
                    let sent_at = if attempt == 0 { sent_at } else { 0 };
                    self.hold(table, table.record.lock().expect("a lock").observe(&metadata_of(&text), sent_at));
                    return Outcome::Done;
                }
                Some((409 | 429, _)) if attempt == 0 => return Outcome::Refused,
                Some((403, text)) if attempt == 0 && is_behind(&text) => return Outcome::Refused,
                // The first attempt may have been applied, and its snapshot rolled back or expired since.
                Some((400 | 409, _)) if attempt > 0 => return Outcome::Unknown,
                Some((403, text)) if is_behind(&text) => {}
                None | Some((429 | 500.., _)) => {}
                Some((status, text)) => panic!("seed {}, {}: {status} {text}", self.seed, table.path),
            }
        }
        Outcome::Unknown
    }

    /// Appends to a table until the round is over. Every second commit is written on an older state where late ones are merged.
    async fn write(&self, table: &CheckedTable, mut random: Random) {
        let mut late = None;
        while self.servers.go_on() {
            think(&mut random).await;
            let base = match late.take() {
                Some(base) => Some(base),
                None => self.load(table, &mut random).await,
            };
            let Some(base) = base else { continue };
            let commit = PreparedCommit::light_append(&self.place.storage, &base).await;
            let id = commit.snapshot()["snapshot-id"].as_i64().expect("an id");
            let outcome = self.commit(table, &mut random, commit.body()).await;
            let mut record = table.record.lock().expect("a lock");
            match outcome {
                Outcome::Done => {
                    record.acknowledge(id);
                    self.merged.fetch_add(u64::from(record.parent(id) != base.current_snapshot_id), Relaxed);
                }
                Outcome::Refused => {
                    record.refuse(id);
                    self.refused.fetch_add(1, Relaxed);
                }
                Outcome::Unknown => {}
            }
            late = (table.merges && outcome == Outcome::Done && random.one_in(2)).then_some(base);
        }
    }

    /// Reads a table until the round is over.
    async fn read(&self, table: &CheckedTable, mut random: Random) {
        while self.servers.go_on() {
            self.load(table, &mut random).await;
            think(&mut random).await;
        }
    }

    /// Rolls tables back and removes old snapshots until the round is over.
    async fn tidy(&self, mut random: Random) {
        while self.servers.go_on() {
            tokio::time::sleep(Duration::from_millis(100 + random.below(200))).await;
            let table = &self.tables[random.below(TABLES as u64) as usize];
            let Some(metadata) = self.load(table, &mut random).await else { continue };
            let Some(head) = metadata.current_snapshot() else { continue };
            let parent = head.parent_snapshot_id.and_then(|parent| metadata.snapshots.get(parent));
            if metadata.snapshots.len() > SNAPSHOTS {
                let mut ids: Vec<(i64, i64)> =
                    metadata.snapshots.iter().map(|s| (s.sequence_number.unwrap_or(0), s.snapshot_id)).collect();
                ids.sort_unstable();
                let oldest = ids.iter().take(SNAPSHOTS / 3).map(|(_, id)| *id);
                let ids: Vec<i64> = oldest.filter(|id| *id != head.snapshot_id).collect();
                let remove = json!({"action": "remove-snapshots", "snapshot-ids": ids});
                self.commit(table, &mut random, &on_head(head.snapshot_id, &remove)).await;
            } else if let (Some(parent), true) = (parent, random.one_in(4)) {
                let (from, to) = (head.snapshot_id, parent.snapshot_id);
                let back = json!({"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": to});
                if self.commit(table, &mut random, &on_head(from, &back)).await != Outcome::Refused {
                    table.record.lock().expect("a lock").roll_back(from, to);
                }
            }
        }
    }

    /// Runs the clients and the servers until the round is over.
    async fn run(&self) {
        let random = |n: usize| Random(self.seed.wrapping_mul(1_000_003) + n as u64);
        let clients = |each: usize| self.tables.iter().flat_map(move |table| std::iter::repeat_n(table, each)).enumerate();
        let writers = clients(WRITERS).map(|(n, table)| self.write(table, random(n)));
        let readers = clients(READERS).map(|(n, table)| self.read(table, random(100 + n)));
        tokio::join!(join_all(writers), join_all(readers), self.tidy(random(200)), self.servers.run(self.seed));
    }

    /// Judges each table on a server without faults, and appends to it once more.
    async fn judge(&self, app: &TestApp) {
        for table in &self.tables {
            let last = metadata_of(&app.ok(Method::GET, &table.path, None).await.to_string());
            self.hold(table, table.record.lock().expect("a lock").judge(&last));
            assert!(table.record.lock().expect("a lock").acknowledged() > 0, "seed {}: no commit was acknowledged", self.seed);
            let commit = PreparedCommit::light_append(&self.place.storage, &last).await;
            app.ok(Method::POST, &table.path, Some(commit.body().clone())).await;
        }
    }
}

/// Waits as a client does between two requests, so that the clients leave time for the tests beside this one.
async fn think(random: &mut Random) {
    tokio::time::sleep(Duration::from_millis(random.below(20))).await;
}

/// Returns a commit of one update that asserts where `main` is.
fn on_head(head: i64, update: &Value) -> Value {
    let requirement = json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": head});
    json!({"requirements": [requirement], "updates": [update]})
}

/// Checks that a commit was refused because storage may have a state of the table that the database does not have.
///
/// A server that can't compare the epochs is careful until it can: a killed server may have left a metadata file.
fn is_behind(text: &str) -> bool {
    text.contains("esker recover")
}

/// Returns the metadata in an answer.
fn metadata_of(text: &str) -> TableMetadata {
    let mut answer: Value = serde_json::from_str(text).expect("JSON");
    serde_json::from_value(answer["metadata"].take()).expect("metadata")
}

/// Runs one round.
async fn run(seed: u64, time: Duration) {
    let (faults, dir) = (Faults::local(), tempfile::tempdir().expect("a directory"));
    // A store in S3 has the faults itself, one in the local file system gets them from the server's store.
    let schedule = faults.schedule().clone();
    let place = Place::new(dir.path(), &schedule).await;
    let app = TestApp::restart_with(dir, |config| place.configure(config)).await;
    let mut tables = Vec::new();
    for n in 0..TABLES {
        let merges = n % 2 == 1;
        let policy = json!({"esker.commit.merge": if merges { "append" } else { "off" }});
        let path = TestTable::create(&app, &format!("t{n}"), 2, false, policy).await.path();
        tables.push(CheckedTable { path, merges, record: Mutex::default() });
    }
    let dir = app.stop().await;
    let servers = Servers::new(dir.path(), place.clone(), faults, schedule.clone(), Instant::now() + time);
    let (http, merged, refused) = (reqwest::Client::new(), AtomicU64::new(0), AtomicU64::new(0));
    let round = Round { seed, http, servers: &servers, tables, place: &place, merged, refused };
    round.run().await;
    let app = TestApp::restart_with(dir, |config| place.configure(config)).await;
    round.judge(&app).await;
    app.stop().await;
    for (what, n) in [
        ("servers killed", servers.kills()),
        ("requests to the store failed", schedule.faults()),
        ("late commits merged", round.merged.load(Relaxed)),
        ("commits refused", round.refused.load(Relaxed)),
    ] {
        assert!(n > 0, "seed {seed}: {what}: none");
    }
    check_logs();
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_commits_survive_faults_kills_and_disconnections_and_reads_never_go_back() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (first, seconds) = (number("ESKER_SEED", 1), number("ESKER_CHECKER", 20));
    for seed in first..first + (seconds / ROUND_SECONDS).max(1) {
        run(seed, Duration::from_secs(seconds.min(ROUND_SECONDS))).await;
    }
}
