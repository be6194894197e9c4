//! Tables that are legal but rare, or slightly illegal: Esker uses what it understands, and names what it does not.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryArray, Int64Array, ListArray, StringArray, StructArray, TimestampNanosecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use esker_format::{AvroCodec, DataContentType, DataFile, DataFileFormat, ManifestListWriter, NewManifestList, Value as Cell};
use esker_tests::{TestApp, TestTable};
use esker_types::now_ms;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

fn succeeded(job: &Value) {
    assert_eq!(job["state"], "succeeded", "{job}");
}

async fn metadata_of(app: &TestApp, lake: &TestTable<'_>) -> Value {
    app.ok(Method::GET, &lake.path(), None).await["metadata"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_uuids_and_nanoseconds_under_odd_names_are_like_any_other() {
    let app = TestApp::start().await;
    let optional = |id: i32, name: &str, ty: &str| json!({"id": id, "name": name, "required": false, "type": ty});
    let fields = json!([optional(1, "id", "long"), optional(2, "u-id", "uuid"), optional(3, "1 at", "timestamp_ns")]);
    let part = |at: i32, source: i32, name: &str, transform: &str| json!({"source-id": source, "field-id": 1000 + at, "name": name, "transform": transform});
    let spec = json!([
        part(0, 2, "u-id", "identity"),
        part(1, 3, "1 at", "identity"),
        part(2, 3, "stunde \u{fc}ber", "hour"),
        part(3, 3, "1 at_day", "day"),
    ]);
    let lake = TestTable::create_with_schema(&app, "t", fields, spec, json!({"format-version": "3"})).await;
    let (uuids, noon) = ([Uuid::from_u128(7), Uuid::from_u128(u128::MAX)], 1_718_452_800_000_000_001_i64);
    for i in 0..4_i64 {
        let (uuid, at) = (uuids[i as usize % 2], noon + i % 2 * 3_600_000_000_000);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![i, i + 10])),
            Arc::new(FixedSizeBinaryArray::try_from_iter([uuid.as_bytes(); 2].into_iter()).expect("uuids")),
            Arc::new(TimestampNanosecondArray::from(vec![at; 2])),
        ];
        let (hour, day) = ((at / 3_600_000_000_000) as i32, (at / 86_400_000_000_000) as i32);
        let partition = [Cell::Uuid(uuid), Cell::TimestampNs(at), Cell::Int(hour), Cell::Date(day)].map(Some);
        lake.add([lake.data_file(columns, partition).await], []).await;
    }
    let first = format!("SELECT id FROM lake.t WHERE \"u-id\" = '{}' ORDER BY id", uuids[0]);
    let check = async |files: usize, ids: &[&str]| {
        assert_eq!(lake.query(&first).await.concat(), ids);
        assert_eq!(lake.query("SELECT count(*), max(\"1 at\") FROM lake.t").await[0][1], "2024-06-15T13:00:00.000000001");
        assert_eq!(lake.data_files().await.len(), files);
        assert_eq!(lake.query("SELECT count(*) FROM lake.\"t$partitions\"").await, [["2"]]);
    };
    check(4, &["0", "2", "10", "12"]).await;
    let planned = lake.plan_scan(json!({"filter": {"type": "eq", "term": "u-id", "value": uuids[0].to_string()}})).await;
    assert_eq!(planned["file-scan-tasks"].as_array().map(Vec::len), Some(2), "{planned}");
    succeeded(&lake.run_job("manifests", json!({"rewrite-all": true})).await);
    let job = lake.compact(json!({"rewrite-all": true, "verify": "full", "courtesy-seconds": 0})).await;
    succeeded(&job);
    assert_eq!((&job["outcome"]["groups"], &job["outcome"]["files_out"]), (&json!(2), &json!(2)), "{job}");
    check(2, &["0", "2", "10", "12"]).await;
    assert_eq!(lake.query("DELETE FROM lake.t WHERE id = 2").await, [["1"]]);
    assert_eq!(lake.query("INSERT INTO lake.t SELECT id + 100, \"u-id\", \"1 at\" FROM lake.t WHERE id = 0").await, [["1"]]);
    check(3, &["0", "10", "12", "100"]).await;
    succeeded(&lake.run_job("statistics", json!({})).await);
    let job = lake.run_job("check", json!({"files": true})).await;
    assert_eq!(job["outcome"]["findings"], json!([]), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_a_type_that_nobody_knows_yet_is_named_and_costs_no_other() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    for id in 0..3 {
        lake.append(&[(id, format!("s{id}"), 0, None)]).await;
    }
    let mut metadata = metadata_of(&app, &lake).await;
    metadata["schemas"][0]["fields"][1]["type"] = "future(3)".into();
    lake.replace_metadata(&metadata).await;
    assert_eq!(metadata_of(&app, &lake).await["schemas"], metadata["schemas"], "it is served as it is");
    assert_eq!(lake.query("SELECT id, p FROM lake.t WHERE id > 0 ORDER BY id").await, [["1", "0"], ["2", "0"]]);
    let error = app.sql("SELECT s FROM lake.t").await.expect_err("nobody can read it");
    assert!(error.contains("future(3)"), "{error}");
    let (status, body) = app.send(Method::POST, &lake.management_path("compact"), Some(json!({"rewrite-all": true}))).await;
    assert!(status.is_client_error() && body.to_string().contains("column s: values of type future(3)"), "{status} {body}");
    // Jobs and commits that do not read the column still work.
    lake.update(json!([{"action": "set-properties", "updates": {"a": "b"}}])).await;
    succeeded(&lake.run_job("manifests", json!({"rewrite-all": true})).await);
    succeeded(&lake.run_job("expire", json!({"retain-last": 1, "older-than-ms": now_ms() + 1000})).await);
    app.ok(Method::GET, &lake.management_path("health"), None).await;
    assert_eq!(metadata_of(&app, &lake).await["schemas"], metadata["schemas"], "and written back as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_that_say_nothing_of_themselves_are_read_and_maintained() {
    let app = TestApp::start().await;
    for version in [1, 2, 3] {
        let lake = TestTable::create(&app, &format!("v{version}"), version, false, json!({})).await;
        for id in 0..3 {
            lake.append(&[(id, format!("s{id}"), 0, None)]).await;
        }
        let rows = lake.rows().await;
        let mut metadata = metadata_of(&app, &lake).await;
        let snapshots = metadata["snapshots"].as_array_mut().expect("snapshots");
        for (i, snapshot) in snapshots.iter_mut().enumerate() {
            let snapshot = snapshot.as_object_mut().expect("a snapshot");
            snapshot.remove("schema-id");
            match i {
                0 => drop(snapshot.insert("summary".to_owned(), json!({"who": "a test"}))),
                _ => drop(snapshot.remove("summary")),
            }
        }
        lake.replace_metadata(&metadata).await;
        assert_eq!(lake.rows().await, rows);
        assert_eq!(lake.query(&format!("SELECT count(*) FROM lake.\"v{version}$snapshots\"")).await, [["3"]]);
        let (status, page) = app.send(Method::GET, &format!("/warehouses/default/namespaces/lake/tables/v{version}"), None).await;
        assert!(status.is_success(), "{page}");
        let first = &metadata["snapshots"][0]["snapshot-id"];
        let plan = lake.plan_scan(json!({"snapshot-id": first, "use-snapshot-schema": true})).await;
        assert_eq!(plan["file-scan-tasks"].as_array().map(Vec::len), Some(1), "{plan}");
        succeeded(&lake.compact(json!({"rewrite-all": true, "courtesy-seconds": 0})).await);
        succeeded(&lake.run_job("expire", json!({"retain-last": 1, "older-than-ms": now_ms() + 1000})).await);
        assert_eq!(lake.rows().await, rows);
        assert_eq!(lake.metadata().await.snapshots.len(), 1);
    }
}

/// Clients can make a column with nulls required, or add a required column without a default, if they allow incompatible changes.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_lack_what_their_schema_requires_are_read_and_maintained() {
    let app = TestApp::start().await;
    for name in ["kept", "removed", "never"] {
        let fields = json!([
            {"id": 1, "name": "id", "required": true, "type": "long"},
            {"id": 2, "name": "s", "required": false, "type": "string"},
            {"id": 3, "name": "o", "required": false, "type": {"type": "struct", "fields": [
                {"id": 4, "name": "x", "required": false, "type": "long"}]}},
        ]);
        let lake = TestTable::create_with_schema(&app, name, fields, json!([]), json!({"format-version": "2"})).await;
        let schema = lake.arrow_schema().await;
        for i in 0..3_i64 {
            let DataType::Struct(inner) = schema.field(2).data_type() else { panic!("{schema}") };
            let x: ArrayRef = Arc::new(Int64Array::from(vec![Some(i), None]));
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from(vec![i, i + 10])),
                Arc::new(StringArray::from(vec![Some("a"), None])),
                Arc::new(StructArray::new(inner.clone(), vec![x], None)),
            ];
            lake.add([lake.data_file(columns, []).await], []).await;
        }
        let mut metadata = metadata_of(&app, &lake).await;
        let mut new = metadata["schemas"][0].clone();
        new["schema-id"] = 1.into();
        new["fields"][1]["required"] = true.into();
        new["fields"][2]["type"]["fields"][0]["required"] = true.into();
        new["fields"].as_array_mut().expect("fields").push(json!({"id": 5, "name": "n", "required": true, "type": "int"}));
        metadata["schemas"].as_array_mut().expect("schemas").push(new.clone());
        (metadata["current-schema-id"], metadata["last-column-id"]) = (1.into(), 5.into());
        if name == "removed" {
            metadata["schemas"] = json!([new]);
            metadata["snapshots"].as_array_mut().expect("snapshots").iter_mut().for_each(|s| s["schema-id"] = 1.into());
        }
        if name == "never" {
            // The table always had this one schema, and a writer did not check its rows against it.
            new["fields"][2]["type"]["fields"][0]["required"] = false.into();
            new["fields"][3]["required"] = false.into();
            new["schema-id"] = 0.into();
            metadata["schemas"] = json!([new]);
            metadata["current-schema-id"] = 0.into();
        }
        lake.replace_metadata(&metadata).await;
        let check = async || {
            let all = lake.query(&format!("SELECT id, s, o['x'], n FROM lake.{name} ORDER BY id")).await;
            assert_eq!(all.len(), 6);
            assert_eq!([&all[0], &all[5]], [&["0", "a", "0", "NULL"], &["12", "NULL", "NULL", "NULL"]]);
            let counted = lake.query(&format!("SELECT count(*), count(s), count(o['x']), count(n) FROM lake.{name}")).await;
            assert_eq!(counted, [["6", "3", "3", "0"]]);
            let nulls = format!("SELECT id FROM lake.{name} WHERE s IS NULL AND n IS NULL AND o['x'] IS NULL ORDER BY id");
            assert_eq!(lake.query(&nulls).await.concat(), ["10", "11", "12"]);
        };
        check().await;
        let nullable = format!(
            "SELECT is_nullable FROM information_schema.columns WHERE table_name = '{name}' AND column_name IN ('id', 's')"
        );
        assert_eq!(lake.query(&nullable).await.concat(), ["NO", "NO"]);
        let answer = app.sql(&format!("SELECT id, s FROM lake.{name}")).await.expect("rows");
        let marks = |field: &Arc<Field>| field.metadata().keys().any(|key| key.starts_with("esker."));
        assert!(!answer[0].schema().fields().iter().any(marks), "they are the server's own");
        succeeded(&lake.run_job("statistics", json!({})).await);
        let job = lake.run_job("check", json!({"files": true})).await;
        succeeded(&job);
        let findings = job["outcome"]["findings"].as_array().expect("findings");
        assert!(findings.iter().all(|finding| finding["kind"] == "null-in-required"), "{job}");
        assert_eq!(findings.len(), if name == "never" { 3 } else { 6 }, "{job}");
        for how in [json!({}), json!({"strategy": "sort", "sort-order": "s DESC"})] {
            let mut options = json!({"rewrite-all": true, "verify": "full", "courtesy-seconds": 0});
            options.as_object_mut().expect("options").extend(how.as_object().expect("options").clone());
            let job = lake.compact(options).await;
            succeeded(&job);
            assert_eq!((&job["outcome"]["files_out"], &job["outcome"]["refused"]), (&json!(1), &json!([])), "{job}");
            check().await;
        }
        // New rows are checked against the schema.
        let refused = app.sql(&format!("INSERT INTO lake.{name} (id, s, n) VALUES (100, NULL, 1)")).await.expect_err("refused");
        assert!(refused.contains("column s"), "{refused}");
        assert_eq!(lake.query(&format!("DELETE FROM lake.{name} WHERE s IS NULL")).await, [["3"]]);
        assert_eq!(lake.query(&format!("SELECT id FROM lake.{name} ORDER BY id")).await.concat(), ["0", "1", "2"]);
    }
}

/// Esker has no keys. It reports an encrypted snapshot as such, and not as damaged.
#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_snapshot_of_before_is_noted_and_is_no_damage() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 3, false, json!({})).await;
    for id in 0..3 {
        lake.append(&[(id, format!("s{id}"), 0, None)]).await;
    }
    let rows = lake.rows().await;
    let mut metadata = metadata_of(&app, &lake).await;
    metadata["encryption-keys"] = json!([{"key-id": "k", "encrypted-key-metadata": "AA=="}]);
    metadata["snapshots"][0]["key-id"] = "k".into();
    let list = metadata["snapshots"][0]["manifest-list"].as_str().expect("a list").to_owned();
    lake.replace_metadata(&metadata).await;
    assert_eq!(lake.rows().await, rows);
    let job = lake.run_job("check", json!({"files": true})).await;
    succeeded(&job);
    assert_eq!(job["outcome"]["findings"], json!([]), "{job}");
    let notes = job["outcome"]["notes"].as_array().expect("notes");
    let of_list = notes.iter().filter_map(Value::as_str).any(|note| note.contains(&list) && note.contains("is encrypted"));
    assert!(of_list, "{job}");
    let health = app.ok(Method::GET, &lake.management_path("health"), None).await;
    assert!(!health.to_string().contains("damage"), "{health}");
    succeeded(&lake.compact(json!({"rewrite-all": true, "courtesy-seconds": 0})).await);
    assert_eq!(lake.rows().await, rows);
}

/// `add_files` adds a file twice if its check is off. Every reader sees the rows twice, also after each job.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_added_twice_keeps_its_rows_twice() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    lake.append(&[(0, "a".to_owned(), 0, None), (1, "b".to_owned(), 0, None)]).await;
    let file = lake.data_files().await.remove(0);
    lake.add([file.clone()], []).await;
    lake.append(&[(2, "c".to_owned(), 0, None)]).await;
    lake.append(&[(3, "d".to_owned(), 0, None)]).await;
    let ids = async || lake.query("SELECT id FROM lake.t ORDER BY id").await.concat();
    let all = ["0", "0", "1", "1", "2", "3"];
    assert_eq!(ids().await, all);
    let job = lake.run_job("check", json!({})).await;
    let findings = &job["outcome"]["findings"];
    assert_eq!((findings.as_array().map(Vec::len), &findings[0]["kind"]), (Some(1), &json!("repeated-file")), "{job}");
    let job = lake.compact(json!({"rewrite-all": true, "courtesy-seconds": 0})).await;
    succeeded(&job);
    assert_eq!((&job["outcome"]["files_in"], &job["plan"]["left_alone"][0]["files"]), (&json!(2), &json!(2)), "{job}");
    assert_eq!(ids().await, all);
    succeeded(&lake.run_job("manifests", json!({"rewrite-all": true})).await);
    assert_eq!(ids().await, all);
    assert_eq!(lake.query("DELETE FROM lake.t WHERE id = 0").await, [["2"]]);
    assert_eq!(ids().await, ["1", "1", "2", "3"]);
    assert_eq!(lake.query("DELETE FROM lake.t WHERE id = 1").await, [["2"]]);
    assert_eq!(ids().await, ["2", "3"]);
}

/// The counts of files in a manifest list are statistics that may be wrong; they must not decide which manifests are read.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_said_to_be_empty_keeps_its_files() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    for id in 0..3 {
        lake.append(&[(id, format!("s{id}"), 0, None)]).await;
    }
    let mut metadata = metadata_of(&app, &lake).await;
    let snapshot = metadata["snapshots"][2].clone();
    let list = snapshot["manifest-list"].as_str().expect("a list");
    let storage = app.catalog().storage();
    let mut manifests = esker_format::read_manifest_list(&storage.read(list).await.expect("read")).expect("a list");
    (manifests[0].added_files_count, manifests[0].added_rows_count) = (Some(0), Some(0));
    let mut writer = ManifestListWriter::new(NewManifestList {
        format_version: 2,
        snapshot_id: snapshot["snapshot-id"].as_i64().expect("an id"),
        parent_snapshot_id: None,
        sequence_number: 3,
        first_row_id: None,
        codec: AvroCodec::Deflate,
    })
    .expect("a writer");
    manifests.iter().for_each(|manifest| writer.add(manifest).expect("added"));
    let other = list.replace(".avro", "-other.avro");
    storage.write(&other, writer.finish().expect("a list").into()).await.expect("written");
    metadata["snapshots"][2]["manifest-list"] = other.into();
    lake.replace_metadata(&metadata).await;

    let ids = async || lake.query("SELECT id FROM lake.t ORDER BY id").await.concat();
    assert_eq!(ids().await, ["0", "1", "2"]);
    let job = lake.run_job("check", json!({})).await;
    let findings = &job["outcome"]["findings"];
    assert_eq!((findings.as_array().map(Vec::len), &findings[0]["kind"]), (Some(1), &json!("wrong-file-count")), "{job}");
    lake.append(&[(3, "d".to_owned(), 0, None)]).await;
    assert_eq!(lake.query("INSERT INTO lake.t VALUES (4, 'e', 0)").await, [["1"]]);
    assert_eq!(ids().await, ["0", "1", "2", "3", "4"]);
    assert_eq!(lake.run_job("check", json!({})).await["outcome"]["findings"], json!([]), "it is counted anew");
    succeeded(&lake.compact(json!({"rewrite-all": true, "courtesy-seconds": 0})).await);
    assert_eq!(ids().await, ["0", "1", "2", "3", "4"]);
}

/// Java refuses such a table. The rows that other readers see stay, and operations that would have to choose are refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_main_is_not_what_readers_see_loses_nothing() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    for id in 0..3 {
        lake.append(&[(id, format!("s{id}"), 0, None)]).await;
    }
    let rows = lake.rows().await;
    let mut metadata = metadata_of(&app, &lake).await;
    metadata["refs"]["main"]["snapshot-id"] = metadata["snapshots"][0]["snapshot-id"].clone();
    lake.replace_metadata(&metadata).await;
    assert_eq!(lake.rows().await, rows);
    succeeded(&lake.run_job("expire", json!({"retain-last": 1, "older-than-ms": now_ms() + 1000})).await);
    assert_eq!((lake.rows().await, lake.metadata().await.snapshots.len()), (rows.clone(), 2));
    let refused = app.sql("INSERT INTO lake.t VALUES (9, 'x', 0)").await.expect_err("refused");
    assert!(refused.contains("refs has main at snapshot"), "{refused}");
    let current = metadata["current-snapshot-id"].clone();
    let main = json!([{"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": current}]);
    lake.update(main).await;
    succeeded(&lake.compact(json!({"rewrite-all": true, "courtesy-seconds": 0})).await);
    assert_eq!(lake.rows().await, rows);
}

/// Encodes a Parquet file whose text column has no UTF-8 annotation, as some writers leave it out. `bytes` are its values.
fn unmarked(bytes: &[&[u8]]) -> Vec<u8> {
    let message = "message m { required int64 id = 1; required binary s = 2; required int32 p = 3; }";
    let root = Arc::new(parse_message_type(message).expect("a schema"));
    let mut writer = SerializedFileWriter::new(Vec::new(), root, Arc::default()).expect("a writer");
    let mut group = writer.next_row_group().expect("a row group");
    while let Some(mut column) = group.next_column().expect("a column") {
        let written = match column.untyped() {
            ColumnWriter::Int64ColumnWriter(w) => w.write_batch(&(0..bytes.len() as i64).collect::<Vec<_>>(), None, None),
            ColumnWriter::Int32ColumnWriter(w) => w.write_batch(&vec![0; bytes.len()], None, None),
            ColumnWriter::ByteArrayColumnWriter(w) => {
                let values: Vec<ByteArray> = bytes.iter().map(|text| text.to_vec().into()).collect();
                w.write_batch(&values, None, None)
            }
            _ => panic!("no such column"),
        };
        written.expect("written");
        column.close().expect("closed");
    }
    group.close().expect("closed");
    writer.into_inner().expect("a file")
}

/// Hive, Impala and early Spark do not annotate text as UTF-8. Valid UTF-8 is read; other bytes are an error, not a crash.
#[tokio::test(flavor = "multi_thread")]
async fn text_that_a_file_does_not_mark_is_read_and_checked() {
    let app = TestApp::start().await;
    for (name, texts) in [("good", [b"\xc3\xa4b".as_slice(), b"c"]), ("bad", [b"a\xff".as_slice(), b"c"])] {
        let lake = TestTable::create(&app, name, 2, false, json!({})).await;
        let path = format!("{}/data/{name}.parquet", lake.metadata().await.location);
        let file = unmarked(&texts);
        let size = file.len() as i64;
        app.catalog().storage().write(&path, file.into()).await.expect("written");
        lake.add([DataFile::new(DataContentType::Data, path.clone(), DataFileFormat::Parquet, 2, size)], []).await;
        for sql in ["SELECT upper(s), substr(s, 2, 1), reverse(s)", "SELECT *", "SELECT id", "SELECT count(*)"] {
            let sql = format!("{sql} FROM lake.{name} WHERE s > 'a'");
            match app.sql(&sql).await {
                Ok(_) => assert_eq!(name, "good", "{sql}"),
                Err(error) => assert!(name == "bad" && error.contains("bad.parquet"), "{sql}: {error}"),
            }
        }
        if name == "good" {
            assert_eq!(lake.query("SELECT upper(s), length(s) FROM lake.good ORDER BY id").await, [["ÄB", "2"], ["C", "1"]]);
        }
    }
}

/// Java refuses such a table. The next sequence number must exceed those of all snapshots, or their deletes would hide its rows.
#[tokio::test(flavor = "multi_thread")]
async fn new_rows_are_newer_than_all_deletes_though_the_table_does_not_say_so() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    lake.append(&[(1, "a".to_owned(), 0, None), (2, "b".to_owned(), 0, None)]).await;
    lake.upsert(&[(1, 0)], &[]).await;
    let mut metadata = metadata_of(&app, &lake).await;
    metadata["last-sequence-number"] = 0.into();
    lake.replace_metadata(&metadata).await;
    assert_eq!(lake.query("INSERT INTO lake.t VALUES (1, 'x', 0), (5, 'y', 0)").await, [["2"]]);
    assert_eq!(lake.query("SELECT id FROM lake.t ORDER BY id").await.concat(), ["1", "2", "5"]);
    assert_eq!(lake.metadata().await.last_sequence_number, 3);
}

/// Items of a list are found by field id, as all fields are. An element with another id is not part of the list.
#[tokio::test(flavor = "multi_thread")]
async fn items_of_another_element_are_null() {
    let app = TestApp::start().await;
    let list = |element: i32| json!({"type": "list", "element-id": element, "element": "long", "element-required": false});
    let fields = json!([{"id": 1, "name": "l", "required": false, "type": list(2)}]);
    let lake = TestTable::create_with_schema(&app, "t", fields, json!([]), json!({"format-version": "2"})).await;
    let schema = lake.arrow_schema().await;
    let DataType::List(item) = schema.field(0).data_type() else { panic!("{schema}") };
    let items: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let column: ArrayRef = Arc::new(ListArray::new(item.clone(), OffsetBuffer::from_lengths([2, 1]), items, None));
    lake.add([lake.data_file(vec![column], []).await], []).await;
    assert_eq!(lake.query("SELECT l FROM lake.t ORDER BY l").await.concat(), ["[1, 2]", "[3]"]);
    let mut metadata = metadata_of(&app, &lake).await;
    metadata["schemas"][0]["fields"][0]["type"] = list(9);
    metadata["last-column-id"] = 9.into();
    lake.replace_metadata(&metadata).await;
    let nulls = async || {
        let rows = lake.query("SELECT array_length(l), l[1] FROM lake.t ORDER BY 1").await;
        assert_eq!(rows, [["1", "NULL"], ["2", "NULL"]]);
    };
    nulls().await;
    succeeded(&lake.compact(json!({"rewrite-all": true, "verify": "full", "courtesy-seconds": 0})).await);
    nulls().await;
}
