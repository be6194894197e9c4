//! Users of an identity provider: REST, Flight SQL, the exchange of tokens, the log-in, and what the provider's end means.

use std::time::{Duration, Instant};

use esker_tests::{TestApp, TestProvider};
use reqwest::Method;
use serde_json::json;

use super::page::Browser;
use super::tokens::exchange;
use super::{make_token, send_as, status_as};

const NAMESPACES: &str = "/v1/default/namespaces";

async fn start(provider: &TestProvider) -> TestApp {
    TestApp::start_with(|config| drop(config.auth.oidc.insert("sso".to_owned(), provider.config()))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_works_in_rest_and_flight_under_the_issuers_name() {
    let provider = TestProvider::start().await;
    let app = start(&provider).await;
    let token = provider.token("ann", 300);
    let (status, _) = send_as(&app, &token, Method::POST, NAMESPACES, &[], Some(json!({"namespace": ["n"]}))).await;
    assert_eq!(status, 200);
    let events = app.ok(Method::GET, "/api/v1/events", None).await;
    assert!(events.to_string().contains(&format!("{}/ann", provider.issuer)), "{events}");
    app.flight_as(&token).await.execute("SELECT 1".to_owned(), None).await.expect("a statement");

    for (wrong, why) in [
        (provider.token("ann", -120), "it has ended"),
        (TestProvider::start().await.token("ann", 300), "its issuer is not known here"),
        (provider.sign(&json!({"iss": provider.issuer, "aud": "other", "sub": "ann", "exp": 4_000_000_000_u64})), "audience"),
        (token.replacen("eyJ", "eyK", 1), "not valid"),
    ] {
        let (status, answer) = send_as(&app, &wrong, Method::GET, "/v1/config", &[], None).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(status == 401 && message.contains(why), "{status} {answer}");
        let refused = app.flight_as(&wrong).await.execute("SELECT 1".to_owned(), None).await.expect_err("refused");
        assert!(refused.to_string().contains("the token is not valid"), "{refused}");
    }
    let without = TestApp::start().await;
    assert_eq!(status_as(&without, &token).await, 401, "no provider is configured");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_a_client_of_one_name_share_no_receipts() {
    let provider = TestProvider::start().await;
    let app = start(&provider).await;
    let (_, client) = make_token(&app, "ann").await;
    let user = provider.token("ann", 300);
    let key = [("idempotency-key", "0190a7b0-0000-7000-8000-000000000001")];
    let body = || Some(json!({"namespace": ["n"]}));
    assert_eq!(send_as(&app, &user, Method::POST, NAMESPACES, &key, body()).await.0, 200);
    assert_eq!(send_as(&app, &client, Method::POST, NAMESPACES, &key, body()).await.0, 409, "the namespace exists already");
    assert_eq!(send_as(&app, &user, Method::POST, NAMESPACES, &key, body()).await.0, 200, "the same request again");
    // Another token of the user is the same principal.
    let (_, exchanged) = exchange(&app, &provider.token("ann", 200), None).await;
    assert_eq!(send_as(&app, &exchanged, Method::POST, NAMESPACES, &key, body()).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_token_is_exchanged_and_all_that_follows_ends_with_it() {
    let provider = TestProvider::start().await;
    let app = start(&provider).await;
    let (status, first) = exchange(&app, &provider.token("ann", 300), None).await;
    assert_eq!(status, 200);
    assert!(first.starts_with("esk_"), "a token of Esker");
    let (status, next) = exchange(&app, &first, None).await;
    assert_eq!((status, status_as(&app, &next).await), (200, 200));
    app.flight_as(&next).await.execute("SELECT 1".to_owned(), None).await.expect("a statement");
    let listed = app.ok(Method::GET, "/api/v1/tokens", None).await;
    let own = format!("{}/ann", provider.issuer);
    let chain = listed.as_array().expect("tokens").iter().find(|token| token["principal"] == own.as_str()).expect("listed");
    let id = chain["id"].as_str().expect("an id");
    app.ok(Method::DELETE, &format!("/api/v1/tokens/{id}"), None).await;
    assert_eq!((status_as(&app, &first).await, status_as(&app, &next).await), (401, 401));

    let (status, brief) = exchange(&app, &provider.token("bob", 3), None).await;
    assert_eq!(status, 200);
    let began = Instant::now();
    while status_as(&app, &brief).await != 401 {
        assert!(began.elapsed() < Duration::from_secs(30), "the chain goes on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(exchange(&app, &brief, None).await.0, 401);
    assert_eq!(exchange(&app, &provider.token("ann", -120), None).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_logs_in_to_the_page_until_the_token_ends() {
    let provider = TestProvider::start().await;
    let app = start(&provider).await;
    let mut browser = Browser::of(&app);
    assert_eq!(browser.log_in(&provider.token("ann", -120)).await.status, 401);
    assert_eq!(browser.log_in(&provider.token("ann", 300)).await.status, 303);
    let page = browser.get("/").await;
    assert!(page.text.contains(&format!("{}/ann", provider.issuer)), "{}", page.text);
    let mut brief = Browser::of(&app);
    assert_eq!(brief.log_in(&provider.token("bob", 3)).await.status, 303);
    let began = Instant::now();
    while brief.is_known().await {
        assert!(began.elapsed() < Duration::from_secs(30), "the session goes on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(browser.is_known().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_stops_neither_the_server_nor_users_whose_key_is_known() {
    let provider = TestProvider::start().await;
    let (early, late) = (start(&provider).await, start(&provider).await);
    assert_eq!(status_as(&early, &provider.token("ann", 300)).await, 200);
    provider.stop();
    assert_eq!(status_as(&early, &provider.token("bob", 300)).await, 200, "a known key");
    assert_eq!(status_as(&late, &provider.token("bob", 300)).await, 503, "the key can't be fetched");
    let own = make_token(&late, "job").await.1;
    assert_eq!(status_as(&late, &own).await, 200, "clients need no provider");
    let ready = reqwest::get(late.url("/readyz")).await.expect("an answer");
    assert_eq!(ready.status().as_u16(), 200);
}
