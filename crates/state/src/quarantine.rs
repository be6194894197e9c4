use esker_types::{JobId, Millis, TableId, now_ms};
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};
use uuid::Uuid;

use crate::{Result, State, StateError, Warehouse, parse_id};

/// Files in quarantine that one job quarantined in one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineByJob {
    /// The number of the warehouse.
    pub warehouse: i64,
    /// The table's name.
    pub table: String,
    /// The job; none if it was no job.
    pub job: Option<JobId>,
    /// Why, of one of them.
    pub reason: String,
    /// How many.
    pub files: i64,
    /// Their bytes, where known.
    pub bytes: i64,
    /// When the first of them goes.
    pub due_ms: Millis,
    /// How many are going already.
    pub deleting: i64,
}

/// What a file in quarantine was, which decides what a sweep asks before it deletes the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QuarantineKind {
    /// Written for its table, or part of it once: only the table itself can still need it.
    #[default]
    Own,
    /// Found where the table's files lie, with nothing that leads to it: another table may refer to it.
    Orphan,
}

impl QuarantineKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Orphan => "orphan",
        }
    }

    /// A kind that is not known, as a later version may write it, is asked most of.
    fn parse(text: &str) -> Self {
        match text {
            "own" => Self::Own,
            _ => Self::Orphan,
        }
    }
}

/// A file to be put into quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewQuarantine {
    /// Its URI.
    pub path: String,
    /// The number of the warehouse that it lies in.
    pub warehouse: i64,
    /// The table it belonged to.
    pub table: TableId,
    /// That table's name, for people.
    pub table_name: String,
    /// The UUID that the table must still have when the file is deleted.
    pub table_uuid: Uuid,
    /// The location that the file must lie in.
    pub table_location: String,
    /// The job that quarantined it, if one did.
    pub job: Option<JobId>,
    /// What the file was.
    pub kind: QuarantineKind,
    /// Why, for people.
    pub reason: String,
    /// Its size, where known.
    pub bytes: Option<u64>,
    /// Not deleted before this time.
    pub due_ms: Millis,
}

/// Where a file in quarantine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuarantineState {
    /// Recorded; the file is in place.
    Quarantined,
    /// About to be removed: recorded before the storage is asked.
    Deleting,
    /// Removed.
    Deleted,
    /// Found to be referenced again, or outside what may be deleted; kept.
    Released,
}

impl QuarantineState {
    /// The name in the database and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quarantined => "quarantined",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Released => "released",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "quarantined" => Self::Quarantined,
            "deleting" => Self::Deleting,
            "deleted" => Self::Deleted,
            _ => Self::Released,
        }
    }
}

/// A file in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedFile {
    /// What was recorded.
    pub record: NewQuarantine,
    /// Where it stands.
    pub state: QuarantineState,
    /// Why it was spared.
    pub note: Option<String>,
}

pub(crate) async fn insert_quarantine(tx: &mut Transaction<'_, Any>, quarantines: &[NewQuarantine]) -> Result<()> {
    let now = now_ms();
    for record in quarantines {
        // A path quarantined before and spared may be quarantined again.
        sqlx::query(
            "INSERT INTO quarantine (path, table_id, table_name, table_uuid, table_location, job_id, reason, bytes,
                                 state, quarantined_ms, due_ms, changed_ms, warehouse_id, kind)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'quarantined', $9, $10, $9, $11, $12)
             ON CONFLICT (path) DO UPDATE SET table_id = $2, table_name = $3, table_uuid = $4, table_location = $5,
                 job_id = $6, reason = $7, bytes = $8, state = 'quarantined', note = NULL, quarantined_ms = $9, due_ms = $10,
                 changed_ms = $9, warehouse_id = $11, kind = $12
             WHERE quarantine.state IN ('released', 'deleted')",
        )
        .bind(&record.path)
        .bind(record.table.to_string())
        .bind(&record.table_name)
        .bind(record.table_uuid.to_string())
        .bind(&record.table_location)
        .bind(record.job.map(|j| j.to_string()))
        .bind(&record.reason)
        .bind(record.bytes.and_then(|b| i64::try_from(b).ok()))
        .bind(now)
        .bind(record.due_ms)
        .bind(record.warehouse)
        .bind(record.kind.as_str())
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Paths that one statement is about.
const PATHS: usize = 500;

/// `$first, $second, …` for a list of values.
fn placeholders(first: usize, n: usize) -> String {
    (first..first + n).map(|at| format!("${at}")).collect::<Vec<_>>().join(", ")
}

/// Takes files out of quarantine that are part of their table again, whoever quarantined them.
pub(crate) async fn release_restored(tx: &mut Transaction<'_, Any>, paths: &[String]) -> Result<()> {
    for paths in paths.chunks(PATHS) {
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
            return Err(StateError::Going(path));
        }
    }
    Ok(())
}

/// Of which the time has come by `$1`, or of which the deletion was begun.
const DUE: &str = "(state = 'deleting' OR (state = 'quarantined' AND due_ms <= $1))";

const SELECT: &str = "SELECT path, table_id, table_name, table_uuid, table_location, job_id, reason, bytes, due_ms, state, note,
    warehouse_id, kind FROM quarantine";

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

impl State {
    /// Puts files into quarantine and forgets the intents they were recorded under.
    pub async fn quarantine(&self, quarantines: &[NewQuarantine]) -> Result<()> {
        let mut tx = self.begin().await?;
        insert_quarantine(&mut tx, quarantines).await?;
        for record in quarantines {
            sqlx::query("DELETE FROM pending_output WHERE path = $1").bind(&record.path).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// The tables of which a warehouse has files whose time has come, or whose deletion was begun and not confirmed.
    pub async fn due_tables(&self, warehouse: Warehouse, now: Millis) -> Result<Vec<TableId>> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT DISTINCT table_id FROM quarantine WHERE warehouse_id = $2 AND {DUE} ORDER BY table_id"
        ));
        let ids: Vec<String> = sqlx::query_scalar(sql).bind(now).bind(warehouse.id).fetch_all(&self.readers).await?;
        ids.iter().map(|id| parse_id(id)).collect()
    }

    /// Files of one table whose time has come, or whose deletion was begun and not confirmed; at most `limit`.
    pub async fn due_for_deletion(
        &self,
        warehouse: Warehouse,
        table: TableId,
        now: Millis,
        limit: u32,
    ) -> Result<Vec<QuarantinedFile>> {
        let sql =
            sqlx::AssertSqlSafe(format!("{SELECT} WHERE warehouse_id = $3 AND table_id = $4 AND {DUE} ORDER BY path LIMIT $2"));
        let query = sqlx::query(sql).bind(now).bind(i64::from(limit)).bind(warehouse.id).bind(table.to_string());
        let rows = query.fetch_all(&self.readers).await?;
        rows.iter().map(quarantine_row).collect()
    }

    /// Of some files those that are in quarantine, and those that are gone or going.
    pub async fn quarantined_among(&self, paths: &[String]) -> Result<(Vec<String>, Vec<String>)> {
        let (mut quarantined, mut going) = (Vec::new(), Vec::new());
        for paths in paths.chunks(PATHS) {
            let sql = format!(
                "SELECT path, state FROM quarantine WHERE state <> 'released' AND path IN ({})",
                placeholders(1, paths.len())
            );
            let query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for row in paths.iter().fold(query, |query, path| query.bind(path)).fetch_all(&self.readers).await? {
                match QuarantineState::parse(row.try_get(1)?) {
                    QuarantineState::Quarantined => quarantined.push(row.try_get(0)?),
                    _ => going.push(row.try_get(0)?),
                }
            }
        }
        Ok((quarantined, going))
    }

    /// A table's files in quarantine: those not yet gone.
    pub async fn quarantine_of(&self, table: TableId) -> Result<Vec<QuarantinedFile>> {
        let sql = sqlx::AssertSqlSafe(format!(
            "{SELECT} WHERE table_id = $1 AND state IN ('quarantined', 'deleting') ORDER BY due_ms, path"
        ));
        let rows = sqlx::query(sql).bind(table.to_string()).fetch_all(&self.readers).await?;
        rows.iter().map(quarantine_row).collect()
    }

    /// A table's files that were to be deleted and are kept.
    pub async fn released_of(&self, table: TableId) -> Result<Vec<QuarantinedFile>> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE table_id = $1 AND state = 'released' ORDER BY path"));
        let rows = sqlx::query(sql).bind(table.to_string()).fetch_all(&self.readers).await?;
        rows.iter().map(quarantine_row).collect()
    }

    /// What is known of a path that was ever quarantined.
    pub async fn quarantined_path(&self, path: &str) -> Result<Option<QuarantinedFile>> {
        let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE path = $1"));
        let row = sqlx::query(sql).bind(path).fetch_optional(&self.readers).await?;
        row.as_ref().map(quarantine_row).transpose()
    }

    /// Marks a table's files for deletion, if it still is at the metadata file that they were checked against; none: it was dropped for
    /// good. Returns those that are still in quarantine: an undo may have taken some out since they were read.
    pub async fn begin_deleting(&self, table: TableId, checked: Option<&str>, paths: Vec<String>) -> Result<Vec<String>> {
        let mut tx = self.begin().await?;
        let at = "SELECT metadata_location FROM tabular WHERE id = $1
                  UNION ALL SELECT metadata_location FROM dropped_table WHERE id = $1";
        let at: Option<String> = sqlx::query_scalar(at).bind(table.to_string()).fetch_optional(&mut *tx).await?;
        if at.as_deref() != checked {
            return Ok(Vec::new());
        }
        let mut begun = Vec::with_capacity(paths.len());
        for path in paths {
            let update = "UPDATE quarantine SET state = 'deleting', note = NULL, changed_ms = $2
                          WHERE path = $1 AND state IN ('quarantined', 'deleting')";
            if sqlx::query(update).bind(&path).bind(now_ms()).execute(&mut *tx).await?.rows_affected() > 0 {
                begun.push(path);
            }
        }
        tx.commit().await?;
        Ok(begun)
    }

    /// Moves files on in quarantine.
    pub async fn end_deletion(&self, paths: &[String], state: QuarantineState, note: Option<&str>) -> Result<()> {
        let mut tx = self.begin().await?;
        for path in paths {
            sqlx::query("UPDATE quarantine SET state = $2, note = $3, changed_ms = $4 WHERE path = $1")
                .bind(path)
                .bind(state.as_str())
                .bind(note)
                .bind(now_ms())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// What is in quarantine, by the job that quarantined it and by table; what goes first comes first.
    pub async fn quarantine_by_job(&self, limit: u32) -> Result<Vec<QuarantineByJob>> {
        let sql = "SELECT warehouse_id, table_name, job_id, min(reason), count(*), CAST(coalesce(sum(bytes), 0) AS BIGINT), min(due_ms),
                          CAST(sum(CASE state WHEN 'deleting' THEN 1 ELSE 0 END) AS BIGINT)
                   FROM quarantine WHERE state IN ('quarantined', 'deleting') GROUP BY warehouse_id, table_name, job_id ORDER BY min(due_ms) LIMIT $1";
        let rows = sqlx::query(sql).bind(i64::from(limit)).fetch_all(&self.readers).await?;
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

    /// Files and bytes in quarantine, over all tables.
    pub async fn quarantine_totals(&self) -> Result<(i64, i64)> {
        let row = sqlx::query(
            "SELECT count(*), CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM quarantine WHERE state IN ('quarantined', 'deleting')",
        )
        .fetch_one(&self.readers)
        .await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }
}
