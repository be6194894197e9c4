//! Who gets in, what nobody may do, and what stays with whom. Each module has one subject, which its own first line names.

mod access;
mod audit;
mod credentials;
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
mod random_restrictions;
mod read_restrictions;
mod redaction;
mod restricted_sql;
mod restrictions;
mod rules_sql;
mod service_accounts;
mod signing;
mod sql;
mod tls;
mod tokens;

use esker_tests::TestApp;
use reqwest::Method;
use serde_json::{Value, json};

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
