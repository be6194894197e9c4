//! Backs up, checks and restores the database.
//!
//! A backup is one SQLite file with the schema of the database and a [`BackupHeader`], whichever database it was made of. Both
//! databases have the same tables and columns of numbers and texts, so a backup of one can be restored into the other.
//!
//! A backup is made while servers work on the database, and is marked as a backup, so that a server that starts on it notices. The
//! file is written as `.partial`, checked, synced to disk, and only then renamed. A restore begins with a copy that is checked,
//! marked and migrated; what the copy then replaces is replaced in one step. Start reading with [`Database::back_up`], then with
//! [`Database::restore`] in `restore.rs`; `rows.rs` copies and digests tables.

mod files;
mod header;
mod postgres;
mod restore;
mod rows;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use esker_types::{Millis, now_ms};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};

use self::files::{directory_of, failed, remove_with_sidecars, sync, with_suffix};
pub(crate) use self::header::remove as remove_header;
pub use self::header::{BackupHeader, BackupTable};
pub use self::restore::{PresentDatabase, RestoreOptions, Restored};
use self::rows::{RowProgress, digest_table};
use crate::database::{Database, PoolUse, create_private, sqlite_migration_checksum};
use crate::error::is_transient_code;
use crate::migrations::{SQLITE, refusal_of_migration};
use crate::warehouses::{BACKUP, BEHIND, DATABASE};
use crate::{Result, StateError};

/// Hears of the progress of a backup or restore: what is being done, how much of it is done, and how much there is to do.
///
/// The numbers are rows or bytes, and the second one is an estimate.
pub type BackupProgress<'a> = dyn Fn(&str, u64, u64) + Send + Sync + 'a;

/// The first bytes of an SQLite database.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// The time between two reports of the progress of a copy that SQLite makes.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// SQLite's check of everything but the agreement of indexes with their tables. Finds at most one fault.
const QUICK_CHECK: &str = "PRAGMA quick_check(1)";
/// SQLite's check of everything. Finds at most one fault.
const FULL_CHECK: &str = "PRAGMA integrity_check(1)";

impl Database {
    /// Writes a backup of the database, as it is at one moment, into a new file, while servers may change it.
    ///
    /// The file appears complete or not at all, is for its owner alone, and is marked as a backup made now.
    ///
    /// # Errors
    ///
    /// - Returns [`NoDatabase`](StateError::NoDatabase) if there is no database at the URL, and [`Path`](StateError::Path) if a
    ///   path is not UTF-8.
    /// - Returns [`BackupOfLater`](StateError::BackupOfLater) if a later release has migrated the PostgreSQL database.
    /// - Returns [`File`](StateError::File) if the SQLite database or the directory of `to` does not exist, `to` exists, the
    ///   `.partial` file of an earlier attempt can't be removed, the disk of the backup is full, or it can't be renamed or synced.
    /// - Returns [`Sql`](StateError::Sql) if the database can't be read or the backup can't be written.
    /// - Returns [`UnusableBackup`](StateError::UnusableBackup) with the path of the database if the copy is damaged, can't be
    ///   read, or is no state database that this release can run on.
    pub async fn back_up(&self, to: &Path, progress: &BackupProgress<'_>) -> Result<BackupHeader> {
        if let Self::Sqlite(path) = self
            && !path.is_file()
        {
            return Err(failed(path)(no_database()));
        }
        if to.exists() {
            let what = "the file exists already, and is not written over; name another one";
            return Err(failed(to)(std::io::Error::new(std::io::ErrorKind::AlreadyExists, what)));
        }
        if !directory_of(to).is_dir() {
            let what = "its directory does not exist; make it first, or name another one";
            return Err(failed(to)(std::io::Error::new(std::io::ErrorKind::NotFound, what)));
        }
        // An incomplete file must not look like a backup.
        let partial = with_suffix(to, ".partial");
        if partial.to_str().is_none() {
            return Err(StateError::Path(partial));
        }
        remove_with_sidecars(&partial)?;
        // SQLite writes into an empty file, whose mode stays.
        create_private(&partial);
        match self.write_backup(&partial, progress).await {
            Ok(header) => {
                sync(&partial)?;
                std::fs::rename(&partial, to).map_err(failed(to))?;
                sync(to)?;
                Ok(header)
            }
            Err(error) => {
                // The reason is worth more than a file that is left: the next attempt removes it.
                remove_with_sidecars(&partial).ok();
                Err(match error {
                    // The full disk is that of the backup, which need not be that of the database.
                    StateError::Full => failed(&partial)(std::io::ErrorKind::StorageFull.into()),
                    error => error,
                })
            }
        }
    }

    /// Writes the backup into the empty file `partial`.
    async fn write_backup(&self, partial: &Path, progress: &BackupProgress<'_>) -> Result<BackupHeader> {
        let made_ms = now_ms();
        let (source, copied_from) = match self {
            Self::Sqlite(path) => {
                copy_sqlite(self, path, partial, progress).await?;
                ("sqlite", path.as_path())
            }
            Self::Postgres(_) | Self::PooledPostgres(_) => {
                postgres::read(self, partial, progress).await?;
                ("postgres", partial)
            }
        };
        let fault = |error: sqlx::Error| fault_of_copy(copied_from, error.into());
        // A single connection, because a pool tries for a long time to open a file that can't be opened.
        let mut connection = Self::Sqlite(partial.to_owned()).connection().await.map_err(fault)?;
        let header = complete(&mut connection, source, made_ms, progress).await;
        let closed = connection.close().await;
        let header = header.map_err(|error| fault_of_copy(copied_from, error))?;
        closed.map_err(fault)?;
        header.map_err(|why| StateError::UnusableBackup { path: copied_from.to_owned(), why })
    }
}

/// Checks that a backup is whole: that SQLite finds no fault, that this release can restore it, and that each table has the rows of
/// the header.
///
/// Returns the header; `None` for a file without one, which is a backup of an earlier release or a plain copy. The file is not
/// changed.
///
/// # Errors
///
/// - Returns [`File`](StateError::File) if the file can't be read.
/// - Returns [`UnusableBackup`](StateError::UnusableBackup) if it is no backup, is damaged, or is of a later release that this one
///   can't stand in for.
/// - Returns [`Sql`](StateError::Sql) if the file is locked.
pub async fn check_backup(path: &Path, progress: &BackupProgress<'_>) -> Result<Option<BackupHeader>> {
    check_magic(path)?;
    let fault = |error: sqlx::Error| fault_of_copy(path, error.into());
    let mut connection = Database::Sqlite(path.to_owned()).connection().await.map_err(fault)?;
    let header = verify(&mut connection, path, FULL_CHECK, progress).await;
    let closed = connection.close().await;
    let header = header?;
    closed.map_err(fault)?;
    Ok(header)
}

/// Makes the error for a database that does not exist.
fn no_database() -> std::io::Error {
    let what = "there is no state database; is this the data directory of a server?";
    std::io::Error::new(std::io::ErrorKind::NotFound, what)
}

/// Checks that a file begins as SQLite databases do.
///
/// # Errors
///
/// Returns [`File`](StateError::File) if the file can't be read, and [`UnusableBackup`](StateError::UnusableBackup) if it is
/// another kind of file.
fn check_magic(path: &Path) -> Result<()> {
    let mut begin = [0; 16];
    let read = File::open(path).and_then(|mut file| file.read(&mut begin)).map_err(failed(path))?;
    match &begin[..read] == MAGIC {
        true => Ok(()),
        false => Err(StateError::UnusableBackup { path: path.to_owned(), why: "it is not an SQLite database".to_owned() }),
    }
}

/// Copies an SQLite database into the empty file `partial`, as it is at one moment.
///
/// # Errors
///
/// Returns [`Path`](StateError::Path) if a path is not UTF-8, and [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the
/// database can't be read or the copy can't be written.
async fn copy_sqlite(database: &Database, path: &Path, partial: &Path, progress: &BackupProgress<'_>) -> Result<()> {
    let text = partial.to_str().ok_or_else(|| StateError::Path(partial.to_owned()))?;
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    let total = size(path);
    let pool = database.pool(PoolUse::Reads).await?;
    let copied = {
        let copy = sqlx::query("VACUUM INTO $1").bind(text).execute(&pool);
        tokio::pin!(copy);
        loop {
            tokio::select! {
                copied = &mut copy => break copied,
                () = tokio::time::sleep(REPORT_INTERVAL) => progress("copying", size(partial).min(total), total),
            }
        }
    };
    pool.close().await;
    copied?;
    Ok(())
}

/// Checks a copy of a database, marks it as a backup, and gives it its header. The inner error is the reason for which the copy
/// can't be a backup.
///
/// # Errors
///
/// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the copy can't be read or written, and
/// [`Corrupt`](StateError::Corrupt) if it has a column that can't be copied.
async fn complete(
    connection: &mut AnyConnection,
    source: &str,
    made_ms: Millis,
    progress: &BackupProgress<'_>,
) -> Result<std::result::Result<BackupHeader, String>> {
    if let Some(why) = unfit(&mut *connection, QUICK_CHECK).await? {
        return Ok(Err(why));
    }
    mark(&mut *connection, made_ms).await?;
    let found = rows::tables(&mut *connection).await?;
    let mut counted = RowProgress::start("digesting", &mut *connection, &found, progress).await?;
    let mut tables = Vec::new();
    for table in &found {
        let digest = digest_table(&mut *connection, table, &mut counted).await?;
        tables.push(BackupTable { name: table.name.clone(), rows: digest.rows, digest: digest.hex() });
    }
    let database = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1").bind(DATABASE);
    let database = database.fetch_optional(&mut *connection).await?;
    let schema = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut *connection).await?;
    let release = env!("CARGO_PKG_VERSION").to_owned();
    let header = BackupHeader { release, source: source.to_owned(), database, schema, made_ms, tables };
    header.write(connection).await?;
    Ok(Ok(header))
}

/// Checks an open file as [`check_backup`] does, with SQLite's check `check`. `path` is the file that errors name.
///
/// # Errors
///
/// Returns [`UnusableBackup`](StateError::UnusableBackup) if the check finds a fault or the file can't be read, and
/// [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the disk is full or the file is locked.
async fn verify(
    connection: &mut AnyConnection,
    path: &Path,
    check: &'static str,
    progress: &BackupProgress<'_>,
) -> Result<Option<BackupHeader>> {
    let unusable = |why: String| StateError::UnusableBackup { path: path.to_owned(), why };
    let fault = |error: StateError| fault_of_copy(path, error);
    if let Some(why) = unfit(&mut *connection, check).await.map_err(fault)? {
        return Err(unusable(why));
    }
    let Some(header) = header::read(&mut *connection).await.map_err(fault)?.map_err(unusable)? else { return Ok(None) };
    let tables = rows::tables(&mut *connection).await.map_err(fault)?;
    if let Some(missing) = header.tables.iter().find(|listed| tables.iter().all(|table| table.name != listed.name)) {
        return Err(unusable(format!("it is damaged: its header lists the table {}, which it does not have", missing.name)));
    }
    let mut counted = RowProgress::start("checking", &mut *connection, &tables, progress).await.map_err(fault)?;
    for table in &tables {
        let digest = digest_table(&mut *connection, table, &mut counted).await.map_err(fault)?;
        let listed = header.tables.iter().find(|listed| listed.name == table.name);
        if listed.is_none_or(|listed| listed.rows != digest.rows || listed.digest != digest.hex()) {
            return Err(unusable(format!("it is damaged: the rows of its table {} are not those of its header", table.name)));
        }
    }
    Ok(Some(header))
}

/// Returns the reason for which a file can't be a backup that this release can use, or `None` if it can.
///
/// # Errors
///
/// Returns [`Sql`](StateError::Sql) if the file can't be read.
async fn unfit(connection: &mut AnyConnection, check: &'static str) -> Result<Option<String>> {
    let found: String = sqlx::query_scalar(check).fetch_one(&mut *connection).await?;
    if found != "ok" {
        return Ok(Some(format!("it is damaged: {found}")));
    }
    for table in ["_sqlx_migrations", "meta", "warehouse"] {
        if !has_table(&mut *connection, false, table).await? {
            return Ok(Some("it is not a state database of Esker".to_owned()));
        }
    }
    for step in sqlx::query("SELECT version, checksum, description FROM _sqlx_migrations").fetch_all(connection).await? {
        let (version, checksum, name): (i64, Vec<u8>, String) = (step.try_get(0)?, step.try_get(1)?, step.try_get(2)?);
        match sqlite_migration_checksum(version) {
            None => {
                if let Some(why) = refusal_of_migration(&SQLITE, version, &name) {
                    return Ok(Some(format!("it is of a later version of Esker: {why}")));
                }
            }
            Some(known) if known != checksum => return Ok(Some("its tables were not made by a release of Esker".to_owned())),
            Some(_) => {}
        }
    }
    Ok(None)
}

/// Marks a database as a backup, if it is not marked. `when` is the time of the backup, or of the declaration that it is behind.
///
/// Servers that remember an earlier mark see that this is a later one.
///
/// # Errors
///
/// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the database can't be written.
pub(crate) async fn mark(connection: &mut AnyConnection, when: Millis) -> Result<()> {
    let sql = "INSERT INTO meta (key, value) SELECT $1 || CAST(id AS TEXT), $2 FROM warehouse WHERE true
               ON CONFLICT (key) DO NOTHING";
    sqlx::query(sql).bind(BACKUP).bind(when.to_string()).execute(&mut *connection).await?;
    let sql = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = CAST(
                   CASE WHEN CAST(meta.value AS BIGINT) < CAST(excluded.value AS BIGINT) THEN CAST(excluded.value AS BIGINT)
                        ELSE CAST(meta.value AS BIGINT) + 1 END AS TEXT)";
    sqlx::query(sql).bind(BEHIND).bind(now_ms().to_string()).execute(connection).await?;
    Ok(())
}

/// Checks that a database has a table of this name.
///
/// # Errors
///
/// Returns [`Sql`](StateError::Sql) if the database can't be read.
async fn has_table(connection: &mut AnyConnection, is_postgres: bool, name: &str) -> Result<bool> {
    let sql = match is_postgres {
        true => "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = $1",
        false => "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1",
    };
    let found: i64 = sqlx::query_scalar(sql).bind(name).fetch_one(connection).await?;
    Ok(found > 0)
}

/// Returns the number of rows of a table, whose name is no user's text; 0 if there is no such table.
///
/// # Errors
///
/// Returns [`Sql`](StateError::Sql) if the database can't be read.
async fn count_rows(connection: &mut AnyConnection, is_postgres: bool, table: &'static str) -> Result<u64> {
    if !has_table(&mut *connection, is_postgres, table).await? {
        return Ok(0);
    }
    let rows: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(connection).await?;
    Ok(rows.unsigned_abs())
}

/// Converts an error about a copy. A full disk and a lock are no faults of the file `copied_from`.
fn fault_of_copy(copied_from: &Path, error: StateError) -> StateError {
    let why = match error {
        StateError::Sql(sqlx::Error::Database(e)) if e.code().is_none_or(|code| !is_transient_code(&code)) => {
            format!("it is damaged: {}", e.message())
        }
        StateError::Sql(e) if !matches!(e, sqlx::Error::Database(_)) => format!("it can't be read: {e}"),
        StateError::Corrupt(why) => format!("it is damaged: {why}"),
        error => return error,
    };
    StateError::UnusableBackup { path: copied_from.to_owned(), why }
}
