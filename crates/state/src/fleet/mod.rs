//! The health of tables: facts, history, use, and the decisions of the autopilot.
//!
//! `table_health` has one row for each table: the facts of the last assessment, with the metadata file that they are about. A table
//! is stale when that is no longer its current metadata file. `health_history` has one point for every ten minutes, `table_use` one
//! row for every day. Facts, shapes and decisions are JSON that this crate does not read.

mod damage;
mod reports;

use std::collections::HashMap;

use esker_types::{DAY_MS, DurationMillis, Millis, TableId, now_ms};
use serde::Serialize;
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

pub use self::damage::DamagedFile;
use crate::batch::{ROWS, delete_in_batches, placeholders, values};
use crate::tables::{TABLE_COLUMNS, TABLE_FROM, table_row};
use crate::{Result, State, TabularKind, TabularRow, Warehouse, parse_id};

/// The length of the periods that have one point of history each, in milliseconds.
const HISTORY_MS: DurationMillis = 10 * 60 * 1000;

/// The score of a table without facts, in the order of scores.
const NO_SCORE: i64 = -1;

/// The reason for which a table could not be assessed, so that it has no facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssessmentFailure {
    /// The text of the error.
    pub why: String,
    /// The error may pass without any action.
    pub passing: bool,
}

/// The result of the last assessment of a table.
#[derive(Debug, Clone)]
pub struct HealthRow {
    /// The metadata file that was assessed.
    pub metadata_location: String,
    /// The facts as JSON, or the reason for which there are none.
    pub facts: std::result::Result<String, AssessmentFailure>,
}

/// The columns of `table_health`, under the alias `h`, that [`health_row`] reads.
const HEALTH_COLUMNS: &str = "h.metadata_location, h.facts, h.error, h.passing";

/// Reads [`HEALTH_COLUMNS`], the first of which is `first`. Returns `None` if that one is null: the table was never assessed.
fn health_row(row: &AnyRow, first: usize) -> Result<Option<HealthRow>> {
    let location: Option<String> = row.try_get(first)?;
    let Some(metadata_location) = location else { return Ok(None) };
    let (facts, error): (Option<String>, Option<String>) = (row.try_get(first + 1)?, row.try_get(first + 2)?);
    let passing = row.try_get::<i64, _>(first + 3)? != 0;
    Ok(Some(HealthRow {
        metadata_location,
        facts: facts.ok_or_else(|| AssessmentFailure { why: error.unwrap_or_default(), passing }),
    }))
}

/// A point of a table's history.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct HealthPoint {
    /// The beginning of the ten minutes that the point is for, in milliseconds since the Unix epoch.
    pub time_ms: Millis,
    /// The score of the table, from 0 to 100.
    pub score: i64,
    /// The measured shape of the table, as JSON.
    pub shape: Value,
}

/// The number of a table's scans and commits, as engines reported them, with the scans of Esker's own queries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct TableUsage {
    /// The number of scans.
    pub scans: i64,
    /// The number of data files that the scans read.
    pub scanned_files: i64,
    /// The number of delete files that the scans read.
    pub scanned_deletes: i64,
    /// The time that planning the scans took, in milliseconds.
    pub planning_ms: i64,
    /// The number of commits.
    pub commits: i64,
    /// The number of attempts at the commits. Attempts beyond the number of commits are retries.
    pub commit_attempts: i64,
}

impl TableUsage {
    /// Adds other counts to these.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.scans, other.scans),
            (&mut self.scanned_files, other.scanned_files),
            (&mut self.scanned_deletes, other.scanned_deletes),
            (&mut self.planning_ms, other.planning_ms),
            (&mut self.commits, other.commits),
            (&mut self.commit_attempts, other.commit_attempts),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// The number of days over which use is summed, today included.
pub const USAGE_DAYS: i64 = 7;

/// The sums that [`use_row`] reads.
const USE_SUMS: &str = "CAST(sum(scans) AS BIGINT), CAST(sum(scanned_files) AS BIGINT), CAST(sum(scanned_deletes) AS BIGINT), \
     CAST(sum(planning_ms) AS BIGINT), CAST(sum(commits) AS BIGINT), CAST(sum(commit_attempts) AS BIGINT)";

/// Reads [`USE_SUMS`], the first of which is `first`. The sum of no rows is 0.
fn use_row(row: &AnyRow, first: usize) -> Result<TableUsage> {
    let number = |i: usize| -> Result<i64> { Ok(row.try_get::<Option<i64>, _>(first + i)?.unwrap_or(0)) };
    Ok(TableUsage {
        scans: number(0)?,
        scanned_files: number(1)?,
        scanned_deletes: number(2)?,
        planning_ms: number(3)?,
        commits: number(4)?,
        commit_attempts: number(5)?,
    })
}

/// Adds counts to those of the tables and the present day (UTC). A table may be named only once.
async fn add_usage(tx: &mut Transaction<'_, Any>, uses: &[(TableId, TableUsage)]) -> Result<()> {
    let day = now_ms() / DAY_MS;
    for uses in uses.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO table_use (table_id, day, scans, scanned_files, scanned_deletes, planning_ms, commits, commit_attempts)
         VALUES {}
         ON CONFLICT (table_id, day) DO UPDATE SET scans = table_use.scans + excluded.scans,
            scanned_files = table_use.scanned_files + excluded.scanned_files,
            scanned_deletes = table_use.scanned_deletes + excluded.scanned_deletes,
            planning_ms = table_use.planning_ms + excluded.planning_ms, commits = table_use.commits + excluded.commits,
            commit_attempts = table_use.commit_attempts + excluded.commit_attempts",
            values(uses.len(), 8)
        );
        let insert = sqlx::query(sqlx::AssertSqlSafe(sql));
        let insert = uses.iter().fold(insert, |query, (table, used)| {
            query
                .bind(table.to_string())
                .bind(day)
                .bind(used.scans)
                .bind(used.scanned_files)
                .bind(used.scanned_deletes)
                .bind(used.planning_ms)
                .bind(used.commits)
                .bind(used.commit_attempts)
        });
        insert.execute(&mut **tx).await?;
    }
    Ok(())
}

/// The handle for the facts about all tables: health, use, damage, reports of engines, and decisions of the autopilot.
#[derive(Debug, Clone, Copy)]
pub struct Fleet<'a> {
    pub(crate) state: &'a State,
}

impl Fleet<'_> {
    /// Returns every table of a warehouse, ordered by name, with the metadata file that it was last assessed at.
    ///
    /// That file is `None` for a table that was never assessed.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn tables(self, warehouse: Warehouse) -> Result<Vec<(TabularRow, Option<String>)>> {
        let sql = format!(
            "SELECT {TABLE_COLUMNS}, h.metadata_location {TABLE_FROM}
             LEFT JOIN table_health h ON h.table_id = t.id WHERE n.warehouse_id = $1 AND t.kind = $2 ORDER BY n.name, t.name"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(warehouse.id).bind(TabularKind::Table.as_str());
        let rows = query.fetch_all(&self.state.readers).await?;
        rows.iter().map(|row| Ok((table_row(row)?, row.try_get(10)?))).collect()
    }

    /// Returns a page of the tables of a warehouse, each with the metadata file that it was last assessed at: at most `limit`, after
    /// the table `after`, ordered by their identifiers.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn tables_page(
        self,
        warehouse: Warehouse,
        after: Option<TableId>,
        limit: u32,
    ) -> Result<Vec<(TabularRow, Option<String>)>> {
        // CROSS JOIN makes SQLite begin with the tables, in the order of their identifiers.
        let sql = format!(
            "SELECT {TABLE_COLUMNS}, h.metadata_location FROM tabular t CROSS JOIN namespace n
             LEFT JOIN table_health h ON h.table_id = t.id
             WHERE n.id = t.namespace_id AND n.warehouse_id = $1 AND t.kind = $2 AND t.id > $3 ORDER BY t.id LIMIT $4"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(warehouse.id)
            .bind(TabularKind::Table.as_str())
            .bind(after.map(|id| id.to_string()).unwrap_or_default())
            .bind(i64::from(limit));
        let rows = query.fetch_all(&self.state.readers).await?;
        rows.iter().map(|row| Ok((table_row(row)?, row.try_get(10)?))).collect()
    }

    /// Returns those of some entries that are tables of a warehouse, each with the metadata file that it was last assessed at, in no
    /// particular order.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn tables_among(self, warehouse: Warehouse, ids: &[TableId]) -> Result<Vec<(TabularRow, Option<String>)>> {
        let mut found = Vec::new();
        for ids in ids.chunks(ROWS) {
            // CROSS JOIN makes SQLite begin with the tables, by their identifiers.
            let sql = format!(
                "SELECT {TABLE_COLUMNS}, h.metadata_location FROM tabular t CROSS JOIN namespace n
                 LEFT JOIN table_health h ON h.table_id = t.id
                 WHERE n.id = t.namespace_id AND n.warehouse_id = $1 AND t.kind = $2 AND t.id IN ({})",
                placeholders(3, ids.len())
            );
            let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(warehouse.id).bind(TabularKind::Table.as_str());
            let query = ids.iter().fold(query, |query, id| query.bind(id.to_string()));
            for row in &query.fetch_all(&self.state.readers).await? {
                found.push((table_row(row)?, row.try_get(10)?));
            }
        }
        Ok(found)
    }

    /// Returns the tables of a warehouse with the lowest score at their last assessment, at most `limit`, the lowest first.
    ///
    /// Each comes with the metadata file that it was last assessed at. Tables without facts come before all others. Those that were
    /// never assessed are left out.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn worst_tables(self, warehouse: Warehouse, limit: u32) -> Result<Vec<(TabularRow, Option<String>)>> {
        // CROSS JOIN makes SQLite begin with the assessments, in the order of their scores.
        let sql = format!(
            "SELECT {TABLE_COLUMNS}, h.metadata_location FROM table_health h CROSS JOIN tabular t CROSS JOIN namespace n
             WHERE t.id = h.table_id AND n.id = t.namespace_id AND n.warehouse_id = $1 AND t.kind = $2
             ORDER BY h.score, h.table_id LIMIT $3"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(warehouse.id).bind(TabularKind::Table.as_str());
        let rows = query.bind(i64::from(limit)).fetch_all(&self.state.readers).await?;
        rows.iter().map(|row| Ok((table_row(row)?, row.try_get(10)?))).collect()
    }

    /// Counts the tables of a warehouse, up to a number beyond which they need not be counted.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn count_tables(self, warehouse: Warehouse, up_to: u32) -> Result<i64> {
        let sql = "SELECT count(*) FROM (SELECT 1 FROM tabular WHERE kind = $2
                       AND namespace_id IN (SELECT id FROM namespace WHERE warehouse_id = $1) LIMIT $3) counted";
        let query = sqlx::query_scalar(sql).bind(warehouse.id).bind(TabularKind::Table.as_str()).bind(i64::from(up_to));
        Ok(query.fetch_one(&self.state.readers).await?)
    }

    /// Returns the last assessments of those of some tables that have one.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn healths_of(self, tables: &[TableId]) -> Result<HashMap<TableId, HealthRow>> {
        let mut found = HashMap::with_capacity(tables.len());
        for tables in tables.chunks(ROWS) {
            let sql = format!(
                "SELECT {HEALTH_COLUMNS}, h.table_id FROM table_health h WHERE h.table_id IN ({})",
                placeholders(1, tables.len())
            );
            let query = tables.iter().fold(sqlx::query(sqlx::AssertSqlSafe(sql)), |query, table| query.bind(table.to_string()));
            for row in &query.fetch_all(&self.state.readers).await? {
                if let Some(health) = health_row(row, 0)? {
                    found.insert(parse_id(row.try_get(4)?)?, health);
                }
            }
        }
        Ok(found)
    }

    /// Returns the last assessment of a table, or `None` if it was never assessed.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn health(self, table: TableId) -> Result<Option<HealthRow>> {
        let sql = format!("SELECT {HEALTH_COLUMNS} FROM table_health h WHERE h.table_id = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(table.to_string()).fetch_optional(&self.state.readers).await?;
        row.as_ref().map_or(Ok(None), |row| health_row(row, 0))
    }

    /// Returns the tables of a warehouse that are to be assessed, at most `limit`, the least recently assessed first.
    ///
    /// These have changed since their last assessment or were never assessed. Only tables that were entered or changed from
    /// `changed_since` on are looked at: earlier ones have been assessed. In front of the end come those that could not be assessed
    /// before `failed_before`. Both times are in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn stale_tables(
        self,
        warehouse: Warehouse,
        changed_since: Millis,
        failed_before: Millis,
        limit: u32,
    ) -> Result<Vec<TabularRow>> {
        // CROSS JOIN makes SQLite begin with the first table, which has an index for the time.
        let changed = format!(
            "SELECT {TABLE_COLUMNS} FROM tabular t CROSS JOIN namespace n LEFT JOIN table_health h ON h.table_id = t.id
             WHERE n.id = t.namespace_id AND n.warehouse_id = $1 AND t.kind = $2 AND t.updated_ms >= $3
               AND (h.table_id IS NULL OR h.metadata_location <> t.metadata_location)
             ORDER BY coalesce(h.assessed_ms, 0), t.id LIMIT $4"
        );
        let failed = format!(
            "SELECT {TABLE_COLUMNS} FROM table_health h CROSS JOIN tabular t CROSS JOIN namespace n
             WHERE t.id = h.table_id AND n.id = t.namespace_id AND n.warehouse_id = $1 AND t.kind = $2
               AND h.facts IS NULL AND h.assessed_ms < $3
             ORDER BY h.assessed_ms, t.id LIMIT $4"
        );
        let mut found: Vec<TabularRow> = Vec::new();
        for (sql, time) in [(changed, changed_since), (failed, failed_before)] {
            let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(warehouse.id).bind(TabularKind::Table.as_str()).bind(time);
            let rows = query.bind(i64::from(limit)).fetch_all(&self.state.readers).await?;
            for row in rows.iter().map(table_row) {
                let row = row?;
                if !found.iter().any(|known| known.id == row.id) {
                    found.push(row);
                }
            }
        }
        found.truncate(limit as usize);
        Ok(found)
    }

    /// Stores the result of an assessment: facts, score and shape, or the reason for which there are none.
    ///
    /// Facts and shape are JSON. With facts, the point of history for these ten minutes is replaced, in the same transaction.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn record_health(
        self,
        table: TableId,
        metadata_location: &str,
        found: std::result::Result<(&str, u32, &str), &AssessmentFailure>,
    ) -> Result<()> {
        let now = now_ms();
        let mut tx = self.state.begin_relaxed().await?;
        sqlx::query(
            "INSERT INTO table_health (table_id, metadata_location, facts, error, passing, assessed_ms, score)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (table_id) DO UPDATE SET metadata_location = excluded.metadata_location, facts = excluded.facts,
                error = excluded.error, passing = excluded.passing, assessed_ms = excluded.assessed_ms, score = excluded.score",
        )
        .bind(table.to_string())
        .bind(metadata_location)
        .bind(found.ok().map(|(facts, ..)| facts))
        .bind(found.err().map(|e| e.why.as_str()))
        .bind(i64::from(found.is_err_and(|e| e.passing)))
        .bind(now)
        .bind(found.map_or(NO_SCORE, |(_, score, _)| i64::from(score)))
        .execute(&mut *tx)
        .await?;
        if let Ok((_, score, shape)) = found {
            sqlx::query(
                "INSERT INTO health_history (table_id, time_ms, score, shape) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (table_id, time_ms) DO UPDATE SET score = excluded.score, shape = excluded.shape",
            )
            .bind(table.to_string())
            .bind(now / HISTORY_MS * HISTORY_MS)
            .bind(i64::from(score))
            .bind(shape)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Returns a table's history since a time (milliseconds since the Unix epoch), the oldest point first.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn history(self, table: TableId, since: Millis) -> Result<Vec<HealthPoint>> {
        let query = sqlx::query(
            "SELECT time_ms, score, shape FROM health_history WHERE table_id = $1 AND time_ms >= $2 ORDER BY time_ms",
        );
        let rows = query.bind(table.to_string()).bind(since).fetch_all(&self.state.readers).await?;
        let point = |row: &AnyRow| {
            Ok(HealthPoint { time_ms: row.try_get(0)?, score: row.try_get(1)?, shape: serde_json::from_str(row.try_get(2)?)? })
        };
        rows.iter().map(point).collect()
    }

    /// Adds the counts of this server's own queries, for several tables, in one transaction.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn add_usages(self, used: &HashMap<TableId, TableUsage>) -> Result<()> {
        let mut tx = self.state.begin_relaxed().await?;
        add_usage(&mut tx, &used.iter().map(|(table, used)| (*table, *used)).collect::<Vec<_>>()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Returns the use of each table in the last [`USAGE_DAYS`] days, today included.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn usages(self) -> Result<HashMap<TableId, TableUsage>> {
        let sql = format!("SELECT table_id, {USE_SUMS} FROM table_use WHERE day > $1 GROUP BY table_id");
        let rows =
            sqlx::query(sqlx::AssertSqlSafe(sql)).bind(now_ms() / DAY_MS - USAGE_DAYS).fetch_all(&self.state.readers).await?;
        rows.iter().map(|row| Ok((parse_id(row.try_get(0)?)?, use_row(row, 1)?))).collect()
    }

    /// Returns the use of those of some tables that have any, in the last [`USAGE_DAYS`] days, today included.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn usages_of(self, tables: &[TableId]) -> Result<HashMap<TableId, TableUsage>> {
        let mut found = HashMap::new();
        for tables in tables.chunks(ROWS) {
            let sql = format!(
                "SELECT table_id, {USE_SUMS} FROM table_use WHERE day > $1 AND table_id IN ({}) GROUP BY table_id",
                placeholders(2, tables.len())
            );
            let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(now_ms() / DAY_MS - USAGE_DAYS);
            let query = tables.iter().fold(query, |query, table| query.bind(table.to_string()));
            for row in &query.fetch_all(&self.state.readers).await? {
                found.insert(parse_id(row.try_get(0)?)?, use_row(row, 1)?);
            }
        }
        Ok(found)
    }

    /// Returns the use of one table in the last [`USAGE_DAYS`] days, today included.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn usage_of(self, table: TableId) -> Result<TableUsage> {
        let sql = format!("SELECT {USE_SUMS} FROM table_use WHERE table_id = $1 AND day > $2");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(table.to_string()).bind(now_ms() / DAY_MS - USAGE_DAYS);
        use_row(&query.fetch_one(&self.state.readers).await?, 0)
    }

    /// Stores the decisions of the autopilot about some tables, in one transaction.
    ///
    /// Each is the table, the verdict, and the whole decision as JSON. A decision replaces the one before. A table may be named
    /// only once.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if the database fails.
    pub async fn record_decisions(self, decisions: &[(TableId, &'static str, String)]) -> Result<()> {
        let mut tx = self.state.begin_relaxed().await?;
        let now = now_ms();
        for decisions in decisions.chunks(ROWS) {
            let sql = format!(
                "INSERT INTO table_decision (table_id, time_ms, verdict, decision) VALUES {}
                 ON CONFLICT (table_id) DO UPDATE SET time_ms = excluded.time_ms, verdict = excluded.verdict,
                    decision = excluded.decision",
                values(decisions.len(), 4)
            );
            let insert = sqlx::query(sqlx::AssertSqlSafe(sql));
            let insert = decisions.iter().fold(insert, |query, (table, verdict, decision)| {
                query.bind(table.to_string()).bind(now).bind(*verdict).bind(decision)
            });
            insert.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Returns the number of tables by the verdict of the autopilot.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer.
    pub async fn count_verdicts(self) -> Result<Vec<(String, i64)>> {
        let sql = "SELECT verdict, count(*) FROM table_decision GROUP BY verdict";
        let rows = sqlx::query(sql).fetch_all(&self.state.readers).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Returns the last decision of the autopilot about a table as JSON, with its time in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn decision(self, table: TableId) -> Result<Option<(Millis, Value)>> {
        let query = sqlx::query("SELECT time_ms, decision FROM table_decision WHERE table_id = $1").bind(table.to_string());
        let row = query.fetch_optional(&self.state.readers).await?;
        row.map(|row| Ok((row.try_get(0)?, serde_json::from_str(row.try_get(1)?)?))).transpose()
    }

    /// Returns the last decisions of the autopilot about those of some tables that have one, as the JSON that was stored.
    ///
    /// # Errors
    ///
    /// Returns [`Sql`](crate::StateError::Sql) if the database does not answer, and [`Corrupt`](crate::StateError::Corrupt) if a
    /// stored value can't be read.
    pub async fn decisions_of(self, tables: &[TableId]) -> Result<HashMap<TableId, String>> {
        let mut found = HashMap::with_capacity(tables.len());
        for tables in tables.chunks(ROWS) {
            let sql =
                format!("SELECT table_id, decision FROM table_decision WHERE table_id IN ({})", placeholders(1, tables.len()));
            let query = tables.iter().fold(sqlx::query(sqlx::AssertSqlSafe(sql)), |query, table| query.bind(table.to_string()));
            for row in &query.fetch_all(&self.state.readers).await? {
                found.insert(parse_id(row.try_get(0)?)?, row.try_get(1)?);
            }
        }
        Ok(found)
    }

    /// Removes history and use from before a time (milliseconds since the Unix epoch), in batches.
    ///
    /// Also removes the assessments, damaged files and decisions of tables that the catalog does not have any more.
    ///
    /// # Errors
    ///
    /// Returns [`Ambiguous`](crate::StateError::Ambiguous) if a commit was sent but not confirmed, and
    /// [`Fenced`](crate::StateError::Fenced), [`Full`](crate::StateError::Full) or [`Sql`](crate::StateError::Sql) if a batch was
    /// not written. Earlier batches stay removed.
    pub async fn forget(self, before: Millis) -> Result<()> {
        let history = "DELETE FROM health_history WHERE (table_id, time_ms) IN
                           (SELECT table_id, time_ms FROM health_history WHERE time_ms < $1 LIMIT $2)";
        let usage =
            "DELETE FROM table_use WHERE (table_id, day) IN (SELECT table_id, day FROM table_use WHERE day < $1 LIMIT $2)";
        delete_in_batches(self.state, history, before).await?;
        delete_in_batches(self.state, usage, before / DAY_MS).await?;
        for table in ["table_health", "damaged_file", "table_decision", "merged_snapshot", "commit_lease"] {
            self.forget_gone(table).await?;
        }
        Ok(())
    }

    /// Removes the rows of a table of the database that are about tables which the catalog does not have any more, in batches.
    ///
    /// They are looked for without any lock: in a large fleet that takes a while.
    async fn forget_gone(self, table: &str) -> Result<()> {
        loop {
            let sql = format!(
                "SELECT DISTINCT f.table_id FROM {table} f WHERE NOT EXISTS (SELECT 1 FROM tabular t WHERE t.id = f.table_id) LIMIT $1"
            );
            let query = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql)).bind(ROWS as i64);
            let gone = query.fetch_all(&self.state.readers).await?;
            if gone.is_empty() {
                return Ok(());
            }
            let sql = format!(
                "DELETE FROM {table} WHERE table_id IN ({})
                 AND NOT EXISTS (SELECT 1 FROM tabular t WHERE t.id = {table}.table_id)",
                placeholders(1, gone.len())
            );
            let mut tx = self.state.begin_relaxed().await?;
            let delete = gone.iter().fold(sqlx::query(sqlx::AssertSqlSafe(sql)), |query, id| query.bind(id));
            delete.execute(&mut *tx).await?;
            tx.commit().await?;
            if gone.len() < ROWS {
                return Ok(());
            }
        }
    }
}
