use esker_types::{JobId, TableId, now_ms};
use futures::TryStreamExt;
use sqlx::Row;

use crate::{Result, State, Warehouse, parse_id};

/// A file that was about to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingOutput {
    /// Its URI.
    pub path: String,
    /// For which table.
    pub table: TableId,
    /// By which job; none for a commit's metadata file.
    pub job: Option<JobId>,
}

impl State {
    /// Records files before they are written.
    pub async fn record_outputs(&self, warehouse: Warehouse, table: TableId, job: Option<JobId>, paths: &[String]) -> Result<()> {
        let mut tx = self.begin_intent().await?;
        for path in paths {
            sqlx::query(
                "INSERT INTO pending_output (path, table_id, job_id, instance, recorded_ms, warehouse_id)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (path) DO NOTHING",
            )
            .bind(path)
            .bind(table.to_string())
            .bind(job.map(|j| j.to_string()))
            .bind(self.instance.to_string())
            .bind(now_ms())
            .bind(warehouse.id)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Forgets one recorded file, after it was settled or never came to be.
    pub async fn forget_output(&self, path: &str) -> Result<()> {
        sqlx::query("DELETE FROM pending_output WHERE path = $1").bind(path).execute(&self.intents).await?;
        Ok(())
    }

    /// What processes that are gone recorded in a warehouse and never settled.
    pub async fn outputs_of_dead_instances(&self, warehouse: Warehouse) -> Result<Vec<PendingOutput>> {
        let query = sqlx::query(
            "SELECT path, table_id, job_id FROM pending_output WHERE instance NOT IN (SELECT id FROM instance) AND warehouse_id = $1 ORDER BY table_id, path",
        )
        .bind(warehouse.id);
        let rows = query.fetch_all(&self.readers).await?;
        let parse = |row: &sqlx::any::AnyRow| {
            let job: Option<String> = row.try_get(2)?;
            let job = job.map(|j| parse_id(&j)).transpose()?;
            Ok(PendingOutput { path: row.try_get(0)?, table: parse_id(row.try_get(1)?)?, job })
        };
        rows.iter().map(parse).collect()
    }

    /// What a job recorded and did not settle.
    pub async fn outputs_of_job(&self, job: JobId) -> Result<Vec<String>> {
        let query = sqlx::query_scalar("SELECT path FROM pending_output WHERE job_id = $1").bind(job.to_string());
        Ok(query.fetch_all(&self.readers).await?)
    }

    /// Visits the files of a table that are accounted for though no snapshot leads to them: recorded by whoever writes them, or in
    /// quarantine. They may be as many as the table's own.
    pub async fn visit_accounted(&self, table: TableId, mut visit: impl FnMut(&str)) -> Result<()> {
        let sql = "SELECT path FROM pending_output WHERE table_id = $1
                   UNION ALL SELECT path FROM quarantine WHERE table_id = $1 AND state IN ('quarantined', 'deleting')";
        let mut paths = sqlx::query_scalar::<_, String>(sql).bind(table.to_string()).fetch(&self.readers);
        while let Some(path) = paths.try_next().await? {
            visit(&path);
        }
        Ok(())
    }

    /// Whether it is known of a file that it is no state of its table: it is or was in quarantine, or a server that lives is about to
    /// publish it. With `dead`, also if a server that is gone was: right only where the database knows of every commit.
    pub async fn is_accounted(&self, path: &str, dead: bool) -> Result<bool> {
        let sql = "SELECT (SELECT count(*) FROM quarantine WHERE path = $1 AND state <> 'released')
                        + (SELECT count(*) FROM pending_output WHERE path = $1 AND ($2 = 1 OR instance IN (SELECT id FROM instance)))";
        let known: i64 = sqlx::query_scalar(sql).bind(path).bind(i64::from(dead)).fetch_one(&self.readers).await?;
        Ok(known > 0)
    }

    /// The job that recorded a file and has not settled it.
    pub async fn output_job(&self, path: &str) -> Result<Option<JobId>> {
        let query = sqlx::query_scalar("SELECT job_id FROM pending_output WHERE path = $1").bind(path);
        let job: Option<Option<String>> = query.fetch_optional(&self.readers).await?;
        job.flatten().map(|id| parse_id(&id)).transpose()
    }
}
