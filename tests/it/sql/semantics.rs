//! The semantics of SQL statements (`docs/sql.md`).
//!
//! Expected values are those of the page's sources: the SQL standard, PostgreSQL 17, Iceberg's types. Other modules use the helpers
//! at the top: `check` compares the answers of statements, `refused` their errors.

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use esker_tests::TestApp;
use reqwest::Method;
use serde_json::json;

/// Formats record batches as text, one line for each row.
fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).expect("a format")).collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    rows
}

pub(crate) async fn answer(app: &TestApp, sql: &str) -> String {
    match app.sql(sql).await {
        Ok(batches) => rows(&batches).join(","),
        Err(error) => panic!("{sql}: {error}"),
    }
}

/// Runs statements and compares their answers: rows are joined by commas, values by bars.
pub(crate) async fn check(app: &TestApp, cases: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (sql, expected) in cases {
        let made = match app.sql(sql).await {
            Ok(batches) => rows(&batches).join(","),
            Err(error) => format!("error: {error}"),
        };
        if made != *expected {
            wrong.push(format!("{sql}\n  is    {made}\n  not   {expected}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Runs statements that must fail, and checks that each error contains the given text.
pub(crate) async fn refused(app: &TestApp, cases: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (sql, named) in cases {
        match app.sql(sql).await {
            Ok(batches) => wrong.push(format!("{sql}\n  is    {}", rows(&batches).join(","))),
            Err(error) if error.contains(named) => {}
            Err(error) => wrong.push(format!("{sql}\n  says  {error}\n  names {named}")),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Starts a server with a namespace `n`, and runs some statements.
pub(crate) async fn holding(statements: &[&str]) -> TestApp {
    let app = TestApp::start().await;
    app.namespace().await;
    for sql in statements {
        answer(&app, sql).await;
    }
    app
}

/// Starts a server with a table `n.v` that has a column of each type, four rows with values and one of nulls.
pub(crate) async fn typed() -> TestApp {
    let app = holding(&[]).await;
    let types = [
        ("id", "int"),
        ("b", "boolean"),
        ("i", "int"),
        ("l", "long"),
        ("f", "float"),
        ("d", "double"),
        ("dec", "decimal(10, 2)"),
        ("wide", "decimal(38, 10)"),
        ("dt", "date"),
        ("tm", "time"),
        ("ts", "timestamp"),
        ("tz", "timestamptz"),
        ("ns", "timestamp_ns"),
        ("u", "uuid"),
        ("fx", "fixed[2]"),
        ("bin", "binary"),
        ("s", "string"),
    ];
    let fields =
        types.iter().enumerate().map(|(i, (name, ty))| json!({"id": i + 1, "name": name, "type": ty, "required": false}));
    let fields: Vec<_> = fields.collect();
    let schema = json!({"type": "struct", "schema-id": 0, "fields": fields});
    let create = json!({"name": "v", "schema": schema, "properties": {"format-version": "3"}});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
    let row = |id: i32, values: &str| format!("INSERT INTO n.v VALUES ({id}, {values})");
    let statements = [
        row(1, "true, 1, 1, CAST(0.1 AS REAL), 0.1, 1234567.89, 1.5, DATE '2020-01-01', TIME '10:00:00',
            TIMESTAMP '2020-01-01 00:00:00', TIMESTAMPTZ '2020-01-01 00:00:00Z', TIMESTAMP(9) '2020-01-01 00:00:00.000000001',
            CAST('f79c3e09-677c-4bbd-a479-3f349cb785e7' AS UUID), X'CAFE', X'CAFE', 'a'"),
        row(2, "false, 2147483647, 9223372036854775807, CAST(16777216 AS REAL), 1e300, -0.01, 9999999999999999999999999999.9999999999,
            DATE '0001-01-01', TIME '23:59:59.999999', TIMESTAMP '0001-01-01 00:00:00', TIMESTAMPTZ '0001-01-01 00:00:00Z',
            TIMESTAMP(9) '2262-04-11 23:47:16.854775807', CAST('00000000-0000-0000-0000-000000000000' AS UUID), X'0000', X'', ''"),
        row(3, "true, -2147483648, -9223372036854775808, CAST(-1.5 AS REAL), -1e300, 0.00, -0.0000000001,
            DATE '9999-12-31', TIME '00:00:00', TIMESTAMP '9999-12-31 23:59:59.999999', TIMESTAMPTZ '9999-12-31 23:59:59.999999Z',
            TIMESTAMP(9) '1677-09-21 00:12:43.145224193', CAST('ffffffff-ffff-ffff-ffff-ffffffffffff' AS UUID), X'FFFF', X'FF', 'a '"),
        row(4, "false, 0, 0, CAST(0 AS REAL), 0e0, 1.00, 0, DATE '1970-01-01', TIME '12:00:00',
            TIMESTAMP '1969-12-31 23:59:59.999999', TIMESTAMPTZ '1969-12-31 23:59:59.999999Z',
            TIMESTAMP(9) '1969-12-31 23:59:59.999999', CAST('0000cafe-0000-0000-0000-000000000000' AS UUID), X'CAFF', X'CAFE00', 'B'"),
        "INSERT INTO n.v (id) VALUES (5)".to_owned(),
    ];
    for statement in statements {
        assert_eq!(answer(&app, &statement).await, "1", "{statement}");
    }
    app
}

fn ids(condition: &str) -> String {
    format!("SELECT id FROM n.v WHERE {condition} ORDER BY id")
}

pub(crate) async fn find(app: &TestApp, cases: &[(&str, &str)]) {
    let statements: Vec<(String, &str)> = cases.iter().map(|(condition, found)| (ids(condition), *found)).collect();
    let cases: Vec<(&str, &str)> = statements.iter().map(|(sql, found)| (sql.as_str(), *found)).collect();
    check(app, &cases).await;
}

/// Numeric literals are exact, those with an exponent approximate (SQL:2016 5.3). Numbers compare by value.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_compare_by_value_whatever_their_types() {
    let app = typed().await;
    find(
        &app,
        &[
            ("dec = 1234567.89", "1"),
            ("dec IN (1234567.89, 1)", "1,4"),
            ("dec = 1234567.890", "1"),
            ("dec = 1234567.891", ""),
            ("dec < 0.005 AND dec > -0.015", "2,3"),
            ("dec <> 0.005", "1,2,3,4"),
            ("dec BETWEEN 0.999 AND 1.001", "4"),
            ("dec = '1.000'", "4"),
            ("dec = '1.001'", ""),
            ("dec < 1e0", "2,3"),
            ("wide = 9999999999999999999999999999.9999999999", "2"),
            ("wide < 0.00000000000000000000000000000000000001", "3,4"),
            ("wide = l", "4"),
            ("wide > dec", "2"),
            ("dec < wide AND dec <> 1", "2"),
            ("i = 3000000000 OR i > 3000000000 OR i <= -3000000000", ""),
            ("i < 3000000000", "1,2,3,4"),
            ("i <> 3000000000", "1,2,3,4"),
            ("NOT (i = 1.5)", "1,2,3,4"),
            ("i = 1.0", "1"),
            ("i = 1.5", ""),
            ("i < 1.5 AND i > -0.5", "1,4"),
            ("i IN (1.0, 1.5, 0, NULL)", "1,4"),
            ("i NOT IN (1.0, 1.5)", "2,3,4"),
            ("i NOT IN (1, NULL)", ""),
            ("i = '1'", "1"),
            ("l = 9223372036854775807", "2"),
            ("l = 9223372036854775808", ""),
            ("l < 9223372036854775808", "1,2,3,4"),
            ("l = -9223372036854775808", "3"),
            ("l > 9223372036854775806.5", "2"),
            ("d = 0.1", "1"),
            ("d = 1e-1", "1"),
            ("d IN (0.1, 7)", "1"),
            ("0.1 = d", "1"),
            ("d = 1e300", "2"),
            ("d < 0.05", "3,4"),
            ("d BETWEEN 0.05 AND 0.15", "1"),
            ("f = 0.1", "1"),
            ("f <= 0.1 AND f > 0", "1"),
            ("f < 1e39", "1,2,3,4"),
            ("f = 16777217", ""),
            ("f = 16777216", "2"),
            ("f = -1.5", "3"),
            ("dec = d", ""),
            ("CASE i WHEN 1.5 THEN false WHEN 1.0 THEN true ELSE false END", "1"),
        ],
    )
    .await;
    check(
        &app,
        &[
            ("SELECT 0.1 + 0.2 = 0.3", "true"),
            ("SELECT 1e-1 + 2e-1 = 3e-1", "false"),
            ("SELECT 1.10", "1.10"),
            ("SELECT 12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
            ("SELECT 0.12345678901234567890123456789012345678", "0.12345678901234567890123456789012345678"),
            ("SELECT -9223372036854775808", "-9223372036854775808"),
            ("SELECT CASE WHEN id = 1 THEN d ELSE 0.0 END FROM n.v WHERE id <= 2 ORDER BY id", "0.1,0.0"),
            ("SELECT CASE WHEN id = 2 THEN d ELSE 0.5 END FROM n.v WHERE id <= 2 ORDER BY id", "0.5,1e300"),
            ("SELECT coalesce(d, 0.5) FROM n.v WHERE id IN (2, 5) ORDER BY id", "1e300,0.5"),
            ("SELECT 1 AS a UNION ALL SELECT 2.5 ORDER BY a", "1.0,2.5"),
            ("SELECT 1e300 AS a UNION ALL SELECT 0.1 ORDER BY a", "0.1,1e300"),
            ("SELECT d * 0.5 FROM n.v WHERE id = 1", "0.05"),
            ("SELECT 7 / 2, -7 / 2, 7 % 2, -7 % 2", "3|-3|1|-1"),
            ("SELECT CAST(2.5 AS INT), CAST(25e-1 AS INT), CAST(-2.5 AS INT), TRY_CAST(3e9 AS INT)", "3|2|-3|NULL"),
            ("SELECT id FROM n.v WHERE CAST(dec AS INT) = 1234568", "1"),
            ("SELECT id FROM n.v WHERE CAST(dec AS INT) = 0 ORDER BY id", "2,3"),
            ("SELECT id FROM n.v WHERE CAST(ns AS TIMESTAMP) = TIMESTAMP '2020-01-01'", "1"),
            ("SELECT sum(l) + 1 FROM n.v WHERE id <= 2 AND l < 2", "2"),
            ("SELECT sum(l) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM n.v WHERE id IN (1, 3, 4) ORDER BY id",
             "1,-9223372036854775807,-9223372036854775808"),
            ("SELECT 1 / 3.0, 2 / 3.0, CAST(1 AS DECIMAL(10, 2)) / CAST(3 AS DECIMAL(10, 2))", "0.333333|0.666667|0.3333333333333"),
            ("SELECT dec / 0.5, dec / 2 FROM n.v WHERE id = 4", "2.000000|0.500000"),
            ("SELECT sum(dec), avg(dec) FROM n.v", "1234568.88|308642.220000"),
            ("SELECT count(*) FROM n.v x JOIN n.v y ON x.dec = y.i", "2"),
            ("SELECT count(*) FROM n.v x JOIN n.v y ON x.d = y.dec", "1"),
            ("SELECT count(*) FROM n.v WHERE dec IN (SELECT d FROM n.v)", "1"),
        ],
    )
    .await;
    refused(
        &app,
        &[
            ("SELECT 123456789012345678901234567890123456789", "123456789012345678901234567890123456789"),
            ("SELECT 1e999", "1e999"),
            ("SELECT * FROM n.v WHERE i = 'abc'", "abc"),
            ("SELECT * FROM n.v WHERE dec = 'abc'", "'abc'"),
            ("SELECT l + 1 FROM n.v", "9223372036854775807"),
            ("SELECT l * 2 FROM n.v", "922337203685477580"),
            ("SELECT sum(l) FROM n.v WHERE id < 3", "out of the range"),
            ("SELECT sum(l) FROM n.v WHERE id < 3 GROUP BY tm < '10:00:00'", "out of the range"),
            ("SELECT sum(w) FROM (VALUES (99999999999999999999999999999999999999), (99999999999999999999999999999999999999)) AS v(w)", "out of the range"),
            ("SELECT l - 1 FROM n.v", "-9223372036854775808"),
            ("SELECT 1 / 0", "ivi"),
            ("SELECT i % 0 FROM n.v", "ivi"),
            ("SELECT dec / 0.0 FROM n.v", "ivi"),
            ("SELECT w + w FROM (VALUES (99999999999999999999999999999999999999)) AS v(w)", "decimal(38, 0)"),
            ("SELECT wide * wide FROM n.v", "verflow"),
            ("SELECT CAST(l AS INT) FROM n.v", "922337203685477580"),
            ("SELECT CAST('x1' AS BIGINT)", "x1"),
        ],
    )
    .await;
}

/// Iceberg's timestamps have microseconds, in any year; only `timestamp_ns` has nanoseconds.
#[tokio::test(flavor = "multi_thread")]
async fn points_in_time_compare_exactly_whatever_their_units() {
    let app = typed().await;
    find(
        &app,
        &[
            ("ts < '9999-12-31'", "1,2,4"),
            ("ts <= '9999-12-31 23:59:59.999999'", "1,2,3,4"),
            ("ts = TIMESTAMP '0001-01-01'", "2"),
            ("ts = '0001-01-01 00:00:00'", "2"),
            ("tz = '0001-01-01T00:00:00Z'", "2"),
            ("tz = TIMESTAMPTZ '2020-01-01 02:00:00+02:00'", "1"),
            ("tz < TIMESTAMPTZ '9999-12-31 00:00:00Z'", "1,2,4"),
            ("dt = '2020-01-01'", "1"),
            ("dt < DATE '9999-12-31'", "1,2,4"),
            ("dt = DATE '0001-01-01'", "2"),
            ("dt = ts", "1,2"),
            ("dt > ts", "4"),
            ("dt < TIMESTAMP '2020-01-01 00:00:00.000001' AND dt > '2019-12-31 23:59:59'", "1"),
            ("dt = TIMESTAMP '2020-01-01 00:00:00'", "1"),
            ("dt = TIMESTAMP '2020-01-01 12:00:00'", ""),
            ("ts = DATE '2020-01-01'", "1"),
            ("ts >= DATE '2020-01-01'", "1,3"),
            ("ts IN ('2020-01-01', '0001-01-01 00:00:00')", "1,2"),
            ("ts BETWEEN '0001-01-01' AND '1970-01-01'", "2,4"),
            ("CASE WHEN i <> 0 THEN 10 / i > 1 ELSE true END", "1,4,5"),
            ("CASE WHEN s IN ('a', 'a ', 'B', '') THEN NULL ELSE CAST(s AS INT) > 1 END IS NULL", "1,2,3,4,5"),
            ("ns = TIMESTAMP(9) '2020-01-01 00:00:00.000000001'", "1"),
            ("ns = '2020-01-01 00:00:00.000000001'", "1"),
            ("ns = '2020-01-01 00:00:00'", ""),
            ("ns > TIMESTAMP '2020-01-01 00:00:00'", "1,2"),
            ("ns < '9999-12-31'", "1,2,3,4"),
            ("ns > '0001-01-01'", "1,2,3,4"),
            ("ns = ts", "4"),
            ("ns > ts", "1,2"),
            ("ts < ns", "1,2"),
            ("ns <> ts", "1,2,3"),
            ("ns < tz", "3"),
            ("ts = TIMESTAMP(9) '2020-01-01 00:00:00.000000001'", ""),
            ("ts < TIMESTAMP(9) '2020-01-01 00:00:00.000000001'", "1,2,4"),
            ("ts IN (SELECT ns FROM n.v)", "4"),
            ("ts + INTERVAL '1 day' = '2020-01-02'", "1"),
            ("ts < now() AND ts > now() - INTERVAL '100000 years'", "1,2,4"),
            ("tz < current_timestamp", "1,2,4"),
            ("dt < current_date", "1,2,4"),
            ("tm < current_time OR tm >= current_time", "1,2,3,4"),
            ("now() = now() AND current_timestamp = now() AND localtimestamp = now()", "1,2,3,4,5"),
        ],
    )
    .await;
    check(
        &app,
        &[
            ("SELECT TIMESTAMP '0001-01-01'", "0001-01-01T00:00:00"),
            ("SELECT TIMESTAMP '9999-12-31 23:59:59.999999'", "9999-12-31T23:59:59.999999"),
            ("SELECT ts FROM n.v WHERE id = 3", "9999-12-31T23:59:59.999999"),
            ("SELECT ns FROM n.v WHERE id = 1", "2020-01-01T00:00:00.000000001"),
            ("SELECT arrow_typeof(TIMESTAMP '2020-01-01')", "Timestamp(µs)"),
            ("SELECT arrow_typeof(now())", "Timestamp(µs, \"UTC\")"),
            ("SELECT arrow_typeof(to_timestamp('9999-12-31')), to_timestamp('9999-12-31')", "Timestamp(µs)|9999-12-31T00:00:00"),
            ("SELECT to_timestamp(1.5)", "1970-01-01T00:00:01.500"),
            ("SELECT date_trunc('year', ts) FROM n.v WHERE id = 3", "9999-01-01T00:00:00"),
            ("SELECT extract(year FROM ts) FROM n.v WHERE id <= 3 ORDER BY id", "2020,1,9999"),
            ("SELECT DATE '2020-01-31' + INTERVAL '1 month'", "2020-02-29"),
            ("SELECT DATE '2020-01-01' + INTERVAL '1 hour'", "2020-01-01T01:00:00"),
            ("SELECT DATE '2020-01-01' - INTERVAL '90' day", "2019-10-03"),
            ("SELECT DATE '9999-12-31' + TIME '10:00:00'", "9999-12-31T10:00:00"),
            (
                "SELECT coalesce(ts, dt), greatest(dt, TIMESTAMP '0001-01-01') FROM n.v WHERE id = 3",
                "9999-12-31T23:59:59.999999|9999-12-31T00:00:00",
            ),
            ("SELECT (ts - dt) = arrow_cast(0, 'Duration(Microsecond)') FROM n.v WHERE id <= 2", "true,true"),
            ("SELECT to_timestamp('31.12.2020 01:02:03', '%d.%m.%Y %H:%M:%S')", "2020-12-31T01:02:03"),
            ("SELECT TIMESTAMP '2020-01-01' + INTERVAL '1 month 1 day 1 second'", "2020-02-02T00:00:01"),
            ("SELECT CAST(ts AS VARCHAR) FROM n.v WHERE id = 2", "0001-01-01 00:00:00"),
            ("SELECT ns FROM n.v WHERE id = 4 UNION SELECT ts FROM n.v WHERE id = 4", "1969-12-31T23:59:59.999999"),
            (
                "SELECT CASE WHEN id = 2 THEN ts ELSE dt END FROM n.v WHERE id IN (2, 3) ORDER BY id",
                "0001-01-01T00:00:00,9999-12-31T00:00:00",
            ),
            ("SELECT count(*) FROM n.v x JOIN n.v y ON x.ts = y.ns", "1"),
            ("SELECT count(*) FROM n.v x JOIN n.v y ON x.ts = y.dt", "2"),
            (
                "SELECT count(now()), count(current_date), count(current_time), count(localtime), count(localtimestamp) FROM n.v",
                "5|5|5|5|5",
            ),
        ],
    )
    .await;
    refused(
        &app,
        &[
            ("SELECT * FROM n.v WHERE ts < 'soon'", "'soon'"),
            ("SELECT * FROM n.v WHERE dt = '2026-13-45'", "'2026-13-45'"),
            ("SELECT * FROM n.v WHERE tm = '25:00:00'", "'25:00:00'"),
            ("SELECT TIMESTAMP 'soon'", "soon"),
            ("SELECT TIMESTAMP '2020-01-01' + INTERVAL '300000 years'", ""),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_uuids_and_bytes_compare_with_their_literals() {
    let app = typed().await;
    find(
        &app,
        &[
            ("tm = TIME '10:00:00'", "1"),
            ("tm = '10:00:00'", "1"),
            ("tm IN ('10:00:00', TIME '12:00:00')", "1,4"),
            ("tm BETWEEN TIME '10:00:00' AND '12:00:00'", "1,4"),
            ("tm > '23:59:59'", "2"),
            ("tm < '10:00:00.0000001'", "1,3"),
            ("u = 'f79c3e09-677c-4bbd-a479-3f349cb785e7'", "1"),
            ("u = 'F79C3E09677C4BBDA4793F349CB785E7'", "1"),
            ("'{f79c3e09-677c-4bbd-a479-3f349cb785e7}' = u", "1"),
            ("u = UUID 'f79c3e09-677c-4bbd-a479-3f349cb785e7'", "1"),
            ("u IS NOT DISTINCT FROM 'f79c3e09-677c-4bbd-a479-3f349cb785e7' OR false", "1"),
            ("NOT 'f79c3e09-677c-4bbd-a479-3f349cb785e7' IS DISTINCT FROM u AND true", "1"),
            ("u = CAST('f79c3e09-677c-4bbd-a479-3f349cb785e7' AS UUID)", "1"),
            ("u <> 'f79c3e09-677c-4bbd-a479-3f349cb785e7'", "2,3,4"),
            ("u IN ('f79c3e09-677c-4bbd-a479-3f349cb785e7', '0000cafe-0000-0000-0000-000000000000')", "1,4"),
            ("u < '10000000-0000-0000-0000-000000000000'", "2,4"),
            ("u BETWEEN '00000000-0000-0000-0000-000000000001' AND 'f79c3e09-677c-4bbd-a479-3f349cb785e7'", "1,4"),
            ("CAST(u AS VARCHAR) = 'f79c3e09-677c-4bbd-a479-3f349cb785e7'", "1"),
            ("CAST(CAST(u AS VARCHAR) AS UUID) = u", "1,2,3,4"),
            ("u = lower('F79C3E09-677C-4BBD-A479-3F349CB785E7')", "1"),
            ("fx = X'CAFE'", "1"),
            ("fx = X'CAFE00'", ""),
            ("fx > X'CAFE00'", "3,4"),
            ("fx IN (X'CAFE', X'FFFF')", "1,3"),
            ("fx = bin", "1"),
            ("bin = X'CAFE'", "1"),
            ("bin = X''", "2"),
            ("bin > X'CAFE'", "3,4"),
            ("bin BETWEEN X'CA' AND X'CAFE'", "1"),
            ("b = 'true'", "1,3"),
            ("b", "1,3"),
            ("NOT b", "2,4"),
            ("s = ''", "2"),
            ("s = 'a'", "1"),
            ("s > 'B'", "1,3"),
            ("s LIKE 'a_'", "3"),
            ("s LIKE 'a%'", "1,3"),
            ("s || '' = 'a '", "3"),
            ("s IS NULL", "5"),
            ("s NOT LIKE 'a%'", "2,4"),
        ],
    )
    .await;
    check(
        &app,
        &[
            ("SELECT CAST(u AS VARCHAR) FROM n.v WHERE id = 1", "f79c3e09-677c-4bbd-a479-3f349cb785e7"),
            ("SELECT u = 'f79c3e09-677c-4bbd-a479-3f349cb785e7' FROM n.v WHERE id IN (1, 5) ORDER BY id", "true,NULL"),
            ("SELECT count(*) FROM n.v x JOIN n.v y ON x.u = CAST(y.u AS VARCHAR)", "4"),
            ("SELECT CASE u WHEN 'f79c3e09-677c-4bbd-a479-3f349cb785e7' THEN 'it' ELSE 'not' END FROM n.v WHERE id <= 2 ORDER BY id", "it,not"),
            ("SELECT s FROM n.v ORDER BY s", ",B,a,a ,NULL"),
            ("SELECT s FROM n.v ORDER BY s DESC", "NULL,a ,a,B,"),
            ("SELECT '%' LIKE '\\%', 'a' LIKE '\\%', 'a!b' LIKE 'a!!b' ESCAPE '!'", "true|false|true"),
        ],
    )
    .await;
    refused(
        &app,
        &[
            ("SELECT * FROM n.v WHERE u = 'f79c'", "'f79c'"),
            ("SELECT u = 'f79c' FROM n.v", "'f79c'"),
            ("SELECT CAST('f79c' AS UUID)", "'f79c'"),
            ("SELECT * FROM n.v WHERE tm = 'noon'", "'noon'"),
            ("SELECT * FROM n.v WHERE b = 'maybe'", "'maybe'"),
        ],
    )
    .await;
}

/// The number of values between the least and the greatest 64-bit integer needs 65 bits.
#[tokio::test(flavor = "multi_thread")]
async fn columns_that_hold_the_extremes_are_filtered_as_others_are() {
    let app = typed().await;
    answer(&app, "DELETE FROM n.v WHERE true").await;
    answer(&app, "INSERT INTO n.v (id, l) VALUES (1, -9223372036854775808)").await;
    answer(&app, "INSERT INTO n.v (id, l) VALUES (2, 9223372036854775807), (3, 0)").await;
    check(
        &app,
        &[
            ("SELECT id, l FROM n.v WHERE id >= 2 ORDER BY id", "2|9223372036854775807,3|0"),
            ("SELECT id FROM n.v WHERE l < 0", "1"),
            ("SELECT id FROM n.v WHERE l BETWEEN -9223372036854775808 AND 0 AND id > 0 ORDER BY id", "1,3"),
            ("SELECT min(l), max(l), count(*) FROM n.v WHERE id <= 3", "-9223372036854775808|9223372036854775807|3"),
            ("SELECT x.id FROM n.v x JOIN n.v y ON x.l = y.l WHERE y.id > 1 ORDER BY x.id", "2,3"),
        ],
    )
    .await;
}

/// `now()` is the time at which a statement runs, in every kind of statement.
#[tokio::test(flavor = "multi_thread")]
async fn statements_that_change_rows_know_the_time() {
    let app = TestApp::start().await;
    app.table().await;
    let statements = [
        ("CREATE TABLE n.w AS SELECT 1 AS id, now() AS at, TIMESTAMP '2001-01-01' AS old", "1"),
        ("INSERT INTO n.w SELECT 2, now(), now()", "1"),
        ("UPDATE n.w SET at = now() WHERE old < now() AND at <= current_timestamp", "2"),
        ("DELETE FROM n.w WHERE at > now()", "0"),
        ("DELETE FROM n.w WHERE old < now() - INTERVAL '1 year'", "1"),
        ("SELECT id FROM n.w WHERE at BETWEEN now() - INTERVAL '1 hour' AND now()", "2"),
    ];
    for (sql, expected) in statements {
        assert_eq!(answer(&app, sql).await, expected, "{sql}");
    }
}

const NAN: &str = "CAST('NaN' AS DOUBLE)";

/// Returns floats with their SQL, in PostgreSQL's order: NaN is greater than infinity and equal to itself, zeros are equal.
fn pool() -> Vec<(f64, String)> {
    let text = |value: &str| format!("CAST('{value}' AS DOUBLE)");
    vec![
        (f64::NAN, NAN.to_owned()),
        (-f64::NAN, format!("-{NAN}")),
        (0.0, "0e0".to_owned()),
        (-0.0, "-0e0".to_owned()),
        (f64::INFINITY, text("inf")),
        (f64::NEG_INFINITY, text("-inf")),
        (1.5, "1.5".to_owned()),
        (-1.5, "-1.5".to_owned()),
        (f64::MIN_POSITIVE, text("2.2250738585072014e-308")),
    ]
}

fn compare(a: f64, b: f64) -> std::cmp::Ordering {
    let one = |v: f64| if v.is_nan() { f64::NAN } else { v + 0.0 };
    one(a).total_cmp(&one(b))
}

/// A generator of the same random numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % n as u64).expect("small")
    }
}

/// Creates a table `n.f` of several files that statistics can prune. Returns its rows `(id, k, d)`.
async fn floats(app: &TestApp, seed: u64) -> Vec<(i64, i64, Option<f64>)> {
    app.table().await;
    answer(app, "CREATE TABLE n.f AS SELECT CAST(1 AS BIGINT) AS id, CAST(1 AS BIGINT) AS k, CAST(1 AS DOUBLE) AS d, CAST(1 AS REAL) AS f WHERE false").await;
    let (pool, mut random, mut rows) = (pool(), Random(seed), Vec::new());
    for file in 0..5 {
        let mut values = Vec::new();
        for _ in 0..=random.below(6) {
            let id = i64::try_from(rows.len()).expect("few");
            // Every second file has few distinct values.
            let at = if file % 2 == 0 { random.below(pool.len() + 1) } else { random.below(3) + 1 };
            let k = i64::try_from(random.below(2)).expect("small");
            let (value, text) = pool.get(at).map_or((None, "NULL"), |(v, text)| (Some(*v), text.as_str()));
            values.push(format!("({id}, {k}, {text}, CAST({text} AS REAL))"));
            rows.push((id, k, value));
        }
        answer(app, &format!("INSERT INTO n.f VALUES {}", values.join(", "))).await;
    }
    rows
}

fn listed(mut ids: Vec<i64>) -> String {
    ids.sort_unstable();
    ids.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

#[tokio::test(flavor = "multi_thread")]
async fn floats_compare_as_a_model_says() {
    use std::cmp::Ordering::{Equal, Greater, Less};
    for seed in [1, 2, 3] {
        let app = TestApp::start().await;
        let rows = floats(&app, seed).await;
        let pool = pool();
        let which = |keep: &dyn Fn(f64) -> bool| listed(rows.iter().filter(|r| r.2.is_some_and(keep)).map(|r| r.0).collect());
        let mut cases: Vec<(String, String)> = Vec::new();
        for (value, text) in &pool {
            type Test = fn(std::cmp::Ordering) -> bool;
            let ops: [(&str, Test); 6] = [
                ("=", |o| o == Equal),
                ("<>", |o| o != Equal),
                ("<", |o| o == Less),
                ("<=", |o| o != Greater),
                (">", |o| o == Greater),
                (">=", |o| o != Less),
            ];
            for (op, test) in ops {
                let found = which(&|v| test(compare(v, *value)));
                let missed = which(&|v| !test(compare(v, *value)));
                cases.push((format!("d {op} {text}"), found.clone()));
                cases.push((format!("NOT (d {op} {text})"), missed));
                cases.push((format!("d {op} {text} + k * 0e0"), found.clone()));
                // As a float, the least positive double would be zero.
                if *value != f64::MIN_POSITIVE && !rows.iter().any(|r| r.2 == Some(f64::MIN_POSITIVE)) {
                    cases.push((format!("f {op} {text}"), found));
                }
            }
            let same = which(&|v| compare(v, *value) == Equal);
            cases.push((format!("d IN ({text}, 77)"), same.clone()));
            cases.push((format!("d NOT IN ({text}, 77)"), which(&|v| compare(v, *value) != Equal)));
            cases.push((format!("d IN ({text} + k * 0e0, 77)"), same.clone()));
            cases.push((format!("d IS NOT DISTINCT FROM {text}"), same.clone()));
            cases.push((format!("d BETWEEN {text} AND {text}"), same.clone()));
            cases.push((format!("nullif(d, {text}) IS NULL AND d IS NOT NULL"), same.clone()));
            cases.push((format!("CASE d WHEN {text} THEN true ELSE false END"), same.clone()));
            cases.push((format!("d IN (SELECT {text} FROM n.t UNION ALL SELECT {text})"), same));
        }
        let statements: Vec<(String, String)> = cases
            .into_iter()
            .map(|(condition, found)| (format!("SELECT id FROM n.f WHERE {condition} ORDER BY id"), found))
            .collect();
        let cases: Vec<(&str, &str)> = statements.iter().map(|(sql, found)| (sql.as_str(), found.as_str())).collect();
        check(&app, &cases).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floats_sort_group_and_join_as_a_model_says() {
    for seed in [4, 5] {
        let app = TestApp::start().await;
        let rows = floats(&app, seed).await;
        let order = |a: &Option<f64>, b: &Option<f64>| match (a, b) {
            (Some(a), Some(b)) => compare(*a, *b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        };
        let mut sorted = rows.clone();
        sorted.sort_by(|a, b| order(&a.2, &b.2).then(a.0.cmp(&b.0)));
        let ids: Vec<String> = sorted.iter().map(|r| r.0.to_string()).collect();
        let mut groups: Vec<Vec<(i64, i64, Option<f64>)>> = Vec::new();
        for row in &sorted {
            match groups.last_mut() {
                Some(group) if order(&group[0].2, &row.2).is_eq() => group.push(*row),
                _ => groups.push(vec![*row]),
            }
        }
        let sizes: Vec<String> = groups.iter().map(|g| g.len().to_string()).collect();
        let values = groups.iter().filter(|g| g[0].2.is_some());
        let pairs: usize = values.clone().map(|g| g.len() * g.len()).sum();
        let distinct = values.clone().count().to_string();
        let ranks: Vec<String> = groups.iter().enumerate().flat_map(|(i, g)| vec![(i + 1).to_string(); g.len()]).collect();
        // The grand total, and the group of nulls if there is one.
        let totals = 1 + groups.iter().filter(|g| g[0].2.is_none()).count();
        let first: Vec<String> = groups.iter().map(|g| g[0].0.to_string()).collect();
        let cases = [
            ("SELECT id FROM n.f ORDER BY d, id".to_owned(), ids.join(",")),
            ("SELECT id FROM n.f ORDER BY d, id LIMIT 4".to_owned(), ids[..4.min(ids.len())].join(",")),
            ("SELECT n FROM (SELECT d, count(*) AS n FROM n.f GROUP BY d) ORDER BY d".to_owned(), sizes.join(",")),
            ("SELECT count(DISTINCT d) FROM n.f".to_owned(), distinct.clone()),
            ("SELECT count(*) FROM (SELECT DISTINCT d FROM n.f WHERE d IS NOT NULL)".to_owned(), distinct.clone()),
            ("SELECT count(d) FROM (SELECT d FROM n.f UNION SELECT d FROM n.f)".to_owned(), distinct.clone()),
            ("SELECT count(d) FROM (SELECT d FROM n.f INTERSECT SELECT -(-d) FROM n.f)".to_owned(), distinct.clone()),
            ("SELECT count(*) FROM (SELECT d FROM n.f EXCEPT SELECT x FROM (SELECT d AS x FROM n.f))".to_owned(), "0".to_owned()),
            ("SELECT count(*) FROM n.f a JOIN n.f b ON a.d = b.d".to_owned(), pairs.to_string()),
            ("SELECT count(*) FROM n.f JOIN (SELECT d FROM n.f) g USING (d)".to_owned(), pairs.to_string()),
            ("SELECT count(*) FROM n.f a JOIN n.f b ON a.d = b.d AND a.d + 0e0 >= b.d".to_owned(), pairs.to_string()),
            ("SELECT dense_rank() OVER (ORDER BY d) AS r FROM n.f ORDER BY r".to_owned(), ranks.join(",")),
            ("SELECT id FROM (SELECT id, d, row_number() OVER (PARTITION BY d ORDER BY id) AS r FROM n.f) WHERE r = 1 ORDER BY d".to_owned(), first.join(",")),
            ("SELECT id FROM (SELECT DISTINCT ON (d) d, id FROM n.f ORDER BY d, id) ORDER BY d".to_owned(), first.join(",")),
            ("SELECT count(*) FROM (SELECT d, k FROM n.f GROUP BY ROLLUP (d, k)) WHERE d IS NULL AND k IS NULL".to_owned(), totals.to_string()),
        ];
        let cases: Vec<(&str, &str)> = cases.iter().map(|(sql, found)| (sql.as_str(), found.as_str())).collect();
        check(&app, &cases).await;

        // A group's value is one of its rows' values, bit by bit, also after it was inserted into a table.
        answer(&app, "CREATE TABLE n.g AS SELECT d, min(id) AS id FROM n.f GROUP BY d").await;
        let shown = app.sql("SELECT d, id FROM n.g ORDER BY d, id").await.expect("the groups");
        let shown: Vec<Option<u64>> = shown.iter().flat_map(bits).collect();
        assert_eq!(shown.len(), groups.len());
        for (shown, group) in shown.iter().zip(&groups) {
            assert!(group.iter().any(|row| row.2.map(f64::to_bits) == *shown), "{shown:?} is not in {group:?}");
        }
        // Filters and sorts leave values unchanged, bit by bit.
        let same = app.sql("SELECT d FROM n.f WHERE d >= -0e0 OR d < 0 OR d IS NULL ORDER BY d, id").await.expect("the rows");
        let same: Vec<Option<u64>> = same.iter().flat_map(bits).collect();
        assert_eq!(same, sorted.iter().map(|row| row.2.map(f64::to_bits)).collect::<Vec<_>>());
        let (low, high) = (groups[0][0].2.expect("a value"), values.clone().next_back().and_then(|g| g[0].2).expect("a value"));
        for (sql, expected) in [("SELECT min(d) FROM n.f", low), ("SELECT max(d) FROM n.f", high)] {
            let made = app.sql(sql).await.expect(sql).iter().flat_map(bits).next().flatten().expect("a value");
            assert!(compare(f64::from_bits(made), expected).is_eq(), "{sql}: {} is not {expected}", f64::from_bits(made));
        }
    }
}

fn bits(batch: &RecordBatch) -> Vec<Option<u64>> {
    use arrow::array::AsArray;
    use arrow::datatypes::Float64Type;
    batch.column(0).as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)).collect()
}

/// Floats inside structs and lists are grouped and joined like plain ones.
#[tokio::test(flavor = "multi_thread")]
async fn nested_floats_are_keys_as_plain_ones_are() {
    let app = TestApp::start().await;
    let values = format!("(VALUES (1, 0e0), (2, -0e0), (3, {NAN}), (4, -{NAN}), (5, 1e0)) AS v(id, d)");
    let nested = format!("(SELECT id, named_struct('x', d) AS s, [d] AS l FROM {values})");
    check(
        &app,
        &[
            (&format!("SELECT count(*) FROM (SELECT s FROM {nested} GROUP BY s)"), "3"),
            (&format!("SELECT count(*) FROM (SELECT DISTINCT l FROM {nested})"), "3"),
            (
                &format!("SELECT a.id, b.id FROM {nested} a JOIN {nested} b ON a.s = b.s WHERE a.id < b.id ORDER BY a.id"),
                "1|2,3|4",
            ),
            (&format!("SELECT id FROM {nested} WHERE l = [0e0] ORDER BY id"), "1,2"),
            (&format!("SELECT id FROM {nested} WHERE array_has(l, {NAN}) ORDER BY id"), "3,4"),
            (
                &format!("SELECT min(d) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) + 0e0 FROM {values}"),
                "0.0,0.0,0.0,NaN,1.0",
            ),
            (
                &format!("SELECT max(d) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) + 0e0 FROM {values}"),
                "0.0,0.0,NaN,NaN,NaN",
            ),
            (&format!("SELECT min(d), max(d) FROM {values} WHERE id > 2"), "1.0|NaN"),
            (&format!("SELECT nullif(d, 0e0) FROM {values} WHERE id <= 2 OR id = 5 ORDER BY id"), "NULL,NULL,1.0"),
            (&format!("SELECT id FROM {nested} WHERE s = named_struct('x', {NAN}) ORDER BY id"), "3,4"),
        ],
    )
    .await;
}

/// Conditions that are rewritten for their semantics still prune files. Each row of `n.v` is in its own file.
#[tokio::test(flavor = "multi_thread")]
async fn files_are_left_out_by_literals_of_every_type() {
    let app = typed().await;
    let mut wrong = Vec::new();
    for condition in [
        "i = 1.0",
        "dec = 1.00",
        "dec > 1000",
        "d > 1e200",
        "d = 0",
        "d <= -1",
        "d IN (0, 7)",
        "f = 0.1",
        "dt < TIMESTAMP '1900-01-01 12:00:00'",
        "dt = '9999-12-31'",
        "ts = '0001-01-01'",
        "ts > DATE '2021-01-01'",
        "tz > '2021-01-01'",
        "ns = '2020-01-01 00:00:00.000000001'",
        "ns > TIMESTAMP '2021-01-01'",
        "tm = '10:00:00'",
        "u = 'f79c3e09-677c-4bbd-a479-3f349cb785e7'",
        "fx = X'CAFE'",
        "bin = X'CAFE'",
        "s = 'B'",
    ] {
        let found = answer(&app, &ids(condition)).await;
        let record = app.ok(Method::GET, "/api/v1/queries?limit=1", None).await;
        if found.len() != 1 || record[0]["files_pruned"] != 4 {
            wrong.push(format!(
                "{condition}: {found}, {} of {} files left out",
                record[0]["files_pruned"], record[0]["files_considered"]
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
