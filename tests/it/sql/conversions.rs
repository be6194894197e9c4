//! Conversions: casts, values as text and text as values, results out of range, comparisons of intervals (`docs/sql.md`).
//!
//! Expected values are those of the SQL standard and of PostgreSQL 17.

use super::semantics::{check, find, refused, typed};

/// CAST to a type with a length truncates (SQL:2016 6.13). Digits beyond the scale are dropped (`docs/sql.md`).
#[tokio::test(flavor = "multi_thread")]
async fn a_cast_cuts_to_the_length_of_its_type() {
    let app = typed().await;
    let ts = "TIMESTAMP '2024-02-29 01:02:03.678904'";
    let cut = [
        (0, "2024-02-29 01:02:03"),
        (1, "2024-02-29 01:02:03.6"),
        (3, "2024-02-29 01:02:03.678"),
        (5, "2024-02-29 01:02:03.6789"),
        (6, "2024-02-29 01:02:03.678904"),
    ];
    let mut cases = Vec::new();
    for (digits, text) in cut {
        cases.push((format!("SELECT CAST(CAST({ts} AS TIMESTAMP({digits})) AS VARCHAR)"), text.to_owned()));
        cases.push((format!("SELECT CAST(CAST({ts} AS TIMESTAMPTZ({digits})) AS VARCHAR)"), format!("{text}+00")));
        cases.push((format!("SELECT {ts}::TIMESTAMP({digits}) = TIMESTAMP '{text}'"), "true".to_owned()));
        let time = text.split_once(' ').expect("a time").1;
        cases.push((format!("SELECT CAST(CAST(TIME '01:02:03.678904' AS TIME({digits})) AS VARCHAR)"), time.to_owned()));
    }
    let cases: Vec<(&str, &str)> = cases.iter().map(|(sql, expected)| (sql.as_str(), expected.as_str())).collect();
    check(&app, &cases).await;
    check(
        &app,
        &[
            ("SELECT CAST(CAST(TIMESTAMP(9) '2024-02-29 01:02:03.123456789' AS TIMESTAMP(7)) AS VARCHAR)", "2024-02-29 01:02:03.1234567"),
            ("SELECT TRY_CAST('2024-02-29 01:02:03.6' AS TIMESTAMP(0)) = TIMESTAMP '2024-02-29 01:02:03'", "true"),
            ("SELECT CAST('abcdef' AS VARCHAR(3)), 'äöü'::varchar(2), CAST('ab' AS VARCHAR(3)), CAST(NULL AS VARCHAR(3))", "abc|äö|ab|NULL"),
            ("SELECT CAST(12345 AS VARCHAR(2)), TRY_CAST('abc' AS CHARACTER VARYING(1)), CAST(id AS VARCHAR(9)) FROM n.v WHERE id = 1", "12|a|1"),
            ("SELECT length(CAST('a  ' AS VARCHAR(2)))", "2"),
        ],
    )
    .await;
    find(
        &app,
        &[
            ("CAST(ts AS TIMESTAMP(0)) = TIMESTAMP '9999-12-31 23:59:59'", "3"),
            ("CAST(ts AS TIMESTAMP(3)) = TIMESTAMP '1969-12-31 23:59:59.999'", "4"),
            ("CAST(tz AS TIMESTAMPTZ(0)) = TIMESTAMPTZ '9999-12-31 23:59:59Z'", "3"),
            ("s::varchar(1) = 'a'", "1,3"),
        ],
    )
    .await;
    refused(
        &app,
        &[
            ("SELECT CAST('ab' AS CHAR(5))", "write VARCHAR"),
            ("SELECT CAST('ab' AS CHARACTER(5))", "write VARCHAR"),
            ("SELECT CAST('ab' AS VARCHAR(0))", "at least 1"),
            ("SELECT CAST(['abc'] AS VARCHAR(2)[])", "length"),
        ],
    )
    .await;
}

/// A value out of range is an error of the statement, not of the server. The error names the value.
#[tokio::test(flavor = "multi_thread")]
async fn values_out_of_range_are_errors_of_the_statement() {
    let app = typed().await;
    let mut wrong = Vec::new();
    for (sql, named) in [
        ("SELECT CAST(12345 AS DECIMAL(4, 1))", "12345 does not fit decimal(4, 1)"),
        ("SELECT CAST(dec AS DECIMAL(5, 2)) FROM n.v", "1234567.89 does not fit decimal(5, 2)"),
        ("SELECT CAST(l AS DECIMAL(5, 2)) FROM n.v WHERE id = 2", "9223372036854775807 does not fit"),
        ("SELECT CAST('12345678901' AS DECIMAL(5, 2))", "'12345678901'"),
        ("SELECT CAST(s AS DECIMAL(5, 2)) FROM n.v WHERE id = 1", "'a'"),
        ("SELECT CAST(1e30 AS DECIMAL(10, 2))", "1e30"),
        ("SELECT CAST(d AS DECIMAL(10, 2)) FROM n.v", "1e300"),
        ("SELECT CAST(d AS BIGINT) FROM n.v", "1e300"),
        ("SELECT CAST('abc' AS TIMESTAMP)", "'abc'"),
        ("SELECT CAST(s AS DATE) FROM n.v WHERE id = 1", "'a'"),
        ("SELECT abs(l) FROM n.v", "-9223372036854775808"),
        ("SELECT abs(i) FROM n.v", "-2147483648"),
        ("SELECT -i FROM n.v", "-2147483648"),
        ("SELECT -l FROM n.v WHERE id = 3", "-9223372036854775808"),
        ("SELECT id FROM n.v ORDER BY -i", "-2147483648"),
        ("SELECT id FROM n.v WHERE i = -(-9223372036854775808)", "-9223372036854775808"),
        ("SELECT id FROM n.v WHERE i < 9223372036854775807 + 1", "9223372036854775807"),
        ("UPDATE n.v SET i = -i", "-2147483648"),
        ("SELECT lcm(9223372036854775807, 9223372036854775806)", ""),
        ("SELECT gcd(l, l) FROM n.v WHERE id = 3", ""),
        ("SELECT l / -1 FROM n.v WHERE id = 3", "-9223372036854775808"),
        ("SELECT factorial(100)", ""),
        ("SELECT ts + INTERVAL '300000 years' FROM n.v", ""),
        ("SELECT CAST(ts AS TIMESTAMP_NS) FROM n.v", ""),
        ("SELECT make_date(2024, 13, 1)", ""),
        ("SELECT chr(-1)", ""),
        ("SELECT substr('abc', 1, -1)", ""),
        ("SELECT CAST(X'FF' AS VARCHAR)", ""),
        ("SELECT date_bin(INTERVAL '0 days', ts, ts) FROM n.v", ""),
    ] {
        match app.sql(sql).await {
            Ok(_) => wrong.push(format!("{sql} is answered")),
            Err(error) if error.contains("Internal") || !error.contains(named) || error.contains("Int64") => {
                wrong.push(format!("{sql}\n  says  {error}\n  names {named}"));
            }
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    check(
        &app,
        &[
            (
                "SELECT -i, -l, abs(i), abs(l), -f, -d, -dec FROM n.v WHERE id = 2",
                "-2147483647|-9223372036854775807|2147483647|9223372036854775807|-16777216.0|-1e300|0.01",
            ),
            ("SELECT -i, abs(i) FROM n.v WHERE id = 5", "NULL|NULL"),
            ("SELECT TRY_CAST(12345 AS DECIMAL(4, 1)), TRY_CAST('x' AS INT), CAST(999.94 AS DECIMAL(4, 1))", "NULL|NULL|999.9"),
            ("SELECT l % -1 FROM n.v WHERE id = 3", "0"),
        ],
    )
    .await;
}

/// Timestamps become text as in PostgreSQL and DuckDB: a blank before the time, `+00` for the zone, no trailing zeros.
#[tokio::test(flavor = "multi_thread")]
async fn timestamps_become_texts_as_postgresql_writes_them() {
    let app = typed().await;
    let (ts, tz) = ("TIMESTAMP '2024-02-29 01:02:03.000004'", "TIMESTAMPTZ '2024-02-29 01:02:03.5Z'");
    check(
        &app,
        &[
            (&format!("SELECT CAST({ts} AS VARCHAR), {tz}::text"), "2024-02-29 01:02:03.000004|2024-02-29 01:02:03.5+00"),
            (&format!("SELECT 'at ' || {ts}, {tz} || ''"), "at 2024-02-29 01:02:03.000004|2024-02-29 01:02:03.5+00"),
            (
                &format!("SELECT concat({ts}, '!'), concat_ws(' ', 'at', {tz})"),
                "2024-02-29 01:02:03.000004!|at 2024-02-29 01:02:03.5+00",
            ),
            (
                "SELECT concat(ts, ''), ts || '', CAST(ts AS VARCHAR) FROM n.v WHERE id = 1",
                "2020-01-01 00:00:00|2020-01-01 00:00:00|2020-01-01 00:00:00",
            ),
            (
                "SELECT CAST(tz AS VARCHAR), CAST(ns AS VARCHAR), CAST(tm AS VARCHAR), CAST(dt AS VARCHAR) FROM n.v WHERE id = 1",
                "2020-01-01 00:00:00+00|2020-01-01 00:00:00.000000001|10:00:00|2020-01-01",
            ),
            ("SELECT CAST(TIME '10:00:00.5' AS VARCHAR), TRY_CAST(ts AS VARCHAR) FROM n.v WHERE id = 5", "10:00:00.5|NULL"),
            (&format!("SELECT CAST([{ts}] AS VARCHAR)"), "[2024-02-29 01:02:03.000004]"),
            (&format!("SELECT array_to_string([{ts}, {ts}], ',')"), "2024-02-29 01:02:03.000004,2024-02-29 01:02:03.000004"),
            (&format!("SELECT left({ts}::text, 10), upper({ts}::text)"), "2024-02-29|2024-02-29 01:02:03.000004"),
            ("SELECT string_agg(ts::text, ',') FROM n.v WHERE id = 2", "0001-01-01 00:00:00"),
            (
                &format!("SELECT CASE WHEN true THEN {ts}::text ELSE '' END, coalesce(NULL, {ts}::text)"),
                "2024-02-29 01:02:03.000004|2024-02-29 01:02:03.000004",
            ),
            ("UPDATE n.v SET s = ts WHERE id = 1", "1"),
            ("SELECT s FROM n.v WHERE id = 1", "2020-01-01 00:00:00"),
            ("SELECT id FROM n.v WHERE s = ts::text", "1"),
        ],
    )
    .await;
    find(&app, &[("ts::text LIKE '2020-01-01 00%'", "1"), ("CAST(tz AS VARCHAR) = '0001-01-01 00:00:00+00'", "2")]).await;
}

/// `to_char` and its like expect patterns with `%`. One without would be returned as it is, so it is refused.
#[tokio::test(flavor = "multi_thread")]
async fn patterns_of_postgresql_are_refused_and_not_returned() {
    let app = typed().await;
    refused(
        &app,
        &[
            ("SELECT to_char(ts, 'YYYY-MM-DD HH24:MI') FROM n.v", "'%Y-%m-%d %H:%M:%S'"),
            ("SELECT to_char(dt, 'YYYY') FROM n.v", "'YYYY'"),
            ("SELECT date_format(ts, 'yyyy') FROM n.v", "'yyyy'"),
            ("SELECT to_date('2024-01-31', 'YYYY-MM-DD')", "'%Y-%m-%d %H:%M:%S'"),
            ("SELECT to_timestamp('2024-01-31', 'YYYY-MM-DD')", "'YYYY-MM-DD'"),
            ("SELECT to_char(ts, s) FROM n.v WHERE id = 1", "'a'"),
            ("SELECT to_char(ts - ts, 'HH24') FROM n.v", "'HH24'"),
        ],
    )
    .await;
    check(
        &app,
        &[
            ("SELECT to_char(ts, '%d.%m.%Y %H:%M'), to_char(dt, '%Y') FROM n.v WHERE id = 1", "01.01.2020 00:00|2020"),
            ("SELECT to_char(ts, '%Y' || s) FROM n.v WHERE id = 1", "2020a"),
            (
                "SELECT to_date('31.01.2024', '%d.%m.%Y'), to_timestamp('2024-01-31 10:00', '%Y-%m-%d', '%Y-%m-%d %H:%M')",
                "2024-01-31|2024-01-31T10:00:00",
            ),
            ("SELECT to_char(ts - ts, 'ISO8601') IS NULL FROM n.v WHERE id = 1", "false"),
        ],
    )
    .await;
}

/// In comparisons of intervals a month counts as 30 days and a day as 24 hours (PostgreSQL 17, table 9.32 and interval_cmp).
#[tokio::test(flavor = "multi_thread")]
async fn intervals_of_one_length_are_equal() {
    let app = typed().await;
    let days = "(VALUES (1, interval '1 day'), (2, interval '24 hours'), (3, interval '25 hours'), (4, interval '1 month'), (5, interval '30 days'), (6, NULL)) v(id, x)";
    let of = |rest: &str| rest.replace("{v}", days);
    let cases = [
        ("SELECT interval '1 day' = interval '24 hours', interval '25 hours' > interval '1 day'".to_owned(), "true|true"),
        ("SELECT interval '1 month' = interval '30 days', interval '1 month' < interval '31 days', interval '-1 day' = interval '-24 hours'".to_owned(), "true|true|true"),
        ("SELECT interval '1 day' IS DISTINCT FROM interval '24 hours', interval '1 day' <> interval '24 hours'".to_owned(), "false|false"),
        ("SELECT interval '24 hours' IN (interval '2 days', interval '1 day'), interval '30 days' BETWEEN interval '1 month' AND interval '1 month'".to_owned(), "true|true"),
        ("SELECT CASE interval '24 hours' WHEN interval '1 day' THEN 'it' END, nullif(interval '1 day', interval '24 hours') IS NULL".to_owned(), "it|true"),
        (of("SELECT count(*) FROM (SELECT DISTINCT x FROM {v})"), "4"),
        (of("SELECT count(DISTINCT x) FROM {v}"), "3"),
        (of("SELECT count(*), min(id) FROM {v} GROUP BY x ORDER BY 2"), "2|1,1|3,2|4,1|6"),
        (of("SELECT id FROM {v} ORDER BY x, id"), "1,2,3,4,5,6"),
        (of("SELECT id FROM {v} ORDER BY x DESC, id"), "6,4,5,3,1,2"),
        (of("SELECT id, rank() OVER (ORDER BY x) FROM {v} WHERE x < interval '2 days' ORDER BY id"), "1|1,2|1,3|3"),
        (of("SELECT id, count(*) OVER (PARTITION BY x) FROM {v} WHERE x IS NOT NULL ORDER BY id"), "1|2,2|2,3|1,4|2,5|2"),
        (format!("SELECT count(*) FROM {days} JOIN (VALUES (interval '24 hours'), (interval '720 hours')) w(y) ON x = y"), "4"),
        (of("SELECT id FROM {v} WHERE x IN (SELECT interval '720 hours') ORDER BY id"), "4,5"),
        (of("SELECT count(*) FROM (SELECT x FROM {v} WHERE id = 1 UNION SELECT x FROM {v} WHERE id = 2)"), "1"),
        (of("SELECT count(*) FROM (SELECT x FROM {v} WHERE id = 1 INTERSECT SELECT x FROM {v} WHERE id = 2)"), "1"),
        (of("SELECT min(x) = interval '1 day', max(x) = interval '1 month' FROM {v}"), "true|true"),
        ("SELECT max(x) = interval '45 days', min(x) = interval '1 month' FROM (VALUES (interval '1 month'), (interval '45 days')) v(x)".to_owned(), "true|true"),
        ("SELECT greatest(interval '1 month', interval '45 days') = interval '45 days', least(interval '2 days', interval '47 hours') = interval '47 hours'".to_owned(), "true|true"),
        ("SELECT [interval '1 day'] = [interval '24 hours'], array_has([interval '1 day'], interval '24 hours')".to_owned(), "true|true"),
        ("SELECT ts - ts < interval '1 hour', ts - TIMESTAMP '2019-12-31' = interval '24 hours' FROM n.v WHERE id = 1".to_owned(), "true|true"),
    ];
    check(&app, &cases.iter().map(|(sql, expected)| (sql.as_str(), *expected)).collect::<Vec<_>>()).await;
}

/// PostgreSQL and DuckDB accept timestamps without seconds, and ignore blanks around numbers.
#[tokio::test(flavor = "multi_thread")]
async fn texts_are_read_without_seconds_and_with_blanks() {
    let app = typed().await;
    find(
        &app,
        &[
            ("ts < '2020-01-01 00:01' AND ts > '2019-12-31T23:59'", "1"),
            ("ts = '2020-01-01 00:00'", "1"),
            ("ts IN ('2020-01-01 00:00', '0001-01-01T00:00')", "1,2"),
            ("tz = '2020-01-01 01:00+01' AND tz = '2020-01-01T00:00Z' AND tz = '2019-12-31 19:00-05:00'", "1"),
            ("ns > '2020-01-01 00:00' AND ns < '2020-01-01 00:01'", "1"),
            ("ts = TIMESTAMP '2020-01-01 00:00'", "1"),
            ("tz = TIMESTAMPTZ '2020-01-01 01:00 +01:00'", "1"),
            ("ts = CAST('2020-01-01 00:00' AS TIMESTAMP)", "1"),
            ("i = ' 1 ' AND l = ' 1' AND d = ' 0.1 '", "1"),
            ("i IN (' 1 ', '0')", "1,4"),
        ],
    )
    .await;
    check(
        &app,
        &[
            ("SELECT CAST(' 12 ' AS INT), CAST(' 1.5 ' AS DOUBLE), CAST(' 1.5 ' AS DECIMAL(3, 1)), TRY_CAST(' 7' AS BIGINT)", "12|1.5|1.5|7"),
            ("SELECT CAST(x AS TIMESTAMP) FROM (VALUES ('2024-01-01 10:00'), (' 2024-01-01T10:00Z ')) v(x)", "2024-01-01T10:00:00,2024-01-01T10:00:00"),
            ("SELECT to_timestamp('2024-01-01 10:00'), TRY_CAST('2024-01-01 10:0' AS TIMESTAMP)", "2024-01-01T10:00:00|NULL"),
            ("SELECT TIMESTAMP '2024-01-01 10:00' + interval '1 minute'", "2024-01-01T10:01:00"),
            ("INSERT INTO n.v (id, ts, tz, ns, i) VALUES (6, '2024-01-01 10:00', '2024-01-01 10:00+02', '2024-01-01T10:00', ' 8 ')", "1"),
            ("SELECT ts, tz, ns, i FROM n.v WHERE id = 6", "2024-01-01T10:00:00|2024-01-01T08:00:00Z|2024-01-01T10:00:00|8"),
            ("SELECT count(*) FROM (VALUES ('2024-01-01 10:01')) w(x) JOIN n.v ON id = 6 AND x > ts", "1"),
        ],
    )
    .await;
    refused(&app, &[("SELECT CAST('2024-01-01 10' AS TIMESTAMP)", "'2024-01-01 10'"), ("SELECT CAST('1 2' AS INT)", "'1 2'")])
        .await;
}

/// PostgreSQL 17: a local time that clocks skip is read with the offset before the change. One that occurs twice is the later.
#[tokio::test(flavor = "multi_thread")]
async fn every_timestamp_is_an_instant_in_every_time_zone() {
    let app = typed().await;
    let at = |ts: &str, zone: &str| format!("SELECT TIMESTAMP '{ts}' AT TIME ZONE '{zone}'");
    check(
        &app,
        &[
            (&at("2024-03-31 02:30:00", "Europe/Berlin"), "2024-03-31T01:30:00Z"),
            (&at("2024-10-27 02:30:00", "Europe/Berlin"), "2024-10-27T01:30:00Z"),
            (&at("2024-07-01 12:00:00.000001", "Europe/Berlin"), "2024-07-01T10:00:00.000001Z"),
            (&at("9999-07-01 12:00", "Asia/Tokyo"), "9999-07-01T03:00:00Z"),
            (
                "SELECT id, ts AT TIME ZONE 'Asia/Tokyo' = tz - interval '9 hours' FROM n.v WHERE id IN (1, 3, 5) ORDER BY id",
                "1|true,3|true,5|NULL",
            ),
            (
                "SELECT (TIMESTAMP '2024-03-31 02:30' AT TIME ZONE 'Europe/Berlin') AT TIME ZONE 'Europe/Berlin'",
                "2024-03-31T03:30:00",
            ),
            ("SELECT CAST(TIMESTAMP '2024-07-01 12:00' AT TIME ZONE 'Europe/Berlin' AS VARCHAR)", "2024-07-01 10:00:00+00"),
        ],
    )
    .await;
    refused(&app, &[(&at("2024-03-31 02:30:00", "Mars/Olympus"), "'Mars/Olympus'")]).await;
}
