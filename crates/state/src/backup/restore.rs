//! Restores a backup in the place of the database.
//!
//! [`stage`] makes a copy of the backup that is checked, marked and migrated. On SQLite the copy then takes the name of the database
//! in one rename; the previous database was copied aside before. On PostgreSQL one transaction replaces all rows. So a process that
//! is killed leaves the old database or the new one.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use esker_types::{Millis, format_count, now_ms};
use sqlx::{AnyConnection, Connection};

use super::files::{LOG_SUFFIX, copy_private, failed, remove_with_sidecars, sidecars, sync, with_suffix};
use super::{BackupHeader, BackupProgress, QUICK_CHECK, check_magic, count_rows, fault_of_copy, header, mark, postgres, verify};
use crate::database::Database;
use crate::error::is_transient_code;
use crate::{Result, StateError};

/// The settings of a restore.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Replace a database that is not empty.
    pub replace: bool,
    /// The directory for the checked copy, if the database is in PostgreSQL. With SQLite, the copy lies next to the database.
    pub directory: PathBuf,
    /// The time without a heartbeat after which a server on PostgreSQL counts as dead.
    pub dead_after: Duration,
}

/// The outcome of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The header of the backup; `None` if it has none.
    pub header: Option<BackupHeader>,
    /// The copy of the SQLite database that was there before, if there was one.
    pub previous: Option<PathBuf>,
}

/// The database that a restore would replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresentDatabase {
    /// There is none, or no server ever worked on it.
    Empty,
    /// A server worked on it.
    Occupied {
        /// The number of warehouses.
        warehouses: u64,
        /// The number of namespaces.
        namespaces: u64,
        /// The number of tables and views.
        tables: u64,
    },
    /// It is an SQLite file that can't be read.
    Unreadable(String),
}

impl PresentDatabase {
    /// Describes what the database holds; `None` if it is empty.
    pub fn describe(&self) -> Option<String> {
        match self {
            Self::Empty => None,
            Self::Unreadable(why) => Some(format!("it can't be read ({why})")),
            Self::Occupied { warehouses, namespaces, tables } => Some(format!(
                "it has {}, {} and {}, views included",
                format_count(*warehouses, "warehouse"),
                format_count(*namespaces, "namespace"),
                format_count(*tables, "table")
            )),
        }
    }

    /// Checks that a restore may replace the database.
    ///
    /// # Errors
    ///
    /// Returns [`Occupied`](StateError::Occupied) if the database is not empty and `replace` is false.
    pub(super) fn check_replaceable(&self, replace: bool) -> Result<()> {
        match self.describe() {
            Some(holds) if !replace => Err(StateError::Occupied(holds)),
            _ => Ok(()),
        }
    }
}

/// Finds out what a database holds. `is_postgres` is its kind.
///
/// # Errors
///
/// Returns [`Sql`](StateError::Sql) if the database can't be read.
pub(super) async fn count_present(connection: &mut AnyConnection, is_postgres: bool) -> Result<PresentDatabase> {
    let warehouses = count_rows(&mut *connection, is_postgres, "warehouse").await?;
    let namespaces = count_rows(&mut *connection, is_postgres, "namespace").await?;
    let tables = count_rows(connection, is_postgres, "tabular").await?;
    Ok(match warehouses {
        0 => PresentDatabase::Empty,
        _ => PresentDatabase::Occupied { warehouses, namespaces, tables },
    })
}

impl Database {
    /// Finds out what the database holds, before a restore replaces it. Creates nothing.
    ///
    /// # Errors
    ///
    /// Returns [`Path`](StateError::Path) if the path of the database is not UTF-8, and [`Sql`](StateError::Sql) if the database
    /// does not answer or is locked.
    pub async fn present(&self) -> Result<PresentDatabase> {
        if let Self::Sqlite(path) = self {
            if path.to_str().is_none() {
                return Err(StateError::Path(path.clone()));
            }
            if std::fs::metadata(path).map_or(true, |found| found.len() == 0) {
                return Ok(PresentDatabase::Empty);
            }
        }
        let counted = match self.connection().await {
            Ok(mut connection) => {
                let counted = count_present(&mut connection, self.is_postgres()).await;
                connection.close().await.ok();
                counted
            }
            // "invalid_catalog_name": the database does not exist.
            Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("3D000") => Ok(PresentDatabase::Empty),
            Err(e) => Err(e.into()),
        };
        match counted {
            Err(StateError::Sql(sqlx::Error::Database(e)))
                if !self.is_postgres() && e.code().is_none_or(|code| !is_transient_code(&code)) =>
            {
                Ok(PresentDatabase::Unreadable(e.message().to_owned()))
            }
            counted => counted,
        }
    }

    /// Puts a backup in the place of the database. No server may work on it.
    ///
    /// The backup is migrated to the schema of this release. A file without the mark of a backup gets one, with the file's time of
    /// modification. A process that is killed leaves the old database or the new one.
    ///
    /// # Errors
    ///
    /// - Returns [`Occupied`](StateError::Occupied) if the database is not empty and `options` don't say to replace it, and
    ///   [`ServersRunning`](StateError::ServersRunning) if servers work on the PostgreSQL database.
    /// - Returns [`Path`](StateError::Path) if the path of the database is not UTF-8.
    /// - Returns [`File`](StateError::File) if a file can't be read, copied, removed, renamed or synced.
    /// - Returns [`UnusableBackup`](StateError::UnusableBackup) if `from` is damaged or no state database that this release can run
    ///   on, if its copy can't be opened or read, or if it is for PostgreSQL and of a later release.
    /// - Returns [`Migrate`](StateError::Migrate) or [`LaterSchema`](StateError::LaterSchema) if the backup or the PostgreSQL
    ///   database can't be migrated.
    /// - Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if a database can't be written, and
    ///   [`Ambiguous`](StateError::Ambiguous) if PostgreSQL did not confirm the commit.
    pub async fn restore(&self, from: &Path, options: &RestoreOptions, progress: &BackupProgress<'_>) -> Result<Restored> {
        self.present().await?.check_replaceable(options.replace)?;
        let staged = match self {
            Self::Sqlite(path) => with_suffix(path, ".partial"),
            Self::Postgres(_) | Self::PooledPostgres(_) => options.directory.join("restore.partial"),
        };
        let restored = self.restore_by(&staged, from, options, progress).await;
        // After a success with SQLite there is no such file any more.
        let removed = remove_with_sidecars(&staged);
        let restored = restored?;
        removed?;
        Ok(restored)
    }

    /// Restores a backup by way of a copy at `staged`, which is left there.
    async fn restore_by(
        &self,
        staged: &Path,
        from: &Path,
        options: &RestoreOptions,
        progress: &BackupProgress<'_>,
    ) -> Result<Restored> {
        let header = stage(from, staged, progress).await?;
        let previous = match self {
            Self::Sqlite(path) => put_in_place(staged, path).await?,
            Self::Postgres(_) | Self::PooledPostgres(_) => {
                postgres::replace(self, staged, from, options, progress).await?;
                None
            }
        };
        Ok(Restored { header, previous })
    }
}

/// Makes a copy of a backup at `staged` that is checked, marked and migrated to the schema of this release. The copy is one file.
///
/// # Errors
///
/// Returns the errors of [`Database::restore`] that concern the backup.
async fn stage(from: &Path, staged: &Path, progress: &BackupProgress<'_>) -> Result<Option<BackupHeader>> {
    check_magic(from)?;
    remove_with_sidecars(staged)?;
    copy_private(from, staged)?;
    if uses_log(from)? {
        // The last changes of a plain copy are in the log beside it. A backup has none: what lies beside it is of another file.
        for (log, suffix) in sidecars(from).into_iter().filter(|(_, suffix)| *suffix == LOG_SUFFIX) {
            copy_private(&log, &with_suffix(staged, suffix))?;
        }
    }
    let modified = std::fs::metadata(from).and_then(|found| found.modified()).map_err(failed(from))?;
    let since = modified.duration_since(std::time::UNIX_EPOCH);
    let when = since.map_or(0, |since| Millis::try_from(since.as_millis()).unwrap_or(0));
    let fault = |error: sqlx::Error| fault_of_copy(from, error.into());
    let copy = Database::Sqlite(staged.to_owned());
    // A single connection, because a pool tries for a long time to open a file that can't be opened.
    let mut connection = copy.connection().await.map_err(fault)?;
    let header = prepare(&copy, &mut connection, from, when, progress).await;
    let closed = connection.close().await;
    let header = header?;
    closed.map_err(fault)?;
    sync(staged)?;
    Ok(header)
}

/// Checks that an SQLite database has a write-ahead log: its header says so. Backups have none.
///
/// Source: <https://sqlite.org/fileformat2.html>, "File format version numbers".
///
/// # Errors
///
/// Returns [`File`](StateError::File) if the file can't be read.
fn uses_log(path: &Path) -> Result<bool> {
    let mut header = [0; 19];
    let read = File::open(path).and_then(|mut file| file.read(&mut header)).map_err(failed(path))?;
    Ok(read == header.len() && header[18] == 2)
}

/// Checks, marks and migrates the copy of a backup.
///
/// # Errors
///
/// Returns the errors of [`Database::restore`] that concern the backup.
async fn prepare(
    copy: &Database,
    connection: &mut AnyConnection,
    from: &Path,
    when: Millis,
    progress: &BackupProgress<'_>,
) -> Result<Option<BackupHeader>> {
    let fault = |error: StateError| fault_of_copy(from, error);
    // A plain copy of a database may ask for a write-ahead log. What is changed here must not be in a file beside it.
    let mode = sqlx::query_scalar::<_, String>("PRAGMA journal_mode = DELETE").fetch_one(&mut *connection).await;
    mode.map_err(|e| fault(e.into()))?;
    let header = verify(&mut *connection, from, QUICK_CHECK, progress).await?;
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    mark(&mut tx, when).await?;
    header::remove(&mut tx).await?;
    copy.migrate_in(&mut tx, None).await?;
    // The servers of the time of the backup: without its row, each of them is dead and changes nothing.
    sqlx::query("DELETE FROM instance").execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(header)
}

/// Gives the name of the database to the copy of a backup. Returns the copy of the previous database, if there was one.
///
/// # Errors
///
/// Returns [`File`](StateError::File) if a file can't be copied, removed, renamed or synced, and [`Sql`](StateError::Sql) if
/// another process has the database open.
async fn put_in_place(staged: &Path, path: &Path) -> Result<Option<PathBuf>> {
    let previous = match path.exists() {
        true => Some(keep_copy(path).await?),
        false => None,
    };
    // Changes in a log beside the file belong to the previous database. There is a log only if that one can't be opened, or is gone.
    for (file, _) in sidecars(path) {
        std::fs::remove_file(&file).map_err(failed(&file))?;
    }
    std::fs::rename(staged, path).map_err(failed(staged))?;
    sync(path)?;
    Ok(previous)
}

/// Copies a database aside, with the files that SQLite keeps next to it. Returns the path of the copy.
///
/// It is a copy and no second name: if the process is killed before the backup is in place, servers go on with the database, and
/// SQLite must not find one database under two names.
///
/// # Errors
///
/// Returns [`File`](StateError::File) if a file can't be copied or synced, and the errors of [`fold_in_log`].
async fn keep_copy(path: &Path) -> Result<PathBuf> {
    fold_in_log(path).await?;
    let kept = with_suffix(path, &format!(".before-{}", now_ms()));
    for (file, suffix) in sidecars(path) {
        let beside = with_suffix(&kept, suffix);
        copy_private(&file, &beside)?;
        sync(&beside)?;
    }
    copy_private(path, &kept)?;
    sync(&kept)?;
    Ok(kept)
}

/// Moves the write-ahead log of a database into its file, so that the file alone is the database. A database that can't be opened
/// stays as it is.
///
/// # Errors
///
/// Returns [`File`](StateError::File) or [`Sql`](StateError::Sql) if another process has the database open.
async fn fold_in_log(path: &Path) -> Result<()> {
    if sidecars(path).is_empty() {
        return Ok(());
    }
    let folded = async {
        let mut connection = Database::Sqlite(path.to_owned()).connection().await?;
        let mode = sqlx::query_scalar::<_, String>("PRAGMA journal_mode = DELETE").fetch_one(&mut connection).await;
        connection.close().await?;
        mode
    };
    match folded.await {
        Ok(mode) if mode == "delete" => Ok(()),
        Ok(_) => {
            let what = "another process has the database open; end it, and try again";
            Err(failed(path)(std::io::Error::new(std::io::ErrorKind::WouldBlock, what)))
        }
        Err(sqlx::Error::Database(e)) if e.code().is_some_and(|code| is_transient_code(&code)) => {
            Err(StateError::Sql(sqlx::Error::Database(e)))
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the previous database can't be opened; it is kept as it is");
            Ok(())
        }
    }
}
