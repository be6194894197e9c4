//! What a client begins at one server and goes on with at another one of the same database.
//!
//! A server after a restart knows as little as another one, so the tests with a restart run on SQLite too. Those with two servers
//! need PostgreSQL. The log-in over two servers is in `security/log_in.rs`, a rotation of keys over two in `security/keys.rs`.

use std::collections::HashSet;
use std::time::Duration;

use arrow_flight::sql::{CommandPreparedStatementQuery, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, Ticket};
use esker_access::{AccessMode, Privilege};
use esker_tests::{AccessTest, TOKEN, TestApp, TestTable, on_postgres, text_cells};
use esker_types::now_ms;
use futures::TryStreamExt;
use prost::Message;
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::{flight, prepare, signed_by};
use crate::kills::beside_with;

const TABLE: &str = "/v1/default/namespaces/n/tables/t";

/// The number of files of a plan of three pages.
const FILES: usize = 4_500;

/// Returns the paths of the data files in a page of a plan.
fn paths(answer: &Value) -> Vec<String> {
    let tasks = answer["file-scan-tasks"].as_array().expect("tasks").iter();
    tasks.map(|task| task["data-file"]["file-path"].as_str().expect("a path").to_owned()).collect()
}

/// Polls a plan at some servers in turn until it is completed. Returns its answer.
async fn completed(servers: &[&TestApp], id: &str) -> Value {
    for server in servers.iter().cycle().take(500) {
        let plan = server.ok(Method::GET, &format!("{TABLE}/plan/{id}"), None).await;
        if plan["status"] != "submitted" {
            assert_eq!(plan["status"], "completed", "{}", plan["error"]);
            return plan;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the plan did not end");
}

/// Fetches a task of a plan.
async fn task(server: &TestApp, task: &Value) -> Value {
    server.ok(Method::POST, &format!("{TABLE}/tasks"), Some(json!({"plan-task": task}))).await
}

/// Submits a plan without waiting for it. Returns its id.
async fn submit(server: &TestApp, request: Value) -> String {
    let submitted = server.ok(Method::POST, &format!("{TABLE}/plan"), Some(request)).await;
    assert_eq!(submitted["status"], "submitted");
    submitted["plan-id"].as_str().expect("an id").to_owned()
}

/// A filter that is true for each row, and longer than a client carries.
fn long_filter() -> Value {
    let values: Vec<i64> = (0..300).map(|n| -1_000 - n).collect();
    json!({"type": "not-in", "term": "id", "values": values})
}

/// Returns a server that answers no plan at once.
async fn impatient() -> TestApp {
    TestApp::start_with(|config| config.server.plan_wait_ms = 0).await
}

/// Checks that all pages of a plan together have each file once. `servers` are asked in turn.
async fn check_pages(plan: &Value, servers: &[&TestApp]) {
    let mut found = paths(plan);
    let pages = plan["plan-tasks"].as_array().expect("plan tasks");
    assert_eq!(pages.len(), 2, "three pages");
    for (page, server) in pages.iter().zip(servers.iter().cycle()) {
        found.extend(paths(&task(server, page).await));
    }
    assert_eq!((found.len(), found.iter().collect::<HashSet<_>>().len()), (FILES, FILES), "each file once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_goes_on_after_a_restart_on_the_snapshot_that_it_was_made_of() {
    let app = impatient().await;
    app.table().await;
    TestTable::simple(&app).append_missing_files(FILES).await;
    let (short, long) = (submit(&app, json!({})).await, submit(&app, json!({"filter": long_filter()})).await);
    assert!(short.len() < 1_000 && long.len() < 1_000, "a proxy takes both in an address");
    TestTable::simple(&app).append_ids(0..1).await;
    let app = TestApp::restart(app.stop().await).await;
    for id in [&short, &long] {
        check_pages(&completed(&[&app], id).await, &[&app]).await;
    }
    let polled = completed(&[&app], &long).await;
    for id in [&short, &long] {
        let path = format!("{TABLE}/plan/{id}");
        app.ok(Method::DELETE, &path, None).await;
        assert_eq!(app.ok(Method::GET, &path, None).await, json!({"status": "cancelled"}));
    }
    let app = TestApp::restart(app.stop().await).await;
    for id in [&short, &long] {
        let path = format!("{TABLE}/plan/{id}");
        assert_eq!(app.ok(Method::GET, &path, None).await, json!({"status": "cancelled"}), "it stays so");
    }
    let gone = json!({"plan-task": polled["plan-tasks"][0]});
    let (status, kind, _) = app.refused(Method::POST, &format!("{TABLE}/tasks"), Some(gone)).await;
    assert_eq!((status, kind.as_str()), (404, "NoSuchPlanTaskException"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_a_table_without_snapshots_stays_empty() {
    let app = impatient().await;
    app.table().await;
    let id = submit(&app, json!({})).await;
    TestTable::simple(&app).append_ids(0..1).await;
    let app = TestApp::restart(app.stop().await).await;
    assert_eq!(paths(&completed(&[&app], &id).await), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_whose_snapshot_has_expired_does_not_exist_any_more() {
    let app = impatient().await;
    app.table().await;
    TestTable::simple(&app).append_ids(0..10).await;
    let id = submit(&app, json!({})).await;
    TestTable::simple(&app).append_ids(10..20).await;
    let expired = app.job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    assert_eq!(expired["state"], "succeeded", "{expired}");
    let app = TestApp::restart(app.stop().await).await;
    let (status, kind, _) = app.refused(Method::GET, &format!("{TABLE}/plan/{id}"), None).await;
    assert_eq!((status, kind.as_str()), (404, "NoSuchPlanIdException"));
}

/// Asks for the plan of a command. Returns its ticket.
async fn ticket(server: &TestApp, command: &impl ProstMessageExt) -> Ticket {
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let info = flight(server).await.get_flight_info(signed_by(descriptor, TOKEN)).await.expect("planned").into_inner();
    info.endpoint[0].ticket.clone().expect("a ticket")
}

/// Returns the rows of a ticket.
async fn rows(server: &TestApp, ticket: Ticket) -> Vec<Vec<String>> {
    let stream = server.flight().await.do_get(ticket).await.expect("a stream");
    text_cells(&stream.try_collect::<Vec<_>>().await.expect("rows"))
}

/// Makes the command of a statement.
fn statement(sql: &str) -> CommandStatementQuery {
    CommandStatementQuery { query: sql.to_owned(), transaction_id: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_has_the_rows_of_its_snapshots_wherever_it_is_used() {
    let app = TestApp::start().await;
    app.table().await;
    app.sql("INSERT INTO n.t VALUES (1, 'a')").await.expect("inserted");
    let sql = "SELECT a.id, b.s FROM n.t a JOIN n.t b ON a.id = b.id";
    let (first, counted) = (ticket(&app, &statement(sql)).await, ticket(&app, &statement("SELECT count(*) FROM n.t")).await);
    let prepared = CommandPreparedStatementQuery { prepared_statement_handle: prepare(&app, TOKEN, sql).await };
    let of_prepared = ticket(&app, &prepared).await;
    app.sql("INSERT INTO n.t VALUES (2, 'b')").await.expect("inserted");
    app.sql("DELETE FROM n.t WHERE id = 1").await.expect("deleted");
    let dir = app.stop().await;
    let app = TestApp::restart(dir).await;
    let row = vec![vec!["1".to_owned(), "a".to_owned()]];
    for again in [&first, &of_prepared, &first] {
        assert_eq!(rows(&app, again.clone()).await, row);
    }
    assert_eq!(rows(&app, counted).await, [["1"]]);
    // A new plan, also of a statement that was prepared before, has the rows of now.
    let now = vec![vec!["2".to_owned(), "b".to_owned()]];
    assert_eq!(rows(&app, ticket(&app, &prepared).await).await, now);
    assert_eq!(rows(&app, ticket(&app, &statement(sql)).await).await, now);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_whose_snapshot_has_expired_is_refused() {
    let app = TestApp::start().await;
    app.table().await;
    app.sql("INSERT INTO n.t VALUES (1, 'a')").await.expect("inserted");
    let old = ticket(&app, &statement("SELECT id FROM n.t")).await;
    app.sql("INSERT INTO n.t VALUES (2, 'b')").await.expect("inserted");
    let expired = app.job("expire", json!({"older-than-ms": now_ms() + 1000})).await;
    assert_eq!(expired["state"], "succeeded", "{expired}");
    let app = TestApp::restart(app.stop().await).await;
    let refused = app.flight().await.do_get(old).await.expect_err("its rows are gone").to_string();
    assert!(refused.contains("has expired; send the statement again"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_go_on_with_each_others_plans_and_tickets() {
    let first = impatient().await;
    if !on_postgres() {
        return; // with SQLite only one server can use a data directory
    }
    first.table().await;
    TestTable::simple(&first).append_missing_files(FILES).await;
    let second = beside_with(first.dir.path(), |config| config.server.plan_wait_ms = 0).await;
    for request in [json!({}), json!({"filter": long_filter()})] {
        let id = submit(&first, request).await;
        let plan = completed(&[&second, &first], &id).await;
        check_pages(&plan, &[&second, &first]).await;
        check_pages(&plan, &[&first, &second]).await;
        let path = format!("{TABLE}/plan/{id}");
        second.ok(Method::DELETE, &path, None).await;
        for server in [&first, &second] {
            assert_eq!(server.ok(Method::GET, &path, None).await, json!({"status": "cancelled"}));
        }
        let gone = json!({"plan-task": plan["plan-tasks"][0]});
        assert_eq!(first.refused(Method::POST, &format!("{TABLE}/tasks"), Some(gone)).await.0, 404);
    }
    let create = json!({"name": "u", "schema": esker_tests::schema_json()});
    first.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
    first.sql("INSERT INTO n.u VALUES (1, 'a')").await.expect("inserted");
    let old = ticket(&first, &statement("SELECT id FROM n.u")).await;
    let handle = prepare(&first, TOKEN, "SELECT id FROM n.u ORDER BY id").await;
    second.sql("INSERT INTO n.u VALUES (2, 'b')").await.expect("inserted");
    assert_eq!(rows(&second, old).await, [["1"]], "the ticket is older than the row");
    let prepared = CommandPreparedStatementQuery { prepared_statement_handle: handle };
    assert_eq!(rows(&first, ticket(&second, &prepared).await).await, [["1"], ["2"]]);
    // A query is stopped by its number, which no query of another server has.
    let numbers = async |server: &TestApp| -> HashSet<u64> {
        let queries = server.ok(Method::GET, "/api/v1/queries?limit=100", None).await;
        queries.as_array().expect("a list").iter().map(|query| query["id"].as_u64().expect("a number")).collect()
    };
    let (here, there) = (numbers(&first).await, numbers(&second).await);
    assert!(!here.is_empty() && !there.is_empty() && here.is_disjoint(&there), "{here:?} {there:?}");
}

/// A client that creates a table at one server commits to it at the next one.
#[tokio::test(flavor = "multi_thread")]
async fn who_creates_a_table_at_one_server_owns_it_at_the_other_one_at_once() {
    let test = AccessTest::start(AccessMode::On).await;
    if !on_postgres() {
        return; // with SQLite only one server can use a data directory
    }
    test.create_namespace("n").await;
    let token = test.client("etl").await;
    test.grant("etl", test.namespace("n"), Privilege::CreateTable.into()).await;
    let second = beside_with(test.app.dir.path(), |_| {}).await;
    for n in 0..5 {
        let create = AccessTest::new_table(&format!("t{n}"));
        assert_eq!(test.status(&token, Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await, 200);
        let path = format!("/v1/default/namespaces/n/tables/t{n}");
        let (status, _, text) = second.send_as(&token, Method::GET, &path, &[], None).await;
        assert_eq!(status.as_u16(), 200, "{text}");
        let owned = json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {"a": "b"}}]});
        let (status, _, text) = second.send_as(&token, Method::POST, &path, &[], Some(owned)).await;
        assert_eq!(status.as_u16(), 200, "{text}");
    }
}
