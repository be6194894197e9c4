//! The log-in to the page at an identity provider: its way, and what others could do to it.

use std::collections::BTreeMap;

use esker::config::LoginConfig;
use esker_tests::{TOKEN, TestApp, TestProvider, on_postgres, watch_for};
use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::page::{Answer, Browser};
use crate::kills::beside_with;

/// The address of the servers for browsers.
const PUBLIC: &str = "http://localhost:8181";

/// The name of the cookie that binds a log-in to a browser.
const COOKIE: &str = "esker-oidc";

/// Starts a server with the log-ins of some providers.
async fn start(providers: &[(&str, &TestProvider)]) -> TestApp {
    TestApp::start_with(|config| {
        config.server.public_url = Some(PUBLIC.to_owned());
        config.limits.unauthenticated_per_second = 0;
        for (name, provider) in providers {
            config.auth.oidc.insert((*name).to_owned(), provider.log_in_config());
        }
    })
    .await
}

/// Starts a server with a changed log-in of a provider.
async fn start_with(provider: &TestProvider, change: impl FnOnce(&mut LoginConfig)) -> TestApp {
    TestApp::start_with(|config| {
        config.server.public_url = Some(PUBLIC.to_owned());
        config.limits.unauthenticated_per_second = 0;
        let mut section = provider.log_in_config();
        change(&mut section.login);
        config.auth.oidc.insert("sso".to_owned(), section);
    })
    .await
}

/// Begins a log-in. Returns the link to the provider.
async fn begin(browser: &mut Browser<'_>, path: &str) -> String {
    let sent = browser.get(path).await;
    assert_eq!(sent.status, 303, "{}", sent.text);
    sent.header("location").to_owned()
}

/// Goes to the provider and back. Returns the path at this server to which the provider sends the browser.
async fn come_back(browser: &mut Browser<'_>, provider: &TestProvider, path: &str) -> String {
    let link = begin(browser, path).await;
    let back = provider.log_in(&link).await;
    back.strip_prefix(PUBLIC).unwrap_or_else(|| panic!("{back}")).to_owned()
}

/// Calls the address for answers as browsers do: from a page of another site.
async fn answer(browser: &mut Browser<'_>, path: &str) -> Answer {
    browser.send(Method::GET, path, &[("sec-fetch-site", "cross-site")], "").await
}

/// Logs in by a provider. Returns the answer to the browser that comes back.
async fn log_in(browser: &mut Browser<'_>, provider: &TestProvider) -> Answer {
    let back = come_back(browser, provider, "/login/sso").await;
    answer(browser, &back).await
}

/// The cookie and the answer have all that a server needs, so a load balancer may send each request to another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_that_began_at_one_server_ends_at_another_one() {
    let provider = TestProvider::start().await;
    let first = start(&[("sso", &provider)]).await;
    if !on_postgres() {
        return; // with SQLite only one server can use a data directory
    }
    let second = beside_with(first.dir.path(), |config| {
        config.server.public_url = Some(PUBLIC.to_owned());
        config.auth.oidc.insert("sso".to_owned(), provider.log_in_config());
    })
    .await;
    let (mut here, mut there) = (Browser::of(&first), Browser::of(&second));
    let back = come_back(&mut here, &provider, "/login/sso").await;
    there.cookies = here.cookies.clone();
    let entered = answer(&mut there, &back).await;
    assert_eq!(entered.status, 303, "{}", entered.text);
    here.cookies = there.cookies.clone();
    assert!(here.is_known().await && there.is_known().await, "the session is known to both");
    let csrf = there.get("/jobs").await.csrf();
    let left = here.post("/logout", &format!("csrf={csrf}")).await;
    assert!(left.status < 400, "{} {}", left.status, left.text);
    assert!(!there.is_known().await, "the log-out holds on both");
}

fn parameters(link: &str) -> BTreeMap<String, String> {
    Url::parse(link).expect("an address").query_pairs().into_owned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_logs_in_at_the_provider_and_comes_to_the_page_that_was_wanted() {
    let provider = TestProvider::start().await;
    let app = start(&[("sso", &provider)]).await;
    let mut browser = Browser::of(&app);
    let form = browser.get("/login?next=%2Fjobs%3Fstate%3Dqueued").await;
    let link = "/login/sso?next=%2Fjobs%3Fstate%3Dqueued";
    assert!(form.text.contains(&format!("href=\"{link}\">Log in with sso</a>")), "{}", form.text);
    let sent = browser.get(link).await;
    let set = sent.header("set-cookie");
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=600"), "{set}");
    let asked = parameters(sent.header("location"));
    assert_eq!(asked["redirect_uri"], format!("{PUBLIC}/login/sso/callback"));
    assert_eq!((asked["scope"].as_str(), asked["code_challenge_method"].as_str()), ("openid", "S256"));
    assert!(!set.contains(&asked["state"]) && !set.contains(&asked["nonce"]), "the cookie does not show what is derived from it");
    let back = provider.log_in(sent.header("location")).await;
    watch_for(&browser.cookies[COOKIE]);
    let entered = answer(&mut browser, back.strip_prefix(PUBLIC).expect("this server")).await;
    assert_eq!((entered.status, entered.header("location")), (303, "/jobs?state=queued"), "{}", entered.text);
    assert!(browser.cookies.contains_key("esker") && !browser.cookies.contains_key(COOKIE));
    let page = browser.get("/").await;
    assert!(page.text.contains(&format!("{}/ann", provider.issuer)), "{}", page.text);
    assert_eq!(browser.get("/v1/config").await.status, 401, "the API reads no cookie");

    // The session rests on a token that is listed, and ends with it.
    let listed = app.ok(Method::GET, "/api/v1/tokens", None).await;
    let own = format!("{}/ann", provider.issuer);
    let token = listed.as_array().expect("tokens").iter().find(|token| token["principal"] == own.as_str()).expect("listed");
    assert!(app.server.access().audit().flush().await, "written");
    let trail = app.catalog().state().audit().after(0, 1000).await.expect("read");
    let (_, entered) = trail.iter().find(|(_, record)| record.operation == "pageLogIn").expect("recorded");
    assert_eq!((entered.principal_kind.as_str(), entered.principal.as_str(), entered.status), ("user", own.as_str(), Some(303)));
    app.ok(Method::DELETE, &format!("/api/v1/tokens/{}", token["id"].as_str().expect("an id")), None).await;
    assert!(!browser.is_known().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confidential_client_sends_its_secret_and_a_wrong_one_logs_nobody_in() {
    let provider = TestProvider::start().await;
    provider.require_secret("a-secret-of-the-page-client");
    watch_for("a-secret-of-the-page-client");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("secret");
    std::fs::write(&file, "a-secret-of-the-page-client\n").expect("written");
    let text = start_with(&provider, |login| login.client_secret = Some("a-secret-of-the-page-client".to_owned())).await;
    let from_file = start_with(&provider, |login| login.credential_file = Some(file.clone())).await;
    let public = start_with(&provider, |_| {}).await;
    let wrong = start_with(&provider, |login| login.client_secret = Some("wrong".to_owned())).await;
    for (app, status) in [(&text, 303), (&from_file, 303), (&public, 401), (&wrong, 401)] {
        let mut browser = Browser::of(app);
        assert_eq!(log_in(&mut browser, &provider).await.status, status);
        assert_eq!(browser.is_known().await, status == 303);
    }
    // The file is read at each log-in.
    std::fs::write(&file, "another").expect("written");
    assert_eq!(log_in(&mut Browser::of(&from_file), &provider).await.status, 401);
}

/// Log-in CSRF: another site sends a reader's browser to the address for answers, with the attacker's own code.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_logged_in_by_an_answer_that_belongs_to_another_browser() {
    let provider = TestProvider::start().await;
    let app = start(&[("sso", &provider)]).await;
    let (mut attacker, mut reader) = (Browser::of(&app), Browser::of(&app));
    let back = come_back(&mut attacker, &provider, "/login/sso").await;
    assert_eq!(answer(&mut reader, &back).await.status, 403, "this browser began nothing");
    begin(&mut reader, "/login/sso").await;
    let refused = answer(&mut reader, &back).await;
    assert!(refused.status == 403 && refused.text.contains("was not begun in this browser"), "{}", refused.text);
    assert!(!reader.is_known().await && reader.cookies.contains_key(COOKIE), "what the reader began goes on");
    // The state of the reader's own log-in with the code of the attacker: the verifier of PKCE does not fit.
    let own = parameters(&begin(&mut reader, "/login/sso").await)["state"].clone();
    let code = parameters(&format!("{PUBLIC}{back}"))["code"].clone();
    let mut forged = Url::parse(&format!("{PUBLIC}/login/sso/callback")).expect("an address");
    forged.query_pairs_mut().append_pair("state", &own).append_pair("code", &code).append_pair("iss", &provider.issuer);
    let forged = format!("{}?{}", forged.path(), forged.query().expect("a query"));
    assert_eq!(answer(&mut reader, &forged).await.status, 401);
    assert!(!reader.is_known().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_once_and_only_with_all_its_parts() {
    let provider = TestProvider::start().await;
    let app = start(&[("sso", &provider)]).await;
    let mut browser = Browser::of(&app);
    let back = come_back(&mut browser, &provider, "/login/sso").await;
    let cookie = browser.cookies[COOKIE].clone();
    assert_eq!(answer(&mut browser, &back).await.status, 303);
    assert_eq!(answer(&mut browser, &back).await.status, 403, "the cookie is gone");
    let mut thief = Browser::of(&app);
    thief.cookies.insert(COOKIE.to_owned(), cookie);
    assert_eq!(answer(&mut thief, &back).await.status, 401, "with the cookie, the provider refuses the code");
    assert!(!thief.is_known().await && browser.is_known().await);

    // A changed cookie: another provider, another page or another time.
    for (from, to) in [(".sso.", ".other."), (".Lw", ".L2pvYnM"), ("esk_", "esk_0")] {
        let back = come_back(&mut thief, &provider, "/login/sso").await;
        let changed = thief.cookies[COOKIE].replace(from, to);
        thief.cookies.insert(COOKIE.to_owned(), changed);
        assert_eq!(answer(&mut thief, &back).await.status, 403, "{to}");
    }
    for part in ["state", "code"] {
        let back = come_back(&mut thief, &provider, "/login/sso").await;
        let mut url = Url::parse(&format!("{PUBLIC}{back}")).expect("an address");
        let kept: Vec<(String, String)> = url.query_pairs().into_owned().filter(|(name, _)| name != part).collect();
        url.query_pairs_mut().clear().extend_pairs(kept);
        let without = format!("{}?{}", url.path(), url.query().expect("a query"));
        assert!(matches!(answer(&mut thief, &without).await.status, 401 | 403), "{part}");
        assert_eq!(answer(&mut thief, &format!("{back}&{part}=again")).await.status, 400, "{part} twice");
    }
    // Two tabs: the later one counts, also if the answer to the earlier one comes first.
    let mut tabs = Browser::of(&app);
    let earlier = come_back(&mut tabs, &provider, "/login/sso").await;
    let later = come_back(&mut tabs, &provider, "/login/sso").await;
    assert_eq!(answer(&mut tabs, &earlier).await.status, 403);
    assert_eq!(answer(&mut tabs, &later).await.status, 303);

    let state = parameters(&begin(&mut thief, "/login/sso").await)["state"].clone();
    let path = format!("/login/sso/callback?error=access_denied&error_description=%3Cb%3Ecall+Mallory&state={state}&iss=");
    let denied = answer(&mut thief, &format!("{path}{}", provider.issuer)).await;
    assert!(denied.status == 401 && !denied.text.contains("Mallory"), "a provider's text is not shown: {}", denied.text);
    assert!(!thief.cookies.contains_key(COOKIE), "the cookie of a failed log-in is gone");
    assert!(!thief.is_known().await);
}

/// RFC 9700, section 4.4: an attacker's provider passes on the answer of an honest one, or the other way round.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_one_provider_counts_for_no_other() {
    let (honest, evil) = (TestProvider::start().await, TestProvider::start().await);
    let app = start(&[("sso", &honest), ("evil", &evil)]).await;
    let mut browser = Browser::of(&app);
    let form = browser.get("/login").await;
    assert!(form.text.contains("/login/sso?") && form.text.contains("/login/evil?"), "a link for each: {}", form.text);

    // The honest answer at the address of the other provider.
    let back = come_back(&mut browser, &honest, "/login/sso").await;
    assert_eq!(answer(&mut browser, &back.replace("/login/sso/", "/login/evil/")).await.status, 403);
    // An answer that names another issuer, or none.
    for named in [evil.issuer.as_str(), ""] {
        honest.name_issuer(named);
        assert_eq!(log_in(&mut browser, &honest).await.status, 401, "{named:?}");
    }
    // The evil provider issues an ID token of the honest issuer.
    evil.change_claim("iss", json!(honest.issuer));
    let back = come_back(&mut browser, &evil, "/login/evil").await;
    assert_eq!(answer(&mut browser, &back).await.status, 401);
    assert!(!browser.is_known().await);
    assert_eq!(browser.get("/login/none").await.status, 404);
    assert_eq!(browser.get("/login/none/callback?state=a&code=b").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_is_checked_as_tokens_are_and_belongs_to_its_log_in() {
    let provider = TestProvider::start().await;
    let app = start(&[("sso", &provider)]).await;
    for (claim, value) in [
        ("nonce", json!("of-another-log-in")),
        ("nonce", Value::Null),
        ("aud", json!("esker")),
        ("aud", Value::Null),
        ("azp", json!("another-client")),
        ("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA")),
        ("exp", json!(1_700_000_000)),
        ("iat", json!(4_000_000_000_u64)),
        ("iss", json!("https://evil.example")),
        ("sub", Value::Null),
    ] {
        provider.change_claim(claim, value.clone());
        let mut browser = Browser::of(&app);
        let refused = log_in(&mut browser, &provider).await;
        assert!(refused.status == 401 && refused.text.contains("answer is not valid"), "{claim} {value}: {}", refused.text);
        assert!(!browser.is_known().await, "{claim} {value}");
        provider.restore_claims();
    }
    provider.change_claim("at_hash", Value::Null);
    assert_eq!(log_in(&mut Browser::of(&app), &provider).await.status, 303, "the specification does not demand it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_leads_to_no_other_server_and_its_address_does_not_follow_the_host() {
    let provider = TestProvider::start().await;
    let app = start(&[("sso", &provider)]).await;
    for next in ["https%3A%2F%2Fevil.example", "%2F%2Fevil.example", "%2F%5Cevil.example", "%2F%0D%0Aset-cookie%3A+x"] {
        let mut browser = Browser::of(&app);
        let back = come_back(&mut browser, &provider, &format!("/login/sso?next={next}")).await;
        let entered = answer(&mut browser, &back).await;
        assert_eq!((entered.status, entered.header("location")), (303, "/"), "{next}");
    }
    let mut browser = Browser::of(&app);
    let hosts = [("host", "localhost:9999"), ("x-forwarded-host", "evil.example")];
    let sent = browser.send(Method::GET, "/login/sso", &hosts, "").await;
    assert_eq!(parameters(sent.header("location"))["redirect_uri"], format!("{PUBLIC}/login/sso/callback"));
    let plain = browser.send(Method::GET, "/login/sso", &[("host", "evil.example")], "").await;
    assert_eq!(plain.status, 403, "a foreign name");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_out_ends_the_session_here_and_leads_to_the_providers_log_out() {
    let provider = TestProvider::start().await;
    let app = start(&[("sso", &provider)]).await;
    let mut browser = Browser::of(&app);
    assert_eq!(log_in(&mut browser, &provider).await.status, 303);
    let csrf = browser.get("/").await.csrf();
    let left = browser.post("/logout", &format!("csrf={csrf}")).await;
    let refresh = left.header("refresh").to_owned();
    let link = refresh.strip_prefix("0; url=").unwrap_or_else(|| panic!("{refresh}"));
    assert!(link.starts_with(&format!("{}/logout?", provider.issuer)), "{link}");
    let asked = parameters(link);
    assert_eq!(asked["post_logout_redirect_uri"], format!("{PUBLIC}/login"));
    assert_eq!(asked["client_id"], "esker-page");
    assert!(!browser.is_known().await && !browser.cookies.contains_key("esker"));
    // A client has no provider.
    browser.log_in(TOKEN).await;
    let csrf = browser.get("/").await.csrf();
    assert_eq!(browser.post("/logout", &format!("csrf={csrf}")).await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_at_its_time_whatever_the_id_token_says_and_a_provider_that_is_down_is_told() {
    let provider = TestProvider::start().await;
    let app = start_with(&provider, |login| {
        login.session_seconds = 2;
        login.label = Some("the company".to_owned());
    })
    .await;
    let mut browser = Browser::of(&app);
    assert!(browser.get("/login").await.text.contains("Log in with the company"));
    assert_eq!(log_in(&mut browser, &provider).await.status, 303);
    let began = std::time::Instant::now();
    while browser.is_known().await {
        assert!(began.elapsed() < std::time::Duration::from_secs(30), "the session goes on");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let late = start(&[("sso", &provider)]).await;
    provider.stop();
    let mut browser = Browser::of(&late);
    assert_eq!(browser.get("/login").await.status, 200);
    assert_eq!(browser.get("/login/sso").await.status, 503);
    assert_eq!(browser.log_in(TOKEN).await.status, 303, "tokens need no provider");
}
