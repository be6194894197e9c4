//! Copies rows between a PostgreSQL database and an SQLite file of the same schema.
//!
//! [`read`] reads within one transaction that sees the database as it was at its begin, and holds up nobody. [`replace`] writes
//! within one transaction: until its commit, the database is what it was.

use std::collections::BTreeSet;
use std::path::Path;

use esker_types::{format_count, to_millis};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Connection, Row};

use super::restore::{RestoreOptions, count_present};
use super::rows::{RowProgress, Table, copy_table, tables};
use super::{BackupProgress, has_table};
use crate::database::{Database, PoolUse};
use crate::migrations::{POSTGRES, SQLITE};
use crate::{Result, StateError};

/// The settings of a transaction that copies. The limits of servers' sessions are for changes of a few rows.
const NO_TIME_LIMITS: &str = "SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0";

/// Writes the rows of a database, as they are at one moment, into the empty SQLite file `partial`.
///
/// # Errors
///
/// Returns [`NoDatabase`](StateError::NoDatabase) if there is no database of Esker, and
/// [`BackupOfLater`](StateError::BackupOfLater) if a later release has migrated it. Returns [`Full`](StateError::Full) or
/// [`Sql`](StateError::Sql) if the database can't be read or the file can't be written.
pub(super) async fn read(database: &Database, partial: &Path, progress: &BackupProgress<'_>) -> Result<()> {
    let mut source = match database.connection().await {
        Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("3D000") => return Err(StateError::NoDatabase),
        source => source?,
    };
    let copy = Database::Sqlite(partial.to_owned());
    let mut target = copy.connection().await?;
    let copied = copy_out(&mut source, &copy, &mut target, progress).await;
    // The transaction was rolled back, or has nothing to lose.
    source.close().await.ok();
    let closed = target.close().await;
    copied?;
    Ok(closed?)
}

/// Copies all rows from the PostgreSQL database `source` to the SQLite file `target`.
async fn copy_out(
    source: &mut AnyConnection,
    copy: &Database,
    target: &mut AnyConnection,
    progress: &BackupProgress<'_>,
) -> Result<()> {
    let mut from = source.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    sqlx::raw_sql(NO_TIME_LIMITS).execute(&mut *from).await?;
    let schema = applied(&mut from).await?;
    // The file is synced when it is whole.
    sqlx::raw_sql("PRAGMA synchronous = OFF").execute(&mut *target).await?;
    let mut to = target.begin_with("BEGIN IMMEDIATE").await?;
    copy.migrate_in(&mut to, Some(&schema)).await?;
    let tables = tables(&mut to).await?;
    // Migrations enter rows, which are among those of the database. Rows that refer to others go first.
    for table in tables.iter().rev() {
        sqlx::query(AssertSqlSafe(format!("DELETE FROM \"{}\"", table.name))).execute(&mut *to).await?;
    }
    let mut counted = RowProgress::start("copying", &mut from, &tables, progress).await?;
    for table in &tables {
        copy_table(&mut from, &mut to, table, &mut counted).await?;
    }
    for (table, column) in identities(&mut from).await? {
        let last = last_number(&mut from, &table, &column).await?;
        sqlx::query("DELETE FROM sqlite_sequence WHERE name = $1").bind(table.as_str()).execute(&mut *to).await?;
        let insert = sqlx::query("INSERT INTO sqlite_sequence (name, seq) VALUES ($1, $2)").bind(table).bind(last);
        insert.execute(&mut *to).await?;
    }
    to.commit().await?;
    from.rollback().await?;
    Ok(())
}

/// Returns the migrations that give an SQLite file the schema of a PostgreSQL database.
async fn applied(connection: &mut AnyConnection) -> Result<BTreeSet<i64>> {
    if !has_table(&mut *connection, true, "_sqlx_migrations").await? {
        return Err(StateError::NoDatabase);
    }
    let mut versions = BTreeSet::new();
    for row in sqlx::query("SELECT version, description FROM _sqlx_migrations ORDER BY version").fetch_all(connection).await? {
        let (version, name): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        if !SQLITE.version_exists(version) {
            return Err(StateError::BackupOfLater { version, name });
        }
        versions.insert(version);
    }
    // The first migration of PostgreSQL does what the first ones of SQLite do.
    versions.extend(SQLITE.iter().map(|step| step.version).filter(|version| !POSTGRES.version_exists(*version)));
    Ok(versions)
}

/// Returns table and column of each column that PostgreSQL numbers by itself.
async fn identities(connection: &mut AnyConnection) -> Result<Vec<(String, String)>> {
    let sql = "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT) FROM information_schema.columns
               WHERE table_schema = current_schema() AND is_identity = 'YES'";
    Ok(sqlx::query_as(sql).fetch_all(connection).await?)
}

/// Returns the last number that PostgreSQL gave in a column; 0 if it gave none.
async fn last_number(connection: &mut AnyConnection, table: &str, column: &str) -> Result<i64> {
    let sql = "SELECT pg_get_serial_sequence(CAST($1 AS TEXT), CAST($2 AS TEXT))";
    let sequence: String = sqlx::query_scalar(sql).bind(table).bind(column).fetch_one(&mut *connection).await?;
    let sql = AssertSqlSafe(format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}"));
    Ok(sqlx::query_scalar(sql).fetch_one(connection).await?)
}

/// Replaces all rows of a database with those of the checked copy at `staged`, in one transaction. `from` is the backup.
///
/// Creates the database if it does not exist.
///
/// # Errors
///
/// - Returns [`ServersRunning`](StateError::ServersRunning) if servers work on the database, and
///   [`Occupied`](StateError::Occupied) if it is not empty and `options` don't say to replace it.
/// - Returns [`UnusableBackup`](StateError::UnusableBackup) if the backup is of a later release.
/// - Returns [`Migrate`](StateError::Migrate) or [`LaterSchema`](StateError::LaterSchema) if the database can't be migrated.
/// - Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if a row can't be read or written, and
///   [`Ambiguous`](StateError::Ambiguous) if the commit was not confirmed.
pub(super) async fn replace(
    database: &Database,
    staged: &Path,
    from: &Path,
    options: &RestoreOptions,
    progress: &BackupProgress<'_>,
) -> Result<()> {
    let mut source = Database::Sqlite(staged.to_owned()).connection().await?;
    let replaced = async {
        if let Some(version) = later_migration(&mut source).await? {
            let why = format!("migration {version} in it is of a later release; restore it with that release, or into SQLite");
            return Err(StateError::UnusableBackup { path: from.to_owned(), why });
        }
        let pool = database.pool(PoolUse::Changes).await?;
        let replaced = copy_in(database, &pool, &mut source, options, progress).await;
        pool.close().await;
        replaced
    };
    let replaced = replaced.await;
    source.close().await.ok();
    replaced
}

/// Returns the number of a migration that this release does not know, if the file has one.
async fn later_migration(connection: &mut AnyConnection) -> Result<Option<i64>> {
    let versions: Vec<i64> = sqlx::query_scalar("SELECT version FROM _sqlx_migrations").fetch_all(connection).await?;
    Ok(versions.into_iter().find(|version| !SQLITE.version_exists(*version)))
}

/// Copies all rows from the SQLite file `source` to a PostgreSQL database, in the place of its own.
async fn copy_in(
    database: &Database,
    pool: &AnyPool,
    source: &mut AnyConnection,
    options: &RestoreOptions,
    progress: &BackupProgress<'_>,
) -> Result<()> {
    let mut to = database.begin_exclusive(pool).await?;
    sqlx::raw_sql(NO_TIME_LIMITS).execute(&mut *to).await?;
    // A server that starts waits for the lock of the migrations until this is done.
    database.migrate_in(&mut to, None).await?;
    let alive = AssertSqlSafe(format!("SELECT count(*) FROM instance WHERE seen_ms >= {} - $1", database.clock_sql()));
    let alive: i64 = sqlx::query_scalar(alive).bind(to_millis(options.dead_after)).fetch_one(&mut *to).await?;
    if alive > 0 {
        return Err(StateError::ServersRunning(format_count(alive.unsigned_abs(), "server")));
    }
    count_present(&mut to, true).await?.check_replaceable(options.replace)?;
    let tables = tables(&mut *source).await?;
    let names: Vec<String> = tables.iter().map(|table| format!("\"{}\"", table.name)).collect();
    sqlx::query(AssertSqlSafe(format!("LOCK TABLE {} IN EXCLUSIVE MODE", names.join(", ")))).execute(&mut *to).await?;
    // Not by TRUNCATE: a backup that is being made would see empty tables, for its snapshot does not keep truncated rows.
    for name in names.iter().rev() {
        sqlx::query(AssertSqlSafe(format!("DELETE FROM {name}"))).execute(&mut *to).await?;
    }
    let mut counted = RowProgress::start("restoring", &mut *source, &tables, progress).await?;
    for table in &tables {
        copy_table(&mut *source, &mut to, table, &mut counted).await?;
    }
    continue_numbers(&mut *source, &mut to, &tables).await?;
    to.commit().await.map_err(StateError::of_commit)
}

/// Makes PostgreSQL go on with the numbers after those that were given.
///
/// A change of a sequence by `setval` would stay if the transaction is rolled back. That by `RESTART` does not.
async fn continue_numbers(source: &mut AnyConnection, to: &mut AnyConnection, tables: &[Table]) -> Result<()> {
    for (table, column) in identities(&mut *to).await? {
        if tables.iter().all(|copied| copied.name != table) {
            continue;
        }
        let last = sqlx::query_scalar::<_, i64>("SELECT seq FROM sqlite_sequence WHERE name = $1").bind(table.as_str());
        let last = last.fetch_optional(&mut *source).await?.unwrap_or(0);
        let largest = AssertSqlSafe(format!("SELECT CAST(coalesce(max(\"{column}\"), 0) AS BIGINT) FROM \"{table}\""));
        let largest: i64 = sqlx::query_scalar(largest).fetch_one(&mut *to).await?;
        let next = last.max(largest).saturating_add(1);
        let restart = format!("ALTER TABLE \"{table}\" ALTER COLUMN \"{column}\" RESTART WITH {next}");
        sqlx::query(AssertSqlSafe(restart)).execute(&mut *to).await?;
    }
    Ok(())
}
