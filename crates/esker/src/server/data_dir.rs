//! The data directory: made if it is missing, and locked against other processes.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Creates the data directory if it is missing, and returns its absolute path. `configured` is the key `data_dir`.
///
/// # Errors
///
/// Returns [`Config`](Error::Config) if the key is not set, and [`Io`](Error::Io) if the directory can't be made.
pub(crate) fn data_dir(configured: Option<&Path>) -> Result<PathBuf> {
    let dir = configured.ok_or_else(not_set)?;
    let failed = |source| Error::Io { path: dir.display().to_string(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    dir.canonicalize().map_err(failed)
}

/// Returns the absolute path of a data directory that must exist. `configured` is the key `data_dir`.
///
/// # Errors
///
/// Returns [`Config`](Error::Config) if the key is not set, and [`Usage`](Error::Usage) if the directory does not exist.
pub(crate) fn existing_data_dir(configured: Option<&Path>) -> Result<PathBuf> {
    let dir = configured.ok_or_else(not_set)?;
    let missing = || Error::Usage(format!("{} does not exist; is --data-dir the data directory of a server?", dir.display()));
    if dir.is_dir() { data_dir(Some(dir)) } else { Err(missing()) }
}

/// Makes the error of the key `data_dir`, which has no default.
fn not_set() -> Error {
    Error::Config("data_dir is not set; give --data-dir DIR".to_owned())
}

/// Returns the path of the file in which a server remembers what its database confirmed.
pub(crate) fn seen_changes_file(dir: &Path) -> PathBuf {
    dir.join("seen-changes.json")
}

/// Locks a data directory against other processes, until the returned file is dropped.
///
/// # Errors
///
/// Returns [`Locked`](Error::Locked) if another process holds the lock, and [`Io`](Error::Io) if the file can't be locked.
pub(crate) fn lock_data_dir(dir: &Path) -> Result<File> {
    let path = dir.join("esker.lock");
    let failed = |source| Error::Io { path: path.display().to_string(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked(dir.display().to_string())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Makes the directory that queries spill to.
///
/// If it lies in the data directory, files that a killed process left in it are removed. Elsewhere, another server may use it too.
///
/// # Errors
///
/// Returns [`Io`](Error::Io) if the directory can't be emptied or made.
pub(super) fn query_spill_dir(data_dir: &Path, spill_dir: &Path) -> Result<PathBuf> {
    let path = spill_dir.join("queries");
    let failed = |source| Error::Io { path: path.display().to_string(), source };
    if path.starts_with(data_dir) && path.exists() {
        std::fs::remove_dir_all(&path).map_err(failed)?;
    }
    std::fs::create_dir_all(&path).map_err(failed)?;
    Ok(path)
}
