//! Subqueries, lists and sets with nulls, in SQL's three-valued logic; and the limits of a statement's size.
//!
//! Expected values are those of the SQL standard, which PostgreSQL 17 and DuckDB 1.5 agree with.

use esker_tests::TestApp;
use reqwest::Method;
use serde_json::json;

use super::semantics::{answer, check, holding, refused};

/// Starts a server with the tables `n.a` (1, 2, 3 and a null), `n.b` (distant values), `n.c` (1 and a null) and `n.e` (empty).
async fn tables() -> TestApp {
    let app = holding(&[]).await;
    for (name, rows) in [
        ("a", "(1, 1, 1e0, 1.5), (2, 2, -0e0, 2.5), (3, 3, 0e0, 3.5), (4, NULL, NULL, NULL)"),
        ("b", "(1, 100, 100e0, 100.5), (2, 200, 200e0, 200.5)"),
        ("c", "(1, 1, 1e0, 1.5), (2, NULL, NULL, NULL)"),
        ("e", "(1, 1, 1e0, 1.5)"),
    ] {
        let sql = format!(
            "CREATE TABLE n.{name} AS SELECT id, CAST(i AS INT) AS i, CAST(d AS DOUBLE) AS d, CAST(m AS DECIMAL(10, 2)) AS m \
             FROM (VALUES {rows}) AS v(id, i, d, m)"
        );
        answer(&app, &sql).await;
    }
    answer(&app, "DELETE FROM n.e").await;
    app
}

/// SQL:2016 8.4: `x IN (…)` means `x = ANY (…)`: true if true for some row, false if false for all, else unknown.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_a_subquery_is_known_by_its_nulls() {
    let app = tables().await;
    for column in ["i", "d", "m"] {
        let of = |condition: &str| format!("SELECT id FROM n.a WHERE {} ORDER BY id", condition.replace('@', column));
        let cases = [
            // The values of n.a must not prune rows of n.b: against an empty n.b, the null of n.a would not be unknown.
            ("@ NOT IN (SELECT @ FROM n.b)", "1,2,3"),
            ("@ NOT IN (SELECT @ FROM n.b WHERE id = 1)", "1,2,3"),
            ("@ NOT IN (SELECT @ FROM n.c)", ""),
            ("@ NOT IN (SELECT @ FROM n.c WHERE id = 1)", "2,3"),
            ("@ NOT IN (SELECT @ FROM n.c WHERE id = 2)", ""),
            ("@ NOT IN (SELECT @ FROM n.e)", "1,2,3,4"),
            ("NOT (@ IN (SELECT @ FROM n.c))", ""),
            ("@ <> ALL (SELECT @ FROM n.b)", "1,2,3"),
            ("@ <> ALL (SELECT @ FROM n.c)", ""),
            ("NOT (@ = ANY (SELECT @ FROM n.c))", ""),
            ("@ < ALL (SELECT @ FROM n.b)", "1,2,3"),
            ("@ < ALL (SELECT @ FROM n.e)", "1,2,3,4"),
            ("@ > ANY (SELECT @ FROM n.c)", if column == "d" { "" } else { "2,3" }),
            ("id = 4 OR @ NOT IN (SELECT @ FROM n.c)", "4"),
            ("id = 1 OR @ NOT IN (SELECT @ FROM n.b)", "1,2,3"),
            ("(@ IN (SELECT @ FROM n.c)) IS NULL", "2,3,4"),
            ("(@ IN (SELECT @ FROM n.c)) IS NOT TRUE", "2,3,4"),
            ("(@ IN (SELECT @ FROM n.b)) IS NULL", "4"),
            ("(@ IN (SELECT @ FROM n.e)) IS NULL", ""),
            ("CASE WHEN @ IN (SELECT @ FROM n.c) THEN false ELSE true END", "2,3,4"),
            ("5 NOT IN (SELECT @ FROM n.c)", ""),
            ("5 NOT IN (SELECT @ FROM n.b)", "1,2,3,4"),
            ("NULL NOT IN (SELECT @ FROM n.e)", "1,2,3,4"),
            ("NULL NOT IN (SELECT @ FROM n.b)", ""),
            // Correlated: n.c has rows for the ids 1 and 2.
            ("@ NOT IN (SELECT c.@ FROM n.c AS c WHERE c.id = a.id)", "3,4"),
            ("@ NOT IN (SELECT b.@ FROM n.b AS b WHERE b.id + 2 = a.id)", "1,2,3"),
            ("@ IN (SELECT c.@ FROM n.c AS c WHERE c.id = a.id)", "1"),
            ("(@ IN (SELECT c.@ FROM n.c AS c WHERE c.id = a.id)) IS NULL", "2"),
            ("@ NOT IN (SELECT max(b.@) FROM n.b AS b WHERE b.id = a.id + 1)", "1"),
            ("EXISTS (SELECT max(b.@) FROM n.b AS b WHERE b.id = a.id)", "1,2,3,4"),
            ("NOT EXISTS (SELECT 1 FROM n.c AS c WHERE c.@ = a.@)", "2,3,4"),
        ];
        let statements: Vec<(String, &str)> = cases.iter().map(|(condition, found)| (of(condition), *found)).collect();
        let cases: Vec<(&str, &str)> = statements.iter().map(|(sql, found)| (sql.as_str(), *found)).collect();
        check(&app, &cases).await;
    }
    check(
        &app,
        &[
            ("SELECT i IN (SELECT i FROM n.c) FROM n.a ORDER BY id", "true,NULL,NULL,NULL"),
            ("SELECT i NOT IN (SELECT i FROM n.b) FROM n.a ORDER BY id", "true,true,true,NULL"),
            ("SELECT EXISTS (SELECT 1 FROM n.c WHERE c.id = a.id) FROM n.a ORDER BY id", "true,true,false,false"),
            ("SELECT count(*) FROM n.a WHERE i > 1 AND id IN (SELECT id FROM n.a WHERE i NOT IN (SELECT i FROM n.c))", "0"),
            ("DELETE FROM n.a WHERE i NOT IN (SELECT i FROM n.c)", "0"),
            ("UPDATE n.a SET m = 0 WHERE i NOT IN (SELECT i FROM n.b)", "3"),
            ("DELETE FROM n.a WHERE d NOT IN (SELECT d FROM n.b)", "3"),
            ("DELETE FROM n.a WHERE d NOT IN (SELECT d FROM n.e)", "1"),
        ],
    )
    .await;
}

/// Nulls are not distinct in sets (SQL:2016 7.17), whatever the other side holds.
#[tokio::test(flavor = "multi_thread")]
async fn sets_take_nulls_for_equal() {
    let app = tables().await;
    for column in ["i", "d", "m"] {
        let cases = [
            ("SELECT count(*) FROM (SELECT @ FROM n.a WHERE id = 4 INTERSECT SELECT @ FROM n.c WHERE id = 2)", "1"),
            ("SELECT count(*) FROM (SELECT @ FROM n.a INTERSECT SELECT @ FROM n.c)", "2"),
            ("SELECT count(*) FROM (SELECT @ FROM n.a WHERE id >= 3 EXCEPT SELECT @ FROM n.c)", "1"),
            ("SELECT count(*) FROM (SELECT @ FROM n.a WHERE id = 4 EXCEPT SELECT @ FROM n.b)", "1"),
            ("SELECT a.id, c.id FROM n.a JOIN n.c ON a.@ IS NOT DISTINCT FROM c.@ ORDER BY 1", "1|1,4|2"),
        ];
        for (sql, expected) in cases {
            assert_eq!(answer(&app, &sql.replace('@', column)).await, expected, "{sql} of {column}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn correlated_subqueries_aggregate_by_keys_of_every_type() {
    let app = tables().await;
    answer(
        &app,
        "CREATE TABLE n.u AS SELECT id, CAST(text AS UUID) AS u FROM (VALUES (1, 'f79c3e09-677c-4bbd-a479-3f349cb785e7'), \
                  (2, 'F79C3E09677C4BBDA4793F349CB785E7'), (3, '00000000-0000-0000-0000-000000000000')) AS v(id, text)",
    )
    .await;
    check(
        &app,
        &[
            // -0.0 and 0.0 are the same key: they form one group, and the subquery returns one row for each outer row.
            ("SELECT id, (SELECT count(*) FROM n.a AS b WHERE b.d = a.d) FROM n.a ORDER BY id", "1|1,2|2,3|2,4|0"),
            ("SELECT id FROM n.a WHERE id > (SELECT min(b.id) FROM n.a AS b WHERE b.d = a.d)", "3"),
            ("SELECT id FROM n.a WHERE id = (SELECT min(b.id) FROM n.a AS b WHERE b.i + 1 = a.i + 1) ORDER BY id", "1,2,3"),
            ("SELECT id FROM n.a WHERE id = (SELECT min(b.id) FROM n.a AS b WHERE CAST(b.m AS INT) = a.i) ORDER BY id", ""),
            ("SELECT id FROM n.u AS a WHERE id > (SELECT min(b.id) FROM n.u AS b WHERE b.u = a.u)", "2"),
            ("SELECT id FROM n.u WHERE u IN (SELECT u FROM n.u WHERE id = 1) ORDER BY id", "1,2"),
        ],
    )
    .await;
}

/// Conditions on lists with nulls, and combinations of two conditions, which the planner may merge.
#[tokio::test(flavor = "multi_thread")]
async fn lists_say_nothing_of_null_and_keep_all_of_their_items() {
    let app = tables().await;
    let of = |condition: &str| format!("SELECT id FROM n.a WHERE {condition} ORDER BY id");
    let cases = [
        ("i NOT IN (1, NULL) OR i NOT IN (2)", "1,3"),
        ("i NOT IN (1, 5, 6, 7) OR i NOT IN (2, 8, 9, 10)", "1,2,3"),
        ("i NOT IN (1, 2, NULL) OR i NOT IN (1, 3, NULL)", ""),
        ("(i IN (1, 2) AND i IN (3)) IS NULL", "4"),
        ("NOT (i IN (1, 2) AND i IN (3))", "1,2,3"),
        ("i IN (1, 2) AND i NOT IN (NULL)", ""),
        ("i IN (1, 2) AND i NOT IN (id, 7)", ""),
        ("i IN (1, 2, 3) AND i NOT IN (id - 1, 7)", "1,2,3"),
        ("i IN (1, 2) AND i NOT IN (2, 3, 4, 5)", "1"),
        ("(i IN (1) AND i NOT IN (1, 2, 3, 4)) IS NULL", "4"),
        ("i NOT IN (1, 2, 3, 9) AND i NOT IN (4, 5, 6, 9)", ""),
        ("(d > 0 AND i NOT IN (1)) OR (d > 0 AND i NOT IN (2))", "1"),
        ("i IN (NULL)", ""),
        ("(i NOT IN (NULL)) IS NULL", "1,2,3,4"),
        ("d IN (0e0, NULL)", "2,3"),
        ("m NOT IN (1.5, NULL)", ""),
    ];
    let statements: Vec<(String, &str)> = cases.iter().map(|(condition, found)| (of(condition), *found)).collect();
    let cases: Vec<(&str, &str)> = statements.iter().map(|(sql, found)| (sql.as_str(), *found)).collect();
    check(&app, &cases).await;
}

/// Windows can be ordered by every ordered type; rows with equal values are peers.
#[tokio::test(flavor = "multi_thread")]
async fn windows_are_ordered_by_values_of_every_type() {
    let app = TestApp::start().await;
    for (kind, low, high) in [
        ("TIME", "TIME '00:00:01'", "TIME '00:00:02'"),
        ("UUID", "UUID '00000000-0000-0000-0000-000000000001'", "UUID 'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
        ("VARBINARY", "X'00'", "X'FF'"),
        ("BOOLEAN", "false", "true"),
        ("VARCHAR", "'a'", "'b'"),
        ("DECIMAL(10, 2)", "1.25", "1.5"),
        ("DATE", "DATE '2020-01-01'", "DATE '2020-01-02'"),
        ("TIMESTAMP(9)", "TIMESTAMP(9) '2020-01-01 00:00:00.000000001'", "TIMESTAMP(9) '2020-01-01 00:00:00.000000002'"),
        ("DOUBLE", "-0e0", "1e0"),
    ] {
        let from = format!(
            "(SELECT id, CAST(x AS {kind}) AS x FROM (VALUES (1, {low}), (2, {high}), (3, {low}), (4, NULL)) AS v(id, x))"
        );
        for (call, expected) in [
            ("count(*) OVER (ORDER BY x)", "1|2,2|3,3|2,4|4"),
            ("rank() OVER (ORDER BY x)", "1|1,2|3,3|1,4|4"),
            ("sum(id) OVER (ORDER BY x RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)", "1|10,2|6,3|10,4|4"),
            ("lag(id) OVER (ORDER BY x, id)", "1|NULL,2|3,3|1,4|2"),
        ] {
            let sql = format!("SELECT id, {call} FROM {from} ORDER BY id");
            assert_eq!(answer(&app, &sql).await, expected, "{call} of {kind}");
        }
    }
    refused(
        &app,
        &[(
            "SELECT sum(1) OVER (ORDER BY x RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) FROM (SELECT TIME '00:00:00' AS x)",
            "RANGE",
        )],
    )
    .await;
}

/// NaN is greater than every number, whatever its sign bit, also in `max`, `greatest` and the like.
#[tokio::test(flavor = "multi_thread")]
async fn functions_that_pick_values_take_nan_for_the_greatest() {
    let app = TestApp::start().await;
    let nan = "CAST('NaN' AS DOUBLE)";
    check(
        &app,
        &[
            (&format!("SELECT greatest(-{nan}, 1e0), least(-{nan}, 1e0), greatest(-0e0, NULL)"), "NaN|1.0|-0.0"),
            (&format!("SELECT array_max([-{nan}, 1e0]), array_min([-{nan}, 1e0])"), "NaN|1.0"),
            (&format!("SELECT array_sort([1e0, -{nan}, -1e0])"), "[-1.0, 1.0, NaN]"),
            (&format!("SELECT median(x) FROM (VALUES (-{nan}), (1e0), (2e0)) AS v(x)"), "2.0"),
        ],
    )
    .await;
}

/// SQL:2016 7.10: a column of USING has the first of the two values that is not null.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_using_has_the_value_of_whichever_side_has_the_row() {
    let app = tables().await;
    let from = |join: &str| {
        format!(
            "(SELECT 1 AS k, 'a' AS x UNION ALL SELECT 2, 'b') AS l {join} (SELECT 2 AS k, 'c' AS y UNION ALL SELECT 3, 'd') AS r USING (k)"
        )
    };
    let cases = [
        ("SELECT k, x, y FROM @ ORDER BY k", "FULL JOIN", "1|a|NULL,2|b|c,3|NULL|d"),
        ("SELECT * FROM @ ORDER BY k", "FULL JOIN", "1|a|NULL,2|b|c,3|NULL|d"),
        ("SELECT y FROM @ ORDER BY k DESC", "RIGHT JOIN", "d,c"),
        ("SELECT * FROM @ ORDER BY 1", "RIGHT JOIN", "2|b|c,3|NULL|d"),
        ("SELECT l.k, r.k, k + 1 FROM @ ORDER BY 3", "FULL JOIN", "1|NULL|2,2|2|3,NULL|3|4"),
        ("SELECT x FROM @ WHERE k = 3 OR k = 1 ORDER BY k", "FULL JOIN", "a,NULL"),
        ("SELECT k, count(*) FROM @ GROUP BY k HAVING k > 1 ORDER BY k", "FULL JOIN", "2|1,3|1"),
        ("SELECT max(k) FROM (SELECT k FROM @ UNION SELECT k + 5 FROM @) AS q", "FULL JOIN", "8"),
        (
            "SELECT k FROM @ FULL JOIN (SELECT 3 AS k, 'e' AS z UNION ALL SELECT 4, 'f') AS t USING (k) ORDER BY k",
            "FULL JOIN",
            "1,2,3,4",
        ),
        ("SELECT k, x, y FROM @ ORDER BY k", "LEFT JOIN", "1|a|NULL,2|b|c"),
    ];
    let statements: Vec<(String, &str)> =
        cases.iter().map(|(sql, join, expected)| (sql.replace('@', &from(join)), *expected)).collect();
    let cases: Vec<(&str, &str)> = statements.iter().map(|(sql, found)| (sql.as_str(), *found)).collect();
    check(&app, &cases).await;
    check(&app, &[("SELECT id FROM n.a FULL JOIN n.c USING (id) WHERE a.i IS NULL ORDER BY id", "4")]).await;
    refused(&app, &[("SELECT * FROM n.a NATURAL FULL JOIN n.c", "USING")]).await;
}

/// A UUID inside a struct is compared with text like one in a column.
#[tokio::test(flavor = "multi_thread")]
async fn uuids_within_structs_compare_as_uuids() {
    let app = tables().await;
    let inner = json!({"type": "struct", "fields": [
        {"id": 3, "name": "u", "type": "uuid", "required": false}, {"id": 4, "name": "x", "type": "fixed[16]", "required": false},
    ]});
    let outer = json!({"type": "struct", "fields": [
        {"id": 5, "name": "deep", "type": inner, "required": false}, {"id": 6, "name": "u", "type": "uuid", "required": false},
    ]});
    let fields = json!([
        {"id": 1, "name": "id", "type": "int", "required": false}, {"id": 2, "name": "s", "type": outer, "required": false},
    ]);
    let schema = json!({"type": "struct", "schema-id": 0, "fields": fields});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(json!({"name": "w", "schema": schema}))).await;
    for (id, uuid) in [(1, "00000000-0000-0000-0000-000000000001"), (2, "ffffffff-0000-0000-0000-000000000000")] {
        let value = format!("named_struct('deep', named_struct('u', UUID '{uuid}', 'x', NULL), 'u', UUID '{uuid}')");
        answer(&app, &format!("INSERT INTO n.w VALUES ({id}, {value})")).await;
    }
    let of = |condition: &str| format!("SELECT id FROM n.w WHERE {condition} ORDER BY id");
    for (condition, expected) in [
        ("s.u = 'FFFFFFFF000000000000000000000000'", "2"),
        ("s.u >= '80000000-0000-0000-0000-000000000000'", "2"),
        ("w.s.deep.u < '80000000-0000-0000-0000-000000000000'", "1"),
        ("s['deep']['u'] IN ('00000000-0000-0000-0000-000000000001', NULL)", "1"),
        ("CAST(s.u AS VARCHAR) = 'ffffffff-0000-0000-0000-000000000000'", "2"),
        ("s.u BETWEEN '00000000-0000-0000-0000-000000000000' AND '00000000-0000-0000-0000-000000000001'", "1"),
    ] {
        assert_eq!(answer(&app, &of(condition)).await, expected, "{condition}");
    }
    assert_eq!(
        answer(&app, "SELECT count(*) FROM (SELECT s.u AS v FROM n.w) WHERE v = 'ffffffff-0000-0000-0000-000000000000'").await,
        "1"
    );
}

/// Grouping sets over float keys, together with an aggregate of the same floats.
#[tokio::test(flavor = "multi_thread")]
async fn floats_are_grouped_by_sets_whatever_else_is_asked_of_them() {
    let app = tables().await;
    check(
        &app,
        &[
            (
                "SELECT d, id, min(d), count(*) FROM n.c GROUP BY CUBE (d, id) ORDER BY 1, 2, 4",
                "1.0|1|1.0|1,1.0|NULL|1.0|1,NULL|1|1.0|1,NULL|2|NULL|1,NULL|2|NULL|1,NULL|NULL|NULL|1,NULL|NULL|1.0|2",
            ),
            (
                "SELECT d + 0e0, min(d) + 0e0, max(d) + 0e0 FROM n.a GROUP BY ROLLUP (d) HAVING count(*) > 1 ORDER BY count(*)",
                "0.0|0.0|0.0,NULL|0.0|1.0",
            ),
        ],
    )
    .await;
}

/// A column has both the least and the greatest 64-bit integer.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_all_64_bits_is_filtered_and_counted() {
    let app = tables().await;
    answer(&app, "CREATE TABLE n.w AS SELECT CAST(x AS BIGINT) AS x, CAST(1.5 AS DOUBLE) AS d FROM (VALUES (-9223372036854775808)) AS v(x)").await;
    answer(&app, "INSERT INTO n.w VALUES (9223372036854775807, 2.5)").await;
    check(
        &app,
        &[
            ("SELECT x FROM n.w WHERE x <= -10 AND x < 59", "-9223372036854775808"),
            (
                "SELECT x, count(*) FROM n.w WHERE d > 1.0 GROUP BY x HAVING count(*) > 0 ORDER BY x",
                "-9223372036854775808|1,9223372036854775807|1",
            ),
            ("SELECT x FROM n.w WHERE x > 0 AND d > 2", "9223372036854775807"),
        ],
    )
    .await;
}

/// A column may be qualified by the full name of its table.
#[tokio::test(flavor = "multi_thread")]
async fn columns_are_qualified_by_the_whole_name_of_their_table_or_the_last_part_of_it() {
    let app = tables().await;
    check(
        &app,
        &[
            ("SELECT e.* FROM n.e", ""),
            ("SELECT c.*, a.id FROM n.c JOIN n.a ON c.i = a.i", "1|1|1.0|1.50|1"),
            ("SELECT n.c.*, n.c.id FROM n.c WHERE n.c.id = 1", "1|1|1.0|1.50|1"),
            ("UPDATE n.c SET n.c.i = n.c.id + 6 WHERE n.c.id = 1 AND c.i = 1", "1"),
            ("SELECT i FROM n.c WHERE id = 1", "7"),
            ("DELETE FROM n.c WHERE n.c.id IN (SELECT n.c.id FROM n.c WHERE n.c.i = 7)", "1"),
        ],
    )
    .await;
}

/// A statement that exceeds a limit gets an error, and the server goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_too_deep_is_refused_and_a_long_one_answered() {
    let app = TestApp::start().await;
    let chain = |head: &str, count: usize, between: &str, part: &dyn Fn(usize) -> String| {
        format!("{head}{}", (0..count).map(part).collect::<Vec<_>>().join(between))
    };
    let one = |_: usize| "1".to_owned();
    let deep = [
        chain("SELECT ", 5_000, " + ", &one),
        chain("SELECT ", 5_000, " || ", &one),
        chain("SELECT ", 5_000, "::INT + ", &one),
        format!("SELECT {}1{}", "(".repeat(3_000), ")".repeat(3_000)),
        format!("SELECT {}1{}", "abs(".repeat(3_000), ")".repeat(3_000)),
        format!("SELECT {}1", "- ".repeat(3_000)),
        format!("SELECT {}true", "NOT ".repeat(3_000)),
        format!("SELECT 1{}", " IS NULL".repeat(3_000)),
        chain("", 3_000, " UNION ALL ", &|i| format!("SELECT {i}")),
        chain("SELECT 1 WHERE ", 30_000, " OR ", &|i| format!("1 = {i}")),
        format!("SELECT ({0}) < ({0})", chain("", 3_000, ", ", &one)),
    ];
    for sql in &deep {
        let error = app.sql(sql).await.expect_err("it is too deep");
        assert!(error.contains("too deep") || error.contains("recursion"), "{error}");
    }
    let long = [
        (chain("SELECT 1 WHERE ", 3_000, " OR ", &|i| format!("1 = {i}")), "1"),
        (chain("SELECT 1 WHERE ", 1_000, " AND ", &|i| format!("1 < {}", i + 2)), "1"),
        (format!("SELECT 1 WHERE 7 IN ({})", chain("", 10_000, ", ", &|i| i.to_string())), "1"),
        (format!("SELECT 1 WHERE (7, 7) IN ({})", chain("", 10_000, ", ", &|i| format!("({i}, {i})"))), "1"),
        (format!("SELECT 1 WHERE ({0}) = ({0})", chain("", 3_000, ", ", &one)), "1"),
        (format!("SELECT count(*) FROM (VALUES {}) AS v", chain("", 5_000, ", ", &|i| format!("({i})"))), "5000"),
    ];
    for (sql, expected) in &long {
        assert_eq!(answer(&app, sql).await, *expected);
    }
}

/// SQL:2016 8.9, in a select list, where the comparison is no join condition.
#[tokio::test(flavor = "multi_thread")]
async fn values_in_a_select_list_are_compared_with_all_rows() {
    let app = tables().await;
    check(
        &app,
        &[
            ("SELECT id, i >= ALL (SELECT i FROM n.a WHERE id < 4) FROM n.a ORDER BY id", "1|false,2|false,3|true,4|NULL"),
            ("SELECT id, i >= ALL (SELECT i FROM n.a) FROM n.a ORDER BY id", "1|false,2|false,3|NULL,4|NULL"),
            ("SELECT id, i < ANY (SELECT i FROM n.a) FROM n.a ORDER BY id", "1|true,2|true,3|NULL,4|NULL"),
            ("SELECT id, i <> ANY (SELECT i FROM n.c WHERE id = 1) FROM n.a ORDER BY id", "1|false,2|true,3|true,4|NULL"),
            ("SELECT id, i = ALL (SELECT i FROM n.c) FROM n.a ORDER BY id", "1|NULL,2|false,3|false,4|NULL"),
            (
                "SELECT id, i > ALL (SELECT i FROM n.e), i > ANY (SELECT i FROM n.e) FROM n.a ORDER BY id",
                "1|true|false,2|true|false,3|true|false,4|true|false",
            ),
            ("SELECT id, d >= ALL (SELECT d FROM n.a WHERE id IN (2, 3)) FROM n.a ORDER BY id", "1|true,2|true,3|true,4|NULL"),
            ("SELECT sum(CASE WHEN m < ANY (SELECT m FROM n.b) THEN 1 ELSE 0 END) FROM n.a", "3"),
        ],
    )
    .await;
}

/// SQL:2016 7.13: a grouping key may be any expression, also in grouping sets.
#[tokio::test(flavor = "multi_thread")]
async fn expressions_are_grouped_by_sets() {
    let app =
        holding(&["CREATE TABLE n.g AS SELECT id, CAST(i AS INT) AS i, s, named_struct('x', CAST(i AS INT), 'y', s) AS st \
         FROM (VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 2, 'a')) AS v(id, i, s)"])
        .await;
    check(
        &app,
        &[
            ("SELECT s, i + 1, count(*) FROM n.g GROUP BY ROLLUP (s, i + 1) ORDER BY 1, 2", "a|2|1,a|3|1,a|NULL|2,b|2|1,b|NULL|1,NULL|NULL|3"),
            ("SELECT i + 1, st.y, sum(id) FROM n.g GROUP BY GROUPING SETS ((i + 1), (st.y)) ORDER BY 1, 2", "2|NULL|3,3|NULL|3,NULL|a|4,NULL|b|2"),
            ("SELECT st.x, upper(s), count(*), min(id) FROM n.g GROUP BY CUBE (st.x, upper(s)) HAVING count(*) > 1 ORDER BY 1, 2", "1|NULL|2|1,NULL|A|2|1,NULL|NULL|3|1"),
            ("SELECT i + 1, grouping(i + 1), count(*) FROM n.g GROUP BY ROLLUP (i + 1) ORDER BY 2, 1", "2|0|2,3|0|1,NULL|1|3"),
        ],
    )
    .await;
}

/// The outer and the inner table may be the same, and so may the compared columns.
#[tokio::test(flavor = "multi_thread")]
async fn a_subquery_reads_the_table_around_it() {
    let app = tables().await;
    check(
        &app,
        &[
            ("SELECT id FROM n.a WHERE id NOT IN (SELECT id FROM n.a WHERE i = 1) ORDER BY id", "2,3,4"),
            ("SELECT id, id IN (SELECT id FROM n.a WHERE i = 1) FROM n.a ORDER BY id", "1|true,2|false,3|false,4|false"),
            ("SELECT count(*) FROM n.a WHERE (id IN (SELECT id FROM n.a WHERE i = 1)) IS TRUE", "1"),
            ("SELECT id FROM n.a WHERE i >= ALL (SELECT i FROM n.a WHERE i IS NOT NULL)", "3"),
            ("SELECT id FROM n.a WHERE i < ANY (SELECT i FROM n.a WHERE id < 3) ORDER BY id", "1"),
            ("SELECT id FROM n.a AS x WHERE x.i NOT IN (SELECT x.i FROM n.a AS x WHERE x.id < 3)", "3"),
            ("SELECT id FROM n.a WHERE i NOT IN (SELECT i FROM n.a AS x WHERE x.id = n.a.id + 1) ORDER BY id", "1,2,4"),
            ("SELECT v.i FROM (VALUES (1), (2)) AS v(i) WHERE v.i NOT IN (SELECT v.i FROM (VALUES (1), (3)) AS v(i))", "2"),
            (
                "SELECT id FROM n.a WHERE id NOT IN (SELECT id FROM n.a WHERE id IN (SELECT id FROM n.a WHERE id NOT IN (SELECT id FROM n.a WHERE id = 3)))",
                "3",
            ),
            ("WITH c AS (SELECT i FROM n.a WHERE i < 3) SELECT i FROM c WHERE i NOT IN (SELECT i FROM c WHERE i > 1)", "1"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subqueries_are_asked_wherever_a_value_may_stand() {
    let app = tables().await;
    check(
        &app,
        &[
            ("SELECT sum(CASE WHEN id IN (SELECT id FROM n.c) THEN 1 ELSE 0 END) FROM n.a", "2"),
            ("SELECT count(*) FILTER (WHERE i NOT IN (SELECT i FROM n.b)) FROM n.a", "3"),
            ("SELECT id IN (SELECT id FROM n.c), count(*) FROM n.a GROUP BY id IN (SELECT id FROM n.c) ORDER BY 1", "false|2,true|2"),
            ("SELECT id FROM n.a ORDER BY id IN (SELECT id FROM n.c), id DESC", "4,3,2,1"),
            ("SELECT id FROM n.a AS a ORDER BY EXISTS (SELECT 1 FROM n.c AS x WHERE x.i = a.i), id DESC", "4,3,2,1"),
            ("SELECT id, row_number() OVER (ORDER BY id NOT IN (SELECT id FROM n.c), id DESC) FROM n.a ORDER BY id", "1|2,2|1,3|4,4|3"),
            ("SELECT sum((SELECT max(x.i) FROM n.b AS x WHERE x.id = a.id)) FROM n.a AS a", "300"),
            ("SELECT a.id, b.id FROM n.a AS a LEFT JOIN n.a AS b ON a.id = b.id AND b.i NOT IN (SELECT i FROM n.c WHERE id = 1) ORDER BY 1", "1|NULL,2|2,3|3,4|NULL"),
            ("SELECT a.id, b.id FROM n.a AS a LEFT JOIN n.a AS b ON a.id = b.id AND a.id NOT IN (SELECT i FROM n.c WHERE id = 1) ORDER BY 1", "1|NULL,2|2,3|3,4|4"),
            ("SELECT a.id, b.id FROM n.a AS a JOIN n.a AS b ON a.id = b.id AND EXISTS (SELECT 1 FROM n.c WHERE c.id = b.id) ORDER BY 1", "1|1,2|2"),
            ("SELECT a.id, b.id FROM n.a AS a FULL JOIN n.b AS b ON a.id = b.id AND a.id IN (SELECT id FROM n.c WHERE id = 2) AND b.i IN (SELECT i FROM n.b) ORDER BY 1, 2",
             "1|NULL,2|2,3|NULL,4|NULL,NULL|1"),
            ("SELECT * FROM (VALUES (1, (SELECT max(i) FROM n.a)), (2, NULL)) AS v(a, b) ORDER BY 1", "1|3,2|NULL"),
            ("INSERT INTO n.e (id, i) VALUES (7, (SELECT max(i) FROM n.a)), (8, 9)", "2"),
            ("SELECT id, i FROM n.e ORDER BY id", "7|3,8|9"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subquery_without_a_row_is_null() {
    let app = tables().await;
    check(
        &app,
        &[
            (
                "SELECT id, (SELECT count(*) FROM n.b AS x WHERE x.id = a.id GROUP BY x.id) FROM n.a AS a ORDER BY id",
                "1|1,2|1,3|NULL,4|NULL",
            ),
            ("SELECT id, (SELECT count(*) FROM n.b AS x WHERE x.id = a.id) FROM n.a AS a ORDER BY id", "1|1,2|1,3|0,4|0"),
            ("SELECT id, (SELECT count(*) FROM n.b WHERE id = 77 GROUP BY id) FROM n.c ORDER BY id", "1|NULL,2|NULL"),
            ("SELECT id, (SELECT 1 FROM n.b WHERE id = 77) FROM n.c ORDER BY id", "1|NULL,2|NULL"),
            ("SELECT 5 IN (SELECT i FROM n.c), 5 NOT IN (SELECT i FROM n.c), 1 IN (SELECT i FROM n.c)", "NULL|NULL|true"),
            ("SELECT a.i, count(*) FROM n.a AS a GROUP BY a.i HAVING a.i IN (SELECT max(x.i) FROM n.a AS x WHERE x.i < 3) OR count(*) > 1", "2|1"),
        ],
    )
    .await;
}

/// Columns of the inner and the outer query stay distinct if they have the same name.
#[tokio::test(flavor = "multi_thread")]
async fn a_correlated_subquery_compares_columns_of_one_name() {
    let app = holding(&[
        "CREATE TABLE n.o AS SELECT * FROM (VALUES (1, 10), (2, 20)) AS v(id, k)",
        "CREATE TABLE n.l AS SELECT * FROM (VALUES (7, 10), (8, 20)) AS v(id, k)",
        "CREATE TABLE n.z AS SELECT * FROM (VALUES (1, 7), (1, 8), (2, 8), (2, 1), (1, 1)) AS v(oid, lid)",
    ])
    .await;
    let both = "n.o JOIN n.l ON o.k = l.k WHERE o.id = z.oid AND l.id = z.lid";
    let cases = [
        (format!("SELECT * FROM n.z WHERE EXISTS (SELECT 1 FROM {both}) ORDER BY 1"), "1|7,2|8"),
        (format!("SELECT * FROM n.z WHERE NOT EXISTS (SELECT 1 FROM {both}) ORDER BY 1, 2"), "1|1,1|8,2|1"),
        ("SELECT * FROM n.z WHERE oid IN (SELECT o.id FROM n.o JOIN n.l ON o.k = l.k WHERE l.id = z.lid) ORDER BY 1".to_owned(), "1|7,2|8"),
        ("SELECT * FROM n.z WHERE oid NOT IN (SELECT o.id FROM n.o JOIN n.l ON o.k = l.k WHERE l.id = z.lid) ORDER BY 1, 2".to_owned(), "1|1,1|8,2|1"),
        (format!("SELECT oid, lid, (SELECT count(*) FROM {both}), (SELECT max(o.k) FROM {both}) FROM n.z ORDER BY 1, 2"),
         "1|1|0|NULL,1|7|1|10,1|8|0|NULL,2|1|0|NULL,2|8|1|20"),
        (format!("SELECT oid, lid FROM n.z WHERE (SELECT count(*) FROM {both}) > 0 ORDER BY 1"), "1|7,2|8"),
        ("SELECT * FROM n.z WHERE EXISTS (SELECT 1 FROM n.o, n.l WHERE o.k = l.k AND o.id <= z.oid AND z.lid - l.id = 0) ORDER BY 1, 2".to_owned(), "1|7,2|8"),
        ("SELECT * FROM n.z WHERE EXISTS (SELECT o.k AS id FROM n.o WHERE o.id = z.oid AND o.k = 10) ORDER BY 1, 2".to_owned(), "1|1,1|7,1|8"),
        ("SELECT * FROM n.z WHERE 10 IN (SELECT o.k AS id FROM n.o WHERE o.id = z.oid) ORDER BY 1, 2".to_owned(), "1|1,1|7,1|8"),
        ("SELECT oid, lid, (SELECT max(o.k) AS id FROM n.o WHERE o.id = z.oid) FROM n.z WHERE lid = 8 ORDER BY 1".to_owned(), "1|8|10,2|8|20"),
        ("SELECT * FROM n.z WHERE EXISTS (SELECT l2.id FROM (SELECT * FROM n.l WHERE l.id = z.lid) AS l2 JOIN n.o ON l2.k = o.k WHERE o.id = z.oid) ORDER BY 1".to_owned(), "1|7,2|8"),
        (format!("UPDATE n.z SET oid = 9 WHERE EXISTS (SELECT 1 FROM {both})"), "2"),
        ("DELETE FROM n.z WHERE NOT EXISTS (SELECT 1 FROM n.o JOIN n.l ON o.k = l.k WHERE o.id + 8 = z.oid AND l.id = z.lid)".to_owned(), "4"),
        ("SELECT * FROM n.z".to_owned(), "9|7"),
    ];
    check(&app, &cases.each_ref().map(|(sql, wanted)| (sql.as_str(), *wanted))).await;
}
