//! Backups of the database where it is a file: made while servers work on it, marked as what they are, and put back.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use esker_types::{Millis, now_ms};
use sqlx::AnyPool;

use crate::database::{Database, Use};
use crate::epochs::BACKUP;
use crate::{Result, StateError};

/// What an SQLite database begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// The files of an SQLite database beside its own.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::File { path: path.clone(), source }
}

/// A file and its name are on disk.
fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed(path))?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))
}

impl Database {
    fn file(&self) -> Result<&Path> {
        match self {
            Self::Sqlite(path) if path.is_file() => Ok(path),
            Self::Sqlite(path) => Err(failed(path)(std::io::ErrorKind::NotFound.into())),
            Self::Postgres(_) => Err(StateError::NotAFile),
        }
    }

    /// Copies the database into a new file, as it is at one moment, whatever servers do to it meanwhile.
    pub async fn back_up(&self, to: &Path) -> Result<()> {
        self.file()?;
        if to.exists() {
            return Err(failed(to)(std::io::ErrorKind::AlreadyExists.into()));
        }
        // What is not whole must not look like a backup.
        let partial = beside(to, ".partial");
        let text = partial.to_str().ok_or_else(|| StateError::Path(partial.clone()))?;
        remove(&partial)?;
        let pool = self.pool(Use::Reads).await?;
        let copied = sqlx::query("VACUUM INTO $1").bind(text).execute(&pool).await;
        pool.close().await;
        copied?;
        check_and_mark(&partial, now_ms()).await?;
        std::fs::rename(&partial, to).map_err(failed(to))?;
        sync(to)
    }

    /// Puts a backup in the place of the database, while no server works on it. Returns where the database is now that was there, if one
    /// was: nothing is deleted.
    pub async fn restore(&self, from: &Path) -> Result<Option<PathBuf>> {
        let Self::Sqlite(path) = self else { return Err(StateError::NotAFile) };
        let mut begin = [0; 16];
        let read = File::open(from).and_then(|mut file| file.read(&mut begin)).map_err(failed(from))?;
        if &begin[..read] != MAGIC {
            return Err(StateError::Corrupt(format!("{} is not an SQLite database", from.display())));
        }
        let partial = beside(path, ".partial");
        remove(&partial)?;
        std::fs::copy(from, &partial).map_err(failed(from))?;
        let when = std::fs::metadata(from).and_then(|found| found.modified()).map_err(failed(from))?;
        let when = when.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| Millis::try_from(since.as_millis()).unwrap_or(0));
        check_and_mark(&partial, when).await?;
        let kept = path.exists().then(|| beside(path, &format!(".before-{}", now_ms())));
        if let Some(kept) = &kept {
            for suffix in BESIDE.iter().filter(|suffix| beside(path, suffix).exists()) {
                std::fs::rename(beside(path, suffix), beside(kept, suffix)).map_err(failed(path))?;
            }
            std::fs::rename(path, kept).map_err(failed(path))?;
        }
        std::fs::rename(&partial, path).map_err(failed(path))?;
        sync(path)?;
        Ok(kept)
    }
}

fn remove(path: &Path) -> Result<()> {
    for path in BESIDE.iter().map(|suffix| beside(path, suffix)).chain([path.to_owned()]) {
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(&path)(e)),
            _ => {}
        }
    }
    Ok(())
}

/// Makes sure that a file is a sound database of Esker's, and marks it as a backup, unless it is one already.
async fn check_and_mark(path: &Path, when: Millis) -> Result<()> {
    let corrupt = |why: String| StateError::Corrupt(format!("{}: {why}", path.display()));
    let pool = Database::Sqlite(path.to_owned()).pool(Use::Changes).await.map_err(|e| corrupt(e.to_string()))?;
    let marked = mark(&pool, when).await;
    pool.close().await;
    match marked {
        Ok(None) => sync(path),
        Ok(Some(why)) => Err(corrupt(why)),
        Err(e) => Err(corrupt(e.to_string())),
    }
}

/// Marks a database as a backup; what is wrong with it, if something is.
async fn mark(pool: &AnyPool, when: Millis) -> std::result::Result<Option<String>, sqlx::Error> {
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(pool).await?;
    if found != "ok" {
        return Ok(Some(found));
    }
    let sql = "INSERT INTO meta (key, value) SELECT $1 || id, $2 FROM warehouse WHERE true ON CONFLICT (key) DO NOTHING";
    sqlx::query(sql).bind(BACKUP).bind(when.to_string()).execute(pool).await?;
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
        assert!(matches!(database.back_up(&backup).await, Err(StateError::File { .. })), "there is none");
        let state = State::open(database.clone()).await.expect("opened");
        let (warehouse, _) = state.ensure_warehouse("w", "file:///w", false).await.expect("made");
        state.set_epoch(warehouse, 3, 3).await.expect("set");
        database.back_up(&backup).await.expect("backed up, with the server at work");
        assert!(matches!(database.back_up(&backup).await, Err(StateError::File { .. })), "another is not written over");
        state.set_epoch(warehouse, 4, 4).await.expect("set");
        assert_eq!(state.epoch(warehouse).await.expect("read").backup_ms, None, "not the database itself");
        // Killed, rather than stopped: what is in its log beside the file belongs to it.
        let kept = database.restore(&backup).await.expect("restored").expect("kept");
        state.close().await;

        let state = State::open(database.clone()).await.expect("opened");
        let epoch = state.epoch(warehouse).await.expect("read");
        assert_eq!(epoch.now, 3);
        assert!(epoch.backup_ms.is_some());
        state.forget_backup(warehouse).await.expect("forgotten");
        assert_eq!(state.epoch(warehouse).await.expect("read").backup_ms, None);
        state.close().await;
        let before = State::open(Database::Sqlite(kept)).await.expect("opened");
        assert_eq!(before.epoch(warehouse).await.expect("read").now, 4);
        before.close().await;

        std::fs::write(&backup, "no database").expect("written");
        assert!(matches!(database.restore(&backup).await, Err(StateError::Corrupt(_))));
        let state = State::open(database).await.expect("as it was");
        assert_eq!(state.epoch(warehouse).await.expect("read").now, 3);
    }
}
