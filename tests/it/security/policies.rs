//! Access policies on a server: what they forbid is refused everywhere, and what they permit needs no grant.

use esker::config::VendingMode;
use esker_access::{AccessMode, Bundle, Privilege, PrivilegeSet, Securable, SecurableKind};
use esker_state::NewJob;
use esker_tests::AccessTest;
use esker_types::{JobId, TableId, now_ms};
use reqwest::Method;
use serde_json::{Value, json};

use super::credentials::Lake;
use super::matrix::new_function;
use super::send_as;
use super::sql::run;

const TABLES: &str = "/v1/default/namespaces/n/tables";
const TABLE: &str = "/v1/default/namespaces/n/tables/t";
const PLAN: &str = "/v1/default/namespaces/n/tables/t/plan";
const RENAME: &str = "/v1/default/tables/rename";
const EVENTS: &str = "/api/v1/events?warehouse=default";
const EXPIRE: &str = "/api/v1/warehouses/default/namespaces/n/tables/t/expire";
const POLICIES: &str = "/api/v1/access/policies";

/// Forbids the client `bi` to read rows of the table `n.t`.
const NO_ROWS: &str = r#"
    forbid (principal == Esker::Client::"bi", action == Esker::Action::"READ_DATA", resource == Esker::Table::"default.n.t");
"#;

/// Permits the client `bi` to read the table `n.t`, under a condition.
fn reads_if(condition: &str) -> String {
    format!(
        r#"permit (
            principal == Esker::Client::"bi",
            action in [Esker::Action::"LIST", Esker::Action::"READ_METADATA", Esker::Action::"READ_DATA"],
            resource == Esker::Table::"default.n.t"
        ) when {{ {condition} }};"#
    )
}

/// Starts a server with the tables `n.t` and `n.u`, each of one row, and with a client `bi`. Returns the token of the client.
async fn started(mode: AccessMode) -> (AccessTest, String) {
    let test = AccessTest::start(mode).await;
    test.create_namespace("n").await;
    for table in ["t", "u"] {
        test.app.sql(&format!("CREATE TABLE n.{table} AS SELECT 1 AS id")).await.expect("created");
    }
    let token = test.client("bi").await;
    (test, token)
}

/// Gives the client `bi` the bundle `SELECT` on the namespace `n`.
async fn grant_select(test: &AccessTest) {
    let select = AccessTest::bundle(Bundle::Select, SecurableKind::Namespace);
    test.grant("bi", test.namespace("n"), select).await;
}

/// Sets access policies under a name, as the administrator.
async fn set(test: &AccessTest, name: &str, text: &str) {
    test.app.ok(Method::PUT, &format!("{POLICIES}/{name}"), Some(json!({"text": text}))).await;
}

/// Removes access policies, as the administrator.
async fn remove(test: &AccessTest, name: &str) {
    let (status, body) = test.app.send(Method::DELETE, &format!("{POLICIES}/{name}"), None).await;
    assert!(status.is_success(), "{status} {body}");
}

/// Runs a statement over Flight SQL. Returns the lines of the answer.
async fn sql(test: &AccessTest, token: &str, sql: &str) -> Result<Vec<String>, String> {
    run(&mut test.app.flight_as(token).await, sql).await
}

/// Returns the names in a list of tables or namespaces.
async fn listed(test: &AccessTest, token: &str, path: &str) -> Vec<String> {
    let (status, text) = test.send(token, Method::GET, path, None).await;
    assert_eq!(status, 200, "{path}: {text}");
    let list: Value = serde_json::from_str(&text).expect("JSON");
    let names = list["identifiers"].as_array().or_else(|| list["namespaces"].as_array());
    let name = |entry: &Value| entry["name"].as_str().or_else(|| entry[0].as_str()).expect("a name").to_owned();
    names.unwrap_or_else(|| panic!("{list}")).iter().map(name).collect()
}

/// The body of a request that gives a table of the namespace `n` another name.
fn rename(from: &str, to: &str) -> Value {
    let name = |name: &str| json!({"namespace": ["n"], "name": name});
    json!({"source": name(from), "destination": name(to)})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_forbids_no_grant_gives_and_the_policy_is_named() {
    let (test, bi) = started(AccessMode::On).await;
    grant_select(&test).await;
    assert_eq!(test.status(&bi, Method::POST, PLAN, Some(json!({}))).await, 200);
    sql(&test, &bi, "SELECT id FROM n.t").await.expect("rows");

    set(&test, "no-rows", NO_ROWS).await;
    let (status, refusal) = test.send(&bi, Method::POST, PLAN, Some(json!({}))).await;
    let text = "bi lacks READ_DATA on table n.t: the access policy no-rows forbids it";
    assert!(status == 403 && refusal.contains(text), "{status} {refusal}");
    let refused = sql(&test, &bi, "SELECT id FROM n.t").await.expect_err("refused");
    assert!(refused.contains(text), "{refused}");
    let join = sql(&test, &bi, "SELECT u.id FROM n.u JOIN n.t USING (id)").await.expect_err("refused");
    assert!(join.contains(text), "{join}");
    assert_eq!(test.status(&bi, Method::GET, TABLE, None).await, 200, "the metadata is not forbidden");
    sql(&test, &bi, "SELECT id FROM n.u").await.expect("another table");
    test.app.sql("SELECT id FROM n.t").await.expect("another principal");

    let explained =
        test.app.ok(Method::GET, "/api/v1/access/explain?who=client:bi&privileges=READ_DATA&on=table%20default.n.t", None).await;
    assert_eq!((&explained["verdict"], &explained["forbidden_by"]), (&json!("denied"), &json!("no-rows")), "{explained}");
    let own = "/api/v1/access/me?on=table%20default.n.t";
    let (_, rights) = test.send(&bi, Method::GET, own, None).await;
    let rights: Value = serde_json::from_str(&rights).expect("JSON");
    let effective = rights["effective"].as_array().expect("privileges");
    assert!(!effective.contains(&json!("READ_DATA")) && effective.contains(&json!("READ_METADATA")), "{rights}");

    remove(&test, "no-rows").await;
    sql(&test, &bi, "SELECT id FROM n.t").await.expect("rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_are_no_exception() {
    let (test, _) = started(AccessMode::On).await;
    let all = r#"forbid (principal, action == Esker::Action::"READ_DATA", resource in Esker::Namespace::"default.n");"#;
    set(&test, "nobody", all).await;
    let refused = test.app.sql("SELECT id FROM n.t").await.expect_err("refused");
    assert!(refused.contains("the access policy nobody forbids it"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_permits_needs_no_grant() {
    let (test, bi) = started(AccessMode::On).await;
    assert_eq!(test.status(&bi, Method::GET, TABLE, None).await, 404);
    set(&test, "reads", &reads_if("true")).await;
    assert_eq!(test.status(&bi, Method::GET, TABLE, None).await, 200);
    assert_eq!(sql(&test, &bi, "SELECT id FROM n.t").await.expect("rows").len(), 1);
    assert_eq!(listed(&test, &bi, TABLES).await, ["t"]);
    assert_eq!(listed(&test, &bi, "/v1/default/namespaces").await, ["n"], "something in it is seen");
    assert_eq!(test.status(&bi, Method::GET, "/v1/default/namespaces/n", None).await, 200);
    assert_eq!(test.status(&bi, Method::GET, &format!("{TABLES}/u"), None).await, 404);
    let refused = sql(&test, &bi, "INSERT INTO n.t VALUES (2)").await.expect_err("refused");
    assert!(refused.contains("bi lacks"), "{refused}");
    let explained =
        test.app.ok(Method::GET, "/api/v1/access/explain?who=client:bi&privileges=READ_DATA&on=table%20default.n.t", None).await;
    assert_eq!((&explained["verdict"], &explained["rule"]), (&json!("allowed"), &json!("reads")), "{explained}");
    remove(&test, "reads").await;
    assert_eq!(test.status(&bi, Method::GET, TABLE, None).await, 404);
    assert!(listed(&test, &bi, "/v1/default/namespaces").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_listed_for_a_function_in_it_that_a_policy_shows() {
    let (test, bi) = started(AccessMode::On).await;
    for namespace in ["f", "g"] {
        test.create_namespace(namespace).await;
        let path = format!("/api/v1/warehouses/default/namespaces/{namespace}/functions/add");
        test.app.ok(Method::PUT, &path, Some(new_function())).await;
    }
    let text = r#"
        permit (principal == Esker::Client::"bi", action == Esker::Action::"LIST", resource is Esker::Function)
        when { resource.namespace == "g" };
    "#;
    set(&test, "functions", text).await;
    assert_eq!(listed(&test, &bi, "/v1/default/namespaces").await, ["g"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_read_the_address_of_the_request() {
    let (test, bi) = started(AccessMode::On).await;
    let from = |range: &str| reads_if(&format!(r#"context has ip && context.ip.isInRange(ip("{range}"))"#));
    set(&test, "reads", &from("10.0.0.0/8")).await;
    assert_eq!(test.status(&bi, Method::GET, TABLE, None).await, 404);
    assert!(sql(&test, &bi, "SELECT id FROM n.t").await.is_err());
    set(&test, "reads", &from("127.0.0.0/8")).await;
    assert_eq!(test.status(&bi, Method::GET, TABLE, None).await, 200);
    sql(&test, &bi, "SELECT id FROM n.t").await.expect("rows");

    let not_here = NO_ROWS.replace(");", ") when { context has ip && context.ip.isLoopback() };");
    set(&test, "not-here", &not_here).await;
    assert_eq!(test.status(&bi, Method::POST, PLAN, Some(json!({}))).await, 403);
    let elsewhere = NO_ROWS.replace(");", ") unless { context has ip && context.ip.isLoopback() };");
    set(&test, "not-here", &elsewhere).await;
    assert_eq!(test.status(&bi, Method::POST, PLAN, Some(json!({}))).await, 200);
    sql(&test, &bi, "SELECT id FROM n.t").await.expect("rows");
    // Nothing is known of a request of somebody else.
    let about = "/api/v1/access/explain?who=client:bi&privileges=READ_DATA&on=table%20default.n.t";
    assert_eq!(test.app.ok(Method::GET, about, None).await["forbidden_by"], "not-here");
    let (_, own) = test.send(&bi, Method::GET, &about.replace("who=client:bi&", ""), None).await;
    assert_eq!(serde_json::from_str::<Value>(&own).expect("JSON")["rule"], "reads", "{own}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_can_not_be_read_is_not_stored() {
    let (test, bi) = started(AccessMode::On).await;
    for (name, text) in [
        ("open", "permit (principal"),
        ("unknown", r#"permit (principal == Esker::Nobody::"x", action, resource);"#),
        ("privilege", r#"permit (principal, action == Esker::Action::"READ_EVERYTHING", resource);"#),
        ("esker:mine", "permit (principal, action, resource);"),
    ] {
        let (status, _, message) =
            test.app.refused(Method::PUT, &format!("{POLICIES}/{name}"), Some(json!({"text": text}))).await;
        assert_eq!(status, 400, "{name}: {message}");
    }
    assert_eq!(test.app.ok(Method::GET, POLICIES, None).await, json!([]));
    let everything = json!({"text": "permit (principal, action, resource);"});
    assert_eq!(test.status(&bi, Method::PUT, &format!("{POLICIES}/mine"), Some(everything)).await, 403);
    assert_eq!(test.status(&bi, Method::GET, TABLE, None).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_locks_everybody_out_is_refused_in_every_mode() {
    for mode in [AccessMode::Off, AccessMode::Report, AccessMode::On] {
        let (test, _) = started(mode).await;
        let text = "forbid (principal, action, resource) unless { context has ip && context.ip.isLoopback() };";
        let (_, _, message) = test.app.refused(Method::PUT, &format!("{POLICIES}/all"), Some(json!({"text": text}))).await;
        assert!(message.contains("nobody with a token could manage access"), "{mode:?}: {message}");
        set(&test, "some", NO_ROWS).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_about_a_name_and_a_rename_escapes_none() {
    let (test, bi) = started(AccessMode::On).await;
    grant_select(&test).await;
    let more = PrivilegeSet::of(&[Privilege::Rename, Privilege::CreateTable]);
    test.grant("bi", test.namespace("n"), more).await;
    set(&test, "no-rows", NO_ROWS).await;
    let (status, refusal) = test.send(&bi, Method::POST, RENAME, Some(rename("t", "v"))).await;
    assert!(status == 403 && refusal.contains("lacks READ_DATA"), "the rename would give rows: {status} {refusal}");
    assert_eq!(test.status(&bi, Method::POST, RENAME, Some(rename("u", "v"))).await, 204, "nothing is gained");

    test.app.ok(Method::POST, RENAME, Some(rename("t", "w"))).await;
    sql(&test, &bi, "SELECT id FROM n.w").await.expect("no policy is about the new name");
    test.app.ok(Method::POST, RENAME, Some(rename("v", "t"))).await;
    assert!(sql(&test, &bi, "SELECT id FROM n.t").await.is_err(), "and the policy is about what has the name now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_brings_nothing_that_another_request_would_have() {
    let (test, bi) = started(AccessMode::On).await;
    grant_select(&test).await;
    let more = PrivilegeSet::of(&[Privilege::Rename, Privilege::CreateTable]);
    test.grant("bi", test.namespace("n"), more).await;
    set(&test, "no-rows", NO_ROWS).await;
    // This forbids rows under the new name to the rename, and to nothing else.
    let by_rename = r#"forbid (principal == Esker::Client::"bi", action == Esker::Action::"READ_DATA",
        resource == Esker::Table::"default.n.v") when { context.operation == "renameTable" };"#;
    set(&test, "by-rename", by_rename).await;
    let (status, refusal) = test.send(&bi, Method::POST, RENAME, Some(rename("t", "v"))).await;
    assert!(status == 403 && refusal.contains("lacks READ_DATA"), "the rename would give rows: {status} {refusal}");
    assert_eq!(test.status(&bi, Method::POST, RENAME, Some(rename("u", "v"))).await, 204, "rows were there before");
}

/// The request comes from where the policy allows it. From elsewhere, the rename would give what was forbidden.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_leaves_no_condition_behind_that_binds_another_request() {
    let (test, bi) = started(AccessMode::On).await;
    grant_select(&test).await;
    let more = PrivilegeSet::of(&[Privilege::Rename, Privilege::CreateTable]);
    test.grant("bi", test.namespace("n"), more).await;
    let only_here = |resource: &str| {
        let condition = "unless { context has ip && context.ip.isLoopback() }";
        format!(
            r#"forbid (principal == Esker::Client::"bi", action == Esker::Action::"READ_DATA", resource {resource}) {condition};"#
        )
    };
    set(&test, "only-here", &only_here(r#"== Esker::Table::"default.n.t""#)).await;
    assert_eq!(test.status(&bi, Method::POST, PLAN, Some(json!({}))).await, 200, "from here, it may be read");
    let (status, refusal) = test.send(&bi, Method::POST, RENAME, Some(rename("t", "v"))).await;
    assert!(status == 403 && refusal.contains("lacks READ_DATA"), "others could read it: {status} {refusal}");
    assert_eq!(test.status(&bi, Method::POST, RENAME, Some(rename("u", "t"))).await, 409, "the name is taken");

    set(&test, "only-here", &only_here(r#"in Esker::Namespace::"default.n""#)).await;
    assert_eq!(test.status(&bi, Method::POST, RENAME, Some(rename("t", "v"))).await, 204, "the condition goes with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_leave_out_what_a_policy_hides() {
    let (test, bi) = started(AccessMode::On).await;
    test.create_namespace("m").await;
    test.create_table("m", "x").await;
    let see = PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata]);
    test.grant("bi", test.warehouse(), see).await;
    assert_eq!(listed(&test, &bi, TABLES).await, ["t", "u"]);
    assert_eq!(test.status(&bi, Method::GET, EVENTS, None).await, 200);

    let hidden = r#"
        forbid (principal == Esker::Client::"bi", action, resource == Esker::Table::"default.n.t");
        @id("namespace")
        forbid (principal == Esker::Client::"bi", action == Esker::Action::"LIST", resource in Esker::Namespace::"default.m");
    "#;
    set(&test, "hidden", hidden).await;
    assert_eq!(listed(&test, &bi, TABLES).await, ["u"]);
    assert!(!listed(&test, &bi, "/v1/default/namespaces").await.contains(&"m".to_owned()));
    assert_eq!(test.status(&bi, Method::GET, "/v1/default/namespaces/m/tables", None).await, 404);
    assert_eq!(test.status(&bi, Method::HEAD, TABLE, None).await, 404);
    let tables = sql(&test, &bi, "SELECT \"table\" FROM system.tables WHERE \"table\" IN ('t', 'u', 'x')").await;
    assert_eq!(tables.expect("tables"), ["u"]);
    let names = sql(&test, &bi, "SELECT table_name FROM information_schema.tables WHERE table_schema IN ('n', 'm')").await;
    assert_eq!(names.expect("names"), ["u"]);
    let (status, events) = test.send(&bi, Method::GET, EVENTS, None).await;
    assert_eq!(status, 403, "they are of every table: {events}");
    test.grant("bi", Securable::Server, Privilege::Monitor.into()).await;
    assert_eq!(test.status(&bi, Method::GET, EVENTS, None).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_listed_for_what_policies_leave_to_see_in_it() {
    let (test, bi) = started(AccessMode::On).await;
    for namespace in ["m", "o", "p"] {
        test.create_namespace(namespace).await;
        test.create_table(namespace, "x").await;
    }
    for own in ["n.t", "m.x"] {
        test.grant("bi", test.table(own).await, Privilege::List.into()).await;
    }
    test.grant("bi", test.namespace("o"), Privilege::List.into()).await;
    let namespaces = async || listed(&test, &bi, "/v1/default/namespaces").await;
    assert_eq!(namespaces().await, ["m", "n", "o"]);
    let hidden = r#"
        forbid (principal == Esker::Client::"bi", action == Esker::Action::"LIST", resource == Esker::Table::"default.m.x");
        forbid (principal == Esker::Client::"bi", action == Esker::Action::"LIST", resource == Esker::Namespace::"default.o");
    "#;
    set(&test, "hidden", hidden).await;
    assert_eq!(namespaces().await, ["n", "o"], "the table in o is seen by the grant on o");
    let permit = r#"permit (principal == Esker::Client::"bi", action == Esker::Action::"LIST", resource)
        when { resource has name && resource.name == "x" };"#;
    set(&test, "shown", permit).await;
    assert_eq!(namespaces().await, ["n", "o", "p"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_forbidden_to_read_gets_no_way_to_the_files() {
    let lake = Lake::start(VendingMode::Both, true).await;
    let token = lake.client("bi", AccessTest::bundle(Bundle::Own, SecurableKind::Table)).await;
    let credentials = format!("{TABLE}/credentials");
    assert_eq!(lake.ask(&token, Method::GET, &credentials, None).await.0, 200);
    assert_eq!(lake.sign(&token, "GET", "x").await.0, 200);
    set(&lake.test, "no-rows", NO_ROWS).await;
    let vended = lake.service.asked().len();
    let (status, loaded) = lake.ask(&token, Method::GET, TABLE, None).await;
    assert_eq!((status, loaded.get("storage-credentials")), (200, None), "{loaded}");
    for path in [credentials.clone(), format!("{credentials}?planId=p")] {
        let (status, refusal) = lake.ask(&token, Method::GET, &path, None).await;
        assert_eq!(status, 403, "writers would read: {refusal}");
    }
    for method in ["GET", "PUT"] {
        let (status, refusal) = lake.sign(&token, method, "x").await;
        assert_eq!(status, 403, "{method}: {refusal}");
    }
    assert_eq!(lake.service.asked().len(), vended, "nothing was vended");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_forbidden_to_read_a_new_table_creates_it_without_credentials() {
    let lake = Lake::start(VendingMode::Sts, true).await;
    let token = lake.client("bi", Privilege::List.into()).await;
    lake.test.grant("bi", lake.test.namespace("n"), Privilege::CreateTable.into()).await;
    let create = async |name: &str, is_staged: bool| {
        let mut body = AccessTest::new_table(name);
        body["stage-create"] = json!(is_staged);
        let (status, made) = lake.ask(&token, Method::POST, TABLES, Some(body)).await;
        assert_eq!(status, 200, "{name}: {made}");
        made.get("storage-credentials").is_some()
    };
    assert!(create("a", false).await && create("b", true).await);
    let text = NO_ROWS
        .replace("resource == Esker::Table::\"default.n.t\"", "resource is Esker::Table in Esker::Namespace::\"default.n\"");
    set(&lake.test, "no-rows", &text).await;
    assert!(!create("c", false).await && !create("d", true).await);

    // In an archive, who creates a table gets nothing to write more files with.
    let reads = json!(["s3:GetObject"]);
    assert_ne!(lake.actions("bi"), Some(reads.clone()), "the tables before the policy were written");
    let changes = r#"action in [Esker::Action::"APPEND", Esker::Action::"MODIFY", Esker::Action::"REWRITE"]"#;
    set(&lake.test, "no-rows", &text.replace(r#"action == Esker::Action::"READ_DATA""#, changes)).await;
    for (name, is_staged) in [("e", false), ("f", true)] {
        let asked = lake.service.asked().len();
        assert!(create(name, is_staged).await && lake.service.asked().len() > asked, "{name}");
        assert_eq!(lake.actions("bi"), Some(reads.clone()), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_creation_that_is_repeated_gets_no_credentials_that_a_policy_may_forbid() {
    let lake = Lake::start(VendingMode::Sts, true).await;
    let token = lake.client("bi", Privilege::List.into()).await;
    lake.test.grant("bi", lake.test.namespace("n"), Privilege::CreateTable.into()).await;
    let mut body = AccessTest::new_table("staged");
    body["stage-create"] = json!(true);
    let key = ("idempotency-key", "01890a5d-ac96-774b-bcce-b302099a8060");
    let headers = [("x-iceberg-access-delegation", "vended-credentials"), key];
    let create = async || {
        let (status, made) = send_as(&lake.test.app, &token, Method::POST, TABLES, &headers, Some(body.clone())).await;
        assert_eq!(status, 200, "{made}");
        made.get("storage-credentials").is_some()
    };
    assert!(create().await && create().await);
    let text = NO_ROWS.replace("default.n.t", "default.n.staged");
    set(&lake.test, "no-rows", &text).await;
    assert!(!create().await, "the answer has no name, so the policy may be about it");
    set(&lake.test, "no-rows", &text.replace("default.n.staged", "default.m.staged")).await;
    assert!(create().await, "it is about something in another namespace");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_begins_only_if_no_policy_may_forbid_it_then() {
    let (test, bi) = started(AccessMode::On).await;
    let maintain = PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata, Privilege::Maintain]);
    test.grant("bi", test.table("n.t").await, maintain).await;
    let ask = async || {
        let (status, answer) = test.send(&bi, Method::POST, EXPIRE, Some(json!({}))).await;
        (status, serde_json::from_str::<Value>(&answer).expect("JSON"))
    };
    let ended = async |answer: &Value| test.app.wait_for_job(answer["job-id"].as_str().expect("an id")).await;
    let (status, answer) = ask().await;
    assert_eq!((status, &ended(&answer).await["state"]), (202, &json!("succeeded")));

    // The request came without TLS. Nothing is known of a request when the job begins.
    let no_jobs = r#"forbid (principal == Esker::Client::"bi", action == Esker::Action::"MAINTAIN", resource)"#;
    set(&test, "no-jobs", &format!("{no_jobs} when {{ context.tls }};")).await;
    let (status, answer) = ask().await;
    let job = ended(&answer).await;
    let error = job["error"].as_str().unwrap_or_default();
    assert!(status == 202 && job["state"] == "failed" && error.contains("has MAINTAIN on the table no more"), "{job}");

    set(&test, "no-jobs", &format!("{no_jobs};")).await;
    let (status, answer) = ask().await;
    assert_eq!(status, 403, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_table_that_is_gone_is_cancelled_only_if_no_policy_may_make_an_exception() {
    let (test, bi) = started(AccessMode::On).await;
    let maintain = PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata, Privilege::Maintain]);
    test.grant("bi", test.warehouse(), maintain).await;
    let (catalog, id) = (test.app.catalog(), JobId::fresh());
    let job = NewJob {
        id,
        table: TableId::fresh(),
        table_name: "n.gone".to_owned(),
        kind: "expire",
        principal: "admin".to_owned(),
        asker: None,
        reason: "asked for earlier".to_owned(),
        key: None,
        request: json!({"expire": {}}),
        priority: 100,
        due_ms: now_ms() + 3_600_000,
        predicted: None,
    };
    catalog.state().jobs().enqueue(catalog.warehouse(), &job).await.expect("enqueued");
    let cancel = format!("/api/v1/jobs/{id}/cancel");
    let not_this_one = NO_ROWS.replace("READ_DATA", "MAINTAIN").replace("default.n.t", "default.n.gone");
    set(&test, "not-this-one", &not_this_one).await;
    assert_eq!(test.status(&bi, Method::GET, &format!("/api/v1/jobs/{id}"), None).await, 200, "reading is not forbidden");
    let (status, refusal) = test.send(&bi, Method::POST, &cancel, None).await;
    assert!(status == 403 && refusal.contains("bi lacks MAINTAIN on warehouse default"), "{status} {refusal}");
    remove(&test, "not-this-one").await;
    assert_eq!(test.status(&bi, Method::POST, &cancel, None).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_mode_report_what_a_policy_forbids_is_reported() {
    let (test, bi) = started(AccessMode::Report).await;
    grant_select(&test).await;
    set(&test, "no-rows", NO_ROWS).await;
    let reported = || test.app.server.access().decision_counts().reported;
    let before = reported();
    assert_eq!(test.status(&bi, Method::GET, TABLE, None).await, 200);
    assert_eq!(reported(), before, "the metadata is not forbidden");
    assert_eq!(test.status(&bi, Method::POST, PLAN, Some(json!({}))).await, 200);
    assert!(reported() > before, "a line in the log");
    sql(&test, &bi, "SELECT id FROM n.t").await.expect("rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_statement_is_planned_again_where_a_policy_tells_two_calls_apart() {
    let (test, bi) = started(AccessMode::On).await;
    grant_select(&test).await;
    let mut client = test.app.flight_as(&bi).await;
    let info = client.execute("SELECT id FROM n.t".to_owned(), None).await.expect("planned");
    // The plan was made by another call, which this policy does not forbid.
    let when_run = NO_ROWS.replace(");", ") when { context.operation like \"*DoGet*\" };");
    set(&test, "when-run", &when_run).await;
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    let refused = match client.do_get(ticket).await {
        Ok(_) => panic!("the call was not refused"),
        Err(error) => error.to_string(),
    };
    assert!(refused.contains("the access policy when-run forbids it"), "{refused}");
    let info = client.execute("SELECT id FROM n.t".to_owned(), None).await.expect("planned under the policy");
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    assert!(client.do_get(ticket).await.is_err(), "the plan is not good for the call that runs it");
}
