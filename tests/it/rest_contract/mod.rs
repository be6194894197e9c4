//! The contract of the Iceberg REST catalog: details of JSON and HTTP that catalogs get wrong and that break clients.

mod answers;
mod config;
mod idempotency;
mod loading;
mod names;
mod statuses;

use esker_tests::schema_json;
use serde_json::{Value, json};

const NAMESPACES: &str = "/v1/default/namespaces";
const TABLES: &str = "/v1/default/namespaces/n/tables";
const TABLE: &str = "/v1/default/namespaces/n/tables/t";
const VIEWS: &str = "/v1/default/namespaces/n/views";

/// Returns the request that creates a table.
pub(crate) fn create(name: &str) -> Value {
    json!({"name": name, "schema": schema_json()})
}

/// Returns the request that creates a view.
pub(crate) fn view(name: &str) -> Value {
    json!({"name": name, "schema": schema_json(), "properties": {}, "view-version": {
        "version-id": 1, "timestamp-ms": 1, "schema-id": 0, "summary": {}, "default-namespace": ["n"],
        "representations": [{"type": "sql", "sql": "SELECT 1", "dialect": "spark"}]}})
}

/// Returns the commit that sets a property.
fn set(key: &str, value: &str) -> Value {
    json!({"requirements": [], "updates": [{"action": "set-properties", "updates": {key: value}}]})
}
