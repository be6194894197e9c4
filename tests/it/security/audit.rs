//! The audit trail: who is recorded with what, who reads it, and that no record is lost, doubled or changed.

use std::collections::BTreeSet;
use std::time::Duration;

use esker_access::{AccessMode, Bundle, Privilege, PrivilegeSet, Securable, SecurableKind};
use esker_state::{AuditDecision, AuditPhase, AuditRecord};
use esker_tests::{AccessTest, TestApp};
use reqwest::Method;
use serde_json::{Value, json};

use super::sql::run;
use super::tokens::exchange;

const TABLE: &str = "/v1/default/namespaces/n/tables/t";
const TRAIL: &str = "/v1/default/namespaces/system/tables/audit";
const MANAGED_TRAIL: &str = "/api/v1/warehouses/default/namespaces/system/tables/audit";

/// The `user-agent` of the requests whose engine is looked at.
const ENGINE: &str = "Apache-Spark/4.0 iceberg/1.10";

/// Returns the records that are in the state database, the queued ones too.
async fn records(app: &TestApp) -> Vec<AuditRecord> {
    assert!(app.server.access().audit().flush().await, "written");
    app.catalog().state().audit().after(0, 100_000).await.expect("read").into_iter().map(|(_, record)| record).collect()
}

/// Sends a request, and returns its status with the records that the trail has of it.
async fn recorded(app: &TestApp, token: &str, method: Method, path: &str, body: Option<Value>) -> (u16, Vec<AuditRecord>) {
    let (status, headers, _) = app.send_as(token, method, path, &[("user-agent", ENGINE)], body).await;
    let id = headers["x-request-id"].to_str().expect("a text").to_owned();
    let found = records(app).await.into_iter().filter(|record| record.request_id == id).collect();
    (status.as_u16(), found)
}

/// Runs a statement with a token. Returns the values of all rows, with bars between.
async fn sql_as(app: &TestApp, token: &str, sql: &str) -> Result<Vec<String>, String> {
    run(&mut app.flight_as(token).await, sql).await
}

/// Waits until a statement of the administrator has rows, and returns them.
async fn rows_of(app: &TestApp, sql: &str) -> Vec<String> {
    for _ in 0..1200 {
        match sql_as(app, esker_tests::TOKEN, sql).await {
            Ok(rows) if !rows.is_empty() => return rows,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("no rows: {sql}");
}

/// Starts a server with the mode on, whose trail moves to the Iceberg table.
async fn with_table() -> AccessTest {
    let test = AccessTest { app: TestApp::start_with(|config| config.audit.table_seconds = 1).await };
    test.app.server.access().bootstrap("admin", Some(AccessMode::On)).await.expect("an administrator");
    test
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_and_a_refusal_are_recorded_with_principal_object_rule_engine_and_request() {
    let test = AccessTest::start(AccessMode::On).await;
    test.create_namespace("n").await;
    test.create_table("n", "t").await;
    let bi = test.client("bi").await;
    let select = AccessTest::bundle(Bundle::Select, SecurableKind::Namespace);
    test.grant("bi", test.namespace("n"), select).await;
    let id = test.table_id("n.t").await.to_string();

    let (status, found) = recorded(&test.app, &bi, Method::DELETE, TABLE, None).await;
    let [refusal] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((status, refusal.decision, refusal.status), (403, AuditDecision::Refused, Some(403)));
    assert_eq!((refusal.principal.as_str(), refusal.operation.as_str()), ("bi", "dropTable"));
    assert_eq!((refusal.privileges.as_deref(), refusal.rule.as_deref()), (Some("DROP"), None));
    let (status, found) = recorded(&test.app, &bi, Method::GET, TABLE, None).await;
    assert_eq!((status, found.len()), (200, 0), "a read is not recorded at this level");

    let (status, found) = recorded(&test.app, esker_tests::TOKEN, Method::DELETE, TABLE, None).await;
    let [change] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((status, change.decision, change.status), (204, AuditDecision::Allowed, Some(204)));
    assert_eq!((change.principal.as_str(), change.principal_kind.as_str()), ("admin", "client"));
    assert!(change.rule.is_some() && change.is_change && change.phase == AuditPhase::Outcome, "{change:?}");
    for record in [refusal, change] {
        assert_eq!((record.object_kind.as_deref(), record.object.as_deref()), (Some("table"), Some("n.t")));
        assert_eq!((record.object_id.as_deref(), record.warehouse.as_deref()), (Some(id.as_str()), Some("default")));
        assert_eq!((record.engine.as_deref(), record.protocol.as_str()), (Some(ENGINE), "rest"));
        assert_eq!(record.source_ip.as_deref(), Some("127.0.0.1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_object_of_a_creation_is_what_was_created_and_that_of_a_job_is_its_table() {
    let test = AccessTest::start(AccessMode::Off).await;
    test.create_namespace("n").await;
    let body = Some(AccessTest::new_table("t"));
    let (_, found) = recorded(&test.app, esker_tests::TOKEN, Method::POST, "/v1/default/namespaces/n/tables", body).await;
    let id = test.table_id("n.t").await.to_string();
    assert_eq!((found[0].object.as_deref(), found[0].object_id.as_ref()), (Some("n.t"), Some(&id)), "{found:?}");
    let path = "/api/v1/warehouses/default/namespaces/n/tables/t/expire";
    let (_, found) = recorded(&test.app, esker_tests::TOKEN, Method::POST, path, Some(json!({}))).await;
    assert_eq!((found[0].operation.as_str(), found[0].object_id.as_ref()), ("startJob expire", Some(&id)), "{found:?}");
    assert_eq!(found[0].principal, "admin", "who asked for the job");
    let name = |table: &str| json!({"namespace": ["n"], "name": table});
    let body = Some(json!({"source": name("t"), "destination": name("u")}));
    let (_, found) = recorded(&test.app, esker_tests::TOKEN, Method::POST, "/v1/default/tables/rename", body).await;
    assert_eq!((found[0].object.as_deref(), found[0].object_id.as_ref()), (Some("n.t"), Some(&id)), "{found:?}");
    let (_, found) =
        recorded(&test.app, esker_tests::TOKEN, Method::POST, "/api/v1/tokens", Some(json!({"principal": "etl"}))).await;
    assert_eq!((found[0].object_kind.as_deref(), found[0].object.as_deref()), (Some("client"), Some("etl")), "{found:?}");
    test.app.sql("CREATE ROLE auditors").await.expect("created");
    test.app.sql("GRANT LIST ON TABLE n.u TO ROLE auditors").await.expect("granted");
    let found = records(&test.app).await;
    let of_sql = found.iter().filter(|record| record.protocol == "flight-sql" && record.is_change);
    let told: Vec<_> = of_sql.map(|r| (r.operation.as_str(), r.object_kind.as_deref(), r.object.as_deref())).collect();
    assert_eq!(told, [("create-role", Some("role"), Some("auditors")), ("grant", Some("table"), Some("n.u"))], "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_recorded_as_one_whoever_found_it() {
    let test = AccessTest::start(AccessMode::On).await;
    for namespace in ["n", "m"] {
        test.create_namespace(namespace).await;
        test.create_table(namespace, "t").await;
    }
    let bi = test.client("bi").await;
    test.grant("bi", test.namespace("n"), AccessTest::bundle(Bundle::Select, SecurableKind::Namespace)).await;
    let name = |namespace: &str, table: &str| json!({"namespace": [namespace], "name": table});
    let change = json!({"identifier": name("m", "t"), "requirements": [], "updates": []});
    let hidden = Some(json!({"table-changes": [change]}));
    let rename = Some(json!({"source": name("n", "t"), "destination": name("system", "audit")}));
    let register = Some(json!({"name": "audit", "metadata-location": "file:///nowhere.json"}));
    let trail = "system.audit";
    let requests = [
        (bi.as_str(), "/v1/default/transactions/commit", hidden, 404, "m.t", "one of "),
        (esker_tests::TOKEN, "/v1/default/tables/rename", rename, 403, trail, "CREATE_TABLE"),
        (esker_tests::TOKEN, "/v1/default/namespaces/system/register", register, 403, trail, "CREATE_TABLE"),
        (
            esker_tests::TOKEN,
            "/v1/default/namespaces/system/tables",
            Some(AccessTest::new_table("audit")),
            403,
            trail,
            "CREATE_TABLE",
        ),
    ];
    for (token, path, body, expected, object, missing) in requests {
        let before = test.app.server.access().decision_counts().refused;
        let (status, found) = recorded(&test.app, token, Method::POST, path, body).await;
        let [refusal] = found.as_slice() else { panic!("{path}: {found:?}") };
        assert_eq!((status, refusal.decision, refusal.rule.as_deref()), (expected, AuditDecision::Refused, None), "{refusal:?}");
        assert_eq!((refusal.object.as_deref(), refusal.warehouse.as_deref()), (Some(object), Some("default")), "{refusal:?}");
        assert!(refusal.privileges.as_deref().is_some_and(|named| named.starts_with(missing)), "{refusal:?}");
        assert_eq!(test.app.server.access().decision_counts().refused, before + 1, "{path}: counted and logged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_names_already_what_the_body_names() {
    let test = AccessTest { app: TestApp::start_with(|config| config.audit.required = true).await };
    test.app.server.access().bootstrap("admin", None).await.expect("an administrator");
    let (to, on) = (json!({"kind": "role", "name": "readers"}), "namespace default.a");
    let requests = [
        (Method::POST, "/v1/default/namespaces", json!({"namespace": ["a"]}), "namespace a"),
        (Method::POST, "/v1/default/namespaces", json!({"namespace": ["a", "b"]}), "namespace a.b"),
        (Method::POST, "/v1/default/namespaces/a/tables", AccessTest::new_table("t"), "table a.t"),
        (Method::POST, "/api/v1/access/roles", json!({"name": "readers"}), "role readers"),
        (Method::POST, "/api/v1/tokens", json!({"principal": "etl"}), "client etl"),
        (
            Method::POST,
            "/api/v1/access/grants",
            json!({"privileges": "SELECT", "on": on, "to": to}),
            "grant SELECT on namespace default.a to role:readers",
        ),
        (Method::PUT, "/api/v1/access/mode", json!({"mode": "off"}), "mode off"),
    ];
    for (method, path, body, expected) in requests {
        let (status, found) = recorded(&test.app, esker_tests::TOKEN, method, path, Some(body)).await;
        assert!((200..300).contains(&status), "{path}: {status}");
        let attempt = found.iter().find(|record| record.phase == AuditPhase::Attempt).expect("an attempt");
        let (kind, name) = (attempt.object_kind.as_deref().unwrap_or_default(), attempt.object.as_deref().unwrap_or_default());
        assert_eq!(format!("{kind} {name}"), expected);
        let outcome = found.iter().find(|record| record.phase == AuditPhase::Outcome).expect("an outcome");
        assert!(outcome.object.is_some(), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_place_of_its_id_is_refused_and_recorded_nowhere() {
    let app = TestApp::start().await;
    let made = app.ok(Method::POST, "/api/v1/tokens", Some(json!({"principal": "etl"}))).await;
    let token = made["token"].as_str().expect("a token").to_owned();
    let path = format!("/api/v1/tokens/{token}");
    let (status, found) = recorded(&app, esker_tests::TOKEN, Method::DELETE, &path, None).await;
    let [record] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((status, record.object.as_deref()), (400, Some("esk_…")));
    for record in records(&app).await {
        assert!(!serde_json::to_string(&record).expect("JSON").contains(&token), "{record:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn esker_maintains_the_trail_itself_and_policies_of_its_namespace_do_not_count() {
    let test = with_table().await;
    rows_of(&test.app, "SELECT id FROM system.audit").await;
    let freeze = json!({"removals": [], "updates": {"esker.freeze": "true"}});
    test.app.ok(Method::POST, "/v1/default/namespaces/system/properties", Some(freeze)).await;
    let of_trail = "FROM system.jobs WHERE principal = 'esker:audit' AND \"table\" = 'system.audit'";
    let ended = format!("SELECT count(*) AS n {of_trail} AND state = 'succeeded' HAVING count(*) = 3");
    rows_of(&test.app, &ended).await;
    let kinds = sql_as(&test.app, esker_tests::TOKEN, &format!("SELECT kind {of_trail} ORDER BY kind")).await.expect("read");
    assert_eq!(kinds, ["compact", "expire", "manifests"]);
    let policy = test.app.ok(Method::GET, &format!("{MANAGED_TRAIL}/policy"), None).await;
    assert!(!policy.to_string().contains("namespace system"), "{policy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_ins_are_recorded_and_refused_ones_too() {
    let app = TestApp::start().await;
    assert_eq!(exchange(&app, esker_tests::TOKEN, None).await.0, 200);
    assert_eq!(exchange(&app, "wrong", None).await.0, 401);
    let found = records(&app).await;
    let entries = found.iter().filter(|record| record.operation == "getToken");
    let told: Vec<_> = entries.map(|r| (r.principal_kind.as_str(), r.principal.as_str(), r.decision, r.status)).collect();
    let refused = ("unknown", "", AuditDecision::Refused, Some(401));
    assert_eq!(told, [("client", "admin", AuditDecision::None, Some(200)), refused], "{found:#?}");
    assert!(found.iter().all(|record| !record.request_id.is_empty()), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_recorded_by_what_they_change_and_by_what_they_were_refused() {
    let test = AccessTest::start(AccessMode::On).await;
    test.create_namespace("n").await;
    test.app.sql("CREATE TABLE n.t AS SELECT 1 AS id").await.expect("created");
    test.app.sql("INSERT INTO n.t VALUES (2)").await.expect("inserted");
    test.app.sql("SELECT * FROM n.t").await.expect("read");
    let bi = test.client("bi").await;
    test.grant("bi", test.table("n.t").await, Privilege::List.into()).await;
    sql_as(&test.app, &bi, "SELECT * FROM n.t").await.expect_err("refused");
    sql_as(&test.app, &bi, "INSERT INTO n.t VALUES (3)").await.expect_err("refused");
    let found = records(&test.app).await;
    let of_sql = found.iter().filter(|record| record.protocol == "flight-sql");
    let told = of_sql.map(|r| (r.principal.as_str(), r.operation.as_str(), r.decision, r.object.as_deref()));
    // A refused query is recorded after its answer, so its record may come after the next one.
    let mut told: Vec<_> = told.collect();
    told.sort_by_key(|(principal, operation, ..)| (*principal, *operation));
    let expected = [
        ("admin", "create-table-as", AuditDecision::Allowed, Some("n.t")),
        ("admin", "insert", AuditDecision::Allowed, Some("n.t")),
        ("bi", "insert", AuditDecision::Refused, Some("n.t")),
        ("bi", "query", AuditDecision::Refused, Some("n.t")),
    ];
    assert_eq!(told, expected, "{found:#?}");
    let mut of_sql = found.iter().filter(|record| record.protocol == "flight-sql");
    assert!(of_sql.all(|record| record.is_change == (record.operation != "query")), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_table_data_are_recorded_at_the_level_all() {
    let app = TestApp::start_with(|config| config.audit.record = esker_auth::AuditLevel::All).await;
    app.namespace().await;
    app.sql("CREATE TABLE n.t AS SELECT 1 AS id").await.expect("created");
    app.sql("SELECT * FROM n.t").await.expect("read");
    let (status, found) = recorded(&app, esker_tests::TOKEN, Method::POST, &format!("{TABLE}/plan"), Some(json!({}))).await;
    assert_eq!((status, found.len(), found[0].operation.as_str()), (200, 1, "planTableScan"));
    let found = records(&app).await;
    let query = found.iter().find(|record| record.operation == "query").expect("the query is recorded");
    assert_eq!((query.object.as_deref(), query.is_change), (Some("n.t"), false), "also if its plan was kept from another call");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_break_glass_lists_is_recorded() {
    let test = AccessTest::start(AccessMode::On).await;
    let made = test.app.server.access().break_glass(Duration::from_secs(300)).await.expect("made");
    let token = made.token.reveal();
    let found = records(&test.app).await;
    let command = found.iter().find(|record| record.operation == "break-glass").expect("the command is recorded");
    assert_eq!((command.principal.as_str(), command.protocol.as_str()), ("esker:machine", "command"));
    assert!(command.object.as_deref().is_some_and(|client| client.starts_with("break-glass-")), "{command:?}");
    test.app.server.access().refresh();
    for (path, operation) in [("/api/v1/tables", "listTables"), ("/api/v1/warehouses", "listWarehouses"), ("/", "pageTables")] {
        let (status, found) = recorded(&test.app, &token, Method::GET, path, None).await;
        let [record] = found.as_slice() else { panic!("{path}: {found:?}") };
        assert_eq!((status, record.operation.as_str()), (200, operation));
        assert_eq!((record.rule.as_deref(), record.decision), (Some("esker:break-glass"), AuditDecision::Allowed), "{path}");
        assert!(record.principal.starts_with("break-glass-"), "{record:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_has_a_secret_or_a_value() {
    let app = TestApp::start_with(|config| {
        config.audit.record = esker_auth::AuditLevel::All;
        config.audit.required = true;
    })
    .await;
    app.table().await;
    let made = app.ok(Method::POST, "/api/v1/tokens", Some(json!({"principal": "etl", "label": "value-of-a-label"}))).await;
    let token = made["token"].as_str().expect("a token").to_owned();
    let update = json!({"action": "set-properties", "updates": {"note": "value-of-a-property"}});
    app.ok(Method::POST, TABLE, Some(json!({"requirements": [], "updates": [update]}))).await;
    app.sql("SELECT 'value-of-a-literal' AS v").await.expect("read");
    app.ok(Method::DELETE, &format!("/api/v1/tokens/{}", made["id"].as_str().expect("an id")), None).await;
    let found = records(&app).await;
    assert!(found.iter().any(|record| record.operation == "revokeToken") && found.len() > 6, "{found:#?}");
    for record in &found {
        let text = serde_json::to_string(record).expect("JSON");
        for secret in [token.as_str(), esker_tests::TOKEN, "value-of"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_record_is_there_before_the_change_and_without_it_nothing_is_changed() {
    for _ in 0..5 {
        let app = TestApp::start_with(|config| config.audit.required = true).await;
        app.table().await;
        let path = format!("{MANAGED}/protection");
        let (status, found) = recorded(&app, esker_tests::TOKEN, Method::PUT, &path, protect()).await;
        let phases: Vec<AuditPhase> = found.iter().map(|record| record.phase).collect();
        assert_eq!((status, phases), (204, vec![AuditPhase::Attempt, AuditPhase::Outcome]), "{found:?}");
        // The database is gone. For a second or two the server still knows the caller and the rules.
        app.catalog().state().close().await;
        let (status, _, text) = app.send_raw(Method::POST, "/api/v1/access/roles", &[], Some(json!({"name": "late"}))).await;
        let nothing = json!({"requirements": [], "updates": []});
        let (commit, _, of_commit) = app.send_raw(Method::POST, TABLE, &[], Some(nothing)).await;
        let app = TestApp::restart(app.stop().await).await;
        let roles = app.ok(Method::GET, "/api/v1/access/roles", None).await;
        assert!(!roles.to_string().contains("late"), "{roles}");
        if text.contains("audit.required") && of_commit.contains("audit.required") {
            // A client of the catalog takes 503 for an unknown outcome; nothing was changed for certain.
            assert_eq!((status.as_u16(), commit.as_u16()), (503, 429), "{text} {of_commit}");
            return;
        }
    }
    panic!("the server forgot the caller before the request, five times");
}

/// The management path of the table `n.t`.
const MANAGED: &str = "/api/v1/warehouses/default/namespaces/n/tables/t";

fn protect() -> Option<Value> {
    Some(json!({"protected": false}))
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_the_trail_without_its_privilege_whatever_else_they_may() {
    let test = with_table().await;
    test.create_namespace("n").await;
    rows_of(&test.app, "SELECT id FROM system.audit").await;
    let bi = test.client("bi").await;
    let others = PrivilegeSet::ALL.without(PrivilegeSet::of(&[Privilege::ReadAudit, Privilege::ManageAccess]));
    test.grant("bi", Securable::Server, others).await;
    test.grant("bi", test.table("system.audit").await, SecurableKind::Table.privileges()).await;
    let name = |table: &str| json!({"namespace": ["system"], "name": table});
    let update = json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {"a": "b"}}]});
    let mut change = update.clone();
    change["identifier"] = name("audit");
    let requests = [
        (Method::GET, TRAIL.to_owned(), None),
        (Method::HEAD, TRAIL.to_owned(), None),
        (Method::GET, format!("{TRAIL}/credentials"), None),
        (Method::POST, format!("{TRAIL}/plan"), Some(json!({}))),
        (Method::POST, format!("{TRAIL}/tasks"), Some(json!({"plan-task": "x"}))),
        (Method::GET, format!("{MANAGED_TRAIL}/health"), None),
        (Method::GET, format!("{MANAGED_TRAIL}/history"), None),
        (Method::GET, format!("{MANAGED_TRAIL}/refs"), None),
        (Method::GET, format!("{MANAGED_TRAIL}/reports"), None),
        (Method::GET, format!("{MANAGED_TRAIL}/policy"), None),
        (Method::GET, format!("{MANAGED_TRAIL}/quarantine"), None),
        (Method::GET, "/warehouses/default/namespaces/system/tables/audit".to_owned(), None),
        (Method::POST, TRAIL.to_owned(), Some(update)),
        (Method::POST, "/v1/default/transactions/commit".to_owned(), Some(json!({"table-changes": [change]}))),
        (Method::POST, "/v1/default/tables/rename".to_owned(), Some(json!({"source": name("audit"), "destination": name("b")}))),
        (Method::POST, format!("{MANAGED_TRAIL}/expire"), Some(json!({}))),
        (Method::DELETE, TRAIL.to_owned(), None),
    ];
    for (method, path, body) in requests {
        let (status, text) = test.send(&bi, method.clone(), &path, body).await;
        assert_eq!(status, 404, "{method} {path}: {text}");
    }
    for path in ["/v1/default/namespaces/system/tables", "/api/v1/tables", "/"] {
        let (status, text) = test.send(&bi, Method::GET, path, None).await;
        assert!(status == 200 && !text.contains("audit\""), "{path}: {text}");
    }
    for table in ["audit", "\"audit$files\"", "\"audit$snapshots\""] {
        let sql = format!("SELECT * FROM system.{table}");
        let refused = sql_as(&test.app, &bi, &sql).await.expect_err(&sql);
        assert!(!refused.contains("dropTable"), "{sql}: {refused}");
    }
    let listed = "SELECT \"table\" FROM system.tables WHERE \"table\" = 'audit' UNION ALL
        SELECT \"table\" FROM system.health WHERE \"table\" = 'audit' UNION ALL
        SELECT table_name FROM information_schema.tables WHERE table_name = 'audit'";
    assert_eq!(sql_as(&test.app, &bi, listed).await.expect("lists"), Vec::<String>::new());

    let location = test.app.ok(Method::GET, TRAIL, None).await["metadata-location"].as_str().expect("a path").to_owned();
    let explain = format!("/api/v1/warehouses/default/explain?path={location}");
    assert_eq!(test.app.ok(Method::GET, &explain, None).await["table"], "system.audit");
    let (status, explained) = test.send(&bi, Method::GET, &explain, None).await;
    let explained: Value = serde_json::from_str(&explained).expect("JSON");
    assert_eq!((status, &explained["table"], &explained["bytes"]), (200, &Value::Null, &Value::Null), "{explained}");
    for path in ["/api/v1/events?limit=1000", "/api/v1/events?limit=1000&warehouse=default"] {
        let of_trail = |text: &str| text.contains("\"system.audit\"");
        let (status, events) = test.send(&bi, Method::GET, path, None).await;
        assert!(status == 200 && !of_trail(&events), "{path}: {events}");
        assert!(of_trail(&test.send(esker_tests::TOKEN, Method::GET, path, None).await.1), "{path}");
    }

    assert_eq!(test.status(&bi, Method::GET, "/api/v1/audit", None).await, 403);
    let auditor = test.client("auditor").await;
    test.grant("auditor", Securable::Server, Privilege::ReadAudit.into()).await;
    assert!(!sql_as(&test.app, &auditor, "SELECT id FROM system.audit").await.expect("read").is_empty());
    assert_eq!(test.status(&auditor, Method::GET, TRAIL, None).await, 200);
    assert_eq!(test.status(&auditor, Method::DELETE, TRAIL, None).await, 403);
    let path = "/v1/default/namespaces/n/tables/t";
    assert_eq!(test.status(&bi, Method::DELETE, path, None).await, 404, "a change of nothing is a record too");
    assert!(test.app.server.access().audit().flush().await);
    let (status, page) = test.send(&auditor, Method::GET, "/api/v1/audit?limit=1", None).await;
    let page: Value = serde_json::from_str(&page).expect("JSON");
    assert!(status == 200 && page["records"].as_array().is_some_and(|records| records.len() < 2), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_the_trail_in_any_mode_not_even_an_administrator() {
    let test = with_table().await;
    test.create_namespace("n").await;
    let before = rows_of(&test.app, "SELECT id FROM system.audit").await;
    let admin = esker_tests::TOKEN;
    let rename = |from: &str, to: &str| {
        let name = |table: &str| json!({"namespace": ["system"], "name": table});
        Some(json!({"source": name(from), "destination": name(to)}))
    };
    let update = |updates: Value| Some(json!({"requirements": [], "updates": updates}));
    for mode in ["on", "report", "off"] {
        test.app.ok(Method::PUT, "/api/v1/access/mode", Some(json!({"mode": mode}))).await;
        let requests = [
            (Method::DELETE, TRAIL.to_owned(), None),
            (Method::DELETE, format!("{TRAIL}?purgeRequested=true"), None),
            (Method::POST, TRAIL.to_owned(), update(json!([{"action": "remove-snapshot-ref", "ref-name": "main"}]))),
            (Method::POST, TRAIL.to_owned(), update(json!([{"action": "set-properties", "updates": {"a": "b"}}]))),
            (Method::POST, format!("{TRAIL}/unregister"), None),
            (Method::POST, "/v1/default/tables/rename".to_owned(), rename("audit", "b")),
            (Method::POST, "/v1/default/tables/rename".to_owned(), rename("other", "AUDIT")),
            (Method::POST, "/v1/default/namespaces/system/tables".to_owned(), Some(AccessTest::new_table("Audit"))),
            (Method::POST, format!("{MANAGED_TRAIL}/expire"), Some(json!({}))),
            (Method::PUT, format!("{MANAGED_TRAIL}/protection"), protect()),
        ];
        for (method, path, body) in requests {
            let (status, text) = test.send(admin, method.clone(), &path, body).await;
            assert!(status == 403 && text.contains("audit trail"), "{mode}: {method} {path}: {status} {text}");
        }
        let insert = "INSERT INTO system.audit (id) VALUES ('x')";
        for sql in ["DELETE FROM system.audit", "UPDATE system.audit SET rule = 'x'", insert] {
            sql_as(&test.app, admin, sql).await.expect_err(sql);
        }
    }
    let after = rows_of(&test.app, "SELECT id FROM system.audit").await;
    assert!(before.iter().all(|id| after.contains(id)) && !after.contains(&"x".to_owned()), "{before:?} {after:?}");
    assert!(sql_as(&test.app, admin, "SELECT 1 FROM system.audit WHERE rule = 'x'").await.expect("read").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_between_commit_and_removal_loses_no_record_and_doubles_none() {
    let app = TestApp::start_with(|config| {
        config.audit.table_seconds = 1;
        config.server.drain_seconds = 1;
        config.debug.failpoint = Some("audit-before-delete".to_owned());
    })
    .await;
    app.table().await;
    rows_of(&app, "SELECT id FROM system.audit").await;
    app.ok(Method::PUT, &format!("{MANAGED}/protection"), protect()).await;
    let expected: BTreeSet<String> = records(&app).await.into_iter().map(|record| record.uuid).collect();
    assert!(expected.len() >= 3, "the batch is in the table and still in the database: {expected:?}");
    let app = TestApp::restart_with(app.stop().await, |config| config.audit.table_seconds = 1).await;
    for _ in 0..1200 {
        let left = app.catalog().state().audit().after(0, 1000).await.expect("read");
        if left.iter().all(|(_, record)| !expected.contains(&record.uuid)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rows = rows_of(&app, "SELECT id FROM system.audit").await;
    let distinct: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(rows.len(), distinct.len(), "no record is there twice");
    assert!(expected.is_subset(&distinct), "none is lost: {expected:?} {distinct:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_trail_are_for_those_who_may_read_it() {
    let test = AccessTest { app: TestApp::start_with(|config| config.audit.events = true).await };
    test.app.server.access().bootstrap("admin", Some(AccessMode::On)).await.expect("an administrator");
    test.create_namespace("n").await;
    records(&test.app).await;
    let watcher = test.client("watcher").await;
    test.grant("watcher", Securable::Server, Privilege::Monitor.into()).await;
    let kinds = async |token: &str| {
        let (status, text) = test.send(token, Method::GET, "/api/v1/events?limit=1000", None).await;
        assert_eq!(status, 200, "{text}");
        text
    };
    let (seen, of_admin) = (kinds(&watcher).await, kinds(esker_tests::TOKEN).await);
    assert!(seen.contains("namespace.created") && !seen.contains("audit.recorded"), "{seen}");
    assert!(of_admin.contains("audit.recorded") && of_admin.contains("createNamespace"), "{of_admin}");
}
