//! Pending outputs: files that are recorded before they are written, so that a crash leaves no unknown file behind.
//!
//! The commit that makes a file part of its table removes the record in the same transaction; the record is settled. The live
//! servers settle the records of dead ones: they quarantine each file that nothing refers to.

use esker_types::{JobId, TableId, now_ms};
use futures::TryStreamExt;
use sqlx::{Any, Row, Transaction};

use crate::batch::{ROWS, placeholders, values};
use crate::{Result, State, Warehouse, parse_id};

/// A file that a job or a commit was about to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingOutput {
    /// The URI of the file.
    pub path: String,
    /// The table that the file is for.
    pub table: TableId,
    /// The job that writes the file. `None` for the metadata file of a commit.
    pub job: Option<JobId>,
}

/// Removes pending outputs by their paths.
pub(crate) async fn remove_outputs<P: AsRef<str>>(tx: &mut Transaction<'_, Any>, paths: &[P]) -> Result<()> {
    for paths in paths.chunks(ROWS) {
        let sql = format!("DELETE FROM pending_output WHERE path IN ({})", placeholders(1, paths.len()));
        let delete = sqlx::query(sqlx::AssertSqlSafe(sql));
        paths.iter().fold(delete, |query, path| query.bind(path.as_ref().to_owned())).execute(&mut **tx).await?;
    }
    Ok(())
}

/// The handle for the pending outputs.
#[derive(Debug, Clone, Copy)]
pub struct Outputs<'a> {
    pub(crate) state: &'a State,
}

impl Outputs<'_> {
    /// Records files before they are written, in one transaction.
    ///
    /// A file that is recorded already keeps its record.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn record(self, warehouse: Warehouse, table: TableId, job: Option<JobId>, paths: &[String]) -> Result<()> {
        let mut tx = self.state.begin_relaxed().await?;
        for paths in paths.chunks(ROWS) {
            let sql = format!(
                "INSERT INTO pending_output (path, table_id, job_id, instance, recorded_ms, warehouse_id)
                 VALUES {} ON CONFLICT (path) DO NOTHING",
                values(paths.len(), 6)
            );
            let insert = sqlx::query(sqlx::AssertSqlSafe(sql));
            let insert = paths.iter().fold(insert, |query, path| {
                query
                    .bind(path)
                    .bind(table.to_string())
                    .bind(job.map(|j| j.to_string()))
                    .bind(self.state.instance.to_string())
                    .bind(now_ms())
                    .bind(warehouse.id)
            });
            insert.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Removes the records of files that turned out to be part of their table, in one transaction.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn forget_committed(self, paths: &[String]) -> Result<()> {
        let mut tx = self.state.begin_relaxed().await?;
        remove_outputs(&mut tx, paths).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Returns the outputs of a warehouse that dead servers recorded and did not settle, ordered by table and path.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn of_dead_servers(self, warehouse: Warehouse) -> Result<Vec<PendingOutput>> {
        let query = sqlx::query(
            "SELECT path, table_id, job_id FROM pending_output WHERE instance NOT IN (SELECT id FROM instance) AND warehouse_id = $1 ORDER BY table_id, path",
        )
        .bind(warehouse.id);
        let rows = query.fetch_all(&self.state.readers).await?;
        let parse = |row: &sqlx::any::AnyRow| {
            let job: Option<String> = row.try_get(2)?;
            let job = job.map(|j| parse_id(&j)).transpose()?;
            Ok(PendingOutput { path: row.try_get(0)?, table: parse_id(row.try_get(1)?)?, job })
        };
        rows.iter().map(parse).collect()
    }

    /// Returns the paths that a job recorded and did not settle, in no particular order.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn of_job(self, job: JobId) -> Result<Vec<String>> {
        let query = sqlx::query_scalar("SELECT path FROM pending_output WHERE job_id = $1").bind(job.to_string());
        Ok(query.fetch_all(&self.state.readers).await?)
    }

    /// Visits the pending outputs of a table and its files in quarantine, in no particular order.
    ///
    /// These files are accounted for, though no snapshot leads to them. They may be as many as the table's own files, so they are
    /// streamed.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer. Some files may have been visited before.
    pub async fn visit_accounted_files(self, table: TableId, mut visit: impl FnMut(&str)) -> Result<()> {
        let sql = "SELECT path FROM pending_output WHERE table_id = $1
                   UNION ALL SELECT path FROM quarantine WHERE table_id = $1 AND state IN ('quarantined', 'deleting')";
        let mut paths = sqlx::query_scalar::<_, String>(sql).bind(table.to_string()).fetch(&self.state.readers);
        while let Some(path) = paths.try_next().await? {
            visit(&path);
        }
        Ok(())
    }

    /// Checks that the database knows that a metadata file never became, or no longer is, a state of its table.
    ///
    /// It knows this if the file is in quarantine or was deleted from there, or if a live server is about to publish the file. With
    /// `dead`, a file that a dead server was about to publish counts too. That is right only if the database knows every commit.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn is_known_non_state(self, path: &str, dead: bool) -> Result<bool> {
        let sql = "SELECT (SELECT count(*) FROM quarantine WHERE path = $1 AND state <> 'released')
                        + (SELECT count(*) FROM pending_output WHERE path = $1 AND ($2 = 1 OR instance IN (SELECT id FROM instance)))";
        let known: i64 = sqlx::query_scalar(sql).bind(path).bind(i64::from(dead)).fetch_one(&self.state.readers).await?;
        Ok(known > 0)
    }

    /// Returns the job that recorded a file and has not settled it. `None` for a file that no job recorded.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn job_of(self, path: &str) -> Result<Option<JobId>> {
        let query = sqlx::query_scalar("SELECT job_id FROM pending_output WHERE path = $1").bind(path);
        let job: Option<Option<String>> = query.fetch_optional(&self.state.readers).await?;
        job.flatten().map(|id| parse_id(&id)).transpose()
    }
}
