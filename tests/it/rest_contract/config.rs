//! `GET /v1/config`: the operations that are offered, defaults and overrides.

use esker_tests::TestApp;
use reqwest::{Method, StatusCode};

#[tokio::test(flavor = "multi_thread")]
async fn the_idempotency_lifetime_is_in_seconds_and_no_override() {
    let app = TestApp::start_with(|c| c.server.idempotency_seconds = 14 * 24 * 3600).await;
    let config = app.ok(Method::GET, "/v1/config", None).await;
    assert_eq!(config["idempotency-key-lifetime"], "PT1209600S");
    assert!(config["overrides"].get("idempotency-key-lifetime").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_that_is_offered_is_written_with_its_prefix_and_served() {
    let app = TestApp::start().await;
    let config = app.ok(Method::GET, "/v1/config", None).await;
    let endpoints = config["endpoints"].as_array().expect("a list");
    assert_eq!(endpoints.len(), 31, "all but credentials and signatures, which this warehouse does not give");
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
async fn defaults_and_overrides_are_both_there() {
    let app = TestApp::start().await;
    let config = app.ok(Method::GET, "/v1/config", None).await;
    assert!(config["defaults"].is_object() && config["overrides"].is_object());
    assert_eq!(config["overrides"]["prefix"], "default");
}
