//! What the integration tests share: an in-process server, a REST client that says what it expects, a small Iceberg
//! writer that speaks only to the REST catalog, and a storage that fails on purpose.

mod app;
mod craft;
mod faults;
mod files;
mod lake;
mod listed;
mod writer;

pub use app::{DEAD_SECONDS, TestApp, config, postgres};
pub use craft::cells;
pub use faults::Faults;
pub use lake::{Lake, Placed, Row, Scope};
pub use listed::{check_listed, is_listed};
pub use writer::{Writer, schema_json};
