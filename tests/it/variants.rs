//! Variants in SQL and in files: casts, shredded columns, and rare values.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Int8Array, Int32Array, Int64Array, RecordBatch,
    StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use esker_format::DataContentType;
use esker_tests::{TestApp, TestTable, text_cells};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::basic::LogicalType;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::variant::VariantType;
use serde_json::json;

fn with_id(field: Field, id: i32) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
    field.with_metadata(metadata)
}

async fn table<'a>(app: &'a TestApp, name: &str) -> TestTable<'a> {
    let fields = json!([
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "v", "required": false, "type": "variant"},
    ]);
    TestTable::create_with_schema(app, name, fields, json!([]), json!({"format-version": "3"})).await
}

async fn one(app: &TestApp, expression: &str) -> String {
    let sql = format!("SELECT {expression}");
    let found = text_cells(&app.sql(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")));
    found[0][0].clone()
}

/// Builds a variant column without nulls from its Parquet columns, such as `metadata` and `value`.
fn variants(columns: Vec<(&str, ArrayRef)>) -> StructArray {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), *name != "metadata")).collect();
    StructArray::new(fields.into(), columns.into_iter().map(|(_, array)| array).collect(), None)
}

fn metadata(rows: usize) -> (&'static str, ArrayRef) {
    ("metadata", Arc::new(BinaryArray::from(vec![&[1_u8, 0, 0][..]; rows])))
}

/// Appends a file with ids from 1 on and a variant column.
async fn append(lake: &TestTable<'_>, column: StructArray) {
    let ids: ArrayRef = Arc::new((1..).take(arrow::array::Array::len(&column)).collect::<Int64Array>());
    let v = Field::new("v", arrow::array::Array::data_type(&column).clone(), true).with_extension_type(VariantType);
    let schema = Schema::new(vec![with_id(Field::new("id", DataType::Int64, true), 1), with_id(v, 2)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![ids, Arc::new(column)]).expect("a batch");
    let file = lake.parquet(&batch, WriterProperties::default()).await;
    lake.add([file], []).await;
}

/// Each item is converted as `CAST` converts a single value. Expected values are those of DuckDB 1.5 and Spark 4, if they convert
/// the value too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_structs_and_maps_are_converted_value_by_value() {
    let app = TestApp::start().await;
    for (expression, expected) in [
        ("CAST(parse_json('[2.5, \"7\", null]') AS INT[])", "[3, 7, null]"),
        ("CAST(parse_json('[[1], []]') AS INT[][])", "[[1], []]"),
        ("TRY_CAST(parse_json('3') AS INT[])", "null"),
        ("TRY_CAST(parse_json('[\"x\", 1]') AS INT[])", "[null, 1]"),
        ("variant_get(parse_json('{\"a\": \"1\", \"c\": 3}'), '$', 'struct<a int, b int>')", "{a: 1, b: null}"),
        ("CAST(parse_json('{\"a\": 1, \"b\": \"2\"}') AS MAP(VARCHAR, INT))", "{a: 1, b: 2}"),
        ("CAST(parse_json('\"abcdef\"') AS VARCHAR(2))", "ab"),
        ("to_json(parse_json('{\"a\": {\"b\": [1]}}')['a']['b'])", "[1]"),
        ("to_json(parse_json('{\"it''s\": 1}')['it''s'])", "1"),
        ("to_json(CAST({'a': 1, 'b': NULL} AS VARIANT))", r#"{"a":1,"b":null}"#),
        ("to_json(CAST(MAP {'x': 1, 'y': NULL} AS VARIANT))", r#"{"x":1,"y":null}"#),
        ("to_json(CAST([{'v': parse_json('[1]')}] AS VARIANT))", r#"[{"v":[1]}]"#),
        ("to_json(CAST(NULL AS VARIANT))", "null"),
        ("to_json(any_value(parse_json('1')))", "1"),
        ("ST_AsText(CAST(X'0101000000000000000000F03F0000000000000040' AS GEOMETRY))", "POINT(1 2)"),
        ("TRY_CAST(X'01' AS GEOMETRY('EPSG:3857')) IS NULL", "true"),
        ("TRY_CAST(parse_json('\"x\"') AS GEOMETRY) IS NULL", "true"),
        ("TRY_CAST(parse_json('{\"x\": 1}') AS MAP(INT, INT))", "null"),
        ("TRY_CAST(parse_json('{\"01\": 1, \"1\": 2}') AS MAP(INT, INT))", "null"),
        ("CAST(parse_json('{\"1\": 2}') AS MAP(INT, INT))[1]", "2"),
        ("CAST(parse_json('{\"1\": 2}') AS MAP(INT, INT))[5000000000]", "null"),
        ("try_variant_get(parse_json('-128'), '$', 'time')", "null"),
        (
            "ST_AsText(ST_GeomFromText('MULTIPOLYGON(EMPTY,((0 0,9 0,9 9,0 9,0 0)))'))",
            "MULTIPOLYGON(EMPTY,((0 0,9 0,9 9,0 9,0 0)))",
        ),
        ("ST_Distance(ST_GeomFromText('GEOMETRYCOLLECTION(POINT EMPTY, POINT(3 4))'), ST_Point(0, 0))", "5.0"),
        ("ST_Intersects(ST_Point(CAST('NaN' AS DOUBLE), 1), ST_Point(1, 1))", "false"),
        ("arrow_typeof(date_bin(INTERVAL '1 hour', TIMESTAMP '2026-01-01 10:30:00'))", "Timestamp(µs)"),
    ] {
        assert_eq!(one(&app, expression).await, expected, "{expression}");
    }
    for (expression, why) in [
        ("CAST(parse_json('3') AS INT[])", "3 of a variant can't be read as list"),
        ("CAST(parse_json('[\"x\"]') AS INT[])", "of a variant can't be read as int"),
        ("CAST(INTERVAL '1 day' AS VARIANT)", "a variant holds no values of type interval"),
        ("CAST(MAP {1: 2} AS VARIANT)", "texts as names"),
        ("variant_get(parse_json('1'), '$', 'varchar(2)')", "has a length"),
        ("parse_json('[1]')[1]", "variant_get(v, '$[0]')"),
        ("CAST('POINT (1 2)' AS GEOMETRY)", "ST_GeomFromText"),
        ("CAST(CAST(X'00FF' AS VARIANT) AS GEOMETRY)", "not well-known binary"),
        ("CAST(X'01' AS GEOGRAPHY('OGC:CRS84', 'flat'))", "not a type of shapes"),
        ("CAST(X'01' AS GEOMETRY('EPSG:3857', 'x'))", "not a type of shapes"),
        ("variant_get(parse_json('1'), '$', 'geometry')", "a variant holds no shapes"),
        ("CAST(X'0101000000000000000000F03F0000000000000040FF' AS GEOMETRY)", "bytes after its shape"),
    ] {
        let error = app.sql(&format!("SELECT {expression}")).await.expect_err(expression);
        assert!(error.contains(why), "{expression}: {error}");
    }
    let copy = "CREATE TABLE lake.made AS SELECT TIMESTAMP '2026-01-01 00:00:00.123456789' AS t, CAST(NULL AS VARIANT) AS v, \
                CAST(NULL AS GEOGRAPHY) AS g, date_bin(INTERVAL '1 hour', TIMESTAMP '2026-01-01 10:30:00') AS b";
    app.sql("CREATE SCHEMA IF NOT EXISTS lake").await.ok();
    let lake = table(&app, "other").await;
    app.sql(copy).await.expect("a table");
    let types = "SELECT string_agg(data_type, ', ') FROM (SELECT data_type FROM information_schema.columns \
                 WHERE table_schema = 'lake' AND table_name = 'made' ORDER BY ordinal_position)";
    let types = text_cells(&app.sql(types).await.expect("types"));
    assert_eq!(types[0][0], "TIMESTAMP_NS, VARIANT, GEOGRAPHY, TIMESTAMP");
    assert_eq!(text_cells(&app.sql("SELECT t FROM lake.made").await.expect("rows"))[0][0], "2026-01-01T00:00:00.123456789");
    drop(lake);
    app.stop().await;
}

/// DuckDB 1.5 writes `'infinity'::DATE::VARIANT` as the day 2^31 - 1. Dates outside of the calendar are kept, shredded or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_that_no_calendar_has_are_kept() {
    let app = TestApp::start().await;
    let lake = table(&app, "far").await;
    let date = |days: i32| [&[11 << 2][..], &days.to_le_bytes()].concat();
    let long = |ty: u8, v: i64| [&[ty << 2][..], &v.to_le_bytes()].concat();
    let day = 86_400_000_000;
    let whole = [date(i32::MAX), date(-i32::MAX), long(13, i64::MAX), long(12, i64::MIN), long(17, day), long(19, i64::MIN)];
    let value: ArrayRef = Arc::new(BinaryArray::from(whole.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    append(&lake, variants(vec![metadata(6), ("value", value)])).await;
    let none: ArrayRef = Arc::new(BinaryArray::from(vec![None::<&[u8]>; 2]));
    let dates: ArrayRef = Arc::new(Date32Array::from(vec![i32::MAX, i32::MIN]));
    append(&lake, variants(vec![metadata(2), ("value", none.clone()), ("typed_value", dates)])).await;
    let micros: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX, i64::MIN]));
    append(&lake, variants(vec![metadata(2), ("value", none), ("typed_value", micros)])).await;
    let all = "SELECT to_json(v) FROM lake.far ORDER BY 1";
    let before = text_cells(&app.sql(all).await.expect("rows"));
    assert!(before.contains(&vec![r#""+5881580-07-11""#.to_owned()]), "{before:?}");
    assert!(before.contains(&vec![r#""24:00:00.0""#.to_owned()]), "{before:?}");
    let done = lake.run_job("compact", json!({"rewrite-all": true, "verify": "full"})).await;
    assert_eq!(done["state"], "succeeded", "{done}");
    assert_eq!(lake.data_files().await.len(), 1);
    assert_eq!(text_cells(&app.sql(all).await.expect("rows")), before);
    app.stop().await;
}

/// A value that can't be converted does not affect the other rows of the same batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_far_date_costs_no_other_its_text() {
    let app = TestApp::start().await;
    let lake = table(&app, "texts").await;
    let none: ArrayRef = Arc::new(BinaryArray::from(vec![None::<&[u8]>; 3]));
    let dates = || -> ArrayRef { Arc::new(Date32Array::from(vec![i32::MAX, 18_262, 18_263])) };
    append(&lake, variants(vec![metadata(3), ("value", none), ("typed_value", dates())])).await;
    let found = async |sql: &str| text_cells(&app.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")));
    let expected = [["1", "null"], ["2", "2020-01-01"], ["3", "2020-01-02"]];
    assert_eq!(found("SELECT id, TRY_CAST(v AS VARCHAR) FROM lake.texts ORDER BY id").await, expected);
    assert_eq!(found("SELECT id FROM lake.texts WHERE try_variant_get(v, '$', 'varchar') = '2020-01-01'").await, [["2"]]);
    assert_eq!(found("SELECT variant_get(v, '$', 'varchar') FROM lake.texts WHERE id = 3").await, [["2020-01-02"]]);
    let error = app.sql("SELECT CAST(v AS VARCHAR) FROM lake.texts").await.expect_err("a far date");
    assert!(error.contains("+5881580-07-11"), "{error}");
    app.stop().await;
}

/// Parquet, "exact numeric": integers of all widths are one logical type, so the type of a shredded column does not matter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_width_of_a_column_says_nothing_of_its_values() {
    let app = TestApp::start().await;
    let numbers: [(&str, ArrayRef); 3] = [
        ("i8", Arc::new(Int8Array::from(vec![0, 1]))),
        ("i32", Arc::new(Int32Array::from(vec![0, 1]))),
        ("i64", Arc::new(Int64Array::from(vec![0, 1]))),
    ];
    let ask = "try_variant_get(v, '$', 'date') IS NULL, try_variant_get(v, '$', 'time') IS NULL, variant_get(v, '$', 'varchar')";
    for (name, typed) in numbers {
        let lake = table(&app, name).await;
        let none: ArrayRef = Arc::new(BinaryArray::from(vec![None::<&[u8]>; 2]));
        append(&lake, variants(vec![metadata(2), ("value", none), ("typed_value", typed)])).await;
        let apart = text_cells(&app.sql(&format!("SELECT {ask} FROM lake.{name} ORDER BY id")).await.expect("rows"));
        assert_eq!(apart, [["true", "true", "0"], ["true", "true", "1"]], "{name}");
        let error = app.sql(&format!("SELECT variant_get(v, '$', 'date') FROM lake.{name}")).await.expect_err("no date");
        assert!(error.contains("can't be read as date"), "{error}");
    }
    app.stop().await;
}

/// Parquet, "Variant Shredding": a shredded UUID column must have the UUID annotation. Decimals keep their text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uuids_and_decimals_are_the_same_for_others_after_a_compaction() {
    let app = TestApp::start().await;
    let lake = table(&app, "same").await;
    let none = |rows: usize| -> ArrayRef { Arc::new(BinaryArray::from(vec![None::<&[u8]>; rows])) };
    let ids: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter([[7_u8; 16], [8; 16]].iter()).expect("UUIDs"));
    append(&lake, variants(vec![metadata(2), ("value", none(2)), ("typed_value", ids)])).await;
    append(&lake, variants(vec![metadata(1), ("value", Arc::new(BinaryArray::from(vec![&[0x0c_u8, 1][..]])))])).await;
    // Decimals of 38 digits take 16 bytes, like a UUID.
    let decimals = |unscaled: i128, scale| -> ArrayRef {
        Arc::new(Decimal128Array::from(vec![unscaled]).with_precision_and_scale(38, scale).expect("decimals"))
    };
    let other = table(&app, "decimals").await;
    append(&other, variants(vec![metadata(1), ("value", none(1)), ("typed_value", decimals(15, 1))])).await;
    append(&other, variants(vec![metadata(1), ("value", none(1)), ("typed_value", decimals(225, 2))])).await;
    for lake in [&lake, &other] {
        let done = lake.run_job("compact", json!({"rewrite-all": true, "verify": "full"})).await;
        assert_eq!(done["state"], "succeeded", "{done}");
    }
    let texts = "SELECT variant_get(v, '$', 'varchar') FROM lake.decimals ORDER BY 1";
    assert_eq!(text_cells(&app.sql(texts).await.expect("rows")), [["1.5"], ["2.25"]]);
    let path = lake.data_files().await[0].file_path.clone();
    let bytes = bytes::Bytes::from(std::fs::read(&path[7..]).expect("a file"));
    let footer = SerializedFileReader::new(bytes).expect("a footer").metadata().clone();
    let leaves = footer.file_metadata().schema_descr().columns().to_vec();
    let typed = leaves.iter().find(|leaf| leaf.path().string() == "v.typed_value").expect("a part");
    assert_eq!(typed.logical_type_ref(), Some(&LogicalType::Uuid));
    // UUID columns have the annotation too (specification, Appendix A, "Parquet"), but fixed(16) columns do not.
    let fields = json!([
        {"id": 1, "name": "u", "required": false, "type": "uuid"},
        {"id": 2, "name": "f", "required": false, "type": "fixed[16]"},
        {"id": 3, "name": "s", "required": false, "type": {"type": "struct", "fields": [
            {"id": 4, "name": "nothing", "required": false, "type": "unknown"}, {"id": 5, "name": "u", "required": false, "type": "uuid"}]}},
    ]);
    let lake = TestTable::create_with_schema(&app, "ids", fields, json!([]), json!({"format-version": "3"})).await;
    for _ in 0..2 {
        app.sql("INSERT INTO lake.ids (u, s) VALUES (UUID '00000000-0000-0000-0000-000000000001', {'u': uuid()}), (NULL, NULL)")
            .await
            .expect("inserted");
    }
    // The structs have a field of type unknown, and some structs are null.
    let done = lake.run_job("compact", json!({"rewrite-all": true, "splice": false, "verify": "full"})).await;
    assert_eq!(done["state"], "succeeded", "{done}");
    let path = lake.data_files().await[0].file_path.clone();
    let bytes = bytes::Bytes::from(std::fs::read(&path[7..]).expect("a file"));
    let footer = SerializedFileReader::new(bytes).expect("a footer").metadata().clone();
    let marks =
        footer.file_metadata().schema_descr().columns().iter().map(|leaf| leaf.logical_type_ref().is_some()).collect::<Vec<_>>();
    assert_eq!(marks[..3], [true, false, true]);
    app.stop().await;
}

/// Specification, "Equality Delete Files": variants are no keys, so the rows that such a file deletes are undefined.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equality_deletes_by_a_variant_are_found_by_a_check() {
    let app = TestApp::start().await;
    let lake = table(&app, "keyed").await;
    app.sql("INSERT INTO lake.keyed VALUES (1, parse_json('1'))").await.expect("inserted");
    let value: ArrayRef = Arc::new(BinaryArray::from(vec![&[0x0c_u8, 1][..]]));
    let column = variants(vec![metadata(1), ("value", value)]);
    let v = Field::new("v", arrow::array::Array::data_type(&column).clone(), true).with_extension_type(VariantType);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![with_id(v, 2)])), vec![Arc::new(column)]).expect("a batch");
    let mut file = lake.parquet(&batch, WriterProperties::default()).await;
    (file.content, file.equality_ids) = (DataContentType::EqualityDeletes, Some(vec![2]));
    lake.add([], [file]).await;
    let found = lake.run_job("check", json!({})).await;
    let findings = found["outcome"]["findings"].as_array().unwrap_or_else(|| panic!("{found}"));
    assert!(findings.iter().any(|f| f["kind"] == "broken-rule" && f["column"] == "v"), "{found}");
    let error = app.sql("SELECT id FROM lake.keyed").await.expect_err("whose rows are not known");
    assert!(error.contains('v'), "{error}");
    app.stop().await;
}
