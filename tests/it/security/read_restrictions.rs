//! Callers that row filters or column masks restrict get no way to files, and trusted engines get the restrictions with them.

use std::sync::Arc;

use esker::config::VendingMode;
use esker_access::{
    AccessMode, Bundle, ColumnMaskRow, CompareOp, FilterExpr, Identity, MaskAction, Member, Privilege, PrivilegeSet,
    RequestFacts, RowFilterRow, RuleChange, SecurableKind, TRUSTED_ENGINE, Unrecorded,
};
use esker_auth::AccessControl;
use esker_catalog::Actor;
use esker_tests::{AccessTest, TestApp, TestTable};
use esker_types::{TableId, now_ms};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::credentials::Lake;
use super::send_as;
use super::sql::run;

const TABLES: &str = "/v1/default/namespaces/n/tables";
const TABLE: &str = "/v1/default/namespaces/n/tables/t";

/// Makes a change that shows a member the rows for which a filter is true.
pub(super) fn filter(id: &str, table: TableId, to: &Member, filter: FilterExpr) -> RuleChange {
    RuleChange::SetRowFilter { filter: RowFilterRow { id: id.to_owned(), table, to: to.clone(), filter } }
}

/// Makes a change that masks a field for all but some clients.
pub(super) fn mask(table: TableId, field_id: i32, action: MaskAction, except: &[&str]) -> RuleChange {
    let except = except.iter().map(|name| Member::client(*name)).collect();
    RuleChange::SetColumnMask { mask: ColumnMaskRow { table, field_id, action, except } }
}

/// Makes a client a trusted engine.
fn trust(client: &str) -> RuleChange {
    RuleChange::AddMember { role: TRUSTED_ENGINE.to_owned(), member: Member::client(client) }
}

/// A predicate on the first column.
pub(super) fn below(value: i64) -> FilterExpr {
    FilterExpr::Compare { op: CompareOp::Lt, field_id: 1, value: json!(value) }
}

/// Checks that an answer has no way to files.
fn assert_withheld(answer: &Value) {
    for key in ["storage-credentials", "remote-signing-config", "read-restrictions"] {
        assert!(answer.get(key).is_none(), "{key}: {answer}");
    }
    assert_eq!(answer["config"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_caller_gets_no_way_to_files_whatever_it_may_write() {
    let lake = Lake::start(VendingMode::Both, true).await;
    let table = lake.test.table_id("n.t").await;
    let select = AccessTest::bundle(Bundle::Select, SecurableKind::Table);
    let reader = lake.client("reader", select).await;
    let writer = lake.client("writer", AccessTest::bundle(Bundle::Write, SecurableKind::Table)).await;
    let seer = lake.client("seer", select).await;
    let known = lake.load_again(&reader, "\"none\"").await.1["etag"].to_str().expect("text").to_owned();
    let (status, planned) = lake.ask(&reader, Method::POST, &format!("{TABLE}/plan"), Some(json!({}))).await;
    assert_eq!(status, 200, "{planned}");
    let plan = format!("{TABLE}/plan/{}", planned["plan-id"].as_str().expect("an id"));

    let all = filter("f1", table, &Member::client("seer"), FilterExpr::True);
    lake.test.change(vec![all, filter("f2", table, &Member::client("reader"), below(5))]).await;
    let before = lake.service.asked().len();
    for token in [&reader, &writer] {
        let (status, loaded) = lake.ask(token, Method::GET, TABLE, None).await;
        assert_eq!(status, 200, "{loaded}");
        assert_withheld(&loaded);
        let signing = [("x-iceberg-access-delegation", "remote-signing")];
        assert_withheld(&send_as(&lake.test.app, token, Method::GET, TABLE, &signing, None).await.1);
        for (method, end, body) in [
            (Method::GET, "/credentials", None),
            (Method::GET, "/credentials?planId=p", None),
            (Method::POST, "/plan", Some(json!({}))),
            (Method::POST, "/tasks", Some(json!({"plan-task": "x.0"}))),
        ] {
            let (status, refusal) = lake.ask(token, method, &format!("{TABLE}{end}"), body).await;
            let message = refusal["error"]["message"].as_str().unwrap_or_default();
            assert!(status == 403 && message.contains("Flight SQL") && message.contains(TRUSTED_ENGINE), "{end}: {refusal}");
        }
        for method in ["GET", "PUT"] {
            assert_eq!(lake.sign(token, method, "x").await.0, 403);
        }
    }
    assert_eq!(lake.ask(&reader, Method::GET, &plan, None).await.0, 403, "the plan is older than the filter");
    let (status, _, body) = lake.load_again(&reader, &known).await;
    assert_eq!(status, StatusCode::OK, "a 304 would leave the client with credentials: {body}");
    assert_eq!(lake.service.asked().len(), before, "nothing was vended");

    // The filter `true` shows its member all rows, and so the files.
    assert_eq!(lake.ask(&seer, Method::GET, &format!("{TABLE}/credentials"), None).await.0, 200);
    assert!(lake.actions("seer").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_engine_gets_the_files_with_the_restrictions_and_tags_of_its_own() {
    let lake = Lake::start(VendingMode::Both, true).await;
    let table = lake.test.table_id("n.t").await;
    let select = AccessTest::bundle(Bundle::Select, SecurableKind::Table);
    let engine = lake.client("engine", select).await;
    let free = lake.client("free", select).await;
    let (etl, everyone) = (Member::client("engine"), Member::role("esker:everyone"));
    let rules = vec![trust("engine"), filter("f1", table, &etl, below(5)), mask(table, 1, MaskAction::Sha256Global, &["free"])];
    lake.test.change(rules).await;

    let (status, headers, body) = lake.load_again(&engine, "\"none\"").await;
    let loaded: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, loaded["storage-credentials"].as_array().map(Vec::len)), (StatusCode::OK, Some(1)), "{loaded}");
    let reference = json!({"type": "reference", "id": 1});
    let expected = json!({
        "required-row-filter": {
            "type": "and",
            "left": {"type": "not-null", "child": reference},
            "right": {"type": "lt", "left": reference, "right": {"type": "literal", "value": 5}},
        },
        "required-column-projections": [{"field-id": 1, "action": "sha-256-global"}],
    });
    assert_eq!(loaded["read-restrictions"], expected);
    for (method, end, body) in [(Method::GET, "/credentials", None), (Method::POST, "/plan", Some(json!({})))] {
        assert_eq!(lake.ask(&engine, method, &format!("{TABLE}{end}"), body).await.0, 200, "{end}");
    }
    assert_eq!(lake.sign(&engine, "GET", "x").await.0, 200);

    let known = headers["etag"].to_str().expect("text").to_owned();
    assert_eq!(lake.load_again(&engine, &known).await.0, StatusCode::NOT_MODIFIED);
    lake.test.change(vec![filter("f2", table, &everyone, below(7))]).await;
    let (status, _, body) = lake.load_again(&engine, &known).await;
    let changed: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status, StatusCode::OK, "the filter is another one");
    assert_eq!(changed["read-restrictions"]["required-row-filter"]["type"], "or");

    lake.test.change(vec![filter("f3", table, &Member::client("free"), FilterExpr::True)]).await;
    let (_, headers, body) = lake.load_again(&free, "\"none\"").await;
    assert!(!body.contains("read-restrictions") && body.contains("storage-credentials"), "{body}");
    assert_ne!(headers["etag"].to_str().expect("text"), known);
    let leave = RuleChange::RemoveMember { role: TRUSTED_ENGINE.to_owned(), member: Member::client("engine") };
    lake.test.change(vec![leave]).await;
    assert_withheld(&lake.ask(&engine, Method::GET, TABLE, None).await.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_gets_what_its_caller_may_have_now() {
    let lake = Lake::start(VendingMode::Sts, true).await;
    let maker = lake.test.client("maker").await;
    lake.test.grant("maker", lake.test.namespace("n"), Privilege::CreateTable.into()).await;
    let key = ("idempotency-key", "01890a5d-ac96-774b-bcce-b302099a8059");
    let headers = [("x-iceberg-access-delegation", "vended-credentials"), key];
    let body = AccessTest::new_table("own");
    let send = async || send_as(&lake.test.app, &maker, Method::POST, TABLES, &headers, Some(body.clone())).await;
    let (status, made) = send().await;
    assert_eq!((status, made["storage-credentials"].as_array().map(Vec::len)), (200, Some(1)), "{made}");
    let table = lake.test.table_id("n.own").await;
    lake.test.change(vec![mask(table, 1, MaskAction::ReplaceWithNull, &[])]).await;
    let (status, again) = send().await;
    assert_eq!((status, &again["metadata-location"]), (200, &made["metadata-location"]));
    assert_withheld(&again);
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_of_rows_are_hidden_from_restricted_readers_and_nothing_is_in_the_mode_report() {
    let test = AccessTest { app: TestApp::start().await };
    test.app.table().await;
    test.app.sql("INSERT INTO n.t VALUES (1, 'EU'), (2, 'US')").await.expect("inserted");
    let table = test.table_id("n.t").await;
    test.app.server.access().bootstrap("admin", Some(AccessMode::Report)).await.expect("an administrator");
    let reader = test.client("reader").await;
    test.grant("reader", test.namespace("n"), AccessTest::bundle(Bundle::Select, SecurableKind::Namespace)).await;
    let appender = test.client("appender").await;
    test.grant("appender", test.namespace("n"), AccessTest::bundle(Bundle::Insert, SecurableKind::Namespace)).await;
    test.change(vec![filter("f1", table, &Member::client("reader"), below(2))]).await;
    let summary = async |token: &str, query: &str| {
        let (status, text) = test.send(token, Method::GET, &format!("{TABLE}{query}"), None).await;
        assert_eq!(status, 200, "{text}");
        let loaded: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(loaded["metadata"]["snapshots"].as_array().map(Vec::len), Some(1));
        loaded["metadata"]["snapshots"][0]["summary"].clone()
    };
    assert_eq!(summary(&reader, "").await["total-records"], "2", "in the mode report nothing is restricted");
    test.change(vec![RuleChange::SetMode { mode: AccessMode::On }]).await;
    for query in ["", "?snapshots=refs"] {
        assert_eq!(summary(&reader, query).await, json!({"operation": "append"}), "{query}");
    }
    assert_eq!(summary(&appender, "").await["total-records"], "2", "the summary of the next append continues it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_management_api_tells_a_restricted_caller_no_counts_and_no_values() {
    let test = AccessTest { app: TestApp::start().await };
    test.app.table().await;
    test.app.sql("INSERT INTO n.t VALUES (1, 'EU'), (2, 'US')").await.expect("inserted");
    let job = test.app.job("expire", json!({})).await["id"].as_str().expect("an id").to_owned();
    test.app.server.access().bootstrap("admin", Some(AccessMode::On)).await.expect("an administrator");
    let reader = test.client("reader").await;
    test.grant("reader", test.namespace("n"), AccessTest::bundle(Bundle::Select, SecurableKind::Namespace)).await;
    let get = async |path: String| {
        let (status, text) = test.send(&reader, Method::GET, &path, None).await;
        (status, serde_json::from_str::<Value>(&text).unwrap_or(Value::String(text)))
    };
    let about = |end: &str| format!("/api/v1/warehouses/default/namespaces/n/tables/t/{end}");
    let ends = ["health", "history", "reports", "quarantine"];
    for end in ends {
        assert_eq!(get(about(end)).await.0, 200, "{end}");
    }
    assert!(get(format!("/api/v1/jobs/{job}")).await.1["outcome"].is_object());
    let table = test.table_id("n.t").await;
    let decision = json!({"verdict": "leave", "reason": "2 rows in 1 file"}).to_string();
    test.app.catalog().state().fleet().record_decisions(&[(table, "leave", decision)]).await.expect("stored");
    assert!(get(about("policy")).await.1["decision"].is_object());
    test.grant("reader", test.warehouse(), Privilege::ReadMetadata.into()).await;
    let told = async || {
        let (_, page) = get("/api/v1/events?warehouse=default&limit=1000".to_owned()).await;
        let of = |kind: &str| {
            let mut events = page["events"].as_array().expect("events").iter();
            events.find(|event| event["type"] == kind).map_or(Value::Null, |event| event["data"].clone())
        };
        (of("table.updated")["snapshots"][0]["summary"].clone(), of("job.succeeded")["outcome"].clone())
    };
    let (summary, outcome) = told().await;
    assert!(summary["total-records"] == "2" && outcome.is_object(), "{summary} {outcome}");
    test.change(vec![filter("f1", table, &Member::client("reader"), below(2))]).await;
    for end in ends {
        let (status, refusal) = get(about(end)).await;
        assert!(status == 403 && refusal.to_string().contains("row filters or column masks restrict"), "{end}: {refusal}");
    }
    assert_eq!(told().await, (json!({}), Value::Null));
    let (status, policy) = get(about("policy")).await;
    assert_eq!((status, &policy["decision"], &policy["decided_ms"]), (200, &Value::Null, &Value::Null), "{policy}");
    let (_, tables) = get("/api/v1/tables".to_owned()).await;
    let shown = ["score", "data_files", "data_bytes", "last_commit_ms"].map(|key| tables[0][key].clone());
    assert_eq!(shown, [Value::Null, Value::Null, Value::Null, Value::Null], "{tables}");
    assert_eq!((&tables[0]["table"], &tables[0]["findings"]), (&json!("n.t"), &json!([])));
    for (_, jobs) in [get(format!("/api/v1/jobs/{job}")).await, get("/api/v1/jobs".to_owned()).await] {
        let shown = if jobs.is_array() { &jobs[0] } else { &jobs };
        assert_eq!((&shown["id"], &shown["outcome"], &shown["plan"]), (&json!(job), &Value::Null, &Value::Null), "{jobs}");
    }
    assert_eq!(get(format!("/api/v1/jobs/{job}/log")).await, (200, json!([])));
}

/// A count of the rows for which a condition is true answers a question about them, and so does a list of files with such rows.
#[tokio::test(flavor = "multi_thread")]
async fn no_job_answers_a_question_about_rows_that_its_caller_may_not_read() {
    let test = AccessTest { app: TestApp::start().await };
    test.app.table().await;
    test.app.sql("INSERT INTO n.t VALUES (1, 'EU'), (2, 'US')").await.expect("inserted");
    test.app.server.access().bootstrap("admin", Some(AccessMode::On)).await.expect("an administrator");
    let (keeper, table) = (test.client("keeper").await, test.table_id("n.t").await);
    let care = PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata, Privilege::Maintain, Privilege::Erase]);
    test.grant("keeper", test.table("n.t").await, care).await;
    test.grant("keeper", test.warehouse(), Privilege::ReadMetadata.into()).await;
    let question = || json!({"where": "id = 1"});
    let ask = async |end: &str, options: Value| {
        let path = format!("/api/v1/warehouses/default/namespaces/n/tables/t/{end}");
        let (status, text) = test.send(&keeper, Method::POST, &path, Some(options)).await;
        (status, serde_json::from_str::<Value>(&text).unwrap_or(Value::String(text)))
    };
    let get = async |path: &str| {
        let (status, text) = test.send(&keeper, Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let questions = || {
        let by_partition = ("compact?dry-run=true", json!({"partition": "id=1"}));
        [("compact?dry-run=true", question()), ("compact", question()), by_partition, ("erase?dry-run=true", question())]
    };
    for (end, options) in questions() {
        let (status, refusal) = ask(end, options).await;
        assert!(status == 403 && refusal.to_string().contains("READ_DATA on table n.t"), "{end}: {refusal}");
    }
    assert_eq!(ask("compact?dry-run=true", json!({})).await.0, 200, "it asks for no rows");

    // The privilege to erase is enough to start an erasure, and not to learn what it found.
    let (status, accepted) = ask("erase", question()).await;
    assert_eq!(status, 202, "{accepted}");
    let id = accepted["job-id"].as_str().expect("an id");
    let found = test.app.wait_for_job(id).await["error"].as_str().expect("the row is in the table").to_owned();
    assert!(found.contains("id = 1"), "{found}");
    let (job, log) = (format!("/api/v1/jobs/{id}"), format!("/api/v1/jobs/{id}/log"));
    let error_in_events = async || {
        let page = get("/api/v1/events?warehouse=default&limit=1000").await;
        let failed = page["events"].as_array().expect("events").iter().find(|event| event["type"] == "job.failed").cloned();
        failed.expect("the erasure")["data"]["error"].clone()
    };
    let shown = get(&job).await;
    for key in ["request", "plan", "error", "outcome"] {
        assert_eq!(shown[key], Value::Null, "{key}: {shown}");
    }
    assert_eq!((get(&log).await, error_in_events().await), (json!([]), Value::Null));
    assert!(!get("/api/v1/jobs").await.to_string().contains("id = 1"));

    test.grant("keeper", test.table("n.t").await, Privilege::ReadData.into()).await;
    assert_eq!((&get(&job).await["error"], error_in_events().await), (&json!(found), json!(found)));
    for (end, options) in questions() {
        let (status, answer) = ask(end, options).await;
        assert!(status == 200 || status == 202, "{end}: {answer}");
    }

    // Who is restricted gets no preview at all, because previews count files and rows.
    test.change(vec![filter("f1", table, &Member::client("keeper"), below(2))]).await;
    let previews =
        ["compact", "expire", "manifests", "orphans", "statistics", "check"].map(|kind| format!("{kind}?dry-run=true"));
    let previews = previews.iter().map(|end| (end.as_str(), json!({})));
    for (end, options) in questions().into_iter().chain(previews) {
        let (status, refusal) = ask(end, options).await;
        assert!(status == 403 && refusal.to_string().contains("row filters or column masks restrict"), "{end}: {refusal}");
    }
    assert_eq!(ask("erase", question()).await.0, 202);
    let metadata = get(TABLE).await["metadata-location"].as_str().expect("a path").to_owned();
    let explain = format!("/api/v1/warehouses/default/explain?path={metadata}");
    assert_eq!(test.status(&keeper, Method::GET, &explain, None).await, 403);
}

/// The partition of a file names a value, and so may its path.
#[tokio::test(flavor = "multi_thread")]
async fn who_only_maintains_a_table_is_told_no_partition_and_no_path_by_its_jobs() {
    let test = AccessTest { app: TestApp::start().await };
    test.app.table().await;
    for row in ["(1, 'EU')", "(2, 'EU')"] {
        test.app.sql(&format!("INSERT INTO n.t VALUES {row}")).await.expect("inserted");
    }
    test.app.server.access().bootstrap("admin", Some(AccessMode::On)).await.expect("an administrator");
    let keeper = test.client("keeper").await;
    let care = PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata, Privilege::Maintain]);
    test.grant("keeper", test.table("n.t").await, care).await;
    test.grant("keeper", test.warehouse(), Privilege::ReadMetadata.into()).await;
    let get = async |method: Method, path: &str, body: Option<Value>| {
        let (status, text) = test.send(&keeper, method, path, body).await;
        assert!(status == 200 || status == 202, "{path}: {status} {text}");
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let compact = "/api/v1/warehouses/default/namespaces/n/tables/t/compact";
    let all = || Some(json!({"min-input-files": 2}));
    for (query, wrong, why) in
        [("priority=101", 403, "MANAGE_SERVER"), ("priority=-101", 403, "MANAGE_SERVER"), ("reason=a%00b", 400, "U+0000")]
    {
        let (status, text) = test.send(&keeper, Method::POST, &format!("{compact}?{query}"), all()).await;
        assert!(status == wrong && text.contains(why), "{query}: {status} {text}");
    }
    let started = get(Method::POST, &format!("{compact}?priority=-100&reason=a%2500b"), all()).await;
    let id = started["job-id"].as_str().expect("an id").to_owned();
    let stored = test.app.wait_for_job(&id).await;
    assert_eq!((&stored["state"], &stored["outcome"]["groups"]), (&json!("succeeded"), &json!(1)), "{stored}");
    let path = stored["plan"]["groups"][0]["files"][0]["path"].as_str().expect("a path").to_owned();

    for row in ["(3, 'EU')", "(4, 'EU')"] {
        test.app.sql(&format!("INSERT INTO n.t VALUES {row}")).await.expect("inserted");
    }
    let dry_run = format!("{compact}?dry-run=true");
    let preview = async || get(Method::POST, &dry_run, all()).await.to_string();
    let job = async || get(Method::GET, &format!("/api/v1/jobs/{id}"), None).await;
    let log = async || get(Method::GET, &format!("/api/v1/jobs/{id}/log"), None).await;
    let events = async || get(Method::GET, "/api/v1/events?warehouse=default&limit=1000", None).await;
    let in_sql = async || {
        let plans = "SELECT plan FROM system.jobs WHERE plan IS NOT NULL";
        run(&mut test.app.flight_as(&keeper).await, plans).await.expect("read").concat()
    };
    let shown = job().await;
    assert_eq!((&shown["outcome"]["groups"], &shown["plan"]["data_files"]), (&json!(1), &json!(2)), "{shown}");
    assert_eq!(
        (&shown["plan"]["groups"][0]["partition"], &shown["plan"]["groups"][0]["files"][0]["path"]),
        (&json!(""), &json!(""))
    );
    assert_eq!(log().await, json!([]));
    assert!(!preview().await.contains(".parquet"));
    let in_sql_before = in_sql().await;
    assert!(in_sql_before.contains("\"data_files\":2") && !in_sql_before.contains(".parquet"), "{in_sql_before}");
    let told = events().await;
    let done = told["events"].as_array().expect("events").iter().find(|event| event["type"] == "job.succeeded").expect("it ran");
    assert_eq!((&done["data"]["outcome"]["groups"], &done["data"]["outcome"]["proof"]), (&json!(1), &stored["outcome"]["proof"]));

    test.grant("keeper", test.table("n.t").await, Privilege::ReadData.into()).await;
    assert_eq!(job().await["plan"]["groups"][0]["files"][0]["path"], json!(path));
    assert!(preview().await.contains(".parquet") && in_sql().await.contains(".parquet"));
    assert_ne!(log().await, json!([]));
}

/// The path of a manifest list is in the metadata. A table of one's own that names it would show all that it lists.
#[tokio::test(flavor = "multi_thread")]
async fn no_snapshot_names_the_manifest_list_of_a_table_that_its_writer_may_not_read_as_a_whole() {
    let test = AccessTest::start(AccessMode::On).await;
    test.app.table().await;
    test.app.sql("INSERT INTO n.t VALUES (1, 'EU'), (2, 'US')").await.expect("inserted");
    test.create_namespace("own").await;
    let (thief, victim) = (test.client("thief").await, test.table_id("n.t").await);
    test.grant("thief", test.table("n.t").await, PrivilegeSet::of(&[Privilege::List, Privilege::ReadMetadata])).await;
    test.grant("thief", test.namespace("own"), Privilege::CreateTable.into()).await;
    let own = "/v1/default/namespaces/own/tables";
    assert_eq!(test.status(&thief, Method::POST, own, Some(AccessTest::new_table("mine"))).await, 200);
    let mut snapshot = test.app.ok(Method::GET, TABLE, None).await["metadata"]["snapshots"][0].clone();
    snapshot["timestamp-ms"] = now_ms().into();
    let updates = json!([{"action": "add-snapshot", "snapshot": snapshot},
        {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": snapshot["snapshot-id"]}]);
    let commit = async || {
        let body = json!({"requirements": [], "updates": updates});
        test.send(&thief, Method::POST, &format!("{own}/mine"), Some(body)).await
    };
    let refused = |(status, text): (u16, String)| status == 400 && text.contains("manifest list of another table");
    assert!(refused(commit().await), "it may not read the rows");
    let changes = json!({"table-changes": [{"identifier": {"namespace": ["own"], "name": "mine"}, "requirements": [],
        "updates": updates}]});
    assert!(refused(test.send(&thief, Method::POST, "/v1/default/transactions/commit", Some(changes)).await));

    test.grant("thief", test.table("n.t").await, Privilege::ReadData.into()).await;
    test.change(vec![filter("f1", victim, &Member::client("thief"), below(2))]).await;
    assert!(refused(commit().await), "it may not read all of them");
    test.change(vec![RuleChange::RemoveRowFilter { table: victim, id: "f1".to_owned() }]).await;
    assert_eq!(commit().await.0, 200, "nothing is hidden from it");
}

/// A writer with credentials writes manifests of its own, which may name any file.
#[tokio::test(flavor = "multi_thread")]
async fn no_commit_brings_in_a_file_of_a_table_that_its_writer_may_not_read_as_a_whole() {
    let test = AccessTest::start(AccessMode::On).await;
    let victim = TestTable::create(&test.app, "victim", 2, false, json!({})).await;
    victim.append(&[(1, "x".to_owned(), 0, None), (2, "y".to_owned(), 0, None)]).await;
    let mine = TestTable::create(&test.app, "mine", 2, false, json!({})).await;
    let (thief, hidden) = (test.client("thief").await, test.table_id("lake.victim").await);
    test.grant("thief", test.table("lake.mine").await, AccessTest::bundle(Bundle::Write, SecurableKind::Table)).await;
    let deletes = victim.equality_deletes(&[1], []).await;
    let statistics = json!({"requirements": [], "updates": [{"action": "set-partition-statistics", "partition-statistics":
        {"snapshot-id": 1, "statistics-path": victim.data_paths().await[0], "file-size-in-bytes": 9}}]});
    let commits = [
        (mine.prepare_add(victim.data_files().await, []).await.body().clone(), "data file"),
        (mine.prepare_add([], [deletes]).await.body().clone(), "delete file"),
        (mine.prepare_manifests_of(&victim).await.body().clone(), "manifest"),
        (statistics, "statistics file"),
    ];
    let send = async |body: &Value| test.send(&thief, Method::POST, &mine.path(), Some(body.clone())).await;
    let refused = async |why: &str| {
        for (body, what) in &commits {
            let (status, text) = send(body).await;
            assert!(status == 400 && text.contains(&format!("a {what} of another table")), "{why}: {status} {text}");
            let mut change = body.clone();
            change["identifier"] = json!({"namespace": ["lake"], "name": "mine"});
            let changes = json!({"table-changes": [change]});
            let (status, text) = test.send(&thief, Method::POST, "/v1/default/transactions/commit", Some(changes)).await;
            assert!(status == 400 && text.contains(&format!("a {what} of another table")), "{why}: {status} {text}");
        }
    };
    refused("it may not read the rows").await;
    test.grant("thief", test.table("lake.victim").await, Privilege::ReadData.into()).await;
    test.change(vec![filter("f1", hidden, &Member::client("thief"), below(2))]).await;
    refused("it may not read all of them").await;
    test.app.ok(Method::DELETE, "/v1/default/namespaces/lake/tables/victim", None).await;
    refused("the dropped table may be undropped").await;
    assert!(mine.metadata().await.snapshots.is_empty());

    // A file in no table's place may be taken, with the manifests that the table has by then.
    let dropped = test.app.catalog().dropped_tables().await.expect("listed").remove(0).row;
    test.app.catalog().undrop_table(dropped.id, None, &Actor::internal("test")).await.expect("back");
    for name in ["a", "b"] {
        let mut loose = victim.data_files().await.remove(0);
        let path = format!("{}/warehouse/loose-{name}.parquet", test.app.dir.path().display());
        std::fs::copy(&loose.file_path["file://".len()..], &path).expect("copied");
        loose.file_path = format!("file://{path}");
        let (status, text) = send(mine.prepare_add([loose], []).await.body()).await;
        assert_eq!(status, 200, "{text}");
    }
    test.change(vec![RuleChange::RemoveRowFilter { table: hidden, id: "f1".to_owned() }]).await;
    let (status, text) = send(mine.prepare_add(victim.data_files().await, []).await.body()).await;
    assert_eq!(status, 200, "nothing is hidden from it: {text}");
}

/// A manifest can be overwritten after its commit. Here somebody who may read both tables commits what a forged one would name.
#[tokio::test(flavor = "multi_thread")]
async fn sql_reads_no_file_of_a_table_that_its_caller_may_not_read_as_a_whole() {
    let test = AccessTest::start(AccessMode::On).await;
    let victim = TestTable::create(&test.app, "victim", 2, false, json!({})).await;
    victim.append(&[(1, "x".to_owned(), 0, None), (2, "y".to_owned(), 0, None)]).await;
    let mine = TestTable::create(&test.app, "mine", 2, false, json!({})).await;
    mine.append(&[(3, "z".to_owned(), 0, None)]).await;
    let select = AccessTest::bundle(Bundle::Select, SecurableKind::Table);
    let (reader, hidden) = (test.client("reader").await, test.table_id("lake.victim").await);
    test.grant("reader", test.table("lake.mine").await, select).await;
    let count = async |of: &str| run(&mut test.app.flight_as(&reader).await, &format!("SELECT count(*) FROM {of}")).await;
    assert_eq!(count("lake.mine").await, Ok(vec!["1".to_owned()]));

    test.app.ok(Method::POST, &mine.path(), Some(mine.prepare_add(victim.data_files().await, []).await.body().clone())).await;
    let all = "SELECT count(*) FROM lake.mine";
    assert_eq!(run(&mut test.app.flight().await, all).await, Ok(vec!["3".to_owned()]), "nothing is hidden from an administrator");
    let names = ["lake.mine", "lake.\"mine$files\"", "lake.\"mine$partitions\"", "lake.\"mine$manifests\""];
    let refused = async |why: &str| {
        for of in names {
            let refusal = count(of).await.expect_err("refused");
            assert!(refusal.contains("names files of another table"), "{why}: {of}: {refusal}");
        }
    };
    refused("it may not read the other table").await;
    test.grant("reader", test.table("lake.victim").await, Privilege::ReadData.into()).await;
    assert_eq!(count("lake.mine").await, Ok(vec!["3".to_owned()]));
    test.change(vec![filter("f1", hidden, &Member::client("reader"), below(2))]).await;
    refused("it may not read all of it").await;
}

/// By the UUID of a dropped table, another one gets to its files.
#[tokio::test(flavor = "multi_thread")]
async fn no_registration_takes_the_uuid_of_a_table_that_the_caller_may_not_read_as_a_whole() {
    let test = AccessTest::start(AccessMode::On).await;
    let victim = TestTable::create(&test.app, "victim", 2, false, json!({})).await;
    let mine = TestTable::create(&test.app, "mine", 2, false, json!({})).await;
    let (thief, hidden) = (test.client("thief").await, test.table("lake.victim").await);
    test.grant("thief", test.table("lake.mine").await, PrivilegeSet::of(&[Privilege::List, Privilege::Drop])).await;
    test.grant("thief", test.namespace("lake"), Privilege::Register.into()).await;
    let mut metadata = test.app.ok(Method::GET, &mine.path(), None).await["metadata"].clone();
    let file = format!("{}/metadata/forged.metadata.json", metadata["location"].as_str().expect("a location"));
    metadata["table-uuid"] = test.app.ok(Method::GET, &victim.path(), None).await["metadata"]["table-uuid"].clone();
    std::fs::write(&file["file://".len()..], metadata.to_string()).expect("written");
    let body = json!({"name": "mine", "metadata-location": file, "overwrite": true});
    let register = async || test.send(&thief, Method::POST, "/v1/default/namespaces/lake/register", Some(body.clone())).await;
    let (status, text) = register().await;
    assert!(status == 400 && text.contains("the UUID of another table"), "{status} {text}");
    test.grant("thief", hidden, Privilege::ReadData.into()).await;
    let (status, text) = register().await;
    assert_eq!(status, 200, "nothing is hidden from it: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_restricted_changes_neither_the_fields_of_names_nor_the_metadata_of_the_table() {
    let test = AccessTest::start(AccessMode::On).await;
    let created = test.app.table().await;
    let (writer, before) = (test.client("writer").await, test.table_id("n.t").await);
    let privileges = [Privilege::List, Privilege::ReadMetadata, Privilege::SetProperties, Privilege::Drop];
    test.grant("writer", test.table("n.t").await, PrivilegeSet::of(&privileges)).await;
    test.grant("writer", test.namespace("n"), Privilege::Register.into()).await;
    let set = async |key: &str| {
        let update = json!({"action": "set-properties", "updates": {key: "[{\"field-id\": 1, \"names\": [\"id\"]}]"}});
        test.send(&writer, Method::POST, TABLE, Some(json!({"requirements": [], "updates": [update]}))).await
    };
    let mapping = "schema.name-mapping.default";
    assert_eq!(set(mapping).await.0, 200);
    let dropper = test.client("dropper").await;
    test.grant("dropper", test.table("n.t").await, PrivilegeSet::of(&[Privilege::List, Privilege::Drop])).await;
    let (status, text) = test.send(&dropper, Method::POST, &format!("{TABLE}/unregister"), None).await;
    assert!(status == 403 && text.contains("READ_METADATA"), "the answer would have the metadata: {status} {text}");
    test.change(vec![mask(before, 2, MaskAction::MaskAlphanum, &["admin"])]).await;
    assert_eq!(set("comment").await.0, 200);
    let register = json!({"name": "t", "metadata-location": created["metadata-location"], "overwrite": true});
    let remove = json!({"requirements": [], "updates": [{"action": "remove-properties", "removals": [mapping]}]});
    for (status, text) in [
        set(mapping).await,
        test.send(&writer, Method::POST, TABLE, Some(remove)).await,
        test.send(&writer, Method::POST, "/v1/default/namespaces/n/register", Some(register.clone())).await,
        test.send(&writer, Method::POST, &format!("{TABLE}/unregister"), None).await,
    ] {
        assert!(status == 403 && text.contains("MANAGE_RESTRICTIONS"), "{status} {text}");
    }

    // Whoever may do it loses no mask by it.
    test.app.ok(Method::POST, "/v1/default/namespaces/n/register", Some(register)).await;
    let after = test.table_id("n.t").await;
    assert_ne!(after, before, "another entry");
    let masks = test.app.catalog().state().access().rows().await.expect("rules").masks;
    assert_eq!(masks.iter().map(|row| (row.table, row.field_id)).collect::<Vec<_>>(), [(after, 2)]);
}

/// Another server decides by rules of up to two seconds ago. It has to know the new entry before the name leads to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_table_that_is_registered_again_is_restricted_on_every_server_at_once() {
    let test = AccessTest::start(AccessMode::On).await;
    let created = test.app.table().await;
    let before = test.table_id("n.t").await;
    test.change(vec![
        mask(before, 2, MaskAction::MaskAlphanum, &["admin"]),
        filter("f1", before, &Member::client("admin"), FilterExpr::True),
    ])
    .await;
    let state = test.app.catalog().state().clone();
    let other = AccessControl::open(state.clone(), Arc::new(Unrecorded)).await.expect("another server");
    let body = json!({"name": "t", "metadata-location": created["metadata-location"], "overwrite": true});
    let registered = test.app.ok(Method::POST, "/v1/default/namespaces/n/register", Some(body));
    let seen = async {
        loop {
            // As in a request: its caller comes first, then the table.
            let reader = other.caller(Identity::client("reader"), RequestFacts::default()).await.expect("a caller");
            let now = test.table_id("n.t").await;
            if now != before {
                break (now, reader.restrictions(now));
            }
        }
    };
    let (_, (after, restrictions)) = futures::join!(registered, seen);
    let restrictions = restrictions.expect("the other server knows what restricts the new entry");
    assert!(restrictions.filter.is_some() && !restrictions.masks.is_empty(), "{restrictions:?}");
    let rows = state.access().rows().await.expect("rules");
    assert_eq!(
        rows.filters.iter().map(|row| (row.id.as_str(), row.table)).collect::<Vec<_>>(),
        [("f1", after)],
        "once, by its id"
    );
    assert_eq!(rows.masks.iter().map(|row| row.table).collect::<Vec<_>>(), [after]);
}
