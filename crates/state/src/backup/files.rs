//! Files of SQLite databases: copied, synced and removed together with those that SQLite keeps next to them.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::database::PRIVATE_MODE;
use crate::{Result, StateError};

/// The suffix of a database's write-ahead log.
pub(super) const LOG_SUFFIX: &str = "-wal";

/// The suffixes of the files that SQLite keeps next to a database: the write-ahead log, its index, and the rollback journal.
const SIDECAR_SUFFIXES: [&str; 3] = [LOG_SUFFIX, "-shm", "-journal"];

/// Returns the path with a suffix added to the file name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Returns a conversion of the system's errors that names the path.
pub(super) fn failed(path: &Path) -> impl Fn(std::io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::File { path: path.clone(), source }
}

/// Returns the directory that a file lies in.
pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Syncs a file and its directory entry to disk.
///
/// # Errors
///
/// Returns [`File`](StateError::File) if one of them can't be opened or synced.
pub(super) fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed(path))?;
    let dir = directory_of(path);
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))
}

/// Copies a file to a path where no file is. The copy is for its owner alone from the first byte on.
///
/// # Errors
///
/// Returns [`File`](StateError::File) with `to`, and both paths in its text. What was copied is then removed.
pub(super) fn copy_private(from: &Path, to: &Path) -> Result<()> {
    let copied = File::open(from).and_then(|mut source| {
        let mut target = File::options().write(true).create_new(true).mode(PRIVATE_MODE).open(to)?;
        std::io::copy(&mut source, &mut target)
    });
    match copied {
        Ok(_) => Ok(()),
        Err(e) => {
            if e.kind() != std::io::ErrorKind::AlreadyExists {
                std::fs::remove_file(to).ok();
            }
            // A copy fails at either end.
            let what = format!("{} can't be copied to it: {e}", from.display());
            Err(failed(to)(std::io::Error::new(e.kind(), what)))
        }
    }
}

/// Returns the files that SQLite keeps next to a database, as far as they exist, with their suffixes.
pub(super) fn sidecars(path: &Path) -> Vec<(PathBuf, &'static str)> {
    let beside = SIDECAR_SUFFIXES.iter().map(|suffix| (with_suffix(path, suffix), *suffix));
    beside.filter(|(path, _)| path.exists()).collect()
}

/// Removes a database file with the files that SQLite keeps next to it. Missing files are no error.
///
/// # Errors
///
/// Returns [`File`](StateError::File) with the file that can't be removed.
pub(super) fn remove_with_sidecars(path: &Path) -> Result<()> {
    for path in SIDECAR_SUFFIXES.iter().map(|suffix| with_suffix(path, suffix)).chain([path.to_owned()]) {
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(&path)(e)),
            _ => {}
        }
    }
    Ok(())
}
