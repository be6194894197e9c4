//! Leases of commits: the server to which the others send the commits of a table that many servers commit to.
//!
//! A lease decides nothing: the swap of the pointer does. It has a *term*, which grows whenever a server takes it. A commit that was
//! sent in a term is published in that term or not at all, because [`PointerSwap::term`](super::PointerSwap::term) is checked in the
//! transaction of the swap. So whoever takes a lease knows that nothing of earlier terms comes any more.
//!
//! Times are those of the database's clock.

use std::time::Duration;

use esker_types::{TableId, to_millis};
use sqlx::{Any, Row, Transaction};
use uuid::Uuid;

use super::Tables;
use crate::{Database, Result, StateError, parse_id};

/// The time after the last commit that was published under a lease, or after its taking, at which the lease ends.
pub const LEASE_TIME: Duration = Duration::from_secs(30);

/// The lease of a table's commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitLease {
    /// The table.
    pub table: TableId,
    /// The server that holds the lease, by the identifier of its process.
    pub server: Uuid,
    /// The address at which other servers reach it.
    pub address: String,
    /// The term, which each taking makes greater.
    pub term: i64,
}

/// Renews the lease of a table for a server, in the transaction that publishes a commit of the lease's term.
///
/// # Errors
///
/// Returns [`LeaseEnded`](StateError::LeaseEnded) if the server does not hold the lease in this term any more, and
/// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
pub(super) async fn renew_lease(
    tx: &mut Transaction<'_, Any>,
    database: &Database,
    (table, term): (TableId, i64),
    server: Uuid,
) -> Result<()> {
    let sql = format!(
        "UPDATE commit_lease SET until_ms = {} + $4 WHERE table_id = $1 AND server = $2 AND term = $3",
        database.clock_sql()
    );
    let renew = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(table.to_string()).bind(server.to_string());
    let renewed = renew.bind(term).bind(to_millis(LEASE_TIME)).execute(&mut **tx).await?;
    match renewed.rows_affected() {
        0 => Err(StateError::LeaseEnded { table: table.to_string(), term }),
        _ => Ok(()),
    }
}

impl Tables<'_> {
    /// Takes the lease of a table for this server, if nobody else holds it. Returns the lease that counts now: this server's, or
    /// another one's.
    ///
    /// A lease can be taken when its time is over, when its server counts as dead, and when it has the term `over`: in that term
    /// its server did not answer. `address` is where other servers reach this one.
    ///
    /// # Errors
    ///
    /// Returns [`Corrupt`](StateError::Corrupt) if the stored lease can't be read. Returns [`Ambiguous`](StateError::Ambiguous) if
    /// the commit was sent but not confirmed, and [`Fenced`](StateError::Fenced), [`LostChanges`](StateError::LostChanges),
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if nothing was written.
    pub async fn take_lease(self, table: TableId, address: &str, over: Option<i64>) -> Result<CommitLease> {
        let (mut tx, clock) = (self.state.begin().await?, self.state.database.clock_sql());
        // A first term is the time: if a row was removed, no term comes back.
        let sql = format!(
            "INSERT INTO commit_lease (table_id, server, address, term, until_ms) VALUES ($1, $2, $3, {clock}, {clock} + $4)
             ON CONFLICT (table_id) DO UPDATE
             SET server = excluded.server, address = excluded.address, term = commit_lease.term + 1, until_ms = excluded.until_ms
             WHERE commit_lease.until_ms < {clock} OR commit_lease.term = $5
                OR NOT EXISTS (SELECT 1 FROM instance WHERE id = commit_lease.server)"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(table.to_string())
            .bind(self.state.instance.to_string())
            .bind(address)
            .bind(to_millis(LEASE_TIME))
            // No lease has a negative term.
            .bind(over.unwrap_or(-1))
            .execute(&mut *tx)
            .await?;
        let row = sqlx::query("SELECT server, address, term FROM commit_lease WHERE table_id = $1")
            .bind(table.to_string())
            .fetch_one(&mut *tx)
            .await?;
        let lease = CommitLease { table, server: parse_id(row.try_get(0)?)?, address: row.try_get(1)?, term: row.try_get(2)? };
        self.state.commit(tx).await.map_err(StateError::of_commit)?;
        Ok(lease)
    }
}
