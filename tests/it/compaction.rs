//! Compactions: plans and outcomes, concurrent writers, sort orders, undo, and row ids.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Int64Type};
use esker_tests::{Faults, PositionDeleteScope, Row, TestApp, TestTable};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn the_dry_run_shows_what_the_job_then_does() {
    let app = TestApp::start().await;
    let writer = TestTable::six_files(&app).await;
    let before = writer.data_paths().await;
    let path = "/api/v1/warehouses/default/namespaces/n/tables/t/compact?dry-run=true";
    let plan = app.ok(Method::POST, path, Some(json!({}))).await;
    assert_eq!(plan["groups"][0]["files"].as_array().map(Vec::len), Some(6));
    assert_eq!(writer.data_paths().await, before, "a dry run does nothing");

    let job = app.job("compact", json!({})).await;
    assert_eq!((&job["state"], &job["plan"]), (&json!("succeeded"), &plan));
    assert_eq!((job["outcome"]["files_in"].as_u64(), job["outcome"]["files_out"].as_u64()), (Some(6), Some(1)));
    assert_eq!(writer.data_paths().await.len(), 1);
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
    let metadata = writer.metadata().await;
    assert_eq!(metadata.current_snapshot().expect("a snapshot").operation(), Some("replace"));
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_that_land_meanwhile_are_rebased_over_and_never_fail() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    for i in 0..8 {
        writer.append_ids(i * 10..i * 10 + 10).await;
    }
    // A writer appends while the table is compacted three times.
    let appending = async {
        for i in 0..25 {
            let start = 1000 + i * 10;
            loop {
                let prepared = writer.prepare_append(start..start + 10).await;
                let table = "/v1/default/namespaces/n/tables/t";
                let (status, body) = app.send(Method::POST, table, Some(prepared.body().clone())).await;
                if status.is_success() {
                    break;
                }
                assert_eq!(status.as_u16(), 409, "{body}");
            }
        }
    };
    let compacting = async {
        for _ in 0..3 {
            let job = app.job("compact", json!({"min-input-files": 2})).await;
            assert_eq!(job["state"], "succeeded", "{job}");
        }
    };
    tokio::join!(appending, compacting);
    let expected: Vec<i64> = (0..80).chain(1000..1250).collect();
    assert_eq!(writer.ids().await.expect("ids"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_are_applied_and_what_they_leave_out_is_reported() {
    let app = TestApp::start().await;
    let writer = TestTable::six_files(&app).await;
    let files = writer.data_paths().await;
    writer.delete_positions(&files[0], &[0, 9]).await;
    let kept = writer.ids().await.expect("ids");
    assert_eq!(kept.len(), 58);
    let path = "/api/v1/warehouses/default/namespaces/n/tables/t/compact?dry-run=true";
    let plan = app.ok(Method::POST, path, Some(json!({}))).await;
    assert_eq!(plan["groups"][0]["delete_files"], 1, "the delete may apply to any file of the unpartitioned table");
    let job = app.job("compact", json!({})).await;
    let outcome = &job["outcome"];
    assert_eq!((outcome["deleted_records"].as_u64(), outcome["delete_files_removed"].as_u64()), (Some(2), Some(1)), "{job}");
    assert_eq!(writer.ids().await.expect("ids"), kept);
    let metadata = writer.metadata().await;
    let summary = metadata.current_snapshot().and_then(|snapshot| snapshot.summary.as_ref()).expect("a summary");
    assert_eq!(summary["removed-position-deletes"], "2");
    assert!(summary["esker.content-hash"].ends_with("-58"), "{summary:?}");
}

/// Copied row groups without a page index and encoded ones with it are in one file.
#[tokio::test(flavor = "multi_thread")]
async fn row_groups_without_page_index_are_copied_beside_encoded_ones() {
    let app = TestApp::start().await;
    app.table().await;
    let set = json!({"write.parquet.compression-codec": "uncompressed", "write.parquet.row-group-size-bytes": "20000"});
    let update = json!({"requirements": [], "updates": [{"action": "set-properties", "updates": set}]});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(update)).await;
    let writer = TestTable::simple(&app);
    writer.append_without_index(0..2000).await;
    let files = writer.data_paths().await;
    for i in 1..3 {
        writer.append_without_index(i * 2000..i * 2000 + 2000).await;
    }
    for i in 0..3 {
        writer.append_ids(10_000 + i * 10..10_000 + i * 10 + 10).await;
    }
    writer.delete_positions(&files[0], &[7]).await;
    let kept = writer.ids().await.expect("ids");
    assert_eq!(kept.len(), 6029);
    let job = app.job("compact", json!({"verify": "full", "min-input-files": 2})).await;
    let outcome = &job["outcome"];
    assert_eq!((outcome["row_groups_spliced"].as_u64(), outcome["files_out"].as_u64()), (Some(2), Some(1)), "{job}");
    assert_eq!(writer.ids().await.expect("ids"), kept);
    let found = app.sql("SELECT sum(id) FROM n.t WHERE id BETWEEN 2350 AND 5999 OR id = 10005").await.expect("rows");
    assert_eq!(found[0].column(0).as_primitive::<Int64Type>().value(0), (2350..6000).sum::<i64>() + 10_005);
}

/// A rollback restores deleted rows. A compaction that read the table before the rollback must not delete them again.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_beneath_a_compaction_gives_it_up() {
    let faults = Faults::local();
    let app = TestApp::start_on(Arc::new(faults.clone()), |_| {}).await;
    let writer = TestTable::six_files(&app).await;
    let before = writer.metadata().await.current_snapshot_id.expect("a snapshot");
    let files = writer.data_paths().await;
    writer.delete_positions(&files[0], &[0, 9]).await;
    faults.hold("compacted-");
    let path = "/api/v1/warehouses/default/namespaces/n/tables/t";
    let job = app.ok(Method::POST, &format!("{path}/compact"), Some(json!({}))).await;
    app.wait_for_plan(job["job-id"].as_str().expect("an id")).await;
    let rollback = json!({"action": "rollback", "snapshot-id": before});
    app.ok(Method::POST, &format!("{path}/refs"), Some(rollback)).await;
    faults.release("compacted-");
    let job = app.wait_for_job(job["job-id"].as_str().expect("an id")).await;
    assert_eq!(job["state"], "failed", "{job}");
    assert!(job["error"].as_str().expect("an error").contains("was moved back"), "{job}");
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
}

/// A bit that the storage flips is noticed before the commit, and the damaged file is reclaimed.
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_an_output_aborts() {
    let faults = Faults::local();
    let app = TestApp::start_on(Arc::new(faults.clone()), |_| {}).await;
    let writer = TestTable::six_files(&app).await;
    let files = writer.data_paths().await;
    faults.flip_a_bit_of("compacted-");
    let job = app.job("compact", json!({})).await;
    assert_eq!(job["state"], "failed", "{job}");
    assert!(job["error"].as_str().expect("an error").contains("failed verification"), "{job}");
    assert_eq!(writer.data_paths().await, files);
    assert_eq!(app.job("compact", json!({"verify": "full"})).await["state"], "succeeded");
    assert_eq!(writer.ids().await.expect("ids"), (0..60).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_is_compacted_and_main_is_not_touched() {
    let app = TestApp::start().await;
    let writer = TestTable::six_files(&app).await;
    let path = "/api/v1/warehouses/default/namespaces/n/tables/t/refs";
    app.ok(Method::POST, path, Some(json!({"action": "create-branch", "name": "audit"}))).await;
    let main = writer.metadata().await.current_snapshot_id;
    let job = app.job("compact", json!({"branch": "audit", "where": "id < 1000"})).await;
    assert_eq!((job["state"].as_str(), job["outcome"]["files_out"].as_u64()), (Some("succeeded"), Some(1)), "{job}");
    let metadata = writer.metadata().await;
    assert_eq!(metadata.current_snapshot_id, main);
    assert_ne!(metadata.snapshot_for_ref("audit").map(|s| s.snapshot_id), main);
    let job = app.job("compact", json!({"where": "id > 1000"})).await;
    assert_eq!(job["outcome"]["groups"], 0, "no file can hold such rows");
}

/// Runs a compaction. Returns the ids in the order of the rows in the table's only file.
async fn order_after(lake: &TestTable<'_>, options: Value) -> Vec<String> {
    let job = lake.compact(options).await;
    assert_eq!((&job["state"], &job["outcome"]["files_out"]), (&json!("succeeded"), &json!(1)), "{job}");
    lake.query("SELECT id FROM lake.sorted").await.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sort_names_columns_with_blanks_commas_and_dots_and_fields_of_structs() {
    let app = TestApp::start().await;
    let int = |id: i32, name: &str| json!({"id": id, "name": name, "required": false, "type": "int"});
    let fields = json!([
        {"id": 1, "name": "id", "required": false, "type": "long"}, int(2, "a b"), int(3, "c,d"), int(4, "e.f"),
        {"id": 5, "name": "s", "required": false, "type": {"type": "struct", "fields": [int(6, "x y")]}},
    ]);
    let properties = json!({"write.parquet.bloom-filter-enabled.column.e.f": "true",
        "write.parquet.bloom-filter-enabled.column.s.x y": "true"});
    let lake = TestTable::create_with_schema(&app, "sorted", fields, json!([]), properties).await;
    let schema = lake.arrow_schema().await;
    let ints = |values: [Option<i32>; 4]| Arc::new(Int32Array::from(values.to_vec())) as ArrayRef;
    let DataType::Struct(inner) = schema.field(4).data_type() else { panic!("{schema}") };
    let nulls = Some(NullBuffer::from(vec![true, false, true, true]));
    let structs = StructArray::new(inner.clone(), vec![ints([Some(2), Some(9), Some(1), Some(3)])], nulls);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
        ints([Some(2), Some(1), Some(1), None]),
        ints([Some(1), Some(1), Some(2), Some(2)]),
        ints([Some(4), Some(3), Some(2), Some(1)]),
        Arc::new(structs),
    ];
    let file = lake.data_file(columns, []).await;
    lake.add([file], []).await;
    for (order, expected) in [
        ("\"a b\" desc, `c,d` DESC", ["1", "3", "2", "4"]),
        ("\"e.f\"", ["4", "3", "2", "1"]),
        ("e.f desc", ["1", "2", "3", "4"]),
        ("s.\"x y\" nulls last", ["3", "1", "4", "2"]),
    ] {
        assert_eq!(
            order_after(&lake, json!({"strategy": "sort", "sort-order": order, "rewrite-all": true})).await,
            expected,
            "{order}"
        );
    }
    for (column, expected) in [("e.f", ["4", "3", "2", "1"]), ("s.\"x y\"", ["3", "1", "4", "2"]), ("a b", ["4", "2", "3", "1"])]
    {
        let options = json!({"strategy": "zorder", "zorder-columns": [column], "rewrite-all": true});
        let mut found = order_after(&lake, options).await;
        if column.starts_with("s.") {
            // The place of a null on the curve does not matter.
            found.sort_by_key(|id| id == "2");
        }
        // Rows at the same place of the curve may be in any order.
        let same = if column == "a b" { found[3] == "1" } else { found == expected };
        assert!(same, "{column}: {found:?}");
    }
    let by_field = json!({"order-id": 1, "fields": [
        {"source-id": 6, "transform": "identity", "direction": "desc", "null-order": "nulls-first"}]});
    lake.update(
        json!([{"action": "add-sort-order", "sort-order": by_field}, {"action": "set-default-sort-order", "sort-order-id": -1}]),
    )
    .await;
    assert_eq!(order_after(&lake, json!({"strategy": "sort", "rewrite-all": true})).await, ["2", "4", "1", "3"]);
    let path = lake.data_files().await.remove(0).file_path.trim_start_matches("file://").to_owned();
    let footer = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).expect("a file")).expect("a footer");
    let bloom = |i: usize| footer.metadata().row_group(0).column(i).bloom_filter_offset().is_some();
    assert_eq!((0..5).map(bloom).collect::<Vec<_>>(), [false, false, false, true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_of_a_table_whose_name_holds_a_dot_is_undone() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "a.b", 2, false, json!({})).await;
    for id in 0..3 {
        lake.append(&[(id, "s".to_owned(), 0, None)]).await;
    }
    let job = lake.compact(json!({"rewrite-all": true, "courtesy-seconds": 0})).await;
    assert_eq!(job["outcome"]["files_in"], 3, "{job}");
    assert_eq!(lake.undo(&job).await.expect("undone")["files"], 3);
    assert_eq!(lake.data_files().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_make_no_sense_are_refused_by_name() {
    let app = TestApp::start().await;
    app.table().await;
    let path = "/api/v1/warehouses/default/namespaces/n/tables/t/compact?dry-run=true";
    for (options, key) in [
        (json!({"strategy": "sort"}), "sort-order"),
        (json!({"strategy": "zorder"}), "zorder-columns"),
        (json!({"strategy": "zorder", "zorder-columns": ["nope"]}), "zorder-columns"),
        (json!({"sort-order": "id"}), "sort-order"),
        (json!({"strategy": "sort", "sort-order": "\"id"}), "sort-order"),
        (json!({"where": "id +"}), "where"),
        (json!({"where": "nope = 1"}), "where"),
        (json!({"branch": "nope"}), "branch"),
        (json!({"delete-ratio-threshold": 7}), "delete-ratio-threshold"),
        (json!({"memory-bytes": 5}), "memory-bytes"),
        (json!({"targetfile": 5}), "targetfile"),
    ] {
        let (code, _, message) = app.refused(Method::POST, path, Some(options)).await;
        assert!(code == 400 && message.contains(key), "{key}: {code} {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_a_table_at_a_time_and_foreign_tables_not_at_all() {
    let app = TestApp::start().await;
    let created = app.table().await;
    let location = created["metadata-location"].as_str().expect("a location").to_owned();
    app.ok(Method::DELETE, "/v1/default/namespaces/n/tables/t", None).await;
    let register = json!({"name": "t", "metadata-location": location});
    app.ok(Method::POST, "/v1/default/namespaces/n/register", Some(register)).await;
    for kind in ["compact", "expire"] {
        let path = format!("/api/v1/warehouses/default/namespaces/n/tables/t/{kind}");
        let (code, _, message) = app.refused(Method::POST, &path, Some(json!({}))).await;
        assert_eq!(code, 422);
        assert!(message.contains("foreign"), "{message}");
    }
}

/// Creates a table of three files of two rows, deletes one row by position, replaces one by an upsert, and compacts.
///
/// Returns the table, the record of the job, and the rows.
async fn compacted(app: &TestApp, version: u8) -> (TestTable<'_>, Value, Vec<Row>) {
    let lake = TestTable::create(app, &format!("v{version}"), version, false, json!({})).await;
    let row = |id: i64| (id, format!("s{id}"), 0, None);
    for i in 0..3 {
        lake.append(&[row(i * 2), row(i * 2 + 1)]).await;
    }
    lake.delete_by_position(&HashSet::from([3]), PositionDeleteScope::Partition).await;
    lake.upsert(&[(5, 0)], &[(5, "new".to_owned(), 0, None)]).await;
    let rows = lake.rows().await;
    let job = lake.compact(json!({"courtesy-seconds": 0, "rewrite-all": true, "min-input-files": 2})).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    (lake, job, rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_is_undone_with_its_deletes_and_what_landed_since_still_applies() {
    let app = TestApp::start().await;
    for version in [2, 3] {
        let (lake, job, mut rows) = compacted(&app, version).await;
        let live = lake.live(&lake.metadata().await).await;
        assert_eq!((live.data.len(), live.deletes.len()), (1, 0));
        lake.upsert(&[(0, 0)], &[(9, "later".to_owned(), 0, None)]).await;
        lake.undo(&job).await.expect("undone");
        let live = lake.live(&lake.metadata().await).await;
        assert_eq!((live.data.len(), live.deletes.len()), (5, 3), "as before, and what came since");
        rows.retain(|row| row.0 != 0);
        rows.push((9, "later".to_owned(), 0, None));
        rows.sort();
        assert_eq!(lake.rows().await, rows);
        let again = lake.undo(&job).await.expect_err("once only");
        assert!(again.contains("is undone already"), "{again}");
        // The restored files can be compacted again.
        let job = lake.compact(json!({"courtesy-seconds": 0, "rewrite-all": true})).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        assert_eq!(lake.rows().await, rows);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_of_a_compaction_is_refused_where_its_rows_were_deleted_by_position_since() {
    let app = TestApp::start().await;
    for version in [2, 3] {
        let (lake, job, mut rows) = compacted(&app, version).await;
        lake.delete_by_position(&HashSet::from([1]), PositionDeleteScope::File).await;
        let refused = lake.undo(&job).await.expect_err("refused");
        assert!(refused.contains("deleted since"), "{refused}");
        rows.retain(|row| row.0 != 1);
        assert_eq!(lake.rows().await, rows);
    }
}

/// Creates a table with an equality delete that applies to two of its three files, and compacts two files.
///
/// The third file keeps the delete in the table. Once it is compacted too, the delete is dropped. An undo of the first compaction
/// would then bring back a deleted row. Returns the table, the record of the job, and the rows.
async fn compacted_beside_a_delete(app: &TestApp, version: u8) -> (TestTable<'_>, Value, Vec<Row>) {
    let lake = TestTable::create(app, &format!("v{version}"), version, false, json!({})).await;
    let row = |id: i64| (id, format!("s{id}"), 0, None);
    lake.append(&[row(0), row(1)]).await;
    lake.append(&[row(2), row(3)]).await;
    lake.append(&[row(100), row(101)]).await;
    lake.upsert(&[(1, 0), (101, 0)], &[]).await;
    let rows = lake.rows().await;
    assert_eq!(rows.iter().map(|r| r.0).collect::<Vec<_>>(), [0, 2, 3, 100]);
    let compact = json!({"courtesy-seconds": 0, "rewrite-all": true, "min-input-files": 1, "where": "id < 10"});
    let job = lake.compact(compact).await;
    assert_eq!((&job["state"], &job["outcome"]["files_in"]), (&json!("succeeded"), &json!(2)), "{job}");
    assert_eq!(lake.live(&lake.metadata().await).await.deletes.len(), 1, "it still hides a row of the other file");
    (lake, job, rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_is_refused_where_a_delete_that_hid_rows_of_its_files_was_dropped_since() {
    let app = TestApp::start().await;
    for version in [2, 3] {
        let (lake, job, rows) = compacted_beside_a_delete(&app, version).await;
        let other = json!({"courtesy-seconds": 0, "rewrite-all": true, "min-input-files": 1, "where": "id >= 100"});
        let other = lake.compact(other).await;
        assert_eq!(other["outcome"]["delete_files_removed"], 1, "{other}");
        let dropped_by = lake.metadata().await.current_snapshot_id.expect("a snapshot");
        let refused = lake.undo(&job).await.expect_err("a deleted row would be back");
        assert!(refused.contains("-eq.parquet") && refused.contains(&format!("snapshot {dropped_by}")), "{refused}");
        assert_eq!(lake.rows().await, rows);
        // In the reverse order both jobs can be undone.
        lake.undo(&other).await.expect("undone");
        lake.undo(&job).await.expect("undone");
        assert_eq!(lake.rows().await, rows);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_is_done_while_a_delete_that_it_needs_is_there() {
    let app = TestApp::start().await;
    for version in [2, 3] {
        let (lake, job, rows) = compacted_beside_a_delete(&app, version).await;
        lake.undo(&job).await.expect("undone");
        assert_eq!(lake.live(&lake.metadata().await).await.data.len(), 3);
        assert_eq!(lake.rows().await, rows);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_is_a_record_of_its_own_and_that_of_the_job_names_it() {
    let app = TestApp::start().await;
    let (lake, job, _) = compacted(&app, 2).await;
    let undone = lake.undo(&job).await.expect("undone");
    let record = app.ok(Method::GET, &format!("/api/v1/jobs/{}", undone["job_id"].as_str().expect("an id")), None).await;
    assert_eq!((&record["kind"], &record["state"], &record["table"]), (&json!("undo"), &json!("succeeded"), &json!("lake.v2")));
    assert_eq!((&record["request"]["undo"]["job"], &record["outcome"]["files"]), (&job["id"], &undone["files"]), "{record}");
    let of_job = app.ok(Method::GET, &format!("/api/v1/jobs/{}", job["id"].as_str().expect("an id")), None).await;
    assert_eq!((&of_job["undone_by"], &of_job["state"]), (&record["id"], &json!("succeeded")), "{of_job}");
    let jobs = app.ok(Method::GET, "/api/v1/jobs?kind=undo", None).await;
    assert_eq!(jobs.as_array().map(Vec::len), Some(1));
    let (_, _, page) = app.send_raw(Method::GET, "/jobs", &[], None).await;
    assert!(page.contains("undone by") && page.contains(record["id"].as_str().expect("an id")), "{page}");
    let events = app.ok(Method::GET, "/api/v1/events?limit=1000", None).await.to_string();
    assert!(events.contains(r#""kind":"undo""#), "{events}");
    let again = lake.undo(&job).await.expect_err("once only");
    assert!(again.contains("is undone already") && again.contains(record["id"].as_str().expect("an id")), "{again}");
}

/// A deletion vector supersedes position delete files, so a new vector for a data file must contain their positions.
#[tokio::test(flavor = "multi_thread")]
async fn position_deletes_that_land_before_an_upgrade_survive_a_conversion_that_lands_after_it() {
    let faults = Faults::local();
    let app = TestApp::start_on(Arc::new(faults.clone()), |_| {}).await;
    for scope in [PositionDeleteScope::File, PositionDeleteScope::Partition] {
        let lake = TestTable::create(&app, &format!("{scope:?}").to_lowercase(), 2, false, json!({})).await;
        lake.append(&(0..6).map(|id| (id, format!("s{id}"), 0, None)).collect::<Vec<_>>()).await;
        lake.upsert(&[(1, 0)], &[]).await;
        faults.hold_reads("-eq.parquet");
        let job = lake.start_compaction(json!({"strategy": "convert-deletes", "courtesy-seconds": 0})).await;
        faults.wait_for_a_held_read().await;
        lake.delete_by_position(&HashSet::from([4]), scope).await;
        lake.update(json!([{"action": "upgrade-format-version", "format-version": 3}])).await;
        faults.release_reads();
        let job = lake.wait(&job).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        assert_eq!(lake.rows().await.iter().map(|r| r.0).collect::<Vec<_>>(), [0, 2, 3, 5], "{job}");
    }
}

/// Returns `_row_id` of each row, by `id`.
async fn row_ids(lake: &TestTable<'_>) -> BTreeMap<i64, i64> {
    let mut found = BTreeMap::new();
    for file in lake.live(&lake.metadata().await).await.data {
        let bytes = bytes::Bytes::from(std::fs::read(&file.file.file_path[7..]).expect("a file"));
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("a footer").build().expect("a reader");
        let mut at = file.first_row_id.expect("row ids");
        for batch in reader.map(|batch| batch.expect("a batch")) {
            let ids = batch.column_by_name("id").expect("ids").as_primitive::<Int64Type>();
            let own = batch.column_by_name("_row_id").map(|column| column.as_primitive::<Int64Type>());
            for (i, id) in ids.values().iter().enumerate() {
                let own = own.filter(|own| own.is_valid(i)).map(|own| own.value(i));
                assert!(found.insert(*id, own.unwrap_or(at)).is_none(), "each row is there once");
                at += 1;
            }
        }
    }
    found
}

/// Rows from before format version 3 get their row ids with the first commit after the upgrade, and keep them.
#[tokio::test(flavor = "multi_thread")]
async fn rows_keep_the_ids_that_they_get_while_they_are_compacted() {
    let faults = Faults::local();
    let change = |config: &mut esker::Config| (config.maintenance.retry_seconds, config.maintenance.attempts) = (1, 3);
    let app = TestApp::start_on(Arc::new(faults.clone()), change).await;
    let lake = TestTable::create(&app, "t", 2, true, json!({})).await;
    for n in 0..3_i64 {
        lake.append(&[(n * 2, "a".to_owned(), 1, None), (n * 2 + 1, "b".to_owned(), 2, None)]).await;
    }
    lake.update(json!([{"action": "upgrade-format-version", "format-version": 3}])).await;
    faults.hold("compacted-");
    let job = lake.start_compaction(json!({"courtesy-seconds": 0, "rewrite-all": true, "min-input-files": 1})).await;
    lake.wait_for_plan(&job).await;
    lake.append(&[(100, "c".to_owned(), 3, None)]).await;
    let before = row_ids(&lake).await;
    faults.release("compacted-");
    let job = lake.wait(&job).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(row_ids(&lake).await, before);
}

/// If no writer commits after the upgrade, the job's own commit assigns the row ids: of all groups at once.
#[tokio::test(flavor = "multi_thread")]
async fn groups_compacted_right_after_an_upgrade_are_committed_together() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, true, json!({})).await;
    for n in 0..3_i64 {
        lake.append(&[(n * 2, "a".to_owned(), 1, None), (n * 2 + 1, "b".to_owned(), 2, None)]).await;
    }
    lake.update(json!([{"action": "upgrade-format-version", "format-version": 3}])).await;
    let job = lake.compact(json!({"courtesy-seconds": 0, "rewrite-all": true, "min-input-files": 1})).await;
    assert_eq!((&job["outcome"]["groups"], &job["outcome"]["commits"]), (&json!(2), &json!(1)), "{job}");
    assert_eq!(row_ids(&lake).await.len(), 6);
}
