//! The contract of the management API. No answer that a test gets may differ from `api/openapi.json`.
//!
//! Statuses, content types and bodies are checked. Start reading at [`check_contract`].

use std::sync::LazyLock;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::listed_statuses::is_at;
use crate::schema::check_schema;

/// The stored document. A unit test of the crate `rest` compares it with the handlers.
static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../api/openapi.json")).expect("a document"));

/// Returns the id and the description of the operation that a method and a path name; `None` for other routes.
///
/// A path without parameters goes before one with parameters that fits too.
pub fn operation_of(method: &Method, path: &str) -> Option<(&'static str, &'static Value)> {
    let path = path.split('?').next().unwrap_or(path);
    let all = DOCUMENT["paths"].as_object().expect("paths").iter();
    let fits = all.filter(|(pattern, _)| is_at(&format!("{method} {pattern}"), method, path));
    let (_, item) = fits.min_by_key(|(pattern, _)| pattern.matches('{').count())?;
    let operation = item.get(method.as_str().to_lowercase())?;
    Some((operation["operationId"].as_str().expect("an id"), operation))
}

/// Fails the test if an answer of the management API, of the metrics or of a probe is not as `api/openapi.json` describes it.
///
/// # Panics
///
/// Panics if the operation has no such status, or if the body does not fit the schema.
pub fn check_contract(method: &Method, path: &str, status: StatusCode, body: &str) {
    let Some((_, operation)) = operation_of(method, path) else { return };
    let at = format!("{method} {path} was answered {status}");
    let response = &operation["responses"][status.as_str()];
    assert!(response.is_object(), "{at}, which api/openapi.json does not list for it: {body}");
    let response = match response["$ref"].as_str().and_then(|at| at.strip_prefix('#')) {
        Some(pointer) => DOCUMENT.pointer(pointer).expect("a response"),
        None => response,
    };
    if let Some(json) = response.pointer("/content/application~1json/schema") {
        let body: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{at} with a body that is no JSON: {e}"));
        if let Err(why) = check_schema(&DOCUMENT, json, &body) {
            panic!("{at} with a body that does not fit api/openapi.json: {why}");
        }
    } else if response["content"].is_null() {
        assert_eq!(body, "", "{at} with a body that api/openapi.json does not list");
    }
}

/// Fails the test if the body of a request to the management API is not as `api/openapi.json` describes it.
///
/// # Panics
///
/// Panics if the body does not fit the schema.
pub fn check_body(method: &Method, path: &str, body: &Value) {
    let Some((_, operation)) = operation_of(method, path) else { return };
    let schema = operation.pointer("/requestBody/content/application~1json/schema").expect("an operation with a body");
    if let Err(why) = check_schema(&DOCUMENT, schema, body) {
        panic!("{method} {path} with a body that does not fit api/openapi.json: {why}");
    }
}
