//! Data files without some columns, field ids or statistics: defaults and names at every depth, and bounds that are no values.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, ListArray, MapArray, RecordBatch, StringArray, StructArray,
    TimestampNanosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use esker_format::{BoundBytes, BoundMap, DataContentType, Value as Cell};
use esker_tests::{TestApp, TestTable, text_cells};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

fn plain() -> WriterProperties {
    WriterProperties::builder().build()
}

fn bounds(of: impl IntoIterator<Item = (i32, Cell)>) -> Option<BoundMap> {
    Some(of.into_iter().map(|(id, value)| (id, BoundBytes::of(&value).expect("bytes"))).collect())
}

fn with_id(name: &str, ty: DataType, id: i32) -> Field {
    Field::new(name, ty, true).with_metadata([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into())
}

async fn rows(app: &TestApp, sql: &str) -> Vec<Vec<String>> {
    text_cells(&app.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")))
}

fn texts(expected: &[&[&str]]) -> Vec<Vec<String>> {
    expected.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
}

fn inner(ty: &DataType) -> Fields {
    match ty {
        DataType::Struct(fields) => fields.clone(),
        other => panic!("{other}"),
    }
}

/// Creates a table of format version 3 with a struct, a list and a map of structs, and three rows; then adds a field with a
/// default to each.
async fn evolved<'a>(app: &'a TestApp, name: &str) -> TestTable<'a> {
    let fields = json!([
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "s", "required": false, "type": {"type": "struct", "fields": [
            {"id": 5, "name": "a", "required": false, "type": "int"}]}},
        {"id": 3, "name": "l", "required": false, "type": {"type": "list", "element-id": 6, "element-required": false,
            "element": {"type": "struct", "fields": [{"id": 7, "name": "b", "required": false, "type": "int"}]}}},
        {"id": 4, "name": "m", "required": false, "type": {"type": "map", "key-id": 8, "key": "string", "value-id": 9,
            "value-required": false, "value": {"type": "struct", "fields": [{"id": 10, "name": "c", "required": false, "type": "int"}]}}},
    ]);
    let lake = TestTable::create_with_schema(app, name, fields, json!([]), json!({"format-version": "3"})).await;
    let metadata = lake.metadata().await;
    let schema = lake.arrow_schema().await;
    let nulls = || Some(NullBuffer::from(vec![true, false, true]));
    let one = |ty: &DataType| StructArray::new(inner(ty), vec![Arc::new(Int32Array::from(vec![1]))], None);
    let a = Int32Array::from(vec![Some(1), None, None]);
    let s = StructArray::new(inner(schema.field(1).data_type()), vec![Arc::new(a)], nulls());
    let DataType::List(item) = schema.field(2).data_type() else { panic!("{schema}") };
    let l = ListArray::new(item.clone(), OffsetBuffer::from_lengths([1, 0, 0]), Arc::new(one(item.data_type())), nulls());
    let DataType::Map(entries, _) = schema.field(3).data_type() else { panic!("{schema}") };
    let pair = inner(entries.data_type());
    let value = one(pair[1].data_type());
    let pairs = StructArray::new(pair, vec![Arc::new(StringArray::from(vec!["k"])), Arc::new(value)], None);
    let m = MapArray::new(entries.clone(), OffsetBuffer::from_lengths([1, 0, 0]), pairs, nulls(), false);
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let batch = RecordBatch::try_new(schema, vec![ids, Arc::new(s), Arc::new(l), Arc::new(m)]).expect("a batch");
    lake.add([lake.parquet(&batch, plain()).await], []).await;

    let mut fields = serde_json::to_value(metadata.current_schema().as_ref()).expect("JSON")["fields"].take();
    let mut add = |path: &[&str], field: Value| {
        let mut at = &mut fields;
        for step in path {
            at = if let Ok(i) = step.parse::<usize>() { &mut at[i] } else { &mut at[*step] };
        }
        at.as_array_mut().expect("fields").insert(0, field);
    };
    add(&["1", "type", "fields"], json!({"id": 20, "name": "x", "required": false, "type": "int", "initial-default": 100}));
    add(
        &["2", "type", "element", "fields"],
        json!({"id": 21, "name": "y", "required": false, "type": "string", "initial-default": "d"}),
    );
    add(
        &["3", "type", "value", "fields"],
        json!({"id": 22, "name": "z", "required": false, "type": "double", "initial-default": 2.5}),
    );
    lake.evolve(fields).await;
    lake
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_at_any_depth_is_what_older_rows_have_and_what_a_compaction_writes() {
    let app = TestApp::start().await;
    let lake = evolved(&app, "t").await;
    let check = async || {
        let all = rows(&app, "SELECT id, s['x'], s, l, m FROM lake.t ORDER BY id").await;
        let expected: [&[&str]; 3] = [
            &["1", "100", "{x: 100, a: 1}", "[{y: d, b: 1}]", "{k: {z: 2.5, c: 1}}"],
            &["2", "null", "null", "null", "null"],
            &["3", "100", "{x: 100, a: null}", "[]", "{}"],
        ];
        assert_eq!(all, texts(&expected));
        assert_eq!(rows(&app, "SELECT id FROM lake.t WHERE s['x'] = 100 ORDER BY id").await, texts(&[&["1"], &["3"]]));
        assert_eq!(rows(&app, "SELECT id FROM lake.t WHERE s['x'] IS NULL").await, texts(&[&["2"]]));
        let counted = rows(&app, "SELECT count(s['x']), min(s['x']), max(s['x']), count(*) FROM lake.t").await;
        assert_eq!(counted, texts(&[&["2", "100", "100", "3"]]));
    };
    check().await;
    let job = lake.compact(json!({"rewrite-all": true, "verify": "full"})).await;
    assert_eq!((&job["state"], job["outcome"]["groups"].as_u64()), (&json!("succeeded"), Some(1)), "{job}");
    check().await;
    // The rewritten file contains the defaults as values.
    let live = lake.live(&lake.metadata().await).await;
    let path = live.data[0].file.file_path.trim_start_matches("file://").to_owned();
    let file = std::fs::File::open(path).expect("a file");
    let mut batches = ParquetRecordBatchReaderBuilder::try_new(file).expect("a footer").build().expect("a reader");
    let batch = batches.next().expect("rows").expect("rows");
    assert_eq!(text_cells(&[batch])[0][1], "{x: 100, a: 1}");

    assert_eq!(rows(&app, "DELETE FROM lake.t WHERE s['x'] = 100 AND id = 1").await, texts(&[&["1"]]));
    assert_eq!(rows(&app, "SELECT id, s['x'] FROM lake.t ORDER BY id").await, texts(&[&["2", "null"], &["3", "100"]]));
}

/// Commits an equality delete on the field `x` of the struct `s`.
async fn delete_where_x(lake: &TestTable<'_>, x: Option<i32>) {
    let schema = lake.metadata().await.current_schema().clone();
    let (s, field) = (schema.field_by_name("s").expect("s").id, schema.field_by_name("s.x").expect("s.x").id);
    let fields: Fields = vec![with_id("x", DataType::Int32, field)].into();
    let column = StructArray::new(fields.clone(), vec![Arc::new(Int32Array::from(vec![x]))], None);
    let schema = Schema::new(vec![with_id("s", DataType::Struct(fields), s)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(column)]).expect("a batch");
    let mut file = lake.parquet(&batch, plain()).await;
    (file.content, file.equality_ids) = (DataContentType::EqualityDeletes, Some(vec![field]));
    lake.add([], [file]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equality_deletes_reach_fields_of_structs_and_defaults() {
    let app = TestApp::start().await;
    for (name, x, left) in [("a", Some(100), vec!["2"]), ("b", Some(7), vec!["1", "2", "3"]), ("c", None, vec!["1", "3"])] {
        let lake = evolved(&app, name).await;
        delete_where_x(&lake, x).await;
        let ids = async || {
            let found = rows(&app, &format!("SELECT id FROM lake.{name} ORDER BY id")).await;
            found.into_iter().map(|mut row| row.remove(0)).collect::<Vec<_>>()
        };
        assert_eq!(ids().await, left, "{x:?}");
        let job = lake.compact(json!({"rewrite-all": true})).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        assert_eq!(ids().await, left, "{x:?} after a compaction");
    }
}

/// Files that Hive, Spark or pyarrow wrote before the table existed have no field ids.
#[tokio::test(flavor = "multi_thread")]
async fn names_stand_for_fields_at_every_depth_in_files_without_ids() {
    let app = TestApp::start().await;
    let fields = json!([
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "s", "required": false, "type": {"type": "struct", "fields": [
            {"id": 4, "name": "a", "required": false, "type": "long"}, {"id": 5, "name": "b", "required": false, "type": "string"}]}},
        {"id": 3, "name": "l", "required": false, "type": {"type": "list", "element-id": 6, "element": "int", "element-required": false}},
        {"id": 7, "name": "e", "required": false, "type": {"type": "list", "element-id": 8, "element": "int", "element-required": false}},
    ]);
    let lake = TestTable::create_with_schema(&app, "t", fields, json!([]), json!({"format-version": "2"})).await;
    let bare = |name: &str, ty: DataType| Field::new(name, ty, true);
    // The element of one list has another name than in the table; that of the other only lacks its id.
    let (item, element) = (Arc::new(bare("item", DataType::Int32)), Arc::new(bare("element", DataType::Int32)));
    let numbers = |item: &Arc<Field>| {
        ListArray::new(item.clone(), OffsetBuffer::from_lengths([2, 0]), Arc::new(Int32Array::from(vec![7, 8])), None)
    };
    let of_s: Fields = vec![bare("b", DataType::Utf8), bare("a", DataType::Int32)].into();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2])),
        Arc::new(StructArray::new(
            of_s.clone(),
            vec![Arc::new(StringArray::from(vec!["p", "q"])), Arc::new(Int32Array::from(vec![10, 20]))],
            None,
        )),
        Arc::new(numbers(&item)),
        Arc::new(numbers(&element)),
    ];
    let columns_of =
        [("id", DataType::Int64), ("s", DataType::Struct(of_s)), ("l", DataType::List(item)), ("e", DataType::List(element))];
    let schema = Schema::new(columns_of.map(|(name, ty)| bare(name, ty)).to_vec());
    let batch = RecordBatch::try_new(Arc::new(schema), columns).expect("a batch");
    lake.add([lake.parquet(&batch, plain()).await], []).await;
    let error = app.sql("SELECT * FROM lake.t").await.expect_err("no ids");
    assert!(
        error.contains(".parquet: a Parquet file without field ids") && error.contains("schema.name-mapping.default"),
        "{error}"
    );
    let job = lake.compact(json!({"rewrite-all": true})).await;
    assert!(job["error"].as_str().is_some_and(|e| e.contains("a Parquet file without field ids")), "{job}");

    let schema = lake.metadata().await.current_schema().clone();
    let id = |name: &str| schema.field_by_name(name).expect("a field").id;
    let mapping = json!([
        {"field-id": id("id"), "names": ["id"]},
        {"field-id": id("s"), "names": ["s"], "fields": [
            {"field-id": id("s.a"), "names": ["a"]}, {"field-id": id("s.b"), "names": ["b"]}]},
        {"field-id": id("l"), "names": ["l"], "fields": [{"field-id": id("l.element"), "names": ["element"]}]},
        {"field-id": id("e"), "names": ["e"], "fields": [{"field-id": id("e.element"), "names": ["element"]}]},
    ]);
    lake.update(json!([{"action": "set-properties", "updates": {"schema.name-mapping.default": mapping.to_string()}}])).await;
    let all = "SELECT * FROM lake.t ORDER BY id";
    let first: &[&str] = &["1", "{a: 10, b: p}", "[7, 8]", "[7, 8]"];
    assert_eq!(rows(&app, all).await, texts(&[first, &["2", "{a: 20, b: q}", "[]", "[]"]]));
    assert_eq!(rows(&app, "SELECT s['a'] FROM lake.t WHERE s['b'] = 'q'").await, texts(&[&["20"]]));
    assert_eq!(rows(&app, "DELETE FROM lake.t WHERE s['a'] = 20").await, texts(&[&["1"]]));
    let job = lake.compact(json!({"rewrite-all": true, "verify": "full"})).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(rows(&app, all).await, texts(&[first]));
}

/// The files' writer does not count NaN, and a row group of one file is copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_does_not_count_what_no_manifest_counted() {
    let app = TestApp::start().await;
    let of_s = json!({"type": "struct", "fields": [{"id": 4, "name": "y", "required": false, "type": "double"}]});
    let fields = json!([
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "x", "required": false, "type": "double"},
        {"id": 3, "name": "s", "required": false, "type": of_s},
    ]);
    let lake = TestTable::create_with_schema(&app, "t", fields, json!([]), json!({"format-version": "2"})).await;
    let small = json!({"write.parquet.compression-codec": "uncompressed", "write.parquet.row-group-size-bytes": "60000"});
    lake.update(json!([{"action": "set-properties", "updates": small}])).await;
    let schema = lake.arrow_schema().await;
    let mut files = Vec::new();
    for (first, n) in [(0, 2000), (10_000, 10), (20_000, 10)] {
        // One NaN, in the large file.
        let x: Float64Array = (0..n).map(|i| if (first, i) == (0, 77) { f64::NAN } else { i as f64 / 7.0 }).collect();
        let s = StructArray::new(inner(schema.field(2).data_type()), vec![Arc::new(x.clone())], None);
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + n));
        let batch = RecordBatch::try_new(schema.clone(), vec![ids, Arc::new(x), Arc::new(s)]).expect("a batch");
        let mut file = lake.parquet(&batch, plain()).await;
        let counts = |n: i64| Some([2, 4].map(|id| (id, n)).into_iter().collect());
        (file.value_counts, file.null_value_counts) = (counts(n), counts(0));
        file.lower_bounds = bounds([2, 4].map(|id| (id, Cell::Double(0.0))));
        file.upper_bounds = bounds([2, 4].map(|id| (id, Cell::Double(300.0))));
        files.push(file);
    }
    lake.add(files, []).await;
    let job = lake.compact(json!({"min-input-files": 2, "verify": "full"})).await;
    let outcome = &job["outcome"];
    assert_eq!((outcome["row_groups_spliced"].as_u64(), outcome["files_out"].as_u64()), (Some(1), Some(1)), "{job}");
    let live = lake.live(&lake.metadata().await).await;
    let counted = |id: i32| live.data[0].file.stats(id).and_then(|stats| stats.nan_count);
    assert_eq!((counted(2), counted(4)), (None, None));
    // NaN is greater than every number.
    assert_eq!(rows(&app, "SELECT id FROM lake.t WHERE x > 1e300").await, texts(&[&["77"]]));
}

/// A bound may be wider than all values, so it is no value of the column even if both bounds are equal.
#[tokio::test(flavor = "multi_thread")]
async fn bounds_are_never_taken_for_values() {
    let app = TestApp::start().await;
    let fields = json!([
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "t", "required": false, "type": "timestamp_ns"},
        {"id": 3, "name": "n", "required": false, "type": "int"},
    ]);
    let lake = TestTable::create_with_schema(&app, "t", fields, json!([]), json!({"format-version": "3"})).await;
    let schema = lake.arrow_schema().await;
    let noon = 1_718_452_392_000_000_000_i64;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![5, 5, 5])),
        Arc::new(TimestampNanosecondArray::from(vec![noon; 3])),
        Arc::new(Int32Array::from(vec![1, 2, 3])),
    ];
    let batch = RecordBatch::try_new(schema, columns).expect("a batch");
    let mut file = lake.parquet(&batch, plain()).await;
    file.value_counts = Some([(1, 3), (2, 3), (3, 3)].into_iter().collect());
    file.null_value_counts = Some([(1, 0), (2, 0), (3, 3)].into_iter().collect());
    let garbage = || Cell::TimestampNs(noon + 32_765);
    file.lower_bounds = bounds([(1, Cell::Long(0)), (2, garbage())]);
    file.upper_bounds = bounds([(1, Cell::Long(10)), (2, garbage())]);
    lake.add([file], []).await;
    assert_eq!(
        rows(&app, "SELECT min(id), max(id), count(id), count(n), count(*) FROM lake.t").await,
        texts(&[&["5", "5", "3", "3", "3"]])
    );
    let all = rows(&app, "SELECT t, n FROM lake.t ORDER BY n").await;
    assert_eq!(all.iter().map(|row| row[1].as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert!(all.iter().all(|row| row[0] == "2024-06-15T11:53:12"), "{all:?}");
    assert_eq!(rows(&app, "SELECT count(*) FROM lake.t WHERE id = 5").await, texts(&[&["3"]]));
    assert_eq!(rows(&app, "SELECT count(*) FROM lake.t WHERE id > 10").await, texts(&[&["0"]]));
}

/// An identity partition's value replaces a column only if the file lacks it (specification, "Column Projection").
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_says_what_a_column_is_that_a_file_lacks_and_no_other() {
    let app = TestApp::start().await;
    let fields = json!([
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "p", "required": false, "type": "int"},
    ]);
    let spec = json!([{"source-id": 2, "field-id": 1000, "name": "p", "transform": "identity"}]);
    let lake = TestTable::create_with_schema(&app, "t", fields, spec, json!({"format-version": "2"})).await;
    let mut files = Vec::new();
    for (id, own, partition) in [(1, None, Some(7)), (2, Some(8), Some(8)), (3, None, None), (4, Some(9), Some(10))] {
        let mut fields = vec![with_id("id", DataType::Int64, 1)];
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![id]))];
        if let Some(p) = own {
            fields.push(with_id("p", DataType::Int32, 2));
            columns.push(Arc::new(Int32Array::from(vec![p])));
        }
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("a batch");
        let mut file = lake.parquet(&batch, plain()).await;
        file.partition = [partition.map(Cell::Int)].into();
        files.push(file);
    }
    lake.add(files, []).await;
    let check = async || {
        let all = rows(&app, "SELECT id, p FROM lake.t ORDER BY id").await;
        assert_eq!(all, texts(&[&["1", "7"], &["2", "8"], &["3", "null"], &["4", "9"]]));
        assert_eq!(rows(&app, "SELECT id FROM lake.t WHERE p = 7").await, texts(&[&["1"]]));
        assert_eq!(rows(&app, "SELECT id FROM lake.t WHERE p IS NULL").await, texts(&[&["3"]]));
        assert_eq!(rows(&app, "SELECT sum(p), count(p), min(p), max(p) FROM lake.t").await, texts(&[&["24", "3", "7", "9"]]));
    };
    check().await;
    // The partition values in the manifest stay of type int.
    lake.evolve(json!([
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "p", "required": false, "type": "long"},
    ]))
    .await;
    check().await;
}
