//! The behaviour of leases of commits, which both databases must share.
//!
//! The functions run on SQLite and PostgreSQL as those of `conformance.rs` do. Another server is a row among the live ones, to which
//! a lease is given.

use esker_types::now_ms;
use uuid::Uuid;

use crate::conformance::{enter, row, to, with_namespace};
use crate::{
    CommitLease, FORWARDED_COMMIT, NewReceipt, Outbox, PointerSwap, ReceiptKey, State, StateError, TabularRow, Warehouse,
};

const HERE: &str = "here:8182";

/// Takes the lease of a table for the server of `state`, if it can be taken.
async fn take(state: &State, table: &TabularRow, over: Option<i64>) -> CommitLease {
    state.tables().take_lease(table.id, HERE, over).await.expect("answered")
}

/// Adds a live server. Returns its identifier.
async fn another_server(state: &State) -> Uuid {
    let (id, now) = (Uuid::now_v7(), state.database.clock_sql());
    let sql = format!("INSERT INTO instance (id, started_ms, seen_ms) VALUES ($1, {now}, {now})");
    sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.to_string()).execute(&state.relaxed_writer).await.expect("added");
    id
}

/// Gives the lease of a table to a server, as if that one had taken it in a later term.
async fn give(state: &State, table: &TabularRow, server: Uuid) {
    let sql = "UPDATE commit_lease SET server = $2, address = 'there:8182', term = term + 1 WHERE table_id = $1";
    let given = sqlx::query(sql).bind(table.id.to_string()).bind(server.to_string()).execute(&state.relaxed_writer).await;
    assert_eq!(given.expect("given").rows_affected(), 1);
}

/// Makes a swap of a table's pointer from one version of its metadata to the next one, under a lease.
fn under(lease: &CommitLease, table: &TabularRow, from: u32) -> PointerSwap {
    let at = format!("{}/metadata/{from}.json", table.location);
    PointerSwap { term: Some(lease.term), ..to(table, &at, from + 1) }
}

/// Publishes a swap.
async fn publish(state: &State, warehouse: Warehouse, swap: &PointerSwap) -> crate::Result<bool> {
    state.tables().publish(warehouse, std::slice::from_ref(swap), &[], &Outbox::default()).await
}

/// Returns the time at which the lease of a table ends.
async fn until_ms(state: &State, table: &TabularRow) -> i64 {
    let query = sqlx::query_scalar("SELECT until_ms FROM commit_lease WHERE table_id = $1").bind(table.id.to_string());
    query.fetch_one(&state.readers).await.expect("read")
}

/// Moves the end of the lease of a table into the past.
async fn end(state: &State, table: &TabularRow) {
    let sql = "UPDATE commit_lease SET until_ms = 1 WHERE table_id = $1";
    sqlx::query(sql).bind(table.id.to_string()).execute(&state.relaxed_writer).await.expect("ended");
}

pub(crate) async fn a_lease_is_its_servers_until_it_ends_its_server_is_dead_or_its_term_is_over(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let table = row(warehouse, &n, "t");
    enter(state, warehouse, &table).await.expect("entered");
    let first = take(state, &table, None).await;
    assert_eq!((first.server, first.address.as_str()), (state.servers().own_id(), HERE));
    assert_eq!(take(state, &table, None).await, first, "it is taken already");

    let other = another_server(state).await;
    give(state, &table, other).await;
    let theirs = take(state, &table, None).await;
    assert_eq!((theirs.server, theirs.address.as_str(), theirs.term), (other, "there:8182", first.term + 1));
    assert_eq!(take(state, &table, Some(first.term)).await, theirs, "that term is over already");
    let over = take(state, &table, Some(theirs.term)).await;
    assert_eq!((over.server, over.term), (first.server, theirs.term + 1), "the other one did not answer");

    give(state, &table, other).await;
    end(state, &table).await;
    let ended = take(state, &table, None).await;
    assert_eq!((ended.server, ended.term), (first.server, over.term + 2));

    give(state, &table, Uuid::now_v7()).await;
    let of_dead = take(state, &table, None).await;
    assert_eq!((of_dead.server, of_dead.term), (first.server, ended.term + 2), "a server without a row is dead");
}

pub(crate) async fn a_commit_of_a_term_that_has_ended_is_not_published(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let table = row(warehouse, &n, "t");
    enter(state, warehouse, &table).await.expect("entered");
    let lease = take(state, &table, None).await;
    end(state, &table).await;
    assert!(publish(state, warehouse, &under(&lease, &table, 0)).await.expect("nobody took it since"));
    assert!(until_ms(state, &table).await > 1, "a commit renews the lease");

    // The same server, in a later term; then another server; then no lease at all.
    end(state, &table).await;
    let later = take(state, &table, None).await;
    assert_eq!(later.term, lease.term + 1);
    let other = another_server(state).await;
    for step in ["a later term", "another server", "a table that is gone"] {
        match step {
            "another server" => give(state, &table, other).await,
            "a table that is gone" => {
                let sql = "DELETE FROM commit_lease WHERE table_id = $1";
                sqlx::query(sql).bind(table.id.to_string()).execute(&state.relaxed_writer).await.expect("removed");
            }
            _ => {}
        }
        let late = publish(state, warehouse, &under(&lease, &table, 1)).await.expect_err(step);
        assert!(matches!(late, StateError::LeaseEnded { term, .. } if term == lease.term), "{step}: {late}");
        let now = state.tables().by_id(table.id).await.expect("read").expect("there");
        assert!(now.metadata_location.ends_with("/1.json"), "{step}: nothing is changed");
    }
    // A commit that nobody forwarded needs no lease.
    let own = PointerSwap { term: None, ..under(&lease, &table, 1) };
    assert!(publish(state, warehouse, &own).await.expect("answered"));
    let again = take(state, &table, None).await;
    assert!(again.term >= lease.term, "a first term is the time, so that none comes back: {} after {}", again.term, lease.term);
}

pub(crate) async fn receipts_of_forwarded_commits_are_forgotten_before_those_of_clients(state: &State) {
    let (warehouse, _) = with_namespace(state).await;
    let written = async |operation: &str| -> ReceiptKey {
        let (principal, operation, body_sha256) = ("p".to_owned(), operation.to_owned(), String::new());
        let key = ReceiptKey { warehouse, principal, operation, key: Uuid::now_v7(), body_sha256 };
        let receipt = NewReceipt { key: key.clone(), outcome: "{}".to_owned() };
        state.outbox().insert_receipt(receipt).await.expect("written");
        key
    };
    let is_there = async |key: &ReceiptKey| state.outbox().receipt(key).await.expect("read").is_some();
    let (forwarded, clients) = (written(FORWARDED_COMMIT).await, written("POST /v1/t").await);
    state.outbox().forget_forwarded(now_ms() - 60_000).await.expect("nothing is so old");
    assert!(is_there(&forwarded).await);
    state.outbox().forget_forwarded(now_ms() + 60_000).await.expect("forgotten");
    assert!(!is_there(&forwarded).await && is_there(&clients).await);
}
