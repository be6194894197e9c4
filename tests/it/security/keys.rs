//! Keys: what clients carry counts for its own principal alone, as it was made, until its key has ended.

use std::time::{Duration, Instant};

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{Any, CommandPreparedStatementQuery, CommandStatementQuery, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightDescriptor, Ticket};
use bytes::Bytes;
use esker_tests::{TOKEN, TestApp, TestTable, on_postgres};
use prost::Message;
use reqwest::Method;
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::{make_token, on_machine, send_as};
use crate::api::{flight, prepare, signed_by};
use crate::kills::beside;

const TABLE: &str = "/v1/default/namespaces/n/tables/t";

/// The number of changed texts of each kind.
const CHANGES: usize = 200;

/// A generator of numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    /// Returns a number below `end`.
    fn below(&mut self, end: usize) -> usize {
        // Marsaglia's xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("small")
    }

    /// Changes some bytes: flips a bit, cuts, repeats a part, or puts a part of `other` into them.
    fn change(&mut self, bytes: &[u8], other: &[u8]) -> Vec<u8> {
        let mut changed = bytes.to_vec();
        let at = self.below(bytes.len());
        match self.below(4) {
            0 => changed[at] ^= 1 << self.below(8),
            1 => changed.truncate(at),
            2 => changed.extend_from_within(at..),
            _ => {
                changed.truncate(at);
                changed.extend_from_slice(&other[self.below(other.len())..]);
            }
        }
        changed
    }
}

/// Plans a command. Returns its ticket.
async fn plan(app: &TestApp, token: &str, command: &impl ProstMessageExt) -> Result<Bytes, Status> {
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let info = flight(app).await.get_flight_info(signed_by(descriptor, token)).await?.into_inner();
    Ok(info.endpoint[0].ticket.clone().expect("a ticket").ticket)
}

/// Plans a statement. Returns its ticket.
async fn ticket(app: &TestApp, token: &str, sql: &str) -> Bytes {
    let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
    plan(app, token, &command).await.expect("planned")
}

/// Runs a ticket to its end. Returns the number of messages.
async fn run(client: &mut FlightServiceClient<Channel>, token: &str, ticket: Vec<u8>) -> Result<usize, Status> {
    let mut stream = client.do_get(signed_by(Ticket { ticket: ticket.into() }, token)).await?.into_inner();
    let mut count = 0;
    while stream.message().await?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Returns the handle in a ticket, if it is one of a statement.
fn handle_of(ticket: &[u8]) -> Option<Bytes> {
    let read: Option<TicketStatementQuery> = Any::decode(ticket).ok()?.unpack().ok()?;
    read.map(|read| read.statement_handle)
}

/// Checks that a call was refused as one that is wrong, not as one that hit a fault of the server.
fn check_refused(refused: &Status, what: &str) {
    let wrong = [Code::InvalidArgument, Code::Unimplemented, Code::NotFound, Code::PermissionDenied];
    assert!(wrong.contains(&refused.code()), "{what}: {refused}");
}

/// Runs `esker keys` on the database of a server. Returns its standard output.
async fn esker_keys(app: &TestApp, arguments: &[&str]) -> String {
    let (succeeded, out, error) = on_machine(app, "keys", arguments).await;
    assert!(succeeded, "{error}");
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn no_changed_ticket_runs_and_none_of_another_principal_does() {
    let app = TestApp::start().await;
    let (_, other) = make_token(&app, "b").await;
    let (own, others) = (ticket(&app, TOKEN, "SELECT 'of admin' AS s").await, ticket(&app, &other, "SELECT 'of b' AS s").await);
    let mut client = flight(&app).await;
    for token in [&own, &others] {
        let wrong = if token == &own { other.as_str() } else { TOKEN };
        let refused = run(&mut client, wrong, token.to_vec()).await.expect_err("another principal's");
        assert!(refused.code() == Code::InvalidArgument && refused.message().contains("another caller"), "{refused}");
    }
    // What earlier releases made has no tag.
    let plain = TicketStatementQuery { statement_handle: Bytes::from_static(br#"{"sql":"SELECT 1","parameters":null}"#) };
    let refused = run(&mut client, TOKEN, plain.as_any().encode_to_vec()).await.expect_err("no tag");
    assert!(refused.message().contains("of this server"), "{refused}");

    let (handle, mut numbers) = (handle_of(&own).expect("a handle"), Numbers(0x5eed));
    for n in 0..CHANGES {
        let changed = numbers.change(&own, &others);
        match run(&mut client, TOKEN, changed.clone()).await {
            Ok(_) => assert_eq!(handle_of(&changed).as_ref(), Some(&handle), "change {n} is outside of the handle"),
            Err(refused) => check_refused(&refused, &format!("change {n}")),
        }
        let refused = run(&mut client, &other, changed.clone()).await;
        assert!(refused.is_err() || handle_of(&changed) == handle_of(&others), "change {n} as b");
    }
    // Changes within the handle alone reach the check of its tag each time.
    for n in 0..CHANGES {
        let changed = numbers.change(&handle, &handle_of(&others).expect("a handle"));
        if changed == handle {
            continue;
        }
        let changed = TicketStatementQuery { statement_handle: changed.into() }.as_any().encode_to_vec();
        let refused = run(&mut client, TOKEN, changed).await.expect_err("a changed handle");
        assert_eq!(refused.code(), Code::InvalidArgument, "change {n}: {refused}");
    }
    assert!(run(&mut client, TOKEN, own.to_vec()).await.expect("the ticket itself") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_statement_is_of_its_principal() {
    let app = TestApp::start().await;
    let (_, other) = make_token(&app, "b").await;
    let handle = prepare(&app, TOKEN, "SELECT 'of admin' AS s").await;
    let command = CommandPreparedStatementQuery { prepared_statement_handle: handle };
    let refused = plan(&app, &other, &command).await.expect_err("another principal's");
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("another caller"), "{refused}");
    let mut client = flight(&app).await;
    run(&mut client, &other, command.as_any().encode_to_vec()).await.expect_err("another principal's");
    let planned = plan(&app, TOKEN, &command).await.expect("its own");
    assert!(run(&mut client, TOKEN, planned.to_vec()).await.expect("run") > 0);
    assert!(run(&mut client, TOKEN, planned.to_vec()).await.expect("planned again, as its plan is used up") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_by_the_command_line_overlaps_and_holds_on_the_running_server() {
    let app = TestApp::start().await;
    let mut client = flight(&app).await;
    let first = ticket(&app, TOKEN, "SELECT 1").await;
    let said = esker_keys(&app, &["rotate", "handles", "--overlap", "1h"]).await;
    assert!(said.contains("signs handles") && said.contains("3600 seconds"), "{said}");
    let keys: Vec<Value> = serde_json::from_str(&esker_keys(&app, &["list", "--json"]).await).expect("JSON");
    let states: Vec<(&Value, &Value)> = keys.iter().map(|key| (&key["purpose"], &key["state"])).collect();
    let named =
        [("handles", "retiring"), ("handles", "active"), ("plans", "active"), ("secrets", "active"), ("servers", "active")];
    assert_eq!(states, named.map(|(purpose, state)| (json!(purpose), json!(state))).each_ref().map(|(p, s)| (p, s)));
    let active = keys[1]["id"].as_str().expect("an id").to_owned();
    let began = Instant::now();
    loop {
        // The server signs with the new key once it has read the keys again.
        let made = handle_of(&ticket(&app, TOKEN, "SELECT 1").await).expect("a handle");
        if String::from_utf8_lossy(&made).contains(&active) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "the new key is not used");
    }
    run(&mut client, TOKEN, first.to_vec()).await.expect("the earlier key counts until its end");

    let second = ticket(&app, TOKEN, "SELECT 1").await;
    esker_keys(&app, &["rotate", "handles", "--overlap", "0s"]).await;
    let began = Instant::now();
    while run(&mut client, TOKEN, second.to_vec()).await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(30), "the key has not ended");
    }
    let refused = run(&mut client, TOKEN, first.to_vec()).await.expect_err("all earlier keys have ended");
    assert!(refused.message().contains("its key has ended"), "{refused}");
    app.sql("SELECT 1").await.expect("new tickets run");
    let listed = esker_keys(&app, &["list"]).await;
    assert_eq!(listed.matches("retired").count(), 2, "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_accepts_what_another_one_of_the_database_signed() {
    if !on_postgres() {
        return; // with SQLite only one server can use a data directory
    }
    let app = TestApp::start().await;
    let second = beside(app.dir.path()).await;
    app.server.keys().rotate(esker_auth::KeyPurpose::Handles, Duration::from_secs(60)).await.expect("rotated");
    let made = ticket(&app, TOKEN, "SELECT 1").await;
    run(&mut flight(&second).await, TOKEN, made.to_vec()).await.expect("the key that the other server has just made");
}

/// Plans a scan of more files than one answer holds. Returns the first task.
async fn task(app: &TestApp, token: &str, table: &str) -> String {
    let (status, plan) = send_as(app, token, Method::POST, &format!("{table}/plan"), &[], Some(json!({}))).await;
    assert_eq!((status, &plan["status"]), (200, &json!("completed")), "{plan}");
    plan["plan-tasks"][0].as_str().expect("a task").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_changed_task_of_a_plan_has_files_and_none_of_another_principal_or_table_does() {
    let app = TestApp::start_with(|c| c.server.plan_wait_ms = 60_000).await;
    app.table().await;
    TestTable::simple(&app).append_missing_files(2_001).await;
    let (_, other) = make_token(&app, "b").await;
    let (own, others) = (task(&app, TOKEN, TABLE).await, task(&app, &other, TABLE).await);
    let fetch = async |token: &str, table: &str, task: &str| {
        send_as(&app, token, Method::POST, &format!("{table}/tasks"), &[], Some(json!({"plan-task": task}))).await
    };
    let create = json!({"name": "u", "schema": esker_tests::schema_json()});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
    let elsewhere = "/v1/default/namespaces/n/tables/u";
    let planned = app.ok(Method::POST, &format!("{TABLE}/plan"), Some(json!({}))).await;
    let id = planned["plan-id"].as_str().expect("an id");
    let parts = |text: &str| -> [String; 3] {
        let parts: Vec<String> = text.splitn(3, '.').map(str::to_owned).collect();
        parts.try_into().expect("a form, a key and an encrypted text")
    };
    let ([form, key, sealed], [_, _, of_other], [id_form, _, of_id]) = (parts(&own), parts(&others), parts(id));
    for (token, table, task) in [
        (other.as_str(), TABLE, own.clone()),
        (TOKEN, TABLE, others.clone()),
        (TOKEN, elsewhere, own.clone()),
        (TOKEN, TABLE, format!("{id_form}.{key}.{sealed}")),
        (TOKEN, TABLE, format!("{form}.{key}.{of_id}")),
        (TOKEN, TABLE, format!("{form}.{key}")),
        (TOKEN, TABLE, format!("{form}.{key}.{of_other}")),
        (TOKEN, TABLE, id.to_owned()),
    ] {
        let (status, refused) = fetch(token, table, &task).await;
        assert_eq!((status, &refused["error"]["type"]), (404, &json!("NoSuchPlanTaskException")), "{task}");
    }
    let mut numbers = Numbers(0xfeed);
    for n in 0..CHANGES {
        let changed = String::from_utf8_lossy(&numbers.change(own.as_bytes(), others.as_bytes())).into_owned();
        for token in [TOKEN, &other] {
            let (status, answer) = fetch(token, TABLE, &changed).await;
            let is_own = changed == if token == TOKEN { own.as_str() } else { others.as_str() };
            assert_eq!(status, if is_own { 200 } else { 404 }, "change {n}: {changed:?}: {answer}");
        }
    }
    assert_eq!(fetch(TOKEN, TABLE, &own).await.0, 200);
    for n in 0..CHANGES {
        let kept = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        let changed: String = numbers.change(id.as_bytes(), own.as_bytes()).into_iter().filter(kept).map(char::from).collect();
        if changed.is_empty() {
            continue;
        }
        let (status, answer) = app.send(Method::GET, &format!("{TABLE}/plan/{changed}"), None).await;
        assert_eq!(status.as_u16(), if changed == id { 200 } else { 404 }, "change {n}: {changed:?}: {answer}");
    }
    let said = esker_keys(&app, &["rotate", "plans", "--overlap", "0s"]).await;
    assert!(said.contains("signs plans"), "{said}");
    let began = Instant::now();
    while fetch(TOKEN, TABLE, &own).await.0 != 404 {
        assert!(began.elapsed() < Duration::from_secs(30), "the key has not ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_page_token_gives_a_part_of_the_same_list_or_is_refused() {
    let app = TestApp::start().await;
    for n in 0..5 {
        app.ok(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": [format!("n{n}")]}))).await;
    }
    let names = |list: &Value| list["namespaces"].as_array().cloned().unwrap_or_default();
    let all = names(&app.ok(Method::GET, "/v1/default/namespaces", None).await);
    let first = app.ok(Method::GET, "/v1/default/namespaces?pageSize=2", None).await;
    let token = first["next-page-token"].as_str().expect("another page").to_owned();
    let mut numbers = Numbers(0xcafe);
    for n in 0..CHANGES {
        let changed = numbers.change(token.as_bytes(), b"bjQ");
        let text: String = changed.iter().map(|byte| format!("%{byte:02X}")).collect();
        let (status, list) = app.send(Method::GET, &format!("/v1/default/namespaces?pageSize=2&pageToken={text}"), None).await;
        match status.as_u16() {
            200 => assert!(all.windows(names(&list).len().max(1)).any(|part| part == names(&list)) || names(&list).is_empty()),
            400 => assert_eq!(list["error"]["type"], "BadRequestException", "change {n}: {list}"),
            other => panic!("change {n}: {other} {list}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_encrypted_with_the_master_key_of_the_configuration() {
    let master = "a1".repeat(32);
    esker_tests::watch_for(&master);
    let set = master.clone();
    let app = TestApp::start_with(move |c| c.keys.master_key = Some(set)).await;
    app.sql("SELECT 1").await.expect("run");
    let listed = app.server.keys().list().await.expect("listed");
    assert!(listed.iter().all(|key| key.master_key.is_some()), "{listed:?}");
    // Another start without it says what is missing.
    let dir = app.stop().await;
    let config = esker_tests::config(dir.path());
    let refused = esker::server::Server::start(&config).await.expect_err("the master key is missing").to_string();
    assert!(refused.contains("keys.master_key") && refused.contains("esker keys rotate"), "{refused}");
    let app = TestApp::restart_with(dir, move |c| c.keys.previous_master_key = Some(master)).await;
    app.sql("SELECT 1").await.expect("the previous master key decrypts");
}
