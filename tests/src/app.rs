//! [`TestApp`]: a server in the test's process, and the requests that tests send to it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow_flight::sql::client::FlightSqlServiceClient;
use esker::Config;
use esker::server::Server;
use esker_catalog::Catalog;
use esker_storage::LocalStore;
use futures::TryStreamExt;
use object_store::ObjectStore;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::{check_contract, check_listed, check_logs, logs};

/// The token of every test server.
pub const TOKEN: &str = "a-token-for-tests";

/// Seconds without a heartbeat after which the other servers on a test's database count a server as dead.
pub const DEAD_SECONDS: u32 = 3;

/// Returns a configuration with free ports and the data directory `dir`.
///
/// With `ESKER_TEST_STATE=postgres`, the state database is in PostgreSQL: see [`postgres_url`].
pub fn config(dir: &Path) -> Config {
    let mut config = Config { data_dir: Some(dir.to_owned()), ..Config::default() };
    config.state.url = postgres_url(dir);
    config.state.dead_seconds = DEAD_SECONDS;
    // A test of retries sets another number.
    config.maintenance.attempts = 1;
    // Many tests are clients that do not commit again after a conflict.
    config.commit.turn_ms = 200;
    config.commit.turn_return_ms = 100;
    config.server.rest_port = 0;
    config.server.flight_port = 0;
    config.auth.token = Some(TOKEN.to_owned());
    config
}

/// Checks whether tests run on PostgreSQL. Otherwise they run on SQLite.
pub fn on_postgres() -> bool {
    std::env::var("ESKER_TEST_STATE").is_ok_and(|state| state == "postgres")
}

/// Returns the URL of the PostgreSQL database for a data directory, or `None` if tests run on SQLite.
///
/// The database is on the server `ESKER_TEST_POSTGRES`, and its name is derived from that of the directory.
pub fn postgres_url(dir: &Path) -> Option<String> {
    on_postgres().then(|| {
        let server = std::env::var("ESKER_TEST_POSTGRES").expect("ESKER_TEST_POSTGRES is the URL of a server");
        let name = dir.file_name().and_then(|name| name.to_str()).expect("a name").replace('.', "");
        format!("{server}/it_{name}")
    })
}

/// A server in this process with its own data directory, and clients of it.
#[derive(Debug)]
pub struct TestApp {
    /// The running server.
    pub server: Server,
    /// The data directory, removed on drop.
    pub dir: TempDir,
    http: reqwest::Client,
}

impl TestApp {
    /// Starts a server with the configuration of [`config`].
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts a server with a changed configuration.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(Arc::new(LocalStore::default()), change).await
    }

    /// Starts a server with a changed configuration, on the given store in place of the local file system.
    pub async fn start_on(storage: Arc<dyn ObjectStore>, change: impl FnOnce(&mut Config)) -> Self {
        logs::start();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = config(dir.path());
        change(&mut config);
        let server = Server::start_on(&config, storage).await.expect("the server starts");
        Self { server, dir, http: reqwest::Client::new() }
    }

    /// Returns the catalog of the first warehouse, which is `default` unless a test configures others.
    pub fn catalog(&self) -> &Catalog {
        &self.server.catalogs()[0]
    }

    /// Waits until the other servers on the database count as dead.
    ///
    /// On a busy machine this takes longer than [`DEAD_SECONDS`]: a server that was late with its own heartbeat gives the others
    /// more time.
    pub async fn wait_until_others_are_dead(&self) {
        let began = Instant::now();
        while self.catalog().state().servers().count_live().await.expect("counted") > 1 {
            assert!(began.elapsed() < Duration::from_secs(60), "the others still count as alive");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Returns the URL of a path of the REST service.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.rest)
    }

    /// Sends a request with the token. Returns the status and the body; a body that is not JSON becomes a JSON string.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let (status, _, text) = self.send_raw(method, path, &[], body).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Sends a request with the token and further headers. Returns status, headers and the body as text.
    pub async fn send_raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> (StatusCode, HeaderMap, String) {
        self.send_as(TOKEN, method, path, headers, body).await
    }

    /// Sends a request with another token and further headers. Returns status, headers and the body as text.
    pub async fn send_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> (StatusCode, HeaderMap, String) {
        let mut request = self.http.request(method.clone(), self.url(path)).bearer_auth(token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        check_listed(&method, path, status);
        let text = response.text().await.expect("a body");
        check_contract(&method, path, status, &text);
        check_logs();
        (status, headers, text)
    }

    /// Sends a request that must succeed. Returns the body as text.
    pub async fn ok_raw(&self, method: Method, path: &str, body: Value) -> String {
        let (status, _, text) = self.send_raw(method, path, &[], Some(body)).await;
        assert!(status.is_success(), "{path}: {status} {}", text.chars().take(500).collect::<String>());
        text
    }

    /// Sends a request that must succeed. Returns the body as JSON.
    pub async fn ok(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, body) = self.send(method, path, body).await;
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    /// Sends a request that must fail. Returns the error's code, type and message.
    pub async fn refused(&self, method: Method, path: &str, body: Option<Value>) -> (u16, String, String) {
        let (status, body) = self.send(method, path, body).await;
        assert!(!status.is_success(), "{path} was not refused: {body}");
        let error = &body["error"];
        assert_eq!(error["code"], status.as_u16(), "the error in the body has the status of the answer: {body}");
        let text = |key: &str| error[key].as_str().expect("a string").to_owned();
        (status.as_u16(), text("type"), text("message"))
    }

    /// Creates a namespace `n`.
    pub async fn namespace(&self) {
        self.ok(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": ["n"]}))).await;
    }

    /// Creates a namespace `n`, and in it a table `t` with the columns `id` and `s`. Returns the answer.
    ///
    /// The table's snapshots expire at any age.
    pub async fn table(&self) -> Value {
        self.namespace().await;
        let properties = json!({"esker.expire.min-age-ms": "0"});
        let create = json!({"name": "t", "schema": crate::schema_json(), "properties": properties});
        self.ok(Method::POST, "/v1/default/namespaces/n/tables", Some(create)).await
    }

    /// Starts a job on `n.t` and waits for it; returns its record.
    pub async fn job(&self, kind: &str, options: Value) -> Value {
        let path = format!("/api/v1/warehouses/default/namespaces/n/tables/t/{kind}");
        let accepted = self.ok(Method::POST, &path, Some(options)).await;
        self.wait_for_job(accepted["job-id"].as_str().expect("an id")).await
    }

    /// Waits until a job has its plan, or has ended.
    pub async fn wait_for_plan(&self, id: &str) {
        let path = format!("/api/v1/jobs/{id}");
        loop {
            let job = self.ok(Method::GET, &path, None).await;
            if !job["plan"].is_null() || !job["finished_ms"].is_null() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until every job has ended, for at most 30 seconds.
    pub async fn wait_until_idle(&self) {
        for _ in 0..1500 {
            let jobs = self.ok(Method::GET, "/api/v1/jobs?limit=1000", None).await;
            if jobs.as_array().expect("jobs").iter().all(|job| job["finished_ms"].is_i64()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("jobs did not end");
    }

    /// Waits for a job to end, for at most 30 seconds. Returns its record.
    pub async fn wait_for_job(&self, id: &str) -> Value {
        let path = format!("/api/v1/jobs/{id}");
        for _ in 0..1500 {
            let job = self.ok(Method::GET, &path, None).await;
            if job["state"] != "running" && job["state"] != "queued" {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the job did not end");
    }
}

impl TestApp {
    /// Connects to the server's Flight SQL service, with the token.
    pub async fn flight(&self) -> FlightSqlServiceClient<Channel> {
        self.flight_as(TOKEN).await
    }

    /// Connects to the server's Flight SQL service, with another token.
    pub async fn flight_as(&self, token: &str) -> FlightSqlServiceClient<Channel> {
        let mut client = self.flight_without_token().await;
        client.set_token(token.to_owned());
        client
    }

    /// Connects to the server's Flight SQL service, without a token.
    pub async fn flight_without_token(&self) -> FlightSqlServiceClient<Channel> {
        let url = format!("http://{}", self.server.flight);
        let channel = Endpoint::from_shared(url).expect("a url").connect().await.expect("a connection");
        FlightSqlServiceClient::new(channel)
    }

    /// Runs a statement on the server's Flight SQL service. Returns the record batches.
    ///
    /// # Errors
    ///
    /// Returns the text of the server's error if the statement is refused or fails.
    pub async fn sql(&self, sql: &str) -> Result<Vec<RecordBatch>, String> {
        let mut client = self.flight().await;
        let info = client.execute(sql.to_owned(), None).await.map_err(|e| e.to_string())?;
        let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
        let stream = client.do_get(ticket).await.map_err(|e| e.to_string())?;
        stream.try_collect().await.map_err(|e| e.to_string())
    }

    /// Stops the server. Returns its data directory.
    pub async fn stop(self) -> TempDir {
        self.server.stop().await;
        self.dir
    }

    /// Starts a server on the data directory of a stopped one, without a grace period in quarantine.
    pub async fn restart(dir: TempDir) -> Self {
        Self::restart_with(dir, |_| {}).await
    }

    /// Starts a server on the data directory of a stopped one, without a grace period and with a changed configuration.
    pub async fn restart_with(dir: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        logs::start();
        let mut config = config(dir.path());
        config.maintenance.grace_seconds = 0;
        change(&mut config);
        let server = Server::start(&config).await.expect("the server starts again");
        Self { server, dir, http: reqwest::Client::new() }
    }
}
