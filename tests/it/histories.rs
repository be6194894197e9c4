//! Random histories of a table against a model: appends, deletes of all kinds, upserts, schema evolution and jobs.
//!
//! Compactions run alone and with concurrent commits; sometimes the storage fails. After every step the table has the rows of the
//! model. `ESKER_HISTORIES` is the number of histories (200; `make soak` runs 10,000), `ESKER_SEED` the first seed.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use esker_catalog::deletion::sweep;
use esker_tests::{Faults, PositionDeleteScope, Row, RowUnderSpec, TestApp, TestTable};
use esker_types::now_ms;
use futures::stream::StreamExt;
use serde_json::{Value, json};

/// A SplitMix64 generator: the same seed gives the same history on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Counts of the events in all histories. Each must occur, because a test without late deletes proves nothing about them.
#[derive(Default)]
struct Seen {
    deleted_records: AtomicU64,
    delete_files_removed: AtomicU64,
    late_deletes_moved: AtomicU64,
    row_groups_spliced: AtomicU64,
    failed: AtomicU64,
    expired: AtomicU64,
    undone: AtomicU64,
    taken_back: AtomicU64,
}

impl Seen {
    fn note(&self, job: &Value) {
        let count = |key: &str| job["outcome"][key].as_u64().unwrap_or(0);
        self.deleted_records.fetch_add(count("deleted_records"), Relaxed);
        self.delete_files_removed.fetch_add(count("delete_files_removed"), Relaxed);
        self.late_deletes_moved.fetch_add(count("late_deletes_moved"), Relaxed);
        self.row_groups_spliced.fetch_add(count("row_groups_spliced"), Relaxed);
        self.failed.fetch_add(u64::from(job["state"] != "succeeded"), Relaxed);
    }

    fn check(&self) {
        for (what, n) in [
            ("deletes applied", &self.deleted_records),
            ("delete files removed", &self.delete_files_removed),
            ("late deletes moved", &self.late_deletes_moved),
            ("row groups spliced", &self.row_groups_spliced),
            ("proofs failed", &self.failed),
            ("snapshots expired", &self.expired),
            ("snapshots brought back", &self.undone),
            ("files of compactions taken back", &self.taken_back),
        ] {
            assert!(n.load(Relaxed) > 0, "{what}: none");
        }
    }
}

/// A table and the model of its rows.
struct History<'a> {
    lake: TestTable<'a>,
    faults: &'a Faults,
    seen: &'a Seen,
    random: Random,
    version: u8,
    rows: Vec<RowUnderSpec>,
    log: Vec<String>,
}

/// A commit of a writer.
enum Change {
    Append(Vec<Row>),
    Delete(HashSet<i64>, PositionDeleteScope),
    Upsert(Vec<(i64, i32)>, Vec<Row>),
}

impl<'a> History<'a> {
    async fn begin(app: &'a TestApp, faults: &'a Faults, seen: &'a Seen, seed: u64) -> Self {
        let mut random = Random(seed);
        let version = 1 + random.below(3) as u8;
        let partitioned = random.one_in(2);
        // A compaction copies such small row groups only if the table's target size is small too.
        let properties = if random.one_in(2) { json!({"write.parquet.row-group-size-bytes": "300"}) } else { json!({}) };
        let lake = TestTable::create(app, &format!("h{seed}"), version, partitioned, properties).await;
        let log = vec![format!("version {version}, partitioned: {partitioned}")];
        Self { lake, faults, seen, random, version, rows: Vec::new(), log }
    }

    fn some_rows(&mut self) -> Vec<Row> {
        let n = 1 + self.random.below(12);
        let row = |random: &mut Random| {
            let (id, p) = (random.below(40) as i64, random.below(3) as i32);
            (id, format!("s{}", random.below(1000)), p, None)
        };
        (0..n).map(|_| row(&mut self.random)).collect()
    }

    fn some_ids(&mut self) -> HashSet<i64> {
        let n = 1 + self.random.below(5);
        (0..n).map(|_| self.random.below(40) as i64).collect()
    }

    fn change(&mut self) -> Change {
        match if self.version == 1 { 0 } else { self.random.below(4) } {
            0 | 1 => Change::Append(self.some_rows()),
            2 => {
                let scope = if self.random.one_in(2) { PositionDeleteScope::File } else { PositionDeleteScope::Partition };
                Change::Delete(self.some_ids(), scope)
            }
            _ => {
                let mut keys: Vec<(i64, i32)> = Vec::new();
                for id in self.some_ids() {
                    keys.push((id, self.random.below(3) as i32));
                }
                keys.sort_unstable();
                let rows = if self.random.one_in(3) { Vec::new() } else { self.some_rows() };
                Change::Upsert(keys, rows)
            }
        }
    }

    /// Commits a change, and applies it to the model.
    async fn apply(&mut self, change: Change) {
        match change {
            Change::Append(rows) => {
                let spec = self.lake.append(&rows).await;
                self.log.push(format!("append {rows:?}"));
                self.rows.extend(rows.into_iter().map(|r| (r, spec)));
            }
            Change::Delete(ids, scope) => {
                self.lake.delete_by_position(&ids, scope).await;
                self.log.push(format!("delete {ids:?} {scope:?}"));
                self.rows.retain(|(row, _)| !ids.contains(&row.0));
            }
            Change::Upsert(keys, rows) => {
                let spec = self.lake.upsert(&keys, &rows).await;
                let metadata = self.lake.metadata().await;
                let global = metadata.partition_spec_by_id(spec).expect("a spec").is_unpartitioned();
                self.log.push(format!("upsert {keys:?} {rows:?} spec {spec}"));
                let hit = |(row, of): &RowUnderSpec| match global {
                    true => keys.iter().any(|(id, _)| *id == row.0),
                    false => *of == spec && keys.contains(&(row.0, row.2)),
                };
                self.rows.retain(|placed| !hit(placed));
                self.rows.extend(rows.into_iter().map(|r| (r, spec)));
            }
        }
    }

    async fn evolve(&mut self) {
        let metadata = self.lake.metadata().await;
        if self.random.one_in(2) && metadata.current_schema().field_by_name("extra").is_none() {
            let schema = json!({"type": "struct", "schema-id": 1, "fields": [
                {"id": 1, "name": "id", "required": false, "type": "long"},
                {"id": 2, "name": "s", "required": false, "type": "string"},
                {"id": 3, "name": "p", "required": false, "type": "int"},
                {"id": 4, "name": "extra", "required": false, "type": "int"},
            ]});
            let add = json!([{"action": "add-schema", "schema": schema}, {"action": "set-current-schema", "schema-id": -1}]);
            self.lake.update(add).await;
            self.log.push("a column is added".to_owned());
        } else if self.version > 1 {
            let unpartitioned = metadata.default_partition_spec().is_unpartitioned();
            let field = json!({"source-id": 3, "field-id": 1000, "name": "p", "transform": "identity"});
            let fields = if unpartitioned { json!([field]) } else { json!([]) };
            let add = json!([{"action": "add-spec", "spec": {"fields": fields}}, {"action": "set-default-spec", "spec-id": -1}]);
            self.lake.update(add).await;
            self.log.push(format!("partitioned: {unpartitioned}"));
        }
    }

    fn options(&mut self) -> Value {
        let mut options = json!({"courtesy-seconds": 0, "min-input-files": 2, "rewrite-all": self.random.one_in(2)});
        match self.random.below(6) {
            0 => options["strategy"] = "convert-deletes".into(),
            1 => (options["strategy"], options["sort-order"]) = ("sort".into(), "s desc, id".into()),
            2 => (options["strategy"], options["zorder-columns"]) = ("zorder".into(), json!(["id", "s"])),
            _ => {}
        }
        if self.random.one_in(3) {
            options["verify"] = "full".into();
        }
        if self.random.one_in(3) {
            options["target-file-size-bytes"] = 2500.into();
        }
        if self.random.one_in(4) {
            options["partial-progress.enabled"] = false.into();
        }
        if self.random.one_in(5) {
            options["remove-dangling-deletes"] = false.into();
        }
        options
    }

    async fn compact(&mut self) {
        let options = self.options();
        // A job writes such a file first, unless it converts deletes.
        let outputs = format!("{}/data/compacted-", self.lake.metadata().await.location.trim_start_matches("file:///"));
        let damaged = self.random.one_in(8);
        if damaged {
            self.faults.flip_a_bit_of(&outputs);
        }
        let job = if self.random.one_in(2) {
            // Holds the new files until a concurrent commit is done.
            self.faults.hold(&outputs);
            let job = self.lake.start_compaction(options.clone()).await;
            self.lake.wait_for_plan(&job).await;
            self.log.push("meanwhile".to_owned());
            let change = self.change();
            self.apply(change).await;
            self.faults.release(&outputs);
            self.lake.wait(&job).await
        } else {
            self.lake.compact(options.clone()).await
        };
        self.faults.cancel_bit_flip(&outputs);
        self.seen.note(&job);
        let (state, outcome, error) = (&job["state"], &job["outcome"], &job["error"]);
        self.log.push(format!("compact {options}, damaged: {damaged}: {state} {outcome} {error}"));
        if !damaged {
            assert_eq!(state, "succeeded", "{}", self.log.join("\n"));
            assert_eq!(outcome["refused"], json!([]), "{}", self.log.join("\n"));
        }
        if self.random.one_in(4) {
            if self.random.one_in(2) {
                let change = self.change();
                self.apply(change).await;
            }
            self.take_back(&job).await;
        }
    }

    /// Undoes a compaction, if the table allows it.
    async fn take_back(&mut self, job: &Value) {
        match self.lake.undo(job).await {
            Ok(undone) => {
                self.log.push(format!("taken back: {undone}"));
                self.seen.taken_back.fetch_add(undone["files"].as_u64().unwrap_or(0), Relaxed);
            }
            Err(refused) => {
                let known = ["since", "expired", "can't be undone: ", "has no branch", "has nothing to undo"];
                let says_why = refused.contains("\"code\":422") && known.iter().any(|why| refused.contains(why));
                assert!(says_why, "{}\n{refused}", self.log.join("\n"));
                self.log.push(format!("not taken back: {refused}"));
            }
        }
    }

    /// Sets or removes a branch or tag. Its files stay as long as it exists, and are deleted later.
    async fn refer(&mut self) {
        let metadata = self.lake.metadata().await;
        let Some(snapshot) = metadata.current_snapshot_id else { return };
        let name = format!("r{}", self.random.below(3));
        let kind = if self.random.one_in(2) { "tag" } else { "branch" };
        let update = match metadata.snapshot_for_ref(&name) {
            Some(_) => json!({"action": "remove-snapshot-ref", "ref-name": name}),
            None => json!({"action": "set-snapshot-ref", "ref-name": name, "type": kind, "snapshot-id": snapshot}),
        };
        self.log.push(update.to_string());
        self.lake.update(json!([update])).await;
    }

    async fn regroup(&mut self) {
        let job = self.lake.run_job("manifests", json!({"rewrite-all": self.random.one_in(2)})).await;
        self.log.push(format!("manifests: {}", job["outcome"]));
        assert_eq!(job["state"], "succeeded", "{}\n{job}", self.log.join("\n"));
    }

    /// Expires snapshots. Sometimes undoes the expiry, or sweeps as if the grace period had ended.
    async fn expire(&mut self) {
        let before = self.lake.metadata().await.snapshots.len();
        let options = json!({"older-than-ms": now_ms() + 1000, "retain-last": 1 + self.random.below(3)});
        let job = self.lake.run_job("expire", options).await;
        self.log.push(format!("expire: {}", job["outcome"]));
        assert_eq!(job["state"], "succeeded", "{}\n{job}", self.log.join("\n"));
        self.seen.expired.fetch_add(job["outcome"]["snapshots"].as_u64().unwrap_or(0), Relaxed);
        if self.random.one_in(2) {
            // The undo is refused if another history has swept since, as if a day had passed.
            match self.lake.undo(&job).await {
                Ok(undone) => {
                    self.log.push(format!("undone: {undone}"));
                    assert_eq!(self.lake.metadata().await.snapshots.len(), before, "{}", self.log.join("\n"));
                    self.seen.undone.fetch_add(undone["snapshots"].as_u64().unwrap_or(0), Relaxed);
                }
                Err(refused) if refused.contains("has nothing to undo") => {
                    assert_eq!(job["outcome"]["snapshots"], 0, "{}\n{refused}", self.log.join("\n"));
                }
                Err(refused) => {
                    let says_why = ["\"code\":422", "can't be undone: ", "file:///"].iter().all(|part| refused.contains(part));
                    assert!(says_why, "{}\n{refused}", self.log.join("\n"));
                }
            }
        }
        if self.random.one_in(2) {
            sweep(self.lake.catalog(), now_ms() + 25 * 3600 * 1000).await.expect("swept");
        }
        assert_eq!(self.lake.missing_files().await, Vec::<String>::new(), "{}", self.log.join("\n"));
    }

    /// Checks that no unreferenced file is left once every grace period has ended.
    async fn check_garbage(&self) {
        sweep(self.lake.catalog(), now_ms() + 25 * 3600 * 1000).await.expect("swept");
        let report = self.lake.preview_orphans().await;
        assert_eq!((&report["young"], &report["orphans"]), (&json!(0), &json!(0)), "{}\n{report}", self.log.join("\n"));
        assert_eq!(self.lake.missing_files().await, Vec::<String>::new(), "{}", self.log.join("\n"));
    }

    async fn check(&self) {
        let mut expected: Vec<Row> = self.rows.iter().map(|(row, _)| row.clone()).collect();
        expected.sort();
        let found = self.lake.rows().await;
        assert!(found == expected, "{}\n found {found:?}\n expected {expected:?}", self.log.join("\n"));
    }
}

async fn run(app: &TestApp, faults: &Faults, seen: &Seen, seed: u64) {
    let mut history = History::begin(app, faults, seen, seed).await;
    let steps = 4 + history.random.below(10);
    for _ in 0..steps {
        match history.random.below(14) {
            0..6 => {
                let change = history.change();
                history.apply(change).await;
            }
            6 => history.evolve().await,
            13 => history.refer().await,
            7 => {
                history.regroup().await;
                history.check().await;
            }
            8 | 9 => {
                history.expire().await;
                history.check().await;
            }
            _ => {
                history.compact().await;
                history.check().await;
            }
        }
    }
    history.compact().await;
    history.check().await;
    history.check_garbage().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_keep_every_row() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (first, n) = (number("ESKER_SEED", 1), number("ESKER_HISTORIES", 200));
    let seen = Seen::default();
    let seeds: Vec<u64> = (first..first + n).collect();
    // One server runs 250 histories. With more it is slow, because each table's place is compared with all others.
    for seeds in seeds.chunks(250) {
        let faults = Faults::local();
        let app = TestApp::start_on(Arc::new(faults.clone()), |_| {}).await;
        futures::stream::iter(seeds).for_each_concurrent(6, |seed| run(&app, &faults, &seen, *seed)).await;
        app.stop().await;
    }
    seen.check();
}
