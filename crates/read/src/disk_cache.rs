//! The part of a block cache that is on local disk: one file a part, named after what it is a part of, with a checksum at its end.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use moka::future::Cache;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use twox_hash::XxHash3_64;

use crate::block_cache::BlockKey;

/// Parts on their way to disk; while so many are, others are not kept.
const WRITING: usize = 64;

/// Bytes of the checksum after a part.
const CHECKSUM: usize = 8;

#[derive(Debug)]
pub(crate) struct DiskCache {
    dir: Arc<Path>,
    /// The length of each file, checksum included. Dropped entries take their files along.
    index: Cache<String, u32>,
    writing: Arc<Semaphore>,
}

/// The name of a part's file: two tables' files never share one.
fn name(key: &BlockKey) -> String {
    let digest = Sha256::digest(key.file.as_bytes());
    let hex: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("{hex}-{:x}-{:x}", key.start, key.end)
}

impl DiskCache {
    /// Takes over what is in the directory, the oldest first, so that it goes first.
    pub(crate) fn open(dir: &Path, bytes: u64) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let place: Arc<Path> = dir.into();
        let evicted = place.clone();
        let index = Cache::builder()
            .weigher(|_: &String, length: &u32| *length)
            .max_capacity(bytes)
            .eviction_listener(move |name: Arc<String>, _, cause| {
                if cause != moka::notification::RemovalCause::Replaced {
                    // A file that can't be removed is found again at the next start.
                    let _ = std::fs::remove_file(evicted.join(name.as_str()));
                }
            })
            .build();
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let (name, about) = (entry.file_name().to_string_lossy().into_owned(), entry.metadata()?);
            let parts = name.split('-').count();
            match u32::try_from(about.len()) {
                Ok(length) if parts == 3 && about.is_file() => found.push((about.modified()?, name, length)),
                // Half written by a process that was killed.
                _ if name.starts_with("new.") => drop(std::fs::remove_file(entry.path())),
                _ => {}
            }
        }
        found.sort();
        for (_, name, length) in found {
            futures::executor::block_on(index.insert(name, length));
        }
        Ok(Self { dir: place, index, writing: Arc::new(Semaphore::new(WRITING)) })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.index.weighted_size()
    }

    /// A part, if it is there and as it was written.
    pub(crate) async fn read(&self, key: &BlockKey) -> Option<Bytes> {
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

    /// Writes a part in the background; a part that can't be written is read again from the store one day.
    pub(crate) fn write(&self, key: BlockKey, bytes: Bytes) {
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
                (Ok(Err(error)), _) => tracing::warn!(%error, "a part of a file could not be kept on disk"),
                _ => {}
            }
            drop(permit);
        });
    }
}

fn write(dir: &Path, path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix("new.").tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.write_all(&XxHash3_64::oneshot(bytes).to_le_bytes())?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

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
        BlockKey { file: "s3://b/f".into(), start, end, other: false }
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
        let disk = DiskCache::open(dir.path(), 1 << 20).expect("opened");
        disk.write(key(0, 3), Bytes::from_static(b"abc"));
        disk.write(key(3, 6), Bytes::from_static(b"def"));
        settled(&disk).await;
        let disk = DiskCache::open(dir.path(), 1 << 20).expect("opened again");
        assert_eq!(disk.read(&key(0, 3)).await, Some(Bytes::from_static(b"abc")));
        assert_eq!(disk.read(&key(0, 2)).await, None, "another part");
        std::fs::write(dir.path().join(name(&key(3, 6))), b"deX........").expect("damaged");
        assert_eq!(disk.read(&key(3, 6)).await, None);
        assert_eq!(disk.read(&key(3, 6)).await, None, "and forgotten");
    }

    #[tokio::test]
    async fn the_budget_holds() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = DiskCache::open(dir.path(), 5000).expect("opened");
        for i in 0..50 {
            disk.write(key(i * 1000, (i + 1) * 1000), Bytes::from(vec![7; 1000]));
            settled(&disk).await;
        }
        let files = std::fs::read_dir(dir.path()).expect("listed").count();
        assert!(disk.bytes() <= 5000 && (1..=5).contains(&files), "{} bytes in {files} files", disk.bytes());
    }
}
