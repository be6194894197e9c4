//! Transactions: commits to several tables, or that create a table, through `/v1/{prefix}/transactions/commit`.

use std::sync::Arc;

use esker_catalog::deletion::sweep;
use esker_tests::{Faults, TestApp, schema_json};
use esker_types::now_ms;
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

const COMMIT: &str = "/v1/default/transactions/commit";

async fn tables(app: &TestApp, n: usize) {
    app.namespace().await;
    for i in 0..n {
        let create = json!({"name": format!("t{i}"), "schema": schema_json()});
        app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
    }
}

fn change(table: &str, requirements: Value, key: &str, value: &str) -> Value {
    json!({"identifier": {"namespace": ["n"], "name": table}, "requirements": requirements,
        "updates": [{"action": "set-properties", "updates": {key: value}}]})
}

async fn property(app: &TestApp, table: &str, key: &str) -> Value {
    app.ok(Method::GET, &format!("/v1/default/namespaces/n/tables/{table}"), None).await["metadata"]["properties"][key].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_all_or_nothing() {
    let app = TestApp::start().await;
    tables(&app, 3).await;
    let none = json!([]);
    let both = json!({"table-changes": [change("t0", none.clone(), "a", "1"), change("t1", none.clone(), "a", "1")]});
    app.ok(Method::POST, COMMIT, Some(both)).await;
    assert_eq!((property(&app, "t0", "a").await, property(&app, "t1", "a").await), (json!("1"), json!("1")));

    let wrong = json!([{"type": "assert-current-schema-id", "current-schema-id": 7}]);
    let failing = json!({"table-changes": [change("t0", none.clone(), "a", "2"), change("t1", wrong, "a", "2")]});
    let before = crate::commits::walk(app.dir.path()).len();
    assert_eq!(app.refused(Method::POST, COMMIT, Some(failing)).await.0, 409);
    let missing = json!({"table-changes": [change("t0", none.clone(), "a", "2"), change("nope", none.clone(), "a", "2")]});
    assert_eq!(app.refused(Method::POST, COMMIT, Some(missing)).await.0, 404);
    let twice = json!({"table-changes": [change("t0", none.clone(), "a", "2"), change("t0", none, "b", "2")]});
    assert_eq!(app.refused(Method::POST, COMMIT, Some(twice)).await.0, 400);
    assert_eq!(property(&app, "t0", "a").await, json!("1"));
    assert_eq!(crate::commits::walk(app.dir.path()).len(), before, "no file was written for nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_can_make_a_table_beside_changing_another() {
    let app = TestApp::start().await;
    tables(&app, 1).await;
    let create = json!({"identifier": {"namespace": ["n"], "name": "new"}, "requirements": [{"type": "assert-create"}],
        "updates": [{"action": "add-schema", "schema": schema_json()}, {"action": "set-current-schema", "schema-id": -1}]});
    let body = json!({"table-changes": [create, change("t0", json!([]), "a", "1")]});
    app.ok(Method::POST, COMMIT, Some(body.clone())).await;
    app.ok(Method::GET, "/v1/default/namespaces/n/tables/new", None).await;
    assert_eq!(app.refused(Method::POST, COMMIT, Some(body)).await.0, 409, "it is there already");
}

/// Runs transactions over the same tables in different orders, together with single commits.
///
/// None waits for ever, none is lost, and the two tables of a transaction never differ.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_transactions_neither_block_nor_lose_each_other() {
    let app = TestApp::start().await;
    tables(&app, 3).await;
    let pairs = [("t0", "t1"), ("t1", "t2"), ("t2", "t0"), ("t1", "t0")];
    let transaction = |i: usize| {
        let ((a, b), key) = (pairs[i % pairs.len()], format!("k{i}"));
        let none = json!([]);
        let body = json!({"table-changes": [change(a, none.clone(), &key, "x"), change(b, none, &key, "x")]});
        app.send(Method::POST, COMMIT, Some(body))
    };
    let single = |i: usize| {
        let body = json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {format!("s{i}"): "x"}}]});
        app.send(Method::POST, "/v1/default/namespaces/n/tables/t0", Some(body)).await_status()
    };
    let (many, singles) = tokio::join!(join_all((0..40).map(transaction)), join_all((0..20).map(single)));
    assert!(many.iter().all(|(status, body)| status.is_success() || panic!("{body}")));
    assert!(singles.iter().all(|ok| *ok));
    for i in 0..40 {
        let (a, b) = pairs[i % pairs.len()];
        for table in [a, b] {
            assert_eq!(property(&app, table, &format!("k{i}")).await, json!("x"), "{table} {i}");
        }
    }
    for i in 0..20 {
        assert_eq!(property(&app, "t0", &format!("s{i}")).await, json!("x"));
    }
}

trait Succeeds {
    async fn await_status(self) -> bool;
}

impl<F: Future<Output = (reqwest::StatusCode, Value)>> Succeeds for F {
    async fn await_status(self) -> bool {
        self.await.0.is_success()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_by_two_spellings_is_refused_and_locks_nothing() {
    let app = TestApp::start_with(|config| {
        config.warehouses.entry("default".to_owned()).or_default().case_insensitive = true;
    })
    .await;
    tables(&app, 2).await;
    let none = json!([]);
    let twice = json!({"table-changes": [change("t0", none.clone(), "a", "1"), change("T0", none.clone(), "b", "1")]});
    let (code, kind, message) = app.refused(Method::POST, COMMIT, Some(twice)).await;
    assert_eq!((code, kind.as_str()), (400, "BadRequestException"));
    assert!(message.contains("n.t0") && message.contains("n.T0"), "both spellings: {message}");
    let create = |name: &str| {
        json!({"identifier": {"namespace": ["n"], "name": name}, "requirements": [{"type": "assert-create"}],
        "updates": [{"action": "add-schema", "schema": schema_json()}, {"action": "set-current-schema", "schema-id": -1}]})
    };
    let (code, _, message) =
        app.refused(Method::POST, COMMIT, Some(json!({"table-changes": [create("new"), create("NEW")]}))).await;
    assert_eq!(code, 400);
    assert!(message.contains("n.new") && message.contains("n.NEW"), "{message}");
    let both = json!({"table-changes": [change("T0", none.clone(), "a", "2"), change("t1", none, "a", "2")]});
    app.ok(Method::POST, COMMIT, Some(both)).await;
    assert_eq!((property(&app, "t0", "a").await, property(&app, "t0", "b").await), (json!("2"), Value::Null));
}

/// Another request takes the new table's name after the transaction has written its files. None of the files is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_does_not_come_about_leaves_no_file_not_of_new_tables_either() {
    let faults = Faults::local();
    let app = TestApp::start_on(Arc::new(faults.clone()), |_| {}).await;
    tables(&app, 2).await;
    let before = crate::commits::walk(app.dir.path()).into_iter().filter(|path| path.ends_with(".metadata.json")).count();
    let create = json!({"identifier": {"namespace": ["n"], "name": "new"}, "requirements": [{"type": "assert-create"}],
        "updates": [{"action": "add-schema", "schema": schema_json()}, {"action": "set-current-schema", "schema-id": -1}]});
    let body = json!({"table-changes": [change("t0", json!([]), "a", "1"), create]});
    faults.hold("/n/new-");
    let transaction = app.refused(Method::POST, COMMIT, Some(body));
    let rename = async {
        // The transaction writes the metadata file of the existing table first.
        while crate::commits::walk(app.dir.path()).into_iter().filter(|path| path.ends_with(".metadata.json")).count() == before {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        let name = |name: &str| json!({"namespace": ["n"], "name": name});
        let body = json!({"source": name("t1"), "destination": name("new")});
        app.ok(Method::POST, "/v1/default/tables/rename", Some(body)).await;
        faults.release("/n/new-");
    };
    let ((code, _, message), ()) = tokio::join!(transaction, rename);
    assert_eq!((code, message.as_str()), (409, "Requirement failed: table already exists"));
    sweep(app.catalog(), now_ms() + 1000).await.expect("swept");
    let after = crate::commits::walk(app.dir.path()).into_iter().filter(|path| path.ends_with(".metadata.json")).count();
    assert_eq!(after, before);
    assert_eq!(property(&app, "t0", "a").await, Value::Null);
}
