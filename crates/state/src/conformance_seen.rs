//! The behaviour of servers whose database lost changes, which both databases must share.
//!
//! The functions run on SQLite and PostgreSQL as those of `conformance.rs` do. A loss is a smaller number of changes in a server's
//! row.

use std::path::Path;
use std::time::Duration;

use crate::conformance::{enter, row, to, with_namespace};
use crate::{Outbox, PointerSwap, State, StateError, TabularRow, Warehouse};

const DEAD: Duration = Duration::from_secs(60);

/// Takes the last change of each server from its number, as a standby that was late does.
async fn lose_a_change(state: &State) {
    let sql = "UPDATE server_changes SET changes = changes - 1";
    sqlx::query(sql).execute(&state.relaxed_writer).await.expect("set back");
}

/// Checks that a database is marked as one that is behind, and removes the mark.
async fn was_declared_behind(state: &State, warehouse: Warehouse) -> bool {
    let epoch = state.warehouses().epoch(warehouse).await.expect("read");
    state.warehouses().forget_backup(warehouse).await.expect("reconciled");
    epoch.backup_ms.is_some()
}

/// Makes a swap of a table's pointer to a new metadata file, whose record it settles.
fn publishing(table: &TabularRow, version: u32) -> PointerSwap {
    let file = format!("{}/metadata/{version}.metadata.json", table.location);
    PointerSwap { to: file.clone(), settled_outputs: vec![file], ..to(table, &table.metadata_location, version) }
}

pub(crate) async fn a_change_after_a_lost_one_fails_once_and_declares_the_database_to_be_behind(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    enter(state, warehouse, &row(warehouse, &n, "a")).await.expect("entered");
    state.servers().heartbeat(DEAD).await.expect("alive");
    assert_eq!(state.servers().losses(), Some(0));
    assert!(!was_declared_behind(state, warehouse).await);
    lose_a_change(state).await;
    let refused = enter(state, warehouse, &row(warehouse, &n, "b")).await.expect_err("a change was lost");
    assert!(matches!(refused, StateError::LostChanges), "{refused}");
    assert_eq!(state.servers().losses(), Some(1));
    assert!(was_declared_behind(state, warehouse).await);
    enter(state, warehouse, &row(warehouse, &n, "b")).await.expect("the next one goes on");
    state.servers().heartbeat(DEAD).await.expect("alive");
    assert_eq!(state.servers().losses(), Some(1), "the loss is known");
    lose_a_change(state).await;
    enter(state, warehouse, &row(warehouse, &n, "c")).await.expect_err("another one was lost");
    assert_eq!(state.servers().losses(), Some(2));
}

pub(crate) async fn a_heartbeat_notices_a_lost_change_and_a_lost_row(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    enter(state, warehouse, &row(warehouse, &n, "a")).await.expect("entered");
    lose_a_change(state).await;
    state.servers().heartbeat(DEAD).await.expect("alive");
    assert_eq!(state.servers().losses(), Some(1));
    assert!(was_declared_behind(state, warehouse).await);
    sqlx::query("DELETE FROM server_changes").execute(&state.relaxed_writer).await.expect("lost");
    state.servers().heartbeat(DEAD).await.expect("alive");
    assert_eq!(state.servers().losses(), Some(2));
    assert!(was_declared_behind(state, warehouse).await);
    enter(state, warehouse, &row(warehouse, &n, "b")).await.expect("entered");
}

/// A server may be lost together with the primary, and leave nobody that remembers its own changes.
pub(crate) async fn a_heartbeat_notices_what_another_server_lost(state: &State) {
    let other = State::open(state.database.clone()).await.expect("opened");
    other.servers().register(DEAD).await.expect("registered");
    let (warehouse, n) = with_namespace(state).await;
    enter(&other, warehouse, &row(warehouse, &n, "a")).await.expect("entered");
    state.servers().heartbeat(DEAD).await.expect("alive");
    assert_eq!(state.servers().losses(), Some(0));
    let sql = "UPDATE server_changes SET changes = changes - 1 WHERE server = $1";
    sqlx::query(sql).bind(other.instance.to_string()).execute(&state.relaxed_writer).await.expect("set back");
    state.servers().heartbeat(DEAD).await.expect("alive");
    assert_eq!(state.servers().losses(), Some(1));
    assert!(was_declared_behind(state, warehouse).await);
    other.close().await;

    // A server that had just started is lost with its row. That of one which was stopped for long is removed.
    let rows = "INSERT INTO server_changes (server, changes, seen_ms) SELECT 'young', 2, max(seen_ms) FROM server_changes
                UNION ALL SELECT 'old', 2, 0";
    sqlx::query(rows).execute(&state.relaxed_writer).await.expect("started");
    state.servers().heartbeat(DEAD).await.expect("alive");
    for (server, losses) in [("old", 1), ("young", 2)] {
        let gone = sqlx::query("DELETE FROM server_changes WHERE server = $1").bind(server);
        gone.execute(&state.relaxed_writer).await.expect("removed");
        state.servers().heartbeat(DEAD).await.expect("alive");
        assert_eq!(state.servers().losses(), Some(losses), "{server}");
    }
}

/// What a lost revocation had ended counts again, and no metadata file tells.
pub(crate) async fn a_revocation_and_a_log_out_are_changes_that_are_counted(state: &State) {
    with_namespace(state).await;
    let changes = async || {
        let sum = "SELECT CAST(sum(changes) AS BIGINT) FROM server_changes";
        sqlx::query_scalar::<_, i64>(sum).fetch_one(&state.relaxed_writer).await.expect("counted")
    };
    let before = changes().await;
    assert!(!state.tokens().revoke("none").await.expect("asked"));
    assert!(!state.tokens().revoke("principal:none").await.expect("asked"));
    state.sessions().delete("none").await.expect("asked");
    assert_eq!(changes().await, before + 3);
}

/// The declaration may be among what a further fail-over loses.
pub(crate) async fn a_lost_declaration_is_made_again(state: &State) {
    let (warehouse, _) = with_namespace(state).await;
    state.warehouses().declare_behind().await.expect("declared");
    state.servers().heartbeat(DEAD).await.expect("alive");
    assert_eq!(state.servers().losses(), Some(1), "a person said so");
    assert!(was_declared_behind(state, warehouse).await);
    sqlx::query("DELETE FROM meta WHERE key = 'behind'").execute(&state.relaxed_writer).await.expect("lost");
    state.servers().heartbeat(DEAD).await.expect("alive");
    assert_eq!(state.servers().losses(), Some(2));
    assert!(was_declared_behind(state, warehouse).await);
}

/// A server that starts again compares the database with the file of the process before.
pub(crate) async fn a_server_that_starts_again_notices_what_was_lost_meanwhile(state: &State) {
    let dir = tempfile::tempdir().expect("a directory");
    let (warehouse, n) = with_namespace(state).await;
    let start = async |file: &Path| {
        let server = State::open(state.database.clone()).await.expect("opened");
        server.servers().remember_in(file).expect("read");
        server.servers().register(DEAD).await.expect("registered");
        server
    };
    let (file, other) = (dir.path().join("seen.json"), dir.path().join("other.json"));
    let first = start(file.as_path()).await;
    enter(&first, warehouse, &row(warehouse, &n, "a")).await.expect("entered");
    first.close().await;
    let second = start(file.as_path()).await;
    assert_eq!(second.servers().losses(), Some(0), "nothing was lost");
    assert!(!was_declared_behind(&second, warehouse).await);
    enter(&second, warehouse, &row(warehouse, &n, "b")).await.expect("entered");
    second.close().await;
    lose_a_change(state).await;
    let stranger = start(other.as_path()).await;
    assert_eq!(stranger.servers().losses(), Some(0), "it has seen nothing of this database");
    stranger.close().await;
    let third = start(file.as_path()).await;
    assert_eq!(third.servers().losses(), Some(1));
    assert!(was_declared_behind(&third, warehouse).await);
    third.close().await;
    let fourth = start(file.as_path()).await;
    assert_eq!(fourth.servers().losses(), Some(0), "it was noticed once");
    assert!(!was_declared_behind(&fourth, warehouse).await);
    fourth.close().await;
    sqlx::query("UPDATE meta SET value = 'another' WHERE key = 'database'").execute(&state.writer).await.expect("changed");
    lose_a_change(state).await;
    let elsewhere = start(file.as_path()).await;
    assert_eq!(elsewhere.servers().losses(), Some(0), "nothing is known of another database");
    elsewhere.close().await;
}

/// The metadata file of a lost commit may have a record that says that a server is about to publish it.
pub(crate) async fn a_commit_that_was_under_way_loses_its_race_when_changes_were_lost(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let table = row(warehouse, &n, "t");
    enter(state, warehouse, &table).await.expect("entered");
    let (begun, next) = (publishing(&table, 1), publishing(&table, 2));
    state.outputs().record(warehouse, table.id, None, &begun.settled_outputs).await.expect("recorded");
    let is_known = async || state.outputs().is_known_non_state(&begun.to, false).await.expect("asked");
    assert!(is_known().await, "a live server is about to publish it");
    lose_a_change(state).await;
    state.servers().heartbeat(DEAD).await.expect("alive");
    assert!(!is_known().await, "it may be a state of the table that the database does not know");
    let publish = async |swap: &PointerSwap| {
        state.tables().publish(warehouse, std::slice::from_ref(swap), &[], &Outbox::default()).await.expect("answered")
    };
    assert!(!publish(&begun).await, "the table has to be looked at again");
    state.outputs().record(warehouse, table.id, None, &next.settled_outputs).await.expect("recorded");
    assert!(publish(&next).await);
    let back = PointerSwap { from: next.to.clone(), settled_outputs: Vec::new(), ..begun };
    assert!(publish(&back).await, "a recovery moves the pointer to any file");
}
