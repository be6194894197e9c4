//! The integration tests: one binary, one module a subject.

mod bad_input;
mod commits;
mod compaction;
mod expiry;
mod kills;
mod ops;
mod queries;
