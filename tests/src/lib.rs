//! Helpers of the integration tests.
//!
//! - [`TestApp`] is a server in the test's process, with a REST and a Flight SQL client.
//! - [`Writer`] writes simple tables, mostly `n.t`; [`Lake`] writes tables of any format version, schema and partition spec. Both
//!   act as an engine does: files and manifests go to storage, commits to REST.
//! - [`Faults`] is a store that fails on purpose.
//! - [`check_listed`] fails a test that gets a status code which the REST specification does not list. [`check_contract`] fails a
//!   test that gets an answer of the management API which `api/openapi.json` does not describe.

mod app;
mod contract;
mod craft;
mod faults;
mod files;
mod lake;
mod listed;
mod schema;
mod writer;

pub use app::{DEAD_SECONDS, TOKEN, TestApp, config, postgres_url};
pub use contract::{check_body, check_contract, operation_of};
pub use craft::text_cells;
pub use faults::Faults;
pub use lake::{Lake, PositionDeleteScope, Row, RowUnderSpec};
pub use listed::{check_listed, is_listed};
pub use schema::check_schema;
pub use writer::{Writer, schema_json};
