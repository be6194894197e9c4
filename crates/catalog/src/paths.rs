//! A set of files as large as a table: each file is 128 bits, those beyond a bound are on disk.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use esker_storage::Location;
use twox_hash::XxHash3_64;

/// Bytes of a hash.
const HASH: usize = size_of::<u128>();

/// Hashes in a page of a run: 4 KiB.
const PAGE: usize = 256;

/// A set being made. Adding a file takes 16 bytes of memory, until these are [`PathSetBuilder::new`]'s bytes; then they are written
/// down, sorted.
#[derive(Debug)]
pub struct PathSetBuilder {
    spill_dir: PathBuf,
    /// Hashes held at most.
    most: usize,
    hashes: Vec<u128>,
    runs: Vec<Run>,
    failed: Option<io::Error>,
}

/// A set of files. A million take 16 MB of memory, or of disk and 64 KB of memory where they are more than fit.
///
/// Two names could be taken for one. What is in the set is kept, so that a mistake would keep a file.
#[derive(Debug, Default)]
pub struct PathSet {
    /// Sorted.
    hashes: Vec<u128>,
    runs: Vec<Run>,
}

/// Sorted hashes in a file without a name, which is gone when it is dropped.
#[derive(Debug)]
struct Run {
    file: File,
    len: usize,
    /// The first hash of each page.
    first: Vec<u128>,
}

impl PathSetBuilder {
    /// With `bytes` of memory at most; what is more goes to unnamed files in `spill_dir`.
    pub fn new(spill_dir: &Path, bytes: u64) -> Self {
        let most = usize::try_from(bytes).unwrap_or(usize::MAX) / HASH;
        Self { spill_dir: spill_dir.to_owned(), most: most.max(PAGE), hashes: Vec::new(), runs: Vec::new(), failed: None }
    }

    /// Adds a file. Spellings of one place are one. What goes wrong on disk is said at the end.
    pub fn insert(&mut self, uri: &str) {
        if self.hashes.len() == self.most {
            self.make_room();
        }
        self.hashes.push(hash(uri));
    }

    /// The set.
    pub fn finish(mut self) -> io::Result<PathSet> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.hashes.sort_unstable();
        self.hashes.dedup();
        self.hashes.shrink_to_fit();
        Ok(PathSet { hashes: self.hashes, runs: self.runs })
    }

    fn make_room(&mut self) {
        self.hashes.sort_unstable();
        self.hashes.dedup();
        // Files are met several times, in manifests of several snapshots: often that is all.
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
    /// Whether a file is there. Fails if what was written to disk can't be read back.
    pub fn contains(&self, uri: &str) -> io::Result<bool> {
        let hash = hash(uri);
        if self.hashes.binary_search(&hash).is_ok() {
            return Ok(true);
        }
        for run in &self.runs {
            if run.contains(hash)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    #[cfg(test)]
    fn spilled(&self) -> usize {
        self.runs.iter().map(|run| run.len).sum()
    }
}

impl Run {
    fn write(dir: &Path, hashes: &[u128]) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut file = BufWriter::with_capacity(1 << 20, tempfile::tempfile_in(dir)?);
        hashes.iter().try_for_each(|hash| file.write_all(&hash.to_le_bytes()))?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Self { file, len: hashes.len(), first: hashes.iter().step_by(PAGE).copied().collect() })
    }

    fn contains(&self, hash: u128) -> io::Result<bool> {
        let Some(page) = self.first.partition_point(|first| *first <= hash).checked_sub(1) else { return Ok(false) };
        let at = page * PAGE;
        let mut bytes = [0; PAGE * HASH];
        let bytes = &mut bytes[..PAGE.min(self.len - at) * HASH];
        self.file.read_exact_at(bytes, (at * HASH) as u64)?;
        let (hashes, _) = bytes.as_chunks::<HASH>();
        Ok(hashes.binary_search_by_key(&hash, |bytes| u128::from_le_bytes(*bytes)).is_ok())
    }
}

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

    #[test]
    fn spellings_of_one_file_are_one() {
        let set = set(1 << 20, ["s3a://lake/t/data/x.parquet".to_owned(), "file:/t/a".to_owned()]);
        let contains = |uri| set.contains(uri).expect("read");
        assert!(contains("s3://lake/t/data/x.parquet") && !contains("s3://lake/t/data/y.parquet"));
        assert!(contains("file:///t/a"));
    }

    #[test]
    fn what_does_not_fit_is_found_on_disk() {
        let set = set(16 * 1000, (0..10_000).map(uri));
        assert!(set.spilled() >= 9000 && set.hashes.len() <= 1000);
        assert!((0..10_000).all(|i| set.contains(&uri(i)).expect("read")));
        assert!(!(10_000..20_000).any(|i| set.contains(&uri(i)).expect("read")));
    }

    #[test]
    fn files_met_again_take_no_room() {
        let set = set(16 * 1000, (0..100).flat_map(|_| (0..400).map(uri)));
        assert_eq!((set.spilled(), set.hashes.len()), (0, 400));
    }

    #[test]
    fn a_set_without_room_on_disk_is_not_made() {
        let mut set = PathSetBuilder::new(Path::new("/dev/null/spill"), 0);
        (0..1000).for_each(|i| set.insert(&uri(i)));
        assert!(set.finish().is_err());
    }
}
