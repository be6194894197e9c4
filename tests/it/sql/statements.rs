//! Statements from the client to the table: text is taken as written, storing changes no value, parameters are values.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::util::display::array_value_to_string;
use esker_tests::TestApp;
use futures::TryStreamExt;
use reqwest::Method;
use serde_json::{Value, json};

/// Formats the rows of record batches, with the values joined by bars.
fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let is_null = |column: &ArrayRef, row| column.logical_nulls().is_some_and(|nulls| nulls.is_null(row));
    let value = |column: &ArrayRef, row| match is_null(column, row) {
        true => "NULL".to_owned(),
        false => array_value_to_string(column, row).expect("shown"),
    };
    let line = |batch: &RecordBatch, row| batch.columns().iter().map(|c| value(c, row)).collect::<Vec<_>>().join("|");
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| line(batch, row))).collect()
}

async fn rows(app: &TestApp, sql: &str) -> Vec<String> {
    lines(&app.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")))
}

async fn refused(app: &TestApp, sql: &str) -> String {
    let error = app.sql(sql).await.map(|batches| lines(&batches)).expect_err(sql);
    for alien in ["DataFusion", "Internal error", "bug", "Utf8", "Int64", "Int32", "Arrow error", "External error", "\u{1f}"] {
        assert!(!error.contains(alien), "{sql}: {error}");
    }
    error
}

/// Creates the namespace `n` and the table `n.NAME` with the given columns: name, type, required.
async fn table(app: &TestApp, name: &str, version: u8, columns: &[(&str, Value, bool)]) {
    let _ = app.send(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": ["n"]}))).await;
    let field = |(i, (name, ty, required)): (usize, &(&str, Value, bool))| json!({"id": i + 1, "name": name, "type": ty, "required": required});
    let fields: Vec<Value> = columns.iter().enumerate().map(field).collect();
    let create = json!({
        "name": name, "schema": {"type": "struct", "schema-id": 0, "fields": fields}, "properties": {"format-version": version.to_string()},
    });
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_means_what_was_written() {
    let app = TestApp::start().await;
    for version in [2, 3] {
        let t = format!("n.t{version}");
        table(&app, &format!("t{version}"), version, &[("i", json!("int"), false), ("s", json!("string"), false)]).await;
        let texts = ["x'' OR 1=1 -- really?", "x", "a?b", "/* ? */", "", "''", "FOR VERSION AS OF 3", "back\\\\slash", "$1"];
        for (i, text) in texts.iter().enumerate() {
            rows(&app, &format!("INSERT INTO {t} VALUES ({i}, '{text}')")).await;
        }
        assert_eq!(rows(&app, &format!("DELETE FROM {t} WHERE s = 'y'' OR 1=1 -- really?'")).await, ["0"]);
        assert_eq!(rows(&app, &format!("SELECT s FROM {t} WHERE i = 0")).await, ["x' OR 1=1 -- really?"]);
        for (i, text) in texts.iter().enumerate() {
            let found = rows(&app, &format!("SELECT i FROM {t} /* it's ? */ WHERE s = '{text}' -- '")).await;
            assert_eq!(found, [i.to_string()], "{text}");
            let set = format!("UPDATE {t} SET s = 'now: {text}' WHERE s = '{text}' /* ' */");
            assert_eq!(rows(&app, &set).await, ["1"], "{text}");
            let delete = format!("DELETE FROM {t} AS x WHERE x.s = 'now: {text}' AND '?' = '?'");
            assert_eq!(rows(&app, &delete).await, ["1"], "{text}");
        }
        assert_eq!(rows(&app, &format!("SELECT count(*) FROM {t}")).await, ["0"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_of_a_column_is_served() {
    let app = TestApp::start().await;
    let names =
        ["a b", "select", "Upper", "a.b", "q\"q", "ünï", "\u{1f}file", "\u{1f}\u{1f}pos", "it's", "$1", "?", "\u{1f}again=2"];
    let columns: Vec<_> = names.iter().map(|name| (*name, json!("long"), false)).collect();
    table(&app, "t", 3, &columns).await;
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let list: Vec<String> = names.iter().map(|name| quote(name)).collect();
    let values: Vec<String> = (0..names.len()).map(|i| i.to_string()).collect();
    rows(&app, &format!("INSERT INTO n.t ({}) VALUES ({})", list.join(", "), values.join(", "))).await;
    for (i, name) in names.iter().enumerate() {
        let name = quote(name);
        assert_eq!(rows(&app, &format!("SELECT {name} FROM n.t WHERE t.{name} = {i}")).await, [i.to_string()], "{name}");
        assert_eq!(rows(&app, &format!("UPDATE n.t SET {name} = {name} + 100 WHERE {name} = {i}")).await, ["1"], "{name}");
    }
    assert_eq!(
        rows(&app, "SELECT * FROM n.t").await,
        [(0..names.len()).map(|i| (i + 100).to_string()).collect::<Vec<_>>().join("|")]
    );
    for (i, name) in names.iter().enumerate() {
        assert_eq!(rows(&app, &format!("DELETE FROM n.t AS \"x y\" WHERE \"x y\".{} = {i}", quote(name))).await, ["0"], "{name}");
    }
    assert_eq!(rows(&app, "DELETE FROM n.t WHERE \"a.b\" = 103 AND \"q\"\"q\" = 104").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_travel_is_read_where_it_stands() {
    let app = TestApp::start().await;
    table(&app, "t", 2, &[("i", json!("int"), false), ("s", json!("string"), false)]).await;
    rows(&app, "INSERT INTO n.t VALUES (1, 'it''s ?')").await;
    let first = rows(&app, "SELECT snapshot_id FROM n.\"t$snapshots\"").await.remove(0);
    rows(&app, "INSERT INTO n.t VALUES (2, 'FOR VERSION AS OF 1')").await;
    let sql = format!("SELECT i FROM n.t /* ' */ FOR VERSION AS OF {first} WHERE s = 'it''s ?' OR s = 'FOR VERSION AS OF 1'");
    assert_eq!(rows(&app, &sql).await, ["1"]);
    let both = format!("SELECT count(*) FROM n.t a JOIN n.t VERSION AS OF {first} AS b ON a.s <> 'it''s' AND b.s <> '?'");
    assert_eq!(rows(&app, &both).await, ["2"]);
    for sql in [
        format!("DELETE FROM n.t FOR VERSION AS OF {first}"),
        format!("UPDATE n.t FOR VERSION AS OF {first} SET i = 1"),
        format!("INSERT INTO n.t FOR VERSION AS OF {first} VALUES (1, '')"),
        "SELECT * FROM n.t FOR TIMESTAMP AS OF now()".to_owned(),
    ] {
        refused(&app, &sql).await;
    }
    assert_eq!(rows(&app, "SELECT count(*) FROM n.t").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_is_refused_and_not_skipped() {
    let app = TestApp::start().await;
    table(
        &app,
        "t",
        2,
        &[("i", json!("int"), false), ("s", json!("struct-less"), false)].map(|(n, t, r)| {
            (
                n,
                if n == "s" {
                    json!({"type": "struct", "fields": [{"id": 10, "name": "i", "type": "int", "required": false}]})
                } else {
                    t
                },
                r,
            )
        }),
    )
    .await;
    rows(&app, "INSERT INTO n.t (i) VALUES (1), (2), (3)").await;
    for sql in [
        "UPDATE n.t SET i = 9 LIMIT 1",
        "UPDATE n.t SET s.i = 9",
        "UPDATE n.t SET i = 9, i = 8",
        "UPDATE n.t SET nope = 9",
        "UPDATE n.t SET i = 9 RETURNING i",
        "UPDATE n.t SET i = 9 FROM n.t AS u",
        "DELETE FROM n.t LIMIT 1",
        "DELETE FROM n.t ORDER BY i LIMIT 1",
        "DELETE FROM n.t USING n.t AS u",
        "DELETE FROM n.t RETURNING i",
        "INSERT INTO n.t (i, i) VALUES (1, 2)",
        "INSERT INTO n.t (nope) VALUES (1)",
        "INSERT INTO n.t (i) VALUES (1, 2)",
        "INSERT INTO n.t (i) VALUES (1) ON CONFLICT DO NOTHING",
        "INSERT OVERWRITE n.t VALUES (1, NULL)",
        "SELECT i FROM n.t PREWHERE i = 1",
        "SELECT i FROM n.t TABLESAMPLE (10 PERCENT)",
        "SELECT 1; SELECT 2",
        "SHOW \"datafusion.runtime.a'; select 1; --\"",
        "",
    ] {
        refused(&app, sql).await;
    }
    assert_eq!(rows(&app, "SELECT i FROM n.t ORDER BY i").await, ["1", "2", "3"]);
    assert!(refused(&app, "UPDATE n.t SET s.i = 9").await.contains("s.i"));
    assert_eq!(rows(&app, "UPDATE n.t AS x SET x.i = x.i * 10 WHERE x.i = 1").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn show_and_information_schema_are_asked_however_they_are_written() {
    let app = TestApp::start().await;
    table(&app, "t", 2, &[("i", json!("int"), false)]).await;
    for sql in ["SHOW\nTABLES", "show/**/tables", "SHOW TABLES"] {
        assert!(rows(&app, sql).await.iter().any(|line| line.contains("|n|t|")), "{sql}");
    }
    for sql in ["SHOW SCHEMAS", "show databases;", "SHOW/**/Namespaces"] {
        assert!(rows(&app, sql).await.iter().any(|line| line == "default|n"), "{sql}");
    }
    let sql = "SELECT 'information_schema' FROM \"information_schema\".tables WHERE table_name = 't'";
    assert_eq!(rows(&app, sql).await, ["information_schema"]);
}

/// A value that a column can't store exactly is refused.
#[tokio::test(flavor = "multi_thread")]
async fn storing_never_changes_a_value() {
    let app = TestApp::start().await;
    let columns: [(&str, Value, bool); 15] = [
        ("k", json!("int"), true),
        ("b", json!("boolean"), false),
        ("i", json!("int"), false),
        ("l", json!("long"), false),
        ("f", json!("float"), false),
        ("d", json!("double"), false),
        ("n", json!("decimal(9,2)"), false),
        ("day", json!("date"), false),
        ("at", json!("time"), false),
        ("ts", json!("timestamp"), false),
        ("tz", json!("timestamptz"), false),
        ("s", json!("string"), false),
        ("u", json!("uuid"), false),
        ("x", json!("fixed[2]"), false),
        ("y", json!("binary"), false),
    ];
    table(&app, "t", 2, &columns).await;
    rows(&app, "INSERT INTO n.t (k) VALUES (1)").await;
    let misfits = [
        ("i", "3000000000"),
        ("i", "-2147483649"),
        ("i", "'abc'"),
        ("i", "''"),
        ("i", "1.5"),
        ("i", "CAST('NaN' AS DOUBLE)"),
        ("i", "true"),
        ("i", "DATE '2026-01-01'"),
        ("l", "9223372036854775808"),
        ("l", "CAST(1e30 AS DOUBLE)"),
        ("f", "16777217"),
        ("f", "CAST(1e300 AS DOUBLE)"),
        ("f", "CAST(1e-300 AS DOUBLE)"),
        ("f", "'1e39'"),
        ("d", "9007199254740993"),
        ("n", "12345678"),
        ("n", "1.234"),
        ("n", "CAST(1e12 AS DOUBLE)"),
        ("n", "'1.001'"),
        ("n", "CAST(0.125 AS DOUBLE)"),
        ("day", "'2026-13-45'"),
        ("day", "'2026-01-01 10:00:00'"),
        ("day", "TIMESTAMP '2026-01-01 10:00:00'"),
        ("day", "20260101"),
        ("at", "'25:00:00'"),
        ("at", "'10:00:00.0000001'"),
        ("ts", "'2026-13-45'"),
        ("ts", "'2026-01-01 00:00:00.0000001'"),
        ("ts", "'2026-01-01 00:00:00+02:00'"),
        ("ts", "'soon'"),
        ("ts", "5"),
        ("u", "'f79c'"),
        ("u", "5"),
        ("x", "X'010203'"),
        ("x", "X'01'"),
        ("b", "'maybe'"),
        ("b", "2"),
    ];
    for (column, value) in misfits {
        for sql in [
            format!("UPDATE n.t SET {column} = {value}"),
            format!("INSERT INTO n.t (k, {column}) VALUES (2, NULL), (3, {value})"),
            format!("INSERT INTO n.t (k, {column}) SELECT 2, {value}"),
        ] {
            let error = refused(&app, &sql).await;
            assert!(error.contains(&format!("column {column}")), "{sql}: {error}");
        }
    }
    assert!(refused(&app, "UPDATE n.t SET i = 3000000000").await.contains("3000000000 does not fit int"));
    assert!(refused(&app, "UPDATE n.t SET i = 'abc'").await.contains("'abc' does not fit int"));
    for sql in ["UPDATE n.t SET k = NULL", "INSERT INTO n.t (i) VALUES (1)", "INSERT INTO n.t (k) SELECT NULL"] {
        assert!(refused(&app, sql).await.contains("column k is required"), "{sql}");
    }
    assert_eq!(rows(&app, "SELECT * FROM n.t").await, [format!("1{}", "|NULL".repeat(14))], "nothing was changed");

    let fits = [
        ("b", "'yes'", "true"),
        ("i", "'-7'", "-7"),
        ("i", "7.0", "7"),
        ("l", "9223372036854775807", "9223372036854775807"),
        ("f", "0.1", "0.1"),
        ("f", "16777216", "16777216.0"),
        ("d", "1e300", "1e300"),
        ("n", "1234567.89", "1234567.89"),
        ("n", "'-0.10'", "-0.10"),
        ("n", "7", "7.00"),
        ("n", "CAST(0.1 AS DOUBLE)", "0.10"),
        ("day", "'0001-01-01'", "0001-01-01"),
        ("day", "DATE '9999-12-31'", "9999-12-31"),
        ("at", "'10:00:00.000001'", "10:00:00.000001"),
        ("ts", "'2026-01-01 00:00:00.000001'", "2026-01-01T00:00:00.000001"),
        ("ts", "DATE '2026-01-01'", "2026-01-01T00:00:00"),
        ("tz", "'2026-01-01 02:00:00+02:00'", "2026-01-01T00:00:00Z"),
        ("s", "12", "12"),
        ("s", "'it''s'", "it's"),
        ("u", "'f79c3e09-677c-4bbd-a479-3f349cb785e7'", "f79c3e09677c4bbda4793f349cb785e7"),
        ("x", "X'0102'", "0102"),
        ("y", "X'010203'", "010203"),
        ("y", "NULL", "NULL"),
    ];
    for (column, value, stored) in fits {
        assert_eq!(rows(&app, &format!("UPDATE n.t SET {column} = {value}")).await, ["1"], "{column} = {value}");
        assert_eq!(rows(&app, &format!("SELECT {column} FROM n.t")).await, [stored], "UPDATE {column} = {value}");
        rows(&app, &format!("INSERT INTO n.t (k, {column}) VALUES (4, NULL), (5, {value})")).await;
        assert_eq!(rows(&app, &format!("SELECT {column} FROM n.t WHERE k = 5")).await, [stored], "INSERT {column} = {value}");
        rows(&app, "DELETE FROM n.t WHERE k > 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_values_keep_what_each_says() {
    let app = TestApp::start().await;
    table(&app, "t", 2, &[("l", json!("long"), false), ("s", json!("string"), false)]).await;
    rows(&app, "INSERT INTO n.t VALUES (9007199254740993, 'a'), (CAST(2 AS DOUBLE), 1), ('3', DATE '2026-01-01'), (NULL, NULL)")
        .await;
    assert_eq!(
        rows(&app, "SELECT * FROM n.t ORDER BY l NULLS FIRST").await,
        ["NULL|NULL", "2|1", "3|2026-01-01", "9007199254740993|a"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn structs_are_stored_by_the_names_of_their_fields() {
    let app = TestApp::start().await;
    let inner = json!({"type": "struct", "fields": [
        {"id": 10, "name": "a", "type": "int", "required": false}, {"id": 11, "name": "b", "type": "int", "required": true},
    ]});
    let list = json!({"type": "list", "element-id": 12, "element": "int", "element-required": false});
    table(&app, "t", 2, &[("k", json!("int"), false), ("s", inner, false), ("l", list, false)]).await;
    rows(&app, "INSERT INTO n.t VALUES (1, named_struct('b', 2, 'a', 1), [1, 2, NULL])").await;
    assert_eq!(rows(&app, "SELECT s.a, s.b, l[2] FROM n.t").await, ["1|2|2"]);
    rows(&app, "UPDATE n.t SET s = named_struct('b', s.b * 10), l = ['3']").await;
    assert_eq!(rows(&app, "SELECT s.a, s.b, l[1] FROM n.t").await, ["NULL|20|3"]);
    let wrong = [
        ("s", "named_struct('a', 1, 'b', 2, 'c', 3)", "no field c"),
        ("s", "named_struct('a', 1)", "s.b is required"),
        ("s", "named_struct('a', 3000000000, 'b', 1)", "s.a: 3000000000 does not fit int"),
        ("l", "[3000000000]", "3000000000 does not fit int"),
    ];
    for (column, value, what) in wrong {
        let error = refused(&app, &format!("UPDATE n.t SET {column} = {value}")).await;
        assert!(error.contains(what), "{value}: {error}");
    }
    rows(&app, "UPDATE n.t SET s = NULL").await;
    assert_eq!(rows(&app, "SELECT s IS NULL, k FROM n.t").await, ["true|1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nanoseconds_are_not_cut_to_microseconds() {
    let app = TestApp::start().await;
    table(&app, "ns", 3, &[("at", json!("timestamp_ns"), false)]).await;
    table(&app, "us", 2, &[("at", json!("timestamp"), false)]).await;
    rows(&app, "INSERT INTO n.ns VALUES ('2026-01-01 00:00:00.000000001')").await;
    assert!(refused(&app, "INSERT INTO n.us SELECT at FROM n.ns").await.contains("column at"));
    rows(&app, "CREATE TABLE n.made AS SELECT at FROM n.ns").await;
    assert_eq!(rows(&app, "SELECT at FROM n.made").await, ["2026-01-01T00:00:00.000000001"]);
    rows(&app, "UPDATE n.ns SET at = '2026-01-01 00:00:00.000001'").await;
    rows(&app, "INSERT INTO n.us SELECT at FROM n.ns").await;
    assert_eq!(rows(&app, "SELECT at FROM n.us").await, ["2026-01-01T00:00:00.000001"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_expressions_may_be_selected() {
    let app = TestApp::start().await;
    table(&app, "t", 2, &[("a", json!("int"), false), ("b", json!("int"), false), ("c", json!("int"), false)]).await;
    rows(&app, "INSERT INTO n.t SELECT 1, NULL, NULL").await;
    rows(&app, "INSERT INTO n.t SELECT a + 1, a, a FROM n.t").await;
    let cases = [
        ("SELECT 1, 1", "1|1"),
        ("SELECT NULL, NULL, 'x', 'x'", "NULL|NULL|x|x"),
        ("SELECT a, a, a FROM n.t WHERE a = 2", "2|2|2"),
        ("SELECT a, t.a, n.t.a, A FROM n.t WHERE a = 2", "2|2|2|2"),
        ("SELECT *, a FROM n.t WHERE a = 2", "2|1|1|2"),
        ("SELECT *, a + 10 AS a FROM n.t ORDER BY a DESC LIMIT 1", "2|1|1|12"),
        ("SELECT t.b, t.*, a AS c FROM n.t AS t ORDER BY c LIMIT 1", "NULL|1|NULL|NULL|1"),
        ("SELECT t.*, t.b FROM n.t AS t WHERE a = 2", "2|1|1|1"),
        ("SELECT a AS b, b FROM n.t WHERE a = 2", "2|1"),
        ("SELECT a AS x, b AS x FROM n.t WHERE a = 2", "2|1"),
        ("SELECT count(*), count(*), max(a), max(a) FROM n.t", "2|2|2|2"),
        ("SELECT a, CAST(a AS INT), CAST(a AS BIGINT) FROM n.t WHERE a = 2", "2|2|2"),
        ("SELECT * FROM (SELECT 1, 1)", "1|1"),
        ("SELECT * FROM (SELECT a, a FROM n.t WHERE a = 2) AS x", "2|2"),
        ("WITH x AS (SELECT 1, 1) SELECT * FROM x", "1|1"),
        ("SELECT 1, 1 UNION SELECT 1, 1", "1|1"),
        ("SELECT 1, 1 UNION ALL SELECT 2, 2 ORDER BY 1 LIMIT 1", "1|1"),
        ("SELECT DISTINCT a, a FROM n.t ORDER BY a LIMIT 1", "1|1"),
        ("SELECT a, a, count(*) FROM n.t GROUP BY a, a ORDER BY a DESC LIMIT 1", "2|2|1"),
        ("SELECT a, a, count(*) FROM n.t GROUP BY 1, 2 ORDER BY 1 DESC LIMIT 1", "2|2|1"),
        ("SELECT x.a, y.a FROM n.t x JOIN n.t y ON x.a = y.a WHERE x.a = 2", "2|2"),
        ("SELECT * FROM (SELECT x.a, y.a FROM n.t x JOIN n.t y ON x.a = y.a WHERE x.a = 2) AS z", "2|2"),
        ("SELECT a + 1, a + 1 FROM n.t GROUP BY a + 1 HAVING a + 1 = 3 ORDER BY a + 1", "3|3"),
        ("SELECT DISTINCT a + 1, a + 1 FROM n.t ORDER BY a + 1 DESC LIMIT 1", "3|3"),
        ("SELECT row_number() OVER (ORDER BY a), row_number() OVER (ORDER BY a) FROM n.t ORDER BY 1 LIMIT 1", "1|1"),
    ];
    for (sql, line) in cases {
        assert_eq!(rows(&app, sql).await, [line], "{sql}");
    }
    let names = async |sql: &str| -> Vec<String> {
        let batches = app.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        batches[0].schema().fields().iter().map(|f| f.name().clone()).collect()
    };
    assert_eq!(names("SELECT a, a, b AS a FROM n.t").await, ["a", "a", "a"]);
    assert_eq!(names("SELECT *, a FROM n.t").await, ["a", "b", "c", "a"]);
    assert_eq!(names("SELECT 1, 1, count(*), sum(a) AS s FROM n.t").await, ["1", "1", "count(*)", "s"]);
    assert!(refused(&app, "CREATE TABLE n.made AS SELECT a, a FROM n.t").await.contains("AS"));
    rows(&app, "CREATE TABLE n.made AS SELECT a, a AS b FROM n.t").await;
    table(&app, "ids", 2, &[("u", json!("uuid"), false), ("x", json!("fixed[16]"), false)]).await;
    rows(&app, "INSERT INTO n.ids VALUES ('f79c3e09-677c-4bbd-a479-3f349cb785e7', X'000102030405060708090a0b0c0d0e0f')").await;
    rows(&app, "CREATE TABLE n.copied AS SELECT * FROM n.ids").await;
    let copied = app.ok(Method::GET, "/v1/default/namespaces/n/tables/copied", None).await;
    let types: Vec<&Value> =
        copied["metadata"]["schemas"][0]["fields"].as_array().expect("fields").iter().map(|f| &f["type"]).collect();
    assert_eq!(types, ["uuid", "fixed[16]"]);
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).expect("a batch")
}

async fn asked(app: &TestApp, sql: &str, parameters: RecordBatch) -> Result<Vec<String>, String> {
    let mut client = app.flight().await;
    let mut prepared = client.prepare(sql.to_owned(), None).await.map_err(|e| e.to_string())?;
    prepared.set_parameters(parameters).map_err(|e| e.to_string())?;
    let info = prepared.execute().await.map_err(|e| e.to_string())?;
    let announced = info.clone().try_decode_schema().map_err(|e| e.to_string())?;
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    let stream = client.do_get(ticket).await.map_err(|e| e.to_string())?;
    let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(|e| e.to_string())?;
    assert!(
        batches.iter().all(|batch| batch.schema().fields() == announced.fields()),
        "the answer has the shape that was announced: {sql}"
    );
    Ok(lines(&batches))
}

async fn changed(app: &TestApp, sql: &str, parameters: RecordBatch) -> Result<i64, String> {
    let mut prepared = app.flight().await.prepare(sql.to_owned(), None).await.map_err(|e| e.to_string())?;
    prepared.set_parameters(parameters).map_err(|e| e.to_string())?;
    prepared.execute_update().await.map_err(|e| e.to_string())
}

/// JDBC: `executeUpdate` refuses a statement that produces a result set.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_sent_as_an_update_is_refused() {
    let app = TestApp::start().await;
    table(&app, "t", 2, &[("i", json!("long"), false)]).await;
    let mut client = app.flight().await;
    for query in ["SELECT i FROM n.t", "EXPLAIN SELECT i FROM n.t", "SHOW TABLES"] {
        let refused = client.execute_update(query.to_owned(), None).await.expect_err(query).to_string();
        assert!(refused.contains("run it as a query"), "{refused}");
    }
    assert_eq!(client.execute_update("INSERT INTO n.t VALUES (1), (2)".to_owned(), None).await.expect("inserted"), 2);
    let long: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    assert!(changed(&app, "SELECT ?", batch(vec![("a", long)])).await.expect_err("a query").contains("run it as a query"));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_values() {
    let app = TestApp::start().await;
    table(&app, "t", 2, &[("i", json!("long"), false), ("s", json!("string"), false)]).await;
    rows(&app, "INSERT INTO n.t VALUES (1, 'one'), (2, 'it''s ?'), (3, 'x'' OR 1=1')").await;
    let long = |v: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![v])) };
    let text = |v: &str| -> ArrayRef { Arc::new(StringArray::from(vec![v])) };
    let double = |v: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![v])) };
    let cases: [(&str, Vec<ArrayRef>, &[&str]); 15] = [
        ("SELECT ?", vec![long(7)], &["7"]),
        ("SELECT ? AS x", vec![text("it's ? -- $1")], &["it's ? -- $1"]),
        ("SELECT ?, ?, ? + 1", vec![long(1), text("a"), double(0.5)], &["1|a|1.5"]),
        ("SELECT $2, $1, $2", vec![long(1), long(2)], &["2|1|2"]),
        ("SELECT ?", vec![Arc::new(arrow::array::NullArray::new(1))], &["NULL"]),
        ("SELECT i FROM n.t WHERE s = ?", vec![text("x' OR 1=1")], &["3"]),
        ("SELECT i FROM n.t WHERE s = ? OR s = '?'", vec![text("it's ?")], &["2"]),
        ("SELECT s FROM n.t WHERE i = ? AND s <> '?' /* ? */", vec![long(1)], &["one"]),
        ("SELECT i FROM n.t WHERE i IN (?, ?) ORDER BY i", vec![long(1), long(3)], &["1", "3"]),
        ("SELECT i FROM n.t ORDER BY i LIMIT ? OFFSET ?", vec![long(1), long(1)], &["2"]),
        ("SELECT i FROM n.t WHERE i = $1 AND s <> '' AND i + 1 > $1 AND length(s) > $1", vec![long(2)], &["2"]),
        ("SELECT i FROM n.t WHERE (i, s) = (?, ?)", vec![long(1), text("one")], &["1"]),
        ("SELECT upper(?), coalesce(?, 'b')", vec![text("a"), text("c")], &["A|c"]),
        ("SELECT x FROM (SELECT ? AS x UNION ALL SELECT ?) ORDER BY x", vec![long(2), long(1)], &["1", "2"]),
        (
            "SELECT CASE WHEN i > ? THEN ? ELSE ? END FROM n.t ORDER BY i",
            vec![long(2), text("big"), text("small")],
            &["small", "small", "big"],
        ),
    ];
    for (sql, values, expected) in cases {
        let names: Vec<String> = (1..=values.len()).map(|n| format!("p{n}")).collect();
        let bound = batch(names.iter().map(String::as_str).zip(values).collect());
        let answer = asked(&app, sql, bound).await;
        assert_eq!(answer, Ok(expected.iter().map(|s| (*s).to_owned()).collect()), "{sql}");
    }
    assert!(asked(&app, "SELECT ?, ?", batch(vec![("a", long(1))])).await.expect_err("too few").contains("parameters"));
    assert!(asked(&app, "SELECT ?, $1", batch(vec![("a", long(1))])).await.expect_err("mixed").contains("not both"));
    let two = batch(vec![("a", Arc::new(Int64Array::from(vec![1, 2])))]);
    assert!(asked(&app, "SELECT ?", two).await.expect_err("two rows").contains("one row"));
    let unbound = app.sql("SELECT i FROM n.t WHERE i = ?").await.expect_err("nothing bound");
    assert!(unbound.contains("no values are bound"), "{unbound}");

    let mut client = app.flight().await;
    let prepared = client.prepare("UPDATE n.t SET i = ?, s = ? WHERE i = ?".to_owned(), None).await.expect("prepared");
    let types: Vec<String> =
        prepared.parameter_schema().expect("a schema").fields().iter().map(|f| f.data_type().to_string()).collect();
    assert_eq!(types, ["Int64", "Utf8", "Int64"]);
    let prepared = client.prepare("INSERT INTO n.t (s, i) VALUES (?, ?)".to_owned(), None).await.expect("prepared");
    let types: Vec<String> =
        prepared.parameter_schema().expect("a schema").fields().iter().map(|f| f.data_type().to_string()).collect();
    assert_eq!(types, ["Utf8", "Int64"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_runs_for_every_row_of_its_parameters() {
    let app = TestApp::start().await;
    table(&app, "t", 3, &[("i", json!("int"), false), ("s", json!("string"), false)]).await;
    let ids: Vec<i64> = (0..1000).collect();
    let texts: Vec<String> = ids.iter().map(|i| format!("it's {i} ?")).collect();
    let many = batch(vec![("i", Arc::new(Int64Array::from(ids))), ("s", Arc::new(StringArray::from(texts)))]);
    assert_eq!(changed(&app, "INSERT INTO n.t VALUES (? + 1, ?)", many).await, Ok(1000));
    assert_eq!(rows(&app, "SELECT count(*), min(i), max(i), max(s) FROM n.t").await, ["1000|1|1000|it's 999 ?"]);
    assert_eq!(rows(&app, "SELECT count(*) FROM n.\"t$snapshots\"").await, ["1"], "one commit");

    let longs = |values: &[i64]| -> ArrayRef { Arc::new(Int64Array::from(values.to_vec())) };
    let update = batch(vec![("to", longs(&[5000, 5001, 6000])), ("from", longs(&[1, 2, 5000]))]);
    assert_eq!(changed(&app, "UPDATE n.t SET i = ? WHERE i = ?", update).await, Ok(3), "each row sees those before it");
    assert_eq!(rows(&app, "SELECT i FROM n.t WHERE i > 1000 ORDER BY i").await, ["5001", "6000"]);
    assert_eq!(changed(&app, "DELETE FROM n.t WHERE i = ?", batch(vec![("i", longs(&[5001, 6000, 77777]))])).await, Ok(2));
    assert_eq!(changed(&app, "INSERT INTO n.t SELECT ?, count(*) FROM n.t", batch(vec![("i", longs(&[1, 2]))])).await, Ok(2));
    assert_eq!(rows(&app, "SELECT s FROM n.t WHERE i < 3 ORDER BY i").await, ["998", "999"]);

    let error = changed(&app, "INSERT INTO n.t VALUES (?, 'x')", batch(vec![("i", longs(&[7, 3_000_000_000]))])).await;
    assert!(error.expect_err("too large").contains("column i: 3000000000 does not fit int"));
    let error = changed(&app, "UPDATE n.t SET i = ? WHERE i = 3", batch(vec![("i", longs(&[4, 3_000_000_000]))])).await;
    assert_eq!(error, Ok(1), "no row is left for the second");
    assert_eq!(rows(&app, "SELECT count(*) FROM n.t").await, ["1000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_speak_of_the_statement() {
    let app = TestApp::start().await;
    table(&app, "t", 2, &[("i", json!("int"), false), ("s", json!("string"), false)]).await;
    rows(&app, "INSERT INTO n.t VALUES (1, 'x'), (0, 'y')").await;
    for (sql, what) in [
        ("SELECT nope FROM n.t", "nope"),
        ("SELECT * FROM n.nope", "nope"),
        ("SELECT 1 / i FROM n.t", "ivi"),
        ("SELECT CAST(s AS INT) FROM n.t", "'x'"),
        ("SELECT s + 1 FROM n.t WHERE s || 5 - 3", ""),
        ("SELECT abs(s, 1, 2) FROM n.t", "abs"),
        ("SELECT nope(1)", "nope"),
        ("SELEC 1", "SELEC"),
        ("SELECT 'open", "nterminated"),
        ("SELECT i FROM n.t GROUP BY s", ""),
        ("SELECT sum(s) FROM n.t", "sum"),
        ("DROP TABLE n.t", "only queries"),
        ("DELETE FROM n.t WHERE s", ""),
        ("SELECT a.i FROM n.t AS a JOIN n.t AS b ON a.i = b.i WHERE i = 1", "i"),
    ] {
        let error = refused(&app, sql).await;
        assert!(error.contains(what) && !error.contains("Internal"), "{sql}: {error}");
    }
    // Programs write such long chains; each term adds a level to the expression.
    for (term, operator, sum) in [("i = 7", " OR ", "false"), ("i", " + ", "60")] {
        let chain = vec![term; 60].join(operator);
        let answer = rows(&app, &format!("SELECT {chain} FROM n.t WHERE i = 1 OR {}", vec!["i = 7"; 60].join(" OR "))).await;
        assert_eq!(answer, [sum]);
    }
    let deep = format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500));
    assert!(refused(&app, &deep).await.contains("nested too deeply"));
}

/// Creates a view of text columns, with a query in the given dialect.
async fn view(app: &TestApp, name: &str, columns: &[&str], dialect: &str, sql: &str) {
    let field = |(i, name): (usize, &&str)| json!({"id": i + 1, "name": name, "type": "string", "required": false});
    let fields: Vec<Value> = columns.iter().enumerate().map(field).collect();
    let create = json!({
        "name": name, "schema": {"type": "struct", "schema-id": 0, "fields": fields}, "properties": {},
        "view-version": {
            "version-id": 1, "timestamp-ms": 1, "schema-id": 0, "summary": {}, "default-namespace": ["n"],
            "representations": [{"type": "sql", "sql": sql, "dialect": dialect}],
        },
    });
    app.ok(Method::POST, "/v1/default/namespaces/n/views", Some(create)).await;
}

/// A view whose table can't be loaded fails with the status of the table, not with that of a wrong statement.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_a_table_whose_metadata_is_gone_fails_as_the_table_does() {
    let app = TestApp::start().await;
    let table = app.table().await;
    view(&app, "v", &["s"], "spark", "SELECT s FROM n.t").await;
    let path = table["metadata-location"].as_str().expect("a location")[7..].to_owned();
    // A running server has the metadata in its cache.
    let dir = app.stop().await;
    std::fs::remove_file(&path).expect("removed");
    let app = TestApp::restart(dir).await;
    let status = |error: String| error.split("message").next().unwrap_or_default().to_owned();
    let (of_table, of_view) = (refused(&app, "SELECT s FROM n.t").await, refused(&app, "SELECT s FROM n.v").await);
    assert!(of_view.contains(&path), "{of_view}");
    assert_eq!(status(of_view), status(of_table));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_of_a_view_is_read_as_it_was_written() {
    let app = TestApp::start().await;
    table(&app, "t", 2, &[("s", json!("string"), false)]).await;
    rows(&app, "INSERT INTO n.t VALUES ('it''s ? -- \\'), ('x'), ('a?')").await;
    let first = rows(&app, "SELECT snapshot_id FROM n.\"t$snapshots\"").await.remove(0);
    rows(&app, "INSERT INTO n.t VALUES ('late')").await;
    let nulls = |order: &str| {
        format!("SELECT coalesce(s, 'none'), coalesce(s || '-' || s, 'none') FROM (VALUES ('b'), (NULL), ('a')) AS v(s) {order}")
    };
    let cases = [
        ("esker", "SELECT s, s FROM t WHERE s = 'it''s ? -- \\' /* ' ? */".to_owned(), r"it's ? -- \|it's ? -- \"),
        ("trino", "SELECT s, 'FOR VERSION AS OF 3' FROM n.t WHERE s = 'a?' -- ?".to_owned(), "a?|FOR VERSION AS OF 3"),
        ("spark", r"SELECT `s`, 'it\'s ?' FROM t WHERE s = 'it\'s ? -- \\'".to_owned(), r"it's ? -- \|it's ?"),
        ("duckdb", "SELECT 'x', 'x' FROM n.t WHERE s = 'late'".to_owned(), "x|x"),
        ("spark", "SELECT CAST(1 / 2 AS STRING), CAST(1.5 / 2 AS STRING)".to_owned(), "0.5|0.750000"),
        ("duckdb", "SELECT CAST(7 / 2 AS VARCHAR), 'x'".to_owned(), "3.5|x"),
        ("trino", "SELECT CAST(7 / 2 AS VARCHAR), 'x'".to_owned(), "3|x"),
        ("spark", format!("SELECT max(s), count(*) FROM t VERSION AS OF {first}"), "x|3"),
        // Expected values are those of Spark 3.5, and of the manuals of the other engines.
        ("spark", nulls("ORDER BY s LIMIT 1"), "none|none"),
        ("spark", nulls("ORDER BY s DESC LIMIT 1"), "b|b-b"),
        ("trino", nulls("ORDER BY s DESC LIMIT 1"), "b|b-b"),
        ("duckdb", nulls("ORDER BY s DESC LIMIT 1"), "b|b-b"),
        ("duckdb", nulls("QUALIFY row_number() OVER (ORDER BY s DESC) = 1"), "b|b-b"),
        ("spark", "SELECT regexp_replace('aaa', 'a', 'b'), coalesce(concat('a', NULL), ltrim('x', 'xa'))".to_owned(), "bbb|a"),
    ];
    for (i, (dialect, sql, line)) in cases.iter().enumerate() {
        view(&app, &format!("v{i}"), &["a", "b"], dialect, sql).await;
        assert_eq!(rows(&app, &format!("SELECT * FROM n.v{i}")).await, [*line], "{dialect}: {sql}");
        assert_eq!(rows(&app, &format!("SELECT b, a, a FROM n.v{i} AS v WHERE v.a IS NOT NULL")).await.len(), 1);
    }
    for (i, (dialect, sql)) in [
        ("spark", "SELECT s, s FROM t TIMESTAMP AS OF current_timestamp()"),
        ("esker", "SELECT s, ? FROM t"),
        ("esker", "SELECT table_name, table_schema FROM information_schema.tables"),
        ("trino", "SELECT s, s FROM t; SELECT 1, 2"),
    ]
    .iter()
    .enumerate()
    {
        view(&app, &format!("w{i}"), &["a", "b"], dialect, sql).await;
        assert!(refused(&app, &format!("SELECT * FROM n.w{i}")).await.contains(&format!("n.w{i}")), "{sql}");
    }
}

/// The namespaces `["a.b"]` and `["a", "b"]` are different.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_whose_name_holds_a_dot_is_not_the_one_of_two_levels() {
    let app = TestApp::start().await;
    for namespace in [json!(["a"]), json!(["a", "b"]), json!(["a.b"])] {
        app.ok(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": namespace}))).await;
    }
    for sql in [
        "CREATE TABLE a.b.t AS SELECT 1 AS id",
        "CREATE TABLE \"a.b\".t AS SELECT 2 AS id",
        "CREATE TABLE a.b.u AS SELECT 7 AS id",
    ] {
        app.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    let all =
        async || (rows(&app, "SELECT id FROM a.b.t ORDER BY id").await, rows(&app, "SELECT id FROM \"a.b\".t ORDER BY id").await);
    assert_eq!(all().await, (vec!["1".to_owned()], vec!["2".to_owned()]));
    for sql in
        ["INSERT INTO \"a.b\".t VALUES (3)", "DELETE FROM \"a.b\".t WHERE id < 3", "UPDATE default.\"a.b\".t SET id = id + 1"]
    {
        app.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    assert_eq!(all().await, (vec!["1".to_owned()], vec!["4".to_owned()]));
    app.sql("DELETE FROM a.b.t").await.expect("deleted");
    assert_eq!(all().await, (vec![], vec!["4".to_owned()]));
    assert_eq!(rows(&app, "SELECT id FROM \"a.b\".u").await, ["7"]);
    let listed = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'a.b' ORDER BY 1";
    assert_eq!(rows(&app, listed).await, ["t", "u"]);
    // A view's default namespace is a list of levels.
    let create = json!({
        "name": "v", "schema": {"type": "struct", "schema-id": 0, "fields": [{"id": 0, "name": "id", "required": false, "type": "long"}]},
        "properties": {},
        "view-version": {
            "version-id": 1, "timestamp-ms": 1, "schema-id": 0, "summary": {}, "default-namespace": ["a", "b"],
            "representations": [{"type": "sql", "sql": "SELECT count(*) FROM t", "dialect": "esker"}],
        },
    });
    app.ok(Method::POST, "/v1/default/namespaces/a.b/views", Some(create)).await;
    assert_eq!(rows(&app, "SELECT id FROM \"a.b\".v").await, ["0"]);
}
