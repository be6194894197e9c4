//! Answers of statements about composed values: structs, lists and rows, functions, subqueries and outer joins (`docs/sql.md`).
//!
//! Expected values are those of the SQL standard and of PostgreSQL 17.

use esker_tests::TestApp;
use reqwest::Method;
use serde_json::json;

use super::semantics::{answer, check, find, holding, refused, typed};

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_bytes_hold_nulls() {
    let app = typed().await;
    check(
        &app,
        &[
            ("SELECT [X'CAFE', NULL], [NULL, X'00']", "[cafe, NULL]|[NULL, 00]"),
            ("SELECT id FROM n.v WHERE [bin, NULL][1] = X'CAFE'", "1"),
            ("SELECT id FROM n.v WHERE [NULL, u][2] = u ORDER BY id", "1,2,3,4"),
            ("SELECT [NULL, fx][2] FROM n.v WHERE id = 1", "cafe"),
            ("SELECT [MAP(['a'], [1]), MAP([], []), NULL]", "[{a: 1}, {}, NULL]"),
        ],
    )
    .await;
}

/// A required field has a value wherever its struct has one, and is null where the struct is null.
#[tokio::test(flavor = "multi_thread")]
async fn required_fields_of_null_structs_are_null() {
    let app = holding(&[]).await;
    let inner = json!({"type": "struct", "fields": [
        {"id": 4, "name": "x", "type": "string", "required": true}, {"id": 5, "name": "u", "type": "uuid", "required": true}]});
    let s = json!({"type": "struct", "fields": [
        {"id": 3, "name": "in", "type": inner, "required": true}, {"id": 6, "name": "y", "type": "int", "required": true}]});
    let fields =
        json!([{"id": 1, "name": "id", "type": "int", "required": false}, {"id": 2, "name": "s", "type": s, "required": false}]);
    let table = json!({"name": "w", "schema": {"type": "struct", "fields": fields}});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(table)).await;
    let u = "f79c3e09-677c-4bbd-a479-3f349cb785e7";
    let inner = format!("named_struct('x', 'a', 'u', CAST('{u}' AS UUID))");
    answer(&app, &format!("INSERT INTO n.w VALUES (1, named_struct('in', {inner}, 'y', 7)), (2, NULL)")).await;
    check(
        &app,
        &[
            ("SELECT id FROM n.w WHERE s.\"in\".x <> 'b'", "1"),
            ("SELECT id FROM n.w WHERE s['in']['x'] IS NULL", "2"),
            ("SELECT id FROM n.w WHERE s.y >= 0", "1"),
            ("SELECT id FROM n.w WHERE s.y IS NOT NULL", "1"),
            ("SELECT id, s.y, s['in'] IS NULL FROM n.w ORDER BY id", "1|7|false,2|NULL|true"),
            (&format!("SELECT id FROM n.w WHERE s.\"in\".u = '{u}'"), "1"),
            ("SELECT id FROM n.w WHERE s.\"in\".u <> '0000cafe-0000-0000-0000-000000000000'", "1"),
            ("DELETE FROM n.w WHERE s.y = 0", "0"),
            ("SELECT count(s.y), min(s.y) FROM n.w", "1|7"),
        ],
    )
    .await;
}

/// The fields of a struct and the arguments of `concat` keep their types: they are not cast to a common one.
#[tokio::test(flavor = "multi_thread")]
async fn decimals_beside_floats_stay_decimals_where_they_are_not_compared() {
    let app = typed().await;
    let (float, exact) = ("CAST(1.5 AS REAL)", "12345678901234567890.1234567890");
    let value = format!("named_struct('f', {float}, 'd', {exact})");
    check(
        &app,
        &[
            (&format!("SELECT {value}"), &format!("{{f: 1.5, d: {exact}}}")),
            (&format!("SELECT named_struct('f', NULL, 'l', [{value}])"), &format!("{{f: NULL, l: [{{f: 1.5, d: {exact}}}]}}")),
            (&format!("SELECT struct({float}, {exact})"), &format!("{{c0: 1.5, c1: {exact}}}")),
            (&format!("SELECT concat({float}, ' ', 3.30)"), "1.5 3.30"),
            ("SELECT coalesce(d, 1.5) FROM n.v WHERE id = 5", "1.5"),
            ("SELECT power(2.0, CAST(3 AS DOUBLE))", "8.0"),
        ],
    )
    .await;
}

/// Arrow stores a UUID as 16 bytes. Inside structs, lists and maps its type does not say that they are a UUID.
#[tokio::test(flavor = "multi_thread")]
async fn uuids_within_columns_compare_with_texts_as_plain_ones_do() {
    let app = holding(&[]).await;
    let inner = json!({"type": "struct", "fields": [{"id": 5, "name": "u", "type": "uuid", "required": false}]});
    let s = json!({"type": "struct", "fields": [
        {"id": 6, "name": "u", "type": "uuid", "required": false},
        {"id": 7, "name": "f", "type": "fixed[16]", "required": false},
        {"id": 8, "name": "in", "type": inner, "required": false}]});
    let l = json!({"type": "list", "element-id": 9, "element": "uuid", "element-required": false});
    let m = json!({"type": "map", "key-id": 10, "key": "string", "value-id": 11, "value": "uuid", "value-required": false});
    let fields: Vec<_> = [("id", json!("int")), ("s", s), ("l", l), ("m", m)]
        .into_iter()
        .enumerate()
        .map(|(i, (name, ty))| json!({"id": i + 1, "name": name, "type": ty, "required": false}))
        .collect();
    let table = json!({"name": "w", "schema": {"type": "struct", "fields": fields}});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(table)).await;
    let (a, b) = ("f79c3e09-677c-4bbd-a479-3f349cb785e7", "0000cafe-0000-0000-0000-000000000000");
    for (id, u, f) in [(1, a, "f79c3e09677c4bbda4793f349cb785e7"), (2, b, "30303030303030303030303030303030")] {
        let u = format!("CAST('{u}' AS UUID)");
        let row = format!("{id}, named_struct('u', {u}, 'f', X'{f}', 'in', named_struct('u', {u})), [{u}], MAP(['k'], [{u}])");
        answer(&app, &format!("INSERT INTO n.w VALUES ({row})")).await;
    }
    let mut cases = Vec::new();
    for u in ["s.u", "s['in']['u']", "l[1]", "m['k']"] {
        cases.extend([
            (format!("SELECT id FROM n.w WHERE {u} = '{a}'"), "1"),
            (format!("SELECT id FROM n.w WHERE {u} <= '{b}'"), "2"),
            (format!("SELECT id FROM n.w WHERE {u} BETWEEN '{b}' AND '{a}' ORDER BY id"), "1,2"),
            (format!("SELECT id FROM n.w WHERE {u} IN ('{b}')"), "2"),
            (format!("SELECT id FROM n.w WHERE CAST({u} AS VARCHAR) = '{a}'"), "1"),
            (format!("SELECT CASE {u} WHEN '{a}' THEN 'it' ELSE 'not' END FROM n.w WHERE id = 1"), "it"),
            (format!("SELECT id FROM (SELECT id, {u} AS x FROM n.w) WHERE x = '{b}'"), "2"),
            (format!("SELECT count(*) FROM (SELECT {u} AS x FROM n.w) x JOIN (SELECT {u} AS y FROM n.w) y ON x = CAST(y AS VARCHAR)"), "2"),
        ]);
    }
    // A fixed(16) is compared as bytes.
    cases.push(("SELECT id FROM n.w WHERE s.f = '0000000000000000'".to_owned(), "2"));
    check(&app, &cases.iter().map(|(sql, expected)| (sql.as_str(), *expected)).collect::<Vec<_>>()).await;
    refused(&app, &[("SELECT * FROM n.w WHERE s.u = 'f79c'", "'f79c'"), ("SELECT * FROM n.w WHERE l[1] = 'f79c'", "'f79c'")])
        .await;
}

/// An aggregate over no rows is null (SQL:2016 10.9), also inside an expression in a correlated subquery.
#[tokio::test(flavor = "multi_thread")]
async fn expressions_of_aggregates_in_correlated_subqueries_are_answered() {
    let app = typed().await;
    let of = |expr: &str| format!("(SELECT {expr} FROM n.v x WHERE x.b = v.b)");
    let statements = [
        (format!("dec < {}", of("1.2 * avg(x.dec)")), "2,3"),
        (format!("dec > {}", of("sum(x.dec) / 2.0")), "1,4"),
        (format!("l < {}", of("min(x.i) + 1")), "3,4"),
        (format!("d > {}", of("-avg(x.d)")), "2,4"),
        (format!("i < {}", of("CAST(max(x.dec) AS INT)")), "1,3,4"),
        (format!("dt <= {}", of("date_trunc('year', max(x.dt))")), "1,2,4"),
        (format!("u >= {}", of("max(x.u)")), "3,4"),
        ("1.0 = (SELECT coalesce(sum(x.dec) * 1.5, 1.0) FROM n.v x WHERE x.b = v.b AND x.id > 100)".to_owned(), "1,2,3,4,5"),
        ("(SELECT sum(x.dec) / 2 FROM n.v x WHERE x.b = v.b AND x.id > 100) IS NULL".to_owned(), "1,2,3,4,5"),
    ];
    let cases: Vec<(&str, &str)> = statements.iter().map(|(condition, found)| (condition.as_str(), *found)).collect();
    find(&app, &cases).await;
    let joined = "SELECT a.id, b.dec * 2.0, b.dec / 2, CAST(b.dec AS INT), date_trunc('day', b.dt)
        FROM n.v a LEFT JOIN n.v b ON a.id = b.id AND b.id > 100 WHERE a.id = 1";
    check(&app, &[(joined, "1|NULL|NULL|NULL|NULL")]).await;
}

/// Rows are compared value by value. The result is unknown if a null decides (SQL:2016 8.2; PostgreSQL 17, "Row-wise
/// Comparison").
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_compared_value_by_value() {
    let app = TestApp::start().await;
    check(
        &app,
        &[
            ("SELECT (NULL, 2) < (1, 5), (1, NULL) < (2, 5), (1, NULL) < (1, 5)", "NULL|true|NULL"),
            ("SELECT (1, NULL) = (2, 5), (1, NULL) = (1, 5), (1, NULL) <> (1, 5), (1, NULL) <> (2, 5)", "false|NULL|NULL|true"),
            ("SELECT (1, 2) >= (1, 2), (1, 2, 3) > (1, 2, 2), (1, 3) <= (1, 2)", "true|true|false"),
            ("SELECT (1, 2) NOT IN ((1, NULL)), (1, 2) NOT IN ((2, NULL)), (1, 2) IN ((3, 4), (1, 2))", "NULL|true|true"),
            ("SELECT (1, 2) BETWEEN (1, 1) AND (1, 3), (1, 2) NOT BETWEEN (1, 1) AND (1, NULL)", "true|NULL"),
            ("SELECT (1, NULL) IS DISTINCT FROM (1, NULL), (1, NULL) IS NOT DISTINCT FROM (1, 2)", "false|false"),
            ("SELECT (1, 2) IS DISTINCT FROM (1, 3) OR false, (1, 2) IS NOT DISTINCT FROM (1, 3) AND true", "true|false"),
            ("SELECT count(*) FROM (VALUES (CAST(NULL AS INT), CAST(NULL AS INT)), (0, 9), (1, 5)) v(i, l) WHERE (i, l) < (1, 5)", "1"),
        ],
    )
    .await;
    refused(
        &app,
        &[
            ("SELECT (1, 2) = (1, 2, 3)", "a row of 2 values is compared with one of 3"),
            ("SELECT (1, 2) IN (SELECT 1, 2)", "EXISTS"),
        ],
    )
    .await;
}

/// PostgreSQL 17: `round`, `trunc`, `ceil`, `floor` and `extract` return exact numbers. A difference of dates is in days, one of
/// timestamps is an interval of any length. A time wraps around at midnight.
#[tokio::test(flavor = "multi_thread")]
async fn functions_of_numbers_and_time_are_exact() {
    let app = typed().await;
    check(
        &app,
        &[
            ("SELECT round(dec, 1), trunc(dec, 1), ceil(dec), floor(dec) FROM n.v WHERE id < 3 ORDER BY id", "1234567.9|1234567.8|1234568|1234567,0.0|0.0|0|-1"),
            ("SELECT ceil(99.99), floor(-99.99), round(2.55, 1) = 2.6, round(12345.6, -2)", "100|-100|true|12300"),
            ("SELECT extract(second FROM TIMESTAMP '2024-02-29 01:02:03.000004'), extract(millisecond FROM TIME '00:00:59.5')", "3.000004|59500.000"),
            ("SELECT extract(second FROM TIMESTAMP(9) '1969-12-31 23:59:59.999999999')", "59.999999999"),
            ("SELECT DATE '2024-03-01' - DATE '2024-02-28', TIME '23:00:00' + INTERVAL '2 hours', TIME '01:00:00' - INTERVAL '2 hours'", "2|01:00:00|23:00:00"),
            ("SELECT TIMESTAMPTZ '2024-01-01 10:00:00+00' AT TIME ZONE 'Asia/Tokyo' = TIMESTAMP '2024-01-01 19:00:00'", "true"),
            ("SELECT CAST(TIMESTAMP '2024-01-01 19:00:00' AT TIME ZONE 'Asia/Tokyo' AS TIMESTAMPTZ) = TIMESTAMPTZ '2024-01-01 10:00:00Z'", "true"),
            ("SELECT date_trunc('day', tz AT TIME ZONE 'Asia/Tokyo') = TIMESTAMP '2020-01-01' FROM n.v WHERE id = 1", "true"),
            ("SELECT mod(7, -2), mod(-7, 2), sign(-2.5), ~5, N'ä' || U&'\\00FC'", "1|-1|-1.0|-6|äü"),
            ("SELECT TIMESTAMP '2026-01-31 10:00:00.123456789', TIMESTAMP '2026-01-31 10:00:00.5'", "2026-01-31T10:00:00.123456789|2026-01-31T10:00:00.500"),
            ("SELECT max(a), min(a) FROM (VALUES ([1, 2, NULL]), ([9]), (NULL), ([1])) v(a)", "[9]|[1]"),
            ("SELECT id, row_number() OVER (PARTITION BY b ORDER BY id NULLS FIRST, id), rank() OVER (ORDER BY id NULLS FIRST) FROM n.v WHERE NOT (id > 1.5)", "1|1|1"),
            ("SELECT b, max(i) FROM n.v WHERE id IN (1, 5) GROUP BY b ORDER BY max(i) DESC NULLS LAST LIMIT 9", "true|1,NULL|NULL"),
            ("SELECT min(id), min(-id), max(id), max(-id) FROM n.v", "1|-5|5|-1"),
            ("SELECT max(s), min(i) FROM n.v WHERE id > 3 GROUP BY id ORDER BY min(i) NULLS FIRST LIMIT 1", "NULL|NULL"),
            ("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT n FROM r ORDER BY n", "1,2,3"),
        ],
    )
    .await;
    find(
        &app,
        &[
            ("dt - DATE '1969-12-30' = 2", "4"),
            ("dt - DATE '2020-01-01' < 0", "2,4"),
            ("CASE WHEN i <> 0 THEN 10 / i > 1 ELSE true END", "1,4,5"),
            ("CASE WHEN s IN ('a', 'a ', 'B', '') THEN NULL ELSE CAST(s AS INT) > 1 END IS NULL", "1,2,3,4,5"),
            ("ns = TIMESTAMP '2020-01-01 00:00:00.000000001'", "1"),
            ("ts - TIMESTAMP '2019-12-31' = INTERVAL '1 day'", "1"),
            ("ts - TIMESTAMP '2019-12-31' > INTERVAL '0'", "1,3"),
            ("extract(second FROM ts) = 59.999999", "3,4"),
        ],
    )
    .await;
    refused(
        &app,
        &[
            ("SELECT 2 ^ 3", "power(x, y)"),
            ("SELECT DATE '0000-01-01'", "'0000-01-01' has no year"),
            ("INSERT INTO n.v (id, dt) VALUES (9, '-0001-01-01')", "'-0001-01-01' does not fit date"),
            ("SELECT id FROM n.v WHERE ts < '0000-01-01'", "'0000-01-01' has no year"),
            ("SELECT id FROM n.v WHERE s = 'a' COLLATE \"C\"", "COLLATE is not served"),
            ("SELECT 1 EXCEPT ALL SELECT 1", "EXCEPT ALL is not served"),
            ("SELECT 1 INTERSECT ALL SELECT 1", "INTERSECT ALL is not served"),
            ("SELECT a.id, (SELECT max(x.i) FROM n.v x WHERE x.id < a.id) FROM n.v a", "where equality ties it to that query"),
        ],
    )
    .await;
}

/// A column that an outer join fills with nulls is not constant, even if a condition compares it with a constant.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_outer_joins_add_are_sorted_among_the_others() {
    let app = holding(&[
        "CREATE TABLE n.a AS SELECT * FROM (VALUES (1), (2), (3)) v(id)",
        "CREATE TABLE n.b AS SELECT * FROM (VALUES (1, 1), (2, 2), (3, 1)) v(id, b)",
    ])
    .await;
    check(
        &app,
        &[
            ("SELECT x.id, rank() OVER (ORDER BY y.b DESC) FROM n.a x LEFT JOIN n.b y ON x.id = y.id AND y.b = 1 ORDER BY x.id", "1|2,2|1,3|2"),
            ("SELECT y.b FROM n.a x LEFT JOIN n.b y ON x.id = y.id AND y.b = 1 ORDER BY y.b DESC LIMIT 1", "NULL"),
            ("SELECT x.id, y.b FROM n.a x LEFT JOIN (SELECT * FROM n.b WHERE b = 1) y ON x.id = y.id ORDER BY y.b, x.id", "1|1,3|1,2|NULL"),
            ("SELECT x.k, y.id FROM (SELECT id, 7 AS k FROM n.a WHERE id = 2) x FULL JOIN n.b y ON x.id = y.id ORDER BY x.k DESC, y.id", "NULL|1,NULL|3,7|2"),
            ("SELECT k, id FROM (SELECT 1 AS k, id FROM n.a UNION ALL SELECT NULL, id FROM n.a) x ORDER BY k DESC, id LIMIT 2", "NULL|1,NULL|2"),
            ("SELECT id, b, count(*) FROM n.b WHERE b = 1 GROUP BY CUBE (id, b) ORDER BY b NULLS FIRST, id NULLS FIRST LIMIT 4", "NULL|NULL|2,1|NULL|1,3|NULL|1,NULL|1|2"),
            ("SELECT x.k, y.id FROM (SELECT id, 7 AS k FROM n.a WHERE id = 2) x RIGHT JOIN n.b y ON x.id < y.id ORDER BY x.k, y.id", "7|3,NULL|1,NULL|2"),
        ],
    )
    .await;
}

/// A condition on a column of one table removes no rows of another table that has a column of the same name.
#[tokio::test(flavor = "multi_thread")]
async fn conditions_on_namesakes_stay_with_their_tables() {
    let app = holding(&[
        "CREATE TABLE n.a AS SELECT 1 AS k, 5 AS x",
        "CREATE TABLE n.b AS SELECT * FROM (VALUES (1, 10), (2, 20), (3, NULL)) v(k, x)",
    ])
    .await;
    check(
        &app,
        &[
            ("SELECT b.k FROM n.a a RIGHT JOIN n.b b ON a.k = b.k AND b.x <> 7 WHERE a.k IS NULL ORDER BY 1", "2,3"),
            ("SELECT b.k FROM n.b b LEFT JOIN n.a a ON a.k = b.k AND b.x <> 7 WHERE a.k IS NULL ORDER BY 1", "2,3"),
            ("SELECT b.x FROM n.a a RIGHT JOIN n.b b ON a.k = b.k AND b.k < 9 WHERE a.x IS NULL ORDER BY b.x LIMIT 1", "20"),
            ("SELECT b.k, c.k FROM n.b b LEFT JOIN n.a a ON a.k = b.k LEFT JOIN n.b c ON c.k = b.k + 1 WHERE c.k IS NULL OR a.k = 1 ORDER BY 1", "1|2,3|NULL"),
            ("SELECT k FROM (SELECT k, x FROM n.b UNION ALL SELECT x, k FROM n.b) u WHERE x = 3 ORDER BY k NULLS LAST LIMIT 2", "NULL"),
        ],
    )
    .await;
}

/// The planner moves reads of struct fields into the scan. A join of several tables must still see the right fields.
#[tokio::test(flavor = "multi_thread")]
async fn tables_are_joined_by_expressions_of_fields() {
    let app = holding(&[
        "CREATE TABLE n.j (id BIGINT, i INT, s STRUCT<v BIGINT, t TEXT>)",
        "INSERT INTO n.j VALUES (1, 1, named_struct('v', 10, 't', 'a')), (2, 1, named_struct('v', 11, 't', 'b')), (3, 2, NULL)",
    ])
    .await;
    check(
        &app,
        &[
            ("SELECT a.id, b.id FROM n.j AS a JOIN n.j AS b ON a.s.v = b.s.v + 1", "2|1"),
            ("SELECT a.id, b.id FROM n.j AS a LEFT JOIN n.j AS b ON a.s.v = b.s.v + 1 ORDER BY a.id", "1|NULL,2|1,3|NULL"),
            ("SELECT a.id, b.id FROM n.j AS a JOIN n.j AS b ON a.i = b.i WHERE a.s.t || 'b' = 'a' || b.s.t", "1|2"),
            (
                "SELECT a.id, b.id, b.s.t FROM n.j AS a JOIN n.j AS b ON a.i = b.i \
                 WHERE NOT (a.i = 2 OR a.s.v != b.s.v OR (b.s.v != 10 AND b.s.t < 'b')) ORDER BY a.id",
                "1|1|a,2|2|b",
            ),
            ("SELECT a.id FROM n.j AS a WHERE a.s.v + 1 IN (SELECT b.s.v FROM n.j AS b WHERE b.s.t > 'a')", "1"),
            ("SELECT a.id FROM n.j AS a WHERE EXISTS (SELECT 1 FROM n.j AS b WHERE b.s.v = a.s.v - 1 AND b.s.t = 'a')", "2"),
            ("SELECT max(a.s.v - b.s.v), count(*) FROM n.j AS a, n.j AS b WHERE a.s.v >= b.s.v", "1|3"),
        ],
    )
    .await;
}

/// A cast to a common type keeps values as they are. Expected: PostgreSQL's `coalesce` and `CASE`; DuckDB 1.5 for lists.
#[tokio::test(flavor = "multi_thread")]
async fn values_are_brought_to_the_type_that_holds_all() {
    let app = typed().await;
    let u = "f79c3e09-677c-4bbd-a479-3f349cb785e7";
    let one = |sql: &str| format!("SELECT {sql} FROM n.v WHERE id = 1");
    let uuid = |sql: &str| format!("SELECT {sql} = '{u}' FROM n.v WHERE id = 1");
    check(
        &app,
        &[
            (&one("coalesce(NULL, bin), coalesce(bin, X'00'), nvl(NULL, X'00')"), "cafe|cafe|00"),
            ("SELECT nvl(NULL, DATE '2020-01-01') + 1, ifnull(NULL, 1.50), nvl(NULL, TIME '01:02:03')", "2020-01-02|1.50|01:02:03"),
            (&uuid("coalesce(NULL, UUID 'F79C3E09677C4BBDA4793F349CB785E7')"), "true"),
            (&uuid(&format!("CASE WHEN id = 1 THEN UUID '{u}' ELSE u END")), "true"),
            (&one(&format!("CASE UUID '{u}' WHEN u THEN 1 WHEN UUID '{u}' THEN 2 END IS NULL")), "false"),
            (&one(&format!("CASE u WHEN UUID '{u}' THEN 'a' WHEN UUID '0000cafe-0000-0000-0000-000000000000' THEN 'b' ELSE 'c' END IN ('a', 'b', 'c')")), "true"),
            ("SELECT [bin, X'00', NULL][2], array_has([bin], X'CAFE') FROM n.v WHERE id = 1", "00|true"),
            ("SELECT array_append([1.5e0], 2.5), array_has([0.1e0], 0.1), array_position([1.5e0], 1.50)", "[1.5, 2.5]|true|1"),
            ("SELECT array_concat([1e0], [0.5]), [2.5] || 1e0, [0.5e0, 1] @> [0.5]", "[1.0, 0.5]|[2.5, 1.0]|true"),
            ("SELECT array_repeat('a', 2), array_resize([1.5e0], 2, 0.5), array_distance([1.0, 2.0], [1.0, 4.0])", "[a, a]|[1.5, 0.5]|2.0"),
            ("SELECT array_has([NULL, 1], 2), array_has([1], 2), array_has([NULL, 0.5e0], 1)", "false|false|false"),
            ("SELECT map(['a', 'b'], [id, id + 1])['b'], MAP {'k': id}['k'] FROM n.v WHERE id < 3 ORDER BY id", "2|1,3|2"),
        ],
    )
    .await;
}

/// PostgreSQL 17, 9.25: `ANY` is the `OR` of the comparisons with the items, `ALL` their `AND`; unknown if a null decides.
#[tokio::test(flavor = "multi_thread")]
async fn values_are_compared_with_any_and_all_items_of_a_list() {
    let app = holding(&[
        "CREATE TABLE n.l (id INT, x DOUBLE, l DOUBLE[])",
        "INSERT INTO n.l VALUES (1, -0e0, [0e0]), (2, 'NaN', ['NaN']), (3, 1, [NULL, 2]), (4, NULL, []), (5, 1, NULL), (6, 2, [1, 3])",
    ])
    .await;
    check(
        &app,
        &[
            (
                "SELECT 3 = ANY ([1, NULL]), 1 = ANY ([1, NULL]), 1 <> ANY ([1, NULL]), 2 <> ANY ([1, NULL])",
                "NULL|true|NULL|true",
            ),
            ("SELECT 1 <> ALL ([2, NULL]), 1 <> ALL ([1, NULL]), 1 = ALL ([1, 1]), 1 < ALL ([2, 1])", "NULL|false|true|false"),
            (
                "SELECT 1 = ANY ([]), 1 < ALL ([]), NULL = ANY ([]), NULL = ANY ([1]), 1 = ANY (NULL)",
                "false|true|false|NULL|NULL",
            ),
            ("SELECT id FROM n.l WHERE x = ANY (l) ORDER BY id", "1,2"),
            ("SELECT id FROM n.l WHERE NOT (x = ANY (l)) ORDER BY id", "4,6"),
            ("SELECT id FROM n.l WHERE x >= ALL (l) ORDER BY id", "1,2,4"),
            ("SELECT id FROM n.l WHERE x > ANY (l) ORDER BY id", "6"),
            ("SELECT id FROM n.l WHERE x <> ALL (l) ORDER BY id", "4,6"),
            ("SELECT id FROM n.l WHERE id = ANY ([1, 2.0, 7]) ORDER BY id", "1,2"),
            ("SELECT id FROM n.l WHERE DATE '2020-01-01' < ANY ([TIMESTAMP '2020-01-01 00:00:00.000001']) AND id = 1", "1"),
        ],
    )
    .await;
    refused(&app, &[("SELECT id FROM n.l WHERE 'a' = ANY (l)", "no common type")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_nulls_has_neither_a_least_nor_a_greatest() {
    let app = holding(&[
        "CREATE TABLE n.w (id INT, d DATE, x DOUBLE, s TEXT)",
        "INSERT INTO n.w VALUES (1, DATE '2020-01-01', 1, 'a'), (2, NULL, NULL, NULL), (3, NULL, NULL, NULL), (4, DATE '2021-01-01', 0, 'b')",
    ])
    .await;
    let rows = "OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)";
    check(
        &app,
        &[
            (
                &format!("SELECT id, min(d) {rows}, max(x) {rows}, min(s) {rows} FROM n.w ORDER BY id"),
                "1|2020-01-01|1.0|a,2|2020-01-01|1.0|a,3|NULL|NULL|NULL,4|2021-01-01|0.0|b",
            ),
            (
                &format!("SELECT id, max(d) {rows}, sum(x) {rows} FROM n.w WHERE id > 1 ORDER BY id"),
                "2|NULL|NULL,3|NULL|NULL,4|2021-01-01|0.0",
            ),
        ],
    )
    .await;
}

/// SQL:2016 7.16: a select list may have several columns of one name. A struct's fields are not columns of a table with its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_field_may_be_called_as_a_column_beside_it() {
    let app = holding(&[
        "CREATE TABLE n.s (id INT, s STRUCT<id INT, v INT>, v INT)",
        "INSERT INTO n.s VALUES (1, named_struct('id', 2, 'v', 3), 4)",
    ])
    .await;
    check(
        &app,
        &[
            ("SELECT a.id, a.s.id, a.s.v, a.v FROM n.s AS a", "1|2|3|4"),
            ("SELECT a.s.id, a.id FROM n.s AS a", "2|1"),
            ("SELECT s.id, s.s.id FROM n.s", "1|2"),
            ("SELECT x.* FROM (SELECT a.id, a.s.id FROM n.s AS a) AS x", "1|2"),
            ("SELECT a.id, b.id, b.s.id FROM n.s AS a JOIN n.s AS b ON a.id = b.id", "1|1|2"),
        ],
    )
    .await;
}

/// A mark join returns the columns of one side only, whichever side is read first.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_marked_by_a_comparison_with_any_row_whatever_the_order_of_columns() {
    let app = holding(&[
        "CREATE TABLE n.a (p STRUCT<s INT>, x DOUBLE, i INT, s TEXT, rid INT)",
        "CREATE TABLE n.b (s TEXT, i INT, rid INT)",
        "INSERT INTO n.a VALUES (named_struct('s', 7), 1, 1, 'a', 1), (named_struct('s', 8), 2, 2, 'b', 2), (NULL, NULL, 3, NULL, 3)",
        "INSERT INTO n.b VALUES ('a', 1, 1), ('b', 2, 2)",
    ])
    .await;
    check(
        &app,
        &[
            ("SELECT a.p.s FROM n.a AS a WHERE a.x > 5 OR a.i <= ANY (SELECT b.i FROM n.b AS b WHERE b.s <> 'c') ORDER BY 1", "7,8"),
            ("SELECT a.s FROM n.a AS a WHERE a.x > 5 OR a.i < ANY (SELECT b.i FROM n.b AS b WHERE b.rid > 1)", "a"),
            ("SELECT a.x, a.i FROM n.a AS a WHERE a.s IS NULL OR a.rid < ANY (SELECT b.rid FROM n.b AS b WHERE b.i = 2) ORDER BY 2", "1.0|1,NULL|3"),
            ("SELECT a.i FROM n.a AS a WHERE a.x > 5 OR a.rid >= ALL (SELECT b.rid FROM n.b AS b WHERE b.s = 'b') ORDER BY 1", "2,3"),
            ("SELECT c.s, c.rid FROM n.a AS c WHERE EXISTS (SELECT 1 FROM n.a AS d WHERE d.rid < c.rid AND d.x < 2) ORDER BY 2", "b|2,NULL|3"),
            ("SELECT c.s, c.rid FROM n.a AS c WHERE NOT EXISTS (SELECT 1 FROM n.a AS d WHERE d.rid < c.rid AND d.x < 2)", "a|1"),
        ],
    )
    .await;
}

/// SQL:2016 8.2 and 8.15: nulls are not distinct from each other and equal to nothing. Each condition of a join has its own rule.
#[tokio::test(flavor = "multi_thread")]
async fn a_join_by_is_not_distinct_from_compares_other_columns_as_ever() {
    let app = holding(&[
        "CREATE TABLE n.k (id INT, d INT, t INT, s TEXT)",
        "INSERT INTO n.k VALUES (1, 1, 1, 'a'), (2, NULL, 2, 'a'), (3, NULL, NULL, 'b'), (4, NULL, 1, NULL), (5, 2, NULL, 'a')",
    ])
    .await;
    let on = "n.k AS b ON a.d IS NOT DISTINCT FROM b.d";
    check(
        &app,
        &[
            (&format!("SELECT a.id, b.id FROM n.k AS a JOIN {on} WHERE a.s = b.s ORDER BY 1, 2"), "1|1,2|2,3|3,5|5"),
            (&format!("SELECT a.id, b.id FROM n.k AS a RIGHT JOIN {on} AND a.t >= b.t WHERE b.s = a.s ORDER BY 1, 2"), "1|1,2|2"),
            (&format!("SELECT a.id, b.id FROM n.k AS a LEFT JOIN {on} AND a.s = b.s ORDER BY 1, 2"), "1|1,2|2,3|3,4|NULL,5|5"),
            (
                &format!("SELECT a.id, b.id, c.id FROM n.k AS a JOIN {on} JOIN n.k AS c ON c.s = b.s AND c.t = a.t ORDER BY 1, 2, 3"),
                "1|1|1,2|2|2,4|2|1",
            ),
            (&format!("SELECT a.id, b.id FROM n.k AS a, {} WHERE a.d IS NOT DISTINCT FROM b.d AND a.t = b.t ORDER BY 1", "n.k AS b"), "1|1,2|2,4|4"),
            ("SELECT id FROM n.k AS a WHERE EXISTS (SELECT 1 FROM n.k AS b WHERE b.d IS NOT DISTINCT FROM a.d AND b.s = a.s AND b.t = a.t) ORDER BY 1", "1,2"),
        ],
    )
    .await;
}

/// A subquery may name a struct's field of an outer table.
#[tokio::test(flavor = "multi_thread")]
async fn subqueries_name_fields_of_the_tables_around_them() {
    let app = holding(&[
        "CREATE TABLE n.o (id BIGINT, v BIGINT, s STRUCT<v BIGINT, t STRUCT<x BIGINT>>)",
        "INSERT INTO n.o VALUES (1, 10, named_struct('v', 10, 't', named_struct('x', 1))), (2, 11, named_struct('v', 11, 't', NULL)), (3, NULL, NULL)",
    ])
    .await;
    check(
        &app,
        &[
            ("SELECT a.id FROM n.o AS a WHERE EXISTS (SELECT 1 FROM n.o AS b WHERE b.s.v = a.s.v - 1)", "2"),
            ("SELECT a.id FROM n.o AS a WHERE EXISTS (SELECT 1 FROM n.o AS b WHERE b.s.v > a.s.v)", "1"),
            ("SELECT a.id FROM n.o AS a WHERE a.id IN (SELECT b.s.t.x FROM n.o AS b WHERE b.s.v = a.s.v)", "1"),
            ("SELECT a.id FROM n.o AS a WHERE 2 > (SELECT max(b.id) FROM n.o AS b WHERE b.id = a.s.t.x)", "1"),
            ("SELECT a.id, (SELECT max(b.id) FROM n.o AS b WHERE b.s.v = a.s.v) FROM n.o AS a ORDER BY 1", "1|1,2|2,3|NULL"),
            ("SELECT id FROM n.o WHERE EXISTS (SELECT 1 FROM n.o AS b WHERE b.id = o.s.t.x) ", "1"),
        ],
    )
    .await;
}

/// Lists and maps of tables and those that functions make have the same type: in unions, `CASE`, windows and aggregates.
#[tokio::test(flavor = "multi_thread")]
async fn lists_and_maps_of_tables_meet_those_that_are_made() {
    let app = holding(&[
        "CREATE TABLE n.t AS SELECT CAST(1 AS BIGINT) AS id, [CAST(1 AS INT), 2, NULL] AS l, MAP {'k': CAST(1 AS INT)} AS m, \
         named_struct('a', [CAST(1 AS INT)]) AS s",
        "INSERT INTO n.t VALUES (2, NULL, NULL, NULL), (3, [], MAP {}, named_struct('a', NULL))",
    ])
    .await;
    check(
        &app,
        &[
            ("SELECT coalesce(l, [CAST(0 AS INT)]), coalesce(m, MAP {'q': CAST(0 AS INT)}) FROM n.t ORDER BY id", "[1, 2, NULL]|{k: 1},[0]|{q: 0},[]|{}"),
            ("SELECT count(*) FROM (SELECT l FROM n.t UNION ALL SELECT [1] UNION SELECT [CAST(1 AS INT)])", "4"),
            ("SELECT lag(l) OVER (ORDER BY id), first_value(l) OVER (ORDER BY id) FROM n.t ORDER BY id", "NULL|[1, 2, NULL],[1, 2, NULL]|[1, 2, NULL],NULL|[1, 2, NULL]"),
            ("SELECT lag(m) OVER (ORDER BY id), lag(s) OVER (ORDER BY id) FROM n.t ORDER BY id", "NULL|NULL,{k: 1}|{a: [1]},NULL|NULL"),
            ("SELECT min(l), max(l), count(DISTINCT l), count(DISTINCT s) FROM n.t", "[]|[1, 2, NULL]|2|2"),
            ("SELECT id, max(l), first_value(s) FROM n.t GROUP BY id ORDER BY id", "1|[1, 2, NULL]|{a: [1]},2|NULL|NULL,3|[]|{a: NULL}"),
            ("SELECT (SELECT l FROM n.t WHERE id = 1), (SELECT m FROM n.t WHERE id = 1)", "[1, 2, NULL]|{k: 1}"),
            ("SELECT coalesce(equality_ids, [CAST(7 AS INT)]), count(*) OVER () FROM n.\"t$files\"", "[7]|2,[7]|2"),
            ("SELECT map_keys(m), map_values(m), map_entries(m) FROM n.t ORDER BY id", "[k]|[1]|[{key: k, value: 1}],NULL|NULL|NULL,[]|[]|[]"),
            ("SELECT a.id FROM n.t AS a JOIN n.t AS b ON a.l = b.l AND a.s = b.s AND a.m = b.m ORDER BY 1", "1,3"),
            ("INSERT INTO n.t SELECT id + 10, coalesce(l, [7]), coalesce(m, MAP {'a': 1}), coalesce(s, named_struct('a', [5])) FROM n.t", "3"),
            ("UPDATE n.t SET l = l || 9, m = MAP {'z': 1} WHERE m['k'] = 1", "2"),
            ("SELECT id, l, m, s FROM n.t WHERE id > 10 ORDER BY id", "11|[1, 2, NULL, 9]|{z: 1}|{a: [1]},12|[7]|{a: 1}|{a: [5]},13|[]|{}|{a: NULL}"),
        ],
    )
    .await;
    let no = "maps can't be grouped or sorted";
    refused(
        &app,
        &[("SELECT DISTINCT m FROM n.t", no), ("SELECT id FROM n.t ORDER BY m", no), ("SELECT m FROM n.t GROUP BY m", no)],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_are_sorted_by_other_columns_than_a_constant_one() {
    let app = holding(&[
        "CREATE TABLE n.w (id INT, v INT, k INT)",
        "INSERT INTO n.w VALUES (58, 1, 7)",
        "INSERT INTO n.w VALUES (59, 2, 7), (60, NULL, 7), (61, 1, 7), (62, 2, 8)",
    ])
    .await;
    let rank = "dense_rank() OVER (ORDER BY a.id DESC NULLS LAST)";
    check(
        &app,
        &[
            (&format!("SELECT a.id, max(a.id) OVER (PARTITION BY a.v ORDER BY a.id), {rank} FROM n.w AS a WHERE a.id = 58"), "58|58|1"),
            (
                "SELECT id, sum(id) OVER (PARTITION BY v ORDER BY k, id), rank() OVER (ORDER BY k) FROM n.w WHERE k = 7 ORDER BY id",
                "58|58|1,59|59|1,60|60|1,61|119|1",
            ),
            (
                "SELECT id, lag(id) OVER (PARTITION BY k ORDER BY k, id), lag(id) OVER (PARTITION BY v ORDER BY k, id) FROM n.w WHERE k = 7 ORDER BY id",
                "58|NULL|NULL,59|58|NULL,60|59|NULL,61|60|58",
            ),
        ],
    )
    .await;
}

/// The planner estimates how many rows a filter keeps. An estimate that fails must not fail the statement.
#[tokio::test(flavor = "multi_thread")]
async fn filters_are_answered_whatever_the_planner_expects_of_them() {
    let app = holding(&[
        "CREATE TABLE n.d (id INT, d DATE, ts TIMESTAMP)",
        "INSERT INTO n.d VALUES (1, DATE '1969-12-31', TIMESTAMP '1969-12-31 23:59:59.999999'), (2, DATE '1970-01-02', TIMESTAMP '1970-01-01 00:00:00')",
        "INSERT INTO n.d VALUES (3, DATE '2020-01-02', TIMESTAMP '2000-01-01 00:00:00')",
    ])
    .await;
    check(
        &app,
        &[
            ("SELECT id FROM n.d WHERE d > CAST(ts AS DATE) ORDER BY id", "2,3"),
            ("SELECT id FROM n.d WHERE d <= CAST(ts AS DATE)", "1"),
            ("DELETE FROM n.d WHERE d > CAST(ts AS DATE) AND id = 3", "1"),
        ],
    )
    .await;
}

/// Expected values are those of PostgreSQL 17.
#[tokio::test(flavor = "multi_thread")]
async fn aggregates_are_each_in_their_own_order() {
    let app = holding(&[
        "CREATE TABLE n.o (id INT, i INT, s VARCHAR)",
        "INSERT INTO n.o VALUES (1, 2, 'b'), (2, 1, 'a')",
        "INSERT INTO n.o VALUES (4, 3, 'd'), (3, NULL, 'c')",
    ])
    .await;
    check(
        &app,
        &[
            ("SELECT array_agg(id ORDER BY id DESC), array_agg(id ORDER BY id) FROM n.o", "[4, 3, 2, 1]|[1, 2, 3, 4]"),
            ("SELECT array_agg(id ORDER BY id), array_agg(i ORDER BY id DESC) FROM n.o", "[1, 2, 3, 4]|[3, NULL, 1, 2]"),
            (
                "SELECT string_agg(s, '' ORDER BY s), string_agg(s, '' ORDER BY s DESC), string_agg(s, '' ORDER BY i) FROM n.o",
                "abcd|dcba|abdc",
            ),
            (
                "SELECT id < 3, array_agg(id ORDER BY id DESC), string_agg(s, '' ORDER BY i) FROM n.o GROUP BY id < 3 ORDER BY 1",
                "false|[4, 3]|dc,true|[2, 1]|ab",
            ),
        ],
    )
    .await;
}

/// Expected values are those of PostgreSQL 17. It has `atan2` for doubles only, so that of integers is compared with doubles.
#[tokio::test(flavor = "multi_thread")]
async fn functions_have_the_digits_and_the_reach_of_postgresql() {
    let app =
        holding(&["CREATE TABLE n.f (id INT, m DECIMAL(10, 2), li INT[])", "INSERT INTO n.f VALUES (1, 0.01, [1, 2, 1])"]).await;
    check(
        &app,
        &[
            ("SELECT power(1.25, 2), power(2, -1), power(m, 2) FROM n.f", "1.5625|0.5|0.0001"),
            ("SELECT atan2(1, 1)", "0.7853981633974483"),
            ("SELECT replace('aaa', '', 'b'), replace('aba', 'a', 'x'), replace('', '', 'x')", "aaa|xbx|"),
            ("SELECT array_remove(li, 1), array_replace(li, 1, 9) FROM n.f", "[2]|[9, 2, 9]"),
            ("SELECT ceiling(1.2), every(id > 0) FROM n.f", "2|true"),
            ("SELECT count(*) FILTER (WHERE NULL), sum(id) FILTER (WHERE NULL) FROM n.f", "0|NULL"),
        ],
    )
    .await;
    refused(&app, &[("SELECT 'xy' SIMILAR TO 'x'", "SIMILAR TO is not served")]).await;
}

/// SQL:2016 8.8: a row is null if all its values are null. SQL:2016 8.2: rows compare value by value, however they are written.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_null_by_their_values() {
    let app = holding(&[
        "CREATE TABLE n.r (id INT, i INT, b BOOLEAN)",
        "INSERT INTO n.r VALUES (1, 1, true), (2, NULL, true), (3, NULL, NULL)",
    ])
    .await;
    check(
        &app,
        &[
            ("SELECT id FROM n.r WHERE (i, b) IS NULL", "3"),
            ("SELECT id FROM n.r WHERE ROW(i, b) IS NOT NULL", "1"),
            ("SELECT id FROM n.r WHERE NOT ROW(i, b) IS NULL ORDER BY id", "1,2"),
            (
                "SELECT ROW(1, 2) = ROW(1, NULL), ROW(1, 2) = (1, 2), (1, 2) < row(1, 3), ROW(1, 2) IN (row(1, 2), (3, 4))",
                "NULL|true|true|true",
            ),
            ("SELECT id FROM n.r WHERE ROW(id, i) = ROW(1, 1)", "1"),
        ],
    )
    .await;
}

/// Expected values are those of PostgreSQL 17.
#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_a_window_reaches_beyond_the_ends_of_a_type() {
    let app = holding(&[
        "CREATE TABLE n.e (id INT, i INT, l BIGINT)",
        "INSERT INTO n.e VALUES (1, 2147483647, 9223372036854775807), (2, NULL, NULL), (4, -2147483648, -9223372036854775808)",
    ])
    .await;
    for column in ["i", "l"] {
        let sum = |order: &str| format!("SELECT id, sum(id) OVER (ORDER BY {column} {order}) FROM n.e ORDER BY id");
        let cases = [
            (sum("RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING"), "1|1,2|2,4|4"),
            (sum("DESC RANGE BETWEEN 1 PRECEDING AND UNBOUNDED FOLLOWING"), "1|5,2|7,4|4"),
            (sum("RANGE BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING"), "1|5,2|7,4|4"),
        ];
        check(&app, &cases.each_ref().map(|(sql, wanted)| (sql.as_str(), *wanted))).await;
    }
}

/// The subquery runs first, in a node of the plan above the sort.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_ordered_beside_a_subquery_that_is_asked_first() {
    let app = holding(&[
        "CREATE TABLE n.q (id INT, i INT)",
        "INSERT INTO n.q VALUES (1, 1)",
        "INSERT INTO n.q VALUES (2, 2147483647), (3, 0), (4, NULL)",
    ])
    .await;
    check(
        &app,
        &[
            ("SELECT id FROM (SELECT id, i > 1 OR (SELECT count(*) FROM n.q) > 7 AS m FROM n.q) ORDER BY m, id DESC", "3,1,2,4"),
            ("SELECT id FROM (SELECT id, id IN (SELECT id FROM n.q WHERE i > 0) AS m FROM n.q) ORDER BY m, id DESC", "4,3,2,1"),
            ("SELECT id FROM n.q ORDER BY id IN (SELECT id FROM n.q WHERE i > 0), id DESC", "4,3,2,1"),
            ("SELECT id + 1 FROM n.q WHERE id >= (SELECT min(id) FROM n.q) ORDER BY i NULLS FIRST, id", "5,4,2,3"),
            (
                "SELECT id, (SELECT max(i) FROM n.q) - i AS m FROM n.q ORDER BY m DESC NULLS LAST",
                "3|2147483647,1|2147483646,2|0,4|NULL",
            ),
        ],
    )
    .await;
}

/// Expected values are those of PostgreSQL 17, which has `cardinality` for arrays only.
#[tokio::test(flavor = "multi_thread")]
async fn whole_numbers_are_signed() {
    let app =
        holding(&["CREATE TABLE n.u (id INT, li INT[])", "INSERT INTO n.u VALUES (1, [1]), (2, [1, 2]), (3, [1, 2, 3])"]).await;
    check(
        &app,
        &[
            ("SELECT rn / 2 FROM (SELECT row_number() OVER (ORDER BY id) AS rn FROM n.u) AS q ORDER BY 1", "0,1,1"),
            ("SELECT (row_number() OVER (ORDER BY id) - 1) / 2, count(*) OVER () FROM n.u ORDER BY 1", "0|3,0|3,1|3"),
            ("SELECT -rank() OVER (ORDER BY id), -dense_rank() OVER (ORDER BY id), ntile(2) OVER (ORDER BY id) - 3 FROM n.u ORDER BY id", "-1|-1|-2,-2|-2|-2,-3|-3|-1"),
            ("SELECT cardinality(li) / 2, -array_length(li), array_position(li, 2) - 9 FROM n.u ORDER BY id", "0|-1|NULL,1|-2|-7,1|-3|-7"),
            ("SELECT lag(rn, 1, -1) OVER (ORDER BY rn) FROM (SELECT row_number() OVER (ORDER BY id) AS rn FROM n.u) AS q ORDER BY 1", "-1,1,2"),
            ("SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY id % 2 ORDER BY id DESC) AS rn FROM n.u) AS q WHERE rn = 1 ORDER BY 1", "2,3"),
            ("SELECT -approx_distinct(id) FROM n.u", "-3"),
            ("CREATE TABLE n.made AS SELECT row_number() OVER (ORDER BY id) AS rn, cardinality(li) AS c FROM n.u", "3"),
            ("SELECT data_type FROM information_schema.columns WHERE table_name = 'made' ORDER BY column_name", "BIGINT,BIGINT"),
        ],
    )
    .await;
}

/// The syntax is that of DuckDB and Spark; PostgreSQL needs parentheses around the expression before the dot.
#[tokio::test(flavor = "multi_thread")]
async fn fields_are_taken_of_items_and_of_expressions() {
    let app = holding(&[
        "CREATE TABLE n.f AS SELECT 1 AS id, [named_struct('a', 1, 'b', named_struct('c', 'x')), named_struct('a', 2, 'b', NULL)] AS l, \
         MAP {'k': named_struct('q', 1.5)} AS m, named_struct('x', 7, 'in', [named_struct('y', 8)]) AS s",
    ])
    .await;
    check(
        &app,
        &[
            ("SELECT l[1].a, l[2].a, l[1].b.c, l[1]['b'].c FROM n.f", "1|2|x|x"),
            ("SELECT m['k'].q, (s).x, s.x, (s).\"in\"[1].y, f.s.\"in\"[1].y FROM n.f", "1.5|7|7|8|8"),
            ("SELECT named_struct('a', 1).a, (named_struct('a', 2)).a", "1|2"),
            ("SELECT id FROM n.f WHERE l[1].b.c LIKE 'x%' AND n.f.l[2].a = 2", "1"),
        ],
    )
    .await;
}

/// DataFusion takes two equal projections for one, if the one is the other's input.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_subquery_computed_is_computed_from() {
    let app = holding(&["CREATE TABLE n.p (id INT, x INT)", "INSERT INTO n.p VALUES (1, 10), (2, 20)"]).await;
    check(
        &app,
        &[
            ("SELECT x + 1 AS x FROM (SELECT x + 1 AS x FROM (SELECT 1 AS x))", "3"),
            ("SELECT x + 1 AS x FROM (SELECT x + 1 AS x, 5 AS y FROM (SELECT 1 AS x))", "3"),
            ("SELECT y + 1 AS x FROM (SELECT x AS y FROM (SELECT x + 1 AS x FROM (SELECT 1 AS x)))", "3"),
            ("SELECT y AS x, x AS y FROM (SELECT y AS x, x AS y FROM (SELECT 1 AS x, 2 AS y))", "1|2"),
            ("SELECT x || x AS x FROM (SELECT x || x AS x FROM (SELECT x || x AS x FROM (SELECT 'ab' AS x)))", "abababababababab"),
            (
                "SELECT x + 1 AS x FROM (SELECT x + 1 AS x FROM (SELECT x + 1 AS x FROM (SELECT x + 1 AS x FROM (SELECT x + 1 AS x FROM (SELECT 1 AS x)))))",
                "6",
            ),
            ("SELECT upper(x) || x AS x FROM (SELECT upper(x) || x AS x FROM (SELECT 'a' AS x))", "AAAa"),
            ("SELECT id * 2 AS id FROM (SELECT id * 2 AS id FROM (SELECT id * 2 AS id FROM n.p)) ORDER BY id", "8,16"),
            ("SELECT id * 2 AS id FROM (SELECT id * 2 AS id FROM (SELECT id FROM n.p)) WHERE id > 2 ORDER BY id", "8"),
            ("SELECT sum(x) FROM (SELECT x + 1 AS x FROM (SELECT x + 1 AS x FROM (SELECT id AS x FROM n.p)))", "7"),
            ("SELECT id, x - id AS x FROM (SELECT id, x - id AS x FROM (SELECT id, x FROM n.p)) ORDER BY 1", "1|8,2|16"),
            ("SELECT id, x AS y, y AS x FROM (SELECT id, x AS y, y AS x FROM (SELECT id, x, -x AS y FROM n.p)) ORDER BY 1", "1|-10|10,2|-20|20"),
            ("SELECT x FROM (SELECT x + 1 AS x FROM (SELECT x + 1 AS x FROM (SELECT id AS x FROM n.p))) WHERE x IN (SELECT x + 1 AS x FROM (SELECT x + 1 AS x FROM (SELECT 1 AS x)))", "3"),
        ],
    )
    .await;
}
