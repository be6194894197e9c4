//! The status codes that the Iceberg REST specification lists for each operation. No answer that a test gets may have another.

use reqwest::{Method, StatusCode};

/// The operations with their status codes, in the order of `open-api/rest-catalog-open-api.yaml` of Apache Iceberg at 0e7a36d
/// (2026-08-02).
const LISTED: [(&str, &str); 35] = [
    ("GET /v1/config", "200 400 401 403 404 419 503 5XX"),
    ("POST /v1/oauth/tokens", "200 400 401 5XX"),
    ("GET /v1/{prefix}/namespaces", "200 400 401 403 404 419 503 5XX"),
    ("POST /v1/{prefix}/namespaces", "200 400 401 403 406 409 419 503 5XX"),
    ("GET /v1/{prefix}/namespaces/{namespace}", "200 400 401 403 404 419 503 5XX"),
    ("HEAD /v1/{prefix}/namespaces/{namespace}", "204 400 401 403 404 419 503 5XX"),
    ("DELETE /v1/{prefix}/namespaces/{namespace}", "204 400 401 403 404 409 419 503 5XX"),
    ("POST /v1/{prefix}/namespaces/{namespace}/properties", "200 400 401 403 404 406 419 422 503 5XX"),
    ("GET /v1/{prefix}/namespaces/{namespace}/tables", "200 400 401 403 404 419 503 5XX"),
    ("POST /v1/{prefix}/namespaces/{namespace}/tables", "200 400 401 403 404 409 419 503 5XX"),
    ("GET /v1/{prefix}/namespaces/{namespace}/functions", "200 400 401 403 404 419 503 5XX"),
    ("GET /v1/{prefix}/namespaces/{namespace}/functions/{function}", "200 400 401 403 404 419 503 5XX"),
    ("POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan", "200 400 401 403 404 406 419 503 5XX"),
    ("GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}", "200 400 401 403 404 419 503 5XX"),
    ("DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}/plan/{plan-id}", "204 400 401 403 404 419 503 5XX"),
    ("POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/tasks", "200 400 401 403 404 419 503 5XX"),
    ("POST /v1/{prefix}/namespaces/{namespace}/register", "200 400 401 403 404 409 419 503 5XX"),
    ("GET /v1/{prefix}/namespaces/{namespace}/tables/{table}", "200 304 400 401 403 404 419 503 5XX"),
    ("POST /v1/{prefix}/namespaces/{namespace}/tables/{table}", "200 400 401 403 404 409 419 500 502 503 504 5XX"),
    ("DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}", "204 400 401 403 404 419 503 5XX"),
    ("HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}", "204 400 401 403 404 419 503 5XX"),
    ("POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/unregister", "200 400 401 403 404 419 503 5XX"),
    ("GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials", "200 400 401 403 404 419 503 5XX"),
    ("POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/sign", "200 400 401 403 419 503 5XX"),
    ("POST /v1/{prefix}/tables/rename", "204 400 401 403 404 406 409 419 503 5XX"),
    ("POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics", "204 400 401 403 404 419 503 5XX"),
    ("POST /v1/{prefix}/transactions/commit", "204 400 401 403 404 409 419 500 502 503 504 5XX"),
    ("GET /v1/{prefix}/namespaces/{namespace}/views", "200 400 401 403 404 419 503 5XX"),
    ("POST /v1/{prefix}/namespaces/{namespace}/views", "200 400 401 403 404 409 419 503 5XX"),
    ("GET /v1/{prefix}/namespaces/{namespace}/views/{view}", "200 400 401 403 404 419 503 5XX"),
    ("POST /v1/{prefix}/namespaces/{namespace}/views/{view}", "200 400 401 403 404 409 419 500 502 503 504 5XX"),
    ("DELETE /v1/{prefix}/namespaces/{namespace}/views/{view}", "204 400 401 403 404 419 503 5XX"),
    ("HEAD /v1/{prefix}/namespaces/{namespace}/views/{view}", "204 400 401 404 419 503 5XX"),
    ("POST /v1/{prefix}/views/rename", "204 400 401 403 404 406 409 419 503 5XX"),
    ("POST /v1/{prefix}/namespaces/{namespace}/register-view", "200 400 401 403 404 409 419 503 5XX"),
];

/// The one status that Esker answers beyond the list: a change was not begun and may be sent again.
///
/// 503 would leave a committing client in doubt whether the change was made.
const NOT_BEGUN: u16 = 429;

/// Returns true if a method and a path are those of an operation such as `GET /v1/config`.
fn is_at(operation: &str, method: &Method, path: &str) -> bool {
    let Some((named, pattern)) = operation.split_once(' ') else { return false };
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    let fits = |(pattern, segment): (&&str, &&str)| pattern.starts_with('{') || pattern == segment;
    named == method.as_str() && pattern.len() == path.len() && pattern.iter().zip(&path).all(fits)
}

/// Returns true if the specification lists a status for an operation, or `None` if method and path name no operation.
pub fn is_listed(method: &Method, path: &str, status: StatusCode) -> Option<bool> {
    let path = path.split('?').next().unwrap_or(path);
    let (_, codes) = LISTED.iter().find(|(operation, _)| is_at(operation, method, path))?;
    let is = |code: &str| match code.strip_suffix("XX") {
        Some(class) => status.as_str().starts_with(class),
        None => code == status.as_str(),
    };
    Some(status.as_u16() == NOT_BEGUN || codes.split(' ').any(is))
}

/// Fails the test if the specification does not list a status for the operation of a method and a path.
///
/// # Panics
///
/// Panics if the operation is in the specification and the status is not listed for it.
pub fn check_listed(method: &Method, path: &str, status: StatusCode) {
    let listed = is_listed(method, path, status);
    assert!(listed != Some(false), "{method} {path} was answered {status}, which the specification does not list for it");
}
