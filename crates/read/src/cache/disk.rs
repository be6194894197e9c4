//! Keeps parts of a block cache on local disk.
//!
//! Each part is one file. Its name encodes the part's file and byte range; its last 8 bytes are a checksum. An index in memory
//! bounds the total size and evicts by use; an evicted entry deletes its file. A part that is missing or damaged is only a miss, so
//! a process may be killed at any time. All file operations run on threads that may block.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use esker_types::hex;
use futures::FutureExt;
use moka::future::Cache;
use moka::notification::RemovalCause;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use twox_hash::XxHash3_64;

use super::key::BlockKey;

/// Greatest number of parts being written; while so many are, others are not written.
const WRITING: usize = 64;

/// Prefix of the names of files that are being written.
const HALF_WRITTEN: &str = "new.";

/// Length in bytes of the checksum at the end of each file.
const CHECKSUM: usize = 8;

/// The parts on disk, with their total size bounded.
#[derive(Debug)]
pub(super) struct DiskCache {
    dir: Arc<Path>,
    /// The length in bytes of each file, checksum included. Evicting an entry deletes its file.
    index: Cache<String, u32>,
    /// Permits of the writes in progress.
    writing: Arc<Semaphore>,
}

/// Returns the name of a part's file.
///
/// It begins with a hash of the file's full location, so that files of two tables never share one.
fn name(key: &BlockKey) -> String {
    let digest = Sha256::digest(key.file.as_bytes());
    format!("{}-{:x}-{:x}", hex(&digest[..16]), key.start, key.end)
}

impl DiskCache {
    /// Opens a directory and takes over the parts in it, oldest first, so that the oldest are evicted first.
    pub(super) async fn open(dir: &Path, bytes: u64) -> io::Result<Self> {
        let dir: Arc<Path> = dir.into();
        let (place, evicted) = (dir.clone(), dir.clone());
        let found = tokio::task::spawn_blocking(move || take_over(&place)).await??;
        let index = Cache::builder()
            .weigher(|_: &String, length: &u32| *length)
            .max_capacity(bytes)
            .async_eviction_listener(move |name: Arc<String>, _, cause| {
                let path = (cause != RemovalCause::Replaced).then(|| evicted.join(name.as_str()));
                async move {
                    if let Some(path) = path {
                        // A file that can't be removed is found again at the next start.
                        let _ = tokio::fs::remove_file(path).await;
                    }
                }
                .boxed()
            })
            .build();
        for (name, length) in found {
            index.insert(name, length).await;
        }
        Ok(Self { dir, index, writing: Arc::new(Semaphore::new(WRITING)) })
    }

    /// Returns the bytes on disk, checksums included.
    pub(super) fn bytes(&self) -> u64 {
        self.index.weighted_size()
    }

    /// Returns a part if it is on disk and its length and checksum are right.
    pub(super) async fn read(&self, key: &BlockKey) -> Option<Bytes> {
        let name = name(key);
        self.index.get(&name).await?;
        let path = self.dir.join(&name);
        let read = tokio::task::spawn_blocking(move || checked(&path)).await.ok()?;
        match read {
            Some(bytes) if bytes.len() as u64 == key.end - key.start => Some(bytes),
            _ => {
                self.index.invalidate(&name).await;
                None
            }
        }
    }

    /// Writes a part in the background. If the write fails, the part will be fetched from the store again.
    pub(super) fn write(&self, key: BlockKey, bytes: Bytes) {
        let Ok(permit) = self.writing.clone().try_acquire_owned() else { return };
        let (dir, index) = (self.dir.clone(), self.index.clone());
        tokio::spawn(async move {
            let name = name(&key);
            if index.contains_key(&name) {
                return;
            }
            let (path, length) = (dir.join(&name), bytes.len() + CHECKSUM);
            let written = tokio::task::spawn_blocking(move || write(&dir, &path, &bytes)).await;
            match (written, u32::try_from(length)) {
                (Ok(Ok(())), Ok(length)) => index.insert(name, length).await,
                (Ok(Err(error)), _) => tracing::warn!(%error, "a part of a data file could not be written to the disk cache"),
                _ => {}
            }
            drop(permit);
        });
    }
}

/// Creates the directory if needed, and lists the names and lengths in bytes of its parts, oldest first.
///
/// Removes the files that a killed process left half-written. Blocks the thread.
fn take_over(dir: &Path) -> io::Result<Vec<(String, u32)>> {
    std::fs::create_dir_all(dir)?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let (name, about) = (entry.file_name().to_string_lossy().into_owned(), entry.metadata()?);
        let parts = name.split('-').count();
        match u32::try_from(about.len()) {
            Ok(length) if parts == 3 && about.is_file() => found.push((about.modified()?, name, length)),
            _ if name.starts_with(HALF_WRITTEN) => drop(std::fs::remove_file(entry.path())),
            _ => {}
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, name, length)| (name, length)).collect())
}

/// Writes a part and its checksum to a temporary file, and renames it into place. Blocks the thread.
fn write(dir: &Path, path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(HALF_WRITTEN).tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.write_all(&XxHash3_64::oneshot(bytes).to_le_bytes())?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

/// Reads a file; none if its checksum is wrong. Blocks the thread.
fn checked(path: &Path) -> Option<Bytes> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut File::open(path).ok()?, &mut bytes).ok()?;
    let at = bytes.len().checked_sub(CHECKSUM)?;
    let sum = XxHash3_64::oneshot(&bytes[..at]).to_le_bytes();
    (bytes[at..] == sum).then(|| Bytes::from(bytes).slice(..at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(start: u64, end: u64) -> BlockKey {
        BlockKey::stored(&"s3://b/f".into(), &(start..end))
    }

    async fn settled(disk: &DiskCache) {
        while disk.writing.available_permits() < WRITING {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        disk.index.run_pending_tasks().await;
    }

    #[tokio::test]
    async fn what_is_written_is_read_after_a_restart_and_damage_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = DiskCache::open(dir.path(), 1 << 20).await.expect("opened");
        disk.write(key(0, 3), Bytes::from_static(b"abc"));
        disk.write(key(3, 6), Bytes::from_static(b"def"));
        settled(&disk).await;
        let disk = DiskCache::open(dir.path(), 1 << 20).await.expect("opened again");
        assert_eq!(disk.read(&key(0, 3)).await, Some(Bytes::from_static(b"abc")));
        assert_eq!(disk.read(&key(0, 2)).await, None, "another part");
        std::fs::write(dir.path().join(name(&key(3, 6))), b"deX........").expect("damaged");
        assert_eq!(disk.read(&key(3, 6)).await, None);
        assert_eq!(disk.read(&key(3, 6)).await, None, "and forgotten");
    }

    /// A process that was killed while it wrote a part left a file with the temporary name.
    #[tokio::test]
    async fn a_half_written_file_is_removed_at_the_next_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let (half, other) = (dir.path().join(format!("{HALF_WRITTEN}x1y2z3")), dir.path().join("README"));
        for path in [&half, &other] {
            std::fs::write(path, b"ab").expect("written");
        }
        let disk = DiskCache::open(dir.path(), 1 << 20).await.expect("opened");
        assert_eq!((half.exists(), other.exists(), disk.bytes()), (false, true, 0));
    }

    /// The index has no more room than for the newest of the parts that an earlier process left.
    #[tokio::test]
    async fn a_smaller_budget_at_the_next_start_deletes_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = DiskCache::open(dir.path(), 1 << 20).await.expect("opened");
        for i in 0..20 {
            disk.write(key(i * 1000, (i + 1) * 1000), Bytes::from(vec![7; 1000]));
            settled(&disk).await;
        }
        let disk = DiskCache::open(dir.path(), 5000).await.expect("opened again");
        settled(&disk).await;
        let files = std::fs::read_dir(dir.path()).expect("listed").count();
        assert!(disk.bytes() <= 5000 && (1..=5).contains(&files), "{} bytes in {files} files", disk.bytes());
    }

    #[tokio::test]
    async fn the_budget_holds() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = DiskCache::open(dir.path(), 5000).await.expect("opened");
        for i in 0..50 {
            disk.write(key(i * 1000, (i + 1) * 1000), Bytes::from(vec![7; 1000]));
            settled(&disk).await;
        }
        let files = std::fs::read_dir(dir.path()).expect("listed").count();
        assert!(disk.bytes() <= 5000 && (1..=5).contains(&files), "{} bytes in {files} files", disk.bytes());
    }
}
