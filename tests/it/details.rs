//! JSON and HTTP details that catalogs get wrong and that break clients, one test each.
//!
//! The numbers in the names are those of the list that the project began with, which is not part of this repository.

use esker_tests::{TestApp, Writer, schema_json};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NAMESPACES: &str = "/v1/default/namespaces";
const TABLES: &str = "/v1/default/namespaces/n/tables";
const TABLE: &str = "/v1/default/namespaces/n/tables/t";
const VIEWS: &str = "/v1/default/namespaces/n/views";

fn create(name: &str) -> Value {
    json!({"name": name, "schema": schema_json()})
}

pub(crate) fn view(name: &str) -> Value {
    json!({"name": name, "schema": schema_json(), "properties": {}, "view-version": {
        "version-id": 1, "timestamp-ms": 1, "schema-id": 0, "summary": {}, "default-namespace": ["n"],
        "representations": [{"type": "sql", "sql": "SELECT 1", "dialect": "spark"}]}})
}

fn set(key: &str, value: &str) -> Value {
    json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {key: value}}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_01_the_idempotency_lifetime_is_beside_the_overrides_and_in_no_weeks() {
    let app = TestApp::start_with(|c| c.server.idempotency_seconds = 14 * 24 * 3600).await;
    let config = app.ok(Method::GET, "/v1/config", None).await;
    assert_eq!(config["idempotency-key-lifetime"], "PT1209600S");
    assert!(config["overrides"].get("idempotency-key-lifetime").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_02_a_repeated_request_gets_the_answer_of_the_first_and_only_for_its_own_operation() {
    let app = TestApp::start().await;
    app.ok(Method::POST, NAMESPACES, Some(json!({"namespace": ["n"]}))).await;
    // DuckDB sends a random UUID, not a time-ordered one.
    let key = [("idempotency-key", "5f0c954a-1c60-4b0b-b2ad-7a8c4a8f1b1e")];
    let (first, _, body) = app.send_raw(Method::POST, TABLES, &key, Some(create("t"))).await;
    let (second, _, again) = app.send_raw(Method::POST, TABLES, &key, Some(create("t"))).await;
    assert_eq!((first, second, &body), (StatusCode::OK, StatusCode::OK, &again), "created once, answered twice");
    let (other, _, _) = app.send_raw(Method::POST, TABLES, &key, Some(create("u"))).await;
    assert_eq!(other, StatusCode::BAD_REQUEST, "another body under the same key");
    // The same key with another operation is a different request, so the drop is carried out.
    let (dropped, _, _) = app.send_raw(Method::DELETE, TABLE, &key, None).await;
    assert_eq!(dropped, StatusCode::NO_CONTENT);
    assert_eq!(app.send(Method::GET, TABLE, None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(app.send_raw(Method::DELETE, TABLE, &key, None).await.0, StatusCode::NO_CONTENT, "and says so again");

    // A refusal is repeated too, even after its cause has changed.
    app.ok(Method::POST, TABLES, Some(create("t"))).await;
    let key = [("idempotency-key", "01890a5d-ac96-774b-bcce-b302099a8057")];
    let (conflict, _, _) = app.send_raw(Method::POST, TABLES, &key, Some(create("t"))).await;
    app.ok(Method::DELETE, TABLE, None).await;
    let (still, _, _) = app.send_raw(Method::POST, TABLES, &key, Some(create("t"))).await;
    assert_eq!((conflict, still), (StatusCode::CONFLICT, StatusCode::CONFLICT));

    // A staged create generates a UUID and a location. The repetition must return the same ones.
    let key = [("idempotency-key", "01890a5d-ac96-774b-bcce-b302099a8058")];
    let staged = json!({"name": "s", "schema": schema_json(), "stage-create": true});
    let (_, _, body) = app.send_raw(Method::POST, TABLES, &key, Some(staged.clone())).await;
    let (_, _, again) = app.send_raw(Method::POST, TABLES, &key, Some(staged)).await;
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("json");
    assert_eq!(parse(&body), parse(&again));
    let (status, _, _) = app.send_raw(Method::POST, TABLES, &[("idempotency-key", "not-a-uuid")], Some(create("x"))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_03_the_etag_header_is_spelled_with_two_capitals_on_the_wire() {
    let app = TestApp::start().await;
    app.table().await;
    let mut socket = tokio::net::TcpStream::connect(app.server.rest).await.expect("connected");
    let request =
        format!("GET {TABLE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a-token-for-tests\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\r\nETag: W/\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_04_there_is_one_tag_a_shape_and_it_changes_with_the_table() {
    let app = TestApp::start().await;
    app.table().await;
    let tag = async |path: &str, headers: &[(&str, &str)]| {
        let (_, headers, _) = app.send_raw(Method::GET, path, headers, None).await;
        assert_eq!(headers["cache-control"], "private, no-cache");
        assert_eq!(headers["vary"], "authorization, x-iceberg-access-delegation");
        headers["etag"].to_str().expect("text").to_owned()
    };
    let all = tag(TABLE, &[]).await;
    let shapes = [
        all.clone(),
        tag(&format!("{TABLE}?snapshots=refs"), &[]).await,
        tag(TABLE, &[("x-iceberg-access-delegation", "vended-credentials")]).await,
    ];
    assert!(shapes[0] != shapes[1] && shapes[1] != shapes[2] && shapes[0] != shapes[2], "{shapes:?}");
    let (status, headers, body) = app.send_raw(Method::GET, TABLE, &[("if-none-match", &all)], None).await;
    assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(headers["etag"].to_str().expect("text"), all);
    let (status, _, _) = app.send_raw(Method::GET, &format!("{TABLE}?snapshots=refs"), &[("if-none-match", &all)], None).await;
    assert_eq!(status, StatusCode::OK, "the tag of another shape");
    let (_, committed, _) = app.send_raw(Method::POST, TABLE, &[], Some(set("a", "b"))).await;
    let (status, headers, _) = app.send_raw(Method::GET, TABLE, &[("if-none-match", &all)], None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["etag"], committed["etag"], "a commit answers with the tag of what it made");
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_05_success_is_200_or_204_and_never_201() {
    let app = TestApp::start().await;
    let post = Method::POST;
    for (method, path, body, expected) in [
        (&post, NAMESPACES, Some(json!({"namespace": ["n"]})), 200),
        (&post, "/v1/default/namespaces/n/properties", Some(json!({"updates": {"a": "b"}, "removals": []})), 200),
        (&post, TABLES, Some(create("t")), 200),
        (&post, TABLE, Some(set("a", "b")), 200),
        (&post, VIEWS, Some(view("v")), 200),
        (&post, &format!("{TABLE}/metrics"), Some(json!({"report-type": "scan-report"})), 204),
        (&post, "/v1/default/transactions/commit", Some(json!({"table-changes": []})), 204),
        (&Method::DELETE, &format!("{VIEWS}/v"), None, 204),
        (&Method::DELETE, TABLE, None, 204),
        (&Method::DELETE, "/v1/default/namespaces/n", None, 204),
    ] {
        let (status, body) = app.send(method.clone(), path, body).await;
        assert_eq!(status.as_u16(), expected, "{method} {path}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_06_every_error_is_in_the_envelope_and_those_of_the_token_route_are_in_the_form_of_the_rfc() {
    let app = TestApp::start_with(|c| c.server.max_body_bytes = 1000).await;
    app.refused(Method::GET, "/nowhere", None).await;
    app.refused(Method::PUT, "/v1/config", None).await;
    let (code, ..) = app.refused(Method::POST, NAMESPACES, Some(json!({"namespace": ["x".repeat(2000)]}))).await;
    assert_eq!(code, 400);
    let client = reqwest::Client::new();
    let anonymous: Value = client.get(app.url(NAMESPACES)).send().await.expect("an answer").json().await.expect("json");
    assert_eq!((&anonymous["error"]["code"], &anonymous["error"]["type"]), (&json!(401), &json!("NotAuthorizedException")));

    let url = app.url("/v1/oauth/tokens");
    let form = "grant_type=client_credentials&client_id=admin&client_secret=";
    let ask = async |body: String| {
        let answer = client.post(&url).header("content-type", "application/x-www-form-urlencoded").body(body).send().await;
        let answer = answer.expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("json"))
    };
    let (status, refused) = ask(format!("{form}wrong")).await;
    assert_eq!((status, &refused["error"]), (401, &json!("invalid_client")));
    assert_eq!(ask("grant_type=password".to_owned()).await.1["error"], "unsupported_grant_type");
    let (status, granted) = ask(format!("{form}a-token-for-tests")).await;
    assert_eq!((status, &granted["token_type"]), (200, &json!("bearer")));
    let token = granted["access_token"].as_str().expect("a token");
    let with_it = client.get(app.url(NAMESPACES)).bearer_auth(token).send().await.expect("an answer");
    assert_eq!(with_it.status(), StatusCode::OK);
    let exchange = format!("grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={token}");
    assert_eq!(ask(exchange).await.0, 200, "a token that is about to end is exchanged");
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_07_types_tell_clients_what_is_missing() {
    let app = TestApp::start().await;
    app.table().await;
    for (method, path, body, code, kind) in [
        (Method::GET, format!("{TABLES}/missing"), None, 404, "NoSuchTableException"),
        (Method::GET, format!("{VIEWS}/missing"), None, 404, "NoSuchViewException"),
        (Method::GET, "/v1/default/namespaces/x/tables".to_owned(), None, 404, "NoSuchNamespaceException"),
        (Method::GET, "/v1/config?warehouse=x".to_owned(), None, 404, "NoSuchWarehouseException"),
        (Method::GET, format!("{TABLE}/plan/x"), None, 404, "NoSuchPlanIdException"),
        (Method::POST, format!("{TABLE}/tasks"), Some(json!({"plan-task": "x.1"})), 404, "NoSuchPlanTaskException"),
        (Method::DELETE, "/v1/default/namespaces/n".to_owned(), None, 409, "NamespaceNotEmptyException"),
        (Method::POST, TABLES.to_owned(), Some(create("t")), 409, "AlreadyExistsException"),
    ] {
        let (got, got_kind, message) = app.refused(method, &path, body).await;
        assert_eq!((got, got_kind.as_str()), (code, kind), "{path}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_08_a_conflict_is_409_also_for_a_stale_sequence_number() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = Writer::new(&app);
    writer.append(0..2).await;
    let stale = writer.prepare_append(2..4).await;
    writer.append(4..6).await;
    let mut body = stale.body().clone();
    assert_eq!(app.refused(Method::POST, TABLE, Some(body.clone())).await.0, 409, "the requirement fails");
    body["requirements"] = json!([]);
    let (code, kind, message) = app.refused(Method::POST, TABLE, Some(body)).await;
    assert_eq!((code, kind.as_str()), (409, "CommitFailedException"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_09_no_refused_commit_asks_to_be_repeated_blindly() {
    let app = TestApp::start().await;
    app.table().await;
    let wrong = json!({"requirements": [{"type": "assert-current-schema-id", "current-schema-id": 9}], "updates": []});
    let (status, headers, _) = app.send_raw(Method::POST, TABLE, &[], Some(wrong)).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(!headers.contains_key("retry-after"));
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_10_an_empty_page_token_without_a_size_lists_everything_and_pages_are_stable_under_change() {
    let app = TestApp::start().await;
    app.ok(Method::POST, NAMESPACES, Some(json!({"namespace": ["n"]}))).await;
    for name in ["a", "b", "c", "d", "e"] {
        app.ok(Method::POST, TABLES, Some(create(name))).await;
    }
    let names = |body: &Value| -> Vec<String> {
        let list = body["identifiers"].as_array().expect("a list").iter();
        list.map(|i| i["name"].as_str().expect("a name").to_owned()).collect()
    };
    let all = app.ok(Method::GET, &format!("{TABLES}?pageToken="), None).await;
    assert_eq!(names(&all), ["a", "b", "c", "d", "e"]);
    assert!(all["next-page-token"].is_null());
    let first = app.ok(Method::GET, &format!("{TABLES}?pageToken=&pageSize=2"), None).await;
    // One listed table is dropped, and a new one sorts before the cursor. The next page neither skips nor repeats a table.
    app.ok(Method::DELETE, &format!("{TABLES}/b"), None).await;
    app.ok(Method::POST, TABLES, Some(create("aa"))).await;
    let token = first["next-page-token"].as_str().expect("a token");
    let second = app.ok(Method::GET, &format!("{TABLES}?pageToken={token}&pageSize=9"), None).await;
    assert_eq!((names(&first), names(&second)), (vec!["a".into(), "b".into()], vec!["c".into(), "d".into(), "e".into()]));
    assert!(second["next-page-token"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_11_levels_are_separated_by_the_unit_separator_in_paths_and_in_parent() {
    let app = TestApp::start().await;
    // Missing parent namespaces are created too, as in the reference implementation.
    app.ok(Method::POST, NAMESPACES, Some(json!({"namespace": ["a.b", "c", "d"]}))).await;
    assert_eq!(app.refused(Method::POST, NAMESPACES, Some(json!({"namespace": ["a.b", "c"]}))).await.0, 409);
    let loaded = app.ok(Method::GET, &format!("{NAMESPACES}/a.b%1Fc"), None).await;
    assert_eq!(loaded["namespace"], json!(["a.b", "c"]));
    let inside = app.ok(Method::GET, &format!("{NAMESPACES}?parent=a.b%1Fc"), None).await;
    assert_eq!(inside["namespaces"], json!([["a.b", "c", "d"]]));
    let outermost = app.ok(Method::GET, &format!("{NAMESPACES}?parent="), None).await;
    assert_eq!(outermost["namespaces"], json!([["a.b"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_12_a_plus_in_a_path_is_a_space_and_an_encoded_plus_is_a_plus() {
    let app = TestApp::start().await;
    app.ok(Method::POST, NAMESPACES, Some(json!({"namespace": ["n"]}))).await;
    for (name, paths) in [
        ("a b", &["a+b", "a%20b"][..]),
        ("a+b", &["a%2Bb"]),
        ("100%", &["100%25"]),
        ("it's \"q\"", &["it%27s+%22q%22"]),
        ("größe/ü", &["gr%C3%B6%C3%9Fe%2F%C3%BC"]),
        ("tables", &["tables"]),
        ("a.b.c", &["a.b.c"]),
    ] {
        app.ok(Method::POST, TABLES, Some(create(name))).await;
        app.ok(Method::POST, VIEWS, Some(view(&format!("v {name}")))).await;
        for path in paths {
            app.ok(Method::GET, &format!("{TABLES}/{path}"), None).await;
            app.ok(Method::GET, &format!("{VIEWS}/v+{path}"), None).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_13_every_endpoint_that_is_offered_is_written_with_its_prefix_and_served() {
    let app = TestApp::start().await;
    let config = app.ok(Method::GET, "/v1/config", None).await;
    let endpoints = config["endpoints"].as_array().expect("a list");
    assert_eq!(endpoints.len(), 32);
    for endpoint in endpoints {
        let (method, template) = endpoint.as_str().and_then(|e| e.split_once(' ')).expect("VERB path");
        assert!(template.starts_with("/v1/{prefix}/"), "{template}");
        let path = template.replace("{prefix}", "default").replace(['{', '}'], "");
        let (status, _, body) = app.send_raw(method.parse().expect("a verb"), &path, &[], None).await;
        let unknown = status == StatusCode::METHOD_NOT_ALLOWED || body.contains("no such route");
        assert!(!unknown, "{endpoint}: {status} {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_14_defaults_and_overrides_are_both_there() {
    let app = TestApp::start().await;
    let config = app.ok(Method::GET, "/v1/config", None).await;
    assert!(config["defaults"].is_object() && config["overrides"].is_object());
    assert_eq!(config["overrides"]["prefix"], "default");
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_15_requirements_are_read_strictly() {
    let app = TestApp::start().await;
    app.table().await;
    let commit = |requirement: Value| json!({"requirements": [requirement], "updates": []});
    let absent = commit(json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": null}));
    app.ok(Method::POST, TABLE, Some(absent.clone())).await;
    Writer::new(&app).append(0..1).await;
    assert_eq!(app.refused(Method::POST, TABLE, Some(absent)).await.0, 409);
    assert_eq!(app.refused(Method::POST, TABLE, Some(commit(json!({"type": "assert-luck"})))).await.0, 400);
    let beside = json!({"requirements": [{"type": "assert-create"}, {"type": "assert-current-schema-id",
        "current-schema-id": 0}], "updates": []});
    assert_eq!(app.refused(Method::POST, &format!("{TABLES}/new"), Some(beside)).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_16_minus_one_is_what_was_added_last_and_a_commit_answers_without_config() {
    let app = TestApp::start().await;
    app.table().await;
    let mut schema = schema_json();
    schema["fields"].as_array_mut().expect("fields").push(json!({"id": 3, "name": "x", "required": false, "type": "int"}));
    let body = json!({"requirements": [], "updates": [
        {"action": "add-schema", "schema": schema}, {"action": "set-current-schema", "schema-id": -1},
        {"action": "add-sort-order", "sort-order": {"order-id": 1, "fields": [
            {"source-id": 3, "transform": "identity", "direction": "asc", "null-order": "nulls-first"}]}},
        {"action": "set-default-sort-order", "sort-order-id": -1},
        {"action": "add-spec", "spec": {"spec-id": 1, "fields": [{"source-id": 3, "name": "x", "transform": "identity"}]}},
        {"action": "set-default-spec", "spec-id": -1},
    ]});
    let answer = app.ok(Method::POST, TABLE, Some(body)).await;
    assert!(answer.get("config").is_none());
    let metadata = &answer["metadata"];
    assert_eq!(metadata["current-schema-id"], 1);
    assert_eq!(metadata["default-spec-id"], 1);
    assert_ne!(metadata["default-sort-order-id"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_17_loading_references_keeps_all_but_the_other_snapshots() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = Writer::new(&app);
    for i in 0..3 {
        writer.append(i..i + 1).await;
    }
    let all = app.ok(Method::GET, &format!("{TABLE}?snapshots="), None).await;
    let mut refs = app.ok(Method::GET, &format!("{TABLE}?snapshots=refs"), None).await;
    assert_eq!(refs["metadata"]["snapshots"].as_array().map(Vec::len), Some(1));
    refs["metadata"]["snapshots"] = all["metadata"]["snapshots"].clone();
    assert_eq!(refs, all, "everything else is the same: location, refs, logs");
    assert_eq!(app.refused(Method::GET, &format!("{TABLE}?snapshots=some"), None).await.0, 400);
    // A client that reads a table through views sends `referenced-by`.
    app.ok(Method::GET, &format!("{TABLE}?snapshots=all&referenced-by=n%1Fv,n%1Fw"), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_18_whatever_access_is_asked_for_nothing_is_promised_that_is_not_given() {
    let app = TestApp::start().await;
    app.table().await;
    for value in ["vended-credentials", "remote-signing, vended-credentials", " ,,", "d\u{e9}l\u{e9}gation"] {
        let (status, _, body) = app.send_raw(Method::GET, TABLE, &[("x-iceberg-access-delegation", value)], None).await;
        assert_eq!(status, StatusCode::OK);
        let body: Value = serde_json::from_str(&body).expect("json");
        assert!(body.get("storage-credentials").is_none(), "an entry without keys would break DuckDB");
        assert_eq!(body["config"], json!({}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_19_the_credentials_route_gives_none_and_no_response_holds_the_servers_own() {
    let app = TestApp::start_with(|c| {
        let storage = [
            ("endpoint", "http://127.0.0.1:9"),
            ("region", "r"),
            ("access_key_id", "the-key"),
            ("secret_access_key", "the-secret"),
        ];
        let s3 = esker::config::WarehouseConfig {
            location: Some("s3://lake/x".to_owned()),
            storage: storage.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            ..Default::default()
        };
        c.warehouses = [("default".to_owned(), Default::default()), ("cloud".to_owned(), s3)].into();
    })
    .await;
    app.table().await;
    assert_eq!(app.ok(Method::GET, &format!("{TABLE}/credentials"), None).await, json!({"storage-credentials": []}));
    let config = app.ok(Method::GET, "/v1/config?warehouse=cloud", None).await;
    assert_eq!(config["defaults"]["s3.endpoint"], "http://127.0.0.1:9");
    assert_eq!(config["defaults"]["client.region"], "r");
    let text = config.to_string() + &app.ok(Method::GET, "/api/v1/warehouses", None).await.to_string();
    assert!(!text.contains("the-key") && !text.contains("the-secret"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_20_signing_is_refused_in_words_and_not_offered() {
    let app = TestApp::start().await;
    app.table().await;
    let request = json!({"region": "r", "uri": "http://x/y", "method": "GET", "headers": {}});
    let (code, kind, message) = app.refused(Method::POST, &format!("{TABLE}/sign"), Some(request)).await;
    assert_eq!((code, kind.as_str()), (400, "UnsupportedOperationException"), "{message}");
    assert!(!app.ok(Method::GET, "/v1/config", None).await["endpoints"].to_string().contains("/sign"));
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_21_a_plan_names_itself_and_refers_to_deletes_by_place() {
    let app = TestApp::start().await;
    app.table().await;
    let writer = Writer::new(&app);
    writer.append(0..10).await;
    writer.append(10..20).await;
    let first = writer.data_files().await.into_iter().next().expect("a file");
    writer.delete_positions(&first, &[1, 2]).await;
    let plan = app.ok(Method::POST, &format!("{TABLE}/plan"), Some(json!({"stats-fields": ["id"]}))).await;
    assert_eq!(plan["status"], "completed");
    let id = plan["plan-id"].as_str().expect("an id");
    let deletes = plan["delete-files"].as_array().expect("delete files");
    assert_eq!((deletes.len(), &deletes[0]["content"]), (1, &json!("position-deletes")));
    let tasks = plan["file-scan-tasks"].as_array().expect("tasks");
    let of_first = tasks.iter().find(|t| t["data-file"]["file-path"] == first.as_str()).expect("the file");
    assert_eq!(of_first["delete-file-references"], json!([0]));
    let file = &of_first["data-file"];
    assert_eq!((&file["content"], &file["file-format"], &file["partition"]), (&json!("data"), &json!("parquet"), &json!([])));
    assert_eq!(file["lower-bounds"]["keys"], json!([1]));
    assert!(file["lower-bounds"]["values"][0].as_str().is_some_and(|hex| hex.len() == 16));
    assert_eq!(of_first["residual-filter"], json!(true));

    // The plan is polled, cancelled, and polled again.
    let polled = app.ok(Method::GET, &format!("{TABLE}/plan/{id}"), None).await;
    assert_eq!(polled["file-scan-tasks"], plan["file-scan-tasks"]);
    app.ok(Method::DELETE, &format!("{TABLE}/plan/{id}"), None).await;
    assert_eq!(app.ok(Method::GET, &format!("{TABLE}/plan/{id}"), None).await["status"], "cancelled");

    let filter = json!({"filter": {"type": "gt", "term": "id", "value": 14}});
    let filtered = app.ok(Method::POST, &format!("{TABLE}/plan"), Some(filter)).await;
    assert_eq!(filtered["file-scan-tasks"].as_array().map(Vec::len), Some(1));
    let snapshots: Vec<i64> = writer.metadata().await.snapshot_log.iter().map(|log| log.snapshot_id).collect();
    let range = json!({"start-snapshot-id": snapshots[0], "end-snapshot-id": snapshots[1]});
    let appended = app.ok(Method::POST, &format!("{TABLE}/plan"), Some(range)).await;
    assert_eq!(appended["file-scan-tasks"].as_array().map(Vec::len), Some(1), "what the second append brought");
    for (body, words) in [
        (json!({"filter": {"type": "eq", "term": "nope", "value": 1}}), "nope"),
        (json!({"snapshot-id": 1}), "1"),
        (json!({"start-snapshot-id": 1}), "end-snapshot-id"),
        (json!({"select": ["nope"]}), "nope"),
    ] {
        let (code, _, message) = app.refused(Method::POST, &format!("{TABLE}/plan"), Some(body)).await;
        assert!(code == 400 && message.contains(words), "{code} {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_22_identifiers_beyond_53_bits_are_exact() {
    let app = TestApp::start().await;
    app.table().await;
    Writer::new(&app).append(0..1).await;
    let (_, _, text) = app.send_raw(Method::GET, TABLE, &[], None).await;
    let id = Writer::new(&app).metadata().await.current_snapshot_id.expect("a snapshot");
    assert!(text.contains(&format!("\"current-snapshot-id\":{id}")), "{id}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_23_tables_and_views_share_one_name_space() {
    let app = TestApp::start().await;
    app.table().await;
    app.ok(Method::POST, VIEWS, Some(view("v"))).await;
    let rename = |from: &str, to: &str| json!({"source": {"namespace": ["n"], "name": from}, "destination": {"namespace": ["n"], "name": to}});
    let location = app.ok(Method::GET, &format!("{VIEWS}/v"), None).await["metadata-location"].clone();
    let table_location = app.ok(Method::GET, TABLE, None).await["metadata-location"].clone();
    for (path, body) in [
        (VIEWS, view("t")),
        (TABLES, create("v")),
        ("/v1/default/tables/rename", rename("t", "v")),
        ("/v1/default/views/rename", rename("v", "t")),
        ("/v1/default/namespaces/n/register-view", json!({"name": "t", "metadata-location": location})),
        ("/v1/default/namespaces/n/register", json!({"name": "v", "metadata-location": table_location, "overwrite": true})),
    ] {
        let (code, kind, message) = app.refused(Method::POST, path, Some(body)).await;
        assert_eq!((code, kind.as_str()), (409, "AlreadyExistsException"), "{path}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_24_registering_takes_the_same_care_as_creating() {
    let app = TestApp::start().await;
    let created = app.table().await;
    app.ok(Method::POST, &format!("{TABLE}/unregister"), None).await;
    let body = json!({"name": "back", "metadata-location": created["metadata-location"]});
    let header = [("x-iceberg-access-delegation", "vended-credentials")];
    let path = "/v1/default/namespaces/n/register";
    let (status, headers, text) = app.send_raw(Method::POST, path, &header, Some(body)).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(headers.contains_key("etag") && !text.contains("storage-credentials"));
    let outside = json!({"name": "x", "metadata-location": "http://127.0.0.1/metadata.json"});
    assert_eq!(app.refused(Method::POST, path, Some(outside)).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_25_what_has_nothing_to_say_says_204() {
    let app = TestApp::start().await;
    app.table().await;
    app.ok(Method::POST, VIEWS, Some(view("v"))).await;
    for path in ["/v1/default/namespaces/n", TABLE, &format!("{VIEWS}/v")] {
        let (status, _, body) = app.send_raw(Method::HEAD, path, &[], None).await;
        assert_eq!((status, body.as_str()), (StatusCode::NO_CONTENT, ""), "{path}");
    }
    let rename = json!({"source": {"namespace": ["n"], "name": "t"}, "destination": {"namespace": ["n"], "name": "u"}});
    let (status, _, body) = app.send_raw(Method::POST, "/v1/default/tables/rename", &[], Some(rename)).await;
    assert_eq!((status, body.as_str()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(app.send_raw(Method::HEAD, TABLE, &[], None).await.0, StatusCode::NOT_FOUND);
}
