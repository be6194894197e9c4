//! Statements about many rows at once.
//!
//! Changes hold the write lock, so a statement a row would hold up other commits for as many round trips. Rows go into statements
//! of [`ROWS`] rows instead.

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
