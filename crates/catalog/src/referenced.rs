use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use esker_storage::Location;
use esker_table::visit_reachable;
use twox_hash::XxHash3_64;

use crate::{Catalog, LoadedTable, Result};

/// Takes a hash as it is.
#[derive(Debug, Default)]
struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b));
    }

    fn write_u128(&mut self, n: u128) {
        self.0 = n as u64;
    }
}

/// A set of files, each as 128 bits: a million take 32 to 64 MB, whatever their names.
///
/// Two names could be taken for one. What is in the set is kept, so that a mistake would keep a file.
#[derive(Debug, Default)]
pub struct PathSet {
    hashes: HashSet<u128, BuildHasherDefault<Taken>>,
}

impl PathSet {
    /// Adds a file. Spellings of one place are one.
    pub fn insert(&mut self, uri: &str) {
        self.hashes.insert(hash(uri));
    }

    /// Whether a file is there.
    pub fn contains(&self, uri: &str) -> bool {
        self.hashes.contains(&hash(uri))
    }
}

impl<'a> Extend<&'a str> for PathSet {
    fn extend<T: IntoIterator<Item = &'a str>>(&mut self, uris: T) {
        uris.into_iter().for_each(|uri| self.insert(uri));
    }
}

fn hash(uri: &str) -> u128 {
    let of = |text: &str| {
        let half = |seed| u128::from(XxHash3_64::oneshot_with_seed(seed, text.as_bytes()));
        half(0) << 64 | half(1)
    };
    Location::parse(uri).map_or_else(|_| of(uri), |at| of(&at.to_string()))
}

/// Everything that a table's metadata leads to: what its snapshots reach, the metadata log, the current metadata file. What is in
/// here is never deleted and never an orphan.
pub async fn referenced_paths(catalog: &Catalog, table: &LoadedTable) -> Result<PathSet> {
    let metadata = &table.metadata;
    let snapshots: Vec<_> = metadata.snapshots().cloned().collect();
    let mut referenced = PathSet::default();
    let source = catalog.manifests();
    visit_reachable(source, metadata, &snapshots, &HashSet::new(), |path, _, _| referenced.insert(path)).await?;
    referenced.extend(metadata.metadata_log().iter().map(|log| log.metadata_file.as_str()));
    // Those of snapshots that are gone too: whoever removes a snapshot decides about them.
    referenced.extend(metadata.statistics_iter().map(|s| s.statistics_path.as_str()));
    referenced.extend(metadata.partition_statistics_iter().map(|s| s.statistics_path.as_str()));
    referenced.insert(&table.row.metadata_location);
    Ok(referenced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_file_are_one() {
        let mut set = PathSet::default();
        set.insert("s3a://lake/t/data/x.parquet");
        assert!(set.contains("s3://lake/t/data/x.parquet") && !set.contains("s3://lake/t/data/y.parquet"));
        set.insert("file:/t/a");
        assert!(set.contains("file:///t/a"));
    }
}
