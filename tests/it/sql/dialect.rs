//! SQL as people write it: precedence of operators, ambiguous names, defaults, patterns, and errors about unsupported statements.
//!
//! The rules are in `docs/sql.md`. Expected values are those of PostgreSQL 17.

use esker_tests::TestApp;
use reqwest::Method;
use serde_json::json;

use super::semantics::{answer, check, find, holding, refused, typed};

/// PostgreSQL 17, 4.1.6: `||` and other operators bind less than `+` and more than `LIKE`, which binds more than `=`.
#[tokio::test(flavor = "multi_thread")]
async fn operators_bind_as_postgresql_binds_them() {
    let app = typed().await;
    check(
        &app,
        &[
            ("SELECT i + 1 || 'x' FROM n.v WHERE id = 1", "2x"),
            ("SELECT 1 - 1 || '0', 'a' || 1 + 1, 'a' || 2 * 3 || 'b'", "00|a2|a6b"),
            ("SELECT 'a' || 'b' = 'ab', 'ab' LIKE 'a' || '%', 'ab' IN ('a' || 'b')", "true|true|true"),
            ("SELECT 1 | 2 & 3, 4 | 1 & 3, 1 << 1 + 1, ~ 1 + 2", "3|1|4|-4"),
            (
                "SELECT true = 'a' LIKE 'a', 'a' LIKE 'b' = false, false = 1 IN (2), true = 1 BETWEEN 0 AND 2",
                "true|true|true|true",
            ),
            ("SELECT true = 'a' ~ 'a', [1, 2] @> [1] = true, 'ab' ~ ('a' || 'b')", "true|true|true"),
            ("SELECT id FROM n.v WHERE s || i + 1 = 'a2'", "1"),
        ],
    )
    .await;
}

/// A name before a dot is looked up as a table, also in outer queries, before it is looked up as a struct of the inner query.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_before_a_dot_is_a_table_of_any_query_around_before_it_is_a_struct() {
    let app = holding(&[
        "CREATE TABLE n.o AS SELECT * FROM (VALUES (1, 10), (2, 20)) v(id, i)",
        "CREATE TABLE n.w AS SELECT id, named_struct('id', x, 'i', x, 'z', 5) AS b FROM (VALUES (1, 20), (7, 10)) v(id, x)",
        "CREATE TABLE n.m AS SELECT 1 AS id, named_struct('q', named_struct('r', 1)) AS s",
        "CREATE TABLE n.f AS SELECT * FROM (VALUES (true, 1), (false, 2)) v(f, i)",
    ])
    .await;
    check(
        &app,
        &[
            // For id 1, the struct has 20 and the table 10.
            ("SELECT b.id, (SELECT max(w.id) FROM n.w WHERE b.i = w.b.i) FROM n.o b ORDER BY 1", "1|7,2|1"),
            ("SELECT b.id FROM n.o b WHERE EXISTS (SELECT 1 FROM n.w WHERE w.id = b.id)", "1"),
            ("SELECT b.id FROM n.o b WHERE NOT EXISTS (SELECT 1 FROM n.w WHERE w.id = b.id)", "2"),
            ("SELECT b.id FROM n.o b WHERE b.id IN (SELECT w.id FROM n.w WHERE b.i = 10)", "1"),
            ("SELECT id FROM n.w WHERE b.z = 5 AND b.i = 10", "7"),
            // A subquery in FROM or WITH does not see the other tables of FROM.
            ("SELECT b.id, x.i FROM n.o b, (SELECT b.i FROM n.w) x ORDER BY 1, 2", "1|10,1|20,2|10,2|20"),
            ("WITH x AS (SELECT b.i FROM n.w) SELECT b.id, x.i FROM n.o b, x ORDER BY 1, 2", "1|10,1|20,2|10,2|20"),
            ("SELECT m.id FROM n.m WHERE EXISTS (SELECT 1 FROM n.o s WHERE s.id = m.s.q.r)", "1"),
            ("SELECT i, EXISTS (SELECT 1 FROM n.f x WHERE x.i = f.i) FROM n.f ORDER BY i", "1|true,2|true"),
            ("DELETE FROM n.o b WHERE EXISTS (SELECT 1 FROM n.w WHERE w.id = b.id)", "1"),
            ("SELECT id FROM n.o", "2"),
            ("UPDATE n.o b SET i = (SELECT max(w.b.z) FROM n.w WHERE w.id = b.id + 5)", "1"),
            ("SELECT id, i FROM n.o", "2|5"),
            ("DELETE FROM n.o WHERE NOT EXISTS (SELECT 1 FROM n.w WHERE w.id < n.o.id AND w.b.z = n.o.i)", "0"),
        ],
    )
    .await;
    refused(
        &app,
        &[
            ("SELECT b.id FROM n.o b WHERE EXISTS (SELECT 1 FROM n.w WHERE b.z = 5)", "there is no column b.z"),
            ("SELECT 1 FROM n.o WHERE EXISTS (SELECT 1 FROM n.w AS o WHERE n.o.i = o.id)", "give n.o an alias"),
        ],
    )
    .await;
}

/// Integer literals beyond `BIGINT` are decimals. A float column stores one only if it has that value exactly.
#[tokio::test(flavor = "multi_thread")]
async fn integers_beyond_bigint_are_decimals() {
    let app = typed().await;
    check(
        &app,
        &[
            ("SELECT 9223372036854775808, -9223372036854775809", "9223372036854775808|-9223372036854775809"),
            ("SELECT 9223372036854775808 + 1, 9223372036854775807 + 1.0", "9223372036854775809|9223372036854775808.0"),
            ("SELECT sum(x) FROM (VALUES (9223372036854775808), (9223372036854775808)) v(x)", "18446744073709551616"),
            ("SELECT x FROM (VALUES (9223372036854775809), (1)) v(x) ORDER BY x", "1,9223372036854775809"),
            ("SELECT [9223372036854775809, 1], 9223372036854775809 > 9223372036854775808", "[9223372036854775809, 1]|true"),
            ("UPDATE n.v SET d = 18446744073709551616, f = 100000000000000000000.0 WHERE id = 4", "1"),
            ("SELECT d = 18446744073709551616e0 FROM n.v WHERE id = 4", "true"),
            ("INSERT INTO n.v (id, d) VALUES (6, 9223372036854775808), (7, -9223372036854775808)", "2"),
            ("SELECT CAST(d AS DECIMAL(20, 0)) FROM n.v WHERE id > 5 ORDER BY id", "9223372036854775808,-9223372036854775808"),
        ],
    )
    .await;
    refused(
        &app,
        &[
            ("UPDATE n.v SET f = 99999999999999999999", "99999999999999999999 does not fit float"),
            ("UPDATE n.v SET d = 123456789012345678901234567890", "123456789012345678901234567890 does not fit double"),
            ("INSERT INTO n.v (id, d) VALUES (9, 18446744073709551615)", "18446744073709551615 does not fit double"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_that_is_no_regular_expression_is_named() {
    let app = typed().await;
    let cases = [
        "SELECT id FROM n.v WHERE s ~ 'a('",
        "SELECT id FROM n.v WHERE s ~* 'a('",
        "SELECT id FROM n.v WHERE s !~ 'a('",
        "SELECT id FROM n.v WHERE s !~* 'a('",
        "SELECT id FROM n.v WHERE id = 1 AND s ~ (s || '(')",
        "SELECT regexp_replace(s, 'a(', 'x') FROM n.v",
        "SELECT regexp_replace(s, s || '(', 'x') FROM n.v WHERE id = 1",
        "SELECT regexp_like(s, 'a(') FROM n.v",
        "SELECT regexp_match(s, 'a(') FROM n.v",
        "SELECT regexp_count(s, 'a(') FROM n.v",
        "SELECT regexp_instr(s, 'a(') FROM n.v",
        "DELETE FROM n.v WHERE s ~ 'a('",
    ];
    for sql in cases {
        let error = app.sql(sql).await.expect_err(sql);
        assert!(error.contains("'a(' is not a regular expression") && !error.contains("nternal"), "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_and_lead_by_null_are_null() {
    let app = typed().await;
    check(
        &app,
        &[
            (
                "SELECT lag(id, NULL) OVER (ORDER BY id), lead(id, NULL, 7) OVER (ORDER BY id) FROM n.v WHERE id < 3",
                "NULL|NULL,NULL|NULL",
            ),
            ("SELECT lead(id, CAST(NULL AS INT)) OVER (ORDER BY id) FROM n.v WHERE id < 3", "NULL,NULL"),
            ("SELECT lag(id, 2 - 1, 0 - 5) OVER (ORDER BY id) FROM n.v WHERE id < 3 ORDER BY id", "-5,1"),
            ("SELECT lag(id, -1) OVER (ORDER BY id) FROM n.v WHERE id < 3 ORDER BY id", "2,NULL"),
            ("SELECT lag(id) OVER (ORDER BY id), lead(id, 0) OVER (ORDER BY id) FROM n.v WHERE id < 3 ORDER BY id", "NULL|1,1|2"),
        ],
    )
    .await;
    refused(&app, &[("SELECT lag(id, id) OVER (ORDER BY id) FROM n.v", "constants")]).await;
}

/// A text literal next to a UUID is read as a UUID (`docs/sql.md`, Literals), also in `CASE`, `coalesce` and the like.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_beside_a_uuid_is_one_where_one_is_chosen() {
    let app = typed().await;
    let other = "'0000CAFE-0000-0000-0000-000000000001'";
    check(
        &app,
        &[
            (
                &format!("SELECT CAST(coalesce(u, {other}) AS VARCHAR) FROM n.v WHERE id > 3 ORDER BY id"),
                "0000cafe-0000-0000-0000-000000000000,0000cafe-0000-0000-0000-000000000001",
            ),
            (&format!("SELECT coalesce(NULL, u, {other}) = {other} FROM n.v WHERE id = 5"), "true"),
            ("SELECT id FROM n.v WHERE nullif(u, 'f79c3e09-677c-4bbd-a479-3f349cb785e7') IS NULL ORDER BY id", "1,5"),
            (&format!("SELECT greatest(u, {other}) = {other}, least(u, {other}) = u FROM n.v WHERE id = 4"), "true|true"),
            (
                &format!("SELECT CASE WHEN id = 4 THEN u ELSE {other} END = {other} FROM n.v WHERE id > 3 ORDER BY id"),
                "false,true",
            ),
            (&format!("SELECT [u, {other}][2] = {other} FROM n.v WHERE id = 1"), "true"),
        ],
    )
    .await;
    let union = format!("SELECT u FROM n.v WHERE id = 4 UNION ALL SELECT {other} UNION ALL SELECT NULL");
    check(
        &app,
        &[(
            &format!("SELECT CAST(u AS VARCHAR) FROM ({union}) q ORDER BY 1"),
            "0000cafe-0000-0000-0000-000000000000,0000cafe-0000-0000-0000-000000000001,NULL",
        )],
    )
    .await;
    refused(
        &app,
        &[
            ("SELECT u FROM n.v UNION SELECT 'text'", "'text' is not a uuid"),
            ("SELECT coalesce(u, 'text') FROM n.v", "'text' is not a uuid"),
            ("SELECT CASE WHEN id = 1 THEN u ELSE 'text' END FROM n.v", "'text' is not a uuid"),
        ],
    )
    .await;
}

/// Starts a server with a table of columns with defaults: `a` 7, `s` 'x'; `c` has none, and `r` has none and is required.
async fn with_defaults() -> TestApp {
    let app = holding(&[]).await;
    let fields = json!([
        {"id": 1, "name": "a", "type": "int", "required": false, "write-default": 7},
        {"id": 2, "name": "s", "type": "string", "required": false, "write-default": "x"},
        {"id": 3, "name": "c", "type": "int", "required": false},
        {"id": 4, "name": "default", "type": "int", "required": false}]);
    let create = json!({"name": "d", "schema": {"type": "struct", "fields": fields}, "properties": {"format-version": "3"}});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn default_stands_for_the_default_of_a_column() {
    let app = with_defaults().await;
    check(
        &app,
        &[
            ("INSERT INTO n.d VALUES (1, DEFAULT, 3, 4), (DEFAULT, 'b', DEFAULT, default)", "2"),
            ("SELECT * FROM n.d ORDER BY a", "1|x|3|4,7|b|NULL|NULL"),
            ("INSERT INTO n.d (c, a) VALUES (9, DEFAULT)", "1"),
            ("SELECT * FROM n.d WHERE c = 9", "7|x|9|NULL"),
            ("UPDATE n.d SET a = DEFAULT, s = DEFAULT, c = DEFAULT WHERE a = 1", "1"),
            ("SELECT * FROM n.d WHERE \"default\" = 4", "7|x|NULL|4"),
            ("UPDATE n.d SET c = \"default\" WHERE \"default\" = 4", "1"),
            ("SELECT c FROM n.d WHERE \"default\" = 4", "4"),
            ("DELETE FROM n.d", "3"),
            ("INSERT INTO n.d DEFAULT VALUES", "1"),
            ("SELECT * FROM n.d", "7|x|NULL|NULL"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_change_rows_may_begin_with_with() {
    let app = holding(&["CREATE TABLE n.t AS SELECT * FROM (VALUES (1, 10), (2, 20), (3, 30)) v(id, i)"]).await;
    check(
        &app,
        &[
            ("WITH x AS (SELECT 2 AS a) DELETE FROM n.t WHERE id IN (SELECT a FROM x)", "1"),
            ("WITH x(a) AS (SELECT 5), y AS (SELECT a + 1 AS b FROM x) INSERT INTO n.t SELECT a, b FROM x, y", "1"),
            ("WITH x AS (SELECT 8 AS a) INSERT INTO n.t WITH y AS (SELECT a + 1 AS b FROM x) SELECT a, b FROM x, y", "1"),
            ("WITH x AS (SELECT 100 AS a) UPDATE n.t SET i = (SELECT a FROM x) + i WHERE id < 3", "1"),
            ("WITH x AS (SELECT max(id) AS a FROM n.t) INSERT INTO n.t (id) VALUES ((SELECT a FROM x))", "1"),
            ("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) INSERT INTO n.t SELECT n + 20, n FROM r", "3"),
            ("SELECT id, i FROM n.t ORDER BY id, i", "1|110,3|30,5|6,8|9,8|NULL,21|1,22|2,23|3"),
        ],
    )
    .await;
    refused(
        &app,
        &[(
            "WITH x AS (SELECT 1 AS a) INSERT INTO n.t WITH x AS (SELECT 2 AS a) SELECT a, a FROM x",
            "two queries of WITH are called x",
        )],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_holds_subqueries() {
    let app = typed().await;
    find(
        &app,
        &[
            ("id IN ((SELECT 1), 3)", "1,3"),
            ("id NOT IN ((SELECT 1), 3)", "2,4,5"),
            ("id IN ((SELECT max(x.id) FROM n.v x), 0)", "5"),
            ("id IN (0, (SELECT 2))", "2"),
            ("id IN ((SELECT 2) + 1, 1)", "1,3"),
            ("id IN ((SELECT 2))", "2"),
            ("id IN ((SELECT 2) UNION (SELECT 1))", "1,2"),
            ("id IN ((1), 2)", "1,2"),
        ],
    )
    .await;
}

/// An error names the problem in terms of SQL, and another way to write the statement.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_is_said_in_words_of_sql() {
    let app = typed().await;
    refused(
        &app,
        &[
            ("SELECT id FROM n.v LIMIT (SELECT 2)", "a subquery in LIMIT or OFFSET"),
            (
                "SELECT id FROM n.v t WHERE EXISTS (SELECT 1 FROM n.v x WHERE EXISTS (SELECT 1 FROM n.v y WHERE y.id = t.id))",
                "none may name columns of queries farther out",
            ),
            (
                "SELECT id FROM n.v t WHERE id = (SELECT max(x.id) FROM n.v x WHERE x.i = (SELECT max(y.i) FROM n.v y WHERE y.id = t.id))",
                "none may name columns of queries farther out",
            ),
            ("SELECT id, (SELECT count(*) FROM n.v x WHERE x.i < t.i) FROM n.v t", "where equality ties it to that query"),
            ("SELECT id, (SELECT x.s FROM n.v x WHERE x.i = t.i) FROM n.v t", "put its column into max or min"),
            ("SELECT * FROM n.v t, LATERAL (SELECT t.i + 1) x(y)", "after LATERAL only where equality ties it"),
            ("SELECT id FROM n.v OFFSET (SELECT 2)", "a subquery in LIMIT or OFFSET"),
            ("EXPLAIN DELETE FROM n.v", "EXPLAIN takes a query"),
            ("EXPLAIN INSERT INTO n.v (id) VALUES (1)", "EXPLAIN takes a query"),
            ("EXPLAIN UPDATE n.v SET id = 1", "EXPLAIN takes a query"),
            ("EXPLAIN CREATE TABLE n.x AS SELECT 1 AS a", "EXPLAIN takes a query"),
            ("DROP TABLE n.v", "are served, not DROP TABLE"),
            ("TRUNCATE TABLE n.v", "are served, not TRUNCATE TABLE"),
            ("SET x = 1", "are served, not SET"),
            ("SHOW TABLES FROM n", "information_schema.tables"),
            ("SHOW SCHEMAS LIKE 'n'", "information_schema.schemata"),
            ("SHOW DATABASES IN n", "information_schema.schemata"),
            ("SHOW NAMESPACES IN n", "information_schema.schemata"),
            ("SHOW NAMESPACES LIKE 'n'", "information_schema.schemata"),
            ("UPDATE n.v SET i = sum(i)", "UPDATE sets column i for each row, but sum is computed over many rows"),
            ("UPDATE n.v SET i = 1 + row_number() OVER ()", "but row_number is computed over many rows"),
            (
                "SELECT sum(i) OVER (ORDER BY id ROWS BETWEEN i PRECEDING AND CURRENT ROW) FROM n.v",
                "must be a literal whole number",
            ),
            ("SELECT unnest(NULL)", "unnest takes a list"),
            ("SELECT id FROM n.v WHERE row_number() OVER () = 1", "a window function can only be in a select list"),
            ("SELECT id FROM n.v WHERE sum(i) > 1", "an aggregate function cannot be in WHERE"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_without_a_type_make_texts() {
    let app = holding(&[]).await;
    let prepared = app.flight().await.prepare("SELECT ? || ?".to_owned(), None).await.expect("prepared");
    let parameters = prepared.parameter_schema().expect("a schema");
    assert!(parameters.fields().iter().all(|f| f.data_type().is_string()), "{parameters}");
    assert_eq!(parameters.fields().len(), 2);
    assert_eq!(answer(&app, "SELECT NULL || NULL").await, "NULL");
}

/// -0.0 equals 0.0, and NaN equals itself (`docs/sql.md`, Comparisons). The same holds in functions that select items of lists.
///
/// The selected items keep their bits.
#[tokio::test(flavor = "multi_thread")]
async fn items_of_lists_are_equal_as_values_are() {
    let app = holding(&[
        "CREATE TABLE n.l AS SELECT id, [CAST(x AS DOUBLE), -0e0, 0e0, 1e0, CAST('NaN' AS DOUBLE), -CAST('NaN' AS DOUBLE), NULL] AS a \
         FROM (VALUES (1, 0), (2, 5)) v(id, x)",
        "INSERT INTO n.l VALUES (3, NULL), (4, [])",
    ])
    .await;
    check(
        &app,
        &[
            ("SELECT array_distinct([-0e0, 0e0]), array_distinct([0e0, -0e0])", "[-0.0]|[0.0]"),
            ("SELECT array_distinct(a) FROM n.l ORDER BY id", "[0.0, 1.0, NaN, NULL],[5.0, -0.0, 1.0, NaN, NULL],NULL,[]"),
            ("SELECT array_union([-0e0], [0e0, 1e0]), array_intersect([-0e0, 2e0], [0e0]), array_except([-0e0, 2e0], [0e0])", "[-0.0, 1.0]|[-0.0]|[2.0]"),
            ("SELECT array_union(a, [0e0, 7e0]) FROM n.l WHERE id = 2", "[5.0, -0.0, 1.0, NaN, NULL, 7.0]"),
            ("SELECT array_remove([-0e0, 1e0, 0e0], 0e0), array_remove([1e0, -0e0], 1e0)", "[1.0]|[-0.0]"),
            ("SELECT array_remove_n([0e0, -0e0, 1e0, 0e0], -0e0, 2)", "[1.0, 0.0]"),
            ("SELECT array_replace([-0e0, 1e0, 0e0], 0e0, 2e0), array_replace_n([-0e0, 0e0], 0e0, 2e0, 1)", "[2.0, 1.0, 2.0]|[2.0, 0.0]"),
            ("SELECT array_distinct([[-0e0], [0e0]]), array_distinct([interval '1 day', interval '24 hours']) = [interval '1 day']", "[[-0.0]]|true"),
            ("SELECT array_distinct([1, 1, 2]), array_union([1], [2, 1])", "[1, 2]|[1, 2]"),
        ],
    )
    .await;
}

/// SQL/Schemata (ISO 9075-11): `VIEWS` has views only, and positions of columns begin with 1. Types have the names of
/// `docs/sql.md`.
#[tokio::test(flavor = "multi_thread")]
async fn information_schema_speaks_sql() {
    let app = typed().await;
    answer(
        &app,
        "CREATE TABLE n.w AS SELECT named_struct('a', 1, 'b', ['x']) AS s, MAP(['k'], [1.50]) AS m, [DATE '2020-01-01'] AS l",
    )
    .await;
    let schema = json!({"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "x", "type": "long", "required": false}]});
    let version = json!({"version-id": 1, "timestamp-ms": 1, "schema-id": 0, "summary": {}, "default-namespace": ["n"],
        "representations": [{"type": "sql", "sql": "SELECT l AS x FROM v", "dialect": "trino"}]});
    let view = json!({"name": "seen", "schema": schema, "view-version": version, "properties": {}});
    app.ok(Method::POST, "/v1/default/namespaces/n/views", Some(view)).await;
    let types = "id|1|INT,b|2|BOOLEAN,i|3|INT,l|4|BIGINT,f|5|REAL,d|6|DOUBLE,dec|7|DECIMAL(10, 2),wide|8|DECIMAL(38, 10),dt|9|DATE,\
                 tm|10|TIME,ts|11|TIMESTAMP,tz|12|TIMESTAMPTZ,ns|13|TIMESTAMP_NS,u|14|UUID,fx|15|FIXED(2),bin|16|VARBINARY,s|17|VARCHAR";
    check(
        &app,
        &[
            ("SELECT table_schema, table_name, definition FROM information_schema.views", "n|seen|SELECT l AS x FROM v"),
            ("SELECT column_name, ordinal_position, data_type FROM information_schema.columns WHERE table_name = 'v' ORDER BY 2", types),
            (
                "SELECT column_name, data_type FROM information_schema.columns WHERE table_name IN ('w', 'seen') ORDER BY table_name, ordinal_position",
                "x|BIGINT,s|STRUCT(a BIGINT, b VARCHAR[]),m|MAP(VARCHAR, DECIMAL(3, 2)),l|DATE[]",
            ),
            (
                "SELECT column_name, numeric_precision, numeric_precision_radix, numeric_scale FROM information_schema.columns \
                 WHERE table_name = 'v' AND column_name IN ('i', 'l', 'd', 'dec', 's') ORDER BY ordinal_position",
                "i|32|2|0,l|64|2|0,d|53|2|NULL,dec|10|10|2,s|NULL|NULL|NULL",
            ),
            ("SELECT count(*) FROM information_schema.columns WHERE table_schema = 'n' AND is_nullable = 'YES'", "21"),
            ("DESCRIBE n.w", "s|STRUCT(a BIGINT, b VARCHAR[])|YES,m|MAP(VARCHAR, DECIMAL(3, 2))|YES,l|DATE[]|YES"),
        ],
    )
    .await;
    let shown = answer(&app, "SHOW COLUMNS FROM n.w").await;
    assert!(shown.contains("n|w|l|DATE[]|YES"), "{shown}");
    assert!(answer(&app, "SELECT version()").await.starts_with("Esker "));
}
