//! Statuses of success, the envelope of errors, and the types of errors.

use esker_tests::TestApp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{NAMESPACES, TABLE, TABLES, VIEWS, create, set, view};

#[tokio::test(flavor = "multi_thread")]
async fn success_is_200_or_204_and_never_201() {
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
async fn what_has_nothing_to_say_says_204() {
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

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_in_the_envelope_and_those_of_the_token_route_are_in_the_form_of_the_rfc() {
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
async fn types_tell_clients_what_is_missing() {
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
