//! The quarantine: files that wait in place, unreferenced, until the sweep may delete them.
//!
//! `esker_catalog::deletion::sweep` is the only function that deletes files. It checks each due file again before it marks it here.
//!
//! ```text
//!    quarantine, a commit or a drop
//!             │
//!             ▼     due: begin_deleting                 end_deletion(Deleted)
//!    ┌──▶ quarantined ───────────────────▶ deleting ───────────────────────────▶ deleted ──┐
//!    │        │                               │                                            │
//!    │        │ referenced again, or undone   │ interrupted, and referenced when           │
//!    │        ▼                               ▼ it is checked again                        │
//!    │     released ◀─────────────────────────┘                                            │
//!    │        │                                                                            │
//!    └────────┴──── quarantined again (a new file of the same path, or a released one) ◀───┘
//! ```
//!
//! `deleting` is recorded before the storage is asked. A sweep that was killed then leaves it behind, and a later sweep checks the
//! file again. A file in `deleting` or `deleted` can't become part of its table again: [`StateError::BeingDeleted`]. Records are
//! never removed, so that [`Quarantine::record_of`] explains any file.

mod orphan_candidates;

use std::collections::HashSet;

use esker_types::{JobId, Millis, TableId, now_ms};
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};
use uuid::Uuid;

use crate::batch::{ROWS, placeholders, values};
use crate::outputs::remove_outputs;
use crate::{Result, State, StateError, Warehouse, parse_id};

/// The files in quarantine that one job quarantined in one table, as counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineByJob {
    /// The row number of the warehouse.
    pub warehouse: i64,
    /// The name of the table when the files were quarantined.
    pub table: String,
    /// The job that quarantined the files. `None` if no job did.
    pub job: Option<JobId>,
    /// The reason for one of the files, for people.
    pub reason: String,
    /// The number of files.
    pub files: i64,
    /// Total size of the files, in bytes; unknown sizes count as zero.
    pub bytes: i64,
    /// The time at which the first of the files is due, in milliseconds since the Unix epoch.
    pub due_ms: Millis,
    /// The number of the files whose deletion has begun.
    pub deleting: i64,
}

/// The origin of a file in quarantine, which decides the checks before its deletion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QuarantineKind {
    /// Written for its table, or once part of it: only the table itself can still need the file.
    #[default]
    Own,
    /// Found among the table's files, with nothing that refers to it: another table may refer to the file.
    Orphan,
}

impl QuarantineKind {
    /// Returns the spelling in the database.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Orphan => "orphan",
        }
    }

    /// Reads the spelling in the database. An unknown kind, of a later version, gets the most checks.
    fn parse(text: &str) -> Self {
        match text {
            "own" => Self::Own,
            _ => Self::Orphan,
        }
    }
}

/// A file to be quarantined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewQuarantine {
    /// The URI of the file.
    pub path: String,
    /// The row number of the warehouse that the file lies in.
    pub warehouse: i64,
    /// The catalog entry of the table that the file belonged to.
    pub table: TableId,
    /// The name of that table, for people.
    pub table_name: String,
    /// The UUID that the table must still have when the file is deleted.
    pub table_uuid: Uuid,
    /// The location that the file must lie in, unless it lies in another place of its table.
    pub table_location: String,
    /// The job that quarantines the file, if one does.
    pub job: Option<JobId>,
    /// The origin of the file.
    pub kind: QuarantineKind,
    /// The reason, for people.
    pub reason: String,
    /// The size of the file in bytes, where known.
    pub bytes: Option<u64>,
    /// The time before which the file is not deleted, in milliseconds since the Unix epoch.
    pub due_ms: Millis,
}

/// The state of a file in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum QuarantineState {
    /// Recorded. The file is in place and waits until it is due.
    Quarantined,
    /// About to be removed. This is recorded before the storage is asked.
    Deleting,
    /// Removed from storage.
    Deleted,
    /// Kept: the file is referenced again, lies where nothing may be deleted, or was released by an undo.
    Released,
}

impl QuarantineState {
    /// Returns the spelling in the database and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quarantined => "quarantined",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Released => "released",
        }
    }

    /// Reads the spelling in the database. Unknown text counts as released, so that nothing is deleted.
    fn parse(text: &str) -> Self {
        match text {
            "quarantined" => Self::Quarantined,
            "deleting" => Self::Deleting,
            "deleted" => Self::Deleted,
            _ => Self::Released,
        }
    }
}

/// A file in quarantine, with its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedFile {
    /// The record that was written when the file was quarantined.
    pub record: NewQuarantine,
    /// The state of the file.
    pub state: QuarantineState,
    /// The reason for which the file was released, for people.
    pub note: Option<String>,
}

/// Quarantines files. A file that is in quarantine already keeps its record.
pub(crate) async fn insert_quarantine(tx: &mut Transaction<'_, Any>, quarantines: &[NewQuarantine]) -> Result<()> {
    let now = now_ms();
    // Of two records of one path the first counts. PostgreSQL also refuses to change a row twice in one statement.
    let mut seen = HashSet::new();
    let records: Vec<&NewQuarantine> = quarantines.iter().filter(|record| seen.insert(record.path.as_str())).collect();
    for records in records.chunks(ROWS) {
        // A path that was quarantined before, and was released or deleted, may be quarantined again.
        let sql = format!(
            "INSERT INTO quarantine (path, table_id, table_name, table_uuid, table_location, job_id, reason, bytes,
                                 state, quarantined_ms, due_ms, changed_ms, warehouse_id, kind)
             VALUES {}
             ON CONFLICT (path) DO UPDATE SET table_id = excluded.table_id, table_name = excluded.table_name,
                 table_uuid = excluded.table_uuid, table_location = excluded.table_location, job_id = excluded.job_id,
                 reason = excluded.reason, bytes = excluded.bytes, state = excluded.state, note = NULL,
                 quarantined_ms = excluded.quarantined_ms, due_ms = excluded.due_ms, changed_ms = excluded.changed_ms,
                 warehouse_id = excluded.warehouse_id, kind = excluded.kind
             WHERE quarantine.state IN ('released', 'deleted')",
            values(records.len(), 14)
        );
        let insert = sqlx::query(sqlx::AssertSqlSafe(sql));
        let insert = records.iter().fold(insert, |query, record| {
            query
                .bind(record.path.clone())
                .bind(record.table.to_string())
                .bind(record.table_name.clone())
                .bind(record.table_uuid.to_string())
                .bind(record.table_location.clone())
                .bind(record.job.map(|j| j.to_string()))
                .bind(record.reason.clone())
                .bind(record.bytes.and_then(|b| i64::try_from(b).ok()))
                .bind(QuarantineState::Quarantined.as_str())
                .bind(now)
                .bind(record.due_ms)
                .bind(now)
                .bind(record.warehouse)
                .bind(record.kind.as_str())
        });
        insert.execute(&mut **tx).await?;
    }
    Ok(())
}

/// Releases files that are part of their table again, whichever job quarantined them.
///
/// # Errors
///
/// Returns [`BeingDeleted`](StateError::BeingDeleted) if the deletion of one of the files has begun or is done, and
/// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
pub(crate) async fn release_restored(tx: &mut Transaction<'_, Any>, paths: &[String]) -> Result<()> {
    for paths in paths.chunks(ROWS) {
        let update = format!(
            "UPDATE quarantine SET state = 'released', note = $1, changed_ms = $2 WHERE state = 'quarantined' AND path IN ({})",
            placeholders(3, paths.len())
        );
        let update = sqlx::query(sqlx::AssertSqlSafe(update)).bind("it is part of the table again").bind(now_ms());
        paths.iter().fold(update, |query, path| query.bind(path)).execute(&mut **tx).await?;
        let going = format!(
            "SELECT path FROM quarantine WHERE state IN ('deleting', 'deleted') AND path IN ({}) ORDER BY path LIMIT 1",
            placeholders(1, paths.len())
        );
        let going = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(going));
        if let Some(path) = paths.iter().fold(going, |query, path| query.bind(path)).fetch_optional(&mut **tx).await? {
            return Err(StateError::BeingDeleted(path));
        }
    }
    Ok(())
}

/// The condition for files that are due at `$1`, or whose deletion has begun.
const DUE_CONDITION: &str = "(state = 'deleting' OR (state = 'quarantined' AND due_ms <= $1))";

/// Selects the columns that [`quarantine_row`] reads.
const SELECT: &str = "SELECT path, table_id, table_name, table_uuid, table_location, job_id, reason, bytes, due_ms, state, note,
    warehouse_id, kind FROM quarantine";

/// Reads a file in quarantine from the columns of [`SELECT`].
fn quarantine_row(row: &AnyRow) -> Result<QuarantinedFile> {
    let job: Option<String> = row.try_get(5)?;
    let record = NewQuarantine {
        path: row.try_get(0)?,
        warehouse: row.try_get(11)?,
        table: parse_id(row.try_get(1)?)?,
        table_name: row.try_get(2)?,
        table_uuid: parse_id(row.try_get(3)?)?,
        table_location: row.try_get(4)?,
        job: job.map(|j| parse_id(&j)).transpose()?,
        kind: QuarantineKind::parse(row.try_get(12)?),
        reason: row.try_get(6)?,
        bytes: row.try_get::<Option<i64>, _>(7)?.and_then(|b| u64::try_from(b).ok()),
        due_ms: row.try_get(8)?,
    };
    Ok(QuarantinedFile { record, state: QuarantineState::parse(row.try_get(9)?), note: row.try_get(10)? })
}

/// The handle for the quarantined files, and for the orphan candidates that may come into it.
#[derive(Debug, Clone, Copy)]
pub struct Quarantine<'a> {
    pub(crate) state: &'a State,
}

impl Quarantine<'_> {
    /// Quarantines files and removes them from the pending outputs, in one transaction.
    ///
    /// A file that is in quarantine already keeps its record.
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](StateError::Fenced) if the other servers count this one as dead, and [`Full`](StateError::Full) or
    /// [`Sql`](StateError::Sql) if the database fails.
    pub async fn add(self, quarantines: &[NewQuarantine]) -> Result<()> {
        let mut tx = self.state.begin().await?;
        insert_quarantine(&mut tx, quarantines).await?;
        let paths: Vec<&str> = quarantines.iter().map(|record| record.path.as_str()).collect();
        remove_outputs(&mut tx, &paths).await?;
        self.state.commit(tx).await?;
        Ok(())
    }

    /// Returns the tables of a warehouse that have files to delete, ordered by identifier.
    ///
    /// Their files are due at `now` (milliseconds since the Unix epoch), or their deletion has begun and was not confirmed.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn due_tables(self, warehouse: Warehouse, now: Millis) -> Result<Vec<TableId>> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT DISTINCT table_id FROM quarantine WHERE warehouse_id = $2 AND {DUE_CONDITION} ORDER BY table_id"
        ));
        let ids: Vec<String> = sqlx::query_scalar(sql).bind(now).bind(warehouse.id).fetch_all(&self.state.readers).await?;
        ids.iter().map(|id| parse_id(id)).collect()
    }

    /// Returns a table's files that are to be deleted, at most `limit`, ordered by path.
    ///
    /// They are due at `now` (milliseconds since the Unix epoch), or their deletion has begun and was not confirmed.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn due_for_deletion(
        self,
        warehouse: Warehouse,
        table: TableId,
        now: Millis,
        limit: u32,
    ) -> Result<Vec<QuarantinedFile>> {
        let sql = sqlx::AssertSqlSafe(format!(
            "{SELECT} WHERE warehouse_id = $3 AND table_id = $4 AND {DUE_CONDITION} ORDER BY path LIMIT $2"
        ));
        let query = sqlx::query(sql).bind(now).bind(i64::from(limit)).bind(warehouse.id).bind(table.to_string());
        let rows = query.fetch_all(&self.state.readers).await?;
        rows.iter().map(quarantine_row).collect()
    }

    /// Returns those of some files that are in quarantine, and those that are being deleted or are deleted.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    pub async fn quarantined_among(self, paths: &[String]) -> Result<(Vec<String>, Vec<String>)> {
        let (mut quarantined, mut going) = (Vec::new(), Vec::new());
        for paths in paths.chunks(ROWS) {
            let sql = format!(
                "SELECT path, state FROM quarantine WHERE state <> 'released' AND path IN ({})",
                placeholders(1, paths.len())
            );
            let query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for row in paths.iter().fold(query, |query, path| query.bind(path)).fetch_all(&self.state.readers).await? {
                match QuarantineState::parse(row.try_get(1)?) {
                    QuarantineState::Quarantined => quarantined.push(row.try_get(0)?),
                    _ => going.push(row.try_get(0)?),
                }
            }
        }
        Ok((quarantined, going))
    }

    /// Returns a table's files in quarantine that are not deleted yet, ordered by the time at which they are due.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn of_table(self, table: TableId) -> Result<Vec<QuarantinedFile>> {
        let sql = sqlx::AssertSqlSafe(format!(
            "{SELECT} WHERE table_id = $1 AND state IN ('quarantined', 'deleting') ORDER BY due_ms, path"
        ));
        let rows = sqlx::query(sql).bind(table.to_string()).fetch_all(&self.state.readers).await?;
        rows.iter().map(quarantine_row).collect()
    }

    /// Returns a table's files that were quarantined and then released, ordered by path.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn released_of(self, table: TableId) -> Result<Vec<QuarantinedFile>> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE table_id = $1 AND state = 'released' ORDER BY path"));
        let rows = sqlx::query(sql).bind(table.to_string()).fetch_all(&self.state.readers).await?;
        rows.iter().map(quarantine_row).collect()
    }

    /// Returns the record of a path, whatever its state. `None` if the path was never quarantined.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn record_of(self, path: &str) -> Result<Option<QuarantinedFile>> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE path = $1"));
        let row = sqlx::query(sql).bind(path).fetch_optional(&self.state.readers).await?;
        row.as_ref().map(quarantine_row).transpose()
    }

    /// Marks a table's files as being deleted, and returns those that are marked.
    ///
    /// `checked` is the metadata file that the files were checked against, or `None` for a table that is dropped for good. If it is
    /// not the current one, nothing is marked. A file that was released since it was read is not marked either.
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](StateError::Fenced) if the other servers count this one as dead, and [`Full`](StateError::Full) or
    /// [`Sql`](StateError::Sql) if the database fails.
    pub async fn begin_deleting(self, table: TableId, checked: Option<&str>, paths: Vec<String>) -> Result<Vec<String>> {
        let mut tx = self.state.begin().await?;
        let at = "SELECT metadata_location FROM tabular WHERE id = $1
                  UNION ALL SELECT metadata_location FROM dropped_table WHERE id = $1";
        let at: Option<String> = sqlx::query_scalar(at).bind(table.to_string()).fetch_optional(&mut *tx).await?;
        if at.as_deref() != checked {
            return Ok(Vec::new());
        }
        let mut begun = HashSet::with_capacity(paths.len());
        for paths in paths.chunks(ROWS) {
            let update = format!(
                "UPDATE quarantine SET state = 'deleting', note = NULL, changed_ms = $1
                 WHERE state IN ('quarantined', 'deleting') AND path IN ({}) RETURNING path",
                placeholders(2, paths.len())
            );
            let update = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(update)).bind(now_ms());
            begun.extend(paths.iter().fold(update, |query, path| query.bind(path)).fetch_all(&mut *tx).await?);
        }
        self.state.commit(tx).await?;
        Ok(paths.into_iter().filter(|path| begun.contains(path)).collect())
    }

    /// Sets the state of files in quarantine, with a note for people, in one transaction.
    ///
    /// The files change their state whatever it was.
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](StateError::Fenced) if the other servers count this one as dead, and [`Full`](StateError::Full) or
    /// [`Sql`](StateError::Sql) if the database fails.
    pub async fn set_state(self, paths: &[String], state: QuarantineState, note: Option<&str>) -> Result<()> {
        let mut tx = self.state.begin().await?;
        for paths in paths.chunks(ROWS) {
            let update = format!(
                "UPDATE quarantine SET state = $1, note = $2, changed_ms = $3 WHERE path IN ({})",
                placeholders(4, paths.len())
            );
            let update = sqlx::query(sqlx::AssertSqlSafe(update)).bind(state.as_str()).bind(note).bind(now_ms());
            paths.iter().fold(update, |query, path| query.bind(path)).execute(&mut *tx).await?;
        }
        self.state.commit(tx).await?;
        Ok(())
    }

    /// Makes quarantined files due at `due_ms` (milliseconds since the Unix epoch), if they are due later.
    ///
    /// Returns the number of the files that are in quarantine, also of those that were due earlier.
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](StateError::Fenced) if the other servers count this one as dead, and
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    pub async fn shorten(self, paths: &[String], due_ms: Millis) -> Result<u64> {
        let mut tx = self.state.begin().await?;
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
        self.state.commit(tx).await?;
        Ok(files)
    }

    /// Releases the files that a job quarantined, except those whose deletion has begun.
    ///
    /// Returns the number of released files, and of those that are being deleted or are deleted. `note` is the reason, for people.
    ///
    /// # Errors
    ///
    /// Returns [`Fenced`](StateError::Fenced) if the other servers count this one as dead, and
    /// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database fails.
    pub async fn release_by_job(self, job: JobId, note: &str) -> Result<(u64, u64)> {
        let mut tx = self.state.begin().await?;
        let released = sqlx::query(
            "UPDATE quarantine SET state = 'released', note = $2, changed_ms = $3 WHERE job_id = $1 AND state = 'quarantined'",
        )
        .bind(job.to_string())
        .bind(note)
        .bind(now_ms())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        let deleted: i64 =
            sqlx::query_scalar("SELECT count(*) FROM quarantine WHERE job_id = $1 AND state IN ('deleting', 'deleted')")
                .bind(job.to_string())
                .fetch_one(&mut *tx)
                .await?;
        self.state.commit(tx).await?;
        Ok((released, deleted.unsigned_abs()))
    }

    /// Returns counts of the files in quarantine by job and table, at most `limit` groups, those that are due first in front.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer, and [`Corrupt`](StateError::Corrupt) if a stored value
    /// can't be read.
    pub async fn count_by_job(self, limit: u32) -> Result<Vec<QuarantineByJob>> {
        let sql = "SELECT warehouse_id, table_name, job_id, min(reason), count(*), CAST(coalesce(sum(bytes), 0) AS BIGINT), min(due_ms),
                          CAST(sum(CASE state WHEN 'deleting' THEN 1 ELSE 0 END) AS BIGINT)
                   FROM quarantine WHERE state IN ('quarantined', 'deleting') GROUP BY warehouse_id, table_name, job_id ORDER BY min(due_ms) LIMIT $1";
        let rows = sqlx::query(sql).bind(i64::from(limit)).fetch_all(&self.state.readers).await?;
        let group = |row: &AnyRow| {
            let job: Option<String> = row.try_get(2)?;
            Ok(QuarantineByJob {
                warehouse: row.try_get(0)?,
                table: row.try_get(1)?,
                job: job.map(|job| parse_id(&job)).transpose()?,
                reason: row.try_get(3)?,
                files: row.try_get(4)?,
                bytes: row.try_get(5)?,
                due_ms: row.try_get(6)?,
                deleting: row.try_get(7)?,
            })
        };
        rows.iter().map(group).collect()
    }

    /// Returns the number of files in quarantine over all tables, and their size in bytes; unknown sizes count as zero.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](StateError::Sql) if the database does not answer.
    pub async fn totals(self) -> Result<(i64, i64)> {
        let row = sqlx::query(
            "SELECT count(*), CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM quarantine WHERE state IN ('quarantined', 'deleting')",
        )
        .fetch_one(&self.state.readers)
        .await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }
}
