//! Runs: data files of one partition that are next to each other in a manifest, so that a plan decides about many at once.

use std::ops::Range;

use esker_format::{BatchColumn, Value};

use super::{FileRef, SnapshotFiles, selected_or_all};
use crate::PlannableFile;

/// Data files of one partition that are next to each other in a manifest.
///
/// A run spans at most [`MAX_RUN_ENTRIES`] entries, and some of them may be no live data files.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    files: &'a SnapshotFiles,
    part: u32,
    entries: Range<u32>,
    /// The entries that are live data files; `None` if all are.
    rows: Option<&'a [u32]>,
}

/// The largest number of entries in a run. The decoded bounds of so many entries stay in a processor's nearest cache.
const MAX_RUN_ENTRIES: u32 = 256;

impl<'a> Run<'a> {
    /// Returns the first file of the run.
    fn first_file(&self) -> FileRef<'a> {
        FileRef { files: self.files, part: self.part, row: self.entries.start }
    }

    /// Returns the position of the run's first entry in the manifest.
    pub(crate) const fn first(&self) -> usize {
        self.entries.start as usize
    }

    /// Returns the number of entries that the run spans, live or not.
    pub(crate) fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// Returns the statistics of a column, for the whole manifest.
    pub(crate) fn column(&self, field_id: i32) -> BatchColumn<'a> {
        self.first_file().part().batch.column(field_id)
    }

    /// Iterates over the files of the run.
    pub(crate) fn files(&self) -> impl Iterator<Item = FileRef<'a>> {
        let (files, part) = (self.files, self.part);
        selected_or_all(self.rows, self.entries.clone()).map(move |row| FileRef { files, part, row })
    }

    pub(crate) fn spec_id(&self) -> i32 {
        self.first_file().spec_id()
    }

    /// Returns the partition values that all files of the run share.
    pub(crate) fn partition(&self) -> &'a [Option<Value>] {
        self.first_file().part().partition(self.first())
    }

    /// Returns the number of the manifest and of the partition in it. Runs with the same result are in the same partition.
    pub(crate) fn partition_index(&self) -> (u32, Option<usize>) {
        (self.part, self.first_file().part().batch.partition_index(self.first()))
    }
}

/// The iterator over the runs of a manifest.
struct Runs<'a> {
    files: &'a SnapshotFiles,
    part: u32,
    /// The number of live files in the runs that were returned already.
    done: usize,
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        let (files, part) = (self.files, &self.files.data[self.part as usize]);
        let row = |at: usize| part.rows.as_ref().map_or(at as u32, |rows| rows[at]);
        if self.done >= part.len() {
            return None;
        }
        let (start, begin) = (self.done, row(self.done));
        let partition = part.batch.partition_index(begin as usize);
        let is_near = |row: u32| (row - begin) < MAX_RUN_ENTRIES && part.batch.partition_index(row as usize) == partition;
        let count = (start..part.len()).take_while(|at| is_near(row(*at))).count();
        self.done += count;
        let rows = part.rows.as_ref().map(|rows| &rows[start..self.done]);
        Some(Run { files, part: self.part, entries: begin..row(self.done - 1) + 1, rows })
    }
}

impl SnapshotFiles {
    /// Iterates over the data files in runs, in the order of the manifests.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        (0..self.data.len() as u32).flat_map(move |part| Runs { files: self, part, done: 0 })
    }
}
