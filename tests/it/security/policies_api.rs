//! The management of access policies: who sets and reads them, what is refused, and that they decide requests at once.

use esker_access::{AccessMode, Bundle, Privilege, RuleChange, Securable, SecurableKind};
use esker_state::Outbox;
use esker_tests::{AccessTest, TestApp};
use reqwest::Method;
use serde_json::{Value, json};

use super::access::switch_on;
use super::{make_token, on_machine, send_as};
use crate::cli::{esker, ok};

const POLICIES: &str = "/api/v1/access/policies";
const TABLE: &str = "/v1/default/namespaces/n/tables/t";

/// A text of one policy. The requests of the tests come without TLS.
const ONLY_TLS: &str = "// Rows only over TLS.\nforbid (principal, action, resource is Esker::Table)\nunless { context.tls };\n";

/// Returns the body of a request that sets a policy.
fn body(text: &str) -> Option<Value> {
    Some(json!({"text": text}))
}

/// Sets a policy as the administrator.
async fn set(app: &TestApp, name: &str, text: &str) -> Value {
    app.ok(Method::PUT, &format!("{POLICIES}/{name}"), body(text)).await
}

/// Removes a policy as the administrator.
async fn remove(app: &TestApp, name: &str) {
    app.ok(Method::DELETE, &format!("{POLICIES}/{name}"), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_set_listed_and_removed_and_each_change_is_an_event() {
    let app = TestApp::start().await;
    let first = set(&app, "only-tls", ONLY_TLS).await;
    assert_eq!((&first["name"], &first["text"], &first["changed-by"]), (&json!("only-tls"), &json!(ONLY_TLS), &json!("admin")));
    let other = "permit (principal == Esker::Client::\"bi\", action, resource);";
    set(&app, "a%20b", other).await;
    let version = app.ok(Method::GET, "/api/v1/access", None).await["version"].clone();
    assert_eq!(set(&app, "only-tls", ONLY_TLS).await, first, "the same text is no change");
    assert_eq!(app.ok(Method::GET, "/api/v1/access", None).await["version"], version);

    let listed = app.ok(Method::GET, POLICIES, None).await;
    let names: Vec<&Value> = listed.as_array().expect("a list").iter().map(|policy| &policy["name"]).collect();
    assert_eq!(names, ["a b", "only-tls"]);
    assert_eq!((&listed[0]["text"], &listed[1]), (&json!(other), &first));
    assert_eq!(app.ok(Method::GET, &format!("{POLICIES}/a%20b"), None).await, listed[0]);
    remove(&app, "a%20b").await;
    for method in [Method::GET, Method::DELETE] {
        let (code, kind, message) = app.refused(method, &format!("{POLICIES}/a%20b"), None).await;
        assert!(code == 404 && kind == "NotFoundException" && message.contains("a b"), "{code} {kind} {message}");
    }
    assert_eq!(app.ok(Method::GET, POLICIES, None).await, json!([first]));

    let events = app.ok(Method::GET, "/api/v1/events?limit=1000", None).await;
    let events = events["events"].as_array().expect("events").iter().filter(|event| event["type"] == "access.changed");
    let told: Vec<_> = events.map(|event| (&event["subject"], &event["data"]["change"])).collect();
    let change = |name: &str, text: &str| json!({"action": "set-policy", "name": name, "text": text});
    let expected = [
        (json!("policy only-tls"), change("only-tls", ONLY_TLS)),
        (json!("policy a b"), change("a b", other)),
        (json!("policy a b"), json!({"action": "remove-policy", "name": "a b"})),
    ];
    assert_eq!(told, expected.iter().map(|(subject, change)| (subject, change)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_no_policy_is_refused_with_its_line_and_column() {
    let app = TestApp::start().await;
    set(&app, "kept", ONLY_TLS).await;
    for (text, words) in [
        ("", "polic"),
        ("permit (principal, action);", "line 1, column"),
        ("permit (principal, action, resource)\nwhen { context.colour };", "line 2, column 8"),
        ("permit (principal, action == Esker::Action::\"FLY\", resource);", "FLY"),
        ("permit (principal == Other::User::\"a\", action, resource);", "Other::User"),
        ("permit (principal, action, resource == ?resource);", "line 1, column"),
        ("permit (principal, action, resource); // \u{0}", "U+0000"),
        ("\n\npermit (principal, action, resource) when { 1 };", "line 3, column"),
    ] {
        for name in ["kept", "new"] {
            let (code, kind, message) = app.refused(Method::PUT, &format!("{POLICIES}/{name}"), body(text)).await;
            let is_told = message.contains(words) && (text.is_empty() || message.contains(name));
            assert!(code == 400 && kind == "BadRequestException" && is_told, "{text}: {code} {kind} {message}");
        }
    }
    let long = format!("// {}\n{ONLY_TLS}", "x".repeat(64 << 10));
    assert_eq!(app.refused(Method::PUT, &format!("{POLICIES}/kept"), body(&long)).await.0, 400, "over 64 KiB");
    for name in ["esker:mine", "%20a", &"n".repeat(129)] {
        assert_eq!(app.refused(Method::PUT, &format!("{POLICIES}/{name}"), body(ONLY_TLS)).await.0, 400, "{name}");
    }
    for wrong in [json!({}), json!({"text": 1}), json!({"text": ONLY_TLS, "mode": "on"})] {
        assert_eq!(app.refused(Method::PUT, &format!("{POLICIES}/kept"), Some(wrong.clone())).await.0, 400, "{wrong}");
    }
    let left = app.ok(Method::GET, POLICIES, None).await;
    assert_eq!((left.as_array().map(Vec::len), &left[0]["text"]), (Some(1), &json!(ONLY_TLS)));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_manages_access_reads_and_changes_policies() {
    let app = TestApp::start().await;
    switch_on(&app).await;
    set(&app, "kept", ONLY_TLS).await;
    let (_, token) = make_token(&app, "b").await;
    for (method, path, body) in [
        (Method::GET, POLICIES.to_owned(), None),
        (Method::GET, format!("{POLICIES}/kept"), None),
        (Method::GET, format!("{POLICIES}/absent"), None),
        (Method::PUT, format!("{POLICIES}/kept"), body("permit (principal, action, resource);")),
        (Method::PUT, format!("{POLICIES}/mine"), body("no policy")),
        (Method::DELETE, format!("{POLICIES}/kept"), None),
    ] {
        let (status, answer) = send_as(&app, &token, method.clone(), &path, &[], body).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(status == 403 && message.contains("lacks MANAGE_ACCESS"), "{method} {path}: {answer}");
    }
    assert_eq!(app.ok(Method::GET, POLICIES, None).await[0]["text"], ONLY_TLS);
}

/// `MONITOR` shows events. The texts of policies say who may do what, and from where.
#[tokio::test(flavor = "multi_thread")]
async fn events_have_the_text_of_a_policy_for_who_manages_access_alone() {
    let test = AccessTest::start(AccessMode::On).await;
    set(&test.app, "only-tls", ONLY_TLS).await;
    remove(&test.app, "only-tls").await;
    let watcher = test.client("watcher").await;
    test.grant("watcher", Securable::Server, Privilege::Monitor.into()).await;
    let changes = async |token: &str| {
        let (status, page) = test.send(token, Method::GET, "/api/v1/events?limit=1000", None).await;
        assert_eq!(status, 200, "{page}");
        let page: Value = serde_json::from_str(&page).expect("JSON");
        let events = page["events"].as_array().expect("events").iter();
        let of_policy = events.filter(|event| event["subject"] == "policy only-tls");
        of_policy.map(|event| event["data"]["change"].clone()).collect::<Vec<_>>()
    };
    let removed = json!({"action": "remove-policy", "name": "only-tls"});
    let withheld = "the text is shown to who has MANAGE_ACCESS on the server";
    let shown = |text: &str| [json!({"action": "set-policy", "name": "only-tls", "text": text}), removed.clone()];
    assert_eq!(changes(&watcher).await, shown(withheld));
    test.grant("watcher", Securable::Server, Privilege::ManageAccess.into()).await;
    assert_eq!(changes(&watcher).await, shown(ONLY_TLS));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_forbids_and_one_that_permits_count_from_the_next_request_on() {
    let test = AccessTest::start(AccessMode::On).await;
    test.create_namespace("n").await;
    test.create_table("n", "t").await;
    let (bi, guest) = (test.client("bi").await, test.client("guest").await);
    test.grant("bi", test.namespace("n"), AccessTest::bundle(Bundle::Select, SecurableKind::Namespace)).await;
    let load = async |token: &str| test.send(token, Method::GET, TABLE, None).await;
    assert_eq!((load(&bi).await.0, load(&guest).await.0), (200, 404));

    let no_metadata = "forbid (principal == Esker::Client::\"bi\", action == Esker::Action::\"READ_METADATA\",
        resource in Esker::Namespace::\"default.n\") unless { context.tls };";
    set(&test.app, "only-tls", no_metadata).await;
    let (status, answer) = load(&bi).await;
    assert!(status == 403 && answer.contains("READ_METADATA"), "{status} {answer}");
    let explain = "/api/v1/access/explain?who=client:bi&privileges=READ_METADATA&on=table%20default.n.t";
    let explained = test.app.ok(Method::GET, explain, None).await;
    assert_eq!((&explained["verdict"], &explained["forbidden_by"]), (&json!("denied"), &json!("only-tls")), "{explained}");
    set(&test.app, "only-tls", &no_metadata.replace("context.tls", "!context.tls")).await;
    assert_eq!(load(&bi).await.0, 200, "the request came without TLS");
    remove(&test.app, "only-tls").await;
    assert_eq!(load(&bi).await.0, 200);

    let near = |network: &str| {
        format!(
            "permit (principal == Esker::Client::\"guest\",
                action in [Esker::Action::\"LIST\", Esker::Action::\"READ_METADATA\"], resource == Esker::Table::\"default.n.t\")
            when {{ context has ip && context.ip.isInRange(ip(\"{network}\")) }};"
        )
    };
    set(&test.app, "near", &near("127.0.0.0/8")).await;
    assert_eq!(load(&guest).await.0, 200);
    assert_eq!(test.status(&guest, Method::DELETE, TABLE, None).await, 403, "nothing else is permitted");
    set(&test.app, "near", &near("10.0.0.0/8")).await;
    assert_eq!(load(&guest).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_may_forbid_everybody_to_manage_access_is_refused() {
    let app = TestApp::start().await;
    switch_on(&app).await;
    for text in ["forbid (principal, action, resource);", "forbid (principal, action, resource) unless { context.tls };"] {
        let (code, kind, message) = app.refused(Method::PUT, &format!("{POLICIES}/p"), body(text)).await;
        assert_eq!((code, kind.as_str()), (422, "RefusedException"), "{text}: {message}");
    }
    assert_eq!(app.ok(Method::GET, POLICIES, None).await, json!([]));
    set(&app, "p", ONLY_TLS).await;
    set(&app, "q", "forbid (principal == Esker::Client::\"bi\", action, resource);").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_trail_names_the_policy_and_does_not_have_its_text() {
    let test = AccessTest::start(AccessMode::On).await;
    set(&test.app, "only-tls", ONLY_TLS).await;
    assert!(test.app.server.access().audit().flush().await, "written");
    let records = test.app.catalog().state().audit().after(0, 100_000).await.expect("read");
    let mut found = records.into_iter().map(|(_, record)| record).filter(|record| record.operation == "setAccessPolicy");
    let record = found.next().expect("a record");
    assert_eq!((record.object_kind.as_deref(), record.object.as_deref()), (Some("policy"), Some("only-tls")));
    assert!(record.is_change && !format!("{record:?}").contains("over TLS"), "{record:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_manages_policies() {
    let app = TestApp::start().await;
    let file = |name: &str, text: &str| {
        let path = app.dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let (good, wrong) = (file("good.cedar", ONLY_TLS), file("wrong.cedar", "permit (principal, action, resource)\nwhen { 1 };"));
    assert_eq!(ok(&app, &["access", "policy", "check", &good]).await, format!("{good} can be set\n"));
    let checked = ok(&app, &["access", "policy", "check", &good, "--json"]).await;
    assert_eq!(checked.parse::<Value>().expect("JSON"), json!({"file": good, "valid": true}));
    for command in [["check"].as_slice(), &["set", "wrong"]] {
        let arguments = [&["access", "policy"][..], command, &[wrong.as_str()]].concat();
        let (succeeded, out, error) = esker(&app, &arguments).await;
        assert!(!succeeded && out.is_empty() && error.contains("wrong") && error.contains("line 2, column"), "{out}{error}");
    }
    let (succeeded, _, error) = esker(&app, &["access", "policy", "check", "no-such-file.cedar"]).await;
    assert!(!succeeded && error.contains("no-such-file.cedar"), "{error}");

    assert_eq!(ok(&app, &["access", "policy", "set", "only tls", &good]).await, "set the access policy only tls\n");
    let listed = ok(&app, &["access", "policy", "list"]).await;
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    assert_eq!(lines, [["policy", "changed", "by"], ["only", "tls", "admin"]], "{listed}");
    assert_eq!(ok(&app, &["access", "policy", "show", "only tls"]).await, ONLY_TLS);
    let shown: Value = ok(&app, &["access", "policy", "show", "only tls", "--json"]).await.parse().expect("JSON");
    let all: Value = ok(&app, &["access", "policy", "list", "--json"]).await.parse().expect("JSON");
    assert_eq!((&shown["text"], &all), (&json!(ONLY_TLS), &json!([shown])));
    assert_eq!(ok(&app, &["access", "policy", "remove", "only tls"]).await, "removed the access policy only tls\n");
    assert!(!esker(&app, &["access", "policy", "show", "only tls"]).await.0);
    app.ok(
        Method::POST,
        "/api/v1/access/grants",
        Some(json!({"to": {"kind": "client", "name": "bi"}, "privileges": "LIST", "on": "server"})),
    )
    .await;
    let grants = ok(&app, &["access", "policy", "grants"]).await;
    assert!(grants.contains("permit (\n  principal == Esker::Client::\"bi\",\n  action == Esker::Action::\"LIST\","), "{grants}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_policy_that_can_not_be_read_is_removed_on_the_servers_machine() {
    let app = TestApp::start().await;
    set(&app, "kept", ONLY_TLS).await;
    let text = "permit (principal, action, resource) when { context.of_a_later_release };";
    let catalog = app.catalog();
    let access = catalog.state().access();
    let (version, _) = access.version().await.expect("read");
    let later = RuleChange::SetPolicy { name: "later".to_owned(), text: text.to_owned() };
    let silent = Outbox { events: Vec::new(), receipts: Vec::new() };
    access.change(version, "a later release", &[later], &silent).await.expect("stored");
    app.server.access().refresh();
    let (code, _, message) = app.refused(Method::GET, POLICIES, None).await;
    assert!(code == 503 && message.contains("`esker access remove-policy later`"), "{code} {message}");
    let (succeeded, _, error) = on_machine(&app, "access", &["bootstrap"]).await;
    assert!(!succeeded && error.contains("the policy later can't be used"), "{error}");

    let (succeeded, out, error) = on_machine(&app, "access", &["remove-policy", "later"]).await;
    assert!(succeeded && out == format!("{text}\n"), "{out}{error}");
    app.server.access().refresh();
    let left = app.ok(Method::GET, POLICIES, None).await;
    assert_eq!((left.as_array().map(Vec::len), &left[0]["name"]), (Some(1), &json!("kept")), "{left}");
    let (succeeded, _, error) = on_machine(&app, "access", &["remove-policy", "later"]).await;
    assert!(!succeeded && error.contains("there is no access policy later"), "{error}");
}
