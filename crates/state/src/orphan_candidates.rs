//! Orphan candidates, and two changes to the quarantine that are made by job or by path.
//!
//! An orphan scan records each unreferenced file as a candidate. A later scan that finds it unreferenced again, at least a day
//! later, makes it an orphan. A candidate that a scan does not see again is forgotten.

use std::collections::{BTreeSet, HashMap};

use esker_types::{JobId, Millis, TableId, now_ms};
use sqlx::Row;

use crate::batch::{ROWS, placeholders, values};
use crate::{Result, State};

impl State {
    /// Records files that a scan at `now` found unreferenced, in one transaction.
    ///
    /// Returns the time of the first such scan for each, in the order of `paths`, in milliseconds since the Unix epoch. A file that
    /// was a candidate of another table starts again at `now`.
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](crate::StateError::Fenced) if the other servers count this one as dead, and
    /// [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn record_orphan_candidates(&self, table: TableId, paths: &[String], now: Millis) -> Result<Vec<Millis>> {
        let mut tx = self.begin().await?;
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
        tx.commit().await?;
        Ok(paths.iter().map(|path| since.get(path).copied().unwrap_or(now)).collect())
    }

    /// Returns the time since when a file is an orphan candidate, in milliseconds since the Unix epoch. `None` if it is none.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn orphan_candidate_since(&self, path: &str) -> Result<Option<Millis>> {
        let query = sqlx::query_scalar("SELECT first_ms FROM orphan_candidate WHERE path = $1").bind(path);
        Ok(query.fetch_optional(&self.readers).await?)
    }

    /// Removes the table's orphan candidates that no scan saw since `before`. Returns their number.
    ///
    /// `before` is the start of the last scan, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn forget_orphan_candidates(&self, table: TableId, before: Millis) -> Result<u64> {
        let delete = sqlx::query("DELETE FROM orphan_candidate WHERE table_id = $1 AND last_ms < $2");
        Ok(delete.bind(table.to_string()).bind(before).execute(&self.writer).await?.rows_affected())
    }

    /// Makes quarantined files due at `due_ms` (milliseconds since the Unix epoch), if they are due later.
    ///
    /// Returns the number of the files that are in quarantine, also of those that were due earlier.
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](crate::StateError::Fenced) if the other servers count this one as dead, and
    /// [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn shorten_quarantine(&self, paths: &[String], due_ms: Millis) -> Result<u64> {
        let mut tx = self.begin().await?;
        let mut files = 0;
        for paths in paths.chunks(ROWS) {
            let update = format!(
                "UPDATE quarantine SET due_ms = CASE WHEN due_ms > $1 THEN $1 ELSE due_ms END, changed_ms = $2
                 WHERE state IN ('quarantined', 'deleting') AND path IN ({})",
                placeholders(3, paths.len())
            );
            let update = sqlx::query(sqlx::AssertSqlSafe(update)).bind(due_ms).bind(now_ms());
            files += paths.iter().fold(update, |query, path| query.bind(path)).execute(&mut *tx).await?.rows_affected();
        }
        tx.commit().await?;
        Ok(files)
    }

    /// Releases the files that a job quarantined, except those whose deletion has begun.
    ///
    /// Returns the number of released files, and of those that are being deleted or are deleted. `note` is the reason, for people.
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](crate::StateError::Fenced) if the other servers count this one as dead, and
    /// [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn release_quarantined_by(&self, job: JobId, note: &str) -> Result<(u64, u64)> {
        let mut tx = self.begin().await?;
        let spared = sqlx::query(
            "UPDATE quarantine SET state = 'released', note = $2, changed_ms = $3 WHERE job_id = $1 AND state = 'quarantined'",
        )
        .bind(job.to_string())
        .bind(note)
        .bind(now_ms())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        let lost: i64 =
            sqlx::query_scalar("SELECT count(*) FROM quarantine WHERE job_id = $1 AND state IN ('deleting', 'deleted')")
                .bind(job.to_string())
                .fetch_one(&mut *tx)
                .await?;
        tx.commit().await?;
        Ok((spared, lost.unsigned_abs()))
    }
}
