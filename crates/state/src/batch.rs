//! Statements about many rows at once.
//!
//! Changes hold the write lock, so a statement a row would hold up other commits for as many round trips. Rows go into statements
//! of [`ROWS`] rows instead.

use esker_types::Millis;

use crate::{Result, State, StateError};

/// The number of rows or paths in one statement. SQLite takes 32,766 parameters, PostgreSQL 65,535.
pub(crate) const ROWS: usize = 500;

/// Returns `$first, $second, …`, the placeholders of `n` values.
pub(crate) fn placeholders(first: usize, n: usize) -> String {
    (first..first + n).map(|at| format!("${at}")).collect::<Vec<_>>().join(", ")
}

/// Returns `($1, $2), ($3, $4), …`, the placeholders of rows for `VALUES`.
pub(crate) fn values(rows: usize, columns: usize) -> String {
    (0..rows).map(|row| format!("({})", placeholders(1 + row * columns, columns))).collect::<Vec<_>>().join(", ")
}

/// Repeats a deletion of at most `$2` rows from before the time `$1` until it finds fewer.
///
/// Each is a transaction of its own: other changes, which wait for the write lock, get their turn in between.
///
/// # Errors
///
/// Returns [`Ambiguous`](StateError::Ambiguous) if a commit was sent but not confirmed, and [`Fenced`](StateError::Fenced),
/// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if a batch was not written. Earlier batches stay removed.
pub(crate) async fn delete_in_batches(state: &State, sql: &str, before: Millis) -> Result<()> {
    loop {
        let mut tx = state.begin().await?;
        let delete = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).bind(before).bind(ROWS as i64);
        let deleted = delete.execute(&mut *tx).await?.rows_affected();
        state.commit(tx).await.map_err(StateError::of_commit)?;
        if deleted < ROWS as u64 {
            return Ok(());
        }
    }
}
