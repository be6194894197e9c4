//! The status codes that the Iceberg REST specification lists for each operation. No answer that a test gets may have another.

use std::sync::LazyLock;

use reqwest::{Method, StatusCode};
use serde_json::Value;

/// The operations of the specification with their status codes, as `api/iceberg-rest.json` lists them.
static LISTED: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let listed: Value = serde_json::from_str(include_str!("../../api/iceberg-rest.json")).expect("JSON");
    let text = |operation: &Value, key: &str| operation[key].as_str().expect("a text").to_owned();
    let operations = listed["operations"].as_array().expect("operations").iter();
    operations.map(|operation| (text(operation, "request"), text(operation, "statuses"))).collect()
});

/// The one status that Esker answers beyond the list: a change was not begun and may be sent again.
///
/// 503 would leave a committing client in doubt whether the change was made.
const NOT_BEGUN: u16 = 429;

/// Returns true if a method and a path are those of an operation such as `GET /v1/config`.
pub(crate) fn is_at(operation: &str, method: &Method, path: &str) -> bool {
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
