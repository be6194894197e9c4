//! Tests that job records of earlier versions stay readable: requests that wait, and the plans and outcomes that an undo or a
//! report reads.
//!
//! Each sample is as version 0.1 wrote it. Today's version writes the same, except for the fields in [`RENAMED`].

use esker_types::JobKind;
use esker_types::schema::document;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::job_schema;
use crate::{
    CheckOutcome, CheckPlan, CompactOutcome, CompactPlan, Cost, EraseOutcome, ErasureReport, ExpireOutcome, ExpirePlan,
    JobRequest, ManifestOutcome, ManifestPlan, OrphanOutcome, OrphanPlan, StatisticsOutcome, StatisticsPlan, UndoOutcome,
};

/// Renamed fields: the old name, which is still read, and the name that is written.
const RENAMED: [(&str, &str); 3] =
    [("doomed_files", "quarantined_files"), ("doomed_bytes", "quarantined_bytes"), ("spared", "released")];

/// Returns a sample with today's field names.
fn renamed(sample: &Value) -> Value {
    let name = |key: &String| RENAMED.iter().find(|(old, _)| old == key).map_or(key.clone(), |(_, new)| (*new).to_owned());
    match sample {
        Value::Object(fields) => fields.iter().map(|(key, value)| (name(key), renamed(value))).collect(),
        Value::Array(items) => items.iter().map(renamed).collect(),
        value => value.clone(),
    }
}

/// Reads a sample and checks that it is written with today's names.
fn read_request(sample: &Value) -> JobRequest {
    let read: JobRequest = serde_json::from_value(sample.clone()).unwrap_or_else(|e| panic!("{e}: {sample}"));
    assert_eq!(serde_json::to_value(&read).expect("written"), renamed(sample));
    assert_valid(&job_schema(), &json!({"kind": read.kind(), "request": sample}));
    read
}

/// Reads a sample, and checks that it is written with today's names and as its schema says.
fn read<T: Serialize + DeserializeOwned + ToSchema>(sample: &Value) -> T {
    let read: T = serde_json::from_value(sample.clone()).unwrap_or_else(|e| panic!("{e}: {sample}"));
    assert_eq!(serde_json::to_value(&read).expect("written"), renamed(sample));
    assert_valid(&document::<T>("A record"), &renamed(sample));
    read
}

fn assert_valid(schema: &Value, value: &Value) {
    let validator = jsonschema::validator_for(schema).expect("a schema");
    let errors: Vec<String> = validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:?} in {value}");
}

/// Returns a sample as it was before some fields were added.
fn without(sample: &Value, fields: &[&str]) -> Value {
    let mut sample = sample.clone();
    let object = sample.as_object_mut().expect("an object");
    fields.iter().for_each(|field| assert!(object.remove(*field).is_some(), "{field}"));
    sample
}

fn compact_options() -> Value {
    json!({
        "strategy": "sort", "sort-order": "p asc", "zorder-columns": [], "branch": "audit", "where": "id > 5", "partition": "p=1",
        "target-file-size-bytes": 1000, "min-file-size-bytes": null, "max-file-size-bytes": null, "min-row-group-size-bytes": null,
        "min-input-files": 2, "max-file-group-size-bytes": null, "max-file-group-input-files": null, "max-files-to-rewrite": null,
        "delete-file-threshold": null, "delete-ratio-threshold": 0.5, "rewrite-all": true, "rewrite-job-order": "bytes-desc",
        "max-concurrent-file-group-rewrites": null, "partial-progress.enabled": true, "partial-progress.max-commits": 3,
        "remove-dangling-deletes": null, "splice": false, "verify": "full", "memory-bytes": null, "max-bytes": null,
        "max-seconds": null, "max-requests": null, "courtesy-seconds": 0, "spark-over-bytes": null,
    })
}

/// Returns the options of a kind as a request of version 0.1 has them.
fn options(kind: JobKind) -> Value {
    match kind {
        JobKind::Compact => compact_options(),
        JobKind::Expire => json!({"older-than-ms": 1_700_000_000_000_i64, "retain-last": 3}),
        JobKind::Orphans => json!({"older-than-age-ms": 259_200_000, "inventory": null}),
        JobKind::Manifests => json!({"branch": null, "rewrite-all": true}),
        JobKind::Statistics => json!({"columns": ["id"], "branch": null}),
        JobKind::Erase => json!({"where": "id = 7", "deadline-ms": 1_700_000_000_000_i64, "drop-refs": ["old"]}),
        JobKind::Check => json!({"branch": null, "files": true}),
    }
}

#[test]
fn requests_that_wait_are_read() {
    for kind in JobKind::ALL {
        let mut sample = json!({});
        sample[kind.as_str()] = options(kind);
        assert_eq!(read_request(&sample).kind(), kind);
    }
}

/// A new kind needs an arm here: a function that reads a sample of its plan and of its outcome.
#[test]
fn plans_and_outcomes_of_every_kind_are_read() {
    for kind in JobKind::ALL {
        match kind {
            JobKind::Compact => read_compaction(),
            JobKind::Expire => read_expiry(),
            JobKind::Orphans => read_orphan_scan(),
            JobKind::Manifests => read_manifest_rewrite(),
            JobKind::Statistics => read_statistics(),
            JobKind::Erase => read_erasure(),
            JobKind::Check => read_check(),
        }
    }
}

fn read_compaction() {
    let plan = json!({
        "table": "lake.t", "options": compact_options(), "snapshot_id": 3_051_729_675_574_597_004_i64, "sequence_number": 34,
        "target_file_size_bytes": 1000, "data_files": 3, "delete_files": 1,
        "groups": [{
            "id": 0, "partition": "p=1/day=2026-01-02", "spec_id": 2, "expected_files": 1, "delete_files": 1,
            "files": [
                {"path": "s3://lake/t/data/a.parquet", "bytes": 10, "records": 5, "deleted": 2},
                {"path": "s3://lake/t/data/b.parquet", "bytes": 10, "records": 5},
            ],
        }],
        "left_alone": [{"partition": "p=null", "files": 1, "bytes": 10, "reason": "encrypted files are not supported"}],
        "under_change": true,
        "has_files_of_others": true,
    });
    let read_plan: CompactPlan = read(&plan);
    assert_eq!((read_plan.bytes(), read_plan.files(), read_plan.options.branch()), (20, 2, "audit"));
    // An undo reads the branch from the raw record.
    assert_eq!(plan["options"]["branch"], "audit");
    let since = ["under_change", "has_files_of_others"];
    let earlier: CompactPlan = serde_json::from_value(without(&plan, &since)).expect("an earlier plan");
    assert!(!earlier.under_change && !earlier.has_files_of_others);

    let outcome = json!({
        "groups": 1, "commits": 1, "files_in": 2, "files_out": 1, "bytes_in": 20, "bytes_out": 15, "records": 8,
        "deleted_records": 2, "delete_files_removed": 1, "late_deletes_moved": 0, "row_groups_spliced": 0, "bytes_spliced": 0,
        "seconds": 1.5, "commit_seconds": 0.5, "cpu_seconds": 0.25, "bytes_read": 20, "bytes_written": 15, "requests": 9,
        "proof": "checksums 00-8", "refused": [{"group": 1, "partition": "p=2", "reason": "a budget is spent"}],
    });
    assert_eq!(read::<CompactOutcome>(&outcome).commits, 1);
    let fields = ["commits", "deleted_records", "late_deletes_moved", "commit_seconds", "cpu_seconds", "bytes_read", "proof"];
    let earlier: CompactOutcome = serde_json::from_value(without(&outcome, &fields)).expect("an earlier outcome");
    assert_eq!((earlier.commits, earlier.files_in), (0, 2));
}

fn read_expiry() {
    let unread = json!({"snapshot-id": 7, "path": "s3://lake/t/metadata/m.avro", "error": "it is not there"});
    let plan = json!({
        "table": "lake.t", "policy": {"older-than-ms": 5, "retain-last": null}, "now_ms": 9, "snapshots": 4,
        "expire": [{"snapshot_id": 3_051_729_675_574_597_004_i64, "timestamp_ms": 4, "operation": "append"}],
        "expire_refs": ["old"], "grace_ms": 86_400_000, "forced": false, "unread": [unread],
        "files": [
            {"path": "s3://lake/t/data/a.parquet", "kind": "data", "bytes": 10},
            {"path": "s3://lake/t/metadata/snap-1.avro", "kind": "manifest-list", "bytes": null},
        ],
    });
    assert_eq!(read::<ExpirePlan>(&plan).files.iter().filter_map(|f| f.bytes).sum::<u64>(), 10);
    let earlier: ExpirePlan = serde_json::from_value(without(&plan, &["forced", "unread"])).expect("an earlier plan");
    assert_eq!((earlier.forced, earlier.expire[0].snapshot_id), (false, 3_051_729_675_574_597_004));
    let outcome = json!({
        "snapshots": 1, "refs": 1, "doomed_files": 2, "doomed_bytes": 10, "metadata_before": "s3://lake/t/metadata/3.metadata.json",
        "unread": [unread], "seconds": 0.5,
    });
    assert_eq!(read::<ExpireOutcome>(&outcome).metadata_before, "s3://lake/t/metadata/3.metadata.json");
    let earlier = without(&outcome, &["metadata_before", "unread"]);
    assert_eq!(serde_json::from_value::<ExpireOutcome>(earlier).expect("an earlier outcome").metadata_before, "");
}

fn read_erasure() {
    let report = json!({
        "table": "lake.t", "where": "id = 7", "deadline-ms": 9, "drop-refs": ["old"],
        "holders": [
            {"path": "s3://lake/t/data/a.parquet", "bytes": 10, "rows": 1, "refs": ["main"], "in_table": [], "snapshots": 2,
                "due_ms": null},
            {"path": "s3://lake/t/data/b.orc", "bytes": 10, "rows": null, "refs": [], "in_table": [], "snapshots": 0, "due_ms": 8,
                "spared": "job x was undone"},
        ],
    });
    assert_eq!(read::<ErasureReport>(&report).holders.len(), 2);
    let outcome = json!({
        "files-rewritten": 1, "snapshots": 2, "refs": ["old"], "files": 2, "report": report, "complete": false,
    });
    assert_eq!(read::<EraseOutcome>(&outcome).report.holders[0].path, "s3://lake/t/data/a.parquet");
}

/// Id of a job in samples.
const JOB: &str = "0198a5b2-7d3c-7000-8000-000000000001";

fn read_orphan_scan() {
    read::<OrphanPlan>(&json!({
        "table": "lake.t", "location": "s3://lake/t", "older_than_ms": 5, "seen_before_ms": 4, "grace_ms": 3, "inventory": null,
    }));
    read::<OrphanOutcome>(&json!({
        "listed": 9, "referenced": 5, "young": 1, "accounted": 1, "orphans": 2, "orphan_bytes": 20, "waiting": 1, "doomed_files": 1,
        "doomed_bytes": 10, "seconds": 0.5,
    }));
}

fn read_manifest_rewrite() {
    read::<ManifestPlan>(&json!({
        "table": "lake.t", "branch": "main", "manifests": 3, "target_bytes": 8_388_608, "left": 0,
        "rewrite": [{"path": "s3://lake/t/metadata/m0.avro", "bytes": 10, "files": 2, "reason": "overlaps"}],
    }));
    read::<ManifestOutcome>(&json!({"replaced": 3, "created": 1, "seconds": 0.5}));
}

fn read_statistics() {
    read::<StatisticsPlan>(&json!({
        "table": "lake.t", "snapshot_id": 7, "columns": {"id": 1, "p": 3}, "replaces": "s3://lake/t/metadata/7-a.stats",
    }));
    read::<StatisticsOutcome>(&json!({
        "path": "s3://lake/t/metadata/7-b.stats", "partitions_path": null, "distinct": {"id": 40}, "records": 40, "seconds": 0.5,
    }));
}

fn read_check() {
    read::<CheckPlan>(&json!({
        "table": "lake.t", "options": {"branch": null, "files": true}, "snapshot_id": 7, "files": 3,
    }));
    read::<CheckOutcome>(&json!({
        "findings": [{
            "kind": "wrong-partition", "path": "s3://lake/t/data/a.parquet", "column": "p", "what": "2 rows are of another",
            "certain": true, "rows": 2, "sample": ["5"], "snapshot-id": 7, "job": JOB, "written-by": "job x of Esker's", "undo": null, "repair": "read it",
        }],
        "files": 3, "rows": 40, "notes": ["1 files: not Parquet"], "seconds": 0.5,
    }));
}

#[test]
fn outcomes_of_undos_and_costs_are_read() {
    read::<UndoOutcome>(&json!({"snapshots": 1, "refs": ["old"], "files": 2, "gone": 0, "job_id": JOB}));
    read::<Cost>(&json!({"bytes_read": 10, "bytes_written": 5, "requests": 3, "cpu_seconds": 0.25}));
}
