//! A set of file paths that is as large as a table.
//!
//! A path is stored as a hash of 128 bits. Hashes beyond a bound are written to disk, in sorted runs. A lookup reads one page of
//! each run, on a thread that may block. Filling may block the calling thread; other threads of the runtime take over its tasks.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_storage::Location;
use tokio::runtime::{Handle, RuntimeFlavor};
use twox_hash::XxHash3_64;

/// Size of a hash in bytes.
const HASH_BYTES: usize = size_of::<u128>();

/// Number of hashes in a page of a run: 4 KiB.
const PAGE_HASHES: usize = 256;

/// Number of hashes up to which a sort takes about a millisecond. The calling thread does not give up its tasks for it.
const SMALL: usize = 1 << 15;

/// Number of lookups in spilled hashes between two points at which the caller can be cancelled.
const LOOKUPS: usize = 1024;

/// A set of paths that is being filled.
///
/// A path takes 16 bytes of memory. At the bound that [`PathSetBuilder::new`] got, the hashes are sorted and written to disk.
#[derive(Debug)]
pub struct PathSetBuilder {
    spill_dir: PathBuf,
    /// Maximum number of hashes in memory.
    most: usize,
    hashes: Vec<u128>,
    runs: Vec<Run>,
    failed: Option<io::Error>,
}

/// A set of file paths. A million take 16 MB of memory; if they are spilled, 16 MB of disk and 64 KB of memory.
///
/// Two paths may have the same hash. Files in the set are kept, so such a mistake keeps a file and never deletes one.
///
/// ```
/// use esker_catalog::PathSetBuilder;
///
/// let mut referenced = PathSetBuilder::new(std::path::Path::new("spill"), 1 << 20);
/// referenced.insert("s3a://lake/t/data/1.parquet");
/// let referenced = referenced.finish().expect("nothing was spilled");
/// let found = referenced.contains_each(&["s3://lake/t/data/1.parquet", "s3://lake/t/data/2.parquet"]);
/// assert_eq!(futures::executor::block_on(found).expect("in memory"), [true, false]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct PathSet {
    hashes: Arc<Hashes>,
}

/// The hashes of a set.
#[derive(Debug, Default)]
struct Hashes {
    /// Hashes in memory, sorted.
    in_memory: Vec<u128>,
    runs: Vec<Run>,
}

/// Sorted hashes in a file without a name, which the system removes when it is closed.
#[derive(Debug)]
struct Run {
    file: File,
    len: usize,
    /// First hash of each page.
    first: Vec<u128>,
}

impl PathSetBuilder {
    /// Starts a set with at most `bytes` of memory. The rest is written to unnamed files in `spill_dir`.
    pub fn new(spill_dir: &Path, bytes: u64) -> Self {
        let most = usize::try_from(bytes).unwrap_or(usize::MAX) / HASH_BYTES;
        Self { spill_dir: spill_dir.to_owned(), most: most.max(PAGE_HASHES), hashes: Vec::new(), runs: Vec::new(), failed: None }
    }

    /// Adds a path. Spellings of one location are one path. An error of the disk is returned by `finish`.
    pub fn insert(&mut self, uri: &str) {
        if self.hashes.len() == self.most {
            may_block(|| self.make_room());
        }
        self.hashes.push(hash(uri));
    }

    /// Ends the filling and returns the set.
    ///
    /// # Errors
    ///
    /// Returns the error of the disk, if hashes could not be written to `spill_dir`.
    pub fn finish(mut self) -> io::Result<PathSet> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.hashes.len() {
            ..SMALL => self.hashes.sort_unstable(),
            _ => may_block(|| self.hashes.sort_unstable()),
        }
        self.hashes.dedup();
        self.hashes.shrink_to_fit();
        Ok(PathSet { hashes: Arc::new(Hashes { in_memory: self.hashes, runs: self.runs }) })
    }

    /// Removes duplicates, and writes the hashes to disk if too many are left.
    fn make_room(&mut self) {
        self.hashes.sort_unstable();
        self.hashes.dedup();
        // Manifests of several snapshots name the same files, so removing duplicates is often enough.
        if self.hashes.len() > self.most / 2 {
            match Run::write(&self.spill_dir, &self.hashes) {
                Ok(run) => self.runs.push(run),
                Err(error) => self.failed = Some(error),
            }
            self.hashes.clear();
        }
    }
}

impl<'a> Extend<&'a str> for PathSetBuilder {
    fn extend<T: IntoIterator<Item = &'a str>>(&mut self, uris: T) {
        uris.into_iter().for_each(|uri| self.insert(uri));
    }
}

impl PathSet {
    /// Checks which of some paths are in the set. Returns one answer a path, in their order.
    ///
    /// Spilled pages are read on threads that may block.
    ///
    /// # Errors
    ///
    /// Returns the error of the disk, if a spilled page can't be read back. Returns an [`io::Error`] of kind `Other` if the
    /// runtime shuts down before the pages are read.
    pub async fn contains_each(&self, uris: &[impl AsRef<str>]) -> io::Result<Vec<bool>> {
        let wanted: Vec<u128> = uris.iter().map(|uri| hash(uri.as_ref())).collect();
        if self.hashes.runs.is_empty() {
            return wanted.iter().map(|hash| self.hashes.contains(*hash)).collect();
        }
        let mut found = Vec::with_capacity(wanted.len());
        for part in wanted.chunks(LOOKUPS) {
            let (hashes, part) = (self.hashes.clone(), part.to_vec());
            let read = move || part.iter().map(|hash| hashes.contains(*hash)).collect::<io::Result<Vec<bool>>>();
            found.extend(tokio::task::spawn_blocking(read).await??);
        }
        Ok(found)
    }

    #[cfg(test)]
    fn spilled(&self) -> usize {
        self.hashes.runs.iter().map(|run| run.len).sum()
    }
}

impl Hashes {
    /// Checks whether a hash is in the set; reads one page of each run.
    fn contains(&self, hash: u128) -> io::Result<bool> {
        if self.in_memory.binary_search(&hash).is_ok() {
            return Ok(true);
        }
        for run in &self.runs {
            if run.contains(hash)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Runs work that blocks: a sort of millions of hashes, or a write to disk.
///
/// On a runtime with several threads, another thread takes over the tasks of this one meanwhile.
fn may_block<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}

impl Run {
    /// Writes sorted hashes to an unnamed file in a directory.
    fn write(dir: &Path, hashes: &[u128]) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut file = BufWriter::with_capacity(1 << 20, tempfile::tempfile_in(dir)?);
        hashes.iter().try_for_each(|hash| file.write_all(&hash.to_le_bytes()))?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Self { file, len: hashes.len(), first: hashes.iter().step_by(PAGE_HASHES).copied().collect() })
    }

    /// Checks whether a hash is in the run; reads one page.
    fn contains(&self, hash: u128) -> io::Result<bool> {
        let Some(page) = self.first.partition_point(|first| *first <= hash).checked_sub(1) else { return Ok(false) };
        let at = page * PAGE_HASHES;
        let mut bytes = [0; PAGE_HASHES * HASH_BYTES];
        let bytes = &mut bytes[..PAGE_HASHES.min(self.len - at) * HASH_BYTES];
        self.file.read_exact_at(bytes, (at * HASH_BYTES) as u64)?;
        let (hashes, _) = bytes.as_chunks::<HASH_BYTES>();
        Ok(hashes.binary_search_by_key(&hash, |bytes| u128::from_le_bytes(*bytes)).is_ok())
    }
}

/// Hashes a path to 128 bits. Spellings of one location have one hash.
fn hash(uri: &str) -> u128 {
    let of = |text: &str| {
        let half = |seed| u128::from(XxHash3_64::oneshot_with_seed(seed, text.as_bytes()));
        half(0) << 64 | half(1)
    };
    Location::parse(uri).map_or_else(|_| of(uri), |at| of(&at.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(bytes: u64, uris: impl IntoIterator<Item = String>) -> PathSet {
        let dir = tempfile::tempdir().expect("a directory");
        let mut set = PathSetBuilder::new(&dir.path().join("spill"), bytes);
        uris.into_iter().for_each(|uri| set.insert(&uri));
        set.finish().expect("finished")
    }

    fn uri(i: usize) -> String {
        format!("s3://lake/t/data/{i}.parquet")
    }

    #[tokio::test]
    async fn spellings_of_one_file_are_one() {
        let set = set(1 << 20, ["s3a://lake/t/data/x.parquet".to_owned(), "file:/t/a".to_owned()]);
        let found = set.contains_each(&["s3://lake/t/data/x.parquet", "s3://lake/t/data/y.parquet", "file:///t/a"]).await;
        assert_eq!(found.expect("read"), [true, false, true]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_does_not_fit_is_found_on_disk() {
        let set = set(16 * 1000, (0..10_000).map(uri));
        assert!(set.spilled() >= 9000 && set.hashes.in_memory.len() <= 1000);
        let found = set.contains_each(&(0..20_000).map(uri).collect::<Vec<_>>()).await.expect("read");
        assert!(found[..10_000].iter().all(|found| *found) && !found[10_000..].contains(&true));
    }

    #[test]
    fn files_met_again_take_no_room() {
        let set = set(16 * 1000, (0..100).flat_map(|_| (0..400).map(uri)));
        assert_eq!((set.spilled(), set.hashes.in_memory.len()), (0, 400));
    }

    #[test]
    fn a_set_without_room_on_disk_is_not_made() {
        let mut set = PathSetBuilder::new(Path::new("/dev/null/spill"), 0);
        (0..1000).for_each(|i| set.insert(&uri(i)));
        assert!(set.finish().is_err());
    }
}
