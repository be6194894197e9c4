//! The management of access control: modes, roles, grants, explanations, and the ways in when nobody may change the rules.

use std::time::{Duration, Instant};

use esker_tests::TestApp;
use esker_types::{DAY_MS, now_ms};
use reqwest::Method;
use serde_json::{Value, json};

use super::{make_token, on_machine, send_as};
use crate::cli::ok;

const ACCESS: &str = "/api/v1/access";
const GRANTS: &str = "/api/v1/access/grants";

/// Makes `admin` an administrator and sets the mode to `on`.
pub(super) async fn switch_on(app: &TestApp) {
    app.ok(Method::PUT, &format!("{ACCESS}/roles/esker:admin/members/client:admin"), None).await;
    app.ok(Method::PUT, &format!("{ACCESS}/mode"), Some(json!({"mode": "on"}))).await;
}

/// Returns the body of a request to grant privileges to a client.
fn grant_to(client: &str, privileges: &str, on: &str) -> Value {
    json!({"to": {"kind": "client", "name": client}, "privileges": privileges, "on": on})
}

/// Grants privileges to a client as `admin`. Returns the grant.
pub(super) async fn grant(app: &TestApp, client: &str, privileges: &str, on: &str) -> Value {
    app.ok(Method::POST, GRANTS, Some(grant_to(client, privileges, on))).await
}

/// Returns the status and the text of an error, for a request with a token.
async fn refusal(app: &TestApp, token: &str, method: Method, path: &str, body: Option<Value>) -> (u16, String) {
    let (status, answer) = send_as(app, token, method, path, &[], body).await;
    (status, answer["error"]["message"].as_str().unwrap_or_default().to_owned())
}

/// Waits until a read of the list of roles has a status, as another process changed the rules.
async fn wait_for_roles(app: &TestApp, token: &str, status: u16) {
    let began = Instant::now();
    while send_as(app, token, Method::GET, &format!("{ACCESS}/roles"), &[], None).await.0 != status {
        assert!(began.elapsed() < Duration::from_secs(30), "the server has the old rules");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_manage_access_changes_no_rule_and_asks_about_nobody_else() {
    let app = TestApp::start().await;
    app.table().await;
    switch_on(&app).await;
    let (_, token) = make_token(&app, "b").await;
    let member = json!({"mode": "off"});
    for (method, path, body) in [
        (Method::PUT, format!("{ACCESS}/mode"), Some(member)),
        (Method::GET, format!("{ACCESS}/roles"), None),
        (Method::POST, format!("{ACCESS}/roles"), Some(json!({"name": "mine"}))),
        (Method::DELETE, format!("{ACCESS}/roles/mine"), None),
        (Method::GET, format!("{ACCESS}/roles/esker:admin/members"), None),
        (Method::PUT, format!("{ACCESS}/roles/esker:admin/members/client:b"), None),
        (Method::DELETE, format!("{ACCESS}/roles/esker:admin/members/client:admin"), None),
        (Method::GET, GRANTS.to_owned(), None),
        (Method::POST, GRANTS.to_owned(), Some(grant_to("b", "LIST", "server"))),
        (Method::POST, format!("{GRANTS}/revoke"), Some(grant_to("b", "LIST", "server"))),
        (Method::GET, format!("{ACCESS}/explain?who=client:admin"), None),
    ] {
        let (status, message) = refusal(&app, &token, method.clone(), &path, body).await;
        assert_eq!(status, 403, "{method} {path}: {message}");
    }
    assert_eq!(app.ok(Method::GET, ACCESS, None).await["mode"], "on", "nothing was changed");

    // About oneself everybody may ask, but not about what is hidden: that does not exist.
    let explained = send_as(&app, &token, Method::GET, &format!("{ACCESS}/explain?privileges=MONITOR"), &[], None).await;
    assert_eq!((explained.0, &explained.1["verdict"], &explained.1["principal"]), (200, &json!("denied"), &json!("b")));
    let own = send_as(&app, &token, Method::GET, &format!("{ACCESS}/explain?who=client:b"), &[], None).await;
    assert_eq!((own.0, &own.1["roles"][0]["role"]), (200, &json!("esker:everyone")));
    for path in ["explain?privileges=SELECT&on=table%20default.n.", "me?on=table%20default.n."] {
        let hidden = refusal(&app, &token, Method::GET, &format!("{ACCESS}/{path}t"), None).await;
        let missing = refusal(&app, &token, Method::GET, &format!("{ACCESS}/{path}x"), None).await;
        assert_eq!(hidden, (404, missing.1.replace("n.x", "n.t")), "{path}");
        assert_eq!(missing.0, 404);
        let elsewhere = refusal(&app, &token, Method::GET, &format!("{ACCESS}/{path}t").replace("default", "absent"), None).await;
        assert_eq!(elsewhere.1.replace("absent", "default"), hidden.1, "nor does the warehouse, which is hidden too");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_manages_the_grants_of_a_thing_gives_what_they_have_there() {
    let app = TestApp::start().await;
    app.table().await;
    switch_on(&app).await;
    let (_, token) = make_token(&app, "owner").await;
    let given = grant(&app, "owner", "SELECT, MANAGE_GRANTS", "namespace default.n").await;
    assert_eq!(given["on"], json!({"kind": "namespace", "warehouse": given["on"]["warehouse"], "namespace": ["n"]}));

    let post = async |privileges: &str, on: &str| {
        send_as(&app, &token, Method::POST, GRANTS, &[], Some(grant_to("guest", privileges, on))).await
    };
    let (status, made) = post("ALL", "table default.n.t").await;
    assert_eq!((status, &made["created-by"]), (201, &json!("owner")), "{made}");
    let all = json!(["LIST", "READ_METADATA", "READ_DATA", "MANAGE_GRANTS"]);
    assert_eq!(made["privileges"], all, "ALL is what the giver has");
    let (status, refused) = post("APPEND", "table default.n.t").await;
    assert!(status == 403 && refused["error"]["message"].as_str().expect("text").contains("lacks APPEND"), "{refused}");
    assert_eq!(post("LIST", "warehouse default").await.0, 404, "the warehouse is not seen");
    assert_eq!(post("CREATE_TABLE", "table default.n.t").await.0, 400, "a table does not have it");

    let own = "on=table%20default.n.t";
    let listed = send_as(&app, &token, Method::GET, &format!("{GRANTS}?{own}"), &[], None).await;
    assert_eq!((listed.0, &listed.1[0]["id"], &listed.1[1]), (200, &made["id"], &Value::Null));
    let revoke = grant_to("guest", "LIST", "table default.n.t");
    assert_eq!(send_as(&app, &token, Method::POST, &format!("{GRANTS}/revoke"), &[], Some(revoke)).await.0, 204);
    let id = made["id"].as_str().expect("an id");
    assert_eq!(send_as(&app, &token, Method::DELETE, &format!("{GRANTS}/{id}"), &[], None).await.0, 204);
    let (code, kind, message) = app.refused(Method::DELETE, &format!("{GRANTS}/{id}"), None).await;
    assert_eq!((code, kind.as_str()), (404, "NotFoundException"), "{message}");
    // A grant of an administrator there has more than the manager of grants has.
    let more = grant(&app, "guest", "DROP", "table default.n.t").await;
    let id = more["id"].as_str().expect("an id");
    assert_eq!(send_as(&app, &token, Method::DELETE, &format!("{GRANTS}/{id}"), &[], None).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_follows_its_table_and_ends_with_it() {
    let app = TestApp::start().await;
    app.table().await;
    let made = grant(&app, "b", "SELECT", "table default.n.t").await;
    assert_eq!((&made["on-name"], &made["future"]), (&json!("table default.n.t"), &Value::Null));
    let rename = json!({"source": {"namespace": ["n"], "name": "t"}, "destination": {"namespace": ["n"], "name": "u"}});
    app.ok(Method::POST, "/v1/default/tables/rename", Some(rename)).await;
    let names = async || {
        let all = app.ok(Method::GET, &format!("{GRANTS}?to=client:b"), None).await;
        all.as_array().expect("grants").iter().map(|grant| grant["on-name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names().await, [json!("table default.n.u")]);
    app.ok(Method::DELETE, "/v1/default/namespaces/n/tables/u", None).await;
    assert_eq!(names().await, [Value::Null], "the table can be brought back");
    app.catalog().expire_drops(now_ms() + 30 * DAY_MS).await.expect("ended");
    assert!(names().await.is_empty());

    // A grant on future tables is copied to each new one.
    let mut future = grant_to("b", "SELECT", "namespace default.n");
    future["future"] = "table".into();
    app.ok(Method::POST, GRANTS, Some(future)).await;
    let create = json!({"name": "new", "schema": esker_tests::schema_json()});
    app.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await;
    assert_eq!(names().await, [json!("namespace default.n"), json!("table default.n.new")]);
    for (body, words) in [
        (grant_to("b", "SELECT", "table n.t"), "write `server`"),
        (grant_to("b", "READ", "server"), "is no privilege"),
        (grant_to("", "LIST", "server"), "no name"),
        (json!({"to": {"kind": "role", "name": "nobody"}, "privileges": "LIST", "on": "server"}), "no role nobody"),
    ] {
        let (code, _, message) = app.refused(Method::POST, GRANTS, Some(body)).await;
        assert!((code == 400 || code == 404) && message.contains(words), "{code} {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_the_rules_is_an_event() {
    let app = TestApp::start().await;
    let before = app.ok(Method::GET, ACCESS, None).await["version"].as_i64().expect("a version");
    app.ok(Method::POST, &format!("{ACCESS}/roles"), Some(json!({"name": "readers"}))).await;
    let put = format!("{ACCESS}/roles/readers/members/user:ann@https:%2F%2Fid.example");
    for _ in 0..2 {
        app.ok(Method::PUT, &put, None).await;
    }
    app.ok(Method::DELETE, &put, None).await;
    let (code, _, message) = app.refused(Method::DELETE, &put, None).await;
    assert!(code == 404 && message.contains("user https://id.example/ann is no member"), "{message}");
    switch_on(&app).await;
    let events = app.ok(Method::GET, "/api/v1/events?limit=1000", None).await;
    let events = events["events"].as_array().expect("events").iter().filter(|event| event["type"] == "access.changed");
    let shown: Vec<_> = events.map(|event| (event["subject"].clone(), event["data"]["change"]["action"].clone())).collect();
    let expected = [
        ("role readers", "create-role"),
        ("role readers", "add-member"),
        ("role readers", "remove-member"),
        ("role esker:admin", "add-member"),
        ("role esker:legacy", "add-member"),
    ];
    assert_eq!(shown[..5], expected.map(|(subject, action)| (json!(subject), json!(action))));
    assert_eq!((shown[5].1.clone(), shown[6].clone()), (json!("add-grant"), (json!("mode"), json!("set-mode"))));
    assert_eq!(shown.len(), 7);
    // A repetition is no change, and the changes of one request are one version.
    assert_eq!(app.ok(Method::GET, ACCESS, None).await["version"], before + 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_had_a_token_go_on_and_nobody_is_locked_out() {
    let app = TestApp::start().await;
    let (_, old) = make_token(&app, "old").await;
    for mode in ["report", "on"] {
        let (code, kind, message) = app.refused(Method::PUT, &format!("{ACCESS}/mode"), Some(json!({"mode": mode}))).await;
        assert_eq!((code, kind.as_str()), (422, "RefusedException"));
        assert!(message.contains("esker access member add esker:admin"), "{message}");
    }
    switch_on(&app).await;
    let me = send_as(&app, &old, Method::GET, &format!("{ACCESS}/me"), &[], None).await.1;
    assert_eq!(me["roles"], json!(["esker:everyone", "esker:legacy"]));
    let effective = me["effective"].as_array().expect("privileges");
    assert!(effective.contains(&json!("READ_DATA")) && !effective.contains(&json!("MANAGE_ACCESS")), "{me}");
    let (_, new) = make_token(&app, "new").await;
    let me = send_as(&app, &new, Method::GET, &format!("{ACCESS}/me"), &[], None).await.1;
    assert_eq!((&me["roles"], &me["effective"]), (&json!(["esker:everyone"]), &json!([])));
    let path = format!("{ACCESS}/roles/esker:admin/members/client:admin");
    let (code, _, message) = app.refused(Method::DELETE, &path, None).await;
    assert!(code == 422 && message.contains("nobody with a token could manage access"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_manages_access() {
    let app = TestApp::start().await;
    app.table().await;
    assert!(ok(&app, &["access", "mode"]).await.starts_with("mode off, version "));
    ok(&app, &["access", "role", "create", "readers"]).await;
    ok(&app, &["access", "member", "add", "readers", "client:bi"]).await;
    ok(&app, &["access", "member", "add", "esker:admin", "client:admin"]).await;
    assert!(ok(&app, &["access", "member", "list", "readers"]).await.contains("client:bi"));
    assert!(ok(&app, &["access", "role", "list"]).await.contains("readers"));
    let grant = ["access", "grant", "SELECT", "on", "table", "default.n.t", "to", "role:readers"];
    let granted = ok(&app, &grant).await;
    assert!(granted.starts_with("granted LIST, READ_METADATA, READ_DATA on table default.n.t to role readers"), "{granted}");
    assert!(ok(&app, &["access", "mode", "on"]).await.starts_with("mode on"));
    let explained = ok(&app, &["access", "explain", "client:bi", "SELECT", "table", "default.n.t"]).await;
    assert!(explained.contains("readers: given to the client bi") && explained.contains("\nallowed by "), "{explained}");
    assert!(explained.starts_with("bi asks for LIST, READ_METADATA, READ_DATA on table default.n.t\n"), "{explained}");
    let json = ok(&app, &["access", "explain", "me", "DROP", "table", "default.n.t", "--json"]).await;
    assert_eq!(json.parse::<Value>().expect("JSON")["rule"], "esker:admin");
    let listed = ok(&app, &["access", "grants", "--to", "role:readers"]).await;
    assert!(listed.contains("table default.n.t") && listed.contains("READ_DATA"), "{listed}");
    ok(&app, &["access", "revoke", "READ_DATA", "on", "table", "default.n.t", "from", "role:readers"]).await;
    let explained = ok(&app, &["access", "explain", "client:bi", "SELECT", "table", "default.n.t"]).await;
    assert!(explained.ends_with("refused: no rule gives READ_DATA\n"), "{explained}");
    ok(&app, &["access", "member", "remove", "readers", "client:bi"]).await;
    ok(&app, &["access", "role", "drop", "readers"]).await;
    assert!(!ok(&app, &["access", "grants"]).await.contains("role:readers"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_machine_of_the_server_is_the_way_in() {
    let app = TestApp::start().await;
    let (_, token) = make_token(&app, "b").await;
    let (succeeded, _, error) = on_machine(&app, "access", &["bootstrap", "nobody"]).await;
    assert!(!succeeded && error.contains("esker token create nobody"), "{error}");
    let (succeeded, out, error) = on_machine(&app, "access", &["bootstrap", "--mode", "on"]).await;
    assert!(succeeded && out.starts_with("client admin is a member of esker:admin; the mode is on"), "{out}{error}");
    wait_for_roles(&app, &token, 403).await;
    assert_eq!(app.ok(Method::GET, ACCESS, None).await["mode"], "on");

    let (succeeded, out, error) = on_machine(&app, "access", &["break-glass", "--minutes", "5"]).await;
    assert!(succeeded && error.contains("of the principal break-glass-") && error.contains(": ends "), "{error}");
    let emergency = out.trim();
    wait_for_roles(&app, emergency, 200).await;
    let me = send_as(&app, emergency, Method::GET, &format!("{ACCESS}/me"), &[], None).await.1;
    assert_eq!(me["roles"], json!(["esker:everyone", "esker:break-glass"]));
    let add = format!("{ACCESS}/roles/esker:break-glass/members/client:b");
    let (status, message) = refusal(&app, emergency, Method::PUT, &add, None).await;
    assert!(status == 422 && message.contains("the server decides who they are"), "{message}");
    let (code, _, message) = app.refused(Method::POST, "/api/v1/tokens", Some(json!({"principal": "break-glass-b"}))).await;
    assert!(code == 400 && message.contains("esker access break-glass"), "{message}");
    let metrics = app.ok_raw(Method::GET, "/metrics", json!({})).await;
    let counted = metrics.lines().find(|line| line.starts_with("esker_access_decisions_total{outcome=\"break-glass\"}"));
    assert!(counted.is_some_and(|line| !line.ends_with(" 0")), "{counted:?}");
}
