//! The identity of a partition: its values, in the present types of the columns, and never a label.
//!
//! The tables are as other engines and careless ingestion make them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};
use esker_format::{BoundBytes, DataFile, PrimitiveType, Value as Cell};
use esker_tests::{PositionDeleteScope, TestApp, TestTable};
use esker_types::now_ms;
use reqwest::Method;
use serde_json::{Value, json};

fn longs(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn ints(values: impl IntoIterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values))
}

fn texts(value: Option<&str>, n: usize) -> ArrayRef {
    Arc::new(StringArray::from(vec![value; n]))
}

fn text(value: &str) -> Cell {
    Cell::String(value.into())
}

/// Returns the lower and upper bound of a column that is a long now. The file's bounds may be ints.
fn bounds(file: &DataFile, column: i32) -> (Option<Cell>, Option<Cell>) {
    let stats = file.stats(column).expect("something is known");
    let value = |bound: Option<&[u8]>| Cell::from_bytes(&PrimitiveType::Long, bound?);
    (value(stats.lower_bound), value(stats.upper_bound))
}

fn optional(id: i32, name: &str, ty: &str) -> Value {
    json!({"id": id, "name": name, "required": false, "type": ty})
}

fn partitioned(sources: &[(i32, &str, &str)]) -> Value {
    let field = |(at, (source, name, transform)): (usize, &(i32, &str, &str))| json!({"source-id": source, "field-id": 1000 + at, "name": name, "transform": transform});
    sources.iter().enumerate().map(field).collect()
}

fn strings(row: &[&str]) -> Vec<String> {
    row.iter().map(|cell| (*cell).to_owned()).collect()
}

fn succeeded(job: &Value) {
    assert_eq!(job["state"], "succeeded", "{job}");
}

/// Returns the name of the partition field: that of the column for identity, else another.
fn field_of(transform: &str) -> &'static str {
    if transform == "identity" { "p" } else { "cut" }
}

/// Creates a table with three files of two rows for each value of `p`, partitioned by a transform of `p`.
///
/// The files of different partitions alternate.
async fn beside_one_another<'a>(app: &'a TestApp, name: &str, transform: &str, values: &[Option<&str>]) -> TestTable<'a> {
    let fields = json!([optional(1, "id", "long"), optional(2, "p", "string")]);
    let lake =
        TestTable::create_with_schema(app, name, fields, partitioned(&[(2, field_of(transform), transform)]), json!({})).await;
    let cut = |v: &str| text(&if transform == "identity" { v.to_owned() } else { v.chars().take(4).collect::<String>() });
    for i in 0..3 {
        for (k, value) in values.iter().enumerate() {
            let first = (i * values.len() + k) as i64 * 10;
            let columns = vec![longs(first..first + 2), texts(*value, 2)];
            let file = lake.data_file(columns, [value.map(cut)]).await;
            lake.add([file], []).await;
        }
    }
    lake
}

/// Returns count and sum of the rows by `p`, and the number of live files by partition.
async fn seen(lake: &TestTable<'_>, name: &str) -> (Vec<Vec<String>>, BTreeMap<String, usize>) {
    let rows = lake.query(&format!("SELECT p, count(*), sum(id) FROM lake.{name} GROUP BY p ORDER BY p NULLS FIRST")).await;
    let mut partitions = BTreeMap::new();
    for file in lake.data_files().await {
        *partitions.entry(format!("{:?}", file.partition)).or_default() += 1;
    }
    (rows, partitions)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_value_stay_apart_from_rows_whose_value_is_the_text_null() {
    let app = TestApp::start().await;
    for (name, transform, values) in
        [("identity", "identity", [None, Some("null")]), ("cut", "truncate[4]", [None, Some("nullable")])]
    {
        let lake = beside_one_another(&app, name, transform, &values).await;
        // Equality deletes apply to their own partition only, and are dropped with the files that they apply to.
        let null = Some(text("null"));
        lake.add([], [lake.equality_deletes(&[0, 10], [null.clone()]).await]).await;
        let before = seen(&lake, name).await.0;
        assert_eq!(before, [strings(&["NULL", "6", "123"]), strings(&[values[1].expect("a text"), "5", "173"])]);
        let job = lake.compact(json!({"rewrite-all": true, "verify": "full", "courtesy-seconds": 0})).await;
        succeeded(&job);
        assert_eq!(job["outcome"]["groups"], 2, "{job}");
        let (rows, partitions) = seen(&lake, name).await;
        assert_eq!(rows, before);
        let one_each = [vec![None], vec![null]].map(|values| (format!("{values:?}"), 1));
        assert_eq!(partitions, BTreeMap::from(one_each));
        let found = lake.query(&format!("SELECT count(*) FROM lake.{name} WHERE p = '{}'", values[1].expect("a text"))).await;
        assert_eq!(found, [["5"]]);
        // The labels of the two partitions differ.
        let labels = lake.query(&format!("SELECT partition FROM lake.\"{name}$partitions\" ORDER BY partition")).await;
        let field = field_of(transform);
        assert_eq!(labels, [[format!("{field}=\"null\"")], [format!("{field}=null")]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_look_like_two_fields_stay_in_their_partition() {
    let app = TestApp::start().await;
    let fields = json!([optional(1, "id", "long"), optional(2, "a", "string"), optional(3, "b", "string")]);
    let spec = partitioned(&[(2, "a", "identity"), (3, "b", "identity")]);
    let lake = TestTable::create_with_schema(&app, "two", fields, spec, json!({})).await;
    let values = [("1/b=2", "3"), ("1", "2/b=3")];
    for i in 0..6 {
        let (a, b) = values[i % 2];
        let columns = vec![longs([i as i64]), texts(Some(a), 1), texts(Some(b), 1)];
        let file = lake.data_file(columns, [Some(text(a)), Some(text(b))]).await;
        lake.add([file], []).await;
    }
    let ask = "SELECT a, b, count(*), sum(id) FROM lake.two GROUP BY a, b ORDER BY a";
    let before = lake.query(ask).await;
    assert_eq!(before, [strings(&["1", "2/b=3", "3", "9"]), strings(&["1/b=2", "3", "3", "6"])]);
    let job = lake.compact(json!({"rewrite-all": true})).await;
    succeeded(&job);
    assert_eq!((&job["outcome"]["groups"], &job["outcome"]["files_out"]), (&json!(2), &json!(2)), "{job}");
    assert_eq!(lake.query(ask).await, before);
    assert_eq!(lake.query("SELECT count(*) FROM lake.two WHERE a = '1/b=2'").await, [["3"]]);
}

/// Creates a table partitioned by `c`, with one file from before and one from after `c` became a bigint.
async fn promoted<'a>(app: &'a TestApp, name: &str) -> TestTable<'a> {
    let schema = |ty: &str| json!([optional(1, "id", "long"), optional(2, "c", ty), optional(3, "s", "string")]);
    let lake = TestTable::create_with_schema(app, name, schema("int"), partitioned(&[(2, "c", "identity")]), json!({})).await;
    let old = lake.data_file(vec![longs(0..4), ints([5; 4]), texts(Some("old"), 4)], [Some(Cell::Int(5))]).await;
    lake.add([old], []).await;
    lake.evolve(schema("long")).await;
    let new = lake.data_file(vec![longs(4..8), longs([5; 4]), texts(Some("new"), 4)], [Some(Cell::Long(5))]).await;
    lake.add([new], []).await;
    lake
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_the_same_one_before_and_after_its_column_was_promoted() {
    let app = TestApp::start().await;
    let lake = promoted(&app, "grown").await;
    let files = lake.data_files().await;
    let old = files.iter().find(|f| bounds(f, 1).0 == Some(Cell::Long(0))).expect("the old file");
    // Flink's equality delete and a position delete, both written under the present schema.
    let equality = lake.equality_deletes(&[1, 6], [Some(Cell::Long(5))]).await;
    let positions = lake.position_deletes(&old.file_path, &[3], [Some(Cell::Long(5))]).await;
    lake.add([], [equality, positions]).await;
    let left = [["0"], ["2"], ["4"], ["5"], ["7"]];
    let ask = "SELECT id FROM lake.grown WHERE c = 5 ORDER BY id";
    assert_eq!(lake.query(ask).await, left);

    // Health and metadata tables count the partition once.
    let health = app.ok(Method::GET, &lake.management_path("health"), None).await;
    assert_eq!(health["facts"]["partitions"], 1, "{health}");
    assert_eq!(health["facts"]["files_with_deletes"], 2, "{health}");
    app.ok(Method::GET, "/api/v1/tables", None).await;
    let (status, page) = app.send(Method::GET, "/", None).await;
    assert!(status.is_success(), "{page}");
    let labels = lake.query("SELECT DISTINCT partition FROM lake.\"grown$files\"").await;
    assert_eq!(labels, [["c=5"]]);
    assert_eq!(lake.query("SELECT partition, record_count FROM lake.\"grown$partitions\"").await, [["c=5", "8"]]);

    // A client with server-side planning takes the column from the partition value, and applies the delete files of the plan.
    let plan = lake.plan_scan(json!({"filter": {"type": "eq", "term": "c", "value": 5}})).await;
    let tasks = plan["file-scan-tasks"].as_array().expect("tasks");
    assert_eq!(tasks.len(), 2);
    for task in tasks {
        assert_eq!(task["data-file"]["partition"], json!([5]), "{task}");
        assert_eq!(task["delete-file-references"].as_array().map(Vec::len), Some(2), "{task}");
    }

    let job = lake.compact(json!({"rewrite-all": true, "verify": "full", "courtesy-seconds": 0})).await;
    succeeded(&job);
    assert_eq!((&job["outcome"]["groups"], &job["outcome"]["files_out"]), (&json!(1), &json!(1)), "{job}");
    assert_eq!(job["outcome"]["delete_files_removed"], 2, "{job}");
    assert_eq!(lake.query(ask).await, left);
    assert_eq!(lake.query("SELECT count(*) FROM lake.grown WHERE s = 'old'").await, [["2"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_job_works_on_a_table_whose_partition_column_was_promoted() {
    let app = TestApp::start().await;
    let lake = promoted(&app, "jobs").await;
    lake.add([], [lake.equality_deletes(&[1, 6], [Some(Cell::Long(5))]).await]).await;
    for (kind, options) in [
        ("statistics", json!({})),
        ("compact", json!({"strategy": "convert-deletes", "courtesy-seconds": 0})),
        ("manifests", json!({"rewrite-all": true})),
        ("compact", json!({"rewrite-all": true, "courtesy-seconds": 0})),
        ("expire", json!({"retain-last": 1})),
    ] {
        succeeded(&lake.run_job(kind, options).await);
        assert_eq!(lake.query("SELECT count(*), sum(c), sum(id) FROM lake.jobs").await, [["6", "30", "21"]], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_before_a_promotion_and_one_of_after_become_one_that_is_read() {
    let app = TestApp::start().await;
    let schema = |ty: &str| json!([optional(1, "id", "long"), optional(2, "c", ty)]);
    let lake = TestTable::create_with_schema(&app, "merged", schema("int"), json!([]), json!({})).await;
    for i in 0..3 {
        let file = lake.data_file(vec![longs([i, i]), ints([i as i32, 7])], []).await;
        let other = lake.data_file(vec![longs([i + 10]), ints([i as i32 - 3])], []).await;
        lake.add([file, other], []).await;
    }
    lake.evolve(schema("long")).await;
    let far = 1_i64 << 40;
    let file = lake.data_file(vec![longs([20, 21]), longs([far, -far])], []).await;
    lake.add([file], []).await;
    let ask = "SELECT count(*), min(c), max(c), sum(id) FROM lake.merged";
    let before = lake.query(ask).await;
    // Compacts files of the old manifests only, so old manifests are rewritten and the new one stays.
    succeeded(&lake.compact(json!({"where": "id < 10", "min-input-files": 2})).await);
    assert_eq!(lake.query(ask).await, before);
    succeeded(&lake.run_job("manifests", json!({"rewrite-all": true})).await);
    assert_eq!(lake.query(ask).await, before);
    let metadata = lake.metadata().await;
    assert_eq!(metadata.current_snapshot().expect("a snapshot").summary_value("manifests-created"), Some("1"));
    // All files keep their bounds, also those from before the promotion, and the bounds prune.
    let all: Vec<_> = lake.data_files().await.iter().map(|file| bounds(file, 2)).collect();
    assert!(all.iter().all(|(low, high)| low.is_some() && high.is_some()), "{all:?}");
    assert!(all.contains(&(Some(Cell::Long(-far)), Some(Cell::Long(far)))), "{all:?}");
    assert_eq!(lake.query(&format!("SELECT id FROM lake.merged WHERE c = {far}")).await, [["20"]]);
    succeeded(&lake.compact(json!({"rewrite-all": true})).await);
    assert_eq!(lake.query(ask).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_spec_whose_column_was_dropped_are_rewritten_and_deleted_from() {
    let app = TestApp::start().await;
    let fields = json!([optional(1, "id", "long"), optional(2, "c", "int")]);
    let lake = TestTable::create_with_schema(
        &app,
        "dropped",
        fields,
        partitioned(&[(2, "c", "identity")]),
        json!({"esker.expire.min-age-ms": "0"}),
    )
    .await;
    for i in 0..6 {
        let c = i % 2;
        let file =
            lake.data_file(vec![longs([i64::from(i) * 2, i64::from(i) * 2 + 1]), ints([c; 2])], [Some(Cell::Int(c))]).await;
        lake.add([file], []).await;
    }
    let unpartitioned = json!({"action": "add-spec", "spec": {"fields": []}});
    lake.update(json!([unpartitioned, {"action": "set-default-spec", "spec-id": -1}])).await;
    lake.evolve(json!([optional(1, "id", "long"), optional(3, "extra", "string")])).await;
    let ask = "SELECT count(*), sum(id) FROM lake.dropped";
    assert_eq!(lake.query("DELETE FROM lake.dropped WHERE id = 3").await, [["1"]]);
    assert_eq!(lake.query(ask).await, [["11", "63"]]);
    let job = lake.compact(json!({"rewrite-all": true, "verify": "full", "courtesy-seconds": 0})).await;
    succeeded(&job);
    assert_eq!((&job["outcome"]["groups"], &job["outcome"]["files_out"]), (&json!(2), &json!(2)), "{job}");
    assert_eq!(lake.query(ask).await, [["11", "63"]]);
    succeeded(&lake.run_job("statistics", json!({})).await);
    // The same holds after no schema has the column any more.
    succeeded(&lake.run_job("expire", json!({"retain-last": 1, "older-than-ms": now_ms() + 1000})).await);
    lake.update(json!([{"action": "remove-schemas", "schema-ids": [0]}])).await;
    assert_eq!(lake.query("DELETE FROM lake.dropped WHERE id = 4").await, [["1"]]);
    assert_eq!(lake.query(ask).await, [["10", "59"]]);
    succeeded(&lake.run_job("manifests", json!({"rewrite-all": true})).await);
    succeeded(&lake.compact(json!({"rewrite-all": true, "courtesy-seconds": 0})).await);
    assert_eq!(lake.query(ask).await, [["10", "59"]]);
    let mut partitions: Vec<String> = lake.data_files().await.iter().map(|f| format!("{:?}", f.partition)).collect();
    partitions.sort();
    assert_eq!(partitions, [0, 1].map(|c| format!("{:?}", [Some(Cell::Int(c))])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_that_is_nan_or_inverted_leaves_no_row_out() {
    let app = TestApp::start().await;
    let fields = json!([optional(1, "id", "long"), optional(2, "x", "double")]);
    let lake = TestTable::create_with_schema(&app, "odd", fields, json!([]), json!({})).await;
    let bounds = [(f64::NAN, f64::NAN), (f64::NAN, 9.0), (9.0, 1.0), (1.0, f64::NAN)];
    for (i, (low, high)) in bounds.into_iter().enumerate() {
        let x: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 9.0]));
        let mut file = lake.data_file(vec![longs([i as i64; 2]), x], []).await;
        let bound = |v: f64| Some([(2, BoundBytes::new(v.to_le_bytes().to_vec()))].into_iter().collect());
        (file.lower_bounds, file.upper_bounds) = (bound(low), bound(high));
        file.nan_value_counts = Some([(2, 0)].into_iter().collect());
        lake.add([file], []).await;
    }
    for condition in ["x < 2", "x > 8", "x = 9", "x <= 1", "x >= 9", "x = 1"] {
        let found = lake.query(&format!("SELECT id FROM lake.odd WHERE {condition} ORDER BY id")).await;
        assert_eq!(found, [["0"], ["1"], ["2"], ["3"]], "{condition}");
    }
    let plan = lake.plan_scan(json!({"filter": {"type": "lt", "term": "x", "value": 2.0}})).await;
    assert_eq!(plan["file-scan-tasks"].as_array().map(Vec::len), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn planned_scans_say_the_row_ids_that_files_inherit() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "lineage", 3, false, json!({})).await;
    let row = |id: i64| (id, "x".to_owned(), 0, None);
    lake.append(&[row(1), row(2), row(3)]).await;
    let first = lake.metadata().await.current_snapshot_id;
    lake.append(&[row(4)]).await;
    let ids = |plan: Value| -> Vec<(u64, i64)> {
        let tasks = plan["file-scan-tasks"].as_array().expect("tasks").iter();
        let one = |task: &Value| {
            let file = &task["data-file"];
            (file["record-count"].as_u64().expect("a count"), file["first-row-id"].as_i64().expect("a row id"))
        };
        let mut ids: Vec<_> = tasks.map(one).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(lake.plan_scan(json!({})).await), [(1, 3), (3, 0)]);
    let last = lake.metadata().await.current_snapshot_id;
    assert_eq!(ids(lake.plan_scan(json!({"start-snapshot-id": first, "end-snapshot-id": last})).await), [(1, 3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_two_deletion_vectors_is_not_read_as_if_it_had_one() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "twice", 3, false, json!({})).await;
    lake.append(&[(1, "a".to_owned(), 0, None), (2, "b".to_owned(), 0, None)]).await;
    lake.delete_by_position(&[1].into(), PositionDeleteScope::File).await;
    let metadata = lake.metadata().await;
    let vector = lake.live(&metadata).await.deletes.remove(0).entry.file;
    lake.add([], [vector.clone()]).await;
    let data = vector.referenced_data_file.expect("a data file");
    let error = app.sql("SELECT * FROM lake.twice").await.expect_err("which one counts is unknown");
    assert!(error.contains(&data) && error.contains("two deletion vectors"), "{error}");
    // Metadata tables and health still work.
    assert_eq!(lake.query("SELECT count(*) FROM lake.\"twice$files\"").await, [["3"]]);
    app.ok(Method::GET, &lake.management_path("health"), None).await;
}

/// Spec: "Data File Fields": `referenced_data_file` is required for deletion vectors.
#[tokio::test(flavor = "multi_thread")]
async fn rows_do_not_come_back_if_a_deletion_vector_names_no_data_file() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "unnamed", 3, false, json!({})).await;
    lake.append(&[(1, "a".to_owned(), 0, None), (2, "b".to_owned(), 0, None)]).await;
    lake.delete_by_position(&[1].into(), PositionDeleteScope::File).await;
    let metadata = lake.metadata().await;
    let mut vector = lake.live(&metadata).await.deletes.remove(0).entry.file;
    vector.referenced_data_file = None;
    lake.add([], [vector.clone()]).await;
    let error = app.sql("SELECT * FROM lake.unnamed").await.expect_err("whose rows it deletes is unknown");
    assert!(error.contains(&vector.file_path) && error.contains("referenced_data_file"), "{error}");
    app.ok(Method::GET, &lake.management_path("health"), None).await;
}
