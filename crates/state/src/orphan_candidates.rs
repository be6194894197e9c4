use esker_types::{JobId, Millis, TableId, now_ms};

use crate::{Result, State};

impl State {
    /// Records that some files belong to nothing at a time; returns since when each was seen so.
    pub async fn record_orphan_candidates(&self, table: TableId, paths: &[String], now: Millis) -> Result<Vec<Millis>> {
        let mut tx = self.begin().await?;
        let mut since = Vec::with_capacity(paths.len());
        for path in paths {
            let first = sqlx::query_scalar(
                "INSERT INTO orphan_candidate (path, table_id, first_ms, last_ms) VALUES ($1, $2, $3, $3)
                 ON CONFLICT (path) DO UPDATE SET last_ms = $3, table_id = $2,
                     first_ms = CASE WHEN orphan_candidate.table_id = $2 THEN orphan_candidate.first_ms ELSE $3 END
                 RETURNING first_ms",
            )
            .bind(path)
            .bind(table.to_string())
            .bind(now);
            since.push(first.fetch_one(&mut *tx).await?);
        }
        tx.commit().await?;
        Ok(since)
    }

    /// Since when a file was seen to belong to nothing.
    pub async fn orphan_candidate_since(&self, path: &str) -> Result<Option<Millis>> {
        let query = sqlx::query_scalar("SELECT first_ms FROM orphan_candidate WHERE path = $1").bind(path);
        Ok(query.fetch_optional(&self.readers).await?)
    }

    /// Forgets a table's files that the look begun at a time did not find to belong to nothing.
    pub async fn forget_orphan_candidates(&self, table: TableId, before: Millis) -> Result<u64> {
        let delete = sqlx::query("DELETE FROM orphan_candidate WHERE table_id = $1 AND last_ms < $2");
        Ok(delete.bind(table.to_string()).bind(before).execute(&self.writer).await?.rows_affected())
    }

    /// Lets files in quarantine go by a time, where theirs is later; returns how many there are.
    pub async fn shorten_quarantine(&self, paths: &[String], due_ms: Millis) -> Result<u64> {
        let mut tx = self.begin().await?;
        let mut files = 0;
        for path in paths {
            let update = "UPDATE quarantine SET due_ms = CASE WHEN due_ms > $2 THEN $2 ELSE due_ms END, changed_ms = $3
                          WHERE path = $1 AND state IN ('quarantined', 'deleting')";
            files += sqlx::query(update).bind(path).bind(due_ms).bind(now_ms()).execute(&mut *tx).await?.rows_affected();
        }
        tx.commit().await?;
        Ok(files)
    }

    /// Takes the files that a job quarantined out of quarantine, all but those whose deletion was begun. Returns how many stay, and how
    /// many are gone or going.
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
