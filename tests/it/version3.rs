//! Types and features of format version 3: shredded and unshredded variants, geometries and row ids, in SQL, jobs and plans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use esker_tests::{Row, TestApp, TestTable, text_cells};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::variant::{ShreddedSchemaBuilder, VariantArray, VariantArrayBuilder, VariantBuilderExt, VariantType, shred_variant};
use serde_json::{Value, json};

fn with_id(field: Field, id: i32) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
    field.with_metadata(metadata)
}

async fn table<'a>(app: &'a TestApp, name: &str, ty: Value) -> TestTable<'a> {
    let fields = json!([
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "v", "required": false, "type": ty},
    ]);
    TestTable::create_with_schema(app, name, fields, json!([]), json!({"format-version": "3"})).await
}

async fn rows(app: &TestApp, sql: &str) -> Vec<Vec<String>> {
    text_cells(&app.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")))
}

fn texts(expected: &[&[&str]]) -> Vec<Vec<String>> {
    expected.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
}

async fn refused(app: &TestApp, sql: &str, why: &str) {
    let error = app.sql(sql).await.expect_err(sql);
    assert!(error.contains(why), "{sql}: {error}");
}

/// Returns objects `{"a": n, "b": "text n"}` for some numbers; `a` is a text if the number is negative.
fn objects(numbers: std::ops::Range<i64>) -> VariantArray {
    let mut builder = VariantArrayBuilder::new(0);
    for n in numbers {
        let mut object = builder.try_new_object().expect("an object");
        match n < 0 {
            true => object.insert("a", n.to_string().as_str()),
            false => object.insert("a", n),
        }
        object.insert("b", format!("text {n}").as_str());
        object.finish();
    }
    builder.build()
}

/// Appends a file of ids, from `first` on, and variants, which may be shredded.
async fn append(lake: &TestTable<'_>, first: i64, variants: VariantArray, properties: WriterProperties) {
    let ids: ArrayRef = Arc::new((first..).take(variants.len()).collect::<Int64Array>());
    let v = with_id(Field::new("v", variants.data_type().clone(), true).with_extension_type(VariantType), 2);
    let schema = Schema::new(vec![with_id(Field::new("id", DataType::Int64, true), 1), v]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![ids, variants.into()]).expect("a batch");
    let file = lake.parquet(&batch, properties).await;
    lake.add([file], []).await;
}

fn in_parts(variants: &VariantArray, ty: DataType) -> VariantArray {
    let ty = ShreddedSchemaBuilder::new().with_path("a", &ty).expect("a path").build();
    shred_variant(variants, &ty).expect("parts")
}

/// Returns a count from a query's EXPLAIN ANALYZE.
async fn counted(app: &TestApp, sql: &str, what: &str) -> u64 {
    let plan = rows(app, &format!("EXPLAIN ANALYZE {sql}")).await.concat().concat();
    let found = plan.split(&format!("{what}=")).nth(1).unwrap_or_else(|| panic!("{what}: {plan}"));
    let number: String = found.chars().take_while(char::is_ascii_digit).collect();
    number.parse().unwrap_or_else(|_| panic!("{what}: {plan}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variants_are_written_read_and_taken_apart_in_sql() {
    let app = TestApp::start().await;
    let lake = table(&app, "v", json!("variant")).await;
    let insert = "INSERT INTO lake.v VALUES (1, parse_json('{\"a\": {\"b\": 7}, \"l\": [1, \"x\", 2.50]}')), \
                  (2, CAST('text' AS VARIANT)), (3, parse_json('null')), (4, NULL), (5, CAST(12 AS VARIANT))";
    app.sql(insert).await.expect("inserted");
    let all =
        texts(&[&["1", r#"{"a":{"b":7},"l":[1,"x",2.5]}"#], &["2", r#""text""#], &["3", "null"], &["4", "null"], &["5", "12"]]);
    assert_eq!(rows(&app, "SELECT id, v FROM lake.v ORDER BY id").await, all);
    assert_eq!(rows(&app, "SELECT id FROM lake.v WHERE v IS NULL").await, texts(&[&["4"]]));
    let parts = "SELECT variant_get(v, '$.a.b', 'int'), variant_get(v, '$.l[1]', 'string'), variant_get(v, '$.l[2]', 'decimal(9, 2)'), \
                 variant_get(v, '$.a') FROM lake.v WHERE id = 1";
    assert_eq!(rows(&app, parts).await, texts(&[&["7", "x", "2.50", r#"{"b":7}"#]]));
    assert_eq!(rows(&app, "SELECT CAST(v AS INT) + 1 FROM lake.v WHERE id = 5").await, texts(&[&["13"]]));
    assert_eq!(rows(&app, "SELECT TRY_CAST(v AS INT) FROM lake.v WHERE id = 2").await, texts(&[&["null"]]));
    assert_eq!(
        rows(&app, "SELECT to_json(v), count(*) OVER () FROM lake.v WHERE variant_get(v, '$.a.b', 'bigint') = 7").await.len(),
        1
    );
    assert_eq!(
        rows(&app, "SELECT to_json(CAST(named_struct('x', 1, 'y', 'z') AS VARIANT))").await,
        texts(&[&[r#"{"x":1,"y":"z"}"#]])
    );
    refused(&app, "SELECT CAST(v AS INT) FROM lake.v WHERE id = 2", "of a variant can't be read as int").await;
    refused(&app, "SELECT * FROM lake.v ORDER BY v", "a variant is neither compared nor grouped nor sorted").await;
    refused(&app, "SELECT v, count(*) FROM lake.v GROUP BY v", "a variant is neither compared nor grouped nor sorted").await;
    refused(&app, "SELECT DISTINCT v FROM lake.v", "a variant is neither compared nor grouped nor sorted").await;
    refused(&app, "SELECT * FROM lake.v WHERE v = parse_json('1')", "a variant is neither compared nor grouped nor sorted").await;
    refused(&app, "INSERT INTO lake.v VALUES (6, 'text')", "parse_json").await;
    refused(&app, "INSERT INTO lake.v VALUES (6, parse_json('{'))", "'{' is not JSON").await;
    refused(&app, "SELECT variant_get(v, 'a', 'int') FROM lake.v", "'a' is not a path of a variant").await;

    app.sql("UPDATE lake.v SET v = parse_json('[true]') WHERE id = 4").await.expect("updated");
    app.sql("DELETE FROM lake.v WHERE variant_get(v, '$.a.b', 'int') = 7").await.expect("deleted");
    let left = texts(&[&["2", r#""text""#], &["3", "null"], &["4", "[true]"], &["5", "12"]]);
    assert_eq!(rows(&app, "SELECT id, v FROM lake.v ORDER BY id").await, left);
    app.sql("CREATE TABLE lake.copy AS SELECT id, v AS w, [v] AS l FROM lake.v").await.expect("a copy");
    assert_eq!(rows(&app, "SELECT id, w FROM lake.copy ORDER BY id").await, left);
    assert_eq!(rows(&app, "SELECT CAST(w AS INT), CAST(l[1] AS INT) FROM lake.copy WHERE id = 5").await, texts(&[&["12", "12"]]));
    let done = lake.run_job("compact", json!({"rewrite-all": true, "verify": "full"})).await;
    assert_eq!(done["state"], "succeeded", "{done}");
    assert_eq!(rows(&app, "SELECT id, v FROM lake.v ORDER BY id").await, left);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_variants_stay_columns_of_their_own_and_leave_out_files_and_row_groups() {
    let app = TestApp::start().await;
    let lake = table(&app, "parts", json!("variant")).await;
    append(&lake, 0, in_parts(&objects(0..100), DataType::Int64), WriterProperties::default()).await;
    append(&lake, 100, in_parts(&objects(100..200), DataType::Int64), WriterProperties::default()).await;
    append(&lake, 200, objects(200..210), WriterProperties::default()).await;
    append(&lake, 1000, in_parts(&objects(-3..3), DataType::Int64), WriterProperties::default()).await;
    let sum = "SELECT count(*), sum(variant_get(v, '$.a', 'int')), min(variant_get(v, '$.b', 'string')) FROM lake.parts";
    let before = rows(&app, sum).await;
    assert_eq!(before, texts(&[&["216", "21942", "text -1"]]));
    let some = "SELECT id, v FROM lake.parts WHERE variant_get(v, '$.a', 'int') >= 198 AND variant_get(v, '$.a', 'int') < 201";
    let found = texts(&[
        &["198", r#"{"a":198,"b":"text 198"}"#],
        &["199", r#"{"a":199,"b":"text 199"}"#],
        &["200", r#"{"a":200,"b":"text 200"}"#],
    ]);
    assert_eq!(rows(&app, &format!("{some} ORDER BY id")).await, found);
    let negative = "SELECT id FROM lake.parts WHERE variant_get(v, '$.a', 'int') < 0 ORDER BY id";
    assert_eq!(rows(&app, negative).await, texts(&[&["1000"], &["1001"], &["1002"]]));

    let done = lake.run_job("compact", json!({"rewrite-all": true, "verify": "full"})).await;
    assert_eq!(done["state"], "succeeded", "{done}");
    assert_eq!(rows(&app, sum).await, before);
    assert_eq!(rows(&app, &format!("{some} ORDER BY id")).await, found);
    assert_eq!(rows(&app, negative).await, texts(&[&["1000"], &["1001"], &["1002"]]));
    let files = lake.data_files().await;
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let bytes = std::fs::read(file.file_path.trim_start_matches("file://")).expect("a file");
    let footer = SerializedFileReader::new(bytes::Bytes::from(bytes)).expect("a footer").metadata().clone();
    let leaves: Vec<String> = footer.file_metadata().schema_descr().columns().iter().map(|c| c.path().string()).collect();
    assert!(leaves.contains(&"v.typed_value.a.typed_value".to_owned()), "{leaves:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_row_groups_of_other_values_are_not_read() {
    let app = TestApp::start().await;
    let lake = table(&app, "pruned", json!("variant")).await;
    let groups = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    append(&lake, 0, in_parts(&objects(0..1000), DataType::Int64), groups).await;
    let sql = "SELECT count(*) FROM lake.pruned WHERE variant_get(v, '$.a', 'bigint') BETWEEN 250 AND 259";
    assert_eq!(rows(&app, sql).await, texts(&[&["10"]]));
    // The scan reads one of ten row groups.
    let plan = rows(&app, &format!("EXPLAIN ANALYZE {sql}")).await.concat().concat();
    assert!(plan.contains("(10/100)"), "{plan}");
    // The manifest has the bounds of the next file's variants.
    app.sql("INSERT INTO lake.pruned SELECT id + 1000, v FROM lake.pruned").await.expect("inserted");
    for job in ["compact"] {
        let done = lake.run_job(job, json!({"rewrite-all": true})).await;
        assert_eq!(done["state"], "succeeded", "{done}");
    }
    let stats = lake.data_files().await;
    assert!(stats.iter().all(|file| file.stats(2).is_some_and(|s| s.lower_bound.is_some())), "{stats:?}");
    for same in [
        "variant_get(v, '$.a', 'int')",
        "CAST(v['a'] AS BIGINT)",
        "try_variant_get(v, '$.a', 'int')",
        "variant_get(variant_get(v, '$'), '$.a', 'double')",
    ] {
        let none = format!("SELECT count(*) FROM lake.pruned WHERE {same} > 5000");
        assert_eq!(rows(&app, &none).await, texts(&[&["0"]]), "{same}");
        // All files are pruned.
        let plan = rows(&app, &format!("EXPLAIN ANALYZE {none}")).await.concat().concat();
        assert!(plan.contains("PlaceholderRowExec") && !plan.contains("DataSource"), "{same}: {plan}");
    }
    assert_eq!(rows(&app, sql).await, texts(&[&["20"]]));
    app.stop().await;
}

/// The scan has so many rows that the plan repartitions them. It still reads only the variant's part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_two_conditions_name_is_all_that_a_scan_reads_of_a_variant() {
    let app = TestApp::start().await;
    let lake = table(&app, "divided", json!("variant")).await;
    append(&lake, 0, in_parts(&objects(0..20_000), DataType::Int64), WriterProperties::default()).await;
    let sql = "SELECT count(*) FROM lake.divided WHERE variant_get(v, '$.a', 'bigint') BETWEEN 250 AND 259";
    assert_eq!(rows(&app, sql).await, texts(&[&["10"]]));
    let plan = rows(&app, &format!("EXPLAIN {sql}")).await.concat().concat();
    assert!(plan.contains("RepartitionExec") && plan.contains("projection=[variant_part(v@1) as part 0]"), "{plan}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shapes_are_kept_to_the_bit_and_found_by_the_boxes_around_them() {
    let app = TestApp::start().await;
    let lake = table(&app, "g", json!("geometry(EPSG:3857)")).await;
    for first in [0, 100] {
        let points: Vec<String> = (first..first + 10).map(|n| format!("({n}, ST_Point({n}, -{n}.5))")).collect();
        app.sql(&format!("INSERT INTO lake.g VALUES {}", points.join(", "))).await.expect("inserted");
    }
    app.sql("INSERT INTO lake.g VALUES (1000, NULL), (1001, ST_GeomFromText('POINT EMPTY'))").await.expect("inserted");
    let text = rows(&app, "SELECT ST_AsText(v) FROM lake.g WHERE id = 3").await;
    assert_eq!(text, texts(&[&["POINT(3 -3.5)"]]));
    let within =
        "SELECT id FROM lake.g WHERE ST_Intersects(v, ST_GeomFromText('POLYGON ((4 -6, 6 -6, 6 -4, 4 -4, 4 -6))')) ORDER BY id";
    assert_eq!(rows(&app, within).await, texts(&[&["4"], &["5"]]));
    assert_eq!(counted(&app, within, "files_pruned").await, 1, "the file of the points from 100 on");
    assert_eq!(rows(&app, "SELECT id FROM lake.g WHERE ST_DWithin(v, ST_Point(103, -103.5), 1.5) ORDER BY id").await.len(), 3);
    let wkb = rows(&app, "SELECT id, encode(v, 'hex') FROM lake.g ORDER BY id").await;
    let done = lake.run_job("compact", json!({"rewrite-all": true, "verify": "full"})).await;
    assert_eq!(done["state"], "succeeded", "{done}");
    assert_eq!(rows(&app, "SELECT id, encode(v, 'hex') FROM lake.g ORDER BY id").await, wkb);
    let files = lake.data_files().await;
    let corner = |bound: Option<&[u8]>| -> Vec<f64> {
        bound.expect("a bound").chunks(8).map(|b| f64::from_le_bytes(b.try_into().expect("eight bytes"))).collect()
    };
    let stats = files[0].stats(2).expect("statistics");
    assert_eq!((corner(stats.lower_bound), corner(stats.upper_bound)), (vec![0.0, -109.5], vec![109.0, -0.5]));
    refused(&app, "INSERT INTO lake.g VALUES (5, x'0102')", "not well-known binary").await;
    refused(&app, "INSERT INTO lake.g VALUES (5, 'POINT (1 2)')", "ST_GeomFromText").await;
    let fields = app.sql("SELECT v FROM lake.g LIMIT 1").await.expect("rows")[0].schema();
    assert_eq!(fields.field(0).metadata().get("ARROW:extension:name").map(String::as_str), Some("geoarrow.wkb"));
    app.sql("CREATE TABLE lake.copy AS SELECT id, v FROM lake.g").await.expect("a copy");
    assert_eq!(app.sql("SELECT v FROM lake.copy LIMIT 1").await.expect("rows")[0].schema(), fields);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn geographies_have_boxes_across_the_antimeridian() {
    let app = TestApp::start().await;
    let lake = table(&app, "globe", json!("geography")).await;
    app.sql("INSERT INTO lake.globe VALUES (1, ST_Point(179.5, 0)), (2, ST_Point(-179.5, 1))").await.expect("inserted");
    app.sql("INSERT INTO lake.globe VALUES (3, ST_Point(0, 50)), (4, ST_Point(1, 51))").await.expect("inserted");
    let files = lake.data_files().await;
    let x = |bound: Option<&[u8]>| f64::from_le_bytes(bound.expect("a bound")[..8].try_into().expect("eight bytes"));
    let across = files.iter().filter_map(|f| f.stats(2)).any(|s| x(s.lower_bound) == 179.5 && x(s.upper_bound) == -179.5);
    assert!(across, "{files:?}");
    let near = "SELECT id FROM lake.globe WHERE ST_DWithin(v, ST_Point(-179.9, 0), 100000) ORDER BY id";
    assert_eq!(rows(&app, near).await, texts(&[&["1"]]));
    assert_eq!(counted(&app, near, "files_pruned").await, 1);
    refused(&app, "SELECT * FROM lake.globe WHERE ST_Intersects(v, ST_Point(0, 0))", "not served for geographies").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_leave_out_what_they_can_not_count_by_name() {
    let app = TestApp::start().await;
    let lake = table(&app, "counted", json!("variant")).await;
    app.sql("INSERT INTO lake.counted VALUES (1, parse_json('1'))").await.expect("inserted");
    let done = lake.run_job("statistics", json!({})).await;
    assert_eq!(done["plan"]["left_out"], json!({"v": "variant"}), "{done}");
    assert_eq!(done["outcome"]["distinct"], json!({"id": 1}), "{done}");
    app.stop().await;
}

/// An invalid variant is an error that names the file and the column. The other columns can still be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_variant_are_an_error_by_name() {
    let app = TestApp::start().await;
    let lake = table(&app, "broken", json!("variant")).await;
    let bytes = |value: &[u8]| -> ArrayRef { Arc::new(BinaryArray::from(vec![value])) };
    let columns = [("metadata", bytes(&[1, 0, 0])), ("value", bytes(&[0xff, 9, 9]))];
    let fields: Vec<Field> = columns.iter().map(|(name, _)| Field::new(*name, DataType::Binary, false)).collect();
    let structs = arrow::array::StructArray::new(fields.into(), columns.into_iter().map(|(_, array)| array).collect(), None);
    let v = with_id(Field::new("v", structs.data_type().clone(), true).with_extension_type(VariantType), 2);
    let schema = Schema::new(vec![with_id(Field::new("id", DataType::Int64, true), 1), v]);
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = RecordBatch::try_new(Arc::new(schema), vec![ids, Arc::new(structs)]).expect("a batch");
    let file = lake.parquet(&batch, WriterProperties::default()).await;
    lake.add([file], []).await;
    assert_eq!(rows(&app, "SELECT id FROM lake.broken").await, texts(&[&["1"]]));
    let error = app.sql("SELECT v FROM lake.broken").await.expect_err("no variant");
    assert!(error.contains(".parquet: column v: "), "{error}");
    let part = app.sql("SELECT variant_get(v, '$.a', 'int') FROM lake.broken").await.expect_err("no variant");
    assert!(part.contains(".parquet: column v: "), "{part}");
    app.stop().await;
}

/// Returns the row ids of a branch's or tag's rows, by `id`, and checks that they are distinct.
async fn row_ids(lake: &TestTable<'_>, reference: &str) -> BTreeMap<i64, i64> {
    let mut found = BTreeMap::new();
    for file in lake.live_of(reference).await.data {
        let bytes = bytes::Bytes::from(std::fs::read(&file.file.file_path[7..]).expect("a file"));
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("a footer").build().expect("a reader");
        let mut at = file.first_row_id.expect("row ids");
        for batch in reader.map(|batch| batch.expect("a batch")) {
            let ids = batch.column_by_name("id").expect("ids").as_primitive::<Int64Type>().clone();
            let own = batch.column_by_name("_row_id").map(|column| column.as_primitive::<Int64Type>().clone());
            for (i, id) in ids.values().iter().enumerate() {
                let own = own.as_ref().filter(|own| own.is_valid(i)).map(|own| own.value(i));
                assert!(found.insert(*id, own.unwrap_or(at)).is_none(), "each row is there once");
                at += 1;
            }
        }
    }
    let distinct: BTreeSet<i64> = found.values().copied().collect();
    assert_eq!(distinct.len(), found.len(), "{reference}: {found:?}");
    found
}

fn some(ids: std::ops::Range<i64>) -> Vec<Row> {
    ids.map(|id| (id, format!("s{id}"), 0, None)).collect()
}

/// Specification, "Row Lineage": a branch with snapshots from before the upgrade gets its row ids with its own next commit.
///
/// No row id is assigned twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_of_before_an_upgrade_that_are_gone_back_to_get_row_ids_of_their_own() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 2, false, json!({})).await;
    lake.append(&some(0..2)).await;
    let old = lake.metadata().await.current_snapshot_id.expect("a snapshot");
    lake.append(&some(2..4)).await;
    lake.update(json!([{"action": "upgrade-format-version", "format-version": 3}])).await;
    lake.append(&some(4..5)).await;
    let newest = lake.metadata().await.current_snapshot_id.expect("a snapshot");
    let main = row_ids(&lake, "main").await;
    assert_eq!(main.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let set =
        |name: &str, ty: &str, id: i64| json!([{"action": "set-snapshot-ref", "ref-name": name, "type": ty, "snapshot-id": id}]);
    lake.update(set("kept", "tag", newest)).await;
    lake.update(set("main", "branch", old)).await;
    lake.append(&some(5..7)).await;
    let back = row_ids(&lake, "main").await;
    assert_eq!(back.keys().copied().collect::<Vec<_>>(), [0, 1, 5, 6]);
    assert!([5, 6].iter().all(|id| !main.values().any(|known| *known == back[id])), "{main:?} {back:?}");
    assert_eq!(row_ids(&lake, "kept").await, main);
    let next = lake.metadata().await.next_row_id.expect("a number");
    assert!(main.values().chain(back.values()).all(|id| id.unsigned_abs() < next), "{next} {main:?} {back:?}");

    let job = lake.compact(json!({"courtesy-seconds": 0, "rewrite-all": true, "min-input-files": 1})).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!((row_ids(&lake, "main").await, row_ids(&lake, "kept").await), (back.clone(), main));
    lake.undo(&job).await.expect("undone");
    assert_eq!(row_ids(&lake, "main").await, back);
}

/// Writers may leave gaps in the row ids of one commit, as DuckDB does. Ids in a gap are not assigned later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_ids_that_a_commit_leaves_out_are_not_given_again() {
    let app = TestApp::start().await;
    let lake = TestTable::create(&app, "t", 3, false, json!({})).await;
    lake.append(&some(0..2)).await;
    let metadata = lake.metadata().await;
    let head = metadata.current_snapshot().expect("a snapshot");
    let snapshot = json!({"snapshot-id": 77, "parent-snapshot-id": head.snapshot_id, "sequence-number": metadata.last_sequence_number + 1,
        "timestamp-ms": head.timestamp_ms + 1, "summary": {"operation": "append"}, "manifest-list": head.manifest_list,
        "schema-id": 0, "first-row-id": 10, "added-rows": 3});
    lake.update(json!([{"action": "add-snapshot", "snapshot": snapshot}])).await;
    assert_eq!(lake.metadata().await.next_row_id, Some(13));
}
