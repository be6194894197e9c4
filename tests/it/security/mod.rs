//! Who gets in, what nobody may do, and what stays with whom. Each module has one subject, which its own first line names.

mod access;
mod audit;
mod credentials;
mod definer;
mod enforcement;
mod grants_sql;
mod hosts;
mod jobs;
mod keys;
mod lessons;
mod limits;
mod log_in;
mod matrix;
mod oidc;
mod opa;
mod page;
mod paths;
mod policies;
mod policies_api;
mod random_restrictions;
mod read_restrictions;
mod redaction;
mod restricted_sql;
mod restrictions;
mod row_security;
mod rules_sql;
mod service_accounts;
mod signing;
mod sql;
mod tls;
mod tokens;

use std::process::Command;

use esker_tests::{TestApp, postgres_url};
use reqwest::Method;
use serde_json::{Value, json};

use crate::kills::binary;

/// Sends a request with a token and further headers. Returns the status and the body.
///
/// A body that is not JSON becomes a JSON string.
async fn send_as(
    app: &TestApp,
    token: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> (u16, Value) {
    let (status, _, text) = app.send_as(token, method, path, headers, body).await;
    (status.as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Makes a token of a principal through the API. Returns its id and the token.
async fn make_token(app: &TestApp, principal: &str) -> (String, String) {
    let made = app.ok(Method::POST, "/api/v1/tokens", Some(json!({"principal": principal}))).await;
    let text = |key: &str| made[key].as_str().expect("a text").to_owned();
    assert_eq!(text("principal"), principal);
    (text("id"), text("token"))
}

/// Returns the status of a read with a token.
async fn status_as(app: &TestApp, token: &str) -> u16 {
    send_as(app, token, Method::GET, "/v1/config", &[], None).await.0
}

/// Runs a command of `esker` on the database of a server. Returns if it succeeded, its standard output and its standard error.
async fn on_machine(app: &TestApp, command: &str, arguments: &[&str]) -> (bool, String, String) {
    let mut process = Command::new(binary());
    process.arg(command).args(arguments).arg("--data-dir").arg(app.dir.path()).env_remove("ESKER_WAREHOUSE");
    process.envs(postgres_url(app.dir.path()).map(|url| ("ESKER__STATE__URL", url)));
    let output = tokio::task::spawn_blocking(move || process.output()).await.expect("joined").expect("started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.success(), text(output.stdout), text(output.stderr))
}
