//! Helpers of the integration tests.
//!
//! - [`TestApp`] is a server in the test's process, with a REST and a Flight SQL client.
//! - [`AccessTest`] is one with access control on, and grants to its clients.
//! - [`TestTable`] writes and reads a table. It acts as an engine does: files and manifests go to storage, commits to REST.
//! - [`TestProvider`] is an identity provider, which issues tokens to users.
//! - [`Faults`] is a store that fails on purpose, [`FaultSchedule`] the faults of every so many requests.
//! - [`wait_for`] waits for a condition that a busy machine reaches late.
//! - [`Transcript`] records requests and answers for snapshots of wire formats.
//! - [`check_listed`] fails a test that gets a status code which the REST specification does not list. [`check_contract`] fails a
//!   test that gets an answer of the management API which `api/openapi.json` does not describe.
//! - [`check_logs`] fails a test after any server of the process has logged a secret.

mod access;
mod app;
mod contract;
mod faults;
mod listed_statuses;
mod logs;
mod patience;
mod provider;
mod redact;
mod schema;
mod table;
mod transcript;

pub use access::AccessTest;
pub use app::{DEAD_SECONDS, TOKEN, TestApp, config, on_postgres, postgres_url};
pub use contract::{check_body, check_contract, operation_of};
pub use faults::{Fault, FaultSchedule, Faults};
pub use listed_statuses::{check_listed, is_listed};
pub use logs::{check_logs, has_secret, searched_lines, watch_for};
pub use patience::wait_for;
pub use provider::TestProvider;
pub use schema::check_schema;
pub use table::{ClientChange, PositionDeleteScope, PreparedCommit, Row, RowUnderSpec, TestTable, schema_json, text_cells};
pub use transcript::Transcript;
