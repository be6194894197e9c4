//! Tokens: listed, revoked, ended and exchanged; and what is bound to the principal that they belong to.

use std::time::{Duration, Instant};

use esker_tests::{TOKEN, TestApp, on_postgres};
use futures::TryStreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use super::{make_token, on_machine, send_as, status_as};
use crate::kills::beside;
use crate::rest_contract::create;

const TOKENS: &str = "/api/v1/tokens";
const NAMESPACES: &str = "/v1/default/namespaces";
const TABLES: &str = "/v1/default/namespaces/n/tables";
const TABLE: &str = "/v1/default/namespaces/n/tables/t";

/// How long a revocation may take until it holds on every server.
const REVOCATION: Duration = Duration::from_secs(5);

/// Returns the listed token with an id.
async fn listed(app: &TestApp, id: &str) -> Value {
    let all = app.ok(Method::GET, TOKENS, None).await;
    let all = all.as_array().expect("tokens").iter();
    all.clone().find(|token| token["id"] == id).cloned().unwrap_or_else(|| panic!("{id} in {all:?}"))
}

/// Asks for a token with a form, and with a client's name and secret as well. Returns the status and the answer.
async fn ask(app: &TestApp, form: &str, client: Option<(&str, &str)>) -> (u16, Value) {
    let mut request = reqwest::Client::new().post(app.url("/v1/oauth/tokens")).body(form.to_owned());
    if let Some((name, secret)) = client {
        request = request.basic_auth(name, Some(secret));
    }
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

/// Exchanges a token, and returns the status and the next token.
pub(super) async fn exchange(app: &TestApp, token: &str, client: Option<(&str, &str)>) -> (u16, String) {
    let form = format!("grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={token}");
    let (status, answer) = ask(app, &form, client).await;
    (status, answer["access_token"].as_str().unwrap_or_default().to_owned())
}

/// Waits until a token is refused, while it is in use all the time.
async fn wait_until_refused(app: &TestApp, token: &str, within: Duration) {
    let began = Instant::now();
    while status_as(app, token).await != 401 {
        assert!(began.elapsed() < within, "the token is still accepted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Runs `esker token` on the database of a server. Returns its standard output and its standard error.
async fn esker_token(app: &TestApp, arguments: &[&str]) -> (String, String) {
    let (succeeded, out, error) = on_machine(app, "token", arguments).await;
    assert!(succeeded, "{error}");
    (out, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_with_all_that_it_was_exchanged_for() {
    let app = TestApp::start().await;
    let (id, token) = make_token(&app, "b").await;
    let (other_id, other) = make_token(&app, "b").await;
    assert!(token.starts_with("esk_") && token != other);
    let (status, issued) = ask(&app, &format!("grant_type=client_credentials&client_id=b&client_secret={token}"), None).await;
    assert_eq!((status, &issued["expires_in"]), (200, &json!(3600)));
    let (status, next) = exchange(&app, issued["access_token"].as_str().expect("a token"), None).await;
    assert_eq!((status, status_as(&app, &next).await), (200, 200));
    let shown = listed(&app, &id).await;
    assert_eq!((&shown["principal"], &shown["issued"], &shown["expires-ms"]), (&json!("b"), &json!(2), &Value::Null));
    assert!(!shown.to_string().contains(&token), "a token is shown once");

    assert_eq!(send_as(&app, &other, Method::DELETE, &format!("{TOKENS}/{id}"), &[], None).await.0, 204);
    for gone in [&token, &next] {
        assert_eq!(status_as(&app, gone).await, 401);
        assert_eq!(exchange(&app, gone, None).await.0, 401);
        let refused = app.flight_as(gone).await.execute("SELECT 1".to_owned(), None).await.expect_err("refused");
        assert!(refused.to_string().contains("the token is not valid"), "{refused}");
    }
    assert_eq!(status_as(&app, &other).await, 200, "another token of the principal");
    assert!(listed(&app, &id).await["revoked-ms"].is_i64() && listed(&app, &other_id).await["revoked-ms"].is_null());
    let (code, kind, message) = app.refused(Method::DELETE, &format!("{TOKENS}/nobody"), None).await;
    assert_eq!((code, kind.as_str()), (404, "NotFoundException"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_the_configuration_is_listed_and_revoked_too() {
    let app = TestApp::start().await;
    let (_, other) = make_token(&app, "admin").await;
    let issued = ask(&app, &format!("grant_type=client_credentials&client_secret={TOKEN}"), None).await.1;
    let issued = issued["access_token"].as_str().expect("a token").to_owned();
    let shown = listed(&app, "principal:admin").await;
    assert_eq!((&shown["principal"], &shown["issued"]), (&json!("admin"), &json!(1)));
    assert_eq!(send_as(&app, &other, Method::DELETE, &format!("{TOKENS}/principal%3Aadmin"), &[], None).await.0, 204);
    assert_eq!((status_as(&app, TOKEN).await, status_as(&app, &issued).await, status_as(&app, &other).await), (401, 401, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_and_makes_none_that_outlives_it() {
    let app = TestApp::start().await;
    let body = json!({"principal": "b", "label": "for a moment", "expires-seconds": 5});
    let made = app.ok(Method::POST, TOKENS, Some(body)).await;
    let token = made["token"].as_str().expect("a token");
    assert_eq!(listed(&app, made["id"].as_str().expect("an id")).await["label"], "for a moment");
    let (status, child) = send_as(&app, token, Method::POST, TOKENS, &[], Some(json!({}))).await;
    assert_eq!((status, &child["principal"]), (201, &json!("b")));
    let end = |token: &Value| token["expires-ms"].as_i64().expect("an end");
    assert!(end(&child) <= end(&made), "{child}");
    let longer = Some(json!({"expires-seconds": 3600}));
    assert_eq!(send_as(&app, token, Method::POST, TOKENS, &[], longer).await.0, 403);
    let (_, issued) = exchange(&app, token, None).await;
    for ends in [token, child["token"].as_str().expect("a token"), &issued] {
        wait_until_refused(&app, ends, Duration::from_secs(30)).await;
    }
    for (body, words) in [
        (json!({"principal": "a/b"}), "slashes"),
        (json!({"principal": "anonymous"}), "without a token"),
        (json!({"expires-seconds": 0}), "at once"),
        (json!({"expires": 1}), "unknown field"),
    ] {
        let (code, _, message) = app.refused(Method::POST, TOKENS, Some(body)).await;
        assert!(code == 400 && message.contains(words), "{code} {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_chain_ends() {
    let app = TestApp::start_with(|config| {
        config.auth.tokens.access_seconds = 2;
        config.auth.tokens.max_session_seconds = 3;
    })
    .await;
    let (_, secret) = make_token(&app, "b").await;
    let (status, mut token) = exchange(&app, &secret, None).await;
    assert_eq!(status, 200);
    let began = Instant::now();
    loop {
        let (status, next) = exchange(&app, &token, None).await;
        if status == 401 {
            break;
        }
        assert_eq!(status, 200);
        token = next;
        assert!(began.elapsed() < Duration::from_secs(60), "the chain goes on");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(status_as(&app, &token).await, 401);
    // Java shows the token that has ended, with its own name and secret. Nobody else may.
    let (_, stranger) = make_token(&app, "c").await;
    assert_eq!(exchange(&app, &token, Some(("c", &stranger))).await.0, 401);
    assert_eq!(exchange(&app, &token, Some(("b", "wrong"))).await.0, 401);
    let (status, fresh) = exchange(&app, &token, Some(("b", &secret))).await;
    assert_eq!((status, status_as(&app, &fresh).await), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_on_another_server_holds_within_five_seconds() {
    let app = TestApp::start().await;
    // The command line works on the database itself, as another server does.
    let (id, token) = make_token(&app, "b").await;
    assert_eq!(status_as(&app, &token).await, 200);
    let (said, _) = esker_token(&app, &["revoke", &id]).await;
    assert!(said.contains("within 5 seconds"), "{said}");
    wait_until_refused(&app, &token, REVOCATION).await;

    if !on_postgres() {
        return; // with SQLite only one server can use a data directory
    }
    let second = beside(app.dir.path()).await;
    let (id, token) = make_token(&second, "b").await;
    assert_eq!((status_as(&app, &token).await, status_as(&second, &token).await), (200, 200));
    app.ok(Method::DELETE, &format!("{TOKENS}/{id}"), None).await;
    wait_until_refused(&second, &token, REVOCATION).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_makes_another_token_lists_and_revokes() {
    let app = TestApp::start().await;
    let (first, _) = esker_token(&app, &["analyst"]).await;
    let (second, stderr) = esker_token(&app, &["create", "analyst", "--expires", "90d", "--label", "nightly export"]).await;
    let (first, second) = (first.trim(), second.trim());
    assert!(stderr.contains("also valid for analyst: ") && stderr.contains("ends 20"), "{stderr}");
    for token in [first, second, TOKEN] {
        assert_eq!(status_as(&app, token).await, 200, "none is replaced");
    }
    let (listed, _) = esker_token(&app, &["list"]).await;
    assert!(listed.contains("principal:admin") && listed.contains("nightly export"), "{listed}");
    let (json, _) = esker_token(&app, &["list", "--json"]).await;
    let tokens: Vec<Value> = serde_json::from_str(&json).expect("JSON");
    let nightly = tokens.iter().find(|token| token["label"] == "nightly export").expect("listed");
    assert!(nightly["expires-ms"].is_i64() && !json.contains(second), "{json}");
    esker_token(&app, &["revoke", nightly["id"].as_str().expect("an id")]).await;
    let (listed, _) = esker_token(&app, &["list"]).await;
    assert!(listed.lines().any(|line| line.contains("revoked 20") && line.ends_with("nightly export")), "{listed}");
    let trail = app.catalog().state().audit().after(0, 1000).await.expect("read");
    let commands = trail.iter().filter(|(_, record)| record.protocol == "command").map(|(_, record)| record.operation.as_str());
    assert_eq!(commands.collect::<Vec<_>>(), ["createToken", "createToken", "revokeToken"]);
    wait_until_refused(&app, second, REVOCATION).await;
    assert_eq!(status_as(&app, first).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stranger_makes_or_revokes_a_token_where_none_is_needed() {
    let app = TestApp::start_with(|config| config.auth.anonymous = true).await;
    let client = reqwest::Client::new();
    let refused = client.post(app.url(TOKENS)).body("{}").send().await.expect("an answer");
    assert_eq!(refused.status(), 403);
    let refused = client.delete(app.url(&format!("{TOKENS}/principal:admin"))).send().await.expect("an answer");
    assert_eq!((refused.status().as_u16(), status_as(&app, TOKEN).await), (403, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_answers_only_its_own_principal() {
    let app = TestApp::start().await;
    let (_, other) = make_token(&app, "b").await;
    let key = [("idempotency-key", "01890a5d-ac96-774b-bcce-b302099a8057")];
    let as_admin = async |method, path, body| send_as(&app, TOKEN, method, path, &key, body).await;
    let as_other = async |method, path, body| send_as(&app, &other, method, path, &key, body).await;
    app.ok(Method::POST, NAMESPACES, Some(json!({"namespace": ["n"]}))).await;
    let (status, made) = as_admin(Method::POST, TABLES, Some(create("t"))).await;
    assert_eq!(status, 200, "{made}");
    let (status, refused) = as_other(Method::POST, TABLES, Some(create("t"))).await;
    assert_eq!((status, &refused["error"]["type"]), (409, &json!("AlreadyExistsException")), "it is a request of its own");
    // Each gets its own answer again; another body under the key is wrong for its own principal only.
    assert_eq!(as_admin(Method::POST, TABLES, Some(create("t"))).await, (200, made));
    assert_eq!(as_other(Method::POST, TABLES, Some(create("t"))).await, (409, refused));
    assert_eq!(as_admin(Method::POST, TABLES, Some(create("u"))).await.0, 400);
    let (_, third) = make_token(&app, "c").await;
    let (status, made) = send_as(&app, &third, Method::POST, TABLES, &key, Some(create("u"))).await;
    assert_eq!(status, 200, "{made}");
    // A drop by one is not answered to the other as its own.
    assert_eq!(as_admin(Method::DELETE, TABLE, None).await.0, 204);
    assert_eq!(as_other(Method::DELETE, TABLE, None).await.0, 404);
    assert_eq!(as_admin(Method::DELETE, TABLE, None).await.0, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_plan_is_there_for_its_own_principal_only() {
    let app = TestApp::start().await;
    app.table().await;
    let (_, other) = make_token(&app, "b").await;
    let plan = app.ok(Method::POST, &format!("{TABLE}/plan"), Some(json!({}))).await;
    let id = plan["plan-id"].as_str().expect("an id");
    let (path, task) = (format!("{TABLE}/plan/{id}"), Some(json!({"plan-task": format!("{id}.0")})));
    for (method, path, body, kind) in [
        (Method::GET, path.clone(), None, "NoSuchPlanIdException"),
        (Method::DELETE, path.clone(), None, "NoSuchPlanIdException"),
        (Method::POST, format!("{TABLE}/tasks"), task, "NoSuchPlanTaskException"),
    ] {
        let (status, refused) = send_as(&app, &other, method, &path, &[], body).await;
        assert_eq!((status, &refused["error"]["type"]), (404, &json!(kind)), "{path}");
    }
    assert_eq!(app.ok(Method::GET, &path, None).await["status"], "completed", "nobody cancelled it");
}

/// A plan has the rows of the moment at which it was made. Who takes another's ticket gets nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_plan_runs_for_its_own_principal_only() {
    let app = TestApp::start().await;
    app.table().await;
    let (_, other) = make_token(&app, "b").await;
    let info = app.flight().await.execute("SELECT id FROM n.t".to_owned(), None).await.expect("planned");
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    app.sql("INSERT INTO n.t (id) VALUES (1)").await.expect("inserted");
    let refused = app.flight_as(&other).await.do_get(ticket.clone()).await.expect_err("another principal's").to_string();
    assert!(refused.contains("another caller"), "{refused}");
    let stream = app.flight().await.do_get(ticket).await.expect("run");
    let batches: Vec<arrow::array::RecordBatch> = stream.try_collect().await.expect("rows");
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 0, "the plan is from before the row");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_ends_the_other_tokens_of_a_client() {
    let app = TestApp::start().await;
    let (_, first) = make_token(&app, "b").await;
    let (_, other) = make_token(&app, "c").await;
    let (second, said) = esker_token(&app, &["rotate", "b", "--overlap", "1h"]).await;
    assert!(said.contains("end in 3600 seconds"), "{said}");
    for token in [first.as_str(), second.trim()] {
        assert_eq!(status_as(&app, token).await, 200, "both count for a while");
    }
    // The client rotates by itself, with its own token. The answer has the new one alone.
    let rotate = json!({"overlap-seconds": 0, "expires-seconds": 3600});
    let path = format!("{TOKENS}/rotate");
    let (status, made) = send_as(&app, second.trim(), Method::POST, &path, &[], Some(rotate)).await;
    assert_eq!((status, &made["principal"]), (201, &json!("b")), "{made}");
    let third = made["token"].as_str().expect("a token");
    assert_eq!((status_as(&app, third).await, status_as(&app, &other).await), (200, 200));
    for ended in [first.as_str(), second.trim()] {
        wait_until_refused(&app, ended, REVOCATION).await;
    }
    let (code, _, message) = app.refused(Method::POST, &path, Some(json!({"principal": "b"}))).await;
    assert!(code == 400 && message.contains("overlap-seconds"), "{code} {message}");
}
