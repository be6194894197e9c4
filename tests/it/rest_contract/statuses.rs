//! Refusals whose natural status the REST specification does not list for their operation: they get a listed one.
//!
//! The harness checks every answer of every test against the list, see `esker_tests::check_listed`.

use esker_tests::{TestApp, is_listed, schema_json};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const NAMESPACES: &str = "/v1/default/namespaces";
const TABLES: &str = "/v1/default/namespaces/n/tables";
const TABLE: &str = "/v1/default/namespaces/n/tables/t";

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_that_is_offered_is_in_the_list() {
    let app = TestApp::start().await;
    let config = app.ok(Method::GET, "/v1/config", None).await;
    for endpoint in config["endpoints"].as_array().expect("endpoints") {
        let (method, path) = endpoint.as_str().and_then(|e| e.split_once(' ')).expect("a method and a path");
        let method: Method = method.parse().expect("a method");
        assert_eq!(is_listed(&method, path, StatusCode::BAD_REQUEST), Some(true), "{endpoint}");
    }
    // Each operation has its own list.
    for (method, path, status, listed) in [
        (Method::POST, TABLE, 409, Some(true)),
        (Method::POST, TABLE, 507, Some(true)),
        (Method::POST, TABLE, 422, Some(false)),
        (Method::DELETE, TABLE, 409, Some(false)),
        (Method::POST, "/v1/default/namespaces/n/properties", 422, Some(true)),
        (Method::PUT, TABLE, 405, None),
        (Method::POST, "/api/v1/warehouses/default/namespaces/n/tables/t/compact", 422, None),
    ] {
        let status = StatusCode::from_u16(status).expect("a status");
        assert_eq!(is_listed(&method, path, status), listed, "{method} {path} {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_without_a_status_of_its_own_in_the_list_is_a_bad_request_and_says_what_it_is() {
    let app = TestApp::start_with(|config| config.server.max_body_bytes = 4000).await;
    app.table().await;
    let large = json!({"namespace": ["x".repeat(5000)]});
    let named = json!({"namespace": ["x"]});
    let both = json!({"updates": {"a": "1"}, "removals": ["a"]});
    let sign = json!({"region": "r", "uri": "http://x/y", "method": "GET", "headers": {}});
    for (path, body, code, kind) in [
        // No operation lists 413.
        (NAMESPACES, large.clone(), 400, "PayloadTooLargeException"),
        // 404 is not listed for these two, nor 406 for signing.
        ("/v1/missing/namespaces", named, 400, "NoSuchWarehouseException"),
        (&format!("{TABLES}/missing/sign"), sign.clone(), 400, "NoSuchTableException"),
        (&format!("{TABLE}/sign"), sign, 400, "UnsupportedOperationException"),
        // 422 is listed for this one.
        ("/v1/default/namespaces/n/properties", both, 422, "UnprocessableEntityException"),
    ] {
        let (got, got_kind, message) = app.refused(Method::POST, path, Some(body)).await;
        assert_eq!((got, got_kind.as_str()), (code, kind), "{path}: {message}");
    }
    // Routes outside of the specification keep the natural status.
    assert_eq!(app.refused(Method::POST, "/api/v1/warehouses/default/namespaces/n/tables/t/compact", Some(large)).await.0, 413);
    let form = "grant_type=client_credentials&client_secret=".to_owned() + &"x".repeat(5000);
    let token = reqwest::Client::new().post(app.url("/v1/oauth/tokens")).body(form).send().await.expect("an answer");
    assert_eq!(token.status(), StatusCode::BAD_REQUEST);
    assert_eq!(token.json::<Value>().await.expect("json")["error"], "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_repeated_with_the_status_that_it_had() {
    let app = TestApp::start().await;
    app.table().await;
    let ask = async |key: &str, path: &str, body: Value| {
        let (status, _, text) = app.send_raw(Method::POST, path, &[("idempotency-key", key)], Some(body)).await;
        let body: Value = serde_json::from_str(&text).expect("json");
        (status.as_u16(), body["error"]["code"].clone(), body["error"]["type"].clone())
    };
    let (first, second) = ("01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a8058");
    for (key, path, body, code, kind) in [
        (first, format!("{TABLE}/unregister?x"), json!({}), 200, Value::Null),
        (second, "/v1/missing/namespaces".to_owned(), json!({"namespace": ["x"]}), 400, json!("NoSuchWarehouseException")),
        (first, NAMESPACES.to_owned(), json!({"namespace": ["n"]}), 409, json!("AlreadyExistsException")),
        (
            second,
            TABLES.to_owned(),
            json!({"name": "x", "schema": {"type": "struct", "fields": 1}}),
            400,
            json!("BadRequestException"),
        ),
    ] {
        let answer = ask(key, &path, body.clone()).await;
        assert_eq!((answer.0, &answer.2), (code, &kind), "{path}");
        assert_eq!(ask(key, &path, body).await, answer, "{path}");
    }
    // A key that is used again with another body is a bad request, which is 400.
    let other = json!({"name": "y", "schema": schema_json()});
    assert_eq!(ask(second, TABLES, other).await, (400, json!(400), json!("BadRequestException")));
}
