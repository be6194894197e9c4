//! The integration tests: one binary, one module a subject.

mod autopilot;
mod bad_input;
mod commits;
mod compaction;
mod details;
mod disasters;
mod erasure;
mod events;
mod expiry;
mod histories;
mod jobs;
mod kills;
mod lifecycle;
mod manifests;
mod ops;
mod orphans;
mod page;
mod planning;
mod queries;
mod recovery;
mod refs;
mod statements;
mod statistics;
mod storage;
mod transactions;
mod warehouses;
