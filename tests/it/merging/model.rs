//! Random histories of late commits against a model of snapshot isolation: of two commits that change a row, the first wins.
//!
//! Several clients write on one state of the table, something else happens, and their commits come one after the other. A commit
//! that the server merges must be one that the model permits, and the table has the rows of the model after each. If the server
//! refuses a commit that the model permits, it must be of a kind that the rules leave to the client. `ESKER_MERGES` is the number
//! of histories (60; `make soak` runs 10,000), `ESKER_SEED` the first seed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use esker_tests::{ClientChange, PositionDeleteScope, PreparedCommit, Row, TestApp, TestTable};
use futures::stream::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use super::send;
use crate::histories::Random;

/// Counts of what happened in all histories. Each must occur, because a test without conflicts proves nothing about them.
#[derive(Default)]
struct Seen {
    appends: AtomicU64,
    upserts: AtomicU64,
    removals: AtomicU64,
    positions: AtomicU64,
    rewrites: AtomicU64,
    conflicts: AtomicU64,
    left_to_clients: AtomicU64,
    renumbered: AtomicU64,
}

impl Seen {
    fn check(&self) {
        for (what, n) in [
            ("late appends merged", &self.appends),
            ("late upserts merged", &self.upserts),
            ("late removals merged", &self.removals),
            ("late deletes by position merged", &self.positions),
            ("late rewrites merged", &self.rewrites),
            ("commits renumbered", &self.renumbered),
            ("conflicts refused", &self.conflicts),
            ("commits left to their clients", &self.left_to_clients),
        ] {
            assert!(n.load(Relaxed) > 0, "{what}: none");
        }
    }
}

/// A commit of a client that was not sent yet.
struct Sent {
    commit: PreparedCommit,
    /// The data files that it removes.
    paths: Vec<String>,
    /// The versions of rows that it removes, with their files or by position.
    removed: Vec<Row>,
    /// It removes rows by position.
    by_position: bool,
    /// It writes the rows of its files again, as they were.
    is_rewrite: bool,
    /// The keys that it deletes by equality, whatever version the rows have.
    keys: Vec<(i64, i32)>,
    added: Vec<Row>,
    base: i64,
}

/// What happened since the clients of a round wrote their commits.
#[derive(Default)]
struct Round {
    /// Files were replaced, or brought back.
    disturbed: bool,
    /// Rows were deleted by equality, so that no removal of files is merged.
    upserted: bool,
    /// Rows were deleted by position, maybe with files about a whole partition.
    positions: bool,
    /// A client rewrote files.
    rewritten: bool,
    /// Rows were added.
    added_rows: bool,
    /// The data files that a commit removed.
    removed: HashSet<String>,
    /// The versions of rows that a commit deleted by equality, without having read them.
    overwritten: HashSet<Row>,
}

/// A table and the model of its rows. Each version of a row has a text of its own.
struct History<'a> {
    app: &'a TestApp,
    lake: TestTable<'a>,
    seen: &'a Seen,
    random: Random,
    version: u8,
    rows: Vec<Row>,
    /// The heads of main, with their rows.
    heads: Vec<(i64, Vec<Row>)>,
    versions: u64,
    log: Vec<String>,
}

impl<'a> History<'a> {
    async fn begin(app: &'a TestApp, seen: &'a Seen, seed: u64) -> Self {
        let mut random = Random(seed);
        let (version, partitioned) = (1 + random.below(3) as u8, random.one_in(2));
        let properties = json!({"esker.commit.merge": "snapshot"});
        let lake = TestTable::create(app, &format!("m{seed}"), version, partitioned, properties).await;
        let log = vec![format!("seed {seed}, version {version}, partitioned: {partitioned}")];
        let (rows, heads) = (Vec::new(), Vec::new());
        let mut this = Self { app, lake, seen, random, version, rows, heads, versions: 0, log };
        for _ in 0..3 {
            let rows = this.some_rows();
            this.lake.append(&rows).await;
            this.rows.extend(rows);
        }
        this.note_head().await;
        this
    }

    fn fresh(&mut self, id: i64, p: i32) -> Row {
        self.versions += 1;
        (id, format!("v{}", self.versions), p, None)
    }

    fn some_rows(&mut self) -> Vec<Row> {
        let n = 1 + self.random.below(4);
        (0..n)
            .map(|_| {
                let id = self.random.below(12) as i64;
                // A row's partition follows from its id, so that an upsert finds all its versions.
                self.fresh(id, (id % 3) as i32)
            })
            .collect()
    }

    /// Returns the head of main.
    async fn head(&self) -> i64 {
        self.lake.metadata().await.current_snapshot_id.expect("a snapshot")
    }

    async fn note_head(&mut self) {
        let head = self.head().await;
        self.heads.push((head, self.rows.clone()));
    }

    /// Writes a random change on the present state, without sending it.
    async fn prepare(&mut self) -> Sent {
        let kind = self.random.below(if self.version == 1 { 4 } else { 7 });
        let paths = self.lake.data_paths().await;
        let (mut change, mut removed) = (ClientChange::default(), Vec::new());
        match kind {
            1..=3 if !paths.is_empty() => {
                let path = paths[self.random.below(paths.len() as u64) as usize].clone();
                let inside: HashSet<(i64, String)> = self.lake.rows_in(&path).await.into_iter().collect();
                removed = self.rows.iter().filter(|row| inside.contains(&(row.0, row.1.clone()))).cloned().collect();
                change.removed.push(path);
                if kind == 2 {
                    let kept: Vec<Row> = removed.iter().filter(|_| !self.random.one_in(4)).cloned().collect();
                    change.rows = kept.into_iter().map(|row| self.fresh(row.0, row.2)).collect();
                }
                if kind == 3 {
                    (change.rows, change.is_rewrite) = (removed.clone(), true);
                }
            }
            4 => {
                let rows = self.some_rows();
                change.keys = rows.iter().map(|row| (row.0, row.2)).collect::<HashSet<_>>().into_iter().collect();
                change.keys.sort_unstable();
                change.rows = if self.random.one_in(3) { Vec::new() } else { rows };
            }
            5.. if !self.rows.is_empty() => removed = self.delete_by_position(&mut change),
            _ => change.rows = self.some_rows(),
        }
        self.log.push(format!("written on {}: {change:?}", self.heads.last().expect("a head").0));
        let (base, commit) = (self.head().await, self.lake.prepare_change(&change).await);
        let (by_position, is_rewrite) = (!change.versions.is_empty(), change.is_rewrite);
        Sent { commit, paths: change.removed, removed, by_position, is_rewrite, keys: change.keys, added: change.rows, base }
    }

    /// Makes a change that deletes some rows by position, or updates them. Returns the rows.
    fn delete_by_position(&mut self, change: &mut ClientChange) -> Vec<Row> {
        let n = 1 + self.random.below(3);
        let chosen: HashSet<usize> = (0..n).map(|_| self.random.below(self.rows.len() as u64) as usize).collect();
        let removed: Vec<Row> =
            self.rows.iter().enumerate().filter(|(at, _)| chosen.contains(at)).map(|(_, row)| row.clone()).collect();
        change.versions = removed.iter().map(|row| (row.0, row.1.clone())).collect();
        if self.random.one_in(2) {
            change.scope = PositionDeleteScope::Partition;
        }
        if self.random.one_in(2) {
            change.rows = removed.iter().map(|row| self.fresh(row.0, row.2)).collect();
        }
        removed
    }

    /// Lets something else happen to the table. Returns true if it may be a reason to leave removals to their clients.
    async fn disturb(&mut self) -> bool {
        match self.random.below(6) {
            0 => {
                let options = match self.version > 1 && self.random.one_in(2) {
                    true => json!({"courtesy-seconds": 0, "strategy": "convert-deletes"}),
                    false => json!({"courtesy-seconds": 0, "min-input-files": 2, "rewrite-all": true}),
                };
                let job = self.lake.compact(options).await;
                assert_eq!(job["state"], "succeeded", "{}\n{job}", self.log.join("\n"));
                self.log.push(format!("compacted: {}", job["outcome"]));
                if self.random.one_in(2) {
                    let undone = self.lake.undo(&job).await;
                    self.log.push(format!("undone: {undone:?}"));
                }
                self.note_head().await;
                true
            }
            1 => {
                let head = self.head().await;
                let name = format!("b{}", self.versions);
                let branch = json!({"action": "set-snapshot-ref", "ref-name": name, "type": "branch", "snapshot-id": head});
                self.lake.update(json!([branch])).await;
                let rows = self.some_rows();
                let other = self.lake.prepare_change(&ClientChange { rows, ..ClientChange::default() }).await.on_branch(&name);
                self.lake.commit(&other).await;
                self.log.push(format!("a commit to the branch {name}"));
                false
            }
            2 if self.heads.len() > 1 => {
                let at = self.random.below(self.heads.len() as u64) as usize;
                let (head, rows) = self.heads[at].clone();
                let back = json!({"action": "rollback", "snapshot-id": head});
                self.app.ok(Method::POST, &self.lake.management_path("refs"), Some(back)).await;
                self.heads.truncate(at + 1);
                self.rows = rows;
                self.log.push(format!("rolled back to {head}"));
                true
            }
            _ => false,
        }
    }

    /// Checks whether a snapshot is an ancestor of the head of main.
    async fn is_ancestor(&self, base: i64) -> bool {
        let metadata = self.lake.metadata().await;
        esker_table::ancestors(&metadata, metadata.current_snapshot()).any(|snapshot| snapshot.snapshot_id == base)
    }

    /// Checks whether snapshot isolation permits a commit, after those of the round that landed.
    ///
    /// Deletes of the same row agree if nobody adds rows. A delete by equality has read nothing, so it may as well come later.
    fn permits(&self, sent: &Sent, round: &Round) -> bool {
        let is_first = sent.paths.iter().all(|path| !round.removed.contains(path));
        let only_deletes = sent.by_position && sent.added.is_empty();
        let agrees = |row: &Row| only_deletes && (!round.added_rows || round.overwritten.contains(row));
        is_first && sent.removed.iter().all(|row| self.rows.contains(row) || agrees(row))
    }

    /// Sends a commit, and compares what became of it with the model.
    async fn send(&mut self, sent: Sent, round: &mut Round) {
        let (head, known) = (self.head().await, self.is_ancestor(sent.base).await);
        let permitted = known && self.permits(&sent, round);
        let (status, body) = send(self.app, &self.lake, &sent.commit).await;
        let what = format!("{status} on {head}: removed {:?}, keys {:?}, added {:?}", sent.removed, sent.keys, sent.added);
        self.log.push(what);
        if status == 200 {
            assert!(permitted, "merged, though the model refuses it\n{}\n{body}", self.log.join("\n"));
            round.overwritten.extend(self.rows.iter().filter(|row| sent.keys.contains(&(row.0, row.2))).cloned());
            self.apply(&sent);
            round.upserted |= !sent.keys.is_empty();
            round.positions |= sent.by_position;
            round.rewritten |= sent.is_rewrite;
            round.added_rows |= !sent.added.is_empty();
            round.removed.extend(sent.paths.iter().cloned());
            self.count(&sent, head != sent.base, &body);
            self.note_head().await;
        } else {
            assert_eq!(status, 409, "{}\n{body}", self.log.join("\n"));
            let of_files = !sent.paths.is_empty() && (round.disturbed || round.upserted || round.positions);
            let of_rows = sent.by_position && (round.disturbed || round.upserted || round.rewritten);
            let is_left = known && (of_files || of_rows);
            assert!(!permitted || is_left, "refused, though nothing is against it\n{}\n{body}", self.log.join("\n"));
            let counter = if permitted { &self.seen.left_to_clients } else { &self.seen.conflicts };
            counter.fetch_add(1, Relaxed);
        }
        let mut expected = self.rows.clone();
        expected.sort();
        let found = self.lake.rows().await;
        assert!(found == expected, "{}\n found {found:?}\n expected {expected:?}", self.log.join("\n"));
    }

    /// Applies a commit to the model.
    fn apply(&mut self, sent: &Sent) {
        self.rows.retain(|row| !sent.removed.contains(row) && !sent.keys.contains(&(row.0, row.2)));
        self.rows.extend(sent.added.iter().cloned());
    }

    fn count(&self, sent: &Sent, is_late: bool, body: &Value) {
        let id = &sent.commit.snapshot()["snapshot-id"];
        let mut snapshots = body["metadata"]["snapshots"].as_array().into_iter().flatten();
        let made = snapshots.find(|snapshot| snapshot["snapshot-id"] == *id).expect("the snapshot");
        let counter = match made["summary"]["esker.rebased-as"].as_str() {
            Some("append") => &self.seen.appends,
            Some("equality-deletes") => &self.seen.upserts,
            Some("delete" | "overwrite") => &self.seen.removals,
            Some("position-deletes") => &self.seen.positions,
            Some("replace") => &self.seen.rewrites,
            Some("renumber") => &self.seen.renumbered,
            other => {
                assert!(!is_late, "{other:?}: {}", self.log.join("\n"));
                return;
            }
        };
        counter.fetch_add(1, Relaxed);
    }
}

async fn run(app: &TestApp, seen: &Seen, seed: u64) {
    let mut history = History::begin(app, seen, seed).await;
    let rounds = 2 + history.random.below(3);
    for _ in 0..rounds {
        let clients = 2 + history.random.below(3);
        let mut written = Vec::new();
        for _ in 0..clients {
            written.push(history.prepare().await);
        }
        let mut round = Round { disturbed: history.disturb().await, ..Round::default() };
        for sent in written {
            history.send(sent, &mut round).await;
        }
    }
    assert_eq!(history.lake.missing_files().await, Vec::<String>::new(), "{}", history.log.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn random_merges_are_those_of_snapshot_isolation() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (first, n) = (number("ESKER_SEED", 1), number("ESKER_MERGES", 60));
    let seen = Seen::default();
    let seeds: Vec<u64> = (first..first + n).collect();
    for seeds in seeds.chunks(250) {
        let app = TestApp::start().await;
        futures::stream::iter(seeds).for_each_concurrent(6, |seed| run(&app, &seen, *seed)).await;
        app.stop().await;
    }
    seen.check();
}
