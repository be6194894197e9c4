//! No log has a secret: neither those of servers in this process, nor the log of the binary.
//!
//! `esker_tests` searches the logs of all servers of this process, of all tests. The tests here have secrets of their own at each
//! place that takes one, and make these places fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use esker::config::{OpenLineageConfig, WarehouseConfig, WebhookConfig};
use esker_tests::{TestApp, check_logs, has_secret, postgres_url, searched_lines, watch_for};
use reqwest::Method;
use reqwest::header::SET_COOKIE;
use serde_json::json;

use super::{make_token, send_as, status_as};
use crate::kills::binary;
use crate::rest_contract::create;

/// An address at which nobody listens.
const CLOSED: &str = "http://127.0.0.1:1";

/// Makes a secret that no log may have.
fn secret(of: &str) -> String {
    let secret = format!("{of}-7f3a91c2-of-the-redaction");
    watch_for(&secret);
    secret
}

/// Returns a warehouse in a store that does not answer.
fn away() -> WarehouseConfig {
    let key = secret("store");
    let options = [("endpoint", CLOSED), ("region", "r"), ("access_key_id", "k"), ("secret_access_key", key.as_str())];
    let storage: BTreeMap<String, String> = options.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    WarehouseConfig { location: Some("s3://lake/w".to_owned()), storage, ..WarehouseConfig::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_of_a_log_has_a_secret_whatever_fails() {
    let before = searched_lines();
    let app = TestApp::start_with(|c| {
        let (url, namespace) = (CLOSED.to_owned(), "esker".to_owned());
        c.events.webhooks.insert("hook".to_owned(), WebhookConfig { url: url.clone(), token: Some(secret("hook")) });
        let lineage = OpenLineageConfig { url: url.clone(), token: Some(secret("lineage")), namespace };
        c.events.openlineage.insert("lineage".to_owned(), lineage);
        (c.datahub.url, c.datahub.token, c.datahub.every_seconds) = (Some(url), Some(secret("datahub")), 1);
        c.warehouses = [("default".to_owned(), WarehouseConfig::default()), ("lake".to_owned(), away())].into();
    })
    .await;
    app.table().await;
    app.send(Method::POST, "/v1/lake/namespaces", Some(json!({"namespace": ["n"]}))).await;
    let (status, body) = app.send(Method::POST, "/v1/lake/namespaces/n/tables", Some(create("t"))).await;
    assert!(!status.is_success(), "its store is away: {body}");

    let wrong = secret("wrong");
    assert_eq!(status_as(&app, &wrong).await, 401);
    app.flight_as(&wrong).await.execute("SELECT 1".to_owned(), None).await.expect_err("a wrong token");
    let http = reqwest::Client::new();
    let form = format!("grant_type=client_credentials&client_id=c&client_secret={wrong}");
    let asked = http.post(app.url("/v1/oauth/tokens")).basic_auth("c", Some(&wrong)).body(form).send().await.expect("an answer");
    assert!(asked.status().is_client_error(), "{}", asked.status());
    assert_eq!(log_in(&app, &wrong).await, 401);

    let (id, token) = make_token(&app, "redacted").await;
    watch_for(&token);
    assert_eq!(status_as(&app, &token).await, 200);
    assert_eq!(log_in(&app, &token).await, 200, "the page, after the log-in");
    let form = format!("grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={token}");
    let exchanged = http.post(app.url("/v1/oauth/tokens")).body(form).send().await.expect("an answer");
    assert!(exchanged.status().is_success(), "{}", exchanged.status());
    send_as(&app, &token, Method::DELETE, &format!("/api/v1/tokens/{id}"), &[], None).await;
    assert_eq!(status_as(&app, &token).await, 401);
    app.stop().await;
    assert!(searched_lines() > before, "the log-ins are lines of the log");
    check_logs();
}

/// Logs in to the page with a token, and follows the redirect. Returns the status.
async fn log_in(app: &TestApp, token: &str) -> u16 {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let form = http.get(app.url("/login")).send().await.expect("a form");
    let cookie = |answer: &reqwest::Response| {
        let set = answer.headers().get(SET_COOKIE).expect("a cookie").to_str().expect("text");
        set.split(';').next().unwrap_or_default().to_owned()
    };
    let known = cookie(&form);
    let text = form.text().await.expect("a page");
    let csrf = text.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("the form's secret");
    let fields = format!("csrf={csrf}&token={token}");
    let post = http.post(app.url("/login")).header("cookie", known).header("sec-fetch-site", "same-origin").body(fields);
    let answer = post.send().await.expect("an answer");
    if answer.status().as_u16() != 303 {
        return answer.status().as_u16();
    }
    let session = cookie(&answer);
    watch_for(session.split_once('=').expect("a value").1);
    let page = http.get(app.url("/")).header("cookie", session).send().await.expect("a page");
    page.status().as_u16()
}

/// A process of the binary with its log. It is killed when the test ends.
struct Process {
    child: Child,
    /// The file of its standard output and its standard error.
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Process {
    /// Waits until the log has a text, for at most two minutes: the start asks a store that does not answer. Returns the log.
    async fn wait_for(&self, text: &str) -> String {
        for _ in 0..4800 {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            if log.contains(text) {
                return log;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the log has no {text:?}: {}", std::fs::read_to_string(&self.log).unwrap_or_default());
    }
}

/// Returns a command of the binary, whose environment has a secret, or a command that prints one, for every key that takes one, and
/// debug logs.
fn command(dir: &Path, port: u16) -> Command {
    let mut command = Command::new(binary());
    let master = "d5".repeat(32);
    watch_for(&master);
    for (key, value) in [
        ("LOG__LEVEL", "debug".to_owned()),
        ("DATA_DIR", dir.display().to_string()),
        ("SERVER__REST_PORT", port.to_string()),
        ("SERVER__FLIGHT_PORT", "0".to_owned()),
        ("AUTH__TOKEN", secret("admin")),
        ("EVENTS__WEBHOOKS__HOOK__URL", format!("{CLOSED}/{}", secret("hook-path"))),
        ("EVENTS__WEBHOOKS__HOOK__TOKEN", secret("hook")),
        ("EVENTS__OPENLINEAGE__LINEAGE__URL", format!("{CLOSED}/?key={}", secret("lineage-key"))),
        ("EVENTS__OPENLINEAGE__LINEAGE__TOKEN", secret("lineage")),
        ("DATAHUB__URL", CLOSED.to_owned()),
        ("DATAHUB__TOKEN_COMMAND", format!("[\"echo\", \"{}\"]", secret("datahub"))),
        ("KEYS__MASTER_KEY", master),
        ("TRACES__URL", CLOSED.to_owned()),
        ("TRACES__HEADERS__KEY", secret("collector")),
        ("WAREHOUSES__DEFAULT__LOCATION", format!("file://{}/warehouse", dir.display())),
        ("WAREHOUSES__LAKE__LOCATION", "s3://lake/w".to_owned()),
        ("WAREHOUSES__LAKE__STORAGE__ENDPOINT", CLOSED.to_owned()),
        ("WAREHOUSES__LAKE__STORAGE__REGION", "r".to_owned()),
        ("WAREHOUSES__LAKE__STORAGE__ACCESS_KEY_ID", "k".to_owned()),
        ("WAREHOUSES__LAKE__STORAGE__SECRET_ACCESS_KEY", secret("store")),
    ] {
        command.env(format!("ESKER__{key}"), value);
    }
    command.envs(postgres_url(dir).map(|url| ("ESKER__STATE__URL", url)));
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_binary_writes_no_secret_to_its_log_or_its_output() {
    let dir = tempfile::tempdir().expect("a directory");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address").port();
    let mut check = command(dir.path(), port);
    let checked = tokio::task::spawn_blocking(move || check.args(["config", "check"]).output()).await.expect("joined");
    let shown = String::from_utf8(checked.expect("started").stdout).expect("UTF-8");
    assert!(shown.contains("\"(set)\"") && !has_secret(&shown), "{shown}");

    let log = dir.path().join("esker.log");
    let out = || Stdio::from(std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log"));
    let mut serve = command(dir.path(), port);
    let child = serve.arg("serve").stdout(out()).stderr(out()).spawn().expect("the binary is built before the tests");
    let process = Process { child, log };
    process.wait_for("Flight SQL").await;
    let url = format!("http://127.0.0.1:{port}");
    let http = reqwest::Client::new();
    let admin = secret("admin");
    for (warehouse, expected) in [("default", true), ("lake", false)] {
        let namespaces = format!("{url}/v1/{warehouse}/namespaces");
        let made = http.post(&namespaces).bearer_auth(&admin).json(&json!({"namespace": ["n"]})).send().await.expect("an answer");
        assert!(made.status().is_success() || !expected, "{}", made.status());
        let tables = http.post(format!("{namespaces}/n/tables")).bearer_auth(&admin).json(&create("t"));
        assert_eq!(tables.send().await.expect("an answer").status().is_success(), expected, "{warehouse}");
    }
    let refused = http.get(format!("{url}/v1/config")).bearer_auth(secret("wrong")).send().await.expect("an answer");
    assert_eq!(refused.status(), 401);
    let made = http.post(format!("{url}/api/v1/tokens")).bearer_auth(&admin).json(&json!({"principal": "p"}));
    assert!(made.send().await.expect("an answer").status().is_success());
    let written = process.wait_for("events could not be delivered").await;
    assert!(written.contains("DEBUG"), "{written}");
    let leaks: Vec<&str> = written.lines().filter(|line| has_secret(line)).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}
