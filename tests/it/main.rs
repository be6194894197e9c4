//! The integration tests, in one binary. Each module has one subject, which the line above it and its own first line name.

// The contracts in `api/`, on what a server answers.
mod api;
// Examples of requests and answers, which the contracts in `api/` describe.
mod api_examples;
// Policies, and the jobs that the autopilot enqueues.
mod autopilot;
// Backups of the state database, and their restore.
mod backup;
// Requests, files, disks and ports that are wrong.
mod bad_input;
// Branches, tags, rollback, and publishing of staged snapshots.
mod branches_and_tags;
// Check jobs, and the damage that they find.
mod check;
// Answers under faults of stores, databases and servers, each held against those before it.
mod checker;
// The command line.
mod cli;
// Commits to one table: conflicts, time-outs, and the checks that each must pass.
mod commits;
// Compactions, and their undo.
mod compaction;
// Random histories of a whole server: kills, restores, maintenance.
mod disasters;
// Erasure of deleted rows from storage.
mod erasure;
// The outbox and its receivers.
mod events;
// Snapshot expiry, quarantine, sweep, and the undo of an expiry.
mod expiry;
// Databases that lost transactions, such as in a fail-over.
mod failover;
// One unreadable table, bad property or panic, and the work that goes on beside it.
mod fault_isolation;
// Commits that go to one of several servers, which holds the lease of their table.
mod forwarding;
// Random histories of one table against a model.
mod histories;
// Tables that are legal but rare, or slightly illegal.
mod irregular_tables;
// The job queue.
mod jobs;
// Kills of a real process at named points.
mod kills;
// What every kind of job must have, wherever it lies.
mod kinds;
// Boundaries between crates and modules that the compiler does not check.
mod layering;
// Drop, undrop, protection, unregister, and functions.
mod lifecycle;
// The manifests job.
mod manifests;
// Late commits that are merged.
mod merging;
// Data files without some columns, field ids or statistics.
mod missing_columns;
// Authentication, health, metrics, and a stop in order.
mod operations;
// Orphan scans.
mod orphans;
// The identity of a partition.
mod partitions;
// Places of tables, and very many tables.
mod places;
// Queries through Flight SQL: deletes, concurrent changes, admission.
mod queries;
// Recovery after the state database was lost, restored or copied.
mod recovery;
// Recovery of tables and views whose metadata moved meanwhile.
mod recovery_after_moves;
// Recovery of tables that were dropped before the backup.
mod recovery_of_dropped_tables;
// What a client begins at one server and goes on with at another one, or after a restart.
mod replicas;
// Details of the Iceberg REST catalog that clients depend on.
mod rest_contract;
// Server-side scan planning.
mod scan_planning;
// Who gets in, what nobody may do, and what is bound to a principal: tokens, hosts, the page, the places of tables.
mod security;
// Answers of SQL statements.
mod sql;
// The statistics job.
mod statistics;
// Stores that throttle or are unreachable.
mod storage;
// Commits to several tables.
mod transactions;
// Turns of clients whose commits were late, and the bounds of the commit queues.
mod turns;
// Variants in SQL and in files.
mod variants;
// Vended credentials.
mod vending;
// Types and features of format version 3.
mod version3;
// Several warehouses on one server, and the locations of tables.
mod warehouses;
// The web page.
mod web_page;
// Snapshots of all wire formats.
mod wire;
