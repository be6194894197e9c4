//! The guard in front of all routes: hosts, sites, proxies, wrong tokens where none is needed, and limits.

use esker_tests::{TOKEN, TestApp};
use futures::future::join_all;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

const NAMESPACES: &str = "/v1/default/namespaces";

/// Sends a request without a token. Returns the status, the headers and the body of the answer.
async fn send(app: &TestApp, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, HeaderMap, String) {
    let mut request = reqwest::Client::new().request(method, app.url(path)).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.headers().clone(), answer.text().await.expect("a body"))
}

async fn status(app: &TestApp, method: Method, path: &str, headers: &[(&str, &str)]) -> u16 {
    send(app, method, path, headers, "").await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_no_page_of_another_site_uses_the_server() {
    let app = TestApp::start_with(|c| c.auth.anonymous = true).await;
    assert_eq!(status(&app, Method::GET, NAMESPACES, &[]).await, 200);
    let rebound = [("host", "rebound.example")];
    for path in [NAMESPACES, "/api/v1/tables", "/", "/metrics", "/readyz"] {
        assert_eq!(status(&app, Method::GET, path, &rebound).await, 403, "{path}");
    }
    let foreign = [[("origin", "https://elsewhere.example")], [("sec-fetch-site", "cross-site")], [("origin", "null")]];
    for headers in &foreign {
        let create = json!({"namespace": ["stolen"]}).to_string();
        let (code, answered, text) = send(&app, Method::POST, NAMESPACES, headers, &create).await;
        assert_eq!(code, 403, "{headers:?}: {text}");
        assert!(text.contains("ForbiddenException") && !answered.contains_key("access-control-allow-origin"), "{text}");
        assert_eq!(status(&app, Method::GET, NAMESPACES, headers).await, 403, "{headers:?}");
        let (code, answered, _) = send(&app, Method::OPTIONS, NAMESPACES, headers, "").await;
        assert!(code == 403 && !answered.contains_key("access-control-allow-origin"), "{headers:?}: {code}");
    }
    assert_eq!(status(&app, Method::GET, "/", &[("sec-fetch-site", "cross-site")]).await, 200, "a link to the page works");
    let listed: Value = serde_json::from_str(&send(&app, Method::GET, NAMESPACES, &[], "").await.2).expect("JSON");
    assert_eq!(listed["namespaces"], json!([]));
}

/// PyIceberg sends an empty token if none is configured.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_refused_where_none_is_needed() {
    let app = TestApp::start_with(|c| c.auth.anonymous = true).await;
    let right = format!("Bearer {TOKEN}");
    let refused = ["Bearer wrong", "bearer x", "Negotiate x", "Basic eDp5", "x"].map(|header| (header, 401));
    for (header, expected) in [("Bearer ", 200), ("Bearer", 200), (right.as_str(), 200)].into_iter().chain(refused) {
        for path in [NAMESPACES, "/v1/config", "/api/v1/tables", "/"] {
            assert_eq!(status(&app, Method::GET, path, &[("authorization", header)]).await, expected, "{header:?} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_on_this_machine_makes_nobody_anonymous() {
    let app = TestApp::start_with(|c| {
        c.auth.anonymous = true;
        c.server.trusted_proxies = vec!["127.0.0.1".to_owned()];
    })
    .await;
    let of_vendors = ["cf-connecting-ip", "true-client-ip", "x-client-ip", "x-envoy-external-address"];
    for name in ["x-forwarded-for", "forwarded", "x-real-ip"].into_iter().chain(of_vendors) {
        assert_eq!(status(&app, Method::GET, NAMESPACES, &[(name, "127.0.0.1")]).await, 401, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flight_sql_refuses_wrong_tokens_proxies_and_pages_where_no_token_is_needed() {
    let app = TestApp::start_with(|c| c.auth.anonymous = true).await;
    app.flight_without_token().await.execute("SELECT 1".to_owned(), None).await.expect("no token is needed");
    let refused = app.flight_as("wrong").await.execute("SELECT 1".to_owned(), None).await.expect_err("a wrong token").to_string();
    assert!(refused.contains("not valid"), "{refused}");
    for (name, value, why) in [("x-forwarded-for", "127.0.0.1", "no token"), ("origin", "http://127.0.0.1", "web pages")] {
        let mut client = app.flight_without_token().await;
        client.set_header(name, value);
        let refused = client.execute("SELECT 1".to_owned(), None).await.expect_err(name).to_string();
        assert!(refused.contains(why), "{name}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_configured_names_other_hosts_are_refused() {
    let app = TestApp::start_with(|c| c.server.allowed_hosts = vec!["esker.internal".to_owned()]).await;
    let token = format!("Bearer {TOKEN}");
    let with = |host| [("authorization", token.as_str()), ("host", host)];
    for (host, expected) in [("esker.internal:8181", 200), ("127.0.0.1", 200), ("localhost", 200), ("other.example", 403)] {
        assert_eq!(status(&app, Method::GET, NAMESPACES, &with(host)).await, expected, "{host}");
    }
    let app = TestApp::start().await;
    assert_eq!(status(&app, Method::GET, NAMESPACES, &with("other.example")).await, 200, "nothing is configured");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_tries_many_secrets_has_to_wait_and_no_other_one() {
    let app = TestApp::start_with(|c| {
        c.limits.unauthenticated_per_second = 1;
        c.server.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    })
    .await;
    let form = "grant_type=client_credentials&client_secret=wrong";
    for (path, error) in [("/v1/oauth/tokens", "temporarily_unavailable"), ("/login", "TooManyRequestsException")] {
        let address = [("x-forwarded-for", "198.51.100.1")];
        let answers = join_all((0..40).map(|_| send(&app, Method::POST, path, &address, form))).await;
        let refused: Vec<_> = answers.iter().filter(|(code, ..)| *code == 429).collect();
        assert!(refused.len() < answers.len(), "{path}: the first one is answered");
        let (_, headers, text) = refused.first().expect("the others wait");
        assert!(headers["retry-after"] == "1" && text.contains(error), "{path}: {text}");
        let other = [("x-forwarded-for", "198.51.100.2")];
        assert_ne!(send(&app, Method::POST, path, &other, form).await.0, 429, "{path}: another address");
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_headers_and_deep_bodies_are_refused() {
    let app = TestApp::start_with(|c| c.limits.header_bytes = 4096).await;
    let long = "x".repeat(5000);
    assert_eq!(status(&app, Method::GET, "/api/v1/tables", &[("x-long", &long)]).await, 431);
    let token = format!("Bearer {TOKEN}");
    let list = "{\"type\": \"list\", \"element-id\": 1, \"element-required\": false, \"element\": ";
    let kind = format!("{}\"long\"{}", list.repeat(2000), "}".repeat(2000));
    let fields = format!("[{{\"id\": 1, \"name\": \"a\", \"required\": false, \"type\": {kind}}}]");
    let deep = format!("{{\"name\": \"t\", \"schema\": {{\"type\": \"struct\", \"fields\": {fields}}}}}");
    let path = "/v1/default/namespaces/n/tables";
    let (code, _, text) = send(&app, Method::POST, path, &[("authorization", &token)], &deep).await;
    assert!(code == 400 && text.contains("request body"), "{code}: {text}");
    let secret = format!("grant_type=client_credentials&client_secret={}", "x".repeat(70_000));
    assert_eq!(send(&app, Method::POST, "/v1/oauth/tokens", &[], &secret).await.0, 400, "nobody is known yet");
}
