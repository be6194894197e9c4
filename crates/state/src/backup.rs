//! Backs up and restores the database, if it is an SQLite file.
//!
//! A backup is made while servers work on the database, and is marked as a backup, so that a server that starts on it notices. Both
//! directions work on a `.partial` file that is checked, marked, synced to disk, and only then renamed. Nothing is ever overwritten
//! or deleted. Start reading with [`Database::back_up`] and [`check_and_mark`].

use std::fs::{File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use esker_types::{Millis, now_ms};
use sqlx::{AnyConnection, Connection, Row};

use crate::database::{Database, PRIVATE_MODE, PoolUse, create_private, sqlite_migration_checksum};
use crate::error::is_transient_code;
use crate::migrations::{SQLITE, refusal_of_migration};
use crate::warehouses::BACKUP;
use crate::{Result, StateError};

/// The first bytes of an SQLite database.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// The suffixes of the files that SQLite keeps next to a database: the write-ahead log and its index.
const SIDECAR_SUFFIXES: [&str; 2] = ["-wal", "-shm"];

/// Returns the path with a suffix added to the file name.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Returns a conversion of the system's errors that names the path.
fn failed(path: &Path) -> impl Fn(std::io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::File { path: path.clone(), source }
}

/// Makes the error for a database that does not exist.
fn no_database() -> std::io::Error {
    let what = "there is no state database; is this the data directory of a server?";
    std::io::Error::new(std::io::ErrorKind::NotFound, what)
}

/// Returns the directory that a file lies in.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Syncs a file and its directory entry to disk.
fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed(path))?;
    let dir = directory_of(path);
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))
}

impl Database {
    /// Returns the path of the database, which must be an existing file.
    fn file(&self) -> Result<&Path> {
        match self {
            Self::Sqlite(path) if path.is_file() => Ok(path),
            Self::Sqlite(path) => Err(failed(path)(no_database())),
            Self::Postgres(_) | Self::PooledPostgres(_) => Err(StateError::NotSqlite),
        }
    }

    /// Copies the database into a new file, as it is at one moment, while servers may change it.
    ///
    /// The file appears complete or not at all, and is marked as a backup made now.
    ///
    /// # Errors
    ///
    /// - Returns [`NotSqlite`](StateError::NotSqlite) for PostgreSQL, and [`Path`](StateError::Path) if a path is not UTF-8.
    /// - Returns [`File`](StateError::File) if the database or the directory of `to` does not exist, `to` exists, the `.partial`
    ///   file of an earlier attempt can't be removed, the disk of the copy is full, or the copy can't be renamed or synced.
    /// - Returns [`Sql`](StateError::Sql) if the database can't be read or the copy can't be written.
    /// - Returns [`UnusableBackup`](StateError::UnusableBackup) with the path of the database if the copy is damaged, can't be
    ///   read, or is no state database that this release can run on.
    pub async fn back_up(&self, to: &Path) -> Result<()> {
        self.file()?;
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
        let text = partial.to_str().ok_or_else(|| StateError::Path(partial.clone()))?;
        remove_with_sidecars(&partial)?;
        // VACUUM writes into an empty file, whose mode stays.
        create_private(&partial);
        let pool = self.pool(PoolUse::Reads).await?;
        let copied = sqlx::query("VACUUM INTO $1").bind(text).execute(&pool).await;
        pool.close().await;
        // The full disk is that of the backup, which need not be that of the database.
        let of_backup = |error: StateError| match error {
            StateError::Full => failed(&partial)(std::io::ErrorKind::StorageFull.into()),
            error => error,
        };
        copied.map_err(|error| of_backup(error.into()))?;
        check_and_mark(&partial, self.file()?, now_ms()).await.map_err(of_backup)?;
        std::fs::rename(&partial, to).map_err(failed(to))?;
        sync(to)
    }

    /// Puts a backup in the place of the database. No server may work on it.
    ///
    /// Returns the path to which the present database was moved, if there was one: nothing is deleted. A file without the mark of a
    /// backup gets one, with the file's time of modification.
    ///
    /// # Errors
    ///
    /// - Returns [`NotSqlite`](StateError::NotSqlite) for PostgreSQL.
    /// - Returns [`Path`](StateError::Path) if the path of the database is not UTF-8.
    /// - Returns [`File`](StateError::File) if a file can't be read, copied, removed, renamed or synced. The database is then in its
    ///   place, or the error says where it is.
    /// - Returns [`UnusableBackup`](StateError::UnusableBackup) if `from` is damaged or no state database that this release can run
    ///   on, and also if its copy can't be opened or read.
    /// - Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the copy can't be marked, because the disk is full or
    ///   the copy is locked.
    pub async fn restore(&self, from: &Path) -> Result<Option<PathBuf>> {
        let Self::Sqlite(path) = self else { return Err(StateError::NotSqlite) };
        if path.to_str().is_none() {
            return Err(StateError::Path(path.clone()));
        }
        let mut begin = [0; 16];
        let read = File::open(from).and_then(|mut file| file.read(&mut begin)).map_err(failed(from))?;
        if &begin[..read] != MAGIC {
            return Err(StateError::UnusableBackup { path: from.to_owned(), why: "it is not an SQLite database".to_owned() });
        }
        let partial = with_suffix(path, ".partial");
        remove_with_sidecars(&partial)?;
        if let Err(e) = std::fs::copy(from, &partial) {
            // A copy fails at either end.
            let what = format!("{} can't be copied to it: {e}", from.display());
            remove_with_sidecars(&partial)?;
            return Err(failed(&partial)(std::io::Error::new(e.kind(), what)));
        }
        // A copy has the mode of the backup.
        std::fs::set_permissions(&partial, Permissions::from_mode(PRIVATE_MODE)).map_err(failed(&partial))?;
        let when = std::fs::metadata(from).and_then(|found| found.modified()).map_err(failed(from))?;
        let when = when.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| Millis::try_from(since.as_millis()).unwrap_or(0));
        if let Err(error) = check_and_mark(&partial, from, when).await {
            remove_with_sidecars(&partial)?;
            return Err(error);
        }
        let kept = path.exists().then(|| with_suffix(path, &format!(".before-{}", now_ms())));
        let mut moves = Vec::new();
        if let Some(kept) = &kept {
            let beside = SIDECAR_SUFFIXES.iter().map(|suffix| (with_suffix(path, suffix), with_suffix(kept, suffix)));
            moves.extend(beside.filter(|(from, _)| from.exists()));
            moves.push((path.clone(), kept.clone()));
        }
        moves.push((partial, path.clone()));
        rename_all(&moves)?;
        sync(path)?;
        Ok(kept)
    }
}

/// Renames files one after the other. If one can't be renamed, those before it get their names back.
///
/// # Errors
///
/// Returns [`File`](StateError::File) with the file that can't be renamed. It names the files that could not get their names back.
fn rename_all(moves: &[(PathBuf, PathBuf)]) -> Result<()> {
    for (done, (from, to)) in moves.iter().enumerate() {
        let Err(e) = std::fs::rename(from, to) else { continue };
        let mut what = format!("it can't be renamed to {}: {e}", to.display());
        for (from, to) in moves[..done].iter().rev() {
            if let Err(e) = std::fs::rename(to, from) {
                what.push_str(&format!("; rename {} back to {}, which failed: {e}", to.display(), from.display()));
            }
        }
        return Err(failed(from)(std::io::Error::new(e.kind(), what)));
    }
    Ok(())
}

/// Removes a database file with the files that SQLite keeps next to it. Missing files are no error.
fn remove_with_sidecars(path: &Path) -> Result<()> {
    for path in SIDECAR_SUFFIXES.iter().map(|suffix| with_suffix(path, suffix)).chain([path.to_owned()]) {
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(&path)(e)),
            _ => {}
        }
    }
    Ok(())
}

/// Checks that a file is a sound database that this release can run on, and marks it as a backup if it is not marked.
///
/// `copied_from` is the file that `path` is a copy of. `when` is the time of the backup, in milliseconds since the Unix epoch.
///
/// # Errors
///
/// Returns [`UnusableBackup`](StateError::UnusableBackup) with `copied_from` if the check finds a fault, or the file can't be read.
/// Returns [`Full`](StateError::Full) or [`Sql`](StateError::Sql) if the disk is full or the file is locked, and
/// [`File`](StateError::File) with `path` if the file can't be synced.
async fn check_and_mark(path: &Path, copied_from: &Path, when: Millis) -> Result<()> {
    let unfit = |why: String| StateError::UnusableBackup { path: copied_from.to_owned(), why };
    let damaged = |e: sqlx::Error| fault_of_copy(copied_from, e);
    // A single connection, because a pool tries for a long time to open a file that can't be opened.
    let mut connection = Database::Sqlite(path.to_owned()).connection().await.map_err(damaged)?;
    let why = mark_as_backup(&mut connection, when).await;
    let closed = connection.close().await;
    match why.map_err(damaged)? {
        Some(why) => Err(unfit(why)),
        None => {
            closed.map_err(damaged)?;
            sync(path)
        }
    }
}

/// Converts an error of the database driver about a copy. A full disk and a lock are no faults of the file `copied_from`.
fn fault_of_copy(copied_from: &Path, error: sqlx::Error) -> StateError {
    let why = match StateError::from(error) {
        StateError::Sql(sqlx::Error::Database(e)) if e.code().is_none_or(|code| !is_transient_code(&code)) => {
            format!("it is damaged: {}", e.message())
        }
        StateError::Sql(e) if !matches!(e, sqlx::Error::Database(_)) => format!("it can't be read: {e}"),
        error => return error,
    };
    StateError::UnusableBackup { path: copied_from.to_owned(), why }
}

/// Marks a database as a backup. Returns the reason instead if it can't be one.
async fn mark_as_backup(connection: &mut AnyConnection, when: Millis) -> std::result::Result<Option<String>, sqlx::Error> {
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut *connection).await?;
    if found != "ok" {
        return Ok(Some(format!("it is damaged: {found}")));
    }
    let sql = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('_sqlx_migrations', 'meta', 'warehouse')";
    let tables: i64 = sqlx::query_scalar(sql).fetch_one(&mut *connection).await?;
    if tables < 3 {
        return Ok(Some("it is not a state database of Esker".to_owned()));
    }
    for step in sqlx::query("SELECT version, checksum, description FROM _sqlx_migrations").fetch_all(&mut *connection).await? {
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
    let sql = "INSERT INTO meta (key, value) SELECT $1 || id, $2 FROM warehouse WHERE true ON CONFLICT (key) DO NOTHING";
    sqlx::query(sql).bind(BACKUP).bind(when.to_string()).execute(connection).await?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;

    #[tokio::test]
    async fn a_backup_is_whole_and_known_as_one_and_what_it_replaces_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, backup) = (dir.path().join("esker.db"), dir.path().join("a backup.db"));
        let database = Database::Sqlite(path.clone());
        let text = |result: Result<()>| result.expect_err("refused").to_string();
        assert!(text(database.back_up(&backup).await).contains("there is no state database"));
        let state = State::open(database.clone()).await.expect("opened");
        let (warehouse, _) = state.warehouses().ensure("w", "file:///w", false).await.expect("made");
        state.warehouses().set_epoch(warehouse, 3, 3).await.expect("set");
        database.back_up(&backup).await.expect("backed up, with the server at work");
        assert!(text(database.back_up(&backup).await).contains("exists already"), "another is not written over");
        assert!(text(database.back_up(&dir.path().join("none/b.db")).await).contains("its directory does not exist"));
        state.warehouses().set_epoch(warehouse, 4, 4).await.expect("set");
        assert_eq!(
            state.warehouses().epoch(warehouse).await.expect("read").backup_ms,
            None,
            "only the copy is marked as a backup"
        );
        // As if the server had been killed: changes in the write-ahead log next to the file belong to the old database.
        let kept = database.restore(&backup).await.expect("restored").expect("kept");
        state.close().await;

        let state = State::open(database.clone()).await.expect("opened");
        let epoch = state.warehouses().epoch(warehouse).await.expect("read");
        assert_eq!(epoch.entered, 3);
        assert!(epoch.backup_ms.is_some());
        state.warehouses().forget_backup(warehouse).await.expect("forgotten");
        assert_eq!(state.warehouses().epoch(warehouse).await.expect("read").backup_ms, None);
        state.close().await;
        let before = State::open(Database::Sqlite(kept)).await.expect("opened");
        assert_eq!(before.warehouses().epoch(warehouse).await.expect("read").entered, 4);
        before.close().await;

        std::fs::write(&backup, "no database").expect("written");
        assert!(matches!(database.restore(&backup).await, Err(StateError::UnusableBackup { .. })));
        let state = State::open(database).await.expect("as it was");
        assert_eq!(state.warehouses().epoch(warehouse).await.expect("read").entered, 3);
    }

    #[tokio::test]
    async fn the_owner_alone_reads_the_database_and_its_backups() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, backup) = (dir.path().join("esker.db"), dir.path().join("backup.db"));
        let database = Database::Sqlite(path.clone());
        let state = State::open(database.clone()).await.expect("opened");
        state.warehouses().ensure("w", "file:///w", false).await.expect("made");
        database.back_up(&backup).await.expect("backed up");
        let mode = |path: &Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        for file in [&path, &with_suffix(&path, "-wal"), &with_suffix(&path, "-shm"), &backup] {
            assert_eq!(mode(file), 0o600, "{}", file.display());
        }
        state.close().await;
        std::fs::set_permissions(&backup, Permissions::from_mode(0o644)).expect("set");
        database.restore(&backup).await.expect("restored");
        assert_eq!(mode(&path), 0o600, "whatever the mode of the backup");
    }

    #[tokio::test]
    async fn an_error_names_the_file_that_it_is_about_and_no_database_is_left_out_of_its_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let [path, backup, new] = ["esker.db", "backup.db", "new.db"].map(|name| dir.path().join(name));
        State::open(Database::Sqlite(path.clone())).await.expect("opened").close().await;
        Database::Sqlite(path.clone()).back_up(&backup).await.expect("backed up");
        let away = Database::Sqlite(dir.path().join("none/esker.db"));
        let error = away.restore(&backup).await.expect_err("no such directory").to_string();
        assert!(error.contains("none/esker.db.partial: ") && error.contains("backup.db can't be copied"), "{error}");

        let full = fault_of_copy(&backup, crate::error::full_disk().await);
        assert!(matches!(full, StateError::Full), "a full disk is no damage of the backup: {full}");

        // The database is moved aside, and nothing takes its place.
        let kept = dir.path().join("kept.db");
        let moves = [(path.clone(), kept.clone()), (new.clone(), path.clone())];
        let error = rename_all(&moves).expect_err("there is no new one").to_string();
        assert!(error.starts_with(&new.display().to_string()), "{error}");
        assert!(path.exists() && !kept.exists(), "it is back in its place");
    }

    /// Linux takes any bytes for a name.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_database_whose_path_is_no_text_is_refused_by_that_reason() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().expect("a directory");
        let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff.db"));
        let refused = Database::Sqlite(odd).restore(&dir.path().join("backup.db")).await;
        assert!(matches!(refused, Err(StateError::Path(_))), "{refused:?}");
    }

    async fn change(path: &Path, sql: &'static str) {
        let mut connection = Database::Sqlite(path.to_owned()).connection().await.expect("opened");
        sqlx::raw_sql(sql).execute(&mut connection).await.expect("changed");
        connection.close().await.expect("closed");
    }

    #[tokio::test]
    async fn a_file_that_can_be_no_backup_is_refused_by_its_name_and_replaces_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, backup) = (dir.path().join("esker.db"), dir.path().join("backup.db"));
        let database = Database::Sqlite(path.clone());
        let state = State::open(database.clone()).await.expect("opened");
        let (warehouse, _) = state.warehouses().ensure("w", "file:///w", false).await.expect("made");
        state.warehouses().set_epoch(warehouse, 3, 3).await.expect("set");
        database.back_up(&backup).await.expect("backed up");
        state.close().await;
        let whole = std::fs::read(&backup).expect("read");
        let [cut, newer, other, foreign] = ["cut.db", "newer.db", "other.db", "foreign.db"].map(|name| dir.path().join(name));
        std::fs::write(&cut, &whole[..whole.len() / 2]).expect("written");
        std::fs::write(&newer, &whole).expect("written");
        change(
            &newer,
            "INSERT INTO _sqlx_migrations SELECT 99999, 'contract 99998 later', installed_on, 1, checksum, 0 FROM _sqlx_migrations LIMIT 1",
        )
        .await;
        std::fs::write(&other, &whole).expect("written");
        change(&other, "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 1").await;
        change(&foreign, "CREATE TABLE warehouse (id INTEGER); CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)").await;
        let files = || std::fs::read_dir(dir.path()).expect("listed").count();
        let before = files();
        for (file, why) in
            [(&cut, "damaged"), (&newer, "later version"), (&other, "not made by"), (&foreign, "not a state database")]
        {
            let error = database.restore(file).await.expect_err("refused").to_string();
            assert!(error.contains(file.to_str().expect("text")) && error.contains(why), "{error}");
        }
        assert_eq!(files(), before, "nothing was put aside, nothing is left");
        let state = State::open(database).await.expect("as it was");
        assert_eq!(state.warehouses().epoch(warehouse).await.expect("read").entered, 3);
        state.close().await;
    }
}
