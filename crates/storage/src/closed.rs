//! [`ClosedDirectories`]: directories whose files somebody may not read.

use std::collections::HashSet;

use crate::Location;

/// Directories whose files somebody may not read, such as those of other tables.
#[derive(Debug, Default)]
pub struct ClosedDirectories {
    /// The directories.
    closed: HashSet<Location>,
    /// Directories whose files may be read, also where they lie inside a closed one.
    open: Vec<Location>,
}

impl ClosedDirectories {
    /// Closes directories, but for what lies in the directories `open`.
    pub fn new(closed: impl IntoIterator<Item = Location>, open: Vec<Location>) -> Self {
        Self { closed: closed.into_iter().collect(), open }
    }

    /// Checks that a file lies in a closed directory. Its directories are looked up one by one, however many are closed.
    ///
    /// A path that is no location lies nowhere: nothing reads it.
    pub fn has(&self, path: &str) -> bool {
        if self.closed.is_empty() {
            return false;
        }
        let Ok(at) = Location::parse(path) else { return false };
        if self.open.iter().any(|directory| at.is_inside(directory)) {
            return false;
        }
        std::iter::successors(at.parent(), Location::parent).any(|directory| self.closed.contains(&directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_in_the_closed_directories_around_it_unless_an_open_one_is_too() {
        let at = |uri: &str| Location::parse(uri).expect("a location");
        let closed = ClosedDirectories::new(["s3://b/t", "file:///w/t/data"].map(at), vec![at("s3://b/t/mine")]);
        for path in ["s3://b/t/f", "s3a://b/t/data/x/f", "file:/w/t/data/f", "s3://b/t/mine"] {
            assert!(closed.has(path), "{path}");
        }
        for path in ["s3://b/t", "s3://b/t2/f", "s3://c/t/f", "file:///w/t/f", "s3n://b/t/mine/f", "no location"] {
            assert!(!closed.has(path), "{path}");
        }
        assert!(!ClosedDirectories::default().has("s3://b/t/f"));
    }
}
