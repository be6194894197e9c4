//! Check jobs on tables with crafted damage, as earlier versions left it: a check finds it, names the job, and changes nothing.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, SchemaRef};
use esker_format::{DataContentType, DataFile, DataFileFormat, Value as Cell};
use esker_tests::{Faults, PositionDeleteScope, TestApp, TestTable};
use esker_types::{JobId, now_ms};
use parquet::arrow::ArrowWriter;
use reqwest::Method;
use roaring::RoaringTreemap;
use serde_json::{Value, json};

async fn check(lake: &TestTable<'_>, options: Value) -> Value {
    let job = lake.run_job("check", options).await;
    assert_eq!((&job["kind"], &job["state"]), (&json!("check"), &json!("succeeded")), "{job}");
    job["outcome"].clone()
}

fn kinds(outcome: &Value) -> Vec<String> {
    let findings = outcome["findings"].as_array().expect("findings");
    findings.iter().map(|f| f["kind"].as_str().expect("a kind").to_owned()).collect()
}

/// Returns the only finding of a check's outcome.
fn one(outcome: &Value) -> Value {
    let findings = outcome["findings"].as_array().expect("findings");
    assert_eq!(findings.len(), 1, "{outcome}");
    findings[0].clone()
}

/// Returns rows with the given ids and partition values.
async fn rows(lake: &TestTable<'_>, ids: std::ops::Range<i64>, p: &[Option<i32>]) -> RecordBatch {
    let n = ids.clone().count();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids)),
        Arc::new(StringArray::from(vec!["x"; n])),
        Arc::new(Int32Array::from(p.to_vec())),
    ];
    RecordBatch::try_new(lake.arrow_schema().await, columns).expect("a batch")
}

/// Returns the name of a data file that a compaction job of Esker writes.
fn compacted(job: JobId) -> String {
    format!("compacted-{job}-1-0-0.parquet")
}

async fn snapshots(lake: &TestTable<'_>) -> usize {
    lake.metadata().await.snapshots.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_table_has_no_findings_and_is_not_changed() {
    let app = TestApp::start().await;
    for version in [1, 2, 3] {
        let lake = TestTable::create(&app, &format!("v{version}"), version, true, json!({})).await;
        for n in 0..3_i64 {
            lake.append(&[(n * 2, "a".to_owned(), 1, None), (n * 2 + 1, "b".to_owned(), 2, None)]).await;
        }
        if version > 1 {
            lake.delete_by_position(&[1].into(), PositionDeleteScope::File).await;
            lake.upsert(&[(2, 1)], &[]).await;
        }
        lake.compact(json!({"courtesy-seconds": 0, "min-input-files": 2, "partition": "p=2"})).await;
        let (before, rows) = (snapshots(&lake).await, lake.rows().await);
        for options in [json!({}), json!({"files": true})] {
            let outcome = check(&lake, options).await;
            assert_eq!((&outcome["findings"], &outcome["notes"]), (&json!([]), &json!([])), "{version}: {outcome}");
            assert!(outcome["files"].as_u64() >= Some(3), "{outcome}");
        }
        assert_eq!((snapshots(&lake).await, lake.rows().await), (before, rows));
    }
}

/// One file has rows of two partitions. An earlier compaction wrote such files, because it identified partitions by their labels.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_contradict_their_partition_are_found_counted_and_shown() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, true, json!({})).await;
    lake.append(&[(0, "a".to_owned(), 1, None)]).await;
    let job = JobId::fresh();
    let batch = rows(&lake, 10..15, &[Some(1), Some(2), Some(2), None, Some(1)]).await;
    let mut merged = lake.write(&compacted(job), &batch).await;
    merged.partition = [Some(Cell::Int(1))].into();
    lake.add([merged], []).await;
    let found = one(&check(&lake, json!({})).await);
    assert_eq!(
        (&found["kind"], &found["rows"], &found["certain"]),
        (&json!("wrong-partition"), &json!(3), &json!(true)),
        "{found}"
    );
    assert_eq!((&found["column"], &found["sample"]), (&json!("p"), &json!(["2", "NULL"])), "{found}");
    assert_eq!(found["job"], json!(job), "{found}");
    assert!(found["undo"].as_str().expect("text").contains("record"), "{found}");
    assert!(found["what"].as_str().expect("text").contains("p = 1"), "{found}");
}

/// NULL is its own partition: a row with a value does not belong to it, nor a row with NULL to another.
#[tokio::test(flavor = "multi_thread")]
async fn the_partition_of_null_and_that_of_a_value_are_told_apart() {
    let app = TestApp::start().await;
    for (name, value, p) in [("null", None, Some(7)), ("seven", Some(Cell::Int(7)), None)] {
        let lake = TestTable::create(&app, name, 2, true, json!({})).await;
        let batch = rows(&lake, 0..2, &[p, p]).await;
        let mut file = lake.write(&compacted(JobId::fresh()), &batch).await;
        file.partition = [value].into();
        lake.add([file], []).await;
        let found = one(&check(&lake, json!({})).await);
        assert_eq!((&found["kind"], &found["rows"]), (&json!("wrong-partition"), &json!(2)), "{found}");
    }
}

/// A check reads a file of another writer, whose statistics prove nothing, only with the option to read all files.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_other_writers_are_read_if_asked_to() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, true, json!({})).await;
    let batch = rows(&lake, 0..3, &[Some(1), Some(2), Some(1)]).await;
    let mut file = lake.write("other.parquet", &batch).await;
    file.partition = [Some(Cell::Int(1))].into();
    lake.add([file], []).await;
    let outcome = check(&lake, json!({})).await;
    assert_eq!(outcome["findings"], json!([]));
    assert!(outcome["notes"].to_string().contains("--files"), "{outcome}");
    let found = one(&check(&lake, json!({"files": true})).await);
    assert_eq!((&found["kind"], &found["rows"], &found["job"]), (&json!("wrong-partition"), &json!(1), &Value::Null), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transform_is_checked_as_the_specification_computes_it() {
    let app = TestApp::start().await;
    app.ok(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": ["lake"]}))).await;
    // Spec: "Appendix B". The hash of the int 34 is 2017239379, so bucket[16] is 3.
    let values = [("bucket[16]", 3, 4), ("truncate[10]", 30, 40), ("identity", 34, 33)];
    for (i, (transform, right, wrong)) in values.into_iter().enumerate() {
        let fields = json!([{"id": 1, "name": "c", "required": false, "type": "int"}]);
        let spec = json!({"spec-id": 0, "fields": [{"source-id": 1, "field-id": 1000, "name": "part", "transform": transform}]});
        let create = json!({"name": format!("t{i}"), "schema": {"type": "struct", "fields": fields}, "partition-spec": spec});
        app.ok(Method::POST, "/v1/default/namespaces/lake/tables", Some(create)).await;
        let lake = TestTable::open(&app, &format!("t{i}"));
        for (value, name) in [(right, "right.parquet"), (wrong, "wrong.parquet")] {
            let column: ArrayRef = Arc::new(Int32Array::from(vec![34, 34]));
            let batch = RecordBatch::try_new(lake.arrow_schema().await, vec![column]).expect("a batch");
            let mut file = lake.write(name, &batch).await;
            file.partition = [Some(Cell::Int(value))].into();
            lake.add([file], []).await;
        }
        let found = one(&check(&lake, json!({"files": true})).await);
        assert!(found["path"].as_str().expect("a path").ends_with("wrong.parquet"), "{transform}: {found}");
        assert_eq!((&found["kind"], &found["rows"]), (&json!("wrong-partition"), &json!(2)), "{transform}: {found}");
    }
}

/// Creates a table with a column of doubles.
async fn with_doubles<'a>(app: &'a TestApp, name: &str) -> TestTable<'a> {
    app.send(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": ["lake"]}))).await;
    let fields = json!([
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "x", "required": false, "type": "double"},
    ]);
    let properties = json!({"esker.expire.min-age-ms": "0"});
    let create = json!({"name": name, "schema": {"type": "struct", "fields": fields}, "properties": properties});
    app.ok(Method::POST, "/v1/default/namespaces/lake/tables", Some(create)).await;
    TestTable::open(app, name)
}

async fn doubles(lake: &TestTable<'_>, name: &str, values: &[f64]) -> DataFile {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..values.len() as i64));
    let columns = vec![ids, Arc::new(Float64Array::from(values.to_vec())) as ArrayRef];
    lake.write(name, &RecordBatch::try_new(lake.arrow_schema().await, columns).expect("a batch")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_of_nan_that_the_file_contradicts_is_found_by_reading_it() {
    let app = TestApp::start().await;
    let lake = with_doubles(&app, "t").await;
    let mut file = doubles(&lake, &compacted(JobId::fresh()), &[1.0, f64::NAN, f64::NAN]).await;
    file.nan_value_counts = Some([(2, 0)].into_iter().collect());
    let mut right = doubles(&lake, "right.parquet", &[1.0, f64::NAN]).await;
    right.nan_value_counts = Some([(2, 1)].into_iter().collect());
    let mut unknown = doubles(&lake, "unknown.parquet", &[f64::NAN]).await;
    unknown.nan_value_counts = None;
    lake.add([file, right, unknown], []).await;
    let found = one(&check(&lake, json!({"files": true})).await);
    assert_eq!((&found["kind"], &found["rows"], &found["column"]), (&json!("nan-count"), &json!(2), &json!("x")), "{found}");
    assert!(found["repair"].as_str().expect("text").contains("splice=false"), "{found}");
}

/// A compaction's NaN count is checked by reading the column, and no other, if one of its input files had no count.
#[tokio::test(flavor = "multi_thread")]
async fn a_count_of_nan_is_looked_into_where_a_file_of_which_it_was_made_had_none() {
    let app = TestApp::start().await;
    let lake = with_doubles(&app, "t").await;
    for (name, counted) in [("a.parquet", None), ("b.parquet", Some([(2, 0)].into_iter().collect()))] {
        let mut file = doubles(&lake, name, &[1.0, 2.0]).await;
        file.nan_value_counts = counted;
        lake.add([file], []).await;
        assert_eq!(check(&lake, json!({})).await["rows"], 0, "no compaction wrote it");
    }
    let job = lake.compact(json!({"courtesy-seconds": 0, "rewrite-all": true, "min-input-files": 1})).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    let outcome = check(&lake, json!({})).await;
    assert_eq!((&outcome["rows"], &outcome["findings"]), (&json!(4), &json!([])), "{outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn null_in_place_of_a_nested_default_is_suspected_and_counted() {
    let app = TestApp::start().await;
    app.ok(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": ["lake"]}))).await;
    let inner = json!({"type": "struct", "fields": [
        {"id": 2, "name": "y", "required": false, "type": "int"},
        {"id": 3, "name": "x", "required": false, "type": "int", "initial-default": 100, "write-default": 100},
    ]});
    let fields = json!([{"id": 1, "name": "s", "required": false, "type": inner}]);
    let properties = json!({"format-version": "3", "esker.expire.min-age-ms": "0"});
    let create = json!({"name": "t", "schema": {"type": "struct", "fields": fields}, "properties": properties});
    app.ok(Method::POST, "/v1/default/namespaces/lake/tables", Some(create)).await;
    let lake = TestTable::open(&app, "t");
    let schema = lake.arrow_schema().await;
    let DataType::Struct(inner) = schema.field(0).data_type().clone() else { panic!("a struct") };
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(vec![1, 2, 3])), Arc::new(Int32Array::from(vec![None, Some(5), None]))];
    let structs: ArrayRef = Arc::new(StructArray::new(inner, columns, Some(vec![true, true, false].into())));
    let batch = RecordBatch::try_new(schema, vec![structs]).expect("a batch");
    let file = lake.write(&compacted(JobId::fresh()), &batch).await;
    lake.add([file], []).await;
    let other = lake.write("other.parquet", &batch).await;
    lake.add([other], []).await;
    assert_eq!(kinds(&check(&lake, json!({})).await), Vec::<String>::new(), "nothing was compacted into it");
    // After the expiry the metadata no longer tells which files the compaction replaced.
    let expired = lake.run_job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    assert_eq!(expired["outcome"]["snapshots"], 1, "{expired}");
    let found = one(&check(&lake, json!({})).await);
    assert_eq!(
        (&found["kind"], &found["column"], &found["rows"]),
        (&json!("lost-default"), &json!("s.x"), &Value::Null),
        "{found}"
    );
    let found = one(&check(&lake, json!({"files": true})).await);
    assert_eq!((&found["kind"], &found["rows"]), (&json!("lost-default"), &json!(1)), "its struct is not NULL: {found}");
}

/// The files that a compaction replaced tell which NULLs are right, as long as they exist.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_default_is_certain_while_the_older_files_are_there() {
    let app = TestApp::start().await;
    let int = |id: i32, name: &str| json!({"id": id, "name": name, "required": false, "type": "int"});
    let with = |fields: Value| json!([{"id": 1, "name": "s", "required": false, "type": {"type": "struct", "fields": fields}}]);
    let properties = json!({"format-version": "3", "write.metadata.metrics.column.s.x": "none"});
    let lake = TestTable::create_with_schema(&app, "t", with(json!([int(2, "y")])), json!([]), properties).await;
    let structs = |schema: &SchemaRef, columns: Vec<ArrayRef>| {
        let DataType::Struct(inner) = schema.field(0).data_type().clone() else { panic!("a struct") };
        let structs: ArrayRef = Arc::new(StructArray::new(inner, columns, Some(vec![true, true, false].into())));
        RecordBatch::try_new(schema.clone(), vec![structs]).expect("a batch")
    };
    let ys = || Arc::new(Int32Array::from(vec![1, 2, 3])) as ArrayRef;
    let schema = lake.arrow_schema().await;
    let older = lake.write("older.parquet", &structs(&schema, vec![ys()])).await;
    lake.add([older], []).await;
    let mut x = int(3, "x");
    (x["initial-default"], x["write-default"]) = (100.into(), 100.into());
    lake.evolve(with(json!([int(2, "y"), x]))).await;
    let schema = lake.arrow_schema().await;
    // Two NULLs in this file are right; one of them belongs to a struct that is NULL.
    let newer = structs(&schema, vec![ys(), Arc::new(Int32Array::from(vec![None, Some(5), None]))]);
    let newer = lake.write("newer.parquet", &newer).await;
    lake.add([newer], []).await;
    let job = lake.compact(json!({"rewrite-all": true, "courtesy-seconds": 0})).await;
    assert_eq!(job["outcome"]["files_in"], 2, "{job}");
    let found = one(&check(&lake, json!({"files": true})).await);
    assert_eq!((&found["certain"], &found["rows"]), (&json!(false), &json!(1)), "what was meant explains it: {found}");

    // Replaces the file by what an earlier version wrote: NULL in place of the default.
    let path = lake.data_files().await.remove(0).file_path.trim_start_matches("file://").to_owned();
    let six = Int32Array::from(vec![None, None, None, None, Some(5), None]);
    let DataType::Struct(inner) = schema.field(0).data_type().clone() else { panic!("a struct") };
    let both = vec![Arc::new(Int32Array::from(vec![1, 2, 3, 1, 2, 3])) as ArrayRef, Arc::new(six)];
    let both: ArrayRef = Arc::new(StructArray::new(inner, both, Some(vec![true, true, false, true, true, false].into())));
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema.clone(), None).expect("a writer");
    writer.write(&RecordBatch::try_new(schema, vec![both]).expect("a batch")).expect("written");
    writer.close().expect("closed");
    std::fs::write(path, bytes).expect("written");
    let app = TestApp::restart(app.stop().await).await;
    let outcome = check(&TestTable::open(&app, "t"), json!({"files": true})).await;
    let found = outcome["findings"].as_array().expect("findings").iter().find(|f| f["kind"] == "lost-default").expect("one");
    assert_eq!((&found["certain"], &found["rows"], &found["column"]), (&json!(true), &json!(2), &json!("s.x")), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_gone_cut_or_miscounted_are_found_beside_those_that_are_whole() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    let mut files = Vec::new();
    for name in ["gone", "cut", "miscounted", "whole", "empty"] {
        let batch = rows(&lake, 0..4, &[Some(0); 4]).await;
        let mut file = lake.write(&format!("{name}.parquet"), &batch).await;
        if name == "miscounted" {
            file.record_count = 5;
        }
        files.push(file);
    }
    lake.add(files.clone(), []).await;
    let path = |i: usize| files[i].file_path[7..].to_owned();
    std::fs::remove_file(path(0)).expect("removed");
    let bytes = std::fs::read(path(1)).expect("a file");
    std::fs::write(path(1), &bytes[..bytes.len() - 20]).expect("written");
    std::fs::write(path(4), b"").expect("emptied");
    for options in [json!({}), json!({"files": true})] {
        let outcome = check(&lake, options).await;
        let expected = ["missing-file", "wrong-size", "wrong-size", "unreadable-file", "unreadable-file", "wrong-record-count"];
        assert_eq!(kinds(&outcome), expected, "{outcome}");
        assert!(!outcome.to_string().contains("whole.parquet"), "{outcome}");
        assert_eq!(outcome["files"], 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_is_a_finding_and_the_others_are_looked_at() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    lake.append(&[(0, "a".to_owned(), 0, None)]).await;
    let damaged = lake.live(&lake.metadata().await).await.manifests[0].manifest_path.clone();
    lake.append(&[(1, "b".to_owned(), 0, None)]).await;
    // A running server has the manifest in its cache.
    let dir = app.stop().await;
    std::fs::write(&damaged[7..], b"no Avro").expect("written");
    let app = TestApp::restart(dir).await;
    let lake = TestTable::open(&app, "t");
    let outcome = check(&lake, json!({})).await;
    let found = one(&outcome);
    assert_eq!((&found["kind"], &found["path"]), (&json!("unreadable-manifest"), &json!(damaged)), "{found}");
    assert_eq!(outcome["files"], 1);
}

/// What the storage denies is a finding, and the rest of the table is checked.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_the_storage_denies_are_found_and_the_others_are_looked_at() {
    let faults = Faults::local();
    let app = TestApp::start_on(Arc::new(faults.clone()), |_| {}).await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    lake.append(&[(0, "a".to_owned(), 0, None)]).await;
    let metadata = lake.metadata().await;
    let list = metadata.current_snapshot().and_then(|s| s.manifest_list.clone()).expect("a manifest list");
    let earlier = lake.live(&metadata).await.manifests[0].manifest_path.clone();
    lake.append(&[(1, "b".to_owned(), 0, None)]).await;
    let live = lake.live(&lake.metadata().await).await;
    let newer = live.manifests.iter().find(|m| m.manifest_path != earlier).expect("another").manifest_path.clone();
    let data = live.data[0].file.file_path.clone();
    assert_eq!(check(&lake, json!({"files": true})).await["findings"], json!([]), "the server has read the manifests");
    for (path, kind) in [(list, "unreadable-snapshot"), (newer, "unreadable-manifest"), (data, "unreadable-file")] {
        faults.deny(path.rsplit('/').next().expect("a name"));
        let outcome = check(&lake, json!({"files": true})).await;
        faults.deny("");
        let found = one(&outcome);
        assert_eq!((&found["kind"], &found["path"], &outcome["files"]), (&json!(kind), &json!(path), &json!(2)), "{outcome}");
        assert!(found["what"].as_str().expect("text").contains("denies access"), "{found}");
    }
    assert_eq!(app.catalog().state().fleet().damage(app.catalog().warehouse()).await.expect("read").len(), 0);
}

/// A running server serves metadata from its cache, so only a check notices that the file is missing.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_is_gone_while_the_server_has_it_in_memory_is_found() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    lake.append(&[(0, "a".to_owned(), 0, None)]).await;
    lake.append(&[(1, "b".to_owned(), 0, None)]).await;
    let live = lake.live(&lake.metadata().await).await;
    let loaded = app.ok(Method::GET, &lake.path(), None).await;
    let metadata = loaded["metadata-location"].as_str().expect("a location").to_owned();
    let gone = std::collections::BTreeSet::from([metadata, live.manifests[0].manifest_path.clone()]);
    assert_eq!(check(&lake, json!({})).await["findings"], json!([]), "the server has read them");
    for path in &gone {
        std::fs::remove_file(&path[7..]).expect("removed");
    }
    let outcome = check(&lake, json!({})).await;
    let found = outcome["findings"].as_array().expect("findings").iter();
    let found = found.map(|f| f["path"].as_str().expect("a path").to_owned()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(found, gone, "{outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_vectors_of_a_file_and_deletes_about_no_file_or_no_rows_are_found() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 3, false, json!({})).await;
    lake.append(&(0..4).map(|id| (id, "a".to_owned(), 0, None)).collect::<Vec<_>>()).await;
    let about = lake.live(&lake.metadata().await).await.data[0].file.file_path.clone();
    let nowhere = format!("{about}.nowhere");
    let location = lake.metadata().await.location;
    let mut deletes = Vec::new();
    for (name, named) in [("a", Some(&about)), ("b", Some(&about)), ("c", Some(&nowhere)), ("d", None)] {
        let vector = (named.unwrap_or(&about).clone(), RoaringTreemap::from_iter([1_u64]));
        let (bytes, places) = esker_table::encode_puffin(&[vector]).expect("a file");
        let path = format!("{location}/data/{name}.puffin");
        std::fs::write(&path[7..], &bytes).expect("written");
        deletes.push(DataFile {
            referenced_data_file: named.cloned(),
            content_offset: Some(places[0].0 as i64),
            content_size_in_bytes: Some(places[0].1 as i64),
            ..DataFile::new(DataContentType::PositionDeletes, path, DataFileFormat::Puffin, 1, bytes.len() as i64)
        });
    }
    let without_ids = format!("{location}/data/e.parquet");
    std::fs::write(&without_ids[7..], "x").expect("written");
    deletes.push(DataFile::new(DataContentType::EqualityDeletes, without_ids, DataFileFormat::Parquet, 1, 1));
    lake.add([], deletes).await;
    let expected = ["unreadable-file", "unreadable-file", "two-vectors", "delete-without-file"];
    assert_eq!(kinds(&check(&lake, json!({})).await), expected);
}

/// Foreign and frozen tables are checked as well, because a check changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_frozen_tables_are_checked() {
    let app = TestApp::start().await;
    let created = app.table().await;
    let set = json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {"esker.freeze": "true"}}]});
    let frozen = app.ok(Method::POST, "/v1/default/namespaces/n/tables/t", Some(set)).await;
    assert_ne!(frozen["metadata-location"], created["metadata-location"]);
    assert_eq!(app.job("check", json!({})).await["state"], "succeeded");
    app.ok(Method::DELETE, "/v1/default/namespaces/n/tables/t", None).await;
    let register = json!({"name": "t", "metadata-location": frozen["metadata-location"]});
    app.ok(Method::POST, "/v1/default/namespaces/n/register", Some(register)).await;
    assert_eq!(app.job("check", json!({"files": true})).await["state"], "succeeded");
    let path = "/api/v1/warehouses/default/namespaces/n/tables/t/check";
    let (code, _, message) = app.refused(Method::POST, path, Some(json!({"branch": "nope"}))).await;
    assert!(code == 400 && message.contains("nope"), "{code} {message}");
}

/// The command prints the findings, and its exit status is not zero if there are any.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_fails_if_it_finds_something() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    lake.append(&[(0, "a".to_owned(), 0, None)]).await;
    let run = async || {
        let mut command = std::process::Command::new(crate::kills::binary());
        command.args(["check", "lake.t", "--url", &app.url(""), "--token", "a-token-for-tests"]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it ran");
        output.expect("the binary is built before the tests")
    };
    let sound = run().await;
    assert!(sound.status.success(), "{sound:?}");
    let path = lake.live(&lake.metadata().await).await.data[0].file.file_path[7..].to_owned();
    std::fs::remove_file(&path).expect("removed");
    let damaged = run().await;
    let said = String::from_utf8_lossy(&damaged.stdout);
    assert!(!damaged.status.success(), "{damaged:?}");
    assert!(said.contains("missing-file") && said.contains(&path) && said.contains("repair:"), "{said}");
}

/// Engines look up a manifest's partition spec and a snapshot's schema in the table's metadata, and fail if they are missing.
#[tokio::test(flavor = "multi_thread")]
async fn manifests_and_snapshots_whose_spec_or_schema_the_table_has_not_are_found() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, true, json!({})).await;
    lake.append(&[(0, "a".to_owned(), 1, None)]).await;
    let old = lake.metadata().await.current_snapshot().expect("a snapshot").clone();
    let spec = json!({"fields": []});
    lake.update(json!([{"action": "add-spec", "spec": spec}, {"action": "set-default-spec", "spec-id": -1}])).await;
    let manifest = lake.live(&lake.metadata().await).await.manifests[0].manifest_path.clone();
    let field = |id: i32, name: &str, ty: &str| json!({"id": id, "name": name, "required": false, "type": ty});
    let fields = [field(1, "id", "long"), field(2, "s", "string"), field(3, "p", "int"), field(4, "extra", "int")];
    lake.evolve(json!(fields)).await;
    lake.append(&[(1, "b".to_owned(), 2, None)]).await;
    assert_eq!(kinds(&check(&lake, json!({"files": true})).await), Vec::<String>::new());

    let loaded = app.ok(Method::GET, "/v1/default/namespaces/lake/tables/t", None).await;
    let mut metadata = loaded["metadata"].clone();
    for (list, key) in [("partition-specs", "spec-id"), ("schemas", "schema-id")] {
        metadata[list].as_array_mut().expect("a list").retain(|entry| entry[key] != 0);
    }
    lake.replace_metadata(&metadata).await;
    let outcome = check(&lake, json!({})).await;
    assert_eq!(kinds(&outcome), ["unknown-spec", "unknown-schema"], "{outcome}");
    let findings = outcome["findings"].as_array().expect("findings");
    assert_eq!(findings[0]["path"], json!(manifest));
    assert!(findings[0]["what"].as_str().expect("text").contains("partition spec 0"), "{outcome}");
    assert_eq!((&findings[1]["path"], &findings[1]["snapshot-id"]), (&json!(old.manifest_list), &json!(old.snapshot_id)));

    let back = json!({"action": "rollback", "snapshot-id": old.snapshot_id});
    let (code, _, message) = app.refused(Method::POST, &lake.management_path("refs"), Some(back)).await;
    assert!(code == 400 && message.contains("schema 0"), "nothing goes back there: {code} {message}");

    // main no longer refers to the manifest, but an earlier snapshot does.
    let mut parted = metadata.clone();
    let list = parted["snapshots"].as_array_mut().expect("snapshots");
    let newest = list.iter().find(|s| s["snapshot-id"] != old.snapshot_id).expect("the other").clone();
    list.retain(|s| s["snapshot-id"] == old.snapshot_id);
    parted["refs"] = json!({"old": {"snapshot-id": old.snapshot_id, "type": "branch"}});
    parted["snapshot-log"] = json!([]);
    parted["current-snapshot-id"] = json!(-1);
    parted["last-sequence-number"] = newest["sequence-number"].clone();
    lake.replace_metadata(&parted).await;
    lake.append(&[(2, "c".to_owned(), 2, None)]).await;
    assert_eq!(kinds(&check(&lake, json!({})).await), ["unknown-schema"]);
    assert_eq!(kinds(&check(&lake, json!({"files": true})).await), ["unknown-spec", "unknown-schema"]);
}
