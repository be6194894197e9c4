//! Queries through Flight SQL: deletes, concurrent changes, failed statements, and admission control.

use esker_tests::{TestApp, TestTable};

#[tokio::test(flavor = "multi_thread")]
async fn position_and_equality_deletes_are_applied_and_unreadable_ones_are_an_error() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = TestTable::simple(&app);
    writer.append_ids(0..10).await;
    let file = writer.data_paths().await.remove(0);
    writer.delete_positions(&file, &[0, 3, 9]).await;
    writer.append_ids(100..103).await;
    assert_eq!(writer.ids().await.expect("ids"), [1, 2, 4, 5, 6, 7, 8, 100, 101, 102]);
    writer.delete_positions(&file, &[1]).await;
    assert_eq!(writer.ids().await.expect("ids"), [2, 4, 5, 6, 7, 8, 100, 101, 102]);

    writer.delete_equal().await;
    let error = writer.ids().await.expect_err("never wrong rows");
    assert!(error.contains("-eq.parquet"), "{error}");
}

/// Deleted rows are scattered or adjacent. Some scans read all rows; others skip rows or read them in another order.
#[tokio::test(flavor = "multi_thread")]
async fn deleted_rows_are_never_seen() {
    let app = TestApp::start().await;
    app.table().await;
    let sql = async |text: &str| app.sql(text).await.unwrap_or_else(|e| panic!("{text}: {e}"));
    sql("INSERT INTO n.t (id) SELECT value FROM generate_series(0, 29999)").await;
    let mut kept: Vec<i64> = (0..30_000).collect();
    type Gone = fn(i64) -> bool;
    let steps: [(&str, Gone); 3] = [
        ("id % 10 = 3", |id| id % 10 == 3),
        ("id BETWEEN 5000 AND 24000", |id| (5000..=24_000).contains(&id)),
        ("id % 10 <> 7", |id| id % 10 != 7),
    ];
    for (condition, gone) in steps {
        sql(&format!("DELETE FROM n.t WHERE {condition}")).await;
        kept.retain(|id| !gone(*id));
        let ids = async |text: &str| {
            let mut ids: Vec<i64> = sql(text).await.iter().flat_map(ids).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids("SELECT id FROM n.t").await, kept, "{condition}");
        assert_eq!(ids("SELECT id FROM n.t ORDER BY id DESC LIMIT 5").await, kept[kept.len() - 5..], "{condition}");
        assert_eq!(ids("SELECT id FROM n.t ORDER BY id LIMIT 5").await, kept[..5], "{condition}");
        let some = ids("SELECT id FROM n.t LIMIT 50").await;
        assert!(some.len() == 50 && some.iter().all(|id| kept.binary_search(id).is_ok()), "{condition}: {some:?}");
        let late: Vec<i64> = kept.iter().copied().filter(|id| *id > 24_500).collect();
        assert_eq!(ids("SELECT id FROM n.t WHERE id > 24500").await, late, "{condition}");
        assert_eq!(number(&sql("SELECT count(*) FROM n.t WHERE id >= 0").await), i64::try_from(kept.len()).expect("few"));
        // An expression that would fail on a deleted row does not fail.
        assert_eq!(ids("SELECT id + 0 / (id % 10 - 3) AS id FROM n.t").await, kept, "{condition}");
        let joined = "SELECT a.id FROM n.t a JOIN (SELECT id FROM n.t WHERE id % 100 = 7) b ON a.id = b.id";
        let both: Vec<i64> = kept.iter().copied().filter(|id| id % 100 == 7).collect();
        assert_eq!(ids(joined).await, both, "{condition}");
    }
}

fn ids(batch: &arrow::array::RecordBatch) -> Vec<i64> {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

fn number(batches: &[arrow::array::RecordBatch]) -> i64 {
    use arrow::array::AsArray;
    use arrow::datatypes::{Int64Type, UInt64Type};
    let column = batches[0].column(0);
    match column.as_primitive_opt::<Int64Type>() {
        Some(column) => column.value(0),
        None => i64::try_from(column.as_primitive::<UInt64Type>().value(0)).expect("a count"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_beside_one_another_lose_nothing() {
    let app = TestApp::start().await;
    app.table().await;
    let sql = async |text: String| app.sql(&text).await.map(|batches| number(&batches));
    let values: Vec<String> = (0..40).map(|i| format!("({i})")).collect();
    assert_eq!(sql(format!("INSERT INTO n.t (id) VALUES {}", values.join(", "))).await, Ok(40));
    // Each statement changes different rows of the same file, while others append.
    let updates = (0..4).map(|k| sql(format!("UPDATE n.t SET id = id + 1000 WHERE id % 8 = {k} AND id < 1000")));
    let deletes = (4..6).map(|k| sql(format!("DELETE FROM n.t WHERE id % 8 = {k} AND id < 1000")));
    let inserts = (0..4).map(|k| sql(format!("INSERT INTO n.t (id) VALUES ({})", 5000 + k)));
    let (updates, deletes, inserts) = futures::join!(
        futures::future::join_all(updates),
        futures::future::join_all(deletes),
        futures::future::join_all(inserts)
    );
    assert_eq!(inserts, vec![Ok(1); 4], "an insert commutes with everything");
    // A statement that lost against others five times is an error, and has changed nothing.
    let done = |results: &[Result<i64, String>]| results.iter().map(Result::is_ok).collect::<Vec<_>>();
    let (updated, deleted) = (done(&updates), done(&deletes));
    let mut expected: Vec<i64> = Vec::new();
    for id in 0..40_i64 {
        match usize::try_from(id % 8).expect("small") {
            k @ 0..4 if updated[k] => expected.push(id + 1000),
            k @ 4..6 if deleted[k - 4] => {}
            _ => expected.push(id),
        }
    }
    expected.extend(5000..5004);
    expected.sort_unstable();
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), expected);
    assert!(updated.iter().chain(&deleted).filter(|ok| **ok).count() >= 2, "{updates:?} {deletes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_statement_leaves_no_files_behind() {
    let app = TestApp::start().await;
    app.table().await;
    assert_eq!(app.sql("INSERT INTO n.t (id) VALUES (1)").await.map(|b| number(&b)), Ok(1));
    let files = |app: &TestApp| {
        let root = app.catalog().options().location.to_string();
        let dir = std::path::PathBuf::from(root.trim_start_matches("file://"));
        let mut pending = vec![dir];
        let mut found = Vec::new();
        while let Some(dir) = pending.pop() {
            for entry in std::fs::read_dir(dir).expect("listed").flatten() {
                match entry.path() {
                    path if path.is_dir() => pending.push(path),
                    path if path.extension().is_some_and(|e| e == "parquet") => found.push(path),
                    _ => {}
                }
            }
        }
        found.len()
    };
    let before = files(&app);
    let sql = "UPDATE n.t SET id = CASE WHEN id = 1 THEN CAST('x' || id AS BIGINT) ELSE id END";
    let error = app.sql(sql).await.expect_err("not a number");
    assert!(error.contains("x1"), "{error}");
    let error = app.sql("INSERT INTO n.nope (id) VALUES (1)").await.expect_err("no such table");
    assert!(error.contains("nope"), "{error}");
    assert_eq!(files(&app), before);
    assert_eq!(TestTable::simple(&app).ids().await.expect("ids"), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_query_too_many_is_refused_and_one_too_long_is_stopped() {
    let app = TestApp::start_with(|config| {
        config.query.concurrency = 1;
        config.query.queue = 0;
        config.query.timeout_seconds = 2;
    })
    .await;
    let long = "SELECT count(*) FROM generate_series(1, 100000000) a, generate_series(1, 1000) b WHERE a.value % 7 = b.value % 5";
    let (first, second) = futures::join!(app.sql(long), async {
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        app.sql("SELECT 1").await
    });
    assert!(first.expect_err("too long").contains("query.timeout_seconds"));
    assert!(second.expect_err("one too many").contains("try again later"));
    assert_eq!(app.sql("SELECT 1").await.map(|b| number(&b)), Ok(1), "the place is free again");
}

/// A constant is computed while its statement is planned, and no share of memory counts what functions make.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_does_not_make_more_than_fits_into_memory() {
    let app = TestApp::start().await;
    let mut joined = "SELECT 'ab' AS x".to_owned();
    for _ in 0..10 {
        joined = format!("SELECT {} AS x FROM ({joined})", ["x"; 8].join(" || "));
    }
    for sql in [
        "SELECT range(0, 4000000000)",
        "SELECT generate_series(0, 4000000000)",
        "SELECT repeat('x', 2000000000)",
        "SELECT length(lpad('x', 2000000000))",
        "SELECT length(rpad('x', 2000000000, 'ab'))",
        "SELECT array_repeat(1, 4000000000)",
        "SELECT array_resize([1], 4000000000, 2)",
        "SELECT length(replace(repeat('a', 100000), 'a', repeat('b', 100000)))",
        "SELECT repeat('x', 1000000) FROM generate_series(1, 8192)",
        "SELECT repeat('x', CAST(value AS BIGINT) * 100000) FROM generate_series(1, 8192)",
        joined.as_str(),
    ] {
        let error = app.sql(sql).await.map(|_| ()).expect_err(sql);
        assert!(error.contains("the limit is"), "{sql}: {error}");
    }
    for sql in ["SELECT length(repeat('x', 1000000))", "SELECT cardinality(range(0, 1000000))", "SELECT repeat('x', 10) || 'y'"] {
        app.sql(sql).await.expect(sql);
    }
}
