//! Orphan candidates: files that a scan found unreferenced.
//!
//! An orphan scan records each unreferenced file as a candidate. A later scan that finds it unreferenced again, at least a day
//! later, makes it an orphan. A candidate that a scan does not see again is forgotten.

use std::collections::{BTreeSet, HashMap};

use esker_types::{Millis, TableId};
use sqlx::Row;

use super::Quarantine;
use crate::Result;
use crate::batch::{ROWS, values};

impl Quarantine<'_> {
    /// Records files that a scan at `now` found unreferenced, in one transaction.
    ///
    /// Returns the time of the first such scan for each, in the order of `paths`, in milliseconds since the Unix epoch. A file that
    /// was a candidate of another table starts again at `now`.
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](crate::StateError::Fenced) if the other servers count this one as dead, and
    /// [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn record_orphan_candidates(self, table: TableId, paths: &[String], now: Millis) -> Result<Vec<Millis>> {
        let mut tx = self.state.begin().await?;
        let mut since: HashMap<String, Millis> = HashMap::with_capacity(paths.len());
        // PostgreSQL refuses to change a row twice in one statement.
        let once: BTreeSet<&String> = paths.iter().collect();
        for paths in once.into_iter().collect::<Vec<_>>().chunks(ROWS) {
            let sql = format!(
                "INSERT INTO orphan_candidate (path, table_id, first_ms, last_ms) VALUES {}
                 ON CONFLICT (path) DO UPDATE SET last_ms = excluded.last_ms, table_id = excluded.table_id,
                     first_ms = CASE WHEN orphan_candidate.table_id = excluded.table_id THEN orphan_candidate.first_ms
                                     ELSE excluded.first_ms END
                 RETURNING path, first_ms",
                values(paths.len(), 4)
            );
            let insert = sqlx::query(sqlx::AssertSqlSafe(sql));
            let insert =
                paths.iter().fold(insert, |query, path| query.bind((*path).clone()).bind(table.to_string()).bind(now).bind(now));
            for row in insert.fetch_all(&mut *tx).await? {
                since.insert(row.try_get(0)?, row.try_get(1)?);
            }
        }
        self.state.commit(tx).await?;
        Ok(paths.iter().map(|path| since.get(path).copied().unwrap_or(now)).collect())
    }

    /// Returns the time since when a file is an orphan candidate, in milliseconds since the Unix epoch. `None` if it is none.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn orphan_candidate_since(self, path: &str) -> Result<Option<Millis>> {
        let query = sqlx::query_scalar("SELECT first_ms FROM orphan_candidate WHERE path = $1").bind(path);
        Ok(query.fetch_optional(&self.state.readers).await?)
    }

    /// Removes the table's orphan candidates that no scan saw since `before`. Returns their number.
    ///
    /// `before` is the start of the last scan, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn forget_orphan_candidates(self, table: TableId, before: Millis) -> Result<u64> {
        let delete = sqlx::query("DELETE FROM orphan_candidate WHERE table_id = $1 AND last_ms < $2");
        Ok(delete.bind(table.to_string()).bind(before).execute(&self.state.writer).await?.rows_affected())
    }
}
